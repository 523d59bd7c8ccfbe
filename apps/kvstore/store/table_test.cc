#include "apps/kvstore/store/table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "apps/kvstore/store/faulty_env_for_test.h"
#include "apps/kvstore/store/store_for_test.h"

namespace kvstore {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Optional;
using testing::Pair;

class TableTest : public testing::Test {
 protected:
  TableTest() { Open(); }

  void Open(size_t cache_bytes = 1 << 20, leveldb::Env* env = nullptr,
            std::chrono::milliseconds write_behind = std::chrono::milliseconds(0)) {
    table_.reset();
    auto opened = Table::Open({.directory = directory_.path(),
                               .cache_bytes = cache_bytes,
                               .write_behind = write_behind,
                               .env = env});
    ASSERT_TRUE(opened.ok()) << opened.status();
    table_ = *std::move(opened);
  }
  void Commit() { ASSERT_TRUE(table_->Commit().ok()) << table_->status(); }
  // What would be found if the process died now: what is in the files.
  std::map<std::string, std::string> RecordsIfKilled() {
    TestDirectory copy;
    std::filesystem::copy(directory_.path(), copy.path());
    auto opened = Table::Open({.directory = copy.path()});
    EXPECT_TRUE(opened.ok()) << opened.status();
    return opened.ok() ? AllRecords(**opened) : std::map<std::string, std::string>();
  }

