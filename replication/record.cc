#include "replication/record.h"

#include <glog/logging.h>
#include <isa-l/crc.h>
#include <isa-l/crc64.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace understudy::replication {
namespace {

static_assert(std::endian::native == std::endian::little, "records are little endian, unconverted");

constexpr size_t kLengthAt = 4;
constexpr size_t kLsnAt = 8;
constexpr size_t kTimeAt = 16;
constexpr size_t kKindAt = 24;
constexpr int kVersionShift = 24;  // of the four bytes at kKindAt

template <typename T>
T Get(const char* at) {
  T value;
  std::memcpy(&value, at, sizeof(value));
  return value;
}

template <typename T>
void Put(char* at, T value) {
  std::memcpy(at, &value, sizeof(value));
}

uint32_t BodyLength(const char* record) { return Get<uint32_t>(record + kLengthAt); }

uint32_t CrcOf(const char* record, size_t body) {
  return Crc32c({record + kLengthAt, kRecordHeaderSize - kLengthAt + body});
}

// Size of the record at the front of `rest`, or what is wrong with it. The length is looked at
// before the CRC: it says where the CRC ends.
absl::StatusOr<size_t> CheckRecord(std::string_view rest, Lsn lsn) {
  if (lsn == 0) return absl::InvalidArgumentError("a record cannot have LSN 0");
  if (rest.size() < kRecordHeaderSize) {
    return absl::InvalidArgumentError(absl::StrCat("record ", lsn, ": cut off in its header, ", rest.size(),
                                                   " of ", kRecordHeaderSize, " bytes"));
  }
  const size_t body = BodyLength(rest.data());
  if (body > kMaxRecordBody) {
    return absl::InvalidArgumentError(
        absl::StrCat("record ", lsn, ": body of ", body, " bytes, at most ", kMaxRecordBody));
  }
  if (body > rest.size() - kRecordHeaderSize) {
    return absl::InvalidArgumentError(absl::StrCat("record ", lsn, ": cut off in its body, ",
                                                   rest.size() - kRecordHeaderSize, " of ", body, " bytes"));
  }
  if (CrcOf(rest.data(), body) != Get<uint32_t>(rest.data())) {
    return absl::DataLossError(absl::StrCat("record ", lsn, ": CRC does not match"));
  }
  if (const uint32_t version = Get<uint32_t>(rest.data() + kKindAt) >> kVersionShift;
      version != kRecordVersion) {
    return absl::UnimplementedError(absl::StrCat("record ", lsn, ": of version ", version,
                                                 ", and this program reads version ", kRecordVersion));
  }
  if (const Lsn found = Get<Lsn>(rest.data() + kLsnAt); found != lsn) {
    return absl::InvalidArgumentError(absl::StrCat("record ", lsn, ": numbered ", found, ", out of order"));
  }
  return kRecordHeaderSize + body;
}

}  // namespace

uint32_t Crc32c(std::string_view bytes, uint32_t seed) {
  // ISA-L leaves both inversions to its caller, counts in int, and does not write.
  uint32_t crc = ~seed;
  while (!bytes.empty()) {
    const size_t part = std::min<size_t>(bytes.size(), 1u << 30);
    crc = crc32_iscsi(reinterpret_cast<unsigned char*>(const_cast<char*>(bytes.data())),
                      static_cast<int>(part), crc);
    bytes.remove_prefix(part);
  }
  return ~crc;
}

RecordBatch::RecordBatch(std::string bytes, Lsn first, size_t count) {
  if (count == 0) return;
  bytes_ = std::make_shared<const std::string>(std::move(bytes));
  first_ = first;
  count_ = count;
}

const std::string& RecordBatch::bytes() const {
  static const std::string* const none = new std::string();
  return bytes_ == nullptr ? *none : *bytes_;
}

uint64_t Crc64(std::string_view bytes, uint64_t seed) {
  return crc64_ecma_refl(seed, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size());
}

absl::StatusOr<RecordBatch> RecordBatch::Parse(std::string bytes, Lsn first) {
  size_t count = 0;
  std::string_view rest = bytes;
  while (!rest.empty()) {
    absl::StatusOr<size_t> size = CheckRecord(rest, first + count);
    if (!size.ok()) return size.status();
    rest.remove_prefix(*size);
    ++count;
  }
  return RecordBatch(std::move(bytes), first, count);
}

