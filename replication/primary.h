// The primary's half of the pair's protocol: append, acknowledge, lease, solo, handover. Pure (protocol.h).
//
// Claims 1-3, 13, 20: a record is stable when the secondary has stored it, and only StableUpTo lets what
// depends on it leave.
//
// The right to serve: while the register names a secondary, the lease runs suspect_after - lease_guard
// from the sending of the newest append the secondary has answered. The secondary suspects suspect_after
// from the arrival of the newest append, which is later. So when it may take over, this node is silent.
// While the register names none, nobody can take the epoch, and the lease only proves that this process
// runs: it is renewed with each Tick.
#ifndef UNDERSTUDY_REPLICATION_PRIMARY_H_
#define UNDERSTUDY_REPLICATION_PRIMARY_H_

#include <deque>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "replication/protocol.h"

namespace understudy::replication {

class PrimaryCore {
 public:
  enum class State {
    kSolo,        // serves; the register names no secondary (one may be catching up)
    kProtected,   // serves; the register names the joined node as secondary
    kAlone,       // the secondary is lost, the arbiter has not answered yet: stable does not move
    kHandingOver, // silent; has asked the secondary to take over
    kDeposed,     // silent for good
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
  // How far the secondary says it has replayed.
  Lsn peer_applied_lsn() const { return peer_applied_lsn_; }

  // False when max_unstable_bytes are reached: stop reading from clients until a StableUpTo.
  bool CanAppend() const;

  // --- Events; each leaves actions for Take() ---

  // Records this node has appended to its log. REQUIRES: batch.first_lsn() == last_lsn() + 1.
  // executed_lsn, output_hash: see AppendRequest. In kDeposed and kHandingOver batches are dropped:
  // nothing that depends on them can leave any more.
  void OnAppended(RecordBatch batch, Lsn executed_lsn, uint64_t output_hash, MonotonicTime now);

  // A node asks to become the secondary on a link that is not joined yet. Refused is returned to it and
  // its link closed by the owner; a link in use is not disturbed. After OK this link is the current one.
  struct JoinOutcome {
    std::optional<wire::Refused> refused;
    wire::JoinReply reply;      // when not refused
  };
  JoinOutcome OnJoin(const wire::JoinRequest& request, MonotonicTime now);

  void OnAppendReply(const wire::AppendReply& reply, MonotonicTime now);
  void OnHandoverReply(const wire::HandoverReply& reply, MonotonicTime now);
  // The secondary refused a call, or broke the protocol: the link is closed by CloseLink.
  void OnRefused(const wire::Refused& refused, MonotonicTime now);
  void OnLinkDown(const std::string& reason, MonotonicTime now);
  void OnDialed(DialResult result, MonotonicTime now);
  void OnArbiter(const absl::StatusOr<Arbiter::Outcome>& outcome, MonotonicTime now);

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
  // Defined by the implementation.
  ProtocolConfig config_;
  Register held_;
  State state_;
  Lsn last_lsn_;
  Lsn stable_lsn_;
  std::string peer_;
  Lsn peer_applied_lsn_ = 0;
  Actions actions_;
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_PRIMARY_H_
