// One of a pair: joins the protocol cores (replication/), the wrappers (tcpshim/) and the executor, and
// carries out what the cores ask for.
//
//   secondary: SecondaryCore + Replayer                    TakeOver
//      records from the link -> Replayer's thread -> Executor   |
//                                                               v
//   primary: PrimaryCore + Serving                         Deposed -> silent
//
// pair_node.cc holds the roles and their changes, pair_node_links.cc the links, the arbiter and time.
#ifndef UNDERSTUDY_FRAMEWORK_PAIR_NODE_H_
#define UNDERSTUDY_FRAMEWORK_PAIR_NODE_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "framework/absence.h"
#include "framework/executor.h"
#include "framework/fence_guard.h"
#include "framework/host.h"
#include "framework/host_watch.h"
#include "framework/log_filter.h"
#include "framework/logged_clock.h"
#include "framework/node.h"
#include "framework/recent_maximum.h"
#include "framework/replayer.h"
#include "framework/serving.h"
#include "framework/witness.h"
#include "replication/memory_log.h"
#include "replication/primary.h"
#include "replication/pulse.h"
#include "replication/secondary.h"
#include "replication/transport.h"
#include "tcpshim/raw_sender.h"
#include "tcpshim/service_address.h"
#include "tcpshim/south_wrapper.h"

namespace understudy {

inline constexpr char kWitnessDied[] =
    "the witness has died: a death of this node is found only when the lease has run out; to have one again, "
    "restart "
    "this node when the other one can take over";

class PairNode final : public Node, private Journal, private replication::Link::Handler {
 public:
  // `host` outlives this object, `witness` too; nullptr: there is none.
  PairNode(Host* host, const NodeConfig& config, std::unique_ptr<Server> server, Witness* witness,
           Failed failed);
  ~PairNode() override;

  absl::Status Start() override;
  NodeStatus Status() const override;
  void Stop(std::function<void()> stopped) override;

 private:
  using Link = replication::Link;

  // --- Roles (pair_node.cc) ---
  // As primary: may this node begin? Each step leads to the next, or to CannotBegin.
  void ClaimFirst();                                              // has it the newest data?
  void AskPeerFirst(const replication::Register& current);        // does the other one run?
  void WatchRegisterFirst(const replication::Register& current);  // is it refused for the living?
  void ProbeFirst(const replication::Register& current);          // has anybody the service address?
  void Claim(const replication::Register& from);
  void CannotBegin(const replication::Register& current, const std::string& why);
  void ReadArbiter(std::function<void(const replication::Register& current)> then);
  void BeginFirst(const replication::Register& held);
  void BeginSecondary();
  void TakeOver(const replication::TakeOver& granted);
  std::optional<Fault> FatalConnection(replication::Lsn last_lsn) const;
  // A takeover that fails before the gate was open: the other node may have the epoch. Ends with GiveUp(why).
  void GiveBack(const replication::Register& granted, const std::string& other, absl::Status why);
  void AskToGiveBack(const replication::Register& granted, const replication::Register& given_back,
                     absl::Status why, replication::MonotonicTime until);
  std::unique_ptr<Serving> NewServing();
  absl::Status LockAddress();  // one service for each address
  absl::Status AttachSouth();
  void FitToHeir(const replication::wire::JoinRequest& request);
  absl::Status Serve();  // listener and service address, gate closed still
  void OpenGate();
  void OnFence(const absl::Status& fence);
  bool CanReachClients() const;  // and none gets past the south wrapper
  void TellTheRest(const absl::Status& why);
  void FallSilentForGood(const std::string& reason);
  void BeSilent(const std::string& reason);
  void GiveUp(absl::Status why);
  // Silent for good, and the other node is told.
  void Leave(const std::string& reason);
  void StopWhenPossible();
  void EndAsUseless(const std::string& reason);  // after a grace
  const char* State() const;

  // --- Links, arbiter, time (pair_node_links.cc) ---
  void Accepted(std::unique_ptr<replication::Transport::Connection> connection);
  void UseLink(std::shared_ptr<Link> link);
  void DropLink();
  void CloseLinkBecause(const std::string& reason);
  void LogAgain(const std::string& text);
  void DialPeerOnce();
  void Ask(const replication::Register* expected, const replication::Register* desired);
  void CheckArbiter();
  void Pump();
  template <typename Core>
  bool PumpCore(Core& core);
  void Carry(replication::Action& action);
  void Leased(replication::MonotonicTime until);
  void FallSilentForNow(const std::string& reason);
  void SetPulse(std::optional<uint64_t> epoch);
  void NoteStall(replication::MonotonicTime now);
  void LookAtHost(replication::MonotonicTime now);
  void TellObstacle();
  void NoteAbsence();
  void NoteWitness(replication::MonotonicTime now);
  void NoteWhatBecame();
  void SayWhenProtected();
  int64_t ClockOffUs() const;  // logged time less this host's wall clock, now
  void NoteClockOff();
  std::optional<replication::PulseMessage> OnPulse(std::string_view datagram);
  void OnLastWord(const replication::LastWord& last);
  void Tick();
  void TickNow();
  void ScheduleTick();
  replication::MonotonicTime Now() const { return clock_->Monotonic(); }

  // --- Journal: what Serving appends ---
  void Append(replication::RecordBatch batch, replication::Lsn executed_lsn, uint64_t output_hash) override;
  bool CanAppend() const override;
  bool StableAtOnce() const override;
  replication::Lsn StableLsn() const override { return primary_->stable_lsn(); }
  bool PeerCannotWrite() const override;
  void OnCommitFailed(absl::Status why) override;
  void OnServerThrew(absl::Status why, replication::RecordBatch last, replication::Lsn executed_lsn,
                     uint64_t output_hash) override;
  void DieIfTold();

