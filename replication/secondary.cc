// The states and their events. What is not listed is ignored; calls of the primary are refused.
//
//   kJoining     dial, join, store. Append with member: kProtected. Link lost after it was joined: dial, and
//                read the register now and then, because the word that this node is a member may have been
//                lost with the link: kProtected.
//   kProtected   store. Link lost: dial at once; the same primary takes this node back in the same epoch.
//                Joined in a later epoch: kJoining (the primary went on without this node).
//                No append for suspect_after, or the process's last word, or asked by handover: kAsking,
//                unless there is no carrier: wait for it. A dial that is refused says nothing: firewalls
//                refuse for the living.
//   kAsking      nothing is stored or answered any more: an answer would prolong the primary's lease.
//                Granted: kTakingOver. The primary went on alone: kJoining. Otherwise kSilent.
//                Answer lost: read; unchanged: ask again, until one answer is definite.
//   kTakingOver, kSilent   nothing.
#include "replication/secondary.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace understudy::replication {

using wire::RefuseReason;

SecondaryCore::SecondaryCore(ProtocolConfig config, Log* log, MonotonicTime now)
    : config_(std::move(config)), receiver_(config_, log, now, actions_), heir_(config_) {}

SecondaryCore::State SecondaryCore::state() const {
  if (end_ == End::kSilent) return State::kSilent;
  if (end_ == End::kTakingOver) return State::kTakingOver;
  if (heir_.asking()) return State::kAsking;
  return receiver_.following().member ? State::kProtected : State::kJoining;
}

const std::string& SecondaryCore::why() const {
  if (end_ == End::kSilent) return why_silent_;
  return end_ == End::kTakingOver || heir_.asking() ? heir_.takeover_why() : receiver_.why();
}

// --- The link ------------------------------------------------------------------------------------

void SecondaryCore::After(Receiver::Change change, MonotonicTime now) {
  switch (change) {
    case Receiver::Change::kNone:
    case Receiver::Change::kJoined: return;
    case Receiver::Change::kLost: heir_.FindOutMembership(receiver_.following(), actions_); break;
    case Receiver::Change::kDialFailed: break;
  }
  MaybeAsk(now);
}

void SecondaryCore::OnDialed(DialResult result, MonotonicTime now) {
  After(receiver_.OnDialed(result, now, actions_), now);
}

void SecondaryCore::OnJoinReply(const wire::JoinReply& reply, MonotonicTime now) {
  const Receiver::Change change = receiver_.OnJoinReply(reply, now, actions_);
  if (change == Receiver::Change::kJoined) {
    heir_.OnJoined(reply.last_word_hash, receiver_.following(), actions_);
  }
  After(change, now);
}

void SecondaryCore::OnRefused(const wire::Refused& refused, MonotonicTime now) {
  After(receiver_.OnRefused(refused, now, actions_), now);
}

void SecondaryCore::OnLinkDown(const std::string& reason, MonotonicTime now) {
  After(receiver_.OnLinkDown(reason, now, actions_), now);
}

// --- The primary's calls -------------------------------------------------------------------------

SecondaryCore::AppendOutcome SecondaryCore::OnAppend(wire::AppendRequest request, Lsn applied_lsn,
                                                     MonotonicTime now) {
  if (end_ == End::kSilent) {
    return {receiver_.Refuse(RefuseReason::NEEDS_STATE_TRANSFER, why_silent_), {}};
  }
  if (!Active()) {
    return {
        receiver_.Refuse(RefuseReason::WRONG_EPOCH,
                         absl::StrCat(config_.self.name, " has asked to take over: ", heir_.takeover_why())),
        {}};
  }
  Receiver::AppendOutcome outcome = receiver_.OnAppend(std::move(request), applied_lsn, now, actions_);
  if (outcome.refused.has_value()) return {std::move(outcome.refused), {}};
  if (outcome.news) heir_.OnNews(receiver_.following(), actions_);
  outcome.reply.cannot_take_over = cannot_take_over();
  return {std::nullopt, std::move(outcome.reply)};
}

bool SecondaryCore::OnPulse(uint64_t epoch, int32_t version, MonotonicTime now) {
  return receiver_.OnPulse(epoch, version, now);
}

bool SecondaryCore::OnLastWord(std::string_view word, MonotonicTime now) {
  if (!heir_.OnLastWord(word)) return false;
  MaybeAsk(now);
  return true;
}

