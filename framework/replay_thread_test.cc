#include "framework/replay_thread.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <memory>
#include <semaphore>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "framework/executor.h"
#include "framework/log_for_test.h"

namespace understudy {
namespace {

using replication::Lsn;
using replication::RecordBatch;
using testing::HasSubstr;

constexpr std::chrono::seconds kPatience{60};

// Echoes; on the word "wait" it does so only when told.
class Echo : public Server {
 public:
  size_t OnData(Connection& c, std::string_view unread) override {
    if (unread == "wait") {
      waiting.release();
      go_on.acquire();
    }
    c.Send(unread);
    return unread.size();
  }
  absl::Status Commit(const CommitPoint&) override {
    ++commits;
    return broken ? absl::UnavailableError("disk broken") : absl::OkStatus();
  }
  std::binary_semaphore waiting{0}, go_on{0};
  int commits = 0;
  bool broken = false;  // before the replay begins
};

// A primary of one connection: what it logs, and the hash that goes with it.
class Source {
 public:
  Source() {
    Apply(log_.Begin(1));
    Apply(log_.Open(1));
    Apply(log_.Connect(1));
  }
  void Receive(std::string_view bytes) { Apply(log_.Receive(1, bytes)); }
  RecordBatch Seal() { return log_.Seal(); }
  Lsn executed() const { return executor_.applied_lsn(); }
  uint64_t hash() const { return executor_.output_hash(); }
  LogForTest& log() { return log_; }

 private:
  void Apply(const replication::RecordView& record) { ASSERT_TRUE(executor_.Apply(record).ok()); }

