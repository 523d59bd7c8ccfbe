#include "apps/kvstore/resp/likely_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace kvstore {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

std::vector<std::string> KeysIn(std::string_view bytes) {
  // On the heap and of that size, so that a sanitizer sees a read behind the end.
  const std::vector<char> copy(bytes.begin(), bytes.end());
  LikelyKeys keys(std::string_view(copy.data(), copy.size()));
  std::vector<std::string> found;
  for (std::string_view key; keys.Next(&key);) found.emplace_back(key);
  return found;
}

constexpr std::string_view kGet = "*2\r\n$3\r\nGET\r\n$3\r\nabc\r\n";
constexpr std::string_view kSet = "*3\r\n$3\r\nSET\r\n$5\r\nk\r\n*2\r\n$5\r\nvalue\r\n";
constexpr std::string_view kPing = "*1\r\n$4\r\nPING\r\n";

TEST(LikelyKeysTest, TheSecondArgumentOfEachRequest) {
  EXPECT_THAT(
      KeysIn(std::string(kGet) + std::string(kPing) + std::string(kSet) + "*0\r\n" + std::string(kGet)),
      ElementsAre("abc", "k\r\n*2", "abc"));
}

TEST(LikelyKeysTest, OfARequestThatIsCutOffBehindItsKeyTheKeyIsKnown) {
  EXPECT_THAT(KeysIn(kGet.substr(0, kGet.size() - 2)), ElementsAre("abc"));
  EXPECT_THAT(KeysIn(kSet.substr(0, kSet.size() - 4)), ElementsAre("k\r\n*2"));
  EXPECT_THAT(KeysIn(kGet.substr(0, kGet.size() - 3)), IsEmpty());
}

// What the walk gives does not depend on what comes behind the bytes, wherever they end.
TEST(LikelyKeysTest, CutOffAnywhereItFindsAPrefixOfTheKeys) {
  const std::string all = std::string(kSet) + std::string(kPing) + std::string(kGet) + std::string(kSet);
  const std::vector<std::string> keys = KeysIn(all);
  ASSERT_EQ(keys.size(), 3u);
  size_t most = 0;
  for (size_t size = 0; size <= all.size(); ++size) {
    const std::vector<std::string> found = KeysIn(std::string_view(all).substr(0, size));
    ASSERT_LE(found.size(), keys.size());
    EXPECT_TRUE(std::equal(found.begin(), found.end(), keys.begin())) << size;
    EXPECT_GE(found.size(), most) << size;
    most = found.size();
  }
}

TEST(LikelyKeysTest, NothingIsFoundInAnythingElse) {
  for (const char* bytes :
       {"", "GET abc\r\n", "\r\n*2\r\n", "*2", "*\r\n", "*-1\r\n$3\r\nGET\r\n", "$3\r\nabc\r\n",
        "*2\r\n$3\r\nGET\r\n:5\r\n", "*99999999999999999999999\r\n$3\r\nGET\r\n$1\r\na\r\n",
        "*2\r\n$18446744073709551615\r\nGET\r\n$1\r\na\r\n", "*2\r\n$-1\r\n$3\r\nabc\r\n"}) {
    EXPECT_THAT(KeysIn(bytes), IsEmpty()) << bytes;
  }
}

}  // namespace
}  // namespace kvstore
