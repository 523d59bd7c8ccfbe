// The secondary's half of the pair's protocol: a Receiver (receiver.h), which has the log, and an Heir
// (heir.h), which may take the primary's place. Pure (protocol.h).
#ifndef UNDERSTUDY_REPLICATION_SECONDARY_H_
#define UNDERSTUDY_REPLICATION_SECONDARY_H_

#include <optional>
#include <string>
#include <string_view>

#include "replication/heir.h"
#include "replication/log.h"
#include "replication/protocol.h"
#include "replication/receiver.h"

namespace understudy::replication {

class SecondaryCore {
 public:
  enum class State {
    kJoining,     // no link, or the primary's log is not here in full yet, or the register does not name us
    kProtected,   // holds every stable record; may ask to take over
    kAsking,      // suspects the primary and has asked the arbiter
    kTakingOver,  // the arbiter has granted: the owner makes a PrimaryCore and drops this object
    kSilent,      // the arbiter has given the epoch to another, and the log here is of no use any more
                  // (a state transfer is needed)
  };

  // The log outlives this object, and nobody else appends to it meanwhile.
  SecondaryCore(ProtocolConfig config, Log* log, MonotonicTime now);

  State state() const;
  uint64_t epoch() const { return receiver_.following().epoch; }  // newest a primary has told, 0: none
  Lsn stored_lsn() const { return receiver_.stored_lsn(); }
  const std::string& primary() const { return receiver_.following().primary; }
  const NodeId& primary_id() const { return receiver_.primary_id(); }  // that it joined last
  // Of the protocol, as agreed with the primary; 0: nothing is yet.
  int32_t version() const { return receiver_.following().version; }
  // Of kSilent, of the takeover, or of the last failure to join.
  const std::string& why() const;
  // Of late: within suspect_after, and its process is not known to be gone.
  bool HearsPrimary(MonotonicTime now) const { return !heir_.Suspicious(receiver_.following(), now); }
  // Why this node could not take over, as far as it knows: it cannot use the arbiter, or that is another one
  // than the primary's; or what OnObstacle said. Empty: it could, if it is kProtected. A primary that takes
  // no joiner of which it does not know that it could is told with each answer.
  const std::string& cannot_take_over() const { return heir_.cannot_take_over(); }

  // --- Events; each leaves actions for Take() ---

  void OnDialed(DialResult result, MonotonicTime now);
  void OnJoinReply(const wire::JoinReply& reply, MonotonicTime now);
  void OnRefused(const wire::Refused& refused, MonotonicTime now);

  // What somebody said who wants to be the witness of the primary's death (last_word.h). True: it fits the
  // hash that was told at the join, so the process this node is joined with, or was last, is gone.
  bool OnLastWord(std::string_view word, MonotonicTime now);

  // A call of the primary. Refused goes back to the caller and the link is closed by the owner, who then
  // calls OnLinkDown. The answer goes out before Take() is carried out.
  struct AppendOutcome {
    std::optional<wire::Refused> refused;
    wire::AppendReply reply;  // when not refused
  };
  // applied_lsn: how far the replay is. Records come out as a Replay action; they are stored (in memory)
  // when this returns, so the reply may be sent at once.
  AppendOutcome OnAppend(wire::AppendRequest request, Lsn applied_lsn, MonotonicTime now);

  // A pulse of the primary (pulse.h), of that version. True: it counts as heard, and must be answered now. It
  // may be of the epoch in which this node becomes a member, before the append that tells it so.
  bool OnPulse(uint64_t epoch, int32_t version, MonotonicTime now);

  struct HandoverOutcome {
    std::optional<wire::Refused> refused;
    wire::HandoverReply reply;
  };
  HandoverOutcome OnHandover(const wire::HandoverRequest& request, MonotonicTime now);

  void OnLinkDown(const std::string& reason, MonotonicTime now);
  void OnArbiter(const absl::StatusOr<Arbiter::Outcome>& outcome, MonotonicTime now);
  // The answer to CheckArbiter: the register, or nullopt: there is none that is shared with the primary.
  void OnArbiterChecked(const absl::StatusOr<std::optional<Register>>& seen, MonotonicTime now);
  // The Server is not deterministic, began with other data, or cannot keep what it is told: this copy must
  // never serve (kSilent).
  void OnCopyUnusable(const std::string& what, MonotonicTime now);
  // Carrier of this node's service interface: without it it does not ask to take over.
  void OnServiceCarrier(bool up, MonotonicTime now);

  // Why this host could not serve now; empty: nothing is in the way. While something is, it does not ask to
  // take over.
  void OnObstacle(const std::string& what, MonotonicTime now);

  void OnTick(MonotonicTime now);
  MonotonicTime NextTick() const;

  Actions Take();
  void CheckInvariants() const;

 private:
  // Joined or on the way to it, and nothing asked: the primary is answered.
  bool Active() const { return !receiver_.stopped(); }
  void After(Receiver::Change change, MonotonicTime now);
  void MaybeAsk(MonotonicTime now);
  void AskToTakeOver(const std::string& why);
  void BecomeSilent(const std::string& why);

  ProtocolConfig config_;
  Actions actions_;
  Receiver receiver_;
  Heir heir_;
  enum class End { kNone, kTakingOver, kSilent };
  End end_ = End::kNone;
  std::string why_silent_;
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_SECONDARY_H_
