#include "replication/log.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

namespace understudy::replication {

Log::~Log() { CHECK(pins_.empty()) << "a pin outlives its log"; }

Log::Pin::Pin(Pin&& other) noexcept : log_(std::exchange(other.log_, nullptr)), at_(other.at_) {}

Log::Pin& Log::Pin::operator=(Pin&& other) noexcept {
  if (this == &other) return *this;
  if (log_ != nullptr) log_->pins_.erase(at_);
  log_ = std::exchange(other.log_, nullptr);
  at_ = other.at_;
  return *this;
}

Log::Pin::~Pin() {
  if (log_ != nullptr) log_->pins_.erase(at_);
}

void Log::Pin::MoveTo(Lsn lsn) {
  CHECK(holds());
  CHECK_GE(lsn, *at_);
  if (lsn == *at_) return;
  auto node = log_->pins_.extract(at_);
  node.value() = lsn;
  at_ = log_->pins_.insert(std::move(node));
}

Log::Pin Log::PinFrom(Lsn from) {
  CHECK(Reaches(from)) << from << " is not in [" << first_lsn() << ", " << last_lsn() + 1 << "]";
  Pin pin;
  pin.log_ = this;
  pin.at_ = pins_.insert(from);
  return pin;
}

void Log::TruncateBefore(Lsn lsn) { Truncate(pins_.empty() ? lsn : std::min(lsn, *pins_.begin())); }

}  // namespace understudy::replication
