#include "apps/kvstore/store/sorted_set.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <limits>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "apps/kvstore/store/digest.h"
#include "apps/kvstore/store/store_for_test.h"

namespace kvstore {
namespace {

using testing::ElementsAre;
using testing::Pair;
using namespace std::string_literals;
using Place = SortedSet::Place;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

class SortedSetTest : public testing::Test {
 protected:
  SortedSetTest() { keys().SetNow(1000); }
  Keyspace& keys() { return store_.keys(); }
  SortedSet Set() { return SortedSet(keys(), "set", keys().Find("set")); }
  std::vector<std::string> Members(const Place& begin = Place::Start(), const Place& end = Place::End(),
                                   bool backwards = false) {
    std::vector<std::string> members;
    Set().ForRange(begin, end, backwards, [&](std::string_view member, double) {
      members.emplace_back(member);
      return true;
    });
    return members;
  }
  size_t Parts() { return CountKind(store_.RecordsWithoutGarbage(), 'P'); }

  TestStore store_;
};

TEST_F(SortedSetTest, TheFirstMakesTheKeyAndTheLastRemovesIt) {
  EXPECT_EQ(Set().size(), 0u);
  EXPECT_EQ(Set().Score("a"), std::nullopt);
  EXPECT_FALSE(Set().Erase("a"));
  EXPECT_THAT(Members(), ElementsAre());
  EXPECT_TRUE(Set().Insert("a", 2));
  EXPECT_EQ(keys().Find("set").type, Type::kZSet);
  EXPECT_TRUE(Set().Insert("b", 1));
  EXPECT_THAT(Members(), ElementsAre("b", "a"));
  EXPECT_FALSE(Set().Insert("a", 0.5));
  EXPECT_EQ(Set().Score("a"), 0.5);
  EXPECT_THAT(Members(), ElementsAre("a", "b"));
  EXPECT_EQ(Parts(), 4u);
  EXPECT_TRUE(Set().Erase("a"));
  EXPECT_TRUE(Set().Erase("b"));
  EXPECT_FALSE(keys().Find("set"));
  EXPECT_EQ(Parts(), 0u);
}

TEST_F(SortedSetTest, ScoresInOrder) {
  const std::vector<double> scores = {-kInfinity, -1e300, -2, -1,    -5e-324,  0,
                                      5e-324,     0.1,    1,  1e300, kInfinity};
  for (size_t i = 0; i < scores.size(); ++i) {
    Set().Insert(absl::StrCat("m", 9 - i % 10, i), scores[scores.size() - 1 - i]);
  }
  std::vector<double> seen;
  Set().ForRange(Place::Start(), Place::End(), false, [&](std::string_view, double score) {
    seen.push_back(score);
    return true;
  });
  EXPECT_EQ(seen, scores);
}

TEST_F(SortedSetTest, OfOneScoreByTheirBytes) {
  for (const std::string& member : {"b"s, ""s, "a\xff"s, "a"s, "\0"s}) Set().Insert(member, -0.0);
  Set().Insert("zero", 0);
  EXPECT_THAT(Members(), ElementsAre("", "\0"s, "a", "a\xff", "b", "zero"));
  EXPECT_FALSE(std::signbit(*Set().Score("a")));
}

TEST_F(SortedSetTest, Ranges) {
  for (int i = 0; i < 10; ++i) Set().Insert(absl::StrCat(i), i / 2);
  EXPECT_THAT(Members(Place::Before(1), Place::Behind(2)), ElementsAre("2", "3", "4", "5"));
  EXPECT_THAT(Members(Place::Behind(1), Place::Before(3)), ElementsAre("4", "5"));
  EXPECT_THAT(Members(Place::Behind(1), Place::Before(3), true), ElementsAre("5", "4"));
  EXPECT_THAT(Members(Place::At(4, "8"), Place::End(), true), ElementsAre("9", "8"));
  EXPECT_THAT(Members(Place::Start(), Place::At(0, "1")), ElementsAre("0"));
  EXPECT_THAT(Members(Place::Behind(2), Place::Before(2)), ElementsAre());
  EXPECT_THAT(Members(Place::Before(-kInfinity), Place::Behind(kInfinity)).size(), 10u);
}

TEST_F(SortedSetTest, Ranks) {
  for (int i = 0; i < 300; ++i) Set().Insert(absl::StrCat(i), i);
  for (const uint64_t first : {0, 1, 100, 298, 299}) {
    for (const uint64_t last : {0, 1, 100, 299}) {
      if (last < first) continue;
      const auto members = Set().ByRank(first, last);
      ASSERT_EQ(members.size(), last - first + 1);
      for (uint64_t i = 0; i < members.size(); ++i) {
        EXPECT_EQ(members[i], (ScoredMember{absl::StrCat(first + i), static_cast<double>(first + i)}));
      }
    }
  }
  for (const int i : {0, 1, 149, 150, 298, 299}) {
    EXPECT_EQ(Set().CountBefore(Place::At(i, absl::StrCat(i))), static_cast<uint64_t>(i));
    EXPECT_EQ(Set().CountBefore(Place::Behind(i)), static_cast<uint64_t>(i) + 1);
  }
  EXPECT_EQ(Set().CountBefore(Place::Start()), 0u);
  EXPECT_EQ(Set().CountBefore(Place::End()), 300u);
}

// The bytes that are on disk.
TEST_F(SortedSetTest, Records) {
  Set().Insert("a", 1.5);
  const auto big64 = [](uint64_t value) {
    std::string bytes;
    AppendBig64(&bytes, value);
    return bytes;
  };
  const std::string part = "\0\0\0\1P"s;
  const auto records = AllRecords(store_.table());
  EXPECT_THAT(records, testing::Contains(
                           Pair(part + big64(1) + big64(WalkPosition("a")) + "a", "\0\0\0\0\0\0\xf8\x3f"s)));
  EXPECT_THAT(records, testing::Contains(Pair(part + big64(3) + "\xbf\xf8\0\0\0\0\0\0"s + "a", "")));
  Set().Insert("b", -1.5);
  EXPECT_THAT(AllRecords(store_.table()),
              testing::Contains(Pair(part + big64(3) + "\x40\x07\xff\xff\xff\xff\xff\xff"s + "b", "")));
  EXPECT_EQ(keys().NewId(Type::kList), 5u) << "an id for each kind of its records";
}

TEST_F(SortedSetTest, CopiesAndRemovalsTakeBothKindsOfRecords) {
  for (int i = 0; i < 200; ++i) Set().Insert(absl::StrCat(i), 1000 - i);
  EXPECT_TRUE(keys().Find("set").fenced);
  EXPECT_EQ(Parts(), 402u);
  keys().Copy("set", "copy");
  keys().Rename("set", "moved");
  SortedSet copy(keys(), "copy", keys().Find("copy"));
  EXPECT_EQ(copy.ByRank(0, 0)[0].member, "199");
  EXPECT_EQ(DigestOf(keys(), "copy"), DigestOf(keys(), "moved"));
  EXPECT_TRUE(copy.Erase("199"));
  EXPECT_NE(DigestOf(keys(), "copy"), DigestOf(keys(), "moved"));
  keys().Remove("moved");
  EXPECT_EQ(Parts(), 400u);
  keys().Remove("copy");
  EXPECT_EQ(store_.RecordsWithoutGarbage().size(), 4u);
}

TEST_F(SortedSetTest, ManyErasedMakeTheOthersMove) {
  for (int i = 0; i < 2000; ++i) Set().Insert(absl::StrCat(i), i);
  const uint64_t id = keys().Find("set").id;
  for (int i = 10; i < 2000; ++i) Set().Erase(absl::StrCat(i));
  EXPECT_NE(keys().Find("set").id, id);
  EXPECT_LT(keys().Find("set").head, 1000u);
  EXPECT_THAT(Members(), ElementsAre("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"));
  // A score that changes leaves a record behind, too.
  const uint64_t second = keys().Find("set").id;
  for (int i = 0; i < 2000; ++i) Set().Insert("0", i);
  EXPECT_NE(keys().Find("set").id, second);
  EXPECT_EQ(Set().size(), 10u);
  EXPECT_EQ(Parts(), 20u + 2 * keys().Find("set").fenced);
}

// Queues: what is taken away at the ends is not looked through again, and what comes there is not
// overlooked.
TEST_F(SortedSetTest, BothEndsComeAndGo) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  std::map<double, std::string> model;
  const auto insert = [&](int score) {
    if (!model.emplace(score, absl::StrCat("m", score)).second) return;
    Set().Insert(absl::StrCat("m", score), score);
  };
  for (int i = 0; i < 300; ++i) insert(i);
  for (int step = 0; step < 5000; ++step) {
    ASSERT_EQ(Set().size(), model.size());
    const bool last = random() % 2 == 0;
    const auto end = last ? std::prev(model.end()) : model.begin();
    const uint64_t rank = last ? model.size() - 1 : 0;
    ASSERT_EQ(Set().ByRank(rank, rank)[0], (ScoredMember{end->second, end->first}));
    Set().Erase(end->second);
    model.erase(end);
    if (random() % 50 == 0) {
      ASSERT_TRUE(keys().Commit().ok());
    }
    // Mostly inside, sometimes beyond either end.
    insert(static_cast<int>(random() % 300));
    if (random() % 20 == 0) insert(-static_cast<int>(random() % 300));
    if (random() % 20 == 0) insert(300 + static_cast<int>(random() % 300));
    while (model.size() < 10) insert(static_cast<int>(random() % 300));
    if (step % 100 != 0) continue;
    std::vector<std::string> expected;
    for (const auto& [score, member] : model) expected.push_back(member);
    ASSERT_EQ(Members(), expected);
    std::reverse(expected.begin(), expected.end());
    ASSERT_EQ(Members(Place::Start(), Place::End(), true), expected);
  }
}

TEST_F(SortedSetTest, AQueueDoesNotLookThroughWhatItHasTakenAway) {
  for (int i = 0; i < 1000; ++i) Set().Insert(absl::StrCat(i), i);
  for (int i = 0; i < 400; ++i) {
    ASSERT_EQ(Set().ByRank(0, 0)[0].score, i);
    Set().Erase(absl::StrCat(i));
    ASSERT_EQ(Members(Place::Before(0), Place::End(), true).front(), absl::StrCat(999 - i));
    Set().Erase(absl::StrCat(999 - i));
  }
  // Walks begin where there was something the last time.
  const Keyspace::Ends& ends = keys().EndsOf(IndexOf(keys().Find("set").id));
  EXPECT_EQ(ends.first.substr(8), "399");
  EXPECT_EQ(ends.behind.substr(8), "600\0"s);
}

TEST_F(SortedSetTest, AScoreThatMakesNoSenseIsADiskThatFails) {
  Set().Insert("a", 1);
  store_.table().Put(keys().PartKey(keys().Find("set").id, WalkPosition("a"), "a"), "short");
  EXPECT_EQ(Set().Score("a"), std::nullopt);
  EXPECT_FALSE(store_.table().status().ok());
}

}  // namespace
}  // namespace kvstore
