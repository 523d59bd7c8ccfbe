#include "apps/kvstore/store/sorted_set.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "absl/status/status.h"
#include "apps/kvstore/store/elements.h"
#include "apps/kvstore/store/walk.h"
#include "glog/logging.h"

namespace kvstore {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr uint64_t kSignBit = uint64_t{1} << 63;

// Numbers in the order of the scores: those of negative ones are turned round.
uint64_t NumberOf(double score) {
  DCHECK(!std::isnan(score));
  const auto bits = std::bit_cast<uint64_t>(score + 0.0);  // -0 is 0
  return (bits & kSignBit) != 0 ? ~bits : bits | kSignBit;
}

double ScoreOf(uint64_t number) {
  return std::bit_cast<double>((number & kSignBit) != 0 ? number & ~kSignBit : ~number);
}

// With fewer erased a walk need not know where there is nothing.
constexpr uint64_t kWorn = 64;

std::string Encoded(uint64_t number, std::string_view member) {
  std::string bytes;
  AppendBig64(&bytes, number);
  return bytes.append(member);
}

std::string EncodeScore(double score) {
  char bytes[sizeof score];
  std::memcpy(bytes, &score, sizeof score);
  return std::string(bytes, sizeof bytes);
}

}  // namespace

double DecodeScore(std::string_view value) {
  double score = 0;
  if (value.size() == sizeof score) std::memcpy(&score, value.data(), sizeof score);
  return score;
}

bool operator<(const ScoredMember& a, const ScoredMember& b) {
  return a.score != b.score ? a.score < b.score : a.member < b.member;
}

SortedSet::Place SortedSet::Place::Before(double score) { return {NumberOf(score), ""}; }
SortedSet::Place SortedSet::Place::Behind(double score) { return {NumberOf(score) + 1, ""}; }
SortedSet::Place SortedSet::Place::At(double score, std::string_view member) {
  return {NumberOf(score), std::string(member)};
}

SortedSet::SortedSet(Keyspace& keys, std::string_view key, const Entry& entry)
    : keys_(keys), key_(key), entry_(entry) {
  DCHECK(!entry || entry.type == Type::kZSet);
}

std::string SortedSet::IndexPrefix() const { return keys_.PartPrefix(IndexOf(entry_.id)); }

std::optional<double> SortedSet::Score(std::string_view member) {
  if (!entry_) return std::nullopt;
  const auto value = keys_.table().Get(keys_.PartKey(entry_.id, WalkPosition(member), member));
  if (!value) return std::nullopt;
  if (value->size() != sizeof(double)) {
    keys_.table().Fail(absl::DataLossError("a member's score makes no sense"));
    return std::nullopt;
  }
  return DecodeScore(*value);
}

bool SortedSet::Insert(std::string_view member, double score) {
  score += 0.0;
  if (!entry_) {
    entry_.type = Type::kZSet;
    entry_.id = keys_.NewId(Type::kZSet);
  }
  const auto old = entry_.count > 0 ? Score(member) : std::nullopt;
  if (old && *old == score) return false;  // nothing has changed
  Table& table = keys_.table();
  table.Put(keys_.PartKey(entry_.id, WalkPosition(member), member), EncodeScore(score));
  if (old) table.Delete(keys_.PartKey(IndexOf(entry_.id), NumberOf(*old), member));
  table.Put(keys_.PartKey(IndexOf(entry_.id), NumberOf(score), member), "");
  if (entry_.head > kWorn) Widen(NumberOf(score), member);
  if (old) {
    ++entry_.head;
  } else if (++entry_.count > kSmall && !entry_.fenced) {
    keys_.PutFence(&entry_);
  }
  Save();
  return !old;
}

bool SortedSet::Erase(std::string_view member) {
  const auto score = Score(member);
  if (!score) return false;
  keys_.table().Delete(keys_.PartKey(entry_.id, WalkPosition(member), member));
  keys_.table().Delete(keys_.PartKey(IndexOf(entry_.id), NumberOf(*score), member));
  ++entry_.head;
  if (--entry_.count > 0) {
    Save();
    return true;
  }
  keys_.DeleteFence(&entry_);
  keys_.RemoveEmptied(key_);
  entry_ = {};
  return true;
}

