#include "replication/receiver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "replication/memory_log.h"

namespace understudy::replication {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using Change = Receiver::Change;
using wire::RefuseReason;

ProtocolConfig Config() {
  ProtocolConfig config;
  config.self.name = "b";
  config.service = "10.0.0.1:80";
  config.retain_bytes = 1000;
  return config;
}

class ReceiverTest : public testing::Test {
 protected:
  ReceiverTest() { EXPECT_THAT(All<Dial>(), SizeIs(1)); }

  template <typename T>
  std::vector<T> All() const {
    std::vector<T> out;
    for (const Action& action : out_) {
      if (const T* match = std::get_if<T>(&action)) out.push_back(*match);
    }
    return out;
  }
  // One event; its actions are in out_.
  template <typename Event>
  auto Do(Event event) {
    out_.clear();
    const auto result = event();
    receiver_.CheckInvariants();
    return result;
  }
  Change Tick(milliseconds span) {
    now_ += span;
    return Do([&] { return receiver_.OnTick(now_, out_); });
  }
  Change Dialed(DialResult result) {
    return Do([&] { return receiver_.OnDialed(result, now_, out_); });
  }
  wire::JoinReply JoinReply() const {
    wire::JoinReply reply;
    reply.node = "a";
    reply.epoch = 5;
    reply.next_lsn = static_cast<int64_t>(receiver_.stored_lsn()) + 1;
    reply.suspect_after_ms = 80;
    reply.protocol_version = SpokenVersions().newest;
    return reply;
  }
  void Join() {
    EXPECT_EQ(Dialed(DialResult::kConnected), Change::kNone);
    ASSERT_THAT(All<SendJoin>(), SizeIs(1));
    ASSERT_EQ(Do([&] { return receiver_.OnJoinReply(JoinReply(), now_, out_); }), Change::kJoined);
  }
  wire::AppendRequest Append(int count, int64_t epoch = 5, bool member = false) const {
    wire::AppendRequest request;
    request.epoch = epoch;
    request.first_lsn = static_cast<int64_t>(receiver_.stored_lsn()) + 1;
    BatchBuilder builder(static_cast<Lsn>(request.first_lsn));
    for (int i = 0; i < count; ++i) builder.Append(1, 1, std::string(100 - kRecordHeaderSize, 'r'));
    if (count > 0) request.records = builder.Seal().bytes();
    request.sent_at_ns = 12345;
    request.member = member;
    return request;
  }
  Receiver::AppendOutcome Appended(const wire::AppendRequest& request) {
    return Do([&] { return receiver_.OnAppend(request, 1, now_, out_); });
  }

