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
using std::chrono::seconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// --- Each kind of record -------------------------------------------------------------------------

TEST_F(ExecutorTest, AConnectionsLifeFromOpenedToEnded) {
  Ok(log.Begin(1));
  Ok(log.Open(1));
  EXPECT_THAT(server.TakeCalls(), IsEmpty()) << "a handshake is no connection yet";
  ASSERT_NE(executor.Find(1), nullptr);
  EXPECT_FALSE(executor.Find(1)->connected());
  EXPECT_EQ(executor.FindByTuple(LogForTest::TupleOf(1)), executor.Find(1));
  EXPECT_EQ(executor.Find(1)->peer(), "198.18.0.9:40001");
  EXPECT_EQ(executor.Find(1)->local(), "198.18.0.1:7000");
  EXPECT_EQ(executor.last_opened(), 1u);
  Ok(log.Connect(1));
  Ok(log.Receive(1, "hello"));
  Ok(log.PeerClose(1));
  Ok(log.End(1));
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 connect", "1 data hello", "1 peer_closed", "1 closed done"));
  EXPECT_EQ(executor.Find(1), nullptr);
  EXPECT_EQ(executor.FindByTuple(LogForTest::TupleOf(1)), nullptr);
  EXPECT_EQ(executor.applied_lsn(), 6u);
}

TEST_F(ExecutorTest, RcvNxtCountsBytesAndTheFinAcrossTheWrap) {
  Connected();
  const ConnectionState* state = executor.Find(1);
  EXPECT_EQ(state->rcv_nxt(), 0xfffffffdu);
  Ok(log.Receive(1, "12345"));
  EXPECT_EQ(state->received(), 5u);
  EXPECT_EQ(state->rcv_nxt(), 2u);
  Ok(log.PeerClose(1));
  EXPECT_EQ(state->rcv_nxt(), 3u);
  EXPECT_EQ(state->SeqOf(0), 0xfffffff1u);
  EXPECT_EQ(state->SeqOf(15), 0u);
}

TEST_F(ExecutorTest, BrokenEndsWithReset) {
  Connected();
  Ok(log.Break(1));
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 closed reset"));
  EXPECT_EQ(executor.Find(1), nullptr);
}

TEST_F(ExecutorTest, AnAbortedConnectionEndsAborted) {
  Connected();
  server.on_data = [](Connection& c, std::string_view unread) {
    c.Send("lost");
    c.Abort();
    c.Send("later");
    return unread.size();
  };
  Ok(log.Receive(1, "x"));
  EXPECT_TRUE(executor.Find(1)->abort_wanted());
  EXPECT_TRUE(executor.Find(1)->ignores_input());
  EXPECT_EQ(OutputOf(1), "lost");
  Ok(log.Receive(1, "unheard"));
  Ok(log.End(1));
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 data x", "1 closed aborted"));
}

TEST_F(ExecutorTest, AHandshakeThatComesToNothingIsNeverShownToTheServer) {
  Ok(log.Begin(1));
  Ok(log.Open(1));
  Ok(log.End(1));
  Ok(log.Open(2));
  Ok(log.Break(2));
  EXPECT_THAT(server.TakeCalls(), IsEmpty());
  EXPECT_EQ(executor.connection_count(), 0u);
  EXPECT_EQ(executor.FindDeparted(LogForTest::TupleOf(1)), nullptr);
}

TEST_F(ExecutorTest, ATupleCanBeUsedAgainOnceItsConnectionHasEnded) {
  Connected();
  Ok(log.PeerClose(1));
  Ok(log.End(1));
  Opened again = LogForTest::OpenedOf(2);
  again.tuple = LogForTest::TupleOf(1);
  ASSERT_NE(executor.FindDeparted(again.tuple), nullptr);
  Ok(log.Add(RecordKind::kOpened, Encode(again)));
  EXPECT_EQ(executor.FindByTuple(again.tuple)->id(), 2u);
  EXPECT_EQ(executor.FindDeparted(again.tuple), nullptr) << "TIME_WAIT ends with the new connection";
}

