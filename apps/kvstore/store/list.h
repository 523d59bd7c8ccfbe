// Lists: one record for each element, numbered without gaps, so that both ends and any index are one record
// away. Inserting or removing in the middle moves the elements of the shorter side.
#ifndef UNDERSTUDY_APPS_KVSTORE_STORE_LIST_H_
#define UNDERSTUDY_APPS_KVSTORE_STORE_LIST_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/kvstore/store/keyspace.h"

namespace kvstore {

// The list at `key`, for the time of one command; as Elements.
class List {
 public:
  List(Keyspace& keys, std::string_view key, const Entry& entry);

  uint64_t size() const { return entry_.count; }

  // Values may not point into the keyspace's own records.
  void PushFront(std::string_view value);
  void PushBack(std::string_view value);
  std::optional<std::string> PopFront();  // nullopt: empty; the key goes with its last element
  std::optional<std::string> PopBack();

  // REQUIRES: index < size(). Until the next call of anything.
  std::string_view At(uint64_t index);
  void Set(uint64_t index, std::string_view value);
  // In order, from `first` to `last` (inclusive). REQUIRES: first <= last < size(). `visit` must
  // not change anything, nor read other keys.
  void ForRange(uint64_t first, uint64_t last, const std::function<void(std::string_view)>& visit);
  // Before the element at `index`; at size(): behind the last. REQUIRES: index <= size().
  void Insert(uint64_t index, std::string_view value);
  // Keeps `first` to `last` (inclusive). REQUIRES: first <= last < size().
  void Trim(uint64_t first, uint64_t last);
  // Removes up to `count` elements equal to `value`, from the front, or from the back; 0: all. Returns how
  // many.
  uint64_t Remove(std::string_view value, uint64_t count, bool from_back);

 private:
  std::string_view PartKeyOf(uint64_t index) const;
  void Put(uint64_t index, std::string_view value);
  void Delete(uint64_t index);
  void Create();  // when there is none yet
  void Save();    // the entry; removes the key with its last element
  std::vector<std::string> Read(uint64_t first, uint64_t count);
  // Where `value` is, in order: the first or last `count` places.
  std::vector<uint64_t> Search(std::string_view value, uint64_t count, bool from_back);

  Keyspace& keys_;
  const std::string_view key_;
  Entry entry_;
};

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_STORE_LIST_H_
