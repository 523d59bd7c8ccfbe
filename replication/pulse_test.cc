#include "replication/pulse.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <string>
#include <vector>

namespace understudy::replication {
namespace {

using std::chrono::seconds;
using testing::ElementsAre;
using testing::IsEmpty;

ProtocolConfig Config() {
  ProtocolConfig config;
  config.self.name = "a";
  config.service = "10.0.0.1:80";
  return config;
}

constexpr milliseconds kSpan(70);  // suspect_after - lease_guard

class PulseTest : public testing::Test {
 protected:
  void Pass(milliseconds span) { now_ += span; }
  // What the thread would send now.
  std::optional<PulseMessage> Wake() {
    const Pulse::Next next = pulse_.OnWake(now_);
    wake_at_ = next.wake_at;
    return next.send;
  }
  static PulseMessage AnswerTo(PulseMessage message) {
    message.answer = true;
    return message;
  }
  void Arrives(const PulseMessage& message) { pulse_.OnDatagram(Encode(message, ""), now_); }
  // The loop stands still until the first pulse.
  PulseMessage Stall() {
    pulse_.Allow(6, SpokenVersions().newest, now_);
    Pass(milliseconds(20));
    const auto sent = Wake();
    EXPECT_TRUE(sent.has_value());
    return sent.value_or(PulseMessage{});
  }

