// CONFIG GET, SET, HELP. A setting either has an effect here, and then it can be changed, or it says how things
// are, and then it cannot: nothing is accepted and ignored.
#include "apps/kvstore/commands/config.h"

#include <algorithm>
#include <cctype>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "apps/kvstore/resp/glob.h"
#include "apps/kvstore/resp/number.h"

namespace kvstore {
namespace {

constexpr int64_t kMegabyte = 1 << 20;

struct Setting {
  std::string_view name;
  std::string (*get)(const Call& call);
  // In bytes. nullptr: it cannot be changed.
  void (*set)(Call& call, int64_t bytes) = nullptr;
  int64_t least = 0, most = std::numeric_limits<int64_t>::max();
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
void SetMaxBulk(Call& call, int64_t bytes) { call.instance.limits.max_bulk = static_cast<size_t>(bytes); }

std::string QueryBuffer(const Call& call) { return absl::StrCat(call.instance.max_query_buffer); }
void SetQueryBuffer(Call& call, int64_t bytes) {
  call.instance.max_query_buffer = static_cast<size_t>(bytes);
}

// In order of name.
constexpr Setting kSettings[] = {
    {"appendonly", No},
    {"bind", Bind},
    {"client-query-buffer-limit", QueryBuffer, SetQueryBuffer, kMegabyte},
    {"cluster-enabled", No},
    {"databases", One},
    {"maxmemory", Zero},
    {"maxmemory-policy", NoEviction},
    {"port", Port},
    {"proto-max-bulk-len", MaxBulk, SetMaxBulk, kMegabyte, 512 * kMegabyte},
    {"requirepass", Nothing},
    {"save", Nothing},
    {"timeout", Zero},
};

const Setting* FindSetting(std::string_view name) {
  for (const Setting& setting : kSettings) {
    if (Is(name, setting.name)) return &setting;
  }
  return nullptr;
}

// "64mb", "1k", "512": k, m, g are powers of 1000, kb, mb, gb of 1024.
std::optional<int64_t> ParseMemory(std::string_view text) {
  const size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const auto number = ParseInteger(text.substr(0, digits));
  if (!number) return std::nullopt;
  const std::string_view unit = text.substr(digits);
  int64_t factor = 0;
  if (unit.empty() || Is(unit, "b")) factor = 1;
  if (Is(unit, "k")) factor = 1000;
  if (Is(unit, "kb")) factor = 1024;
  if (Is(unit, "m")) factor = 1000 * 1000;
  if (Is(unit, "mb")) factor = kMegabyte;
  if (Is(unit, "g")) factor = 1000L * 1000 * 1000;
  if (Is(unit, "gb")) factor = 1024 * kMegabyte;
  if (factor == 0 || *number > std::numeric_limits<int64_t>::max() / factor) return std::nullopt;
  return *number * factor;
}

void ConfigGet(Call& call) {
  const size_t mark = call.reply.mark();
  size_t found = 0;
  for (const Setting& setting : kSettings) {
    const Arguments patterns = call.args.subspan(2);
    const bool wanted = std::any_of(patterns.begin(), patterns.end(), [&](std::string_view pattern) {
      return GlobMatches(pattern, setting.name, /*ignore_case=*/true);
    });
    if (!wanted) continue;
    ++found;
    call.reply.Bulk(setting.name);
    call.reply.Bulk(setting.get(call));
  }
  call.reply.InsertMap(mark, found);
}

// What is wrong with one pair of arguments; "" when nothing is.
std::string FaultOf(const Setting& setting, std::string_view value, bool repeated) {
  if (repeated) return "duplicate parameter";
  if (setting.set == nullptr) return "can't set immutable config";
  const auto bytes = ParseMemory(value);
  if (!bytes) return "argument must be a memory value";
  if (*bytes < setting.least || *bytes > setting.most) {
    return absl::StrCat("argument must be between ", setting.least, " and ", setting.most, " inclusive");
  }
  return "";
}

// All or nothing.
void ConfigSet(Call& call) {
  const Arguments pairs = call.args.subspan(2);
  if (pairs.size() % 2 != 0) return WrongArity(call);
  std::vector<const Setting*> settings;
  for (size_t i = 0; i < pairs.size(); i += 2) {
    settings.push_back(FindSetting(pairs[i]));
    if (settings.back() == nullptr) {
      return call.reply.Error(absl::StrCat("ERR Unknown option or number of arguments for CONFIG SET - '",
                                           std::string(pairs[i]), "'"));
    }
  }
  for (size_t i = 0; i < settings.size(); ++i) {
    const bool repeated = std::find(settings.begin(), settings.begin() + static_cast<ptrdiff_t>(i),
                                    settings[i]) != settings.begin() + static_cast<ptrdiff_t>(i);
    const std::string fault = FaultOf(*settings[i], pairs[2 * i + 1], repeated);
    if (fault.empty()) continue;
    return call.reply.Error(absl::StrCat("ERR CONFIG SET failed (possibly related to argument '",
                                         std::string(pairs[2 * i]), "') - ", fault));
  }
  for (size_t i = 0; i < settings.size(); ++i) settings[i]->set(call, *ParseMemory(pairs[2 * i + 1]));
  call.reply.Ok();
}

void ConfigHelp(Call& call) {
  ReplyHelp(call, {"GET <pattern> [<pattern> ...]", "    The settings whose names match, and their values.",
                   "SET <name> <value> [<name> <value> ...]", "    Changes settings, all or none."});
}

constexpr Command Row(std::string_view name, int arity, uint32_t flags, void (*run)(Call&),
                      std::string_view since, std::string_view summary) {
  return {.name = name, .arity = arity, .flags = flags, .run = run, .group = "server", .since = since,
          .complexity = "O(N), N the number of settings", .summary = summary};
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
