#include "framework/absence.h"

#include <gtest/gtest.h>

#include <chrono>
#include <functional>

namespace understudy {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

struct HandClock final : Clock {
  std::chrono::steady_clock::time_point Monotonic() const override {
    return std::chrono::steady_clock::time_point(monotonic);
  }
  int64_t WallMicroseconds() const override {
    const int64_t read = std::chrono::duration_cast<microseconds>(wall).count();
    if (at_wall) at_wall();
    return read;
  }
  nanoseconds Boot() const override { return boot; }
  void Pass(nanoseconds span) {
    monotonic += span;
    wall += span;
    boot += span;
  }
  nanoseconds monotonic = seconds(1000), boot = seconds(5000), wall = seconds(1'700'000'000);
  std::function<void()> at_wall;
};

TEST(AbsenceTest, ClocksThatGoTogetherHideNothing) {
  HandClock clock;
  Absence absence;
  EXPECT_EQ(absence.SinceLast(clock), nanoseconds(0)) << "nothing to compare with yet";
  for (int i = 0; i < 100; ++i) {
    clock.Pass(milliseconds(10));
    EXPECT_EQ(absence.SinceLast(clock), nanoseconds(0));
  }
  clock.Pass(seconds(3600));  // it was stopped: CLOCK_MONOTONIC knows
  EXPECT_EQ(absence.SinceLast(clock), nanoseconds(0));
}

TEST(AbsenceTest, SuspensionIsSeenOnce) {
  HandClock clock;
  Absence absence;
  absence.SinceLast(clock);
  clock.Pass(milliseconds(10));
  clock.boot += seconds(7);
  EXPECT_EQ(absence.SinceLast(clock), seconds(7));
  clock.Pass(milliseconds(10));
  EXPECT_EQ(absence.SinceLast(clock), nanoseconds(0));
}

TEST(AbsenceTest, APauseIsSeenWhenTheWallClockIsSetRight) {
  HandClock clock;
  Absence absence;
  absence.SinceLast(clock);
  clock.wall += seconds(5);
  EXPECT_EQ(absence.SinceLast(clock), seconds(5));
  clock.wall -= seconds(9);
  EXPECT_EQ(absence.SinceLast(clock), nanoseconds(0)) << "set back: nothing was missed";
}

// Between its readings the process may be kept from running, for longer than any lease.
TEST(AbsenceTest, ADelayBetweenTheReadingsIsNoAbsence) {
  HandClock clock;
  Absence absence;
  absence.SinceLast(clock);
  clock.at_wall = [&clock] { clock.Pass(seconds(1)); };
  EXPECT_EQ(absence.SinceLast(clock), nanoseconds(0));
  clock.at_wall = nullptr;
  EXPECT_EQ(absence.SinceLast(clock), nanoseconds(0));
  clock.Pass(milliseconds(10));
  EXPECT_EQ(absence.SinceLast(clock), nanoseconds(0));
}

}  // namespace
}  // namespace understudy
