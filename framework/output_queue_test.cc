#include "framework/output_queue.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

namespace understudy {
namespace {

TEST(OutputQueueTest, BeginsEmpty) {
  const OutputQueue queue;
  EXPECT_EQ(queue.begin(), 0u);
  EXPECT_EQ(queue.end(), 0u);
  EXPECT_EQ(queue.size(), 0u);
  EXPECT_EQ(queue.View(0, 100), "");
}

TEST(OutputQueueTest, ViewIsCutToWhatIsKept) {
  OutputQueue queue;
  queue.Append("0123456789");
  queue.TrimTo(4);
  EXPECT_EQ(queue.begin(), 4u);
  EXPECT_EQ(queue.end(), 10u);
  EXPECT_EQ(queue.View(0, 6), "45");
  EXPECT_EQ(queue.View(6, 8), "67");
  EXPECT_EQ(queue.View(8, 99), "89");
  EXPECT_EQ(queue.View(20, 30), "");
  EXPECT_EQ(queue.View(8, 6), "");
}

TEST(OutputQueueTest, TrimmingGoesForwardOnlyAndNotBeyondTheEnd) {
  OutputQueue queue;
  queue.Append("0123456789");
  queue.TrimTo(6);
  queue.TrimTo(2);
  EXPECT_EQ(queue.begin(), 6u);
  queue.TrimTo(1000);
  EXPECT_EQ(queue.begin(), 10u);
  EXPECT_EQ(queue.end(), 10u);
  queue.Append("ab");
  EXPECT_EQ(queue.View(10, 12), "ab");
}

// Against the plainest thing that does the same: all output ever produced, and two numbers.
TEST(OutputQueueTest, BehavesAsItsModel) {
  const uint32_t base = testing::UnitTest::GetInstance()->random_seed();
  for (uint32_t seed = base; seed < base + 20; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937 random(seed);
    OutputQueue queue;
    std::string all;
    uint64_t begin = 0;
    for (int step = 0; step < 300; ++step) {
      switch (random() % 4) {
        case 0:
        case 1: {
          // Now and then so much that the queue moves its bytes.
          const size_t size = random() % (random() % 10 == 0 ? 200'000 : 2'000);
          std::string bytes(size, 0);
          for (char& byte : bytes) byte = static_cast<char>(random());
          queue.Append(bytes);
          all += bytes;
          break;
        }
        case 2: {
          const uint64_t to = random() % (all.size() + 100);
          queue.TrimTo(to);
          begin = std::max<uint64_t>(begin, std::min<uint64_t>(to, all.size()));
          break;
        }
        case 3: {
          const uint64_t from = begin + random() % (all.size() - begin + 10);
          const uint64_t to = from + random() % 5'000;
          const std::string expected =
              from >= all.size() ? "" : all.substr(from, std::min<uint64_t>(to, all.size()) - from);
          ASSERT_EQ(queue.View(from, to), expected);
          break;
        }
      }
      ASSERT_EQ(queue.begin(), begin);
      ASSERT_EQ(queue.end(), all.size());
      ASSERT_EQ(queue.size(), all.size() - begin);
      ASSERT_TRUE(queue.View(0, ~uint64_t{0}) == std::string_view(all).substr(begin));
    }
  }
}

}  // namespace
}  // namespace understudy
