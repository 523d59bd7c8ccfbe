#include "replication/memory_log.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

namespace understudy::replication {
namespace {

// Larger batches are read in parts. With other batches before it, or the longest record in it, a part is
// still far from the limit of a frame.
constexpr size_t kMaxUncut = 8u << 20;

// std::partition_point, which looks at the last few first: nearly always it is what was appended of late.
template <typename Iterator, typename Predicate>
Iterator PartitionNearEnd(Iterator begin, Iterator end, Predicate before) {
  for (int looked = 0; looked < 8; ++looked) {
    if (begin == end || before(*(end - 1))) return end;
    --end;
  }
  return std::partition_point(begin, end, before);
}

// The records of one batch behind `after`, as many as fit in a frame. Returns the last one's LSN.
Lsn ReadPart(const RecordBatch& batch, Lsn after, std::string* out) {
  const RecordBatch rest = batch.After(after);
  size_t bytes = 0;
  Lsn last = after;
  for (const RecordView& record : rest) {
    const size_t size = kRecordHeaderSize + record.body.size();
    if (bytes > 0 && bytes + size > kMaxUncut) break;
    bytes += size;
    last = record.lsn;
  }
  out->append(rest.bytes(), 0, bytes);
  return last;
}

}  // namespace

void MemoryLog::Append(RecordBatch batch, uint64_t epoch, absl::Span<const OutputHash> hashes) {
  CHECK(!batch.empty());
  CHECK_EQ(batch.first_lsn(), last_ + 1);
  CHECK_GE(epoch, last_epoch_);
  last_ = batch.last_lsn();
  last_epoch_ = epoch;
  const uint64_t before = batches_.empty() ? 0 : batches_.back().end;
  const uint64_t end = before + batch.bytes().size();
  batches_.push_back({std::move(batch), end});
  for (const OutputHash& hash : hashes) {
    CHECK_LE(hash.lsn, last_);
    if (hash.lsn > (hashes_.empty() ? 0 : hashes_.back().lsn)) hashes_.push_back(hash);
  }
}

// The batch with that record, or the first one behind it; end(): none.
MemoryLog::Entries::const_iterator MemoryLog::Find(Lsn lsn) const {
  return PartitionNearEnd(batches_.begin(), batches_.end(),
                          [lsn](const Entry& entry) { return entry.batch.last_lsn() < lsn; });
}

Lsn MemoryLog::Read(Lsn from, size_t max_bytes, std::string* out) const {
  CHECK(Reaches(from) && from <= last_);
  Lsn last = from - 1;
  for (auto entry = Find(from); entry != batches_.end(); ++entry) {
    const RecordBatch& batch = entry->batch;
    if (last >= from && out->size() + batch.bytes().size() > max_bytes) break;
    if (batch.first_lsn() > last && batch.bytes().size() <= kMaxUncut) {
      out->append(batch.bytes());
      last = batch.last_lsn();
      continue;
    }
    last = ReadPart(batch, last, out);
    if (last < batch.last_lsn()) break;
  }
  return last;
}

// The first hash of a record behind `lsn`.
std::deque<OutputHash>::const_iterator MemoryLog::HashAfter(Lsn lsn) const {
  return PartitionNearEnd(hashes_.begin(), hashes_.end(),
                          [lsn](const OutputHash& hash) { return hash.lsn <= lsn; });
}

std::vector<OutputHash> MemoryLog::HashesBetween(Lsn after, Lsn to) const {
  if (after >= to) return {};
  return std::vector<OutputHash>(HashAfter(after), HashAfter(to));
}

OutputHash MemoryLog::HashUpTo(Lsn to) const {
  const auto behind = HashAfter(to);
  return behind == hashes_.begin() ? OutputHash() : *(behind - 1);
}

Lsn MemoryLog::StartOfNewest(size_t max_bytes, Lsn end) const {
  auto behind = Find(end);  // the first batch that does not count
  if (behind != batches_.end() && behind->batch.last_lsn() == end) ++behind;
  if (behind == batches_.begin()) return first_lsn();
  const uint64_t bytes_end = (behind - 1)->end;
  // Nearly always: all that is here is to stay.
  if (bytes_end - batches_.front().begin() <= max_bytes) return first_lsn();
  // When the oldest are let go each time, it is only few of them.
  const auto too_old = [&](const Entry& entry) { return bytes_end - entry.begin() > max_bytes; };
  auto start = batches_.begin();
  for (int looked = 0; looked < 8 && start != behind && too_old(*start); ++looked) ++start;
  if (start != behind && too_old(*start)) start = std::partition_point(start, behind, too_old);
  return start == batches_.end() ? last_ + 1 : start->batch.first_lsn();
}

size_t MemoryLog::BytesBetween(Lsn from, Lsn to) const {
  if (from > to) return 0;
  const auto first = Find(from);
  if (first == batches_.end() || first->batch.first_lsn() > to) return 0;
  const auto last = Find(std::min(to, last_));
  return last->end - first->begin();
}

void MemoryLog::Truncate(Lsn before) {
  while (!batches_.empty() && batches_.front().batch.last_lsn() < before) batches_.pop_front();
  while (hashes_.size() > 1 && hashes_[1].lsn < first_lsn()) hashes_.pop_front();
}

void MemoryLog::CheckInvariants() const {
  for (size_t i = 0; i < batches_.size(); ++i) {
    CHECK(!batches_[i].batch.empty());
    if (i == 0) continue;
    CHECK_EQ(batches_[i].batch.first_lsn(), batches_[i - 1].batch.last_lsn() + 1);
    CHECK_EQ(batches_[i].begin(), batches_[i - 1].end);
  }
  if (!batches_.empty()) CHECK_EQ(batches_.back().batch.last_lsn(), last_);
  for (size_t i = 1; i < hashes_.size(); ++i) CHECK_LT(hashes_[i - 1].lsn, hashes_[i].lsn);
  if (!hashes_.empty()) CHECK_LE(hashes_.back().lsn, last_);
}

}  // namespace understudy::replication
