// The records of a table that are in memory: those that were changed and not committed yet, and, up to a
// budget, those that were used.
#ifndef UNDERSTUDY_APPS_KVSTORE_STORE_RECORD_CACHE_H_
#define UNDERSTUDY_APPS_KVSTORE_STORE_RECORD_CACHE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory_resource>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_set.h"
#include "apps/kvstore/store/huge_pages.h"

namespace kvstore {

// One key and what is known of it: this, then the key's bytes, then room for a value, all in one piece and
// from the beginning of a cache line on. Only values that do not fit there are elsewhere. Belongs to its
// cache; does not move.
class alignas(64) CachedRecord {
 public:
  std::string_view key() const { return {bytes(), key_size_}; }
  std::string_view value() const {  // empty when absent
    return large_ != nullptr ? std::string_view(*large_) : std::string_view(bytes() + key_size_, value_size_);
  }
  bool present() const { return present_; }  // false: there is no such key, and that is known

 private:
  friend class RecordCache;
  const char* bytes() const { return reinterpret_cast<const char*>(this + 1); }
  char* room() { return reinterpret_cast<char*>(this + 1) + key_size_; }

  size_t hash_ = 0;
  uint32_t key_size_ = 0;
  uint16_t room_ = 0;             // bytes for a value behind the key
  uint16_t value_size_ = 0;       // of the value there
  std::string* large_ = nullptr;  // the value that does not fit; owned
  uint64_t changed_in_ = 0;       // number of the cut (see RecordCache) it was last changed in; 0: none
  uint64_t taken_in_ : 62 = 0;    // number of the cut its value was last taken for
  uint64_t present_ : 1 = false;
  uint64_t referenced_ : 1 = false;  // used since it was last considered for eviction
  CachedRecord* previous_ = nullptr;
  CachedRecord* next_ = nullptr;
};
static_assert(sizeof(CachedRecord) == 64);

// Time is divided into cuts: what was changed in the present one is dirty, and stays. A commit ends the cut.
// It may be written at once (MarkAllClean), or while the next cut is going on already (BeginFlush): then the
// records of the cut that is being written stay, too, and who changes one of them sees to it that its old
// value is taken before (MustTake).
//
// Evicts by second chance: a queue whose head goes unless it was used since it was last there.
class RecordCache {
 public:
  explicit RecordCache(size_t budget_bytes);
  RecordCache(const RecordCache&) = delete;
  RecordCache& operator=(const RecordCache&) = delete;
  ~RecordCache();

  // Find or FindOrAdd of this key is likely to come soon, after a few more calls of this: what it needs is
  // brought into the processor's cache meanwhile. Changes nothing.
  void Expect(std::string_view key);
  // nullptr: nothing is known of this key. Good until something is added.
  CachedRecord* Find(std::string_view key);
  // As Find; what is not there, or clean and without room for a value of `size`, is added anew, clean and
  // absent, for the caller to fill in, with that room. Others may go for it.
  CachedRecord* FindOrAdd(std::string_view key, size_t size, bool* added);
  // REQUIRES: the key is not there.
  CachedRecord* Add(std::string_view key, size_t size);

  // Neither may point into the record.
  void SetValue(CachedRecord* record, std::string_view head, std::string_view tail);
  void SetValue(CachedRecord* record, std::string&& value);
  void SetAbsent(CachedRecord* record);

  // Records of the present cut, in the order of their first change.
  void MarkDirty(CachedRecord* record);
  const std::vector<CachedRecord*>& dirty() const { return dirty_; }
  // All are clean now; the cache shrinks to its budget.
  void MarkAllClean();

  // --- Writing one cut while the next goes on ---

  // REQUIRES: !flushing().
  void BeginFlush();
  bool flushing() const { return flushing_active_; }
  // Its value is of the cut that is being written, and has not been taken yet: to be taken before it changes.
  bool MustTake(const CachedRecord* record) const {
    return flushing_active_ && record->changed_in_ == cut_ - 1 && record->taken_in_ != cut_;
  }
  void MarkTaken(CachedRecord* record) { record->taken_in_ = cut_; }
  // All of that cut. Their keys may be read by any thread until EndFlush.
  const std::vector<CachedRecord*>& flushed() const { return flushing_; }
  // All that was taken is where it can be read.
  void EndFlush();

