#include "tests/sim/world.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "replication/last_word.h"
#include "replication/record.h"
#include "tests/sim/sim_host.h"
#include "tests/sim/sim_north.h"
#include "tests/sim/sim_transport.h"
#include "tests/sim/world_internal.h"

namespace understudy::sim {

using std::chrono::seconds;

World* World::now_in = nullptr;
Process* World::current = nullptr;

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

}  // namespace understudy::sim
