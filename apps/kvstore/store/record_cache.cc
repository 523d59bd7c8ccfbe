#include "apps/kvstore/store/record_cache.h"

#include <algorithm>
#include <new>
#include <utility>

#include "glog/logging.h"
#include "xxhash.h"

namespace kvstore {
namespace {

// What the maps, the queue and the heap need for a record besides its bytes, about.
constexpr size_t kOverhead = sizeof(CachedRecord) + 48;
// Steps of the hand for each record that is added: more than one, so that it overtakes the additions.
constexpr size_t kStepsPerAdd = 4;
// What a flush has kept goes bit by bit.
constexpr size_t kStepsPerFlush = 4096;
// Larger values (chunks of long strings) go first: many of them pass by once, and each pushes out many small
// ones.
constexpr size_t kLarge = 8 << 10;
// A value that was this large gives its memory back when it becomes small.
constexpr size_t kKeepCapacity = 256;

}  // namespace

size_t RecordCache::Hash::operator()(std::string_view key) const {
  return XXH3_64bits(key.data(), key.size());
}

RecordCache::RecordCache(size_t budget_bytes) : budget_(budget_bytes) {
  queue_.previous = queue_.next = &queue_;
}

RecordCache::~RecordCache() {
  for (CachedRecord* record : records_) Destroy(record);
}

CachedRecord* RecordCache::Find(std::string_view key) {
  if (last_ != nullptr && last_->key == key) return last_;
  const auto found = records_.find(key, Hash()(key));
  if (found == records_.end()) return nullptr;
  last_ = *found;
  last_->referenced = true;
  return last_;
}

CachedRecord* RecordCache::FindOrAdd(std::string_view key, bool* added) {
  *added = false;
  if (last_ != nullptr && last_->key == key) return last_;
  const size_t hash = Hash()(key);
  const auto found = records_.find(key, hash);
  if (found == records_.end()) {
    *added = true;
    return AddHashed(key, hash);
  }
  last_ = *found;
  last_->referenced = true;
  return last_;
}

CachedRecord* RecordCache::Add(std::string_view key) { return AddHashed(key, Hash()(key)); }

void* RecordCache::Allocate(size_t size) {
  return size <= kPooled ? pool_.allocate(size, alignof(CachedRecord)) : ::operator new(size);
}

void RecordCache::Deallocate(void* room, size_t size) {
  if (size <= kPooled) {
    pool_.deallocate(room, size, alignof(CachedRecord));
  } else {
    ::operator delete(room);
  }
}

CachedRecord* RecordCache::AddHashed(std::string_view key, size_t hash) {
  Evict(kStepsPerAdd);
  void* const room = Allocate(sizeof(CachedRecord) + key.size());
  auto* const record = new (room) CachedRecord;
  char* const bytes = static_cast<char*>(room) + sizeof(CachedRecord);
  std::copy(key.begin(), key.end(), bytes);
  record->key = std::string_view(bytes, key.size());
  record->hash = hash;
  records_.insert(record);
  LinkLast(record);
  bytes_ += Cost(*record);
  last_ = record;
  return record;
}

size_t RecordCache::Cost(const CachedRecord& record) {
  return kOverhead + record.key.size() + record.value.capacity();
}

void RecordCache::SetValue(CachedRecord* record, std::string_view head, std::string_view tail) {
  bytes_ -= Cost(*record);
  const size_t size = head.size() + tail.size();
  const size_t capacity = record->value.capacity();
  if (capacity > kKeepCapacity && size < capacity / 2) std::string().swap(record->value);
  record->value.reserve(size);
  record->value.assign(head);
  record->value.append(tail);
  record->present = true;
  bytes_ += Cost(*record);
}

void RecordCache::SetValue(CachedRecord* record, std::string&& value) {
  bytes_ -= Cost(*record);
  record->value = std::move(value);
  record->present = true;
  bytes_ += Cost(*record);
  if (record->value.size() < kLarge) return;
  Unlink(record);
  LinkFirst(record);
}

void RecordCache::SetAbsent(CachedRecord* record) {
  bytes_ -= Cost(*record);
  if (record->value.capacity() > kKeepCapacity) std::string().swap(record->value);
  record->value.clear();
  record->present = false;
  bytes_ += Cost(*record);
}

void RecordCache::MarkDirty(CachedRecord* record) {
  if (record->changed_in == cut_) return;
  record->changed_in = cut_;
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
    if (record->present && record->value.size() < kLarge) continue;
    // What was deleted is seldom asked for again.
    Unlink(record);
    LinkFirst(record);
    record->referenced = false;
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
  taken_ = 0;
  ++cut_;
  ++version_;
}

CachedRecord* RecordCache::NextToTake() {
  for (; taken_ < flushing_.size(); ++taken_) {
    // A record that was changed since has been taken before.
    if (MustTake(flushing_[taken_])) return flushing_[taken_];
  }
  return nullptr;
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
  while (bytes_ > budget_ && steps-- > 0 && queue_.next != &queue_) {
    CachedRecord* record = queue_.next;
    if (!Stays(record) && !record->referenced) {
      Free(record);
      continue;
    }
    record->referenced = false;
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
  const size_t size = sizeof(CachedRecord) + record->key.size();
  record->~CachedRecord();
  Deallocate(record, size);
}

void RecordCache::Unlink(CachedRecord* record) {
  record->previous->next = record->next;
  record->next->previous = record->previous;
}

void RecordCache::LinkLast(CachedRecord* record) {
  record->next = &queue_;
  record->previous = queue_.previous;
  record->previous->next = record;
  queue_.previous = record;
}

void RecordCache::LinkFirst(CachedRecord* record) {
  record->previous = &queue_;
  record->next = queue_.next;
  record->next->previous = record;
  queue_.next = record;
}

}  // namespace kvstore
