// A role: what a node of a pair is doing now.
//
//   ClaimRole    starting             a first primary: may it begin?
//   StandbyRole  joining, protected   receives the log of the primary and replays it; may ask to take over
//   PrimaryRole  solo, protected      serves the clients
//   SilentRole   silent               has nothing more to say to anybody
//
// Only the node changes roles (PairNode::Become), in whatever order; what they have in common lies in
// NodeParts.
#ifndef UNDERSTUDY_FRAMEWORK_ROLE_H_
#define UNDERSTUDY_FRAMEWORK_ROLE_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "framework/executor.h"
#include "framework/frontend.h"
#include "framework/host.h"
#include "framework/logged_clock.h"
#include "framework/node.h"
#include "framework/node_config.h"
#include "framework/node_counters.h"
#include "framework/peer_links.h"
#include "framework/recent_maximum.h"
#include "replication/arbiter.h"
#include "replication/last_word.h"
#include "replication/memory_log.h"
#include "replication/protocol.h"
#include "replication/pulse.h"

namespace understudy {

// What a new primary takes from the standby that it was.
struct Inheritance {
  replication::TakeOver granted;
  std::string former;  // the dead primary's name
  // Its CLOCK_MONOTONIC less ours, its logged time, and the call of the Server that its process died of, as
  // far as they are known.
  std::optional<std::chrono::nanoseconds> clock_ahead;
  ToldTime logged_time;
  replication::FatalCall fatal;
  replication::MonotonicTime begun, replayed;  // the takeover, and when its replay was done
};

// What a role may ask of the node. All but StopPulse may end the role that asks: it is told by Leave, lives
// until the loop's next turn, and must do nothing more.
class RoleOwner {
 public:
  virtual ~RoleOwner() = default;
  // Carries out what the roles' cores have asked for (NodeRole::RunActions). Never nested.
  virtual void Pump() = 0;
  // The lease does not rest on pulses any more, until the next Pump.
  virtual void StopPulse() = 0;
  virtual void BecomePrimary(const replication::Register& held) = 0;
  virtual void TakeOver(const Inheritance& inheritance) = 0;
  // A takeover that fails before the gate was open: the other node may have the epoch. Ends with GiveUp.
  virtual void GiveBack(const replication::Register& granted, const std::string& other, absl::Status why) = 0;
  virtual void FallSilent(const std::string& reason) = 0;  // for good
  virtual void EndAsUseless(const std::string& reason) = 0;
  virtual void GiveUp(absl::Status why) = 0;
};

// What all roles of a node share. Nothing is owned here.
struct NodeParts {
  Host* host = nullptr;
  const NodeConfig* config = nullptr;
  const replication::ProtocolConfig* protocol = nullptr;
  Frontend* frontend = nullptr;
  PeerLinks* links = nullptr;
  replication::Arbiter* arbiter = nullptr;
  Executor* executor = nullptr;
  replication::MemoryLog* log = nullptr;
  NodeCounters* counters = nullptr;
  RoleOwner* owner = nullptr;

  replication::MonotonicTime Now() const { return host->clock().Monotonic(); }
};

class NodeRole : public PeerEvents {
 public:
  explicit NodeRole(const NodeParts& parts) : parts_(parts) {}
  ~NodeRole() override { *alive_ = false; }

  // The role has begun, and is the node's.
  virtual void Begin() = 0;
  // The role has ended; what it does for clients ends without a word to them. Called once.
  virtual void Leave() { left_ = true; }
  bool left() const { return left_; }
  // Whether what has left can be destroyed.
  virtual bool CanBeDestroyed() const { return true; }

  virtual const char* state() const = 0;  // NodeStatus::state
  // It has nothing more to say, for good. (A state that is "silent" may pass.)
  virtual bool IsSilent() const { return false; }
  virtual void Describe(NodeStatus& status) const = 0;
  // Says who protects whom, while state() is "protected".
  virtual std::string Protection() const { return ""; }

  // Carries out what the core has asked for. False: it has not asked for anything.
  virtual bool RunActions() { return false; }
  // All of that has been carried out.
  virtual void OnSettled() {}

  virtual void LookAtHost() {}
  virtual void OnTick() {}
  virtual replication::MonotonicTime NextTick() const { return replication::MonotonicTime::max(); }
  // See Absence.
  virtual void OnAbsence() {}
  // Logged time, now; nullopt: not known.
  virtual std::optional<int64_t> LoggedTimeUs() const { return std::nullopt; }

  // The epoch in which answered pulses may extend the lease; nullopt: in none.
  virtual std::optional<uint64_t> pulse_epoch() const { return std::nullopt; }
  // Of the pair's protocol, as agreed with the secondary; 0: there was none.
  virtual int32_t protocol_version() const { return 0; }
  virtual void OnPulseAnswered(const replication::Pulse::Answered&) {}
  // True: it counts, and is to be answered.
  virtual bool OnPulse(const replication::PulseMessage&) { return false; }
  virtual bool OnLastWord(const replication::LastWord&) { return false; }

  // Whether clients can be reached (Frontend::CanReachClients) has changed, perhaps.
  virtual void OnReachChanged() {}
  // The fence has a hole. True: this role has seen to it.
  virtual bool OnFenceBroken(const absl::Status&) { return false; }
  virtual void OnFenceMended() {}

  // The node is to end.
  enum class Stop {
    kNow,    // nothing is in the way
    kLater,  // not before `limit`, or until it is asked again
    kTaken,  // the role calls `stopped`, by `limit`
  };
  virtual Stop OnStop(replication::MonotonicTime /*limit*/, std::function<void()>& /*stopped*/) {
    return Stop::kNow;
  }

  // --- PeerEvents: of a role that is not asked ---
  Verdict OnJoin(const std::string& from, const replication::wire::JoinRequest& request,
                 replication::wire::JoinReply& reply) override;
  Verdict OnAppend(replication::wire::AppendRequest request, replication::wire::AppendReply& reply) override;
  Verdict OnHandover(const replication::wire::HandoverRequest& request,
                     replication::wire::HandoverReply& reply) override;
  void OnJoinReply(const replication::wire::JoinReply&) override {}
  void OnAppendReply(const replication::wire::AppendReply&) override {}
  void OnHandoverReply(const replication::wire::HandoverReply&) override {}
  void OnRefused(const replication::wire::Refused&) override {}
  void OnLinkDown(const std::string&) override {}
  bool KeepsDialed() const override { return false; }
  void OnDialed(replication::DialResult) override {}
  void OnTurnDone() override {}

 protected:
  virtual void OnArbiter(const absl::StatusOr<replication::Arbiter::Outcome>&) {}
  // The answer comes as OnArbiter, unless this role has left.
  void ReadRegister();
  void SwapRegister(const replication::Register& expected, const replication::Register& desired);
  replication::MonotonicTime Now() const { return parts_.Now(); }

  const NodeParts parts_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // for callbacks that may come late

 private:
  std::function<void(absl::StatusOr<replication::Arbiter::Outcome>)> ArbiterAnswer();

  bool left_ = false;
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_ROLE_H_
