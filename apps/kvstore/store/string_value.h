// Strings. Up to kInlineString bytes are in the key's own record; longer ones are in chunks of kStringChunk
// bytes, so that APPEND, SETRANGE and GETRANGE touch the chunks they are about and not the whole. What is
// missing of a chunk is zeros: SETRANGE far behind the end writes empty chunks, not zeros.
#ifndef UNDERSTUDY_APPS_KVSTORE_STORE_STRING_VALUE_H_
#define UNDERSTUDY_APPS_KVSTORE_STORE_STRING_VALUE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "apps/kvstore/store/keyspace.h"

namespace kvstore {

inline constexpr size_t kInlineString = 4 << 10;

// Appends `length` bytes from `offset` on to `out`. REQUIRES: within entry.count.
void ReadString(Keyspace& keys, const Entry& entry, uint64_t offset, uint64_t length, std::string* out);
// The whole.
std::string ReadString(Keyspace& keys, const Entry& entry);

// `key` becomes this string, whatever it was. `value` may not point into the keyspace's own records.
void WriteString(Keyspace& keys, std::string_view key, std::string_view value, int64_t expire_ms);

// Writes `bytes` over the string at `key` from `offset` on, zeros before it where the string was shorter.
// `entry` is what Find gave, a string or none. Returns the new length. REQUIRES: bytes not empty.
uint64_t OverwriteString(Keyspace& keys, std::string_view key, const Entry& entry, uint64_t offset,
                         std::string_view bytes);

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_STORE_STRING_VALUE_H_
