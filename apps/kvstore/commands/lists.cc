// Lists: LPUSH, LRANGE, ...
#include <algorithm>
#include <optional>
#include <string>

#include "apps/kvstore/commands/collections.h"
#include "apps/kvstore/commands/command.h"
#include "apps/kvstore/resp/number.h"
#include "apps/kvstore/store/list.h"

namespace kvstore {
namespace {

enum class End { kFront, kBack };

bool FindList(Call& call, Entry* entry) { return FindTyped(call, call.args[1], Type::kList, entry); }

List ListOf(Call& call, const Entry& entry) { return List(call.keys, call.args[1], entry); }

void Push(Call& call, End end, bool only_existing) {
  Entry entry;
  if (!FindList(call, &entry)) return;
  if (!entry && only_existing) return call.reply.Integer(0);
  List list = ListOf(call, entry);
  for (std::string_view value : call.args.subspan(2)) {
    if (end == End::kFront) {
      list.PushFront(value);
    } else {
      list.PushBack(value);
    }
  }
  call.reply.Integer(static_cast<int64_t>(list.size()));
}

void LPush(Call& call) { Push(call, End::kFront, false); }
void RPush(Call& call) { Push(call, End::kBack, false); }
void LPushX(Call& call) { Push(call, End::kFront, true); }
void RPushX(Call& call) { Push(call, End::kBack, true); }

// With a count. REQUIRES: 0 < count <= entry.count.
void PopMany(Call& call, End end, const Entry& entry, uint64_t count) {
  List list = ListOf(call, entry);
  call.reply.Array(count);
  if (end == End::kFront) {
    list.ForRange(0, count - 1, [&](std::string_view value) { call.reply.Bulk(value); });
  } else {
    for (uint64_t i = 1; i <= count; ++i) call.reply.Bulk(list.At(entry.count - i));
  }
  if (count == entry.count) {
    call.keys.Remove(call.args[1]);
  } else if (end == End::kFront) {
    list.Trim(count, entry.count - 1);
  } else {
    list.Trim(0, entry.count - count - 1);
  }
}

void Pop(Call& call, End end) {
  if (call.args.size() > 3) return WrongArity(call);
  const bool with_count = call.args.size() == 3;
  std::optional<int64_t> count = 1;
  if (with_count) {
    count = ParseInteger(call.args[2]);
    if (!count || *count < 0) return call.reply.Error("ERR value is out of range, must be positive");
  }
  Entry entry;
  if (!FindList(call, &entry)) return;
  if (with_count) {
    if (!entry) return call.reply.NullArray();
    if (*count == 0) return call.reply.Array(0);
    return PopMany(call, end, entry, std::min<uint64_t>(*count, entry.count));
  }
  if (!entry) return call.reply.Null();
  List list = ListOf(call, entry);
  const auto value = end == End::kFront ? list.PopFront() : list.PopBack();
  value ? call.reply.Bulk(*value) : call.reply.Null();
}

void LPop(Call& call) { Pop(call, End::kFront); }
void RPop(Call& call) { Pop(call, End::kBack); }

void LLen(Call& call) { ReplyCount(call, Type::kList); }

// -1 is the last element, -2 the one before. nullopt: outside.
std::optional<uint64_t> Position(int64_t index, uint64_t size) {
  if (index < 0) index += static_cast<int64_t>(size);
  if (index < 0 || static_cast<uint64_t>(index) >= size) return std::nullopt;
  return index;
}

void LIndex(Call& call) {
  Entry entry;
  if (!FindList(call, &entry)) return;
  if (!entry) return call.reply.Null();
  int64_t index = 0;
  if (!GetInteger(call, call.args[2], &index)) return;
  const auto position = Position(index, entry.count);
  if (!position) return call.reply.Null();
  call.reply.Bulk(ListOf(call, entry).At(*position));
}

void LSet(Call& call) {
  Entry entry;
  if (!FindList(call, &entry)) return;
  if (!entry) return call.reply.Error(kNoSuchKey);
  int64_t index = 0;
  if (!GetInteger(call, call.args[2], &index)) return;
  const auto position = Position(index, entry.count);
  if (!position) return call.reply.Error(kIndexOutOfRange);
  ListOf(call, entry).Set(*position, call.args[3]);
  call.reply.Ok();
}

// The elements from `first` to `last`, inclusive, cut to those that there are.
struct Range {
  uint64_t first, last;
};
std::optional<Range> CutRange(int64_t first, int64_t last, uint64_t size) {
  const auto length = static_cast<int64_t>(size);
  if (first < 0) first = std::max<int64_t>(first + length, 0);
  if (last < 0) last += length;  // before the first: less than any `first`
  last = std::min(last, length - 1);
  if (first > last) return std::nullopt;
  return Range{static_cast<uint64_t>(first), static_cast<uint64_t>(last)};
}

void LRange(Call& call) {
  int64_t first = 0, last = 0;
  Entry entry;
  if (!GetInteger(call, call.args[2], &first) || !GetInteger(call, call.args[3], &last)) return;
  if (!FindList(call, &entry)) return;
  const auto range = CutRange(first, last, entry.count);
  if (!range) return call.reply.Array(0);
  call.reply.Array(range->last - range->first + 1);
  ListOf(call, entry).ForRange(range->first, range->last, [&](std::string_view value) {
    call.reply.Bulk(value);
  });
}

void LTrim(Call& call) {
  int64_t first = 0, last = 0;
  Entry entry;
  if (!GetInteger(call, call.args[2], &first) || !GetInteger(call, call.args[3], &last)) return;
  if (!FindList(call, &entry)) return;
  if (entry) {
    if (const auto range = CutRange(first, last, entry.count)) {
      ListOf(call, entry).Trim(range->first, range->last);
      call.keys.Touched(call.args[1]);  // for Redis it has changed even when nothing was cut off
    } else {
      call.keys.Remove(call.args[1]);
    }
  }
  call.reply.Ok();
}

void LRem(Call& call) {
  int64_t count = 0;
  Entry entry;
  if (!GetInteger(call, call.args[2], &count) || !FindList(call, &entry)) return;
  if (!entry) return call.reply.Integer(0);
  const uint64_t limit = count < 0 ? -static_cast<uint64_t>(count) : count;
  call.reply.Integer(
      static_cast<int64_t>(ListOf(call, entry).Remove(call.args[3], limit, /*from_back=*/count < 0)));
}

// Where the first element equal to `value` is. Block by block, each larger than the one before: a hit near
// the front costs little, one far behind costs about one walk.
std::optional<uint64_t> IndexOf(List& list, std::string_view value) {
  constexpr uint64_t kLargestBlock = 4096;
  uint64_t block = 16;
  for (uint64_t first = 0; first < list.size(); first += block, block = std::min(2 * block, kLargestBlock)) {
    std::optional<uint64_t> found;
    uint64_t index = first;
    list.ForRange(first, std::min(first + block, list.size()) - 1, [&](std::string_view element) {
      if (!found && element == value) found = index;
      ++index;
    });
    if (found) return found;
  }
  return std::nullopt;
}

void LInsert(Call& call) {
  const bool after = Is(call.args[2], "after");
  if (!after && !Is(call.args[2], "before")) return call.reply.Error(kSyntaxError);
  Entry entry;
  if (!FindList(call, &entry)) return;
  if (!entry) return call.reply.Integer(0);
  List list = ListOf(call, entry);
  const auto pivot = IndexOf(list, call.args[3]);
  if (!pivot) return call.reply.Integer(-1);
  list.Insert(after ? *pivot + 1 : *pivot, call.args[4]);
  call.reply.Integer(static_cast<int64_t>(list.size()));
}

constexpr Command Row(std::string_view name, int arity, uint32_t flags, void (*run)(Call&),
                      std::string_view since, std::string_view complexity, std::string_view summary) {
  return KeyCommand("list", name, arity, flags, run, since, complexity, summary);
}

constexpr uint32_t kGrows = kWrite | kDenyOom;

constexpr Command kCommands[] = {
    Row("lindex", 3, kReadonly, LIndex, "1.0.0", "O(1)", "The element at an index"),
    Row("linsert", 5, kGrows, LInsert, "2.2.0", "O(N) for a list of N elements",
        "Inserts an element before or after another"),
    Row("llen", 2, kReadonly | kFast, LLen, "1.0.0", "O(1)", "How many elements there are"),
    Row("lpop", -2, kWrite | kFast, LPop, "1.0.0", "O(N) for N elements", "Takes elements from the front"),
    Row("lpush", -3, kGrows | kFast, LPush, "1.0.0", "O(N) for N elements", "Puts elements before the first"),
    Row("lpushx", -3, kGrows | kFast, LPushX, "2.2.0", "O(N) for N elements",
        "Puts elements before the first of a list that is there"),
    Row("lrange", 4, kReadonly, LRange, "1.0.0", "O(N) for N elements", "Some elements in their order"),
    Row("lrem", 4, kWrite, LRem, "1.0.0", "O(N) for a list of N elements", "Removes elements by their value"),
    Row("lset", 4, kGrows, LSet, "1.0.0", "O(1)", "Replaces the element at an index"),
    Row("ltrim", 4, kWrite, LTrim, "1.0.0", "O(N) for N elements cut off", "Keeps a part, cuts off the rest"),
    Row("rpop", -2, kWrite | kFast, RPop, "1.0.0", "O(N) for N elements", "Takes elements from the back"),
    Row("rpush", -3, kGrows | kFast, RPush, "1.0.0", "O(N) for N elements", "Puts elements behind the last"),
    Row("rpushx", -3, kGrows | kFast, RPushX, "2.2.0", "O(N) for N elements",
        "Puts elements behind the last of a list that is there"),
};

}  // namespace

absl::Span<const Command> ListCommands() { return kCommands; }

}  // namespace kvstore
