// CONFIG's subcommands, for the table's row in server.cc.
#ifndef UNDERSTUDY_APPS_KVSTORE_COMMANDS_CONFIG_H_
#define UNDERSTUDY_APPS_KVSTORE_COMMANDS_CONFIG_H_

#include "absl/types/span.h"
#include "apps/kvstore/commands/command.h"

namespace kvstore {

absl::Span<const Command> ConfigCommands();

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_COMMANDS_CONFIG_H_
