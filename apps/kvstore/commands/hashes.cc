// Hashes: HSET, HGET, ...
#include <cmath>
#include <optional>
#include <string>

#include "apps/kvstore/commands/collections.h"
#include "apps/kvstore/commands/command.h"
#include "apps/kvstore/resp/number.h"
#include "apps/kvstore/store/elements.h"

namespace kvstore {
namespace {

bool FindHash(Call& call, Entry* entry) { return FindTyped(call, call.args[1], Type::kHash, entry); }

Elements Hash(Call& call, const Entry& entry) {
  return Elements(call.keys, call.args[1], entry, Type::kHash);
}

// Sets all pairs. nullopt: the error is written; otherwise how many fields are new.
std::optional<int64_t> SetPairs(Call& call) {
  if (call.args.size() % 2 != 0) {
    WrongArity(call);
    return std::nullopt;
  }
  Entry entry;
  if (!FindHash(call, &entry)) return std::nullopt;
  Elements hash = Hash(call, entry);
  int64_t added = 0;
  for (size_t i = 2; i < call.args.size(); i += 2) {
    if (hash.Insert(call.args[i], call.args[i + 1])) ++added;
  }
  return added;
}

void HSet(Call& call) {
  if (const auto added = SetPairs(call)) call.reply.Integer(*added);
}

void HMSet(Call& call) {
  if (SetPairs(call)) call.reply.Ok();
}

void HSetNx(Call& call) {
  Entry entry;
  if (!FindHash(call, &entry)) return;
  Elements hash = Hash(call, entry);
  const bool add = !hash.Contains(call.args[2]);
  if (add) hash.Insert(call.args[2], call.args[3]);
  call.reply.Integer(add);
}

void ReplyField(Call& call, Elements& hash, std::string_view field) {
  const auto value = hash.Find(field);
  if (!value) return call.reply.Null();
  call.reply.Bulk(*value);
}

void HGet(Call& call) {
  Entry entry;
  if (!FindHash(call, &entry)) return;
  Elements hash = Hash(call, entry);
  ReplyField(call, hash, call.args[2]);
}

void HMGet(Call& call) {
  Entry entry;
  if (!FindHash(call, &entry)) return;
  Elements hash = Hash(call, entry);
  call.reply.Array(call.args.size() - 2);
  for (std::string_view field : call.args.subspan(2)) {
    ReplyField(call, hash, field);
    if (call.reply.full()) return;  // a field may be named as often as the client likes
  }
}

void HGetAll(Call& call) {
  Entry entry;
  if (!FindHash(call, &entry)) return;
  call.reply.Map(entry.count);
  Hash(call, entry).ForEach([&](std::string_view name, std::string_view value) {
    call.reply.Bulk(name);
    call.reply.Bulk(value);
  });
}

void HKeys(Call& call) {
  Entry entry;
  if (!FindHash(call, &entry)) return;
  call.reply.Array(entry.count);
  Hash(call, entry).ForEach([&](std::string_view name, std::string_view) { call.reply.Bulk(name); });
}

void HVals(Call& call) {
  Entry entry;
  if (!FindHash(call, &entry)) return;
  call.reply.Array(entry.count);
  Hash(call, entry).ForEach([&](std::string_view, std::string_view value) { call.reply.Bulk(value); });
}

void HDel(Call& call) { EraseElements(call, Type::kHash); }
void HExists(Call& call) { ReplyContains(call, Type::kHash); }
void HLen(Call& call) { ReplyCount(call, Type::kHash); }
void HScan(Call& call) { ScanElements(call, Type::kHash); }

void HStrLen(Call& call) {
  Entry entry;
  if (!FindHash(call, &entry)) return;
  Elements hash = Hash(call, entry);
  const auto value = hash.Find(call.args[2]);
  call.reply.Integer(!value ? 0 : static_cast<int64_t>(value->size()));
}

void HIncrBy(Call& call) {
  int64_t increment = 0;
  Entry entry;
  if (!GetInteger(call, call.args[3], &increment) || !FindHash(call, &entry)) return;
  Elements hash = Hash(call, entry);
  const auto old = hash.Find(call.args[2]);
  int64_t value = 0;
  if (old) {
    const auto number = ParseInteger(*old);
    if (!number) return call.reply.Error("ERR hash value is not an integer");
    value = *number;
  }
  if (__builtin_add_overflow(value, increment, &value)) {
    return call.reply.Error("ERR increment or decrement would overflow");
  }
  hash.Insert(call.args[2], std::to_string(value));
  call.reply.Integer(value);
}

void HIncrByFloat(Call& call) {
  const auto increment = ParseFloat(call.args[3]);
  if (!increment) return call.reply.Error(kNotAFloat);
  if (!std::isfinite(*increment)) return call.reply.Error("ERR value is NaN or Infinity");
  Entry entry;
  if (!FindHash(call, &entry)) return;
  Elements hash = Hash(call, entry);
  const auto old = hash.Find(call.args[2]);
  long double value = 0;
  if (old) {
    const auto number = ParseFloat(*old);
    if (!number) return call.reply.Error("ERR hash value is not a float");
    value = *number;
  }
  value += *increment;
  if (!std::isfinite(value)) return call.reply.Error("ERR increment would produce NaN or Infinity");
  const std::string text = FormatFloat(value);
  hash.Insert(call.args[2], text);
  call.reply.Bulk(text);
}

constexpr Command Row(std::string_view name, int arity, uint32_t flags, void (*run)(Call&),
                      std::string_view since, std::string_view complexity, std::string_view summary) {
  return KeyCommand("hash", name, arity, flags, run, since, complexity, summary);
}

constexpr uint32_t kGrows = kWrite | kDenyOom | kFast;

constexpr Command kCommands[] = {
    Row("hdel", -3, kWrite | kFast, HDel, "2.0.0", "O(N) for N fields", "Removes fields"),
    Row("hexists", 3, kReadonly | kFast, HExists, "2.0.0", "O(1)", "Is there such a field?"),
    Row("hget", 3, kReadonly | kFast, HGet, "2.0.0", "O(1)", "The value of a field"),
    Row("hgetall", 2, kReadonly, HGetAll, "2.0.0", "O(N) for a hash of N fields", "All fields and values"),
    Row("hincrby", 4, kGrows, HIncrBy, "2.0.0", "O(1)", "Adds an integer to a field"),
    Row("hincrbyfloat", 4, kGrows, HIncrByFloat, "2.6.0", "O(1)", "Adds a decimal number to a field"),
    Row("hkeys", 2, kReadonly, HKeys, "2.0.0", "O(N) for a hash of N fields", "All fields"),
    Row("hlen", 2, kReadonly | kFast, HLen, "2.0.0", "O(1)", "How many fields there are"),
    Row("hmget", -3, kReadonly | kFast, HMGet, "2.0.0", "O(N) for N fields", "The values of some fields"),
    Row("hmset", -4, kGrows, HMSet, "2.0.0", "O(N) for N fields", "Sets fields; HSET does the same"),
    Row("hscan", -3, kReadonly, HScan, "2.8.0", "O(N) for N fields visited", "A step of a walk"),
    Row("hset", -4, kGrows, HSet, "2.0.0", "O(N) for N fields", "Sets fields"),
    Row("hsetnx", 4, kGrows, HSetNx, "2.0.0", "O(1)", "Sets a field that is not there yet"),
    Row("hstrlen", 3, kReadonly | kFast, HStrLen, "3.2.0", "O(1)", "How long the value of a field is"),
    Row("hvals", 2, kReadonly, HVals, "2.0.0", "O(N) for a hash of N fields", "All values"),
};

}  // namespace

absl::Span<const Command> HashCommands() { return kCommands; }

}  // namespace kvstore
