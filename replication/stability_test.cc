#include "replication/stability.h"

#include <gtest/gtest.h>

namespace understudy::replication {
namespace {

TEST(StabilityTest, WithoutDestinationsWhatIsAppendedIsStable) {
  Stability stability(7, 100);
  EXPECT_EQ(stability.stable_lsn(), 7u);
  stability.OnAppended(9, 50);
  EXPECT_EQ(stability.stable_lsn(), 7u) << "nobody has looked";
  EXPECT_TRUE(stability.Update({}));
  EXPECT_EQ(stability.stable_lsn(), 9u);
  EXPECT_EQ(stability.unstable_bytes(), 0u);
  EXPECT_FALSE(stability.Update({})) << "no news";
}

TEST(StabilityTest, TheLeastOfAllDestinationsCounts) {
  Stability stability(0, 1000);
  stability.OnAppended(10, 100);
  EXPECT_TRUE(stability.Update({8, 4, 10}));
  EXPECT_EQ(stability.stable_lsn(), 4u);
  EXPECT_FALSE(stability.Update({10, 4}));
  EXPECT_TRUE(stability.Update({10, 6}));
  EXPECT_EQ(stability.stable_lsn(), 6u);
}

TEST(StabilityTest, NeverGoesBackAndNeverBeyondTheEnd) {
  Stability stability(0, 1000);
  stability.OnAppended(10, 100);
  EXPECT_TRUE(stability.Update({20}));
  EXPECT_EQ(stability.stable_lsn(), 10u);
  stability.OnAppended(12, 100);
  EXPECT_FALSE(stability.Update({3}));
  EXPECT_EQ(stability.stable_lsn(), 10u);
}

TEST(StabilityTest, CountsWhatIsNotStable) {
  Stability stability(0, 120);
  stability.OnAppended(2, 60);
  EXPECT_TRUE(stability.HasRoom());
  stability.OnAppended(4, 60);
  EXPECT_EQ(stability.unstable_bytes(), 120u);
  EXPECT_FALSE(stability.HasRoom());
  EXPECT_TRUE(stability.Update({3}));  // in the middle of a batch
  EXPECT_EQ(stability.unstable_bytes(), 60u);
  EXPECT_TRUE(stability.HasRoom());
  EXPECT_TRUE(stability.Update({4}));
  EXPECT_EQ(stability.unstable_bytes(), 0u);
}

}  // namespace
}  // namespace understudy::replication
