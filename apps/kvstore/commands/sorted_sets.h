// What the commands of sorted sets have in common.
#ifndef UNDERSTUDY_APPS_KVSTORE_COMMANDS_SORTED_SETS_H_
#define UNDERSTUDY_APPS_KVSTORE_COMMANDS_SORTED_SETS_H_

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/kvstore/commands/collections.h"
#include "apps/kvstore/commands/command.h"
#include "apps/kvstore/store/sorted_set.h"

namespace kvstore {

// The sorted set at `key`; empty when there is no such key. nullopt, and the error is written: it
// holds another type.
std::optional<SortedSet> FindSortedSet(Call& call, std::string_view key);
// False, and the error is written: not a number.
bool GetScore(Call& call, std::string_view text, double* score, std::string_view error = kNotAFloat);

enum class Scores { kNo, kYes };
// The members, in this order; with scores flat in RESP2, in pairs in RESP3.
void ReplyMembers(Call& call, const std::vector<ScoredMember>& members, Scores scores);
// Makes them the sorted set at `key`, in place of whatever was there; of none it is no key. Replies
// with how many.
void StoreMembers(Call& call, std::string_view key, const std::vector<ScoredMember>& members);

// A row of the table. `last_key`: 2, of a command with a destination.
constexpr Command SortedSetCommand(std::string_view name, int arity, uint32_t flags, void (*run)(Call&),
                                   std::string_view since, std::string_view complexity,
                                   std::string_view summary, int last_key = 1) {
  Command command = KeyCommand("sorted-set", name, arity, flags, run, since, complexity, summary);
  command.last_key = last_key;
  return command;
}

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_COMMANDS_SORTED_SETS_H_
