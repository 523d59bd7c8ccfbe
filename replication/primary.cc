// The states and their events. "Lost": the secondary has not answered for a lease's span, or its
// process is proven gone. What is not listed is ignored.
//
//   kSolo        append: stable at once; with a joiner all of whose log is on its way: sent, stable when
//                answered. Joiner has all: ask JoinedBy, from then on the lease is its answers (kShared).
//                Link down: forget the joiner; kShared: kAlone. Lost (kShared): kAlone.
//   kProtected   append: sent, stable when answered. Link down: dial once, wait for the node to come back
//                until it is lost. Lost, or its process gone, or back without the log: kAlone.
//                Carrier down, or OnHandoverWanted: kHandingOver.
//   kAlone       ask GoneSolo, unless the carrier is down: then poll the register, and take the secondary
//                back if it joins. No new lease; FallSilent when the old one has run out.
//   kHandingOver silent. Refused, link down, or nothing happens: kAlone when there is a carrier,
//                else poll.
//   kReplaced    silent. The register has gone to the secondary. Poll it: given back, take it up again
//                (kSolo; nothing is lost, for the secondary has not served), with a carrier. Still the
//                secondary's after give_back_wait, or another's: kDeposed.
//   kDeposed     nothing.
//
// Any state: the register names another holder: kReplaced if it is the secondary, else kDeposed. The
// register shows something this node has asked for: that is what it holds now. While nothing happens it is
// read every register_check; an arbiter that does not answer, or has nothing written any more, has granted
// nothing to anybody else: the node serves on.
//
// While it is not known whether JoinedBy was granted (membership.h), the node acts as if it had been.
//
// Why a lease never overlaps with a takeover: under kShared a lease runs LeaseTerm::span from the sending
// of an append that the secondary has answered, that is, heard later; and the secondary waits
// longer than that from the newest append it heard. The last lease of kOpen and kClosing is given
// before JoinedBy is asked for; the secondary learns of its membership later than that, and its
// wait begins no earlier.
#include "replication/primary.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace understudy::replication {

using wire::RefuseReason;

PrimaryCore::PrimaryCore(ProtocolConfig config, Register held, Log* log, MonotonicTime now)
    : config_(std::move(config)),
      first_epoch_(held.epoch),
      log_(log),
      stability_(log->last_lsn(), config_.max_unstable_bytes),
      peer_(log, {config_.max_catch_up_bytes, config_.max_replay_lag}),
      lease_(config_.suspect_after - config_.lease_guard, now),
      membership_(std::move(held), {2 * config_.heartbeat, config_.register_check}, now),
      keep_from_(log->first_lsn()),
      alone_since_(now) {
  why_alone_ = last_lsn() == 0 ? "no node has joined yet" : "it took over, and no node has joined since";
  CHECK_EQ(this->held().holder, config_.self.name);
  CHECK(this->held().secondary.empty()) << this->held().ToString();
  CHECK_GT(config_.suspect_after.count(), config_.lease_guard.count());
  SayStable();
  ExtendLease(now + lease_.span(), now);
}

bool PrimaryCore::CanAppend() const {
  if (state_ == State::kDeposed || Waits()) return false;
  // Who catches up is not waited for: it gets less.
  const bool waits_for_replay = gate_ != Gate::kOpen && peer_.ReplayLags();
  return stability_.HasRoom() && !waits_for_replay;
}

// --- The log -------------------------------------------------------------------------------------

void PrimaryCore::OnAppended(RecordBatch batch, Lsn executed_lsn, uint64_t output_hash, MonotonicTime now) {
  if (state_ == State::kDeposed || batch.empty()) return;
  const OutputHash hash{executed_lsn, output_hash};
  stability_.OnAppended(batch.last_lsn(), batch.bytes().size());
  log_->Append(std::move(batch), held().epoch, {&hash, 1});
  if (Waits()) return;
  SendWaiting(now);
  Advance();
}

// One append with the next records there are to send; without any it is a heartbeat.
void PrimaryCore::SendOne(MonotonicTime now) {
  const bool with_records = gate_ != Gate::kOpen || !peer_.ReplayLags();
  SendAppend send{peer_.Next(held().epoch, with_records, now)};
  send.request.member = !held().secondary.empty() && held().secondary == peer();
  actions_.push_back(std::move(send));
}

