// Strings: GET, SET, APPEND, INCR, ...
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <string>

#include "apps/kvstore/commands/command.h"
#include "apps/kvstore/resp/number.h"
#include "apps/kvstore/store/string_value.h"

namespace kvstore {
namespace {

bool FindString(Call& call, Entry* entry) { return FindTyped(call, call.args[1], Type::kString, entry); }

// --- Options of SET and GETEX --------------------------------------------------------------------

struct Options {
  bool nx = false, xx = false, get = false, keep_ttl = false, persist = false;
  bool has_time = false;
  TimeForm form;
  std::string_view time;
};

// EX, PX, EXAT, PXAT.
bool TimeOption(std::string_view word, TimeForm* form) {
  const bool absolute = word.size() == 4;
  if (!(Is(word, absolute ? "exat" : "ex") || Is(word, absolute ? "pxat" : "px"))) return false;
  *form = {.milliseconds = (word[0] | 0x20) == 'p', .absolute = absolute, .positive = true};
  return true;
}

bool SameForm(const TimeForm& a, const TimeForm& b) {
  return a.milliseconds == b.milliseconds && a.absolute == b.absolute;
}

// Takes the option at args[i], and goes to its last word. False: it is none, or does not go with those
// before. What is said twice in the same words is no error.
bool TakeOption(Call& call, size_t& i, bool of_set, Options* o) {
  const std::string_view word = call.args[i];
  TimeForm form;
  if (of_set && Is(word, "nx") && !o->xx) return o->nx = true;
  if (of_set && Is(word, "xx") && !o->nx) return o->xx = true;
  if (of_set && Is(word, "get")) return o->get = true;
  if (of_set && Is(word, "keepttl") && !o->has_time) return o->keep_ttl = true;
  if (!of_set && Is(word, "persist") && !o->has_time) return o->persist = true;
  if (!TimeOption(word, &form) || i + 1 == call.args.size()) return false;
  if (o->keep_ttl || o->persist || (o->has_time && !SameForm(o->form, form))) return false;
  o->has_time = true;
  o->form = form;
  o->time = call.args[++i];
  return true;
}

bool GetOptions(Call& call, size_t first, bool of_set, Options* options) {
  for (size_t i = first; i < call.args.size(); ++i) {
    if (TakeOption(call, i, of_set, options)) continue;
    call.reply.Error(kSyntaxError);
    return false;
  }
  return true;
}

// --- GET, SET and their kin ----------------------------------------------------------------------

void Get(Call& call) {
  Entry entry;
  if (!FindString(call, &entry)) return;
  entry ? ReplyString(call, entry) : call.reply.Null();
}

// The key becomes `value`, until `expire_ms` (0: for good), which may be in the past.
void Write(Call& call, std::string_view value, int64_t expire_ms) {
  const std::string_view key = call.args[1];
  if (expire_ms == 0 || expire_ms > call.keys.now_ms()) return WriteString(call.keys, key, value, expire_ms);
  call.keys.Remove(key);
  call.keys.Touched(key);  // written and gone, even if there was nothing before
}

void SetWithOptions(Call& call) {
  Options options;
  if (!GetOptions(call, 3, /*of_set=*/true, &options)) return;
  int64_t expire_ms = 0;
  if (options.has_time && !GetTime(call, options.time, options.form, &expire_ms)) return;
  const Entry old = call.keys.Find(call.args[1]);
  if (options.get) {
    if (old && old.type != Type::kString) return call.reply.Error(kWrongType);
    old ? ReplyString(call, old) : call.reply.Null();
  }
  if (old ? options.nx : options.xx) {
    if (!options.get) call.reply.Null();
    return;
  }
  Write(call, call.args[2], options.keep_ttl ? old.expire_ms : expire_ms);
  if (!options.get) call.reply.Ok();
}

void Set(Call& call) {
  if (call.args.size() > 3) return SetWithOptions(call);
  WriteString(call.keys, call.args[1], call.args[2], /*expire_ms=*/0);
  call.reply.Ok();
}

void SetNx(Call& call) {
  const bool set = !call.keys.Find(call.args[1]);
  if (set) WriteString(call.keys, call.args[1], call.args[2], /*expire_ms=*/0);
  call.reply.Integer(set);
}

void SetUntil(Call& call, bool milliseconds) {
  int64_t expire_ms = 0;
  if (!GetTime(call, call.args[2], {.milliseconds = milliseconds, .positive = true}, &expire_ms)) return;
  Write(call, call.args[3], expire_ms);
  call.reply.Ok();
}

void SetEx(Call& call) { SetUntil(call, /*milliseconds=*/false); }
void PSetEx(Call& call) { SetUntil(call, /*milliseconds=*/true); }

void GetSet(Call& call) {
  Entry old;
  if (!FindString(call, &old)) return;
  old ? ReplyString(call, old) : call.reply.Null();
  WriteString(call.keys, call.args[1], call.args[2], /*expire_ms=*/0);
}

void GetDel(Call& call) {
  Entry old;
  if (!FindString(call, &old)) return;
  if (!old) return call.reply.Null();
  ReplyString(call, old);
  call.keys.Remove(call.args[1]);
}

void GetEx(Call& call) {
  Options options;
  if (!GetOptions(call, 2, /*of_set=*/false, &options)) return;
  Entry entry;
  if (!FindString(call, &entry)) return;
  if (!entry) return call.reply.Null();
  int64_t expire_ms = 0;
  if (options.has_time && !GetTime(call, options.time, options.form, &expire_ms)) return;
  ReplyString(call, entry);
  if (options.has_time && expire_ms <= call.keys.now_ms()) {
    call.keys.Remove(call.args[1]);
  } else if (options.has_time || (options.persist && entry.expire_ms != 0)) {
    entry.expire_ms = expire_ms;
    call.keys.Store(call.args[1], entry);
  }
}

// --- Several keys at once ------------------------------------------------------------------------

void MGet(Call& call) {
  call.reply.Array(call.args.size() - 1);
  for (const std::string_view key : call.args.subspan(1)) {
    const Entry entry = call.keys.Find(key);
    entry.type == Type::kString ? ReplyString(call, entry) : call.reply.Null();
    if (call.reply.full()) return;  // a key may be named as often as the client likes
  }
}

void WritePairs(Call& call) {
  for (size_t i = 1; i < call.args.size(); i += 2) {
    WriteString(call.keys, call.args[i], call.args[i + 1], /*expire_ms=*/0);
  }
}

void MSet(Call& call) {
  if (call.args.size() % 2 == 0) return WrongArity(call);
  WritePairs(call);
  call.reply.Ok();
}

void MSetNx(Call& call) {
  if (call.args.size() % 2 == 0) return WrongArity(call);
  for (size_t i = 1; i < call.args.size(); i += 2) {
    if (call.keys.Find(call.args[i])) return call.reply.Integer(0);
  }
  WritePairs(call);
  call.reply.Integer(1);
}

// --- Parts of a string ---------------------------------------------------------------------------

bool LengthIsAllowed(Call& call, uint64_t length) {
  if (length <= call.instance.limits.max_bulk) return true;
  call.reply.Error(kStringTooLong);
  return false;
}

void Append(Call& call) {
  const std::string_view key = call.args[1], value = call.args[2];
  Entry entry;
  if (!FindString(call, &entry)) return;
  if (!LengthIsAllowed(call, entry.count + value.size())) return;
  uint64_t length = entry.count;
  if (!value.empty()) {
    length = OverwriteString(call.keys, key, entry, entry.count, value);
  } else if (entry) {
    call.keys.Touched(key);
  } else {
    WriteString(call.keys, key, value, /*expire_ms=*/0);
  }
  call.reply.Integer(static_cast<int64_t>(length));
}

void StrLen(Call& call) {
  Entry entry;
  if (FindString(call, &entry)) call.reply.Integer(static_cast<int64_t>(entry.count));
}

void GetRange(Call& call) {
  int64_t first = 0, last = 0;
  if (!GetInteger(call, call.args[2], &first) || !GetInteger(call, call.args[3], &last)) return;
  Entry entry;
  if (!FindString(call, &entry)) return;
  const auto length = static_cast<int64_t>(entry.count);
  if (length == 0 || (first < 0 && last < 0 && first > last)) return call.reply.Bulk({});
  first = std::max<int64_t>(first < 0 ? first + length : first, 0);
  last = std::min(std::max<int64_t>(last < 0 ? last + length : last, 0), length - 1);
  if (first > last) return call.reply.Bulk({});
  std::string range;
  ReadString(call.keys, entry, static_cast<uint64_t>(first), static_cast<uint64_t>(last - first + 1), &range);
  call.reply.Bulk(range);
}

void SetRange(Call& call) {
  int64_t offset = 0;
  if (!GetInteger(call, call.args[2], &offset)) return;
  if (offset < 0) return call.reply.Error("ERR offset is out of range");
  const std::string_view bytes = call.args[3];
  Entry entry;
  if (!FindString(call, &entry)) return;
  if (bytes.empty()) return call.reply.Integer(static_cast<int64_t>(entry.count));
  const auto at = static_cast<uint64_t>(offset);
  if (!LengthIsAllowed(call, at + bytes.size())) return;
  call.reply.Integer(static_cast<int64_t>(OverwriteString(call.keys, call.args[1], entry, at, bytes)));
}

// --- Numbers -------------------------------------------------------------------------------------

void Increment(Call& call, int64_t by) {
  Entry entry;
  if (!FindString(call, &entry)) return;
  int64_t value = 0;
  // What is too long for its key's record is too long for a number.
  if (entry && !GetInteger(call, entry.id == 0 ? entry.bytes : "too long", &value)) return;
  if (__builtin_add_overflow(value, by, &value)) {
    return call.reply.Error("ERR increment or decrement would overflow");
  }
  std::array<char, 24> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), value).ptr;
  WriteString(call.keys, call.args[1], std::string_view(digits.data(), end - digits.data()), entry.expire_ms);
  call.reply.Integer(value);
}

