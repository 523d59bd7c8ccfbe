#include "apps/kvstore/store/disk_room.h"

#include "gtest/gtest.h"

namespace kvstore {
namespace {

using Clock = std::chrono::steady_clock;

class DiskRoomTest : public testing::Test {
 protected:
  bool HasRoom() {
    now_ += DiskRoom::kAgain;
    return room_.Check(now_).ok();
  }

  int64_t free_ = 200;
  int asked_ = 0;
  Clock::time_point now_ = Clock::time_point() + std::chrono::hours(1);
  DiskRoom room_{[this] {
                   ++asked_;
                   return free_;
                 },
                 100};
};

TEST_F(DiskRoomTest, ThereIsLessThanThereShouldBe) {
  EXPECT_TRUE(HasRoom());
  free_ = 100;
  EXPECT_TRUE(HasRoom());
  free_ = 99;
  now_ += DiskRoom::kAgain;
  EXPECT_TRUE(absl::IsResourceExhausted(room_.Check(now_)));
}

TEST_F(DiskRoomTest, ThereIsRoomAgainWhenThereIsSomeMore) {
  free_ = 99;
  EXPECT_FALSE(HasRoom());
  free_ = 124;
  EXPECT_FALSE(HasRoom());
  free_ = 125;
  EXPECT_TRUE(HasRoom());
  free_ = 100;
  EXPECT_TRUE(HasRoom());
}

TEST_F(DiskRoomTest, IsAskedNowAndThen) {
  EXPECT_TRUE(room_.Check(now_).ok());
  free_ = 0;
  for (int i = 0; i < 100; ++i)
    EXPECT_TRUE(room_.Check(now_ + DiskRoom::kAgain - std::chrono::nanoseconds(1)).ok());
  EXPECT_EQ(asked_, 1);
  EXPECT_FALSE(room_.Check(now_ + DiskRoom::kAgain).ok());
}

TEST_F(DiskRoomTest, WhatCannotBeToldIsNoReason) {
  free_ = -1;
  EXPECT_TRUE(HasRoom());
}

TEST(DiskRoom, NothingIsAskedWhereNothingIsWanted) {
  DiskRoom room(
      []() -> int64_t {
        ADD_FAILURE();
        return 0;
      },
      0);
  EXPECT_TRUE(room.Check(Clock::now()).ok());
}

TEST(DiskRoom, OfTheFileSystem) {
  EXPECT_GT(DiskRoom::Of("/")(), 0);
  EXPECT_LT(DiskRoom::Of("/no/such/directory")(), 0);
}

}  // namespace
}  // namespace kvstore
