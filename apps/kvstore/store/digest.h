// A digest of everything a keyspace holds: keys, types, values, expiry. Equal contents, equal digests,
// however they came about: DEBUG DIGEST, and the comparison of two nodes' data.
#ifndef UNDERSTUDY_APPS_KVSTORE_STORE_DIGEST_H_
#define UNDERSTUDY_APPS_KVSTORE_STORE_DIGEST_H_

#include <string>
#include <string_view>

#include "apps/kvstore/store/keyspace.h"

namespace kvstore {

// 32 hexadecimal digits (128 bits of XXH3; not against an attacker); all zeros when it is empty.
std::string DigestOf(Keyspace& keys);
// Of one key's type, value and expiry; zeros when there is no such key.
std::string DigestOf(Keyspace& keys, std::string_view key);

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_STORE_DIGEST_H_
