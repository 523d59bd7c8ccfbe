#include "apps/kvstore/store/string_value.h"

#include <gtest/gtest.h>

#include <string>

#include "apps/kvstore/store/store_for_test.h"

namespace kvstore {
namespace {

class StringValueTest : public testing::Test {
 protected:
  StringValueTest() { keys().SetNow(1000); }
  Keyspace& keys() { return store_.keys(); }
  void Write(const std::string& value, int64_t expire_ms = 0) {
    WriteString(keys(), "key", value, expire_ms);
  }
  uint64_t Overwrite(uint64_t offset, const std::string& bytes) {
    return OverwriteString(keys(), "key", keys().Find("key"), offset, bytes);
  }
  std::string Read() { return ReadString(keys(), keys().Find("key")); }
  std::string Read(uint64_t offset, uint64_t length) {
    std::string out;
    ReadString(keys(), keys().Find("key"), offset, length, &out);
    return out;
  }
  size_t Parts() { return CountKind(store_.RecordsWithoutGarbage(), 'P'); }
  // Different at each place.
  static std::string Pattern(size_t size) {
    std::string bytes(size, '\0');
    for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<char>(i * 7 + i / 251 + i / 65536);
    return bytes;
  }

  TestStore store_;
};

TEST_F(StringValueTest, AnySizeComesBack) {
  const size_t sizes[] = {0,
                          1,
                          kInlineString,
                          kInlineString + 1,
                          kStringChunk - 1,
                          kStringChunk,
                          kStringChunk + 1,
                          10 * kStringChunk + 5,
                          3 << 20};
  for (const size_t size : sizes) {
    Write(Pattern(size));
    EXPECT_EQ(keys().Find("key").count, size);
    EXPECT_TRUE(Read() == Pattern(size)) << size;
    EXPECT_EQ(Parts(), size <= kInlineString ? 0 : (size + kStringChunk - 1) / kStringChunk);
    store_.Reopen();
    EXPECT_TRUE(Read() == Pattern(size)) << size << ", from the disk";
  }
}

TEST_F(StringValueTest, ALongOneOverALongOneUsesItsRecords) {
  Write(Pattern(5 * kStringChunk));
  const uint64_t id = keys().Find("key").id;
  Write(Pattern(6 * kStringChunk + 1));
  EXPECT_EQ(keys().Find("key").id, id);
  Write(Pattern(3 * kStringChunk));
  EXPECT_NE(keys().Find("key").id, id) << "the rest of the old one must not show";
  EXPECT_TRUE(Read() == Pattern(3 * kStringChunk));
  EXPECT_EQ(Parts(), 3u);
  Write("short");
  EXPECT_EQ(Read(), "short");
  EXPECT_EQ(Parts(), 0u);
}

TEST_F(StringValueTest, OverwriteMakesItAndKeepsItsExpiry) {
  EXPECT_EQ(Overwrite(3, "abc"), 6u);
  EXPECT_EQ(Read(), std::string("\0\0\0abc", 6));
  EXPECT_EQ(Overwrite(1, "x"), 6u);
  EXPECT_EQ(Read(), std::string("\0x\0abc", 6));
  Write("hello", 5000);
  EXPECT_EQ(Overwrite(5, " world"), 11u);
  EXPECT_EQ(Read(), "hello world");
  EXPECT_EQ(keys().Find("key").expire_ms, 5000);
}

TEST_F(StringValueTest, OverwriteAcrossChunks) {
  std::string expected = Pattern(3 * kStringChunk + 100);
  Write(expected);
  const std::string bytes(kStringChunk + 20, '!');
  Overwrite(kStringChunk - 10, bytes);
  expected.replace(kStringChunk - 10, bytes.size(), bytes);
  EXPECT_TRUE(Read() == expected);
  Overwrite(expected.size(), "end");
  expected += "end";
  EXPECT_TRUE(Read() == expected);
}

TEST_F(StringValueTest, GrowingOutOfItsRecord) {
  std::string expected = Pattern(kInlineString);
  Write(expected);
  EXPECT_EQ(keys().Find("key").id, 0u);
  Overwrite(expected.size(), "x");
  expected += "x";
  EXPECT_NE(keys().Find("key").id, 0u);
  EXPECT_TRUE(Read() == expected);
  for (int i = 0; i < 100; ++i) {
    Overwrite(expected.size(), std::string(500, 'y'));
    expected.append(500, 'y');
  }
  EXPECT_TRUE(Read() == expected);
}

TEST_F(StringValueTest, FarBehindTheEndAreZerosThatCostLittle) {
  constexpr uint64_t kFar = 100 << 20;
  Write("begin");
  EXPECT_EQ(Overwrite(kFar, "end"), kFar + 3);
  size_t bytes = 0;
  for (const auto& [key, value] : AllRecords(store_.table())) bytes += value.size();
  EXPECT_LT(bytes, 100'000u);
  EXPECT_EQ(Read(0, 8), std::string("begin\0\0\0", 8));
  EXPECT_EQ(Read(kFar - 2, 5), std::string("\0\0end", 5));
  EXPECT_EQ(Read(kFar / 2, 100'000), std::string(100'000, '\0'));
  EXPECT_EQ(Read().size(), kFar + 3);
  keys().Remove("key");
  EXPECT_EQ(Parts(), 0u);
}

TEST_F(StringValueTest, AnyRange) {
  const std::string value = Pattern(4 * kStringChunk);
  Write(value);
  for (const size_t offset : {size_t{0}, size_t{5}, kStringChunk - 1, kStringChunk}) {
    for (const size_t length : {size_t{0}, size_t{1}, kStringChunk, 2 * kStringChunk + 3}) {
      EXPECT_TRUE(Read(offset, length) == value.substr(offset, length)) << offset << ", " << length;
    }
  }
  EXPECT_EQ(Read(value.size(), 0), "");
}

TEST_F(StringValueTest, AChangeInALongOneWritesLittle) {
  Write(Pattern(1 << 20));
  ASSERT_TRUE(keys().Commit().ok());
  Overwrite(1 << 20, "0123456789");
  EXPECT_LE(store_.table().uncommitted(), 2u);
}

}  // namespace
}  // namespace kvstore
