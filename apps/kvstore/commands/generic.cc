// Keys of any type: DEL, EXISTS, RENAME, SCAN, ...
#include <limits>
#include <optional>
#include <string>

#include "apps/kvstore/commands/command.h"
#include "apps/kvstore/resp/glob.h"

namespace kvstore {
namespace {

void Del(Call& call) {
  int64_t deleted = 0;
  for (const std::string_view key : call.args.subspan(1)) deleted += call.keys.Remove(key);
  call.reply.Integer(deleted);
}

// EXISTS and TOUCH: a key that is named twice counts twice.
void Exists(Call& call) {
  int64_t existing = 0;
  for (const std::string_view key : call.args.subspan(1)) existing += static_cast<bool>(call.keys.Find(key));
  call.reply.Integer(existing);
}

void TypeOf(Call& call) { call.reply.Simple(TypeName(call.keys.Find(call.args[1]).type)); }

void Rename(Call& call) {
  if (!call.keys.Find(call.args[1])) return call.reply.Error(kNoSuchKey);
  call.keys.Rename(call.args[1], call.args[2]);
  call.reply.Ok();
}

void RenameNx(Call& call) {
  if (!call.keys.Find(call.args[1])) return call.reply.Error(kNoSuchKey);
  const bool free = !call.keys.Find(call.args[2]);
  if (free) call.keys.Rename(call.args[1], call.args[2]);
  call.reply.Integer(free);
}

// COPY's options. False: the error is written.
bool GetCopyOptions(Call& call, bool* replace) {
  for (size_t i = 3; i < call.args.size(); ++i) {
    if (Is(call.args[i], "replace")) {
      *replace = true;
    } else if (Is(call.args[i], "db") && i + 1 < call.args.size()) {
      if (!GetDatabase(call, call.args[++i])) return false;
    } else {
      call.reply.Error(kSyntaxError);
      return false;
    }
  }
  return true;
}

void Copy(Call& call) {
  const std::string_view from = call.args[1], to = call.args[2];
  bool replace = false;
  if (!GetCopyOptions(call, &replace)) return;
  if (from == to) return call.reply.Error("ERR source and destination objects are the same");
  const bool copy = call.keys.Find(from) && (replace || !call.keys.Find(to));
  if (copy) call.keys.Copy(from, to);
  call.reply.Integer(copy);
}

void Keys(Call& call) {
  const std::string_view pattern = call.args[1];
  const bool all = pattern == "*";
  const size_t mark = call.reply.mark();
  size_t count = 0;
  call.keys.Scan(0, std::numeric_limits<uint64_t>::max(), [&](std::string_view key, const Entry&) {
    if (!all && !GlobMatches(pattern, key)) return;
    call.reply.Bulk(key);
    ++count;
  });
  call.reply.InsertArray(mark, count);
}

void Scan(Call& call) {
  ScanOptions options;
  if (!GetScanOptions(call, 1, /*with_type=*/true, &options)) return;
  const bool all = options.match == "*";
  call.reply.Array(2);
  const size_t mark = call.reply.mark();  // the keys come behind the next cursor, which is known last
  size_t count = 0;
  const uint64_t next =
      call.keys.Scan(options.cursor, options.count, [&](std::string_view key, const Entry& entry) {
        if (options.type.data() != nullptr && !Is(options.type, TypeName(entry.type))) return;
        if (!all && !GlobMatches(options.match, key)) return;
        call.reply.Bulk(key);
        ++count;
      });
  call.reply.InsertArray(mark, count);
  call.reply.InsertBulk(mark, std::to_string(next));
}

void RandomKey(Call& call) {
  const std::optional<std::string> key = call.keys.Random(call.Random());
  key ? call.reply.Bulk(*key) : call.reply.Null();
}

// --- The table -----------------------------------------------------------------------------------

struct KeyArguments {
  int first, last, step;
};
constexpr KeyArguments kNoKeys = {0, 0, 0}, kOneKey = {1, 1, 1}, kTwoKeys = {1, 2, 1}, kAllKeys = {1, -1, 1};

constexpr Command Row(std::string_view name, int arity, uint32_t flags, KeyArguments keys, void (*run)(Call&),
                      std::string_view since, std::string_view complexity, std::string_view summary) {
  return {.name = name,
          .arity = arity,
          .flags = flags,
          .first_key = keys.first,
          .last_key = keys.last,
          .key_step = keys.step,
          .run = run,
          .group = "generic",
          .since = since,
          .complexity = complexity,
          .summary = summary};
}

constexpr std::string_view kPerNamed = "O(N), N the number of keys named";
constexpr std::string_view kPerKey = "O(N), N the number of keys in the store";
constexpr std::string_view kWalk = "O(1) for each call, O(N) for a whole walk";
constexpr std::string_view kPerElement = "O(N), N the number of elements";

constexpr Command kCommands[] = {
    Row("copy", -3, kWrite | kDenyOom, kTwoKeys, Copy, "6.2.0", kPerElement, "Copy a key with its value"),
    Row("del", -2, kWrite, kAllKeys, Del, "1.0.0", kPerNamed, "Delete keys"),
    Row("exists", -2, kReadonly | kFast, kAllKeys, Exists, "1.0.0", kPerNamed, "Count which of these exist"),
    Row("keys", 2, kReadonly, kNoKeys, Keys, "1.0.0", kPerKey, "All keys that match a pattern"),
    Row("randomkey", 1, kReadonly, kNoKeys, RandomKey, "1.0.0", "O(1)", "A key at random"),
    Row("rename", 3, kWrite, kTwoKeys, Rename, "1.0.0", "O(1)", "Rename a key"),
    Row("renamenx", 3, kWrite | kFast, kTwoKeys, RenameNx, "1.0.0", "O(1)",
        "Rename a key if the new name is free"),
    Row("scan", -2, kReadonly, kNoKeys, Scan, "2.8.0", kWalk, "Walk over the keys, some at a time"),
    Row("touch", -2, kReadonly | kFast, kAllKeys, Exists, "3.2.1", kPerNamed, "Count which of these exist"),
    Row("type", 2, kReadonly | kFast, kOneKey, TypeOf, "1.0.0", "O(1)", "The type of a key's value"),
    Row("unlink", -2, kWrite | kFast, kAllKeys, Del, "4.0.0", kPerNamed, "Delete keys; the same as DEL"),
};

}  // namespace

absl::Span<const Command> GenericCommands() { return kCommands; }

}  // namespace kvstore
