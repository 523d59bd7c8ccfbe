#include "framework/executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "framework/executor_fixture_for_test.h"
#include "framework/log_for_test.h"

namespace understudy {
namespace {

using std::chrono::microseconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// --- What the Server keeps -----------------------------------------------------------------------

TEST_F(ExecutorTest, OnlyReceivedBytesAreExpectedAndThatChangesNothing) {
  Connected();
  const auto before = executor.applied_lsn();
  const std::string damaged("\1");
  executor.Expect(log.Receive(1, "early"));
  executor.Expect(log.Receive(9, "of nobody"));
  executor.Expect(log.PeerClose(1));
  executor.Expect(log.Add(RecordKind::kReceived, damaged));
  EXPECT_THAT(server.TakeCalls(), ElementsAre("expect early", "expect of nobody"));
  EXPECT_EQ(executor.applied_lsn(), before);
  EXPECT_THAT(executor.TakeTouched(), IsEmpty());
}

TEST_F(ExecutorTest, CommitComesOnlyWhenSomethingWasExecuted) {
  EXPECT_TRUE(executor.Commit(0, /*alone=*/true).ok());
  EXPECT_THAT(server.TakeCalls(), IsEmpty());
  Connected();
  EXPECT_TRUE(executor.Commit(3, /*alone=*/true).ok());
  EXPECT_TRUE(executor.Commit(3, /*alone=*/true).ok());
  EXPECT_THAT(server.TakeCalls(), ElementsAre("commit alone 3 3"));
  Ok(log.Receive(1, "x"));
  Ok(log.Receive(1, "y"));
  EXPECT_TRUE(executor.Commit(4, /*alone=*/false).ok());
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 data x", "1 data y", "commit 5 4"));
}

TEST_F(ExecutorTest, CommitIsToldWhatIsExecutedAndWhatOfThatIsStable) {
  Connected();
  EXPECT_TRUE(executor.Commit(1, /*alone=*/false).ok());
  EXPECT_TRUE(executor.Commit(99, /*alone=*/false, /*always=*/true).ok());
  EXPECT_THAT(server.TakeCalls(), ElementsAre("commit 3 1", "commit 3 3"));
}

TEST_F(ExecutorTest, ACommitThatFailedIsStillOwed) {
  Connected();
  server.commit = [] { return absl::ResourceExhaustedError("disk full"); };
  EXPECT_EQ(executor.Commit(3, /*alone=*/true), absl::ResourceExhaustedError("disk full"));
  EXPECT_FALSE(executor.Commit(3, /*alone=*/true).ok());
  EXPECT_EQ(executor.committed_lsn(), 0u);
  server.commit = [] { return absl::OkStatus(); };
  EXPECT_TRUE(executor.Commit(3, /*alone=*/true).ok());
  EXPECT_EQ(executor.committed_lsn(), 3u);
  EXPECT_EQ(server.TakeCalls().size(), 3u);
}

TEST_F(ExecutorTest, ACommitThatWasNotAloneDoesNotDoForANodeThatIs) {
  Connected();
  EXPECT_TRUE(executor.Commit(3, /*alone=*/false).ok());
  EXPECT_FALSE(executor.committed_alone());
  EXPECT_TRUE(executor.Commit(3, /*alone=*/true, /*always=*/true).ok());
  EXPECT_TRUE(executor.committed_alone());
  Ok(log.Receive(1, "x"));
  EXPECT_FALSE(executor.committed_alone());
}

TEST_F(ExecutorTest, TheServerLearnsThroughTheLogWhetherThereIsRoom) {
  Connected();
  EXPECT_TRUE(executor.storage_writable());
  Ok(log.Add(RecordKind::kStorage, Encode(Storage{0})));
  EXPECT_FALSE(executor.storage_writable());
  EXPECT_EQ(executor.storage_full_lsn(), 4u);
  Ok(log.Receive(1, "x"));
  Ok(log.Add(RecordKind::kStorage, Encode(Storage{1})));
  EXPECT_TRUE(executor.storage_writable());
  EXPECT_THAT(server.TakeCalls(), ElementsAre("full", "1 data x", "writable"));
  Refused(log.Add(RecordKind::kStorage, "\2"), "neither writable nor not");
}

class WithState : public Scripted {
 public:
  explicit WithState(std::string state) : state_(std::move(state)) {}
  std::string InitialState() override {
    ++asked;
    return state_;
  }
  int asked = 0;

