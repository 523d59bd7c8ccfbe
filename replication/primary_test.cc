// PrimaryCore: stability and the lease while there is a secondary, and its loss.
#include "replication/primary_fixture_for_test.h"

namespace understudy::replication {
namespace {

using testing::HasSubstr;

// --- Pulses --------------------------------------------------------------------------------------

TEST_F(PrimaryTest, AnAnsweredPulseIsWorthAnAnsweredAppend) {
  Protect();
  EXPECT_EQ(core_->pulse_epoch(), 6u);
  const MonotonicTime begun = now_;
  now_ += milliseconds(500);  // one call of the Server
  Do([&] { core_->OnPulseAnswered(6, begun + milliseconds(490), now_); });
  EXPECT_EQ(Only<Lease>().until, begun + milliseconds(490) + kSpan);
  Do([&] { core_->OnTick(now_); });
  EXPECT_EQ(core_->state(), State::kProtected);
  EXPECT_FALSE(Has<FallSilent>());
  EXPECT_TRUE(Has<SendAppend>()) << "the next answer is asked for at once";
  Pass(milliseconds(60));
  EXPECT_EQ(core_->state(), State::kAlone) << "no answer any more";
}

TEST_F(PrimaryTest, WithoutAnAnsweredPulseALongCallLosesTheSecondary) {
  Protect();
  Pass(milliseconds(500));
  EXPECT_EQ(core_->state(), State::kAlone);
  EXPECT_TRUE(Has<FallSilent>());
  EXPECT_FALSE(core_->pulse_epoch().has_value());
}

TEST_F(PrimaryTest, APulseOfAnotherEpochOrWithoutALinkIsWorthNothing) {
  Protect();
  now_ += milliseconds(60);
  Do([&] { core_->OnPulseAnswered(5, now_, now_); });
  Do([&] { core_->OnPulseAnswered(7, now_, now_); });
  EXPECT_FALSE(Has<Lease>());
  Do([&] { core_->OnLinkDown("reset", now_); });
  EXPECT_FALSE(core_->pulse_epoch().has_value());
  Do([&] { core_->OnPulseAnswered(6, now_, now_); });
  EXPECT_FALSE(Has<Lease>());
  Pass(milliseconds(10));
  EXPECT_EQ(core_->state(), State::kAlone);
}

TEST_F(PrimaryTest, NoPulseWhileTheLeaseIsItsOwnOrGivenUp) {
  EXPECT_FALSE(core_->pulse_epoch().has_value());
  ASSERT_FALSE(Join(JoinRequest()).refused.has_value());
  EXPECT_FALSE(core_->pulse_epoch().has_value()) << "a joiner has no part in the lease";
  Answer(open_.back());
  EXPECT_EQ(core_->pulse_epoch(), 5u) << "JoinedBy is asked for";
  Granted(true, kPair);
  EXPECT_EQ(core_->pulse_epoch(), 6u);
  Do([&] { ASSERT_TRUE(core_->OnHandoverWanted("maintenance", now_).ok()); });
  EXPECT_FALSE(core_->pulse_epoch().has_value());
  Do([&] { core_->OnPulseAnswered(6, now_, now_); });
  EXPECT_FALSE(Has<Lease>());
}

// --- Protected -----------------------------------------------------------------------------------

TEST_F(PrimaryTest, ProtectedRecordsAreStableWhenAnswered) {
  Protect();
  AppendRecords(2);
  EXPECT_FALSE(Has<StableUpTo>());
  const wire::AppendRequest first = Only<SendAppend>().request;
  AppendRecords(1);
  const wire::AppendRequest second = Only<SendAppend>().request;
  wire::AppendReply reply = ReplyTo(first);
  reply.applied_lsn = 1;
  Answer(reply);
  EXPECT_EQ(Only<StableUpTo>().lsn, 2u);
  EXPECT_EQ(core_->peer_applied_lsn(), 1u);
  Answer(second);
  EXPECT_EQ(Only<StableUpTo>().lsn, 3u);
}

TEST_F(PrimaryTest, LeaseRunsFromTheSendingOfWhatWasAnswered) {
  Protect();
  const MonotonicTime sent_at = now_ += milliseconds(20);
  AppendRecords();
  const wire::AppendRequest sent = Only<SendAppend>().request;
  Pass(milliseconds(5));
  EXPECT_FALSE(Has<Lease>());
  Answer(sent);
  EXPECT_EQ(Only<Lease>().until, sent_at + kSpan);
}

TEST_F(PrimaryTest, AnAnswerReadLateGivesNoLease) {
  Protect();
  AppendRecords();
  const wire::AppendRequest sent = Only<SendAppend>().request;
  now_ += milliseconds(500);  // stopped
  Answer(sent);
  EXPECT_FALSE(Has<Lease>());
  EXPECT_EQ(Only<StableUpTo>().lsn, 1u);
  Do([&] { core_->OnTick(now_); });
  EXPECT_EQ(core_->state(), State::kAlone);
  EXPECT_TRUE(Has<FallSilent>());
}

TEST_F(PrimaryTest, AfterAnAbsenceOnlyWhatIsSentFromThereOnGivesALease) {
  Protect();
  AppendRecords();
  const auto before = Only<SendAppend>().request;
  now_ += milliseconds(1);
  Do([&] { core_->OnAbsence(now_); });
  Answer(before);
  EXPECT_FALSE(Has<Lease>()) << "the answer may have lain about for an hour";
  EXPECT_TRUE(Has<StableUpTo>()) << "stored is stored";
  Do([&] { core_->OnPulseAnswered(*core_->pulse_epoch(), now_ - milliseconds(1), now_); });
  EXPECT_FALSE(Has<Lease>());
  Pass(milliseconds(20));
  const auto after = Only<SendAppend>().request;
  Answer(after);
  EXPECT_EQ(Only<Lease>().until, now_ + kSpan);
}

TEST_F(PrimaryTest, AfterAnAbsenceOneThatOwnsAloneNeedsNobody) {
  Pass(milliseconds(1));
  Do([&] { core_->OnAbsence(now_); });
  Pass(milliseconds(0));
  EXPECT_EQ(Only<Lease>().until, now_ + kSpan);
}

TEST_F(PrimaryTest, HeartbeatsWhenNothingElseIsSent) {
  Protect();
  Pass(milliseconds(9));
  EXPECT_FALSE(Has<SendAppend>());
  Pass(milliseconds(1));
  const wire::AppendRequest beat = Only<SendAppend>().request;
  EXPECT_EQ(beat.records, "");
  EXPECT_EQ(beat.first_lsn, 1);
  EXPECT_TRUE(beat.member);
  AppendRecords();
  Pass(milliseconds(9));
  EXPECT_FALSE(Has<SendAppend>());
}

TEST_F(PrimaryTest, AnswersThatBreakTheProtocolCloseTheLink) {
  struct Case {
    const char* what;
    std::function<void(wire::AppendReply&)> damage;
  };
  const MonotonicTime start = now_;
  for (const Case& c :
       std::vector<Case>{{"never sent", [](auto& r) { r.sent_at_ns -= 1; }},
                         {"from the future", [](auto& r) { r.sent_at_ns += 1000000; }},
                         {"another epoch", [](auto& r) { r.epoch = 5; }},
                         {"more than was sent", [](auto& r) { r.stored_lsn += 1; }},
                         {"less than was sent", [](auto& r) { r.stored_lsn -= 1; }},
                         {"negative", [](auto& r) { r.stored_lsn = -1; }},
                         {"replayed what it has not", [](auto& r) { r.applied_lsn = r.stored_lsn + 1; }}}) {
    SCOPED_TRACE(c.what);
    now_ = start;
    BeginAnew(Config());
    Protect();
    Pass(milliseconds(5));
    AppendRecords();
    wire::AppendReply reply = ReplyTo(Only<SendAppend>().request);
    c.damage(reply);
    Answer(reply);
    EXPECT_THAT(Only<CloseLink>().reason, HasSubstr("broke the protocol"));
    EXPECT_FALSE(Has<StableUpTo>() || Has<Lease>());
    // The node may come back, and must not be answered for by what comes late.
    Answer(reply);
    EXPECT_TRUE(actions_.empty());
    EXPECT_EQ(core_->state(), State::kProtected);
  }
}

TEST_F(PrimaryTest, AnswerToNothing) {
  Protect();
  Answer(member_);
  EXPECT_THAT(Only<CloseLink>().reason, HasSubstr("an answer to no append"));
}

// --- Losing the secondary ------------------------------------------------------------------------

TEST_F(PrimaryTest, SilentSecondaryIsLeftBehind) {
  Protect();
  AppendRecords(2);
  for (int i = 0; i < 6; ++i) Pass(milliseconds(10));
  EXPECT_EQ(core_->state(), State::kProtected);
  Pass(milliseconds(10));
  EXPECT_EQ(core_->state(), State::kAlone);
  EXPECT_TRUE(Has<FallSilent>() && Has<CloseLink>());
  EXPECT_EQ(Only<SwapRegister>().expected, kPair);
  EXPECT_EQ(Only<SwapRegister>().desired, GoneSolo(kPair));
  Pass(milliseconds(10));
  EXPECT_FALSE(Has<FallSilent>() || Has<Lease>()) << "once";
  EXPECT_EQ(core_->stable_lsn(), 0u);
  EXPECT_EQ(Refusal(JoinRequest(0)), RefuseReason::ALREADY_HAVE_ONE);
  Granted(true, GoneSolo(kPair));
  EXPECT_EQ(core_->state(), State::kSolo);
  EXPECT_EQ(Only<StableUpTo>().lsn, 2u);
  EXPECT_EQ(Only<Lease>().until, now_ + kSpan);
}

TEST_F(PrimaryTest, TheLoserOfTheEpochIsSilentForGood) {
  Protect();
  Pass(milliseconds(80));
  Granted(false, TakenOverBy(kPair, "b"));
  EXPECT_EQ(core_->state(), State::kReplaced);
  for (int i = 0; i < 37; ++i) {
    EXPECT_FALSE(Has<Deposed>() || Has<Lease>()) << i;
    EXPECT_FALSE(core_->CanAppend());
    EXPECT_EQ(Refusal(JoinRequest()), RefuseReason::NOT_PRIMARY);
    AppendRecords();
    Pass(milliseconds(80));
    ASSERT_TRUE(Has<ReadRegister>());
    if (i % 5 == 0) {
      ArbiterUnavailable();
      Pass(milliseconds(20));
    }
    Granted(false, TakenOverBy(kPair, "b"));
    if (core_->state() == State::kDeposed) break;
  }
  EXPECT_EQ(core_->state(), State::kDeposed);
  EXPECT_EQ(Only<Deposed>().current.holder, "b");
  AppendRecords();
  Pass(milliseconds(1000));
  EXPECT_TRUE(actions_.empty());
  EXPECT_FALSE(core_->CanAppend());
  EXPECT_EQ(Refusal(JoinRequest()), RefuseReason::NOT_PRIMARY);
  EXPECT_EQ(core_->NextTick(), MonotonicTime::max());
}

TEST_F(PrimaryTest, WhatIsGivenBackIsTakenUpAgain) {
  Protect();
  AppendRecords(2);
  Pass(milliseconds(80));
  AppendRecords(1);
  Granted(false, TakenOverBy(kPair, "b"));
  Pass(milliseconds(80));
  ASSERT_TRUE(Has<ReadRegister>());
  const Register given_back = GivenBack(TakenOverBy(kPair, "b"), "a");
  Granted(false, given_back);
  EXPECT_EQ(Only<SwapRegister>().expected, given_back);
  EXPECT_EQ(Only<SwapRegister>().desired, (Register{9, "a", ""}));
  EXPECT_FALSE(Has<Lease>());
  // The answer is lost, the request was not.
  ArbiterUnavailable();
  Pass(milliseconds(5000));
  EXPECT_TRUE(Has<ReadRegister>());
  Granted(false, Register{9, "a", ""});
  EXPECT_EQ(core_->state(), State::kSolo);
  EXPECT_EQ(Only<StableUpTo>().lsn, 3u);
  EXPECT_EQ(Only<Lease>().until, now_ + kSpan);
}

TEST_F(PrimaryTest, WhatIsGivenBackWaitsForTheCarrier) {
  Protect();
  Do([&] { core_->OnServiceCarrier(false, now_); });
  Pass(milliseconds(80));
  const Register given_back = GivenBack(TakenOverBy(kPair, "b"), "a");
  Granted(false, given_back);
  for (int i = 0; i < 100; ++i) {
    EXPECT_FALSE(Has<SwapRegister>() || Has<Deposed>());
    Pass(milliseconds(80));
    ASSERT_TRUE(Has<ReadRegister>());
    Granted(false, given_back);
  }
  Do([&] { core_->OnServiceCarrier(true, now_); });
  Pass(milliseconds(80));
  Granted(false, given_back);
  EXPECT_TRUE(Has<SwapRegister>());
}

TEST_F(PrimaryTest, WhatWasGivenBackToOthersOrTakenUpByAnotherIsNotOurs) {
  for (const Register& other :
       {Register{8, "", "", {"c", "b"}}, Register{9, "", "", {"a", "b"}}, Register{9, "b", ""}}) {
    SCOPED_TRACE(other.ToString());
    BeginAnew(Config());
    open_.clear();
    Do([] {});
    Protect();
    Pass(milliseconds(80));
    Granted(false, TakenOverBy(kPair, "b"));
    Pass(milliseconds(80));
    Granted(false, other);
    EXPECT_EQ(core_->state(), State::kDeposed);
  }
}

// --- Nothing happens, and the register is another's ----------------------------------------------

TEST_F(PrimaryTest, TheRegisterIsLookedAtEachSecond) {
  for (const bool is_protected : {false, true}) {
    if (is_protected) Protect();
    for (int second = 0; second < 3; ++second) {
      int reads = 0;
      for (int i = 0; i < 100; ++i) {
        Pass(milliseconds(10));
        reads += Has<ReadRegister>();
        AnswerAll(0);
      }
      EXPECT_EQ(reads, 1);
      // It serves on, whatever is the matter with the arbiter.
      if (second == 0) ArbiterUnavailable();
      if (second == 1) Granted(false, Register{});
      if (second == 2) Granted(false, is_protected ? kPair : kHeld);
      EXPECT_FALSE(Has<FallSilent>() || Has<SwapRegister>());
      EXPECT_EQ(core_->state(), is_protected ? State::kProtected : State::kSolo);
    }
  }
  for (bool read = false; !read; read = Has<ReadRegister>()) {
    AnswerAll(0);
    Pass(milliseconds(10));
  }
  Granted(false, Register{9, "c", ""});
  EXPECT_TRUE(Has<FallSilent>() && Has<Deposed>());
}

// --- A replay that hangs -------------------------------------------------------------------------

TEST_F(PrimaryTest, WhoseReplayHangsIsLeftBehindAndStaysOut) {
  Protect();
  AppendRecords(4);
  auto reply = ReplyTo(Only<SendAppend>().request);
  reply.applied_lsn = 2;
  Answer(reply);
  for (int ms = 0; ms < 9990; ms += 10) {
    Pass(milliseconds(10));
    ASSERT_EQ(core_->state(), State::kProtected) << ms;
    Live(2);
  }
  Pass(milliseconds(10));
  Live(2);
  EXPECT_EQ(core_->state(), State::kAlone);
  EXPECT_THAT(Only<CloseLink>().reason, HasSubstr("hangs"));
  EXPECT_THAT(core_->why_alone(), HasSubstr("the replay of b hangs"));
  Granted(true, GoneSolo(kPair));
  EXPECT_EQ(Only<StableUpTo>().lsn, 4u) << "at the bound of the lag clients have to wait";
  wire::JoinRequest again = JoinRequest(4);
  again.epoch = 6;
  again.applied_lsn = 2;
  EXPECT_EQ(Refusal(again), RefuseReason::NOT_REPLAYING);
  EXPECT_THAT(core_->why_alone(), HasSubstr("still hangs"));
  again.applied_lsn = 3;
  EXPECT_FALSE(Join(again).refused.has_value());
}

// This node was in a long call of its Server: what it reads then is from before.
TEST_F(PrimaryTest, AnswersFromBeforeALongCallSayNothingOfAReplayThatHangs) {
  Protect();
  AppendRecords(4);
  const auto old = ReplyTo(Only<SendAppend>().request);
  now_ += milliseconds(10'500);
  Do([&] { core_->OnPulseAnswered(6, now_ - milliseconds(10), now_); });
  Answer(old);
  EXPECT_EQ(core_->state(), State::kProtected);
}

TEST_F(PrimaryTest, WhoReplaysSlowlyOrHasNothingToReplayIsNotHung) {
  Protect();
  for (int i = 0; i < 5000; ++i) {
    Live(i / 900);
    if (i == 0 || i == 2900) {
      AppendRecords(2);
      AnswerAll(i / 900);
    }
    Pass(milliseconds(10));
    ASSERT_EQ(core_->state(), State::kProtected) << i;
  }
}

TEST_F(PrimaryTest, ABrokenLinkIsWaitedFor) {
  Protect();
  AppendRecords(3);
  Do([&] { core_->OnLinkDown("reset", now_); });
  EXPECT_TRUE(Has<Dial>());
  EXPECT_EQ(core_->state(), State::kProtected);
  Do([&] { core_->OnDialed(DialResult::kUnreachable, now_); });
  AppendRecords(1);
  EXPECT_TRUE(actions_.empty());
  // It has stored part of what was under way.
  now_ += milliseconds(20);
  const auto outcome = Join(JoinRequest(2));
  ASSERT_FALSE(outcome.refused.has_value());
  EXPECT_EQ(outcome.reply.epoch, 6);
  EXPECT_EQ(Only<StableUpTo>().lsn, 2u);
  EXPECT_EQ(Only<SendAppend>().request.first_lsn, 3);
  EXPECT_TRUE(Only<SendAppend>().request.member);
  Answer(Only<SendAppend>().request);
  EXPECT_EQ(Only<StableUpTo>().lsn, 4u);
  EXPECT_FALSE(Has<SwapRegister>());
}

TEST_F(PrimaryTest, ANodeThatKeepsComingBackWithoutAnsweringIsLost) {
  Protect();
  for (int i = 0; i < 20 && core_->state() == State::kProtected; ++i) {
    Do([&] { core_->OnLinkDown("reset", now_); });
    Pass(milliseconds(10));
    if (core_->state() == State::kProtected) Join(JoinRequest(0));
  }
  EXPECT_EQ(core_->state(), State::kAlone);
}

TEST_F(PrimaryTest, AProcessThatIsGoneIsNotWaitedForAndClientsNoticeNothing) {
  Protect();
  AppendRecords(1);
  Do([&] { core_->OnLinkDown("reset", now_); });
  Do([&] { core_->OnDialed(DialResult::kRefused, now_); });
  EXPECT_EQ(core_->state(), State::kAlone);
  EXPECT_TRUE(Has<SwapRegister>());
  EXPECT_FALSE(Has<FallSilent>()) << "the lease still runs";
  Pass(milliseconds(60));
  EXPECT_FALSE(Has<FallSilent>());
  Pass(milliseconds(10));
  EXPECT_TRUE(Has<FallSilent>());
}

TEST_F(PrimaryTest, ALateDialDoesNotCount) {
  Protect();
  Do([&] { core_->OnLinkDown("reset", now_); });
  Join(JoinRequest(0));
  Do([&] { core_->OnDialed(DialResult::kRefused, now_); });
  EXPECT_EQ(core_->state(), State::kProtected);
}

TEST_F(PrimaryTest, ANewLifeOfTheSecondaryIsNotTheSecondary) {
  AppendRecords(2);
  Protect();
  EXPECT_EQ(Refusal(JoinRequest(0)), RefuseReason::ALREADY_HAVE_ONE);
  EXPECT_EQ(core_->state(), State::kAlone);
  EXPECT_TRUE(Has<SwapRegister>());
  Granted(true, GoneSolo(kPair));
  EXPECT_FALSE(Join(JoinRequest(0)).refused.has_value());
  EXPECT_EQ(core_->state(), State::kSolo);
}

TEST_F(PrimaryTest, AnotherNodeHasToWait) {
  Protect();
  EXPECT_EQ(Refusal(JoinRequest(0, "c")), RefuseReason::ALREADY_HAVE_ONE);
  EXPECT_EQ(core_->state(), State::kProtected);
  EXPECT_FALSE(Has<CloseLink>());
}

TEST_F(PrimaryTest, ARefusalClosesTheLink) {
  Protect();
  wire::Refused refused;
  refused.reason = RefuseReason::BAD_RECORDS;
  refused.detail = "bad";
  Do([&] { core_->OnRefused(refused, now_); });
  EXPECT_THAT(Only<CloseLink>().reason, HasSubstr("bad"));
  EXPECT_EQ(core_->state(), State::kProtected);
  Join(JoinRequest(0));
  // It has diverged: it will never take over.
  refused.reason = RefuseReason::NEEDS_STATE_TRANSFER;
  Do([&] { core_->OnRefused(refused, now_); });
  EXPECT_EQ(core_->state(), State::kAlone);
}

}  // namespace
}  // namespace understudy::replication
