#include "framework/pair_node.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "framework/serving_counters.h"
#include "glog/logging.h"

namespace understudy {

using replication::Lsn;
using replication::PrimaryCore;
using replication::Register;
using replication::SecondaryCore;

namespace {

// Added to the timestamps of restored connections: what passes between the estimate of the old primary's
// clock and the first segment, and the error of the estimate. Too little and clients drop segments as old
// (RFC 7323, PAWS); a little too much costs nothing.
constexpr std::chrono::milliseconds kTimestampMargin{20};
constexpr std::chrono::milliseconds kFirstDialTimeout{500};
// How long hosts are waited for that may have the service address.
constexpr std::chrono::milliseconds kFirstProbe{200};
// How long a node that cannot serve tries to give the epoch back to one that perhaps can.
constexpr std::chrono::seconds kGiveBackPatience{5};
constexpr std::chrono::milliseconds kGiveBackRetry{50};
// Before a node ends that is of no use any more: long enough for whoever watches its status.
constexpr std::chrono::seconds kUselessGrace{2};
// And that has received what the other node does not have.
constexpr std::chrono::seconds kTellWithin{1};

replication::ProtocolConfig ProtocolOf(const NodeConfig& config, const Witness* witness, Server& server) {
  replication::ProtocolConfig protocol;
  protocol.node = config.node;
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
      protocol_(ProtocolOf(config, witness, *server_)),
      pulse_(protocol_, config.max_stall, [this](auto until) { south_->RenewUntil(until); }),
      tick_(host->NewTimer()),
      useless_(host->NewTimer()) {}

PairNode::~PairNode() {
  *alive_ = false;
  for (auto& stranger : strangers_) stranger->Close();
  if (joined_ != nullptr) joined_->Close();
  if (link_ != nullptr) link_->Close();
  replayer_.reset();
  fence_.reset();
  pulse_link_.reset();
  // An orderly stop must look like a death to clients: not a FIN, not a RST.
  if (south_ != nullptr) south_->CloseGate();
  if (serving_ != nullptr) serving_->FallSilent();
  if (address_ != nullptr) (void)address_->Remove();
}

absl::Status PairNode::LockAddress() {
  auto lock = host_->LockAddress(config_.service.ip,
                                 absl::StrCat(config_.service.ToString(), " on ", config_.interface));
  if (absl::IsPermissionDenied(lock.status())) {
    // A user with the capabilities alone may have no folder; the south wrapper still refuses the same service
    // twice.
    LOG(WARNING) << lock.status().message() << "; goes on without";
    return absl::OkStatus();
  }
  if (!lock.ok()) return lock.status();
  address_lock_ = *std::move(lock);
  return absl::OkStatus();
}

absl::Status PairNode::Start() {
  LOG_IF(WARNING, config_.key.empty())
      << "no --replication_key_file: whoever can send from the peer's address can read all that clients say, "
         "make this node give up the service, or take it over";
  if (absl::Status locked = LockAddress(); !locked.ok()) return locked;
  auto address = host_->NewServiceAddress(
      {.interface = config_.interface, .ip = config_.service.ip, .announce_every = config_.announce_every});
  if (!address.ok()) return address.status();
  address_ = *std::move(address);
  auto sender = host_->OpenRawSender();
  if (!sender.ok()) return sender.status();
  sender_ = *std::move(sender);
  if (absl::Status attached = AttachSouth(); !attached.ok()) return attached;
  // Left behind by a process that died; the filter it also left keeps this host silent until here.
  if (absl::Status removed = address_->Remove(); !removed.ok()) return removed;
  host_watch_ = std::make_unique<HostWatch>(address_.get(), config_.service, [this] {
    return host_->OpenListener(config_.service, /*movable=*/true);
  });
  if (absl::Status opened = host_watch_->OpenListener(); !opened.ok()) {
    // A secondary has time, and the primary somebody who holds the log.
    if (config_.role == Role::kPrimary || !absl::IsAlreadyExists(opened)) return opened;
    LOG(ERROR) << opened.message() << "; cannot take over before that is free";
  }
  auto arbiter = host_->NewArbiter(config_.arbiter);
  if (!arbiter.ok()) return arbiter.status();
  arbiter_ = *std::move(arbiter);
  transport_ = host_->NewTransport({.own = config_.replication,
                                    .peer = config_.peer,
                                    .key = config_.key,
                                    .service = protocol_.service,
                                    .node = config_.node});
  const absl::Status listens =
      transport_->Listen([this](auto connection) { Accepted(std::move(connection)); });
  // A well-formed address that this host does not have is no wrong flag.
  if (!listens.ok()) return absl::UnavailableError(listens.message());
  auto pulse_link = transport_->OpenPulse([this](std::string_view d) { return OnPulse(d); });
  if (!pulse_link.ok()) return pulse_link.status();
  pulse_link_ = *std::move(pulse_link);
  if (witness_ != nullptr) {
    // Without it a death is found all the same, later.
    const absl::Status entrusted = witness_->Entrust(pulse_link_->fd(), south_->gate_fd(), config_.key);
    LOG_IF(WARNING, !entrusted.ok()) << entrusted.message();
  }

  executor_ = std::make_unique<Executor>(server_.get(), config_.limits);
  address_->WatchCarrier([this](bool up) {
    LOG(WARNING)
        << config_.interface << (up ? " can be used again" : " cannot be used: no carrier, or no address");
    if (primary_ != nullptr) primary_->OnServiceCarrier(CanReachClients(), Now());
    if (secondary_ != nullptr) secondary_->OnServiceCarrier(CanReachClients(), Now());
    Pump();
  });
  // An interface of the same name is there, without what hung on the old one.
  address_->WatchReplacement([this](int) { return south_->FollowInterface(); });
  if (config_.role == Role::kPrimary) {
    ClaimFirst();
  } else {
    BeginSecondary();
  }
  ScheduleTick();
  return absl::OkStatus();
}

absl::Status PairNode::AttachSouth() {
  auto south = host_->AttachSouth({.interface = config_.interface,
                                   .service = config_.service,
                                   .hand_cookie = sender_->cookie(),
                                   .hand_ip_id = sender_->ip_id()});
  if (!south.ok()) return south.status();
  south_ = *std::move(south);
  fence_ = std::make_unique<FenceGuard>(
      host_, south_.get(), [this](const absl::Status& f) { OnFence(f); },
      [this] {
        if (serving_ != nullptr && !silent_) serving_->OnFenceMended();
      });
  return absl::OkStatus();
}

// --- Primary from the start ----------------------------------------------------------------------

void PairNode::ReadArbiter(std::function<void(const Register& current)> then) {
  arbiter_->Read(
      [this, then = std::move(then), alive = alive_](absl::StatusOr<replication::Arbiter::Outcome> outcome) {
        if (!*alive) return;
        if (outcome.ok()) return then(outcome->current);
        GiveUp(absl::UnavailableError(absl::StrCat("cannot read the arbiter ", config_.arbiter, ": ",
                                                   std::string(outcome.status().message()))));
      });
}

void PairNode::CannotBegin(const Register& current, const std::string& why) {
  GiveUp(absl::FailedPreconditionError(absl::StrCat("cannot begin as primary: the arbiter ", config_.arbiter,
                                                    " says ", current.ToString(), ", and ", why)));
}

// A process that begins has no log. It may claim the epoch only when no other process can hold one, and only
// with the newest data.
void PairNode::ClaimFirst() {
  ReadArbiter([this](const Register& current) {
    if (current.epoch != 0 && !current.KeptBy(config_.node)) {
      const std::string keepers = absl::StrJoin(current.Keepers(), " or ");
      if (!config_.force_data_loss) {
        return CannotBegin(
            current,
            absl::StrCat("the newest data is on ", keepers,
                         ", not here: begin there, and start this "
                         "node with --role=secondary. If it is lost for good, --force_data_loss begins "
                         "with the old data that is here"));
      }
      LOG(WARNING) << "--force_data_loss: beginning without the data of " << keepers << ": "
                   << current.ToString();
    }
    AskPeerFirst(current);
  });
}

void PairNode::AskPeerFirst(const Register& current) {
  // This node served alone when it ended; that it is no longer running is known by the name that it holds on
  // the interface (SouthWrapper::Attach).
  if (current.holder == config_.node && current.secondary.empty()) return ProbeFirst(current);
  transport_->Dial(kFirstDialTimeout, [this, current, alive = alive_](replication::DialResult result, auto) {
    if (!*alive) return;
    // A first start: the peer may be there already, as a secondary that waits. But where each node has an
    // arbiter of its own, nothing is ever written.
    const bool first = current.epoch == 0 && config_.arbiter != "unsafe-none";
    switch (result) {
      case replication::DialResult::kConnected:
        if (first) return ProbeFirst(current);
        return CannotBegin(current, "the peer is running: start this node with --role=secondary");
      case replication::DialResult::kRefused:
        // By the host of a process that is gone, or by a firewall for one that lives.
        return current.epoch == 0 ? ProbeFirst(current) : WatchRegisterFirst(current);
      case replication::DialResult::kUnreachable:
        if (current.epoch == 0) return ProbeFirst(current);
        if (config_.force_data_loss) return WatchRegisterFirst(current);
        return CannotBegin(
            current,
            "the peer cannot be reached to make sure that it is not serving. If it is gone for "
            "good, --force_data_loss begins without asking it");
    }
  });
}

// A secondary that lives takes over within this time, and a pair that has lost its link changes the register.
void PairNode::WatchRegisterFirst(const Register& current) {
  useless_->Set(Now() + 2 * config_.suspect_after, [this, current] {
    ReadArbiter([this, current](const Register& now) {
      if (now == current) return ProbeFirst(current);
      CannotBegin(now, "that has just changed: somebody lives, whom this node cannot reach");
    });
  });
}

void PairNode::ProbeFirst(const Register& current) {
  address_->Probe(kFirstProbe, [this, current,
                                alive = alive_](absl::StatusOr<std::optional<tcpshim::MacAddress>> answered) {
    if (!*alive) return;
    if (answered.ok() && answered->has_value()) {
      return CannotBegin(current,
                         absl::StrCat(tcpshim::ToString(**answered), " on ", config_.interface,
                                      " answers for the service address ", config_.service.ToString(),
                                      ": another host has it, or serves"));
    }
    // Who cannot ask knows nothing; that is bad only where there is somebody to be known of.
    if (!answered.ok() && current.epoch != 0 && current.holder != config_.node) {
      return CannotBegin(current, absl::StrCat("nobody can be asked who has the service address: ",
                                               std::string(answered.status().message())));
    }
    Claim(current);
  });
}

void PairNode::Claim(const Register& from) {
  const Register wanted = replication::FirstServedBy(from, config_.node);
  arbiter_->CompareAndSwap(
      from, wanted, [this, wanted, alive = alive_](absl::StatusOr<replication::Arbiter::Outcome> outcome) {
        if (!*alive) return;
        if (outcome.ok() && outcome->swapped) return BeginFirst(wanted);
        GiveUp(absl::UnavailableError(absl::StrCat(
            "cannot begin as primary: the arbiter ", config_.arbiter, " says ",
            outcome.ok() ? outcome->current.ToString() : std::string(outcome.status().message()))));
      });
}

void PairNode::BeginFirst(const Register& held) {
  LOG(INFO) << "beginning as primary: " << held.ToString();
  primary_ = std::make_unique<PrimaryCore>(protocol_, held, &log_, Now());
  primary_->OnServiceCarrier(CanReachClients(), Now());
  serving_ = NewServing();
  if (absl::Status started = serving_->Start({config_.client_keepalive}); !started.ok())
    return GiveUp(started);
  serving_->BeginEpoch(held.epoch, host_->Random(), 0, config_.node);
  if (silent_) return;  // the Server's first Commit failed
  if (absl::Status serves = Serve(); !serves.ok()) return GiveUp(serves);
  OpenGate();
  Pump();
}

// --- Secondary, and takeover ---------------------------------------------------------------------

void PairNode::BeginSecondary() {
  replayer_ = host_->NewReplayer(executor_.get(), [this, alive = alive_](const std::string& why) {
    if (!*alive || secondary_ == nullptr) return;
    LOG(ERROR) << "THIS COPY IS UNUSABLE and will not serve: " << why;
    secondary_->OnCopyUnusable(why, Now());
    Pump();
  });
  secondary_ = std::make_unique<SecondaryCore>(protocol_, &log_, Now());
  secondary_->OnServiceCarrier(CanReachClients(), Now());
  TellObstacle();
  Pump();
}

void PairNode::TakeOver(const replication::TakeOver& granted) {
  const auto begun = Now();
  taking_over_ = true;
  ++counters_.takeovers;
  LOG(WARNING) << "taking over: " << granted.granted.ToString() << " (" << granted.why << ")";
  const std::string other = secondary_->primary();
  const auto give_back = [&](absl::Status why) { GiveBack(granted.granted, other, std::move(why)); };
  DropLink();
  const absl::Status replayed_all = replayer_->Finish(protocol_.max_stall);
  if (absl::IsDeadlineExceeded(replayed_all)) return give_back(replayed_all);
  replayer_.reset();
  secondary_.reset();
  if (!replayed_all.ok()) {
    return give_back(absl::AbortedError(absl::StrCat("this copy is unusable: ", replayed_all.message())));
  }
  CHECK_EQ(executor_->applied_lsn(), granted.last_lsn);

  const auto replayed = Now();
  primary_ = std::make_unique<PrimaryCore>(protocol_, granted.granted, &log_, Now());
  primary_->OnServiceCarrier(CanReachClients(), Now());
  serving_ = NewServing();
  if (absl::Status started = serving_->Start({config_.client_keepalive}); !started.ok())
    return give_back(started);
  const auto ahead = clock_ahead_.value_or(std::chrono::nanoseconds(0)) + kTimestampMargin;
  const auto shift =
      static_cast<uint32_t>(std::chrono::duration_cast<std::chrono::milliseconds>(ahead).count());
  if (told_time_.known()) serving_->ContinueLoggedTime(told_time_.At(Now()));
  const Serving::RestoreOutcome restored = serving_->RestoreEndpoints(shift);
  if (!serving_->CommitAlone()) return;
  if (absl::Status serves = Serve(); !serves.ok()) return give_back(serves);
  if (absl::Status fence = fence_->Look(); !fence.ok()) return give_back(fence);
  const auto ready = Now();
  OpenGate();
  if (silent_) return;
  serving_->ResendPending();
  serving_->ResumeTurns(granted.granted.epoch, shift, config_.node, FatalConnection(granted.last_lsn));
  taking_over_ = false;
  const auto us = [](auto span) {
    return std::chrono::duration_cast<std::chrono::microseconds>(span).count();
  };
  LOG(WARNING) << "took over at LSN " << granted.last_lsn << ": " << restored.restored
               << " connections restored, " << restored.failed << " failed, " << restored.without_route
               << " wait for a route; replayed in " << us(replayed - begun) << " us, restored in "
               << us(ready - replayed) << " us, serving after " << us(Now() - begun) << " us";
}

// The connection of whose last bytes the dead primary's process died: they are not to be the end of this one
// as well. What is in the log up to `last_lsn` this node has executed, and lives.
std::optional<Fault> PairNode::FatalConnection(Lsn last_lsn) const {
  if (fatal_.connection == 0 || fatal_.lsn <= last_lsn || executor_->Find(fatal_.connection) == nullptr) {
    return std::nullopt;
  }
  return Fault{fatal_.connection, static_cast<uint8_t>(fatal_.ending != 0)};
}

void PairNode::GiveBack(const Register& granted, const std::string& other, absl::Status why) {
  LOG(ERROR) << "cannot take over, giving the epoch back: " << why.message();
  BeSilent(std::string(why.message()));
  AskToGiveBack(granted, replication::GivenBack(granted, other), std::move(why), Now() + kGiveBackPatience);
}

void PairNode::AskToGiveBack(const Register& granted, const Register& given_back, absl::Status why,
                             replication::MonotonicTime until) {
  arbiter_->CompareAndSwap(
      granted, given_back,
      [=, this, alive = alive_](absl::StatusOr<replication::Arbiter::Outcome> outcome) mutable {
        if (!*alive) return;
        if (outcome.ok() || Now() >= until) {
          const std::string now =
              outcome.ok() ? outcome->current.ToString() : std::string(outcome.status().message());
          const std::string text =
              absl::StrCat("cannot take over: ", why.message(), "; the arbiter says ", now);
          return absl::IsAborted(why) ? EndAsUseless(text) : GiveUp(absl::Status(why.code(), text));
        }
        // Perhaps only the answer was lost: then the next one says what is there now.
        useless_->Set(Now() + kGiveBackRetry, [=, this] { AskToGiveBack(granted, given_back, why, until); });
      });
}

std::unique_ptr<Serving> PairNode::NewServing() {
  Journal* journal = this;
  return std::unique_ptr<Serving>(
      new Serving(host_, executor_.get(), journal,
                  {south_.get(), sender_.get(), [this](uint32_t ip) {
                     return address_->RouteTo(ip).value_or(tcpshim::ServiceAddress::Route{}).local;
                   }}));
}

// --- Serving and silence -------------------------------------------------------------------------

absl::Status PairNode::Serve() {
  // Before the address is there: a segment that finds no socket would be answered with a RST.
  if (absl::Status listens = serving_->north().Listen(host_watch_->TakeListener()); !listens.ok())
    return listens;
  return address_->Add();
}

void PairNode::OpenGate() {
  primary_->OnTick(Now());  // a new lease: the first may have run out while endpoints were restored
  Pump();
  if (silent_ || gate_open_) return;
  if (absl::Status fence = fence_->Look(); !fence.ok()) return GiveUp(fence);
  ready_ = true;
  gate_open_ = true;
  south_->OpenGate();
  address_->Announce();
  LOG(INFO) << "serving " << config_.service.ToString() << " on " << config_.interface;
}

bool PairNode::CanReachClients() const { return address_->carrier() && fence_->state().ok(); }

// Packets get past the south wrapper, and it cannot be helped. A node that serves would acknowledge what is
// not stable, and speak when it must not: it ends, without a word to clients, and the other one goes on. One
// that does not serve must not begin to.
void PairNode::OnFence(const absl::Status& fence) {
  if (silent_ || dying_.has_value()) return;
  const bool protects = primary_ != nullptr && primary_->state() == PrimaryCore::State::kProtected;
  if (!fence.ok() && protects) return TellTheRest(fence);
  if (!fence.ok() && (primary_ != nullptr || taking_over_)) return GiveUp(fence);
  if (fence.ok()) {
    LOG(WARNING) << "packets on " << config_.interface << " meet the south wrapper's programs again";
    reason_.clear();
  } else {
    LOG(ERROR) << "cannot serve: " << fence.message();
    reason_ = std::string(fence.message());
  }
  if (secondary_ != nullptr) secondary_->OnServiceCarrier(CanReachClients(), Now());
  Pump();
}

// Clients may hold acknowledgements of what the other node does not have. So nothing more is let in, the
// programs' help or not, and what has come in goes there before this node ends.
void PairNode::TellTheRest(const absl::Status& why) {
  LOG(ERROR) << "cannot serve any more: " << why.message();
  reason_ = std::string(why.message());
  south_->CloseGate();
  if (absl::Status removed = address_->Remove(); !removed.ok()) LOG(ERROR) << removed;
  dying_ = Dying{why, std::nullopt, Now() + kTellWithin};
  serving_->TakeTheRest();
}

void PairNode::FallSilentForGood(const std::string& reason) {
  if (silent_) return;
  LOG(ERROR) << "silent: " << reason;
  BeSilent(reason);
  EndAsUseless(reason);
}

void PairNode::EndAsUseless(const std::string& reason) {
  if (!config_.exit_when_useless || std::exchange(ending_, true)) return;
  useless_->Set(Now() + kUselessGrace, [this, reason] {
    GiveUp(absl::AbortedError(
        absl::StrCat("of no use any more: ", reason, "; start this node anew, with --role=secondary")));
  });
}

void PairNode::BeSilent(const std::string& reason) {
  silent_ = true;
  taking_over_ = false;
  gate_open_ = false;
  reason_ = reason;
  SetPulse(std::nullopt);
  south_->CloseGate();
  if (serving_ != nullptr) serving_->FallSilent();
  (void)host_watch_->TakeListener();  // closed
  if (absl::Status removed = address_->Remove(); !removed.ok()) LOG(ERROR) << removed;
  DropLink();
}

void PairNode::Leave(const std::string& reason) {
  BeSilent(reason);
  if (witness_ != nullptr) witness_->TellNow();
}

void PairNode::GiveUp(absl::Status why) {
  Leave(std::string(why.message()));  // run.cc says why, in one line
  // Not from inside a callback of something that this ends.
  host_->Post([this, why = std::move(why), alive = alive_] {
    if (*alive) failed_(why);
  });
}

void PairNode::Stop(std::function<void()> stopped) {
  stopping_ = true;
  stopped_ = std::move(stopped);
  stop_limit_ = Now() + config_.stop_within;
  StopWhenPossible();
}

// A node with a secondary just ends, and the secondary goes on with the clients: as after any other death.
// One that is alone says good-bye to them; while it waits for the arbiter's leave to be, that answer is
// waited for.
void PairNode::StopWhenPossible() {
  if (stopped_ == nullptr) return;
  const bool serves = primary_ != nullptr && !silent_;
  if (serves && primary_->state() == PrimaryCore::State::kSolo && gate_open_) {
    const auto left = std::max(stop_limit_ - Now(), replication::MonotonicTime::duration::zero());
    return serving_->ShutDown(std::chrono::duration_cast<std::chrono::milliseconds>(left),
                              std::exchange(stopped_, nullptr));
  }
  const bool asking = serves && primary_->state() == PrimaryCore::State::kAlone;
  if (asking && Now() < stop_limit_) return;
  Leave("stopped");
  std::exchange(stopped_, nullptr)();
}

const char* PairNode::State() const {
  if (silent_) return "silent";
  if (taking_over_) return "taking_over";
  if (primary_ != nullptr) {
    switch (primary_->state()) {
      case PrimaryCore::State::kSolo: return gate_open_ ? "solo" : "starting";
      case PrimaryCore::State::kProtected:
        return primary_->peer_cannot_take_over().empty() ? "protected" : "solo";
      case PrimaryCore::State::kAlone: return "silent";
      case PrimaryCore::State::kHandingOver: return "silent";
      case PrimaryCore::State::kReplaced: return "silent";
      case PrimaryCore::State::kDeposed: return "silent";
    }
  }
  if (secondary_ != nullptr) {
    switch (secondary_->state()) {
      case SecondaryCore::State::kJoining: return "joining";
      case SecondaryCore::State::kProtected:
        return secondary_->cannot_take_over().empty() ? "protected" : "joining";
      case SecondaryCore::State::kAsking: return "taking_over";
      case SecondaryCore::State::kTakingOver: return "taking_over";
      case SecondaryCore::State::kSilent: return "silent";
    }
  }
  return "starting";
}

NodeStatus PairNode::Status() const {
  NodeStatus status;
  status.state = State();
  status.node = config_.node;
  status.reason = reason_;
  // A deposed node is no primary any more.
  const bool primary =
      primary_ != nullptr ? !silent_ : secondary_ == nullptr && config_.role == Role::kPrimary;
  status.role = primary ? Role::kPrimary : Role::kSecondary;
  if (primary_ != nullptr) {
    status.epoch = primary_->held().epoch;
    status.peer = primary_->peer();
    if (status.reason.empty()) status.reason = host_watch_->conflict();
    if (status.reason.empty() && !status.peer.empty()) status.reason = heir_lacks_;
    status.last_lsn = primary_->last_lsn();
    status.stable_lsn = primary_->stable_lsn();
    status.applied_lsn = executor_->applied_lsn();
    status.connections = executor_->connection_count();
    if (status.reason.empty() && !status.peer.empty() && !primary_->peer_cannot_take_over().empty()) {
      status.reason = absl::StrCat(status.peer, " could not take over: ", primary_->peer_cannot_take_over());
    }
    if (status.reason.empty() && primary_->state() != PrimaryCore::State::kProtected) {
      const auto since = std::chrono::duration_cast<std::chrono::seconds>(Now() - primary_->alone_since());
      status.reason = absl::StrCat("no secondary for ", since.count(), " s: ", primary_->why_alone());
    }
    if (status.reason.empty() && !heir_warns_.empty()) {
      status.reason = absl::StrCat(status.peer, " says: ", heir_warns_);
    }
  } else if (secondary_ != nullptr) {
    status.epoch = secondary_->epoch();
    status.peer = secondary_->primary();
    if (status.reason.empty()) status.reason = secondary_->why();
    if (status.reason.empty() && !secondary_->cannot_take_over().empty()) {
      status.reason = absl::StrCat("could not take over: ", secondary_->cannot_take_over());
    }
    if (status.reason.empty()) status.reason = host_watch_->unreachable();
    status.last_lsn = status.stable_lsn = secondary_->stored_lsn();
    status.applied_lsn = replayer_->applied_lsn();
    status.connections = replayer_->connections();
  }
  if (witness_died_) status.warnings.push_back(kWitnessDied);
  status.clock_off_ms = ClockOffUs() / 1000;
  auto& out = status.counters;
  if (serving_ != nullptr) {
    AppendServingCounters(serving_->counters(), out);
    out.emplace_back("connections_over_limit_total", executor_->over_limit());
  }
  out.emplace_back("links_accepted_total", counters_.links_accepted);
  out.emplace_back("links_closed_for_cause_total", counters_.links_closed_for_cause);
  out.emplace_back("links_turned_away_total", transport_->turned_away());
  out.emplace_back("joins_refused_total", counters_.joins_refused);
  out.emplace_back("dials_total", counters_.dials);
  out.emplace_back("takeovers_total", counters_.takeovers);
  out.emplace_back("service_address_conflicts_total", host_watch_->conflicts());
  out.emplace_back("service_address_put_back_total", address_->times_put_back());
  out.emplace_back("batches_total", counters_.batches);
  out.emplace_back("arbiter_calls_total", counters_.arbiter_calls);
  out.emplace_back("arbiter_failures_total", counters_.arbiter_failures);
  const auto pulses = pulse_.counters();
  out.emplace_back("pulses_sent_total", pulses.sent);
  out.emplace_back("pulses_answered_total", pulses.answered);
  out.emplace_back("pulses_heard_total", counters_.pulses_heard);
  out.emplace_back("pulse_datagrams_dropped_total", counters_.pulses_dropped + pulses.dropped);
  out.emplace_back("last_words_heard_total", counters_.last_words_heard);
  out.emplace_back("stalls_total", counters_.stalls);
  out.emplace_back("south_programs_put_back_total", south_->mended());
  out.emplace_back("absences_total", counters_.absences);
  const auto south = south_->Counters();
  for (int i = 0; i < SOUTH_COUNTERS; ++i) {
    out.emplace_back(absl::StrCat("south_", tcpshim::SouthWrapper::CounterName(i), "_total"), south[i]);
  }
  return status;
}

}  // namespace understudy
