// Sorted sets: what several have in common, together, or one without the others. ZINTER,
// ZUNIONSTORE, ZDIFF, ... Sets may be among them: their members' scores are 1.
#include <algorithm>
#include <cmath>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "apps/kvstore/commands/dispatcher.h"
#include "apps/kvstore/commands/sorted_sets.h"
#include "apps/kvstore/resp/number.h"
#include "apps/kvstore/store/elements.h"

namespace kvstore {
namespace {

enum class Operation { kUnion, kIntersection, kDifference };
enum class Aggregate { kSum, kMin, kMax };

// One of those that are named: a sorted set, a set, or nothing.
class Operand {
 public:
  Operand(Call& call, std::string_view key, const Entry& entry) {
    if (entry.type == Type::kSet) {
      set_.emplace(call.keys, key, entry, Type::kSet);
    } else {
      sorted_.emplace(call.keys, key, entry);
    }
  }

  uint64_t size() const { return set_ ? set_->size() : sorted_->size(); }
  std::optional<double> Score(std::string_view member) {
    if (sorted_) return sorted_->Score(member);
    return set_->Contains(member) ? std::optional(1.0) : std::nullopt;
  }
  void ForEach(const std::function<void(std::string_view member, double score)>& visit) {
    if (set_) return set_->ForEach([&](std::string_view member, std::string_view) { visit(member, 1); });
    sorted_->ForRange(SortedSet::Place::Start(), SortedSet::Place::End(), /*backwards=*/false,
                      [&](std::string_view member, double score) {
                        visit(member, score);
                        return true;
                      });
  }

  double weight = 1;
  double Weighted(double score) const {
    const double product = weight * score;
    return std::isnan(product) ? 0 : product;  // infinite times nothing
  }

 private:
  std::optional<SortedSet> sorted_;
  std::optional<Elements> set_;
};

// What a request asks for, and of whom.
struct Question {
  std::vector<Operand> operands;
  Aggregate aggregate = Aggregate::kSum;
  Scores scores = Scores::kNo;
  uint64_t limit = 0;  // ZINTERCARD: 0 is none
};

// How a command is written: where the number of keys is, and which options it has.
struct Form {
  Operation operation = Operation::kUnion;
  size_t count_at = 1;       // behind a destination, if it stores
  bool cardinality = false;  // ZINTERCARD

