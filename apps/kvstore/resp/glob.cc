#include "apps/kvstore/resp/glob.h"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <utility>

namespace kvstore {

namespace {

char Lower(char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); }

class Matcher {
 public:
  Matcher(std::string_view pattern, bool ignore_case) : pattern_(pattern), ignore_case_(ignore_case) {}

  // Whether the element of the pattern at `at`, which is not '*', takes `c`; `next`: where the one behind it
  // is.
  bool Takes(size_t at, char c, size_t* next) const {
    switch (pattern_[at]) {
      case '?': *next = at + 1; return true;
      case '[': return TakesClass(at + 1, c, next);
      case '\\':
        if (at + 1 < pattern_.size()) ++at;
        break;
    }
    *next = at + 1;
    return Same(pattern_[at], c);
  }

 private:
  bool Same(char a, char b) const { return ignore_case_ ? Lower(a) == Lower(b) : a == b; }

  // `at` is behind the '['. A class that is not closed ends with the pattern.
  bool TakesClass(size_t at, char c, size_t* next) const {
    const bool negated = at < pattern_.size() && pattern_[at] == '^';
    if (negated) ++at;
    bool found = false;
    for (;; ++at) {
      if (at >= pattern_.size()) break;
      if (pattern_[at] == '\\' && at + 1 < pattern_.size()) {
        ++at;
        found = found || pattern_[at] == c;
      } else if (pattern_[at] == ']') {
        ++at;
        break;
      } else if (at + 2 < pattern_.size() && pattern_[at + 1] == '-') {
        found = found || InRange(pattern_[at], pattern_[at + 2], c);
        at += 2;
      } else {
        found = found || Same(pattern_[at], c);
      }
    }
    *next = at;
    return found != negated;
  }

  bool InRange(char first, char last, char c) const {
    if (first > last) std::swap(first, last);
    if (ignore_case_) {
      first = Lower(first);
      last = Lower(last);
      c = Lower(c);
    }
    return c >= first && c <= last;
  }

  const std::string_view pattern_;
  const bool ignore_case_;
};

}  // namespace

// When something does not fit, the last '*' takes one byte more. Earlier ones need not be looked at again:
// what they have taken leaves as much for what is behind as any other choice.
bool GlobMatches(std::string_view pattern, std::string_view text, bool ignore_case) {
  // To Redis "*" is everything without looking; all other patterns but "" want at least one byte, even "**".
  if (text.empty()) return pattern.empty() || pattern == "*";
  const Matcher matcher(pattern, ignore_case);
  size_t in_pattern = 0, in_text = 0;
  size_t star = std::string_view::npos, star_text = 0;  // behind the last '*'; what it has taken ends there
  while (in_text < text.size()) {
    size_t next = 0;
    if (in_pattern < pattern.size() && pattern[in_pattern] == '*') {
      star = ++in_pattern;
      star_text = in_text;
    } else if (in_pattern < pattern.size() && matcher.Takes(in_pattern, text[in_text], &next)) {
      in_pattern = next;
      ++in_text;
    } else if (star != std::string_view::npos) {
      in_pattern = star;
      in_text = ++star_text;
    } else {
      return false;
    }
  }
  while (in_pattern < pattern.size() && pattern[in_pattern] == '*') ++in_pattern;
  return in_pattern == pattern.size();
}

}  // namespace kvstore
