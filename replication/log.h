// The log of this node. It outlives roles: what a secondary has stored is what it ships as a primary.
//
// A log has no opinion about stability or about who needs what: it keeps what is appended until somebody
// truncates it, and what is pinned even then. MemoryLog is the one there is. Another place to keep records
// (a file, a database) is another subclass.
#ifndef UNDERSTUDY_REPLICATION_LOG_H_
#define UNDERSTUDY_REPLICATION_LOG_H_

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "replication/record.h"

namespace understudy::replication {

// What the primary's Server has sent in all, up to a record: a hash by which another node can tell whether
// its own has sent the same. LSN 0: nothing is known.
struct OutputHash {
  Lsn lsn = 0;
  uint64_t hash = 0;
  bool operator==(const OutputHash&) const = default;
};

// One thread. Records are numbered without gaps; what was appended is never changed.
class Log {
 public:
  Log() = default;
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;
  virtual ~Log();  // all pins are gone

  // Whoever reads the log bit by bit holds one: records from its position on are not truncated. An empty
  // one holds nothing.
  class Pin {
   public:
    Pin() = default;
    Pin(Pin&& other) noexcept;
    Pin& operator=(Pin&& other) noexcept;
    ~Pin();
    bool holds() const { return log_ != nullptr; }
    Lsn lsn() const { return *at_; }  // REQUIRES: holds()
    // Forward only. Allocates nothing. REQUIRES: holds(), lsn >= this->lsn().
    void MoveTo(Lsn lsn);

   private:
    friend class Log;
    Log* log_ = nullptr;
    std::multiset<Lsn>::iterator at_;
  };
  // REQUIRES: Reaches(from). The log outlives the pin.
  Pin PinFrom(Lsn from);

  // The oldest record that is here; last_lsn() + 1: none is.
  virtual Lsn first_lsn() const = 0;
  virtual Lsn last_lsn() const = 0;
  // The epoch of the last record; 0: there has been none.
  virtual uint64_t last_epoch() const = 0;
  // Whether a node that holds everything before `from` can be brought up to last_lsn() from here.
  bool Reaches(Lsn from) const { return from >= first_lsn() && from <= last_lsn() + 1; }

  // Appends records that were made in `epoch`, and what is known of the output up to some of them, or to
  // earlier ones; in order, and only what is newer than what is known already counts. REQUIRES: not empty,
  // batch.first_lsn() == last_lsn() + 1, epoch >= last_epoch(), no hash of a record behind the batch.
  virtual void Append(RecordBatch batch, uint64_t epoch, absl::Span<const OutputHash> hashes) = 0;

  // Adds the records from `from` on to `out`, in batches as they were appended: at least one, more while
  // `out` has no more than max_bytes. A batch is cut only where it is too long for a frame (8 MiB), between
  // two records. Returns the last LSN added. REQUIRES: Reaches(from), from <= last_lsn().
  virtual Lsn Read(Lsn from, size_t max_bytes, std::string* out) const = 0;

  // The hashes of records after `after`, up to `to`.
  virtual std::vector<OutputHash> HashesBetween(Lsn after, Lsn to) const = 0;
  // The newest of a record up to `to`, which may itself not be here any more.
  virtual OutputHash HashUpTo(Lsn to) const = 0;

  // Where the newest batches begin of those that end at `end` or before and have at most max_bytes
  // together; the LSN behind them when not even one fits. What is older can be truncated by whoever wants
  // to keep that much.
  virtual Lsn StartOfNewest(size_t max_bytes, Lsn end) const = 0;
  // Bytes of the batches from the one with record `from` on, up to the one with record `to`, as far as they
  // are here. 0 when from > to.
  virtual size_t BytesBetween(Lsn from, Lsn to) const = 0;

  // Lets go of the batches that lie before `lsn` as a whole and before each pin.
  void TruncateBefore(Lsn lsn);

  // Panics (CHECK) when an internal invariant does not hold.
  virtual void CheckInvariants() const = 0;

 private:
  virtual void Truncate(Lsn before) = 0;

  std::multiset<Lsn> pins_;
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_LOG_H_
