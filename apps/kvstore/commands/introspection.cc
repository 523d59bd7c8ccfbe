// COMMAND: what commands there are.
#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "apps/kvstore/commands/command.h"
#include "apps/kvstore/commands/dispatcher.h"
#include "apps/kvstore/resp/glob.h"
#include "apps/kvstore/resp/number.h"

namespace kvstore {
namespace {

// --- Names ---------------------------------------------------------------------------------------

const Command* FindSubcommand(const Command& container, std::string_view name) {
  for (const Command& sub : container.subcommands) {
    if (Is(name, sub.name)) return &sub;
  }
  return nullptr;
}

// Also a subcommand's: "client|getname".
const Command* FindByFullName(std::string_view name) {
  const size_t bar = name.find('|');
  const Command* command = FindCommand(name.substr(0, bar));
  if (command == nullptr || bar == std::string_view::npos) return command;
  return FindSubcommand(*command, name.substr(bar + 1));
}

bool IsContainer(const Command& command) { return command.run == nullptr; }

// --- COMMAND INFO --------------------------------------------------------------------------------

struct NamedFlag {
  CommandFlags flag;
  std::string_view name;
};

// Redis's order.
constexpr NamedFlag kFlagNames[] = {
    {kWrite, "write"},
    {kReadonly, "readonly"},
    {kDenyOom, "denyoom"},
    {kAdmin, "admin"},
    {kNoScript, "noscript"},
    {kLoading, "loading"},
    {kStale, "stale"},
    {kSkipMonitor, "skip_monitor"},
    {kSkipSlowlog, "skip_slowlog"},
    {kFast, "fast"},
    {kNoAuth, "no_auth"},
    {kNoMulti, "no_multi"},
    {kMovableKeys, "movablekeys"},
    {kAllowBusy, "allow_busy"},
};

std::vector<std::string_view> FlagsOf(const Command& command) {
  std::vector<std::string_view> flags;
  for (const NamedFlag& named : kFlagNames) {
    if (command.flags & named.flag) flags.push_back(named.name);
  }
  return flags;
}

// What ACL rules call groups of commands. They follow from the flags and the group.
std::vector<std::string_view> CategoriesOf(const Command& command) {
  if (IsContainer(command)) return {"@slow"};
  const auto named = [&](std::string_view name) { return command.name == name; };
  const bool flushes = named("flushall") || named("flushdb");
  const bool about_keys = command.group == "generic" || named("dbsize") || flushes;
  const bool dangerous = (command.flags & kAdmin) || flushes || named("keys") || FullName(command) == "info";
  std::vector<std::string_view> categories;
  const auto add = [&](bool is, std::string_view name) {
    if (is) categories.push_back(name);
  };
  add(about_keys, "@keyspace");
  add(command.flags & kReadonly, "@read");
  add(command.flags & kWrite, "@write");
  add(command.group == "set", "@set");
  add(command.group == "sorted-set", "@sortedset");
  add(command.group == "list", "@list");
  add(command.group == "hash", "@hash");
  add(command.group == "string", "@string");
  add(command.flags & kAdmin, "@admin");
  add(command.flags & kFast, "@fast");
  add(!(command.flags & kFast), "@slow");
  add(dangerous, "@dangerous");
  add(command.group == "connection" || FullName(command).substr(0, 7) == "command", "@connection");
  add(command.group == "transactions", "@transaction");
  return categories;
}

void ReplyWords(Call& call, const std::vector<std::string_view>& words) {
  call.reply.Set(words.size());
  for (const std::string_view word : words) call.reply.Simple(word);
}

void ReplyInfo(Call& call, const Command* command) {
  if (command == nullptr) return call.reply.Null();
  Reply& reply = call.reply;
  reply.Array(10);
  reply.Bulk(FullName(*command));
  reply.Integer(command->arity);
  ReplyWords(call, FlagsOf(*command));
  reply.Integer(command->first_key);
  reply.Integer(command->last_key);
  reply.Integer(command->key_step);
  ReplyWords(call, CategoriesOf(*command));
  reply.Set(0);  // tips
  reply.Set(0);  // key specifications
  reply.Set(command->subcommands.size());
  for (const Command& sub : command->subcommands) ReplyInfo(call, &sub);
}

void All(Call& call) {
  const auto all = AllCommands();
  call.reply.Array(all.size());
  for (const Command* command : all) ReplyInfo(call, command);
}

void Info(Call& call) {
  if (call.args.size() == 2) return All(call);
  call.reply.Array(call.args.size() - 2);
  for (const std::string_view name : call.args.subspan(2)) {
    ReplyInfo(call, FindByFullName(name));
    if (call.reply.full()) return;  // one may be named as often as the client likes
  }
}

void Count(Call& call) { call.reply.Integer(static_cast<int64_t>(AllCommands().size())); }

// --- COMMAND DOCS --------------------------------------------------------------------------------

void ReplyDocs(Call& call, const Command& command) {
  Reply& reply = call.reply;
  reply.Bulk(FullName(command));
  reply.Map(command.subcommands.empty() ? 4 : 5);
  reply.Bulk("summary");
  reply.Bulk(command.summary);
  reply.Bulk("since");
  reply.Bulk(command.since);
  reply.Bulk("group");
  reply.Bulk(command.group);
  reply.Bulk("complexity");
  reply.Bulk(command.complexity);
  if (command.subcommands.empty()) return;
  reply.Bulk("subcommands");
  reply.Map(command.subcommands.size());
  for (const Command& sub : command.subcommands) ReplyDocs(call, sub);
}

void Docs(Call& call) {
  std::vector<const Command*> wanted;
  for (const std::string_view name : call.args.subspan(2)) {
    if (const Command* command = FindByFullName(name)) wanted.push_back(command);
  }
  if (call.args.size() == 2) wanted.assign(AllCommands().begin(), AllCommands().end());
  call.reply.Map(wanted.size());
  for (const Command* command : wanted) {
    ReplyDocs(call, *command);
    if (call.reply.full()) return;
  }
}

// --- COMMAND LIST, GETKEYS -----------------------------------------------------------------------

bool InCategory(const Command& command, std::string_view category) {
  const auto categories = CategoriesOf(command);
  return std::any_of(categories.begin(), categories.end(),
                     [&](std::string_view each) { return Is(category, each.substr(1)); });
}

void List(Call& call) {
  const Arguments args = call.args;
  const bool all = args.size() == 2;
  if (!all && (args.size() != 5 || !Is(args[2], "filterby"))) return call.reply.Error(kSyntaxError);
  const std::string_view by = all ? "" : args[3], filter = all ? "" : args[4];
  if (!all && !Is(by, "pattern") && !Is(by, "aclcat") && !Is(by, "module")) {
    return call.reply.Error(kSyntaxError);
  }
  const auto wanted = [&](const Command& command) {
    if (all) return true;
    if (Is(by, "pattern")) return GlobMatches(filter, FullName(command), /*ignore_case=*/true);
    return Is(by, "aclcat") && InCategory(command, filter);  // there are no modules
  };
  const size_t mark = call.reply.mark();
  size_t found = 0;
  const auto consider = [&](const Command& command) {
    if (!wanted(command)) return;
    ++found;
    call.reply.Bulk(FullName(command));
  };
  for (const Command* command : AllCommands()) {
    consider(*command);
    for (const Command& sub : command->subcommands) consider(sub);
  }
  call.reply.InsertArray(mark, found);
}

// The number at `at`. False: it is none, or there are not so many.
bool CountedKeys(Arguments request, int at, uint64_t* count) {
  const auto number = ParseInteger(request[static_cast<size_t>(at)]);
  if (!number || *number < 1 ||
      static_cast<uint64_t>(*number) > request.size() - static_cast<size_t>(at) - 1) {
    return false;
  }
  *count = static_cast<uint64_t>(*number);
  return true;
}

void GetKeys(Call& call) {
  const Arguments request = call.args.subspan(2);
  const Command* command = FindCommand(request[0]);
  if (command != nullptr && !command->subcommands.empty()) command = FindSubcommand(*command, request[1]);
  if (command == nullptr) return call.reply.Error("ERR Invalid command specified");
  if (command->first_key == 0 && command->count_of_keys_at == 0) {
    return call.reply.Error("ERR The command has no key arguments");
  }
  const int size = static_cast<int>(request.size());
  if (command->arity >= 0 ? size != command->arity : size < -command->arity) {
    return call.reply.Error("ERR Invalid number of arguments specified for command");
  }
  // How many follow the number of them; of other commands none.
  uint64_t counted = 0;
  if (command->count_of_keys_at != 0 && !CountedKeys(request, command->count_of_keys_at, &counted)) {
    return call.reply.Error("ERR Invalid arguments specified for command");
  }
  const int last = command->last_key < 0 ? size + command->last_key : command->last_key;
  const size_t mark = call.reply.mark();
  size_t found = 0;
  for (int i = command->first_key; i > 0 && i <= last; i += command->key_step, ++found) {
    call.reply.Bulk(request[static_cast<size_t>(i)]);
  }
  const size_t behind = static_cast<size_t>(command->count_of_keys_at) + 1;
  for (uint64_t i = 0; i < counted; ++i, ++found) call.reply.Bulk(request[behind + i]);
  call.reply.InsertArray(mark, found);
}

void Help(Call& call) {
  ReplyHelp(call, {"(no subcommand)", "    What INFO says of every command.", "COUNT",
                   "    How many commands there are.", "DOCS [<name> ...]", "    What commands do.",
                   "GETKEYS <request>", "    The keys in a request.", "INFO [<name> ...]",
                   "    Arguments, flags and keys of commands.",
                   "LIST [FILTERBY (MODULE|ACLCAT|PATTERN) <word>]", "    Names of commands."});
}

// --- The table -----------------------------------------------------------------------------------

constexpr uint32_t kAlways = kLoading | kStale;

constexpr Command Row(std::string_view name, int arity, void (*run)(Call&), std::string_view since,
                      std::string_view complexity, std::string_view summary) {
  return {.name = name,
          .arity = arity,
          .flags = kAlways,
          .run = run,
          .group = "server",
          .since = since,
          .complexity = complexity,
          .summary = summary};
}

constexpr std::string_view kPerCommand = "O(N), N the number of commands";

constexpr Command kSubcommands[] = {
    Row("count", 2, Count, "2.8.13", "O(1)", "How many commands there are"),
    Row("docs", -2, Docs, "7.0.0", kPerCommand, "What commands do"),
    Row("getkeys", -4, GetKeys, "2.8.13", "O(N), N the number of arguments", "The keys in a request"),
    Row("help", 2, Help, "5.0.0", "O(1)", "What COMMAND can do"),
    Row("info", -2, Info, "2.8.13", kPerCommand, "Arguments, flags and keys of commands"),
    Row("list", -2, List, "7.0.0", kPerCommand, "Names of commands"),
};

constexpr Command Container() {
  Command row = Row("command", -1, All, "2.8.13", kPerCommand, "What commands there are");
  row.subcommands = kSubcommands;
  return row;
}

constexpr Command kCommands[] = {Container()};

}  // namespace

absl::Span<const Command> IntrospectionCommands() { return kCommands; }

}  // namespace kvstore
