// The largest of what was seen lately. Pure.
#ifndef UNDERSTUDY_FRAMEWORK_RECENT_MAXIMUM_H_
#define UNDERSTUDY_FRAMEWORK_RECENT_MAXIMUM_H_

#include <algorithm>
#include <chrono>
#include <optional>

namespace understudy {

// Of values of the last one to two spans of time.
template <typename Value>
class RecentMaximum {
 public:
  using MonotonicTime = std::chrono::steady_clock::time_point;
  explicit RecentMaximum(std::chrono::nanoseconds span) : span_(span) {}

  // Returns the maximum, which this value is one of.
  Value Add(Value value, MonotonicTime now) {
    if (!current_.has_value() || now - began_ >= span_) {
      before_ = now - began_ < 2 * span_ ? current_ : std::nullopt;
      current_.reset();
      began_ = now;
    }
    current_ = std::max(current_.value_or(value), value);
    return std::max(before_.value_or(value), *current_);
  }
  void Reset() { before_ = current_ = std::nullopt; }

 private:
  const std::chrono::nanoseconds span_;
  MonotonicTime began_{};
  std::optional<Value> before_, current_;
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_RECENT_MAXIMUM_H_
