// PrimaryCore: what the arbiter answers, the carrier, and the handover.
#include "replication/primary_fixture_for_test.h"

namespace understudy::replication {
namespace {

// --- The arbiter ---------------------------------------------------------------------------------

TEST_F(PrimaryTest, LinkDownWhileTheRegisterIsBeingChanged) {
  AppendRecords(1);
  Join(JoinRequest());
  Answer(open_.back());
  Do([&] { core_->OnLinkDown("reset", now_); });
  EXPECT_EQ(core_->state(), State::kAlone);
  EXPECT_FALSE(Has<SwapRegister>()) << "one at a time";
  EXPECT_FALSE(Has<FallSilent>());
  AppendRecords(1);
  EXPECT_FALSE(Has<StableUpTo>());
  Granted(true, kPair);
  EXPECT_EQ(Only<SwapRegister>().expected, kPair);
  EXPECT_EQ(Only<SwapRegister>().desired, GoneSolo(kPair));
  Granted(true, GoneSolo(kPair));
  EXPECT_EQ(core_->state(), State::kSolo);
  EXPECT_EQ(core_->stable_lsn(), 2u);
}

TEST_F(PrimaryTest, NoLeaseOfItsOwnWhileTheRegisterIsBeingChanged) {
  Join(JoinRequest());
  Answer(open_.back());
  const MonotonicTime asked = now_;
  for (int i = 0; i < 6; ++i) {
    Pass(milliseconds(10));
    for (const Lease& lease : All<Lease>()) EXPECT_LE(lease.until, asked + kSpan);
  }
  Pass(milliseconds(10));
  EXPECT_TRUE(Has<FallSilent>());
  EXPECT_EQ(core_->state(), State::kAlone);
}

TEST_F(PrimaryTest, ALostAnswerIsReadAgain) {
  Protect();
  Pass(milliseconds(80));
  ArbiterUnavailable();
  Pass(milliseconds(19));
  EXPECT_FALSE(Has<ReadRegister>());
  Pass(milliseconds(1));
  EXPECT_TRUE(Has<ReadRegister>());
  ArbiterUnavailable();
  Pass(milliseconds(20));
  EXPECT_TRUE(Has<ReadRegister>());
  Granted(false, GoneSolo(kPair));  // it had been granted
  EXPECT_EQ(core_->state(), State::kSolo);
  EXPECT_TRUE(Has<Lease>());
}

TEST_F(PrimaryTest, ALostRequestIsMadeAgain) {
  Protect();
  Pass(milliseconds(80));
  ArbiterUnavailable();
  Pass(milliseconds(20));
  Granted(false, kPair);
  EXPECT_EQ(Only<SwapRegister>().desired, GoneSolo(kPair));
  Granted(false, Register{9, "b", ""});
  EXPECT_EQ(core_->state(), State::kDeposed);
}

// The request to take on b got lost, it seemed; it comes true when b is long gone.
TEST_F(PrimaryTest, ARequestThatIsCarriedOutLate) {
  Join(JoinRequest());
  Answer(open_.back());
  ArbiterUnavailable();
  Do([&] { core_->OnLinkDown("reset", now_); });
  Pass(milliseconds(20));
  EXPECT_TRUE(Has<ReadRegister>());
  Granted(false, kHeld);
  // Not believed: a definite answer is needed, and any change from here will do.
  EXPECT_EQ(core_->state(), State::kAlone);
  EXPECT_EQ(Only<SwapRegister>().desired, GoneSolo(kHeld));
  Granted(false, kPair);
  EXPECT_EQ(core_->held(), kPair);
  EXPECT_EQ(Only<SwapRegister>().desired, GoneSolo(kPair));
  Granted(true, GoneSolo(kPair));
  EXPECT_EQ(core_->state(), State::kSolo);
}

TEST_F(PrimaryTest, AnEpochOfAnotherLifeOfThisNodeIsNotOurs) {
  Protect();
  Pass(milliseconds(80));
  Granted(false, Register{9, "a", ""});
  EXPECT_EQ(core_->state(), State::kDeposed);
}

TEST_F(PrimaryTest, AnArbiterThatContradictsItselfIsNotAskedInATightLoop) {
  Protect();
  Pass(milliseconds(80));
  Granted(false, kPair);
  EXPECT_TRUE(actions_.empty());
  EXPECT_EQ(core_->state(), State::kAlone);
  Pass(milliseconds(20));
  EXPECT_TRUE(Has<ReadRegister>());
}

// --- Carrier and handover ------------------------------------------------------------------------

TEST_F(PrimaryTest, HandsOverWithoutCarrier) {
  Protect();
  AppendRecords(2);
  const wire::AppendRequest sent = Only<SendAppend>().request;
  Do([&] { core_->OnServiceCarrier(false, now_); });
  EXPECT_EQ(core_->state(), State::kHandingOver);
  EXPECT_TRUE(Has<FallSilent>());
  EXPECT_EQ(Only<SendHandover>().request.last_lsn, 2);
  EXPECT_EQ(Only<SendHandover>().request.epoch, 6);
  EXPECT_FALSE(core_->CanAppend());
  Answer(sent);
  EXPECT_FALSE(Has<Lease>()) << "silent stays silent";
  wire::HandoverReply reply;
  reply.epoch = 6;
  Do([&] { core_->OnHandoverReply(reply, now_); });
  Pass(milliseconds(80));
  EXPECT_TRUE(Has<ReadRegister>());
  Granted(false, TakenOverBy(kPair, "b"));
  EXPECT_EQ(core_->state(), State::kReplaced);
}

TEST_F(PrimaryTest, PlannedHandover) {
  EXPECT_EQ(core_->OnHandoverWanted("upgrade", now_).code(), absl::StatusCode::kFailedPrecondition);
  Protect();
  EXPECT_TRUE(core_->OnHandoverWanted("upgrade", now_).ok());
  Do([] {});
  EXPECT_EQ(Only<SendHandover>().request.why, "upgrade");
  EXPECT_FALSE(core_->OnHandoverWanted("again", now_).ok());
}

TEST_F(PrimaryTest, NoPlannedHandoverWithoutALink) {
  Protect();
  Do([&] { core_->OnLinkDown("reset", now_); });
  EXPECT_FALSE(core_->OnHandoverWanted("upgrade", now_).ok());
}

TEST_F(PrimaryTest, AHandoverThatFailsLosesNothing) {
  Protect();
  core_->OnHandoverWanted("upgrade", now_).IgnoreError();
  Do([] {});
  AppendRecords(2);  // was under way in the owner
  EXPECT_FALSE(Has<SendAppend>());
  wire::Refused refused;
  refused.reason = RefuseReason::OUT_OF_ORDER;
  Do([&] { core_->OnRefused(refused, now_); });
  EXPECT_EQ(core_->state(), State::kAlone);
  EXPECT_EQ(Only<SwapRegister>().desired, GoneSolo(kPair));
  Granted(true, GoneSolo(kPair));
  EXPECT_EQ(Only<StableUpTo>().lsn, 2u);
  EXPECT_EQ(Only<Lease>().until, now_ + kSpan);
}

// Clients were refused meanwhile, and nothing that they say makes a record before they are read from again.
TEST_F(PrimaryTest, TheStablePointIsSaidAgainWhenThisNodeGoesOn) {
  Protect();
  core_->OnHandoverWanted("upgrade", now_).IgnoreError();
  EXPECT_FALSE(core_->CanAppend());
  Do([&] { core_->OnLinkDown("reset", now_); });
  EXPECT_EQ(core_->state(), State::kAlone);
  EXPECT_TRUE(core_->CanAppend());
  EXPECT_EQ(Only<StableUpTo>().lsn, 0u);
  const Register taken = TakenOverBy(kPair, "b"), given_back = GivenBack(taken, "a");
  Granted(false, taken);
  EXPECT_FALSE(core_->CanAppend());
  Pass(milliseconds(80));
  Granted(false, given_back);
  EXPECT_FALSE(Has<StableUpTo>());
  Granted(true, TakenUpBy(given_back, "a"));
  EXPECT_TRUE(core_->CanAppend());
  EXPECT_EQ(Only<StableUpTo>().lsn, 0u);
}

TEST_F(PrimaryTest, AHandoverNobodyActsOnIsTakenBack) {
  Protect();
  core_->OnHandoverWanted("upgrade", now_).IgnoreError();
  Pass(milliseconds(80));
  EXPECT_TRUE(Has<ReadRegister>());
  Granted(false, kPair);
  EXPECT_EQ(core_->state(), State::kAlone);
  EXPECT_TRUE(Has<SwapRegister>());
}

TEST_F(PrimaryTest, WithoutCarrierItNeverAsksAndNoticesItsEnd) {
  Protect();
  Do([&] { core_->OnLinkDown("reset", now_); });
  Do([&] { core_->OnServiceCarrier(false, now_); });
  EXPECT_FALSE(Has<SendHandover>());
  for (int i = 0; i < 50; ++i) {
    Pass(milliseconds(10));
    EXPECT_FALSE(Has<SwapRegister>());
    if (Has<ReadRegister>()) Granted(false, kPair);
  }
  EXPECT_EQ(core_->state(), State::kAlone);
  Do([&] { core_->OnServiceCarrier(true, now_); });
  EXPECT_EQ(Only<SwapRegister>().desired, GoneSolo(kPair));
  Granted(false, Register{9, "b", ""});
  EXPECT_EQ(core_->state(), State::kDeposed);
}

TEST_F(PrimaryTest, WithoutCarrierASecondaryThatComesBackIsHandedTheService) {
  AppendRecords(1);
  Protect();
  Do([&] { core_->OnLinkDown("reset", now_); });
  Do([&] { core_->OnServiceCarrier(false, now_); });
  for (int i = 0; i < 10; ++i) Pass(milliseconds(10));
  EXPECT_EQ(core_->state(), State::kAlone);
  AppendRecords(1);
  EXPECT_FALSE(Join(JoinRequest(1)).refused.has_value());
  EXPECT_EQ(core_->state(), State::kHandingOver);
  EXPECT_EQ(Only<SendAppend>().request.first_lsn, 2);
  EXPECT_EQ(Only<SendHandover>().request.last_lsn, 2);
}

}  // namespace
}  // namespace understudy::replication
