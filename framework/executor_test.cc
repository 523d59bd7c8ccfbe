#include "framework/executor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "framework/executor_fixture_for_test.h"
#include "framework/log_for_test.h"

namespace understudy {
namespace {

using std::chrono::microseconds;
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

}  // namespace
}  // namespace understudy
