// Values of requests: keys, integers, times, patterns; right and wrong ones.
#ifndef UNDERSTUDY_TESTS_KVSTORE_VALUES_H_
#define UNDERSTUDY_TESTS_KVSTORE_VALUES_H_

#include <cstdint>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"

namespace kvstore::test {

// The same numbers on every machine, unlike the standard library's distributions.
class Dice {
 public:
  explicit Dice(uint64_t seed) : engine_(seed) {}
  uint64_t Below(uint64_t n) { return engine_() % n; }  // REQUIRES: n > 0
  bool Percent(uint64_t n) { return Below(100) < n; }
  template <typename T, size_t n>
  const T& OneOf(const T (&all)[n]) {
    return all[Below(n)];
  }
  uint64_t Number() { return engine_(); }

 private:
  std::mt19937_64 engine_;
};

// An unsigned number out of the environment.
uint64_t FromEnvironment(const char* name, uint64_t otherwise);
// UNDERSTUDY_TEST_SEED, or a new one; printed.
uint64_t TestSeed();

// Of "key", "s", "int", ...: see grammar.cc. Times to live are more than 1000 seconds or none, so that no key
// expires while a test runs, and no two are closer than 100 seconds: which of two is later does not depend on
// when a server got them.
std::string RandomValue(std::string_view kind, Dice& dice);
// One that is right, and always the same. A key: `key`.
std::string PlainValue(std::string_view kind, const std::string& key);

// What is no integer for Redis, or too large for one.
absl::Span<const std::string> WrongIntegers();
absl::Span<const std::string> WrongFloats();

}  // namespace kvstore::test

#endif  // UNDERSTUDY_TESTS_KVSTORE_VALUES_H_
