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
  for (const std::string& key : {std::string(), std::string(32, 'k')}) {
    const std::string datagram = EncodeLastWord({word, {17, 3, 1}}, key);
    const auto last = DecodeLastWord(datagram, key);
    ASSERT_TRUE(last.has_value());
    EXPECT_EQ(last->word, word);
    EXPECT_EQ(last->fatal.lsn, 17u);
    EXPECT_EQ(last->fatal.connection, 3u);
    EXPECT_EQ(last->fatal.ending, 1u);
    EXPECT_FALSE(DecodePulse(datagram, key).has_value());
    for (size_t size = 0; size < datagram.size(); ++size) {
      EXPECT_FALSE(DecodeLastWord(datagram.substr(0, size), key).has_value()) << size;
    }
    EXPECT_FALSE(DecodeLastWord(datagram + "x", key).has_value());
    EXPECT_FALSE(DecodeLastWord(datagram, std::string(32, 'q')).has_value());
    // Without a key only what it is can be told, not whose.
    const size_t told = key.empty() ? 8 : datagram.size();
    for (size_t i = 0; i < told; ++i) {
      std::string damaged = datagram;
      damaged[i] ^= 1;
      EXPECT_FALSE(DecodeLastWord(damaged, key).has_value()) << i;
    }
    EXPECT_FALSE(DecodeLastWord(Encode(PulseMessage{false, 1, 2, "10.0.0.1:80"}, key), key).has_value());
  }
}

}  // namespace
}  // namespace understudy::replication
