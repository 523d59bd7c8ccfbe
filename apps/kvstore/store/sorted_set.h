// Sorted sets: each member has two records. One is as that of a hash: member -> score. The other
// one is under an id of its own (IndexOf), in the order of (score, member), and is what ranges are
// walked by, either way.
//
// A place is found by its score, or by its member, in one step; by its rank it is counted to, from
// the nearer end.
#ifndef UNDERSTUDY_APPS_KVSTORE_STORE_SORTED_SET_H_
#define UNDERSTUDY_APPS_KVSTORE_STORE_SORTED_SET_H_

#include <compare>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/kvstore/store/keyspace.h"

namespace kvstore {

class Walk;

struct ScoredMember {
  std::string member;
  double score = 0;
  bool operator==(const ScoredMember&) const = default;
};
// Redis's order: by score, and by the bytes of the member where that is the same.
bool operator<(const ScoredMember& a, const ScoredMember& b);

// Of a record of a member. 0: it makes no sense.
double DecodeScore(std::string_view value);

// The sorted set at `key`, for the time of one command; as Elements. Scores are numbers or
// infinite; -0 becomes 0.
class SortedSet {
 public:
  SortedSet(Keyspace& keys, std::string_view key, const Entry& entry);

  uint64_t size() const { return entry_.count; }

  std::optional<double> Score(std::string_view member);
  // True: it is new; false: its score was replaced. `member` may not point into the keyspace's
  // records.
  bool Insert(std::string_view member, double score);
  bool Erase(std::string_view member);  // true: it was there

  // Where something is, or would be, in the order.
  struct Place {
    uint64_t number = 0;  // of the score
    std::string member;
    // Before all members of this score, and behind them.
    static Place Before(double score);
    static Place Behind(double score);
    static Place At(double score, std::string_view member);
    static Place Start() { return {}; }
    static Place End() { return {~uint64_t{0}, ""}; }
    auto operator<=>(const Place&) const = default;
  };
  // `visit` must not change anything, and returns whether to go on.
  using Visit = std::function<bool(std::string_view member, double score)>;
  // All from `begin` to before `end`, in order; or backwards, from before `end` down to `begin`.
  void ForRange(const Place& begin, const Place& end, bool backwards, const Visit& visit);
  // Of ranks `first` to `last` (inclusive; 0 is that of the lowest score), in order. REQUIRES:
  // first <= last < size().
  std::vector<ScoredMember> ByRank(uint64_t first, uint64_t last);
  // How many are before the place. Costs as many steps, or as many as are behind it if those are
  // fewer.
  uint64_t CountBefore(const Place& place);

  // As that of Elements. For Scan, see there: the records are theirs, and DecodeScore reads their
  // values.
  std::string Random(uint64_t random);

 private:
  void Save();
  // Where a walk from `begin`, or backwards from before `end`, starts.
  void SeekFirst(Walk& walk, const Place& begin);
  void SeekLast(Walk& walk, const Place& end);
  void Widen(uint64_t number, std::string_view member);
  std::string IndexPrefix() const;

  Keyspace& keys_;
  const std::string_view key_;
  Entry entry_;
};

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_STORE_SORTED_SET_H_