  class Plain : public Server {
    size_t OnData(Connection& c, std::string_view unread) override {
      c.Send(unread);
      return unread.size();
    }
  };
  LogForTest log_;
  Plain server_;
  Executor executor_{&server_};
};

void Unexpected(std::string what) { ADD_FAILURE() << what; }

TEST(ReplayThreadTest, FinishAppliesAllThatWasPushed) {
  Source source;
  Echo server;
  Executor executor(&server);
  ReplayThread replayer(&executor, Unexpected);
  for (int i = 0; i < 1000; ++i) {
    source.Receive("some bytes");
    RecordBatch batch = source.Seal();
    replayer.Push({std::move(batch), {{source.executed(), source.hash()}}});
  }
  EXPECT_TRUE(replayer.Finish(kPatience).ok());
  EXPECT_EQ(replayer.applied_lsn(), source.executed());
  EXPECT_EQ(replayer.backlog_bytes(), 0u);
  EXPECT_EQ(replayer.connections(), 1u);
  // The executor is the caller's again.
  EXPECT_EQ(executor.applied_lsn(), source.executed());
  EXPECT_EQ(executor.output_hash(), source.hash());
}

TEST(ReplayThreadTest, FinishWithNothingPushed) {
  Echo server;
  Executor executor(&server);
  ReplayThread replayer(&executor, Unexpected);
  EXPECT_TRUE(replayer.Finish(kPatience).ok());
  EXPECT_EQ(replayer.applied_lsn(), 0u);
}

TEST(ReplayThreadTest, WhatWaitsIsCountedAndDoesNotHoldUpPush) {
  Source source;
  Echo server;
  Executor executor(&server);
  ReplayThread replayer(&executor, Unexpected);
  source.Receive("wait");
  RecordBatch first = source.Seal();
  const size_t first_size = first.bytes().size();
  replayer.Push({std::move(first)});
  server.waiting.acquire();  // the replay stands still inside the Server
  EXPECT_EQ(replayer.applied_lsn(), 3u) << "Begin, Open, Connect";
  size_t behind = 0;
  for (int i = 0; i < 10; ++i) {
    source.Receive("more");
    RecordBatch batch = source.Seal();
    behind += batch.bytes().size();
    replayer.Push({std::move(batch), {{source.executed(), source.hash()}}});
  }
  EXPECT_EQ(replayer.backlog_bytes(), first_size + behind);
  EXPECT_EQ(replayer.applied_lsn(), 3u);
  server.go_on.release();
  EXPECT_TRUE(replayer.Finish(kPatience).ok());
  EXPECT_EQ(replayer.applied_lsn(), source.executed());
  EXPECT_EQ(replayer.backlog_bytes(), 0u);
}

// Says what it is told to expect, and what it is given.
class Expecting : public Server {
 public:
  size_t OnData(Connection&, std::string_view unread) override {
    calls.emplace_back(false, std::string(unread));
    return unread.size();
  }
  void Expect(std::string_view bytes) override { calls.emplace_back(true, std::string(bytes)); }
  std::vector<std::pair<bool, std::string>> calls;  // whether it is only expected
};

TEST(ReplayThreadTest, EachRecordIsExpectedSomeRecordsAhead) {
  constexpr size_t kCount = 1000;
  LogForTest log;
  log.Begin(1);
  log.Open(1);
  log.Connect(1);
  Expecting server;
  Executor executor(&server);
  ReplayThread replayer(&executor, Unexpected);
  for (size_t i = 0; i < kCount; ++i) {
    log.Receive(1, absl::StrCat(i));
    if (i % 7 == 6) replayer.Push({log.Seal()});
  }
  replayer.Push({log.Seal()});
  ASSERT_TRUE(replayer.Finish(kPatience).ok());
  size_t expected = 0, given = 0, most = 0;
  for (const auto& [ahead, bytes] : server.calls) {
    EXPECT_EQ(bytes, absl::StrCat(ahead ? expected++ : given++));
    ASSERT_LE(given, expected);
    most = std::max(most, expected - given);
  }
  EXPECT_EQ(expected, kCount);
  EXPECT_EQ(given, kCount);
  EXPECT_EQ(most, Executor::kExpectAhead + 1) << "told of before the first of them is applied";
}

TEST(ReplayThreadTest, AnotherHashIsADivergence) {
  Source source;
  source.Receive("x");
  Echo server;
  Executor executor(&server);
  std::string said;
  int times = 0;
  ReplayThread replayer(&executor, [&](std::string what) {
    said = std::move(what);
    ++times;
  });
  const Lsn lsn = source.executed();
  replayer.Push({source.Seal(), {{lsn, source.hash() ^ 1}}});
  source.Receive("y");
  replayer.Push({source.Seal(), {{source.executed(), source.hash() ^ 1}}});
  EXPECT_FALSE(replayer.Finish(kPatience).ok());
  EXPECT_THAT(said, HasSubstr("output differs from the primary's at LSN 4"));
  EXPECT_EQ(times, 1);
  EXPECT_EQ(replayer.applied_lsn(), lsn) << "the replay has stopped";
}

TEST(ReplayThreadTest, TheHashIsComparedOnlyWhereThePrimaryTookIt) {
  Source source;
  source.Receive("x");
  RecordBatch batch = source.Seal();
  Echo server;
  Executor executor(&server);
  ReplayThread replayer(&executor, Unexpected);
  // The primary had executed further, or says nothing.
  replayer.Push({std::move(batch), {{source.executed() + 5, 12345}}});
  source.Receive("y");
  replayer.Push({source.Seal(), {{0, 12345}}});
  EXPECT_TRUE(replayer.Finish(kPatience).ok());
}

// A node that catches up gets many turns at once.
TEST(ReplayThreadTest, EachTurnOfARunIsCompared) {
  for (const int wrong : {0, 1, 2, 3}) {
    Source source;
    Echo server;
    Executor executor(&server);
    std::string said;
    ReplayThread replayer(&executor, [&](std::string what) { said = std::move(what); });
    std::vector<replication::OutputHash> hashes;
    for (int turn = 1; turn <= 3; ++turn) {
      source.Receive("x");
      hashes.push_back({source.executed(), source.hash() ^ (turn == wrong ? 1 : 0)});
    }
    replayer.Push({source.Seal(), hashes});
    EXPECT_EQ(replayer.Finish(kPatience).ok(), wrong == 0);
    if (wrong == 0) continue;
    EXPECT_THAT(said, HasSubstr(absl::StrCat("at LSN ", hashes[wrong - 1].lsn, ":")));
    EXPECT_EQ(replayer.applied_lsn(), hashes[wrong - 1].lsn) << "nothing behind it is applied";
  }
}

TEST(ReplayThreadTest, AHeartbeatIsComparedAsWell) {
  Source source;
  source.Receive("x");
  Echo server;
  Executor executor(&server);
  std::string said;
  ReplayThread replayer(&executor, [&](std::string what) { said = std::move(what); });
  replayer.Push({source.Seal(), {{source.executed(), source.hash()}}});
  replayer.Push({RecordBatch(), {{source.executed(), source.hash() + (uint64_t{1} << 40)}}});
  EXPECT_FALSE(replayer.Finish(kPatience).ok());
  EXPECT_THAT(said, HasSubstr("output differs")) << "in its upper half, too";
}

TEST(ReplayThreadTest, ARecordThatDoesNotFitIsADivergence) {
  Source source;
  LogForTest& log = source.log();
  log.Receive(99, "nobody");
  Echo server;
  Executor executor(&server);
  std::string said;
  ReplayThread replayer(&executor, [&](std::string what) { said = std::move(what); });
  replayer.Push({source.Seal()});
  EXPECT_FALSE(replayer.Finish(kPatience).ok());
  EXPECT_THAT(said, HasSubstr("connection 99 is not open"));
  EXPECT_EQ(replayer.applied_lsn(), 3u) << "as far as it was sound";
}

TEST(ReplayThreadTest, ARunOfRecordsIsCommittedOnce) {
  Source source;
  Echo server;
  Executor executor(&server);
  ReplayThread replayer(&executor, Unexpected);
  source.Receive("wait");
  replayer.Push({source.Seal()});
  server.waiting.acquire();
  EXPECT_EQ(server.commits, 0) << "not in the middle of a run";
  for (int i = 0; i < 100; ++i) {
    source.Receive("more");
    replayer.Push({source.Seal(), {{source.executed(), source.hash()}}});
  }
  server.go_on.release();
  EXPECT_TRUE(replayer.Finish(kPatience).ok());
  EXPECT_EQ(server.commits, 2) << "of the first batch, and of all that came meanwhile";
}

TEST(ReplayThreadTest, ACopyThatCannotCommitIsUnusable) {
  Source source;
  source.Receive("x");
  Echo server;
  server.broken = true;
  Executor executor(&server);
  std::string said;
  ReplayThread replayer(&executor, [&](std::string why) { said = std::move(why); });
  replayer.Push({source.Seal(), {{source.executed(), source.hash()}}});
  const absl::Status finished = replayer.Finish(kPatience);
  EXPECT_THAT(std::string(finished.message()), HasSubstr("the Server cannot commit"));
  EXPECT_THAT(said, HasSubstr("disk broken"));
  EXPECT_EQ(server.commits, 1);
}

TEST(ReplayThreadTest, PushAfterADivergenceChangesNothing) {
  Source source;
  source.Receive("x");
  Echo server;
  Executor executor(&server);
  std::binary_semaphore diverged{0};
  ReplayThread replayer(&executor, [&](std::string) { diverged.release(); });
  replayer.Push({source.Seal(), {{source.executed(), source.hash() + 1}}});
  diverged.acquire();
  const Lsn lsn = replayer.applied_lsn();
  source.Receive("y");
  replayer.Push({source.Seal(), {{source.executed(), source.hash()}}});
  EXPECT_FALSE(replayer.Finish(kPatience).ok());
  EXPECT_EQ(replayer.applied_lsn(), lsn);
}

TEST(ReplayThreadTest, FinishDoesNotWaitForEverForACallThatHangs) {
  Source source;
  Echo server;
  Executor executor(&server);
  ReplayThread replayer(&executor, Unexpected);
  source.Receive("wait");
  replayer.Push({source.Seal(), {{source.executed(), source.hash()}}});
  server.waiting.acquire();
  source.Receive("behind it");
  replayer.Push({source.Seal(), {{source.executed(), source.hash()}}});
  EXPECT_TRUE(absl::IsDeadlineExceeded(replayer.Finish(std::chrono::milliseconds(20))));
  EXPECT_LT(replayer.applied_lsn(), source.executed());
  server.go_on.release();
  EXPECT_TRUE(replayer.Finish(kPatience).ok()) << "it was slow only";
  EXPECT_EQ(replayer.applied_lsn(), source.executed());
}

TEST(ReplayThreadDeathTest, AThreadThatHangsForEverEndsWithTheProcess) {
  const auto hang = [] {
    Source source;
    Echo server;
    Executor executor(&server);
    ReplayThread replayer(&executor, Unexpected);
    source.Receive("wait");
    replayer.Push({source.Seal()});
    server.waiting.acquire();
    (void)replayer.Finish(std::chrono::milliseconds(1));
  };
  EXPECT_EXIT(hang(), testing::ExitedWithCode(1), "");
}

TEST(ReplayThreadTest, TheDestructorStopsWhereItIs) {
  Source source;
  Echo server;
  Executor executor(&server);
  source.Receive("wait");
  {
    ReplayThread replayer(&executor, Unexpected);
    replayer.Push({source.Seal()});
    server.waiting.acquire();
    for (int i = 0; i < 100; ++i) {
      source.Receive("never");
      replayer.Push({source.Seal()});
    }
    server.go_on.release();
  }
  EXPECT_GE(executor.applied_lsn(), 3u);
  EXPECT_LE(executor.applied_lsn(), source.executed());
}

TEST(ReplayThreadTest, BeginsWhereTheExecutorStands) {
  Source source;
  source.Receive("x");
  const RecordBatch whole = source.Seal();
  Echo server;
  Executor executor(&server);
  for (const replication::RecordView record : whole) ASSERT_TRUE(executor.Apply(record).ok());
  ReplayThread replayer(&executor, Unexpected);
  EXPECT_EQ(replayer.applied_lsn(), 4u);
  EXPECT_EQ(replayer.connections(), 1u);
  source.Receive("y");
  replayer.Push({source.Seal(), {{source.executed(), source.hash()}}});
  EXPECT_TRUE(replayer.Finish(kPatience).ok());
  EXPECT_EQ(replayer.applied_lsn(), 5u);
}

}  // namespace
}  // namespace understudy
