#include "framework/pair_node.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "framework/claim_role.h"
#include "framework/primary_role.h"
#include "framework/silent_role.h"
#include "framework/standby_role.h"
#include "glog/logging.h"

namespace understudy {

using replication::Register;

namespace {

// Before a node ends that is of no use any more: long enough for whoever watches its status.
constexpr std::chrono::seconds kUselessGrace{2};

replication::ProtocolConfig ProtocolOf(const NodeConfig& config, const Witness* witness, Server& server,
                                       uint64_t incarnation) {
  replication::ProtocolConfig protocol;
  protocol.self = {config.node, incarnation,
                   absl::StrCat(config.replication.address().to_string(), ":", config.replication.port())};
  protocol.service = config.service.ToString();
  protocol.key = config.key;
  protocol.heartbeat = config.heartbeat;
  protocol.suspect_after = config.suspect_after;
  protocol.max_stall = std::max(config.max_stall, config.suspect_after);
  if (witness != nullptr) protocol.last_word_hash = witness->last_word_hash();
  // The two nodes' clocks may run apart by a sixth, 83,333 ppm each way (chrony slews by so much; the kernel
  // allows 100,000), and a lease of three quarters on the slowest is over before the suspicion on the
  // fastest.
  protocol.lease_guard = std::max(config.suspect_after / 4, std::chrono::milliseconds(1));
  protocol.settings = server.MustAgree();
  for (const auto& [name, value] : config.must_agree) protocol.settings["--" + name] = value;
  protocol.settings["--heartbeat_ms"] = absl::StrCat(config.heartbeat.count());
  protocol.settings["--suspect_after_ms"] = absl::StrCat(config.suspect_after.count());
  return protocol;
}

}  // namespace

PairNode::PairNode(Host* host, const NodeConfig& config, std::unique_ptr<Server> server, Witness* witness,
                   Failed failed)
    : host_(host),
      config_(config),
      clock_(&host->clock()),
      witness_(witness),
      failed_(std::move(failed)),
      server_(std::move(server)),
      protocol_(ProtocolOf(config, witness, *server_, host->Random())),
      frontend_(host, &config_,
                {.carrier_changed = [this] { OnReachChanged(); },
                 .fence_changed = [this](const absl::Status& fence) { OnFence(fence); },
                 .fence_mended = [this] { role_->OnFenceMended(); }}),
      links_(host, &config_, &protocol_, this, &counters_),
      pulse_(protocol_, config.max_stall, [this](auto until) { frontend_.RenewUntil(until); }),
      tick_(host->NewTimer()),
      useless_(host->NewTimer()) {}

PairNode::~PairNode() {
  *alive_ = false;
  pulse_link_.reset();
  // An orderly stop must look like a death to clients: not a FIN, not a RST.
  if (role_ == nullptr) return;
  frontend_.CloseGate();
  if (!role_->left()) role_->Leave();
}

absl::Status PairNode::OpenParts() {
  // A secondary has time to wait for its port, and the primary somebody who holds the log.
  if (absl::Status opened = frontend_.Open(config_.role == Role::kPrimary); !opened.ok()) return opened;
  auto arbiter = host_->NewArbiter(config_.arbiter);
  if (!arbiter.ok()) return arbiter.status();
  arbiter_ = *std::move(arbiter);
  if (absl::Status listens = links_.Open(); !listens.ok()) return listens;
  auto pulse_link = links_.transport().OpenPulse([this](std::string_view d) { return OnPulse(d); });
  if (!pulse_link.ok()) return pulse_link.status();
  pulse_link_ = *std::move(pulse_link);
  if (witness_ != nullptr) {
    // Without it a death is found all the same, later.
    const absl::Status entrusted =
        witness_->Entrust(pulse_link_->fd(), frontend_.south().gate_fd(), config_.key);
    LOG_IF(WARNING, !entrusted.ok()) << entrusted.message();
  }
  executor_ = std::make_unique<Executor>(server_.get(), config_.limits);
  return absl::OkStatus();
}

NodeParts PairNode::Parts() {
  return {.host = host_,
          .config = &config_,
          .protocol = &protocol_,
          .frontend = &frontend_,
          .links = &links_,
          .arbiter = arbiter_.get(),
          .executor = executor_.get(),
          .log = &log_,
          .counters = &counters_,
          .owner = this};
}

absl::Status PairNode::Start() {
  LOG_IF(WARNING, config_.key.empty())
      << "no --replication_key_file: whoever can send from the peer's address can read all that clients say, "
         "make this node give up the service, or take it over";
  if (absl::Status opened = OpenParts(); !opened.ok()) return opened;
  if (config_.role == Role::kPrimary) {
    Become(std::make_unique<ClaimRole>(Parts()));
  } else {
    Become(std::make_unique<StandbyRole>(Parts()));
  }
  ScheduleTick();
  return absl::OkStatus();
}

// --- Roles -------------------------------------------------------------------------------------------

void PairNode::Become(std::unique_ptr<NodeRole> role) {
  if (role_ != nullptr) {
    if (!role_->left()) role_->Leave();
    former_.push_back(std::move(role_));
    host_->Post([this, alive = alive_] {
      if (*alive) std::erase_if(former_, [](const auto& former) { return former->CanBeDestroyed(); });
    });
  }
  role_ = std::move(role);
  role_->Begin();
}

void PairNode::BecomePrimary(const Register& held) {
  auto primary = std::make_unique<PrimaryRole>(Parts(), held);
  PrimaryRole& begun = *primary;
  Become(std::move(primary));
  begun.BeginFirst();
}

void PairNode::TakeOver(const Inheritance& inheritance) {
  auto primary = std::make_unique<PrimaryRole>(Parts(), inheritance.granted.granted);
  PrimaryRole& begun = *primary;
  Become(std::move(primary));
  begun.TakeOver(inheritance);
}

// Not a word to clients: the gate is closed before their connections are.
SilentRole& PairNode::BecomeSilent(const std::string& reason, Tell tell) {
  NodeStatus former;
  role_->Describe(former);
  if (former.epoch != 0) former.role = Role::kSecondary;
  SetPulse(std::nullopt);
  frontend_.CloseGate();
  auto silent = std::make_unique<SilentRole>(Parts(), reason, std::move(former));
  SilentRole& now = *silent;
  Become(std::move(silent));
  frontend_.Withdraw();
  links_.Drop();
  if (tell == Tell::kYes && witness_ != nullptr) witness_->TellNow();
  return now;
}

void PairNode::FallSilent(const std::string& reason) {
  if (role_->IsSilent()) return;
  LOG(ERROR) << "silent: " << reason;
  BecomeSilent(reason, Tell::kNo);
  EndAsUseless(reason);
}

void PairNode::GiveBack(const Register& granted, const std::string& other, absl::Status why) {
  LOG(ERROR) << "cannot take over, giving the epoch back: " << why.message();
  BecomeSilent(std::string(why.message()), Tell::kNo).GiveBack(granted, other, std::move(why));
}

void PairNode::EndAsUseless(const std::string& reason) {
  if (!config_.exit_when_useless || std::exchange(ending_, true)) return;
  useless_->Set(Now() + kUselessGrace, [this, reason] {
    GiveUp(absl::AbortedError(
        absl::StrCat("of no use any more: ", reason, "; start this node anew, with --role=secondary")));
  });
}

void PairNode::GiveUp(absl::Status why) {
  BecomeSilent(std::string(why.message()), Tell::kYes);  // run.cc says why, in one line
  // Not from inside a callback of something that this ends.
  host_->Post([this, why = std::move(why), alive = alive_] {
    if (*alive) failed_(why);
  });
}

// --- The end -----------------------------------------------------------------------------------------

void PairNode::Stop(std::function<void()> stopped) {
  stopping_ = true;
  stopped_ = std::move(stopped);
  stop_limit_ = Now() + config_.stop_within;
  StopWhenPossible();
}

void PairNode::StopWhenPossible() {
  if (stopped_ == nullptr) return;
  const NodeRole::Stop answer = role_->OnStop(stop_limit_, stopped_);
  if (answer == NodeRole::Stop::kTaken) return;
  if (answer == NodeRole::Stop::kLater && Now() < stop_limit_) return;
  BecomeSilent("stopped", Tell::kYes);
  std::exchange(stopped_, nullptr)();
}

// --- What the parts say ------------------------------------------------------------------------------

void PairNode::OnReachChanged() {
  role_->OnReachChanged();
  Pump();
}

// A node that does not serve must not begin to while packets get past the south wrapper.
void PairNode::OnFence(const absl::Status& fence) {
  if (role_->IsSilent() || (!fence.ok() && role_->OnFenceBroken(fence))) return;
  if (fence.ok()) {
    LOG(WARNING) << "packets on " << config_.interface << " meet the south wrapper's programs again";
    fence_reason_.clear();
  } else {
    LOG(ERROR) << "cannot serve: " << fence.message();
    fence_reason_ = std::string(fence.message());
  }
  OnReachChanged();
}

PairNode::Verdict PairNode::OnJoin(const std::string& from, const replication::wire::JoinRequest& request,
                                   replication::wire::JoinReply& reply) {
  if (stopping_) return RefuseAsNotPrimary(absl::StrCat(config_.node, " is stopping"));
  return role_->OnJoin(from, request, reply);
}

void PairNode::OnLinkDown(const std::string& reason) {
  role_->OnLinkDown(reason);
  Pump();
}

void PairNode::OnDialed(replication::DialResult result) {
  role_->OnDialed(result);
  Pump();
}

}  // namespace understudy
