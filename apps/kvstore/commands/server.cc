// Commands about the server: INFO, TIME, DBSIZE, FLUSHDB, FLUSHALL, DEBUG. CONFIG is in config.cc.
#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "apps/kvstore/commands/client_memory.h"
#include "apps/kvstore/commands/command.h"
#include "apps/kvstore/commands/config.h"
#include "apps/kvstore/store/digest.h"

namespace kvstore {
namespace {

constexpr double kMaxSleepSeconds = 60;

void Time(Call& call) {
  const int64_t now_us = call.now_us();
  call.reply.Array(2);
  call.reply.BulkInteger(now_us / 1'000'000);
  call.reply.BulkInteger(now_us % 1'000'000);
}

void DbSize(Call& call) { call.reply.Integer(static_cast<int64_t>(call.keys.size())); }

void FlushAll(Call& call) {
  const bool option = call.args.size() == 2 && (Is(call.args[1], "sync") || Is(call.args[1], "async"));
  if (call.args.size() > 1 && !option) return call.reply.Error(kSyntaxError);
  call.keys.Clear();
  call.reply.Ok();
}

// --- INFO ----------------------------------------------------------------------------------------

// Only what is the same on both nodes of a pair: no process, no memory of one, no clock but the log's.

std::string InfoServer(Call& call) {
  const int64_t up = call.instance.started_ms == 0 ? 0 : (call.now_ms() - call.instance.started_ms) / 1000;
  const std::string& local = call.session.local;
  return absl::StrCat("redis_version:7.0.15\r\nredis_mode:standalone\r\nserver_name:understudy-kvstore\r\n",
                      "arch_bits:64\r\ntcp_port:", local.substr(local.rfind(':') + 1),
                      "\r\nserver_time_usec:", call.now_us(), "\r\nuptime_in_seconds:", up,
                      "\r\nuptime_in_days:", up / 86400, "\r\n");
}

std::string InfoClients(Call& call) {
  return absl::StrCat("connected_clients:", call.instance.sessions.size(),
                      "\r\ncluster_connections:0\r\nblocked_clients:0\r\ntracking_clients:0\r\n");
}

// "1.50M", as Redis writes sizes for people.
std::string Human(uint64_t bytes) {
  constexpr const char* kUnits[] = {"K", "M", "G", "T", "P", "E"};
  if (bytes < 1024) return absl::StrCat(bytes, "B");
  double size = static_cast<double>(bytes) / 1024;
  size_t unit = 0;
  for (; size >= 1024; ++unit) size /= 1024;
  return absl::StrFormat("%.2f%s", size, kUnits[unit]);
}

// What is there in memory for clients: that is the same on both nodes. Caches, and what waits to be written,
// are not.
std::string InfoMemory(Call& call) {
  constexpr uint64_t kPerClient = 1024;  // about
  uint64_t clients = 0;
  for (const auto& [id, session] : call.instance.sessions) {
    clients += kPerClient + MemoryOf(*session) + session->connection->pending_output();
  }
  return absl::StrCat("used_memory:", clients, "\r\nused_memory_human:", Human(clients),
                      "\r\nused_memory_overhead:", clients, "\r\nmem_clients_normal:", clients,
                      "\r\nmaxmemory:0\r\nmaxmemory_human:0B\r\nmaxmemory_policy:noeviction\r\n");
}

std::string InfoPersistence(Call&) {
  return "loading:0\r\nasync_loading:0\r\nrdb_bgsave_in_progress:0\r\naof_enabled:0\r\n"
         "aof_rewrite_in_progress:0\r\nstorage_engine:leveldb\r\n";
}

std::string InfoStats(Call& call) {
  return absl::StrCat("total_connections_received:", call.instance.connections_received,
                      "\r\ntotal_commands_processed:", call.instance.commands_processed,
                      "\r\nevicted_keys:0\r\n");
}

std::string InfoReplication(Call&) { return "role:master\r\nconnected_slaves:0\r\n"; }

std::string InfoCluster(Call&) { return "cluster_enabled:0\r\n"; }

std::string InfoKeyspace(Call& call) {
  const uint64_t keys = call.keys.size();
  if (keys == 0) return "";
  return absl::StrCat("db0:keys=", keys, ",expires=", call.keys.expiring(), ",avg_ttl=0\r\n");
}

std::string InfoNothing(Call&) { return ""; }

struct Section {
  std::string_view name;  // as it is asked for
  std::string_view title;
  std::string (*text)(Call& call);
  bool by_default = true;  // otherwise only for who asks for it, or for all
};

// Redis's order.
constexpr Section kSections[] = {
    {"server", "Server", InfoServer},
    {"clients", "Clients", InfoClients},
    {"memory", "Memory", InfoMemory},
    {"persistence", "Persistence", InfoPersistence},
    {"stats", "Stats", InfoStats},
    {"replication", "Replication", InfoReplication},
    {"cpu", "CPU", InfoNothing},
    {"modules", "Modules", InfoNothing},
    {"commandstats", "Commandstats", InfoNothing, false},
    {"errorstats", "Errorstats", InfoNothing},
    {"latencystats", "Latencystats", InfoNothing, false},
    {"cluster", "Cluster", InfoCluster},
    {"keyspace", "Keyspace", InfoKeyspace},
};

void Info(Call& call) {
  const Arguments wanted = call.args.subspan(1);
  const auto asked_for = [&](const Section& section) {
    if (wanted.empty()) return section.by_default;
    return std::any_of(wanted.begin(), wanted.end(), [&](std::string_view word) {
      return Is(word, section.name) || Is(word, "all") || Is(word, "everything") ||
             (section.by_default && Is(word, "default"));
    });
  };
  std::string text;
  for (const Section& section : kSections) {
    if (!asked_for(section)) continue;
    if (!text.empty()) text += "\r\n";
    absl::StrAppend(&text, "# ", std::string(section.title), "\r\n", section.text(call));
  }
  call.reply.Verbatim(text);
}

// --- DEBUG ---------------------------------------------------------------------------------------

void DebugDigestValue(Call& call) {
  call.reply.Array(call.args.size() - 2);
  for (size_t i = 2; i < call.args.size(); ++i) call.reply.Simple(DigestOf(call.keys, call.args[i]));
}

// The server does nothing else meanwhile, as Redis; the same on the secondary when it comes to it. What
// happens to the pair then is what this is for.
void DebugSleep(Call& call) {
  const double seconds = std::strtod(std::string(call.args[2]).c_str(), nullptr);
  const double bounded = std::clamp(seconds, 0.0, kMaxSleepSeconds);
  if (bounded > 0) std::this_thread::sleep_for(std::chrono::duration<double>(bounded));
  call.reply.Ok();
}

void DebugHelp(Call& call) {
  ReplyHelp(call, {"DIGEST", "    A digest of all keys, types, values and expiry times.",
                   "DIGEST-VALUE <key> [<key> ...]", "    The same of single keys.", "SLEEP <seconds>",
                   "    Do nothing for a while. Decimals allowed."});
}

void Debug(Call& call) {
  const std::string_view what = call.args[1];
  if (Is(what, "digest") && call.args.size() == 2) return call.reply.Simple(DigestOf(call.keys));
  if (Is(what, "digest-value")) return DebugDigestValue(call);
  if (Is(what, "sleep") && call.args.size() == 3) return DebugSleep(call);
  if (Is(what, "help") && call.args.size() == 2) return DebugHelp(call);
  const std::string_view printed = what.substr(0, std::min<size_t>(what.find('\0'), 128));
  call.reply.Error(absl::StrCat("ERR unknown subcommand or wrong number of arguments for '",
                                std::string(printed), "'. Try DEBUG HELP."));
}

// --- The table -----------------------------------------------------------------------------------

constexpr Command Row(std::string_view name, int arity, uint32_t flags, void (*run)(Call&),
                      std::string_view since, std::string_view complexity, std::string_view summary) {
  return {.name = name,
          .arity = arity,
          .flags = flags,
          .run = run,
          .group = "server",
          .since = since,
          .complexity = complexity,
          .summary = summary};
}

constexpr uint32_t kAlways = kLoading | kStale;

// The rows of another file are not known before it runs.
std::vector<Command> MakeRows() {
  Command config = Row("config", -2, 0, nullptr, "2.0.0", "That of the subcommand", "About settings");
  config.subcommands = ConfigCommands();
  Command memory = Row("memory", -2, 0, nullptr, "4.0.0", "That of the subcommand", "About memory");
  memory.subcommands = MemorySubcommands();
  return {
      config,
      Row("dbsize", 1, kReadonly | kFast, DbSize, "1.0.0", "O(1)", "The number of keys"),
      Row("debug", -2, kAdmin | kNoScript | kAlways, Debug, "1.0.0", "That of the subcommand",
          "Digests of the data, and a pause"),
      Row("flushall", -1, kWrite, FlushAll, "1.0.0", "O(1)", "Delete all keys"),
      Row("flushdb", -1, kWrite, FlushAll, "1.0.0", "O(1)", "Delete all keys"),
      Row("info", -1, kAlways, Info, "1.0.0", "O(1)", "What there is to know about the server"),
      memory,
      Row("time", 1, kAlways | kFast, Time, "2.6.0", "O(1)", "The time, seconds and microseconds"),
  };
}

}  // namespace

absl::Span<const Command> ServerCommands() {
  static const auto& rows = *new std::vector<Command>(MakeRows());  // for ever
  return rows;
}

}  // namespace kvstore