// A client that resets, or whose TIME_WAIT is over, may open the next connection from the same port before
// this node has read the end of the old one.
TEST_F(ExecutorTest, ANewIncarnationNeedNotWaitForTheEndOfTheOldOne) {
  Connected();
  Opened next = LogForTest::OpenedOf(2);
  next.tuple = LogForTest::TupleOf(1);
  next.iss = 77;
  Ok(log.Add(RecordKind::kOpened, Encode(next)));
  EXPECT_EQ(executor.FindByTuple(next.tuple), executor.Find(2));
  EXPECT_EQ(executor.connection_count(), 2u);
  Ok(log.Receive(1, "last words"));
  Ok(log.PeerClose(1));
  Ok(log.End(1));
  EXPECT_EQ(executor.Find(1), nullptr);
  EXPECT_EQ(executor.FindByTuple(next.tuple), executor.Find(2)) << "it is the new one's";
  EXPECT_EQ(executor.FindDeparted(next.tuple), nullptr) << "the tuple is in use";
  server.TakeCalls();
  Ok(log.Connect(2));
  Ok(log.Receive(2, "hello"));
  EXPECT_THAT(server.TakeCalls(), ElementsAre("2 connect", "2 data hello"));
  Ok(log.Break(2));
  EXPECT_EQ(executor.FindByTuple(next.tuple), nullptr);
}

TEST_F(ExecutorTest, TheClientsViewOnlyMovesForward) {
  Connected();
  server.on_data = [](Connection& c, std::string_view unread) {
    c.Send(std::string(100, 'o'));
    return unread.size();
  };
  Ok(log.Receive(1, "x"));
  Ok(log.Advance(1, 60));
  EXPECT_EQ(executor.Find(1)->pending_output(), 40u);
  EXPECT_EQ(executor.Find(1)->view().acked, 60u);
  Ok(log.Advance(1, 30));
  EXPECT_EQ(executor.Find(1)->view().acked, 60u);
  EXPECT_EQ(executor.Find(1)->pending_output(), 40u);
  Ok(log.Receive(1, "y", 100));
  EXPECT_EQ(executor.Find(1)->pending_output(), 100u);
  EXPECT_EQ(executor.Find(1)->output().begin(), 100u);
}

// --- Each error ----------------------------------------------------------------------------------

TEST_F(ExecutorTest, RefusesAnLsnThatDoesNotFollow) {
  Ok(log.Begin(1));
  log.Open(1);  // left out
  Refused(log.Connect(1), "does not follow 1");
}

TEST_F(ExecutorTest, RefusesTheSameRecordTwice) {
  const replication::RecordView record = log.Begin(1);
  Ok(record);
  Refused(record, "does not follow 1");
}

TEST_F(ExecutorTest, RefusesAnUnknownKind) {
  Refused(log.Add(static_cast<RecordKind>(77), "x"), "unknown kind 77");
}

TEST_F(ExecutorTest, RefusesDamagedBodiesOfEachKind) {
  for (const RecordKind kind : {RecordKind::kEpochBegan, RecordKind::kOpened, RecordKind::kConnected,
                                RecordKind::kReceived, RecordKind::kPeerClosed, RecordKind::kBroken,
                                RecordKind::kProgress, RecordKind::kTimerFired, RecordKind::kEnded}) {
    LogForTest fresh;
    Executor victim(&server);
    const absl::Status applied = victim.Apply(fresh.Add(kind, "short"));
    EXPECT_EQ(applied.code(), absl::StatusCode::kInvalidArgument) << RecordKindName(kind);
    EXPECT_THAT(std::string(applied.message()), HasSubstr("too short")) << RecordKindName(kind);
    EXPECT_THAT(std::string(applied.message()), HasSubstr(RecordKindName(kind)));
    EXPECT_EQ(victim.applied_lsn(), 0u);
  }
}

TEST_F(ExecutorTest, RefusesRecordsOfConnectionsThatAreNotOpen) {
  using Make = std::function<replication::RecordView(LogForTest&)>;
  const std::vector<Make> records = {
      [](LogForTest& l) { return l.Connect(9); },    [](LogForTest& l) { return l.Receive(9, "x"); },
      [](LogForTest& l) { return l.PeerClose(9); },  [](LogForTest& l) { return l.Break(9); },
      [](LogForTest& l) { return l.Advance(9, 1); }, [](LogForTest& l) { return l.Fire(9, 1); },
      [](LogForTest& l) { return l.End(9); }};
  for (const Make& make : records) {
    LogForTest fresh;
    Executor victim(&server);
    ASSERT_TRUE(victim.Apply(fresh.Begin(1)).ok());
    const absl::Status applied = victim.Apply(make(fresh));
    EXPECT_THAT(std::string(applied.message()), HasSubstr("connection 9 is not open"));
  }
}

