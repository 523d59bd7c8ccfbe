// The time that goes into the log, and so the application's Now(): it runs with the monotonic clock, and is
// pulled towards the wall clock so slowly that nobody's timers notice. So it neither stands still nor jumps
// when the wall clock is set, nor when a host takes over whose wall clock is another. Pure.
#ifndef UNDERSTUDY_FRAMEWORK_LOGGED_CLOCK_H_
#define UNDERSTUDY_FRAMEWORK_LOGGED_CLOCK_H_

#include <algorithm>
#include <chrono>
#include <cstdint>

namespace understudy {

class LoggedClock {
 public:
  using MonotonicTime = std::chrono::steady_clock::time_point;
  // Logged time changes its pace by at most one part in so many.
  static constexpr int64_t kSlew = 10;
  // A wall clock that is further off is worth a word to the operator.
  static constexpr int64_t kFarOffUs = 1'000'000;

  // Logged time is `logged_us` (microseconds since 1970) at `now`.
  LoggedClock(MonotonicTime now, int64_t logged_us) : logged_us_(logged_us), at_(now) {}

  // Logged time at `now`, when the wall clock says `wall_us`. Never less than before.
  int64_t Advance(MonotonicTime now, int64_t wall_us) {
    const int64_t passed = std::max<int64_t>(std::chrono::nanoseconds(now - at_).count(), 0);
    at_ = std::max(at_, now);
    const int64_t off =
        std::clamp<int64_t>(wall_us - logged_us_, -kFarthestUs, kFarthestUs) * 1000 - rest_ns_ - passed;
    rest_ns_ += passed + std::clamp(off, -passed / kSlew, passed / kSlew);
    logged_us_ += rest_ns_ / 1000;
    rest_ns_ %= 1000;
    return logged_us_;
  }

 private:
  static constexpr int64_t kFarthestUs = int64_t{1} << 50;  // in nanoseconds it still fits

  int64_t logged_us_;
  int64_t rest_ns_ = 0;  // beyond logged_us_, below a microsecond
  MonotonicTime at_;
};

// What a secondary knows of the primary's logged time: the newest that it was told, and when that was. Pure.
class ToldTime {
 public:
  using MonotonicTime = std::chrono::steady_clock::time_point;
  void Told(int64_t logged_us, MonotonicTime at) {
    logged_us_ = logged_us;
    at_ = at;
    known_ = true;
  }
  void Forget() { known_ = false; }
  bool known() const { return known_; }
  // What has passed since then has passed there too.
  int64_t At(MonotonicTime now) const {
    return logged_us_ + std::chrono::duration_cast<std::chrono::microseconds>(now - at_).count();
  }

 private:
  bool known_ = false;
  int64_t logged_us_ = 0;
  MonotonicTime at_{};
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_LOGGED_CLOCK_H_
