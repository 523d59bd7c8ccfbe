// Connections that need too much memory are aborted, the same ones on both nodes.
#include <map>
#include <string>

#include "framework/executor_fixture_for_test.h"

namespace understudy {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr Limits kLimits{.pending_output = 1000, .buffered = 3000};

// "out <n>": sends so much to the connection. "in ...": left unread. "fan <n>": sends so much to each.
class LimitsTest : public testing::Test {
 protected:
  void SetUp() override {
    server.on_connect = [this](Connection& c) { all[c.id()] = &c; };
    server.on_closed = [this](Connection& c) { all.erase(c.id()); };
    server.on_data = [this](Connection& c, std::string_view unread) -> size_t {
      if (unread.substr(0, 2) == "in") return 0;
      const size_t n = std::stoul(std::string(unread.substr(4)));
      if (unread.substr(0, 3) == "fan") {
        for (auto& [id, to] : all) to->Send(std::string(n, 'f'));
      } else {
        c.Send(std::string(n, 'o'));
      }
      return unread.size();
    };
    Ok(log.Begin(1));
    for (ConnectionId id = 1; id <= 4; ++id) {
      Ok(log.Open(id));
      Ok(log.Connect(id));
    }
    server.TakeCalls();
  }
  void Ok(const replication::RecordView& record) {
    const absl::Status applied = executor.Apply(record);
    ASSERT_TRUE(applied.ok()) << applied;
  }
  std::vector<ConnectionId> Aborted() const {
    std::vector<ConnectionId> aborted;
    executor.ForEach([&](const ConnectionState& state) {
      if (state.abort_wanted()) aborted.push_back(state.id());
    });
    return aborted;
  }

  LogForTest log;
  Scripted server;
  std::map<ConnectionId, Connection*> all;
  Executor executor{&server, kLimits};
};

// What is sent in one go may be of any size: a value that is allowed can be answered with.
TEST_F(LimitsTest, WhoHasMoreThanTheLimitPendingIsSentNoMore) {
  Ok(log.Receive(1, "out 1000"));
  Ok(log.Receive(1, "out 500"));
  EXPECT_THAT(Aborted(), IsEmpty());
  EXPECT_EQ(executor.Find(1)->pending_output(), 1500u);
  Ok(log.Receive(1, "out 1"));
  EXPECT_THAT(Aborted(), ElementsAre(1));
  EXPECT_EQ(executor.over_limit(), 1u);
  EXPECT_EQ(executor.buffered(), 0u);
  EXPECT_EQ(executor.Find(1)->output().size(), 0u) << "the memory is given back at once";
  server.TakeCalls();
  Ok(log.Receive(1, "out 1"));
  Ok(log.End(1));
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 closed over limit"));
}

TEST_F(LimitsTest, WhatTheClientHasAcknowledgedDoesNotCount) {
  Ok(log.Receive(1, "out 1000"));
  Ok(log.Receive(1, "out 600", 600));
  EXPECT_THAT(Aborted(), IsEmpty());
  EXPECT_EQ(executor.buffered(), 1000u);
}

// A subscriber that does not read costs the publisher nothing.
TEST_F(LimitsTest, OnlyTheStalledReceiverOfAFanOutIsEnded) {
  Ok(log.Receive(2, "fan 600"));
  for (ConnectionId id : {1, 2, 4}) Ok(log.Advance(id, 600));
  Ok(log.Receive(2, "fan 600"));
  EXPECT_THAT(Aborted(), IsEmpty());
  for (ConnectionId id : {1, 2, 4}) Ok(log.Advance(id, 1200));
  Ok(log.Receive(2, "fan 600"));
  EXPECT_THAT(Aborted(), ElementsAre(3));
  EXPECT_EQ(executor.Find(4)->pending_output(), 600u);
}

TEST_F(LimitsTest, BeyondTheTotalTheLargestIsEnded) {
  Ok(log.Receive(1, "out 900"));
  Ok(log.Receive(2, "out 1000"));
  Ok(log.Receive(3, "out 900"));
  EXPECT_THAT(Aborted(), IsEmpty());
  Ok(log.Receive(4, "out 300"));
  EXPECT_THAT(Aborted(), ElementsAre(2)) << "not the one that came last";
  EXPECT_EQ(executor.buffered(), 2100u);
}

TEST_F(LimitsTest, OfTwoThatAreAlikeTheOlderIsEnded) {
  for (ConnectionId id : {4, 3, 2, 1}) Ok(log.Receive(id, "out 800"));
  EXPECT_THAT(Aborted(), ElementsAre(1));
}

TEST_F(LimitsTest, UnreadInputCountsInTheTotal) {
  const std::string part = "in" + std::string(898, '.');
  Ok(log.Receive(1, part));
  Ok(log.Receive(2, part));
  Ok(log.Receive(3, part));
  EXPECT_EQ(executor.buffered(), 2700u);
  EXPECT_THAT(Aborted(), IsEmpty());
  Ok(log.Receive(2, std::string(301, '.')));
  EXPECT_THAT(Aborted(), ElementsAre(2));
  EXPECT_EQ(executor.buffered(), 1800u);
  EXPECT_EQ(executor.Find(2)->unread_size(), 0u);
}

// The one whose bytes the Server is looking at may be the largest.
TEST_F(LimitsTest, WhatTheServerLooksAtStaysWhileItLooks) {
  Ok(log.Receive(1, "in" + std::string(2000, '.')));
  std::string seen;
  server.on_data = [&](Connection& c, std::string_view unread) {
    all[2]->Send(std::string(999, 'x'));
    EXPECT_EQ(executor.buffered(), 999u);
    seen = std::string(unread);
    c.Send("not any more");
    return size_t{0};
  };
  Ok(log.Receive(1, "tail"));
  EXPECT_EQ(seen, "in" + std::string(2000, '.') + "tail");
  EXPECT_THAT(Aborted(), ElementsAre(1));
  EXPECT_EQ(executor.Find(1)->unread_size(), 0u);
  EXPECT_EQ(executor.buffered(), 999u);
}

TEST_F(LimitsTest, WhatEndsIsNotCountedAnyMore) {
  Ok(log.Receive(1, "out 900"));
  Ok(log.Receive(2, "in.."));
  EXPECT_EQ(executor.buffered(), 904u);
  Ok(log.Break(1));
  EXPECT_EQ(executor.buffered(), 4u);
  Ok(log.PeerClose(2));
  EXPECT_EQ(executor.buffered(), 0u);
}

}  // namespace
}  // namespace understudy
