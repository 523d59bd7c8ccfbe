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

}  // namespace
}  // namespace understudy
