// One of a pair: what it is made of, and the changes of its role.
//
//   ClaimRole --may begin--> PrimaryRole --deposed, broken--> SilentRole
//                               ^                                ^
//   StandbyRole --granted-------+--------- unusable, broken -----+
//
// The roles (role.h) join the protocol cores (replication/), the wrappers (tcpshim/) and the executor. What
// is the same in each is here: the parts, the tick, the pulse, the status, the end.
#ifndef UNDERSTUDY_FRAMEWORK_PAIR_NODE_H_
#define UNDERSTUDY_FRAMEWORK_PAIR_NODE_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "framework/absence.h"
#include "framework/executor.h"
#include "framework/frontend.h"
#include "framework/host.h"
#include "framework/node.h"
#include "framework/node_counters.h"
#include "framework/peer_links.h"
#include "framework/role.h"
#include "framework/witness.h"
#include "replication/memory_log.h"
#include "replication/pulse.h"
#include "replication/pulse_link.h"

namespace understudy {

inline constexpr char kWitnessDied[] =
    "the witness has died: a death of this node is found only when the lease has run out; to have one again, "
    "restart this node when the other one can take over";

class SilentRole;

class PairNode final : public Node, private RoleOwner, private PeerEvents {
 public:
  // `host` outlives this object, `witness` too; nullptr: there is none.
  PairNode(Host* host, const NodeConfig& config, std::unique_ptr<Server> server, Witness* witness,
           Failed failed);
  ~PairNode() override;

  absl::Status Start() override;
  NodeStatus Status() const override;
  void Stop(std::function<void()> stopped) override;

 private:
  absl::Status OpenParts();
  NodeParts Parts();
  const char* State() const;

  // --- Roles ---
  void Become(std::unique_ptr<NodeRole> role);
  // Silent for good. `tell`: the other node is told, since this one ends.
  enum class Tell { kNo, kYes };
  SilentRole& BecomeSilent(const std::string& reason, Tell tell);
  // RoleOwner
  void Pump() override;
  void StopPulse() override { SetPulse(std::nullopt); }
  void BecomePrimary(const replication::Register& held) override;
  void TakeOver(const Inheritance& inheritance) override;
  void GiveBack(const replication::Register& granted, const std::string& other, absl::Status why) override;
  void FallSilent(const std::string& reason) override;
  void EndAsUseless(const std::string& reason) override;  // after a grace
  void GiveUp(absl::Status why) override;

  void StopWhenPossible();
  void OnFence(const absl::Status& fence);
  void OnReachChanged();

  // --- Time ---
  void ScheduleTick();
  void Tick();
  void TickNow();
  void NoteStall();
  void NoteAbsence();
  void NoteWitness();
  void NoteProtection();
  void NoteClockOff() const;
  int64_t ClockOffUs() const;  // logged time less this host's wall clock, now
  replication::MonotonicTime Now() const { return clock_->Monotonic(); }

  // --- The pulse ---
  void SetPulse(std::optional<uint64_t> epoch);
  std::optional<replication::PulseMessage> OnPulse(std::string_view datagram);
  void OnLastWord(const replication::LastWord& last);

  // --- PeerEvents: to the role ---
  Verdict OnJoin(const std::string& from, const replication::wire::JoinRequest& request,
                 replication::wire::JoinReply& reply) override;
  Verdict OnAppend(replication::wire::AppendRequest request, replication::wire::AppendReply& reply) override {
    return role_->OnAppend(std::move(request), reply);
  }
  Verdict OnHandover(const replication::wire::HandoverRequest& request,
                     replication::wire::HandoverReply& reply) override {
    return role_->OnHandover(request, reply);
  }
  void OnJoinReply(const replication::wire::JoinReply& reply) override { role_->OnJoinReply(reply); }
  void OnAppendReply(const replication::wire::AppendReply& reply) override { role_->OnAppendReply(reply); }
  void OnHandoverReply(const replication::wire::HandoverReply& reply) override {
    role_->OnHandoverReply(reply);
  }
  void OnRefused(const replication::wire::Refused& refused) override { role_->OnRefused(refused); }
  void OnLinkDown(const std::string& reason) override;
  bool KeepsDialed() const override { return role_->KeepsDialed(); }
  void OnDialed(replication::DialResult result) override;
  void OnTurnDone() override { Pump(); }

  Host* const host_;
  const NodeConfig config_;
  const Clock* const clock_;
  Witness* const witness_;
  const Failed failed_;
  const std::unique_ptr<Server> server_;
  const replication::ProtocolConfig protocol_;
  NodeCounters counters_;

  Frontend frontend_;
  std::unique_ptr<replication::Arbiter> arbiter_;
  PeerLinks links_;
  // Its thread ends before what it renews goes.
  replication::Pulse pulse_;
  std::unique_ptr<replication::PulseLink> pulse_link_;
  std::optional<uint64_t> pulse_epoch_;  // allowed
  std::unique_ptr<Executor> executor_;
  replication::MemoryLog log_;  // outlives the roles

  std::unique_ptr<NodeRole> role_;
  std::vector<std::unique_ptr<NodeRole>> former_;  // may be on the stack still
  bool pumping_ = false;

  const std::unique_ptr<Timer> tick_;
  replication::MonotonicTime tick_due_{};
  std::optional<replication::MonotonicTime> last_tick_;
  Absence absence_;
  const std::unique_ptr<Timer> useless_;
  bool ending_ = false;  // useless_ runs
  bool witness_died_ = false;
  replication::MonotonicTime next_witness_look_{};
  bool told_protected_ = false;
  std::string fence_reason_;       // why packets get past the south wrapper; for the status
  bool stopping_ = false;          // Stop was called
  std::function<void()> stopped_;  // its answer, still owed
  replication::MonotonicTime stop_limit_{};

  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // for callbacks that may come late
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_PAIR_NODE_H_
