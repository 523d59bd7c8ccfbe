#include "framework/standby_role.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace understudy {

namespace wire = replication::wire;
using replication::SecondaryCore;
using State = replication::SecondaryCore::State;

namespace {
// A logged time that is later is none, and a log would refuse it.
constexpr int64_t kLatestUs = int64_t{1} << 59;
}  // namespace

StandbyRole::StandbyRole(const NodeParts& parts)
    : NodeRole(parts), core_(*parts.protocol, parts.log, parts.Now()) {}

void StandbyRole::Begin() {
  replayer_ = parts_.host->NewReplayer(parts_.executor, [this, alive = alive_](const std::string& why) {
    if (!*alive || left()) return;
    LOG(ERROR) << "THIS COPY IS UNUSABLE and will not serve: " << why;
    core_.OnCopyUnusable(why, Now());
    parts_.owner->Pump();
  });
  core_.OnServiceCarrier(parts_.frontend->CanReachClients(), Now());
  TellObstacle();
  parts_.owner->Pump();
}

// --- What there is to say ----------------------------------------------------------------------------

const char* StandbyRole::state() const {
  if (taking_over_) return "taking_over";
  switch (core_.state()) {
    case State::kJoining: return "joining";
    case State::kProtected: return core_.cannot_take_over().empty() ? "protected" : "joining";
    case State::kAsking: return "taking_over";
    case State::kTakingOver: return "taking_over";
    case State::kSilent: return "silent";
  }
  return "";
}

void StandbyRole::Describe(NodeStatus& status) const {
  status.role = Role::kSecondary;
  status.epoch = core_.epoch();
  status.peer = core_.primary();
  if (status.reason.empty()) status.reason = core_.why();
  if (status.reason.empty() && !core_.cannot_take_over().empty()) {
    status.reason = absl::StrCat("could not take over: ", core_.cannot_take_over());
  }
  if (status.reason.empty()) status.reason = parts_.frontend->watch().unreachable();
  status.last_lsn = status.stable_lsn = core_.stored_lsn();
  if (replayer_ == nullptr) return;
  status.applied_lsn = replayer_->applied_lsn();
  status.connections = replayer_->connections();
}

std::string StandbyRole::Protection() const {
  return absl::StrCat("this node has the log of ", core_.primary());
}

std::optional<int64_t> StandbyRole::LoggedTimeUs() const {
  return told_time_.known() ? std::optional(told_time_.At(Now())) : std::nullopt;
}

// --- What comes from the primary ---------------------------------------------------------------------

NodeRole::Verdict StandbyRole::OnAppend(wire::AppendRequest request, wire::AppendReply& reply) {
  const auto now = Now();
  const int64_t sent_at_ns = request.sent_at_ns;
  const int64_t logged_us = request.__isset.logged_us ? request.logged_us : -1;
  auto outcome = core_.OnAppend(std::move(request), replayer_->applied_lsn(), now);
  if (outcome.refused.has_value()) return {true, *outcome.refused};
  NoteSentAt(sent_at_ns, logged_us, now);
  reply = outcome.reply;
  if (replayer_->cannot_write()) reply.__set_cannot_write(true);
  const std::string& unreachable = parts_.frontend->watch().unreachable();
  if (!unreachable.empty()) reply.__set_warning(unreachable);
  return {};
}

void StandbyRole::NoteSentAt(int64_t sent_at_ns, int64_t logged_us, replication::MonotonicTime now) {
  const auto ahead = std::chrono::nanoseconds(sent_at_ns) - now.time_since_epoch();
  clock_ahead_ = std::max(clock_ahead_.value_or(ahead), ahead);
  newest_sent_at_ns_ = std::max(newest_sent_at_ns_, sent_at_ns);
  // When that was by this host's clock. Not by clock_ahead_: the two clocks may have run apart since then.
  const auto lately_ahead = lately_ahead_.Add(ahead, now);
  if (logged_us < 0 || logged_us >= kLatestUs) return;
  told_time_.Told(logged_us, replication::MonotonicTime(std::chrono::nanoseconds(sent_at_ns) - lately_ahead));
}

NodeRole::Verdict StandbyRole::OnHandover(const wire::HandoverRequest& request, wire::HandoverReply& reply) {
  auto outcome = core_.OnHandover(request, Now());
  if (outcome.refused.has_value()) return {true, *outcome.refused};
  reply = outcome.reply;
  return {};
}

void StandbyRole::OnJoinReply(const wire::JoinReply& reply) {
  if (reply.node != core_.primary()) {  // another host's clock
    clock_ahead_.reset();
    lately_ahead_.Reset();
    told_time_.Forget();
  }
  newest_sent_at_ns_ = 0;  // perhaps another host's, or that host's after a boot
  fatal_ = {};             // another life's
  core_.OnJoinReply(reply, Now());
}

bool StandbyRole::OnPulse(const replication::PulseMessage& message) {
  if (message.sent_at_ns <= newest_sent_at_ns_) return false;
  if (!core_.OnPulse(message.epoch, message.version, Now())) return false;
  newest_sent_at_ns_ = message.sent_at_ns;
  return true;
}