  // Records that are not where they can be read yet, in the order of their keys. Sorting is put off until
  // somebody asks, and each is sorted in once. version() grows when it changes.
  struct ByKey {
    using is_transparent = void;
    static std::string_view Key(const CachedRecord* record) { return record->key(); }
    static std::string_view Key(std::string_view key) { return key; }
    template <typename A, typename B>
    bool operator()(const A& a, const B& b) const {
      return Key(a) < Key(b);
    }
  };
  using Sorted = absl::btree_set<CachedRecord*, ByKey>;
  const Sorted& SortedDirty();
  // Grows whenever SortedDirty() would return something else.
  size_t version() const { return version_; }

  size_t bytes() const { return bytes_; }
  // What was asked of the system for the records' heads and the map, and is never given back.
  size_t reserved_bytes() const { return pages_.bytes(); }

 private:
  // A key of which only the hash is known: finds a record that is likely to be the one, without looking at
  // it.
  struct Expected {
    size_t hash;
  };

  struct Hash {
    using is_transparent = void;
    size_t operator()(const CachedRecord* record) const { return record->hash_; }
    size_t operator()(std::string_view key) const;
    size_t operator()(Expected key) const {
      asm volatile("");  // gcc would leave out a call of prefetch, which to its mind has no effect
      return key.hash;
    }
  };
  struct Equal {
    using is_transparent = void;
    bool operator()(const CachedRecord*, Expected) const { return true; }
    bool operator()(const CachedRecord* a, const CachedRecord* b) const { return a == b; }
    bool operator()(const CachedRecord* a, std::string_view b) const { return a->key() == b; }
  };

  bool Stays(const CachedRecord* record) const {
    return record->changed_in_ == cut_ || (flushing_active_ && record->changed_in_ == cut_ - 1);
  }
  // Larger records are on the heap: the pool would get them from pieces_, which takes nothing back.
  static constexpr size_t kPooled = 512;

  static size_t SizeOf(const CachedRecord& record) {
    return sizeof(CachedRecord) + record.key_size_ + record.room_;
  }
  void* Allocate(size_t size);
  void Deallocate(void* room, size_t size);
  CachedRecord* AddHashed(std::string_view key, size_t hash, size_t size);
  bool Outgrown(const CachedRecord& record, size_t size) const;
  static size_t Cost(const CachedRecord& record);
  static void DropLarge(CachedRecord* record);
  // Looks at up to `steps` records at the head of the queue, as long as the budget is exceeded.
  void Evict(size_t steps);
  void Free(CachedRecord* record);
  void Destroy(CachedRecord* record);
  void Unlink(CachedRecord* record);
  void LinkLast(CachedRecord* record);
  void LinkFirst(CachedRecord* record);

  const size_t budget_;
  size_t bytes_ = 0;
  HugePages pages_;
  std::pmr::monotonic_buffer_resource pieces_{HugePages::kPage, &pages_};
  std::pmr::unsynchronized_pool_resource pool_{
      {.max_blocks_per_chunk = 4096, .largest_required_pool_block = kPooled}, &pieces_};
  absl::flat_hash_set<CachedRecord*, Hash, Equal, std::pmr::polymorphic_allocator<CachedRecord*>> records_{
      &pieces_};
  CachedRecord queue_;                   // its next is evicted first
  std::array<size_t, 2> expected_ = {};  // hashes of the keys that Expect was told of last
  size_t next_expected_ = 0;
  CachedRecord* last_ = nullptr;  // what Find found last: the same key is often asked for again
  uint64_t cut_ = 1;              // never comes back: 64 bits
  size_t version_ = 0;
  std::vector<CachedRecord*> dirty_;
  std::vector<CachedRecord*> flushing_;  // of the cut before, while it is being written
  bool flushing_active_ = false;
  Sorted sorted_;  // the first sorted_flushing_ of flushing_, sorted_count_ of dirty_
  size_t sorted_flushing_ = 0;
  size_t sorted_count_ = 0;
};

// By their keys. Any thread, between BeginFlush and EndFlush.
void SortByKey(std::vector<CachedRecord*>* records);

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_STORE_RECORD_CACHE_H_
