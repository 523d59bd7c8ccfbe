#include "replication/heir.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "replication/last_word.h"
#include "replication/names.h"

namespace understudy::replication {
namespace {
// An arbiter that takes longer will not be there when it is needed.
constexpr milliseconds kCheckPatience(1000);
}  // namespace

// --- The primary ---------------------------------------------------------------------------------

void Heir::OnJoined(const std::string& last_word_hash, const Following& following, Actions& out) {
  last_word_hash_ = last_word_hash;
  process_gone_ = false;
  ask_at_.reset();
  CheckArbiterNow(following, out);
}

// The register has changed, says the primary; is it so here too?
void Heir::OnNews(const Following& following, Actions& out) {
  cannot_take_over_ = kNotChecked;
  CheckArbiterNow(following, out);
}

bool Heir::OnLastWord(std::string_view word) {
  if (last_word_hash_.empty() || HashOfLastWord(word) != last_word_hash_) return false;
  process_gone_ = true;
  return true;
}

bool Heir::Suspicious(const Following& following, MonotonicTime now) const {
  return process_gone_ || now >= following.last_heard + config_.suspect_after;
}

std::string Heir::Suspicion(const Following& following) const {
  return process_gone_ ? absl::StrCat("the process of ", following.primary, " is gone")
                       : absl::StrCat(following.primary, " is silent");
}

// --- Taking over ---------------------------------------------------------------------------------

void Heir::AskToTakeOver(const std::string& why, const Following& following, Actions& out) {
  asking_ = true;
  takeover_why_ = why;
  ask_at_.reset();
  expected_ = Register{following.epoch, following.primary, config_.self.name};
  // A read from before may be on its way still; its answer starts the swap.
  if (asked_ == Asked::kNothing) Swap(out);
}

void Heir::Swap(Actions& out) {
  asked_ = Asked::kSwap;
  out.push_back(SwapRegister{expected_, TakenOverBy(expected_, config_.self.name)});
}

void Heir::AskAgain(MonotonicTime now, Actions& out) {
  if (CanServe()) return Swap(out);
  ask_at_ = now + config_.suspect_after;
}

void Heir::Read(Actions& out) {
  CHECK(asked_ == Asked::kNothing);
  ask_at_.reset();
  asked_ = Asked::kRead;
  out.push_back(ReadRegister{});
}

void Heir::FindOutMembership(const Following& following, Actions& out) {
  if (!following.member && asked_ == Asked::kNothing) Read(out);
}

void Heir::Resign() {
  asking_ = false;
  ask_at_.reset();
}

Heir::Answer Heir::OnArbiter(const absl::StatusOr<Arbiter::Outcome>& outcome, const Following& following,
                             MonotonicTime now, Actions& out) {
  const Asked asked = std::exchange(asked_, Asked::kNothing);
  if (asked == Asked::kNothing) return {};
  if (!outcome.ok()) {
    if (asking_ || !following.joined) ask_at_ = now + 2 * config_.heartbeat;
    return {};
  }
  if (!asking_) return JudgeMembership(outcome->current, following, now);
  const bool swapped = asked == Asked::kSwap && outcome->swapped;
  if (swapped || outcome->current == TakenOverBy(expected_, config_.self.name)) {
    asking_ = false;
    return {Verdict::kGranted, outcome->current};
  }
  return JudgeTakeover(outcome->current, asked == Asked::kSwap, following, now, out);
}

// While the link is lost: has the primary made this node a member before it went?
Heir::Answer Heir::JudgeMembership(const Register& current, const Following& following, MonotonicTime now) {
  if (following.member || following.joined || following.epoch == 0) return {};
  if (current == Register{following.epoch + 1, following.primary, config_.self.name}) {
    return {Verdict::kMember, current};
  }
  // Not yet. The primary's request may still be on its way, and nobody else may be left to tell.
  ask_at_ = now + config_.suspect_after;
  return {};
}

Heir::Answer Heir::JudgeTakeover(const Register& current, bool swap_failed, const Following& following,
                                 MonotonicTime now, Actions& out) {
  const bool from_before = !swap_failed && current.epoch < following.epoch;  // it became a member since
  if (from_before || (current == expected_ && !swap_failed)) {
    AskAgain(now, out);
    return {};
  }
  if (current == expected_) {
    // The arbiter contradicts itself. Not in a tight loop.
    ask_at_ = now + 2 * config_.heartbeat;
    return {};
  }
  const bool went_on = current.holder == following.primary && current.epoch > following.epoch;
  return {went_on ? Verdict::kPrimaryWentOn : Verdict::kOthers, current};
}

// --- Could this node take over? ------------------------------------------------------------------

void Heir::CheckArbiterNow(const Following& following, Actions& out) {
  check_at_.reset();
  check_stale_ = checking_;
  if (checking_) return;
  checking_ = true;
  check_since_ = following.last_heard;
  out.push_back(CheckArbiter{});
}

void Heir::OnArbiterChecked(const absl::StatusOr<std::optional<Register>>& seen, const Following& following,
                            MonotonicTime now, Actions& out) {
  checking_ = false;
  if (std::exchange(check_stale_, false)) return CheckArbiterNow(following, out);
  if (!seen.ok()) {
    cannot_take_over_ =
        absl::StrCat("it cannot use the arbiter: ", Printable(std::string(seen.status().message()), 300));
  } else if (!seen->has_value()) {
    cannot_take_over_.clear();
  } else {
    const Register& reg = **seen;
    const uint64_t epoch = following.epoch;
    // Not a member yet: the register may be one step ahead of what the primary has said. Never behind.
    const bool fits = following.member
                          ? reg == Register{epoch, following.primary, config_.self.name}
                          : reg.holder == following.primary && (reg.epoch == epoch || reg.epoch == epoch + 1);
    cannot_take_over_ =
        fits ? ""
             : absl::StrCat("its arbiter says \"", reg.ToString(), "\", and ", following.primary,
                            " serves in epoch ", epoch, ": is --arbiter the same for both?");
  }
  check_at_ = now + (cannot_take_over_.empty() ? config_.check_every : config_.check_again);
}

// --- Time ----------------------------------------------------------------------------------------

void Heir::OnTick(bool active, const Following& following, MonotonicTime now, Actions& out) {
  if (active) {
    if (checking_ && now >= check_since_ + kCheckPatience) cannot_take_over_ = "the arbiter does not answer";
    if (check_at_.has_value() && now >= *check_at_ && following.joined) {
      CheckArbiterNow(following, out);
      check_since_ = now;
    }
  }
  if (ask_at_.has_value() && now >= *ask_at_ && asked_ == Asked::kNothing) Read(out);
}

MonotonicTime Heir::NextTick(bool active, const Following& following) const {
  MonotonicTime next = MonotonicTime::max();
  if (active) {
    if (check_at_.has_value() && following.joined) next = *check_at_;
    if (following.member && CanServe()) next = std::min(next, following.last_heard + config_.suspect_after);
  }
  if (ask_at_.has_value() && asked_ == Asked::kNothing) next = std::min(next, *ask_at_);
  return next;
}

void Heir::CheckInvariants() const {
  if (asking_) CHECK(asked_ != Asked::kNothing || ask_at_.has_value());
}

}  // namespace understudy::replication
