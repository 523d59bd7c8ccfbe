// The primary's half of the pair's protocol. Pure (protocol.h). Its parts:
//
//   Destination   the secondary: what it was sent, and has                 destination.h
//   Stability     what of the log is stable (claims 1-3, 13, 20)           stability.h
//   LeaseTerm     until when this node may emit                            lease.h
//   Membership    what the arbiter has granted, and what is asked of it    membership.h
//
// This object decides what follows from what: whom to let join, when to share the right to serve with the
// secondary and when to go on without it, and the handover. A pulse that was answered counts as an append
// that carries nothing (pulse.h).
#ifndef UNDERSTUDY_REPLICATION_PRIMARY_H_
#define UNDERSTUDY_REPLICATION_PRIMARY_H_

#include <optional>
#include <string>

#include "absl/status/status.h"
#include "replication/destination.h"
#include "replication/lease.h"
#include "replication/log.h"
#include "replication/membership.h"
#include "replication/protocol.h"
#include "replication/stability.h"

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

  // `held`: what the arbiter granted to this node, with no secondary. All that is in the log is stable.
  // The log outlives this object, and nobody else appends to it meanwhile.
  PrimaryCore(ProtocolConfig config, Register held, Log* log, MonotonicTime now);

  State state() const { return state_; }
  const Register& held() const { return membership_.held(); }
  Lsn last_lsn() const { return stability_.last_lsn(); }
  Lsn stable_lsn() const { return stability_.stable_lsn(); }
  // Node that is joined or catching up; empty: none.
  const std::string& peer() const { return peer_.node(); }
  // Why that node could not take over, by its own word. While this says something no joiner becomes the
  // secondary, and one that is protects nobody.
  const std::string& peer_cannot_take_over() const { return peer_.cannot_take_over(); }
  // The epoch in which the lease rests on the answers of the node at the other end of the link, so that
  // answered pulses may extend it; nullopt: it does not.
  std::optional<uint64_t> pulse_epoch() const;
  // How far the secondary says it has replayed.
  Lsn peer_applied_lsn() const { return peer_.applied_lsn(); }
  // The node that joined last.
  const NodeId& peer_id() const { return peer_id_; }
  // Of the protocol, as agreed with the node that joined last; 0: none has.
  int32_t version() const { return version_; }
  // While there is no secondary: why, and since when. The newest refusal of a join is part of it.
  const std::string& why_alone() const { return why_alone_; }
  MonotonicTime alone_since() const { return alone_since_; }

  // False while more would be unstable, or wait for the secondary's replay, than may be (max_unstable_bytes,
  // max_replay_lag): stop reading from clients until a StableUpTo.
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

  bool Serves() const { return state_ == State::kSolo || state_ == State::kProtected; }
  // Silent, but not for good: what is appended is kept, and nobody is told.
  bool Waits() const { return state_ == State::kHandingOver || state_ == State::kReplaced; }
  bool OwnsAlone() const { return state_ == State::kSolo && gate_ != Gate::kShared; }

  Refusal CheckJoin(const wire::JoinRequest& request, MonotonicTime now);
  Refusal CheckFreshJoin(const wire::JoinRequest& request) const;
  Refusal CheckResume(const wire::JoinRequest& request, MonotonicTime now);
  bool LogFits(const wire::JoinRequest& request, Lsn at_least) const;
  wire::Refused Refuse(wire::RefuseReason::type reason, std::string detail) const;
  void Link(const wire::JoinRequest& request, MonotonicTime now);
  void Breach(const std::string& reason, MonotonicTime now);
  void LinkLost(const std::string& reason, MonotonicTime now);
  void CloseAndDisconnect(const std::string& reason);
  void CheckJoiner(MonotonicTime now);
  void CheckReplay(MonotonicTime told_at, MonotonicTime now);

  void SendOne(MonotonicTime now);
  bool FellBehind(MonotonicTime now);
  void SendWaiting(MonotonicTime now);
  void Advance();
  void SayStable();

  void Answered(MonotonicTime sent_at, MonotonicTime now);
  void ExtendLease(MonotonicTime until, MonotonicTime now);
  void BeSilent(const std::string& reason);
  void BeAlone(std::string why, MonotonicTime now);
  void EnterAlone(const std::string& why, MonotonicTime now);
  void MaybeTakeOn(MonotonicTime now);
  void StartHandover(const std::string& why, MonotonicTime now);

  void AskNext(MonotonicTime now);
  void OnGranted(MonotonicTime now);
  void OnReplaced(const Register& current, MonotonicTime now);
  void EnterReplaced(const Register& current, MonotonicTime now);
  void Depose(const Register& current);

  ProtocolConfig config_;
  const uint64_t first_epoch_;  // granted to this object: later ones have its log
  Log* log_;
  Stability stability_;
  Destination peer_;
  LeaseTerm lease_;
  Membership membership_;
  Actions actions_;

  State state_ = State::kSolo;
  Gate gate_ = Gate::kOpen;
  bool carrier_up_ = true;
  bool dialing_ = false;
  NodeId peer_id_;
  int32_t version_ = 0;
  Lsn keep_from_;                 // what is older need not be kept for anybody
  MonotonicTime replaced_until_;  // kReplaced
  std::string why_alone_;
  MonotonicTime alone_since_;
  // Of a node that was left behind because its replay hung: it comes back when that has moved on.
  struct Stuck {
    std::string node;
    Lsn applied_lsn;
  };
  std::optional<Stuck> stuck_;
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_PRIMARY_H_
