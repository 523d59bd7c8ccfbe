// The states and their events. "Lost": the secondary has not answered for a lease's span, or its
// process is proven gone. What is not listed is ignored.
//
//   kSolo        append: stable at once; with a joiner all of whose log is on its way: sent, stable
//   when
//                answered. Joiner has all: ask JoinedBy, from then on the lease is its answers
//                (kShared). Link down: forget the joiner; kShared: kAlone. Lost (kShared): kAlone.
//   kProtected   append: sent, stable when answered. Link down: dial once, wait for the node to
//   come back
//                until it is lost. Lost, or its process gone, or back without the log: kAlone.
//                Carrier down, or OnHandoverWanted: kHandingOver.
//   kAlone       ask GoneSolo, unless the carrier is down: then poll the register, and take the
//   secondary
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
// The arbiter's answer may be lost, and the request carried out later than its sender believes. So
// a wish stays on the list (wishes_) until the epoch has moved: after a lost answer this node goes
// on asking, for the same or for another change from the same register, until one answer is
// definite. From then on no earlier wish can come true. Until then the node acts as if JoinedBy had
// been granted.
//
// Why a lease never overlaps with a takeover: under kShared a lease runs LeaseSpan from the sending
// of an append that the secondary has answered, that is, heard later; and the secondary waits
// longer than that from the newest append it heard. The last lease of kOpen and kClosing is given
// before JoinedBy is asked for; the secondary learns of its membership later than that, and its
// wait begins no earlier.
#include "replication/primary.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "replication/names.h"
#include "replication/replication_constants.h"

