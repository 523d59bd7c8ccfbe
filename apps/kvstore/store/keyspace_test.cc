#include "apps/kvstore/store/keyspace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "apps/kvstore/store/elements.h"
#include "apps/kvstore/store/list.h"
#include "apps/kvstore/store/store_for_test.h"
#include "apps/kvstore/store/string_value.h"

namespace kvstore {
namespace {

using testing::HasSubstr;

constexpr int64_t kNow = 1'000'000;

class KeyspaceTest : public testing::Test {
 protected:
  KeyspaceTest() { keys().SetNow(kNow); }

  Keyspace& keys() { return store_.keys(); }
  void Set(const std::string& key, int64_t expire_ms = 0) {
    WriteString(keys(), key, "value of " + key, expire_ms);
  }
  Elements SetAt(const std::string& key) { return Elements(keys(), key, keys().Find(key), Type::kSet); }
  void Commit() { ASSERT_TRUE(keys().Commit().ok()); }
  std::set<std::string> Scanned() {
    std::set<std::string> names;
    uint64_t cursor = 0;
    do {
      cursor = keys().Scan(cursor, 3, [&](std::string_view key, const Entry&) { names.emplace(key); });
    } while (cursor != 0);
    return names;
  }
  bool Tells(const std::string& key, const std::function<void()>& change) {
    Watcher watcher;
    store_.watches().Watch(key, static_cast<bool>(keys().Find(key)), &watcher);
    change();
    const bool touched = watcher.touched;
    store_.watches().Unwatch(&watcher);
    return touched;
  }

