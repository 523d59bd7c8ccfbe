// Until when this node may emit packets. Pure.
//
// While the register names a secondary, the lease runs `span` (suspect_after - lease_guard) from the sending
// of the newest message the secondary has answered. The secondary suspects suspect_after from the arrival of
// the newest, which is later. So when it may take over, this node is silent. While the register names
// none, nobody can take the epoch, and the lease only proves that this process runs.
#ifndef UNDERSTUDY_REPLICATION_LEASE_H_
#define UNDERSTUDY_REPLICATION_LEASE_H_

#include "replication/monotonic_time.h"

namespace understudy::replication {

class LeaseTerm {
 public:
  LeaseTerm(nanoseconds span, MonotonicTime now) : span_(span), until_(now), lost_at_(now) {}

  nanoseconds span() const { return span_; }
  MonotonicTime until() const { return until_; }
  bool Expired(MonotonicTime now) const { return now >= until_; }
  // Silence was the newest thing said.
  bool silent() const { return silent_; }

  // Extends it to `until`. True: that is news, and must be said; a lease is extended in steps of a
  // millisecond, not with each of 100,000 answers in a second. One that would be over by now is none.
  bool Extend(MonotonicTime until, MonotonicTime now);
  // Ends it at `now`, unless it has ended.
  void End(MonotonicTime now);
  // True: that is news, and must be said.
  bool BeSilent();
  // This machine was away without its clock having counted it: what was sent before is worth nothing.
  void OnAbsence(MonotonicTime now);

  // --- While it rests on the answers of a secondary ---

  // It does from here on: the one that is running is the last of its own.
  void Share();
  // The secondary has heard, later than `sent_at`, that this node lives. False: that was before an absence.
  bool OnAnswer(MonotonicTime sent_at);
  // The secondary is back on a new link. That puts its loss off, once for each answer.
  void OnRejoin(MonotonicTime now);
  // When the secondary counts as lost, without a further answer.
  MonotonicTime lost_at() const { return lost_at_; }

 private:
  nanoseconds span_;
  MonotonicTime until_;  // of the newest that was given
  MonotonicTime lost_at_;
  MonotonicTime counts_from_{};  // answers to what was sent before are worth nothing
  bool grace_used_ = false;      // a rejoin has put lost_at_ off, and no answer has come since
  bool silent_ = false;
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_LEASE_H_
