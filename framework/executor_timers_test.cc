// Timers at the edges of time.
#include <limits>

#include "framework/executor_fixture_for_test.h"

namespace understudy {
namespace {

using std::chrono::microseconds;
using testing::ElementsAre;

class TimersTest : public ExecutorTest {
 protected:
  // What NextTimer says after one call of SetTimer in a connection of its own.
  Executor::DueTimer Set(microseconds after) {
    Connected();
    server.on_data = [after](Connection& c, std::string_view unread) {
      c.SetTimer(1, after);
      return unread.size();
    };
    Ok(log.Receive(1, "x"));
    server.TakeCalls();
    return executor.NextTimer().value_or(Executor::DueTimer{-1, 0, 0});
  }
};

TEST_F(TimersTest, TheLongestSpanIsNever) {
  EXPECT_EQ(Set(microseconds::max()).due_us, std::numeric_limits<int64_t>::max());
  log.time_us = int64_t{1} << 60;
  Refused(log.Fire(1, 1), "not due");
}

TEST_F(TimersTest, ASpanThatEndsBehindAllTimeIsNever) {
  EXPECT_EQ(Set(microseconds::max() - microseconds(log.time_us - 1)).due_us,
            std::numeric_limits<int64_t>::max());
}

TEST_F(TimersTest, ASpanThatEndsJustBeforeTheEndOfTimeIsKept) {
  EXPECT_EQ(Set(microseconds::max() - microseconds(log.time_us + 5)).due_us,
            std::numeric_limits<int64_t>::max() - 5);
}

TEST_F(TimersTest, TheMostNegativeSpanIsNow) {
  const int64_t now = log.time_us;
  EXPECT_EQ(Set(microseconds::min()).due_us, now);
  Ok(log.Fire(1, 1));
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 timer 1"));
}

TEST_F(TimersTest, ATimeOutsideOfAllCalendarsIsADamagedRecord) {
  Connected();
  log.time_us = -1;
  Refused(log.Receive(1, "x"), "time");
}

TEST_F(TimersTest, ATimeNearTheEndOfTheRangeIsADamagedRecord) {
  Connected();
  log.time_us = std::numeric_limits<int64_t>::max() - 1;
  Refused(log.Receive(1, "x"), "time");
}

}  // namespace
}  // namespace understudy
