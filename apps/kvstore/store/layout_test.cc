// The bytes on disk. What fails here breaks the data of everyone who has some.
#include "apps/kvstore/store/layout.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "apps/kvstore/store/elements.h"
#include "apps/kvstore/store/list.h"
#include "apps/kvstore/store/store_for_test.h"
#include "apps/kvstore/store/string_value.h"

namespace kvstore {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Pair;
using namespace std::string_literals;

std::string Big64(uint64_t value) {
  std::string bytes;
  AppendBig64(&bytes, value);
  return bytes;
}

TEST(LayoutTest, Numbers) {
  std::string bytes;
  AppendBig32(&bytes, 0x01020304);
  AppendBig64(&bytes, 0xff02030405060708);
  EXPECT_EQ(bytes, "\x01\x02\x03\x04\xff\x02\x03\x04\x05\x06\x07\x08"s);
  EXPECT_EQ(ReadBig32(bytes), 0x01020304u);
  EXPECT_EQ(ReadBig64(bytes.substr(4)), 0xff02030405060708u);
}

TEST(LayoutTest, WalkPositionIsXxh3) {
  EXPECT_EQ(WalkPosition(""), 0x2d06800538d394c2u);
  EXPECT_EQ(WalkPosition("a"), 0xe6c632b61e964e1fu);
}

TEST(LayoutTest, RecordsOfEachKind) {
  TestStore store;
  Keyspace& keys = store.keys();
  keys.SetNow(1000);
  WriteString(keys, "s", "value", 0x0102030405);
  List(keys, "l", {}).PushFront("first");
  Elements(keys, "h", {}, Type::kHash).Insert("name", "value");
  Elements(keys, "t", {}, Type::kSet).Insert("name");
  keys.Remove("t");
  const std::string one = "\0\0\0\1"s;
  const auto key = [&](const std::string& name) { return one + "K" + Big64(WalkPosition(name)) + name; };
  ASSERT_LT(WalkPosition("h"), WalkPosition("l"));
  ASSERT_LT(WalkPosition("l"), WalkPosition("s"));
  ASSERT_TRUE(store.table().Commit().ok());
  EXPECT_THAT(AllRecords(store.table()),
              ElementsAre(Pair("\0\0\0\0M"s, testing::_), Pair("\0\0\0\0P"s, ""),
                          Pair(one + "G\0\0\0\0\0\0\0\5"s, "\1\0\0\0\0\0\0\0"s), Pair(one + "H", ""),
                          // A hash with parts, and no expiry; a list; a string inline, with an expiry.
                          Pair(key("h"),
                               "\4\1\0\0\0\0\0\0\0\0"s
                               "\3\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"s),
                          Pair(key("l"),
                               "\2\1\0\0\0\0\0\0\0\0"s
                               "\1\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\xff\xff\xff\xff\xff\xff\xff\x7f"s),
                          Pair(key("s"), "\1\0\5\4\3\2\1\0\0\0value"s), Pair(one + "L", ""),
                          Pair(one + "P" + Big64(1) + Big64(0x7fffffffffffffff), "first"),
                          Pair(one + "P" + Big64(3) + Big64(WalkPosition("name")) + "name", "value"),
                          Pair(one + "P" + Big64(5) + Big64(WalkPosition("name")) + "name", ""),
                          Pair(one + "X" + Big64(0x0102030405) + "s", "")));
}

TEST(LayoutTest, EntriesComeBack) {
  const Entry inline_string{.type = Type::kString, .expire_ms = -5, .count = 5, .bytes = "bytes"};
  const Entry chunked{.type = Type::kString, .expire_ms = 7, .id = ~0ull, .count = 1ull << 40};
  const Entry fenced{.type = Type::kSet, .id = 9, .count = 200, .head = 77, .fenced = true};
  for (const Entry& entry : {inline_string, chunked, fenced}) {
    char header[kMaxEntryHeader];
    const size_t size = EncodeEntryHeader(entry, header);
    const std::string record = std::string(header, size) + std::string(entry.bytes);
    const std::optional<Entry> back = DecodeEntry(record);
    ASSERT_TRUE(back.has_value());
    EXPECT_EQ(back->type, entry.type);
    EXPECT_EQ(back->expire_ms, entry.expire_ms);
    EXPECT_EQ(back->id, entry.id);
    EXPECT_EQ(back->count, entry.count);
    EXPECT_EQ(back->head, entry.head);
    EXPECT_EQ(back->fenced, entry.fenced);
    EXPECT_EQ(back->bytes, entry.bytes);
    if (entry.id != 0) {
      EXPECT_FALSE(DecodeEntry(record + "x").has_value());
      EXPECT_FALSE(DecodeEntry(record.substr(0, record.size() - 1)).has_value());
    }
  }
}

TEST(LayoutTest, NonsenseIsNoEntry) {
  const std::string rest(32, '\1');
  EXPECT_FALSE(DecodeEntry("").has_value());
  EXPECT_FALSE(DecodeEntry("\1\0short"s).has_value());
  EXPECT_FALSE(DecodeEntry("\0\1"s + rest).has_value()) << "no type";
  EXPECT_FALSE(DecodeEntry("\6\1"s + rest).has_value()) << "an unknown type";
  EXPECT_FALSE(DecodeEntry("\2\0"s + rest).has_value()) << "a list without parts";
  EXPECT_FALSE(DecodeEntry("\1\3"s + rest).has_value()) << "an unknown shape";
  EXPECT_FALSE(DecodeEntry("\2\1"s + std::string(32, '\0')).has_value()) << "parts of no id";
}

TEST(LayoutTest, Meta) {
  const Meta meta{.generation = 0x01020304, .next_id = 5, .keys = 6, .expiring = 7};
  const std::string record = EncodeMeta(meta);
  EXPECT_EQ(record, "\1\0\0\0\4\3\2\1\5\0\0\0\0\0\0\0\6\0\0\0\0\0\0\0\7\0\0\0\0\0\0\0"s);
  EXPECT_EQ(DecodeMeta(record).value(), meta);
  EXPECT_FALSE(DecodeMeta("").ok());
  EXPECT_FALSE(DecodeMeta(record + "x").ok());
  EXPECT_FALSE(DecodeMeta(EncodeMeta({.generation = 0})).ok());
  std::string newer = record;
  newer[0] = 2;
  EXPECT_THAT(std::string(DecodeMeta(newer).status().message()), HasSubstr("version 2"));
}

TEST(LayoutTest, PartsOf) {
  EXPECT_EQ(PartsOf({.type = Type::kString, .count = 100}), 0u);
  EXPECT_EQ(PartsOf({.type = Type::kString, .id = 1, .count = kStringChunk}), 1u);
  EXPECT_EQ(PartsOf({.type = Type::kString, .id = 1, .count = kStringChunk + 1}), 2u);
  EXPECT_EQ(PartsOf({.type = Type::kHash, .id = 1, .count = 100}), 100u);
}

}  // namespace
}  // namespace kvstore
