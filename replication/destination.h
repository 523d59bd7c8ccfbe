// One place that stores the log: what has been sent to it, what it has acknowledged, and how much more it may
// be sent now. Pure.
#ifndef UNDERSTUDY_REPLICATION_DESTINATION_H_
#define UNDERSTUDY_REPLICATION_DESTINATION_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "replication/backlog.h"
#include "replication/log.h"
#include "replication/monotonic_time.h"
#include "replication/replication_types.h"  // generated from replication.thrift

namespace understudy::replication {

class Destination {
 public:
  // While it catches up it gets no more than this at once; in bytes of records.
  struct Limits {
    size_t unacknowledged;
    size_t unreplayed;  // acknowledged or not
  };
  // The log outlives this object.
  Destination(Log* log, Limits limits) : log_(log), limits_(limits) {}

  // --- The link ---

  // The node has joined: it holds the log up to `stored` and has replayed it up to `applied`. What was in
  // flight on the link before does not count any more. REQUIRES: log->Reaches(stored + 1).
  void Connect(std::string node, Lsn stored, Lsn applied, MonotonicTime now);
  void Disconnect();
  // Disconnects, and forgets whose place it is.
  void Forget();
  bool connected() const { return connected_; }
  bool has_answered() const { return has_answered_; }  // on this link
  const std::string& node() const { return node_; }    // connected, or lost; empty: none

  // --- What it has, by its own word ---

  Lsn stored_lsn() const { return stored_; }
  Lsn applied_lsn() const { return applied_; }
  // Why it could not take over; empty: it could.
  const std::string& cannot_take_over() const { return cannot_take_over_; }
  // When the replay moved last, or had nothing to do.
  MonotonicTime replay_moved_at() const { return replay_moved_at_; }

  // --- Sending; REQUIRES: connected() ---

  // All that is in the log has been sent.
  bool HasBeenSentAll() const { return next_ > log_->last_lsn(); }
  // One that catches up may be sent more now.
  bool MayBeSentMore() const { return in_flight_bytes_ < limits_.unacknowledged && !ReplayLags(); }
  // It holds as much that it has not replayed as it should (I7).
  bool ReplayLags() const { return connected_ && unreplayed_.bytes() >= limits_.unreplayed; }
  // What it would be sent next is older than `start`, from where on the log is kept.
  bool FellBehind(Lsn start) const { return !HasBeenSentAll() && next_ < start; }
  Lsn next_lsn() const { return next_; }

  // The next append: records, as many as go into one call; none when it has been sent all, or when
  // `with_records` is false. Counts as sent. The owner sets what is not about the log.
  wire::AppendRequest Next(uint64_t epoch, bool with_records, MonotonicTime now);
  MonotonicTime last_sent_at() const { return last_sent_at_; }
  // Of the oldest append that has not been answered.
  std::optional<MonotonicTime> waits_since() const;

  // An answer. Returns what is wrong with it, and changes nothing then; empty: it is the one to the oldest
  // append that has none.
  std::string OnReply(const wire::AppendReply& reply, MonotonicTime now);

  // Panics (CHECK) when an internal invariant does not hold.
  void CheckInvariants() const;

 private:
  // An append that has not been answered.
  struct Sent {
    int64_t sent_at_ns;
    uint64_t epoch;
    Lsn next_lsn;  // the LSN behind it
    size_t bytes;
  };
  std::string FaultOf(const wire::AppendReply& reply) const;

  Log* log_;
  Limits limits_;
  std::string node_;
  bool connected_ = false;
  bool has_answered_ = false;
  Lsn next_ = 0;
  Log::Pin pin_;  // of next_
  Lsn stored_ = 0;
  Lsn applied_ = 0;
  std::string cannot_take_over_;
  MonotonicTime replay_moved_at_{};
  MonotonicTime last_sent_at_{};
  std::deque<Sent> in_flight_;
  size_t in_flight_bytes_ = 0;
  Backlog unreplayed_;
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_DESTINATION_H_
