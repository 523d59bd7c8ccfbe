// The world of the simulator: two hosts with their kernels, an arbiter, the replication network,
// the client network and the clients, in one thread on a simulated clock. One seed decides all.
//
// What runs on the hosts is the shipping node: PairNode and Serving with all they are made of, the
// protocol cores, the executor, output commit. What they stand on is a Host of the simulator's (sim_host.h):
// kernel TCP (tcp.h) under a north wrapper (sim_north.h), the south wrapper's verdicts (south.h), the service
// address, the links of the pair (sim_transport.h).
//
// Safety (DESIGN section 5) is checked at each packet that leaves a host for a client, at each
// takeover, and at each byte a client receives; liveness at the end, when everything is mended.
#ifndef UNDERSTUDY_TESTS_SIM_WORLD_H_
#define UNDERSTUDY_TESTS_SIM_WORLD_H_

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <random>
#include <string>
#include <vector>

#include "framework/clock.h"
#include "framework/executor.h"
#include "framework/pair_node.h"
#include "framework/witness.h"
#include "replication/arbiter.h"
#include "replication/transport.h"
#include "tcpshim/service_address.h"
#include "tests/sim/model_server.h"
#include "tests/sim/south.h"
#include "tests/sim/tcp.h"

namespace understudy::sim {

using std::chrono::microseconds;
using std::chrono::milliseconds;
using tcpshim::FourTuple;

class World;
struct Host;
class SimHost;
class SimNorth;

// What a node that has stored the log up to here would have said: a second executor beside the
// node's own, which is given each record in the moment in which it is stored.
struct Shadow {
  explicit Shadow(ServerKind kind) : server(kind), executor(&server) {}
  void Apply(const replication::RecordBatch& batch);

  ModelServer server;
  Executor executor;
  struct Known {
    Seq iss = 0, irs = 0, rcv_nxt = 0;
  };
  std::map<std::pair<SocketAddress, Seq>, Known> known;  // by client and its ISN, also those that have ended
  std::string fault;                                     // a record did not apply
};

// Knows when its process dies: World::Kill makes it speak.
class SimWitness final : public Witness {
 public:
  SimWitness(std::string word, std::function<void()> tell);
  const std::string& last_word_hash() const override { return hash_; }
  replication::FatalCall* fatal_call() override { return &fatal_; }
  absl::Status Entrust(int, int, const std::string&) override {
    entrusted_ = true;
    return absl::OkStatus();
  }
  bool Lives() override { return true; }
  void TellNow() override { tell_(); }
  const std::string& word() const { return word_; }
  bool entrusted() const { return entrusted_; }

 private:
  const std::string word_, hash_;
  const std::function<void()> tell_;
  replication::FatalCall fatal_;
  bool entrusted_ = false;
};

// One life of a node's process.
struct Process {
  Process(World* world, Host* host, ServerKind kind);
  ~Process();