RecordView RecordBatch::Iterator::operator*() const {
  return RecordView{.lsn = Get<Lsn>(at_ + kLsnAt),
                    .time_us = Get<int64_t>(at_ + kTimeAt),
                    .kind = Get<uint32_t>(at_ + kKindAt) & kMaxRecordKind,
                    .body = {at_ + kRecordHeaderSize, BodyLength(at_)}};
}

RecordBatch::Iterator& RecordBatch::Iterator::operator++() {
  at_ += kRecordHeaderSize + BodyLength(at_);
  return *this;
}

RecordBatch RecordBatch::After(Lsn lsn) const {
  if (empty() || lsn >= last_lsn()) return RecordBatch();
  if (lsn < first_) return *this;
  const char* at = bytes_->data();
  for (Lsn skip = first_; skip <= lsn; ++skip) at += kRecordHeaderSize + BodyLength(at);
  return RecordBatch(std::string(at, bytes_->data() + bytes_->size()), lsn + 1, last_lsn() - lsn);
}

// Makes room behind the whole records and returns where it begins.
char* BatchBuilder::Room(size_t bytes) {
  if (space_.size() - used_ < bytes) space_.resize(std::max(used_ + bytes, space_.size() * 2));
  return space_.data() + used_;
}

RecordView BatchBuilder::Append(uint32_t kind, int64_t time_us, std::string_view head,
                                std::string_view payload) {
  char* at = Reserve(kind, head, payload.size());
  if (!payload.empty()) std::memcpy(at, payload.data(), payload.size());
  return Commit(time_us, payload.size());
}

char* BatchBuilder::Reserve(uint32_t kind, std::string_view head, size_t capacity) {
  CHECK(!reserved_) << "Reserve within Reserve";
  CHECK_LE(kind, kMaxRecordKind);
  CHECK_LE(head.size(), kMaxRecordBody);
  CHECK_LE(capacity, kMaxRecordBody - head.size());
  char* at = Room(kRecordHeaderSize + head.size() + capacity);
  Put(at + kKindAt, kind | uint32_t{kRecordVersion} << kVersionShift);
  if (!head.empty()) std::memcpy(at + kRecordHeaderSize, head.data(), head.size());
  reserved_ = true;
  reserved_head_ = head.size();
  reserved_capacity_ = capacity;
  return at + kRecordHeaderSize + head.size();
}

RecordView BatchBuilder::Commit(int64_t time_us, size_t used) {
  CHECK(reserved_) << "Commit without Reserve";
  CHECK_LE(used, reserved_capacity_);
  reserved_ = false;
  return Finish(reserved_head_ + used, time_us);
}

void BatchBuilder::Cancel() {
  CHECK(reserved_) << "Cancel without Reserve";
  reserved_ = false;
}

RecordView BatchBuilder::Finish(size_t body, int64_t time_us) {
  char* at = space_.data() + used_;
  Put(at + kLengthAt, static_cast<uint32_t>(body));
  Put(at + kLsnAt, next_);
  Put(at + kTimeAt, time_us);
  Put(at, CrcOf(at, body));
  used_ += kRecordHeaderSize + body;
  ++count_;
  ++next_;
  return *RecordBatch::Iterator(at);
}

void BatchBuilder::Truncate(size_t at, Lsn lsn) {
  CHECK(!reserved_);
  CHECK_LE(at, used_);
  count_ -= next_ - lsn;
  used_ = at;
  next_ = lsn;
}

RecordBatch BatchBuilder::Seal() {
  CHECK(!reserved_) << "Seal within Reserve";
  std::string bytes;
  // Batches are kept for long: one must not hold on to a work space much larger than itself.
  if (used_ > 0 && used_ >= space_.size() / 2) {
    space_.resize(used_);
    bytes = std::move(space_);
    space_.clear();
  } else {
    bytes.assign(space_, 0, used_);
  }
  used_ = 0;
  const size_t count = std::exchange(count_, 0);
  return RecordBatch(std::move(bytes), next_ - count, count);
}

}  // namespace understudy::replication
