// Two nodes, a network, an arbiter and a clock, for tests of the two cores. Everything in one thread and
// reproducible from a seed. Stands in for framework/'s node: it carries out the actions, and gives a node
// that was deposed or restarted a new, empty SecondaryCore.
//
// Checked all the time: a lease never overlaps with the other node's lease or takeover; whoever takes
// over has every record that was ever stable, with the same content.
#ifndef UNDERSTUDY_REPLICATION_PAIR_SIM_H_
#define UNDERSTUDY_REPLICATION_PAIR_SIM_H_

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <random>
#include <string>
#include <vector>

#include "replication/memory_log.h"
#include "replication/primary.h"
#include "replication/pulse.h"
#include "replication/secondary.h"

namespace understudy::replication {

using std::chrono::microseconds;

class PairSim {
 public:
  struct Node {
    std::string name;
    bool alive = true;     // the process exists
    bool paused = false;   // SIGSTOP: what happens to it waits in `inbox`
    bool stalled = false;  // the same, but only its loop: the pulse goes on
    bool carrier = true;
    std::vector<std::function<void()>> inbox;
    bool hung = false;  // as secondary: stores, and replays nothing
    Lsn hung_at = 0;
    bool cannot_serve = false;  // a takeover fails: it gives the epoch back and ends
    std::string last_word;
    int life = 0;  // counts processes and roles: late answers find their asker
    std::unique_ptr<MemoryLog> log = std::make_unique<MemoryLog>();
    std::unique_ptr<PrimaryCore> primary;
    std::unique_ptr<SecondaryCore> secondary;
    std::unique_ptr<Pulse> pulse;     // as primary
    std::vector<std::string> bodies;  // of the records that it has ever had: bodies[i] has LSN i + 1
    std::vector<uint64_t> hashes;     // hashes[i]: what its Server has sent up to there
    Lsn stable_checked = 0;
    MonotonicTime lease_until{};
    bool silent = true;
    int conn = -1;  // current link
    bool serves_until_now(MonotonicTime now) const { return alive && !silent && lease_until > now; }
  };

  // Node 0 ("a") holds epoch 1, node 1 ("b") wants to join.
  explicit PairSim(uint32_t seed);

  MonotonicTime now() const { return now_; }
  Node& node(int i) { return nodes_[i]; }
  const Register& reg() const { return register_; }
  int serving() const;  // index of the node that serves, or -1
  std::mt19937& random() { return random_; }
  const std::vector<std::string>& trace() const { return trace_; }
  int takeovers() const { return takeovers_; }
  bool Failed() const { return failed_; }

  void Run(nanoseconds span);
  bool RunUntil(const std::function<bool()>& done, nanoseconds at_most);
  bool Protected();  // one serves, the other is its secondary, both know it

  // What can happen.
  void AppendSome(int i);
  void Cut(bool cut);                             // both ways; what is sent waits
  void Reject(bool reject) { reject_ = reject; }  // a firewall refuses dials in the name of the living
  void Hang(int i, bool hung);                    // the replay
  void Overwrite(const Register& reg);            // by somebody who is none of the two
  void ResetLinks();                              // connections break, both ends notice
  void Pause(int i, bool paused);
  // One long call of the Server: a primary's loop stands still.
  void Stall(int i, nanoseconds span);
  void Kill(int i);
  void Restart(int i);
  void Carrier(int i, bool up);
  // The arbiter: unreachable requests are answered Unavailable; of these, some are carried out all the
  // same, some of them later.
  void ArbiterFlaky(double unavailable) { arbiter_unavailable_ = unavailable; }
  bool Handover(int i);
  // False: when the process of node i dies now, the epoch or the log may die with it, and nobody may serve.
  bool CanBeSpared(int i) const;
  // Called for each action before it is carried out; true swallows it.
  std::function<bool(int node, const Action&)> intercept;
  microseconds max_delay{400};
  bool arbiter_slow = false;  // some answers take longer than a lease

 private:
  struct Event {
    MonotonicTime at;
    uint64_t order;
    std::function<void()> run;
    bool operator<(const Event& other) const { return at != other.at ? at > other.at : order > other.order; }
  };
  struct Conn {
    bool open = true;
    std::array<MonotonicTime, 2> last{};  // FIFO per direction: towards node 0, 1
    std::array<std::map<uint64_t, std::function<void()>>, 2> held;
  };

  void At(nanoseconds delay, std::function<void()> run);
  void ToNode(int i, std::function<void()> run);  // now, or once it is resumed
  void Fail(const std::string& what);
  void Note(const std::string& what);
  nanoseconds Delay(nanoseconds max);

  void Tick(int i, int life);
  void Carry(int i);
  void CarryOne(int i, const Action& action);
  void Send(int conn, int to, std::function<void()> deliver);
  void SendNumbered(int conn, int to, uint64_t order, std::function<void()> deliver);
  void CloseConn(int conn, int by, const std::string& reason);
  void Down(int i, int conn, const std::string& reason);
  void DialFrom(int i);
  void DeliverJoin(int to, int conn, const wire::JoinRequest& request);
  void DeliverAppend(int to, int conn, const wire::AppendRequest& request);
  void DeliverHandover(int to, int conn, const wire::HandoverRequest& request);
  void SayLastWord(int of);
  void GiveBack(int i, const Register& granted);
  Lsn AppliedBy(const Node& node) const { return node.hung ? node.hung_at : node.bodies.size(); }
  // pair_sim_pulse.cc
  void NewPulse(int i);
  void UpdatePulse(int i);
  void PulseThread(int i, int life);
  void SendPulse(int to, const std::string& datagram);
  void DeliverPulse(int to, const std::string& datagram);
  void EndStall(int i);

  void AskArbiter(int i, std::optional<SwapRegister> swap);
  void ProbeArbiter(int i);
  Arbiter::Outcome RunArbiter(const std::optional<SwapRegister>& swap);
  void ArbiterAnswer(int i, int life, absl::StatusOr<Arbiter::Outcome> outcome);
  void BecomeSecondary(int i);
  void BecomePrimary(int i, const TakeOver& takeover);
  void Forget(Node& node);
  void Note(Node& node, const RecordBatch& batch);
  void Compare(const Node& node, const Replay& replay);
  void CheckStable(int i, Lsn lsn);
  ProtocolConfig ConfigOf(int i) const;

  std::mt19937 random_;
  MonotonicTime now_;
  uint64_t order_ = 0;
  std::priority_queue<Event> events_;
  std::array<Node, 2> nodes_;
  std::vector<Conn> conns_;
  Register register_;
  bool cut_ = false;
  bool reject_ = false;
  double arbiter_unavailable_ = 0;
  std::vector<std::string> stable_;  // bodies of all records that ever were stable
  uint64_t made_ = 0;
  int takeovers_ = 0;
  bool failed_ = false;
  std::vector<std::string> trace_;
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_PAIR_SIM_H_
