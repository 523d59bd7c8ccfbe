// The primary's copy of the end of the log: what the secondary has not stored yet, and behind it as
// much of the stable log as is worth keeping for one that was away for a moment.
#ifndef UNDERSTUDY_REPLICATION_RETAINED_LOG_H_
#define UNDERSTUDY_REPLICATION_RETAINED_LOG_H_

#include <cstddef>
#include <deque>
#include <string>

#include "replication/record.h"

namespace understudy::replication {

class RetainedLog {
 public:
  // Everything up to last_lsn is stable. `history`: batches without gaps that end there, or none.
  RetainedLog(size_t retain_bytes, Lsn last_lsn, std::deque<RecordBatch> history);

  // REQUIRES: batch.first_lsn() == last_lsn() + 1.
  void Append(RecordBatch batch);
  // REQUIRES: stable_lsn() <= lsn <= last_lsn(). Lets go of the oldest stable batches.
  void SetStable(Lsn lsn);

  Lsn last_lsn() const { return last_lsn_; }
  Lsn stable_lsn() const { return stable_lsn_; }
  size_t unstable_bytes() const { return unstable_bytes_; }

  // Whether a node that holds everything before `from` can be brought up to last_lsn() from here.
  bool Reaches(Lsn from) const;
  // Adds the records from `from` on, in whole batches: at least one, more while they fit in
  // max_bytes. Returns the last LSN added. REQUIRES: Reaches(from), from <= last_lsn().
  Lsn CopyFrom(Lsn from, size_t max_bytes, std::string* out) const;

  void CheckInvariants() const;

 private:
  void Trim();
  static Lsn CopyPart(const RecordBatch& batch, Lsn after, std::string* out);

  const size_t retain_bytes_;
  Lsn last_lsn_;
  Lsn stable_lsn_;
  std::deque<RecordBatch> batches_;  // without gaps, ending at last_lsn_
  size_t stable_batches_ = 0;        // so many at the front are stable as a whole
  size_t stable_bytes_ = 0;          // of those
  size_t unstable_bytes_ = 0;        // of the others
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_RETAINED_LOG_H_
