// The keys: their types, how many there are, when they expire, in which order they are walked.
//
// Each key has one record, its Entry. Small strings are in it; the parts of everything else (elements.h,
// chunks of long strings) are records of their own below the Entry's id, which is never used again. So
// RENAME moves one record, and DEL of a large value is one record less; its parts are thrown away later, a
// few with each Commit.
//
// docs/kvstore.md has the layout of the records to the byte.
//
// Time is what SetNow was told last. A key whose time has come is not there for any call, whether or not its
// record has been removed yet.
#ifndef UNDERSTUDY_APPS_KVSTORE_STORE_KEYSPACE_H_
#define UNDERSTUDY_APPS_KVSTORE_STORE_KEYSPACE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "apps/kvstore/store/entry.h"
#include "apps/kvstore/store/garbage.h"
#include "apps/kvstore/store/layout.h"
#include "apps/kvstore/store/table.h"
#include "apps/kvstore/store/watches.h"

namespace kvstore {

class Keyspace {
 public:
  // Reads what `table` holds. Both outlive this object. An error: not ours, or of another version.
  static absl::StatusOr<std::unique_ptr<Keyspace>> Open(Table* table, Watches* watches);

  // The time of the calls that follow; never goes back. Removes a few keys whose time has come.
  void SetNow(int64_t now_ms) {
    now_ms_ = now_ms;
    if (now_ms_ > next_due_ms_) RemoveDue();
  }
  int64_t now_ms() const { return now_ms_; }

  // A call for `key` is likely to come soon: see Table::Expect.
  void Expect(std::string_view key) { table_->Expect(KeyRecord(key)); }
  // kNone when there is no such key. `bytes` is good until the next call of anything.
  Entry Find(std::string_view key);

  // Makes `key` be `entry`, in place of whatever it was before; parts of another id than entry.id are thrown
  // away. Watchers are told. entry.bytes may be what Find has just returned for this key (to change its
  // expiry, say), but must not point into another record of this keyspace. REQUIRES: a type; a
  // string, or an id.
  void Store(std::string_view key, const Entry& entry);
  // True: it was there.
  bool Remove(std::string_view key);
  // The same for who has deleted its parts already.
  void RemoveEmptied(std::string_view key);
  // REQUIRES: `from` exists. What `to` was is gone. The same key: nothing changes.
  void Rename(std::string_view from, std::string_view to);
  // REQUIRES: `from` exists. `to` becomes a copy of it, with its expiry. The same key: nothing changes.
  void Copy(std::string_view from, std::string_view to);
  // `key` was changed without a Store: an element was overwritten. Tells watchers.
  void Touched(std::string_view key) { watches_->Touch(key); }

  // Keys that have not expired, and those of them that will.
  uint64_t size() { return meta_.keys - DueKeys(); }
  uint64_t expiring() { return meta_.expiring - DueKeys(); }
  // Everything is gone, in one record's time. Watchers of keys that there were are told.
  void Clear();

  // Visits at least `count` keys from `cursor` on (0: from the first), fewer at the end; returns the cursor
  // to go on with (see walk.h), 0 at the end. Keys are in the order of a hash of their names, and those of
  // one cursor come together: a key that exists from the first call to the last is visited exactly once.
  // `visit` must not change anything; entry.bytes is good until it returns.
  using Visit = std::function<void(std::string_view key, const Entry& entry)>;
  uint64_t Scan(uint64_t cursor, uint64_t count, const Visit& visit);
  // A key at random, each as likely; by the caller's random number.
  std::optional<std::string> Random(uint64_t random);

  // --- Parts, for elements.h, list.h, string_value.h ---
  Table& table() { return *table_; }
  // For the parts of a value of this type.
  uint64_t NewId(Type type);
  // The key of a part's record, in the order of (id, number, name). Good until the next call of PartKey.
  std::string_view PartKey(uint64_t id, uint64_t number, std::string_view name = {});
  // Visits the parts of `id` with numbers `first` to `last` (inclusive), in order, without their names. From
  // memory as far as they are there; only a few are read into the cache. `visit` must not call the keyspace.
  using VisitPart = std::function<void(uint64_t number, std::string_view value)>;
  void ForParts(uint64_t id, uint64_t first, uint64_t last, const VisitPart& visit);
  // What the keys of all parts of `id` begin with.
  std::string PartPrefix(uint64_t id) const;
  // A fence behind the parts of entry->id, or none any more.
  void PutFence(Entry* entry);
  void DeleteFence(Entry* entry);
  // Gives *entry, which has parts, copies of them under a new id.
  void CopyParts(Entry* entry);

  // Where the records under an id begin and end, as far as known: there are none before `first`, and none at
  // `behind` or further. As in the records' keys, behind the id; empty: not known. Spares walks the remains
  // of what was deleted there. In memory only, so nothing that is seen depends on it. Good until the next
  // call.
  struct Ends {
    std::string first, behind;
  };
  Ends& EndsOf(uint64_t id);

  // Writes its counters and throws a part of the garbage away, then commits the table.
  absl::Status Commit();

 private:
  Keyspace(Table* table, Watches* watches);

  bool Expired(const Entry& entry) const { return entry.expire_ms != 0 && now_ms_ > entry.expire_ms; }
  std::string_view KeyRecord(std::string_view key);
  // Whether or not it has expired.
  Entry Load(std::string_view key);
  Entry Decode(std::string_view record);
  void Erase(std::string_view key, const Entry& old, bool has_parts);
  // Throws the parts away, some time.
  void Discard(Entry entry);
  void PutFences();

  // The expiry index.
  std::string_view ExpiryRecord(std::string_view key, int64_t expire_ms);
  void Schedule(std::string_view key, int64_t expire_ms);
  void Unschedule(std::string_view key, int64_t expire_ms);
  void RemoveDue();
  uint64_t DueKeys();

  Table* const table_;
  Watches* const watches_;
  Garbage garbage_;
  Meta meta_;
  Meta committed_meta_;
  int64_t now_ms_ = 0;
  int64_t next_due_ms_ = 0;  // no key expires before
  // Keys with an expiry before due_before_ms_ (which is never in the future) that are still to be removed:
  // counted once each, when somebody asks for the number of keys.
  uint64_t due_ = 0;
  int64_t due_before_ms_ = 0;
  absl::flat_hash_map<uint64_t, Ends> ends_;
  // Keys of records, made here again and again without a new allocation.
  std::string key_record_, part_record_, expiry_record_;
};

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_STORE_KEYSPACE_H_
