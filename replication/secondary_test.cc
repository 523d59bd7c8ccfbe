// SecondaryCore: joining, storing, pulses, and anything at any time.
#include "replication/secondary_fixture_for_test.h"

namespace understudy::replication {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// --- Joining -------------------------------------------------------------------------------------

TEST_F(SecondaryTest, DialsAtOnceAndThenWithPauses) {
  EXPECT_TRUE(Has<Dial>());
  std::vector<int64_t> pauses;
  for (int i = 0; i < 9; ++i) {
    Dialed(i % 2 == 0 ? DialResult::kUnreachable : DialResult::kRefused);
    EXPECT_FALSE(Has<Dial>());
    const MonotonicTime before = now_;
    const MonotonicTime next = core_->NextTick();
    now_ = next - milliseconds(1);
    Pass(milliseconds(0));
    EXPECT_FALSE(Has<Dial>());
    Pass(milliseconds(1));
    EXPECT_TRUE(Has<Dial>());
    pauses.push_back((next - before) / milliseconds(1));
  }
  EXPECT_THAT(pauses, testing::ElementsAre(1, 2, 4, 8, 16, 32, 64, 100, 100));
}

TEST_F(SecondaryTest, SaysWhoItIs) {
  Dialed(DialResult::kConnected);
  const wire::JoinRequest request = Only<SendJoin>().request;
  EXPECT_EQ(request.protocol_version, SpokenVersions().newest);
  EXPECT_EQ(request.service_address, "10.0.0.1:80");
  EXPECT_EQ(request.node, "b");
  EXPECT_EQ(request.epoch, 0);
  EXPECT_EQ(request.last_lsn, 0);
}

TEST_F(SecondaryTest, ChecksTheAnswer) {
  struct Case {
    const char* fault;
    std::function<void(wire::JoinReply&)> damage;
  };
  for (const Case& c : std::vector<Case>{
           {"go on at record 2", [](auto& r) { r.next_lsn = 2; }},
           {"--suspect_after_ms is 81 there and 80 here", [](auto& r) { r.suspect_after_ms = 81; }},
           {"calls itself \"b\"", [](auto& r) { r.node = "b"; }},
           {"calls itself \"\"", [](auto& r) { r.node = ""; }},
           {"hash", [](auto& r) { r.last_word_hash = "short"; }},
           {"epoch 0", [](auto& r) { r.epoch = 0; }},
           {"epoch -1", [](auto& r) { r.epoch = -1; }}}) {
    SCOPED_TRACE(c.fault);
    Dialed(DialResult::kConnected);
    wire::JoinReply reply = JoinReply();
    c.damage(reply);
    Joined(reply);
    EXPECT_THAT(Only<CloseLink>().reason, HasSubstr(c.fault));
    EXPECT_THAT(core_->why(), HasSubstr(c.fault));
    Pass(milliseconds(100));
    EXPECT_TRUE(Has<Dial>());
  }
  Join();
  Joined(JoinReply());
  EXPECT_THAT(Only<CloseLink>().reason, HasSubstr("no join"));
}

TEST_F(SecondaryTest, AnOlderEpochIsNotJoined) {
  Protect();
  LinkDown();
  Dialed(DialResult::kConnected);
  Joined(JoinReply());  // epoch 5
  EXPECT_THAT(Only<CloseLink>().reason, HasSubstr("epoch"));
}

TEST_F(SecondaryTest, WhatTimeDoesNotMendIsRetriedSlowly) {
  for (auto reason : {RefuseReason::NEEDS_STATE_TRANSFER, RefuseReason::SAME_NODE,
                      RefuseReason::WRONG_SERVICE, RefuseReason::WRONG_VERSION}) {
    Dialed(DialResult::kConnected);
    wire::Refused refused;
    refused.reason = reason;
    refused.detail = "because";
    Do([&] { core_->OnRefused(refused, now_); });
    EXPECT_TRUE(Has<CloseLink>());
    EXPECT_EQ(core_->why(), "refused: because");
    EXPECT_EQ(core_->NextTick(), now_ + milliseconds(1000));
    Pass(milliseconds(1000));
    EXPECT_TRUE(Has<Dial>());
  }
  Dialed(DialResult::kConnected);
  wire::Refused refused;
  refused.reason = RefuseReason::ALREADY_HAVE_ONE;
  Do([&] { core_->OnRefused(refused, now_); });
  EXPECT_LE(core_->NextTick(), now_ + milliseconds(100));
}

TEST_F(SecondaryTest, APrimaryThatDoesNotAnswerIsDialedAgain) {
  Dialed(DialResult::kConnected);
  Pass(milliseconds(79));
  EXPECT_FALSE(Has<CloseLink>());
  Pass(milliseconds(1));
  EXPECT_THAT(Only<CloseLink>().reason,
              HasSubstr("if a round trip of the replication link takes 40 ms or more, raise "
                        "--suspect_after_ms"));
  Pass(milliseconds(20));
  EXPECT_TRUE(Has<Dial>());
}

TEST_F(SecondaryTest, ASilentPrimaryIsDialedAgainWhileJoining) {
  Join();
  Pass(milliseconds(80));
  EXPECT_TRUE(Has<CloseLink>());
  EXPECT_EQ(core_->state(), State::kJoining);
}

// --- Appends -------------------------------------------------------------------------------------

TEST_F(SecondaryTest, StoresAndAnswers) {
  Join();
  const auto outcome = Appended(Append(3));
  ASSERT_FALSE(outcome.refused.has_value());
  EXPECT_EQ(outcome.reply.epoch, 5);
  EXPECT_EQ(outcome.reply.stored_lsn, 3);
  EXPECT_EQ(outcome.reply.sent_at_ns, 12345);
  EXPECT_EQ(outcome.reply.applied_lsn, 1);
  EXPECT_EQ(core_->stored_lsn(), 3u);
  EXPECT_EQ(Only<Replay>().batch.last_lsn(), 3u);
  EXPECT_THAT(Only<Replay>().hashes, ElementsAre(OutputHash{1, 2}));
  EXPECT_EQ(core_->state(), State::kJoining);
  EXPECT_FALSE(Appended(Append(0)).refused.has_value());
  EXPECT_FALSE(Has<Replay>());
}

TEST_F(SecondaryTest, ResendsAreSkipped) {
  Join();
  Appended(Append(3));
  wire::AppendRequest request = Append(0);
  request.first_lsn = 2;
  request.records = Records(2, 4);
  EXPECT_EQ(Appended(request).reply.stored_lsn, 5);
  EXPECT_EQ(Only<Replay>().batch.first_lsn(), 4u);
  EXPECT_EQ(Only<Replay>().batch.last_lsn(), 5u);
  EXPECT_EQ(Appended(request).reply.stored_lsn, 5);
  EXPECT_FALSE(Has<Replay>());
}

TEST_F(SecondaryTest, RefusesWhatDoesNotFit) {
  EXPECT_EQ(Refusal(Append(1)), RefuseReason::NOT_JOINED);
  Protect();
  wire::AppendRequest request = Append(1, 6, true);
  request.first_lsn += 1;
  EXPECT_EQ(Refusal(request), RefuseReason::OUT_OF_ORDER);
  request = Append(0, 6, true);
  request.first_lsn += 1;
  EXPECT_EQ(Refusal(request), RefuseReason::OUT_OF_ORDER);
  request = Append(1, 6, true);
  request.first_lsn = 0;
  EXPECT_EQ(Refusal(request), RefuseReason::OUT_OF_ORDER);
  request = Append(1, 6, true);
  request.executed_lsn = -1;
  EXPECT_EQ(Refusal(request), RefuseReason::OUT_OF_ORDER);
  request = Append(2, 6, true);
  request.records[40] ^= 1;
  EXPECT_EQ(Refusal(request), RefuseReason::BAD_RECORDS);
  EXPECT_EQ(Refusal(Append(1, 5)), RefuseReason::WRONG_EPOCH);
  EXPECT_EQ(Refusal(Append(1, -1)), RefuseReason::WRONG_EPOCH);
  EXPECT_EQ(Refusal(Append(1, 6, false)), RefuseReason::WRONG_EPOCH);
  EXPECT_EQ(core_->stored_lsn(), 3u);
  EXPECT_EQ(core_->state(), State::kProtected);
}

TEST_F(SecondaryTest, TheNextJoinTellsWhatIsStored) {
  Protect();
  LinkDown();
  EXPECT_TRUE(Has<Dial>());
  Dialed(DialResult::kConnected);
  EXPECT_EQ(Only<SendJoin>().request.last_lsn, 3);
  EXPECT_EQ(Only<SendJoin>().request.epoch, 6);
  wire::JoinReply reply = JoinReply();
  reply.epoch = 6;
  Joined(reply);
  EXPECT_EQ(core_->state(), State::kProtected);
  EXPECT_FALSE(Appended(Append(1, 6, true)).refused.has_value());
}

TEST_F(SecondaryTest, APrimaryThatWentOnAloneHasToTakeItOnAgain) {
  Protect();
  LinkDown();
  Dialed(DialResult::kConnected);
  wire::JoinReply reply = JoinReply();
  reply.epoch = 7;
  Joined(reply);
  EXPECT_EQ(core_->state(), State::kJoining);
  Pass(milliseconds(200));
  EXPECT_FALSE(Has<SwapRegister>());
}

// --- Pulses --------------------------------------------------------------------------------------

TEST_F(SecondaryTest, APulsePutsSuspicionOff) {
  Protect();
  for (int i = 0; i < 20; ++i) {
    Pass(milliseconds(70));
    EXPECT_EQ(core_->state(), State::kProtected);
    EXPECT_TRUE(core_->OnPulse(6, SpokenVersions().newest, now_));
  }
  Pass(milliseconds(79));
  EXPECT_EQ(core_->state(), State::kProtected);
  Pass(milliseconds(1));
  EXPECT_EQ(core_->state(), State::kAsking);
}

TEST_F(SecondaryTest, APulseOfAnotherEpochIsNotHeard) {
  Protect();
  Pass(milliseconds(70));
  EXPECT_FALSE(core_->OnPulse(5, SpokenVersions().newest, now_));
  EXPECT_FALSE(core_->OnPulse(7, SpokenVersions().newest, now_))
      << "a member learns of a new epoch by joining in it";
  Pass(milliseconds(10));
  EXPECT_EQ(core_->state(), State::kAsking);
}

TEST_F(SecondaryTest, WhoHasAskedAnswersNoPulse) {
  Suspect();
  EXPECT_FALSE(core_->OnPulse(6, SpokenVersions().newest, now_));
  Granted(true, kTaken);
  EXPECT_FALSE(core_->OnPulse(6, SpokenVersions().newest, now_));
  EXPECT_FALSE(core_->OnPulse(7, SpokenVersions().newest, now_));
}

TEST_F(SecondaryTest, WithoutALinkNoPulseIsHeard) {
  EXPECT_FALSE(core_->OnPulse(0, SpokenVersions().newest, now_));
  Protect();
  LinkDown();
  EXPECT_FALSE(core_->OnPulse(6, SpokenVersions().newest, now_));
  Pass(milliseconds(80));
  EXPECT_EQ(core_->state(), State::kAsking);
}

TEST_F(SecondaryTest, AJoinerHearsPulsesOfThisEpochAndOfTheOneInWhichItIsAMember) {
  Join();
  ASSERT_FALSE(Appended(Append(3)).refused.has_value());
  for (int i = 0; i < 5; ++i) {
    Pass(milliseconds(70));
    EXPECT_TRUE(core_->OnPulse(5 + i % 2, SpokenVersions().newest, now_));
    EXPECT_FALSE(Has<CloseLink>());
  }
  EXPECT_FALSE(core_->OnPulse(4, SpokenVersions().newest, now_));
  EXPECT_FALSE(core_->OnPulse(7, SpokenVersions().newest, now_));
  Pass(milliseconds(80));
  EXPECT_TRUE(Has<CloseLink>()) << "silent";
}

// --- Others --------------------------------------------------------------------------------------

TEST_F(SecondaryTest, ACopyThatDivergedNeverServes) {
  Protect();
  Do([&] { core_->OnCopyUnusable("hash at 2", now_); });
  EXPECT_EQ(core_->state(), State::kSilent);
  EXPECT_TRUE(Has<CloseLink>());
  EXPECT_THAT(core_->why(), HasSubstr("hash at 2"));
  Pass(milliseconds(1000));
  EXPECT_THAT(actions_, IsEmpty());
}

TEST_F(SecondaryTest, ACopyThatDivergedWhileAskingNeverServes) {
  Suspect();
  Do([&] { core_->OnCopyUnusable("hash at 2", now_); });
  Granted(true, kTaken);
  EXPECT_THAT(actions_, IsEmpty());
  EXPECT_EQ(core_->state(), State::kSilent);
}

TEST_F(SecondaryTest, AConnectionNobodyWaitsForIsClosed) {
  Protect();
  Dialed(DialResult::kConnected);
  EXPECT_TRUE(Has<CloseLink>());
}

TEST_F(SecondaryTest, RandomEvents) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  const auto small = [&random] { return static_cast<int64_t>(random() % 8) - 1; };
  for (int run = 0; run < 300; ++run) {
    MemoryLog log;
    SecondaryCore core(Config(), &log, now_);
    for (int step = 0; step < 200; ++step) {
      now_ += milliseconds(random() % 30);
      switch (random() % 10) {
        case 0:
        case 1: core.OnDialed(static_cast<DialResult>(random() % 3), now_); break;
        case 2: {
          wire::JoinReply reply = JoinReply();
          reply.next_lsn = static_cast<int64_t>(core.stored_lsn()) + 1 + random() % 2;
          reply.epoch = static_cast<int64_t>(core.epoch()) + small();
          core.OnJoinReply(reply, now_);
          break;
        }
        case 3:
        case 4:
        case 5: {
          wire::AppendRequest request = Append(0);
          request.epoch = static_cast<int64_t>(core.epoch()) + random() % 2;
          request.first_lsn = static_cast<int64_t>(core.stored_lsn()) + small();
          if (request.first_lsn > 0) request.records = Records(request.first_lsn, random() % 4);
          request.member = random() % 2 == 0;
          core.OnAppend(request, random() % 10, now_);
          break;
        }
        case 6: {
          wire::HandoverRequest request;
          request.epoch = static_cast<int64_t>(core.epoch());
          request.last_lsn = static_cast<int64_t>(core.stored_lsn()) + random() % 2;
          core.OnHandover(request, now_);
          break;
        }
        case 7: {
          wire::Refused refused;
          refused.reason = static_cast<int32_t>(small());
          if (random() % 2 == 0) core.OnRefused(refused, now_);
          if (random() % 2 == 0) core.OnLinkDown("down", now_);
          break;
        }
        case 8: {
          Register reg{core.epoch() + random() % 3, random() % 4 != 0 ? "a" : "b", ""};
          if (random() % 2 == 0 && reg.holder == "a") reg.secondary = "b";
          if (random() % 4 == 0) {
            core.OnArbiter(absl::UnavailableError("lost"), now_);
          } else {
            core.OnArbiter(Arbiter::Outcome{random() % 8 == 0, reg}, now_);
          }
          break;
        }
        case 9:
          core.OnServiceCarrier(random() % 2 == 0, now_);
          if (random() % 50 == 0) core.OnCopyUnusable("random", now_);
          break;
      }
      if (random() % 40 == 0) core.OnLastWord(word_, now_);
      if (random() % 4 == 0) core.OnPulse(core.epoch() + random() % 3, SpokenVersions().newest, now_);
      if (random() % 2 == 0) core.OnTick(now_);
      core.CheckInvariants();
      core.Take();
    }
  }
}

}  // namespace
}  // namespace understudy::replication
