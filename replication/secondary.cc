// The states and their events. What is not listed is ignored; calls of the primary are refused.
//
//   kJoining     dial, join, store. Append with member: kProtected. Link lost after it was joined:
//   dial,
//                and read the register now and then, because the word that this node is a member
//                may have been lost with the link: kProtected.
//   kProtected   store. Link lost: dial at once; the same primary takes this node back in the same
//   epoch.
//                Joined in a later epoch: kJoining (the primary went on without this node).
//                No append for suspect_after, or the process's last word, or asked by handover: kAsking,
//                unless there is no carrier: wait for it. A dial that is refused says nothing: firewalls
//                refuse for the living.
//   kAsking      nothing is stored or answered any more: an answer would prolong the primary's
//   lease.
//                Granted: kTakingOver. The primary went on alone: kJoining. Otherwise kSilent.
//                Answer lost: read; unchanged: ask again, until one answer is definite.
//   kTakingOver, kSilent   nothing.
//
// May this node take its name in the register for itself? The register may speak of a former life
// of this node, with a log this process does not hold. So only an epoch counts that this process
// was told on a link it had joined, or the one right behind: the primary asks for that only once
// the node on that very link has answered for everything, and takes back only a node that holds
// everything.
#include "replication/secondary.h"

#include <glog/logging.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "replication/last_word.h"
#include "replication/names.h"
#include "replication/replication_constants.h"