  MonotonicTime now_{std::chrono::seconds(1000)};
  MemoryLog log_;
  Actions out_;
  Receiver receiver_{Config(), &log_, now_, out_};
};

TEST_F(ReceiverTest, StoresInTheLogBeforeItAcknowledges) {
  Join();
  EXPECT_TRUE(receiver_.following().joined);
  const auto outcome = Appended(Append(3));
  ASSERT_FALSE(outcome.refused.has_value());
  EXPECT_EQ(outcome.reply.stored_lsn, 3);
  EXPECT_EQ(outcome.reply.applied_lsn, 1);
  EXPECT_EQ(outcome.reply.sent_at_ns, 12345);
  EXPECT_EQ(log_.last_lsn(), 3u);
  EXPECT_EQ(log_.last_epoch(), 5u);
  ASSERT_THAT(All<Replay>(), SizeIs(1));
  EXPECT_EQ(All<Replay>()[0].batch.last_lsn(), 3u);
}

TEST_F(ReceiverTest, TheLogIsBounded) {
  Join();
  for (int i = 0; i < 30; ++i) ASSERT_FALSE(Appended(Append(1)).refused.has_value());
  EXPECT_EQ(log_.last_lsn(), 30u);
  EXPECT_EQ(log_.first_lsn(), 21u) << "1000 bytes";
}

TEST_F(ReceiverTest, HashesOfTheOutputAreKeptAndPassedOn) {
  Join();
  wire::AppendRequest request = Append(4);
  wire::OutputHash earlier;
  earlier.lsn = 2;
  earlier.hash = -22;
  request.earlier_hashes = {earlier};
  request.executed_lsn = 4;
  request.output_hash = 44;
  const OutputHash second{2, static_cast<uint64_t>(-22)}, fourth{4, 44};
  Appended(request);
  ASSERT_THAT(All<Replay>(), SizeIs(1));
  EXPECT_THAT(All<Replay>()[0].hashes, ElementsAre(second, fourth));
  EXPECT_THAT(log_.HashesBetween(0, 4), ElementsAre(second, fourth)) << "it may have to ship them";
  Appended(request);
  EXPECT_THAT(All<Replay>(), IsEmpty()) << "a resend";
  // Heartbeats.
  wire::AppendRequest heartbeat = Append(0);
  heartbeat.executed_lsn = 4;
  heartbeat.output_hash = 44;
  Appended(heartbeat);
  EXPECT_THAT(All<Replay>(), IsEmpty()) << "no news";
  heartbeat.output_hash = 45;
  Appended(heartbeat);
  ASSERT_THAT(All<Replay>(), SizeIs(1));
  EXPECT_TRUE(All<Replay>()[0].batch.empty());
  EXPECT_THAT(All<Replay>()[0].hashes, ElementsAre(OutputHash{4, 45}));
  heartbeat.executed_lsn = 5;
  Appended(heartbeat);
  EXPECT_THAT(All<Replay>(), IsEmpty()) << "of a record that is not here";
}

TEST_F(ReceiverTest, TellsWhereItsLogEnds) {
  Join();
  Appended(Append(2, 6, true));
  EXPECT_EQ(Do([&] { return receiver_.OnLinkDown("reset", now_, out_); }), Change::kLost);
  EXPECT_THAT(All<Dial>(), SizeIs(1)) << "at once";
  Dialed(DialResult::kConnected);
  ASSERT_THAT(All<SendJoin>(), SizeIs(1));
  EXPECT_EQ(All<SendJoin>()[0].request.last_lsn, 2);
  EXPECT_EQ(All<SendJoin>()[0].request.epoch, 6);
}

TEST_F(ReceiverTest, SaysWhenWhatItIsHasChanged) {
  Join();
  EXPECT_FALSE(Appended(Append(1)).news);
  EXPECT_TRUE(Appended(Append(0, 6, true)).news);
  EXPECT_TRUE(receiver_.following().member);
  EXPECT_FALSE(Appended(Append(1, 6, true)).news);
  EXPECT_TRUE(Appended(Append(1, 7, false)).news);
  EXPECT_FALSE(receiver_.following().member);
}

TEST_F(ReceiverTest, WhatDoesNotFitIsRefusedAndNotStored) {
  EXPECT_EQ(Appended(Append(1)).refused->reason, RefuseReason::NOT_JOINED);
  Join();
  wire::AppendRequest gap = Append(1);
  gap.first_lsn = 2;
  EXPECT_EQ(Appended(gap).refused->reason, RefuseReason::OUT_OF_ORDER);
  EXPECT_EQ(Appended(Append(1, 4)).refused->reason, RefuseReason::WRONG_EPOCH);
  wire::AppendRequest damaged = Append(1);
  damaged.records[50] ^= 1;
  EXPECT_EQ(Appended(damaged).refused->reason, RefuseReason::BAD_RECORDS);
  EXPECT_EQ(log_.last_lsn(), 0u);
}

TEST_F(ReceiverTest, AJoinThatFailsIsTriedAgainEverMoreSeldom) {
  EXPECT_EQ(Dialed(DialResult::kRefused), Change::kDialFailed);
  EXPECT_EQ(receiver_.NextTick(), now_ + milliseconds(1));
  Tick(milliseconds(1));
  EXPECT_THAT(All<Dial>(), SizeIs(1));
  Dialed(DialResult::kUnreachable);
  EXPECT_EQ(receiver_.NextTick(), now_ + milliseconds(2));
  Tick(milliseconds(2));
  Dialed(DialResult::kConnected);
  EXPECT_EQ(Tick(milliseconds(80)), Change::kNone) << "it had not been joined";
  EXPECT_THAT(All<CloseLink>(), SizeIs(1));
  EXPECT_THAT(receiver_.why(), HasSubstr("no answer to join"));
}

TEST_F(ReceiverTest, AJoinerLeavesAPrimaryThatIsSilent) {
  Join();
  EXPECT_EQ(Tick(milliseconds(79)), Change::kNone);
  EXPECT_EQ(Tick(milliseconds(1)), Change::kLost);
  Dialed(DialResult::kConnected);
  receiver_.CheckInvariants();
}

TEST_F(ReceiverTest, AMemberStaysWhateverTheSilence) {
  Join();
  Appended(Append(1, 6, true));
  EXPECT_EQ(Tick(milliseconds(10'000)), Change::kNone) << "that is for the heir to judge";
  EXPECT_THAT(out_, IsEmpty());
  EXPECT_TRUE(receiver_.OnPulse(6, SpokenVersions().newest, now_));
  EXPECT_EQ(receiver_.following().last_heard, now_);
  EXPECT_FALSE(receiver_.OnPulse(7, SpokenVersions().newest, now_));
}

TEST_F(ReceiverTest, OnceStoppedItDoesNothingUntilItStartsAnew) {
  Join();
  Appended(Append(1, 6, true));
  receiver_.Stop();
  EXPECT_FALSE(receiver_.OnPulse(6, SpokenVersions().newest, now_));
  EXPECT_EQ(Do([&] { return receiver_.OnLinkDown("reset", now_, out_); }), Change::kNone);
  EXPECT_EQ(Tick(milliseconds(1000)), Change::kNone);
  EXPECT_THAT(out_, IsEmpty());
  EXPECT_EQ(receiver_.NextTick(), MonotonicTime::max());
  receiver_.StartAnew("the primary went on", out_);
  EXPECT_THAT(All<Dial>(), SizeIs(1));
  EXPECT_FALSE(receiver_.following().member);
  EXPECT_EQ(receiver_.following().epoch, 6u);
}

TEST_F(ReceiverTest, SpeaksWhatWasAgreedUpon) {
  out_.clear();
  ProtocolConfig config = Config();
  config.versions = {5, 7};
  receiver_ = Receiver(config, &log_, now_, out_);
  Dialed(DialResult::kConnected);
  ASSERT_THAT(All<SendJoin>(), SizeIs(1));
  EXPECT_EQ(All<SendJoin>()[0].request.protocol_version, 7);
  EXPECT_EQ(All<SendJoin>()[0].request.oldest_protocol_version, 5);
  wire::JoinReply reply = JoinReply();
  reply.protocol_version = 8;
  EXPECT_EQ(Do([&] { return receiver_.OnJoinReply(reply, now_, out_); }), Change::kNone);
  EXPECT_THAT(receiver_.why(),
              HasSubstr("the primary speaks version 8 of the protocol, and this node versions 5 to 7"));
  Tick(milliseconds(1));
  Dialed(DialResult::kConnected);
  reply.protocol_version = 6;
  EXPECT_EQ(Do([&] { return receiver_.OnJoinReply(reply, now_, out_); }), Change::kJoined);
  EXPECT_EQ(receiver_.following().version, 6);
  EXPECT_TRUE(receiver_.OnPulse(5, 6, now_));
  EXPECT_FALSE(receiver_.OnPulse(5, 7, now_)) << "another version than what was agreed upon";
}

TEST_F(ReceiverTest, HandoverFitsTheMemberThatHasAll) {
  wire::HandoverRequest request;
  request.epoch = 6;
  request.last_lsn = 1;
  Join();
  EXPECT_EQ(receiver_.CheckHandover(request)->reason, RefuseReason::NOT_JOINED);
  Appended(Append(1, 6, true));
  EXPECT_FALSE(receiver_.CheckHandover(request).has_value());
  request.last_lsn = 2;
  EXPECT_EQ(receiver_.CheckHandover(request)->reason, RefuseReason::OUT_OF_ORDER);
  request.last_lsn = 1;
  request.epoch = 5;
  EXPECT_EQ(receiver_.CheckHandover(request)->reason, RefuseReason::WRONG_EPOCH);
}

}  // namespace
}  // namespace understudy::replication
