// Whether the machine was away without CLOCK_MONOTONIC having counted it.
//
// A lease is measured with CLOCK_MONOTONIC, and so is its end in the south wrapper. A machine that is
// suspended, or a virtual one that is paused, finds that clock where it was, and its lease still running,
// when its peer has taken over long ago. Other clocks may tell: CLOCK_BOOTTIME counts suspension, and the
// wall clock is set right by whoever keeps it. One that is stepped for another reason looks the same; then a
// lease is asked for in vain.
#ifndef UNDERSTUDY_FRAMEWORK_ABSENCE_H_
#define UNDERSTUDY_FRAMEWORK_ABSENCE_H_

#include <algorithm>
#include <chrono>
#include <optional>

#include "framework/clock.h"

namespace understudy {

class Absence {
 public:
  // What the other clocks, the one that has gone further, have counted beyond CLOCK_MONOTONIC since the call
  // before: at least so much, as a process may be kept from running between two of these readings. Never
  // negative.
  std::chrono::nanoseconds SinceLast(const Clock& clock) {
    const std::chrono::nanoseconds before = clock.Monotonic().time_since_epoch();
    const std::chrono::nanoseconds boot = clock.Boot();
    const std::chrono::nanoseconds wall = std::chrono::microseconds(clock.WallMicroseconds());
    const std::chrono::nanoseconds after = clock.Monotonic().time_since_epoch();
    std::chrono::nanoseconds hidden{0};
    if (last_.has_value()) {
      // Least of now, less most of then.
      hidden = std::max({hidden, boot - after - last_->boot, wall - after - last_->wall});
    }
    last_ = {boot - before, wall - before};
    return hidden;
  }

 private:
  struct Ahead {
    std::chrono::nanoseconds boot, wall;  // of CLOCK_MONOTONIC, at most
  };
  std::optional<Ahead> last_;
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_ABSENCE_H_
