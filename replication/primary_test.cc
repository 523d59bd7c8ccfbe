#include "replication/primary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "replication/memory_log.h"
#include "replication/replication_constants.h"

namespace understudy::replication {
namespace {

using testing::HasSubstr;
using State = PrimaryCore::State;
using wire::RefuseReason;

RefuseReason::type ReasonOf(const wire::Refused& refused) {
  return static_cast<RefuseReason::type>(refused.reason);
}

ProtocolConfig Config() {
  ProtocolConfig config;
  config.node = "a";
  config.service = "10.0.0.1:80";
  config.max_catch_up_bytes = 1000;
  config.max_unstable_bytes = 2000;
  config.retain_bytes = 100000;
  return config;
}

constexpr milliseconds kSpan(70);  // suspect_after - lease_guard

class PrimaryTest : public testing::Test {
 protected:
  PrimaryTest() {
    Do([] {});
  }

  // Another primary, with an empty log.
  void BeginAnew(const ProtocolConfig& config) {
    core_.reset();
    log_.emplace();
    core_.emplace(config, kHeld, &*log_, now_);
  }
  // One event and its actions.
  template <typename Event>
  void Do(Event event) {
    event();
    core_->CheckInvariants();
    actions_ = core_->Take();
  }
  void Pass(milliseconds span) {
    now_ += span;
    Do([&] { core_->OnTick(now_); });
  }
  void AppendRecords(int count = 1, size_t body = 10) {
    Do([&] {
      BatchBuilder builder(core_->last_lsn() + 1);
      for (int i = 0; i < count; ++i) builder.Append(1, 1, std::string(body, 'r'));
      core_->OnAppended(builder.Seal(), core_->last_lsn(), 77, now_);
    });
  }

  template <typename T>
  std::vector<T> All() const {
    std::vector<T> out;
    for (const Action& action : actions_) {
      if (const T* match = std::get_if<T>(&action)) out.push_back(*match);
    }
    return out;
  }
  template <typename T>
  bool Has() const {
    return !All<T>().empty();
  }
  template <typename T>
  T Only() const {
    const std::vector<T> all = All<T>();
    EXPECT_EQ(all.size(), 1u);
    return all.empty() ? T{} : all.front();
  }

  static wire::JoinRequest JoinRequest(int64_t last_lsn = 0, const std::string& node = "b") {
    wire::JoinRequest request;
    request.protocol_version = wire::g_replication_constants.PROTOCOL_VERSION;
    request.service_address = "10.0.0.1:80";
    request.node = node;
    request.epoch = last_lsn == 0 ? 0 : 5;
    request.last_lsn = last_lsn;
    return request;
  }
  PrimaryCore::JoinOutcome Join(const wire::JoinRequest& request) {
    PrimaryCore::JoinOutcome outcome;
    Do([&] { outcome = core_->OnJoin(request, now_); });
    for (const SendAppend& send : All<SendAppend>()) open_.push_back(send.request);
    return outcome;
  }
  RefuseReason::type Refusal(const wire::JoinRequest& request) {
    const auto outcome = Join(request);
    EXPECT_TRUE(outcome.refused.has_value());
    return outcome.refused.has_value() ? ReasonOf(*outcome.refused) : RefuseReason::type();
  }

  static wire::AppendReply ReplyTo(const wire::AppendRequest& request) {
    wire::AppendReply reply;
    reply.epoch = request.epoch;
    reply.sent_at_ns = request.sent_at_ns;
    reply.stored_lsn = request.first_lsn - 1;
    if (!request.records.empty()) {
      auto batch = RecordBatch::Parse(request.records, request.first_lsn);
      EXPECT_TRUE(batch.ok()) << batch.status();
      reply.stored_lsn = static_cast<int64_t>(batch->last_lsn());
    }
    reply.applied_lsn = 0;
    return reply;
  }
  void Answer(const wire::AppendReply& reply) {
    Do([&] { core_->OnAppendReply(reply, now_); });
  }
  void Answer(const wire::AppendRequest& request) { Answer(ReplyTo(request)); }

  void Granted(bool swapped, const Register& current) {
    Do([&] { core_->OnArbiter(Arbiter::Outcome{swapped, current}, now_); });
  }
  void ArbiterUnavailable() {
    Do([&] { core_->OnArbiter(absl::UnavailableError("lost"), now_); });
  }

  // What was sent just now, by a node that has replayed so far, or all it holds.
  void AnswerAll(int64_t applied) {
    for (const SendAppend& send : All<SendAppend>()) {
      wire::AppendReply reply = ReplyTo(send.request);
      reply.applied_lsn = std::min(reply.stored_lsn, applied);
      Answer(reply);
    }
  }

  // And the arbiter still has what was granted.
  void Live(int64_t applied) {
    const Actions sent = actions_;
    if (Has<ReadRegister>()) Granted(false, core_->held());
    actions_ = sent;
    AnswerAll(applied);
  }

  // b has joined, and holds everything up to last_lsn().
  void Protect() {
    ASSERT_FALSE(Join(JoinRequest(core_->last_lsn())).refused.has_value());
    Answer(open_.back());
    ASSERT_EQ(Only<SwapRegister>().desired, kPair);
    Granted(true, kPair);
    ASSERT_EQ(core_->state(), State::kProtected);
    member_ = Only<SendAppend>().request;
    Answer(member_);
  }

  const Register kHeld{5, "a", ""};
  const Register kPair{6, "a", "b"};
  MonotonicTime now_{std::chrono::seconds(1000)};
  std::optional<MemoryLog> log_{std::in_place};
  std::optional<PrimaryCore> core_{std::in_place, Config(), kHeld, &*log_, now_};
  Actions actions_;
  std::vector<wire::AppendRequest> open_;
  wire::AppendRequest member_;
};

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