  World* const world;
  Host* const host;
  bool dead = false;
  bool stopped = false;
  bool failed = false;  // the node has given up by itself
  bool served = false;  // its gate has been open
  bool anew = false;    // the host has had another one before, which died
  Nanos began{0};
  std::unique_ptr<Clock> clock;
  std::unique_ptr<SimHost> sim_host;  // as the node sees all that is below
  South south;
  SimNorth* north = nullptr;
  replication::Transport::Accepted accept_link;
  std::function<void(bool)> carrier_changed;
  bool wants_address = false;  // has added it, and not removed it
  uint64_t times_put_back = 0;
  bool announcing = false;
  uint64_t announcements = 0;    // series begun; an older one is over
  std::function<void()> replay;  // applies some of what waits
  // The pulse: its thread's half, or, while the loop reads its socket, what hears datagrams.
  replication::Pulse* pulse = nullptr;
  replication::PulseLink::Heard heard;
  std::optional<Nanos> pulse_at;  // the thread wakes
  bool stalled = false;           // the loop is inside one long call of the Server
  std::deque<std::function<void()>> inbox;
  std::vector<std::function<void()>> turn_done;  // of links that brought something
  std::optional<Nanos> turn_at;
  ModelServer* server = nullptr;  // the node's own
  Shadow shadow;
  int asking = 0;  // questions to the arbiter that may still be carried out
  std::unique_ptr<SimWitness> witness;
  std::unique_ptr<PairNode> node;
};

struct Socket {
  std::unique_ptr<Tcp> tcp;
  std::function<uint32_t()> timestamp;  // TSval now
  uint64_t number = 0;                  // names this socket for ever; its "file descriptor"
  bool accepted = false;
  bool time_wait = false;
  std::optional<Nanos> timer_at;
};

// A host: its kernel and its interfaces live on when the process stops or dies.
struct Host {
  int index = 0;
  std::string name;
  SocketAddress replication;
  Nanos clock_offset{0};  // CLOCK_MONOTONIC less the world's time, in the beginning
  int drift_ppm = 0;      // and how much faster it goes
  Nanos hidden{0};        // of CLOCK_BOOTTIME: what CLOCK_MONOTONIC has not counted
  Nanos Monotonic(Nanos world) const { return clock_offset + world + world * drift_ppm / 1'000'000; }
  int64_t wall_ahead_us = 0;  // of its wall clock
  bool powered = true;
  bool carrier = true;
  bool service_in = true, service_out = true;
  bool address = false;       // has the service address
  bool slow = false;          // its process gets little of the CPU
  bool port_taken = false;    // by another program
  bool replay_hangs = false;  // as a secondary
  // What leaves does not meet the south wrapper's programs: another's filter lets it pass before.
  bool bypassed = false;
  bool bypass_stays = false;  // when they are put in front again
  bool bypass_found_later = false;
  uint64_t times_mended = 0;
  std::map<FourTuple, Socket> sockets;
  // Of which the kernel has let go, but no process yet (in the listener's queue, or accepted), by number.
  std::map<uint64_t, Socket> past;
  std::unique_ptr<Process> process;
  bool alive() const { return powered && !process->dead; }
};

// One connection of a client. From one port there may be several after each other: each ends the one before,
// without a word or with a RST, or follows on its orderly end.
struct Client {
  SocketAddress address;
  Seq isn = 0;
  std::string name;   // "198.18.0.9:40000/isn"
  bool over = false;  // the client has begun anew
  int lives_left = 0;
  std::unique_ptr<Tcp> tcp;
  std::optional<Nanos> timer_at;
  std::string plan;  // bytes to send
  size_t sent = 0;
  bool ends = true;     // half-closes behind them
  bool greedy = false;  // sends as fast as TCP takes it
  Nanos pace{0};        // longest pause between what it does
  size_t appetite = 0;  // bytes read in one go
  std::string received;
  // Said to it past the programs: up to here its bytes are acknowledged; or a FIN, a RST, or a SYN-ACK that
  // is not the log's.
  std::optional<Seq> promised;
  bool misled = false;
  // The wire as seen by an observer between hosts and client.
  bool syn_ack_seen = false;
  Seq iss = 0;
  uint8_t shift = 0;
  bool edge_seen = false;
  Seq edge = 0;
  bool ts_seen = false;
  uint32_t tsval = 0;
};

struct Violation {
  std::string invariant;  // "I1"
  std::string what;
};

struct Outcome {
  std::optional<Violation> violation;
  bool service_lost = false;  // more failures than a pair survives: liveness was not asked
  Nanos until_done{0};        // from when all was mended
  int takeovers = 0;
  int unkept = 0;           // clients that were told, past the programs, of bytes that no log has in the end
  uint64_t unfiltered = 0;  // packets that the programs would not have let leave like that
  int restarts = 0, rejoined = 0;  // processes that began anew, and those that became the secondary again
  uint64_t packets = 0, turns = 0, stalls = 0;
  uint64_t digest = 0;  // of everything that left a host: equal runs have equal ones
  std::vector<std::string> trace;
};

class World {
 public:
  World(uint64_t seed, const Mutations& mutations, bool trace);
  ~World();

