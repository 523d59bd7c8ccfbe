#include "apps/kvstore/store/string_value.h"

#include <algorithm>

#include "glog/logging.h"

namespace kvstore {
namespace {

// The chunk's bytes from `begin` to `end`; what is not in it is zeros.
void AppendPadded(std::string_view chunk, size_t begin, size_t end, std::string* out) {
  const size_t there = std::min(end, std::max(begin, chunk.size()));
  if (begin < there) out->append(chunk.substr(begin, there - begin));
  out->append(end - there, '\0');
}

// Writes over what `id` has. REQUIRES: it has all chunks before `offset`.
void WriteChunks(Keyspace& keys, uint64_t id, uint64_t offset, std::string_view bytes) {
  while (!bytes.empty()) {
    const uint64_t number = offset / kStringChunk;
    const size_t begin = offset % kStringChunk;
    const size_t size = std::min(bytes.size(), kStringChunk - begin);
    const std::string_view key = keys.PartKey(id, number);
    if (size == kStringChunk) {
      keys.table().Put(key, bytes.substr(0, size));
    } else {
      const auto old = keys.table().Get(key);
      const std::string_view chunk = old.value_or(std::string_view());
      std::string changed;
      changed.reserve(std::max(chunk.size(), begin + size));
      AppendPadded(chunk, 0, begin, &changed);
      changed.append(bytes.substr(0, size));
      if (chunk.size() > begin + size) changed.append(chunk.substr(begin + size));
      keys.table().Put(key, changed);
    }
    bytes.remove_prefix(size);
    offset += size;
  }
}

}  // namespace

void ReadString(Keyspace& keys, const Entry& entry, uint64_t offset, uint64_t length, std::string* out) {
  DCHECK(offset <= entry.count && length <= entry.count - offset);
  if (entry.id == 0) {
    out->append(entry.bytes.substr(offset, length));
    return;
  }
  if (length == 0) return;
  const size_t start = out->size();
  out->reserve(start + length);
  const uint64_t end = offset + length;
  const auto reached = [&] { return offset + (out->size() - start); };
  keys.ForParts(entry.id, offset / kStringChunk, (end - 1) / kStringChunk,
                [&](uint64_t number, std::string_view chunk) {
                  const uint64_t here = number * kStringChunk;
                  if (here > reached()) out->append(here - reached(), '\0');  // the disk has failed
                  AppendPadded(chunk, reached() - here, std::min<uint64_t>(kStringChunk, end - here), out);
                });
  out->append(end - reached(), '\0');
}

std::string ReadString(Keyspace& keys, const Entry& entry) {
  std::string value;
  ReadString(keys, entry, 0, entry.count, &value);
  return value;
}

void WriteString(Keyspace& keys, std::string_view key, std::string_view value, int64_t expire_ms) {
  Entry entry{.type = Type::kString, .expire_ms = expire_ms, .count = value.size()};
  if (value.size() <= kInlineString) {
    entry.bytes = value;
  } else {
    const Entry old = keys.Find(key);
    const bool covered = old.type == Type::kString && old.id != 0 && old.count <= value.size();
    entry.id = covered ? old.id : keys.NewId(Type::kString);
    WriteChunks(keys, entry.id, 0, value);
  }
  keys.Store(key, entry);
}

uint64_t OverwriteString(Keyspace& keys, std::string_view key, const Entry& entry, uint64_t offset,
                         std::string_view bytes) {
  DCHECK(!bytes.empty());
  DCHECK(!entry || entry.type == Type::kString);
  Entry changed{.type = Type::kString, .expire_ms = entry.expire_ms, .id = entry.id};
  changed.count = std::max(entry.count, offset + bytes.size());
  std::string value;
  if (changed.id == 0 && changed.count <= kInlineString) {
    value.reserve(changed.count);
    AppendPadded(entry.bytes, 0, offset, &value);
    value.append(bytes);
    if (entry.count > value.size()) value.append(entry.bytes.substr(value.size()));
    changed.bytes = value;
  } else {
    uint64_t chunks = PartsOf(entry);
    if (changed.id == 0) {
      changed.id = keys.NewId(Type::kString);
      const std::string old(entry.bytes);
      WriteChunks(keys, changed.id, 0, old);
      chunks = old.empty() ? 0 : 1;
    }
    for (; chunks < offset / kStringChunk; ++chunks) keys.table().Put(keys.PartKey(changed.id, chunks), "");
    WriteChunks(keys, changed.id, offset, bytes);
  }
  keys.Store(key, changed);
  return changed.count;
}

}  // namespace kvstore
