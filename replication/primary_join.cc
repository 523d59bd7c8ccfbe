// PrimaryCore: whom it lets join. See primary.h.
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "replication/join_check.h"
#include "replication/primary.h"

namespace understudy::replication {

using wire::RefuseReason;

wire::Refused PrimaryCore::Refuse(RefuseReason::type reason, std::string detail) const {
  wire::Refused refused;
  refused.reason = reason;
  refused.detail = std::move(detail);
  refused.epoch = static_cast<int64_t>(held().epoch);
  return refused;
}

PrimaryCore::JoinOutcome PrimaryCore::OnJoin(const wire::JoinRequest& request, MonotonicTime now) {
  JoinOutcome outcome;
  outcome.refused = CheckJoin(request, now);
  if (outcome.refused.has_value()) {
    if (OwnsAlone() && !peer_.connected())
      why_alone_ = absl::StrCat(request.node, " was refused: ", outcome.refused->detail);
    return outcome;
  }
  SetId(config_.self, outcome.reply);
  outcome.reply.epoch = static_cast<int64_t>(held().epoch);
  outcome.reply.next_lsn = request.last_lsn + 1;
  outcome.reply.suspect_after_ms = static_cast<int32_t>(config_.suspect_after.count());
  outcome.reply.last_word_hash = config_.last_word_hash;
  version_ = VersionWith(config_, request).value();  // checked
  outcome.reply.protocol_version = version_;
  Link(request, now);
  return outcome;
}

PrimaryCore::Refusal PrimaryCore::CheckJoin(const wire::JoinRequest& request, MonotonicTime now) {
  std::optional<JoinFault> fault = FaultOfJoiner(config_, request);
  if (!fault.has_value()) fault = FaultOfSettings(config_, request);
  if (fault.has_value()) return Refuse(fault->reason, fault->detail);
  if (state_ == State::kDeposed || Waits()) {
    return Refuse(RefuseReason::NOT_PRIMARY, absl::StrCat(config_.self.name, " serves no more"));
  }
  if (static_cast<uint64_t>(request.epoch) > held().epoch) {
    // Perhaps the epoch is over, and this node has not heard of it.
    membership_.ReadSoon(now + config_.heartbeat);
    return Refuse(RefuseReason::WRONG_EPOCH, absl::StrCat("epoch ", request.epoch, " is unknown here"));
  }
  return gate_ == Gate::kShared ? CheckResume(request, now) : CheckFreshJoin(request);
}

// All records of one epoch of this object come from its own log. Those of an older epoch may have a
// tail that nobody else ever stored.
bool PrimaryCore::LogFits(const wire::JoinRequest& request, Lsn at_least) const {
  const Lsn last = static_cast<Lsn>(request.last_lsn);
  const bool same_log = last == 0 || static_cast<uint64_t>(request.epoch) >= first_epoch_;
  return same_log && last >= at_least && last + 1 >= keep_from_ && log_->Reaches(last + 1);
}

PrimaryCore::Refusal PrimaryCore::CheckFreshJoin(const wire::JoinRequest& request) const {
  if (peer_.connected() && request.node != peer()) {
    return Refuse(RefuseReason::ALREADY_HAVE_ONE, absl::StrCat(peer(), " is catching up"));
  }
  const bool moves = request.applied_lsn == request.last_lsn || !stuck_.has_value() ||
                     static_cast<Lsn>(request.applied_lsn) > stuck_->applied_lsn;
  if (stuck_.has_value() && stuck_->node == request.node && !moves) {
    return Refuse(
        RefuseReason::NOT_REPLAYING,
        absl::StrCat("the replay of ", request.node, " still hangs behind record ", request.applied_lsn));
  }
  if (!LogFits(request, 0)) {
    return Refuse(
        RefuseReason::NEEDS_STATE_TRANSFER,
        absl::StrCat("the log behind ", request.last_lsn, " of epoch ", request.epoch,
                     " is not here; it ends at ", last_lsn(),
                     ". A node can join only while the primary has all of its log. To be a pair again: stop "
                     "both, then start ",
                     config_.self.name, " with --role=primary and ", request.node,
                     " with --role=secondary; clients are cut off meanwhile"));
  }
  return std::nullopt;
}

// The register names a secondary, or may. Only that node can come back, and only with all that it
// has acknowledged: otherwise it is a new life of the node, and the register speaks of the former.
PrimaryCore::Refusal PrimaryCore::CheckResume(const wire::JoinRequest& request, MonotonicTime now) {
  const std::string& member = held().secondary.empty() ? peer() : held().secondary;
  if (request.node != member) {
    return Refuse(RefuseReason::ALREADY_HAVE_ONE,
                  absl::StrCat(member.empty() ? "another node" : member,
                               " is the secondary: a pair has two nodes, stop one of these"));
  }
  const bool changing = state_ == State::kAlone && (membership_.changing() || held().secondary.empty());
  if (changing) {
    return Refuse(RefuseReason::ALREADY_HAVE_ONE,
                  absl::StrCat(config_.self.name, " is about to serve alone; ask again"));
  }
  if (!LogFits(request, stable_lsn())) {
    if (state_ != State::kAlone) {
      EnterAlone(absl::StrCat(member, " came back without its log"), now);
    }
    return Refuse(RefuseReason::ALREADY_HAVE_ONE,
                  absl::StrCat("the former life of ", member, " is the secondary still; ask again"));
  }
  return std::nullopt;
}

void PrimaryCore::Link(const wire::JoinRequest& request, MonotonicTime now) {
  peer_id_ = IdOf(request);
  peer_.Connect(request.node, static_cast<Lsn>(request.last_lsn), static_cast<Lsn>(request.applied_lsn), now);
  dialing_ = false;
  stuck_.reset();
  if (gate_ == Gate::kClosing) gate_ = Gate::kOpen;
  if (gate_ == Gate::kShared) {
    lease_.OnRejoin(now);
    if (state_ == State::kAlone) {
      state_ = State::kProtected;
      membership_.DoNotRead();
    }
  }
  SendWaiting(now);
  if (!peer_.waits_since().has_value()) SendOne(now);
  Advance();
  if (state_ == State::kProtected && !carrier_up_) StartHandover("no carrier", now);
}

}  // namespace understudy::replication
