// The node's links, its questions to the arbiter, and the carrying out of what the cores ask for.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "framework/logged_clock.h"
#include "framework/pair_node.h"
#include "glog/logging.h"
#include "replication/last_word.h"
#include "replication/names.h"

namespace understudy {

using replication::Action;
using replication::Lsn;
using replication::PrimaryCore;
namespace wire = replication::wire;

namespace {
constexpr std::chrono::milliseconds kDialTimeout{200};
constexpr std::chrono::milliseconds kWitnessPause{1'000};
constexpr size_t kMaxWarning = 300;  // of the peer's
// A logged time that is later is none, and a log would refuse it.
constexpr int64_t kLatestUs = int64_t{1} << 59;

wire::Refused NotPrimary(const std::string& detail) {
  wire::Refused refused;
  refused.reason = wire::RefuseReason::NOT_PRIMARY;
  refused.detail = detail;
  refused.epoch = 0;
  return refused;
}
}  // namespace

// --- Links ---------------------------------------------------------------------------------------

void PairNode::Accepted(std::unique_ptr<replication::Transport::Connection> connection) {
  ++counters_.links_accepted;
  // From the peer's address, but perhaps not of the peer's node. That one says at once what it wants; so the
  // one that has had the longest time for it goes.
  if (strangers_.size() >= replication::Transport::kMaxStrangers) {
    ++counters_.links_closed_for_cause;
    LOG_EVERY_T(WARNING, 10) << "closing the oldest of " << strangers_.size()
                             << " replication links that have not joined";
    strangers_.front()->Close();
    strangers_.erase(strangers_.begin());
  }
  strangers_.push_back(transport_->StartLink(std::move(connection), this, /*dialed=*/false));
}

// What comes again and again while two nodes cannot agree is said once, and now and then.
void PairNode::LogAgain(const std::string& text) {
  if (!log_filter_.Take(text, Now())) return;
  LOG(WARNING) << text;
}

void PairNode::UseLink(std::shared_ptr<Link> link) {
  if (link_ != nullptr && link_ != link) link_->Close();
  link_ = std::move(link);
}

void PairNode::DropLink() {
  if (link_ != nullptr) link_->Close();
  link_.reset();
}

void PairNode::CloseLinkBecause(const std::string& reason) {
  LogAgain(absl::StrCat("closing the replication link: ", reason));
  ++counters_.links_closed_for_cause;
  DropLink();
}

void PairNode::DialPeerOnce() {
  ++counters_.dials;
  transport_->Dial(kDialTimeout, [this, alive = alive_](replication::DialResult result, auto connection) {
    if (!*alive || silent_) return;
    if (result != replication::DialResult::kConnected) {
      LOG_EVERY_T(WARNING, 5) << "cannot reach the peer at " << config_.peer << ": "
                              << (result == replication::DialResult::kRefused ? "nothing listens there"
                                                                              : "no answer");
    }
    if (primary_ != nullptr) {
      primary_->OnDialed(result, Now());  // it only wanted to know; the connection closes here
    } else if (secondary_ != nullptr) {
      if (result == replication::DialResult::kConnected) {
        UseLink(transport_->StartLink(std::move(connection), this, /*dialed=*/true));
      }
      secondary_->OnDialed(result, Now());
    }
    Pump();
  });
}

replication::Link::Handler::Verdict PairNode::OnJoin(Link& link, const wire::JoinRequest& request,
                                                     wire::JoinReply& reply) {
  const auto stranger = std::find_if(strangers_.begin(), strangers_.end(),
                                     [&](const auto& candidate) { return candidate.get() == &link; });
  Verdict verdict;
  if (stranger == strangers_.end()) {
    verdict = {true, NotPrimary("joined already")};
  } else if (stopping_) {
    verdict = {true, NotPrimary(absl::StrCat(config_.node, " is stopping"))};
  } else if (primary_ == nullptr || silent_) {
    verdict = {true, NotPrimary(absl::StrCat(config_.node, " is not the primary, it is ", State()))};
  } else {
    PrimaryCore::JoinOutcome outcome = primary_->OnJoin(request, Now());
    if (outcome.refused.has_value()) {
      verdict = {true, *outcome.refused};
    } else {
      reply = outcome.reply;
      joined_ = *stranger;  // what the core wants to send must follow the answer: OnTurnDone
      strangers_.erase(stranger);
      FitToHeir(request);
      const std::string joins =
          absl::StrCat(request.node, " joins at LSN ", request.last_lsn, " from ", link.remote());
      LOG_IF(INFO, log_filter_.Take(joins, Now())) << joins;
    }
  }
  if (verdict.refuse) {
    ++counters_.joins_refused;
    LogAgain(absl::StrCat("refusing ", request.node, ": ", verdict.refused.detail));
  }
  return verdict;
}

// A client shall be promised nothing that the heir cannot keep.
void PairNode::FitToHeir(const wire::JoinRequest& request) {
  const int64_t own_mtu = address_->mtu(), mtu = request.interface_mtu;
  if (mtu > 0 && own_mtu > 0 && (mtu < own_mtu || segments_limited_)) {
    const absl::Status limited =
        serving_->north().LimitSegments(static_cast<uint32_t>(std::min(mtu, own_mtu)));
    if (!limited.ok()) LOG(ERROR) << limited;
    segments_limited_ = mtu < own_mtu;
    if (segments_limited_) {
      LOG(WARNING) << "the service interface of " << protocol_.node << " has an MTU of " << own_mtu
                   << ", that of its secondary " << mtu << ": new connections are offered the smaller; "
                   << executor_->connection_count() << " that are open may stall after a takeover";
    }
  }
  heir_lacks_.clear();
  if (request.max_connections > 0 &&
      config_.max_connections > static_cast<uint64_t>(request.max_connections)) {
    heir_lacks_ = absl::StrCat("the secondary can hold ", request.max_connections,
                               " connections (limit of open files), this node ", config_.max_connections,
                               ": more than that would not survive this node");
    LOG(WARNING) << heir_lacks_;
  }
}

replication::Link::Handler::Verdict PairNode::OnAppend(Link& link, wire::AppendRequest request,
                                                       wire::AppendReply& reply) {
  if (&link != link_.get() || secondary_ == nullptr) return {true, NotPrimary("not joined with this node")};
  const auto now = Now();
  const int64_t sent_at_ns = request.sent_at_ns;
  const int64_t logged_us = request.__isset.logged_us ? request.logged_us : -1;
  auto outcome = secondary_->OnAppend(std::move(request), replayer_->applied_lsn(), now);
  if (outcome.refused.has_value()) return {true, *outcome.refused};
  const auto ahead = std::chrono::nanoseconds(sent_at_ns) - now.time_since_epoch();
  clock_ahead_ = std::max(clock_ahead_.value_or(ahead), ahead);
  newest_sent_at_ns_ = std::max(newest_sent_at_ns_, sent_at_ns);
  // When that was by this host's clock. Not by clock_ahead_: the two clocks may have run apart since then.
  const auto lately_ahead = lately_ahead_.Add(ahead, now);
  if (logged_us >= 0 && logged_us < kLatestUs) {
    told_time_.Told(logged_us,
                    replication::MonotonicTime(std::chrono::nanoseconds(sent_at_ns) - lately_ahead));
  }
  reply = outcome.reply;
  if (replayer_->cannot_write()) reply.__set_cannot_write(true);
  if (!host_watch_->unreachable().empty()) reply.__set_warning(host_watch_->unreachable());
  return {};
}

replication::Link::Handler::Verdict PairNode::OnHandover(Link& link, const wire::HandoverRequest& request,
                                                         wire::HandoverReply& reply) {
  if (&link != link_.get() || secondary_ == nullptr) return {true, NotPrimary("not joined with this node")};
  auto outcome = secondary_->OnHandover(request, Now());
  if (outcome.refused.has_value()) return {true, *outcome.refused};
  reply = outcome.reply;
  return {};
}

void PairNode::OnJoinReply(Link& link, const wire::JoinReply& reply) {
  if (&link != link_.get() || secondary_ == nullptr) return;
  if (reply.node != secondary_->primary()) {  // another host's clock
    clock_ahead_.reset();
    lately_ahead_.Reset();
    told_time_.Forget();
  }
  newest_sent_at_ns_ = 0;  // perhaps another host's, or that host's after a boot
  fatal_ = {};             // another life's
  secondary_->OnJoinReply(reply, Now());
}

void PairNode::OnAppendReply(Link& link, const wire::AppendReply& reply) {
  if (&link != link_.get() || primary_ == nullptr) return;
  peer_cannot_write_ = reply.__isset.cannot_write && reply.cannot_write;
  if (std::string warning = replication::Printable(reply.warning, kMaxWarning); warning != heir_warns_) {
    heir_warns_ = std::move(warning);
    if (!heir_warns_.empty()) LogAgain(absl::StrCat("the secondary says: ", heir_warns_));
  }
  primary_->OnAppendReply(reply, Now());
  // That it has not looked yet is said by each secondary that joins, and not so a moment later.
  const std::string& cannot = primary_->peer_cannot_take_over();
  if (!cannot.empty() && cannot != replication::kNotChecked) {
    LogAgain(absl::StrCat("NOT PROTECTED: ", primary_->peer(), " could not take over: ", cannot));
  }
  DieIfTold();
}

void PairNode::OnHandoverReply(Link& link, const wire::HandoverReply& reply) {
  if (&link == link_.get() && primary_ != nullptr) primary_->OnHandoverReply(reply, Now());
}

void PairNode::OnRefused(Link& link, const wire::Refused& refused) {
  if (&link != link_.get()) return;
  LogAgain(absl::StrCat("refused by ", config_.peer.address().to_string(), ": ", refused.detail));
  if (primary_ != nullptr) primary_->OnRefused(refused, Now());
  if (secondary_ != nullptr) secondary_->OnRefused(refused, Now());
}

void PairNode::OnClosed(Link& link, const std::string& reason) {
  std::erase_if(strangers_, [&](const auto& stranger) { return stranger.get() == &link; });
  const bool ours = &link == link_.get() || &link == joined_.get();
  if (!ours) {
    ++counters_.links_closed_for_cause;
    LogAgain(absl::StrCat("a replication link that has not joined was closed: ", reason));
    return;
  }
  LogAgain(absl::StrCat("the replication link was closed: ", reason));
  if (&link == joined_.get()) joined_.reset();
  if (&link == link_.get()) link_.reset();
  if (primary_ != nullptr) {
    primary_->OnLinkDown(reason, Now());
    if (primary_->state() == PrimaryCore::State::kSolo)
      LogAgain(absl::StrCat("no secondary: ", primary_->why_alone()));
  }
  if (secondary_ != nullptr) secondary_->OnLinkDown(reason, Now());
  Pump();
}

void PairNode::OnTurnDone(Link& link) {
  if (joined_ != nullptr && &link == joined_.get()) UseLink(std::exchange(joined_, nullptr));
  Pump();
}

// --- The arbiter ---------------------------------------------------------------------------------

void PairNode::Ask(const replication::Register* expected, const replication::Register* desired) {
  ++counters_.arbiter_calls;
  auto done = [this, alive = alive_](absl::StatusOr<replication::Arbiter::Outcome> outcome) {
    if (!*alive) return;
    if (!outcome.ok()) {
      ++counters_.arbiter_failures;
      LOG_EVERY_T(ERROR, 5) << "arbiter: " << outcome.status();
    }
    if (primary_ != nullptr) {
      primary_->OnArbiter(outcome, Now());
    } else if (secondary_ != nullptr) {
      secondary_->OnArbiter(outcome, Now());
    }
    Pump();
  };
  if (desired == nullptr) {
    arbiter_->Read(std::move(done));
  } else {
    LOG(INFO) << "asking the arbiter: " << expected->ToString() << " -> " << desired->ToString();
    arbiter_->CompareAndSwap(*expected, *desired, std::move(done));
  }
}

void PairNode::CheckArbiter() {
  arbiter_->Probe([this, alive = alive_](absl::StatusOr<replication::Arbiter::Outcome> outcome) {
    if (!*alive || secondary_ == nullptr) return;
    absl::StatusOr<std::optional<replication::Register>> seen = std::optional<replication::Register>();
    if (!outcome.ok()) {
      seen = outcome.status();
    } else if (arbiter_->shared()) {
      seen = std::optional(outcome->current);
    }
    secondary_->OnArbiterChecked(seen, Now());
    const std::string& cannot = secondary_->cannot_take_over();
    if (!cannot.empty()) LogAgain(absl::StrCat("this node could not take over: ", cannot));
    Pump();
  });
}

// --- Carrying out --------------------------------------------------------------------------------

template <typename Core>
bool PairNode::PumpCore(Core& core) {
  replication::Actions actions = core.Take();
  if (actions.empty()) return false;
  for (Action& action : actions) Carry(action);
  return true;
}

// Carries out everything the cores have left, including what that leads to. Never nested: what comes up
// inside is left to the outermost call, so that actions keep their order.
void PairNode::Pump() {
  if (pumping_) return;
  pumping_ = true;
  for (bool more = true; more;) {
    more = false;
    // A core may go away while its actions are carried out (takeover), never while it is asked.
    if (secondary_ != nullptr) more = PumpCore(*secondary_);
    if (primary_ != nullptr) more = PumpCore(*primary_) || more;
  }
  pumping_ = false;
  if (takeover_.has_value()) TakeOver(*std::exchange(takeover_, std::nullopt));
  NoteWhatBecame();
  SetPulse(primary_ != nullptr && !silent_ ? primary_->pulse_epoch() : std::nullopt);
  ScheduleTick();
}

void PairNode::SayWhenProtected() {
  const bool is = std::string_view(State()) == "protected";
  if (std::exchange(told_protected_, is) == is || !is) return;
  LOG(INFO) << "protected: "
            << (primary_ != nullptr ? absl::StrCat(primary_->peer(), " has the log")
                                    : absl::StrCat("this node has the log of ", secondary_->primary()))
            << ", and could take over";
}

// Says once what an operator has to know, and ends a node that can never serve.
void PairNode::NoteWhatBecame() {
  SayWhenProtected();
  if (secondary_ != nullptr && secondary_->state() == replication::SecondaryCore::State::kSilent) {
    EndAsUseless(secondary_->why());
  }
  if (primary_ == nullptr || silent_) return;
  const bool solo = primary_->state() == PrimaryCore::State::kSolo;
  LOG_IF(WARNING, solo && !told_alone_) << "serving without a secondary: " << primary_->why_alone();
  if (solo || primary_->state() == PrimaryCore::State::kProtected) told_alone_ = solo;
}

void PairNode::Carry(Action& action) {
  if (silent_) return;
  struct Visitor {
    PairNode& node;
    void operator()(replication::SendJoin& a) {
      a.request.applied_lsn = static_cast<int64_t>(node.replayer_->applied_lsn());
      if (!node.link_) return;
      a.request.__set_interface_mtu(static_cast<int32_t>(node.address_->mtu()));
      a.request.__set_max_connections(static_cast<int64_t>(node.config_.max_connections));
      node.link_->Join(a.request);
    }
    void operator()(replication::SendAppend& a) {
      if (node.serving_) a.request.__set_logged_us(node.serving_->LoggedTimeUs());
      if (node.link_) node.link_->Append(a.request);
    }
    void operator()(replication::SendHandover& a) {
      if (node.link_) node.link_->Handover(a.request);
    }
    void operator()(replication::CloseLink& a) { node.CloseLinkBecause(a.reason); }
    void operator()(replication::Dial&) { node.DialPeerOnce(); }
    void operator()(replication::ReadRegister&) { node.Ask(nullptr, nullptr); }
    void operator()(replication::CheckArbiter&) { node.CheckArbiter(); }
    void operator()(replication::SwapRegister& a) {
      node.Ask(&a.expected, &a.desired);
      if (node.secondary_ != nullptr) node.host_watch_->OnAskingToTakeOver();  // while the arbiter thinks
    }
    void operator()(replication::StableUpTo& a) {
      if (node.serving_) node.serving_->OnStable(a.lsn);
    }
    void operator()(replication::Lease& a) { node.Leased(a.until); }
    void operator()(replication::FallSilent& a) { node.FallSilentForNow(a.reason); }
    void operator()(replication::Deposed& a) {
      node.FallSilentForGood(a.reason + "; " + a.current.ToString());
    }
    void operator()(replication::Replay& a) {
      node.replayer_->Push({std::move(a.batch), a.executed_lsn, a.output_hash});
    }
    void operator()(replication::TakeOver& a) { node.takeover_ = std::move(a); }
  };
  std::visit(Visitor{*this}, action);
}

void PairNode::Leased(replication::MonotonicTime until) {
  south_->RenewUntil(until);
  if (ready_ && !gate_open_) OpenGate();  // a handover came to nothing
}

// While the arbiter is asked, the lease that is running out is enough: nobody can have the epoch before
// its end. A handover asks for silence at once.
void PairNode::FallSilentForNow(const std::string& reason) {
  LOG(WARNING) << "not serving: " << reason;
  if (primary_->state() == PrimaryCore::State::kAlone) return;
  SetPulse(std::nullopt);
  south_->CloseGate();
  gate_open_ = false;
}

void PairNode::ScheduleTick() {
  auto due = Now() + config_.heartbeat;
  if (primary_ != nullptr) due = std::min(due, primary_->NextTick());
  if (secondary_ != nullptr) due = std::min(due, secondary_->NextTick());
  if (tick_->due().has_value() && *tick_->due() <= due) return;
  tick_due_ = due;
  tick_->Set(due, [this] {
    Tick();
    ScheduleTick();
  });
}

void PairNode::Tick() {
  NoteAbsence();
  // A process that was kept from running finds its timers due before it has read what the peer sent
  // meanwhile. That silence is its own: it reads first, and asks again.
  const auto now = Now();
  const bool late = tick_due_ + config_.heartbeat < now;
  tick_due_ = now;
  if (late) {
    host_->Post([this, alive = alive_] {
      if (*alive)
        host_->Post([this, alive] {
          if (*alive) TickNow();
        });
    });
    return;
  }
  TickNow();
}

void PairNode::TickNow() {
  DieIfTold();
  NoteStall(Now());
  LookAtHost(Now());
  NoteClockOff();
  NoteWitness(Now());
  pulse_.Beat(Now());
  // The answers to appends are from before the stall: what was proven meanwhile comes first.
  if (const auto answered = pulse_.TakeAnswered(); answered.has_value() && primary_ != nullptr) {
    primary_->OnPulseAnswered(answered->epoch, answered->sent_at, Now());
  }
  if (primary_ != nullptr) primary_->OnTick(Now());
  if (secondary_ != nullptr) secondary_->OnTick(Now());
  Pump();
  StopWhenPossible();
}

void PairNode::LookAtHost(replication::MonotonicTime now) {
  if (gate_open_) return host_watch_->LookAsPrimary(now);
  if (secondary_ == nullptr || silent_) return;
  if (host_watch_->LookAsSecondary(now, secondary_->HearsPrimary(now), replayer_->TakeClients())) {
    replayer_->AskForClients();
  }
  TellObstacle();
}

void PairNode::TellObstacle() {
  if (host_watch_->obstacle() == told_obstacle_) return;
  told_obstacle_ = host_watch_->obstacle();
  secondary_->OnObstacle(told_obstacle_, Now());
}

int64_t PairNode::ClockOffUs() const {
  if (serving_ != nullptr && !silent_) return serving_->LoggedTimeUs() - clock_->WallMicroseconds();
  return told_time_.known() ? told_time_.At(Now()) - clock_->WallMicroseconds() : 0;
}

// Says so when this host's wall clock and the pair's logged time are far apart.
void PairNode::NoteClockOff() {
  const int64_t off_us = ClockOffUs();
  if (std::abs(off_us) <= LoggedClock::kFarOffUs) return;
  LOG_EVERY_T(WARNING, 60) << "the clocks of the pair are apart: this host's is " << std::abs(off_us / 1000)
                           << " ms " << (off_us > 0 ? "behind" : "ahead of")
                           << " the logged time, which follows the primary's; is NTP running on both?";
}

void PairNode::NoteStall(replication::MonotonicTime now) {
  const auto before = std::exchange(last_tick_, now);
  if (!before.has_value() || now - *before < config_.suspect_after) return;
  ++counters_.stalls;
  LOG_EVERY_T(WARNING, 1) << "the loop stood still for "
                          << std::chrono::duration_cast<std::chrono::milliseconds>(now - *before).count()
                          << " ms: a call of the Server took long, or the machine had no time for it";
}

// What the lease's clock has not counted, the lease has not either: the other node may serve by now. Silent
// first (a delay within half of the guard is harmless, the rest of it is for the clocks' rates); to go on
// takes an answer to something that is sent from here on.
void PairNode::NoteAbsence() {
  const auto hidden = absence_.SinceLast(*clock_);
  if (hidden <= protocol_.lease_guard / 2) return;
  south_->CloseGate();
  gate_open_ = false;
  SetPulse(std::nullopt);
  ++counters_.absences;
  LOG(WARNING) << "this machine was suspended or paused, or its wall clock set: "
               << std::chrono::duration_cast<std::chrono::milliseconds>(hidden).count()
               << " ms that CLOCK_MONOTONIC does not know of; a lease from before counts no more";
  if (primary_ != nullptr) primary_->OnAbsence(Now());
}

void PairNode::NoteWitness(replication::MonotonicTime now) {
  if (witness_ == nullptr || witness_died_ || silent_ || now < next_witness_look_) return;
  next_witness_look_ = now + kWitnessPause;
  witness_died_ = !witness_->Lives();
  LOG_IF(WARNING, witness_died_) << kWitnessDied;
}

// --- The pulse -----------------------------------------------------------------------------------

// The epoch in which answered pulses may extend the lease; nullopt: in none.
void PairNode::SetPulse(std::optional<uint64_t> epoch) {
  if (epoch == pulse_epoch_) return;
  pulse_epoch_ = epoch;
  if (!epoch.has_value()) return pulse_.Forbid();
  pulse_.Allow(*epoch, Now());
  pulse_link_->Beat(&pulse_);
}

void PairNode::OnLastWord(const replication::LastWord& last) {
  if (secondary_ == nullptr || silent_ || !secondary_->OnLastWord(last.word, Now())) {
    ++counters_.pulses_dropped;
    return;
  }
  fatal_ = last.fatal;
  ++counters_.last_words_heard;
  Pump();
}

std::optional<replication::PulseMessage> PairNode::OnPulse(std::string_view datagram) {
  if (const auto last = replication::DecodeLastWord(datagram, config_.key)) {
    OnLastWord(*last);
    return std::nullopt;
  }
  auto message = replication::DecodePulse(datagram, config_.key);
  const bool heard = message.has_value() && !message->answer && message->service == protocol_.service &&
                     message->sent_at_ns > newest_sent_at_ns_ && secondary_ != nullptr && !silent_ &&
                     secondary_->OnPulse(message->epoch, Now());
  if (!heard) {
    ++counters_.pulses_dropped;
    return std::nullopt;
  }
  newest_sent_at_ns_ = message->sent_at_ns;
  ++counters_.pulses_heard;
  message->answer = true;
  return message;
}

// --- Journal -------------------------------------------------------------------------------------

void PairNode::Append(replication::RecordBatch batch, Lsn executed_lsn, uint64_t output_hash) {
  ++counters_.batches;
  primary_->OnAppended(std::move(batch), executed_lsn, output_hash, Now());
  Pump();
}

bool PairNode::StableAtOnce() const { return primary_->state() == PrimaryCore::State::kSolo; }

void PairNode::OnServerThrew(absl::Status why, replication::RecordBatch last, Lsn executed_lsn,
                             uint64_t output_hash) {
  // Not from inside a turn of what this ends: the next tick sees to it, or the answer.
  const bool tell = primary_->state() == PrimaryCore::State::kProtected && !last.empty();
  // Not Aborted: that is a node of no use any more.
  dying_ = Dying{absl::UnavailableError(why.message()), tell ? last.last_lsn() : 0,
                 Now() + (tell ? config_.suspect_after : std::chrono::milliseconds(0))};
  if (tell) Append(std::move(last), executed_lsn, output_hash);
}

void PairNode::DieIfTold() {
  if (!dying_.has_value() || silent_) return;
  if (!dying_->last.has_value() && serving_->HasTheRest()) dying_->last = primary_->last_lsn();
  if (primary_->stable_lsn() >= dying_->last.value_or(UINT64_MAX) || Now() >= dying_->at_most)
    GiveUp(dying_->why);
}

bool PairNode::PeerCannotWrite() const {
  return peer_cannot_write_ && primary_->state() == PrimaryCore::State::kProtected;
}

void PairNode::OnCommitFailed(absl::Status why) {
  LOG(ERROR) << "the Server cannot commit: " << why;
  GiveUp(absl::UnavailableError(absl::StrCat("the Server cannot commit: ", why.message())));
}

bool PairNode::CanAppend() const { return primary_->CanAppend(); }

}  // namespace understudy