  Outcome Run();
  // Instead: nothing fails but that every call of the primary's Server may take long, up to `longest`.
  Outcome RunStalls(Nanos longest);
  // Instead: the primary's clock goes slow by so much, the secondary's fast, and the primary's process is
  // stopped. A loop that runs asks to serve alone when its own lease ends, so it falls silent, or goes on,
  // before the other one may ask. Of one that stands still the kernel goes on: until the gate closes.
  Outcome RunStopped(int apart_ppm);
  // Instead: SYNs of so many that do not exist, the primary's death among them. The clients are served to the
  // end, and nobody ever hears of the others.
  Outcome RunFlood(int ghosts);
  // Instead: nothing fails but that the primary's machine is suspended `count` times, for longer than the
  // lease, with a clock that does not notice. `look` is told whether its gate was closed soon after, and
  // whether it is open later.
  Outcome RunAbsences(int count, const std::function<void(bool closed, bool open_again)>& look);
  // Instead: packets get past the primary's programs, which is to be noticed within a second; mended, unless
  // it `stays` so.
  Outcome RunBypass(bool stays);
  // Instead: the secondary takes over from a primary that is stopped for a while, and packets get past its
  // programs.
  Outcome RunBypassedHeir();
  // Instead: one client sends so many bytes to an echo and never reads. Returns how many the Server
  // was given within `span`.
  size_t RunHoarder(size_t bytes, Nanos span);

  // The world in whose code we are, and the process; null: none.
  static World* now_in;
  static Process* current;

  Nanos now() const { return now_; }
  const Mutations& mutations() const { return mutations_; }
  uint64_t Random(uint64_t below) { return below == 0 ? 0 : random_() % below; }
  bool Chance(int percent) { return Random(100) < static_cast<uint64_t>(percent); }
  Nanos RandomNanos(Nanos below) { return Nanos(Random(static_cast<uint64_t>(below.count()))); }
  void At(Nanos delay, std::function<void()> run);
  bool tracing() const { return trace_on_; }
  void Note(const std::string& what);
  void Violate(const std::string& invariant, const std::string& what);
  SocketAddress service() const { return {0xc6120001, 7000}; }
  replication::Register& reg() { return register_; }

  // --- What a SimHost and its parts call ---
  void Wake(Process& process, Nanos delay);
  void ToProcess(Process& process, std::function<void()> run);  // in its next turn
  bool Egress(Host& host, Packet packet, bool by_hand, const South::Sender& sender = {});
  void ArmSocket(Host& host, const FourTuple& tuple);
  // The kernel has no such connection any more; a process may hold the socket still.
  void LetGo(Host& host, const FourTuple& tuple);
  // `timestamp`: TSval now; none: the kernel's choice.
  Socket& AddSocket(Host& host, const FourTuple& tuple, Tcp::Config config,
                    std::optional<uint32_t> timestamp = std::nullopt);
  void Announce(Process& process);
  // Asks the segment who has the service address: at once, and twice more within `wait`.
  void Probe(Process& process, milliseconds wait, tcpshim::ServiceAddress::Probed done, int asked = 0);
  void GateOpened(Process& process);
  void CheckSilence();
  void AskArbiter(Process& process,
                  std::optional<std::pair<replication::Register, replication::Register>> swap,
                  replication::Arbiter::Callback done);
  bool ReplicationPasses(int from) const {
    return replication_passes_[from] && hosts_[0].powered && hosts_[1].powered;
  }
  // A firewall on the way refuses dials in the name of the living.
  bool rejects() const { return rejects_; }
  // A datagram between the nodes: comes late, twice, or never.
  void SendPulse(Process& from, const std::string& datagram);
  void PulseThread(Process& process);
  // Perhaps the call of the Server that this process is in takes long: the world goes on meanwhile.
  void MaybeStall(Process& process);
  // From `in` on for `time`: what the primary sends waits.
  void SlowReplication(Nanos in, Nanos time) {
    At(in, [this] { SetReplication(0, false); });
    At(in + time, [this] { SetReplication(0, true); });
  }
  void WhenReplicationPasses(std::function<void()> run) { waiting_.push_back(std::move(run)); }
  Host& host(int i) { return hosts_[i]; }

 private:
  struct Event {
    Nanos at;
    uint64_t order;
    std::function<void()> run;
  };
  struct Later {
    bool operator()(const Event& a, const Event& b) const {
      return a.at != b.at ? a.at > b.at : a.order > b.order;
    }
  };

