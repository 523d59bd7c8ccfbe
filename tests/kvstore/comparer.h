// Whether two replies to one request say the same.
//
// To the byte, except where Redis leaves an order undefined, picks at random, or tells its own time or
// figures.
#ifndef UNDERSTUDY_TESTS_KVSTORE_COMPARER_H_
#define UNDERSTUDY_TESTS_KVSTORE_COMPARER_H_

#include <chrono>
#include <string>
#include <vector>

#include "tests/kvstore/request.h"
#include "tests/kvstore/resp_value.h"

namespace kvstore::test {

// The two got a time to live at moments so far apart, at most.
inline constexpr std::chrono::milliseconds kClockTolerance{8000};

// "" when they agree, otherwise what is different.
std::string CompareReplies(const std::vector<std::string>& args, const RespValue& ours,
                           const RespValue& redis);

// One connection's replies in turn: knows what was queued, so that EXEC's elements are compared each by its
// command.
class Comparer {
 public:
  std::string Compare(const std::vector<std::string>& args, const RespValue& ours, const RespValue& redis);

 private:
  std::string CompareExec(const RespValue& ours, const RespValue& redis);

  bool in_multi_ = false;
  std::vector<std::vector<std::string>> queued_;
};

}  // namespace kvstore::test

#endif  // UNDERSTUDY_TESTS_KVSTORE_COMPARER_H_
