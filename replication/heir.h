// What makes a copy of the log a secondary: suspects the primary, asks the arbiter for its epoch, and finds
// out beforehand whether it could. Pure.
//
// May a node take its name in the register for itself? The register may speak of a former life of it, with a
// log that this process does not hold. So only an epoch counts that this process was told on a link it
// had joined, or the one right behind: the primary asks for that only once the node on that very link has
// answered for everything, and takes back only a node that holds everything.
#ifndef UNDERSTUDY_REPLICATION_HEIR_H_
#define UNDERSTUDY_REPLICATION_HEIR_H_

#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "replication/protocol.h"
#include "replication/receiver.h"

namespace understudy::replication {

// What keeps a secondary from taking over until it has asked the arbiter for the first time.
inline constexpr char kNotChecked[] = "it has not looked at the arbiter yet";

// `following` is the same receiver's in all calls. Actions are added to `out`.
class Heir {
 public:
  explicit Heir(ProtocolConfig config) : config_(std::move(config)), cannot_take_over_(kNotChecked) {}

  // Has asked for the epoch, and has no definite answer.
  bool asking() const { return asking_; }
  const std::string& takeover_why() const { return takeover_why_; }
  // See SecondaryCore.
  const std::string& cannot_take_over() const { return obstacle_.empty() ? cannot_take_over_ : obstacle_; }
  // Nothing at this host is in the way.
  bool CanServe() const { return carrier_up_ && obstacle_.empty(); }

  // --- The primary ---

  // A link is joined; `last_word_hash` is of the process at its other end.
  void OnJoined(const std::string& last_word_hash, const Following& following, Actions& out);
  // That the primary has changed what this node is.
  void OnNews(const Following& following, Actions& out);
  // True: it fits the hash, so that process is gone.
  bool OnLastWord(std::string_view word);
  bool Suspicious(const Following& following, MonotonicTime now) const;
  // Why; of one that is suspicious.
  std::string Suspicion(const Following& following) const;

  // --- This host ---

  void OnServiceCarrier(bool up) { carrier_up_ = up; }
  void OnObstacle(const std::string& what) { obstacle_ = what; }
  bool carrier_up() const { return carrier_up_; }
  const std::string& obstacle() const { return obstacle_; }

  // --- The arbiter ---

  // Asks for the epoch that the primary had. From here on nothing may be answered to it: its lease is at an
  // end, or given up, and stays so.
  void AskToTakeOver(const std::string& why, const Following& following, Actions& out);
  // The link is lost, and this node was no member: perhaps the register has made it one.
  void FindOutMembership(const Following& following, Actions& out);
  // No question of its own any more; an answer that is still to come does not matter.
  void Resign();

  enum class Verdict {
    kNothing,
    kMember,         // the register names this node as the secondary of `current`'s epoch
    kGranted,        // the epoch is this node's
    kPrimaryWentOn,  // in another epoch, without this node
    kOthers,         // it is somebody else's
  };
  struct Answer {
    Verdict verdict = Verdict::kNothing;
    Register current = {};
  };
  Answer OnArbiter(const absl::StatusOr<Arbiter::Outcome>& outcome, const Following& following,
                   MonotonicTime now, Actions& out);
  void OnArbiterChecked(const absl::StatusOr<std::optional<Register>>& seen, const Following& following,
                        MonotonicTime now, Actions& out);

  // Whether it could take over is looked at now and then, `active`: as long as it may.
  void OnTick(bool active, const Following& following, MonotonicTime now, Actions& out);
  MonotonicTime NextTick(bool active, const Following& following) const;

  // Panics (CHECK) when an internal invariant does not hold.
  void CheckInvariants() const;

 private:
  enum class Asked { kNothing, kRead, kSwap };

  Answer JudgeMembership(const Register& current, const Following& following, MonotonicTime now);
  Answer JudgeTakeover(const Register& current, bool swap_failed, const Following& following,
                       MonotonicTime now, Actions& out);
  void Swap(Actions& out);
  void AskAgain(MonotonicTime now, Actions& out);
  void Read(Actions& out);
  void CheckArbiterNow(const Following& following, Actions& out);

  ProtocolConfig config_;
  std::string last_word_hash_;  // of the primary's process; empty: it has no witness
  bool process_gone_ = false;   // its last word was heard
  bool carrier_up_ = true;
  std::string obstacle_;
  std::string cannot_take_over_;  // of the arbiter

  bool checking_ = false;      // CheckArbiter has not been answered
  bool check_stale_ = false;   // what is being checked has changed since it was asked for
  MonotonicTime check_since_;  // checking_: asked for
  std::optional<MonotonicTime> check_at_;

  bool asking_ = false;
  Asked asked_ = Asked::kNothing;
  Register expected_;  // of the newest swap
  std::string takeover_why_;
  std::optional<MonotonicTime> ask_at_;
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_HEIR_H_
