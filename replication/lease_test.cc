#include "replication/lease.h"

#include <gtest/gtest.h>

namespace understudy::replication {
namespace {

constexpr milliseconds kSpan(60);

class LeaseTest : public testing::Test {
 protected:
  MonotonicTime At(int ms) const { return begin_ + milliseconds(ms); }
  const MonotonicTime begin_{std::chrono::seconds(1000)};
  LeaseTerm lease_{kSpan, begin_};
};

TEST_F(LeaseTest, IsExtendedInSteps) {
  EXPECT_TRUE(lease_.Expired(At(0)));
  EXPECT_TRUE(lease_.Extend(At(60), At(0)));
  EXPECT_FALSE(lease_.Expired(At(59)));
  EXPECT_TRUE(lease_.Expired(At(60)));
  EXPECT_FALSE(lease_.Extend(At(60) + std::chrono::microseconds(900), At(1))) << "not worth a word";
  EXPECT_EQ(lease_.until(), At(60)) << "and what is not said does not count";
  EXPECT_TRUE(lease_.Extend(At(61), At(1)));
  EXPECT_FALSE(lease_.Extend(At(50), At(1))) << "never shortened";
  EXPECT_EQ(lease_.until(), At(61));
}

TEST_F(LeaseTest, OneThatIsOverIsNone) {
  EXPECT_FALSE(lease_.Extend(At(60), At(60)));
  EXPECT_TRUE(lease_.Expired(At(0)));
}

TEST_F(LeaseTest, SilenceIsSaidOnceAndAnyLeaseEndsIt) {
  lease_.Extend(At(60), At(0));
  EXPECT_TRUE(lease_.BeSilent());
  EXPECT_FALSE(lease_.BeSilent());
  EXPECT_TRUE(lease_.silent());
  EXPECT_TRUE(lease_.Extend(At(60), At(1))) << "the same, but it has to be said again";
  EXPECT_FALSE(lease_.silent());
}

TEST_F(LeaseTest, WhatWasSentBeforeAnAbsenceIsWorthNothing) {
  lease_.Extend(At(60), At(0));
  lease_.Share();
  lease_.OnAbsence(At(20));
  EXPECT_TRUE(lease_.Expired(At(20)));
  EXPECT_FALSE(lease_.OnAnswer(At(19)));
  EXPECT_EQ(lease_.lost_at(), At(60));
  EXPECT_TRUE(lease_.OnAnswer(At(20)));
  EXPECT_EQ(lease_.lost_at(), At(80));
}

TEST_F(LeaseTest, TheSecondaryIsLostASpanAfterTheSendingOfWhatItAnswered) {
  lease_.Extend(At(60), At(0));
  lease_.Share();
  EXPECT_EQ(lease_.lost_at(), At(60));
  EXPECT_TRUE(lease_.OnAnswer(At(30)));
  EXPECT_EQ(lease_.lost_at(), At(90));
  EXPECT_TRUE(lease_.OnAnswer(At(10))) << "an older one is an answer too";
  EXPECT_EQ(lease_.lost_at(), At(90));
}

TEST_F(LeaseTest, ARejoinPutsTheLossOffOnceForEachAnswer) {
  lease_.Extend(At(60), At(0));
  lease_.Share();
  lease_.OnRejoin(At(50));
  EXPECT_EQ(lease_.lost_at(), At(110));
  lease_.OnRejoin(At(100));
  EXPECT_EQ(lease_.lost_at(), At(110));
  EXPECT_TRUE(lease_.OnAnswer(At(100)));
  lease_.OnRejoin(At(120));
  EXPECT_EQ(lease_.lost_at(), At(180));
}

TEST_F(LeaseTest, EndsOnlyOnce) {
  lease_.Extend(At(60), At(0));
  lease_.End(At(30));
  EXPECT_TRUE(lease_.Expired(At(30)));
  lease_.End(At(50));
  EXPECT_EQ(lease_.until(), At(30));
}

}  // namespace
}  // namespace understudy::replication
