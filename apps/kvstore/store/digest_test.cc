#include "apps/kvstore/store/digest.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "apps/kvstore/store/elements.h"
#include "apps/kvstore/store/list.h"
#include "apps/kvstore/store/store_for_test.h"
#include "apps/kvstore/store/string_value.h"

namespace kvstore {
namespace {

const std::string kZeros(32, '0');

class DigestTest : public testing::Test {
 protected:
  DigestTest() {
    one_.keys().SetNow(1000);
    two_.keys().SetNow(1000);
  }
  std::string One() { return DigestOf(one_.keys()); }
  std::string Two() { return DigestOf(two_.keys()); }

  TestStore one_, two_{0};
};

TEST_F(DigestTest, NothingIsZeros) {
  EXPECT_EQ(One(), kZeros);
  EXPECT_EQ(DigestOf(one_.keys(), "no such key"), kZeros);
  WriteString(one_.keys(), "a", "1", 2000);
  EXPECT_NE(One(), kZeros);
  one_.keys().SetNow(2001);
  EXPECT_EQ(One(), kZeros);
}

TEST_F(DigestTest, TheWayToItDoesNotMatter) {
  for (int i = 0; i < 300; ++i) {
    WriteString(one_.keys(), absl::StrCat(i), "value", 0);
    Elements(one_.keys(), "set", one_.keys().Find("set"), Type::kSet).Insert(absl::StrCat(i));
    List(one_.keys(), "list", one_.keys().Find("list")).PushBack(absl::StrCat(i));
  }
  two_.keys().Clear();
  for (int i = 599; i >= 0; --i) {
    if (i < 300) {
      WriteString(two_.keys(), absl::StrCat("old", i), "value", 5000);
      two_.keys().Rename(absl::StrCat("old", i), absl::StrCat(i));
      List(two_.keys(), "list", two_.keys().Find("list")).PushFront(absl::StrCat(i));
    }
    Elements(two_.keys(), "set", two_.keys().Find("set"), Type::kSet).Insert(absl::StrCat(i));
  }
  EXPECT_NE(One(), Two());
  for (int i = 0; i < 300; ++i) WriteString(two_.keys(), absl::StrCat(i), "value", 0);
  for (int i = 300; i < 600; ++i) {
    Elements(two_.keys(), "set", two_.keys().Find("set"), Type::kSet).Erase(absl::StrCat(i));
  }
  EXPECT_EQ(One(), Two());
  ASSERT_TRUE(two_.keys().Commit().ok());
  two_.Reopen();
  EXPECT_EQ(One(), Two());
  for (const char* key : {"0", "set", "list"}) {
    EXPECT_EQ(DigestOf(one_.keys(), key), DigestOf(two_.keys(), key)) << key;
  }
}

TEST_F(DigestTest, AStringIsTheSameInItsRecordAndInChunks) {
  const std::string value(kInlineString, 'v');
  WriteString(one_.keys(), "key", value, 0);
  // Grown through chunks, never shrunk back.
  OverwriteString(two_.keys(), "key", {}, 0, value);
  EXPECT_EQ(One(), Two());
  const std::string longer(3 * kStringChunk + 7, '\0');
  WriteString(one_.keys(), "key", longer, 0);
  WriteString(two_.keys(), "key", "", 0);
  OverwriteString(two_.keys(), "key", two_.keys().Find("key"), longer.size() - 1, std::string(1, '\0'));
  EXPECT_EQ(One(), Two()) << "zeros that are there, and zeros that are left out";
}

TEST_F(DigestTest, EveryDifferenceShows) {
  Keyspace& keys = one_.keys();
  std::set<std::string> seen;
  const auto expect_new = [&](const char* what) { EXPECT_TRUE(seen.insert(One()).second) << what; };
  expect_new("nothing");
  WriteString(keys, "a", "", 0);
  expect_new("a key");
  WriteString(keys, "a", "1", 0);
  expect_new("a value");
  WriteString(keys, "a", "1", 5000);
  expect_new("an expiry");
  WriteString(keys, "a", "1", 5001);
  expect_new("another expiry");
  keys.Rename("a", "b");
  expect_new("another name");
  keys.Remove("b");
  List(keys, "b", {}).PushBack("1");
  expect_new("a list");
  keys.Remove("b");
  Elements(keys, "b", {}, Type::kSet).Insert("1");
  expect_new("a set");
  keys.Remove("b");
  Elements(keys, "b", {}, Type::kHash).Insert("1");
  expect_new("a hash");
  Elements(keys, "b", keys.Find("b"), Type::kHash).Insert("1", "2");
  expect_new("a field's value");
  keys.Remove("b");
  Elements(keys, "b", {}, Type::kHash).Insert("12", "");
  expect_new("where the name ends");
  keys.Clear();
  for (const char* value : {"1", "2"}) List(keys, "b", keys.Find("b")).PushBack(value);
  expect_new("two elements");
  keys.Clear();
  for (const char* value : {"2", "1"}) List(keys, "b", keys.Find("b")).PushBack(value);
  expect_new("in another order");
}

TEST_F(DigestTest, AKeysDigestIsNotThatOfItsName) {
  WriteString(one_.keys(), "a", "1", 0);
  WriteString(one_.keys(), "b", "1", 0);
  EXPECT_EQ(DigestOf(one_.keys(), "a"), DigestOf(one_.keys(), "b"));
}

}  // namespace
}  // namespace kvstore
