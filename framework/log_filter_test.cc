#include "framework/log_filter.h"

#include <gtest/gtest.h>

#include <string>

namespace understudy {
namespace {

using std::chrono::seconds;

TEST(LogFilterTest, TheSameIsSaidAFewTimesAndThenNowAndThen) {
  LogFilter filter(2, seconds(60));
  LogFilter::Time now(seconds(1000));
  int said = 0;
  for (int i = 0; i < 3000; ++i, now += std::chrono::milliseconds(100)) {
    if (filter.Take("refused by 10.0.0.1: record " + std::to_string(i) + " is gone", now)) ++said;
  }
  EXPECT_EQ(said, 2 + 4);  // 300 s
}

TEST(LogFilterTest, WhatIsNewIsSaid) {
  LogFilter filter(1, seconds(60));
  const LogFilter::Time now(seconds(1000));
  EXPECT_TRUE(filter.Take("one", now));
  EXPECT_TRUE(filter.Take("another", now));
  EXPECT_FALSE(filter.Take("one", now));
  // However many kinds there are, what is kept of them is bounded, and none is lost.
  std::string letters;
  for (char c = 'a'; c <= 'z'; ++c) {
    for (char d = 'a'; d <= 'z'; ++d) EXPECT_TRUE(filter.Take(std::string{c, d}, now));
  }
}

}  // namespace
}  // namespace understudy
