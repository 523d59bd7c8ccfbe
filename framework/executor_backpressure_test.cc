#include "framework/executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
using testing::IsEmpty;

TEST_F(ExecutorTest, OnWritableComesOnceWhenOutputHasFallenBelowHalf) {
  Connected();
  constexpr size_t kHigh = Connection::kDefaultHighWater;
  server.on_data = [](Connection& c, std::string_view unread) {
    c.Send(std::string(kHigh, 'o'));
    return unread.size();
  };
  Ok(log.Receive(1, "x"));
  EXPECT_TRUE(executor.Find(1)->writable_wanted());
  server.TakeCalls();
  Ok(log.Advance(1, kHigh / 2));  // half is not below half
  EXPECT_THAT(server.TakeCalls(), IsEmpty());
  Ok(log.Advance(1, kHigh / 2 + 1));
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 writable"));
  EXPECT_FALSE(executor.Find(1)->writable_wanted());
  Ok(log.Advance(1, kHigh));
  EXPECT_THAT(server.TakeCalls(), IsEmpty());
}

TEST_F(ExecutorTest, OnWritableIsNotOwedBelowHighWater) {
  Connected();
  server.on_data = [](Connection& c, std::string_view unread) {
    c.Send(std::string(Connection::kDefaultHighWater - 1, 'o'));
    return unread.size();
  };
  Ok(log.Receive(1, "x"));
  EXPECT_FALSE(executor.Find(1)->writable_wanted());
  server.TakeCalls();
  Ok(log.Advance(1, Connection::kDefaultHighWater - 1));
  EXPECT_THAT(server.TakeCalls(), IsEmpty());
}

TEST_F(ExecutorTest, OnWritableComesBeforeTheDataOfTheSameRecord) {
  Connected();
  server.on_data = [](Connection& c, std::string_view unread) {
    if (unread == "big") c.Send(std::string(Connection::kDefaultHighWater, 'o'));
    return unread.size();
  };
  Ok(log.Receive(1, "big"));
  server.TakeCalls();
  Ok(log.Receive(1, "next", Connection::kDefaultHighWater));
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 writable", "1 data next"));
}

TEST_F(ExecutorTest, OnWritableMayFillUpAgainOrClose) {
  Connected();
  const std::string big(Connection::kDefaultHighWater, 'o');
  server.on_data = [&](Connection& c, std::string_view unread) {
    c.Send(big);
    return unread.size();
  };
  int rounds = 0;
  server.on_writable = [&](Connection& c) {
    if (++rounds < 3) return c.Send(big);
    c.Close();
  };
  Ok(log.Receive(1, "x"));
  server.TakeCalls();
  for (int i = 1; i <= 4; ++i) Ok(log.Advance(1, i * big.size()));
  EXPECT_EQ(rounds, 3);
  EXPECT_EQ(server.TakeCalls().size(), 3u);
  EXPECT_TRUE(executor.Find(1)->fin_wanted());
}

TEST_F(ExecutorTest, NoOnWritableOnceTheServerHasClosed) {
  Connected();
  server.on_data = [](Connection& c, std::string_view unread) {
    c.Send(std::string(Connection::kDefaultHighWater, 'o'));
    c.HalfClose();
    return unread.size();
  };
  Ok(log.Receive(1, "x"));
  server.TakeCalls();
  Ok(log.Advance(1, Connection::kDefaultHighWater));
  EXPECT_THAT(server.TakeCalls(), IsEmpty());
}

// A Server that answers each line with much, and reads no further while nobody takes its answers.
class Answers : public Scripted {
 public:
  Answers() {
    on_data = [](Connection& c, std::string_view unread) {
      size_t consumed = 0;
      while (c.pending_output() < Connection::kDefaultHighWater) {
        const size_t end = unread.find('\n', consumed);
        if (end == std::string_view::npos) break;
        c.Send(std::string(kAnswer, 'a'));
        consumed = end + 1;
      }
      return consumed;
    };
  }
  static constexpr size_t kAnswer = Connection::kDefaultHighWater / 2;
};

class HeldBackTest : public testing::Test {
 protected:
  HeldBackTest() {
    Ok(log.Begin(1));
    Ok(log.Open(1));
    Ok(log.Connect(1));
    server.TakeCalls();
  }
  void Ok(const replication::RecordView& record) {
    const absl::Status applied = executor.Apply(record);
    ASSERT_TRUE(applied.ok()) << applied;
  }
  const ConnectionState& connection() const { return *executor.Find(1); }
  // The client has taken so many answers.
  void Taken(int answers) { Ok(log.Advance(1, answers * Answers::kAnswer + 1)); }

  LogForTest log;
  Answers server;
  Executor executor{&server};
};