namespace understudy::replication {
namespace {

using wire::RefuseReason;

constexpr milliseconds kMaxBackOff(100);
// Short at first: most often the peer is back at once.
constexpr milliseconds kMinBackOff(1);
// What time alone does not mend: configuration, or a log that is gone. And what has been refused so often
// that it will be.
constexpr milliseconds kSlowRetry(1000);
// An arbiter that takes longer will not be there when it is needed.
constexpr milliseconds kCheckPatience(1000);

}  // namespace

SecondaryCore::SecondaryCore(ProtocolConfig config, MonotonicTime now)
    : config_(std::move(config)), link_since_(now), last_heard_(now), cannot_take_over_(kNotChecked) {
  StartDial();
}

// --- The link ------------------------------------------------------------------------------------

void SecondaryCore::StartDial() {
  link_ = LinkState::kDialing;
  dial_at_.reset();
  actions_.push_back(Dial{});
}

void SecondaryCore::DialLater(nanoseconds pause, MonotonicTime now) {
  link_ = LinkState::kNone;
  if (Active()) dial_at_ = now + pause;
}

void SecondaryCore::OnDialed(DialResult result, MonotonicTime now) {
  if (link_ != LinkState::kDialing || !Active()) {
    if (result == DialResult::kConnected) actions_.push_back(CloseLink{"dialed for nothing"});
    if (link_ == LinkState::kDialing) link_ = LinkState::kNone;
    return;
  }
  if (result != DialResult::kConnected) {
    const bool refused = result == DialResult::kRefused;
    why_ = refused ? "nothing listens at the peer" : "the peer cannot be reached";
    DialLater(SlowDown(kMaxBackOff), now);
    MaybeAsk(now);
    return;
  }
  link_ = LinkState::kJoinSent;
  link_since_ = now;
  SendJoin send;
  send.request.protocol_version = wire::g_replication_constants.PROTOCOL_VERSION;
  send.request.service_address = config_.service;
  send.request.node = config_.node;
  send.request.epoch = static_cast<int64_t>(record_epoch_);
  send.request.last_lsn = static_cast<int64_t>(stored_lsn_);
  send.request.__set_settings(config_.settings);
  actions_.push_back(std::move(send));
}

std::string SecondaryCore::FaultOf(const wire::JoinReply& reply) const {
  if (link_ != LinkState::kJoinSent) return "an answer to no join";
  if (reply.next_lsn != static_cast<int64_t>(stored_lsn_ + 1)) {
    return absl::StrCat("would go on at record ", reply.next_lsn, " instead of ", stored_lsn_ + 1);
  }
  if (reply.suspect_after_ms != config_.suspect_after.count()) {
    return absl::StrCat("--suspect_after_ms is ", reply.suspect_after_ms, " there and ",
                        config_.suspect_after.count(), " here");
  }
  if (!reply.last_word_hash.empty() && reply.last_word_hash.size() != kLastWordHashSize) {
    return "tells a hash that is none";
  }
  if (!IsNodeName(reply.node) || reply.node == config_.node) {
    return absl::StrCat("calls itself \"", Printable(reply.node, kMaxNodeName), "\"");
  }
  if (reply.epoch <= 0 || static_cast<uint64_t>(reply.epoch) < epoch_) {
    return absl::StrCat("is in epoch ", reply.epoch, ", and this node has seen epoch ", epoch_);
  }
  if (state_ == State::kProtected && static_cast<uint64_t>(reply.epoch) == epoch_ && reply.node != primary_) {
    return absl::StrCat("is ", reply.node, " in the epoch of ", primary_);
  }
  return "";
}

void SecondaryCore::OnJoinReply(const wire::JoinReply& reply, MonotonicTime now) {
  if (!Active() || link_ == LinkState::kNone || link_ == LinkState::kDialing) return;
  if (const std::string fault = FaultOf(reply); !fault.empty()) {
    CloseAndRetry(absl::StrCat("cannot join: the primary ", fault), now);
    return;
  }
  link_ = LinkState::kJoined;
  back_off_ = nanoseconds(0);
  last_heard_ = now;
  primary_ = reply.node;
  last_word_hash_ = reply.last_word_hash;
  process_gone_ = false;
  if (static_cast<uint64_t>(reply.epoch) > epoch_) {
    epoch_ = static_cast<uint64_t>(reply.epoch);
    state_ = State::kJoining;
  }
  ask_at_.reset();
  why_.clear();
  CheckArbiterNow();
}

nanoseconds SecondaryCore::SlowDown(nanoseconds most) {
  const nanoseconds longer = std::max<nanoseconds>(2 * back_off_, kMinBackOff);
  back_off_ = std::min<nanoseconds>(longer, most);
  return back_off_;
}

nanoseconds SecondaryCore::BackOff(const wire::Refused& refused) {
  switch (refused.reason) {
    case RefuseReason::WRONG_VERSION:
    case RefuseReason::WRONG_SERVICE:
    case RefuseReason::SAME_NODE:
    case RefuseReason::NOT_AUTHENTIC:
    case RefuseReason::NEEDS_STATE_TRANSFER:
    case RefuseReason::NOT_REPLAYING:
    case RefuseReason::OTHER_SETTINGS: return kSlowRetry;
    default: return SlowDown(kSlowRetry);
  }
}

void SecondaryCore::OnRefused(const wire::Refused& refused, MonotonicTime now) {
  if (!Active() || link_ == LinkState::kNone || link_ == LinkState::kDialing) return;
  const bool joined = link_ == LinkState::kJoined;
  why_ = absl::StrCat("refused: ", refused.detail);
  actions_.push_back(CloseLink{why_});
  DialLater(BackOff(refused), now);
  if (joined) LinkLost(now);
}

void SecondaryCore::CloseAndRetry(const std::string& reason, MonotonicTime now) {
  why_ = reason;
  const bool joined = link_ == LinkState::kJoined;
  actions_.push_back(CloseLink{reason});
  DialLater(SlowDown(kMaxBackOff), now);
  if (joined) LinkLost(now);
}

// A link that had been joined is gone.
void SecondaryCore::LinkLost(MonotonicTime now) {
  if (state_ == State::kJoining && asked_ == Asked::kNothing) Read();
  MaybeAsk(now);
}

void SecondaryCore::OnLinkDown(const std::string& reason, MonotonicTime now) {
  if (link_ != LinkState::kJoinSent && link_ != LinkState::kJoined) return;
  const bool joined = link_ == LinkState::kJoined;
  link_ = LinkState::kNone;
  if (!Active()) return;
  why_ = reason;
  if (!joined) {
    DialLater(SlowDown(kMaxBackOff), now);
    return;
  }
  StartDial();
  LinkLost(now);
}

// --- The log -------------------------------------------------------------------------------------

wire::Refused SecondaryCore::Refuse(RefuseReason::type reason, std::string detail) const {
  wire::Refused refused;
  refused.reason = reason;
  refused.detail = std::move(detail);
  refused.epoch = static_cast<int64_t>(epoch_);
  return refused;
}

std::optional<wire::Refused> SecondaryCore::CheckAppend(const wire::AppendRequest& request) const {
  if (state_ == State::kSilent) return Refuse(RefuseReason::NEEDS_STATE_TRANSFER, why_);
  if (!Active()) {
    return Refuse(RefuseReason::WRONG_EPOCH,
                  absl::StrCat(config_.node, " has asked to take over: ", takeover_why_));
  }
  if (link_ != LinkState::kJoined) return Refuse(RefuseReason::NOT_JOINED, "append before join");
  if (request.epoch <= 0 || static_cast<uint64_t>(request.epoch) < epoch_) {
    return Refuse(RefuseReason::WRONG_EPOCH,
                  absl::StrCat("append of epoch ", request.epoch, ", and this is epoch ", epoch_));
  }
  if (state_ == State::kProtected && !request.member && static_cast<uint64_t>(request.epoch) == epoch_) {
    return Refuse(RefuseReason::WRONG_EPOCH, "a secondary cannot be left out within an epoch");
  }
  // Times are subtracted from this host's, and what is left is added to others.
  const bool time_fits =
      request.sent_at_ns >= 0 && request.sent_at_ns <= std::numeric_limits<int64_t>::max() / 2;
  if (request.first_lsn <= 0 || request.executed_lsn < 0 || !time_fits) {
    return Refuse(RefuseReason::OUT_OF_ORDER, "an LSN or a time that cannot be");
  }
  if (static_cast<Lsn>(request.first_lsn) > stored_lsn_ + 1) {
    return Refuse(RefuseReason::OUT_OF_ORDER,
                  absl::StrCat("append from ", request.first_lsn, " on, after ", stored_lsn_));
  }
  return std::nullopt;
}

// What is stored already came before the link broke: a resend.
std::optional<wire::Refused> SecondaryCore::Store(wire::AppendRequest* request) {
  absl::StatusOr<RecordBatch> batch =
      RecordBatch::Parse(std::move(request->records), static_cast<Lsn>(request->first_lsn));
  if (!batch.ok()) {
    return Refuse(RefuseReason::BAD_RECORDS, std::string(batch.status().message()));
  }
  if (batch->empty() || batch->last_lsn() <= stored_lsn_) return std::nullopt;
  if (batch->first_lsn() <= stored_lsn_) *batch = batch->After(stored_lsn_);
  stored_lsn_ = batch->last_lsn();
  record_epoch_ = static_cast<uint64_t>(request->epoch);
  actions_.push_back(Replay{*std::move(batch), static_cast<Lsn>(request->executed_lsn),
                            static_cast<uint64_t>(request->output_hash)});
  return std::nullopt;
}

SecondaryCore::AppendOutcome SecondaryCore::OnAppend(wire::AppendRequest request, Lsn applied_lsn,
                                                     MonotonicTime now) {
  AppendOutcome outcome;
  outcome.refused = CheckAppend(request);
  if (!outcome.refused.has_value()) outcome.refused = Store(&request);
  if (outcome.refused.has_value()) return outcome;
  const State state = request.member ? State::kProtected : State::kJoining;
  const bool changed = static_cast<uint64_t>(request.epoch) != epoch_ || state != state_;
  epoch_ = static_cast<uint64_t>(request.epoch);
  state_ = state;
  // The register has changed, says the primary; is it so here too?
  if (changed) {
    cannot_take_over_ = kNotChecked;
    CheckArbiterNow();
  }
  last_heard_ = now;
  outcome.reply.epoch = request.epoch;
  outcome.reply.stored_lsn = static_cast<int64_t>(stored_lsn_);
  outcome.reply.sent_at_ns = request.sent_at_ns;
  outcome.reply.applied_lsn = static_cast<int64_t>(std::min(applied_lsn, stored_lsn_));
  outcome.reply.cannot_take_over = cannot_take_over();
  return outcome;
}

bool SecondaryCore::OnPulse(uint64_t epoch, MonotonicTime now) {
  if (!Active() || link_ != LinkState::kJoined || epoch_ == 0) return false;
  const bool known = epoch == epoch_ || (state_ == State::kJoining && epoch == epoch_ + 1);
  if (known) last_heard_ = now;
  return known;
}

bool SecondaryCore::OnLastWord(std::string_view word, MonotonicTime now) {
  if (last_word_hash_.empty() || HashOfLastWord(word) != last_word_hash_) return false;
  process_gone_ = true;
  MaybeAsk(now);
  return true;
}

// --- Taking over ---------------------------------------------------------------------------------

std::optional<wire::Refused> SecondaryCore::CheckHandover(const wire::HandoverRequest& request) const {
  if (state_ != State::kProtected || link_ != LinkState::kJoined) {
    return Refuse(RefuseReason::NOT_JOINED, "not the secondary of this epoch");
  }
  if (request.epoch != static_cast<int64_t>(epoch_)) {
    return Refuse(RefuseReason::WRONG_EPOCH,
                  absl::StrCat("handover of epoch ", request.epoch, ", and this is epoch ", epoch_));
  }
  if (request.last_lsn != static_cast<int64_t>(stored_lsn_)) {
    return Refuse(RefuseReason::OUT_OF_ORDER,
                  absl::StrCat("the log ends at ", request.last_lsn, " there and at ", stored_lsn_, " here"));
  }
  if (!carrier_up_) {
    return Refuse(RefuseReason::NOT_JOINED, "the service interface has no carrier here either");
  }
  if (!obstacle_.empty()) return Refuse(RefuseReason::NOT_JOINED, obstacle_);
  return std::nullopt;
}

SecondaryCore::HandoverOutcome SecondaryCore::OnHandover(const wire::HandoverRequest& request,
                                                         MonotonicTime now) {
  HandoverOutcome outcome;
  outcome.refused = CheckHandover(request);
  if (outcome.refused.has_value()) return outcome;
  outcome.reply.epoch = request.epoch;
  last_heard_ = now;
  AskToTakeOver(absl::StrCat("handover: ", request.why));
  return outcome;
}

bool SecondaryCore::Suspicious(MonotonicTime now) const {
  return process_gone_ || now >= last_heard_ + config_.suspect_after;
}

void SecondaryCore::MaybeAsk(MonotonicTime now) {
  if (state_ != State::kProtected || !CanServe() || !Suspicious(now)) return;
  const std::string why = process_gone_ ? absl::StrCat("the process of ", primary_, " is gone")
                                        : absl::StrCat(primary_, " is silent");
  if (link_ == LinkState::kJoined || link_ == LinkState::kJoinSent) {
    actions_.push_back(CloseLink{why});
    link_ = LinkState::kNone;
  }
  AskToTakeOver(why);
}

// From here on nothing is answered: the primary's lease is at an end, or given up, and stays so.
void SecondaryCore::AskToTakeOver(const std::string& why) {
  state_ = State::kAsking;
  takeover_why_ = why;
  why_ = why;
  dial_at_.reset();
  ask_at_.reset();
  expected_ = Register{epoch_, primary_, config_.node};
  // A Read of kJoining may be on its way still; its answer starts the swap.
  if (asked_ != Asked::kNothing) return;
  asked_ = Asked::kSwap;
  actions_.push_back(SwapRegister{expected_, TakenOverBy(expected_, config_.node)});
}

void SecondaryCore::AskAgain(MonotonicTime now) {
  if (!CanServe()) {
    ask_at_ = now + config_.suspect_after;
    return;
  }
  asked_ = Asked::kSwap;
  actions_.push_back(SwapRegister{expected_, TakenOverBy(expected_, config_.node)});
}

void SecondaryCore::Read() {
  CHECK(asked_ == Asked::kNothing);
  ask_at_.reset();
  asked_ = Asked::kRead;
  actions_.push_back(ReadRegister{});
}

void SecondaryCore::OnArbiter(const absl::StatusOr<Arbiter::Outcome>& outcome, MonotonicTime now) {
  if (asked_ == Asked::kNothing) return;
  const Asked asked = std::exchange(asked_, Asked::kNothing);
  if (state_ == State::kSilent || state_ == State::kTakingOver) return;
  if (!outcome.ok()) {
    if (state_ == State::kAsking || link_ != LinkState::kJoined) {
      ask_at_ = now + 2 * config_.heartbeat;
    }
    return;
  }
  if (state_ != State::kAsking) {
    DecideMembership(outcome->current, now);
  } else if (asked == Asked::kSwap && outcome->swapped) {
    state_ = State::kTakingOver;
    actions_.push_back(TakeOver{outcome->current, stored_lsn_, takeover_why_});
  } else {
    DecideTakeover(outcome->current, asked == Asked::kSwap, now);
  }
}

// While the link is lost: has the primary made this node a member before it went?
void SecondaryCore::DecideMembership(const Register& current, MonotonicTime now) {
  if (state_ != State::kJoining || link_ == LinkState::kJoined || epoch_ == 0) return;
  if (current != Register{epoch_ + 1, primary_, config_.node}) {
    // Not yet. The primary's request may still be on its way, and nobody else may be left to tell.
    ask_at_ = now + config_.suspect_after;
    return;
  }
  epoch_ = current.epoch;
  state_ = State::kProtected;
  // Not the moment the link was lost: the primary's last lease of its own may be younger than that.
  last_heard_ = now;
  MaybeAsk(now);
}

void SecondaryCore::DecideTakeover(const Register& current, bool swap_failed, MonotonicTime now) {
  if (current == TakenOverBy(expected_, config_.node)) {
    state_ = State::kTakingOver;
    actions_.push_back(TakeOver{current, stored_lsn_, takeover_why_});
  } else if (!swap_failed && current.epoch < epoch_) {
    AskAgain(now);  // a Read from before this node became a member
  } else if (current == expected_) {
    if (swap_failed) {
      // The arbiter contradicts itself. Not in a tight loop.
      ask_at_ = now + 2 * config_.heartbeat;
    } else {
      AskAgain(now);
    }
  } else if (current.holder == primary_ && current.epoch > epoch_) {
    BackToJoining(absl::StrCat("the primary went on: ", current.ToString()), now);
  } else {
    BecomeSilent(absl::StrCat("the service is another's: ", current.ToString()));
  }
}

void SecondaryCore::BackToJoining(const std::string& why, MonotonicTime) {
  state_ = State::kJoining;
  why_ = why;
  back_off_ = nanoseconds(0);
  if (link_ == LinkState::kJoined || link_ == LinkState::kJoinSent) {
    actions_.push_back(CloseLink{why});
    link_ = LinkState::kNone;
  }
  if (link_ == LinkState::kNone) StartDial();
}

void SecondaryCore::BecomeSilent(const std::string& why) {
  state_ = State::kSilent;
  why_ = why;
  if (link_ == LinkState::kJoined || link_ == LinkState::kJoinSent) {
    actions_.push_back(CloseLink{why});
    link_ = LinkState::kNone;
  }
  dial_at_.reset();
  ask_at_.reset();
}

void SecondaryCore::OnCopyUnusable(const std::string& what, MonotonicTime) {
  if (state_ == State::kTakingOver || state_ == State::kSilent) return;
  BecomeSilent(absl::StrCat("this copy is unusable: ", what));
}

void SecondaryCore::OnServiceCarrier(bool up, MonotonicTime now) {
  carrier_up_ = up;
  if (up) MaybeAsk(now);
}

void SecondaryCore::OnObstacle(const std::string& what, MonotonicTime now) {
  obstacle_ = what;
  if (what.empty()) MaybeAsk(now);
}

// --- Could this node take over? ------------------------------------------------------------------

void SecondaryCore::CheckArbiterNow() {
  check_at_.reset();
  check_stale_ = checking_;
  if (checking_) return;
  checking_ = true;
  check_since_ = last_heard_;
  actions_.push_back(CheckArbiter{});
}

void SecondaryCore::CheckOften(MonotonicTime now) {
  if (checking_ && now >= check_since_ + kCheckPatience) cannot_take_over_ = "the arbiter does not answer";
  if (check_at_.has_value() && now >= *check_at_ && link_ == LinkState::kJoined) {
    CheckArbiterNow();
    check_since_ = now;
  }
}

void SecondaryCore::OnArbiterChecked(const absl::StatusOr<std::optional<Register>>& seen, MonotonicTime now) {
  checking_ = false;
  if (std::exchange(check_stale_, false)) return CheckArbiterNow();
  if (!seen.ok()) {
    cannot_take_over_ =
        absl::StrCat("it cannot use the arbiter: ", Printable(std::string(seen.status().message()), 300));
  } else if (!seen->has_value()) {
    cannot_take_over_.clear();
  } else {
    const Register& reg = **seen;
    // Not a member yet: the register may be one step ahead of what the primary has said. Never behind.
    const bool member = state_ == State::kProtected;
    const bool fits = member ? reg == Register{epoch_, primary_, config_.node}
                             : reg.holder == primary_ && (reg.epoch == epoch_ || reg.epoch == epoch_ + 1);
    cannot_take_over_ = fits ? ""
                             : absl::StrCat("its arbiter says \"", reg.ToString(), "\", and ", primary_,
                                            " serves in epoch ", epoch_, ": is --arbiter the same for both?");
  }
  check_at_ = now + (cannot_take_over_.empty() ? config_.check_every : config_.check_again);
}

// --- Time ----------------------------------------------------------------------------------------

void SecondaryCore::CheckLink(MonotonicTime now) {
  if (link_ == LinkState::kJoinSent && now >= link_since_ + config_.suspect_after) {
    CloseAndRetry(absl::StrCat("no answer to join within ", config_.suspect_after.count(), " ms; ",
                               SlowLinkAdvice(config_.suspect_after)),
                  now);
  } else if (link_ == LinkState::kJoined && state_ == State::kJoining &&
             now >= last_heard_ + config_.suspect_after) {
    CloseAndRetry(absl::StrCat(primary_, " is silent"), now);
  }
}

void SecondaryCore::OnTick(MonotonicTime now) {
  if (Active()) {
    MaybeAsk(now);
    if (Active()) CheckLink(now);
    CheckOften(now);
    if (dial_at_.has_value() && now >= *dial_at_) StartDial();
  }
  if (ask_at_.has_value() && now >= *ask_at_ && asked_ == Asked::kNothing) Read();
}

MonotonicTime SecondaryCore::NextTick() const {
  MonotonicTime next = MonotonicTime::max();
  if (Active()) {
    if (dial_at_.has_value()) next = std::min(next, *dial_at_);
    if (link_ == LinkState::kJoinSent) next = std::min(next, link_since_ + config_.suspect_after);
    if (check_at_.has_value() && link_ == LinkState::kJoined) next = std::min(next, *check_at_);
    const bool listening = link_ == LinkState::kJoined || state_ == State::kProtected;
    const bool waits_for_host = state_ == State::kProtected && !CanServe();
    if (listening && !waits_for_host) {
      next = std::min(next, last_heard_ + config_.suspect_after);
    }
  }
  if (ask_at_.has_value() && asked_ == Asked::kNothing) next = std::min(next, *ask_at_);
  return next;
}

Actions SecondaryCore::Take() { return std::exchange(actions_, {}); }

void SecondaryCore::CheckInvariants() const {
  CHECK_LE(record_epoch_, epoch_);
  CHECK_EQ(stored_lsn_ == 0, record_epoch_ == 0);
  if (state_ == State::kProtected || state_ == State::kAsking || state_ == State::kTakingOver) {
    CHECK_GT(epoch_, 0u);
    CHECK(!primary_.empty());
    CHECK_NE(primary_, config_.node);
  }
  if (link_ == LinkState::kJoined) CHECK_GT(epoch_, 0u);
  // Somebody is on the way to the primary, or to the arbiter, at any time.
  if (Active()) CHECK(link_ != LinkState::kNone || dial_at_.has_value());
  if (state_ == State::kAsking) CHECK(asked_ != Asked::kNothing || ask_at_.has_value());
  if (state_ == State::kAsking) CHECK(!dial_at_.has_value());
  if (state_ == State::kSilent) CHECK(!dial_at_.has_value() && !ask_at_.has_value());
}

}  // namespace understudy::replication