  TestDirectory directory_;
  FaultyEnv disk_;  // outlives the table
  std::unique_ptr<Table> table_;
};

TEST_F(TableTest, ChangesAreSeenAtOnce) {
  EXPECT_EQ(table_->Get("a"), std::nullopt);
  table_->Put("a", "1");
  EXPECT_THAT(table_->Get("a"), Optional(std::string("1")));
  table_->Put("a", "head and ", "tail");
  EXPECT_THAT(table_->Get("a"), Optional(std::string("head and tail")));
  table_->Delete("a");
  EXPECT_EQ(table_->Get("a"), std::nullopt);
  EXPECT_EQ(table_->uncommitted(), 1u);
  Commit();
  EXPECT_EQ(table_->uncommitted(), 0u);
  EXPECT_EQ(table_->Get("a"), std::nullopt);
}

TEST_F(TableTest, AnythingIsAKeyAndAValue) {
  const std::string bytes("\0\xff\r\n", 4);
  table_->Put("", bytes);
  table_->Put(bytes, "");
  Commit();
  Open();
  EXPECT_THAT(table_->Get(""), Optional(bytes));
  EXPECT_THAT(table_->Get(bytes), Optional(std::string()));
}

TEST_F(TableTest, WhatIsNotCommittedIsLost) {
  table_->Put("old", "1");
  table_->Put("changed", "1");
  table_->Put("deleted", "1");
  Commit();
  table_->Put("new", "2");
  table_->Put("changed", "2");
  table_->Delete("deleted");
  Open();
  EXPECT_THAT(AllRecords(*table_), ElementsAre(Pair("changed", "1"), Pair("deleted", "1"), Pair("old", "1")));
}

TEST_F(TableTest, GetCachedDoesNotAskTheDisk) {
  table_->Put("a", "1");
  EXPECT_THAT(table_->GetCached("a"), Optional(std::string("1")));
  Commit();
  EXPECT_THAT(table_->GetCached("a"), Optional(std::string("1")));
  Open();
  EXPECT_EQ(table_->GetCached("a"), std::nullopt);
  EXPECT_THAT(table_->Get("a"), Optional(std::string("1")));
  EXPECT_THAT(table_->GetCached("a"), Optional(std::string("1")));
}

TEST_F(TableTest, ASmallCacheForgetsButLosesNothing) {
  Open(10'000);
  const std::string value(500, 'v');
  for (int i = 0; i < 200; ++i) table_->Put(absl::StrCat(i), value);
  for (int i = 0; i < 200; ++i)
    EXPECT_NE(table_->GetCached(absl::StrCat(i)), std::nullopt) << "not committed yet";
  Commit();
  int cached = 0;
  for (int i = 0; i < 200; ++i) cached += table_->GetCached(absl::StrCat(i)).has_value();
  EXPECT_LE(cached, 20);
  EXPECT_GE(cached, 1);
  for (int i = 0; i < 200; ++i) EXPECT_THAT(table_->Get(absl::StrCat(i)), Optional(value)) << i;
}

TEST_F(TableTest, AnIteratorSeesWhatIsChangedAheadOfIt) {
  for (const char* key : {"a", "c", "e", "g"}) table_->Put(key, "old");
  Commit();
  table_->Put("b", "uncommitted");
  table_->Delete("c");
  auto at = table_->NewIterator();
  EXPECT_FALSE(at->Valid());
  at->Seek("b");
  ASSERT_TRUE(at->Valid());
  EXPECT_EQ(at->key(), "b");
  table_->Put("f", "new");
  table_->Put("e", "changed");
  table_->Delete("g");
  table_->Put("a", "behind");
  std::vector<std::string> seen;
  for (at->Next(); at->Valid(); at->Next()) {
    seen.push_back(absl::StrCat(std::string(at->key()), "=", std::string(at->value())));
  }
  EXPECT_THAT(seen, ElementsAre("e=changed", "f=new"));
  at->Seek("h");
  EXPECT_FALSE(at->Valid());
}

TEST_F(TableTest, AnIteratorGoesBackwards) {
  for (const char* key : {"a", "c", "e", "g"}) table_->Put(key, "old");
  Commit();
  table_->Put("b", "uncommitted");
  table_->Put("e", "changed");
  table_->Delete("c");
  auto at = table_->NewIterator();
  std::vector<std::string> seen;
  for (at->SeekBefore("z"); at->Valid(); at->Previous()) {
    seen.push_back(absl::StrCat(std::string(at->key()), "=", std::string(at->value())));
    if (seen.size() == 1) table_->Delete("a");
    if (seen.size() == 1) table_->Put("d", "new");
  }
  EXPECT_THAT(seen, ElementsAre("g=old", "e=changed", "d=new", "b=uncommitted"));
  at->SeekBefore("e");
  ASSERT_TRUE(at->Valid());
  EXPECT_EQ(at->key(), "d");
  at->SeekBefore("b");
  EXPECT_FALSE(at->Valid());
  at->Seek("b");
  EXPECT_TRUE(at->Valid());
}

TEST_F(TableTest, SeveralIteratorsAtOnce) {
  for (int i = 10; i < 20; ++i) table_->Put(absl::StrCat(i), "");
  Commit();
  auto outer = table_->NewIterator();
  int pairs = 0;
  for (outer->Seek(""); outer->Valid(); outer->Next()) {
    table_->Put(absl::StrCat(std::string(outer->key()), "+"), "");
    auto inner = table_->NewIterator();
    for (inner->Seek(outer->key()); inner->Valid(); inner->Next()) ++pairs;
    outer->Next();  // what was put right behind it
    ASSERT_TRUE(outer->Valid());
    EXPECT_EQ(outer->key().size(), 3u);
  }
  // 10 keys when the first is made, one more with each: 11 + 10 + ... + 2
  EXPECT_EQ(pairs, 65);
}

// The table against a map, with iterators that live while it is changed.
TEST_F(TableTest, DoesWhatAMapDoes) {
  const uint32_t base = std::random_device()();
  for (uint32_t seed = base; seed != base + 5; ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    std::mt19937 random(seed);
    const auto below = [&](uint32_t limit) { return random() % limit; };
    const auto some_key = [&] { return absl::StrCat("key", below(60)); };
    std::map<std::string, std::string> model = AllRecords(*table_);
    const auto change = [&] {
      const std::string key = some_key();
      if (below(3) == 0) {
        table_->Delete(key);
        model.erase(key);
      } else {
        model[key] = std::string(below(5) == 0 ? below(12'000) : below(30), 'v');
        table_->Put(key, model[key]);
      }
    };
    for (int step = 0; step < 3000; ++step) {
      if (below(20) == 0) Commit();
      if (below(300) == 0) {
        Commit();
        const size_t cache = below(2) == 0 ? 5000 : 1 << 20;
        Open(cache, nullptr, std::chrono::milliseconds(below(2)));
      }
      change();
      const std::string key = some_key();
      const auto value = table_->Get(key);
      ASSERT_EQ(value.has_value(), model.contains(key)) << key;
      if (value) {
        ASSERT_TRUE(*value == model[key]) << key;
      }
      if (below(10) != 0) continue;
      auto at = table_->NewIterator();
      at->Seek(key);
      for (auto expected = model.lower_bound(key); expected != model.end();) {
        ASSERT_TRUE(at->Valid()) << expected->first;
        ASSERT_EQ(at->key(), expected->first);
        ASSERT_TRUE(at->value() == expected->second);
        const std::string here = expected->first;
        if (below(3) == 0) change();
        at->Next();
        expected = model.upper_bound(here);
      }
      ASSERT_FALSE(at->Valid()) << at->key();
      at->SeekBefore(key);
      for (auto expected = model.lower_bound(key); expected != model.begin();) {
        --expected;
        ASSERT_TRUE(at->Valid()) << expected->first;
        ASSERT_EQ(at->key(), expected->first);
        ASSERT_TRUE(at->value() == expected->second);
        const std::string here = expected->first;
        if (below(3) == 0) change();
        at->Previous();
        expected = model.lower_bound(here);
      }
      ASSERT_FALSE(at->Valid()) << at->key();
    }
  }
}

TEST_F(TableTest, LargeValues) {
  const std::string large(20 << 20, 'v');
  table_->Put("large", large);
  Commit();
  table_->Put("small", "1");
  Commit();
  Open();
  EXPECT_THAT(table_->Get("small"), Optional(std::string("1")));
  ASSERT_NE(table_->Get("large"), std::nullopt);
  EXPECT_TRUE(*table_->Get("large") == large);
}

TEST(TableOpenTest, SaysWhatIsWrong) {
  TestDirectory directory;
  const std::string file = directory.path() + "/file";
  std::ofstream(file) << "not a directory";
  const auto on_a_file = Table::Open({.directory = file, .cache_bytes = 0});
  ASSERT_FALSE(on_a_file.ok());
  EXPECT_THAT(std::string(on_a_file.status().message()), HasSubstr(file));

  const auto first = Table::Open({.directory = directory.path() + "/data", .cache_bytes = 0});
  ASSERT_TRUE(first.ok()) << first.status();
  const auto second = Table::Open({.directory = directory.path() + "/data", .cache_bytes = 0});
  ASSERT_FALSE(second.ok()) << "two of them on the same data";
  EXPECT_THAT(std::string(second.status().message()),
              AllOf(HasSubstr("data"), HasSubstr("another process uses it")));
}

TEST_F(TableTest, AFailedWriteIsNotForgotten) {
  Open(1 << 20, disk_.env());
  table_->Put("a", "1");
  Commit();
  disk_.FailWrites(true);
  table_->Put("b", "2");
  EXPECT_TRUE(table_->status().ok()) << "nothing was written yet";
  EXPECT_THAT(std::string(table_->Commit().message()),
              AllOf(HasSubstr(directory_.path()), HasSubstr("No space")));
  disk_.FailWrites(false);
  table_->Put("c", "3");
  EXPECT_FALSE(table_->Commit().ok()) << "what came between would be missing";
  EXPECT_FALSE(table_->Commit().ok()) << "nothing to write, but not well";
  Open();
  EXPECT_THAT(AllRecords(*table_), ElementsAre(Pair("a", "1")));
}

TEST_F(TableTest, AFailedWriteShowsLaterWhenItIsWrittenBehind) {
  Open(1 << 20, disk_.env(), std::chrono::milliseconds(1));
  table_->Put("a", "1");
  Commit();
  disk_.FailWrites(true);
  // It ends: a millisecond later this is written, and a commit after that knows.
  for (int i = 0; table_->Commit().ok(); ++i) table_->Put("b", absl::StrCat(i));
  EXPECT_THAT(std::string(table_->status().message()), HasSubstr("No space"));
  disk_.FailWrites(false);
  EXPECT_FALSE(table_->Commit().ok());
}

TEST_F(TableTest, WriteBehindDoesNotPileUp) {
  Open(0, nullptr, std::chrono::hours(1));
  for (int i = 0; i < 400; ++i) {
    table_->Put(absl::StrCat(i), std::string(1 << 20, 'v'));
    Commit();
  }
  // All but the last were written, and forgotten.
  int cached = 0;
  for (int i = 0; i < 400; ++i) cached += table_->GetCached(absl::StrCat(i)).has_value();
  EXPECT_LE(cached, 250);
  table_.reset();
  Open();
  EXPECT_EQ(AllRecords(*table_).size(), 400u);
}

TEST_F(TableTest, WrittenThroughItIsThereWhenCommitReturns) {
  Open(1 << 20, nullptr, std::chrono::hours(1));
  table_->Put("a", "1");
  Commit();
  EXPECT_THAT(RecordsIfKilled(), IsEmpty());
  table_->WriteThrough(true);
  table_->Put("b", "2");
  Commit();
  EXPECT_THAT(RecordsIfKilled(), ElementsAre(Pair("a", "1"), Pair("b", "2")));
  // However much it is.
  const std::string large(5 << 20, 'l');
  table_->Put("c", large);
  Commit();
  EXPECT_THAT(RecordsIfKilled(), ElementsAre(Pair("a", "1"), Pair("b", "2"), Pair("c", large)));
  table_->WriteThrough(false);
  table_->Delete("c");
  Commit();
  EXPECT_EQ(RecordsIfKilled().size(), 3u);
}

TEST_F(TableTest, WriteThroughCatchesUpWhileThereIsMore) {
  Open(1 << 20, nullptr, std::chrono::hours(1));
  // Records that each take a step of a flush, and many bytes.
  for (int i = 0; i < 30'000; ++i) table_->Put(absl::StrCat("many", i), std::string(40, 'v'));
  Commit();
  table_->WriteThrough(true);
  // It ends: nobody says after how many commits.
  int commits = 0;
  do {
    table_->Put("count", absl::StrCat(++commits));
    Commit();
  } while (RecordsIfKilled().size() != 30'001);
  for (int i = 1; i <= 3; ++i) {
    table_->Put("count", absl::StrCat(commits + i));
    Commit();
    EXPECT_EQ(RecordsIfKilled()["count"], absl::StrCat(commits + i));
  }
}

TEST_F(TableTest, WriteThroughTakesTheFlushAlong) {
  Open(1 << 20, nullptr, std::chrono::milliseconds(1));
  // Until one is under way.
  int last = 0;
  for (const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(5);
       std::chrono::steady_clock::now() < end; Commit()) {
    table_->Put("a", absl::StrCat(++last));
  }
  table_->WriteThrough(true);
  table_->Put("b", "2");
  Commit();
  EXPECT_THAT(RecordsIfKilled(), ElementsAre(Pair("a", absl::StrCat(last)), Pair("b", "2")));
}

TEST_F(TableTest, AFailedReadIsNotAnAbsentKey) {
  Open(0, disk_.env());
  // Enough for files, which are what is read.
  for (int i = 0; i < 1000; ++i) table_->Put(absl::StrCat(i), std::string(20'000, static_cast<char>(i)));
  Commit();
  Open(0, disk_.env());
  EXPECT_NE(table_->Get("1"), std::nullopt);
  disk_.FailReads(true);
  for (int i = 0; i < 1000 && table_->status().ok(); ++i) table_->Get(absl::StrCat(i));
  EXPECT_THAT(std::string(table_->status().message()),
              AllOf(HasSubstr(directory_.path()), HasSubstr("read")));
  disk_.FailReads(false);
  table_->Put("a", "1");
  EXPECT_FALSE(table_->Commit().ok());
}

TEST_F(TableTest, AFailedWalkIsNotTheEnd) {
  Open(0, disk_.env());
  for (int i = 0; i < 1000; ++i) table_->Put(absl::StrCat(i), std::string(20'000, static_cast<char>(i)));
  Commit();
  Open(0, disk_.env());
  disk_.FailReads(true);
  EXPECT_LT(AllRecords(*table_).size(), 1000u);
  EXPECT_FALSE(table_->status().ok());
}

TEST_F(TableTest, ATurnedBitIsFound) {
  // Random bytes: with others, decompression may find it.
  std::mt19937 random(1);
  for (int i = 0; i < 200; ++i) {
    std::string value(20'000, '\0');
    for (char& byte : value) byte = static_cast<char>(random());
    table_->Put(absl::StrCat(i), value);
  }
  Commit();
  Open(0);
  table_.reset();
  for (const auto& file : std::filesystem::directory_iterator(directory_.path())) {
    if (file.path().extension() != ".ldb") continue;
    std::fstream bytes(file.path(), std::ios::in | std::ios::out | std::ios::binary);
    bytes.seekp(static_cast<std::streamoff>(file.file_size() / 2));
    bytes.put('\x55').put('\xaa');
  }
  Open(0);
  for (int i = 0; i < 200; ++i) table_->Get(absl::StrCat(i));
  EXPECT_THAT(std::string(table_->status().message()), HasSubstr("orruption"));
}

TEST_F(TableTest, FailKeepsTheFirstReason) {
  table_->Fail(absl::DataLossError("first"));
  table_->Fail(absl::DataLossError("second"));
  EXPECT_EQ(table_->status().message(), "first");
  EXPECT_EQ(table_->Commit().message(), "first");
}

}  // namespace
}  // namespace kvstore
