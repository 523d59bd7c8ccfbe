// Members of a set at random: what SPOP, SRANDMEMBER and ZRANDMEMBER have in common.
//
// A Source is what is picked from, as the functions here see it:
//   Member                                    what it gives
//   uint64_t size()
//   Member Pick(Call&)                        any one
//   std::vector<Member> All(Call&)
//   static std::string_view NameOf(const Member&)
//   void Walk(visit)                          visit(make) for each; make() is the Member. Ends when that
//                                             returns false, or later
#ifndef UNDERSTUDY_APPS_KVSTORE_COMMANDS_PICKS_H_
#define UNDERSTUDY_APPS_KVSTORE_COMMANDS_PICKS_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "apps/kvstore/commands/command.h"

namespace kvstore {

// A member picked alone costs about as much as this many in a walk through all.
inline constexpr uint64_t kPickCost = 32;
// With a count below zero members are repeated: the answer may be larger than all that is stored. Redis goes
// on until its memory is full.
inline constexpr int64_t kMaxPicks = int64_t{1} << 24;

inline std::string NotBetween(int64_t least, int64_t most) {
  return absl::StrCat("ERR value is out of range, value must between ", least, " and ", most);
}

// From 0 to below - 1. REQUIRES: below > 0.
inline uint64_t Uniform(Call& call, uint64_t below) {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(call.Random()) * below) >> 64);
}

// `count` different members in one walk, each choice equally likely. REQUIRES: count <= from.size().
template <typename Source>
std::vector<typename Source::Member> Sample(Call& call, Source& from, uint64_t count) {
  std::vector<typename Source::Member> members;
  members.reserve(count);
  uint64_t left = from.size();
  from.Walk([&](const auto& make) {
    if (members.size() < count && Uniform(call, left) < count - members.size()) members.push_back(make());
    --left;
    return members.size() < count;
  });
  return members;
}

// The same for a few of many: one by one. Names may be chosen so that some are hardly ever hit; then the walk
// does it.
template <typename Source>
std::vector<typename Source::Member> PickDifferent(Call& call, Source& from, uint64_t count) {
  std::vector<typename Source::Member> members;
  absl::flat_hash_set<std::string> seen;  // only asked whether something is in it
  for (uint64_t attempt = 0; members.size() < count; ++attempt) {
    if (attempt == 2 * count + 8) return Sample(call, from, count);
    typename Source::Member member = from.Pick(call);
    if (seen.emplace(Source::NameOf(member)).second) members.push_back(std::move(member));
  }
  return members;
}

template <typename Source>
std::vector<typename Source::Member> Choose(Call& call, Source& from, uint64_t count) {
  return count < from.size() / kPickCost ? PickDifferent(call, from, count) : Sample(call, from, count);
}

// `count` times any member, again and again the same if it comes so, each to `write`; straight into the
// reply, for they may be more than all that is stored.
template <typename Source, typename Write>
void PickRepeatedly(Call& call, Source& from, uint64_t count, Write write) {
  if (count < from.size() / kPickCost) {
    for (uint64_t i = 0; i < count && !call.reply.full(); ++i) write(from.Pick(call));
    return;
  }
  const std::vector<typename Source::Member> all = from.All(call);
  // None at all: the disk has failed under the walk. The reply never leaves then (Server::Commit).
  if (all.empty()) return;
  for (uint64_t i = 0; i < count && !call.reply.full(); ++i) write(all[Uniform(call, all.size())]);
}

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_COMMANDS_PICKS_H_
