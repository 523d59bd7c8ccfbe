#include "replication/membership.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <utility>

#include "absl/status/status.h"

namespace understudy::replication {
namespace {

using testing::IsEmpty;
using testing::SizeIs;
using Verdict = Membership::Verdict;

class MembershipTest : public testing::Test {
 protected:
  Membership::Answer Answered(bool swapped, const Register& current, bool serves = true) {
    return membership_.OnArbiter(Arbiter::Outcome{swapped, current}, serves, now_);
  }
  Membership::Answer Lost(bool serves = true) {
    return membership_.OnArbiter(absl::UnavailableError("lost"), serves, now_);
  }
  Actions Tick(milliseconds span, bool serves = true) {
    now_ += span;
    Actions out;
    membership_.OnTick(serves, now_, out);
    membership_.CheckInvariants();
    return out;
  }
  void Ask(const Register& desired) {
    out_.clear();
    membership_.Ask(desired, out_);
    ASSERT_THAT(out_, SizeIs(1));
    EXPECT_EQ(std::get<SwapRegister>(out_[0]).expected, membership_.held());
    EXPECT_EQ(std::get<SwapRegister>(out_[0]).desired, desired);
  }

  const Register kHeld{5, "a", ""};
  const Register kPair{6, "a", "b"};
  MonotonicTime now_{std::chrono::seconds(1000)};
  Membership membership_{kHeld, {milliseconds(20), milliseconds(1000)}, now_};
  Actions out_;
};

TEST_F(MembershipTest, WhatIsGrantedIsHeld) {
  EXPECT_TRUE(membership_.ReadyToAsk(now_));
  Ask(kPair);
  EXPECT_TRUE(membership_.asking());
  EXPECT_TRUE(membership_.changing());
  EXPECT_FALSE(membership_.ReadyToAsk(now_)) << "one question at a time";
  EXPECT_EQ(Answered(true, kPair).verdict, Verdict::kGranted);
  EXPECT_EQ(membership_.held(), kPair);
  EXPECT_FALSE(membership_.changing());
  EXPECT_FALSE(membership_.will_ask());
}

TEST_F(MembershipTest, AnAnswerNobodyAskedForIsNone) {
  EXPECT_EQ(Answered(true, kPair).verdict, Verdict::kNothing);
  EXPECT_EQ(membership_.held(), kHeld);
}

TEST_F(MembershipTest, AfterALostAnswerItReadsBeforeItAsks) {
  Ask(kPair);
  EXPECT_EQ(Lost().verdict, Verdict::kNothing);
  EXPECT_FALSE(membership_.ReadyToAsk(now_));
  EXPECT_THAT(Tick(milliseconds(19)), IsEmpty());
  ASSERT_THAT(Tick(milliseconds(1)), SizeIs(1));
  EXPECT_EQ(Answered(false, kHeld).verdict, Verdict::kUnchanged);
  EXPECT_TRUE(membership_.ReadyToAsk(now_));
}

// The request was carried out, later than its sender believed, while it asked for something else.
TEST_F(MembershipTest, AWishComesTrueLate) {
  Ask(kPair);
  Lost();
  Tick(milliseconds(20));
  EXPECT_EQ(Answered(false, kHeld).verdict, Verdict::kUnchanged);
  Ask(GoneSolo(kHeld));
  EXPECT_EQ(Answered(false, kPair).verdict, Verdict::kGranted);
  EXPECT_EQ(membership_.held(), kPair);
}

TEST_F(MembershipTest, WhatNobodyHereAskedForIsOthers) {
  Ask(kPair);
  const Register others{6, "c", ""};
  const Membership::Answer answer = Answered(false, others);
  EXPECT_EQ(answer.verdict, Verdict::kOthers);
  EXPECT_EQ(answer.current, others);
  EXPECT_EQ(membership_.held(), kHeld);
}

TEST_F(MembershipTest, AnArbiterThatHasForgottenHasGrantedNothing) {
  Tick(milliseconds(1000));
  EXPECT_EQ(Answered(false, Register{}).verdict, Verdict::kNothing);
  Tick(milliseconds(1000));
  EXPECT_EQ(Answered(false, Register{}, /*serves=*/false).verdict, Verdict::kOthers);
}

TEST_F(MembershipTest, AnArbiterThatContradictsItselfIsAskedAgainLater) {
  Ask(kPair);
  EXPECT_EQ(Answered(false, kHeld).verdict, Verdict::kNothing);
  EXPECT_FALSE(membership_.ReadyToAsk(now_));
  EXPECT_EQ(membership_.NextTick(true), now_ + milliseconds(20));
}

TEST_F(MembershipTest, TheRegisterIsCheckedWhileThisNodeServes) {
  EXPECT_EQ(membership_.NextTick(true), now_ + milliseconds(1000));
  EXPECT_EQ(membership_.NextTick(false), MonotonicTime::max());
  EXPECT_THAT(Tick(milliseconds(1000), /*serves=*/false), IsEmpty());
  EXPECT_THAT(Tick(milliseconds(0)), SizeIs(1));
  EXPECT_EQ(Lost().verdict, Verdict::kNothing);
  EXPECT_THAT(Tick(milliseconds(999)), IsEmpty()) << "what it cannot read is nobody else's";
  EXPECT_THAT(Tick(milliseconds(1)), SizeIs(1));
}

TEST_F(MembershipTest, WhoDoesNotServeReadsAgainSoon) {
  membership_.ReadAt(now_ + milliseconds(80));
  membership_.ReadSoon(now_ + milliseconds(10));
  EXPECT_THAT(Tick(milliseconds(79), false), IsEmpty()) << "it was to be read anyway";
  EXPECT_THAT(Tick(milliseconds(1), false), SizeIs(1));
  Lost(/*serves=*/false);
  EXPECT_EQ(membership_.NextTick(false), now_ + milliseconds(20));
  membership_.DoNotRead();
  EXPECT_FALSE(membership_.will_ask());
}

}  // namespace
}  // namespace understudy::replication