 private:
  const std::string state_;
};

replication::RecordView BeginWith(LogForTest& log, uint64_t epoch, const std::string& state) {
  return log.Add(RecordKind::kEpochBegan, Encode(EpochBegan{epoch, 1, 0, "node", state}));
}

TEST(InitialStateTest, ALogOfAnotherStateIsRefused) {
  LogForTest log;
  WithState server("3 keys");
  Executor executor(&server);
  EXPECT_EQ(executor.initial_state(), "3 keys");
  const absl::Status applied = executor.Apply(BeginWith(log, 1, "4 keys\x01"));
  EXPECT_EQ(applied.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(applied.message()), HasSubstr("this node's data differ from the primary's"));
  EXPECT_THAT(std::string(applied.message()), HasSubstr("\"3 keys\""));
  EXPECT_THAT(std::string(applied.message()), HasSubstr("\"4 keys\\001\""));
  EXPECT_EQ(executor.applied_lsn(), 0u);
  EXPECT_EQ(server.asked, 1);
}

TEST(InitialStateTest, OnlyTheFirstRecordOfALogIsCompared) {
  LogForTest log;
  WithState server("3 keys");
  Executor executor(&server);
  EXPECT_TRUE(executor.Apply(BeginWith(log, 1, "3 keys")).ok());
  EXPECT_TRUE(executor.Apply(BeginWith(log, 2, "")).ok());
  EXPECT_EQ(server.asked, 1);
}

// --- Determinism ---------------------------------------------------------------------------------

// Per-connection state, timers, time and randomness in the output.
class Mixer : public Server {
 public:
  size_t OnData(Connection& c, std::string_view unread) override {
    if (c.context() == nullptr) c.set_context(std::make_unique<Count>());
    uint64_t& count = static_cast<Count*>(c.context())->bytes;
    const size_t take = unread.size() - unread.size() % 2;
    count += take;
    c.Send(absl::StrCat(std::string(unread.substr(0, take)), "/", count, "/", c.Random(), "/",
                        c.Now().time_since_epoch().count(), ";"));
    if (c.Random() % 4 == 0) c.SetTimer(c.Random() % 3, microseconds(c.Random() % 2000));
    if (c.Random() % 64 == 0) c.HalfClose();
    if (c.Random() % 128 == 0) c.Abort();
    return take;
  }
  void OnTimer(Connection& c, uint32_t timer) override { c.Send(absl::StrCat("t", timer, c.Random())); }

