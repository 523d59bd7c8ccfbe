// Who may come, and what of it a client must prove: passwords, protected mode, DEBUG. As Redis 7.0, with one
// user, "default".
#ifndef UNDERSTUDY_APPS_KVSTORE_COMMANDS_AUTH_H_
#define UNDERSTUDY_APPS_KVSTORE_COMMANDS_AUTH_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "apps/kvstore/commands/command.h"

namespace kvstore {

// Why a new client is not let in: a line of the protocol. Empty: it is. To be asked before it is one of
// instance.sessions.
std::string Refusal(const Instance& instance, const Session& session);

// As a client that has just connected.
void ResetAuthentication(const Instance& instance, Session& session);

// Why this command is not for this client, or not now; empty: it is.
std::string NotAllowed(const Instance& instance, const Session& session, const Command& command);
inline constexpr std::string_view kNoRoom =
    "MISCONF The disk has no room to keep changes. Commands that may change data are refused until there is "
    "room; "
    "reads go on.";

// True: `user` with this password is let in, and the session knows.
bool Authenticate(const Instance& instance, Session& session, std::string_view user,
                  std::string_view password);
inline constexpr std::string_view kWrongPassword =
    "WRONGPASS invalid username-password pair or user is disabled.";

// The file's first line. FailedPrecondition: others can read it, or it is empty; says which file and why.
absl::StatusOr<std::string> ReadPassword(const std::string& path);

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_COMMANDS_AUTH_H_