// A joiner that is slower than what is appended: the log that it would need next is not kept for it.
bool PrimaryCore::FellBehind(MonotonicTime now) {
  if (!peer_.FellBehind(keep_from_)) return false;
  Breach(absl::StrCat(peer(), " fell behind: the log from ", peer_.next_lsn(), " on is gone"), now);
  return true;
}

// While the gate is open a joiner gets no more than it can take; behind a closing gate the log
// itself is bounded (CanAppend).
void PrimaryCore::SendWaiting(MonotonicTime now) {
  if (!peer_.connected() || FellBehind(now)) return;
  while (!peer_.HasBeenSentAll() && (gate_ != Gate::kOpen || peer_.MayBeSentMore())) SendOne(now);
}

void PrimaryCore::Advance() {
  const bool alone = state_ == State::kSolo && gate_ == Gate::kOpen;
  if (!alone && !peer_.connected()) return;  // nobody is there who could have stored more
  const Lsn stored = peer_.stored_lsn();
  if (!stability_.Update(alone ? absl::Span<const Lsn>() : absl::MakeConstSpan(&stored, 1))) return;
  keep_from_ = log_->StartOfNewest(config_.retain_bytes, stable_lsn());
  log_->TruncateBefore(keep_from_);
  SayStable();
}

// Also when it has not moved, where something else has ended for which clients may have had to wait
// (CanAppend): those that are not read from append nothing by themselves.
void PrimaryCore::SayStable() { actions_.push_back(StableUpTo{stable_lsn()}); }

// --- The link ------------------------------------------------------------------------------------

void PrimaryCore::OnAppendReply(const wire::AppendReply& reply, MonotonicTime now) {
  if (!peer_.connected()) return;
  const bool had_room = CanAppend();
  if (const std::string fault = peer_.OnReply(reply, now); !fault.empty()) {
    Breach(absl::StrCat(peer(), " broke the protocol: ", fault), now);
    return;
  }
  if (gate_ == Gate::kShared) Answered(FromNs(reply.sent_at_ns), now);
  const Lsn stable = stable_lsn();
  Advance();
  if (!had_room && CanAppend() && stable == stable_lsn()) SayStable();
  CheckReplay(FromNs(reply.sent_at_ns), now);
  if (state_ == State::kHandingOver || !peer_.connected()) return;
  SendWaiting(now);
  MaybeTakeOn(now);
}

std::optional<uint64_t> PrimaryCore::pulse_epoch() const {
  const bool shared = peer_.connected() && gate_ == Gate::kShared && state_ != State::kHandingOver;
  return shared ? std::optional(held().epoch) : std::nullopt;
}

void PrimaryCore::OnPulseAnswered(uint64_t epoch, MonotonicTime sent_at, MonotonicTime now) {
  if (epoch == pulse_epoch()) Answered(sent_at, now);
}

// The secondary has heard, later than `sent_at`, that this node lives.
void PrimaryCore::Answered(MonotonicTime sent_at, MonotonicTime now) {
  if (lease_.OnAnswer(sent_at) && state_ != State::kHandingOver) ExtendLease(sent_at + lease_.span(), now);
}

// Closes the gate behind a joiner that has been sent everything, and asks for it once it has stored
// everything that is stable without it.
void PrimaryCore::MaybeTakeOn(MonotonicTime now) {
  if (!OwnsAlone() || !peer_.connected() || !peer_.HasBeenSentAll()) return;
  if (!peer_cannot_take_over().empty()) return;
  gate_ = Gate::kClosing;
  if (peer_.stored_lsn() < stable_lsn() || membership_.asking()) return;
  ExtendLease(now + lease_.span(), now);
  gate_ = Gate::kShared;
  lease_.Share();
  membership_.Ask(JoinedBy(held(), peer()), actions_);
}

void PrimaryCore::OnHandoverReply(const wire::HandoverReply& reply, MonotonicTime now) {
  if (!peer_.connected()) return;
  if (state_ != State::kHandingOver || reply.epoch != static_cast<int64_t>(held().epoch)) {
    Breach(absl::StrCat(peer(), " broke the protocol: an answer to no handover"), now);
  }
  // The register will tell.
}

void PrimaryCore::OnRefused(const wire::Refused& refused, MonotonicTime now) {
  if (!peer_.connected()) return;
  const std::string reason = absl::StrCat(peer(), " refused: ", refused.detail);
  Breach(reason, now);
  // A member that needs a state transfer will never take over; there is nothing to wait for.
  if (refused.reason == RefuseReason::NEEDS_STATE_TRANSFER && state_ == State::kProtected) {
    EnterAlone(reason, now);
  }
}