TEST_F(ExecutorTest, RefusesAnEpochThatIsNotNewer) {
  Ok(log.Begin(3));
  Refused(log.Begin(3), "epoch 3 after 3");
}

TEST_F(ExecutorTest, RefusesAConnectionThatIsNotNew) {
  Connected();
  Refused(log.Open(1), "connection 1 is not new");
}

TEST_F(ExecutorTest, RefusesToConnectTwice) {
  Connected();
  Refused(log.Connect(1), "connected twice");
}

TEST_F(ExecutorTest, RefusesBytesBeforeTheHandshake) {
  Ok(log.Begin(1));
  Ok(log.Open(1));
  Refused(log.Receive(1, "x"), "before the handshake");
}

TEST_F(ExecutorTest, RefusesBytesBehindTheEndOfTheStream) {
  Connected();
  Ok(log.PeerClose(1));
  server.TakeCalls();
  Refused(log.Receive(1, "x"), "behind the end");
  EXPECT_EQ(executor.Find(1)->received(), 0u);
}

TEST_F(ExecutorTest, RefusesASecondEndOfTheStream) {
  Connected();
  Ok(log.PeerClose(1));
  server.TakeCalls();
  Refused(log.PeerClose(1), "closed twice");
}

TEST_F(ExecutorTest, RefusesATimerThatIsNotSetOrNotDue) {
  Connected();
  server.on_data = [](Connection& c, std::string_view unread) {
    c.SetTimer(7, microseconds(500));
    return unread.size();
  };
  Ok(log.Receive(1, "x"));
  server.TakeCalls();
  log.time_us += 499;
  Refused(log.Fire(1, 7), "not due");
}

TEST_F(ExecutorTest, RefusesATimerThatWasNeverSet) {
  Connected();
  Refused(log.Fire(1, 7), "not set");
}

TEST_F(ExecutorTest, AfterAnErrorTheTimeIsThatOfTheLastRecordApplied) {
  Connected();
  const int64_t before = executor.time_us();
  log.time_us += 1000;
  EXPECT_FALSE(Apply(log.Connect(9)).ok());
  EXPECT_EQ(executor.time_us(), before);
}

// --- OnData --------------------------------------------------------------------------------------

TEST_F(ExecutorTest, UnreadBytesAreGivenAgainWithTheNextOnes) {
  Connected();
  std::vector<size_t> consume = {0, 3, 0, 4, 2};
  size_t call = 0;
  server.on_data = [&](Connection&, std::string_view) { return consume[call++]; };
  Ok(log.Receive(1, "abc"));
  Ok(log.Receive(1, "de"));
  Ok(log.Receive(1, "fg"));
  Ok(log.Receive(1, "hi"));
  EXPECT_THAT(server.TakeCalls(),
              ElementsAre("1 data abc", "1 data abcde", "1 data de", "1 data defg", "1 data hi"));
}

TEST_F(ExecutorTest, UnreadBytesAreKeptPerConnection) {
  Connected();
  Ok(log.Open(2));
  Ok(log.Connect(2));
  server.on_data = [](Connection&, std::string_view unread) { return unread.size() / 2; };
  server.TakeCalls();
  Ok(log.Receive(1, "ab"));
  Ok(log.Receive(2, "12"));
  Ok(log.Receive(1, "cd"));
  Ok(log.Receive(2, "34"));
  EXPECT_THAT(server.TakeCalls(),
              ElementsAre("1 data ab", "1 data b", "2 data 12", "2 data 2", "1 data bcd", "1 data cd",
                          "1 data d", "2 data 234", "2 data 34", "2 data 4"));
}

TEST_F(ExecutorTest, ConsumingMoreThanWasGivenIsAnErrorOfTheServer) {
  Connected();
  server.on_data = [](Connection&, std::string_view unread) { return unread.size() + 1; };
  EXPECT_DEATH((void)Apply(log.Receive(1, "x")), "consumed more than it was given");
}

