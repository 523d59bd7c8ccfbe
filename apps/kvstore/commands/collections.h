// What the commands of hashes, sets and sorted sets have in common: all are Elements.
#ifndef UNDERSTUDY_APPS_KVSTORE_COMMANDS_COLLECTIONS_H_
#define UNDERSTUDY_APPS_KVSTORE_COMMANDS_COLLECTIONS_H_

#include <string_view>

#include "apps/kvstore/commands/command.h"
#include "apps/kvstore/store/keyspace.h"

namespace kvstore {

// Replies with how many elements `key` has; 0 when there is no such key. Lists as well.
void ReplyCount(Call& call, Type type);
// HDEL and SREM: erases args[2], args[3], ... from the elements of args[1], replies with how many were there.
void EraseElements(Call& call, Type type);
// HEXISTS and SISMEMBER: is args[2] among the elements of args[1]?
void ReplyContains(Call& call, Type type);
// HSCAN, SSCAN and ZSCAN.
void ScanElements(Call& call, Type type);

// A row of the table for a command whose only key is its first argument.
constexpr Command KeyCommand(std::string_view group, std::string_view name, int arity, uint32_t flags,
                             void (*run)(Call&), std::string_view since, std::string_view complexity,
                             std::string_view summary) {
  return {.name = name,
          .arity = arity,
          .flags = flags,
          .first_key = 1,
          .last_key = 1,
          .key_step = 1,
          .run = run,
          .group = group,
          .since = since,
          .complexity = complexity,
          .summary = summary};
}

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_COMMANDS_COLLECTIONS_H_
