// The secondary's half of the pair's protocol: join, store, suspect, ask, take over. Pure (protocol.h).
//
// Claims 10, 13, 29: the secondary stores the log before it acknowledges; it does not execute first.
#ifndef UNDERSTUDY_REPLICATION_SECONDARY_H_
#define UNDERSTUDY_REPLICATION_SECONDARY_H_

#include <optional>
#include <string>
#include <string_view>

#include "replication/protocol.h"

namespace understudy::replication {

// What keeps a secondary from taking over until it has asked the arbiter for the first time.
inline constexpr char kNotChecked[] = "it has not looked at the arbiter yet";

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

  SecondaryCore(ProtocolConfig config, MonotonicTime now);

  State state() const { return state_; }
  uint64_t epoch() const { return epoch_; }  // newest epoch a primary has told, 0: none
  Lsn stored_lsn() const { return stored_lsn_; }
  const std::string& primary() const { return primary_; }
  const std::string& why() const { return why_; }  // of kSilent, or of the last failure to join
  // Of late: not for suspect_after, and its process is not known to be gone.
  bool HearsPrimary(MonotonicTime now) const { return !Suspicious(now); }
  // Why this node could not take over, as far as it knows: it cannot use the arbiter, or that is another one
  // than the primary's; or what OnObstacle said. Empty: it could, if it is kProtected. A primary that takes
  // no joiner of which it does not know that it could is told with each answer.
  const std::string& cannot_take_over() const { return obstacle_.empty() ? cannot_take_over_ : obstacle_; }

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

  // A pulse of the primary (pulse.h). True: it counts as heard, and must be answered now. It may be of the
  // epoch in which this node becomes a member, before the append that tells it so.
  bool OnPulse(uint64_t epoch, MonotonicTime now);

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
  enum class LinkState {
    kNone,
    kDialing,
    kJoinSent,
    kJoined,
  };
  enum class Asked { kNothing, kRead, kSwap };

  nanoseconds SlowDown(nanoseconds most);
  nanoseconds BackOff(const wire::Refused& refused);
  bool Active() const { return state_ == State::kJoining || state_ == State::kProtected; }

  wire::Refused Refuse(wire::RefuseReason::type reason, std::string detail) const;
  std::string FaultOf(const wire::JoinReply& reply) const;
  std::optional<wire::Refused> CheckAppend(const wire::AppendRequest& request) const;
  std::optional<wire::Refused> CheckHandover(const wire::HandoverRequest& request) const;
  std::optional<wire::Refused> Store(wire::AppendRequest* request);

  void StartDial();
  void DialLater(nanoseconds pause, MonotonicTime now);
  void CloseAndRetry(const std::string& reason, MonotonicTime now);
  void LinkLost(MonotonicTime now);
  void CheckLink(MonotonicTime now);

  bool CanServe() const { return carrier_up_ && obstacle_.empty(); }
  bool Suspicious(MonotonicTime now) const;
  void MaybeAsk(MonotonicTime now);
  void AskToTakeOver(const std::string& why);
  void AskAgain(MonotonicTime now);
  void Read();
  void CheckArbiterNow();
  void CheckOften(MonotonicTime now);
  void DecideMembership(const Register& current, MonotonicTime now);
  void DecideTakeover(const Register& current, bool swap_failed, MonotonicTime now);
  void BackToJoining(const std::string& why, MonotonicTime now);
  void BecomeSilent(const std::string& why);

  ProtocolConfig config_;
  State state_ = State::kJoining;
  uint64_t epoch_ = 0;  // told by the primary on a link of this process
  Lsn stored_lsn_ = 0;
  uint64_t record_epoch_ = 0;  // of the last record
  std::string primary_;
  std::string why_;
  Actions actions_;

  LinkState link_ = LinkState::kNone;
  MonotonicTime link_since_;  // of kJoinSent
  std::optional<MonotonicTime> dial_at_;
  nanoseconds back_off_{0};

  MonotonicTime last_heard_;    // newest accepted append, or what counts as one
  std::string last_word_hash_;  // of the primary's process; empty: it has no witness
  bool process_gone_ = false;   // its last word was heard
  bool carrier_up_ = true;

  std::string obstacle_;          // see OnObstacle
  std::string cannot_take_over_;  // of the arbiter; see there
  bool checking_ = false;         // CheckArbiter has not been answered
  bool check_stale_ = false;      // what is being checked has changed since it was asked for
  MonotonicTime check_since_;     // checking_: asked for
  std::optional<MonotonicTime> check_at_;

  Asked asked_ = Asked::kNothing;
  Register expected_;  // of the newest swap
  std::string takeover_why_;
  std::optional<MonotonicTime> ask_at_;
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_SECONDARY_H_
