#include "apps/kvstore/store/record_cache.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"

namespace kvstore {
namespace {

constexpr size_t kValue = 1000;
// Room for about so many.
constexpr size_t kRoom = 20;

class RecordCacheTest : public testing::Test {
 protected:
  CachedRecord* AddClean(const std::string& key) {
    CachedRecord* record = cache_.Add(key, kValue);
    cache_.SetValue(record, std::string(kValue, 'v'));
    return record;
  }

  RecordCache cache_{kRoom * (kValue + 250)};
};

TEST_F(RecordCacheTest, WhatIsNotUsedGoesFirst) {
  AddClean("used");
  AddClean("unused");
  for (int i = 0; i < 100; ++i) {
    AddClean(absl::StrCat(i));
    EXPECT_NE(cache_.Find("used"), nullptr) << i;
  }
  EXPECT_EQ(cache_.Find("unused"), nullptr);
  EXPECT_LE(cache_.bytes(), (kRoom + 1) * (kValue + 250));
}

TEST_F(RecordCacheTest, WhatIsUncommittedStays) {
  for (int i = 0; i < 100; ++i) cache_.MarkDirty(AddClean(absl::StrCat(i)));
  for (int i = 0; i < 100; ++i) ASSERT_NE(cache_.Find(absl::StrCat(i)), nullptr) << i;
  EXPECT_EQ(cache_.dirty().size(), 100u);
  cache_.MarkAllClean();
  EXPECT_EQ(cache_.dirty().size(), 0u);
  EXPECT_LE(cache_.bytes(), kRoom * (kValue + 250));
}

TEST_F(RecordCacheTest, DirtyOnesComeInTheOrderOfTheirFirstChange) {
  for (const char* key : {"b", "a", "c"}) cache_.MarkDirty(AddClean(key));
  cache_.MarkDirty(cache_.Find("b"));
  std::vector<std::string> in_time, in_order;
  for (const CachedRecord* record : cache_.dirty()) in_time.emplace_back(record->key());
  for (const CachedRecord* record : cache_.SortedDirty()) in_order.emplace_back(record->key());
  EXPECT_EQ(in_time, (std::vector<std::string>{"b", "a", "c"}));
  EXPECT_EQ(in_order, (std::vector<std::string>{"a", "b", "c"}));
  const size_t version = cache_.version();
  cache_.MarkDirty(AddClean("aa"));
  EXPECT_NE(cache_.version(), version);
  EXPECT_EQ((*std::next(cache_.SortedDirty().begin()))->key(), "aa");
  EXPECT_EQ((*cache_.SortedDirty().lower_bound(std::string_view("ab")))->key(), "b");
  cache_.MarkAllClean();
  EXPECT_TRUE(cache_.SortedDirty().empty());
}

TEST_F(RecordCacheTest, OneCutIsTakenWhileTheNextGoesOn) {
  CachedRecord* both = AddClean("both");
  CachedRecord* first = AddClean("first");
  cache_.MarkDirty(both);
  cache_.MarkDirty(first);
  EXPECT_FALSE(cache_.MustTake(both));
  cache_.BeginFlush();
  EXPECT_TRUE(cache_.flushing());
  EXPECT_TRUE(cache_.dirty().empty());
  ASSERT_TRUE(cache_.MustTake(both));
  cache_.MarkTaken(both);
  cache_.MarkDirty(both);
  EXPECT_FALSE(cache_.MustTake(both)) << "what it is now belongs to the next cut";
  CachedRecord* second = AddClean("second");
  cache_.MarkDirty(second);
  EXPECT_EQ(cache_.flushed(), (std::vector<CachedRecord*>{both, first}));
  EXPECT_TRUE(cache_.MustTake(first));
  cache_.MarkTaken(first);
  EXPECT_FALSE(cache_.MustTake(first));
  EXPECT_FALSE(cache_.MustTake(second));
  EXPECT_EQ(cache_.dirty(), (std::vector<CachedRecord*>{both, second}));
  EXPECT_EQ(cache_.SortedDirty().size(), 3u);
  for (int i = 0; i < 100; ++i) AddClean(absl::StrCat(i));
  for (const char* key : {"both", "first", "second"}) EXPECT_NE(cache_.Find(key), nullptr) << key;
  cache_.EndFlush();
  EXPECT_EQ(cache_.SortedDirty().size(), 2u);
  cache_.BeginFlush();
  EXPECT_TRUE(cache_.MustTake(both));
}

TEST_F(RecordCacheTest, DeletedOnesGoBeforeOthers) {
  for (size_t i = 0; i < kRoom - 2; ++i) AddClean(absl::StrCat(i));
  CachedRecord* gone = cache_.Find("5");
  cache_.SetAbsent(gone);
  cache_.MarkDirty(gone);
  cache_.MarkAllClean();
  ASSERT_NE(cache_.Find("0"), nullptr);
  for (int i = 100; i < 110; ++i) AddClean(absl::StrCat(i));
  EXPECT_EQ(cache_.Find("5"), nullptr);
  EXPECT_NE(cache_.Find("0"), nullptr);
}

TEST_F(RecordCacheTest, FindOrAdd) {
  bool added = false;
  CachedRecord* record = cache_.FindOrAdd("a", 0, &added);
  EXPECT_TRUE(added);
  EXPECT_FALSE(record->present());
  EXPECT_EQ(cache_.FindOrAdd("a", 0, &added), record);
  EXPECT_FALSE(added);
  EXPECT_EQ(cache_.Find("a"), record);
  EXPECT_EQ(cache_.Find("b"), nullptr);
}

// A key is known as absent, as a rule, before it gets its first value, which is to lie behind it all the
// same.
TEST_F(RecordCacheTest, WhatIsCleanAndHasTooLittleRoomIsAddedAnew) {
  const std::string value(100, 'v'), longer(200, 'w'), large(2000, 'x');
  bool added = false;
  cache_.Add("a", 0);
  CachedRecord* record = cache_.FindOrAdd("a", value.size(), &added);
  EXPECT_TRUE(added);
  EXPECT_FALSE(record->present());
  cache_.SetValue(record, value, {});
  EXPECT_EQ(static_cast<const void*>(record->value().data()), record->key().data() + 1) << "behind its key";
  EXPECT_EQ(cache_.FindOrAdd("a", value.size(), &added), record);
  EXPECT_FALSE(added);

  // What is uncommitted stays where it is, also while its cut is being written.
  cache_.MarkDirty(record);
  EXPECT_EQ(cache_.FindOrAdd("a", longer.size(), &added), record);
  cache_.BeginFlush();
  EXPECT_EQ(cache_.FindOrAdd("a", longer.size(), &added), record);
  EXPECT_FALSE(added);
  EXPECT_EQ(record->value(), value);
  cache_.EndFlush();

  // For what fits in no record there is no use in another one.
  EXPECT_EQ(cache_.FindOrAdd("a", large.size(), &added), record);
  EXPECT_FALSE(added);

  const size_t bytes = cache_.bytes();
  record = cache_.FindOrAdd("a", longer.size(), &added);
  EXPECT_TRUE(added);
  cache_.SetValue(record, longer, {});
  EXPECT_EQ(cache_.Find("a"), record);
  EXPECT_EQ(record->value(), longer);
  EXPECT_GT(cache_.bytes(), bytes);
  EXPECT_LE(cache_.bytes(), bytes + longer.size());
}

TEST_F(RecordCacheTest, ToExpectChangesNothing) {
  std::vector<const CachedRecord*> records;
  for (int i = 0; i < 10; ++i) records.push_back(AddClean(absl::StrCat(i)));
  const size_t bytes = cache_.bytes(), version = cache_.version();
  for (int i = 0; i < 30; ++i) cache_.Expect(absl::StrCat(i));
  EXPECT_EQ(cache_.bytes(), bytes);
  EXPECT_EQ(cache_.version(), version);
  for (int i = 0; i < 10; ++i) EXPECT_EQ(cache_.Find(absl::StrCat(i)), records[static_cast<size_t>(i)]);
  for (int i = 10; i < 30; ++i) EXPECT_EQ(cache_.Find(absl::StrCat(i)), nullptr);
}

TEST_F(RecordCacheTest, ToExpectOfAnEmptyCache) {
  for (int i = 0; i < 10; ++i) cache_.Expect(absl::StrCat(i));
  EXPECT_EQ(cache_.Find("0"), nullptr);
}

TEST_F(RecordCacheTest, KeysOfAnyLengthComeAndGoInBoundedMemory) {
  size_t reserved = 0;
  for (int i = 0; i < 40'000; ++i) {
    cache_.Add(absl::StrCat(i, std::string(static_cast<size_t>(i * 37 % 3000), 'k')), 0);
    if (i == 10'000) reserved = cache_.reserved_bytes();
  }
  EXPECT_EQ(cache_.reserved_bytes(), reserved) << "nothing is wanted any more that was not wanted before";
  EXPECT_LT(reserved, size_t{16} << 20);
}

TEST_F(RecordCacheTest, CountsWhatItHolds) {
  const size_t empty = cache_.bytes();
  CachedRecord* record = cache_.Add("a", 0);
  const size_t one = cache_.bytes();
  EXPECT_GT(one, empty);
  cache_.SetValue(record, std::string(100'000, 'v'), "");
  EXPECT_GE(cache_.bytes(), one + 99'000);
  cache_.SetValue(record, "small", "");
  EXPECT_LT(cache_.bytes(), one + 1000) << "the memory of the large value was given back";
  cache_.SetValue(record, std::string(100'000, 'v'));
  cache_.SetAbsent(record);
  EXPECT_LT(cache_.bytes(), one + 1000);
  EXPECT_EQ(record->value(), "");
}

}  // namespace
}  // namespace kvstore
