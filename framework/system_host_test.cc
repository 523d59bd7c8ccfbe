#include "framework/system_host.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <thread>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tcpshim/unique_fd.h"

namespace understudy {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;

class SystemHostTest : public testing::Test {
 protected:
  Timer::Time now() const { return clock_.Monotonic(); }

  boost::asio::io_context loop_;
  const SystemClock clock_;
  SystemHost host_{loop_, &clock_};
};

TEST_F(SystemHostTest, ATimerRunsOnceAndNotBeforeItsTime) {
  const auto timer = host_.NewTimer();
  std::vector<Timer::Time> ran;
  const Timer::Time due = now() + milliseconds(2);
  timer->Set(due, [&] { ran.push_back(now()); });
  EXPECT_EQ(timer->due(), due);
  loop_.run();
  ASSERT_EQ(ran.size(), 1u);
  EXPECT_GE(ran[0], due);
  EXPECT_EQ(timer->due(), std::nullopt);
}

TEST_F(SystemHostTest, WhatIsSetAnewReplacesWhatWasSet) {
  const auto timer = host_.NewTimer();
  std::vector<int> ran;
  timer->Set(now(), [&] { ran.push_back(1); });
  timer->Set(now(), [&] {
    ran.push_back(2);
    EXPECT_EQ(timer->due(), std::nullopt);
    timer->Set(now(), [&] { ran.push_back(3); });
  });
  loop_.run();
  EXPECT_THAT(ran, ElementsAre(2, 3));
}

// Both are due, and their handlers on the way, when the first one runs.
TEST_F(SystemHostTest, ATimerThatIsDueCanStillBeCancelled) {
  const auto first = host_.NewTimer(), second = host_.NewTimer();
  const Timer::Time due = now();
  std::vector<int> ran;
  first->Set(due, [&] {
    ran.push_back(1);
    second->Cancel();
  });
  second->Set(due, [&] { ran.push_back(2); });
  loop_.run();
  EXPECT_THAT(ran, ElementsAre(1));
  EXPECT_EQ(second->due(), std::nullopt);
}

TEST_F(SystemHostTest, ATimerMayGoInsideItsOwnCallAndWhileItIsDue) {
  auto first = host_.NewTimer(), second = host_.NewTimer();
  const Timer::Time due = now();
  int ran = 0;
  first->Set(due, [&] {
    ++ran;
    first.reset();
    second.reset();
  });
  second->Set(due, [&] { ++ran; });
  loop_.run();
  EXPECT_EQ(ran, 1);
}

TEST_F(SystemHostTest, ADescriptorIsToldOfAsLongAsItIsReadable) {
  const tcpshim::UniqueFd fd(eventfd(3, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE));
  int told = 0;
  std::unique_ptr<DescriptorWatch> watch;
  watch = host_.WatchReadable(fd.get(), [&] {
    uint64_t one = 0;
    EXPECT_EQ(read(fd.get(), &one, sizeof one), static_cast<ssize_t>(sizeof one));
    if (++told == 3) watch.reset();
  });
  loop_.run();  // returns, since nothing is watched any more
  EXPECT_EQ(told, 3);
  EXPECT_EQ(eventfd_write(fd.get(), 1), 0) << "the descriptor is its owner's";
}

TEST_F(SystemHostTest, AWatchMayGoInsideItsCallThoughThereIsMoreToRead) {
  const tcpshim::UniqueFd fd(eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
  int told = 0;
  std::unique_ptr<DescriptorWatch> watch;
  watch = host_.WatchReadable(fd.get(), [&] {
    ++told;
    watch.reset();
  });
  loop_.run();
  EXPECT_EQ(told, 1);
}

TEST_F(SystemHostTest, WhatIsPostedRunsInOrderFromAnyThread) {
  std::vector<int> ran;
  host_.Post([&] {
    ran.push_back(1);
    host_.Post([&] { ran.push_back(3); });
  });
  std::thread([&] { host_.Post([&] { ran.push_back(2); }); }).join();
  EXPECT_TRUE(ran.empty());
  loop_.run();
  EXPECT_THAT(ran, ElementsAre(1, 2, 3));
}

TEST_F(SystemHostTest, NoTwoRandomNumbersAreTheSame) { EXPECT_NE(host_.Random(), host_.Random()); }

}  // namespace
}  // namespace understudy
