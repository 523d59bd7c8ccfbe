// The primary's half of the pair's protocol: append, acknowledge, lease, solo, handover. Pure (protocol.h).
//
// Claims 1-3, 13, 20: a record is stable when the secondary has stored it, and only StableUpTo lets what
// depends on it leave.
//
// The right to serve: while the register names a secondary, the lease runs suspect_after - lease_guard
// from the sending of the newest append the secondary has answered. The secondary suspects suspect_after
// from the arrival of the newest append, which is later. So when it may take over, this node is silent.
// (A pulse counts as an append that carries nothing: pulse.h.)
// While the register names none, nobody can take the epoch, and the lease only proves that this process
// runs: it is renewed with each Tick.
#ifndef UNDERSTUDY_REPLICATION_PRIMARY_H_
#define UNDERSTUDY_REPLICATION_PRIMARY_H_

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "replication/protocol.h"
#include "replication/retained_log.h"

namespace understudy::replication {

class PrimaryCore {
 public:
  enum class State {
    kSolo,         // serves; the register names no secondary (one may be catching up)
    kProtected,    // serves; the register names the joined node as secondary
    kAlone,        // the secondary is lost, the arbiter has not answered yet: stable does not move
    kHandingOver,  // silent; has asked the secondary to take over
    kReplaced,     // silent; the secondary has the epoch, and may yet give it back because it cannot serve
    kDeposed,      // silent for good
  };

  // `held`: what the arbiter granted to this node, with no secondary. The log ends at `last_lsn`;
  // `history`: its records still at hand, ending at last_lsn (may be empty).
  PrimaryCore(ProtocolConfig config, Register held, Lsn last_lsn, MonotonicTime now,
              std::deque<RecordBatch> history = {});

  State state() const { return state_; }
  const Register& held() const { return held_; }
  Lsn last_lsn() const { return last_lsn_; }
  Lsn stable_lsn() const { return stable_lsn_; }
  // Node that is joined or catching up; empty: none.
  const std::string& peer() const { return peer_; }
  // Why that node could not take over, by its own word. While this says something no joiner becomes the
  // secondary, and one that is protects nobody.
  const std::string& peer_cannot_take_over() const { return peer_cannot_; }
  // The epoch in which the lease rests on the answers of the node at the other end of the link, so that
  // answered pulses may extend it; nullopt: it does not.
  std::optional<uint64_t> pulse_epoch() const;
  // How far the secondary says it has replayed.
  Lsn peer_applied_lsn() const { return peer_applied_lsn_; }
  // While there is no secondary: why, and since when. The newest refusal of a join is part of it.
  const std::string& why_alone() const { return why_alone_; }
  MonotonicTime alone_since() const { return alone_since_; }

  // False when max_unstable_bytes are reached: stop reading from clients until a StableUpTo.
  bool CanAppend() const;

  // --- Events; each leaves actions for Take() ---

  // Records this node has appended to its log. REQUIRES: batch.first_lsn() == last_lsn() + 1.
  // executed_lsn, output_hash: see AppendRequest. In kDeposed batches are dropped: nothing that depends
  // on them can leave any more. In kHandingOver and kReplaced they are kept: this node may serve again.
  void OnAppended(RecordBatch batch, Lsn executed_lsn, uint64_t output_hash, MonotonicTime now);

  // A node asks to become the secondary on a link that is not joined yet. Refused is returned to it and
  // its link closed by the owner; a link in use is not disturbed. After OK this link is the current one:
  // the owner sends `reply` on it before it carries out Take(), and closes the one before, if there was
  // one (the same node has dialed again), without telling this object.
  struct JoinOutcome {
    std::optional<wire::Refused> refused;
    wire::JoinReply reply;  // when not refused
  };
  JoinOutcome OnJoin(const wire::JoinRequest& request, MonotonicTime now);

  void OnAppendReply(const wire::AppendReply& reply, MonotonicTime now);
  // A pulse of `epoch` (pulse.h), sent at that time, was answered. After a turn of the loop that took long it
  // comes before OnTick, which would take the secondary for lost.
  void OnPulseAnswered(uint64_t epoch, MonotonicTime sent_at, MonotonicTime now);
  void OnHandoverReply(const wire::HandoverReply& reply, MonotonicTime now);
  // The secondary refused a call, or broke the protocol: the link is closed by CloseLink.
  void OnRefused(const wire::Refused& refused, MonotonicTime now);
  void OnLinkDown(const std::string& reason, MonotonicTime now);
  // The primary dials only to learn whether the peer's process is gone: the owner closes a socket that
  // connects.
  void OnDialed(DialResult result, MonotonicTime now);
  void OnArbiter(const absl::StatusOr<Arbiter::Outcome>& outcome, MonotonicTime now);

  // This machine was away without its clock having counted it. The owner is silent; the lease ends here, and
  // what was sent before is worth none. The next Lease that is given is a new one.
  void OnAbsence(MonotonicTime now);

  // Carrier of the service interface. Without it this node hands over while it still can, and never asks
  // to go solo: who can serve nobody must not win.
  void OnServiceCarrier(bool up, MonotonicTime now);
  // Planned: give the service to the secondary. FailedPrecondition unless kProtected.
  absl::Status OnHandoverWanted(const std::string& why, MonotonicTime now);

  // Time has passed. Call it at least every `heartbeat`, and soon after NextTick().
  void OnTick(MonotonicTime now);
  MonotonicTime NextTick() const;

