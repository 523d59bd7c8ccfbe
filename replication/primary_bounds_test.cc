// PrimaryCore: what is bounded, the log that is handed on, and anything at any time.
#include "replication/primary_fixture_for_test.h"

namespace understudy::replication {
namespace {

using testing::HasSubstr;

// --- Bounds --------------------------------------------------------------------------------------

TEST_F(PrimaryTest, UnstableRecordsAreBounded) {
  Protect();
  std::vector<wire::AppendRequest> sent;
  while (core_->CanAppend()) {
    AppendRecords(1, 100);
    sent.push_back(Only<SendAppend>().request);
    ASSERT_LT(sent.size(), 100u);
  }
  EXPECT_EQ(sent.size(), 16u);  // of 128 bytes, to reach 2000
  Answer(sent[0]);
  EXPECT_TRUE(core_->CanAppend());
}

TEST_F(PrimaryTest, AJoinerThatFallsBehindTheRetainedLogIsDropped) {
  ProtocolConfig config = Config();
  config.retain_bytes = 1500;
  MemoryLog log;
  PrimaryCore core(config, kHeld, &log, now_);
  ASSERT_FALSE(core.OnJoin(JoinRequest(), now_).refused.has_value());
  bool closed = false;
  for (int i = 0; i < 40; ++i) {
    BatchBuilder builder(core.last_lsn() + 1);
    builder.Append(1, 1, std::string(72, 'r'));
    core.OnAppended(builder.Seal(), 0, 0, now_);
    core.CheckInvariants();
    for (const Action& action : core.Take()) closed |= std::holds_alternative<CloseLink>(action);
  }
  EXPECT_TRUE(closed);
  EXPECT_EQ(core.stable_lsn(), 40u);
}

// What it has acknowledged and not replayed is in its memory as well.
TEST_F(PrimaryTest, AJoinerIsSentNoMoreThanItReplays) {
  ProtocolConfig config = Config();
  config.max_replay_lag = 1500;
  config.retain_bytes = 100000;
  BeginAnew(config);
  Do([] {});
  for (int i = 0; i < 40; ++i) AppendRecords(1, 72);  // 100 bytes each
  ASSERT_FALSE(Join(JoinRequest()).refused.has_value());
  AppendRecords(1, 72);
  Answer(open_.back());  // 4000 bytes in one call: more than it should have
  size_t sent = 0;
  const auto live = [&](int64_t applied) {
    for (const SendAppend& send : All<SendAppend>()) sent += send.request.records.size();
    EXPECT_FALSE(Has<SwapRegister>());
    AnswerAll(applied);
    AppendRecords(1, 72);
    EXPECT_TRUE(core_->CanAppend()) << "who catches up is not waited for";
    EXPECT_TRUE(Has<StableUpTo>());
    for (const SendAppend& send : All<SendAppend>()) sent += send.request.records.size();
    Pass(milliseconds(10));
  };
  for (int i = 0; i < 50; ++i) live(0);
  EXPECT_EQ(sent, 0u) << "heartbeats";
  EXPECT_EQ(core_->state(), State::kSolo);
  EXPECT_EQ(core_->peer(), "b");
  AnswerAll(40);
  EXPECT_TRUE(Has<SendAppend>()) << "it has replayed what it had";
}

TEST_F(PrimaryTest, AJoinerWhoseReplayHangsIsLetGoAndStaysOut) {
  ProtocolConfig config = Config();
  config.max_replay_lag = 1500;
  BeginAnew(config);
  Do([] {});
  for (int i = 0; i < 40; ++i) AppendRecords(1, 72);
  ASSERT_FALSE(Join(JoinRequest()).refused.has_value());
  AppendRecords(1, 72);
  Answer(open_.back());
  for (int ms = 0; ms < 9990; ms += 10) {
    Pass(milliseconds(10));
    ASSERT_EQ(core_->peer(), "b") << ms;
    Live(0);
  }
  Pass(milliseconds(10));
  Live(0);
  EXPECT_EQ(core_->peer(), "");
  EXPECT_THAT(core_->why_alone(), HasSubstr("the replay of b hangs"));
  wire::JoinRequest again = JoinRequest(40);
  again.applied_lsn = 0;
  EXPECT_EQ(Refusal(again), RefuseReason::NOT_REPLAYING);
}

TEST_F(PrimaryTest, AppendingGoesOnWhenTheSecondaryHasReplayed) {
  ProtocolConfig config = Config();
  config.max_replay_lag = 1000;
  config.max_unstable_bytes = 100000;
  BeginAnew(config);
  Do([] {});
  Protect();
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(core_->CanAppend());
    AppendRecords(1, 72);
    Answer(Only<SendAppend>().request);
  }
  EXPECT_FALSE(core_->CanAppend()) << "all is stable, and nothing replayed";
  Pass(milliseconds(10));
  AnswerAll(5);
  EXPECT_TRUE(core_->CanAppend());
  EXPECT_EQ(Only<StableUpTo>().lsn, 10u) << "clients are waiting for it, although it has not moved";
  for (int i = 0; i < 5; ++i) {
    AppendRecords(1, 72);
    auto reply = ReplyTo(Only<SendAppend>().request);
    reply.applied_lsn = 5;
    Answer(reply);
  }
  EXPECT_FALSE(core_->CanAppend());
  Do([&] { core_->OnLinkDown("reset", now_); });
  EXPECT_TRUE(core_->CanAppend()) << "there is nobody to wait for";
  EXPECT_TRUE(Has<StableUpTo>());
}

// The log of a former role: what a secondary has stored, it ships when it has taken over.
TEST_F(PrimaryTest, TheLogIsHandedOn) {
  core_.reset();
  log_.emplace();
  BatchBuilder builder(1);
  for (int i = 0; i < 5; ++i) builder.Append(1, 1, "record");
  log_->Append(builder.Seal(), 4, {});
  core_.emplace(Config(), kHeld, &*log_, now_);
  Do([] {});
  EXPECT_EQ(core_->last_lsn(), 5u);
  EXPECT_EQ(core_->stable_lsn(), 5u);
  AppendRecords();
  // A log of an older epoch may have a tail that nobody else ever stored.
  wire::JoinRequest old = JoinRequest(3);
  old.epoch = 4;
  EXPECT_EQ(Refusal(old), RefuseReason::NEEDS_STATE_TRANSFER);
  ASSERT_FALSE(Join(JoinRequest()).refused.has_value());
  EXPECT_EQ(Only<SendAppend>().request.first_lsn, 1);
  Answer(Only<SendAppend>().request);
  EXPECT_EQ(core_->peer(), "b");
}

// Anything at any time: no crash, and no lease without an owner's right.
TEST_F(PrimaryTest, RandomEvents) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  const auto small = [&random] { return static_cast<int64_t>(random() % 8) - 1; };
  for (int run = 0; run < 300; ++run) {
    MemoryLog log;
    PrimaryCore core(Config(), kHeld, &log, now_);
    std::deque<wire::AppendRequest> open;
    Register wanted = kHeld;
    for (int step = 0; step < 200; ++step) {
      now_ += milliseconds(random() % 30);
      switch (random() % 12) {
        case 0:
        case 1: {
          BatchBuilder builder(core.last_lsn() + 1);
          builder.Append(1, 1, "x");
          core.OnAppended(builder.Seal(), 0, 0, now_);
          break;
        }
        case 2: {
          wire::JoinRequest request = JoinRequest(small(), random() % 4 == 0 ? "c" : "b");
          request.epoch = small();
          if (random() % 2 == 0) request.last_lsn = static_cast<int64_t>(core.stable_lsn());
          if (random() % 2 == 0) request.epoch = static_cast<int64_t>(core.held().epoch);
          if (!core.OnJoin(request, now_).refused.has_value()) open.clear();
          break;
        }
        case 3:
        case 4:
        case 5: {
          wire::AppendReply reply;
          if (!open.empty()) {
            reply = ReplyTo(open.front());
            open.pop_front();
          }
          if (random() % 20 == 0) reply.stored_lsn = small();
          core.OnAppendReply(reply, now_);
          break;
        }
        case 6: {
          wire::HandoverReply reply;
          reply.epoch = small();
          core.OnHandoverReply(reply, now_);
          break;
        }
        case 7: {
          wire::Refused refused;
          refused.reason = static_cast<int32_t>(small());
          if (random() % 4 == 0) core.OnRefused(refused, now_);
          break;
        }
        case 8:
          if (random() % 4 == 0) core.OnLinkDown("down", now_);
          core.OnDialed(static_cast<DialResult>(random() % 3), now_);
          break;
        case 9:
        case 10:
          if (random() % 4 == 0) {
            core.OnArbiter(absl::UnavailableError("lost"), now_);
          } else {
            core.OnArbiter(Arbiter::Outcome{random() % 2 == 0, wanted}, now_);
          }
          break;
        case 11:
          core.OnServiceCarrier(random() % 2 == 0, now_);
          core.OnHandoverWanted("random", now_).IgnoreError();
          break;
      }
      if (random() % 4 == 0) {
        core.OnPulseAnswered(core.held().epoch + random() % 2, now_ - milliseconds(random() % 90), now_);
      }
      if (random() % 2 == 0) core.OnTick(now_);
      core.CheckInvariants();
      for (const Action& action : core.Take()) {
        if (auto* send = std::get_if<SendAppend>(&action)) open.push_back(send->request);
        if (auto* swap = std::get_if<SwapRegister>(&action)) wanted = swap->desired;
        if (std::holds_alternative<CloseLink>(action)) open.clear();
      }
    }
  }
}

}  // namespace
}  // namespace understudy::replication