 private:
  struct Count : Connection::Context {
    uint64_t bytes = 0;
  };
};

// Records that fit, made up along an executor that applies them.
std::vector<replication::RecordBatch> RandomLog(uint32_t seed, Executor& executor, int count) {
  std::mt19937 random(seed);
  LogForTest log;
  std::vector<replication::RecordBatch> batches;
  std::vector<ConnectionId> open, connected;
  const auto apply = [&](const replication::RecordView& record) {
    const absl::Status applied = executor.Apply(record);
    ASSERT_TRUE(applied.ok()) << applied;
    if (random() % 5 == 0) batches.push_back(log.Seal());
  };
  apply(log.Begin(1, seed));
  ConnectionId last = 0;
  for (int i = 0; i < count; ++i) {
    log.time_us += random() % 1000;
    if (const auto due = executor.NextTimer(); due.has_value() && due->due_us <= log.time_us) {
      apply(log.Fire(due->connection, due->timer));
      continue;
    }
    if (last < 3 || random() % 20 == 0) {
      apply(log.Open(++last));
      apply(log.Connect(last));
      continue;
    }
    const ConnectionId id = 1 + random() % last;
    const ConnectionState* state = executor.Find(id);
    if (state == nullptr) continue;
    const uint64_t acked = state->output().begin() + random() % (state->pending_output() + 1);
    switch (random() % 8) {
      case 0: apply(log.Advance(id, acked)); break;
      case 1:
        if (random() % 10 == 0) apply(log.Break(id));
        break;
      case 2:
        if (random() % 10 == 0) apply(log.End(id));
        break;
      case 3:
        if (random() % 5 == 0 && !state->peer_closed()) apply(log.PeerClose(id));
        break;
      default:
        if (state->peer_closed()) break;
        apply(log.Receive(id, std::string(1 + random() % 50, static_cast<char>('a' + id % 26)), acked));
    }
  }
  batches.push_back(log.Seal());
  return batches;
}

std::string StateOf(const Executor& executor) {
  std::string all = absl::StrCat(executor.applied_lsn(), " ", executor.time_us(), " ", executor.epoch());
  executor.ForEach([&](const ConnectionState& c) {
    absl::StrAppend(&all, "\n", c.id(), " ", c.received(), " ", c.peer_closed(), c.fin_wanted(),
                    c.abort_wanted(), " ", c.output().begin(), ":",
                    std::string(c.output().View(0, ~uint64_t{0})));
  });
  return all;
}

TEST(ExecutorDeterminismTest, TheSameLogGivesTheSameStateOutputAndHash) {
  const uint32_t base = testing::UnitTest::GetInstance()->random_seed();
  for (uint32_t seed = base; seed < base + 50; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Mixer first_server, second_server;
    Executor first(&first_server), second(&second_server);
    const auto batches = RandomLog(seed, first, 500);
    for (const replication::RecordBatch& batch : batches) {
      for (const replication::RecordView record : batch) ASSERT_TRUE(second.Apply(record).ok());
    }
    EXPECT_EQ(first.output_hash(), second.output_hash());
    EXPECT_EQ(StateOf(first), StateOf(second));
    EXPECT_EQ(first.NextTimer().has_value(), second.NextTimer().has_value());
  }
}

TEST(ExecutorDeterminismTest, AnotherSeedInTheLogGivesOtherRandomNumbers) {
  std::vector<uint64_t> hashes;
  for (const uint64_t seed : {1, 2}) {
    Mixer server;
    Executor executor(&server);
    LogForTest log;
    ASSERT_TRUE(executor.Apply(log.Begin(1, seed)).ok());
    ASSERT_TRUE(executor.Apply(log.Open(1)).ok());
    ASSERT_TRUE(executor.Apply(log.Connect(1)).ok());
    ASSERT_TRUE(executor.Apply(log.Receive(1, "ab")).ok());
    hashes.push_back(executor.output_hash());
  }
  EXPECT_NE(hashes[0], hashes[1]);
}

TEST(ExecutorDeterminismTest, ASecondEpochDoesNotSeedAnew) {
  std::vector<uint64_t> hashes;
  for (const uint64_t later_seed : {1, 2}) {
    Mixer server;
    Executor executor(&server);
    LogForTest log;
    ASSERT_TRUE(executor.Apply(log.Begin(1, 5)).ok());
    ASSERT_TRUE(executor.Apply(log.Begin(2, later_seed)).ok());
    ASSERT_TRUE(executor.Apply(log.Open(1)).ok());
    ASSERT_TRUE(executor.Apply(log.Connect(1)).ok());
    ASSERT_TRUE(executor.Apply(log.Receive(1, "ab")).ok());
    hashes.push_back(executor.output_hash());
  }
  EXPECT_EQ(hashes[0], hashes[1]);
}

// Echoes, with one byte of one reply changed.
class Wrong : public Server {
 public:
  explicit Wrong(int at) : at_(at) {}
  size_t OnData(Connection& c, std::string_view unread) override {
    for (const char byte : unread) {
      const char out = count_++ == at_ ? static_cast<char>(byte ^ 1) : byte;
      c.Send(std::string_view(&out, 1));
    }
    return unread.size();
  }