  MonotonicTime now_{seconds(1000)};
  std::vector<MonotonicTime> leases_;
  Pulse pulse_{Config(), milliseconds(1000), [this](MonotonicTime until) { leases_.push_back(until); }};
  MonotonicTime wake_at_{};
};

// --- When it is sent -----------------------------------------------------------------------------

TEST_F(PulseTest, SleepsUntilItIsAllowed) {
  EXPECT_FALSE(Wake().has_value());
  EXPECT_EQ(wake_at_, MonotonicTime::max());
  Pass(seconds(5));
  pulse_.Allow(6, SpokenVersions().newest, now_);
  EXPECT_FALSE(Wake().has_value()) << "the loop has just been here";
  EXPECT_EQ(wake_at_, now_ + milliseconds(20));
}

TEST_F(PulseTest, NothingIsSentWhileTheLoopTicks) {
  pulse_.Allow(6, SpokenVersions().newest, now_);
  for (int i = 0; i < 100; ++i) {
    Pass(milliseconds(10));
    pulse_.Beat(now_);
    EXPECT_FALSE(Wake().has_value());
    EXPECT_EQ(wake_at_, now_ + milliseconds(20)) << "one look in two heartbeats is enough";
  }
  EXPECT_EQ(pulse_.counters().sent, 0u);
}

TEST_F(PulseTest, OnePulseInEachHeartbeatWhileTheLoopStandsStill) {
  pulse_.Allow(6, SpokenVersions().newest, now_);
  int sent = 0;
  for (int ms = 0; ms < 220; ++ms) {
    if (const auto message = Wake()) {
      ++sent;
      EXPECT_EQ(message->epoch, 6u);
      EXPECT_FALSE(message->answer);
      EXPECT_EQ(message->service, "10.0.0.1:80");
      EXPECT_EQ(message->sent_at_ns, now_.time_since_epoch().count());
      Arrives(AnswerTo(*message));  // which wakes the thread: no reason to send again
    }
    EXPECT_GT(wake_at_, now_);
    Pass(milliseconds(1));
  }
  EXPECT_EQ(sent, 20);
}

TEST_F(PulseTest, ItEndsWhenTheLoopHasStoodStillForTooLong) {
  pulse_.Allow(6, SpokenVersions().newest, now_);
  MonotonicTime last{};
  const MonotonicTime begun = now_;
  for (; now_ < begun + seconds(3); Pass(milliseconds(10))) {
    if (Wake().has_value()) last = now_;
  }
  EXPECT_EQ(last, begun + milliseconds(990));
  pulse_.Beat(now_);
  Pass(milliseconds(20));
  EXPECT_TRUE(Wake().has_value()) << "a new stall";
}

TEST_F(PulseTest, AllowedAgainItGoesOnAsItWas) {
  const PulseMessage sent = Stall();
  pulse_.Allow(6, SpokenVersions().newest, now_);
  Arrives(AnswerTo(sent));
  EXPECT_EQ(leases_.size(), 1u);
}

// --- What an answer is worth ---------------------------------------------------------------------

TEST_F(PulseTest, AnAnswerExtendsTheLeaseFromTheSending) {
  const PulseMessage sent = Stall();
  const MonotonicTime sent_at = now_;
  EXPECT_FALSE(pulse_.TakeAnswered().has_value());
  Pass(milliseconds(3));
  Arrives(AnswerTo(sent));
  EXPECT_THAT(leases_, ElementsAre(sent_at + kSpan));
  const auto answered = pulse_.TakeAnswered();
  ASSERT_TRUE(answered.has_value());
  EXPECT_EQ(answered->epoch, 6u);
  EXPECT_EQ(answered->sent_at, sent_at);
  EXPECT_FALSE(pulse_.TakeAnswered().has_value()) << "once";
  EXPECT_EQ(pulse_.counters().answered, 1u);
}

TEST_F(PulseTest, AnAnswerCountsOnce) {
  const PulseMessage sent = Stall();
  Arrives(AnswerTo(sent));
  Arrives(AnswerTo(sent));
  EXPECT_EQ(leases_.size(), 1u);
  EXPECT_EQ(pulse_.counters().dropped, 1u);
}

TEST_F(PulseTest, AnswersThatAreOvertakenAreWorthNothing) {
  const PulseMessage first = Stall();
  Pass(milliseconds(10));
  const PulseMessage second = *Wake();
  const MonotonicTime sent_at = now_;
  Arrives(AnswerTo(second));
  Arrives(AnswerTo(first));
  EXPECT_THAT(leases_, ElementsAre(sent_at + kSpan));
  EXPECT_EQ(pulse_.TakeAnswered()->sent_at, sent_at);
}

TEST_F(PulseTest, AnAnswerThatComesTooLateExtendsNothing) {
  const PulseMessage sent = Stall();
  Pass(kSpan);
  Arrives(AnswerTo(sent));
  EXPECT_THAT(leases_, IsEmpty());
}

TEST_F(PulseTest, OnlyAnswersToOwnPulsesOfThisEpochAndServiceCount) {
  const PulseMessage sent = Stall();
  PulseMessage other = AnswerTo(sent);
  other.epoch = 5;
  Arrives(other);
  other = AnswerTo(sent);
  other.epoch = 7;
  Arrives(other);
  other = AnswerTo(sent);
  other.service = "10.0.0.2:80";
  Arrives(other);
  other = AnswerTo(sent);
  ++other.sent_at_ns;
  Arrives(other);
  other.sent_at_ns = INT64_MAX;
  Arrives(other);
  Arrives(sent);  // no answer
  EXPECT_THAT(leases_, IsEmpty());
  EXPECT_FALSE(pulse_.TakeAnswered().has_value());
  EXPECT_EQ(pulse_.counters().dropped, 6u);
}

TEST_F(PulseTest, AfterForbidNothingIsExtended) {
  const PulseMessage sent = Stall();
  pulse_.Forbid();
  Arrives(AnswerTo(sent));
  EXPECT_THAT(leases_, IsEmpty());
  EXPECT_FALSE(pulse_.TakeAnswered().has_value());
  EXPECT_FALSE(Wake().has_value());
  EXPECT_EQ(wake_at_, MonotonicTime::max());
}

TEST_F(PulseTest, ANewEpochBeginsAnew) {
  const PulseMessage sent = Stall();
  Arrives(AnswerTo(sent));
  Pass(milliseconds(10));
  const PulseMessage unanswered = *Wake();
  pulse_.Allow(7, SpokenVersions().newest, now_);
  EXPECT_FALSE(pulse_.TakeAnswered().has_value()) << "of the epoch before";
  Arrives(AnswerTo(unanswered));
  EXPECT_EQ(leases_.size(), 1u);
}

// What is sent is of the version that was agreed upon, and so must be what is answered.
TEST_F(PulseTest, AnAnswerOfAnotherVersionIsNone) {
  PulseMessage sent = Stall();
  EXPECT_EQ(sent.version, SpokenVersions().newest);
  pulse_.Allow(6, SpokenVersions().newest + 1, now_);
  Arrives(AnswerTo(sent));
  EXPECT_EQ(leases_.size(), 0u);
  Pass(milliseconds(20));
  sent = *Wake();
  EXPECT_EQ(sent.version, SpokenVersions().newest + 1);
  sent.version = SpokenVersions().newest;
  Arrives(AnswerTo(sent));
  EXPECT_EQ(leases_.size(), 0u);
}

// --- The datagram --------------------------------------------------------------------------------

const std::string kKey(32, 'k');

TEST(PulseMessageTest, OfAVersionThatNobodyHereSpeaks) {
  PulseMessage message{false, 6, 12345, "198.18.0.1:7000", SpokenVersions().newest + 1};
  EXPECT_FALSE(DecodePulse(Encode(message, ""), "").has_value());
  message.version = SpokenVersions().oldest - 1;
  EXPECT_FALSE(DecodePulse(Encode(message, ""), "").has_value());
}

TEST(PulseMessageTest, ComesBack) {
  for (const bool answer : {false, true}) {
    for (const std::string& key : {std::string(), kKey}) {
      const PulseMessage sent{answer, 0xfedcba9876543210, -5, "198.18.0.1:7000"};
      const auto back = DecodePulse(Encode(sent, key), key);
      ASSERT_TRUE(back.has_value());
      EXPECT_EQ(back->answer, answer);
      EXPECT_EQ(back->epoch, 0xfedcba9876543210u);
      EXPECT_EQ(back->sent_at_ns, -5);
      EXPECT_EQ(back->service, "198.18.0.1:7000");
    }
  }
}

TEST(PulseMessageTest, WhatIsDamagedIsNone) {
  for (const std::string& key : {std::string(), kKey}) {
    const std::string whole = Encode(PulseMessage{true, 6, 12345, "198.18.0.1:7000"}, key);
    for (size_t size = 0; size < whole.size(); ++size) {
      EXPECT_FALSE(DecodePulse(whole.substr(0, size), key).has_value()) << size;
    }
    for (size_t bit = 0; bit < 8 * whole.size(); ++bit) {
      std::string flipped = whole;
      flipped[bit / 8] ^= static_cast<char>(1 << bit % 8);
      EXPECT_FALSE(DecodePulse(flipped, key).has_value()) << "bit " << bit;
    }
    EXPECT_FALSE(DecodePulse(whole + "x", key).has_value());
    const std::string long_name(200, 'x');
    EXPECT_FALSE(DecodePulse(Encode(PulseMessage{true, 6, 12345, long_name}, key), key).has_value());
  }
}

// Whoever knows all the fields, the CRC and yesterday's datagrams, but not the key, makes none that counts.
TEST(PulseMessageTest, WithoutTheKeyNoneIsMade) {
  const PulseMessage message{false, 6, 12345, "198.18.0.1:7000"};
  EXPECT_FALSE(DecodePulse(Encode(message, ""), kKey).has_value());
  EXPECT_FALSE(DecodePulse(Encode(message, std::string(32, 'l')), kKey).has_value());
  EXPECT_FALSE(DecodePulse(Encode(message, kKey), "").has_value());
  // A pulse is no answer, and its time is not another.
  std::string recorded = Encode(message, kKey);
  recorded[6] = 1;
  EXPECT_FALSE(DecodePulse(recorded, kKey).has_value()) << "a pulse made an answer";
}

// The same at the primary: its lease.
TEST(KeyedPulseTest, AForgedAnswerRenewsNothing) {
  ProtocolConfig config;
  config.service = "10.0.0.1:80";
  config.key = kKey;
  int renewed = 0;
  Pulse pulse(config, std::chrono::seconds(10), [&](MonotonicTime) { ++renewed; });
  MonotonicTime now(std::chrono::seconds(5));
  pulse.Allow(6, SpokenVersions().newest, now);
  now += std::chrono::milliseconds(50);
  const auto next = pulse.OnWake(now);
  ASSERT_TRUE(next.send.has_value());
  PulseMessage answer = *next.send;
  answer.answer = true;
  for (const std::string& key : {std::string(), std::string(32, 'l')})
    pulse.OnDatagram(Encode(answer, key), now);
  EXPECT_EQ(renewed, 0);
  EXPECT_FALSE(pulse.TakeAnswered().has_value());
  EXPECT_EQ(pulse.counters().dropped, 2u);
  pulse.OnDatagram(Encode(answer, kKey), now);
  EXPECT_EQ(renewed, 1);
}

TEST(PulseMessageTest, RandomBytesAreNone) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  for (int i = 0; i < 20000; ++i) {
    std::string bytes(random() % (kMaxPulseSize + 20), 0);
    for (char& byte : bytes) byte = static_cast<char>(random());
    EXPECT_FALSE(DecodePulse(bytes, "").has_value());
    EXPECT_FALSE(DecodePulse(bytes, kKey).has_value());
  }
}

}  // namespace
}  // namespace understudy::replication