void PrimaryCore::Breach(const std::string& reason, MonotonicTime now) {
  actions_.push_back(CloseLink{reason});
  LinkLost(reason, now);
}

void PrimaryCore::OnLinkDown(const std::string& reason, MonotonicTime now) {
  if (!peer_.connected()) return;
  const bool find_out = state_ == State::kProtected;
  LinkLost(reason, now);
  if (find_out) {
    dialing_ = true;
    actions_.push_back(Dial{});
  }
}

void PrimaryCore::LinkLost(const std::string& reason, MonotonicTime now) {
  const bool had_room = CanAppend();
  peer_.Disconnect();
  if (!had_room && CanAppend()) SayStable();  // nobody's replay to wait for
  switch (state_) {
    case State::kSolo:
      if (gate_ == Gate::kShared) {
        EnterAlone(reason, now);
      } else {
        gate_ = Gate::kOpen;
        BeAlone(peer_.has_answered() ? absl::StrCat(peer(), " was lost while it caught up: ", reason)
                                     : absl::StrCat(peer(), " was lost before it answered anything: ", reason,
                                                    "; ", SlowLinkAdvice(config_.suspect_after)),
                now);
        peer_.Forget();
        Advance();
      }
      break;
    case State::kHandingOver:
      // Without a carrier there is nothing to go back to: the secondary will notice by itself.
      if (carrier_up_) EnterAlone(reason, now);
      break;
    case State::kProtected:
    case State::kAlone:
    case State::kReplaced:
    case State::kDeposed: break;
  }
}

void PrimaryCore::CloseAndDisconnect(const std::string& reason) {
  if (!peer_.connected()) return;
  actions_.push_back(CloseLink{reason});
  peer_.Disconnect();
}

void PrimaryCore::OnDialed(DialResult result, MonotonicTime now) {
  if (!dialing_) return;
  dialing_ = false;
  if (result == DialResult::kRefused && state_ == State::kProtected && !peer_.connected()) {
    EnterAlone(absl::StrCat("nothing listens at ", peer(), " any more"), now);
  }
}

// --- The right to serve --------------------------------------------------------------------------

void PrimaryCore::ExtendLease(MonotonicTime until, MonotonicTime now) {
  if (lease_.Extend(until, now)) actions_.push_back(Lease{lease_.until()});
}

void PrimaryCore::OnAbsence(MonotonicTime now) { lease_.OnAbsence(now); }

void PrimaryCore::BeSilent(const std::string& reason) {
  if (lease_.BeSilent()) actions_.push_back(FallSilent{reason});
}

void PrimaryCore::BeAlone(std::string why, MonotonicTime now) {
  why_alone_ = std::move(why);
  alone_since_ = now;
}

// Clients notice nothing as long as the old lease lasts; often the arbiter answers within it.
void PrimaryCore::EnterAlone(const std::string& why, MonotonicTime now) {
  CloseAndDisconnect(why);
  if (std::exchange(state_, State::kAlone) == State::kHandingOver) SayStable();
  dialing_ = false;
  BeAlone(why, now);
  if (lease_.Expired(now)) BeSilent(why);
  AskNext(now);
}

void PrimaryCore::StartHandover(const std::string& why, MonotonicTime now) {
  gate_ = Gate::kShared;
  while (!peer_.HasBeenSentAll()) SendOne(now);
  BeSilent(absl::StrCat("handing over to ", peer(), ": ", why));
  // Given up, not run out: none of it is left if the handover fails.
  lease_.End(now);
  state_ = State::kHandingOver;
  SendHandover send;
  send.request.epoch = static_cast<int64_t>(held().epoch);
  send.request.last_lsn = static_cast<int64_t>(last_lsn());
  send.request.why = why;
  actions_.push_back(std::move(send));
  membership_.ReadAt(now + config_.suspect_after);
}

void PrimaryCore::OnServiceCarrier(bool up, MonotonicTime now) {
  if (up == carrier_up_) return;
  carrier_up_ = up;
  if (!up) {
    if (state_ == State::kProtected && peer_.connected()) StartHandover("no carrier", now);
    return;
  }
  if (state_ == State::kAlone) AskNext(now);
  if (state_ == State::kHandingOver && !peer_.connected()) EnterAlone("the handover failed", now);
}

