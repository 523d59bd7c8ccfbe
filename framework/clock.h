// Where the node's time comes from: a seam, so that tests decide it.
#ifndef UNDERSTUDY_FRAMEWORK_CLOCK_H_
#define UNDERSTUDY_FRAMEWORK_CLOCK_H_

#include <time.h>

#include <chrono>
#include <cstdint>

namespace understudy {

class Clock {
 public:
  virtual ~Clock() = default;
  // CLOCK_MONOTONIC, which is also the kernel's clock for TSval and for the south wrapper's deadline.
  virtual std::chrono::steady_clock::time_point Monotonic() const = 0;
  virtual int64_t WallMicroseconds() const = 0;  // since 1970; may step
  // CLOCK_BOOTTIME: goes on while the machine is suspended, which CLOCK_MONOTONIC does not.
  virtual std::chrono::nanoseconds Boot() const { return Monotonic().time_since_epoch(); }
};

class SystemClock final : public Clock {
 public:
  std::chrono::steady_clock::time_point Monotonic() const override {
    return std::chrono::steady_clock::now();
  }
  int64_t WallMicroseconds() const override {
    return std::chrono::duration_cast<std::chrono::microseconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
  }
  std::chrono::nanoseconds Boot() const override {
    timespec now = {};
    clock_gettime(CLOCK_BOOTTIME, &now);
    return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
  }
};

inline uint32_t Milliseconds32(std::chrono::steady_clock::time_point at) {
  return static_cast<uint32_t>(
      std::chrono::duration_cast<std::chrono::milliseconds>(at.time_since_epoch()).count());
}

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_CLOCK_H_
