// Sets: SADD, SINTER, SPOP, ...
#include <algorithm>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "apps/kvstore/commands/collections.h"
#include "apps/kvstore/commands/command.h"
#include "apps/kvstore/commands/picks.h"
#include "apps/kvstore/resp/number.h"
#include "apps/kvstore/store/elements.h"

namespace kvstore {
namespace {

bool FindSet(Call& call, Entry* entry) { return FindTyped(call, call.args[1], Type::kSet, entry); }

Elements SetOf(Call& call, const Entry& entry) {
  return Elements(call.keys, call.args[1], entry, Type::kSet);
}

void SAdd(Call& call) {
  Entry entry;
  if (!FindSet(call, &entry)) return;
  Elements set = SetOf(call, entry);
  int64_t added = 0;
  for (std::string_view member : call.args.subspan(2)) {
    if (set.Insert(member)) ++added;
  }
  call.reply.Integer(added);
}

void SRem(Call& call) { EraseElements(call, Type::kSet); }
void SIsMember(Call& call) { ReplyContains(call, Type::kSet); }
void SCard(Call& call) { ReplyCount(call, Type::kSet); }
void SScan(Call& call) { ScanElements(call, Type::kSet); }

void SMIsMember(Call& call) {
  Entry entry;
  if (!FindSet(call, &entry)) return;
  Elements set = SetOf(call, entry);
  call.reply.Array(call.args.size() - 2);
  for (std::string_view member : call.args.subspan(2)) call.reply.Integer(set.Contains(member));
}

void ReplyMembers(Call& call, Elements& set) {
  set.ForEach([&](std::string_view member, std::string_view) { call.reply.Bulk(member); });
}

void SMembers(Call& call) {
  Entry entry;
  if (!FindSet(call, &entry)) return;
  call.reply.Set(entry.count);
  Elements set = SetOf(call, entry);
  ReplyMembers(call, set);
}

// --- Several sets --------------------------------------------------------------------------------

// The sets at args[1], args[2], ...; one that does not exist is empty. nullopt: the error is written.
std::optional<std::vector<Elements>> FindSets(Call& call) {
  std::vector<Elements> sets;
  sets.reserve(call.args.size() - 1);
  for (std::string_view key : call.args.subspan(1)) {
    Entry entry;
    if (!FindTyped(call, key, Type::kSet, &entry)) return std::nullopt;
    sets.emplace_back(call.keys, key, entry, Type::kSet);
  }
  return sets;
}

// The smallest first.
std::vector<Elements*> BySize(std::vector<Elements>& sets) {
  std::vector<Elements*> by_size;
  for (Elements& set : sets) by_size.push_back(&set);
  std::stable_sort(by_size.begin(), by_size.end(),
                   [](const Elements* a, const Elements* b) { return a->size() < b->size(); });
  return by_size;
}

// Walks the smallest set and asks the others, small ones first: they are the likeliest to say no.
void SInter(Call& call) {
  auto sets = FindSets(call);
  if (!sets) return;
  const std::vector<Elements*> by_size = BySize(*sets);
  if (by_size[0]->size() == 0) return call.reply.Set(0);

  const size_t mark = call.reply.mark();
  size_t count = 0;
  by_size[0]->ForEach([&](std::string_view member, std::string_view) {
    for (size_t i = 1; i < by_size.size(); ++i) {
      if (!by_size[i]->Contains(member)) return;
    }
    call.reply.Bulk(member);
    ++count;
  });
  call.reply.InsertSet(mark, count);
}

// Only asked whether something is in it: its order is another one in each process.
using Seen = absl::flat_hash_set<std::string>;

bool Has(const Seen& seen, std::string_view member) {
  return seen.contains(absl::string_view(member.data(), member.size()));
}

void SUnion(Call& call) {
  auto sets = FindSets(call);
  if (!sets) return;
  const std::vector<Elements*> by_size = BySize(*sets);
  const size_t mark = call.reply.mark();
  size_t count = 0;
  Seen seen;
  for (Elements* set : by_size) {
    const bool last = set == by_size.back();  // the largest: need not be remembered
    set->ForEach([&](std::string_view member, std::string_view) {
      if (last ? Has(seen, member) : !seen.emplace(member).second) return;
      call.reply.Bulk(member);
      ++count;
    });
  }
  call.reply.InsertSet(mark, count);
}

void SDiff(Call& call) {
  auto sets = FindSets(call);
  if (!sets) return;
  Elements& first = sets->front();
  if (first.size() == 0) return call.reply.Set(0);
  uint64_t others = 0;
  for (size_t i = 1; i < sets->size(); ++i) others += (*sets)[i].size();

  // Small sets are read once, large ones are asked for each member of the first.
  const bool read_others = others <= first.size();
  Seen seen;
  for (size_t i = 1; read_others && i < sets->size(); ++i) {
    (*sets)[i].ForEach([&](std::string_view member, std::string_view) { seen.emplace(member); });
  }
  const auto in_others = [&](std::string_view member) {
    if (read_others) return Has(seen, member);
    return std::any_of(sets->begin() + 1, sets->end(), [&](Elements& set) { return set.Contains(member); });
  };
  const size_t mark = call.reply.mark();
  size_t count = 0;
  first.ForEach([&](std::string_view member, std::string_view) {
    if (in_others(member)) return;
    call.reply.Bulk(member);
    ++count;
  });
  call.reply.InsertSet(mark, count);
}

// --- Random members ------------------------------------------------------------------------------

// When less than this part of a set stays, moving that is cheaper than erasing the rest.
constexpr uint64_t kMoved = 4;
// As picks.h sees a set.
struct Source {
  using Member = std::string;
  Elements& set;

