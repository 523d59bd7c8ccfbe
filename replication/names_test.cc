#include "replication/names.h"

#include <gtest/gtest.h>

#include <string>

namespace understudy::replication {
namespace {

TEST(NamesTest, NamesOfNodes) {
  for (const char* good : {"a", "node-1.example_X", "0", "-"}) EXPECT_TRUE(IsNodeName(good)) << good;
  EXPECT_TRUE(IsNodeName(std::string(64, 'x')));
  EXPECT_FALSE(IsNodeName(std::string(65, 'x')));
  EXPECT_FALSE(IsNodeName(std::string(5000, 'x')));
  for (const char* bad : {"", " ", "a b", "a\n", "a:1", "a/b", "a%41", "\"", "a,b", "\xc3\xa4", "a\x7f"}) {
    EXPECT_FALSE(IsNodeName(bad)) << bad;
  }
  EXPECT_FALSE(IsNodeName(std::string("a\0b", 3)));
}

TEST(NamesTest, TextOfOthersIsOneLine) {
  EXPECT_EQ(Printable("plain text, \"quotes\" too"), "plain text, \"quotes\" too");
  EXPECT_EQ(Printable("a\nE1125 forged"), "a\\nE1125 forged");
  EXPECT_EQ(Printable("\x1b[2J\xff"), "\\x1b[2J\\xff");
  EXPECT_EQ(Printable(std::string(5000, 'x'), 3), "xxx... (5000 bytes)");
}

}  // namespace
}  // namespace understudy::replication
