// Sorted sets: members and their scores. ZADD, ZSCORE, ZPOPMIN, ... Ranges are in
// sorted_set_ranges.cc, what is made of several in sorted_set_algebra.cc.
#include "apps/kvstore/commands/sorted_sets.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "apps/kvstore/commands/collections.h"
#include "apps/kvstore/commands/picks.h"
#include "apps/kvstore/resp/number.h"

namespace kvstore {

std::optional<SortedSet> FindSortedSet(Call& call, std::string_view key) {
  Entry entry;
  if (!FindTyped(call, key, Type::kZSet, &entry)) return std::nullopt;
  return SortedSet(call.keys, key, entry);
}

bool GetScore(Call& call, std::string_view text, double* score, std::string_view error) {
  const auto parsed = ParseDouble(text);
  if (!parsed) {
    call.reply.Error(error);
    return false;
  }
  *score = *parsed;
  return true;
}

// So many members follow, by ReplyMember.
static void ReplyMembersHeader(Call& call, uint64_t members, Scores scores) {
  const bool flat = scores == Scores::kYes && call.reply.protocol() != 3;
  call.reply.Array(flat ? 2 * members : members);
}

static void ReplyMember(Call& call, const ScoredMember& member, Scores scores) {
  if (scores == Scores::kYes && call.reply.protocol() == 3) call.reply.Array(2);
  call.reply.Bulk(member.member);
  if (scores == Scores::kYes) call.reply.Double(member.score);
}

void ReplyMembers(Call& call, const std::vector<ScoredMember>& members, Scores scores) {
  ReplyMembersHeader(call, members.size(), scores);
  for (const ScoredMember& each : members) {
    if (call.reply.full()) return;
    ReplyMember(call, each, scores);
  }
}

void StoreMembers(Call& call, std::string_view key, const std::vector<ScoredMember>& members) {
  call.keys.Remove(key);
  SortedSet set(call.keys, key, Entry{});
  for (const ScoredMember& each : members) set.Insert(each.member, each.score);
  call.reply.Integer(static_cast<int64_t>(members.size()));
}

namespace {

// --- ZADD, ZINCRBY -------------------------------------------------------------------------------

constexpr std::string_view kNan = "ERR resulting score is not a number (NaN)";

struct AddOptions {
  bool nx = false, xx = false, gt = false, lt = false, ch = false, incr = false;
};

// Takes the options at args[*at] and behind; *at is the first that is none.
void TakeAddOptions(Call& call, size_t* at, AddOptions* options) {
  for (; *at < call.args.size(); ++*at) {
    const std::string_view word = call.args[*at];
    if (Is(word, "nx"))
      options->nx = true;
    else if (Is(word, "xx"))
      options->xx = true;
    else if (Is(word, "gt"))
      options->gt = true;
    else if (Is(word, "lt"))
      options->lt = true;
    else if (Is(word, "ch"))
      options->ch = true;
    else if (Is(word, "incr"))
      options->incr = true;
    else
      return;
  }
}

// What is wrong with them; empty: nothing. `arguments`: of scores and members.
std::string_view FaultOf(const AddOptions& options, size_t arguments) {
  if (arguments == 0 || arguments % 2 != 0) return kSyntaxError;
  if (options.nx && options.xx) return "ERR XX and NX options at the same time are not compatible";
  if ((options.gt && options.nx) || (options.lt && options.nx) || (options.gt && options.lt)) {
    return "ERR GT, LT, and/or NX options at the same time are not compatible";
  }
  if (options.incr && arguments > 2) return "ERR INCR option supports a single increment-element pair";
  return "";
}

enum class Added { kNotANumber, kNothing, kSame, kUpdated, kNew };

// *score: what is added, with INCR; then what the member has, unless it was nothing.
Added AddOne(SortedSet& set, const AddOptions& options, std::string_view member, double* score) {
  const auto old = set.Score(member);
  if (!old) {
    if (options.xx) return Added::kNothing;
    set.Insert(member, *score);
    return Added::kNew;
  }
  if (options.nx) return Added::kNothing;
  if (options.incr) *score += *old;
  if (std::isnan(*score)) return Added::kNotANumber;
  if ((options.lt && *score >= *old) || (options.gt && *score <= *old)) return Added::kNothing;
  if (*score == *old) return Added::kSame;
  set.Insert(member, *score);
  return Added::kUpdated;
}

void Add(Call& call, AddOptions options) {
  size_t first = 2;
  TakeAddOptions(call, &first, &options);
  const Arguments pairs = call.args.subspan(first);
  if (const std::string_view fault = FaultOf(options, pairs.size()); !fault.empty())
    return call.reply.Error(fault);
  std::vector<double> scores(pairs.size() / 2);
  for (size_t i = 0; i < scores.size(); ++i) {
    if (!GetScore(call, pairs[2 * i], &scores[i])) return;
  }
  auto set = FindSortedSet(call, call.args[1]);
  if (!set) return;
  int64_t added = 0, updated = 0;
  Added last = Added::kNothing;
  for (size_t i = 0; i < scores.size(); ++i) {
    last = AddOne(*set, options, pairs[2 * i + 1], &scores[i]);
    if (last == Added::kNotANumber) return call.reply.Error(kNan);
    added += last == Added::kNew;
    updated += last == Added::kUpdated;
  }
  if (!options.incr) return call.reply.Integer(options.ch ? added + updated : added);
  last == Added::kNothing ? call.reply.Null() : call.reply.Double(scores.back());
}

void ZAdd(Call& call) { Add(call, {}); }
void ZIncrBy(Call& call) { Add(call, {.incr = true}); }

// --- One member, or all --------------------------------------------------------------------------

void ZRem(Call& call) {
  auto set = FindSortedSet(call, call.args[1]);
  if (!set) return;
  int64_t removed = 0;
  for (const std::string_view member : call.args.subspan(2)) removed += set->Erase(member);
  call.reply.Integer(removed);
}

void ZCard(Call& call) { ReplyCount(call, Type::kZSet); }
void ZScan(Call& call) { ScanElements(call, Type::kZSet); }

void ReplyScore(Call& call, std::optional<double> score) {
  score ? call.reply.Double(*score) : call.reply.Null();
}

void ZScore(Call& call) {
  auto set = FindSortedSet(call, call.args[1]);
  if (set) ReplyScore(call, set->Score(call.args[2]));
}

void ZMScore(Call& call) {
  auto set = FindSortedSet(call, call.args[1]);
  if (!set) return;
  call.reply.Array(call.args.size() - 2);
  for (const std::string_view member : call.args.subspan(2)) ReplyScore(call, set->Score(member));
}

void Rank(Call& call, bool reverse) {
  auto set = FindSortedSet(call, call.args[1]);
  if (!set) return;
  const auto score = set->Score(call.args[2]);
  if (!score) return call.reply.Null();
  const uint64_t rank = set->CountBefore(SortedSet::Place::At(*score, call.args[2]));
  call.reply.Integer(static_cast<int64_t>(reverse ? set->size() - 1 - rank : rank));
}

void ZRank(Call& call) { Rank(call, /*reverse=*/false); }
void ZRevRank(Call& call) { Rank(call, /*reverse=*/true); }

// --- Taking away the lowest, the highest ---------------------------------------------------------

void Pop(Call& call, bool highest) {
  if (call.args.size() > 3) return call.reply.Error(kSyntaxError);
  const bool with_count = call.args.size() == 3;
  std::optional<int64_t> count = 1;
  if (with_count) {
    count = ParseInteger(call.args[2]);
    if (!count || *count < 0) return call.reply.Error("ERR value is out of range, must be positive");
  }
  auto set = FindSortedSet(call, call.args[1]);
  if (!set) return;
  const uint64_t popped = std::min<uint64_t>(*count, set->size());
  std::vector<ScoredMember> members;
  if (popped > 0) {
    members = highest ? set->ByRank(set->size() - popped, set->size() - 1) : set->ByRank(0, popped - 1);
  }
  if (highest) std::reverse(members.begin(), members.end());
  for (const ScoredMember& each : members) set->Erase(each.member);
  // RESP3's pairs only for who has asked for a number of them.
  if (with_count || members.empty()) return ReplyMembers(call, members, Scores::kYes);
  call.reply.Array(2);
  call.reply.Bulk(members[0].member);
  call.reply.Double(members[0].score);
}

void ZPopMin(Call& call) { Pop(call, /*highest=*/false); }
void ZPopMax(Call& call) { Pop(call, /*highest=*/true); }

// --- ZRANDMEMBER ---------------------------------------------------------------------------------

// As picks.h sees a sorted set.
struct Source {
  using Member = ScoredMember;
  SortedSet& set;

