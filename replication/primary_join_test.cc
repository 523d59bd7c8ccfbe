// PrimaryCore: who may join, catching up, and being taken on as the secondary.
#include "replication/primary_fixture_for_test.h"

namespace understudy::replication {
namespace {

using testing::HasSubstr;

// --- Could the joiner take over? -----------------------------------------------------------------

TEST_F(PrimaryTest, AJoinerThatCouldNotTakeOverIsNotTakenOn) {
  ASSERT_FALSE(Join(JoinRequest()).refused.has_value());
  EXPECT_NE(core_->peer_cannot_take_over(), "") << "it has not said yet";
  const auto sent = [this] {
    for (const SendAppend& send : All<SendAppend>()) open_.push_back(send.request);
  };
  for (int i = 0; i < 50; ++i) {
    while (!open_.empty()) {
      wire::AppendReply reply = ReplyTo(open_.front());
      reply.cannot_take_over = "it cannot use the arbiter";
      open_.erase(open_.begin());
      Answer(reply);
      EXPECT_FALSE(Has<SwapRegister>());
      sent();
    }
    AppendRecords();
    EXPECT_TRUE(Has<StableUpTo>()) << "the primary is as alone as before";
    sent();
    Pass(milliseconds(10));
    sent();
  }
  EXPECT_EQ(core_->state(), PrimaryCore::State::kSolo);
  EXPECT_EQ(core_->peer_cannot_take_over(), "it cannot use the arbiter");
}

TEST_F(PrimaryTest, TheSecondaryThatCouldNotTakeOverAnyMoreIsKnown) {
  Protect();
  EXPECT_EQ(core_->peer_cannot_take_over(), "");
  AppendRecords();
  wire::AppendReply reply = ReplyTo(Only<SendAppend>().request);
  reply.cannot_take_over = "the arbiter does not answer";
  Answer(reply);
  EXPECT_EQ(core_->state(), PrimaryCore::State::kProtected) << "it stores all the same";
  EXPECT_EQ(core_->peer_cannot_take_over(), "the arbiter does not answer");
}

// A joiner that does not keep up, and the records it would need next are gone when a heartbeat is due.
TEST_F(PrimaryTest, AJoinerThatFallsBehindBetweenTwoHeartbeats) {
  ProtocolConfig config = Config();
  config.retain_bytes = 1500;
  bool found_by_heartbeat = false;
  for (int records = 1; records < 30; ++records) {
    BeginAnew(config);
    Do([] {});
    ASSERT_FALSE(Join(JoinRequest()).refused.has_value());
    bool closed = false;
    for (int i = 0; i < records; ++i) {
      AppendRecords(1, 200);
      closed |= Has<CloseLink>();
    }
    Pass(milliseconds(10));
    found_by_heartbeat |= !closed && Has<CloseLink>();
    EXPECT_EQ(core_->state(), PrimaryCore::State::kSolo);
  }
  EXPECT_TRUE(found_by_heartbeat);
}

// --- Solo ----------------------------------------------------------------------------------------

TEST_F(PrimaryTest, SoloRecordsAreStableAtOnceAndTheLeaseGoesOnWithTime) {
  EXPECT_EQ(Only<Lease>().until, now_ + kSpan);
  AppendRecords(3);
  EXPECT_EQ(Only<StableUpTo>().lsn, 3u);
  Pass(milliseconds(10));
  EXPECT_EQ(Only<Lease>().until, now_ + kSpan);
  // A process that was stopped for long still owns the epoch: nobody else could take it.
  Pass(milliseconds(1000));
  EXPECT_EQ(Only<Lease>().until, now_ + kSpan);
  EXPECT_FALSE(Has<FallSilent>());
  EXPECT_LE(core_->NextTick(), now_ + milliseconds(10));
}

TEST_F(PrimaryTest, RefusesWhoCannotJoin) {
  AppendRecords(3);
  wire::JoinRequest request = JoinRequest();
  ++request.protocol_version;
  EXPECT_EQ(Refusal(request), RefuseReason::WRONG_VERSION);
  request = JoinRequest();
  request.service_address = "10.0.0.2:80";
  EXPECT_EQ(Refusal(request), RefuseReason::WRONG_SERVICE);
  EXPECT_EQ(Refusal(JoinRequest(0, "a")), RefuseReason::SAME_NODE);
  for (const std::string& name :
       {std::string(), std::string("a b"), std::string(5000, 'x'), std::string("c\nforged")}) {
    EXPECT_EQ(Refusal(JoinRequest(0, name)), RefuseReason::NOT_AUTHENTIC);
  }
  EXPECT_EQ(Refusal(JoinRequest(-1)), RefuseReason::OUT_OF_ORDER);
  EXPECT_EQ(Refusal(JoinRequest(4)), RefuseReason::NEEDS_STATE_TRANSFER);  // beyond the end
  EXPECT_EQ(Refusal(JoinRequest(INT64_MAX)), RefuseReason::NEEDS_STATE_TRANSFER);
  request = JoinRequest(2);
  request.epoch = 4;  // before this node's: the tail may be another
  EXPECT_EQ(Refusal(request), RefuseReason::NEEDS_STATE_TRANSFER);
  request.epoch = 9;
  const auto outcome = Join(request);
  EXPECT_EQ(ReasonOf(*outcome.refused), RefuseReason::WRONG_EPOCH);
  EXPECT_EQ(outcome.refused->epoch, 5);
  // It may have missed something: it asks.
  Pass(milliseconds(10));
  EXPECT_TRUE(Has<ReadRegister>());
  Granted(false, Register{9, "b", ""});
  EXPECT_EQ(core_->state(), State::kDeposed);
}

TEST_F(PrimaryTest, BothTellWhoTheyAre) {
  ProtocolConfig config = Config();
  config.self = {"a", 0xa1, "198.18.0.1:7100"};
  BeginAnew(config);
  Do([] {});
  wire::JoinRequest request = JoinRequest();
  SetId({"b", 0xb1, "198.18.0.2:7100"}, request);
  EXPECT_EQ(IdOf(Join(request).reply), config.self);
  EXPECT_EQ(core_->peer_id().ToString(), "b/00000000000000b1@198.18.0.2:7100");
  request.incarnation = 0xb2;
  request.endpoint = "no place\nforged";
  Join(request);
  EXPECT_EQ(core_->peer_id().ToString(), "b/00000000000000b2") << "who says nonsense is let join, unlocated";
}

TEST_F(PrimaryTest, TheNewestVersionThatBothSpeakIsAgreedUpon) {
  ProtocolConfig config = Config();
  config.versions = {5, 7};
  BeginAnew(config);
  Do([] {});
  wire::JoinRequest request = JoinRequest();
  request.protocol_version = 4;
  request.__set_oldest_protocol_version(3);
  const auto refused = Join(request).refused;
  ASSERT_TRUE(refused.has_value());
  EXPECT_EQ(ReasonOf(*refused), RefuseReason::WRONG_VERSION);
  EXPECT_EQ(refused->detail, "a speaks versions 5 to 7 of the protocol, and b versions 3 to 4");
  EXPECT_EQ(core_->version(), 0);
  request.protocol_version = 9;
  request.__set_oldest_protocol_version(6);
  EXPECT_EQ(Join(request).reply.protocol_version, 7);
  EXPECT_EQ(core_->version(), 7);
  request.protocol_version = 6;
  EXPECT_EQ(Join(request).reply.protocol_version, 6);
  EXPECT_EQ(core_->version(), 6);
}

TEST_F(PrimaryTest, RefusesANodeWithOtherSettingsAndNamesTheFirst) {
  ProtocolConfig config = Config();
  config.settings = {{"--a", "1"}, {"--b", "2"}};
  MemoryLog log;
  PrimaryCore core(config, kHeld, &log, now_);
  const auto refusal = [&](const std::map<std::string, std::string>& settings) {
    wire::JoinRequest request = JoinRequest();
    request.__set_settings(settings);
    const auto outcome = core.OnJoin(request, now_);
    if (!outcome.refused.has_value()) return std::string();
    EXPECT_EQ(ReasonOf(*outcome.refused), RefuseReason::OTHER_SETTINGS);
    return outcome.refused->detail;
  };
  EXPECT_EQ(refusal({{"--a", "1"}, {"--b", "3"}}),
            "--b must be the same on both nodes, and is \"2\" on a and \"3\" on b");
  EXPECT_EQ(refusal({{"--a", "1"}}),
            "--b must be the same on both nodes, and is \"2\" on a and nothing on b");
  EXPECT_EQ(refusal({{"--a", "1"}, {"--b", "2"}, {"--c\n", "\xff"}}),
            "--c\\n must be the same on both nodes, and is nothing on a and \"\\377\" on b");
  EXPECT_EQ(ReasonOf(*core.OnJoin(JoinRequest(), now_).refused), RefuseReason::OTHER_SETTINGS)
      << "told none at all";
  EXPECT_EQ(refusal({{"--a", "1"}, {"--b", "2"}}), "");
}

TEST_F(PrimaryTest, WhatIsNotRetainedNeedsAStateTransfer) {
  MemoryLog log(50);
  PrimaryCore late(Config(), kHeld, &log, now_);
  EXPECT_EQ(ReasonOf(*late.OnJoin(JoinRequest(49), now_).refused), RefuseReason::NEEDS_STATE_TRANSFER);
  EXPECT_FALSE(late.OnJoin(JoinRequest(50), now_).refused.has_value());
}

TEST_F(PrimaryTest, CatchesUpInBoundedSteps) {
  for (int i = 0; i < 40; ++i) AppendRecords(1, 72);  // 100 bytes each
  const auto outcome = Join(JoinRequest(3));
  ASSERT_FALSE(outcome.refused.has_value());
  EXPECT_EQ(outcome.reply.node, "a");
  EXPECT_EQ(outcome.reply.epoch, 5);
  EXPECT_EQ(outcome.reply.next_lsn, 4);
  EXPECT_EQ(outcome.reply.suspect_after_ms, 80);
  EXPECT_EQ(Only<SendAppend>().request.first_lsn, 4);
  EXPECT_FALSE(Only<SendAppend>().request.member);
  EXPECT_EQ(core_->peer(), "b");
  // Others have to wait; the same node may dial again.
  EXPECT_EQ(Refusal(JoinRequest(0, "c")), RefuseReason::ALREADY_HAVE_ONE);
  EXPECT_FALSE(Join(JoinRequest(3)).refused.has_value());
  // A record that comes while more than max_catch_up_bytes are under way waits, and is stable.
  AppendRecords(1);
  EXPECT_FALSE(Has<SendAppend>());
  EXPECT_EQ(Only<StableUpTo>().lsn, 41u);
  Answer(open_.back());
  EXPECT_EQ(Only<SendAppend>().request.first_lsn, 41);
  EXPECT_FALSE(Has<SwapRegister>());
}

TEST_F(PrimaryTest, JoinerThatStopsAnsweringIsDropped) {
  Join(JoinRequest());
  for (int i = 0; i < 7; ++i) Pass(milliseconds(10));
  EXPECT_EQ(core_->state(), State::kSolo);
  Pass(milliseconds(10));
  EXPECT_THAT(Only<CloseLink>().reason, HasSubstr("stopped answering"));
  EXPECT_EQ(core_->peer(), "");
  AppendRecords();
  EXPECT_EQ(Only<StableUpTo>().lsn, 1u);
}

TEST_F(PrimaryTest, SaysWhatToDoAboutALinkTooSlowToJoinOn) {
  Join(JoinRequest());
  Do([&] { core_->OnLinkDown("closed by the other end", now_); });
  EXPECT_THAT(core_->why_alone(),
              HasSubstr("closed by the other end; if a round trip of the replication link takes 40 ms "
                        "or more, raise --suspect_after_ms"));
  Join(JoinRequest());
  wire::AppendReply reply = ReplyTo(open_.back());
  reply.cannot_take_over = "not yet";
  Answer(reply);
  Do([&] { core_->OnLinkDown("reset", now_); });
  EXPECT_EQ(core_->why_alone(), "b was lost while it caught up: reset");
}

TEST_F(PrimaryTest, TakesOnAJoinerThatHasEverything) {
  AppendRecords(2);
  Join(JoinRequest());
  Answer(open_.back());
  EXPECT_EQ(Only<SwapRegister>().expected, kHeld);
  EXPECT_EQ(Only<SwapRegister>().desired, kPair);
  EXPECT_EQ(core_->state(), State::kSolo);
  // From here on stable does not run ahead of it.
  AppendRecords();
  EXPECT_FALSE(Has<StableUpTo>());
  const wire::AppendRequest sent = Only<SendAppend>().request;
  EXPECT_FALSE(sent.member);
  EXPECT_EQ(sent.output_hash, 77);
  Answer(sent);
  EXPECT_EQ(Only<StableUpTo>().lsn, 3u);
  Granted(true, kPair);
  EXPECT_EQ(core_->state(), State::kProtected);
  EXPECT_EQ(core_->held(), kPair);
  EXPECT_TRUE(Only<SendAppend>().request.member);
  EXPECT_EQ(Only<SendAppend>().request.epoch, 6);
}

TEST_F(PrimaryTest, DoesNotTakeOnAJoinerBeforeItHoldsWhatIsStable) {
  AppendRecords();
  Join(JoinRequest());
  AppendRecords();  // stable at once, and on its way
  const wire::AppendRequest second = Only<SendAppend>().request;
  Answer(open_.back());
  EXPECT_FALSE(Has<SwapRegister>());
  AppendRecords();  // not stable any more without the joiner
  EXPECT_FALSE(Has<StableUpTo>());
  Answer(second);
  EXPECT_TRUE(Has<SwapRegister>());
}

TEST_F(PrimaryTest, TakesOnAJoinerUnderConstantLoad) {
  Join(JoinRequest());
  AppendRecords();
  std::vector<wire::AppendRequest> sent = {open_.back(), Only<SendAppend>().request};
  for (int i = 0; i < 5 && core_->held() == kHeld; ++i) {
    AppendRecords();  // before each answer there is more
    sent.push_back(Only<SendAppend>().request);
    Answer(sent[i]);
    if (Has<SwapRegister>()) return;
  }
  FAIL() << "never asked";
}

}  // namespace
}  // namespace understudy::replication
