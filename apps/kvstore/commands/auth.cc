#include "apps/kvstore/commands/auth.h"

#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace kvstore {
namespace {

constexpr std::string_view kUser = "default";
constexpr size_t kLongestPassword = 512;

// In a time that says nothing of where they differ.
bool SameSecret(std::string_view given, std::string_view secret) {
  unsigned char different = given.size() != secret.size();
  for (size_t i = 0; i < secret.size(); ++i) {
    different |= static_cast<unsigned char>((i < given.size() ? given[i] : 0) ^ secret[i]);
  }
  return different == 0;
}

}  // namespace

std::string Refusal(const Instance& instance, const Session& session) {
  const Configuration& settings = instance.settings;
  if (instance.sessions.size() >= settings.max_clients) return "-ERR max number of clients reached\r\n";
  if (!settings.protected_mode || !settings.password.empty() || session.IsLocal()) return "";
  return "-DENIED This server is in protected mode: no password is set, and only clients on its own host are "
         "served. Start it with --requirepass_file, or with --protected_mode=false where nobody else can "
         "reach "
         "it.\r\n";
}

void ResetAuthentication(const Instance& instance, Session& session) {
  session.authenticated = instance.settings.password.empty();
}

std::string NotAllowed(const Instance& instance, const Session& session, const Command& command) {
  const DebugCommand debug = instance.settings.debug;
  if (command.name == "debug" && debug != DebugCommand::kYes &&
      !(debug == DebugCommand::kLocal && session.IsLocal())) {
    return "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can "
           "run "
           "it from a local connection, otherwise you need to set this option in the configuration file, and "
           "then restart the server.";
  }
  if (!session.authenticated && !(command.flags & kNoAuth)) return "NOAUTH Authentication required.";
  if (!instance.storage_writable && (command.flags & kWrite)) return std::string(kNoRoom);
  return "";
}

bool Authenticate(const Instance& instance, Session& session, std::string_view user,
                  std::string_view password) {
  const std::string& secret = instance.settings.password;
  if (user != kUser || (!secret.empty() && !SameSecret(password, secret))) return false;
  session.authenticated = true;
  return true;
}

absl::StatusOr<std::string> ReadPassword(const std::string& path) {
  struct stat about {};
  std::ifstream file(path);
  if (!file || stat(path.c_str(), &about) != 0) {
    return absl::FailedPreconditionError(absl::StrCat("cannot read ", path, ": ", std::strerror(errno)));
  }
  if (about.st_mode & S_IRWXO) {
    return absl::FailedPreconditionError(absl::StrCat(path, ": everybody may read it; chmod 600 or 640"));
  }
  std::string password;
  std::getline(file, password);
  if (!password.empty() && password.back() == '\r') password.pop_back();
  if (password.empty()) return absl::FailedPreconditionError(absl::StrCat(path, ": its first line is empty"));
  if (password.size() > kLongestPassword) {
    return absl::FailedPreconditionError(
        absl::StrCat(path, ": its first line has more than ", kLongestPassword, " bytes"));
  }
  return password;
}

}  // namespace kvstore
