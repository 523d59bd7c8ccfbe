// Waiting in tests, for what a kernel, a cable or another process does in its own time.
#ifndef UNDERSTUDY_TCPSHIM_WAIT_FOR_TEST_H_
#define UNDERSTUDY_TCPSHIM_WAIT_FOR_TEST_H_

#include <poll.h>

#include <chrono>
#include <functional>

#include "gtest/gtest.h"

namespace understudy::tcpshim {

// Looks each millisecond until `condition` holds; fails after `limit`.
inline ::testing::AssertionResult Eventually(const std::function<bool()>& condition,
                                             std::chrono::milliseconds limit = std::chrono::seconds(20)) {
  const auto until = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > until) return ::testing::AssertionFailure() << "timed out";
    poll(nullptr, 0, 1);
  }
  return ::testing::AssertionSuccess();
}

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_WAIT_FOR_TEST_H_
