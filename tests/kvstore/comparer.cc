#include "tests/kvstore/comparer.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"

namespace kvstore::test {
namespace {

enum class Rule {
  kExact,
  kUnordered,  // the elements in any order
  kPairs,      // names and values, in any order of the pairs
  kSeconds,    // as far apart as the clocks may be
  kMilliseconds,
  kShape,       // the same types, and as many elements; what they say is its own business
  kOuterShape,  // the type only
  kScan,        // cursor and elements: what belongs together is seen by walks
  kHello,       // all but the connection's id
  kZero,        // but for the sign of a zero, which Redis keeps or not by how it stores a sorted set
};

std::string Lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

Rule RuleFor(const std::vector<std::string>& args) {
  static const auto* rules = new std::map<std::string, Rule>{
      {"keys", Rule::kUnordered},
      {"smembers", Rule::kUnordered},
      {"sinter", Rule::kUnordered},
      {"sunion", Rule::kUnordered},
      {"sdiff", Rule::kUnordered},
      {"hkeys", Rule::kUnordered},
      {"hvals", Rule::kUnordered},
      {"spop", Rule::kShape},
      {"hgetall", Rule::kPairs},
      {"ttl", Rule::kSeconds},
      {"expiretime", Rule::kSeconds},
      {"pttl", Rule::kMilliseconds},
      {"pexpiretime", Rule::kMilliseconds},
      {"srandmember", Rule::kShape},
      {"randomkey", Rule::kShape},
      {"time", Rule::kShape},
      {"info", Rule::kOuterShape},
      {"scan", Rule::kScan},
      {"hscan", Rule::kScan},
      {"sscan", Rule::kScan},
      {"zscan", Rule::kScan},
      {"zrandmember", Rule::kShape},
      {"hello", Rule::kHello},
      {"command", Rule::kOuterShape},
      {"client|id", Rule::kShape},
      {"client|info", Rule::kOuterShape},
      {"client|list", Rule::kOuterShape},
      {"command|count", Rule::kShape},
      {"command|list", Rule::kOuterShape},
      {"command|info", Rule::kOuterShape},
      {"command|docs", Rule::kOuterShape},
      {"debug|digest", Rule::kOuterShape},
      {"config|get", Rule::kPairs},
  };
  const std::string name = Lower(args[0]);
  if (args.size() > 1) {
    const auto sub = rules->find(absl::StrCat(name, "|", Lower(args[1])));
    if (sub != rules->end()) return sub->second;
    if (name == "command") return Rule::kExact;
  }
  const auto rule = rules->find(name);
  if (rule != rules->end()) return rule->second;
  return name.starts_with('z') ? Rule::kZero : Rule::kExact;
}

std::vector<std::string> EncodedElements(const RespValue& value, size_t step) {
  std::vector<std::string> all;
  for (size_t i = 0; i + step <= value.elements.size(); i += step) {
    std::string& one = all.emplace_back();
    for (size_t k = 0; k < step; ++k) one += Encode(value.elements[i + k]);
  }
  std::sort(all.begin(), all.end());
  return all;
}

bool SameShape(const RespValue& a, const RespValue& b, bool deep) {
  if (a.type != b.type || a.null != b.null) return false;
  if (!deep) return true;
  if (a.elements.size() != b.elements.size()) return false;
  for (size_t i = 0; i < a.elements.size(); ++i) {
    if (!SameShape(a.elements[i], b.elements[i], true)) return false;
  }
  return true;
}

bool SameUnordered(const RespValue& a, const RespValue& b, size_t step) {
  return SameShape(a, b, false) && a.elements.size() == b.elements.size() &&
         EncodedElements(a, step) == EncodedElements(b, step);
}

bool CloseInTime(const RespValue& a, const RespValue& b, int64_t tolerance) {
  const auto x = a.integer(), y = b.integer();
  if (!x || !y || *x <= 0 || *y <= 0) return Encode(a) == Encode(b);
  return std::llabs(*x - *y) <= tolerance;
}

bool SameHello(const RespValue& a, const RespValue& b) {
  if (!SameShape(a, b, false) || a.elements.size() != b.elements.size()) return false;
  for (size_t i = 0; i + 1 < a.elements.size(); i += 2) {
    if (Encode(a.elements[i]) != Encode(b.elements[i])) return false;
    const bool own = a.elements[i].text == "id";
    if (own ? a.elements[i + 1].type != b.elements[i + 1].type
            : Encode(a.elements[i + 1]) != Encode(b.elements[i + 1])) {
      return false;
    }
  }
  return true;
}

// [cursor, elements], the cursor a number.
bool IsScan(const RespValue& value, bool pairs) {
  if (value.type != '*' || value.elements.size() != 2) return false;
  const RespValue &cursor = value.elements[0], &elements = value.elements[1];
  if (cursor.type != '$' || cursor.null || cursor.text.empty()) return false;
  if (!std::all_of(cursor.text.begin(), cursor.text.end(), [](char c) { return c >= '0' && c <= '9'; }))
    return false;
  if (elements.type != '*' || elements.null || (pairs && elements.elements.size() % 2 != 0)) return false;
  return std::all_of(elements.elements.begin(), elements.elements.end(),
                     [](const RespValue& element) { return element.type == '$' && !element.null; });
}

bool Same(const std::vector<std::string>& args, const RespValue& a, const RespValue& b) {
  if (a.is_error() || b.is_error() || a.type == 0 || b.type == 0) return Encode(a) == Encode(b);
  constexpr int64_t kTolerance = kClockTolerance.count();
  switch (RuleFor(args)) {
    case Rule::kExact: return Encode(a) == Encode(b);
    case Rule::kUnordered: return SameUnordered(a, b, 1) && (a.is_aggregate() || Encode(a) == Encode(b));
    case Rule::kPairs: return SameUnordered(a, b, 2) && (a.is_aggregate() || Encode(a) == Encode(b));
    case Rule::kSeconds: return CloseInTime(a, b, kTolerance / 1000);
    case Rule::kMilliseconds: return CloseInTime(a, b, kTolerance);
    case Rule::kShape: return SameShape(a, b, true);
    case Rule::kOuterShape: return SameShape(a, b, false);
    case Rule::kScan: {
      const bool pairs = Lower(args[0]) != "scan" && Lower(args[0]) != "sscan";
      return IsScan(a, pairs) && IsScan(b, pairs);
    }
    case Rule::kHello: return SameHello(a, b);
    case Rule::kZero: return Encode(WithoutSignOfZero(a)) == Encode(WithoutSignOfZero(b));
  }
  return false;
}

std::string Difference(const RespValue& ours, const RespValue& redis) {
  return absl::StrCat("kvstore: ", Readable(ours), "\n  redis:   ", Readable(redis));
}

}  // namespace

std::string CompareReplies(const std::vector<std::string>& args, const RespValue& ours,
                           const RespValue& redis) {
  return Same(args, ours, redis) ? "" : Difference(ours, redis);
}

std::string Comparer::CompareExec(const RespValue& ours, const RespValue& redis) {
  const auto queued = std::exchange(queued_, {});
  in_multi_ = false;
  if (ours.type != '*' || ours.null || redis.type != '*' || redis.null ||
      ours.elements.size() != redis.elements.size() || ours.elements.size() != queued.size()) {
    return Encode(ours) == Encode(redis) ? "" : Difference(ours, redis);
  }
  for (size_t i = 0; i < queued.size(); ++i) {
    const std::string what = CompareReplies(queued[i], ours.elements[i], redis.elements[i]);
    if (!what.empty()) return absl::StrCat("queued ", Readable(Request{queued[i]}), ":\n  ", what);
  }
  return "";
}

std::string Comparer::Compare(const std::vector<std::string>& args, const RespValue& ours,
                              const RespValue& redis) {
  const std::string name = Lower(args[0]);
  if (name == "exec" && (!ours.is_error() || redis.text.rfind("EXECABORT", 0) == 0))
    return CompareExec(ours, redis);
  if (in_multi_ && redis.text == "QUEUED") {
    queued_.push_back(args);
    return Encode(ours) == Encode(redis) ? "" : Difference(ours, redis);
  }
  const std::string what = CompareReplies(args, ours, redis);
  if (redis.is_error()) return what;
  if (name == "multi") in_multi_ = true;
  if (name == "discard" || name == "reset") {
    in_multi_ = false;
    queued_.clear();
  }
  return what;
}

}  // namespace kvstore::test
