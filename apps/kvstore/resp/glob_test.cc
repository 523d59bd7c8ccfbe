#include "apps/kvstore/resp/glob.h"

#include <string>
#include <string_view>

#include <gtest/gtest.h>

namespace kvstore {
namespace {

struct Case {
  std::string_view pattern, text;
  bool matches;
};

void Expect(const Case& c, bool ignore_case = false) {
  EXPECT_EQ(GlobMatches(c.pattern, c.text, ignore_case), c.matches) << c.pattern << " and " << c.text;
}

TEST(GlobTest, StarsAndQuestionMarks) {
  const Case cases[] = {
      {"abc", "abc", true},  {"abc", "ab", false},       {"ab", "abc", false},
      {"a?c", "abc", true},  {"a?c", "ac", false},       {"?", "", false},
      {"*", "abc", true},    {"a*", "a", true},          {"*c", "abc", true},
      {"*b", "abc", false},  {"a*b*c", "aXbYbZc", true}, {"a*b*c", "aXcYbZ", false},
      {"a**c", "abc", true}, {"***", "x", true},         {"*?", "x", true},
      {"*ab", "aab", true},  {"*?*?", "x", false},       {"h?llo", "h\xffllo", true},
  };
  for (const Case& c : cases) Expect(c);
}

// As Redis has it: "*" alone is not even compared.
TEST(GlobTest, NothingIsMatchedByNothingAndByOneStar) {
  const Case cases[] = {
      {"", "", true}, {"*", "", true}, {"**", "", false}, {"***", "", false}, {"", "a", false},
  };
  for (const Case& c : cases) Expect(c);
}

TEST(GlobTest, Classes) {
  const Case cases[] = {
      {"[abc]", "b", true}, {"[abc]", "d", false}, {"[a-c]x", "bx", true},  {"[a-c]", "-", false},
      {"[c-a]", "b", true}, {"[^a-c]", "d", true}, {"[^a-c]", "b", false},  {"[a^]", "^", true},
      {"[\\]]", "]", true}, {"[\\^a]", "^", true}, {"[a\\-c]", "b", false}, {"[a\\-c]", "-", true},
      {"[a-]", "-", false}, {"[]", "]", false},    {"[]a]", "]", false},    {"[^]", "a", true},
      {"[^]", "", false},   {"[a-c", "b", true},   {"[abc", "c", true},     {"[", "[", false},
      {"[^", "x", true},    {"a[b-]", "ab", true}, {"[[]", "[", true},      {"*[0-9]", "key7", true},
  };
  for (const Case& c : cases) Expect(c);
}

TEST(GlobTest, Backslashes) {
  const Case cases[] = {
      {"\\*", "*", true},   {"\\*", "a", false}, {"\\a", "a", true},     {"\\\\", "\\", true},
      {"a\\", "a\\", true}, {"a\\", "a", false}, {"\\[a]", "[a]", true}, {"[\\", "\\", true},
  };
  for (const Case& c : cases) Expect(c);
}

TEST(GlobTest, IgnoresCaseWhenAsked) {
  for (std::string_view pattern : {"aBc", "[a-b]b[c]", "?B\\c"}) {
    Expect({pattern, "AbC", true}, true);
    Expect({pattern, "AbC", false});
  }
}

// Backtracking into each of the stars would take longer than anybody waits.
TEST(GlobTest, ManyStarsTakeBoundedTime) {
  std::string pattern;
  for (int i = 0; i < 500; ++i) pattern += "a*";
  EXPECT_FALSE(GlobMatches(pattern + "b", std::string(5000, 'a')));
  EXPECT_TRUE(GlobMatches(pattern + "b", std::string(5000, 'a') + "b"));
}

}  // namespace
}  // namespace kvstore
