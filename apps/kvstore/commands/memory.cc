// MEMORY USAGE: what a key takes in the store, in bytes. What the process has in memory differs from node to
// node, so no client is told.
#include <algorithm>
#include <cstdint>

#include "apps/kvstore/commands/command.h"
#include "apps/kvstore/resp/number.h"
#include "apps/kvstore/store/elements.h"
#include "apps/kvstore/store/list.h"

namespace kvstore {
namespace {

// Of a record, besides what it holds: its key's prefix, numbers, LevelDB's own.
constexpr uint64_t kPerRecord = 32;
constexpr uint64_t kDefaultSamples = 5;  // elements, as Redis

// Mean of the first `samples` elements' bytes, times how many there are.
uint64_t BytesOfElements(Call& call, const Entry& entry, uint64_t samples) {
  uint64_t seen = 0, bytes = 0;
  const auto add = [&](std::string_view name, std::string_view value) {
    if (seen == samples) return;
    ++seen;
    bytes += kPerRecord + name.size() + value.size();
  };
  if (entry.type == Type::kList) {
    List(call.keys, call.args[2], entry)
        .ForRange(0, std::min(samples, entry.count) - 1, [&](std::string_view value) { add("", value); });
  } else {
    (void)Elements(call.keys, call.args[2], entry, entry.type).Scan(0, samples, add);
    // A member's second record has its score in the place of a value.
    if (entry.type == Type::kZSet) bytes *= 2;
  }
  if (seen == 0) return 0;  // the disk has failed
  return static_cast<uint64_t>(static_cast<unsigned __int128>(bytes) * entry.count / seen);
}

void Usage(Call& call) {
  uint64_t samples = kDefaultSamples;
  for (size_t i = 3; i < call.args.size(); ++i) {
    if (!Is(call.args[i], "samples") || i + 1 == call.args.size()) return call.reply.Error(kSyntaxError);
    int64_t asked = 0;
    if (!GetInteger(call, call.args[++i], &asked)) return;
    if (asked < 0) return call.reply.Error(kSyntaxError);
    samples = static_cast<uint64_t>(asked);
  }
  const Entry entry = call.keys.Find(call.args[2]);
  if (!entry) return call.reply.Null();
  const uint64_t own = kPerRecord + call.args[2].size();
  if (entry.type == Type::kString) return call.reply.Integer(static_cast<int64_t>(own + entry.count));
  if (samples == 0) samples = entry.count;  // all
  call.reply.Integer(static_cast<int64_t>(own + BytesOfElements(call, entry, samples)));
}

void Help(Call& call) {
  ReplyHelp(
      call,
      {"USAGE <key> [SAMPLES <count>]",
       "    The bytes that a key takes in the store; those of elements from so many of them (0: all)."});
}

constexpr Command kSubcommands[] = {
    {.name = "help",
     .arity = 2,
     .flags = kLoading | kStale,
     .run = Help,
     .group = "server",
     .since = "4.0.0",
     .complexity = "O(1)",
     .summary = "What MEMORY can do"},
    {.name = "usage",
     .arity = -3,
     .flags = kReadonly,
     .first_key = 2,
     .last_key = 2,
     .key_step = 1,
     .run = Usage,
     .group = "server",
     .since = "4.0.0",
     .complexity = "O(N), N the samples",
     .summary = "The bytes that a key takes"},
};

}  // namespace

absl::Span<const Command> MemorySubcommands() { return kSubcommands; }

}  // namespace kvstore
