#include "replication/membership.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

namespace understudy::replication {

bool Membership::ReadyToAsk(MonotonicTime now) {
  if (asking()) return false;
  if (!unsure_) return true;
  if (!read_at_.has_value()) read_at_ = now + pauses_.retry;
  return false;
}

void Membership::Ask(const Register& expected, const Register& desired, Actions& out) {
  CHECK(!asking());
  asked_ = Asked::kSwap;
  read_at_.reset();
  if (std::find(wishes_.begin(), wishes_.end(), desired) == wishes_.end()) wishes_.push_back(desired);
  out.push_back(SwapRegister{expected, desired});
}

void Membership::ReadSoon(MonotonicTime at) {
  if (!will_ask()) read_at_ = at;
}

void Membership::Resign() {
  unsure_ = false;
  read_at_.reset();
}

Membership::Answer Membership::OnArbiter(const absl::StatusOr<Arbiter::Outcome>& outcome, bool serves,
                                         MonotonicTime now) {
  const Asked asked = std::exchange(asked_, Asked::kNothing);
  if (asked == Asked::kNothing) return {};
  if (!outcome.ok()) {
    if (asked == Asked::kSwap) unsure_ = true;
    if (unsure_ || !serves) read_at_ = now + pauses_.retry;
    return {};
  }
  const bool swap_failed = asked == Asked::kSwap && !outcome->swapped;
  const bool granted = (asked == Asked::kSwap && outcome->swapped) ||
                       std::find(wishes_.begin(), wishes_.end(), outcome->current) != wishes_.end();
  if (!granted) return Judge(outcome->current, swap_failed, serves, now);
  held_ = outcome->current;
  wishes_.clear();
  unsure_ = false;
  read_at_.reset();
  return {Verdict::kGranted};
}

Membership::Answer Membership::Judge(const Register& current, bool swap_failed, bool serves,
                                     MonotonicTime now) {
  if (current != held_) {
    if (serves && !swap_failed && current.epoch == 0) return {};  // forgotten, not granted
    unsure_ = false;
    return {Verdict::kOthers, current};
  }
  unsure_ = swap_failed;
  if (!swap_failed) return {Verdict::kUnchanged};
  // The arbiter contradicts itself: it holds what was expected. Not in a tight loop.
  read_at_ = now + pauses_.retry;
  return {};
}

void Membership::OnTick(bool serves, MonotonicTime now, Actions& out) {
  if (asking()) return;
  const bool due = read_at_.has_value() && now >= *read_at_;
  const bool check = serves && !read_at_.has_value() && now >= check_at_;
  if (!due && !check) return;
  if (check) check_at_ = now + pauses_.check;
  read_at_.reset();
  asked_ = Asked::kRead;
  out.push_back(ReadRegister{});
}

MonotonicTime Membership::NextTick(bool serves) const {
  if (asking()) return MonotonicTime::max();
  if (read_at_.has_value()) return *read_at_;
  return serves ? check_at_ : MonotonicTime::max();
}

void Membership::CheckInvariants() const {
  if (asked_ == Asked::kSwap || unsure_) CHECK(!wishes_.empty());
  if (unsure_) CHECK(will_ask());
}

}  // namespace understudy::replication
