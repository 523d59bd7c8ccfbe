#include "framework/logged_clock.h"
#include "framework/recent_maximum.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <limits>
#include <random>

namespace understudy {
namespace {

using std::chrono::microseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr int64_t kStart = 1'700'000'000'000'000;
constexpr int64_t kSecond = 1'000'000;

class LoggedClockTest : public testing::Test {
 protected:
  // Lets `span` pass in steps, with a wall clock that is `off_us` ahead of true time.
  int64_t Pass(nanoseconds span, int64_t off_us, nanoseconds step = std::chrono::milliseconds(1)) {
    int64_t logged = 0;
    for (nanoseconds passed{0}; passed < span; passed += step) {
      now_ += step;
      logged = clock_.Advance(now_, Truth() + off_us);
    }
    return logged - Truth();  // how far ahead of the truth
  }
  int64_t Truth() const { return kStart + std::chrono::duration_cast<microseconds>(now_ - kBegin).count(); }

  static constexpr LoggedClock::MonotonicTime kBegin{seconds(5000)};
  LoggedClock::MonotonicTime now_ = kBegin;
  LoggedClock clock_{kBegin, kStart};
};

TEST_F(LoggedClockTest, FollowsAWallClockThatIsRight) { EXPECT_EQ(Pass(seconds(3), 0), 0); }

TEST_F(LoggedClockTest, AWallClockThatIsBehindSlowsItDownByATenth) {
  EXPECT_EQ(Pass(seconds(10), -6 * kSecond), -kSecond);
  EXPECT_EQ(Pass(seconds(100), -6 * kSecond), -6 * kSecond) << "and no further";
}

TEST_F(LoggedClockTest, AWallClockThatIsAheadSpeedsItUpByATenth) {
  EXPECT_EQ(Pass(seconds(10), 100 * kSecond), kSecond);
  EXPECT_EQ(Pass(seconds(2000), 100 * kSecond), 100 * kSecond);
}

// Under load it is read every few hundred nanoseconds.
TEST_F(LoggedClockTest, SmallStepsSlewAsMuchAsLargeOnes) {
  EXPECT_NEAR(Pass(std::chrono::milliseconds(100), 50 * kSecond, nanoseconds(137)), 10'000, 600);
}

TEST_F(LoggedClockTest, ItNeverGoesBackWhateverTheClocksDo) {
  std::mt19937_64 random(7);
  int64_t before = kStart;
  for (int i = 0; i < 100'000; ++i) {
    now_ += nanoseconds(static_cast<int64_t>(random() % 3'000'000) - 100'000);
    const int64_t extremes[] = {0, std::numeric_limits<int64_t>::max() / 2, Truth(), Truth() - 5,
                                Truth() + 7};
    const int64_t logged = clock_.Advance(now_, extremes[random() % 5]);
    ASSERT_GE(logged, before);
    ASSERT_LE(logged - before, 4'000);
    before = logged;
  }
}

TEST_F(LoggedClockTest, WithoutTimePassingNothingMoves) {
  EXPECT_EQ(clock_.Advance(now_, kStart + 900 * kSecond), kStart);
  EXPECT_EQ(clock_.Advance(now_ - seconds(1), kStart - 900 * kSecond), kStart);
}

// A takeover by a host whose wall clock is 6 s behind: a timer of one second takes one second, give or take a
// tenth.
TEST_F(LoggedClockTest, ATakeoverCarriesOnByWhatHasPassed) {
  ToldTime told;
  EXPECT_FALSE(told.known());
  const int64_t first = clock_.Advance(now_, kStart);
  const LoggedClock::MonotonicTime heirs{seconds(77)};  // another host's monotonic clock
  told.Told(first, heirs);
  EXPECT_TRUE(told.known());
  EXPECT_EQ(told.At(heirs + seconds(3)), first + 3 * kSecond);
  LoggedClock heir(heirs + seconds(3), told.At(heirs + seconds(3)));
  const int64_t later = heir.Advance(heirs + seconds(4), kStart - 2 * kSecond);
  EXPECT_EQ(later, first + 3 * kSecond + kSecond * 9 / 10);
}

TEST(RecentMaximumTest, ForgetsWhatIsLongAgo) {
  using std::chrono::seconds;
  RecentMaximum<int> most(seconds(5));
  const RecentMaximum<int>::MonotonicTime start{std::chrono::hours(1)};
  EXPECT_EQ(most.Add(7, start), 7);
  EXPECT_EQ(most.Add(3, start + seconds(1)), 7);
  EXPECT_EQ(most.Add(4, start + seconds(6)), 7);  // of the span before
  EXPECT_EQ(most.Add(5, start + seconds(9)), 7);
  EXPECT_EQ(most.Add(2, start + seconds(12)), 5);
  EXPECT_EQ(most.Add(1, start + seconds(100)), 1);
  EXPECT_EQ(most.Add(9, start + seconds(101)), 9);
  most.Reset();
  EXPECT_EQ(most.Add(1, start + seconds(102)), 1);
}

}  // namespace
}  // namespace understudy