SecondaryCore::HandoverOutcome SecondaryCore::OnHandover(const wire::HandoverRequest& request,
                                                         MonotonicTime now) {
  HandoverOutcome outcome;
  outcome.refused = receiver_.CheckHandover(request);
  if (!outcome.refused.has_value() && !heir_.carrier_up()) {
    outcome.refused =
        receiver_.Refuse(RefuseReason::NOT_JOINED, "the service interface has no carrier here either");
  }
  if (!outcome.refused.has_value() && !heir_.obstacle().empty()) {
    outcome.refused = receiver_.Refuse(RefuseReason::NOT_JOINED, heir_.obstacle());
  }
  if (outcome.refused.has_value()) return outcome;
  outcome.reply.epoch = request.epoch;
  receiver_.Heard(now);
  AskToTakeOver(absl::StrCat("handover: ", request.why));
  return outcome;
}

// --- Taking over ---------------------------------------------------------------------------------

void SecondaryCore::MaybeAsk(MonotonicTime now) {
  const Following& following = receiver_.following();
  if (!Active() || !following.member || !heir_.CanServe() || !heir_.Suspicious(following, now)) return;
  const std::string why = heir_.Suspicion(following);
  receiver_.CloseLinkFor(why, actions_);
  AskToTakeOver(why);
}

void SecondaryCore::AskToTakeOver(const std::string& why) {
  receiver_.Stop();
  heir_.AskToTakeOver(why, receiver_.following(), actions_);
}

void SecondaryCore::OnArbiter(const absl::StatusOr<Arbiter::Outcome>& outcome, MonotonicTime now) {
  if (end_ != End::kNone) return;
  const Heir::Answer answer = heir_.OnArbiter(outcome, receiver_.following(), now, actions_);
  switch (answer.verdict) {
    case Heir::Verdict::kNothing: break;
    case Heir::Verdict::kMember:
      // Heard now, not when the link was lost: the primary's last lease of its own may be younger than that.
      receiver_.BecomeMember(answer.current.epoch, now);
      MaybeAsk(now);
      break;
    case Heir::Verdict::kGranted:
      end_ = End::kTakingOver;
      actions_.push_back(TakeOver{answer.current, stored_lsn(), heir_.takeover_why()});
      break;
    case Heir::Verdict::kPrimaryWentOn:
      heir_.Resign();
      receiver_.StartAnew(absl::StrCat("the primary went on: ", answer.current.ToString()), actions_);
      break;
    case Heir::Verdict::kOthers:
      BecomeSilent(absl::StrCat("the service is another's: ", answer.current.ToString()));
      break;
  }
}

void SecondaryCore::OnArbiterChecked(const absl::StatusOr<std::optional<Register>>& seen, MonotonicTime now) {
  heir_.OnArbiterChecked(seen, receiver_.following(), now, actions_);
}

void SecondaryCore::BecomeSilent(const std::string& why) {
  end_ = End::kSilent;
  why_silent_ = why;
  receiver_.CloseLinkFor(why, actions_);
  receiver_.Stop();
  heir_.Resign();
}

void SecondaryCore::OnCopyUnusable(const std::string& what, MonotonicTime) {
  if (end_ != End::kNone) return;
  BecomeSilent(absl::StrCat("this copy is unusable: ", what));
}

void SecondaryCore::OnServiceCarrier(bool up, MonotonicTime now) {
  heir_.OnServiceCarrier(up);
  if (up) MaybeAsk(now);
}

void SecondaryCore::OnObstacle(const std::string& what, MonotonicTime now) {
  heir_.OnObstacle(what);
  if (what.empty()) MaybeAsk(now);
}

// --- Time ----------------------------------------------------------------------------------------

void SecondaryCore::OnTick(MonotonicTime now) {
  MaybeAsk(now);
  After(receiver_.OnTick(now, actions_), now);
  heir_.OnTick(Active(), receiver_.following(), now, actions_);
}

MonotonicTime SecondaryCore::NextTick() const {
  return std::min(receiver_.NextTick(), heir_.NextTick(Active(), receiver_.following()));
}

Actions SecondaryCore::Take() { return std::exchange(actions_, {}); }

void SecondaryCore::CheckInvariants() const {
  receiver_.CheckInvariants();
  heir_.CheckInvariants();
  if (heir_.asking() || end_ != End::kNone) CHECK(receiver_.stopped());
}

}  // namespace understudy::replication
