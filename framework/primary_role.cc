#include "framework/primary_role.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "framework/serving_counters.h"
#include "glog/logging.h"
#include "replication/names.h"
#include "replication/secondary.h"

namespace understudy {

namespace wire = replication::wire;
using replication::Lsn;
using replication::Register;

namespace {
// Before a node ends that has received what the other node does not have.
constexpr std::chrono::seconds kTellWithin{1};
constexpr size_t kMaxWarning = 300;  // of the peer's
}  // namespace

PrimaryRole::PrimaryRole(const NodeParts& parts, const Register& held)
    : NodeRole(parts),
      core_(*parts.protocol, held, parts.log, parts.Now()),
      serving_(std::make_unique<Serving>(parts.host, parts.executor, static_cast<Journal*>(this),
                                         parts.frontend->south_side())) {
  core_.OnServiceCarrier(parts.frontend->CanReachClients(), parts.Now());
}

void PrimaryRole::BeginFirst() {
  LOG(INFO) << "beginning as primary: " << core_.held().ToString();
  if (absl::Status started = serving_->Start({parts_.config->client_keepalive}); !started.ok()) {
    return parts_.owner->GiveUp(started);
  }
  serving_->BeginEpoch(core_.held().epoch, parts_.host->Random(), 0, parts_.config->node);
  if (left()) return;  // the Server's first Commit failed
  if (absl::Status serves = parts_.frontend->Serve(serving_->north()); !serves.ok()) {
    return parts_.owner->GiveUp(serves);
  }
  OpenGate();
  parts_.owner->Pump();
}

void PrimaryRole::Leave() {
  NodeRole::Leave();
  taking_over_ = gate_open_ = false;
  serving_->FallSilent();
}

// --- What there is to say ----------------------------------------------------------------------------

const char* PrimaryRole::state() const {
  if (taking_over_) return "taking_over";
  switch (core_.state()) {
    case State::kSolo: return gate_open_ ? "solo" : "starting";
    case State::kProtected: return core_.peer_cannot_take_over().empty() ? "protected" : "solo";
    case State::kAlone: return "silent";
    case State::kHandingOver: return "silent";
    case State::kReplaced: return "silent";
    case State::kDeposed: return "silent";
  }
  return "";
}

void PrimaryRole::Describe(NodeStatus& status) const {
  status.role = Role::kPrimary;
  status.epoch = core_.held().epoch;
  status.peer = core_.peer();
  status.last_lsn = core_.last_lsn();
  status.stable_lsn = core_.stable_lsn();
  status.applied_lsn = parts_.executor->applied_lsn();
  status.connections = parts_.executor->connection_count();
  const auto say = [&status](bool is, const std::string& what) {
    if (is && status.reason.empty()) status.reason = what;
  };
  const bool has_peer = !status.peer.empty();
  if (dying_.has_value()) say(true, std::string(dying_->why.message()));
  say(true, parts_.frontend->watch().conflict());
  say(has_peer, secondary_lacks_);
  say(has_peer && !core_.peer_cannot_take_over().empty(),
      absl::StrCat(status.peer, " could not take over: ", core_.peer_cannot_take_over()));
  const auto alone_for = std::chrono::duration_cast<std::chrono::seconds>(Now() - core_.alone_since());
  say(core_.state() != State::kProtected,
      absl::StrCat("no secondary for ", alone_for.count(), " s: ", core_.why_alone()));
  say(!secondary_warns_.empty(), absl::StrCat(status.peer, " says: ", secondary_warns_));
  AppendServingCounters(serving_->counters(), status.counters);
  status.counters.emplace_back("connections_over_limit_total", parts_.executor->over_limit());
}

std::string PrimaryRole::Protection() const { return absl::StrCat(core_.peer(), " has the log"); }

// --- Serving and silence -----------------------------------------------------------------------------

void PrimaryRole::OpenGate() {
  core_.OnTick(Now());  // a new lease: the first may have run out while endpoints were restored
  parts_.owner->Pump();
  if (left() || gate_open_) return;
  if (absl::Status fence = parts_.frontend->LookAtFence(); !fence.ok()) return parts_.owner->GiveUp(fence);
  ready_ = gate_open_ = true;
  parts_.frontend->OpenGate();
}

void PrimaryRole::Leased(replication::MonotonicTime until) {
  parts_.frontend->RenewUntil(until);
  if (ready_ && !gate_open_) OpenGate();  // a handover came to nothing
}

// While the arbiter is asked, the lease that is running out is enough: nobody can have the epoch before
// its end. A handover asks for silence at once.
void PrimaryRole::FallSilentForNow(const std::string& reason) {
  LOG(WARNING) << "not serving: " << reason;
  if (core_.state() == State::kAlone) return;
  parts_.owner->StopPulse();
  parts_.frontend->CloseGate();
  gate_open_ = false;
}

void PrimaryRole::OnAbsence() {
  gate_open_ = false;
  core_.OnAbsence(Now());
}

void PrimaryRole::OnReachChanged() { core_.OnServiceCarrier(parts_.frontend->CanReachClients(), Now()); }

// A node that serves would acknowledge what is not stable, and speak when it must not: it ends, without a
// word to clients, and the other one goes on.
bool PrimaryRole::OnFenceBroken(const absl::Status& fence) {
  if (dying_.has_value()) return true;
  core_.state() == State::kProtected ? TellTheRest(fence) : parts_.owner->GiveUp(fence);
  return true;
}

// Clients may hold acknowledgements of what the other node does not have. So nothing more is let in, the
// programs' help or not, and what has come in goes there before this node ends.
void PrimaryRole::TellTheRest(const absl::Status& why) {
  LOG(ERROR) << "cannot serve any more: " << why.message();
  parts_.frontend->CloseGate();
  parts_.frontend->RemoveAddress();
  dying_ = Dying{why, std::nullopt, Now() + kTellWithin};
  serving_->TakeTheRest();
}

void PrimaryRole::DieIfTold() {
  if (!dying_.has_value() || left()) return;
  if (!dying_->last.has_value() && serving_->HasTheRest()) dying_->last = core_.last_lsn();
  if (core_.stable_lsn() >= dying_->last.value_or(UINT64_MAX) || Now() >= dying_->at_most) {
    parts_.owner->GiveUp(dying_->why);
  }
}

// A node with a secondary just ends, and the secondary goes on with the clients: as after any other death.
// One that is alone says good-bye to them; while it waits for the arbiter's leave to be, that answer is
// waited for.
NodeRole::Stop PrimaryRole::OnStop(replication::MonotonicTime limit, std::function<void()>& stopped) {
  if (core_.state() == State::kSolo && gate_open_) {
    const auto left = std::max(limit - Now(), replication::MonotonicTime::duration::zero());
    serving_->ShutDown(std::chrono::duration_cast<std::chrono::milliseconds>(left),
                       std::exchange(stopped, nullptr));
    return Stop::kTaken;
  }
  return core_.state() == State::kAlone ? Stop::kLater : Stop::kNow;
}

void PrimaryRole::LookAtHost() {
  if (gate_open_) parts_.frontend->watch().LookAsPrimary(Now());
}

void PrimaryRole::OnTick() {
  DieIfTold();
  if (!left()) core_.OnTick(Now());
}

void PrimaryRole::OnPulseAnswered(const replication::Pulse::Answered& answered) {
  core_.OnPulseAnswered(answered.epoch, answered.sent_at, Now());
}

// --- The secondary -----------------------------------------------------------------------------------

NodeRole::Verdict PrimaryRole::OnJoin(const std::string& from, const wire::JoinRequest& request,
                                      wire::JoinReply& reply) {
  auto outcome = core_.OnJoin(request, Now());
  if (outcome.refused.has_value()) return {true, *outcome.refused};
  reply = outcome.reply;
  FitToSecondary(request);
  // Whether it is said goes by what is the same when it comes again and again.
  const std::string joins = absl::StrCat(request.node, " joins at LSN ", request.last_lsn, " from ", from);
  LOG_IF(INFO, parts_.links->ShallLog(joins))
      << joins << ": " << core_.peer_id().ToString() << ", version " << core_.version();
  return {};
}

// A client shall be promised nothing that the heir cannot keep.
void PrimaryRole::FitToSecondary(const wire::JoinRequest& request) {
  const int64_t own_mtu = parts_.frontend->address().mtu(), mtu = request.interface_mtu;
  if (mtu > 0 && own_mtu > 0 && (mtu < own_mtu || segments_limited_)) {
    const absl::Status limited =
        serving_->north().LimitSegments(static_cast<uint32_t>(std::min(mtu, own_mtu)));
    if (!limited.ok()) LOG(ERROR) << limited;
    segments_limited_ = mtu < own_mtu;
    if (segments_limited_) {
      LOG(WARNING) << "the service interface of " << parts_.config->node << " has an MTU of " << own_mtu
                   << ", that of its secondary " << mtu << ": new connections are offered the smaller; "
                   << parts_.executor->connection_count() << " that are open may stall after a takeover";
    }
  }
  secondary_lacks_.clear();
  const uint64_t own = parts_.config->max_connections;
  if (request.max_connections > 0 && own > static_cast<uint64_t>(request.max_connections)) {
    secondary_lacks_ = absl::StrCat("the secondary can hold ", request.max_connections,
                                    " connections (limit of open files), this node ", own,
                                    ": more than that would not survive this node");
    LOG(WARNING) << secondary_lacks_;
  }
}

void PrimaryRole::OnAppendReply(const wire::AppendReply& reply) {
  peer_cannot_write_ = reply.__isset.cannot_write && reply.cannot_write;
  if (std::string warning = replication::Printable(reply.warning, kMaxWarning); warning != secondary_warns_) {
    secondary_warns_ = std::move(warning);
    if (!secondary_warns_.empty()) {
      parts_.links->LogAgain(absl::StrCat("the secondary says: ", secondary_warns_));
    }
  }
  core_.OnAppendReply(reply, Now());
  // That it has not looked yet is said by each secondary that joins, and not so a moment later.
  const std::string& cannot = core_.peer_cannot_take_over();
  if (!cannot.empty() && cannot != replication::kNotChecked) {
    parts_.links->LogAgain(absl::StrCat("NOT PROTECTED: ", core_.peer(), " could not take over: ", cannot));
  }
  DieIfTold();
}

void PrimaryRole::OnHandoverReply(const wire::HandoverReply& reply) { core_.OnHandoverReply(reply, Now()); }

void PrimaryRole::OnLinkDown(const std::string& reason) {
  core_.OnLinkDown(reason, Now());
  if (core_.state() == State::kSolo) {
    parts_.links->LogAgain(absl::StrCat("no secondary: ", core_.why_alone()));
  }
}

// --- Actions -----------------------------------------------------------------------------------------

struct PrimaryRole::Visitor {
  PrimaryRole& role;
  void operator()(replication::SendAppend& a) {
    a.request.__set_logged_us(role.serving_->LoggedTimeUs());
    if (replication::Link* const link = role.parts_.links->link()) link->Append(a.request);
  }
  void operator()(replication::SendHandover& a) {
    if (replication::Link* const link = role.parts_.links->link()) link->Handover(a.request);
  }
  void operator()(replication::CloseLink& a) { role.parts_.links->CloseBecause(a.reason); }
  void operator()(replication::Dial&) { role.parts_.links->Dial(); }
  void operator()(replication::ReadRegister&) { role.ReadRegister(); }
  void operator()(replication::SwapRegister& a) { role.SwapRegister(a.expected, a.desired); }
  void operator()(replication::StableUpTo& a) {
    if (!role.appending_) role.serving_->OnStable(a.lsn);
  }
  void operator()(replication::Lease& a) { role.Leased(a.until); }
  void operator()(replication::FallSilent& a) { role.FallSilentForNow(a.reason); }
  void operator()(replication::Deposed& a) {
    role.parts_.owner->FallSilent(absl::StrCat(a.reason, "; ", a.current.ToString()));
  }
  // What a secondary asks for.
  template <typename Other>
  void operator()(Other&) {
    LOG(FATAL) << "not a primary's action";
  }
};

bool PrimaryRole::RunActions() {
  replication::Actions actions = core_.Take();
  for (replication::Action& action : actions) {
    if (left()) break;
    std::visit(Visitor{*this}, action);
  }
  return !actions.empty();
}

// Says once what an operator has to know.
void PrimaryRole::OnSettled() {
  const bool solo = core_.state() == State::kSolo;
  LOG_IF(WARNING, solo && !told_alone_) << "serving without a secondary: " << core_.why_alone();
  if (solo || core_.state() == State::kProtected) told_alone_ = solo;
}

// --- Journal -----------------------------------------------------------------------------------------

Lsn PrimaryRole::Append(replication::RecordBatch batch, Lsn executed_lsn, uint64_t output_hash) {
  ++parts_.counters->batches;
  core_.OnAppended(std::move(batch), executed_lsn, output_hash, Now());
  appending_ = true;
  parts_.owner->Pump();
  appending_ = false;
  return core_.stable_lsn();
}

void PrimaryRole::OnServerThrew(absl::Status why, replication::RecordBatch last, Lsn executed_lsn,
                                uint64_t output_hash) {
  // Not from inside a turn of what this ends: the next tick sees to it, or the answer.
  const bool tell = core_.state() == State::kProtected && !last.empty();
  // Not Aborted: that is a node of no use any more.
  dying_ = Dying{absl::UnavailableError(why.message()), tell ? last.last_lsn() : 0,
                 Now() + (tell ? parts_.config->suspect_after : std::chrono::milliseconds(0))};
  if (tell) (void)Append(std::move(last), executed_lsn, output_hash);
}

void PrimaryRole::OnCommitFailed(absl::Status why) {
  LOG(ERROR) << "the Server cannot commit: " << why;
  parts_.owner->GiveUp(absl::UnavailableError(absl::StrCat("the Server cannot commit: ", why.message())));
}

}  // namespace understudy
