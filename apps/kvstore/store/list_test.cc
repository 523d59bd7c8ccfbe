#include "apps/kvstore/store/list.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "apps/kvstore/store/store_for_test.h"

namespace kvstore {
namespace {

class ListTest : public testing::Test {
 protected:
  ListTest() { keys().SetNow(1000); }
  Keyspace& keys() { return store_.keys(); }
  List Open() { return List(keys(), "list", keys().Find("list")); }
  // "a b c"
  std::string Text() {
    std::vector<std::string> values;
    List list = Open();
    if (list.size() == 0) return "";
    list.ForRange(0, list.size() - 1, [&](std::string_view value) { values.emplace_back(value); });
    return absl::StrJoin(values, " ");
  }
  void Fill(const std::vector<std::string>& values) {
    keys().Remove("list");
    for (const std::string& value : values) Open().PushBack(value);
  }
  size_t Parts() { return CountKind(store_.RecordsWithoutGarbage(), 'P'); }

  TestStore store_;
};

TEST_F(ListTest, BothEnds) {
  EXPECT_EQ(Open().PopFront(), std::nullopt);
  EXPECT_EQ(Open().PopBack(), std::nullopt);
  Open().PushFront("b");
  Open().PushBack("c");
  Open().PushFront("a");
  EXPECT_EQ(Text(), "a b c");
  EXPECT_EQ(Open().PopFront(), "a");
  EXPECT_EQ(Open().PopBack(), "c");
  EXPECT_EQ(Open().PopBack(), "b");
  EXPECT_FALSE(keys().Find("list"));
  EXPECT_EQ(Parts(), 0u);
}

TEST_F(ListTest, AQueueRunsForEver) {
  for (int i = 0; i < 5000; ++i) {
    Open().PushFront(absl::StrCat(i));
    if (i >= 10) {
      EXPECT_EQ(Open().PopBack(), absl::StrCat(i - 10));
    }
    if (i % 100 == 0) {
      ASSERT_TRUE(keys().Commit().ok());
    }
  }
  EXPECT_EQ(Open().size(), 10u);
  EXPECT_EQ(Parts(), 10u);
}

TEST_F(ListTest, OneObjectMayEmptyItAndGoOn) {
  List list = Open();
  list.PushBack("a");
  list.PopFront();
  list.PushFront("b");
  EXPECT_EQ(Text(), "b");
  EXPECT_EQ(list.size(), 1u);
}

TEST_F(ListTest, InsertAnywhere) {
  Fill({"a", "b", "c", "d"});
  Open().Insert(0, "0");
  EXPECT_EQ(Text(), "0 a b c d");
  Open().Insert(5, "9");
  EXPECT_EQ(Text(), "0 a b c d 9");
  Open().Insert(2, "1");
  EXPECT_EQ(Text(), "0 a 1 b c d 9");
  Open().Insert(5, "8");
  EXPECT_EQ(Text(), "0 a 1 b c 8 d 9");
  keys().Remove("list");
  Open().Insert(0, "alone");
  EXPECT_EQ(Text(), "alone");
}

TEST_F(ListTest, InsertMovesTheShorterSide) {
  std::vector<std::string> values;
  for (int i = 0; i < 1000; ++i) values.push_back(absl::StrCat(i));
  Fill(values);
  ASSERT_TRUE(keys().Commit().ok());
  Open().Insert(3, "front");
  Open().Insert(999, "back");
  EXPECT_LT(store_.table().uncommitted(), 12u);
}

TEST_F(ListTest, SetAndAt) {
  Fill({"a", "b", "c"});
  Open().Set(1, "changed");
  EXPECT_EQ(Open().At(1), "changed");
  EXPECT_EQ(Text(), "a changed c");
}

TEST_F(ListTest, RemoveFromEitherEnd) {
  const std::vector<std::string> values = {"x", "a", "x", "b", "x", "c", "x"};
  const auto removed = [&](uint64_t count, bool from_back) {
    Fill(values);
    const uint64_t removed = Open().Remove("x", count, from_back);
    return absl::StrCat(removed, ": ", Text());
  };
  EXPECT_EQ(removed(0, false), "4: a b c");
  EXPECT_EQ(removed(0, true), "4: a b c");
  EXPECT_EQ(removed(2, false), "2: a b x c x");
  EXPECT_EQ(removed(2, true), "2: x a x b c");
  EXPECT_EQ(removed(9, true), "4: a b c");
  Fill(values);
  EXPECT_EQ(Open().Remove("y", 0, false), 0u);
  Fill({"x", "x"});
  EXPECT_EQ(Open().Remove("x", 0, false), 2u);
  EXPECT_FALSE(keys().Find("list"));
  EXPECT_EQ(Parts(), 0u);
}

TEST_F(ListTest, RemoveInALongListStopsWhenItHasEnough) {
  std::vector<std::string> values;
  for (int i = 0; i < 2000; ++i) values.push_back(i % 500 == 7 ? "x" : absl::StrCat(i));
  Fill(values);
  ASSERT_TRUE(keys().Commit().ok());
  EXPECT_EQ(Open().Remove("x", 1, false), 1u);
  EXPECT_LT(store_.table().uncommitted(), 20u) << "the shorter side moves";
  EXPECT_EQ(Open().Remove("x", 1, true), 1u);
  EXPECT_LT(store_.table().uncommitted(), 600u);
  EXPECT_EQ(Open().At(7), "8");
  EXPECT_EQ(Open().At(1505), "1506");
  EXPECT_EQ(Open().At(1506), "1508");
  EXPECT_EQ(Open().Remove("x", 0, true), 2u);
  EXPECT_EQ(Open().size(), 1996u);
}

TEST_F(ListTest, Trim) {
  Fill({"a", "b", "c", "d", "e"});
  Open().Trim(0, 4);
  EXPECT_EQ(Text(), "a b c d e");
  Open().Trim(1, 3);
  EXPECT_EQ(Text(), "b c d");
  Open().Trim(2, 2);
  EXPECT_EQ(Text(), "d");
  EXPECT_EQ(Parts(), 1u);
}

TEST_F(ListTest, TrimmingMuchAwayIsCheap) {
  std::vector<std::string> values;
  for (int i = 0; i < 3000; ++i) values.push_back(absl::StrCat(i));
  Fill(values);
  ASSERT_TRUE(keys().Commit().ok());
  Open().Trim(1000, 1009);
  EXPECT_LT(store_.table().uncommitted(), 20u);
  EXPECT_EQ(Text(), "1000 1001 1002 1003 1004 1005 1006 1007 1008 1009");
  Open().PushFront("0");
  EXPECT_EQ(Open().size(), 11u);
  EXPECT_EQ(Parts(), 11u);
}

TEST_F(ListTest, RangesFromMemoryAndFromTheDisk) {
  std::vector<std::string> values;
  for (int i = 0; i < 300; ++i) values.push_back(absl::StrCat(i));
  Fill(values);
  ASSERT_TRUE(keys().Commit().ok());
  const std::string text = Text();
  store_.Reopen();
  EXPECT_EQ(Open().At(2), "2");
  EXPECT_EQ(Open().At(0), "0");
  EXPECT_EQ(Open().At(1), "1");
  EXPECT_EQ(Text(), text) << "three from memory, then a walk";
  Open().Set(5, "five");
  Open().PopFront();
  std::string here;
  Open().ForRange(3, 6, [&](std::string_view value) { absl::StrAppend(&here, std::string(value), " "); });
  EXPECT_EQ(here, "4 five 6 7 ");
}

}  // namespace
}  // namespace kvstore