TEST_F(ExecutorTest, CloseInsideOnDataThrowsAwayWhatComesLater) {
  Connected();
  std::string seen;
  server.on_data = [&](Connection& c, std::string_view unread) -> size_t {
    if (unread.size() < 6) return 0;
    c.Close();
    seen = std::string(unread);  // still whole after Close
    return 2;
  };
  Ok(log.Receive(1, "abc"));
  Ok(log.Receive(1, "def"));
  EXPECT_EQ(seen, "abcdef");
  Ok(log.Receive(1, "ghi"));
  Ok(log.PeerClose(1));
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 data abc", "1 data abcdef")) << "nothing after Close";
  EXPECT_EQ(executor.Find(1)->received(), 9u) << "what is thrown away is acknowledged all the same";
  Ok(log.End(1));
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 closed done"));
}

TEST_F(ExecutorTest, NothingCanBeSentAfterHalfClose) {
  Connected();
  server.on_data = [](Connection& c, std::string_view unread) {
    c.Send("a");
    c.HalfClose();
    c.Send("b");
    c.HalfClose();
    return unread.size();
  };
  Ok(log.Receive(1, "x"));
  EXPECT_EQ(OutputOf(1), "a");
  EXPECT_TRUE(executor.Find(1)->fin_wanted());
  EXPECT_FALSE(executor.Find(1)->ignores_input());
  Ok(log.Receive(1, "y"));
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 data x", "1 data y")) << "input goes on";
}

TEST_F(ExecutorTest, SendFromOnClosedIsANoOp) {
  Connected();
  server.on_closed = [](Connection& c) {
    c.Send("too late");
    c.SetTimer(1, microseconds(0));
  };
  const uint64_t hash = executor.output_hash();
  Ok(log.Break(1));
  EXPECT_EQ(executor.output_hash(), hash);
  EXPECT_FALSE(executor.NextTimer().has_value());
}

TEST_F(ExecutorTest, AnEmptySendIsNoOutput) {
  Connected();
  server.on_data = [](Connection& c, std::string_view unread) {
    c.Send("");
    return unread.size();
  };
  const uint64_t hash = executor.output_hash();
  Ok(log.Receive(1, "x"));
  EXPECT_EQ(executor.output_hash(), hash);
  EXPECT_THAT(executor.TakeTouched(), IsEmpty());
}

TEST_F(ExecutorTest, TouchedNamesEachConnectionOnceInOrder) {
  Connected();
  Ok(log.Open(2));
  Ok(log.Connect(2));
  server.on_data = [](Connection& c, std::string_view unread) {
    c.Send(unread);
    return unread.size();
  };
  Ok(log.Receive(2, "a"));
  Ok(log.Receive(1, "b"));
  Ok(log.Receive(2, "c"));
  EXPECT_THAT(executor.TakeTouched(), ElementsAre(1, 2));
  EXPECT_THAT(executor.TakeTouched(), IsEmpty());
}

// --- Time ----------------------------------------------------------------------------------------

TEST_F(ExecutorTest, NowIsTheRecordsTimeAndNeverGoesBack) {
  Connected();
  std::vector<int64_t> seen;
  server.on_data = [&](Connection& c, std::string_view unread) {
    seen.push_back(c.Now().time_since_epoch().count());
    return unread.size();
  };
  log.time_us = 5'000'000;
  Ok(log.Receive(1, "x"));
  log.time_us = 4'000'000;
  Ok(log.Receive(1, "x"));
  log.time_us = 6'000'000;
  Ok(log.Receive(1, "x"));
  EXPECT_THAT(seen, ElementsAre(5'000'000, 5'000'000, 6'000'000));
}

TEST_F(ExecutorTest, TimersComeInOrderOfTheirDueTimeThenConnectionThenNumber) {
  Connected();
  Ok(log.Open(2));
  Ok(log.Connect(2));
  server.on_data = [](Connection& c, std::string_view unread) {
    c.SetTimer(3, microseconds(200));
    c.SetTimer(2, microseconds(100));
    c.SetTimer(1, microseconds(200));
    return unread.size();
  };
  Ok(log.Receive(2, "x"));
  Ok(log.Receive(1, "x"));
  server.TakeCalls();
  std::vector<std::string> order;
  log.time_us += 1000;
  while (const auto next = executor.NextTimer()) {
    order.push_back(absl::StrCat(next->connection, "/", next->timer));
    Ok(log.Fire(next->connection, next->timer));
  }
  EXPECT_THAT(order, ElementsAre("1/2", "2/2", "1/1", "1/3", "2/1", "2/3"));
  EXPECT_EQ(server.TakeCalls().size(), 6u);
}