  bool stores() const { return count_at == 2; }
  bool weighs() const { return operation != Operation::kDifference && !cardinality; }
};

// --- Reading the request -------------------------------------------------------------------------

bool Fail(Call& call, std::string_view error) {
  call.reply.Error(error);
  return false;
}

bool GetOperands(Call& call, const Form& form, Question* question) {
  int64_t count = 0;
  if (!GetInteger(call, call.args[form.count_at], &count)) return false;
  if (count < 1) {
    return Fail(call, absl::StrCat("ERR at least 1 input key is needed for '",
                                   std::string(FullName(call.command)), "' command"));
  }
  if (static_cast<uint64_t>(count) > call.args.size() - form.count_at - 1) return Fail(call, kSyntaxError);
  for (const std::string_view key : call.args.subspan(form.count_at + 1, static_cast<size_t>(count))) {
    const Entry entry = call.keys.Find(key);
    if (entry && entry.type != Type::kZSet && entry.type != Type::kSet) return Fail(call, kWrongType);
    question->operands.emplace_back(call, key, entry);
  }
  return true;
}

bool GetAggregate(Call& call, std::string_view word, Aggregate* aggregate) {
  if (Is(word, "sum"))
    *aggregate = Aggregate::kSum;
  else if (Is(word, "min"))
    *aggregate = Aggregate::kMin;
  else if (Is(word, "max"))
    *aggregate = Aggregate::kMax;
  else
    return Fail(call, kSyntaxError);
  return true;
}

bool GetLimit(Call& call, std::string_view text, uint64_t* limit) {
  const auto value = ParseInteger(text);
  if (!value || *value < 0) return Fail(call, "ERR LIMIT can't be negative");
  *limit = static_cast<uint64_t>(*value);
  return true;
}

bool GetOptions(Call& call, const Form& form, Question* question) {
  const size_t operands = question->operands.size();
  for (size_t at = form.count_at + 1 + operands; at < call.args.size(); ++at) {
    const std::string_view word = call.args[at];
    const size_t behind = call.args.size() - at - 1;
    if (form.weighs() && behind >= operands && Is(word, "weights")) {
      for (Operand& operand : question->operands) {
        if (!GetScore(call, call.args[++at], &operand.weight, "ERR weight value is not a float"))
          return false;
      }
    } else if (form.weighs() && behind >= 1 && Is(word, "aggregate")) {
      if (!GetAggregate(call, call.args[++at], &question->aggregate)) return false;
    } else if (!form.stores() && !form.cardinality && Is(word, "withscores")) {
      question->scores = Scores::kYes;
    } else if (form.cardinality && behind >= 1 && Is(word, "limit")) {
      if (!GetLimit(call, call.args[++at], &question->limit)) return false;
    } else {
      return Fail(call, kSyntaxError);
    }
  }
  return true;
}

// --- The answer ----------------------------------------------------------------------------------

double Together(Aggregate aggregate, double a, double b) {
  switch (aggregate) {
    case Aggregate::kMin: return std::min(a, b);
    case Aggregate::kMax: return std::max(a, b);
    case Aggregate::kSum: break;
  }
  return std::isnan(a + b) ? 0 : a + b;  // inf and -inf
}

// The smallest first: sums of doubles depend on it.
std::vector<Operand*> BySize(std::vector<Operand>& operands) {
  std::vector<Operand*> by_size;
  for (Operand& operand : operands) by_size.push_back(&operand);
  std::stable_sort(by_size.begin(), by_size.end(),
                   [](const Operand* a, const Operand* b) { return a->size() < b->size(); });
  return by_size;
}

std::vector<ScoredMember> Union(Question& question) {
  absl::flat_hash_map<std::string, double> scores;  // its order is another one in each process: sorted below
  for (Operand* operand : BySize(question.operands)) {
    operand->ForEach([&](std::string_view member, double score) {
      const double weighted = operand->Weighted(score);
      const auto [at, is_new] = scores.emplace(member, weighted);
      if (!is_new) at->second = Together(question.aggregate, at->second, weighted);
    });
  }
  std::vector<ScoredMember> members;
  members.reserve(scores.size());
  for (const auto& [member, score] : scores) members.push_back({member, score});
  return members;
}

std::vector<ScoredMember> Intersection(Question& question) {
  const std::vector<Operand*> all = BySize(question.operands);
  std::vector<ScoredMember> members;
  all[0]->ForEach([&](std::string_view member, double score) {
    if (question.limit != 0 && members.size() == question.limit) return;
    double together = all[0]->Weighted(score);
    for (size_t i = 1; i < all.size(); ++i) {
      const auto other = all[i]->Score(member);
      if (!other) return;
      // Not Weighted: as Redis, which takes what is no number for nothing only once it is part of a sum.
      together = Together(question.aggregate, together, all[i]->weight * *other);
    }
    members.push_back({std::string(member), together});
  });
  return members;
}

std::vector<ScoredMember> Difference(Question& question) {
  std::vector<ScoredMember> members;
  std::vector<Operand>& all = question.operands;
  all[0].ForEach([&](std::string_view member, double score) {
    const bool elsewhere = std::any_of(all.begin() + 1, all.end(),
                                       [&](Operand& each) { return each.Score(member).has_value(); });
    if (!elsewhere) members.push_back({std::string(member), score});
  });
  return members;
}

void Run(Call& call, const Form& form) {
  Question question;
  if (!GetOperands(call, form, &question) || !GetOptions(call, form, &question)) return;
  std::vector<ScoredMember> members;
  switch (form.operation) {
    case Operation::kUnion: members = Union(question); break;
    case Operation::kIntersection: members = Intersection(question); break;
    case Operation::kDifference: members = Difference(question); break;
  }
  if (form.cardinality) return call.reply.Integer(static_cast<int64_t>(members.size()));
  for (ScoredMember& each : members) each.score += 0.0;  // -0 is 0
  std::sort(members.begin(), members.end());
  if (form.stores()) return StoreMembers(call, call.args[1], members);
  ReplyMembers(call, members, question.scores);
}

void ZUnion(Call& call) { Run(call, {.operation = Operation::kUnion}); }
void ZUnionStore(Call& call) { Run(call, {.operation = Operation::kUnion, .count_at = 2}); }
void ZInter(Call& call) { Run(call, {.operation = Operation::kIntersection}); }
void ZInterStore(Call& call) { Run(call, {.operation = Operation::kIntersection, .count_at = 2}); }
void ZInterCard(Call& call) { Run(call, {.operation = Operation::kIntersection, .cardinality = true}); }
void ZDiff(Call& call) { Run(call, {.operation = Operation::kDifference}); }
void ZDiffStore(Call& call) { Run(call, {.operation = Operation::kDifference, .count_at = 2}); }

// --- The table -----------------------------------------------------------------------------------

// The number of keys is at `count_at`; before it may be a destination.
constexpr Command Row(std::string_view name, int arity, uint32_t flags, int count_at, void (*run)(Call&),
                      std::string_view since, std::string_view summary) {
  Command row = SortedSetCommand(name, arity, flags | kMovableKeys, run, since,
                                 "O(N*log(N)) for N members in all of them", summary);
  if (count_at == 1) row.first_key = row.last_key = row.key_step = 0;
  row.count_of_keys_at = count_at;
  return row;
}

constexpr uint32_t kStores = kWrite | kDenyOom;

constexpr Command kCommands[] = {
    Row("zdiff", -3, kReadonly, 1, ZDiff, "6.2.0", "The members of the first that are in none of the others"),
    Row("zdiffstore", -4, kStores, 2, ZDiffStore, "6.2.0", "Stores what ZDIFF says"),
    Row("zinter", -3, kReadonly, 1, ZInter, "6.2.0", "The members that are in all"),
    Row("zintercard", -3, kReadonly, 1, ZInterCard, "7.0.0", "How many members are in all"),
    Row("zinterstore", -4, kStores, 2, ZInterStore, "2.0.0", "Stores what ZINTER says"),
    Row("zunion", -3, kReadonly, 1, ZUnion, "6.2.0", "The members of all, each once"),
    Row("zunionstore", -4, kStores, 2, ZUnionStore, "2.0.0", "Stores what ZUNION says"),
};

}  // namespace

absl::Span<const Command> SortedSetAlgebraCommands() { return kCommands; }

}  // namespace kvstore