namespace understudy::replication {
namespace {

using wire::RefuseReason;

// Several batches go into one call while a node catches up, but not so many that a heartbeat has to
// wait for long behind them.
constexpr size_t kChunk = 256u << 10;
// A lease is extended in steps, not with each of 100,000 answers in a second.
constexpr milliseconds kLeaseStep(1);

int64_t ToNs(MonotonicTime time) { return time.time_since_epoch().count(); }
MonotonicTime FromNs(int64_t ns) { return MonotonicTime(nanoseconds(ns)); }

}  // namespace

PrimaryCore::PrimaryCore(ProtocolConfig config, Register held, Lsn last_lsn, MonotonicTime now,
                         std::deque<RecordBatch> history)
    : config_(std::move(config)),
      held_(std::move(held)),
      state_(State::kSolo),
      last_lsn_(last_lsn),
      stable_lsn_(last_lsn),
      log_(config_.retain_bytes, last_lsn, std::move(history)),
      first_epoch_(held_.epoch),
      last_sent_(now),
      lease_until_(now),
      lost_at_(now),
      check_at_(now + config_.register_check) {
  replay_moved_at_ = alone_since_ = now;
  why_alone_ = last_lsn == 0 ? "no node has joined yet" : "it took over, and no node has joined since";
  CHECK_EQ(held_.holder, config_.node);
  CHECK(held_.secondary.empty()) << held_.ToString();
  CHECK_GT(config_.suspect_after.count(), config_.lease_guard.count());
  actions_.push_back(StableUpTo{stable_lsn_});
  ExtendLease(now + LeaseSpan(), now);
}

bool PrimaryCore::CanAppend() const {
  if (state_ == State::kDeposed || Waits()) return false;
  return log_.unstable_bytes() < config_.max_unstable_bytes;
}

// --- The log -------------------------------------------------------------------------------------

void PrimaryCore::OnAppended(RecordBatch batch, Lsn executed_lsn, uint64_t output_hash, MonotonicTime now) {
  if (state_ == State::kDeposed || batch.empty()) return;
  executed_lsn_ = executed_lsn;
  output_hash_ = output_hash;
  log_.Append(std::move(batch));
  last_lsn_ = log_.last_lsn();
  if (Waits()) return;
  SendWaiting(now);
  Advance();
}

// One append with the next records there are to send; without any it is a heartbeat.
void PrimaryCore::SendOne(MonotonicTime now) {
  SendAppend send;
  wire::AppendRequest& request = send.request;
  request.epoch = static_cast<int64_t>(held_.epoch);
  request.first_lsn = static_cast<int64_t>(next_send_);
  if (next_send_ <= last_lsn_) {
    next_send_ = log_.CopyFrom(next_send_, kChunk, &request.records) + 1;
  }
  request.sent_at_ns = ToNs(now);
  request.member = !held_.secondary.empty() && held_.secondary == peer_;
  request.executed_lsn = static_cast<int64_t>(executed_lsn_);
  request.output_hash = static_cast<int64_t>(output_hash_);
  in_flight_.push_back({request.sent_at_ns, held_.epoch, next_send_, request.records.size()});
  in_flight_bytes_ += request.records.size();
  last_sent_ = now;
  actions_.push_back(std::move(send));
}

// A joiner that is slower than what is appended: the log that it would need next may be gone by now.
bool PrimaryCore::FellBehind(MonotonicTime now) {
  if (next_send_ > last_lsn_ || log_.Reaches(next_send_)) return false;
  Breach(absl::StrCat(peer_, " fell behind: the log from ", next_send_, " on is gone"), now);
  return true;
}

// While the gate is open a joiner gets no more than it can take; behind a closing gate the log
// itself is bounded (CanAppend).
void PrimaryCore::SendWaiting(MonotonicTime now) {
  if (!linked_ || FellBehind(now)) return;
  while (next_send_ <= last_lsn_ && (gate_ != Gate::kOpen || in_flight_bytes_ < config_.max_catch_up_bytes)) {
    SendOne(now);
  }
}

void PrimaryCore::Advance() {
  Lsn stable = stable_lsn_;
  if (state_ == State::kSolo && gate_ == Gate::kOpen) {
    stable = last_lsn_;
  } else if (linked_) {
    stable = std::max(stable, std::min(acked_, last_lsn_));
  }
  if (stable == stable_lsn_) return;
  stable_lsn_ = stable;
  log_.SetStable(stable);
  SayStable();
}

// Also when it has not moved, where something else has ended for which clients may have had to wait
// (CanAppend): those that are not read from append nothing by themselves.
void PrimaryCore::SayStable() { actions_.push_back(StableUpTo{stable_lsn_}); }

// --- The link ------------------------------------------------------------------------------------

wire::Refused PrimaryCore::Refuse(RefuseReason::type reason, std::string detail) const {
  wire::Refused refused;
  refused.reason = reason;
  refused.detail = std::move(detail);
  refused.epoch = static_cast<int64_t>(held_.epoch);
  return refused;
}

PrimaryCore::JoinOutcome PrimaryCore::OnJoin(const wire::JoinRequest& request, MonotonicTime now) {
  JoinOutcome outcome;
  outcome.refused = CheckJoin(request, now);
  if (outcome.refused.has_value()) {
    if (OwnsAlone() && !linked_)
      why_alone_ = absl::StrCat(request.node, " was refused: ", outcome.refused->detail);
    return outcome;
  }
  outcome.reply.node = config_.node;
  outcome.reply.epoch = static_cast<int64_t>(held_.epoch);
  outcome.reply.next_lsn = request.last_lsn + 1;
  outcome.reply.suspect_after_ms = static_cast<int32_t>(config_.suspect_after.count());
  outcome.reply.last_word_hash = config_.last_word_hash;
  Link(request, now);
  return outcome;
}

PrimaryCore::Refusal PrimaryCore::CheckJoin(const wire::JoinRequest& request, MonotonicTime now) {
  if (!IsNodeName(request.node)) {
    return Refuse(RefuseReason::NOT_AUTHENTIC, absl::StrCat("a node's name is ", kNodeNameWants));
  }
  if (request.protocol_version != wire::g_replication_constants.PROTOCOL_VERSION) {
    return Refuse(RefuseReason::WRONG_VERSION,
                  absl::StrCat("this node speaks version ", wire::g_replication_constants.PROTOCOL_VERSION,
                               ", not ", request.protocol_version));
  }
  if (request.service_address != config_.service) {
    return Refuse(RefuseReason::WRONG_SERVICE, absl::StrCat("this node serves ", config_.service, ", not ",
                                                            Printable(request.service_address, 40)));
  }
  if (request.node == config_.node) {
    return Refuse(RefuseReason::SAME_NODE, absl::StrCat("this node is ", config_.node, " too"));
  }
  if (request.epoch < 0 || request.last_lsn < 0 || (request.last_lsn > 0 && request.epoch == 0) ||
      request.applied_lsn < 0 || request.applied_lsn > request.last_lsn) {
    return Refuse(RefuseReason::OUT_OF_ORDER, "a log that cannot be");
  }
  if (Refusal other = CheckSettings(request); other.has_value()) return other;
  if (state_ == State::kDeposed || Waits()) {
    return Refuse(RefuseReason::NOT_PRIMARY, absl::StrCat(config_.node, " serves no more"));
  }
  if (static_cast<uint64_t>(request.epoch) > held_.epoch) {
    // Perhaps the epoch is over, and this node has not heard of it.
    if (asked_ == Asked::kNothing && !ask_at_.has_value()) ask_at_ = now + config_.heartbeat;
    return Refuse(RefuseReason::WRONG_EPOCH, absl::StrCat("epoch ", request.epoch, " is unknown here"));
  }
  return gate_ == Gate::kShared ? CheckResume(request, now) : CheckFreshJoin(request);
}

// Names the first setting that differs, with both values.
PrimaryCore::Refusal PrimaryCore::CheckSettings(const wire::JoinRequest& request) const {
  const auto shown = [](const std::string& text) { return absl::CEscape(text.substr(0, 200)); };
  const auto value_in = [&shown](const std::map<std::string, std::string>& settings,
                                 const std::string& name) {
    const auto found = settings.find(name);
    return found == settings.end() ? std::string("nothing") : absl::StrCat("\"", shown(found->second), "\"");
  };
  std::map<std::string, std::string> all = config_.settings;
  all.insert(request.settings.begin(), request.settings.end());
  for (const auto& [name, unused] : all) {
    const std::string here = value_in(config_.settings, name), there = value_in(request.settings, name);
    if (here == there) continue;
    return Refuse(RefuseReason::OTHER_SETTINGS,
                  absl::StrCat(shown(name), " must be the same on both nodes, and is ", here, " on ",
                               config_.node, " and ", there, " on ", request.node));
  }
  return std::nullopt;
}

// All records of one epoch of this object come from its own log. Those of an older epoch may have a
// tail that nobody else ever stored.
bool PrimaryCore::LogFits(const wire::JoinRequest& request, Lsn at_least) const {
  const Lsn last = static_cast<Lsn>(request.last_lsn);
  const bool same_log = last == 0 || static_cast<uint64_t>(request.epoch) >= first_epoch_;
  return same_log && last >= at_least && last <= last_lsn_ && log_.Reaches(last + 1);
}

PrimaryCore::Refusal PrimaryCore::CheckFreshJoin(const wire::JoinRequest& request) const {
  if (linked_ && request.node != peer_) {
    return Refuse(RefuseReason::ALREADY_HAVE_ONE, absl::StrCat(peer_, " is catching up"));
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
                     " is not here; it ends at ", last_lsn_,
                     ". A node can join only while the primary has all of its log. To be a pair again: stop "
                     "both, then start ",
                     config_.node, " with --role=primary and ", request.node,
                     " with --role=secondary; clients are cut off meanwhile"));
  }
  return std::nullopt;
}

