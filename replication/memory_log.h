// A log in memory. It ends with the process.
#ifndef UNDERSTUDY_REPLICATION_MEMORY_LOG_H_
#define UNDERSTUDY_REPLICATION_MEMORY_LOG_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "replication/log.h"
#include "replication/record.h"

namespace understudy::replication {

class MemoryLog final : public Log {
 public:
  // Empty; the next record is the one behind `last`.
  explicit MemoryLog(Lsn last = 0) : last_(last) {}

  Lsn first_lsn() const override { return batches_.empty() ? last_ + 1 : batches_.front().batch.first_lsn(); }
  Lsn last_lsn() const override { return last_; }
  uint64_t last_epoch() const override { return last_epoch_; }
  void Append(RecordBatch batch, uint64_t epoch, absl::Span<const OutputHash> hashes) override;
  Lsn Read(Lsn from, size_t max_bytes, std::string* out) const override;
  std::vector<OutputHash> HashesBetween(Lsn after, Lsn to) const override;
  OutputHash HashUpTo(Lsn to) const override;
  Lsn StartOfNewest(size_t max_bytes, Lsn end) const override;
  size_t BytesBetween(Lsn from, Lsn to) const override;
  void CheckInvariants() const override;

 private:
  struct Entry {
    RecordBatch batch;
    uint64_t end = 0;  // bytes of all batches that were ever appended, this one included
    uint64_t begin() const { return end - batch.bytes().size(); }
  };
  using Entries = std::deque<Entry>;

  void Truncate(Lsn before) override;
  Entries::const_iterator Find(Lsn lsn) const;
  std::deque<OutputHash>::const_iterator HashAfter(Lsn lsn) const;

  Lsn last_;
  uint64_t last_epoch_ = 0;
  Entries batches_;                // without gaps, ending at last_
  std::deque<OutputHash> hashes_;  // in order, each of another record; of those before first_lsn() the newest
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_MEMORY_LOG_H_
