// What a key is: its type, its expiry, and where its value is.
#ifndef UNDERSTUDY_APPS_KVSTORE_STORE_ENTRY_H_
#define UNDERSTUDY_APPS_KVSTORE_STORE_ENTRY_H_

#include <cstdint>
#include <string_view>

namespace kvstore {

enum class Type : uint8_t { kNone = 0, kString = 1, kList = 2, kSet = 3, kHash = 4, kZSet = 5 };
// "none", "string", "list", "set", "hash", "zset"
const char* TypeName(Type type);

struct Entry {
  Type type = Type::kNone;
  int64_t expire_ms = 0;        // since 1970; 0: never
  uint64_t id = 0;              // of its parts; 0: it has none
  uint64_t count = 0;           // elements; bytes of a string
  uint64_t head = 0;            // list: position of its first element; hash, set, zset: elements erased
  bool fenced = false;          // hash, set, zset: a fence record is behind its parts
  std::string_view bytes = {};  // string with id 0: its value

  explicit operator bool() const { return type != Type::kNone; }
};

// Where `name` stands in the order of a walk (SCAN, HSCAN, SSCAN): XXH3, fixed for good, for it is in the
// records.
uint64_t WalkPosition(std::string_view name);

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_STORE_ENTRY_H_