void Incr(Call& call) { Increment(call, 1); }
void Decr(Call& call) { Increment(call, -1); }

void IncrBy(Call& call) {
  int64_t by = 0;
  if (GetInteger(call, call.args[2], &by)) Increment(call, by);
}

void DecrBy(Call& call) {
  int64_t by = 0;
  if (!GetInteger(call, call.args[2], &by)) return;
  if (by == std::numeric_limits<int64_t>::min()) return call.reply.Error("ERR decrement would overflow");
  Increment(call, -by);
}

void IncrByFloat(Call& call) {
  constexpr uint64_t kLongestFloat = 5 << 10;  // what FormatFloat makes of the largest is shorter
  Entry entry;
  if (!FindString(call, &entry)) return;
  std::optional<long double> value = 0.0L;
  if (entry.count >= kLongestFloat)
    value = std::nullopt;
  else if (entry)
    value = ParseFloat(ReadString(call.keys, entry));
  const auto by = ParseFloat(call.args[2]);
  if (!value || !by) return call.reply.Error(kNotAFloat);
  const long double sum = *value + *by;
  if (!std::isfinite(sum)) return call.reply.Error("ERR increment would produce NaN or Infinity");
  const std::string text = FormatFloat(sum);
  WriteString(call.keys, call.args[1], text, entry.expire_ms);
  call.reply.Bulk(text);
}

