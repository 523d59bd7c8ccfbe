#include "replication/heir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "replication/last_word.h"

namespace understudy::replication {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using Verdict = Heir::Verdict;

ProtocolConfig Config() {
  ProtocolConfig config;
  config.self.name = "b";
  return config;
}

class HeirTest : public testing::Test {
 protected:
  Heir::Answer Answered(bool swapped, const Register& current) {
    out_.clear();
    return heir_.OnArbiter(Arbiter::Outcome{swapped, current}, following_, now_, out_);
  }
  void Ask() {
    heir_.AskToTakeOver("a is silent", following_, out_);
    ASSERT_THAT(out_, SizeIs(1));
    EXPECT_EQ(std::get<SwapRegister>(out_[0]).expected, kPair);
    EXPECT_EQ(std::get<SwapRegister>(out_[0]).desired, kTaken);
    out_.clear();
  }
  void Tick(milliseconds span) {
    now_ += span;
    out_.clear();
    heir_.OnTick(/*active=*/!heir_.asking(), following_, now_, out_);
    heir_.CheckInvariants();
  }
  void Checked(const Register& seen) {
    out_.clear();
    heir_.OnArbiterChecked(std::optional(seen), following_, now_, out_);
  }

  const std::string word_ = std::string(32, 'w');
  const Register kPair{6, "a", "b"};
  const Register kTaken{7, "b", ""};
  MonotonicTime now_{std::chrono::seconds(1000)};
  Following following_{6, "a", /*member=*/true, /*joined=*/true, 5, now_};
  Heir heir_{Config()};
  Actions out_;
};

TEST_F(HeirTest, SuspectsWhoIsSilentOrGone) {
  heir_.OnJoined(HashOfLastWord(word_), following_, out_);
  EXPECT_FALSE(heir_.Suspicious(following_, now_ + milliseconds(79)));
  EXPECT_TRUE(heir_.Suspicious(following_, now_ + milliseconds(80)));
  EXPECT_EQ(heir_.Suspicion(following_), "a is silent");
  EXPECT_FALSE(heir_.OnLastWord(std::string(32, 'x')));
  EXPECT_TRUE(heir_.OnLastWord(word_));
  EXPECT_TRUE(heir_.Suspicious(following_, now_));
  EXPECT_EQ(heir_.Suspicion(following_), "the process of a is gone");
  heir_.OnJoined(HashOfLastWord(word_), following_, out_);
  EXPECT_FALSE(heir_.Suspicious(following_, now_)) << "another life";
  heir_.OnJoined("", following_, out_);
  EXPECT_FALSE(heir_.OnLastWord(word_)) << "there is no witness";
}

TEST_F(HeirTest, IsGrantedWhatItAskedFor) {
  Ask();
  EXPECT_TRUE(heir_.asking());
  const Heir::Answer answer = Answered(true, kTaken);
  EXPECT_EQ(answer.verdict, Verdict::kGranted);
  EXPECT_EQ(answer.current, kTaken);
  heir_.CheckInvariants();
}

TEST_F(HeirTest, ALostAnswerIsReadAgain) {
  Ask();
  EXPECT_EQ(heir_.OnArbiter(absl::UnavailableError("lost"), following_, now_, out_).verdict,
            Verdict::kNothing);
  Tick(milliseconds(19));
  EXPECT_THAT(out_, IsEmpty());
  Tick(milliseconds(1));
  EXPECT_TRUE(std::holds_alternative<ReadRegister>(out_.at(0)));
  EXPECT_EQ(Answered(false, kPair).verdict, Verdict::kNothing) << "nothing has changed: it asks again";
  EXPECT_TRUE(std::holds_alternative<SwapRegister>(out_.at(0)));
  EXPECT_EQ(Answered(false, kTaken).verdict, Verdict::kGranted) << "the first one was carried out late";
}

TEST_F(HeirTest, WhatItIsNotGranted) {
  Ask();
  EXPECT_EQ(Answered(false, Register{7, "a", ""}).verdict, Verdict::kPrimaryWentOn);
  heir_.Resign();
  Ask();
  EXPECT_EQ(Answered(false, Register{7, "c", ""}).verdict, Verdict::kOthers);
}

TEST_F(HeirTest, DoesNotAskAgainWhileItCouldNotServe) {
  Ask();
  heir_.OnServiceCarrier(false);
  heir_.OnArbiter(absl::UnavailableError("lost"), following_, now_, out_);
  Tick(milliseconds(20));
  EXPECT_EQ(Answered(false, kPair).verdict, Verdict::kNothing);
  EXPECT_THAT(out_, IsEmpty());
  heir_.OnServiceCarrier(true);
  Tick(milliseconds(80));
  EXPECT_THAT(out_, SizeIs(1)) << "it reads first";
}

TEST_F(HeirTest, TheRegisterMayTellThatItIsAMember) {
  following_ = {5, "a", false, /*joined=*/false, 5, now_};
  heir_.FindOutMembership(following_, out_);
  ASSERT_THAT(out_, SizeIs(1));
  EXPECT_EQ(Answered(false, Register{5, "a", ""}).verdict, Verdict::kNothing);
  Tick(milliseconds(80));
  ASSERT_THAT(out_, SizeIs(1)) << "it looks again";
  EXPECT_EQ(Answered(false, kPair).verdict, Verdict::kMember);
}

TEST_F(HeirTest, OnlyTheNextEpochCanBeThisLifes) {
  following_ = {4, "a", false, /*joined=*/false, 5, now_};
  heir_.FindOutMembership(following_, out_);
  EXPECT_EQ(Answered(false, kPair).verdict, Verdict::kNothing);
  following_.epoch = 0;
  Tick(milliseconds(80));
  EXPECT_EQ(Answered(false, Register{1, "a", "b"}).verdict, Verdict::kNothing);
}

TEST_F(HeirTest, FindsOutBeforehandWhetherItCould) {
  EXPECT_EQ(heir_.cannot_take_over(), kNotChecked);
  heir_.OnJoined("", following_, out_);
  ASSERT_THAT(out_, SizeIs(1));
  EXPECT_TRUE(std::holds_alternative<CheckArbiter>(out_[0]));
  Checked(kPair);
  EXPECT_EQ(heir_.cannot_take_over(), "");
  Tick(milliseconds(1999));
  EXPECT_THAT(out_, IsEmpty());
  Tick(milliseconds(1));
  EXPECT_THAT(out_, SizeIs(1));
  Checked(Register{6, "c", "d"});
  EXPECT_THAT(heir_.cannot_take_over(), HasSubstr("is --arbiter the same for both?"));
  Tick(milliseconds(100));
  EXPECT_THAT(out_, SizeIs(1)) << "sooner, after that";
  heir_.OnObstacle("the port is taken");
  EXPECT_EQ(heir_.cannot_take_over(), "the port is taken");
  EXPECT_FALSE(heir_.CanServe());
}

// What was asked about before the change is not believed.
TEST_F(HeirTest, AChangeWhileItLooksIsLookedAtAgain) {
  heir_.OnJoined("", following_, out_);
  heir_.OnNews(following_, out_);
  EXPECT_THAT(out_, SizeIs(1));
  Checked(kPair);
  EXPECT_EQ(heir_.cannot_take_over(), kNotChecked);
  EXPECT_THAT(out_, SizeIs(1));
  Checked(kPair);
  EXPECT_EQ(heir_.cannot_take_over(), "");
}

}  // namespace
}  // namespace understudy::replication
