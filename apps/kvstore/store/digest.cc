#include "apps/kvstore/store/digest.h"

#include <algorithm>
#include <memory>

#include "absl/strings/str_format.h"
#include "apps/kvstore/store/string_value.h"
#include "apps/kvstore/store/walk.h"
#include "xxhash.h"

namespace kvstore {
namespace {

class Hasher {
 public:
  Hasher() : state_(XXH3_createState(), XXH3_freeState) { XXH3_128bits_reset(state_.get()); }

  void Add(std::string_view bytes) { XXH3_128bits_update(state_.get(), bytes.data(), bytes.size()); }
  void Add(uint64_t number) { XXH3_128bits_update(state_.get(), &number, sizeof(number)); }
  // With its length before it, so that no two sequences of strings look the same.
  void AddString(std::string_view bytes) {
    Add(uint64_t{bytes.size()});
    Add(bytes);
  }
  XXH128_hash_t Finish() const { return XXH3_128bits_digest(state_.get()); }

 private:
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state_;
};

void AddStringValue(Keyspace& keys, const Entry& entry, Hasher* hasher) {
  std::string chunk;
  for (uint64_t offset = 0; offset < entry.count; offset += chunk.size()) {
    chunk.clear();
    ReadString(keys, entry, offset, std::min<uint64_t>(kStringChunk, entry.count - offset), &chunk);
    hasher->Add(chunk);
  }
}

XXH128_hash_t Hash(Keyspace& keys, std::string_view key, const Entry& entry) {
  Hasher hasher;
  hasher.Add(static_cast<uint64_t>(entry.type));
  hasher.Add(static_cast<uint64_t>(entry.expire_ms));
  hasher.Add(entry.count);
  hasher.AddString(key);
  if (entry.type == Type::kString) {
    AddStringValue(keys, entry, &hasher);
    return hasher.Finish();
  }
  // A list's elements are in its order; those of sets and hashes in that of a hash of their names: both
  // follow from the content.
  Walk walk(keys.table(), keys.PartPrefix(entry.id));
  walk.Seek(0);
  for (uint64_t left = entry.count; walk.Valid(); walk.Next()) {
    hasher.AddString(walk.name());
    hasher.AddString(walk.value());
    if (--left == 0) break;
  }
  return hasher.Finish();
}

std::string ToText(uint64_t high, uint64_t low) { return absl::StrFormat("%016x%016x", high, low); }

}  // namespace

std::string DigestOf(Keyspace& keys) {
  // A sum: the same in any order.
  uint64_t high = 0, low = 0;
  keys.Scan(0, ~uint64_t{0}, [&](std::string_view key, const Entry& entry) {
    const XXH128_hash_t hash = Hash(keys, key, entry);
    high += hash.high64;
    low += hash.low64;
  });
  return ToText(high, low);
}

std::string DigestOf(Keyspace& keys, std::string_view key) {
  const Entry entry = keys.Find(key);
  if (!entry) return ToText(0, 0);
  const XXH128_hash_t hash = Hash(keys, "", entry);
  return ToText(hash.high64, hash.low64);
}

}  // namespace kvstore
