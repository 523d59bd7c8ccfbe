#include "apps/kvstore/store/layout.h"

#include <bit>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "xxhash.h"

namespace kvstore {
namespace {

static_assert(std::endian::native == std::endian::little,
              "values are copied as they lie in memory; a big endian host needs byte swaps here");

constexpr size_t kMetaSize = 32;
constexpr size_t kShortHeader = 10;  // type, shape, expire_ms
constexpr char kInlineShape = 0;
constexpr char kPartsShape = 1;
constexpr char kFencedShape = 2;

template <typename T>
char* Write(char* out, T value) {
  std::memcpy(out, &value, sizeof(value));
  return out + sizeof(value);
}

template <typename T>
T Read(const char* in) {
  T value;
  std::memcpy(&value, in, sizeof(value));
  return value;
}

}  // namespace

void AppendBig32(std::string* out, uint32_t value) {
  char bytes[4];
  Write(bytes, __builtin_bswap32(value));
  out->append(bytes, sizeof(bytes));
}

void AppendBig64(std::string* out, uint64_t value) {
  char bytes[8];
  Write(bytes, __builtin_bswap64(value));
  out->append(bytes, sizeof(bytes));
}

uint32_t ReadBig32(std::string_view in) { return __builtin_bswap32(Read<uint32_t>(in.data())); }
uint64_t ReadBig64(std::string_view in) { return __builtin_bswap64(Read<uint64_t>(in.data())); }

std::string GenerationPrefix(uint32_t generation) {
  std::string prefix;
  AppendBig32(&prefix, generation);
  return prefix;
}

std::string KindPrefix(uint32_t generation, Kind kind) {
  std::string prefix = GenerationPrefix(generation);
  prefix.push_back(static_cast<char>(kind));
  return prefix;
}

size_t EncodeEntryHeader(const Entry& entry, char (&out)[kMaxEntryHeader]) {
  const bool parts = entry.id != 0;
  char* at = Write(out, static_cast<char>(entry.type));
  at = Write(at, !parts ? kInlineShape : entry.fenced ? kFencedShape : kPartsShape);
  at = Write(at, entry.expire_ms);
  if (!parts) return kShortHeader;
  at = Write(at, entry.id);
  at = Write(at, entry.count);
  Write(at, entry.head);
  return kMaxEntryHeader;
}

std::optional<Entry> DecodeEntry(std::string_view record) {
  if (record.size() < kShortHeader) return std::nullopt;
  Entry entry;
  entry.type = static_cast<Type>(record[0]);
  if (entry.type == Type::kNone || entry.type > Type::kZSet) return std::nullopt;
  entry.expire_ms = Read<int64_t>(record.data() + 2);
  if (record[1] == kInlineShape) {
    if (entry.type != Type::kString) return std::nullopt;
    entry.bytes = record.substr(kShortHeader);
    entry.count = entry.bytes.size();
    return entry;
  }
  entry.fenced = record[1] == kFencedShape;
  if ((!entry.fenced && record[1] != kPartsShape) || record.size() != kMaxEntryHeader) return std::nullopt;
  entry.id = Read<uint64_t>(record.data() + 10);
  entry.count = Read<uint64_t>(record.data() + 18);
  entry.head = Read<uint64_t>(record.data() + 26);
  if (entry.id == 0) return std::nullopt;
  return entry;
}

absl::InlinedVector<uint64_t, 2> IdsOf(const Entry& entry) {
  if (entry.id == 0) return {};
  if (entry.type == Type::kZSet) return {entry.id, IndexOf(entry.id)};
  return {entry.id};
}

uint64_t PartsOf(const Entry& entry) {
  if (entry.id == 0) return 0;
  return entry.type == Type::kString ? (entry.count + kStringChunk - 1) / kStringChunk : entry.count;
}

std::string EncodeParts(uint64_t parts) {
  char bytes[sizeof(parts)];
  Write(bytes, parts);
  return std::string(bytes, sizeof(bytes));
}

std::optional<uint64_t> DecodeParts(std::string_view record) {
  if (record.size() != sizeof(uint64_t)) return std::nullopt;
  return Read<uint64_t>(record.data());
}

std::string EncodeMeta(const Meta& meta) {
  char bytes[kMetaSize];
  char* at = Write(bytes, kFormatVersion);
  at = Write(at, meta.generation);
  at = Write(at, meta.next_id);
  at = Write(at, meta.keys);
  Write(at, meta.expiring);
  return std::string(bytes, sizeof(bytes));
}

absl::StatusOr<Meta> DecodeMeta(std::string_view record) {
  if (record.size() < 4) return absl::DataLossError("the record of the store's counters is cut off");
  const auto version = Read<uint32_t>(record.data());
  if (version != kFormatVersion) {
    return absl::FailedPreconditionError(
        absl::StrCat("the data are of format version ", version, ", this program reads ", kFormatVersion));
  }
  if (record.size() != kMetaSize) return absl::DataLossError("the record of the store's counters is cut off");
  Meta meta;
  meta.generation = Read<uint32_t>(record.data() + 4);
  meta.next_id = Read<uint64_t>(record.data() + 8);
  meta.keys = Read<uint64_t>(record.data() + 16);
  meta.expiring = Read<uint64_t>(record.data() + 24);
  if (meta.generation == kStoreGeneration) return absl::DataLossError("generation 0 is not for data");
  return meta;
}

uint64_t WalkPosition(std::string_view name) { return XXH3_64bits(name.data(), name.size()); }

}  // namespace kvstore
