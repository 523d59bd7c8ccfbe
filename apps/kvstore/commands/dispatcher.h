// The dispatcher: from a request to its reply.
#ifndef UNDERSTUDY_APPS_KVSTORE_COMMANDS_DISPATCHER_H_
#define UNDERSTUDY_APPS_KVSTORE_COMMANDS_DISPATCHER_H_

#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "apps/kvstore/commands/command.h"

namespace kvstore {

// By name, in any case; nullptr: no such command.
const Command* FindCommand(std::string_view name);
// All, in order of name.
absl::Span<const Command* const> AllCommands();
// "get", "client|getname". REQUIRES: a row of the table, or of its subcommands. Lives for ever.
std::string_view FullName(const Command& command);

// Executes one request, or queues it (MULTI), or writes the error: unknown command, wrong number of
// arguments. May set session.closing (QUIT). REQUIRES: args not empty.
void Dispatch(Instance& instance, Session& session, understudy::Connection& connection, Reply& reply,
              Arguments args);
// The same for a request that is known to be in order, as everything that was queued is; for EXEC.
// `command` is what FindCommand says of args[0].
void Execute(Instance& instance, Session& session, understudy::Connection& connection, Reply& reply,
             const Command& command, Arguments args);

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_COMMANDS_DISPATCHER_H_
