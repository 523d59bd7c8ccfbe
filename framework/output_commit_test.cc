#include "framework/output_commit.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "framework/executor.h"
#include "framework/log_for_test.h"

namespace understudy {
namespace {

using replication::Lsn;

Released UpTo(uint64_t output) {
  Released released;
  released.output = output;
  return released;
}

std::vector<std::pair<ConnectionId, uint64_t>> ReleaseAll(OutputCommit& commit, Lsn stable) {
  std::vector<std::pair<ConnectionId, uint64_t>> released;
  commit.ReleaseUpTo(stable, [&](replication::Lsn, ConnectionId id, const Released& r) {
    released.emplace_back(id, r.output);
  });
  return released;
}

using Expected = std::vector<std::pair<ConnectionId, uint64_t>>;

TEST(OutputCommitTest, NothingLeavesBeforeItsRecordIsStable) {
  OutputCommit commit;
  commit.Mark(5, 1, UpTo(10));
  commit.Mark(6, 2, UpTo(20));
  EXPECT_EQ(ReleaseAll(commit, 4), Expected());
  EXPECT_EQ(commit.size(), 2u);
  EXPECT_EQ(ReleaseAll(commit, 5), (Expected{{1, 10}}));
  EXPECT_EQ(ReleaseAll(commit, 5), Expected());
  EXPECT_EQ(ReleaseAll(commit, 100), (Expected{{2, 20}}));
  EXPECT_EQ(commit.size(), 0u);
}

TEST(OutputCommitTest, SeveralOfOneConnectionComeInOrderSoThatTheLastCounts) {
  OutputCommit commit;
  commit.Mark(1, 7, UpTo(1));
  commit.Mark(2, 7, UpTo(2));
  commit.Mark(2, 8, UpTo(3));
  commit.Mark(3, 7, UpTo(4));
  EXPECT_EQ(ReleaseAll(commit, 2), (Expected{{7, 1}, {7, 2}, {8, 3}}));
  EXPECT_EQ(ReleaseAll(commit, 3), (Expected{{7, 4}}));
}

// Along random appends and stable points: what is released for a connection is what the newest stable
// record left it with, never more, never less.
TEST(OutputCommitTest, WhatIsReleasedIsWhatTheStableLogExplains) {
  const uint32_t base = testing::UnitTest::GetInstance()->random_seed();
  for (uint32_t seed = base; seed < base + 50; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    OutputCommit commit;
    std::vector<std::map<ConnectionId, uint64_t>> after = {{}};  // by LSN
    std::map<ConnectionId, uint64_t> released;
    Lsn stable = 0;
    for (int step = 0; step < 300; ++step) {
      if (random() % 3 != 0) {
        auto next = after.back();
        const Lsn lsn = after.size();
        for (int marks = random() % 3; marks > 0; --marks) {
          const ConnectionId id = 1 + random() % 4;
          next[id] += random() % 100;
          commit.Mark(lsn, id, UpTo(next[id]));
        }
        after.push_back(std::move(next));
      } else {
        stable += random() % (after.size() - stable);
        commit.ReleaseUpTo(
            stable, [&](replication::Lsn, ConnectionId id, const Released& r) { released[id] = r.output; });
        ASSERT_EQ(released, after[stable]);
      }
    }
  }
}

class Echo : public Server {
 public:
  size_t OnData(Connection& c, std::string_view unread) override {
    c.Send(unread);
    return unread.size();
  }
};

TEST(OutputCommitTest, ReleasedSaysWhatTheConnectionHasComeTo) {
  Echo server;
  Executor executor(&server);
  LogForTest log;
  ASSERT_TRUE(executor.Apply(log.Begin(1)).ok());
  ASSERT_TRUE(executor.Apply(log.Open(1)).ok());
  ASSERT_TRUE(executor.Apply(log.Connect(1)).ok());
  ASSERT_TRUE(executor.Apply(log.Receive(1, "12345")).ok());
  ASSERT_TRUE(executor.Apply(log.Advance(1, 2)).ok());
  Released released = Released::Of(*executor.Find(1));
  EXPECT_EQ(released.rcv_nxt, LogForTest::OpenedOf(1).irs + 1 + 5);
  EXPECT_EQ(released.output, 5u);
  EXPECT_EQ(released.acked, 2u);
  EXPECT_FALSE(released.fin);
  EXPECT_FALSE(released.abort);
  ASSERT_TRUE(executor.Apply(log.PeerClose(1)).ok());
  released = Released::Of(*executor.Find(1));
  EXPECT_EQ(released.rcv_nxt, LogForTest::OpenedOf(1).irs + 1 + 5 + 1) << "the client's FIN";
  EXPECT_TRUE(released.fin);
}

}  // namespace
}  // namespace understudy