  TestStore store_;
};

TEST_F(KeyspaceTest, TypesHaveNames) {
  EXPECT_STREQ(TypeName(Type::kNone), "none");
  EXPECT_STREQ(TypeName(Type::kString), "string");
  EXPECT_STREQ(TypeName(Type::kList), "list");
  EXPECT_STREQ(TypeName(Type::kSet), "set");
  EXPECT_STREQ(TypeName(Type::kHash), "hash");
}

TEST_F(KeyspaceTest, FindStoreRemove) {
  EXPECT_FALSE(keys().Find("a"));
  EXPECT_FALSE(keys().Remove("a"));
  Set("a");
  EXPECT_EQ(keys().Find("a").bytes, "value of a");
  EXPECT_EQ(keys().size(), 1u);
  EXPECT_TRUE(keys().Remove("a"));
  EXPECT_FALSE(keys().Find("a"));
  EXPECT_EQ(keys().size(), 0u);
}

TEST_F(KeyspaceTest, AnEntryThatWasFoundCanBeStoredAgain) {
  Set("a");
  Entry entry = keys().Find("a");
  entry.expire_ms = kNow + 5;
  keys().Store("a", entry);
  EXPECT_EQ(keys().Find("a").bytes, "value of a");
  EXPECT_EQ(keys().expiring(), 1u);
}

TEST_F(KeyspaceTest, AKeyExpiresBehindItsTime) {
  Set("a", kNow + 10);
  keys().SetNow(kNow + 10);
  EXPECT_TRUE(keys().Find("a"));
  EXPECT_EQ(keys().size(), 1u);
  EXPECT_EQ(keys().expiring(), 1u);
  keys().SetNow(kNow + 11);
  EXPECT_FALSE(keys().Find("a"));
  EXPECT_FALSE(keys().Remove("a"));
  EXPECT_EQ(keys().size(), 0u);
  EXPECT_EQ(keys().expiring(), 0u);
  EXPECT_EQ(store_.RecordsWithoutGarbage().size(), 4u) << "and is removed by SetNow";
}

TEST_F(KeyspaceTest, AKeyStoredWithATimeThatIsOverIsNotThere) {
  EXPECT_EQ(keys().size(), 0u);
  Set("a", kNow - 5);
  EXPECT_FALSE(keys().Find("a"));
  EXPECT_EQ(keys().size(), 0u);
  EXPECT_EQ(keys().expiring(), 0u);
  Set("a");
  EXPECT_EQ(keys().size(), 1u);
  EXPECT_EQ(keys().expiring(), 0u);
}

TEST_F(KeyspaceTest, ManyExpireAtOnceButAreRemovedFewAtATime) {
  for (int i = 0; i < 1000; ++i) Set(absl::StrCat("key", i), kNow + 1 + i % 3);
  Set("stays");
  keys().SetNow(kNow + 100);
  const size_t left = CountKind(AllRecords(store_.table()), 'K');
  EXPECT_GT(left, 900u) << "one command cannot wait for all of them";
  EXPECT_EQ(keys().size(), 1u) << "but nobody sees them";
  EXPECT_EQ(keys().Scan(0, 1, [](auto, const auto&) {}), 0u) << "not even by a cursor";
  EXPECT_EQ(keys().expiring(), 0u);
  EXPECT_EQ(Scanned(), std::set<std::string>{"stays"});
  for (uint64_t i = 0; i < 100; ++i) EXPECT_EQ(keys().Random(i << 56), "stays");
  EXPECT_FALSE(keys().Find("key0"));
  Set("key0");
  EXPECT_EQ(keys().size(), 2u);
  EXPECT_FALSE(keys().Remove("key1"));
  EXPECT_EQ(keys().size(), 2u);
  for (int i = 0; i < 100; ++i) {
    Set("brief", kNow + 100 + i);
    keys().SetNow(kNow + 101 + i);
    EXPECT_EQ(keys().size(), 2u) << i;
  }
  EXPECT_EQ(CountKind(AllRecords(store_.table()), 'K'), 2u);
  EXPECT_EQ(keys().size(), 2u);
}

TEST_F(KeyspaceTest, WhatIsDueIsFoundAfterAReopen) {
  for (int i = 0; i < 40; ++i) Set(absl::StrCat("key", i), kNow + 1);
  Commit();
  store_.Reopen();
  EXPECT_EQ(keys().size(), 40u);
  keys().SetNow(kNow + 2);
  EXPECT_EQ(keys().size(), 0u);
  for (int i = 0; i < 10; ++i) keys().SetNow(kNow + 3);
  EXPECT_EQ(CountKind(store_.RecordsWithoutGarbage(), 'X'), 0u);
}

TEST_F(KeyspaceTest, AnEarlierExpiryIsNotMissed) {
  Set("late", kNow + 1000);
  Set("early", kNow + 10);
  keys().SetNow(kNow + 11);
  EXPECT_EQ(CountKind(AllRecords(store_.table()), 'K'), 1u);
  Set("earlier", kNow + 20);
  Set("late", kNow + 30);
  keys().SetNow(kNow + 31);
  EXPECT_EQ(CountKind(AllRecords(store_.table()), 'K'), 0u);
}

TEST_F(KeyspaceTest, RenameTakesEverythingWithIt) {
  Elements(keys(), "from", {}, Type::kHash).Insert("name", "value");
  Entry entry = keys().Find("from");
  entry.expire_ms = kNow + 50;
  keys().Store("from", entry);
  List(keys(), "to", {}).PushBack("old");
  keys().Rename("from", "to");
  EXPECT_FALSE(keys().Find("from"));
  const Entry moved = keys().Find("to");
  EXPECT_EQ(moved.type, Type::kHash);
  EXPECT_EQ(moved.expire_ms, kNow + 50);
  EXPECT_EQ(*Elements(keys(), "to", moved, Type::kHash).Find("name"), "value");
  EXPECT_EQ(keys().size(), 1u);
  EXPECT_EQ(keys().expiring(), 1u);
  keys().Rename("to", "to");
  EXPECT_TRUE(keys().Find("to"));
  const auto records = store_.RecordsWithoutGarbage();
  EXPECT_EQ(CountKind(records, 'P'), 1u) << "the parts of the old list are gone";
  EXPECT_EQ(CountKind(records, 'X'), 1u);
}

TEST_F(KeyspaceTest, ACopyIsIndependent) {
  List(keys(), "list", {}).PushBack("1");
  keys().Copy("list", "copy");
  List(keys(), "copy", keys().Find("copy")).PushBack("2");
  List(keys(), "list", keys().Find("list")).Set(0, "changed");
  EXPECT_EQ(List(keys(), "copy", keys().Find("copy")).At(0), "1");
  EXPECT_EQ(keys().Find("list").count, 1u);
  WriteString(keys(), "string", std::string(100'000, 's'), kNow + 9);
  keys().Copy("string", "list");
  EXPECT_EQ(ReadString(keys(), keys().Find("list")), std::string(100'000, 's'));
  EXPECT_EQ(keys().Find("list").expire_ms, kNow + 9);
  EXPECT_EQ(keys().size(), 3u);
}

TEST_F(KeyspaceTest, TellsWatchers) {
  Set("a");
  EXPECT_TRUE(Tells("a", [&] { Set("a"); }));
  EXPECT_FALSE(Tells("a", [&] { Set("b"); }));
  EXPECT_TRUE(Tells("a", [&] { keys().Remove("a"); }));
  EXPECT_FALSE(Tells("a", [&] { keys().Remove("a"); }));
  EXPECT_TRUE(Tells("a", [&] { keys().Rename("b", "a"); }));
  EXPECT_TRUE(Tells("a", [&] { keys().Rename("a", "b"); }));
  EXPECT_TRUE(Tells("a", [&] { keys().Copy("b", "a"); }));
  EXPECT_FALSE(Tells("b", [&] { keys().Copy("b", "a"); }));
  EXPECT_FALSE(Tells("a", [&] { keys().Rename("a", "a"); }));
  EXPECT_TRUE(Tells("a", [&] { keys().Clear(); }));
  EXPECT_FALSE(Tells("a", [&] { keys().Clear(); })) << "it was gone already";
  EXPECT_TRUE(Tells("a", [&] { Elements(keys(), "a", {}, Type::kHash).Insert("name", "1"); }));
  const auto hash = [&] { return Elements(keys(), "a", keys().Find("a"), Type::kHash); };
  EXPECT_TRUE(Tells("a", [&] { hash().Insert("name", "2"); })) << "overwritten";
  EXPECT_FALSE(Tells("a", [&] { hash().Erase("no such name"); }));
  EXPECT_TRUE(Tells("a", [&] { hash().Erase("name"); }));
  Elements(keys(), "set", {}, Type::kSet).Insert("name");
  EXPECT_FALSE(Tells("set", [&] { SetAt("set").Insert("name"); }));
  List(keys(), "list", {}).PushBack("1");
  EXPECT_TRUE(Tells("list", [&] { List(keys(), "list", keys().Find("list")).Set(0, "2"); }));
  EXPECT_TRUE(Tells("list", [&] { List(keys(), "list", keys().Find("list")).PopBack(); }));
}

// That a key has expired is for who watches it to find out: it must not matter when its record is removed.
TEST_F(KeyspaceTest, RemovingWhatHasExpiredTellsNobody) {
  Set("a", kNow + 1);
  EXPECT_FALSE(Tells("a", [&] { keys().SetNow(kNow + 10); }));
  Set("b", kNow + 5);
  EXPECT_FALSE(Tells("b", [&] { keys().Remove("b"); }));
}

TEST_F(KeyspaceTest, ClearIsOneStepAndLeavesNothing) {
  for (int i = 0; i < 3000; ++i) Set(absl::StrCat("key", i), kNow + 1000);
  for (int i = 0; i < 200; ++i) SetAt("set").Insert(absl::StrCat(i));
  Commit();
  keys().Remove("set");
  keys().Clear();
  EXPECT_LT(store_.table().uncommitted(), 10u);
  EXPECT_EQ(keys().size(), 0u);
  EXPECT_EQ(keys().expiring(), 0u);
  EXPECT_TRUE(Scanned().empty());
  EXPECT_FALSE(keys().Random(5).has_value());
  Set("key1");
  EXPECT_EQ(Scanned(), std::set<std::string>{"key1"});
  Commit();
  EXPECT_GT(AllRecords(store_.table()).size(), 5000u) << "not in one commit";
  store_.Reopen();
  EXPECT_EQ(Scanned(), std::set<std::string>{"key1"});
  keys().Clear();
  EXPECT_EQ(store_.RecordsWithoutGarbage().size(), 4u);
  keys().SetNow(kNow + 5000);
  EXPECT_EQ(keys().size(), 0u);
}

TEST_F(KeyspaceTest, ClearingNothingWritesNothing) {
  Commit();
  keys().Clear();
  EXPECT_EQ(store_.table().uncommitted(), 0u);
}

TEST_F(KeyspaceTest, CountersSurviveAReopen) {
  for (int i = 0; i < 10; ++i) Set(absl::StrCat("key", i), i < 4 ? kNow + 100 : 0);
  const uint64_t id = keys().NewId(Type::kList);
  Commit();
  store_.Reopen();
  EXPECT_EQ(keys().size(), 10u);
  EXPECT_EQ(keys().expiring(), 4u);
  EXPECT_GT(keys().NewId(Type::kList), id);
}

TEST_F(KeyspaceTest, ScanVisitsWhatIsThereAllTheTimeExactlyOnce) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937 random(seed);
  for (int round = 0; round < 20; ++round) {
    keys().Clear();
    for (int i = 0; i < 100; ++i) Set(absl::StrCat("stays", i));
    std::map<std::string, int> visits;
    uint64_t cursor = 0;
    int calls = 0;
    do {
      cursor = keys().Scan(cursor, 1 + random() % 10, [&](std::string_view key, const Entry& entry) {
        ++visits[std::string(key)];
        EXPECT_EQ(entry.bytes, "value of " + std::string(key));
      });
      for (int i = 0; i < 20; ++i) {
        Set(absl::StrCat("comes", random() % 200), random() % 2 == 0 ? kNow + round : 0);
        keys().Remove(absl::StrCat("comes", random() % 200));
      }
      if (random() % 3 == 0) Commit();
      if (random() % 10 == 0) keys().SetNow(kNow + round);
      ASSERT_LT(++calls, 1000);
    } while (cursor != 0);
    for (int i = 0; i < 100; ++i) EXPECT_EQ(visits[absl::StrCat("stays", i)], 1) << i;
    for (const auto& [key, count] : visits) EXPECT_EQ(count, 1) << key;
  }
}

std::string RecordOf(std::string_view key) {
  std::string record = KindPrefix(1, Kind::kKey);
  AppendBig64(&record, WalkPosition(key));
  return record + std::string(key);
}

TEST_F(KeyspaceTest, KeysOfOnePlaceAreVisitedTogether) {
  for (int i = 0; i < 10; ++i) Set(absl::StrCat(i));
  // Keys of the same hash are hard to find, so their records are made by hand.
  std::string twin = KindPrefix(1, Kind::kKey);
  AppendBig64(&twin, WalkPosition("5"));
  const std::string value(*store_.table().Get(RecordOf("5")));
  store_.table().Put(twin + "x", value);
  store_.table().Put(twin + "y", value);
  std::set<std::string> seen;
  uint64_t cursor = 0;
  do {
    std::set<std::string> now;
    cursor = keys().Scan(cursor, 1, [&](std::string_view key, const Entry&) { now.emplace(key); });
    EXPECT_EQ(now.size(), now.contains("5") ? 3u : 1u);
    seen.insert(now.begin(), now.end());
  } while (cursor != 0);
  EXPECT_EQ(seen.size(), 12u);
}

// What a client can keep: a signed 64-bit number, or a double.
TEST_F(KeyspaceTest, CursorsHave53Bits) {
  for (int i = 0; i < 1000; ++i) Set(absl::StrCat(i));
  // Neighbours whose positions differ in what a cursor does not tell.
  std::string neighbour = KindPrefix(1, Kind::kKey);
  AppendBig64(&neighbour, WalkPosition("5") ^ 1);
  store_.table().Put(neighbour + "x", std::string(*store_.table().Get(RecordOf("5"))));
  std::multiset<std::string> seen;
  uint64_t cursor = 0;
  do {
    std::set<std::string> now;
    cursor = keys().Scan(cursor, 1, [&](std::string_view key, const Entry&) { now.emplace(key); });
    EXPECT_LT(cursor, uint64_t{1} << 53);
    EXPECT_EQ(now.contains("5"), now.contains("x"));
    seen.insert(now.begin(), now.end());
  } while (cursor != 0);
  EXPECT_EQ(seen.size(), 1001u);
  EXPECT_EQ(std::set<std::string>(seen.begin(), seen.end()).size(), 1001u);
  for (const uint64_t any : {uint64_t{1} << 53, uint64_t{1} << 63, ~uint64_t{0}}) {
    EXPECT_EQ(keys().Scan(any, 10, [](auto, const auto&) { FAIL(); }), 0u) << any;
  }
}

TEST_F(KeyspaceTest, ScanOfMoreThanThereIsEndsAtOnce) {
  EXPECT_EQ(keys().Scan(0, 10, [](auto, const auto&) { FAIL(); }), 0u);
  for (int i = 0; i < 10; ++i) Set(absl::StrCat(i));
  int visited = 0;
  EXPECT_EQ(keys().Scan(0, 10, [&](auto, const auto&) { ++visited; }), 0u);
  EXPECT_EQ(visited, 10);
  EXPECT_NE(keys().Scan(0, 0, [](auto, const auto&) {}), 0u) << "0 is 1";
  EXPECT_EQ(keys().Scan(~uint64_t{0}, 10, [](auto, const auto&) {}), 0u) << "any number is a cursor";
}

// Each as likely, of few and of many.
TEST_F(KeyspaceTest, RandomKeys) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  std::mt19937_64 random(seed);
  EXPECT_FALSE(keys().Random(random()).has_value());
  for (const int count : {1, 7, 128, 129, 300, 2000}) {
    keys().Clear();
    for (int i = 0; i < count; ++i) Set(absl::StrCat(i));
    std::map<std::string, int> picked;
    const int picks = 100 * count;
    for (int i = 0; i < picks; ++i) ++picked[keys().Random(random()).value()];
    EXPECT_EQ(picked.size(), static_cast<size_t>(count));
    double squares = 0;
    for (const auto& [key, times] : picked) {
      squares += (times - 100.0) * (times - 100.0) / 100.0;
    }
    // Chi square: with n - 1 degrees of freedom its mean is n - 1, its variance 2(n - 1).
    EXPECT_LT(squares, (count - 1) + 6 * std::sqrt(2.0 * count)) << count;
  }
}

TEST_F(KeyspaceTest, GarbageGoesAwayAStepAtATime) {
  for (int i = 0; i < 10'000; ++i) SetAt("set").Insert(absl::StrCat(i));
  Commit();
  keys().Remove("set");
  Commit();
  const size_t left = CountKind(AllRecords(store_.table()), 'P');
  EXPECT_GT(left, 5'000u);
  EXPECT_LT(left, 10'000u);
  store_.Reopen();
  EXPECT_EQ(store_.RecordsWithoutGarbage().size(), 4u);
  EXPECT_EQ(store_.table().uncommitted(), 0u);
}

TEST_F(KeyspaceTest, GarbageDoesNotGrowWithoutBound) {
  size_t most = 0;
  for (int i = 0; i < 30; ++i) {
    for (int n = 0; n < 1000; ++n) SetAt("set").Insert(absl::StrCat(n));
    keys().Remove("set");
    Commit();
    most = std::max(most, CountKind(AllRecords(store_.table()), 'P'));
  }
  EXPECT_LE(most, 3000u);
}

TEST_F(KeyspaceTest, AnIdleCommitWritesNothing) {
  Set("a");
  Commit();
  Commit();
  keys().Find("a");
  keys().SetNow(kNow + 1);
  EXPECT_TRUE(keys().Commit().ok());
  EXPECT_EQ(store_.table().uncommitted(), 0u);
}

TEST(KeyspaceOpenTest, RefusesWhatIsNotOurs) {
  TestDirectory directory;
  Watches watches;
  auto table = Table::Open({.directory = directory.path()}).value();
  table->Put("somebody", "else");
  const absl::Status opened = Keyspace::Open(table.get(), &watches).status();
  EXPECT_THAT(std::string(opened.message()), HasSubstr("not those of"));
  table->Delete("somebody");
  table->Put(KindPrefix(kStoreGeneration, Kind::kMeta), "\x63\0\0\0");
  EXPECT_FALSE(Keyspace::Open(table.get(), &watches).ok());
}

TEST_F(KeyspaceTest, AStoreThatWasNeverUsedOpensAgain) {
  Commit();
  store_.Reopen();
  Commit();
  store_.Reopen();
  EXPECT_EQ(keys().size(), 0u);
}

TEST_F(KeyspaceTest, NonsenseOnDiskIsAnErrorAndNotAValue) {
  Set("a", kNow + 5);
  for (const auto& [key, value] : AllRecords(store_.table())) {
    if (key.size() > 5 && key[4] == 'K') store_.table().Put(key, "nonsense");
  }
  EXPECT_FALSE(keys().Find("a"));
  EXPECT_FALSE(store_.table().status().ok());
  EXPECT_FALSE(keys().Commit().ok());
}

TEST_F(KeyspaceTest, AnExpiryWithoutAKeyIsAnError) {
  Set("a", kNow + 5);
  for (const auto& [key, value] : AllRecords(store_.table())) {
    if (key.size() > 5 && key[4] == 'K') store_.table().Delete(key);
  }
  keys().SetNow(kNow + 10);
  EXPECT_FALSE(keys().Commit().ok());
}

}  // namespace
}  // namespace kvstore
