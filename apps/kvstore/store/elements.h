// Elements: what hashes (name -> value) and sets (name -> nothing) are made of. One record each, in the order
// of WalkPosition(name).
#ifndef UNDERSTUDY_APPS_KVSTORE_STORE_ELEMENTS_H_
#define UNDERSTUDY_APPS_KVSTORE_STORE_ELEMENTS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "apps/kvstore/store/keyspace.h"

namespace kvstore {

// So many were erased under this id that what is left should move: what LevelDB has not forgotten
// yet would be in the way of every walk (layout.h, on fences).
bool TooManyErased(const Entry& entry);

// The hash or set at `key`, for the time of one command. Changes are in the keyspace at once: the first
// Insert makes the key, the last Erase removes it. `key` outlives this object; no one else changes the key
// meanwhile.
class Elements {
 public:
  // `entry` is what Find gave for `key`: of `type`, or none. None with an expire_ms: the new key will have
  // that expiry.
  Elements(Keyspace& keys, std::string_view key, const Entry& entry, Type type);

  uint64_t size() const { return entry_.count; }

  // nullopt: no such element. Until the next call of anything.
  std::optional<std::string_view> Find(std::string_view name);
  bool Contains(std::string_view name) { return Find(name).has_value(); }
  // True: it is new; false: its value was replaced. Neither argument may point into the keyspace's records.
  bool Insert(std::string_view name, std::string_view value = {});
  bool Erase(std::string_view name);  // true: it was there

  // `visit` must not change anything.
  using Visit = std::function<void(std::string_view name, std::string_view value)>;
  void ForEach(const Visit& visit);
  // As Keyspace::Scan, but small ones are visited at once, whatever `count` is.
  uint64_t Scan(uint64_t cursor, uint64_t count, const Visit& visit);
  // One at random, each as likely. Empty when none can be read: the disk has failed. REQUIRES: size() > 0.
  std::string Random(uint64_t random);

 private:
  std::string_view PartKeyOf(std::string_view name) const;
  void Renew();

  Keyspace& keys_;
  const std::string_view key_;
  const Type type_;
  Entry entry_;
};

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_STORE_ELEMENTS_H_
