#include "apps/kvstore/store/record_cache.h"

#include <endian.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <new>
#include <utility>

#include "glog/logging.h"
#include "xxhash.h"

namespace kvstore {
namespace {

// What the maps and the heap need for a record besides its bytes, about.
constexpr size_t kOverhead = 48;
// Steps of the hand for each record that is added: more than one, so that it overtakes the additions.
constexpr size_t kStepsPerAdd = 4;
// What a flush has kept goes bit by bit.
constexpr size_t kStepsPerFlush = 4096;
// Larger values (chunks of long strings) go first: many of them pass by once, and each pushes out many small
// ones.
constexpr size_t kLarge = 8 << 10;
// Records are whole cache lines, so the last one's rest is room for values too.
constexpr size_t kLine = 64;

}  // namespace

size_t RecordCache::Hash::operator()(std::string_view key) const {
  return XXH3_64bits(key.data(), key.size());
}

RecordCache::RecordCache(size_t budget_bytes) : budget_(budget_bytes) {
  queue_.previous_ = queue_.next_ = &queue_;
}

RecordCache::~RecordCache() {
  for (CachedRecord* record : records_) Destroy(record);
}

// Each access to memory needs what the one before has brought: first the map's place of this key, which will
// be there when two more have been expected; then the record to which that of the key before the last points.
void RecordCache::Expect(std::string_view key) {
  const size_t hash = std::exchange(expected_[next_expected_], Hash()(key));
  records_.prefetch(Expected{expected_[next_expected_]});
  if (const auto found = records_.find(Expected{hash}, hash); found != records_.end()) {
    // Its head, and a key and a value of usual size.
    for (const CachedRecord* line = *found; line < *found + 3; ++line) __builtin_prefetch(line);
  }
  next_expected_ = (next_expected_ + 1) % expected_.size();
}

CachedRecord* RecordCache::Find(std::string_view key) {
  if (last_ != nullptr && last_->key() == key) return last_;
  const auto found = records_.find(key, Hash()(key));
  if (found == records_.end()) return nullptr;
  last_ = *found;
  last_->referenced_ = true;
  return last_;
}

CachedRecord* RecordCache::FindOrAdd(std::string_view key, size_t size, bool* added) {
  CachedRecord* record = Find(key);
  *added = record == nullptr || Outgrown(*record, size);
  if (!*added) return record;
  const size_t hash = record != nullptr ? record->hash_ : Hash()(key);
  if (record != nullptr) Free(record);
  return AddHashed(key, hash, size);
}

// Known as absent before it got its first value, as a rule.
bool RecordCache::Outgrown(const CachedRecord& record, size_t size) const {
  return size > record.room_ && sizeof(CachedRecord) + record.key_size_ + size <= kPooled && !Stays(&record);
}

CachedRecord* RecordCache::Add(std::string_view key, size_t size) {
  return AddHashed(key, Hash()(key), size);
}

void* RecordCache::Allocate(size_t size) {
  return size <= kPooled ? pool_.allocate(size, alignof(CachedRecord))
                         : ::operator new (size, std::align_val_t{alignof(CachedRecord)});
}

void RecordCache::Deallocate(void* room, size_t size) {
  if (size <= kPooled) {
    pool_.deallocate(room, size, alignof(CachedRecord));
  } else {
    ::operator delete (room, std::align_val_t{alignof(CachedRecord)});
  }
}

CachedRecord* RecordCache::AddHashed(std::string_view key, size_t hash, size_t size) {
  Evict(kStepsPerAdd);
  const size_t head = sizeof(CachedRecord) + key.size();
  const size_t wanted = head + size <= kPooled ? head + size : head;
  const size_t whole = (wanted + kLine - 1) / kLine * kLine;
  void* const piece = Allocate(whole);
  DCHECK_EQ(reinterpret_cast<uintptr_t>(piece) % kLine, 0u);
  auto* const record = new (piece) CachedRecord;
  record->key_size_ = static_cast<uint32_t>(key.size());
  record->room_ = static_cast<uint16_t>(whole - head);
  record->hash_ = hash;
  std::copy(key.begin(), key.end(), reinterpret_cast<char*>(record + 1));
  records_.insert(record);
  LinkLast(record);
  bytes_ += Cost(*record);
  last_ = record;
  return record;
}

size_t RecordCache::Cost(const CachedRecord& record) {
  const size_t large = record.large_ != nullptr ? sizeof(std::string) + record.large_->capacity() : 0;
  return kOverhead + SizeOf(record) + large;
}

void RecordCache::DropLarge(CachedRecord* record) {
  delete record->large_;
  record->large_ = nullptr;
}

void RecordCache::SetValue(CachedRecord* record, std::string_view head, std::string_view tail) {
  bytes_ -= Cost(*record);
  const size_t size = head.size() + tail.size();
  if (size <= record->room_) {
    DropLarge(record);
    std::copy(tail.begin(), tail.end(), std::copy(head.begin(), head.end(), record->room()));
    record->value_size_ = static_cast<uint16_t>(size);
  } else {
    if (record->large_ == nullptr || size < record->large_->capacity() / 2) {
      DropLarge(record);
      record->large_ = new std::string;
    }
    record->large_->reserve(size);
    record->large_->assign(head);
    record->large_->append(tail);
  }
  record->present_ = true;
  bytes_ += Cost(*record);
}

void RecordCache::SetValue(CachedRecord* record, std::string&& value) {
  if (value.size() < kLarge) return SetValue(record, value, {});
  bytes_ -= Cost(*record);
  DropLarge(record);
  record->large_ = new std::string(std::move(value));
  record->present_ = true;
  bytes_ += Cost(*record);
  Unlink(record);
  LinkFirst(record);
}

void RecordCache::SetAbsent(CachedRecord* record) {
  bytes_ -= Cost(*record);
  DropLarge(record);
  record->value_size_ = 0;
  record->present_ = false;
  bytes_ += Cost(*record);
}

void RecordCache::MarkDirty(CachedRecord* record) {
  if (record->changed_in_ == cut_) return;
  record->changed_in_ = cut_;
  dirty_.push_back(record);
  ++version_;
}

const RecordCache::Sorted& RecordCache::SortedDirty() {
  for (; sorted_flushing_ < flushing_.size(); ++sorted_flushing_) sorted_.insert(flushing_[sorted_flushing_]);
  for (; sorted_count_ < dirty_.size(); ++sorted_count_) sorted_.insert(dirty_[sorted_count_]);
  return sorted_;
}

void RecordCache::MarkAllClean() {
  for (CachedRecord* record : dirty_) {
    if (record->present() && record->value().size() < kLarge) continue;
    // What was deleted is seldom asked for again.
    Unlink(record);
    LinkFirst(record);
    record->referenced_ = false;
  }
  dirty_.clear();
  sorted_.clear();
  sorted_count_ = 0;
  ++cut_;
  ++version_;
  // Two rounds at most: the first takes away what was referenced.
  Evict(2 * records_.size());
}

void RecordCache::BeginFlush() {
  DCHECK(!flushing_active_);
  flushing_.swap(dirty_);
  sorted_flushing_ = std::exchange(sorted_count_, 0);
  flushing_active_ = true;
  ++cut_;
  ++version_;
}

// The first bytes of keys beside the pointers: nearly all comparisons end there, without looking at the
// records.
void SortByKey(std::vector<CachedRecord*>* records) {
  struct Sortable {
    std::array<uint64_t, 2> beginning = {};  // as numbers they have the order of the bytes
    CachedRecord* record;
    bool operator<(const Sortable& other) const {
      if (beginning != other.beginning) return beginning < other.beginning;
      return record->key() < other.record->key();
    }
  };
  std::vector<Sortable> sortable(records->size());
  for (size_t i = 0; i < sortable.size(); ++i) {
    const std::string_view key = (*records)[i]->key();
    std::memcpy(&sortable[i].beginning, key.data(), std::min(key.size(), sizeof sortable[i].beginning));
    for (uint64_t& part : sortable[i].beginning) part = be64toh(part);
    sortable[i].record = (*records)[i];
  }
  std::sort(sortable.begin(), sortable.end());
  std::transform(sortable.begin(), sortable.end(), records->begin(),
                 [](const Sortable& s) { return s.record; });
}

void RecordCache::EndFlush() {
  flushing_active_ = false;
  flushing_.clear();
  sorted_.clear();
  sorted_flushing_ = sorted_count_ = 0;
  ++version_;
  Evict(kStepsPerFlush);
}

void RecordCache::Evict(size_t steps) {
  while (bytes_ > budget_ && steps-- > 0 && queue_.next_ != &queue_) {
    CachedRecord* record = queue_.next_;
    if (!Stays(record) && !record->referenced_) {
      Free(record);
      continue;
    }
    record->referenced_ = false;
    Unlink(record);
    LinkLast(record);
  }
}

void RecordCache::Free(CachedRecord* record) {
  bytes_ -= Cost(*record);
  records_.erase(record);
  Unlink(record);
  if (last_ == record) last_ = nullptr;
  Destroy(record);
}

void RecordCache::Destroy(CachedRecord* record) {
  const size_t size = SizeOf(*record);
  DropLarge(record);
  record->~CachedRecord();
  Deallocate(record, size);
}

void RecordCache::Unlink(CachedRecord* record) {
  record->previous_->next_ = record->next_;
  record->next_->previous_ = record->previous_;
}

void RecordCache::LinkLast(CachedRecord* record) {
  record->next_ = &queue_;
  record->previous_ = queue_.previous_;
  record->previous_->next_ = record;
  queue_.previous_ = record;
}

void RecordCache::LinkFirst(CachedRecord* record) {
  record->previous_ = &queue_;
  record->next_ = queue_.next_;
  record->next_->previous_ = record;
  queue_.next_ = record;
}

}  // namespace kvstore
