// What a Server leaves unread is given again; the mark from which on output is too much.
#include <limits>
#include <string>

#include "framework/executor_fixture_for_test.h"

namespace understudy {
namespace {

using std::chrono::microseconds;
using testing::ElementsAre;
using testing::IsEmpty;

// Requests are lines. A Server of this kind answers each with `answer` bytes, at most `at_once` in a call,
// and leaves them unread while its pending output is at `mark`.
class UnreadTest : public ExecutorTest {
 protected:
  size_t answer = 100, at_once = SIZE_MAX, mark = SIZE_MAX;

  void SetUp() override {
    Connected();
    server.on_data = [this](Connection& c, std::string_view unread) {
      size_t consumed = 0;
      for (size_t i = 0; i < at_once && c.pending_output() < mark; ++i) {
        const size_t end = unread.find('\n', consumed);
        if (end == std::string_view::npos) break;
        consumed = end + 1;
        ++answered;
        c.Send(std::string(answer, 'a'));
      }
      return consumed;
    };
  }
  static std::string Requests(int count) {
    std::string requests;
    for (int i = 0; i < count; ++i) requests += absl::StrCat(i, "\n");
    return requests;
  }
  const ConnectionState& connection() const { return *executor.Find(1); }

  int answered = 0;
};

TEST_F(UnreadTest, AServerMayConsumeOneRequestAtATime) {
  at_once = 1;
  Ok(log.Receive(1, Requests(400)));
  EXPECT_EQ(answered, 400);
  EXPECT_EQ(connection().unread_size(), 0u);
}

TEST_F(UnreadTest, WhatACallLeavesIsGivenAtOnceUntilNothingIsConsumed) {
  at_once = 1;
  Ok(log.Receive(1, "1\n2\nrest"));
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 data 1\n2\nrest", "1 data 2\nrest", "1 data rest"));
  Ok(log.Receive(1, "\n"));
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 data rest\n"));
}

// The Server's own mark is far below high_water().
TEST_F(UnreadTest, FourHundredRequestsAndAHalfCloseAreAllAnswered) {
  mark = 100;
  Ok(log.Receive(1, Requests(400)));
  EXPECT_EQ(answered, 1);
  Ok(log.PeerClose(1));
  EXPECT_TRUE(connection().room_wanted());
  for (int i = 1; i <= 400; ++i) {
    EXPECT_EQ(answered, i);
    EXPECT_EQ(connection().fin_wanted(), i == 400);
    Ok(log.Advance(1, i * answer));
  }
  EXPECT_EQ(answered, 400);
  EXPECT_TRUE(connection().fin_wanted());
}

TEST_F(UnreadTest, ThoseOfAClientThatStaysAreAnsweredWithoutAHalfClose) {
  mark = 100;
  Ok(log.Receive(1, Requests(3)));
  Ok(log.Advance(1, 100));
  Ok(log.Advance(1, 200));
  EXPECT_EQ(answered, 3);
  EXPECT_FALSE(connection().room_wanted());
}

TEST_F(UnreadTest, ProgressThatLeavesSomethingPendingIsNoReasonToAskAgain) {
  mark = 100;
  Ok(log.Receive(1, Requests(3)));
  server.TakeCalls();
  Ok(log.Advance(1, 99));
  EXPECT_THAT(server.TakeCalls(), IsEmpty());
}

TEST_F(UnreadTest, HalfARequestWaitsForItsAnswerBeforeTheEndOfTheStream) {
  Ok(log.Receive(1, "1\nrest"));
  Ok(log.PeerClose(1));
  server.TakeCalls();
  Ok(log.Advance(1, answer));
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 data rest", "1 peer_closed"));
  EXPECT_EQ(connection().unread_size(), 0u);
}

TEST_F(UnreadTest, WhatWasRefusedWithAllTheRoomThereIsEndsWithTheStream) {
  Ok(log.Receive(1, "rest"));
  server.TakeCalls();
  Ok(log.PeerClose(1));
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 peer_closed"));
}

TEST_F(UnreadTest, AServerThatHasHalfClosedReadsToTheEnd) {
  at_once = 1;
  server.on_connect = [](Connection& c) {
    c.Send(std::string(2 * Connection::kDefaultHighWater, 'o'));
    c.HalfClose();
  };
  Ok(log.Open(2));
  Ok(log.Connect(2));
  Ok(log.Receive(2, Requests(3)));
  EXPECT_EQ(answered, 3);
  Ok(log.Receive(2, "rest"));
  Ok(log.PeerClose(2));
  EXPECT_EQ(server.TakeCalls().back(), "2 peer_closed");
}

TEST_F(UnreadTest, OnTimerIsFollowedByWhatIsUnread) {
  at_once = 0;
  server.on_timer = [this](Connection&, uint32_t) { at_once = 1; };
  server.on_peer_closed = [](Connection&) {};
  const auto take = server.on_data;
  server.on_data = [take](Connection& c, std::string_view unread) {
    c.SetTimer(1, microseconds(10));
    return take(c, unread);
  };
  Ok(log.Receive(1, "1\n2\n"));
  EXPECT_EQ(answered, 0);
  log.time_us += 10;
  server.TakeCalls();
  Ok(log.Fire(1, 1));
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 timer 1", "1 data 1\n2\n", "1 data 2\n"));
  EXPECT_EQ(answered, 2);
}

TEST_F(UnreadTest, OnTimerThatClosesIsTheLastCall) {
  at_once = 0;
  server.on_timer = [](Connection& c, uint32_t) { c.Close(); };
  server.on_connect = [](Connection& c) { c.SetTimer(1, microseconds(0)); };
  Ok(log.Open(2));
  Ok(log.Connect(2));
  Ok(log.Receive(2, "1\n"));
  server.TakeCalls();
  Ok(log.Fire(2, 1));
  EXPECT_THAT(server.TakeCalls(), ElementsAre("2 timer 1"));
}

// --- The high-water mark -------------------------------------------------------------------------

TEST_F(UnreadTest, TheMarkIsTheConnectionsOwn) {
  server.on_connect = [](Connection& c) {
    EXPECT_EQ(c.high_water(), Connection::kDefaultHighWater);
    c.SetHighWater(64 << 10);
    EXPECT_EQ(c.high_water(), 64u << 10);
  };
  Ok(log.Open(2));
  Ok(log.Connect(2));
  EXPECT_EQ(connection().high_water(), Connection::kDefaultHighWater);
  answer = 40'000;
  Ok(log.Receive(2, "1\n"));
  EXPECT_FALSE(executor.Find(2)->writable_wanted());
  Ok(log.Receive(2, "2\n"));
  EXPECT_TRUE(executor.Find(2)->writable_wanted());
  server.TakeCalls();
  Ok(log.Advance(2, 80'000 - (32 << 10)));
  EXPECT_THAT(server.TakeCalls(), IsEmpty()) << "half is not below half";
  Ok(log.Advance(2, 80'000 - (32 << 10) + 1));
  EXPECT_THAT(server.TakeCalls(), ElementsAre("2 writable"));
}

TEST_F(UnreadTest, ProgressIsToldInStepsThatFitTheMark) {
  EXPECT_EQ(connection().progress_step(), 256u << 10);
  EXPECT_EQ(connection().most_pending(), 8u << 20);
  size_t wanted = 64 << 10;
  server.on_data = [&wanted](Connection& c, std::string_view unread) {
    c.SetHighWater(wanted);
    return unread.size();
  };
  Ok(log.Receive(1, "x"));
  EXPECT_EQ(connection().progress_step(), 16u << 10);
  EXPECT_EQ(connection().most_pending(), 512u << 10);
  wanted = 0;
  Ok(log.Receive(1, "x"));
  EXPECT_EQ(connection().high_water(), Connection::kLowestHighWater);
  EXPECT_EQ(connection().progress_step(), 1u << 10);
  wanted = std::numeric_limits<size_t>::max();
  Ok(log.Receive(1, "x"));
  EXPECT_EQ(connection().progress_step(), 256u << 10);
  EXPECT_EQ(connection().most_pending(), SIZE_MAX) << "it is read from however much is pending";
}

TEST_F(UnreadTest, AMarkBelowWhatIsPendingOwesOnWritableAndOneAboveTakesItBack) {
  size_t wanted = 8 << 10;
  server.on_data = [&wanted](Connection& c, std::string_view unread) {
    if (c.pending_output() == 0) c.Send(std::string(10'000, 'o'));
    c.SetHighWater(wanted);
    return unread.size();
  };
  Ok(log.Receive(1, "x"));
  EXPECT_TRUE(connection().writable_wanted());
  wanted = 16 << 10;
  Ok(log.Receive(1, "x"));
  EXPECT_FALSE(connection().writable_wanted());
}

// --- Timers and the end --------------------------------------------------------------------------

TEST_F(UnreadTest, AfterCloseTimersFireAndAfterAbortTheyAreGone) {
  server.on_data = [](Connection& c, std::string_view unread) {
    c.SetTimer(1, microseconds(5));
    unread == "close" ? c.Close() : c.Abort();
    c.SetTimer(2, microseconds(5));
    return unread.size();
  };
  Ok(log.Receive(1, "abort"));
  EXPECT_FALSE(executor.NextTimer().has_value());
  Ok(log.Open(2));
  Ok(log.Connect(2));
  Ok(log.Receive(2, "close"));
  log.time_us += 5;
  server.TakeCalls();
  Ok(log.Fire(2, 1));
  Ok(log.Fire(2, 2));
  EXPECT_THAT(server.TakeCalls(), ElementsAre("2 timer 1", "2 timer 2"));
}

}  // namespace
}  // namespace understudy
