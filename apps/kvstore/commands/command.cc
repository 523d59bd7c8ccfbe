#include "apps/kvstore/commands/command.h"

#include <cctype>

#include <algorithm>
#include <limits>
#include <string>

#include "apps/kvstore/commands/dispatcher.h"
#include "apps/kvstore/resp/number.h"
#include "apps/kvstore/store/string_value.h"

namespace kvstore {

bool Is(std::string_view word, std::string_view lower) {
  return word.size() == lower.size() &&
         std::equal(word.begin(), word.end(), lower.begin(), [](char have, char want) {
           return have == want || (have >= 'A' && have <= 'Z' && have - 'A' + 'a' == want);
         });
}

bool GetInteger(Call& call, std::string_view text, int64_t* value) {
  const auto parsed = ParseInteger(text);
  if (!parsed) {
    call.reply.Error(kNotAnInteger);
    return false;
  }
  *value = *parsed;
  return true;
}

bool GetDatabase(Call& call, std::string_view text) {
  int64_t index = 0;
  if (!GetInteger(call, text, &index)) return false;
  if (index == 0) return true;
  const bool is_int =
      index >= std::numeric_limits<int32_t>::min() && index <= std::numeric_limits<int32_t>::max();
  call.reply.Error(is_int ? "ERR DB index is out of range"
                          : "ERR value is out of range, value must between -2147483648 and 2147483647");
  return false;
}

bool FindTyped(Call& call, std::string_view key, Type type, Entry* entry) {
  *entry = call.keys.Find(key);
  if (!*entry || entry->type == type) return true;
  call.reply.Error(kWrongType);
  return false;
}

static std::string InQuotes(std::string_view before, std::string_view name, std::string_view behind) {
  std::string text(before);
  text.append("'").append(name).append("'").append(behind);
  return text;
}

void WrongArity(Call& call) {
  call.reply.Error(InQuotes("ERR wrong number of arguments for ", FullName(call.command), " command"));
}

void ReplyString(Call& call, const Entry& entry) {
  if (entry.id == 0) return call.reply.Bulk(entry.bytes);  // copied once, from the record
  // A long one chunk by chunk: in the whole it would be copied twice.
  call.reply.Raw("$");
  call.reply.Raw(std::to_string(entry.count));
  call.reply.Raw("\r\n");
  std::string chunk;
  for (uint64_t at = 0; at < entry.count && !call.reply.full(); at += kStringChunk) {
    chunk.clear();
    ReadString(call.keys, entry, at, std::min<uint64_t>(kStringChunk, entry.count - at), &chunk);
    call.reply.Raw(chunk);
  }
  call.reply.Raw("\r\n");
}

bool GetTime(Call& call, std::string_view text, TimeForm form, int64_t* time_ms) {
  using Limits = std::numeric_limits<int64_t>;
  int64_t time = 0;
  if (!GetInteger(call, text, &time)) return false;
  const int64_t unit = form.milliseconds ? 1 : 1000;
  const int64_t from = form.absolute ? 0 : call.now_ms();
  if ((form.positive && time <= 0) || time < Limits::min() / unit || time > Limits::max() / unit ||
      time * unit > Limits::max() - from) {
    call.reply.Error(InQuotes("ERR invalid expire time in ", FullName(call.command), " command"));
    return false;
  }
  *time_ms = from + time * unit;
  return true;
}

bool GetScanOptions(Call& call, size_t index, bool with_type, ScanOptions* options) {
  const auto error = [&](std::string_view text) {
    call.reply.Error(text);
    return false;
  };
  const auto cursor = ParseCursor(call.args[index]);
  if (!cursor) return error("ERR invalid cursor");
  options->cursor = *cursor;
  for (size_t i = index + 1; i < call.args.size(); i += 2) {
    const std::string_view option = call.args[i];
    if (i + 1 == call.args.size()) return error(kSyntaxError);
    const std::string_view value = call.args[i + 1];
    if (Is(option, "count")) {
      int64_t count = 0;
      if (!GetInteger(call, value, &count)) return false;
      if (count < 1) return error(kSyntaxError);
      options->count = static_cast<uint64_t>(count);
    } else if (Is(option, "match")) {
      options->match = value;
    } else if (with_type && Is(option, "type")) {
      options->type = value;
    } else {
      return error(kSyntaxError);
    }
  }
  return true;
}

void ReplyHelp(Call& call, std::initializer_list<std::string_view> lines) {
  std::string first(call.args[0]);
  for (char& c : first) c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  first += " <subcommand> [<arg> [value] [opt] ...]. Subcommands are:";
  call.reply.Array(lines.size() + 3);
  call.reply.Simple(first);
  for (const std::string_view line : lines) call.reply.Simple(line);
  call.reply.Simple("HELP");
  call.reply.Simple("    Prints this help.");
}

}  // namespace kvstore