// The register names a secondary, or may. Only that node can come back, and only with all that it
// has acknowledged: otherwise it is a new life of the node, and the register speaks of the former.
PrimaryCore::Refusal PrimaryCore::CheckResume(const wire::JoinRequest& request, MonotonicTime now) {
  const std::string& member = held_.secondary.empty() ? peer_ : held_.secondary;
  if (request.node != member) {
    return Refuse(RefuseReason::ALREADY_HAVE_ONE,
                  absl::StrCat(member.empty() ? "another node" : member,
                               " is the secondary: a pair has two nodes, stop one of these"));
  }
  const bool changing = state_ == State::kAlone && (!wishes_.empty() || held_.secondary.empty());
  if (changing) {
    return Refuse(RefuseReason::ALREADY_HAVE_ONE,
                  absl::StrCat(config_.node, " is about to serve alone; ask again"));
  }
  if (!LogFits(request, stable_lsn_)) {
    if (state_ != State::kAlone) {
      EnterAlone(absl::StrCat(member, " came back without its log"), now);
    }
    return Refuse(RefuseReason::ALREADY_HAVE_ONE,
                  absl::StrCat("the former life of ", member, " is the secondary still; ask again"));
  }
  return std::nullopt;
}

void PrimaryCore::Link(const wire::JoinRequest& request, MonotonicTime now) {
  linked_ = true;
  has_answered_ = dialing_ = false;
  peer_ = request.node;
  acked_ = static_cast<Lsn>(request.last_lsn);
  next_send_ = acked_ + 1;
  in_flight_.clear();
  in_flight_bytes_ = 0;
  peer_applied_lsn_ = static_cast<Lsn>(request.applied_lsn);
  replay_moved_at_ = now;
  stuck_.reset();
  peer_cannot_ = "it has not said whether it could";
  if (gate_ == Gate::kClosing) gate_ = Gate::kOpen;
  if (gate_ == Gate::kShared) {
    if (!grace_used_) lost_at_ = std::max(lost_at_, now + LeaseSpan());
    grace_used_ = true;
    if (state_ == State::kAlone) {
      state_ = State::kProtected;
      ask_at_.reset();
    }
  }
  SendWaiting(now);
  if (in_flight_.empty()) SendOne(now);
  Advance();
  if (state_ == State::kProtected && !carrier_up_) StartHandover("no carrier", now);
}