absl::Status PrimaryCore::OnHandoverWanted(const std::string& why, MonotonicTime now) {
  if (state_ != State::kProtected) {
    return absl::FailedPreconditionError("there is no secondary to hand over to");
  }
  if (!peer_.connected()) {
    return absl::FailedPreconditionError(absl::StrCat("the link to ", held().secondary, " is down"));
  }
  StartHandover(why, now);
  return absl::OkStatus();
}

// --- The arbiter ---------------------------------------------------------------------------------

// The next question, of a state that has one.
void PrimaryCore::AskNext(MonotonicTime now) {
  if (!membership_.ReadyToAsk(now)) return;
  if (state_ == State::kAlone && carrier_up_) {
    membership_.Ask(GoneSolo(held()), actions_);
  } else if (state_ == State::kSolo && gate_ == Gate::kShared) {
    membership_.Ask(JoinedBy(held(), peer()), actions_);
  } else if (state_ == State::kAlone || state_ == State::kHandingOver) {
    membership_.ReadAt(now + config_.suspect_after);
  }
}

void PrimaryCore::OnArbiter(const absl::StatusOr<Arbiter::Outcome>& outcome, MonotonicTime now) {
  if (!membership_.asking() || state_ == State::kDeposed) return;
  const Membership::Answer answer = membership_.OnArbiter(outcome, Serves(), now);
  switch (answer.verdict) {
    case Membership::Verdict::kNothing: break;
    case Membership::Verdict::kGranted: OnGranted(now); break;
    case Membership::Verdict::kUnchanged:
      if (state_ == State::kHandingOver && carrier_up_) {
        EnterAlone("nobody has taken over", now);
      } else {
        AskNext(now);
      }
      break;
    case Membership::Verdict::kOthers: OnReplaced(answer.current, now); break;
  }
  if (outcome.ok()) MaybeTakeOn(now);
}

// What has been asked for.
void PrimaryCore::OnGranted(MonotonicTime now) {
  if (held().secondary.empty()) {
    state_ = State::kSolo;
    gate_ = Gate::kOpen;
    if (!peer_.connected()) peer_.Forget();
    ExtendLease(now + lease_.span(), now);
    if (stable_lsn() == last_lsn()) SayStable();
    Advance();
    return;
  }
  gate_ = Gate::kShared;
  if (!peer_.connected() || peer() != held().secondary) {
    EnterAlone(absl::StrCat(held().secondary, " was lost while it joined"), now);
    return;
  }
  state_ = State::kProtected;
  SendOne(now);  // tells it
  if (!carrier_up_) StartHandover("no carrier", now);
}

// The register is not what this node holds, and nothing that it has asked for.
void PrimaryCore::OnReplaced(const Register& current, MonotonicTime now) {
  const Register taken = TakenOverBy(held(), held().secondary);
  const bool given_back = !held().secondary.empty() && current == GivenBack(taken, config_.self.name);
  const bool by_secondary = !held().secondary.empty() && current == taken;
  if (!by_secondary && !given_back) return Depose(current);
  if (state_ != State::kReplaced) EnterReplaced(current, now);
  if (given_back && carrier_up_) {
    // The secondary has shown nothing to any client: this log is the service's, whole.
    membership_.Ask(current, TakenUpBy(current, config_.self.name), actions_);
  } else if (by_secondary && now >= replaced_until_) {
    Depose(current);
  } else {
    membership_.ReadAt(now + config_.suspect_after);
  }
}

void PrimaryCore::EnterReplaced(const Register& current, MonotonicTime now) {
  const std::string reason = absl::StrCat("the service is another's: ", current.ToString());
  BeSilent(reason);
  CloseAndDisconnect(reason);
  state_ = State::kReplaced;
  gate_ = Gate::kShared;
  dialing_ = false;
  membership_.DropWishes();
  BeAlone(reason, now);
  replaced_until_ = now + config_.give_back_wait;
}

void PrimaryCore::Depose(const Register& current) {
  const std::string reason =
      current.holder == config_.self.name
          ? absl::StrCat("the register is not that of this process: ", current.ToString())
          : absl::StrCat("the service is another's: ", current.ToString());
  BeSilent(reason);
  CloseAndDisconnect(reason);
  state_ = State::kDeposed;
  gate_ = Gate::kShared;
  dialing_ = false;
  membership_.Resign();
  actions_.push_back(Deposed{reason, current});
}

// --- Time ----------------------------------------------------------------------------------------

