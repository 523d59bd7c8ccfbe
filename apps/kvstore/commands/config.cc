// CONFIG GET, SET, HELP. Nearly every setting says how things are and can at most be set to what it is: what
// is to be had is the flags', not any client's, and the same on both nodes.
#include "apps/kvstore/commands/config.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "apps/kvstore/resp/glob.h"

namespace kvstore {
namespace {

constexpr uint64_t kMegabyte = 1 << 20;
constexpr char kImmutable[] = "can't set immutable config";

struct Setting {
  std::string_view name;
  std::string (*get)(const Call& call);
  // Not even to what it is, because Redis does not allow it either.
  bool immutable = false;
  // Sets it, or says what is wrong with the value, with `only_check` nothing but that. nullptr: it cannot be
  // changed.
  std::string (*set)(Call& call, std::string_view value, bool only_check) = nullptr;
};

std::string Nothing(const Call&) { return ""; }
std::string No(const Call&) { return "no"; }
std::string Zero(const Call&) { return "0"; }
std::string One(const Call&) { return "1"; }
std::string NoEviction(const Call&) { return "noeviction"; }

std::string Port(const Call& call) {
  const std::string& local = call.session.local;
  return local.substr(local.rfind(':') + 1);
}
std::string Bind(const Call& call) {
  const std::string& local = call.session.local;
  return local.substr(0, local.rfind(':'));
}

std::string MaxBulk(const Call& call) { return absl::StrCat(call.instance.limits.max_bulk); }
std::string QueryBuffer(const Call& call) { return absl::StrCat(call.instance.settings.max_query_buffer); }
std::string ClientsMemory(const Call& call) {
  return absl::StrCat(call.instance.settings.max_clients_memory);
}
std::string MaxClients(const Call& call) { return absl::StrCat(call.instance.settings.max_clients); }
std::string Password(const Call& call) { return call.instance.settings.password; }
std::string ProtectedMode(const Call& call) { return call.instance.settings.protected_mode ? "yes" : "no"; }

std::string Debug(const Call& call) {
  switch (call.instance.settings.debug) {
    case DebugCommand::kNo: return "no";
    case DebugCommand::kLocal: return "local";
    case DebugCommand::kYes: return "yes";
  }
  return "no";
}

// Nobody can subscribe here, so whatever is asked for is done: there is no one to be told. Clients that
// switch it on for a feature they may not use go on.
std::string KeyspaceEvents(const Call& call) { return call.instance.keyspace_events; }
std::string SetKeyspaceEvents(Call& call, std::string_view value, bool only_check) {
  constexpr std::string_view kAll = "g$lshzxetd";  // what 'A' stands for
  constexpr std::string_view kOthers = "KEmn";
  bool all = value.find('A') != std::string_view::npos;
  std::string flags;
  for (const char c : value) {
    if (c != 'A' && kAll.find(c) == std::string_view::npos && kOthers.find(c) == std::string_view::npos) {
      return "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.";
    }
  }
  if (only_check) return "";
  const auto has = [&](char c) { return value.find(c) != std::string_view::npos; };
  all = all || std::all_of(kAll.begin(), kAll.end(), has);
  if (all) flags = "A";
  for (const char c : kAll) {
    if (!all && has(c)) flags += c;
  }
  for (const char c : kOthers) {
    if (has(c)) flags += c;
  }
  call.instance.keyspace_events = flags;
  return "";
}

// In order of name.
constexpr Setting kSettings[] = {
    {"appendonly", No},
    {"bind", Bind},
    {"client-query-buffer-limit", QueryBuffer},
    {"cluster-enabled", No, true},
    {"databases", One, true},
    {"enable-debug-command", Debug, true},
    {"maxclients", MaxClients},
    {"maxmemory", Zero},
    {"maxmemory-clients", ClientsMemory},
    {"maxmemory-policy", NoEviction},
    {"notify-keyspace-events", KeyspaceEvents, false, SetKeyspaceEvents},
    {"port", Port},
    {"protected-mode", ProtectedMode},
    {"proto-max-bulk-len", MaxBulk},
    {"requirepass", Password},
    {"save", Nothing},
    {"timeout", Zero},
};

const Setting* FindSetting(std::string_view name) {
  for (const Setting& setting : kSettings) {
    if (Is(name, setting.name)) return &setting;
  }
  return nullptr;
}

// "64mb", "1k", "512": k, m, g are powers of 1000, kb, mb, gb of 1024. No digits are 0, and what is too large
// is the largest number: neither is within the bounds of any setting.
std::optional<uint64_t> ParseMemory(std::string_view text) {
  constexpr uint64_t kMost = std::numeric_limits<uint64_t>::max();
  text = text.substr(0, text.find('\0'));
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  uint64_t number = 0;
  for (const char c : text.substr(0, digits)) {
    const auto digit = static_cast<uint64_t>(c - '0');
    number = number > (kMost - digit) / 10 ? kMost : number * 10 + digit;
  }
  const std::string_view unit = text.substr(digits);
  uint64_t factor = 0;
  if (unit.empty() || Is(unit, "b")) factor = 1;
  if (Is(unit, "k")) factor = 1000;
  if (Is(unit, "kb")) factor = 1024;
  if (Is(unit, "m")) factor = 1000 * 1000;
  if (Is(unit, "mb")) factor = kMegabyte;
  if (Is(unit, "g")) factor = 1000L * 1000 * 1000;
  if (Is(unit, "gb")) factor = 1024 * kMegabyte;
  if (factor == 0) return std::nullopt;
  return number > kMost / factor ? kMost : number * factor;
}

// --- CONFIG GET ----------------------------------------------------------------------------------

bool IsPattern(std::string_view word) { return word.find_first_of("*?[") != std::string_view::npos; }

bool Matches(std::string_view word, std::string_view name) {
  return IsPattern(word) ? GlobMatches(word, name, /*ignore_case=*/true) : Is(word, name);
}

// A setting is called what it was called in the request.
void ConfigGet(Call& call) {
  const Arguments words = call.args.subspan(2);
  const size_t mark = call.reply.mark();
  size_t found = 0;
  for (const Setting& setting : kSettings) {
    const auto word = std::find_if(words.begin(), words.end(),
                                   [&](std::string_view each) { return Matches(each, setting.name); });
    if (word == words.end()) continue;
    ++found;
    call.reply.Bulk(IsPattern(*word) ? setting.name : *word);
    call.reply.Bulk(setting.get(call));
  }
  call.reply.InsertMap(mark, found);
}

// --- CONFIG SET ----------------------------------------------------------------------------------

// Between quotes in an error, as far as C would print it.
std::string Quoted(std::string_view word) { return "'" + std::string(word.substr(0, word.find('\0'))) + "'"; }

std::string Failed(std::string_view name, const std::string& why) {
  return "ERR CONFIG SET failed (possibly related to argument " + Quoted(name) + ") - " + why;
}

// The settings that are named, one for each pair. False: the error is written.
bool FindSettings(Call& call, Arguments pairs, std::vector<const Setting*>* settings) {
  for (size_t i = 0; i < pairs.size(); i += 2) {
    const Setting* setting = FindSetting(pairs[i]);
    std::string error;
    if (setting == nullptr) {
      error = "ERR Unknown option or number of arguments for CONFIG SET - " + Quoted(pairs[i]);
    } else if (setting->immutable) {
      error = Failed(pairs[i], kImmutable);
    } else if (std::find(settings->begin(), settings->end(), setting) != settings->end()) {
      error = Failed(pairs[i], "duplicate parameter");
    }
    if (!error.empty()) {
      call.reply.Error(error);
      return false;
    }
    settings->push_back(setting);
  }
  return true;
}

// What is wrong with a value; "" when nothing is.
std::string FaultOf(Call& call, const Setting& setting, std::string_view value) {
  if (setting.set != nullptr) return setting.set(call, value, /*only_check=*/true);
  // Clients also write it as a size: "64mb".
  const std::string now = setting.get(call);
  const auto bytes = ParseMemory(value);
  return value == now || (bytes && absl::StrCat(*bytes) == now) ? "" : kImmutable;
}

// All or nothing.
void ConfigSet(Call& call) {
  const Arguments pairs = call.args.subspan(2);
  if (pairs.size() % 2 != 0) return call.reply.Error(kSyntaxError);
  std::vector<const Setting*> settings;
  if (!FindSettings(call, pairs, &settings)) return;
  for (size_t i = 0; i < settings.size(); ++i) {
    const std::string fault = FaultOf(call, *settings[i], pairs[2 * i + 1]);
    if (!fault.empty()) return call.reply.Error(Failed(pairs[2 * i], fault));
  }
  for (size_t i = 0; i < settings.size(); ++i) {
    if (settings[i]->set != nullptr) settings[i]->set(call, pairs[2 * i + 1], /*only_check=*/false);
  }
  call.reply.Ok();
}

void ConfigHelp(Call& call) {
  ReplyHelp(call, {"GET <pattern> [<pattern> ...]", "    The settings whose names match, and their values.",
                   "SET <name> <value> [<name> <value> ...]", "    Changes settings, all or none."});
}

constexpr Command Row(std::string_view name, int arity, uint32_t flags, void (*run)(Call&),
                      std::string_view since, std::string_view summary) {
  return {.name = name,
          .arity = arity,
          .flags = flags,
          .run = run,
          .group = "server",
          .since = since,
          .complexity = "O(N), N the number of settings",
          .summary = summary};
}

constexpr uint32_t kOperator = kAdmin | kNoScript | kLoading | kStale;

constexpr Command kCommands[] = {
    Row("get", -3, kOperator, ConfigGet, "2.0.0", "Read settings"),
    Row("help", 2, kLoading | kStale, ConfigHelp, "5.0.0", "What CONFIG can do"),
    Row("set", -4, kOperator, ConfigSet, "2.0.0", "Change settings"),
};

}  // namespace

absl::Span<const Command> ConfigCommands() { return kCommands; }

}  // namespace kvstore
