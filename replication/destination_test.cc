#include "replication/destination.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "replication/memory_log.h"

namespace understudy::replication {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

class DestinationTest : public testing::Test {
 protected:
  // 100 bytes for each record.
  void AppendRecords(int count) {
    BatchBuilder builder(log_.last_lsn() + 1);
    for (int i = 0; i < count; ++i) builder.Append(1, 1, std::string(100 - kRecordHeaderSize, 'r'));
    log_.Append(builder.Seal(), 5, {OutputHash{log_.last_lsn() + count, 77}});
  }
  wire::AppendRequest Send(bool with_records = true) {
    const wire::AppendRequest request = peer_.Next(5, with_records, now_);
    peer_.CheckInvariants();
    return request;
  }
  // All it was sent is stored.
  static wire::AppendReply ReplyTo(const wire::AppendRequest& request, int64_t applied) {
    wire::AppendReply reply;
    reply.epoch = request.epoch;
    reply.sent_at_ns = request.sent_at_ns;
    reply.stored_lsn = request.first_lsn - 1 + static_cast<int64_t>(request.records.size() / 100);
    reply.applied_lsn = applied;
    return reply;
  }
  std::string Reply(const wire::AppendReply& reply) {
    std::string fault = peer_.OnReply(reply, now_);
    peer_.CheckInvariants();
    return fault;
  }

