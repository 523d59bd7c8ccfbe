#include "tests/sim/world.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "replication/last_word.h"
#include "replication/record.h"
#include "tests/sim/sim_host.h"
#include "tests/sim/sim_north.h"
#include "tests/sim/sim_transport.h"

namespace understudy::sim {

using replication::Register;
using std::chrono::seconds;
using tcpshim::SeqAfter;
using tcpshim::SeqBefore;
using tcpshim::SeqMax;

World* World::now_in = nullptr;
Process* World::current = nullptr;

namespace {

constexpr Nanos kTurnInterval = milliseconds(1);  // timers of a node are late by up to this
constexpr int kHandlersPerTurn = 10'000;          // more than any turn has to do: it spins
constexpr Nanos kLivenessBound = seconds(30);
constexpr uint32_t kGhosts = 0xc6130000;         // addresses from here on are nobody's
constexpr Nanos kBeginning = milliseconds(210);  // about when the first primary begins to serve
constexpr int64_t kWallEpochUs = 1'700'000'000'000'000;

class HostClock final : public Clock {
 public:
  HostClock(const World* world, const Host* host) : world_(world), host_(host) {}
  std::chrono::steady_clock::time_point Monotonic() const override {
    return std::chrono::steady_clock::time_point(host_->Monotonic(world_->now()));
  }
  Nanos Boot() const override { return host_->Monotonic(world_->now()) + host_->hidden; }
  int64_t WallMicroseconds() const override {
    // It is slewed as CLOCK_MONOTONIC is.
    const Nanos passed = host_->Monotonic(world_->now()) - host_->clock_offset;
    return kWallEpochUs + passed.count() / 1000 + host_->wall_ahead_us;
  }

 private:
  const World* const world_;
  const Host* const host_;
};

// Sets whose code it is that runs, for as long as it does.
class Running {
 public:
  explicit Running(Process* process) : before_(std::exchange(World::current, process)) {}
  ~Running() { World::current = before_; }

