// A command: its row in the table, and what it is given when it runs.
#ifndef UNDERSTUDY_APPS_KVSTORE_COMMANDS_COMMAND_H_
#define UNDERSTUDY_APPS_KVSTORE_COMMANDS_COMMAND_H_

#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "absl/types/span.h"
#include "apps/kvstore/instance.h"
#include "apps/kvstore/resp/reply.h"
#include "apps/kvstore/session.h"
#include "framework/server.h"

namespace kvstore {

struct Command;
using Arguments = absl::Span<const std::string_view>;

// One command being executed. `args[0]` is its name as the client wrote it. Exactly one reply is written
// (an error is one). The arguments never point into the keyspace's records.
struct Call {
  Instance& instance;
  Keyspace& keys;  // *instance.keys; its time is this command's
  Session& session;
  understudy::Connection& connection;  // Now(), Random(); nobody but the dispatcher sends or closes
  Reply& reply;
  const Command& command;
  Arguments args;

  int64_t now_us() const { return connection.Now().time_since_epoch().count(); }
  int64_t now_ms() const { return now_us() / 1000; }
  uint64_t Random() { return connection.Random(); }
};

// As COMMAND INFO names them. Only those that commands here have.
enum CommandFlags : uint32_t {
  kWrite = 1 << 0,
  kReadonly = 1 << 1,
  kDenyOom = 1 << 2,
  kAdmin = 1 << 3,
  kNoScript = 1 << 4,
  kLoading = 1 << 5,
  kStale = 1 << 6,
  kFast = 1 << 7,
  kNoAuth = 1 << 8,
  kAllowBusy = 1 << 9,
  kSkipSlowlog = 1 << 10,
  kNoMulti = 1 << 11,
  kSkipMonitor = 1 << 12,
  kMovableKeys = 1 << 13,
};

// A row of the table. Everything in it lives for ever.
struct Command {
  std::string_view name;  // lower case; of a subcommand its own: "getname"
  // How many arguments, the name counted (and for a subcommand the container's too); negative: at least so
  // many.
  int arity = 0;
  uint32_t flags = 0;
  int first_key = 0, last_key = 0, key_step = 0;  // 0: it has no keys
  // Runs it. nullptr: only its subcommands can be run.
  void (*run)(Call& call) = nullptr;
  // What COMMAND DOCS says.
  std::string_view group;  // "string", "generic", "connection", ...
  std::string_view since;
  std::string_view complexity;
  std::string_view summary;
  // Of a container: CLIENT, CONFIG, COMMAND, DEBUG.
  absl::Span<const Command> subcommands = {};
  // Of a command with as many keys as it says: the argument that says it. They follow it. 0: none
  // is.
  int count_of_keys_at = 0;
};

// The rows, by file.
absl::Span<const Command> StringCommands();            // strings.cc
absl::Span<const Command> GenericCommands();           // generic.cc: keys of any type
absl::Span<const Command> ExpiryCommands();            // expiry.cc
absl::Span<const Command> HashCommands();              // hashes.cc
absl::Span<const Command> ListCommands();              // lists.cc
absl::Span<const Command> SetCommands();               // sets.cc
absl::Span<const Command> SortedSetCommands();         // sorted_sets.cc
absl::Span<const Command> SortedSetRangeCommands();    // sorted_set_ranges.cc
absl::Span<const Command> SortedSetAlgebraCommands();  // sorted_set_algebra.cc
absl::Span<const Command> TransactionCommands();       // transactions.cc
absl::Span<const Command> ConnectionCommands();        // connection.cc: PING, HELLO, CLIENT, ...
absl::Span<const Command> ServerCommands();            // server.cc: INFO, CONFIG, DBSIZE, DEBUG, ...
absl::Span<const Command> MemorySubcommands();         // memory.cc
absl::Span<const Command> IntrospectionCommands();     // introspection.cc: COMMAND

// --- What many commands need (command.cc) --------------------------------------------------------

inline constexpr std::string_view kWrongType =
    "WRONGTYPE Operation against a key holding the wrong kind of value";
inline constexpr std::string_view kSyntaxError = "ERR syntax error";
inline constexpr std::string_view kNotAnInteger = "ERR value is not an integer or out of range";
inline constexpr std::string_view kNotAFloat = "ERR value is not a valid float";
inline constexpr std::string_view kNoSuchKey = "ERR no such key";
inline constexpr std::string_view kIndexOutOfRange = "ERR index out of range";
inline constexpr std::string_view kStringTooLong =
    "ERR string exceeds maximum allowed size (proto-max-bulk-len)";

// Case-insensitive, as names of commands and options are. `lower` is lower case.
bool Is(std::string_view word, std::string_view lower);
// False, and the error is written: not an integer.
bool GetInteger(Call& call, std::string_view text, int64_t* value);
// The number of a database: there is only 0. False, and the error is written.
bool GetDatabase(Call& call, std::string_view text);
// Finds the key. False, and the error is written: it holds another type. None is fine.
bool FindTyped(Call& call, std::string_view key, Type type, Entry* entry);
// "ERR wrong number of arguments for 'client|getname' command"
void WrongArity(Call& call);
// The reply to a container's HELP: a line about the container, these, and HELP itself.
void ReplyHelp(Call& call, std::initializer_list<std::string_view> lines);
// Writes a string's value, as a bulk string. REQUIRES: `entry` is what Find gave last, and a string.
void ReplyString(Call& call, const Entry& entry);
// A point in time, as arguments give it.
struct TimeForm {
  bool milliseconds = false;  // false: seconds
  bool absolute = false;      // since 1970; false: from now on
  bool positive = false;      // nothing below 1 is allowed
};
// In milliseconds since 1970. False, and the error is written: not an integer, or out of range.
bool GetTime(Call& call, std::string_view text, TimeForm form, int64_t* time_ms);
// Options of SCAN, HSCAN, SSCAN: cursor at args[index], then MATCH, COUNT and, where allowed, TYPE. False:
// the error is written.
struct ScanOptions {
  uint64_t cursor = 0;
  uint64_t count = 10;
  std::string_view match = "*";
  std::string_view type;  // data() is nullptr: any
};
bool GetScanOptions(Call& call, size_t index, bool with_type, ScanOptions* options);

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_COMMANDS_COMMAND_H_
