// The records of the store, to the byte; docs/kvstore.md has the table and the reasons.
//
// A record's key: generation (4 bytes, big endian), kind (1 byte), then what the kind says. Numbers in keys
// are big endian, so that LevelDB's order is theirs; numbers in values are little endian. These bytes are on
// disk: never change the meaning of one; add a kind, or raise kFormatVersion.
#ifndef UNDERSTUDY_APPS_KVSTORE_STORE_LAYOUT_H_
#define UNDERSTUDY_APPS_KVSTORE_STORE_LAYOUT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/container/inlined_vector.h"
#include "absl/status/statusor.h"
#include "apps/kvstore/store/entry.h"

namespace kvstore {

inline constexpr uint32_t kFormatVersion = 1;

enum class Kind : char {
  // Generation 0: of the store itself.
  kMeta = 'M',                // nothing more -> Meta
  kOldGeneration = 'O',       // generation (4) -> "": all its records are garbage
  kOldGenerationFence = 'P',  // nothing more -> ""
  // Generations from 1 on: data.
  kGarbage = 'G',       // id (8) -> parts (8): so many parts are garbage
  kGarbageFence = 'H',  // nothing more -> ""
  kKey = 'K',           // WalkPosition(key) (8), key -> Entry
  kKeyFence = 'L',      // nothing more -> ""
  kPart = 'P',          // id (8), number (8), name -> a part of a value; id + 1 (8) -> "", its fence
  kExpiry = 'X',        // expire_ms (8), key -> ""
};
// What was deleted is still in LevelDB's files for some time, and a walk that steps from the last record of a
// kind to the next passes over all of it: behind a large set that was deleted there may be a million of
// such remains. A fence is a record that stays, and stops the walk where it has to stop anyway. Walks
// that know how many records there are need none.
inline constexpr uint32_t kStoreGeneration = 0;
// An id is followed by that of its fence.
inline constexpr uint64_t kIdStep = 2;

// Where things begin in a record's key.
inline constexpr size_t kKindAt = 4;
inline constexpr size_t kBodyAt = 5;  // behind the kind
inline constexpr size_t kNumberSize = 8;
inline constexpr size_t kPartNumberAt = kBodyAt + 8;  // behind the id

void AppendBig32(std::string* out, uint32_t value);
void AppendBig64(std::string* out, uint64_t value);
uint32_t ReadBig32(std::string_view in);  // REQUIRES: 4 bytes
uint64_t ReadBig64(std::string_view in);  // REQUIRES: 8 bytes

// "<generation><kind>": what all records of the kind begin with.
std::string KindPrefix(uint32_t generation, Kind kind);
std::string GenerationPrefix(uint32_t generation);

// An Entry's value: type (1), shape (1), expire_ms (8); shape 0: then the string's bytes; shape 1, and 2 if
// it is fenced: then id (8), count (8), head (8).
inline constexpr size_t kMaxEntryHeader = 34;
// Writes what comes before entry.bytes. Returns its size.
size_t EncodeEntryHeader(const Entry& entry, char (&out)[kMaxEntryHeader]);
// `bytes` of the result points into `record`. nullopt: not an Entry.
std::optional<Entry> DecodeEntry(std::string_view record);

// Bytes of a string's chunk; string_value.h.
inline constexpr size_t kStringChunk = 16 << 10;
// Of a sorted set, whose id this is: that of its members' records in the order of their scores.
inline constexpr uint64_t IndexOf(uint64_t id) { return id + kIdStep; }
// Under which ids the parts of `entry` are, and how many records under each, without a fence.
absl::InlinedVector<uint64_t, 2> IdsOf(const Entry& entry);
uint64_t PartsOf(const Entry& entry);

std::string EncodeParts(uint64_t parts);
std::optional<uint64_t> DecodeParts(std::string_view record);

// The counters of the store.
struct Meta {
  uint32_t generation = 1;
  uint64_t next_id = 1;
  uint64_t keys = 0;      // key records, the expired ones among them counted
  uint64_t expiring = 0;  // expiry records
  bool operator==(const Meta&) const = default;
};
// Version (4), generation (4), next_id (8), keys (8), expiring (8).
std::string EncodeMeta(const Meta& meta);
absl::StatusOr<Meta> DecodeMeta(std::string_view record);

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_STORE_LAYOUT_H_