  MonotonicTime now_{std::chrono::seconds(1000)};
  MemoryLog log_;
  Destination peer_{&log_, {.unacknowledged = 1000, .unreplayed = 2000}};
};

TEST_F(DestinationTest, SendsWhatItLacksAndThenHeartbeats) {
  AppendRecords(3);
  AppendRecords(2);
  peer_.Connect("b", 3, 3, now_);
  EXPECT_EQ(peer_.node(), "b");
  EXPECT_FALSE(peer_.HasBeenSentAll());
  const wire::AppendRequest request = Send();
  EXPECT_EQ(request.first_lsn, 4);
  EXPECT_EQ(request.records.size(), 200u);
  EXPECT_EQ(request.executed_lsn, 5);
  EXPECT_EQ(request.output_hash, 77);
  EXPECT_TRUE(peer_.HasBeenSentAll());
  EXPECT_EQ(peer_.waits_since(), now_);
  const wire::AppendRequest heartbeat = Send();
  EXPECT_EQ(heartbeat.first_lsn, 6);
  EXPECT_THAT(heartbeat.records, IsEmpty());
  EXPECT_EQ(heartbeat.executed_lsn, 5);
  EXPECT_EQ(Reply(ReplyTo(request, 4)), "");
  EXPECT_EQ(peer_.stored_lsn(), 5u);
  EXPECT_EQ(peer_.applied_lsn(), 4u);
  EXPECT_TRUE(peer_.has_answered());
}

TEST_F(DestinationTest, TellsTheHashOfEachBatch) {
  for (int i = 0; i < 4; ++i) AppendRecords(2);
  peer_.Connect("b", 2, 2, now_);
  const wire::AppendRequest request = Send();
  EXPECT_EQ(request.executed_lsn, 8);
  ASSERT_EQ(request.earlier_hashes.size(), 2u) << "of what it gets";
  EXPECT_EQ(request.earlier_hashes[0].lsn, 4);
  EXPECT_EQ(request.earlier_hashes[1].lsn, 6);
  EXPECT_EQ(request.earlier_hashes[1].hash, 77);
  const wire::AppendRequest heartbeat = Send();
  EXPECT_EQ(heartbeat.executed_lsn, 8);
  EXPECT_FALSE(heartbeat.__isset.earlier_hashes);
}

TEST_F(DestinationTest, AnswersComeInTheOrderOfTheAppends) {
  peer_.Connect("b", 0, 0, now_);
  EXPECT_THAT(Reply(wire::AppendReply()), HasSubstr("no append"));
  AppendRecords(1);
  const wire::AppendRequest first = Send();
  now_ += milliseconds(1);
  AppendRecords(1);
  const wire::AppendRequest second = Send();
  EXPECT_THAT(Reply(ReplyTo(second, 0)), HasSubstr("of time"));
  wire::AppendReply reply = ReplyTo(first, 0);
  reply.epoch = 6;
  EXPECT_THAT(Reply(reply), HasSubstr("of epoch 6 instead of 5"));
  reply = ReplyTo(first, 0);
  reply.stored_lsn = 0;
  EXPECT_THAT(Reply(reply), HasSubstr("claims to have stored 0"));
  reply.stored_lsn = 3;
  EXPECT_THAT(Reply(reply), HasSubstr("claims to have stored 3"));
  EXPECT_THAT(Reply(ReplyTo(first, 2)), HasSubstr("claims to have replayed 2 of 1"));
  EXPECT_FALSE(peer_.has_answered());
  EXPECT_EQ(Reply(ReplyTo(first, 0)), "");
  EXPECT_EQ(Reply(ReplyTo(second, 0)), "");
  EXPECT_EQ(peer_.waits_since(), std::nullopt);
}

TEST_F(DestinationTest, OneThatCatchesUpIsSentNoMoreThanItAcknowledges) {
  peer_.Connect("b", 0, 0, now_);
  AppendRecords(9);
  const wire::AppendRequest first = Send();
  EXPECT_TRUE(peer_.MayBeSentMore());
  AppendRecords(1);
  Send();
  EXPECT_FALSE(peer_.MayBeSentMore());
  EXPECT_EQ(Reply(ReplyTo(first, 0)), "");
  EXPECT_TRUE(peer_.MayBeSentMore());
}

TEST_F(DestinationTest, OneThatCatchesUpIsSentNoMoreThanItReplays) {
  peer_.Connect("b", 0, 0, now_);
  for (Lsn lsn = 1; lsn <= 20; ++lsn) {
    EXPECT_TRUE(peer_.MayBeSentMore()) << lsn;
    AppendRecords(1);
    EXPECT_EQ(Reply(ReplyTo(Send(), 0)), "");
  }
  EXPECT_TRUE(peer_.ReplayLags());
  EXPECT_FALSE(peer_.MayBeSentMore()) << "although all is acknowledged";
  AppendRecords(1);
  const wire::AppendRequest heartbeat = Send(/*with_records=*/false);
  EXPECT_THAT(heartbeat.records, IsEmpty());
  EXPECT_EQ(heartbeat.executed_lsn, 20) << "of what it has, not of what is there";
  EXPECT_EQ(Reply(ReplyTo(heartbeat, 1)), "");
  EXPECT_TRUE(peer_.MayBeSentMore());
}

TEST_F(DestinationTest, WhatItHasNotReplayedCountsAlsoOnANewLink) {
  AppendRecords(10);
  AppendRecords(15);
  peer_.Connect("b", 25, 0, now_);
  EXPECT_TRUE(peer_.ReplayLags());
  peer_.Connect("b", 25, 10, now_);
  EXPECT_FALSE(peer_.ReplayLags());
  peer_.Connect("b", 25, 0, now_);
  peer_.Disconnect();
  EXPECT_FALSE(peer_.ReplayLags()) << "nobody to wait for";
}

TEST_F(DestinationTest, HoldsTheLogThatItNeedsNext) {
  for (int i = 0; i < 10; ++i) AppendRecords(1);
  peer_.Connect("b", 3, 3, now_);
  log_.TruncateBefore(8);
  EXPECT_EQ(log_.first_lsn(), 4u);
  EXPECT_TRUE(peer_.FellBehind(8));
  EXPECT_FALSE(peer_.FellBehind(4));
  Send();
  EXPECT_FALSE(peer_.FellBehind(8)) << "it has been sent all";
  log_.TruncateBefore(8);
  EXPECT_EQ(log_.first_lsn(), 8u);
  peer_.Connect("b", 8, 8, now_);
  peer_.Disconnect();
  log_.TruncateBefore(11);
  EXPECT_EQ(log_.first_lsn(), 11u);
}

TEST_F(DestinationTest, TheReplayMovesOrHasNothingToDo) {
  peer_.Connect("b", 0, 0, now_);
  AppendRecords(2);
  const MonotonicTime joined = now_;
  now_ += milliseconds(5);
  EXPECT_EQ(Reply(ReplyTo(Send(), 0)), "");
  EXPECT_EQ(peer_.replay_moved_at(), joined);
  now_ += milliseconds(5);
  EXPECT_EQ(Reply(ReplyTo(Send(), 1)), "");
  EXPECT_EQ(peer_.replay_moved_at(), now_);
  now_ += milliseconds(5);
  EXPECT_EQ(Reply(ReplyTo(Send(), 2)), "");
  now_ += milliseconds(5);
  EXPECT_EQ(Reply(ReplyTo(Send(), 2)), "");
  EXPECT_EQ(peer_.replay_moved_at(), now_) << "nothing to do";
}

}  // namespace
}  // namespace understudy::replication