// What a reply to the oldest open append has to be; empty: it is.
std::string PrimaryCore::FaultOf(const wire::AppendReply& reply) const {
  if (in_flight_.empty()) return "an answer to no append";
  const Sent& sent = in_flight_.front();
  if (reply.sent_at_ns != sent.sent_at_ns) {
    return absl::StrCat("an answer to an append of time ", reply.sent_at_ns, " instead of ", sent.sent_at_ns);
  }
  if (reply.epoch != static_cast<int64_t>(sent.epoch)) {
    return absl::StrCat("an answer of epoch ", reply.epoch, " instead of ", sent.epoch);
  }
  const Lsn stored = static_cast<Lsn>(reply.stored_lsn);
  if (reply.stored_lsn < 0 || stored < acked_ || stored + 1 < sent.next_lsn || stored >= next_send_) {
    return absl::StrCat("claims to have stored ", reply.stored_lsn, " after ", acked_,
                        ", when it was sent up to ", next_send_ - 1);
  }
  if (reply.applied_lsn < 0 || reply.applied_lsn > reply.stored_lsn) {
    return absl::StrCat("claims to have replayed ", reply.applied_lsn, " of ", reply.stored_lsn);
  }
  return "";
}

void PrimaryCore::OnAppendReply(const wire::AppendReply& reply, MonotonicTime now) {
  if (!linked_) return;
  if (const std::string fault = FaultOf(reply); !fault.empty()) {
    Breach(absl::StrCat(peer_, " broke the protocol: ", fault), now);
    return;
  }
  has_answered_ = true;
  in_flight_bytes_ -= in_flight_.front().bytes;
  in_flight_.pop_front();
  acked_ = static_cast<Lsn>(reply.stored_lsn);
  const Lsn applied = static_cast<Lsn>(reply.applied_lsn);
  if (applied > peer_applied_lsn_ || applied == acked_) replay_moved_at_ = now;
  peer_applied_lsn_ = applied;
  peer_cannot_ = reply.cannot_take_over;
  if (gate_ == Gate::kShared) Answered(FromNs(reply.sent_at_ns), now);
  Advance();
  CheckReplay(FromNs(reply.sent_at_ns), now);
  if (state_ == State::kHandingOver || !linked_) return;
  SendWaiting(now);
  MaybeTakeOn(now);
}

std::optional<uint64_t> PrimaryCore::pulse_epoch() const {
  const bool shared = linked_ && gate_ == Gate::kShared && state_ != State::kHandingOver;
  return shared ? std::optional(held_.epoch) : std::nullopt;
}

void PrimaryCore::OnPulseAnswered(uint64_t epoch, MonotonicTime sent_at, MonotonicTime now) {
  if (epoch == pulse_epoch()) Answered(sent_at, now);
}

