#include "replication/lease.h"

#include <algorithm>
#include <utility>

namespace understudy::replication {
namespace {
constexpr milliseconds kStep(1);
}  // namespace

bool LeaseTerm::Extend(MonotonicTime until, MonotonicTime now) {
  if (until <= now) return false;
  if (!silent_ && until < until_ + kStep) return false;
  until_ = std::max(until_, until);
  silent_ = false;
  return true;
}

void LeaseTerm::End(MonotonicTime now) { until_ = std::min(until_, now); }

bool LeaseTerm::BeSilent() { return !std::exchange(silent_, true); }

void LeaseTerm::OnAbsence(MonotonicTime now) {
  counts_from_ = now;
  End(now);
}

void LeaseTerm::Share() {
  lost_at_ = until_;
  grace_used_ = false;
}

bool LeaseTerm::OnAnswer(MonotonicTime sent_at) {
  if (sent_at < counts_from_) return false;
  grace_used_ = false;
  lost_at_ = std::max(lost_at_, sent_at + span_);
  return true;
}

void LeaseTerm::OnRejoin(MonotonicTime now) {
  if (!std::exchange(grace_used_, true)) lost_at_ = std::max(lost_at_, now + span_);
}

}  // namespace understudy::replication
