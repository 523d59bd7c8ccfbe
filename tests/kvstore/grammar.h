// What a client may say: every command of the store with all its options.
#ifndef UNDERSTUDY_TESTS_KVSTORE_GRAMMAR_H_
#define UNDERSTUDY_TESTS_KVSTORE_GRAMMAR_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"

namespace kvstore::test {

// A command and its arguments, in words separated by blanks:
//   EX          the word itself
//   <ttl>       a value of that kind, see values.h
//   (a|b c)     one of these
//   [a b]       perhaps
//   {a|b|c}     some of these, in any order, perhaps one of them twice
//   (a b)...    once or several times
struct Form {
  std::string_view name;
  std::string_view arguments;
  int weight;  // how often, in proportion to the others
};
absl::Span<const Form> Grammar();

// Decides what a form leaves open.
struct Choice {
  std::function<uint64_t(uint64_t n)> below;  // 0 to n - 1
  std::function<std::vector<std::string>(std::string_view kind)>
      value;  // of "ttl": one word; of "request": many
};
// The name and arguments. With `below` always 0: the shortest.
std::vector<std::string> Expand(const Form& form, const Choice& choice);

}  // namespace kvstore::test

#endif  // UNDERSTUDY_TESTS_KVSTORE_GRAMMAR_H_