void SortedSet::Save() {
  if (TooManyErased(entry_)) {
    keys_.CopyParts(&entry_);
    entry_.head = 0;
  }
  keys_.Store(key_, entry_);
}

void SortedSet::ForRange(const Place& begin, const Place& end, bool backwards, const Visit& visit) {
  if (!entry_ || !(begin < end)) return;
  Walk walk(keys_.table(), IndexPrefix());
  const auto is_before = [&](const Place& place) {
    return walk.number() != place.number ? walk.number() < place.number : walk.name() < place.member;
  };
  uint64_t left = entry_.count;  // spares a step to what is behind the last of all
  if (backwards) {
    for (SeekLast(walk, end); walk.Valid() && !is_before(begin); walk.Previous()) {
      if (!visit(walk.name(), ScoreOf(walk.number())) || --left == 0) return;
    }
  } else {
    for (SeekFirst(walk, begin); walk.Valid() && is_before(end); walk.Next()) {
      if (!visit(walk.name(), ScoreOf(walk.number())) || --left == 0) return;
    }
  }
}

// Who takes the lowest away again and again (a queue) leaves behind what every walk from the front
// would pass over.
void SortedSet::SeekFirst(Walk& walk, const Place& begin) {
  if (entry_.head <= kWorn) return walk.Seek(begin.number, begin.member);
  std::string& first = keys_.EndsOf(IndexOf(entry_.id)).first;
  if (first.empty()) first = Encoded(NumberOf(-kInfinity), "");
  if (first < Encoded(begin.number, begin.member)) return walk.Seek(begin.number, begin.member);
  walk.Seek(ReadBig64(first), std::string_view(first).substr(kNumberSize));
  if (walk.Valid()) first = Encoded(walk.number(), walk.name());
}

void SortedSet::SeekLast(Walk& walk, const Place& end) {
  if (entry_.head <= kWorn) return walk.SeekBefore(end.number, end.member);
  std::string& behind = keys_.EndsOf(IndexOf(entry_.id)).behind;
  if (behind.empty()) behind = Encoded(NumberOf(kInfinity) + 1, "");
  if (Encoded(end.number, end.member) < behind) return walk.SeekBefore(end.number, end.member);
  walk.SeekBefore(ReadBig64(behind), std::string_view(behind).substr(kNumberSize));
  if (walk.Valid()) behind = Encoded(walk.number(), walk.name()) + '\0';
}

// Something new may be before the first, or behind the last.
void SortedSet::Widen(uint64_t number, std::string_view member) {
  Keyspace::Ends& ends = keys_.EndsOf(IndexOf(entry_.id));
  const std::string here = Encoded(number, member);
  if (here < ends.first) ends.first = here;  // which is empty when nothing is known
  if (!ends.behind.empty() && ends.behind <= here) ends.behind = here + '\0';
}

std::vector<ScoredMember> SortedSet::ByRank(uint64_t first, uint64_t last) {
  DCHECK(first <= last && last < size());
  std::vector<ScoredMember> members;
  members.reserve(last - first + 1);
  const bool backwards = entry_.count - first < last + 1;  // fewer steps
  uint64_t skipped = backwards ? entry_.count - 1 - last : first;
  ForRange(Place::Start(), Place::End(), backwards, [&](std::string_view member, double score) {
    if (skipped > 0) {
      --skipped;
      return true;
    }
    members.push_back({std::string(member), score});
    return members.size() < last - first + 1;
  });
  if (backwards) std::reverse(members.begin(), members.end());
  return members;
}

uint64_t SortedSet::CountBefore(const Place& place) {
  if (!entry_) return 0;
  Walk down(keys_.table(), IndexPrefix()), up(keys_.table(), IndexPrefix());
  down.SeekBefore(place.number, place.member);
  up.Seek(place.number, place.member);
  // One step down, one step up: whichever ends first has counted.
  for (uint64_t steps = 0;; ++steps) {
    if (!down.Valid() || steps == entry_.count) return steps;
    if (!up.Valid()) return entry_.count - steps;
    down.Previous();
    up.Next();
  }
}

std::string SortedSet::Random(uint64_t random) {
  return Elements(keys_, key_, entry_, Type::kZSet).Random(random);
}

}  // namespace kvstore