// The secondary has heard, later than `sent_at`, that this node lives.
void PrimaryCore::Answered(MonotonicTime sent_at, MonotonicTime now) {
  if (sent_at < counts_from_) return;
  grace_used_ = false;
  const MonotonicTime until = sent_at + LeaseSpan();
  lost_at_ = std::max(lost_at_, until);
  if (state_ != State::kHandingOver) ExtendLease(until, now);
}

// Closes the gate behind a joiner that has been sent everything, and asks for it once it has stored
// everything that is stable without it.
void PrimaryCore::MaybeTakeOn(MonotonicTime now) {
  if (!OwnsAlone() || !linked_ || next_send_ <= last_lsn_ || !peer_cannot_.empty()) return;
  gate_ = Gate::kClosing;
  if (acked_ < stable_lsn_ || asked_ != Asked::kNothing) return;
  ExtendLease(now + LeaseSpan(), now);
  gate_ = Gate::kShared;
  lost_at_ = lease_until_;
  grace_used_ = false;
  Ask(JoinedBy(held_, peer_));
}

void PrimaryCore::OnHandoverReply(const wire::HandoverReply& reply, MonotonicTime now) {
  if (!linked_) return;
  if (state_ != State::kHandingOver || reply.epoch != static_cast<int64_t>(held_.epoch)) {
    Breach(absl::StrCat(peer_, " broke the protocol: an answer to no handover"), now);
  }
  // The register will tell.
}

void PrimaryCore::OnRefused(const wire::Refused& refused, MonotonicTime now) {
  if (!linked_) return;
  const std::string peer = peer_;
  const std::string reason = absl::StrCat(peer, " refused: ", refused.detail);
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
  if (!linked_) return;
  const bool find_out = state_ == State::kProtected;
  LinkLost(reason, now);
  if (find_out) {
    dialing_ = true;
    actions_.push_back(Dial{});
  }
}

