// Sorted sets: what is between two ranks, scores or members. ZRANGE and its kin, ZCOUNT,
// ZREMRANGEBYSCORE, ...
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apps/kvstore/commands/sorted_sets.h"

namespace kvstore {
namespace {

using Place = SortedSet::Place;
enum class By { kRank, kScore, kLex };

constexpr std::string_view kNotAScore = "ERR min or max is not a float";
constexpr std::string_view kNotALexItem = "ERR min or max not valid string range item";

// --- The ends of a range -------------------------------------------------------------------------

struct ScoreEnd {
  double score = 0;
  bool exclusive = false;
};

// "1.5", "(1.5", "-inf": as C's strtod reads it.
std::optional<ScoreEnd> ParseScoreEnd(std::string_view text) {
  ScoreEnd end;
  end.exclusive = text.starts_with('(');
  const std::string terminated(text.substr(end.exclusive ? 1 : 0));
  char* rest = nullptr;
  end.score = std::strtod(terminated.c_str(), &rest);
  if (*rest != '\0' || std::isnan(end.score)) return std::nullopt;
  return end;
}

// "[abc", "(abc", and the words "-" and "+" for before all and behind all.
struct LexEnd {
  enum class Where { kBeforeAll, kMember, kBehindAll } where = Where::kMember;
  std::string member;
  bool exclusive = false;
};

std::optional<LexEnd> ParseLexEnd(std::string_view text) {
  const std::string_view word = text.substr(0, text.find('\0'));  // as C sees it
  if (word == "-") return LexEnd{.where = LexEnd::Where::kBeforeAll, .member = "", .exclusive = true};
  if (word == "+") return LexEnd{.where = LexEnd::Where::kBehindAll, .member = "", .exclusive = true};
  if (!text.starts_with('[') && !text.starts_with('(')) return std::nullopt;
  return LexEnd{
      .where = LexEnd::Where::kMember, .member = std::string(text.substr(1)), .exclusive = text[0] == '('};
}

// Where members of this score begin that are not below the end; or, for the upper end, not within
// it.
Place LexPlace(const LexEnd& end, double score, bool upper) {
  switch (end.where) {
    case LexEnd::Where::kBeforeAll: return Place::Before(score);
    case LexEnd::Where::kBehindAll: return Place::Behind(score);
    case LexEnd::Where::kMember: break;
  }
  // The next string there is.
  return Place::At(score, end.exclusive != upper ? end.member + '\0' : end.member);
}

// A range as it is asked for, and what it is of a certain set.
struct Range {
  By by = By::kRank;
  int64_t first = 0, last = 0;  // ranks; negative: from the end
  ScoreEnd min, max;
  LexEnd low, high;
};

// False, and the error is written: these are no ends of such a range.
bool GetRange(Call& call, By by, std::string_view from, std::string_view to, Range* range) {
  range->by = by;
  switch (by) {
    case By::kRank: return GetInteger(call, from, &range->first) && GetInteger(call, to, &range->last);
    case By::kScore: {
      const auto min = ParseScoreEnd(from), max = ParseScoreEnd(to);
      if (min && max) {
        range->min = *min;
        range->max = *max;
        return true;
      }
      call.reply.Error(kNotAScore);
      return false;
    }
    case By::kLex: break;
  }
  const auto low = ParseLexEnd(from), high = ParseLexEnd(to);
  if (!low || !high) {
    call.reply.Error(kNotALexItem);
    return false;
  }
  range->low = *low;
  range->high = *high;
  return true;
}

// Ranks that there are. False: there are none.
bool RanksOf(const Range& range, uint64_t size, bool backwards, uint64_t* first, uint64_t* last) {
  const auto count = static_cast<int64_t>(size);
  int64_t from = range.first < 0 ? std::max<int64_t>(range.first + count, 0) : range.first;
  int64_t to = range.last < 0 ? range.last + count : range.last;
  if (from > to || from >= count) return false;
  to = std::min(to, count - 1);
  *first = static_cast<uint64_t>(backwards ? count - 1 - to : from);
  *last = static_cast<uint64_t>(backwards ? count - 1 - from : to);
  return true;
}

// From where to where a range of scores or members goes. By members makes sense only where all have
// one score: that of the first is taken (what Redis answers otherwise depends on its skip list).
std::pair<Place, Place> PlacesOf(SortedSet& set, const Range& range) {
  if (range.by == By::kScore) {
    return {range.min.exclusive ? Place::Behind(range.min.score) : Place::Before(range.min.score),
            range.max.exclusive ? Place::Before(range.max.score) : Place::Behind(range.max.score)};
  }
  if (set.size() == 0) return {Place::Start(), Place::Start()};
  const double score = set.ByRank(0, 0).front().score;
  return {LexPlace(range.low, score, /*upper=*/false), LexPlace(range.high, score, /*upper=*/true)};
}

struct Limit {
  int64_t offset = 0, count = -1;  // -1: all
};

// What is in the range, in order, or backwards.
std::vector<ScoredMember> MembersOf(SortedSet& set, const Range& range, bool backwards, Limit limit) {
  std::vector<ScoredMember> members;
  if (range.by == By::kRank) {
    uint64_t first = 0, last = 0;
    if (RanksOf(range, set.size(), backwards, &first, &last)) members = set.ByRank(first, last);
    if (backwards) std::reverse(members.begin(), members.end());
    return members;
  }
  if (limit.offset < 0 || limit.count == 0) return members;
  const auto [begin, end] = PlacesOf(set, range);
  set.ForRange(begin, end, backwards, [&](std::string_view member, double score) {
    if (limit.offset > 0) {
      --limit.offset;
      return true;
    }
    members.push_back({std::string(member), score});
    return --limit.count != 0;
  });
  return members;
}

// --- ZRANGE, ZRANGESTORE, ZREVRANGEBYSCORE, ... --------------------------------------------------

// Which of its words a command understands: ZRANGE all of them, of older ones the name says it.
struct RangeForm {
  size_t key_at = 1;
  std::optional<By> by = std::nullopt;
  std::optional<bool> backwards = std::nullopt;
  bool store = false;
};

struct RangeOptions {
  By by = By::kRank;
  bool backwards = false;
  bool with_scores = false;
  Limit limit;
};

// Whether this word alone is an option, here and now: what is decided cannot be said once more.
bool TakeWord(std::string_view word, const RangeForm& form, std::optional<By>* by, RangeOptions* options) {
  if (!form.store && Is(word, "withscores")) return options->with_scores = true;
  if (!form.backwards && !options->backwards && Is(word, "rev")) return options->backwards = true;
  if (*by) return false;
  if (Is(word, "bylex")) *by = By::kLex;
  if (Is(word, "byscore")) *by = By::kScore;
  return by->has_value();
}

// False: the error is written.
bool GetRangeOptions(Call& call, const RangeForm& form, RangeOptions* options) {
  std::optional<By> by = form.by;
  options->backwards = form.backwards.value_or(false);
  const auto error = [&](std::string_view text) {
    call.reply.Error(text);
    return false;
  };
  for (size_t i = form.key_at + 3; i < call.args.size(); ++i) {
    if (Is(call.args[i], "limit") && i + 2 < call.args.size()) {
      if (!GetInteger(call, call.args[i + 1], &options->limit.offset)) return false;
      if (!GetInteger(call, call.args[i + 2], &options->limit.count)) return false;
      i += 2;
    } else if (!TakeWord(call.args[i], form, &by, options)) {
      return error(kSyntaxError);
    }
  }
  options->by = by.value_or(By::kRank);
  if (options->limit.count != -1 && options->by == By::kRank) {
    return error("ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX");
  }
  if (options->with_scores && options->by == By::kLex) {
    return error("ERR syntax error, WITHSCORES not supported in combination with BYLEX");
  }
  return true;
}

void RunRange(Call& call, const RangeForm& form) {
  RangeOptions options;
  if (!GetRangeOptions(call, form, &options)) return;
  std::string_view from = call.args[form.key_at + 1], to = call.args[form.key_at + 2];
  if (options.backwards && options.by != By::kRank) std::swap(from, to);  // the upper end comes first
  Range range;
  if (!GetRange(call, options.by, from, to, &range)) return;
  auto set = FindSortedSet(call, call.args[form.key_at]);
  if (!set) return;
  const std::vector<ScoredMember> members = MembersOf(*set, range, options.backwards, options.limit);
  if (form.store) return StoreMembers(call, call.args[1], members);
  ReplyMembers(call, members, options.with_scores ? Scores::kYes : Scores::kNo);
}

void ZRange(Call& call) { RunRange(call, {}); }
void ZRangeStore(Call& call) { RunRange(call, {.key_at = 2, .store = true}); }
void ZRevRange(Call& call) { RunRange(call, {.by = By::kRank, .backwards = true}); }
void ZRangeByScore(Call& call) { RunRange(call, {.by = By::kScore, .backwards = false}); }
void ZRevRangeByScore(Call& call) { RunRange(call, {.by = By::kScore, .backwards = true}); }
void ZRangeByLex(Call& call) { RunRange(call, {.by = By::kLex, .backwards = false}); }
void ZRevRangeByLex(Call& call) { RunRange(call, {.by = By::kLex, .backwards = true}); }

// --- ZCOUNT, ZREMRANGEBYSCORE, ... ---------------------------------------------------------------

void Count(Call& call, By by) {
  Range range;
  if (!GetRange(call, by, call.args[2], call.args[3], &range)) return;
  auto set = FindSortedSet(call, call.args[1]);
  if (!set) return;
  const auto [begin, end] = PlacesOf(*set, range);
  int64_t count = 0;
  set->ForRange(begin, end, /*backwards=*/false, [&](std::string_view, double) { return ++count > 0; });
  call.reply.Integer(count);
}

void ZCount(Call& call) { Count(call, By::kScore); }
void ZLexCount(Call& call) { Count(call, By::kLex); }

void RemoveRange(Call& call, By by) {
  Range range;
  if (!GetRange(call, by, call.args[2], call.args[3], &range)) return;
  auto set = FindSortedSet(call, call.args[1]);
  if (!set) return;
  const std::vector<ScoredMember> members = MembersOf(*set, range, /*backwards=*/false, {});
  if (!members.empty() && members.size() == set->size()) {
    call.keys.Remove(call.args[1]);
  } else {
    for (const ScoredMember& each : members) set->Erase(each.member);
  }
  call.reply.Integer(static_cast<int64_t>(members.size()));
}

void ZRemRangeByRank(Call& call) { RemoveRange(call, By::kRank); }
void ZRemRangeByScore(Call& call) { RemoveRange(call, By::kScore); }
void ZRemRangeByLex(Call& call) { RemoveRange(call, By::kLex); }

// --- The table -----------------------------------------------------------------------------------

constexpr std::string_view kRanks = "O(N), N to the end of the range from the nearer end of the set";
constexpr std::string_view kRange = "O(log(N)+M) for N members, M in the range";

constexpr Command kCommands[] = {
    SortedSetCommand("zcount", 4, kReadonly | kFast, ZCount, "2.0.0", kRange,
                     "How many have scores in a range"),
    SortedSetCommand("zlexcount", 4, kReadonly | kFast, ZLexCount, "2.8.9", kRange,
                     "How many are between two members"),
    SortedSetCommand("zrange", -4, kReadonly, ZRange, "1.2.0", kRange, "A range of members"),
    SortedSetCommand("zrangebylex", -4, kReadonly, ZRangeByLex, "2.8.9", kRange, "Those between two members"),
    SortedSetCommand("zrangebyscore", -4, kReadonly, ZRangeByScore, "1.0.5", kRange,
                     "Those between two scores"),
    SortedSetCommand("zrangestore", -5, kWrite | kDenyOom, ZRangeStore, "6.2.0", kRange,
                     "Stores a range of members", 2),
    SortedSetCommand("zremrangebylex", 4, kWrite, ZRemRangeByLex, "2.8.9", kRange,
                     "Removes those between two members"),
    SortedSetCommand("zremrangebyrank", 4, kWrite, ZRemRangeByRank, "2.0.0", kRanks,
                     "Removes those between two ranks"),
    SortedSetCommand("zremrangebyscore", 4, kWrite, ZRemRangeByScore, "1.2.0", kRange,
                     "Removes those between two scores"),
    SortedSetCommand("zrevrange", -4, kReadonly, ZRevRange, "1.2.0", kRanks,
                     "A range of ranks, the highest score first"),
    SortedSetCommand("zrevrangebylex", -4, kReadonly, ZRevRangeByLex, "2.8.9", kRange,
                     "Those between two members, backwards"),
    SortedSetCommand("zrevrangebyscore", -4, kReadonly, ZRevRangeByScore, "2.2.0", kRange,
                     "Those between two scores, backwards"),
};

}  // namespace

absl::Span<const Command> SortedSetRangeCommands() { return kCommands; }

}  // namespace kvstore
