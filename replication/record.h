// Records and batches: the log as bytes.
//
// A record is one entry of the log (an input of the application, or a fact about a connection). This
// file knows how records are framed, numbered and checked; what the body of a record means is known in
// framework/ only.
//
// Encoding of one record, little endian, back to back within a batch, no padding:
//
//   offset  size  field
//        0     4  crc       CRC32C of everything behind this field, up to the end of the body
//        4     4  length    bytes of the body
//        8     8  lsn       position in the log: 1, 2, 3, ... across epochs, never reused
//       16     8  time_us   the primary's wall clock, microseconds since 1970, never going back
//       24     3  kind      belongs to the owner of the log; this file does not look at it
//       27     1  version   of this encoding: kRecordVersion
//       28     -  body
//
// These numbers reach the disk and the wire: never change the meaning of one, add a new one. Of any version
// the first 8 bytes mean the same, and the version is where it is: so damage is told from what is newer than
// this program.
#ifndef UNDERSTUDY_REPLICATION_RECORD_H_
#define UNDERSTUDY_REPLICATION_RECORD_H_

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace understudy::replication {

// Position of a record in the log. 0 is "before the first".
using Lsn = uint64_t;

inline constexpr size_t kRecordHeaderSize = 28;
// Of what this program writes, and the only one it reads. (Before there was one, 0 stood there.)
inline constexpr uint8_t kRecordVersion = 1;
inline constexpr uint32_t kMaxRecordKind = 0xffffff;
// A longer body is refused when it is parsed, and must not be appended.
inline constexpr size_t kMaxRecordBody = 16u << 20;

// One record inside a batch. `body` points into the batch and lives as long as it does.
struct RecordView {
  Lsn lsn = 0;
  int64_t time_us = 0;
  uint32_t kind = 0;
  std::string_view body;
};

// One or more records with consecutive LSNs, encoded. Immutable: copies share the bytes, on any thread.
class RecordBatch {
 public:
  RecordBatch() = default;

  // Takes `bytes` as they came from the wire or the disk. Checks every CRC, length and version, and that the
  // LSNs are `first`, first + 1, ... InvalidArgument, DataLoss (CRC) or Unimplemented (another version, which
  // it names with the own one) names the record and the fault.
  // An empty string is a batch of no records.
  static absl::StatusOr<RecordBatch> Parse(std::string bytes, Lsn first);

  bool empty() const { return count_ == 0; }
  size_t count() const { return count_; }
  Lsn first_lsn() const { return first_; }              // REQUIRES: !empty()
  Lsn last_lsn() const { return first_ + count_ - 1; }  // REQUIRES: !empty()
  const std::string& bytes() const;

  // Forward iteration over RecordView, in LSN order. Does not check again what Parse checked.
  class Iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = RecordView;
    using difference_type = std::ptrdiff_t;
    using pointer = const RecordView*;
    using reference = RecordView;

    constexpr explicit Iterator(const char* at) : at_(at) {}
    RecordView operator*() const;
    Iterator& operator++();
    bool operator==(const Iterator& other) const { return at_ == other.at_; }

   private:
    const char* at_;
  };
  Iterator begin() const { return Iterator(bytes().data()); }
  Iterator end() const { return Iterator(bytes().data() + bytes().size()); }

  // The same records less those up to and including `lsn`.
  RecordBatch After(Lsn lsn) const;

 private:
  friend class BatchBuilder;
  RecordBatch(std::string bytes, Lsn first, size_t count);

  std::shared_ptr<const std::string> bytes_;  // null: empty
  Lsn first_ = 0;
  size_t count_ = 0;
};

// Collects the records of one turn of the event loop. Not thread-safe.
class BatchBuilder {
 public:
  // The first record appended gets LSN `next`.
  explicit BatchBuilder(Lsn next) : next_(next) {}

  // Appends a record with body head + payload. The view returned is good until the next call.
  // REQUIRES: kind <= kMaxRecordKind, head.size() + payload.size() <= kMaxRecordBody.
  RecordView Append(uint32_t kind, int64_t time_us, std::string_view head, std::string_view payload = {});

  // For a body that is read from a socket without a copy: room for `capacity` bytes behind `head`, then
  // Commit with the bytes really used, or Cancel. Nothing else may be called in between.
  char* Reserve(uint32_t kind, std::string_view head, size_t capacity);
  RecordView Commit(int64_t time_us, size_t used);
  void Cancel();

  Lsn next_lsn() const { return next_; }
  bool empty() const { return count_ == 0; }
  size_t size_bytes() const { return used_; }
  // The record that began where size_bytes() was when it was appended; good until the next call of anything.
  // REQUIRES: not sealed since.
  RecordView At(size_t at) const { return *RecordBatch::Iterator(space_.data() + at); }

  // Takes back the record that began there, as in At, and all behind it. `lsn`: the record's.
  void Truncate(size_t at, Lsn lsn);

  // Hands out what was collected and starts an empty batch behind it.
  RecordBatch Seal();

 private:
  char* Room(size_t bytes);
  RecordView Finish(size_t body, int64_t time_us);

  // The work space keeps its size between batches and is never cleared: what Reserve asks for is mostly
  // far more than a read brings.
  std::string space_;
  size_t used_ = 0;  // bytes of whole records at the front of space_
  size_t count_ = 0;
  Lsn next_;
  bool reserved_ = false;
  size_t reserved_head_ = 0;
  size_t reserved_capacity_ = 0;
};

// CRC-64 (ECMA-182, reflected) of `bytes`, continuing from `seed` (0 to begin). As fast as the other. Two
// CRC32C of the same bytes from different seeds would not be worth more than one: they differ by a constant.
uint64_t Crc64(std::string_view bytes, uint64_t seed = 0);

// CRC32C (Castagnoli) of `bytes`, continuing from `seed` (0 to begin).
uint32_t Crc32c(std::string_view bytes, uint32_t seed = 0);

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_RECORD_H_
