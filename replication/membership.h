// The primary's dialogue with the arbiter: what it holds, what it has asked for, and what of that may yet
// come true. Pure; nobody else on the primary talks to the arbiter.
//
// An answer may be lost, and the request carried out later than its sender believes. So a wish stays on the
// list until the epoch has moved: after a lost answer the node goes on asking, for the same or for another
// change from the same register, until one answer is definite. From then on no earlier wish can come true.
#ifndef UNDERSTUDY_REPLICATION_MEMBERSHIP_H_
#define UNDERSTUDY_REPLICATION_MEMBERSHIP_H_

#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "replication/arbiter.h"
#include "replication/monotonic_time.h"
#include "replication/protocol.h"

namespace understudy::replication {

class Membership {
 public:
  struct Pauses {
    nanoseconds retry;  // after an answer that was lost, or that cannot be
    nanoseconds check;  // while nothing happens
  };
  Membership(Register held, Pauses pauses, MonotonicTime now)
      : held_(std::move(held)), pauses_(pauses), check_at_(now + pauses.check) {}

  // What the arbiter has granted to this node.
  const Register& held() const { return held_; }
  // A question is with the arbiter.
  bool asking() const { return asked_ != Asked::kNothing; }
  // A question is with it, or will be.
  bool will_ask() const { return asking() || read_at_.has_value(); }
  // Something else may yet be held: it has been asked for.
  bool changing() const { return !wishes_.empty(); }

  // --- Asking. Questions are added to `out` ---

  // Whether a change may be asked for now. Not while a question is out; not while the outcome of the last
  // change is unknown, which is read then.
  bool ReadyToAsk(MonotonicTime now);
  // REQUIRES: !asking().
  void Ask(const Register& expected, const Register& desired, Actions& out);
  void Ask(const Register& desired, Actions& out) { Ask(held_, desired, out); }
  // Reads the register then. In place of what was to be read before.
  void ReadAt(MonotonicTime at) { read_at_ = at; }
  // Likewise, unless something is asked or to be read.
  void ReadSoon(MonotonicTime at);
  void DoNotRead() { read_at_.reset(); }
  // None of the wishes can come true any more.
  void DropWishes() { wishes_.clear(); }
  // Another has the epoch for good: nothing that is still on its way matters.
  void Resign();

  // --- Events ---

  enum class Verdict {
    kNothing,    // no news: no answer, nobody asked, or an arbiter that has forgotten, which grants nothing
    kGranted,    // held() is what was asked for
    kUnchanged,  // held() as before, and nothing that was asked for can come true any more
    kOthers,     // the register is what this node has never asked for
  };
  struct Answer {
    Verdict verdict = Verdict::kNothing;
    Register current = {};  // of kOthers
  };
  // `serves`: this node does. Then no answer, and a register without an epoch, have granted nothing to
  // anybody; else the register is read again soon.
  Answer OnArbiter(const absl::StatusOr<Arbiter::Outcome>& outcome, bool serves, MonotonicTime now);

  // Reads what is due: what was to be read, and, while this node serves, the register all `check`: who holds
  // a register that is another's must not go on.
  void OnTick(bool serves, MonotonicTime now, Actions& out);
  MonotonicTime NextTick(bool serves) const;

  // Panics (CHECK) when an internal invariant does not hold.
  void CheckInvariants() const;

 private:
  enum class Asked { kNothing, kRead, kSwap };

  Answer Judge(const Register& current, bool swap_failed, bool serves, MonotonicTime now);

  Register held_;
  Pauses pauses_;
  Asked asked_ = Asked::kNothing;
  std::vector<Register> wishes_;  // asked for from held_, in all; one may yet come true
  bool unsure_ = false;           // the newest swap's outcome is unknown: read before the next
  std::optional<MonotonicTime> read_at_;
  MonotonicTime check_at_;
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_MEMBERSHIP_H_