  uint64_t size() const { return set.size(); }
  ScoredMember Pick(Call& call) {
    std::string member = set.Random(call.Random());
    const double score = set.Score(member).value_or(0);
    return {std::move(member), score};
  }
  std::vector<ScoredMember> All(Call&) { return set.ByRank(0, size() - 1); }
  static std::string_view NameOf(const ScoredMember& member) { return member.member; }
  template <typename Visit>
  void Walk(Visit visit) {
    set.ForRange(SortedSet::Place::Start(), SortedSet::Place::End(), /*backwards=*/false,
                 [&](std::string_view member, double score) {
                   return visit([&] { return ScoredMember{std::string(member), score}; });
                 });
  }
};

// The count, and WITHSCORES. False: the error is written.
bool GetPickOptions(Call& call, int64_t* count, Scores* scores) {
  constexpr int64_t kMaxCount = std::numeric_limits<int64_t>::max();
  const auto error = [&](std::string_view text) {
    call.reply.Error(text);
    return false;
  };
  if (!GetInteger(call, call.args[2], count)) return false;
  if (*count < -kMaxCount) return error(NotBetween(-kMaxCount, kMaxCount));
  if (call.args.size() == 3) return true;
  if (call.args.size() > 4 || !Is(call.args[3], "withscores")) return error(kSyntaxError);
  *scores = Scores::kYes;
  return *count >= -kMaxCount / 2 && *count <= kMaxCount / 2 ? true : error("ERR value is out of range");
}

void ZRandMember(Call& call) {
  const bool with_count = call.args.size() > 2;
  int64_t count = 1;
  Scores scores = Scores::kNo;
  if (with_count && !GetPickOptions(call, &count, &scores)) return;
  auto set = FindSortedSet(call, call.args[1]);
  if (!set) return;
  if (!with_count) return set->size() == 0 ? call.reply.Null() : call.reply.Bulk(set->Random(call.Random()));
  if (set->size() == 0 || count == 0) return call.reply.Array(0);
  if (count < -kMaxPicks) {
    return call.reply.Error(NotBetween(-kMaxPicks, std::numeric_limits<int64_t>::max()));
  }
  Source source{*set};
  if (count < 0) {
    ReplyMembersHeader(call, static_cast<uint64_t>(-count), scores);
    return PickRepeatedly(call, source, -count,
                          [&](const ScoredMember& each) { ReplyMember(call, each, scores); });
  }
  ReplyMembers(call, Choose(call, source, std::min<uint64_t>(count, source.size())), scores);
}

// --- The table -----------------------------------------------------------------------------------

constexpr uint32_t kGrows = kWrite | kDenyOom | kFast;
constexpr std::string_view kLogEach = "O(N*log(M)) for N members named, M in the set";

constexpr Command kCommands[] = {
    SortedSetCommand("zadd", -4, kGrows, ZAdd, "1.2.0", kLogEach, "Adds members, or changes their scores"),
    SortedSetCommand("zcard", 2, kReadonly | kFast, ZCard, "1.2.0", "O(1)", "How many members there are"),
    SortedSetCommand("zincrby", 4, kGrows, ZIncrBy, "1.2.0", "O(log(N))", "Adds to a member's score"),
    SortedSetCommand("zmscore", -3, kReadonly | kFast, ZMScore, "6.2.0", "O(N) for N members",
                     "Scores of members"),
    SortedSetCommand("zpopmax", -2, kWrite | kFast, ZPopMax, "5.0.0", kLogEach,
                     "Takes those of the highest scores away"),
    SortedSetCommand("zpopmin", -2, kWrite | kFast, ZPopMin, "5.0.0", kLogEach,
                     "Takes those of the lowest scores away"),
    SortedSetCommand("zrandmember", -2, kReadonly, ZRandMember, "6.2.0", "O(N) for N members",
                     "Members at random"),
    SortedSetCommand("zrank", 3, kReadonly | kFast, ZRank, "2.0.0", "O(N), N to the nearer end",
                     "How many members come before this one"),
    SortedSetCommand("zrem", -3, kWrite | kFast, ZRem, "1.2.0", kLogEach, "Removes members"),
    SortedSetCommand("zrevrank", 3, kReadonly | kFast, ZRevRank, "2.0.0", "O(N), N to the nearer end",
                     "How many members come behind this one"),
    SortedSetCommand("zscan", -3, kReadonly, ZScan, "2.8.0", "O(N) for N members visited",
                     "A step of a walk"),
    SortedSetCommand("zscore", 3, kReadonly | kFast, ZScore, "1.2.0", "O(1)", "A member's score"),
};

}  // namespace

absl::Span<const Command> SortedSetCommands() { return kCommands; }

}  // namespace kvstore
