// What is noted of what leaves, and acknowledgements that are held until they are stable.
#include "tcpshim/verdict.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdint>
#include <thread>

#include "tcpshim/verdict_for_test.h"

namespace understudy::tcpshim {
namespace {

// --- Departures ---------------------------------------------------------------------------------

TEST(VerdictHeldTest, DeparturesMoveForwardOnly) {
  for (const uint32_t base : kBases) {
    south_connection c = Begun(base, SOUTH_OPEN, 2);
    south_segment s = Data(base, 100, 50);
    s.seq = base;
    s.timestamps = 1;
    s.tsval = base;
    Send(c, s);
    ASSERT_TRUE(c.egress_seen);
    south_segment older = s;
    older.seq -= 100;
    older.ack -= 7;
    older.tsval -= 1;
    Send(c, older);
    south_sent sent;
    ASSERT_TRUE(south_read_sent(&c, &sent));
    EXPECT_EQ(sent.snd_max, base + 100);
    EXPECT_EQ(sent.last_ack, base);
    EXPECT_EQ(sent.rcv_edge, base + 200);
    EXPECT_EQ(sent.tsval, base);
    south_segment newer = s;
    newer.seq += 100;
    newer.ack += 300;
    newer.tsval += 5;
    Send(c, newer);
    ASSERT_TRUE(south_read_sent(&c, &sent));
    EXPECT_EQ(sent.snd_max, base + 200);
    EXPECT_EQ(sent.last_ack, base + 300);
    EXPECT_EQ(sent.rcv_edge, base + 500);
    EXPECT_EQ(sent.tsval, base + 5);
  }
}

TEST(VerdictHeldTest, NeitherARstNorASegmentWithoutAckIsADeparture) {
  for (const int flags : {int{SOUTH_RST}, SOUTH_RST | SOUTH_ACK, int{SOUTH_SYN}, 0}) {
    south_connection c = Begun(1000);
    south_segment s = Lone(1000);
    s.flags = static_cast<uint8_t>(flags);
    Send(c, s);
    south_sent sent;
    EXPECT_FALSE(south_read_sent(&c, &sent)) << flags;
  }
}

TEST(VerdictHeldTest, WithoutTimestampsTheNewestStays) {
  south_connection c = Begun(1000);
  south_segment s = Lone(1000);
  s.timestamps = 1;
  s.tsval = 77;
  Send(c, s);
  s.timestamps = 0;
  s.tsval = 99;
  Send(c, s);
  EXPECT_EQ(c.last_tsval, 77u);
}

// What is sent by hand must not take back what has left since it was made.
TEST(VerdictHeldTest, ByHandNothingGoesBack) {
  for (const uint32_t base : kBases) {
    south_connection c = Begun(base, SOUTH_OPEN, 3);
    south_segment s = Lone(base, 10);
    s.timestamps = 1;
    s.tsval = base;
    EXPECT_EQ(south_newest_tsval(&c, &s), base) << "nothing has left";
    EXPECT_EQ(south_newest_window(&c, &s), 10u);
    south_segment newer = s;
    newer.tsval += 3;
    newer.window = 12;
    newer.ack -= 1;  // the edge is no multiple of the unit from here
    Send(c, newer);
    EXPECT_EQ(south_newest_tsval(&c, &s), base + 3);
    EXPECT_EQ(south_newest_window(&c, &s), 12u) << "rounded up: 95 bytes are 12 units";
    s.tsval = base + 4;
    s.window = 13;
    EXPECT_EQ(south_newest_tsval(&c, &s), base + 4);
    EXPECT_EQ(south_newest_window(&c, &s), 13u);
    s.timestamps = 0;
    s.tsval = 0;
    EXPECT_EQ(south_newest_tsval(&c, &s), 0u) << "it has none";
    s.flags = SOUTH_RST | SOUTH_ACK;
    s.window = 0;
    EXPECT_EQ(south_newest_window(&c, &s), 0u);
  }
}

// --- Held acknowledgements ----------------------------------------------------------------------

south_counter Judge(south_connection& c, const south_segment& s) {
  south_edits edits = {};
  const south_counter verdict = south_judge(&c, &s, &edits);
  if (south_leaves(verdict)) south_note_departure(&c, &s, &edits, SOUTH_BY_TCP);
  return verdict;
}

TEST(VerdictHeldTest, HeldIsTakenWhenStableAndOnceOnly) {
  for (const uint32_t base : kBases) {
    south_connection c = Begun(base);
    south_segment s = Lone(base + 100, 400);
    s.timestamps = 1;
    s.tsval = 11;
    s.tsecr = 22;
    ASSERT_EQ(Judge(c, s), SOUTH_EGRESS_ACK_HELD);
    south_held held;
    south_set_stable(&c, base + 100);
    ASSERT_TRUE(south_take_held(&c, &held));
    EXPECT_EQ(held.ack, base + 100);
    EXPECT_EQ(held.seq, kIss + 1);
    EXPECT_EQ(held.window, 400);
    EXPECT_EQ(held.tsval, 11u);
    EXPECT_EQ(held.tsecr, 22u);
    EXPECT_FALSE(south_take_held(&c, &held));
  }
}

TEST(VerdictHeldTest, HeldIsReleasedInPartsWithOneRightEdge) {
  for (const uint32_t base : kBases) {
    south_connection c = Begun(base);
    ASSERT_EQ(Judge(c, Lone(base + 100, 400)), SOUTH_EGRESS_ACK_HELD);
    for (const uint32_t part : {30u, 70u, 100u}) {
      south_held held;
      south_set_stable(&c, base + part);
      ASSERT_TRUE(south_take_held(&c, &held)) << part;
      EXPECT_EQ(held.ack, base + part);
      EXPECT_EQ(held.ack + held.window, base + 500);
      south_segment by_hand = Lone(held.ack, held.window);
      Send(c, by_hand, SOUTH_BY_HAND);
      EXPECT_EQ(c.held, part < 100);
    }
  }
}

TEST(VerdictHeldTest, TheNewestIsHeld) {
  south_connection c = Begun(0xffffff00);
  ASSERT_EQ(Judge(c, Lone(0xffffff80)), SOUTH_EGRESS_ACK_HELD);
  ASSERT_EQ(Judge(c, Lone(0x80)), SOUTH_EGRESS_ACK_HELD);
  ASSERT_EQ(Judge(c, Lone(0xffffffc0)), SOUTH_EGRESS_ACK_HELD) << "late";
  south_held held;
  south_set_stable(&c, 0x100);
  ASSERT_TRUE(south_take_held(&c, &held));
  EXPECT_EQ(held.ack, 0x80u);
}

TEST(VerdictHeldTest, WhatDataHasSaidIsHeldNoMore) {
  south_connection c = Begun(1000);
  ASSERT_EQ(Judge(c, Lone(1100, 400)), SOUTH_EGRESS_ACK_HELD);
  south_set_stable(&c, 1100);
  ASSERT_EQ(Judge(c, Data(1100, 10, 400)), SOUTH_EGRESS_PASSED);
  south_held held;
  EXPECT_FALSE(south_take_held(&c, &held));
}

TEST(VerdictHeldTest, AnOlderWindowDoesNotBuryAnUpdate) {
  south_connection c = Begun(1000);
  ASSERT_EQ(Judge(c, Lone(1100, 400)), SOUTH_EGRESS_ACK_HELD);
  south_set_stable(&c, 1100);
  ASSERT_EQ(Judge(c, Data(1100, 10, 300)), SOUTH_EGRESS_PASSED);
  south_held held;
  ASSERT_TRUE(south_take_held(&c, &held));
  EXPECT_EQ(held.ack, 1100u);
  EXPECT_EQ(held.window, 400);
}

TEST(VerdictHeldTest, ByHandTakesNothingOffWhatIsHeld) {
  south_connection c = Begun(1000);
  ASSERT_EQ(Judge(c, Lone(1100, 400)), SOUTH_EGRESS_ACK_HELD);
  Send(c, Lone(1100, 400), SOUTH_BY_HAND);
  EXPECT_TRUE(c.held);
  south_held held;
  south_set_stable(&c, 1100);
  EXPECT_FALSE(south_take_held(&c, &held)) << "but it need not be said twice";
}

TEST(VerdictHeldTest, HeldGoesOutBehindWhatHasLeftSince) {
  south_connection c = Begun(1000);
  south_segment s = Lone(1100, 400);
  s.timestamps = 1;
  s.tsval = 5;
  ASSERT_EQ(Judge(c, s), SOUTH_EGRESS_ACK_HELD);
  south_segment data = Data(1000, 50, 600);
  data.timestamps = 1;
  data.tsval = 9;
  ASSERT_EQ(Judge(c, data), SOUTH_EGRESS_PASSED);
  south_set_stable(&c, 1100);
  south_held held;
  ASSERT_TRUE(south_take_held(&c, &held));
  EXPECT_EQ(held.seq, kIss + 51);
  EXPECT_EQ(held.tsval, 9u);
  EXPECT_EQ(held.ack + held.window, 1600u) << "what was offered is not taken back";
}

TEST(VerdictHeldTest, TheWindowLimitHoldsForWhatIsHeldToo) {
  south_connection c = Begun(1000, SOUTH_OPEN, 4);
  c.window_limit = 1000;
  ASSERT_EQ(Judge(c, Lone(1100, 4000)), SOUTH_EGRESS_ACK_HELD);
  south_set_stable(&c, 1100);
  south_held held;
  ASSERT_TRUE(south_take_held(&c, &held));
  EXPECT_EQ(held.window, 1000 >> 4);
}

TEST(VerdictHeldTest, ASetThatIsBeingWrittenIsNotRead) {
  south_connection c = Begun(1000);
  south_held held;
  EXPECT_TRUE(south_read_held(&c, &held));
  c.held_version = 1;
  EXPECT_FALSE(south_read_held(&c, &held));
  // Nor does egress write into it; but it sets held.
  ASSERT_EQ(Judge(c, Lone(1100)), SOUTH_EGRESS_ACK_HELD);
  EXPECT_EQ(c.held_ack, 1000u);
  EXPECT_TRUE(c.held);
}

// User space has moved the stable point after egress had looked at it, and found nothing held yet.
TEST(VerdictHeldTest, WhatHasBecomeStableMeanwhileLeavesAsItIs) {
  south_connection c = Begun(1000);
  south_set_stable(&c, 1100);
  const south_segment s = Lone(1100);
  uint32_t stable = 1000;
  EXPECT_TRUE(south_hold(&c, &s, &stable));
  EXPECT_EQ(stable, 1100u);
  EXPECT_FALSE(c.held);
}

// Both sides at once: each acknowledgement is said by one of them, and none too early.
TEST(VerdictHeldTest, NoHeldAcknowledgementIsLostBetweenTwoThreads) {
  constexpr uint32_t kBase = 0xffff0000, kCount = 200000;
  south_connection c = Begun(kBase);
  std::atomic<uint32_t> received{kBase};
  std::atomic<uint32_t> passed{kBase};  // the newest that has left as TCP made it
  std::thread egress([&] {
    for (uint32_t i = 1; i <= kCount; ++i) {
      const south_segment s = Lone(kBase + i);
      received = s.ack;  // as if it were logged then
      if (Judge(c, s) == SOUTH_EGRESS_PASSED) passed = s.ack;
    }
  });
  uint32_t said = kBase;
  const auto take = [&](uint32_t stable) {
    south_set_stable(&c, stable);
    south_held held;
    if (!south_take_held(&c, &held)) return;
    EXPECT_FALSE(south_after(held.ack, stable));
    said = held.ack;
    Send(c, Lone(held.ack, held.window), SOUTH_BY_HAND);
  };
  while (south_after(kBase + kCount, c.stable)) take(received);
  egress.join();  // nobody looks again: what came after the last look has left by itself
  EXPECT_TRUE(said == kBase + kCount || passed == kBase + kCount) << said << " " << passed;
  EXPECT_EQ(c.last_ack, kBase + kCount);
  EXPECT_EQ(c.held_version, c.held_version & ~1u);
}

}  // namespace
}  // namespace understudy::tcpshim