// One that catches up has no part in the lease, but it must not hold the link for ever.
void PrimaryCore::CheckJoiner(MonotonicTime now) {
  if (!OwnsAlone() || !peer_.connected() || !peer_.waits_since().has_value()) return;
  if (now < *peer_.waits_since() + config_.suspect_after) return;
  Breach(absl::StrCat(peer(), " has stopped answering"), now);
}

// Its copy is of no use while it does not replay, and at the bound of the lag it would hold this node up, or
// never have all of the log. `told_at`: what it says of its replay is from no earlier. (Not the time of now:
// this node may have stood still.)
void PrimaryCore::CheckReplay(MonotonicTime told_at, MonotonicTime now) {
  if (!peer_.connected() || !Serves()) return;
  if (gate_ != Gate::kShared && !peer_.ReplayLags()) return;
  if (peer_.applied_lsn() >= peer_.stored_lsn()) return;
  if (told_at < peer_.replay_moved_at() + config_.max_stall) return;
  const std::string why = absl::StrCat("the replay of ", peer(), " hangs: it holds the log up to ",
                                       peer_.stored_lsn(), " and has replayed ", peer_.applied_lsn(),
                                       ", no more for ", config_.max_stall.count(), " ms");
  stuck_ = Stuck{peer(), peer_.applied_lsn()};
  if (gate_ == Gate::kShared) {
    EnterAlone(why, now);
  } else {
    Breach(why, now);
  }
}

void PrimaryCore::OnTick(MonotonicTime now) {
  if (state_ == State::kDeposed) return;
  CheckJoiner(now);
  if (OwnsAlone()) {
    ExtendLease(now + lease_.span(), now);
  } else if (!Waits()) {
    if (state_ != State::kAlone && now >= lease_.lost_at()) {
      EnterAlone(absl::StrCat("no answer from ", peer()), now);
    }
    if (lease_.Expired(now)) BeSilent(absl::StrCat("no answer from ", peer()));
  }
  if (peer_.connected() && state_ != State::kHandingOver && now >= peer_.last_sent_at() + config_.heartbeat &&
      !FellBehind(now)) {
    SendOne(now);
  }
  membership_.OnTick(Serves(), now, actions_);
}

MonotonicTime PrimaryCore::NextTick() const {
  if (state_ == State::kDeposed) return MonotonicTime::max();
  MonotonicTime next = membership_.NextTick(Serves());
  if (peer_.connected() && state_ != State::kHandingOver) {
    next = std::min(next, peer_.last_sent_at() + config_.heartbeat);
  }
  if (OwnsAlone()) {
    next = std::min(next, lease_.until() - lease_.span() + config_.heartbeat);
  } else if (!Waits()) {
    if (state_ != State::kAlone) next = std::min(next, lease_.lost_at());
    if (!lease_.silent()) next = std::min(next, lease_.until());
  }
  return next;
}

Actions PrimaryCore::Take() { return std::exchange(actions_, {}); }

void PrimaryCore::CheckInvariants() const {
  log_->CheckInvariants();
  peer_.CheckInvariants();
  CHECK_EQ(log_->last_lsn(), last_lsn());
  CHECK_LE(stable_lsn(), last_lsn());
  // What is not stable is never let go.
  if (stable_lsn() < last_lsn()) CHECK(log_->Reaches(stable_lsn() + 1));
  CHECK_EQ(held().holder, config_.self.name);
  CHECK_GE(held().epoch, first_epoch_);
  if (state_ == State::kSolo) CHECK(held().secondary.empty());
  if (state_ == State::kProtected) {
    CHECK_EQ(held().secondary, peer());
    CHECK(gate_ == Gate::kShared);
  }
  if (!held().secondary.empty()) CHECK(gate_ == Gate::kShared);
  if (gate_ != Gate::kShared) CHECK(state_ == State::kSolo);
  if (gate_ == Gate::kOpen) CHECK_EQ(stable_lsn(), last_lsn());
  if (gate_ == Gate::kClosing) CHECK(peer_.connected());
  if (state_ == State::kAlone || state_ == State::kDeposed || state_ == State::kReplaced) {
    CHECK(!peer_.connected());
  }
  if (state_ == State::kDeposed || Waits()) CHECK(lease_.silent());
  if (state_ != State::kDeposed) membership_.CheckInvariants();
  // Whoever is alone is on its way out of it.
  if (state_ == State::kAlone || state_ == State::kReplaced) CHECK(membership_.will_ask());
}

}  // namespace understudy::replication
