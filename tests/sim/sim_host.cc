#include "tests/sim/sim_host.h"

#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "framework/record_body.h"
#include "tests/sim/sim_north.h"
#include "tests/sim/sim_south.h"
#include "tests/sim/sim_transport.h"

namespace understudy::sim {
namespace {

// --- The arbiter -------------------------------------------------------------------------------------

class SimArbiter final : public replication::Arbiter {
 public:
  explicit SimArbiter(Process* process) : process_(process) {}
  void Read(Callback done) override { process_->world->AskArbiter(*process_, std::nullopt, std::move(done)); }
  void Probe(Callback done) override { Read(std::move(done)); }
  void CompareAndSwap(const replication::Register& expected, const replication::Register& desired,
                      Callback done) override {
    process_->world->AskArbiter(*process_, {{expected, desired}}, std::move(done));
  }

 private:
  Process* const process_;
};

// --- The service address -----------------------------------------------------------------------------

class SimAddress final : public tcpshim::ServiceAddress {
 public:
  explicit SimAddress(Process* process) : process_(process) {}
  absl::Status Add() override { return Set(true); }
  absl::Status Remove() override { return Set(false); }
  uint64_t times_put_back() const override { return process_->times_put_back; }
  void Announce() override { process_->world->Announce(*process_); }
  void Probe(std::chrono::milliseconds wait, Probed done) override {
    process_->world->Probe(*process_, wait, std::move(done));
  }
  void ProbeAll(std::chrono::milliseconds wait, ProbedAll done) override {
    Probe(wait, [done = std::move(done)](const absl::StatusOr<std::optional<tcpshim::MacAddress>>& who) {
      if (!who.ok()) return done(who.status());
      done(who->has_value() ? std::vector{**who} : std::vector<tcpshim::MacAddress>{});
    });
  }
  bool carrier() const override { return process_->host->carrier; }
  void WatchCarrier(std::function<void(bool up)> changed) override {
    process_->carrier_changed = std::move(changed);
  }
  void WatchReplacement(std::function<absl::Status(int)>) override {}  // interfaces stay
  absl::StatusOr<Route> RouteTo(uint32_t ip) override {
    return Route{.local = false, .here = true, .next_hop = ip};
  }
  absl::Status Resolve(uint32_t) override { return absl::OkStatus(); }  // this world has no ARP
  uint32_t mtu() const override { return 1500; }
  int interface_index() const override { return 1; }

 private:
  absl::Status Set(bool has) {
    if (process_->dead) return absl::OkStatus();
    process_->host->address = process_->wants_address = has;
    if (!has) process_->announcing = false;
    return absl::OkStatus();
  }
  Process* const process_;
};

// --- The replay --------------------------------------------------------------------------------------

// Without a thread: the world decides how far the replay is. The checker's shadow gets everything at once.
class SimReplayer final : public Replayer {
 public:
  SimReplayer(Process* process, Executor* executor, std::function<void(std::string)> unusable)
      : process_(process), executor_(executor), replay_(executor), unusable_(std::move(unusable)) {
    process_->replay = [this] { Step(); };
  }
  ~SimReplayer() override { process_->replay = nullptr; }

  void Push(ReplayWork work) override {
    process_->shadow.Apply(work.batch);
    queue_.push_back(std::move(work));
  }
  replication::Lsn applied_lsn() const override { return executor_->applied_lsn(); }
  size_t connections() const override { return executor_->connection_count(); }
  bool cannot_write() const override { return replay_.cannot_write(); }
  // The hosts of a world have routes to all.
  void AskForClients() override {}
  std::optional<std::vector<uint32_t>> TakeClients() override { return std::nullopt; }
  absl::Status Finish(std::chrono::milliseconds) override;

 private:
  void Step();
  absl::Status Apply(const ReplayWork& work);

