// What of the log is stable: stored by every destination that is required. Pure.
//
// Claims 1-3, 20: only the stable point lets what depends on a record leave.
#ifndef UNDERSTUDY_REPLICATION_STABILITY_H_
#define UNDERSTUDY_REPLICATION_STABILITY_H_

#include <cstddef>

#include "absl/types/span.h"
#include "replication/backlog.h"
#include "replication/record.h"

namespace understudy::replication {

class Stability {
 public:
  // A log that ends at `last`, all of it stable. No more than max_unstable_bytes should be unstable.
  Stability(Lsn last, size_t max_unstable_bytes)
      : stable_(last), last_(last), max_unstable_bytes_(max_unstable_bytes) {}

  Lsn stable_lsn() const { return stable_; }
  Lsn last_lsn() const { return last_; }
  size_t unstable_bytes() const { return unstable_.bytes(); }
  // False: appending has to wait until the stable point has moved (I7).
  bool HasRoom() const { return unstable_.bytes() < max_unstable_bytes_; }

  // A batch was appended that ends at `last`.
  void OnAppended(Lsn last, size_t bytes);
  // How far each required destination has stored the log, the own one not among them; none: what is appended
  // is stable. Returns whether the stable point has moved; it never goes back.
  bool Update(absl::Span<const Lsn> stored);

 private:
  Lsn stable_;
  Lsn last_;
  const size_t max_unstable_bytes_;
  Backlog unstable_;
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_STABILITY_H_