TEST_F(ExecutorTest, SettingATimerAgainReplacesIt) {
  Connected();
  server.on_data = [](Connection& c, std::string_view unread) {
    c.SetTimer(1, microseconds(unread == "long" ? 500 : 50));
    return unread.size();
  };
  const int64_t now = log.time_us;
  Ok(log.Receive(1, "short"));
  EXPECT_EQ(executor.NextTimer()->due_us, now + 50);
  Ok(log.Receive(1, "long"));
  EXPECT_EQ(executor.NextTimer()->due_us, now + 500);
  log.time_us += 500;
  Ok(log.Fire(1, 1));
  EXPECT_FALSE(executor.NextTimer().has_value());
}

TEST_F(ExecutorTest, ACancelledTimerIsGone) {
  Connected();
  server.on_data = [](Connection& c, std::string_view unread) {
    c.SetTimer(1, microseconds(50));
    c.SetTimer(2, microseconds(60));
    c.CancelTimer(1);
    c.CancelTimer(99);
    return unread.size();
  };
  Ok(log.Receive(1, "x"));
  EXPECT_EQ(executor.NextTimer()->timer, 2u);
  server.TakeCalls();
  log.time_us += 100;
  Refused(log.Fire(1, 1), "not set");
}

TEST_F(ExecutorTest, ATimerOfZeroOrLessIsDueAtOnce) {
  Connected();
  server.on_data = [](Connection& c, std::string_view unread) {
    c.SetTimer(1, microseconds(0));
    c.SetTimer(2, microseconds(-1'000'000));
    return unread.size();
  };
  Ok(log.Receive(1, "x"));
  EXPECT_EQ(executor.NextTimer()->due_us, log.time_us);
  Ok(log.Fire(1, 1));
  Ok(log.Fire(1, 2));
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 data x", "1 timer 1", "1 timer 2"));
}

TEST_F(ExecutorTest, ATimerMaySetItselfAnew) {
  Connected();
  server.on_data = [](Connection& c, std::string_view unread) {
    c.SetTimer(1, microseconds(10));
    return unread.size();
  };
  server.on_timer = [](Connection& c, uint32_t timer) { c.SetTimer(timer, microseconds(10)); };
  Ok(log.Receive(1, "x"));
  for (int i = 0; i < 3; ++i) {
    log.time_us = executor.NextTimer()->due_us + 5;  // late, as loops are
    Ok(log.Fire(1, 1));
    EXPECT_EQ(executor.NextTimer()->due_us, log.time_us + 10) << "from the time of the record";
  }
}

TEST_F(ExecutorTest, TimersEndWithTheirConnection) {
  Connected();
  server.on_data = [](Connection& c, std::string_view unread) {
    c.SetTimer(1, microseconds(10));
    c.SetTimer(2, microseconds(20));
    return unread.size();
  };
  Ok(log.Receive(1, "x"));
  server.on_closed = [](Connection& c) { c.SetTimer(3, microseconds(1)); };
  Ok(log.End(1));
  EXPECT_FALSE(executor.NextTimer().has_value());
}

// --- Back-pressure -------------------------------------------------------------------------------

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

// --- TIME_WAIT -----------------------------------------------------------------------------------

TEST_F(ExecutorTest, ADepartedConnectionIsKnownByItsLastNumbers) {
  Connected();
  server.on_data = [](Connection& c, std::string_view unread) {
    c.Send("0123456789");
    return unread.size();
  };
  Ok(log.Receive(1, "12345"));
  Ok(log.PeerClose(1));
  Ok(log.End(1));
  const Executor::Departed* departed = executor.FindDeparted(LogForTest::TupleOf(1));
  ASSERT_NE(departed, nullptr);
  EXPECT_EQ(departed->snd_nxt, 0xfffffff0u + 1 + 10 + 1);
  EXPECT_EQ(departed->rcv_nxt, 0xfffffffcu + 1 + 5 + 1);
  EXPECT_EQ(departed->timestamp_offset, 1000u);
  EXPECT_TRUE(departed->options.timestamps);
  EXPECT_TRUE(departed->peer_closed);
  EXPECT_EQ(departed->window, 65535) << "what was offered is not taken back by the last acknowledgement";
}