  uint64_t size() const { return set.size(); }
  std::string Pick(Call& call) { return set.Random(call.Random()); }
  std::vector<std::string> All(Call& call) { return Sample(call, *this, size()); }
  static std::string_view NameOf(const std::string& member) { return member; }
  template <typename Visit>
  void Walk(Visit visit) {
    set.ForEach(
        [&](std::string_view member, std::string_view) { visit([&] { return std::string(member); }); });
  }
};

// Takes all but `kept` members: these make a new set, in the place of the old one.
void PopAllBut(Call& call, const Entry& entry, uint64_t kept) {
  Elements set = SetOf(call, entry);
  call.reply.Set(set.size() - kept);
  std::vector<std::string> stay;
  uint64_t left = set.size();
  set.ForEach([&](std::string_view member, std::string_view) {
    if (Uniform(call, left--) < kept - stay.size()) {
      stay.emplace_back(member);
    } else {
      call.reply.Bulk(member);
    }
  });
  call.keys.Remove(call.args[1]);
  Elements fresh = SetOf(call, Entry{.expire_ms = entry.expire_ms});
  for (const std::string& member : stay) fresh.Insert(member);
}

// REQUIRES: a set that is there, 0 < count.
void PopMany(Call& call, const Entry& entry, uint64_t count) {
  const uint64_t kept = entry.count - std::min(count, entry.count);
  if (kept < entry.count / kMoved || kept == 0) return PopAllBut(call, entry, kept);
  Elements set = SetOf(call, entry);
  Source source{set};
  const std::vector<std::string> members = Choose(call, source, count);
  call.reply.Set(members.size());
  for (const std::string& member : members) {
    set.Erase(member);
    call.reply.Bulk(member);
  }
}

void SPop(Call& call) {
  if (call.args.size() > 3) return call.reply.Error(kSyntaxError);
  const bool with_count = call.args.size() == 3;
  std::optional<int64_t> count = 1;
  if (with_count) {
    count = ParseInteger(call.args[2]);
    if (!count || *count < 0) return call.reply.Error("ERR value is out of range, must be positive");
  }
  Entry entry;
  if (!FindSet(call, &entry)) return;
  if (!entry) return with_count ? call.reply.Set(0) : call.reply.Null();
  if (*count == 0) return call.reply.Set(0);
  if (with_count) return PopMany(call, entry, *count);
  Elements set = SetOf(call, entry);
  const std::string member = set.Random(call.Random());
  set.Erase(member);
  call.reply.Bulk(member);
}

void SRandMember(Call& call) {
  constexpr int64_t kMaxCount = std::numeric_limits<int64_t>::max();
  if (call.args.size() > 3) return call.reply.Error(kSyntaxError);
  const bool with_count = call.args.size() == 3;
  int64_t count = 1;
  if (with_count && !GetInteger(call, call.args[2], &count)) return;
  if (count < -kMaxCount) return call.reply.Error(NotBetween(-kMaxCount, kMaxCount));
  Entry entry;
  if (!FindSet(call, &entry)) return;
  if (!entry) return with_count ? call.reply.Array(0) : call.reply.Null();
  if (count == 0) return call.reply.Array(0);
  if (count < -kMaxPicks) return call.reply.Error(NotBetween(-kMaxPicks, kMaxCount));
  Elements set = SetOf(call, entry);
  if (!with_count) return call.reply.Bulk(set.Random(call.Random()));
  Source source{set};
  if (count < 0) {
    call.reply.Array(static_cast<size_t>(-count));
    return PickRepeatedly(call, source, -count, [&](const std::string& member) { call.reply.Bulk(member); });
  }
  if (static_cast<uint64_t>(count) >= set.size()) {
    call.reply.Array(set.size());
    return ReplyMembers(call, set);
  }
  const std::vector<std::string> members = Choose(call, source, count);
  call.reply.Array(members.size());
  for (const std::string& member : members) call.reply.Bulk(member);
}

constexpr Command Row(std::string_view name, int arity, uint32_t flags, void (*run)(Call&),
                      std::string_view since, std::string_view complexity, std::string_view summary) {
  return KeyCommand("set", name, arity, flags, run, since, complexity, summary);
}

// All its arguments are keys.
constexpr Command Several(Command command) {
  command.last_key = -1;
  return command;
}

constexpr Command kCommands[] = {
    Row("sadd", -3, kWrite | kDenyOom | kFast, SAdd, "1.0.0", "O(N) for N members", "Adds members"),
    Row("scard", 2, kReadonly | kFast, SCard, "1.0.0", "O(1)", "How many members there are"),
    Several(Row("sdiff", -2, kReadonly, SDiff, "1.0.0", "O(N) for N members in all sets",
                "The members of the first set that are in none of the others")),
    Several(Row("sinter", -2, kReadonly, SInter, "1.0.0", "O(N*M) for M sets, the smallest of N members",
                "The members that are in all sets")),
    Row("sismember", 3, kReadonly | kFast, SIsMember, "1.0.0", "O(1)", "Is it a member?"),
    Row("smembers", 2, kReadonly, SMembers, "1.0.0", "O(N) for a set of N members", "All members"),
    Row("smismember", -3, kReadonly | kFast, SMIsMember, "6.2.0", "O(N) for N members",
        "Which of these are members?"),
    Row("spop", -2, kWrite | kFast, SPop, "1.0.0", "O(N) for N members", "Takes members away at random"),
    Row("srandmember", -2, kReadonly, SRandMember, "1.0.0", "O(N) for N members", "Members at random"),
    Row("srem", -3, kWrite | kFast, SRem, "1.0.0", "O(N) for N members", "Removes members"),
    Row("sscan", -3, kReadonly, SScan, "2.8.0", "O(N) for N members visited", "A step of a walk"),
    Several(Row("sunion", -2, kReadonly, SUnion, "1.0.0", "O(N) for N members in all sets",
                "The members of all sets, each once")),
};

}  // namespace

absl::Span<const Command> SetCommands() { return kCommands; }

}  // namespace kvstore