// --- The table -----------------------------------------------------------------------------------

constexpr uint32_t kRead = kReadonly | kFast;
constexpr uint32_t kChange = kWrite | kDenyOom;

constexpr Command Row(std::string_view name, int arity, uint32_t flags, void (*run)(Call&),
                      std::string_view since, std::string_view complexity, std::string_view summary) {
  return {.name = name,
          .arity = arity,
          .flags = flags,
          .first_key = 1,
          .last_key = 1,
          .key_step = 1,
          .run = run,
          .group = "string",
          .since = since,
          .complexity = complexity,
          .summary = summary};
}

// All arguments are keys, or keys and values.
constexpr Command Many(Command row, int key_step) {
  row.last_key = -1;
  row.key_step = key_step;
  return row;
}

constexpr std::string_view kPerKey = "O(N), N the number of keys";
constexpr std::string_view kPerByte = "O(N), N the number of bytes read or written";

constexpr Command kCommands[] = {
    Row("append", 3, kChange | kFast, Append, "2.0.0", "O(1), amortized", "Append to a string"),
    Row("decr", 2, kChange | kFast, Decr, "1.0.0", "O(1)", "Subtract one from a number"),
    Row("decrby", 3, kChange | kFast, DecrBy, "1.0.0", "O(1)", "Subtract an integer from a number"),
    Row("get", 2, kRead, Get, "1.0.0", "O(1)", "Read a string"),
    Row("getdel", 2, kWrite | kFast, GetDel, "6.2.0", "O(1)", "Read a string and delete its key"),
    Row("getex", -2, kWrite | kFast, GetEx, "6.2.0", "O(1)", "Read a string and change when it expires"),
    Row("getrange", 4, kReadonly, GetRange, "2.4.0", kPerByte, "Read a part of a string"),
    Row("getset", 3, kChange | kFast, GetSet, "1.0.0", "O(1)", "Read a string and write another"),
    Row("incr", 2, kChange | kFast, Incr, "1.0.0", "O(1)", "Add one to a number"),
    Row("incrby", 3, kChange | kFast, IncrBy, "1.0.0", "O(1)", "Add an integer to a number"),
    Row("incrbyfloat", 3, kChange | kFast, IncrByFloat, "2.6.0", "O(1)", "Add a decimal number to a number"),
    Many(Row("mget", -2, kRead, MGet, "1.0.0", kPerKey, "Read several strings"), 1),
    Many(Row("mset", -3, kChange, MSet, "1.0.1", kPerKey, "Write several strings"), 2),
    Many(Row("msetnx", -3, kChange, MSetNx, "1.0.1", kPerKey, "Write several strings if no key exists"), 2),
    Row("psetex", 4, kChange, PSetEx, "2.6.0", "O(1)", "Write a string that expires, in milliseconds"),
    Row("set", -3, kChange, Set, "1.0.0", "O(1)", "Write a string"),
    Row("setex", 4, kChange, SetEx, "2.0.0", "O(1)", "Write a string that expires, in seconds"),
    Row("setnx", 3, kChange | kFast, SetNx, "1.0.0", "O(1)", "Write a string if the key does not exist"),
    Row("setrange", 4, kChange, SetRange, "2.2.0", kPerByte, "Overwrite a part of a string"),
    Row("strlen", 2, kRead, StrLen, "2.2.0", "O(1)", "The length of a string"),
    Row("substr", 4, kReadonly, GetRange, "1.0.0", kPerByte, "Read a part of a string; GETRANGE's old name"),
};

}  // namespace

absl::Span<const Command> StringCommands() { return kCommands; }

}  // namespace kvstore
