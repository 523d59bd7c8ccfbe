#include "replication/last_word.h"

#include <gtest/gtest.h>

#include "replication/pulse.h"

namespace understudy::replication {
namespace {

TEST(LastWordTest, FitsItsOwnHashOnly) {
  const std::string word = NewLastWord();
  ASSERT_EQ(word.size(), kLastWordSize);
  EXPECT_NE(word, NewLastWord());
  EXPECT_EQ(HashOfLastWord(word), HashOfLastWord(word));
  for (size_t i = 0; i < word.size(); ++i) {
    std::string other = word;
    other[i] ^= 1;
    EXPECT_NE(HashOfLastWord(other), HashOfLastWord(word)) << i;
  }
  // FIPS 180-4, "abc".
  EXPECT_EQ(HashOfLastWord("abc").substr(0, 4), "\xba\x78\x16\xbf");
}

TEST(LastWordTest, NothingElseIsOne) {
  const std::string word = NewLastWord();
  const std::string datagram = EncodeLastWord(word);
  EXPECT_EQ(DecodeLastWord(datagram), word);
  EXPECT_FALSE(DecodePulse(datagram, "").has_value());
  for (size_t size = 0; size < datagram.size(); ++size) {
    EXPECT_FALSE(DecodeLastWord(datagram.substr(0, size)).has_value()) << size;
  }
  EXPECT_FALSE(DecodeLastWord(datagram + "x").has_value());
  for (size_t i = 0; i < datagram.size() - word.size(); ++i) {
    std::string damaged = datagram;
    damaged[i] ^= 1;
    EXPECT_FALSE(DecodeLastWord(damaged).has_value()) << i;
  }
  EXPECT_FALSE(DecodeLastWord(Encode(PulseMessage{false, 1, 2, "10.0.0.1:80"}, "")).has_value());
}

}  // namespace
}  // namespace understudy::replication