  Process* const process_;
  Executor* const executor_;
  Replay replay_;
  const std::function<void(std::string)> unusable_;
  std::deque<ReplayWork> queue_;
  absl::Status fault_;
};

absl::Status SimReplayer::Apply(const ReplayWork& work) {
  absl::Status whole = replay_.Apply(work, [](replication::Lsn) {});
  if (whole.ok()) whole = replay_.Commit(/*always=*/false);
  if (!whole.ok()) process_->world->Violate("I4", whole.ToString());
  return whole;
}

void SimReplayer::Step() {
  if (queue_.empty() || !fault_.ok()) return;
  fault_ = Apply(queue_.front());
  if (!fault_.ok()) return unusable_(std::string(fault_.message()));
  queue_.pop_front();
}

// The mutation: as if what clients have sent had not been stored.
ReplayWork WithoutInput(const ReplayWork& work) {
  replication::BatchBuilder builder(work.batch.first_lsn());
  for (const replication::RecordView record : work.batch) {
    const bool received = record.kind == static_cast<uint32_t>(RecordKind::kReceived);
    builder.Append(record.kind, record.time_us,
                   received ? record.body.substr(0, kReceivedHeadSize) : record.body);
  }
  return {builder.Seal()};
}

absl::Status SimReplayer::Finish(std::chrono::milliseconds) {
  if (process_->host->replay_hangs) return absl::DeadlineExceededError("the replay hangs");
  for (; !queue_.empty() && fault_.ok(); queue_.pop_front()) {
    const bool skip = process_->world->mutations().skip_replay;
    fault_ = Apply(skip ? WithoutInput(queue_.front()) : queue_.front());
  }
  return fault_;
}

}  // namespace

// --- The loop ----------------------------------------------------------------------------------------

class SimHost::SimTimer final : public Timer {
 public:
  explicit SimTimer(SimHost* host) : host_(host) {}
  ~SimTimer() override { SimTimer::Cancel(); }
  void Set(Time time, std::function<void()> run) override {
    Cancel();
    run_ = std::move(run);
    key_ = TimerKey{time, ++host_->timers_set_};
    host_->timers_[*key_] = this;
  }
  void Cancel() override {
    if (key_.has_value()) host_->timers_.erase(*std::exchange(key_, std::nullopt));
  }
  std::optional<Time> due() const override {
    return key_.has_value() ? std::optional(key_->first) : std::nullopt;
  }
  std::function<void()> Take() {
    Cancel();
    return std::move(run_);
  }

 private:
  SimHost* const host_;
  std::optional<TimerKey> key_;
  std::function<void()> run_;
};

// The only descriptor that there is.
class SimHost::SouthWatch final : public DescriptorWatch {
 public:
  SouthWatch(SimHost* host, std::function<void()> readable) : host_(host), readable_(std::move(readable)) {
    host_->south_watch_ = this;
  }
  ~SouthWatch() override { host_->south_watch_ = nullptr; }
  const std::function<void()>& readable() const { return readable_; }

 private:
  SimHost* const host_;
  const std::function<void()> readable_;
};

std::function<void()> SimHost::TakeNext() {
  if (!posted_.empty()) {
    auto run = std::move(posted_.front());
    posted_.pop_front();
    return run;
  }
  if (!timers_.empty() && timers_.begin()->first.first <= clock().Monotonic())
    return timers_.begin()->second->Take();
  if (south_watch_ != nullptr && !process_->south.events.empty()) return south_watch_->readable();
  return nullptr;
}

bool SimHost::Run(int most) {
  for (int i = 0; i < most; ++i) {
    // It may be killed in a call that takes long.
    if (process_->dead) return true;
    const std::function<void()> next = TakeNext();
    if (next == nullptr) return true;
    next();
  }
  return false;
}

std::unique_ptr<Timer> SimHost::NewTimer() { return std::make_unique<SimTimer>(this); }

std::unique_ptr<DescriptorWatch> SimHost::WatchReadable(int, std::function<void()> readable) {
  return std::make_unique<SouthWatch>(this, std::move(readable));
}

// --- What the node stands on -------------------------------------------------------------------------

absl::StatusOr<std::shared_ptr<void>> SimHost::LockAddress(uint32_t, const std::string&) {
  return std::make_shared<int>();
}

absl::StatusOr<std::unique_ptr<tcpshim::ServiceAddress>> SimHost::NewServiceAddress(
    const tcpshim::ServiceAddress::Options&) {
  return std::make_unique<SimAddress>(process_);
}

absl::StatusOr<std::unique_ptr<tcpshim::RawSender>> SimHost::OpenRawSender() {
  return std::make_unique<SimRawSender>(process_);
}

absl::StatusOr<std::unique_ptr<tcpshim::SouthWrapper>> SimHost::AttachSouth(
    const tcpshim::SouthWrapper::Options&) {
  return std::make_unique<SimSouth>(process_);
}

// No descriptor is a listener here: SimNorth knows whether it listens.
absl::StatusOr<tcpshim::UniqueFd> SimHost::OpenListener(const tcpshim::SocketAddress&, tcpshim::Connections) {
  return tcpshim::UniqueFd();
}

absl::StatusOr<std::unique_ptr<tcpshim::NorthWrapper>> SimHost::NewNorth(
    tcpshim::NorthWrapper::Log* log, const tcpshim::NorthWrapper::Options&) {
  return std::make_unique<SimNorth>(process_, log);
}

std::unique_ptr<replication::Transport> SimHost::NewTransport(const replication::Transport::Options&) {
  return std::make_unique<SimTransport>(process_);
}

absl::StatusOr<std::unique_ptr<replication::Arbiter>> SimHost::NewArbiter(const std::string&) {
  return std::make_unique<SimArbiter>(process_);
}

std::unique_ptr<Replayer> SimHost::NewReplayer(Executor* executor,
                                               std::function<void(std::string)> unusable) {
  return std::make_unique<SimReplayer>(process_, executor,
                                       [this, unusable = std::move(unusable)](std::string why) {
                                         Post([unusable, why = std::move(why)] { unusable(why); });
                                       });
}

}  // namespace understudy::sim