  // The actions since the last call, in order.
  Actions Take();

  // Panics (CHECK) when an internal invariant does not hold. The simulator calls it after every step.
  void CheckInvariants() const;

 private:
  using Refusal = std::optional<wire::Refused>;

  // What stability and the right to serve rest on. The gate closes in two steps, so that a node under
  // constant load finds the moment to take on a secondary.
  enum class Gate {
    kOpen,     // the register names no secondary: what is appended is stable
    kClosing,  // the same, but what is appended from now on is stable only when the joiner has stored it
    kShared,   // the register names a secondary, or may name one: JoinedBy has been asked for. Stability
               // and the lease come from that node's answers alone
  };
  enum class Asked { kNothing, kRead, kSwap };
  // An append that has not been answered.
  struct Sent {
    int64_t sent_at_ns;
    uint64_t epoch;
    Lsn next_lsn;  // the LSN behind it
    size_t bytes;
  };

  nanoseconds LeaseSpan() const { return config_.suspect_after - config_.lease_guard; }
  bool Serves() const { return state_ == State::kSolo || state_ == State::kProtected; }
  // Silent, but not for good: what is appended is kept, and nobody is told.
  bool Waits() const { return state_ == State::kHandingOver || state_ == State::kReplaced; }
  bool OwnsAlone() const { return state_ == State::kSolo && gate_ != Gate::kShared; }

  Refusal CheckJoin(const wire::JoinRequest& request, MonotonicTime now);
  Refusal CheckSettings(const wire::JoinRequest& request) const;
  Refusal CheckFreshJoin(const wire::JoinRequest& request) const;
  Refusal CheckResume(const wire::JoinRequest& request, MonotonicTime now);
  bool LogFits(const wire::JoinRequest& request, Lsn at_least) const;
  wire::Refused Refuse(wire::RefuseReason::type reason, std::string detail) const;
  void Link(const wire::JoinRequest& request, MonotonicTime now);

  std::string FaultOf(const wire::AppendReply& reply) const;
  void Breach(const std::string& reason, MonotonicTime now);
  void LinkLost(const std::string& reason, MonotonicTime now);
  void Unlink();
  void CheckJoiner(MonotonicTime now);
  void CheckReplay(MonotonicTime told_at, MonotonicTime now);
  void BeAlone(std::string why, MonotonicTime now);

  void SendOne(MonotonicTime now);
  bool FellBehind(MonotonicTime now);
  void SendWaiting(MonotonicTime now);
  void Advance();
  void SayStable();
  void Answered(MonotonicTime sent_at, MonotonicTime now);
  void ExtendLease(MonotonicTime until, MonotonicTime now);
  void MaybeTakeOn(MonotonicTime now);
  void StartHandover(const std::string& why, MonotonicTime now);

  void EnterAlone(const std::string& why, MonotonicTime now);
  void BeSilent(const std::string& reason);
  void AskNext(MonotonicTime now);
  void Ask(const Register& desired) { Ask(held_, desired); }
  void Ask(const Register& expected, const Register& desired);
  void CheckRegister(MonotonicTime now);
  void Adopt(const Register& current, MonotonicTime now);
  void Decide(const Register& current, bool swap_failed, MonotonicTime now);
  void Replaced(const Register& current, MonotonicTime now);
  void Depose(const Register& current);

  ProtocolConfig config_;
  Register held_;
  State state_;
  Lsn last_lsn_;
  Lsn stable_lsn_;
  std::string peer_;
  Lsn peer_applied_lsn_ = 0;
  std::string peer_cannot_;
  MonotonicTime replay_moved_at_;  // or had nothing to do
  // Of a node that was left behind because its replay hung: it comes back when that has moved on.
  struct Stuck {
    std::string node;
    Lsn applied_lsn;
  };
  std::optional<Stuck> stuck_;
  std::string why_alone_;
  MonotonicTime alone_since_;
  Actions actions_;

  RetainedLog log_;
  const uint64_t first_epoch_;  // granted to this object: later ones have its log
  Gate gate_ = Gate::kOpen;
  bool carrier_up_ = true;
  Lsn executed_lsn_ = 0;
  uint64_t output_hash_ = 0;

  // The link; its members mean nothing while !linked_.
  bool linked_ = false;
  bool has_answered_ = false;
  Lsn next_send_ = 0;
  Lsn acked_ = 0;
  size_t in_flight_bytes_ = 0;
  std::deque<Sent> in_flight_;
  MonotonicTime last_sent_;
  bool dialing_ = false;

  // The right to serve.
  MonotonicTime lease_until_;  // the newest Lease given
  MonotonicTime counts_from_;  // answers to what was sent before give no lease
  MonotonicTime lost_at_;      // kShared: without a further answer the secondary is lost then
  bool grace_used_ = false;    // a rejoin has put lost_at_ off, and no answer has come since
  bool silent_ = false;        // FallSilent was the newest said about it

  // The arbiter.
  Asked asked_ = Asked::kNothing;
  std::vector<Register> wishes_;  // asked for from held_, in all; one may yet come true
  bool unsure_ = false;           // the newest swap's outcome is unknown: Read before the next
  std::optional<MonotonicTime> ask_at_;
  MonotonicTime check_at_;        // the register is looked at then, though nothing has happened
  MonotonicTime replaced_until_;  // kReplaced
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_PRIMARY_H_
