// How many bytes of records wait for something: to be stable, or to be replayed.
#ifndef UNDERSTUDY_REPLICATION_BACKLOG_H_
#define UNDERSTUDY_REPLICATION_BACKLOG_H_

#include <cstddef>
#include <deque>

#include "replication/record.h"

namespace understudy::replication {

// In batches: the bytes of one count until its last record is through.
class Backlog {
 public:
  // `last`: of a batch behind all that were added before.
  void Add(Lsn last, size_t bytes) {
    batches_.push_back({last, bytes});
    bytes_ += bytes;
  }
  // All up to there are through.
  void DropUpTo(Lsn lsn) {
    while (!batches_.empty() && batches_.front().last <= lsn) {
      bytes_ -= batches_.front().bytes;
      batches_.pop_front();
    }
  }
  void Clear() {
    batches_.clear();
    bytes_ = 0;
  }
  size_t bytes() const { return bytes_; }

 private:
  struct Batch {
    Lsn last;
    size_t bytes;
  };
  std::deque<Batch> batches_;
  size_t bytes_ = 0;
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_BACKLOG_H_