 private:
  Process* const before_;
};

std::string Bytes(World& world, size_t size) {
  std::string bytes(size, 0);
  for (char& byte : bytes) byte = static_cast<char>('a' + world.Random(26));
  return bytes;
}

bool IsPrefix(const std::string& shorter, const std::string& longer) {
  return shorter.size() <= longer.size() && longer.compare(0, shorter.size(), shorter) == 0;
}

}  // namespace

// --- Shadow and Process --------------------------------------------------------------------------

void Shadow::Apply(const replication::RecordBatch& batch) {
  for (const replication::RecordView record : batch) {
    if (!fault.empty()) return;
    if (const absl::Status applied = executor.Apply(record); !applied.ok()) {
      fault = applied.ToString();
      return;
    }
    executor.TakeTouched();
    ConnectionId id = 0;
    if (record.kind == static_cast<uint32_t>(RecordKind::kEpochBegan) || record.body.size() < sizeof id)
      continue;
    std::copy_n(record.body.data(), sizeof id, reinterpret_cast<char*>(&id));
    if (const ConnectionState* state = executor.Find(id)) {
      const Opened& opened = state->opened();
      known[{opened.tuple.remote, opened.irs}] = {opened.iss, opened.irs, state->rcv_nxt()};
    }
  }
}

SimWitness::SimWitness(std::string word, std::function<void()> tell)
    : word_(std::move(word)), hash_(replication::HashOfLastWord(word_)), tell_(std::move(tell)) {}

Process::Process(World* world, Host* host, ServerKind kind)
    : world(world),
      host(host),
      clock(std::make_unique<HostClock>(world, host)),
      sim_host(std::make_unique<SimHost>(this)),
      south(world->mutations()),
      shadow(kind) {}

Process::~Process() {
  dead = true;
  Running here(this);
  inbox.clear();
  node.reset();
}

// --- Making a world ------------------------------------------------------------------------------

World::World(uint64_t seed, const Mutations& mutations, bool trace)
    : mutations_(mutations), trace_on_(trace), random_(seed) {
  now_in = this;
  now_ = seconds(1000);
  server_kind_ = static_cast<ServerKind>(Random(4));
  client_delay_ = RandomNanos(Chance(70) ? Nanos(microseconds(500)) : Nanos(milliseconds(10)));
  replication_delay_ = RandomNanos(Chance(80) ? Nanos(microseconds(300)) : Nanos(milliseconds(5)));
  if (Chance(40)) loss_percent_ = 1 + static_cast<int>(Random(8));
  if (Chance(30)) duplicate_percent_ = 1 + static_cast<int>(Random(8));
  for (int i = 0; i < 2; ++i) {
    hosts_[i].index = i;
    hosts_[i].name = i == 0 ? "a" : "b";
    hosts_[i].replication = {0x0a000001u + i, 7001};
    hosts_[i].clock_offset = seconds(Random(100'000));
    // Slewed as fast as chrony does it, each forward, back, or not.
    if (mutations.drifting_clocks)
      hosts_[i].drift_ppm = 83'333 * (static_cast<int>(seed / (i == 0 ? 1 : 3) % 3) - 1);
    // The hosts' wall clocks differ a little; now and then one is set wrong.
    hosts_[i].wall_ahead_us = i * 700;
    if (Chance(20)) hosts_[i].wall_ahead_us += static_cast<int64_t>(Random(400'000'000)) - 200'000'000;
  }
  // Some of one address.
  const int count = 1 + static_cast<int>(Random(5));
  for (int i = 0; i < count; ++i) {
    const SocketAddress address = {0xc6120009u + static_cast<uint32_t>(Random(3)),
                                   static_cast<uint16_t>(40000 + i)};
    // Numbers that wrap soon, as often as not.
    Client& client = AddClient(
        address, Chance(50) ? 0u - static_cast<Seq>(Random(20'000)) : static_cast<Seq>(Random(1ull << 32)));
    if (Chance(40)) client.lives_left = 1 + static_cast<int>(Random(4));
    At(kBeginning + RandomNanos(milliseconds(600)), [this, &client, i] {
      if (i < static_cast<int>(clients_.size())) Connect(client);
    });
  }
}

Client& World::AddClient(const SocketAddress& address, Seq isn) {
  clients_.push_back(std::make_unique<Client>());
  Client* client = clients_.back().get();
  client->address = address;
  client->isn = isn;
  client->name = absl::StrCat(address.ToString(), "/", isn);
  client->plan = Bytes(*this, Random(Chance(20) ? 60'000 : 15'000));
  client->pace = milliseconds(Chance(20) ? 1 : Chance(60) ? 20 : 60);
  client->ends = Chance(70);
  client->appetite = Chance(80) ? 1 << 20 : 300 + Random(3000);
  Tcp::Config config;
  config.local = client->address;
  config.remote = service();
  config.mss = 200 + static_cast<uint32_t>(Random(1000));
  config.receive_buffer = Chance(80) ? 48 << 10 : 2000 + static_cast<uint32_t>(Random(8000));
  config.scaling = Chance(60);
  config.shift = config.scaling ? static_cast<uint8_t>(Random(4)) : 0;
  config.timestamps = Chance(60);
  if (Chance(50)) config.delayed_ack = milliseconds(1 + Random(40));
  const uint32_t offset = static_cast<uint32_t>(Random(uint64_t{1} << 32));  // of its timestamps
  client->tcp = std::make_unique<Tcp>(
      config, Tcp::Host{[this] { return now_; },
                        [this, offset] { return offset + static_cast<uint32_t>(now_.count() / 1'000'000); },
                        [this](Packet&& packet) { ToHosts(packet); }});
  return *client;
}

void World::Connect(Client& client) {
  client.tcp->Connect(client.isn);
  ArmClient(client);
  ClientSoon(client);
  if (client.lives_left == 0) return;
  // In the handshake, in mid-stream, or when all is done.
  const Nanos when = Chance(30) ? RandomNanos(milliseconds(3)) : RandomNanos(milliseconds(1500));
  At(when, [this, &client] { BeginAnew(client, Chance(60)); });
}

// From the same port; with a RST before it, or as a host that has forgotten everything.
void World::BeginAnew(Client& client, bool reset) {
  if (client.over) return;
  Note(absl::StrCat(client.name, reset ? " resets and begins anew" : " begins anew"));
  if (reset) client.tcp->Reset();
  client.over = true;
  // Initial sequence numbers of one pair of addresses grow (RFC 6528).
  Client& next = AddClient(client.address,
                           client.isn + static_cast<Seq>(client.plan.size() + 200'000 + Random(1 << 20)));
  next.lives_left = client.lives_left - 1;
  if (healed_) Hurry(next);
  At(Chance(50) ? Nanos(0) : RandomNanos(milliseconds(5)), [this, &next] { Connect(next); });
}

Client* World::ClientOf(const SocketAddress& address) {
  for (auto client = clients_.rbegin(); client != clients_.rend(); ++client) {
    if ((*client)->address == address) return client->get();
  }
  return nullptr;
}

// The one whose numbers it acknowledges.
Client* World::ClientOf(const Packet& leaving) {
  for (const auto& client : clients_) {
    const Seq behind = leaving.ack - (client->isn + 1);
    if (client->address == leaving.destination && behind <= client->plan.size() + 1) return client.get();
  }
  return nullptr;
}

World::~World() {
  for (Host& host : hosts_) host.process.reset();
  buried_.clear();
  ForgetLinks();
  now_in = nullptr;
}

void World::At(Nanos delay, std::function<void()> run) {
  events_.push({now_ + std::max(delay, Nanos(0)), order_++, std::move(run)});
}

void World::Note(const std::string& what) {
  if (!trace_on_) return;
  const int64_t us = (now_ - seconds(1000)).count() / 1000;
  outcome_.trace.push_back(
      absl::StrCat(us / 1000, ".", us % 1000 / 100, us % 100 / 10, us % 10, " ms  ", what));
}

void World::Violate(const std::string& invariant, const std::string& what) {
  if (outcome_.violation.has_value()) return;
  Note(absl::StrCat("VIOLATION of ", invariant, ": ", what));
  outcome_.violation = Violation{invariant, what};
}

void World::StartProcess(Host& host, Role role) {
  const bool anew = host.process != nullptr;
  if (anew) buried_.push_back(std::move(host.process));
  host.process = std::make_unique<Process>(this, &host, server_kind_);
  Process& process = *host.process;
  process.anew = anew;
  process.began = now_;
  NodeConfig config;
  config.role = role;
  config.service = service();
  config.interface = "sim";
  config.node = host.name;
  config.arbiter = "sim";
  config.exit_when_useless = false;
  config.max_stall = max_stall_;
  auto server = std::make_unique<ModelServer>(server_kind_);
  process.server = server.get();
  server->on_call = [this, &process] { MaybeStall(process); };
  process.witness = std::make_unique<SimWitness>(Bytes(*this, replication::kLastWordSize),
                                                 [this, &process] { SayLastWord(process); });
  Running here(&process);
  process.node =
      std::make_unique<PairNode>(process.sim_host.get(), config, std::move(server), process.witness.get(),
                                 [this, &process](absl::Status why) {
                                   process.failed = true;
                                   Note(absl::StrCat(process.host->name, " gives up: ", why.ToString()));
                                 });
  const absl::Status started = process.node->Start();
  if (!started.ok()) Violate("start", started.ToString());
  Wake(process, Nanos(0));
}

// After a power cut the machine's clock begins anew, too.
void World::Restart(Host& host) {
  // A secondary, mostly. As a primary it must find that it may not be one.
  const Role role = Chance(90) ? Role::kSecondary : Role::kPrimary;
  Note(absl::StrCat(host.name, " begins anew as ", role == Role::kPrimary ? "primary" : "secondary"));
  ++outcome_.restarts;
  if (!std::exchange(host.powered, true)) {
    host.clock_offset += seconds(1 + Random(100)) - host.Monotonic(now_);
    host.hidden = Nanos(0);
  }
  CloseLinksOf(*host.process);
  host.sockets.clear();
  host.past.clear();
  StartProcess(host, role);
  if (healed_ || Chance(40)) return;
  At(RandomNanos(milliseconds(500)), [this, &host] {
    if (!healed_ && MayDie(host)) Kill(host, Chance(50));
  });
}

// --- Running -------------------------------------------------------------------------------------

bool World::Step() {
  if (events_.empty() || IsOver()) return false;
  Event event = events_.top();
  events_.pop();
  now_ = event.at;
  event.run();
  return true;
}

void World::RunUntil(Nanos end) {
  while (!events_.empty() && events_.top().at <= end && Step()) {
  }
  // A stall may have run further.
  if (!IsOver()) now_ = std::max(now_, end);
}

void World::Wake(Process& process, Nanos delay) {
  if (process.dead) return;
  delay +=
      process.host->slow ? RandomNanos(milliseconds(25)) : microseconds(2) + RandomNanos(microseconds(60));
  const Nanos at = now_ + delay;
  if (process.turn_at.has_value() && *process.turn_at <= at) return;
  process.turn_at = at;
  At(delay, [this, &process, at] {
    if (process.turn_at == at) Turn(process);
  });
}

void World::ToProcess(Process& process, std::function<void()> run) {
  if (process.dead) return;
  process.inbox.push_back(std::move(run));
  Wake(process, Nanos(0));
}

// One turn of the node's loop: what came over links, what the sockets have, timers, the replay.
void World::Turn(Process& process) {
  process.turn_at.reset();
  if (process.dead || process.stopped || process.stalled) return;
  ++outcome_.turns;
  Running here(&process);
  const bool sockets_first = Chance(50);
  if (sockets_first && process.north != nullptr) process.north->Turn();
  // It may be killed in a call that takes long.
  auto inbox = std::exchange(process.inbox, {});
  for (const auto& run : inbox) {
    if (!process.dead) run();
  }
  for (const auto& done : std::exchange(process.turn_done, {})) {
    if (!process.dead) done();
  }
  if (!sockets_first && process.north != nullptr && !process.dead) process.north->Turn();
  if (!process.sim_host->Run(kHandlersPerTurn)) {
    Violate("spin", absl::StrCat(process.host->name, "'s loop does not come to rest"));
  }
  const bool replays = Chance(60) && !process.host->replay_hangs;
  if (process.replay && !process.dead && replays) process.replay();
  if (!process.dead) Wake(process, kTurnInterval);
}

// The node's own calls only: the secondary replays on another thread than its loop's.
void World::MaybeStall(Process& process) {
  if (current != &process || process.dead || process.stalled || !process.served) return;
  if (stall_percent_ == 0 || !Chance(stall_percent_)) return;
  const Nanos span = milliseconds(20) + RandomNanos(longest_stall_ - milliseconds(20));
  Note(absl::StrCat(process.host->name, " is busy for ", span.count() / 1'000'000, " ms"));
  ++outcome_.stalls;
  process.stalled = true;
  {
    Running nobody(nullptr);
    RunUntil(now_ + span);
  }
  // What is stopped in a call goes on in it.
  while (process.stopped && !process.dead && !IsOver()) {
    Running nobody(nullptr);
    RunUntil(now_ + milliseconds(1));
  }
  process.stalled = false;
  Note(absl::StrCat(process.host->name, " is done"));
}

void World::PulseThread(Process& process) {
  process.pulse_at.reset();
  if (process.dead || process.pulse == nullptr) return;
  Nanos wait = milliseconds(1);  // while it is stopped
  if (!process.stopped) {
    Running here(&process);
    const auto now = process.clock->Monotonic();
    const replication::Pulse::Next next = process.pulse->OnWake(now);
    if (next.send.has_value()) {
      SendPulse(process, replication::Encode(*next.send, ""));
      replication::PulseMessage answer = *next.send;
      answer.answer = true;
      if (mutations_.unanswered_pulses) process.pulse->OnDatagram(replication::Encode(answer, ""), now);
    }
    if (next.wake_at == replication::MonotonicTime::max()) return;  // PulseLink::Beat wakes it
    wait = next.wake_at - now + RandomNanos(microseconds(200));
  }
  process.pulse_at = now_ + wait;
  At(wait, [this, &process, at = now_ + wait] {
    if (process.pulse_at == at) PulseThread(process);
  });
}

void World::SendPulse(Process& from, const std::string& datagram) {
  for (int copies = Chance(duplicate_percent_) ? 2 : 1; copies > 0; --copies) {
    if (!ReplicationPasses(from.host->index) || Chance(loss_percent_)) continue;
    // Mostly soon; now and then it finds another epoch than it was sent in.
    const Nanos late = Chance(2) ? RandomNanos(milliseconds(300)) : Nanos(0);
    At(microseconds(20) + RandomNanos(replication_delay_) + late,
       [this, &host = hosts_[1 - from.host->index], datagram] { DeliverPulse(host, datagram); });
  }
}

void World::DeliverPulse(Host& host, const std::string& datagram) {
  Process* to = host.process.get();
  if (to == nullptr || to->dead || !host.powered) return;
  if (to->pulse != nullptr && to->stopped) {
    At(milliseconds(1), [this, &host, datagram] { DeliverPulse(host, datagram); });
  } else if (to->pulse != nullptr) {
    Running here(to);
    to->pulse->OnDatagram(datagram, to->clock->Monotonic());
  } else {
    ToProcess(*to, [this, to, datagram] {
      auto answer = to->heard ? to->heard(datagram) : std::nullopt;
      if (mutations_.answers_every_pulse) {
        answer = replication::DecodePulse(datagram, "");
        if (answer.has_value()) answer->answer = true;
      }
      if (answer.has_value()) SendPulse(*to, replication::Encode(*answer, ""));
    });
  }
}

size_t World::RunHoarder(size_t bytes, Nanos span) {
  clients_.resize(1);
  server_kind_ = ServerKind::kEcho;
  loss_percent_ = duplicate_percent_ = 0;
  Client& client = *clients_[0];
  client.plan = Bytes(*this, bytes);
  client.appetite = 0;
  client.greedy = true;
  client.lives_left = 0;
  StartProcess(hosts_[0], Role::kPrimary);
  StartProcess(hosts_[1], Role::kSecondary);
  RunUntil(now_ + span);
  const ModelServer::Transcript* said = hosts_[0].process->server->Find(client.name);
  return said == nullptr ? 0 : said->in.size();
}

Outcome World::RunStalls(Nanos longest) {
  longest_stall_ = longest;
  max_stall_ = seconds(60);  // many calls in one turn
  loss_percent_ = duplicate_percent_ = 0;
  Begin();
  StartProcess(hosts_[1], Role::kSecondary);
  RefreshArp();
  CheckLoggedTime();
  RunUntil(now_ + milliseconds(100));
  stall_percent_ = 100;
  RunUntil(now_ + seconds(5));
  return std::move(outcome_);
}

Outcome World::RunStopped(int apart_ppm) {
  loss_percent_ = duplicate_percent_ = 0;
  for (Host& host : hosts_) host.drift_ppm = host.index == 0 ? -apart_ppm : apart_ppm;
  Begin();
  StartProcess(hosts_[1], Role::kSecondary);
  RefreshArp();
  RunUntil(now_ + milliseconds(300) + RandomNanos(milliseconds(300)));
  Stop(hosts_[0], true);
  RunUntil(now_ + milliseconds(300));
  return std::move(outcome_);
}

Outcome World::RunBypass(bool stays) {
  loss_percent_ = duplicate_percent_ = 0;
  Begin();
  StartProcess(hosts_[1], Role::kSecondary);
  RefreshArp();
  RunUntil(now_ + milliseconds(300) + RandomNanos(milliseconds(500)));
  Bypass(hosts_[0], stays);
  hosts_[0].bypass_found_later = stays;
  RunUntil(now_ + milliseconds(1300));
  if (hosts_[0].bypassed && !hosts_[0].process->failed) Violate("fence", "nobody has noticed");
  if (outcome_.violation.has_value()) return std::move(outcome_);
  Heal();
  const Nanos bound = now_ + kLivenessBound;
  const auto done = [this](auto& client) { return Done(*client); };
  while (now_ < bound && !outcome_.violation.has_value()) {
    if (std::all_of(clients_.begin(), clients_.end(), done)) break;
    RunUntil(now_ + milliseconds(50));
  }
  for (auto& client : clients_) {
    if (!Done(*client)) Violate("liveness", absl::StrCat(client->name, ": ", client->tcp->ToString()));
    outcome_.unkept += IsUnkept(*client);
  }
  return std::move(outcome_);
}

Outcome World::RunBypassedHeir() {
  loss_percent_ = duplicate_percent_ = 0;
  Begin();
  StartProcess(hosts_[1], Role::kSecondary);
  RefreshArp();
  RunUntil(now_ + milliseconds(300) + RandomNanos(milliseconds(300)));
  Bypass(hosts_[1], true);
  Stop(hosts_[0], true);
  RunUntil(now_ + milliseconds(150));
  Stop(hosts_[0], false);
  RunUntil(now_ + seconds(1));
  return std::move(outcome_);
}

Outcome World::RunFlood(int ghosts) {
  loss_percent_ = duplicate_percent_ = 0;
  for (auto& client : clients_) {
    client->lives_left = 0;
    client->ends = true;
  }
  Begin();
  StartProcess(hosts_[1], Role::kSecondary);
  RefreshArp();
  RunUntil(now_ + milliseconds(100));
  for (int i = 0; i < ghosts; ++i) {
    Packet syn;
    syn.source = {kGhosts + static_cast<uint32_t>(i), static_cast<uint16_t>(1024 + i)};
    syn.destination = service();
    syn.seq = static_cast<Seq>(Random(1ull << 32));
    syn.flags.syn = true;
    syn.window = 64000;
    At(RandomNanos(milliseconds(300)), [this, syn] { ToHosts(syn); });
  }
  RunUntil(now_ + milliseconds(300));
  Kill(hosts_[0], Chance(50));
  RunUntil(now_ + seconds(15));
  if (outcome_.violation.has_value()) return std::move(outcome_);
  CheckStreams();
  for (const auto& client : clients_) {
    if (!Done(*client)) Violate("liveness", absl::StrCat(client->name, ": ", client->tcp->ToString()));
  }
  Process& heir = *hosts_[1].process;
  if (heir.server->transcripts().size() != clients_.size()) {
    Violate("ghosts", absl::StrCat("the Server was told of ", heir.server->transcripts().size(), " clients"));
  }
  if (heir.node->Status().connections > clients_.size()) {
    Violate("ghosts", absl::StrCat(heir.node->Status().connections, " connections stay"));
  }
  return std::move(outcome_);
}

Outcome World::RunAbsences(int count, const std::function<void(bool closed, bool open_again)>& look) {
  loss_percent_ = duplicate_percent_ = 0;
  Begin();
  StartProcess(hosts_[1], Role::kSecondary);
  RefreshArp();
  RunUntil(now_ + milliseconds(200));
  for (int i = 0; i < count; ++i) {
    const South& south = hosts_[0].process->south;
    const uint64_t closings = south.closings;
    hosts_[0].hidden += milliseconds(50 + Random(5000));
    RunUntil(now_ + milliseconds(15));
    const bool closed = south.closings > closings;
    RunUntil(now_ + milliseconds(185));
    look(closed, south.is_open());
  }
  return std::move(outcome_);
}

// The first primary makes sure that nobody has the service address before it begins.
void World::Begin() {
  StartProcess(hosts_[0], Role::kPrimary);
  const Nanos patience = now_ + seconds(2);
  while (!hosts_[0].process->served && now_ < patience) RunUntil(now_ + milliseconds(1));
}

Outcome World::Run() {
  Begin();
  At(RandomNanos(milliseconds(60)), [this] { StartProcess(hosts_[1], Role::kSecondary); });
  RefreshArp();
  CheckLoggedTime();
  if (Chance(20)) stall_percent_ = static_cast<int>(1 + Random(10));
  restarts_ = Chance(40);
  const Nanos safety_end = now_ + milliseconds(300 + Random(1500));
  ScheduleFaults(safety_end);
  RunUntil(safety_end);
  if (!IsOver()) {
    Heal();
    const Nanos healed = now_;
    const Nanos bound = now_ + kLivenessBound;
    const auto all_done = [this] {
      return std::all_of(clients_.begin(), clients_.end(), [this](auto& c) { return Done(*c); });
    };
    while (!all_done() && now_ < bound && !IsOver()) {
      if (ServiceLost()) {
        outcome_.service_lost = true;
        break;
      }
      RunUntil(now_ + milliseconds(50));
    }
    outcome_.until_done = now_ - healed;
    if (!IsOver()) {
      CheckStreams();
      for (const auto& client : clients_) {
        if (Done(*client)) continue;
        Violate("liveness", absl::StrCat(client->name, " was not served to the end: sent ", client->sent,
                                         " of ", client->plan.size(), ", received ", client->received.size(),
                                         "; ", client->tcp->ToString(), "; ", register_.ToString()));
      }
    }
  }
  if (trace_on_) {
    for (const Host& host : hosts_) {
      for (const auto& [tuple, socket] : host.sockets) {
        Note(absl::StrCat("end: ", host.name, " ", tuple.ToString(), " ", socket.tcp->ToString()));
      }
    }
  }
  return std::move(outcome_);
}

// --- Kernels -------------------------------------------------------------------------------------

Socket& World::AddSocket(Host& host, const FourTuple& tuple, Tcp::Config config,
                         std::optional<uint32_t> timestamp) {
  const auto clock_ms = [this, &host] {
    return static_cast<uint32_t>(host.Monotonic(now_).count() / 1'000'000);
  };
  const uint32_t offset =
      timestamp.has_value() ? *timestamp - clock_ms() : static_cast<uint32_t>(Random(uint64_t{1} << 32));
  Socket& socket = host.sockets[tuple];
  socket = Socket{};
  socket.number = ++sockets_made_;
  socket.timestamp = [clock_ms, offset] { return clock_ms() + offset; };
  const auto emit = [this, &host, tuple, number = socket.number](Packet&& packet) {
    const auto found = host.sockets.find(tuple);
    if (found == host.sockets.end() || found->second.number != number) return;  // let go of
    const Tcp& tcp = *found->second.tcp;
    Egress(host, std::move(packet), false, {number, tcp.established() && !tcp.fin_sent()});
  };
  socket.tcp = std::make_unique<Tcp>(config, Tcp::Host{[this] { return now_; }, socket.timestamp, emit});
  return socket;
}

// They grow from one connection of a four-tuple to the next (RFC 6528), so that nothing of the one before
// fits into it. From host to host, too: real ones know nothing of each other, and old segments fit once in
// some 30,000 times.
Seq World::NewIss(const FourTuple& tuple) {
  // The first wraps soon, as often as not.
  const Seq first = Chance(50) ? 0u - static_cast<Seq>(Random(20'000)) : static_cast<Seq>(Random(1ull << 32));
  const auto [newest, is_first] = newest_seq_.try_emplace(tuple, first);
  if (!is_first) newest->second += 65'537 + static_cast<Seq>(Random(1 << 20));
  return newest->second;
}

void World::LetGo(Host& host, const FourTuple& tuple) {
  auto found = host.sockets.find(tuple);
  if (!found->second.time_wait) host.past[found->second.number] = std::move(found->second);
  host.sockets.erase(found);
}

void World::ArmSocket(Host& host, const FourTuple& tuple) {
  auto found = host.sockets.find(tuple);
  if (found == host.sockets.end()) return;
  const auto next = found->second.tcp->next_timer();
  if (!next.has_value() || (found->second.timer_at.has_value() && *found->second.timer_at <= *next)) return;
  found->second.timer_at = next;
  At(*next - now_, [this, &host, tuple, number = found->second.number, at = *next] {
    auto socket = host.sockets.find(tuple);
    if (socket == host.sockets.end() || socket->second.number != number || socket->second.timer_at != at)
      return;
    socket->second.timer_at.reset();
    if (!host.powered) return;
    socket->second.tcp->OnTimer();
    ArmSocket(host, tuple);
  });
}

bool World::Egress(Host& host, Packet packet, bool by_hand, const South::Sender& sender) {
  if (!host.powered) return false;
  Process& process = *host.process;
  if (host.bypassed) {
    Packet filtered = packet;
    South programs = process.south;  // they are not asked
    const bool passes =
        !process.dead && programs.Egress(filtered, by_hand, sender, host.Monotonic(now_).count());
    const bool as_it_is = passes && filtered.ack == packet.ack && filtered.window == packet.window;
    as_it_is ? ToClients(host, packet) : LeaveUnfiltered(host, packet);
    // What it was offered they do not know.
    if (Client* client = ClientOf(packet); client != nullptr) client->edge_seen = false;
    return true;
  }
  if (process.dead) {
    if (!mutations_.no_fin_rst_filter || !(packet.flags.fin || packet.flags.rst)) return false;
  } else {
    const bool may_leave = process.south.Egress(packet, by_hand, sender, host.Monotonic(now_).count());
    if (!process.south.events.empty()) Wake(process, Nanos(0));
    if (!may_leave) {
      Note(absl::StrCat(host.name, " keeps: ", packet.ToString()));
      return false;
    }
  }
  ToClients(host, packet);
  return true;
}

void World::Ingress(Host& host, const Packet& packet) {
  if (!host.powered || !host.carrier || !host.service_in || host.process == nullptr) return;
  Process& process = *host.process;
  const uint64_t events_before = process.south.events_made;
  if (process.dead || !process.south.Ingress(packet, host.Monotonic(now_).count())) return;
  // The ring buffer may be full.
  if (process.south.events_made != events_before && Chance(2)) process.south.events.pop_back();
  Wake(process, Nanos(0));
  if (!host.address) return;
  const FourTuple tuple{packet.destination, packet.source};
  auto found = host.sockets.find(tuple);
  if (found != host.sockets.end() && packet.flags.syn && !packet.flags.ack && found->second.tcp->finished() &&
      found->second.tcp->MayFollow(packet)) {
    LetGo(host, tuple);  // TIME_WAIT
    found = host.sockets.end();
  }
  if (found != host.sockets.end()) {
    const bool half_open = found->second.tcp->half_open();
    found->second.tcp->OnPacket(packet);
    if (found->second.tcp->reset()) {
      half_open ? void(host.sockets.erase(found)) : LetGo(host, tuple);
    } else {
      ArmSocket(host, tuple);
    }
    return;
  }
  if (packet.flags.rst) return;
  if (packet.flags.syn && !packet.flags.ack && process.north != nullptr && process.north->is_listening()) {
    Tcp::Config config;
    config.local = packet.destination;
    config.remote = packet.source;
    config.scaling = packet.wscale.has_value();
    config.shift = config.scaling ? 2 : 0;
    config.timestamps = packet.timestamp_option;
    if (Chance(50)) config.delayed_ack = milliseconds(40);
    Socket& socket = AddSocket(host, tuple, config);
    socket.tcp->Accept(packet, NewIss(tuple));
    ArmSocket(host, tuple);
    return;
  }
  Packet reset;
  reset.source = packet.destination;
  reset.destination = packet.source;
  reset.flags.rst = true;
  if (packet.flags.ack) {
    reset.seq = packet.ack;
  } else {
    reset.flags.ack = true;
    reset.ack = packet.end();
  }
  Egress(host, std::move(reset), false);
}

// --- The service address -------------------------------------------------------------------------

// Pauses that double: as far as a run lasts, that is all that there is.
void World::Announce(Process& process) {
  process.announcing = true;
  AnnounceOnce(process, ++process.announcements, milliseconds(50));
}

void World::AnnounceOnce(Process& process, uint64_t series, milliseconds pause) {
  if (process.dead || !process.announcing || series != process.announcements) return;
  if (mutations_.no_announcement && owner_ >= 0) return;
  Host& host = *process.host;
  const bool may = process.south.MayTalk(host.Monotonic(now_).count());
  if (host.powered && host.address && may && host.carrier && host.service_out) owner_ = host.index;
  At(pause, [this, &process, series, pause] { AnnounceOnce(process, series, pause * 2); });
}

// Somebody on the host removes what it did not put there; the node puts it back in its next turn.
void World::TakeAddressAway(Host& host) {
  if (!host.address || host.process == nullptr || !host.alive()) return;
  Note(absl::StrCat(host.name, ": the service address is taken off"));
  host.address = false;
  ToProcess(*host.process, [this, &host] {
    Process& process = *host.process;
    if (!process.wants_address || host.address) return;
    host.address = true;
    ++process.times_put_back;
    Announce(process);
  });
}

void World::Probe(Process& process, milliseconds wait, tcpshim::ServiceAddress::Probed done, int asked) {
  const auto answer = [this, &process, done](absl::StatusOr<std::optional<tcpshim::MacAddress>> who) {
    ToProcess(process, [done, who = std::move(who)] { done(who); });
  };
  if (!process.host->carrier) return answer(absl::UnavailableError("no carrier"));
  if (asked == 3) return answer(std::nullopt);
  Host& other = hosts_[1 - process.host->index];
  if (process.host->service_out && process.host->service_in && HasAddress(other)) {
    return At(RandomNanos(milliseconds(1)), [answer, &other] {
      answer(tcpshim::MacAddress{2, 0, 0, 0, 0, static_cast<uint8_t>(other.index)});
    });
  }
  At(wait / 3, [this, &process, wait, done = std::move(done), asked]() mutable {
    Probe(process, wait, std::move(done), asked + 1);
  });
}

// Answers who asks for the service address.
bool World::HasAddress(const Host& host) const {
  return host.process != nullptr && host.alive() && host.address && host.carrier && host.service_in &&
         host.service_out && host.process->south.MayTalk(host.Monotonic(now_).count());
}

// Clients ask who has the address, now and then.
void World::RefreshArp() {
  if (mutations_.no_announcement) return;
  const int first = static_cast<int>(Random(2));
  for (const int i : {first, 1 - first}) {
    if (HasAddress(hosts_[i])) owner_ = i;
  }
  At(milliseconds(200), [this] { RefreshArp(); });
}

// Logged time passes as time does, give or take a tenth and what the hosts' clocks are wrong by; also over a
// takeover by a host with another wall clock.
void World::CheckLoggedTime() {
  for (const Host& host : hosts_) {
    const Process* process = host.process.get();
    if (process == nullptr || process->dead || process->failed || !process->served) continue;
    if (register_.holder != host.name) continue;
    const int64_t wall_ahead_us =
        HostClock(this, &host).WallMicroseconds() - kWallEpochUs - now_.count() / 1000;
    const Logged logged{process, now_, wall_ahead_us + process->node->Status().clock_off_ms * 1000};
    const int64_t moved_us = logged_.has_value() ? std::abs(logged.ahead_us - logged_->ahead_us) : 0;
    if (logged_.has_value() && moved_us > MayMoveUs(*logged_, *process)) {
      const int64_t passed_us = (now_ - logged_->at).count() / 1000;
      return Violate("logged time",
                     absl::StrCat("moved by ", moved_us, " us in ", passed_us, " us, on ", host.name));
    }
    logged_ = logged;
  }
  At(milliseconds(50), [this] { CheckLoggedTime(); });
}

int64_t World::MayMoveUs(const Logged& from, const Process& by) const {
  constexpr int64_t kRounding = 2'000, kWay = 50'000, kMillion = 1'000'000;
  const int64_t fastest = std::max(std::abs(hosts_[0].drift_ppm), std::abs(hosts_[1].drift_ppm));
  const int64_t passed_us = (now_ - from.at).count() / 1000;
  const int64_t moves =
      passed_us * (fastest + (kMillion + fastest) / LoggedClock::kSlew) / kMillion + kRounding;
  if (from.by == &by) return moves;
  // What the heir cannot know: how long the way took of what it was told last; how fast the other's logged
  // time went from there on, as long as one call; and how far the clocks have run apart since it saw the
  // quickest way (PairNode::lately_ahead_).
  const int64_t told_us = (max_stall_ + milliseconds(100)).count() * 1000;
  const int64_t seen_us = std::min((now_ - by.began).count() / 1000, 10 * kMillion);
  const int64_t apart = std::abs(hosts_[0].drift_ppm - hosts_[1].drift_ppm);
  return moves + kWay + told_us / LoggedClock::kSlew + seen_us * apart / kMillion;
}

void World::GateOpened(Process& process) {
  Note(absl::StrCat(process.host->name, " serves; ", register_.ToString()));
  if (process.served) return;
  process.served = true;
  ++outcome_.takeovers;
  // I2: what was stored has been replayed, all of it.
  for (const auto& [peer, stored] : process.shadow.server.transcripts()) {
    const ModelServer::Transcript* replayed = process.server->Find(peer);
    if (replayed == nullptr || !IsPrefix(stored.in, replayed->in) || !IsPrefix(stored.out, replayed->out)) {
      return Violate("I2", absl::StrCat(process.host->name, " serves without what it had stored of ", peer));
    }
  }
  if (!process.shadow.fault.empty()) return Violate("I2", process.shadow.fault);
  CheckStreams();
}

// --- The networks --------------------------------------------------------------------------------

void World::ToClients(Host& host, const Packet& packet) {
  ++outcome_.packets;
  const std::string text = packet.ToString();
  outcome_.digest = replication::Crc32c(text, static_cast<uint32_t>(outcome_.digest));
  outcome_.digest = replication::Crc32c(packet.payload, static_cast<uint32_t>(outcome_.digest));
  Note(absl::StrCat(host.name, ": ", text));
  CheckLeaving(host, packet);
  Leave(host, packet);
}

// Past the programs: nobody has promised anything to such a client until the log has all that it was told.
void World::LeaveUnfiltered(Host& host, const Packet& packet) {
  ++outcome_.unfiltered;
  Note(absl::StrCat(host.name, ", past the programs: ", packet.ToString()));
  Client* client = packet.flags.rst ? ClientOf(packet.destination) : ClientOf(packet);
  if (client != nullptr) {
    const Seq ack = packet.flags.rst ? client->isn : packet.ack;
    client->promised = SeqMax(client->promised.value_or(ack), ack);
    client->misled = client->misled || packet.flags.rst || packet.flags.fin;
    NoteSynAck(*client, packet);
  }
  Leave(host, packet);
}

// Of two that differ nobody knows which it believes.
void World::NoteSynAck(Client& client, const Packet& packet) {
  if (!packet.flags.syn) return;
  client.misled = client.misled || (client.syn_ack_seen && !client.over && client.iss != packet.seq);
  client.syn_ack_seen = true;
  client.iss = packet.seq;
  client.shift = packet.wscale.value_or(0);
}

// True: it believes what the log does not say (yet).
bool World::IsExcused(Client& client) {
  if (client.misled || !client.promised.has_value()) return client.misled;
  const Shadow* shadow = nullptr;
  const ModelServer* reference = Reference(&shadow);
  const ModelServer::Transcript* said = reference == nullptr ? nullptr : reference->Find(client.name);
  if (said == nullptr) return true;
  if (shadow != nullptr && shadow->known.at({client.address, client.isn}).iss != client.iss) {
    return client.misled = true;
  }
  if (*client.promised - (client.isn + 1) > said->in.size() + said->peer_closed) return true;
  client.promised.reset();
  return false;
}

// True: it was told of bytes that no log has. (A FIN may be beyond: a connection that has ended takes none.)
bool World::IsUnkept(Client& client) {
  if (!IsExcused(client) || client.misled) return false;
  const Shadow* shadow = nullptr;
  const ModelServer* reference = Reference(&shadow);
  const ModelServer::Transcript* said = reference == nullptr ? nullptr : reference->Find(client.name);
  return *client.promised - (client.isn + 1) > (said == nullptr ? 0 : said->in.size()) + 1;
}

void World::Leave(Host& host, const Packet& packet) {
  if (const auto newest = newest_seq_.find({packet.source, packet.destination});
      newest != newest_seq_.end()) {
    newest->second = SeqMax(newest->second, packet.end());
  }
  if (!host.carrier || !host.service_out) return;
  for (int copies = Chance(duplicate_percent_) ? 2 : 1; copies > 0; --copies) {
    if (Chance(loss_percent_)) continue;
    At(microseconds(20) + RandomNanos(client_delay_), [this, packet] {
      Client* client = ClientOf(packet.destination);
      if (client == nullptr) return;
      if (client->tcp->fresh()) {  // between two connections
        if (packet.flags.rst || !packet.flags.ack) return;
        Packet reset;
        reset.source = packet.destination;
        reset.destination = packet.source;
        reset.seq = packet.ack;
        reset.flags.rst = true;
        return ToHosts(reset);
      }
      const bool done = client->tcp->fin_received() && client->tcp->all_acked();
      if (client->tcp->Resets(packet) && !done && !IsExcused(*client)) {
        Violate("I5", absl::StrCat(client->name, " is reset"));
      }
      client->tcp->OnPacket(packet);
      ArmClient(*client);
      ClientTurn(*client);
    });
  }
}

void World::ToHosts(const Packet& packet) {
  Note(packet.ToString());
  for (int copies = Chance(duplicate_percent_) ? 2 : 1; copies > 0; --copies) {
    if (Chance(loss_percent_)) continue;
    At(microseconds(20) + RandomNanos(client_delay_), [this, packet] {
      if (owner_ >= 0) Ingress(hosts_[owner_], packet);
    });
  }
}

void World::ArmClient(Client& client) {
  const auto next = client.tcp->next_timer();
  if (!next.has_value() || (client.timer_at.has_value() && *client.timer_at <= *next)) return;
  client.timer_at = next;
  At(*next - now_, [this, &client, at = *next] {
    if (client.timer_at != at) return;
    client.timer_at.reset();
    if (client.over) return;
    client.tcp->OnTimer();
    ArmClient(client);
  });
}

void World::ClientSoon(Client& client) {
  const Nanos pause =
      client.greedy ? Nanos(0) : RandomNanos(Chance(95) ? client.pace : Nanos(milliseconds(300)));
  At(microseconds(200) + pause, [this, &client] {
    if (client.over) return;
    if (client.lives_left > 0 && client.ends && client.tcp->finished() && Chance(30)) {
      return BeginAnew(client, /*reset=*/false);
    }
    if (client.tcp->established() && client.sent < client.plan.size()) {
      const size_t chunk = client.greedy ? 1 << 20 : 1 + Random(Chance(80) ? 600 : 6000);
      client.sent += client.tcp->Write(std::string_view(client.plan).substr(client.sent, chunk));
      if (client.sent == client.plan.size() && client.ends) client.tcp->Shutdown();
      ArmClient(client);
    } else if (client.tcp->established() && client.plan.empty() && client.ends) {
      client.tcp->Shutdown();
      ArmClient(client);
    }
    // A slow reader takes its time; others read as bytes come.
    if (client.appetite < (1 << 20)) {
      client.received += client.tcp->Read(client.appetite);
      CheckReceived(client);
      ArmClient(client);
    }
    ClientSoon(client);  // also when all is done: a timer of the Server may have more to say
  });
}

void World::Hurry(Client& client) {
  client.appetite = 1 << 20;
  client.pace = std::min<Nanos>(client.pace, milliseconds(5));
  ClientTurn(client);
}

void World::ClientTurn(Client& client) {
  if (client.over || client.appetite < (1 << 20) || client.tcp->readable() == 0) return;
  client.received += client.tcp->Read(client.appetite);
  CheckReceived(client);
  ArmClient(client);
}

// --- The checks ----------------------------------------------------------------------------------

// The never-failing server: that of the log that would survive if the holder died now, or, while
// nobody else may have the epoch, the holder's own. `shadow`: not null in the first case.
const ModelServer* World::Reference(const Shadow** shadow) {
  *shadow = nullptr;
  if (lives_.secondary != nullptr) {
    *shadow = &lives_.secondary->shadow;
    return &lives_.secondary->shadow.server;
  }
  if (lives_.holder == nullptr) return nullptr;
  return lives_.holder->served ? lives_.holder->server : &lives_.holder->shadow.server;
}

void World::CheckLeaving(Host& host, const Packet& packet) {
  // I3. The register's holder alone may speak; who has lost it has fallen silent before.
  if (register_.holder != host.name) {
    return Violate("I3",
                   absl::StrCat(host.name, " speaks, and ", register_.ToString(), ": ", packet.ToString()));
  }
  if (packet.flags.rst) return;  // resets are judged where they arrive
  Client* client = ClientOf(packet);
  if (client == nullptr && packet.destination.ip >= kGhosts && packet.flags.syn) return;
  if (client == nullptr) {
    return Violate("I1", absl::StrCat("acknowledges what nobody has sent: ", packet.ToString()));
  }
  if (IsExcused(*client)) return NoteSynAck(*client, packet);
  const Shadow* shadow = nullptr;
  const ModelServer* reference = Reference(&shadow);
  if (reference == nullptr) return;
  const Shadow::Known* known = nullptr;
  if (shadow != nullptr) {
    auto found = shadow->known.find({client->address, client->isn});
    // What TCP says of a handshake (to segments of the one before) without a SYN-ACK promises nothing.
    const bool bare = packet.payload.empty() && !packet.flags.syn && !packet.flags.fin;
    if (found == shadow->known.end() && !client->syn_ack_seen && bare && packet.ack == client->isn + 1)
      return;
    if (found == shadow->known.end()) {
      return Violate("I1",
                     absl::StrCat("a connection leaves that the log does not have: ", packet.ToString()));
    }
    known = &found->second;
    if (client->syn_ack_seen && !client->over && known->iss != client->iss) {
      return Violate("I1",
                     absl::StrCat("the log has another connection than the client: ", packet.ToString()));
    }
  }
  if (packet.flags.syn) {
    if (client->syn_ack_seen && !client->over && packet.seq != client->iss) {
      return Violate("I4", absl::StrCat("a second, different SYN-ACK: ", packet.ToString()));
    }
    if (known != nullptr && known->iss != packet.seq) {
      return Violate("I1", absl::StrCat("a SYN-ACK that the log does not have: ", packet.ToString()));
    }
    return NoteSynAck(*client, packet);
  }
  // I1: acknowledgements and output against what is stored.
  if (known != nullptr && SeqAfter(packet.ack, known->rcv_nxt)) {
    return Violate("I1", absl::StrCat("acknowledges ", packet.ack - known->rcv_nxt,
                                      " that are not stable: ", packet.ToString()));
  }
  const int64_t offset = static_cast<int32_t>(packet.seq - (client->iss + 1));
  const ModelServer::Transcript* said = reference->Find(client->name);
  const size_t size = said == nullptr ? 0 : said->out.size();
  const char* unstable = shadow != nullptr ? "I1" : "I4";
  if (!packet.payload.empty()) {
    if (offset < 0 || offset + packet.payload.size() > size) {
      return Violate(unstable, absl::StrCat("sends up to ", offset + packet.payload.size(), " of ", size,
                                            " bytes that there are: ", packet.ToString()));
    }
    if (said->out.compare(offset, packet.payload.size(), packet.payload) != 0) {
      return Violate("I4", absl::StrCat("sends other bytes than the log says: ", packet.ToString()));
    }
  }
  if (packet.flags.fin && (said == nullptr || !said->fin || offset + packet.payload.size() != size)) {
    return Violate(unstable, absl::StrCat("a FIN that the log does not explain: ", packet.ToString()));
  }
  if (client->over) return;
  // I6: the window's right edge, but for what scaling rounds away, and the timestamps of data.
  const Seq edge = packet.ack + (uint32_t{packet.window} << client->shift);
  if (client->edge_seen && SeqBefore(edge + (1u << client->shift), client->edge + 1) &&
      !client->tcp->fin_received()) {
    return Violate("I6",
                   absl::StrCat("takes back ", client->edge - edge, " of the window: ", packet.ToString()));
  }
  client->edge = client->edge_seen ? SeqMax(client->edge, edge) : edge;
  client->edge_seen = true;
  if (packet.timestamp_option && !packet.payload.empty()) {
    if (client->ts_seen && SeqBefore(packet.tsval, client->tsval)) {
      return Violate(
          "I6", absl::StrCat("TSval goes back by ", client->tsval - packet.tsval, ": ", packet.ToString()));
    }
    client->tsval = packet.tsval;
    client->ts_seen = true;
  }
}

void World::CheckReceived(Client& client) {
  const Shadow* shadow = nullptr;
  const ModelServer* reference = Reference(&shadow);
  if (client.received.empty() || reference == nullptr || IsExcused(client)) return;
  const ModelServer::Transcript* said = reference->Find(client.name);
  if (said == nullptr || !IsPrefix(client.received, said->out)) {
    Violate("I4", absl::StrCat(client.name, " has received ", client.received.size(),
                               " bytes that are no prefix of the server's"));
  }
}

void World::CheckStreams() {
  const Shadow* shadow = nullptr;
  const ModelServer* reference = Reference(&shadow);
  if (reference == nullptr) return;
  for (auto& client : clients_) {
    CheckReceived(*client);
    const ModelServer::Transcript* said = reference->Find(client->name);
    if (said != nullptr && !IsPrefix(said->in, client->plan)) {
      Violate("I4", absl::StrCat("the Server was given bytes that ", client->name, " did not send"));
    }
  }
}

bool World::Done(Client& client) {
  if (client.over || IsExcused(client)) return true;
  for (Host& host : hosts_) {
    if (register_.holder != host.name || host.process == nullptr) continue;
    const ModelServer::Transcript* said = host.process->server->Find(client.name);
    if (said == nullptr || said->in.size() != client.plan.size()) return false;
    if (client.received.size() != said->out.size()) return false;
    return !client.ends || (client.tcp->fin_received() && client.tcp->all_acked());
  }
  return false;
}

// I3, whether there is anything to say or not: who does not hold the register could not speak.
void World::CheckSilence() {
  for (const Host& host : hosts_) {
    if (host.process == nullptr || !host.alive() || register_.holder == host.name) continue;
    if (!host.process->south.MayTalk(host.Monotonic(now_).count())) continue;
    Violate("I3", absl::StrCat(host.name, " may speak, and ", register_.ToString()));
  }
}

// Whoever asks names itself, but where it gives the epoch back. A node becomes the secondary when it holds
// everything, so that is the life of it that holds most.
void World::NoteLives(const Process& asked) {
  const Lives before = std::exchange(lives_, {});
  lives_.before = before.holder != nullptr && before.holder != &asked ? before.holder : before.before;
  if (register_.holder == asked.host->name) lives_.holder = &asked;
  const auto consider = [this](const Process* process) {
    if (process == nullptr || process->host->name != register_.secondary) return;
    const auto stored = [](const Process* life) { return life->shadow.executor.applied_lsn(); };
    const bool most = lives_.secondary == nullptr || stored(process) >= stored(lives_.secondary);
    if (most) lives_.secondary = process;
  };
  for (const auto& process : buried_) consider(process.get());
  for (const Host& host : hosts_) consider(host.process.get());
  outcome_.rejoined += lives_.secondary != nullptr && lives_.secondary->anew;
}

// --- The arbiter ---------------------------------------------------------------------------------

void World::AskArbiter(Process& process, std::optional<std::pair<Register, Register>> swap,
                       replication::Arbiter::Callback done) {
  if (process.dead) return;  // killed in a long call, which has ended nevertheless
  const auto carry_out = [this, swap, &process] {
    replication::Arbiter::Outcome outcome;
    if (swap.has_value() && register_ == swap->first) {
      // Who takes up what the dead have given back begins with nothing: there is no history to judge it by.
      const bool lost = lives_.before != nullptr && ServiceLost();
      register_ = swap->second;
      outcome_.service_lost |= lost && !register_.holder.empty();
      outcome.swapped = true;
      Note(absl::StrCat("arbiter: ", register_.ToString()));
      NoteLives(process);
      CheckSilence();
    }
    outcome.current = register_;
    return outcome;
  };
  const bool lost = Chance(arbiter_lost_percent_);
  const Nanos way = microseconds(100) + RandomNanos(arbiter_slow_ ? milliseconds(150) : milliseconds(2));
  ++process.asking;
  // A request whose answer is lost is carried out all the same, later, or never.
  if (lost) {
    At(way,
       [this, &process, done] { ToProcess(process, [done] { done(absl::UnavailableError("no answer")); }); });
    const bool ever = Chance(50);
    At(RandomNanos(milliseconds(200)), [&process, carry_out, ever] {
      if (ever) carry_out();
      --process.asking;
    });
    return;
  }
  At(way, [this, &process, carry_out, done, way] {
    const replication::Arbiter::Outcome outcome = carry_out();
    --process.asking;
    At(RandomNanos(way),
       [this, &process, done, outcome] { ToProcess(process, [done, outcome] { done(outcome); }); });
  });
}

// --- Faults --------------------------------------------------------------------------------------

void World::ScheduleFaults(Nanos until) {
  for (int count = static_cast<int>(Random(9)); count > 0; --count) {
    At(milliseconds(80) + RandomNanos(until - now_ - milliseconds(80)), [this] { OneFault(); });
  }
}

// No more dies than the pair survives.
bool World::MayDie(const Host& host) const {
  const Host& other = hosts_[1 - host.index];
  if (host.process == nullptr || other.process == nullptr) return false;
  if (!host.alive() || !other.alive() || other.process->failed) return false;
  // A question under way may make a node the only holder in the moment after its death.
  if (host.process->asking > 0) return false;
  if (lives_.holder == host.process.get()) return lives_.secondary == other.process.get();
  return lives_.holder == other.process.get();
}

void World::OneFault() {
  Host& host = hosts_[Random(2)];
  if (host.process == nullptr || !host.alive()) return;
  const Nanos span = milliseconds(1) + RandomNanos(Chance(60) ? milliseconds(150) : milliseconds(600));
  switch (Random(19)) {
    case 0:
    case 1:
      if (MayDie(host)) Kill(host, /*power=*/false);
      break;
    case 2:
    case 3:
      if (MayDie(host)) Kill(host, /*power=*/true);
      break;
    case 4: {
      const int which = static_cast<int>(Random(3));  // one way, the other, both
      if (which == 2 && Chance(50)) {
        SetRejects(true);
        At(span, [this] { SetRejects(false); });
      }
      for (int from = 0; from < 2; ++from) {
        if (which != 2 && which != from) continue;
        SetReplication(from, false);
        At(span, [this, from] { SetReplication(from, true); });
      }
      break;
    }
    case 5:
      SetCarrier(host, false);
      At(span, [this, &host] { SetCarrier(host, true); });
      break;
    case 6:  // one way of the service interface; no carrier tells
      Note(absl::StrCat(host.name, ": service interface is cut one way"));
      (Chance(50) ? host.service_in : host.service_out) = false;
      At(span, [&host] { host.service_in = host.service_out = true; });
      break;
    case 7:  // isolated
      SetCarrier(host, false);
      SetReplication(0, false);
      SetReplication(1, false);
      At(span, [this, &host] {
        SetCarrier(host, true);
        SetReplication(0, true);
        SetReplication(1, true);
      });
      break;
    case 8:
    case 9:
      Stop(host, true);
      At(span, [this, &host] { Stop(host, false); });
      break;
    case 10:
      Note(absl::StrCat(host.name, " is slow"));
      host.slow = true;
      At(span, [&host] { host.slow = false; });
      break;
    case 12:
    case 13:
      stall_percent_ = static_cast<int>(1 + Random(50));
      At(span, [this] { stall_percent_ = 0; });
      break;
    case 14: TakeAddressAway(host); break;
    case 15:
      Note(absl::StrCat(host.name, ": the port is taken"));
      host.port_taken = true;
      At(3 * span, [&host] { host.port_taken = false; });
      break;
    case 16:
      Note(absl::StrCat(host.name, "'s replay hangs"));
      host.replay_hangs = true;
      At(4 * span, [&host] { host.replay_hangs = false; });
      break;
    case 18:
      Bypass(host, Chance(30));
      At(4 * span, [&host] { host.bypassed = false; });
      break;
    case 17: {
      const int64_t us = static_cast<int64_t>(Random(Chance(50) ? 200'000 : 200'000'000));
      host.wall_ahead_us += Chance(50) ? us : -us;
      Note(absl::StrCat(host.name, "'s wall clock is set: ", host.wall_ahead_us / 1000, " ms ahead now"));
      break;
    }
    case 11:
      Note("the arbiter is slow and forgets");
      arbiter_slow_ = Chance(60);
      arbiter_lost_percent_ = Chance(60) ? 50 : 0;
      At(span, [this] {
        arbiter_slow_ = false;
        arbiter_lost_percent_ = 0;
      });
      break;
  }
}

void World::Kill(Host& host, bool power) {
  Note(absl::StrCat(host.name, power ? ": power is cut" : " is killed"));
  Process& process = *host.process;
  process.dead = true;
  if (restarts_) {
    At(milliseconds(1) + RandomNanos(milliseconds(Chance(50) ? 60 : 500)), [this, &host] { Restart(host); });
  }
  if (power) {
    host.powered = false;
    return;
  }
  CloseLinksOf(process);
  SayLastWord(process);
  // The kernel closes the sockets of the dead: a RST where something is unread, else a FIN.
  for (auto& [tuple, socket] : host.sockets) {
    if (socket.tcp->readable() > 0 || Chance(30)) {
      socket.tcp->Reset();
    } else {
      socket.tcp->Shutdown();
    }
  }
  host.sockets.clear();
  host.past.clear();
}

void World::Bypass(Host& host, bool stays) {
  Note(absl::StrCat(host.name, ": packets get past the programs", stays ? ", and it cannot be helped" : ""));
  host.bypassed = true;
  host.bypass_stays = stays;
}

void World::SetReplication(int from, bool passes) {
  if (replication_passes_[from] == passes) return;
  Note(absl::StrCat("replication from ", hosts_[from].name, passes ? " passes" : " is cut"));
  replication_passes_[from] = passes;
  if (!passes) return;
  for (const auto& run : std::exchange(waiting_, {})) run();
}

// Nothing passes a firewall that rejects, and what was connected is torn down.
void World::SetRejects(bool rejects) {
  if (rejects_ == rejects) return;
  Note(rejects ? "a firewall rejects replication" : "the firewall is gone");
  rejects_ = rejects;
  if (rejects) ResetLinks(*this);
}

void World::SayLastWord(Process& process) {
  if (!process.witness->entrusted()) return;
  for (const int after_ms : {0, 1, 3, 7}) {
    At(milliseconds(after_ms) + RandomNanos(milliseconds(1)), [this, &process] {
      SendPulse(process, replication::EncodeLastWord({process.witness->word(), {}}, ""));
    });
  }
}

void World::SetCarrier(Host& host, bool up) {
  if (host.carrier == up) return;
  Note(absl::StrCat(host.name, up ? " has carrier" : " has lost carrier"));
  host.carrier = up;
  Process* process = host.process.get();
  if (process == nullptr) return;
  ToProcess(*process, [this, process, up] {
    if (up && process->announcing) Announce(*process);
    if (process->carrier_changed) process->carrier_changed(up);
  });
}

void World::Stop(Host& host, bool stopped) {
  if (host.process->dead || host.process->stopped == stopped) return;
  Note(absl::StrCat(host.name, stopped ? " is stopped" : " goes on"));
  host.process->stopped = stopped;
  if (!stopped) Wake(*host.process, Nanos(0));
}

void World::Heal() {
  Note("everything is mended");
  for (Host& host : hosts_) {
    SetReplication(host.index, true);
    SetRejects(false);
    SetCarrier(host, true);
    host.service_in = host.service_out = true;
    host.slow = host.port_taken = host.replay_hangs = false;
    host.bypassed = false;
    Stop(host, false);
  }
  // Also the clients: from here on nobody but the pair is slow.
  healed_ = true;
  for (auto& client : clients_) Hurry(*client);
  arbiter_slow_ = false;
  arbiter_lost_percent_ = 0;
  stall_percent_ = 0;
  loss_percent_ = std::min(loss_percent_, 2);
}

bool World::ServiceLost() {
  const auto gone = [](const Process* life) { return life == nullptr || life->dead || life->failed; };
  // Given back: who has held it before takes it up.
  if (register_.holder.empty()) return gone(lives_.before);
  return gone(lives_.holder) && gone(lives_.secondary);
}

}  // namespace understudy::sim
