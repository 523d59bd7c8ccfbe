// Which versions of the pair's protocol a node speaks, and which one two nodes use with each other.
//
// A node tells the range it speaks when it joins; the newest that both know is what they use on that link, in
// their pulses and in the last word. (What a record is like is told by the record itself: record.h.)
#ifndef UNDERSTUDY_REPLICATION_VERSION_H_
#define UNDERSTUDY_REPLICATION_VERSION_H_

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>

#include "replication/replication_constants.h"  // generated from replication.thrift

namespace understudy::replication {

struct VersionRange {
  int32_t oldest;
  int32_t newest;
  bool Has(int64_t version) const { return version >= oldest && version <= newest; }
};

// What this program speaks.
inline VersionRange SpokenVersions() {
  return {wire::g_replication_constants.OLDEST_PROTOCOL_VERSION,
          wire::g_replication_constants.PROTOCOL_VERSION};
}

// What a node speaks that says `newest` and perhaps `oldest`; a nonsensical range has no version.
inline VersionRange ToldVersions(int32_t newest, bool has_oldest, int32_t oldest) {
  return {has_oldest ? oldest : newest, newest};
}

// The newest that both speak; nullopt: there is none.
inline std::optional<int32_t> NewestOfBoth(VersionRange a, VersionRange b) {
  const int32_t newest = std::min(a.newest, b.newest);
  return a.Has(newest) && b.Has(newest) ? std::optional(newest) : std::nullopt;
}

// "version 5", "versions 4 to 6".
inline std::string ToString(VersionRange range) {
  if (range.oldest == range.newest) return "version " + std::to_string(range.newest);
  return "versions " + std::to_string(range.oldest) + " to " + std::to_string(range.newest);
}

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_VERSION_H_