bool StandbyRole::OnLastWord(const replication::LastWord& last) {
  if (!core_.OnLastWord(last.word, Now())) return false;
  const bool understood = last.fatal.version == static_cast<uint64_t>(core_.version());
  fatal_ = understood ? last.fatal : replication::FatalCall();
  return true;
}

// --- This host ---------------------------------------------------------------------------------------

void StandbyRole::LookAtHost() {
  HostWatch& watch = parts_.frontend->watch();
  if (watch.LookAsSecondary(Now(), core_.HearsPrimary(Now()), replayer_->TakeClients())) {
    replayer_->AskForClients();
  }
  TellObstacle();
}

void StandbyRole::TellObstacle() {
  const std::string& obstacle = parts_.frontend->watch().obstacle();
  if (obstacle == told_obstacle_) return;
  told_obstacle_ = obstacle;
  core_.OnObstacle(told_obstacle_, Now());
}

void StandbyRole::OnReachChanged() { core_.OnServiceCarrier(parts_.frontend->CanReachClients(), Now()); }

bool StandbyRole::OnFenceBroken(const absl::Status& fence) {
  if (!taking_over_) return false;
  parts_.owner->GiveUp(fence);
  return true;
}

void StandbyRole::CheckArbiter() {
  parts_.arbiter->Probe([this, alive = alive_](const absl::StatusOr<replication::Arbiter::Outcome>& outcome) {
    if (!*alive || left()) return;
    absl::StatusOr<std::optional<replication::Register>> seen = std::optional<replication::Register>();
    if (!outcome.ok()) {
      seen = outcome.status();
    } else if (parts_.arbiter->shared()) {
      seen = std::optional(outcome->current);
    }
    core_.OnArbiterChecked(seen, Now());
    const std::string& cannot = core_.cannot_take_over();
    if (!cannot.empty()) parts_.links->LogAgain(absl::StrCat("this node could not take over: ", cannot));
    parts_.owner->Pump();
  });
}

// --- Actions -----------------------------------------------------------------------------------------

struct StandbyRole::Visitor {
  StandbyRole& role;
  void operator()(replication::SendJoin& a) {
    a.request.applied_lsn = static_cast<int64_t>(role.replayer_->applied_lsn());
    replication::Link* const link = role.parts_.links->link();
    if (link == nullptr) return;
    a.request.__set_interface_mtu(static_cast<int32_t>(role.parts_.frontend->address().mtu()));
    a.request.__set_max_connections(static_cast<int64_t>(role.parts_.config->max_connections));
    link->Join(a.request);
  }
  void operator()(replication::CloseLink& a) { role.parts_.links->CloseBecause(a.reason); }
  void operator()(replication::Dial&) { role.parts_.links->Dial(); }
  void operator()(replication::ReadRegister&) { role.ReadRegister(); }
  void operator()(replication::CheckArbiter&) { role.CheckArbiter(); }
  void operator()(replication::SwapRegister& a) {
    role.SwapRegister(a.expected, a.desired);
    role.parts_.frontend->watch().OnAskingToTakeOver();  // while the arbiter thinks
  }
  void operator()(replication::Replay& a) { role.replayer_->Push({std::move(a.batch), std::move(a.hashes)}); }
  void operator()(replication::TakeOver& a) { role.granted_ = std::move(a); }
  // What a primary asks for.
  template <typename Other>
  void operator()(Other&) {
    LOG(FATAL) << "not a secondary's action";
  }
};

bool StandbyRole::RunActions() {
  replication::Actions actions = core_.Take();
  for (replication::Action& action : actions) {
    if (left()) break;
    std::visit(Visitor{*this}, action);
  }
  return !actions.empty();
}

void StandbyRole::OnSettled() {
  if (granted_.has_value()) return TakeOver(*std::exchange(granted_, std::nullopt));
  if (core_.state() == State::kSilent) parts_.owner->EndAsUseless(core_.why());
}

void StandbyRole::TakeOver(const replication::TakeOver& granted) {
  const auto begun = Now();
  taking_over_ = true;
  ++parts_.counters->takeovers;
  LOG(WARNING) << "taking over: " << granted.granted.ToString() << " (" << granted.why << ")";
  parts_.links->Drop();
  const absl::Status replayed = replayer_->Finish(parts_.protocol->max_stall);
  replay_hangs_ = absl::IsDeadlineExceeded(replayed);
  if (replay_hangs_) return parts_.owner->GiveBack(granted.granted, core_.primary(), replayed);
  replayer_.reset();
  if (!replayed.ok()) {
    return parts_.owner->GiveBack(
        granted.granted, core_.primary(),
        absl::AbortedError(absl::StrCat("this copy is unusable: ", replayed.message())));
  }
  CHECK_EQ(parts_.executor->applied_lsn(), granted.last_lsn);
  parts_.owner->TakeOver({granted, core_.primary(), clock_ahead_, told_time_, fatal_, begun, Now()});
}

}  // namespace understudy