  // --- Link::Handler ---
  Verdict OnJoin(Link& link, const replication::wire::JoinRequest& request,
                 replication::wire::JoinReply& reply) override;
  Verdict OnAppend(Link& link, replication::wire::AppendRequest request,
                   replication::wire::AppendReply& reply) override;
  Verdict OnHandover(Link& link, const replication::wire::HandoverRequest& request,
                     replication::wire::HandoverReply& reply) override;
  void OnJoinReply(Link& link, const replication::wire::JoinReply& reply) override;
  void OnAppendReply(Link& link, const replication::wire::AppendReply& reply) override;
  void OnHandoverReply(Link& link, const replication::wire::HandoverReply& reply) override;
  void OnRefused(Link& link, const replication::wire::Refused& refused) override;
  void OnClosed(Link& link, const std::string& reason) override;
  void OnTurnDone(Link& link) override;

  Host* const host_;
  const NodeConfig config_;
  const Clock* const clock_;
  Witness* const witness_;
  const Failed failed_;
  const std::unique_ptr<Server> server_;
  const replication::ProtocolConfig protocol_;

  // The order matters for a dead process: the south wrapper's descriptors are opened before the
  // listener's, so the kernel closes them first, and when a peer is refused this node is silent already.
  std::shared_ptr<void> address_lock_;
  std::unique_ptr<tcpshim::SouthWrapper> south_;
  std::unique_ptr<FenceGuard> fence_;
  std::unique_ptr<tcpshim::RawSender> sender_;
  std::unique_ptr<tcpshim::ServiceAddress> address_;
  std::unique_ptr<HostWatch> host_watch_;  // has the listener until the north wrapper gets it
  std::unique_ptr<replication::Arbiter> arbiter_;
  std::unique_ptr<replication::Transport> transport_;
  // Its thread ends before what it renews goes.
  replication::Pulse pulse_;
  std::unique_ptr<replication::PulseLink> pulse_link_;
  std::optional<uint64_t> pulse_epoch_;  // allowed

  std::unique_ptr<Executor> executor_;
  std::unique_ptr<Replayer> replayer_;  // secondary
  replication::MemoryLog log_;          // of both cores, one after the other
  std::unique_ptr<replication::SecondaryCore> secondary_;
  std::unique_ptr<replication::PrimaryCore> primary_;
  std::unique_ptr<Serving> serving_;  // primary

  std::shared_ptr<Link> link_;                    // the one of the pair
  std::vector<std::shared_ptr<Link>> strangers_;  // accepted, not joined
  std::shared_ptr<Link> joined_;                  // becomes link_ when its turn is done

  const std::unique_ptr<Timer> tick_;
  replication::MonotonicTime tick_due_{};
  std::optional<replication::MonotonicTime> last_tick_;
  Absence absence_;
  bool pumping_ = false;
  std::optional<replication::TakeOver> takeover_;  // granted; carried out when the pump is empty
  bool ready_ = false;                             // listener and service address are there
  bool gate_open_ = false;
  bool taking_over_ = false;
  bool silent_ = false;
  const std::unique_ptr<Timer> useless_;
  bool ending_ = false;  // useless_ runs
  bool witness_died_ = false;
  replication::MonotonicTime next_witness_look_{};
  bool told_protected_ = false;
  bool told_alone_ = true;         // of the secondary's loss
  std::string reason_;             // for the status
  std::string heir_lacks_;         // that this node has; for the status
  std::string heir_warns_;         // likewise, in its own words
  std::string told_obstacle_;      // to secondary_
  bool segments_limited_ = false;  // for the sake of the heir's interface
  bool stopping_ = false;          // Stop was called
  std::function<void()> stopped_;  // its answer, still owed
  replication::MonotonicTime stop_limit_{};
  // The Server threw, or packets get past the south wrapper: this node ends when the other has the log up to
  // `last`, or in any case at `at_most`.
  struct Dying {
    absl::Status why;
    std::optional<replication::Lsn> last;  // none: what clients have sent is still being taken
    replication::MonotonicTime at_most;
  };
  std::optional<Dying> dying_;
  bool peer_cannot_write_ = false;  // as the secondary says
  // Old primary's CLOCK_MONOTONIC less ours: the largest seen, which is the nearest, since a message
  // only ever arrives late.
  std::optional<std::chrono::nanoseconds> clock_ahead_;
  RecentMaximum<std::chrono::nanoseconds> lately_ahead_{std::chrono::seconds(5)};  // the same, of late
  // As secondary: when the newest that was heard from this primary was sent, by its clock. A datagram that is
  // no newer has been heard, or has been overtaken; somebody may have kept it.
  int64_t newest_sent_at_ns_ = 0;
  ToldTime told_time_;  // the primary's logged time

  replication::FatalCall fatal_;  // of the dead primary, if its witness has told

  LogFilter log_filter_;
  struct Counters {
    uint64_t links_accepted = 0, links_closed_for_cause = 0, joins_refused = 0, takeovers = 0;
    uint64_t batches = 0, dials = 0, arbiter_calls = 0, arbiter_failures = 0;
    uint64_t pulses_heard = 0, pulses_dropped = 0, last_words_heard = 0, stalls = 0, absences = 0;
  };
  Counters counters_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // for callbacks that may come late
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_PAIR_NODE_H_
