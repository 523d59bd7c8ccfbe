// SecondaryCore: whether it could take over, when it suspects, and what the arbiter answers.
#include "replication/secondary_fixture_for_test.h"

namespace understudy::replication {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

// --- Could it take over? -------------------------------------------------------------------------

TEST_F(SecondaryTest, LooksAtTheArbiterWhenItJoinsAndNowAndThen) {
  Join();
  EXPECT_TRUE(Has<CheckArbiter>());
  EXPECT_NE(core_->cannot_take_over(), "");
  EXPECT_NE(Appended(Append(1, 5, false)).reply.cannot_take_over, "") << "it has not looked yet";
  Checked(kSolo);
  EXPECT_EQ(core_->cannot_take_over(), "");
  EXPECT_EQ(Appended(Append(2, 5, false)).reply.cannot_take_over, "");
  // Every few seconds, as long as it hears from the primary.
  int checks = 0;
  for (int ms = 0; ms < 10000; ms += 10) {
    Pass(milliseconds(10));
    if (Has<CheckArbiter>()) {
      ++checks;
      Checked(kSolo);
    }
    Appended(Append(0, 5, false));
  }
  EXPECT_GE(checks, 4);
  EXPECT_LE(checks, 6);
}

TEST_F(SecondaryTest, AsAMemberItLooksAgain) {
  Join();
  Checked(kSolo);
  const auto outcome = Appended(Append(1, 6, true));
  EXPECT_TRUE(Has<CheckArbiter>());
  EXPECT_NE(outcome.reply.cannot_take_over, "") << "the old look was at another register";
  // A register that looked like it, but has not followed: a copy, say.
  Checked(kSolo);
  EXPECT_THAT(core_->cannot_take_over(), HasSubstr("is --arbiter the same for both?"));
  Pass(milliseconds(50));
  Appended(Append(0, 6, true));  // or it would have reason to suspect the primary
  Pass(milliseconds(50));
  EXPECT_TRUE(Has<CheckArbiter>()) << "soon again";
  Checked(kPair);
  EXPECT_EQ(core_->cannot_take_over(), "");
}

TEST_F(SecondaryTest, AnArbiterThatIsNoneOrAnother) {
  Join();
  Do([&] { core_->OnArbiterChecked(absl::UnavailableError("no such\nfolder"), now_); });
  EXPECT_EQ(core_->cannot_take_over(), "it cannot use the arbiter: no such\\nfolder");
  for (const Register& other : {Register{}, Register{5, "c", ""}, Register{99, "a", ""}}) {
    Checked(other);
    EXPECT_THAT(core_->cannot_take_over(), HasSubstr("is --arbiter the same for both?")) << other.ToString();
  }
  Do([&] { core_->OnArbiterChecked(std::optional<Register>(), now_); });
  EXPECT_EQ(core_->cannot_take_over(), "") << "unsafe-none has nothing to compare";
}

TEST_F(SecondaryTest, AnArbiterThatHangs) {
  Join();
  for (int ms = 0; ms <= 1000; ms += 10) {
    Pass(milliseconds(10));
    Appended(Append(0, 5, false));
  }
  EXPECT_EQ(core_->cannot_take_over(), "the arbiter does not answer");
  Checked(kSolo);
  EXPECT_EQ(core_->cannot_take_over(), "");
}

// It asks all the same when the primary dies: who knows, perhaps it is answered now.
TEST_F(SecondaryTest, ABadLookDoesNotKeepItFromAsking) {
  Protect();
  Do([&] { core_->OnArbiterChecked(absl::UnavailableError("no"), now_); });
  Pass(milliseconds(100));
  EXPECT_TRUE(Has<SwapRegister>());
}

TEST_F(SecondaryTest, ATimeThatCannotBe) {
  Join();
  for (const int64_t time : {int64_t{-1}, INT64_MIN, INT64_MAX}) {
    wire::AppendRequest request = Append(0);
    request.sent_at_ns = time;
    EXPECT_EQ(Refusal(request), RefuseReason::OUT_OF_ORDER) << time;
  }
}

TEST_F(SecondaryTest, WhoIsRefusedOverAndOverAsksLessOften) {
  std::vector<int64_t> pauses;
  for (int i = 0; i < 14; ++i) {
    Dialed(DialResult::kConnected);
    wire::Refused refused;
    refused.reason = RefuseReason::ALREADY_HAVE_ONE;
    Do([&] { core_->OnRefused(refused, now_); });
    pauses.push_back((core_->NextTick() - now_) / milliseconds(1));
    now_ = core_->NextTick();
    Pass(milliseconds(0));
  }
  EXPECT_EQ(pauses.front(), 1);
  EXPECT_EQ(pauses.back(), 1000);
}

// --- Suspicion -----------------------------------------------------------------------------------

TEST_F(SecondaryTest, SilenceIsSuspicious) {
  Protect();
  Pass(milliseconds(79));
  EXPECT_EQ(core_->state(), State::kProtected);
  EXPECT_EQ(core_->NextTick(), now_ + milliseconds(1));
  Pass(milliseconds(1));
  EXPECT_EQ(core_->state(), State::kAsking);
  EXPECT_TRUE(Has<CloseLink>());
  EXPECT_EQ(Only<SwapRegister>().expected, kPair);
  EXPECT_EQ(Only<SwapRegister>().desired, kTaken);
  // Nothing is answered any more: it would make the primary's lease longer.
  EXPECT_EQ(Refusal(Append(1, 6, true)), RefuseReason::WRONG_EPOCH);
  Granted(true, kTaken);
  EXPECT_EQ(core_->state(), State::kTakingOver);
  EXPECT_EQ(Only<TakeOver>().granted, kTaken);
  EXPECT_EQ(Only<TakeOver>().last_lsn, 3u);
  EXPECT_THAT(Only<TakeOver>().why, HasSubstr("silent"));
  Pass(milliseconds(1000));
  EXPECT_THAT(actions_, IsEmpty());
}

TEST_F(SecondaryTest, EachAppendIsASignOfLife) {
  Protect();
  for (int i = 0; i < 10; ++i) {
    Pass(milliseconds(50));
    EXPECT_FALSE(Appended(Append(0, 6, true)).refused.has_value());
  }
  EXPECT_EQ(core_->state(), State::kProtected);
}

// A firewall that rejects refuses for a primary that lives and has its lease.
TEST_F(SecondaryTest, ARefusedDialIsNoProofOfDeath) {
  Protect();
  Pass(milliseconds(10));
  LinkDown();
  EXPECT_TRUE(Has<Dial>());
  for (int waited = 10; waited < 80; ++waited) {
    ASSERT_EQ(core_->state(), State::kProtected) << waited;
    if (Has<Dial>()) Dialed(DialResult::kRefused);
    EXPECT_FALSE(Has<SwapRegister>());
    Pass(milliseconds(1));
  }
  EXPECT_EQ(core_->state(), State::kAsking) << "80 ms from the last append";
}

TEST_F(SecondaryTest, TheLastWordIsProofOfDeath) {
  for (const bool link_down_first : {true, false}) {
    core_.reset();
    log_.emplace();
    core_.emplace(Config(), &*log_, now_);
    Protect();
    if (link_down_first) LinkDown();
    EXPECT_FALSE(HeardLastWord(std::string(32, 'x')));
    EXPECT_EQ(core_->state(), State::kProtected);
    EXPECT_TRUE(HeardLastWord(word_));
    EXPECT_EQ(core_->state(), State::kAsking);
    EXPECT_EQ(Has<CloseLink>(), !link_down_first);
    EXPECT_THAT(Only<SwapRegister>().desired.holder, "b");
    Granted(true, kTaken);
    EXPECT_THAT(Only<TakeOver>().why, HasSubstr("gone"));
    EXPECT_TRUE(HeardLastWord(word_)) << "it is said several times";
    EXPECT_THAT(actions_, IsEmpty());
  }
}

TEST_F(SecondaryTest, TheLastWordOfAFormerLifeSaysNothing) {
  Protect();
  LinkDown();
  Dialed(DialResult::kConnected);
  wire::JoinReply reply = JoinReply();
  reply.epoch = 6;
  reply.last_word_hash = HashOfLastWord(std::string(32, 'n'));
  Joined(reply);
  EXPECT_FALSE(HeardLastWord(word_));
  EXPECT_EQ(core_->state(), State::kProtected);
}

TEST_F(SecondaryTest, WithoutAWitnessThereIsNoLastWord) {
  Dialed(DialResult::kConnected);
  wire::JoinReply reply = JoinReply();
  reply.last_word_hash = "";
  Joined(reply);
  ASSERT_FALSE(Appended(Append(3, 6, true)).refused.has_value());
  EXPECT_FALSE(HeardLastWord(""));
  EXPECT_FALSE(HeardLastWord(std::string(32, '\0')));
  EXPECT_EQ(core_->state(), State::kProtected);
}

TEST_F(SecondaryTest, AnUnreachablePrimaryIsWaitedFor) {
  Protect();
  Pass(milliseconds(10));
  LinkDown();
  Dialed(DialResult::kUnreachable);
  EXPECT_EQ(core_->state(), State::kProtected);
  Pass(milliseconds(20));
  EXPECT_TRUE(Has<Dial>());
  Pass(milliseconds(49));
  EXPECT_EQ(core_->state(), State::kProtected);
  Pass(milliseconds(1));
  EXPECT_EQ(core_->state(), State::kAsking) << "80 ms from the last append, not from the link's end";
}

TEST_F(SecondaryTest, WithoutCarrierItDoesNotAsk) {
  Protect();
  Do([&] { core_->OnServiceCarrier(false, now_); });
  Pass(milliseconds(500));
  EXPECT_EQ(core_->state(), State::kProtected);
  EXPECT_FALSE(Has<SwapRegister>());
  Do([&] { core_->OnServiceCarrier(true, now_); });
  EXPECT_TRUE(Has<SwapRegister>());
}

TEST_F(SecondaryTest, WhereSomethingIsInTheWayItDoesNotAsk) {
  Protect();
  Do([&] { core_->OnObstacle("the port is taken", now_); });
  EXPECT_EQ(Appended(Append(0, 6, true)).reply.cannot_take_over, "the port is taken");
  Pass(milliseconds(500));
  EXPECT_FALSE(core_->HearsPrimary(now_));
  EXPECT_EQ(core_->state(), State::kProtected);
  EXPECT_FALSE(Has<SwapRegister>());
  Do([&] { core_->OnObstacle("", now_); });
  EXPECT_TRUE(Has<SwapRegister>());
}

TEST_F(SecondaryTest, CarrierAfterThePrimaryCameBack) {
  Protect();
  Do([&] { core_->OnServiceCarrier(false, now_); });
  Pass(milliseconds(500));
  EXPECT_FALSE(Appended(Append(0, 6, true)).refused.has_value());
  Do([&] { core_->OnServiceCarrier(true, now_); });
  EXPECT_FALSE(Has<SwapRegister>());
}

TEST_F(SecondaryTest, WhileJoiningItNeverAsksToTakeOver) {
  Join();
  Appended(Append(3));
  LinkDown();
  Dialed(DialResult::kRefused);
  for (int i = 0; i < 50; ++i) {
    Pass(milliseconds(10));
    EXPECT_FALSE(Has<SwapRegister>());
    if (Has<Dial>()) Dialed(DialResult::kRefused);
    if (Has<ReadRegister>()) Granted(false, Register{5, "a", ""});
  }
}

// --- The word of being a member is lost ----------------------------------------------------------

TEST_F(SecondaryTest, TheRegisterTellsThatItIsAMember) {
  Join();
  Appended(Append(3));
  LinkDown();
  EXPECT_TRUE(Has<ReadRegister>() && Has<Dial>());
  now_ += milliseconds(30);
  Granted(false, kPair);
  EXPECT_EQ(core_->state(), State::kProtected);
  EXPECT_EQ(core_->epoch(), 6u);
  Dialed(DialResult::kUnreachable);
  Pass(milliseconds(79));
  EXPECT_EQ(core_->state(), State::kProtected) << "the wait begins when it learns of it";
  Pass(milliseconds(1));
  EXPECT_EQ(core_->state(), State::kAsking);
}

TEST_F(SecondaryTest, TheRegisterTellsAfterTheLastWord) {
  Join();
  LinkDown();
  EXPECT_TRUE(HeardLastWord(word_));
  EXPECT_EQ(core_->state(), State::kJoining);
  Granted(false, Register{5, "a", ""});  // not yet
  Pass(milliseconds(80));
  EXPECT_TRUE(Has<ReadRegister>());
  Granted(false, kPair);
  EXPECT_EQ(core_->state(), State::kAsking);
}

TEST_F(SecondaryTest, TheRegisterMaySpeakOfAFormerLife) {
  // Never joined in this life.
  Dialed(DialResult::kConnected);
  LinkDown();
  EXPECT_FALSE(Has<ReadRegister>());
  // Joined in an epoch that is not the one right before.
  Pass(milliseconds(100));
  Join();
  LinkDown();
  for (const Register& other : {Register{7, "a", "b"}, Register{5, "a", "b"}, Register{6, "x", "b"},
                                Register{6, "a", "c"}, Register{6, "b", ""}, Register{}}) {
    SCOPED_TRACE(other.ToString());
    Granted(false, other);
    EXPECT_EQ(core_->state(), State::kJoining);
    Pass(milliseconds(80));
    EXPECT_TRUE(Has<ReadRegister>());
  }
}

TEST_F(SecondaryTest, ALostReadIsRepeated) {
  Join();
  LinkDown();
  ArbiterUnavailable();
  Pass(milliseconds(20));
  EXPECT_TRUE(Has<ReadRegister>());
}

// --- The arbiter's answers -----------------------------------------------------------------------

TEST_F(SecondaryTest, ThePrimaryWentOnAlone) {
  Suspect();
  Granted(false, GoneSolo(kPair));
  EXPECT_EQ(core_->state(), State::kJoining);
  EXPECT_TRUE(Has<Dial>());
  Dialed(DialResult::kConnected);
  EXPECT_EQ(Only<SendJoin>().request.last_lsn, 3);
}

TEST_F(SecondaryTest, AnotherNodeServes) {
  Suspect();
  Granted(false, Register{9, "c", ""});
  EXPECT_EQ(core_->state(), State::kSilent);
  EXPECT_THAT(core_->why(), HasSubstr("c serves"));
  EXPECT_EQ(Refusal(Append(1, 9)), RefuseReason::NEEDS_STATE_TRANSFER);
  EXPECT_EQ(core_->NextTick(), MonotonicTime::max());
}

TEST_F(SecondaryTest, AnArbiterThatHasForgotten) {
  Suspect();
  Granted(false, Register{});
  EXPECT_EQ(core_->state(), State::kSilent);
}

TEST_F(SecondaryTest, ALostAnswerIsReadAgain) {
  Suspect();
  ArbiterUnavailable();
  EXPECT_EQ(core_->NextTick(), now_ + milliseconds(20));
  Pass(milliseconds(20));
  EXPECT_TRUE(Has<ReadRegister>());
  Granted(false, kTaken);
  EXPECT_EQ(core_->state(), State::kTakingOver);
}

TEST_F(SecondaryTest, ALostRequestIsMadeAgain) {
  Suspect();
  ArbiterUnavailable();
  Pass(milliseconds(20));
  Granted(false, kPair);
  EXPECT_EQ(Only<SwapRegister>().desired, kTaken);
  Granted(false, kTaken);  // the first one came through after all
  EXPECT_EQ(core_->state(), State::kTakingOver);
}

TEST_F(SecondaryTest, ARequestIsNotMadeAgainWithoutCarrier) {
  Suspect();
  ArbiterUnavailable();
  Do([&] { core_->OnServiceCarrier(false, now_); });
  Pass(milliseconds(20));
  Granted(false, kPair);
  EXPECT_FALSE(Has<SwapRegister>());
  Do([&] { core_->OnServiceCarrier(true, now_); });
  Pass(milliseconds(80));
  EXPECT_TRUE(Has<ReadRegister>());
  Granted(false, kPair);
  EXPECT_TRUE(Has<SwapRegister>());
}

TEST_F(SecondaryTest, AReadFromBeforeItWasAMemberIsNotTheAnswer) {
  Join();
  Appended(Append(3));
  LinkDown();
  ASSERT_TRUE(Has<ReadRegister>());  // on its way for long
  Join();
  Appended(Append(0, 6, true));
  Pass(milliseconds(80));
  EXPECT_EQ(core_->state(), State::kAsking);
  EXPECT_FALSE(Has<SwapRegister>()) << "one at a time";
  Granted(false, Register{5, "a", ""});
  EXPECT_EQ(Only<SwapRegister>().expected, kPair);
}

// --- Handover ------------------------------------------------------------------------------------

TEST_F(SecondaryTest, HandoverIsAskedForAtOnce) {
  Protect();
  wire::HandoverRequest request;
  request.epoch = 6;
  request.last_lsn = 3;
  request.why = "upgrade";
  SecondaryCore::HandoverOutcome outcome;
  Do([&] { outcome = core_->OnHandover(request, now_); });
  EXPECT_FALSE(outcome.refused.has_value());
  EXPECT_EQ(outcome.reply.epoch, 6);
  EXPECT_TRUE(Has<SwapRegister>());
  EXPECT_FALSE(Has<CloseLink>()) << "the answer has to get out";
  Granted(true, kTaken);
  EXPECT_EQ(Only<TakeOver>().why, "handover: upgrade");
}

TEST_F(SecondaryTest, HandoverThatDoesNotFit) {
  wire::HandoverRequest request;
  request.epoch = 6;
  request.last_lsn = 3;
  Join();
  EXPECT_EQ(ReasonOf(*core_->OnHandover(request, now_).refused), RefuseReason::NOT_JOINED);
  Appended(Append(3, 6, true));
  request.last_lsn = 4;
  EXPECT_EQ(ReasonOf(*core_->OnHandover(request, now_).refused), RefuseReason::OUT_OF_ORDER);
  request.last_lsn = 3;
  request.epoch = 5;
  EXPECT_EQ(ReasonOf(*core_->OnHandover(request, now_).refused), RefuseReason::WRONG_EPOCH);
  request.epoch = 6;
  Do([&] { core_->OnServiceCarrier(false, now_); });
  EXPECT_TRUE(core_->OnHandover(request, now_).refused.has_value());
  EXPECT_EQ(core_->state(), State::kProtected);
}

}  // namespace
}  // namespace understudy::replication
