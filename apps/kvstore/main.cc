// kvstore: a key-value store for Redis's clients that outlives its machine. It speaks Redis's protocol, keeps
// its data in LevelDB, and as a pair it loses neither data nor connections when one of its machines dies: an
// Understudy server like apps/echo, with more to say.
//
//   kvstore --role=standalone --service=127.0.0.1:6379 --data_dir=/var/lib/kvstore
//
// deploy/kvstore/ has the flags of a pair, docs/kvstore.md the commands and what differs from Redis.
#include <gflags/gflags.h>

#include <chrono>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "apps/kvstore/commands/auth.h"
#include "apps/kvstore/kvstore.h"
#include "framework/run.h"

DECLARE_string(role);  // the framework's
DECLARE_uint32(max_pending_output_mb);

DEFINE_string(
    data_dir, "",
    "Directory of the data, made when it is not there, and closed to other users. Empty: a temporary one, "
    "removed at the end");
DEFINE_uint32(cache_mb, 64, "MiB of the data that are kept in memory");
DEFINE_int32(
    write_behind_ms, -1,
    "Changes are written to the data directory this much later, so that what changes often is written "
    "once, as long as the other node of a pair has them, too; 0: before they are answered; -1: 0 when "
    "standalone, 1000 in a pair");
DEFINE_uint32(proto_max_bulk_mb, 64,
              "MiB that one value may have, 1 to 512; both nodes of a pair must be given the same");

DEFINE_uint32(
    client_query_buffer_limit_mb, 256,
    "MiB that one client's request, transaction before EXEC and watched keys may take together, 1 to 1024; "
    "beyond, the client is closed. The same on both nodes");
DEFINE_uint32(
    maxmemory_clients_mb, 256,
    "MiB that the requests that have not ended, transactions and watched keys of all clients may take; "
    "beyond, the client that has most is reset. The same on both nodes");
DEFINE_uint32(min_free_disk_mb, 256,
              "MiB that must be free on the disk of --data_dir: with less, changes are refused (MISCONF) and "
              "reads go on, "
              "until there is a quarter more. 0: write until the disk refuses, which ends this node");
DEFINE_uint32(maxclients, 10'000, "Clients at once; more are refused. The same on both nodes");
DEFINE_string(
    requirepass_file, "",
    "File whose first line is the password that clients must give (AUTH, HELLO); it must not be readable "
    "for everybody. The same password on both nodes. Empty: none");
DEFINE_bool(protected_mode, true,
            "Without a password, serve clients on this host only, as Redis does. The same on both nodes");
DEFINE_string(
    enable_debug_command, "no",
    "Who may use DEBUG: no (nobody), local (clients on this host), yes (everybody; DEBUG SLEEP holds all "
    "clients up). The same on both nodes");

namespace {

bool InRange(const char*, google::uint32 megabytes) { return megabytes >= 1 && megabytes <= 512; }
bool BufferInRange(const char*, google::uint32 megabytes) { return megabytes >= 1 && megabytes <= 1024; }
bool AtLeastOne(const char*, google::uint32 value) { return value >= 1; }
bool IsDebug(const char*, const std::string& who) { return who == "no" || who == "local" || who == "yes"; }
const bool registered = gflags::RegisterFlagValidator(&FLAGS_proto_max_bulk_mb, &InRange) &&
                        gflags::RegisterFlagValidator(&FLAGS_client_query_buffer_limit_mb, &BufferInRange) &&
                        gflags::RegisterFlagValidator(&FLAGS_maxmemory_clients_mb, &AtLeastOne) &&
                        gflags::RegisterFlagValidator(&FLAGS_maxclients, &AtLeastOne) &&
                        gflags::RegisterFlagValidator(&FLAGS_enable_debug_command, &IsDebug);

std::chrono::milliseconds WriteBehind() {
  if (FLAGS_write_behind_ms >= 0) return std::chrono::milliseconds(FLAGS_write_behind_ms);
  return std::chrono::milliseconds(FLAGS_role == "standalone" ? 0 : 1000);
}

absl::StatusOr<kvstore::Configuration> SettingsFromFlags() {
  kvstore::Configuration settings;
  if (!FLAGS_requirepass_file.empty()) {
    auto password = kvstore::ReadPassword(FLAGS_requirepass_file);
    if (!password.ok()) {
      return absl::FailedPreconditionError(
          absl::StrCat("--requirepass_file: ", std::string(password.status().message())));
    }
    settings.password = *std::move(password);
  }
  settings.protected_mode = FLAGS_protected_mode;
  if (FLAGS_enable_debug_command == "local") settings.debug = kvstore::DebugCommand::kLocal;
  if (FLAGS_enable_debug_command == "yes") settings.debug = kvstore::DebugCommand::kYes;
  settings.max_clients = FLAGS_maxclients;
  settings.max_query_buffer = size_t{FLAGS_client_query_buffer_limit_mb} << 20;
  settings.max_reply = size_t{FLAGS_max_pending_output_mb} << 20;
  settings.max_clients_memory = size_t{FLAGS_maxmemory_clients_mb} << 20;
  return settings;
}

absl::StatusOr<std::unique_ptr<understudy::Server>> Open() {
  auto settings = SettingsFromFlags();
  if (!settings.ok()) return settings.status();
  return kvstore::KvStore::Open({.data_dir = FLAGS_data_dir,
                                 .cache_bytes = size_t{FLAGS_cache_mb} << 20,
                                 .write_behind = WriteBehind(),
                                 .max_bulk = size_t{FLAGS_proto_max_bulk_mb} << 20,
                                 .min_free_disk = uint64_t{FLAGS_min_free_disk_mb} << 20,
                                 .settings = *std::move(settings)});
}

}  // namespace

int main(int argc, char** argv) { return understudy::RunMain(argc, argv, Open); }