void PrimaryCore::LinkLost(const std::string& reason, MonotonicTime now) {
  Unlink();
  switch (state_) {
    case State::kSolo:
      if (gate_ == Gate::kShared) {
        EnterAlone(reason, now);
      } else {
        gate_ = Gate::kOpen;
        BeAlone(has_answered_ ? absl::StrCat(peer_, " was lost while it caught up: ", reason)
                              : absl::StrCat(peer_, " was lost before it answered anything: ", reason, "; ",
                                             SlowLinkAdvice(config_.suspect_after)),
                now);
        peer_.clear();
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

void PrimaryCore::Unlink() {
  linked_ = false;
  in_flight_.clear();
  in_flight_bytes_ = 0;
}

void PrimaryCore::OnDialed(DialResult result, MonotonicTime now) {
  if (!dialing_) return;
  dialing_ = false;
  if (result == DialResult::kRefused && state_ == State::kProtected && !linked_) {
    EnterAlone(absl::StrCat("nothing listens at ", peer_, " any more"), now);
  }
}

// --- The right to serve --------------------------------------------------------------------------

void PrimaryCore::ExtendLease(MonotonicTime until, MonotonicTime now) {
  if (until <= now) return;
  if (!silent_ && until < lease_until_ + kLeaseStep) return;
  lease_until_ = std::max(lease_until_, until);
  silent_ = false;
  actions_.push_back(Lease{lease_until_});
}

void PrimaryCore::OnAbsence(MonotonicTime now) {
  counts_from_ = now;
  lease_until_ = std::min(lease_until_, now);
}

void PrimaryCore::BeSilent(const std::string& reason) {
  if (silent_) return;
  silent_ = true;
  actions_.push_back(FallSilent{reason});
}

void PrimaryCore::BeAlone(std::string why, MonotonicTime now) {
  why_alone_ = std::move(why);
  alone_since_ = now;
}

// Clients notice nothing as long as the old lease lasts; often the arbiter answers within it.
void PrimaryCore::EnterAlone(const std::string& why, MonotonicTime now) {
  if (linked_) {
    actions_.push_back(CloseLink{why});
    Unlink();
  }
  if (std::exchange(state_, State::kAlone) == State::kHandingOver) SayStable();
  dialing_ = false;
  BeAlone(why, now);
  if (now >= lease_until_) BeSilent(why);
  AskNext(now);
}

void PrimaryCore::StartHandover(const std::string& why, MonotonicTime now) {
  gate_ = Gate::kShared;
  while (next_send_ <= last_lsn_) SendOne(now);
  BeSilent(absl::StrCat("handing over to ", peer_, ": ", why));
  // Given up, not run out: none of it is left if the handover fails.
  lease_until_ = std::min(lease_until_, now);
  state_ = State::kHandingOver;
  SendHandover send;
  send.request.epoch = static_cast<int64_t>(held_.epoch);
  send.request.last_lsn = static_cast<int64_t>(last_lsn_);
  send.request.why = why;
  actions_.push_back(std::move(send));
  ask_at_ = now + config_.suspect_after;
}

void PrimaryCore::OnServiceCarrier(bool up, MonotonicTime now) {
  if (up == carrier_up_) return;
  carrier_up_ = up;
  if (!up) {
    if (state_ == State::kProtected && linked_) StartHandover("no carrier", now);
    return;
  }
  if (state_ == State::kAlone) AskNext(now);
  if (state_ == State::kHandingOver && !linked_) EnterAlone("the handover failed", now);
}

absl::Status PrimaryCore::OnHandoverWanted(const std::string& why, MonotonicTime now) {
  if (state_ != State::kProtected) {
    return absl::FailedPreconditionError("there is no secondary to hand over to");
  }
  if (!linked_) {
    return absl::FailedPreconditionError(absl::StrCat("the link to ", held_.secondary, " is down"));
  }
  StartHandover(why, now);
  return absl::OkStatus();
}

// --- The arbiter ---------------------------------------------------------------------------------

void PrimaryCore::Ask(const Register& expected, const Register& desired) {
  CHECK(asked_ == Asked::kNothing);
  asked_ = Asked::kSwap;
  ask_at_.reset();
  if (std::find(wishes_.begin(), wishes_.end(), desired) == wishes_.end()) {
    wishes_.push_back(desired);
  }
  actions_.push_back(SwapRegister{expected, desired});
}

// Nothing has happened; but who holds a register that is another's must not go on.
void PrimaryCore::CheckRegister(MonotonicTime now) {
  if (!Serves() || asked_ != Asked::kNothing || ask_at_.has_value() || now < check_at_) return;
  check_at_ = now + config_.register_check;
  asked_ = Asked::kRead;
  actions_.push_back(ReadRegister{});
}

// The next question, of a state that has one.
void PrimaryCore::AskNext(MonotonicTime now) {
  if (asked_ != Asked::kNothing) return;
  if (unsure_) {
    if (!ask_at_.has_value()) ask_at_ = now + 2 * config_.heartbeat;
    return;
  }
  if (state_ == State::kAlone) {
    if (carrier_up_) {
      Ask(GoneSolo(held_));
    } else {
      ask_at_ = now + config_.suspect_after;
    }
  } else if (state_ == State::kSolo && gate_ == Gate::kShared) {
    Ask(JoinedBy(held_, peer_));
  } else if (state_ == State::kHandingOver) {
    ask_at_ = now + config_.suspect_after;
  }
}

void PrimaryCore::OnArbiter(const absl::StatusOr<Arbiter::Outcome>& outcome, MonotonicTime now) {
  if (asked_ == Asked::kNothing || state_ == State::kDeposed) return;
  const Asked asked = std::exchange(asked_, Asked::kNothing);
  if (!outcome.ok()) {
    if (asked == Asked::kSwap) unsure_ = true;
    if (unsure_ || !Serves()) ask_at_ = now + 2 * config_.heartbeat;
    return;
  }
  if (asked == Asked::kSwap && outcome->swapped) {
    Adopt(outcome->current, now);
  } else {
    Decide(outcome->current, asked == Asked::kSwap, now);
  }
  MaybeTakeOn(now);
}

void PrimaryCore::Decide(const Register& current, bool swap_failed, MonotonicTime now) {
  if (std::find(wishes_.begin(), wishes_.end(), current) != wishes_.end()) {
    Adopt(current, now);
    return;
  }
  if (current != held_) {
    if (Serves() && !swap_failed && current.epoch == 0) return;  // forgotten, not granted
    Replaced(current, now);
    return;
  }
  unsure_ = false;
  if (swap_failed) {
    // The arbiter contradicts itself: it holds what was expected. Not in a tight loop.
    unsure_ = true;
    ask_at_ = now + 2 * config_.heartbeat;
  } else if (state_ == State::kHandingOver && carrier_up_) {
    EnterAlone("nobody has taken over", now);
  } else {
    AskNext(now);
  }
}

// `current` has been asked for by this node, and been granted.
void PrimaryCore::Adopt(const Register& current, MonotonicTime now) {
  held_ = current;
  wishes_.clear();
  unsure_ = false;
  ask_at_.reset();
  if (held_.secondary.empty()) {
    state_ = State::kSolo;
    gate_ = Gate::kOpen;
    if (!linked_) peer_.clear();
    ExtendLease(now + LeaseSpan(), now);
    if (stable_lsn_ == last_lsn_) SayStable();
    Advance();
    return;
  }
  gate_ = Gate::kShared;
  if (!linked_ || peer_ != held_.secondary) {
    EnterAlone(absl::StrCat(held_.secondary, " was lost while it joined"), now);
    return;
  }
  state_ = State::kProtected;
  SendOne(now);  // tells it
  if (!carrier_up_) StartHandover("no carrier", now);
}

// The register is not what this node holds, and nothing that it has asked for.
void PrimaryCore::Replaced(const Register& current, MonotonicTime now) {
  const Register taken = TakenOverBy(held_, held_.secondary);
  const bool given_back = !held_.secondary.empty() && current == GivenBack(taken, config_.node);
  const bool by_secondary = !held_.secondary.empty() && current == taken;
  if (!by_secondary && !given_back) return Depose(current);
  unsure_ = false;
  if (state_ != State::kReplaced) {
    const std::string reason = absl::StrCat("the service is another's: ", current.ToString());
    BeSilent(reason);
    if (linked_) actions_.push_back(CloseLink{reason});
    Unlink();
    state_ = State::kReplaced;
    gate_ = Gate::kShared;
    dialing_ = false;
    wishes_.clear();
    BeAlone(reason, now);
    replaced_until_ = now + config_.give_back_wait;
  }
  if (given_back && carrier_up_) {
    // The secondary has shown nothing to any client: this log is the service's, whole.
    Ask(current, TakenUpBy(current, config_.node));
  } else if (by_secondary && now >= replaced_until_) {
    Depose(current);
  } else {
    ask_at_ = now + config_.suspect_after;
  }
}

void PrimaryCore::Depose(const Register& current) {
  const std::string reason =
      current.holder == config_.node
          ? absl::StrCat("the register is not that of this process: ", current.ToString())
          : absl::StrCat("the service is another's: ", current.ToString());
  BeSilent(reason);
  if (linked_) actions_.push_back(CloseLink{reason});
  Unlink();
  state_ = State::kDeposed;
  gate_ = Gate::kShared;
  dialing_ = false;
  unsure_ = false;
  ask_at_.reset();
  actions_.push_back(Deposed{reason, current});
}

// --- Time ----------------------------------------------------------------------------------------

// One that catches up has no part in the lease, but it must not hold the link for ever.
void PrimaryCore::CheckJoiner(MonotonicTime now) {
  if (!OwnsAlone() || !linked_ || in_flight_.empty()) return;
  if (now < FromNs(in_flight_.front().sent_at_ns) + config_.suspect_after) return;
  Breach(absl::StrCat(peer_, " has stopped answering"), now);
}

// Its copy is of no use while it does not replay, and at the bound of the lag it would hold this node up.
// `told_at`: what it says of its replay is from no earlier. (Not the time of now: this node may have stood
// still.)
void PrimaryCore::CheckReplay(MonotonicTime told_at, MonotonicTime now) {
  if (!linked_ || gate_ != Gate::kShared || !Serves()) return;
  if (peer_applied_lsn_ >= acked_ || told_at < replay_moved_at_ + config_.max_stall) return;
  stuck_ = Stuck{peer_, peer_applied_lsn_};
  EnterAlone(
      absl::StrCat("the replay of ", peer_, " hangs: it holds the log up to ", acked_, " and has replayed ",
                   peer_applied_lsn_, ", no more for ", config_.max_stall.count(), " ms"),
      now);
}

void PrimaryCore::OnTick(MonotonicTime now) {
  if (state_ == State::kDeposed) return;
  CheckJoiner(now);
  if (OwnsAlone()) {
    ExtendLease(now + LeaseSpan(), now);
  } else if (!Waits()) {
    if (state_ != State::kAlone && now >= lost_at_) {
      EnterAlone(absl::StrCat("no answer from ", peer_), now);
    }
    if (now >= lease_until_) BeSilent(absl::StrCat("no answer from ", peer_));
  }
  if (linked_ && state_ != State::kHandingOver && now >= last_sent_ + config_.heartbeat && !FellBehind(now)) {
    SendOne(now);
  }
  if (ask_at_.has_value() && now >= *ask_at_ && asked_ == Asked::kNothing) {
    ask_at_.reset();
    asked_ = Asked::kRead;
    actions_.push_back(ReadRegister{});
  }
  CheckRegister(now);
}

MonotonicTime PrimaryCore::NextTick() const {
  if (state_ == State::kDeposed) return MonotonicTime::max();
  MonotonicTime next = MonotonicTime::max();
  if (linked_ && state_ != State::kHandingOver) next = last_sent_ + config_.heartbeat;
  if (OwnsAlone()) {
    next = std::min(next, lease_until_ - LeaseSpan() + config_.heartbeat);
  } else if (!Waits()) {
    if (state_ != State::kAlone) next = std::min(next, lost_at_);
    if (!silent_) next = std::min(next, lease_until_);
  }
  if (asked_ == Asked::kNothing) {
    if (ask_at_.has_value()) {
      next = std::min(next, *ask_at_);
    } else if (Serves()) {
      next = std::min(next, check_at_);
    }
  }
  return next;
}

Actions PrimaryCore::Take() { return std::exchange(actions_, {}); }

void PrimaryCore::CheckInvariants() const {
  log_.CheckInvariants();
  CHECK_EQ(log_.last_lsn(), last_lsn_);
  CHECK_EQ(log_.stable_lsn(), stable_lsn_);
  CHECK_EQ(held_.holder, config_.node);
  CHECK_GE(held_.epoch, first_epoch_);
  if (state_ == State::kSolo) CHECK(held_.secondary.empty());
  if (state_ == State::kProtected) {
    CHECK_EQ(held_.secondary, peer_);
    CHECK(gate_ == Gate::kShared);
  }
  if (!held_.secondary.empty()) CHECK(gate_ == Gate::kShared);
  if (gate_ != Gate::kShared) CHECK(state_ == State::kSolo);
  if (gate_ == Gate::kOpen) CHECK_EQ(stable_lsn_, last_lsn_);
  if (gate_ == Gate::kClosing) CHECK(linked_);
  if (state_ == State::kAlone || state_ == State::kDeposed || state_ == State::kReplaced) CHECK(!linked_);
  if (state_ == State::kDeposed || Waits()) CHECK(silent_);
  if (asked_ == Asked::kSwap || unsure_) CHECK(!wishes_.empty());
  if (unsure_ && state_ != State::kDeposed) CHECK(asked_ != Asked::kNothing || ask_at_.has_value());
  // Whoever is alone is on its way out of it.
  if (state_ == State::kAlone || state_ == State::kReplaced) {
    CHECK(asked_ != Asked::kNothing || ask_at_.has_value());
  }
  if (linked_) {
    CHECK(!peer_.empty());
    CHECK_LE(next_send_, last_lsn_ + 1);
    CHECK_LT(acked_, next_send_);
    size_t bytes = 0;
    for (const Sent& sent : in_flight_) bytes += sent.bytes;
    CHECK_EQ(bytes, in_flight_bytes_);
  } else {
    CHECK(in_flight_.empty());
  }
}

}  // namespace understudy::replication
