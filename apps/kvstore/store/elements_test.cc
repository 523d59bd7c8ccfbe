#include "apps/kvstore/store/elements.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "apps/kvstore/store/store_for_test.h"

namespace kvstore {
namespace {

using testing::ElementsAre;

class ElementsTest : public testing::Test {
 protected:
  ElementsTest() { keys().SetNow(1000); }
  Keyspace& keys() { return store_.keys(); }
  Elements Hash() { return Elements(keys(), "hash", keys().Find("hash"), Type::kHash); }
  size_t Parts() { return CountKind(AllRecords(store_.table()), 'P'); }

  TestStore store_;
};

TEST_F(ElementsTest, TheFirstMakesTheKeyAndTheLastRemovesIt) {
  EXPECT_EQ(Hash().size(), 0u);
  EXPECT_EQ(Hash().Find("a"), std::nullopt);
  EXPECT_FALSE(Hash().Erase("a"));
  EXPECT_FALSE(keys().Find("hash"));
  EXPECT_TRUE(Hash().Insert("a", "1"));
  EXPECT_EQ(keys().Find("hash").type, Type::kHash);
  EXPECT_TRUE(Hash().Insert("b", "2"));
  EXPECT_FALSE(Hash().Insert("a", "changed"));
  EXPECT_EQ(*Hash().Find("a"), "changed");
  EXPECT_EQ(Hash().size(), 2u);
  EXPECT_TRUE(Hash().Erase("a"));
  EXPECT_TRUE(Hash().Erase("b"));
  EXPECT_FALSE(keys().Find("hash"));
  EXPECT_EQ(Parts(), 0u);
}

TEST_F(ElementsTest, OneObjectMayEmptyItAndGoOn) {
  Elements hash = Hash();
  hash.Insert("a", "1");
  hash.Erase("a");
  EXPECT_EQ(hash.size(), 0u);
  hash.Insert("b", "2");
  EXPECT_EQ(Hash().size(), 1u);
  EXPECT_EQ(*Hash().Find("b"), "2");
  EXPECT_EQ(Hash().Find("a"), std::nullopt);
}

TEST_F(ElementsTest, EmptyAndBinaryNamesAndValues) {
  const std::string binary("\0\xff\r\n", 4);
  EXPECT_TRUE(Hash().Insert("", binary));
  EXPECT_TRUE(Hash().Insert(binary, ""));
  EXPECT_EQ(*Hash().Find(""), binary);
  EXPECT_EQ(*Hash().Find(binary), "");
}

TEST_F(ElementsTest, ExpiryStaysWhenElementsChange) {
  Hash().Insert("a", "1");
  Entry entry = keys().Find("hash");
  entry.expire_ms = 5000;
  keys().Store("hash", entry);
  Hash().Insert("b", "2");
  Hash().Erase("a");
  EXPECT_EQ(keys().Find("hash").expire_ms, 5000);
  Hash().Erase("b");
  Hash().Insert("a", "1");
  EXPECT_EQ(keys().Find("hash").expire_ms, 0) << "a new key";
}

TEST_F(ElementsTest, ANewOneMayBeGivenAnExpiry) {
  Entry none;
  none.expire_ms = 5000;
  Elements(keys(), "hash", none, Type::kHash).Insert("a");
  EXPECT_EQ(keys().Find("hash").expire_ms, 5000);
}

TEST_F(ElementsTest, ElementsOfOnePlaceAreVisitedTogether) {
  for (int i = 0; i < 200; ++i) Hash().Insert(absl::StrCat(i));
  // Names of the same hash are hard to find, so their records are made by hand.
  const uint64_t id = keys().Find("hash").id;
  const uint64_t place = WalkPosition("0");
  for (const char* twin : {"x", "y", "z"}) store_.table().Put(keys().PartKey(id, place, twin), "");
  std::set<std::string> seen;
  uint64_t cursor = 0;
  do {
    std::set<std::string> now;
    cursor = Hash().Scan(cursor, 1, [&](std::string_view name, std::string_view) { now.emplace(name); });
    if (now.contains("0")) {
      EXPECT_THAT(now, ElementsAre("0", "x", "y", "z"));
    }
    for (const std::string& name : now) EXPECT_TRUE(seen.insert(name).second) << name;
  } while (cursor != 0);
  EXPECT_EQ(seen.size(), 203u);
}

TEST_F(ElementsTest, CursorsHave53Bits) {
  for (int i = 0; i < 1000; ++i) Hash().Insert(absl::StrCat(i));
  uint64_t cursor = 0;
  int calls = 0;
  do {
    cursor = Hash().Scan(cursor, 1, [](auto, auto) {});
    EXPECT_LT(cursor, uint64_t{1} << 53);
    ++calls;
  } while (cursor != 0);
  EXPECT_EQ(calls, 1000);
  EXPECT_EQ(Hash().Scan(~uint64_t{0}, 1, [](auto, auto) { FAIL(); }), 0u);
}

TEST_F(ElementsTest, SmallOnesAreScannedAtOnce) {
  for (int i = 0; i < 128; ++i) Hash().Insert(absl::StrCat(i));
  int visited = 0;
  EXPECT_EQ(Hash().Scan(0, 1, [&](auto, auto) { ++visited; }), 0u);
  EXPECT_EQ(visited, 128);
  Hash().Insert("one more");
  visited = 0;
  EXPECT_NE(Hash().Scan(0, 1, [&](auto, auto) { ++visited; }), 0u);
  EXPECT_EQ(visited, 1);
}

TEST_F(ElementsTest, ScanVisitsWhatIsThereAllTheTimeExactlyOnce) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  for (int i = 0; i < 300; ++i) Hash().Insert(absl::StrCat("stays", i), "value");
  std::map<std::string, int> visits;
  uint64_t cursor = 0;
  do {
    cursor = Hash().Scan(cursor, 1 + random() % 20,
                         [&](std::string_view name, std::string_view) { ++visits[std::string(name)]; });
    // Enough to make the others move to a new id on the way.
    for (int i = 0; i < 400; ++i) Hash().Insert(absl::StrCat("comes", i));
    for (int i = 0; i < 400; ++i) Hash().Erase(absl::StrCat("comes", i));
  } while (cursor != 0);
  for (int i = 0; i < 300; ++i) EXPECT_EQ(visits[absl::StrCat("stays", i)], 1) << i;
}

TEST_F(ElementsTest, ManyErasedMakeTheOthersMove) {
  for (int i = 0; i < 2000; ++i) Hash().Insert(absl::StrCat(i), absl::StrCat("value", i));
  const uint64_t id = keys().Find("hash").id;
  EXPECT_TRUE(keys().Find("hash").fenced);
  for (int i = 10; i < 2000; ++i) Hash().Erase(absl::StrCat(i));
  const Entry entry = keys().Find("hash");
  EXPECT_NE(entry.id, id);
  EXPECT_EQ(entry.count, 10u);
  EXPECT_LT(entry.head, 1000u);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(*Hash().Find(absl::StrCat(i)), absl::StrCat("value", i));
  EXPECT_EQ(CountKind(store_.RecordsWithoutGarbage(), 'P'), 10u + entry.fenced);
  for (int i = 0; i < 10; ++i) Hash().Erase(absl::StrCat(i));
  EXPECT_EQ(store_.RecordsWithoutGarbage().size(), 4u) << "fences go, too";
}

TEST_F(ElementsTest, RandomElements) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937_64 random(seed);
  for (int i = 0; i < 300; ++i) Hash().Insert(absl::StrCat(i));
  std::map<std::string, int> picked;
  for (int i = 0; i < 30'000; ++i) ++picked[Hash().Random(random())];
  EXPECT_EQ(picked.size(), 300u);
  // Chi square: with n - 1 degrees of freedom its mean is n - 1, its variance 2(n - 1).
  double squares = 0;
  for (const auto& [name, times] : picked) squares += (times - 100.0) * (times - 100.0) / 100.0;
  EXPECT_LT(squares, 299 + 6 * std::sqrt(2.0 * 300));
}

// The same random number, the same element: on both nodes, whatever happened to the records.
TEST_F(ElementsTest, RandomIsDeterminedByTheContent) {
  TestStore other(0);
  other.keys().SetNow(1000);
  const auto theirs = [&] { return Elements(other.keys(), "hash", other.keys().Find("hash"), Type::kHash); };
  for (int i = 0; i < 500; ++i) Hash().Insert(absl::StrCat(i));
  for (int i = 2000; i > 0; --i) theirs().Insert(absl::StrCat(i - 1));
  ASSERT_TRUE(other.keys().Commit().ok());
  for (int i = 500; i < 2000; ++i) theirs().Erase(absl::StrCat(i));
  std::mt19937_64 random(1);
  for (int i = 0; i < 1000; ++i) {
    const uint64_t number = random();
    EXPECT_EQ(Hash().Random(number), theirs().Random(number)) << number;
  }
}

}  // namespace
}  // namespace kvstore
