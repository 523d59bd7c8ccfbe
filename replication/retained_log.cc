#include "replication/retained_log.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>

namespace understudy::replication {
namespace {

// Larger batches are sent in parts. With other batches before it, or the longest record in it, a
// part is still far from the limit of a frame.
constexpr size_t kMaxUncut = 8u << 20;

}  // namespace

RetainedLog::RetainedLog(size_t retain_bytes, Lsn last_lsn, std::deque<RecordBatch> history)
    : retain_bytes_(retain_bytes),
      last_lsn_(last_lsn),
      stable_lsn_(last_lsn),
      batches_(std::move(history)),
      stable_batches_(batches_.size()) {
  for (const RecordBatch& batch : batches_) stable_bytes_ += batch.bytes().size();
  CheckInvariants();
  Trim();
}

void RetainedLog::Append(RecordBatch batch) {
  CHECK(!batch.empty());
  CHECK_EQ(batch.first_lsn(), last_lsn_ + 1);
  last_lsn_ = batch.last_lsn();
  unstable_bytes_ += batch.bytes().size();
  batches_.push_back(std::move(batch));
}

void RetainedLog::SetStable(Lsn lsn) {
  CHECK_GE(lsn, stable_lsn_);
  CHECK_LE(lsn, last_lsn_);
  stable_lsn_ = lsn;
  while (stable_batches_ < batches_.size() && batches_[stable_batches_].last_lsn() <= lsn) {
    const size_t bytes = batches_[stable_batches_].bytes().size();
    unstable_bytes_ -= bytes;
    stable_bytes_ += bytes;
    ++stable_batches_;
  }
  Trim();
}

void RetainedLog::Trim() {
  while (stable_bytes_ > retain_bytes_) {
    stable_bytes_ -= batches_.front().bytes().size();
    --stable_batches_;
    batches_.pop_front();
  }
}

bool RetainedLog::Reaches(Lsn from) const {
  if (from == last_lsn_ + 1) return true;
  return from <= last_lsn_ && !batches_.empty() && batches_.front().first_lsn() <= from;
}

Lsn RetainedLog::CopyFrom(Lsn from, size_t max_bytes, std::string* out) const {
  CHECK(Reaches(from) && from <= last_lsn_);
  auto batch = batches_.end() - 1;  // nearly always the one that was just appended
  if (batch->first_lsn() > from) {
    batch = std::lower_bound(batches_.begin(), batches_.end(), from,
                             [](const RecordBatch& some, Lsn lsn) { return some.last_lsn() < lsn; });
  }
  Lsn last = from - 1;
  for (; batch != batches_.end(); ++batch) {
    if (last >= from && out->size() + batch->bytes().size() > max_bytes) break;
    if (batch->first_lsn() > last && batch->bytes().size() <= kMaxUncut) {
      out->append(batch->bytes());
      last = batch->last_lsn();
      continue;
    }
    last = CopyPart(*batch, last, out);
    if (last < batch->last_lsn()) break;
  }
  return last;
}

// The records of one batch behind `after`, as many as fit in a frame.
Lsn RetainedLog::CopyPart(const RecordBatch& batch, Lsn after, std::string* out) {
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

void RetainedLog::CheckInvariants() const {
  CHECK_LE(stable_lsn_, last_lsn_);
  CHECK_LE(stable_batches_, batches_.size());
  size_t stable = 0, unstable = 0;
  for (size_t i = 0; i < batches_.size(); ++i) {
    CHECK(!batches_[i].empty());
    if (i > 0) CHECK_EQ(batches_[i].first_lsn(), batches_[i - 1].last_lsn() + 1);
    CHECK_EQ(i < stable_batches_, batches_[i].last_lsn() <= stable_lsn_);
    (i < stable_batches_ ? stable : unstable) += batches_[i].bytes().size();
  }
  if (!batches_.empty()) CHECK_EQ(batches_.back().last_lsn(), last_lsn_);
  // What is not stable is never let go.
  if (stable_lsn_ < last_lsn_) CHECK(Reaches(stable_lsn_ + 1));
  CHECK_EQ(stable, stable_bytes_);
  CHECK_EQ(unstable, unstable_bytes_);
}

}  // namespace understudy::replication
