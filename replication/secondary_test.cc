#include "replication/secondary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "replication/last_word.h"
#include "replication/memory_log.h"
#include "replication/replication_constants.h"

namespace understudy::replication {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using State = SecondaryCore::State;
using wire::RefuseReason;

RefuseReason::type ReasonOf(const wire::Refused& refused) {
  return static_cast<RefuseReason::type>(refused.reason);
}

ProtocolConfig Config() {
  ProtocolConfig config;
  config.node = "b";
  config.service = "10.0.0.1:80";
  return config;
}

std::string Records(Lsn first, int count) {
  BatchBuilder builder(first);
  for (int i = 0; i < count; ++i) builder.Append(1, 1, "record");
  return builder.Seal().bytes();
}

class SecondaryTest : public testing::Test {
 protected:
  SecondaryTest() {
    Do([] {});
  }

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

  void Dialed(DialResult result) {
    Do([&] { core_->OnDialed(result, now_); });
  }
  wire::JoinReply JoinReply() const {
    wire::JoinReply reply;
    reply.node = "a";
    reply.epoch = 5;
    reply.next_lsn = static_cast<int64_t>(core_->stored_lsn()) + 1;
    reply.suspect_after_ms = 80;
    reply.protocol_version = SpokenVersions().newest;
    reply.last_word_hash = HashOfLastWord(word_);
    return reply;
  }
  void Joined(const wire::JoinReply& reply) {
    Do([&] { core_->OnJoinReply(reply, now_); });
  }
  void Join() {
    Dialed(DialResult::kConnected);
    Joined(JoinReply());
  }

  wire::AppendRequest Append(int count, int64_t epoch = 5, bool member = false) const {
    wire::AppendRequest request;
    request.epoch = epoch;
    request.first_lsn = static_cast<int64_t>(core_->stored_lsn()) + 1;
    if (count > 0) request.records = Records(request.first_lsn, count);
    request.sent_at_ns = 12345;
    request.member = member;
    request.executed_lsn = 1;
    request.output_hash = 2;
    return request;
  }
  SecondaryCore::AppendOutcome Appended(const wire::AppendRequest& request) {
    SecondaryCore::AppendOutcome outcome;
    Do([&] { outcome = core_->OnAppend(request, 1, now_); });
    return outcome;
  }
  RefuseReason::type Refusal(const wire::AppendRequest& request) {
    const auto outcome = Appended(request);
    EXPECT_TRUE(outcome.refused.has_value());
    return outcome.refused.has_value() ? ReasonOf(*outcome.refused) : RefuseReason::type();
  }
  void Checked(const Register& seen) {
    Do([&] { core_->OnArbiterChecked(std::optional(seen), now_); });
  }
  void LinkDown() {
    Do([&] { core_->OnLinkDown("reset", now_); });
  }
  void Granted(bool swapped, const Register& current) {
    Do([&] { core_->OnArbiter(Arbiter::Outcome{swapped, current}, now_); });
  }
  void ArbiterUnavailable() {
    Do([&] { core_->OnArbiter(absl::UnavailableError("lost"), now_); });
  }
  void Protect() {
    Join();
    ASSERT_FALSE(Appended(Append(3, 6, true)).refused.has_value());
    ASSERT_EQ(core_->state(), State::kProtected);
  }
  void Suspect() {
    Protect();
    Pass(milliseconds(80));
    ASSERT_EQ(core_->state(), State::kAsking);
  }

  bool HeardLastWord(const std::string& word) {
    bool fits = false;
    Do([&] { fits = core_->OnLastWord(word, now_); });
    return fits;
  }

  const std::string word_ = std::string(32, 'w');
  const Register kPair{6, "a", "b"};
  const Register kTaken{7, "b", ""};
  const Register kSolo{5, "a", ""};
  MonotonicTime now_{std::chrono::seconds(1000)};
  std::optional<MemoryLog> log_{std::in_place};
  std::optional<SecondaryCore> core_{std::in_place, Config(), &*log_, now_};
  Actions actions_;
};

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
  EXPECT_EQ(request.protocol_version, wire::g_replication_constants.PROTOCOL_VERSION);
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