 private:
  const int at_;
  int count_ = 0;
};

TEST(ExecutorDeterminismTest, OneByteOfOutputThatDiffersShowsInTheHashForGood) {
  std::vector<uint64_t> hashes;
  for (int wrong_at = -1; wrong_at < 40; ++wrong_at) {
    Wrong server(wrong_at);
    Executor executor(&server);
    LogForTest log;
    ASSERT_TRUE(executor.Apply(log.Begin(1)).ok());
    ASSERT_TRUE(executor.Apply(log.Open(1)).ok());
    ASSERT_TRUE(executor.Apply(log.Connect(1)).ok());
    for (int i = 0; i < 10; ++i) ASSERT_TRUE(executor.Apply(log.Receive(1, "same")).ok());
    hashes.push_back(executor.output_hash());
  }
  for (size_t i = 0; i < hashes.size(); ++i) {
    for (size_t k = 0; k < i; ++k) EXPECT_NE(hashes[i], hashes[k]) << i << " and " << k;
  }
}

TEST(ExecutorDeterminismTest, WhoSaysItAndHowItEndsAreInTheHashToo) {
  const auto hash_of = [](const std::function<void(Connection&)>& act) {
    Scripted server;
    server.on_connect = act;
    Executor executor(&server);
    LogForTest log;
    EXPECT_TRUE(executor.Apply(log.Begin(1)).ok());
    for (ConnectionId id : {1, 2}) {
      EXPECT_TRUE(executor.Apply(log.Open(id)).ok());
      EXPECT_TRUE(executor.Apply(log.Connect(id)).ok());
    }
    return executor.output_hash();
  };
  const std::vector<uint64_t> hashes = {
      hash_of([](Connection&) {}),
      hash_of([](Connection& c) {
        if (c.id() == 1) c.Send("x");
      }),
      hash_of([](Connection& c) {
        if (c.id() == 2) c.Send("x");
      }),
      hash_of([](Connection& c) {
        if (c.id() == 1) c.HalfClose();
      }),
      hash_of([](Connection& c) {
        if (c.id() == 1) c.Abort();
      }),
  };
  for (size_t i = 0; i < hashes.size(); ++i) {
    for (size_t k = 0; k < i; ++k) EXPECT_NE(hashes[i], hashes[k]) << i << " and " << k;
  }
}

TEST_F(ExecutorTest, ForEachGoesInOrderOfId) {
  Ok(log.Begin(1));
  for (ConnectionId id = 1; id <= 50; ++id) Ok(log.Open(id));
  std::vector<ConnectionId> ids;
  executor.ForEach([&](const ConnectionState& c) { ids.push_back(c.id()); });
  ASSERT_EQ(ids.size(), 50u);
  EXPECT_TRUE(std::is_sorted(ids.begin(), ids.end()));
}

TEST_F(ExecutorTest, AContextLivesAsLongAsItsConnection) {
  struct Flagged : Connection::Context {
    explicit Flagged(bool* gone) : gone(gone) {}
    ~Flagged() override { *gone = true; }
    bool* gone;
  };
  bool gone = false;
  server.on_connect = [&](Connection& c) { c.set_context(std::make_unique<Flagged>(&gone)); };
  bool there_at_the_end = false;
  server.on_closed = [&](Connection& c) { there_at_the_end = c.context() != nullptr && !gone; };
  Ok(log.Begin(1));
  Ok(log.Open(1));
  Ok(log.Connect(1));
  EXPECT_FALSE(gone);
  Ok(log.Break(1));
  EXPECT_TRUE(there_at_the_end);
  EXPECT_TRUE(gone);
}

}  // namespace
}  // namespace understudy
