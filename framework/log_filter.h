// Keeps a log readable when the same things happen over and over.
#ifndef UNDERSTUDY_FRAMEWORK_LOG_FILTER_H_
#define UNDERSTUDY_FRAMEWORK_LOG_FILTER_H_

#include <chrono>
#include <cstddef>
#include <deque>
#include <string>

namespace understudy {

// Remembers the last few kinds of lines. Two lines are of one kind when they differ in numbers only.
class LogFilter {
 public:
  using Time = std::chrono::time_point<std::chrono::steady_clock, std::chrono::nanoseconds>;

  // A kind of line is let through `burst` times, then once in `interval`.
  explicit LogFilter(int burst = 3, std::chrono::seconds interval = std::chrono::seconds(60))
      : burst_(burst), interval_(interval) {}

  // Whether to say it.
  bool Take(const std::string& line, Time now);

 private:
  static constexpr size_t kMaxKinds = 32;
  struct Kind {
    std::string line;
    int said;
    Time last;
  };
  const int burst_;
  const std::chrono::seconds interval_;
  std::deque<Kind> kinds_;  // the newest in front
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_LOG_FILTER_H_