TEST_F(HeldBackTest, WhatIsUnreadIsGivenAgainAfterOnWritable) {
  Ok(log.Receive(1, "1\n2\n3\n4\n5\n6"));
  EXPECT_TRUE(connection().held_back());
  EXPECT_EQ(connection().unread_size(), 7u);
  server.TakeCalls();
  Taken(1);
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 writable", "1 data 3\n4\n5\n6"));
  EXPECT_TRUE(connection().held_back()) << "filled up again";
  Taken(3);
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 writable", "1 data 5\n6", "1 data 6"));
  EXPECT_FALSE(connection().held_back()) << "below the mark: what is unread is no whole request";
  Ok(log.Receive(1, "\n"));
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 data 6\n"));
  EXPECT_EQ(connection().unread_size(), 0u);
}

TEST_F(HeldBackTest, WithNewBytesWhatIsUnreadComesOnce) {
  Ok(log.Receive(1, "1\n2\n3\n"));
  server.TakeCalls();
  Ok(log.Receive(1, "4\n", Answers::kAnswer + 1));
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 writable", "1 data 3\n4\n"));
}

TEST_F(HeldBackTest, NothingUnreadMeansNoOnData) {
  Ok(log.Receive(1, "1\n2\n"));
  server.TakeCalls();
  Taken(1);
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 writable"));
}

TEST_F(HeldBackTest, NoOnDataWhenOnWritableCloses) {
  server.on_writable = [](Connection& c) { c.Close(); };
  Ok(log.Receive(1, "1\n2\n3\n"));
  server.TakeCalls();
  Taken(1);
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 writable"));
  EXPECT_EQ(connection().unread_size(), 0u);
  Ok(log.Receive(1, "4\n"));
  Ok(log.PeerClose(1));
  EXPECT_THAT(server.TakeCalls(), IsEmpty());
}

TEST_F(HeldBackTest, AfterAHalfCloseInOnWritableInputGoesOn) {
  server.on_writable = [](Connection& c) { c.HalfClose(); };
  Ok(log.Receive(1, "1\n2\n3\n"));
  server.TakeCalls();
  Taken(1);
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 writable", "1 data 3\n"));
}

TEST_F(HeldBackTest, TheEndOfTheStreamWaitsUntilAllRequestsAreAnswered) {
  Ok(log.Receive(1, "1\n2\n3\n4\n5\nrest"));
  Ok(log.PeerClose(1));
  EXPECT_TRUE(connection().peer_closed()) << "the heir must know of the FIN";
  server.TakeCalls();
  Taken(1);
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 writable", "1 data 3\n4\n5\nrest"));
  Taken(3);
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 writable", "1 data 5\nrest", "1 data rest"));
  Taken(5);
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 data rest", "1 peer_closed"));
  EXPECT_TRUE(connection().fin_wanted());
  EXPECT_EQ(connection().output().end(), 5 * Answers::kAnswer);
  Ok(log.End(1));
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 closed done"));
}

TEST_F(HeldBackTest, TheEndOfTheStreamComesAtOnceWhenNobodyWaitsForRoom) {
  Ok(log.Receive(1, "1\nrest"));
  Taken(1);
  server.TakeCalls();
  Ok(log.PeerClose(1));
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 peer_closed"));
  EXPECT_EQ(connection().unread_size(), 0u);
}

TEST_F(HeldBackTest, TheEndOfTheStreamComesAtOnceWhenNothingIsUnread) {
  Ok(log.Receive(1, "1\n2\n"));
  EXPECT_TRUE(connection().writable_wanted());
  server.TakeCalls();
  Ok(log.PeerClose(1));
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 peer_closed"));
}

TEST_F(HeldBackTest, ATimerThatClosesEndsTheWait) {
  server.on_timer = [](Connection& c, uint32_t timer) { timer == 1 ? c.Close() : c.HalfClose(); };
  for (const uint32_t timer : {1u, 2u}) {
    const ConnectionId id = 10 + timer;
    Ok(log.Open(id));
    Ok(log.Connect(id));
    server.on_connect = [](Connection&) {};
    const auto answer = server.on_data;
    server.on_data = [&](Connection& c, std::string_view unread) {
      c.SetTimer(timer, microseconds(0));
      return answer(c, unread);
    };
    Ok(log.Receive(id, "1\n2\n3\n"));
    server.on_data = answer;
    Ok(log.PeerClose(id));
    server.TakeCalls();
    Ok(log.Fire(id, timer));
    const std::string who = absl::StrCat(id);
    if (timer == 1) {
      EXPECT_THAT(server.TakeCalls(), ElementsAre(who + " timer 1"));
    } else {
      EXPECT_THAT(server.TakeCalls(), ElementsAre(who + " timer 2", who + " data 3\n", who + " peer_closed"));
    }
    EXPECT_EQ(executor.Find(id)->unread_size(), 0u);
  }
}

TEST_F(HeldBackTest, AConnectionThatBreaksWhileItWaitsOnlyEnds) {
  Ok(log.Receive(1, "1\n2\n3\n"));
  Ok(log.PeerClose(1));
  server.TakeCalls();
  Ok(log.Break(1));
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 closed reset"));
}

}  // namespace
}  // namespace understudy