TEST_F(ExecutorTest, OnlyAnOrderlyEndLeavesAnythingInTimeWait) {
  Connected();
  Ok(log.Break(1));
  EXPECT_EQ(executor.FindDeparted(LogForTest::TupleOf(1)), nullptr);
  Ok(log.Open(2));
  Ok(log.Connect(2));
  server.on_data = [](Connection& c, std::string_view unread) {
    c.Abort();
    return unread.size();
  };
  Ok(log.Receive(2, "x"));
  Ok(log.End(2));
  EXPECT_EQ(executor.FindDeparted(LogForTest::TupleOf(2)), nullptr);
}

// The Server has closed, and the client has not for longer than anybody listens.
TEST_F(ExecutorTest, WhoseStreamHasNotEndedIsInFinWait2) {
  Connected();
  server.on_data = [](Connection& c, std::string_view unread) {
    c.Close();
    return unread.size();
  };
  Ok(log.Receive(1, "x"));
  Ok(log.End(1));
  const Executor::Departed* departed = executor.FindDeparted(LogForTest::TupleOf(1));
  ASSERT_NE(departed, nullptr);
  EXPECT_FALSE(departed->peer_closed);
  EXPECT_EQ(departed->snd_nxt, 0xfffffff0u + 1 + 1);
  EXPECT_EQ(departed->rcv_nxt, 0xfffffffcu + 1 + 1);
}

TEST_F(ExecutorTest, TheDepartedAreForgottenAfterTimeWait) {
  Connected();
  Ok(log.Open(2));
  Ok(log.Connect(2));
  Ok(log.PeerClose(1));
  Ok(log.PeerClose(2));
  Ok(log.End(1));
  log.time_us += Executor::kTimeWaitUs + 1;
  Ok(log.End(2));
  EXPECT_EQ(executor.FindDeparted(LogForTest::TupleOf(1)), nullptr);
  EXPECT_NE(executor.FindDeparted(LogForTest::TupleOf(2)), nullptr);
}

TEST_F(ExecutorTest, TimeWaitEndsAlsoWhenNobodyElseDeparts) {
  Connected();
  Ok(log.Open(2));
  Ok(log.Connect(2));
  Ok(log.PeerClose(1));
  Ok(log.End(1));
  log.time_us += Executor::kTimeWaitUs;
  Ok(log.Advance(2, 0));
  EXPECT_NE(executor.FindDeparted(LogForTest::TupleOf(1)), nullptr);
  log.time_us += 1;
  Ok(log.Advance(2, 0));
  EXPECT_EQ(executor.FindDeparted(LogForTest::TupleOf(1)), nullptr);
}

TEST_F(ExecutorTest, TheTableOfTheDepartedIsBounded) {
  Ok(log.Begin(1));
  ConnectionId id = 0;
  const auto come_and_go = [&] {
    Opened opened = LogForTest::OpenedOf(++id);
    opened.tuple.remote.ip = static_cast<uint32_t>(id);
    Ok(log.Add(RecordKind::kOpened, Encode(opened)));
    Ok(log.Connect(id));
    Ok(log.PeerClose(id));
    Ok(log.End(id));
    return opened.tuple;
  };
  const tcpshim::FourTuple first = come_and_go();
  const tcpshim::FourTuple second = come_and_go();
  for (size_t i = 2; i < Executor::kMaxDeparted; ++i) come_and_go();
  EXPECT_NE(executor.FindDeparted(first), nullptr);
  const tcpshim::FourTuple last = come_and_go();
  EXPECT_EQ(executor.FindDeparted(first), nullptr) << "the oldest makes room";
  EXPECT_NE(executor.FindDeparted(second), nullptr);
  EXPECT_NE(executor.FindDeparted(last), nullptr);
}

TEST_F(ExecutorTest, ANewEpochShiftsTheTimestampsOfAll) {
  Connected();
  Ok(log.Open(2));
  Ok(log.Connect(2));
  Ok(log.PeerClose(2));
  Ok(log.End(2));
  Ok(log.Begin(2, 0, 0xffffff00u));
  EXPECT_EQ(executor.epoch(), 2u);
  EXPECT_EQ(executor.Find(1)->timestamp_offset(), 1000 + 0xffffff00u);
  EXPECT_EQ(executor.FindDeparted(LogForTest::TupleOf(2))->timestamp_offset, 1000 + 0xffffff00u);
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