  // Logged time at a moment.
  struct Logged {
    const Process* by;
    Nanos at;
    int64_t ahead_us;  // less the world's time
  };

  // Running.
  void StartProcess(Host& host, Role role);
  void Restart(Host& host);
  void Begin();
  void RunUntil(Nanos end);
  void Turn(Process& process);
  bool Step();

  // Networks.
  void DeliverPulse(Host& host, const std::string& datagram);
  void ToClients(Host& host, const Packet& packet);
  void Leave(Host& host, const Packet& packet);
  void LeaveUnfiltered(Host& host, const Packet& packet);
  bool IsExcused(Client& client);
  bool IsUnkept(Client& client);
  static void NoteSynAck(Client& client, const Packet& packet);
  void ToHosts(const Packet& packet);
  void Ingress(Host& host, const Packet& packet);
  Client& AddClient(const SocketAddress& address, Seq isn);
  void Connect(Client& client);
  void BeginAnew(Client& client, bool reset);
  Client* ClientOf(const SocketAddress& address);
  Client* ClientOf(const Packet& leaving);
  void ClientTurn(Client& client);
  void Hurry(Client& client);
  void ClientSoon(Client& client);
  void ArmClient(Client& client);
  void AnnounceOnce(Process& process, uint64_t series, milliseconds pause);
  Seq NewIss(const FourTuple& tuple);
  void TakeAddressAway(Host& host);
  void RefreshArp();
  bool HasAddress(const Host& host) const;

  // Checks.
  void CheckLeaving(Host& host, const Packet& packet);
  void CheckReceived(Client& client);
  const ModelServer* Reference(const Shadow** shadow);
  void CheckStreams();
  void CheckBounds();
  void CheckLoggedTime();
  int64_t MayMoveUs(const Logged& from, const Process& by) const;
  bool Done(Client& client);

  // Faults.
  void ScheduleFaults(Nanos until);
  void OneFault();
  void Kill(Host& host, bool power);
  bool MayDie(const Host& host) const;
  void NoteLives(const Process& asked);
  void Bypass(Host& host, bool stays);
  void SetReplication(int from, bool passes);
  void SetRejects(bool rejects);
  void SayLastWord(Process& process);
  void SetCarrier(Host& host, bool up);
  void Stop(Host& host, bool stopped);
  void Heal();
  bool ServiceLost();
  bool IsOver() const { return outcome_.violation.has_value() || outcome_.service_lost; }

  const Mutations mutations_;
  const bool trace_on_;
  std::mt19937_64 random_;
  Nanos now_{0};
  uint64_t order_ = 0;
  std::priority_queue<Event, std::vector<Event>, Later> events_;
  ServerKind server_kind_;
  std::array<Host, 2> hosts_;
  std::array<bool, 2> replication_passes_{true, true};
  bool rejects_ = false;
  std::vector<std::function<void()>> waiting_;
  std::vector<std::unique_ptr<Client>> clients_;
  int owner_ = -1;  // where the switch sends what is for the service address
  uint64_t sockets_made_ = 0;
  std::map<FourTuple, Seq> newest_seq_;  // that a host has used towards a client

  // The networks' manners in this run.
  int loss_percent_ = 0, duplicate_percent_ = 0;
  Nanos client_delay_{0}, replication_delay_{0};

  replication::Register register_;
  // The lives that the register speaks of: a host may be there again without what it had.
  struct Lives {
    const Process* holder = nullptr;
    const Process* secondary = nullptr;
    const Process* before = nullptr;  // held the epoch before this one
  };
  Lives lives_;
  std::vector<std::unique_ptr<Process>> buried_;  // dead ones whose host has another
  std::optional<Logged> logged_;                  // when it was last looked at
  int stall_percent_ = 0;                         // of the calls of the Server
  Nanos longest_stall_ = milliseconds(500);
  milliseconds max_stall_{1000};

  bool arbiter_slow_ = false;
  int arbiter_lost_percent_ = 0;

  bool healed_ = false;
  bool restarts_ = false;  // who dies begins anew
  Outcome outcome_;

 public:
  Nanos replication_delay() const { return replication_delay_; }
};

}  // namespace understudy::sim

#endif  // UNDERSTUDY_TESTS_SIM_WORLD_H_
