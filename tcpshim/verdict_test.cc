// The verdicts on what leaves, by themselves: no kernel, no packets.
#include "tcpshim/verdict.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <set>
#include <string>

#include "tcpshim/verdict_for_test.h"

namespace understudy::tcpshim {
namespace {

uint32_t Edge(const south_connection& c, const south_edits& edits) {
  return edits.ack + (edits.window << c.rcv_wscale);
}

std::string Shown(const south_segment& s) {
  return "flags " + std::to_string(s.flags) + " payload " + std::to_string(s.payload) + " ack " +
         std::to_string(s.ack) + " window " + std::to_string(s.window);
}

// --- Sequence numbers ---------------------------------------------------------------------------

TEST(VerdictTest, AfterIsAfterAcrossTheWrap) {
  for (const uint32_t base : kBases) {
    EXPECT_FALSE(south_after(base, base));
    for (const uint32_t distance : {1u, 2u, 0xffffu, 0x7fffffffu}) {
      EXPECT_TRUE(south_after(base + distance, base)) << base << " " << distance;
      EXPECT_FALSE(south_after(base, base + distance)) << base << " " << distance;
    }
  }
}

TEST(VerdictTest, SynAndFinCountAsABytesEach) {
  south_segment s = Data(1, 10);
  s.seq = 0xffffffff;
  EXPECT_EQ(south_end(&s), 9u);
  s.flags = SOUTH_ACK | SOUTH_FIN;
  EXPECT_EQ(south_end(&s), 10u);
  s.flags = SOUTH_ACK | SOUTH_SYN | SOUTH_FIN;
  EXPECT_EQ(south_end(&s), 11u);
}

// --- The window ---------------------------------------------------------------------------------

// Every scale, with room, limit and what was offered before on both sides of each unit.
TEST(VerdictTest, WindowFitsRoomLimitAndWhatWasOffered) {
  for (uint8_t shift = 0; shift <= 14; ++shift) {
    const uint32_t unit = 1u << shift;
    std::set<uint32_t> amounts = {0, 1};
    for (const uint32_t units : {1u, 2u, 7u, 100u, 32768u, 65534u, 65535u, 65536u}) {
      for (const uint32_t off : {0u, 1u, unit - 1}) {
        amounts.insert(units * unit + off);
        amounts.insert(units * unit - off);
      }
    }
    for (const uint32_t ack : kBases) {
      for (const uint32_t room : amounts) {
        for (const uint32_t limit : amounts) {
          south_connection c = Begun(ack, SOUTH_OPEN, shift);
          c.window_limit = limit;
          const uint32_t free = south_fit_window(&c, ack, room);
          const uint32_t most = limit == 0 ? room : std::min(room, limit);
          ASSERT_EQ(free, std::min(most >> shift, 65535u)) << +shift << " " << room << " " << limit;
          c.egress_seen = 1;
          for (const uint32_t offered : amounts) {
            c.rcv_edge = ack + offered;
            const uint32_t window = south_fit_window(&c, ack, room);
            ASSERT_LE(window, 65535u);
            const uint32_t reach = window << shift;
            ASSERT_GE(window, free);
            if (offered > 65535 * unit) {
              ASSERT_EQ(window, 65535u) << "as far as a header can say";
            } else {
              ASSERT_GE(reach, offered) << "shift " << +shift << ": the right edge moved left";
              ASSERT_TRUE(window == free || reach < offered + unit) << "and no further than it must";
            }
          }
        }
      }
    }
  }
}

TEST(VerdictTest, AnEdgeBehindTheAcknowledgementTakesNoPart) {
  south_connection c = Begun(1000);
  c.egress_seen = 1;
  c.rcv_edge = 900;
  EXPECT_EQ(south_fit_window(&c, 1000, 0), 0u);
}

// --- Egress -------------------------------------------------------------------------------------

constexpr uint32_t kFlagBits[] = {SOUTH_FIN, SOUTH_SYN, SOUTH_RST, SOUTH_ACK};

uint8_t Bits(unsigned which) {
  uint32_t flags = 0;
  for (unsigned i = 0; i < 4; ++i) flags |= which >> i & 1 ? kFlagBits[i] : 0;
  return static_cast<uint8_t>(flags);
}

// What `judge` may write: nothing but what is held.
void ExpectOnlyHeldChanged(south_connection before, const south_connection& after) {
  before.held = after.held;
  before.held_version = after.held_version;
  before.held_ack = after.held_ack;
  before.held_seq = after.held_seq;
  before.held_tsval = after.held_tsval;
  before.held_tsecr = after.held_tsecr;
  before.held_window = after.held_window;
  EXPECT_EQ(memcmp(&before, &after, sizeof(before)), 0);
}

// One segment of each kind, on a connection in each state.
void JudgeOne(uint32_t stable, uint32_t flags, uint8_t shift, const south_segment& s) {
  SCOPED_TRACE(Shown(s) + " allowed " + std::to_string(flags) + " stable " + std::to_string(stable));
  south_connection c = Begun(stable, flags, shift);
  const south_connection before = c;
  south_edits edits = {};
  const south_counter verdict = south_judge(&c, &s, &edits);
  ExpectOnlyHeldChanged(before, c);
  const bool rst = s.flags & SOUTH_RST, fin = s.flags & SOUTH_FIN, syn = s.flags & SOUTH_SYN;
  const bool acks = s.flags & SOUTH_ACK && !syn;
  const bool past = acks && south_after(s.ack, stable);
  if (south_leaves(verdict)) {
    EXPECT_TRUE(!rst || flags & SOUTH_RST_OK) << "a RST that no logged abort explains";
    EXPECT_TRUE(!fin || flags & SOUTH_FIN_OK) << "a FIN that no logged close explains";
    EXPECT_TRUE(rst || flags & SOUTH_OPEN) << "before Opened is stable";
    EXPECT_FALSE(acks && south_after(edits.ack, stable)) << "I1";
    EXPECT_EQ(verdict == SOUTH_EGRESS_ACK_CLAMPED, past);
    if (!past) {
      EXPECT_EQ(edits.ack, s.ack);
      EXPECT_EQ(edits.window, s.window) << "nothing is in its way";
    } else {
      const uint32_t own = s.ack + (static_cast<uint32_t>(s.window) << shift);
      EXPECT_FALSE(south_after(Edge(c, edits), own)) << "offers what TCP does not";
      EXPECT_TRUE(edits.window == 65535 || own - Edge(c, edits) < 1u << shift)
          << "takes more room back than the scale needs";
    }
  } else {
    const bool objection = (rst && !(flags & SOUTH_RST_OK)) || (fin && !(flags & SOUTH_FIN_OK)) ||
                           (!rst && !(flags & SOUTH_OPEN)) || (past && s.payload == 0 && !rst && !fin);
    EXPECT_TRUE(objection) << "swallowed for nothing: " << verdict;
  }
  const bool kept = verdict == SOUTH_EGRESS_ACK_HELD || (verdict == SOUTH_EGRESS_ACK_CLAMPED && !rst);
  EXPECT_EQ(c.held, kept);
  if (kept) {
    EXPECT_EQ(c.held_ack, s.ack);
    EXPECT_EQ(c.held_seq, south_end(&s));
    EXPECT_EQ(c.held_window, s.window);
  }
}

TEST(VerdictTest, EachKindOfSegmentInEachState) {
  for (const uint32_t stable : kBases) {
    for (const uint32_t flags : {0u, 1u, 2u, 3u, 4u, 5u, 6u, 7u}) {
      for (unsigned bits = 0; bits < 16; ++bits) {
        for (const uint32_t payload : {0u, 1u, 1000u}) {
          for (const int32_t distance : {-70000, -1, 0, 1, 999, 70000}) {
            for (const uint8_t shift : {0, 2, 7, 14}) {
              south_segment s = Data(stable + static_cast<uint32_t>(distance), payload, 300);
              s.flags = Bits(bits);
              JudgeOne(stable, flags, shift, s);
            }
          }
        }
      }
    }
  }
}

TEST(VerdictTest, EachObjectionHasItsCounter) {
  south_edits edits;
  south_segment s = Lone(1000);
  south_connection c = Begun(1000, 0);
  EXPECT_EQ(south_judge(&c, &s, &edits), SOUTH_EGRESS_SYN_ACK_HELD);
  c.flags = SOUTH_OPEN;
  EXPECT_EQ(south_judge(&c, &s, &edits), SOUTH_EGRESS_PASSED);
  s.ack = 1001;
  EXPECT_EQ(south_judge(&c, &s, &edits), SOUTH_EGRESS_ACK_HELD);
  s.payload = 1;
  EXPECT_EQ(south_judge(&c, &s, &edits), SOUTH_EGRESS_ACK_CLAMPED);
  s.flags = SOUTH_ACK | SOUTH_FIN;
  EXPECT_EQ(south_judge(&c, &s, &edits), SOUTH_EGRESS_FIN_DISCARDED);
  s.flags = SOUTH_ACK | SOUTH_RST;
  EXPECT_EQ(south_judge(&c, &s, &edits), SOUTH_EGRESS_RST_DISCARDED);
}

// The window of a SYN-ACK is not scaled, and nobody fits it.
TEST(VerdictTest, TheWindowOfASynAckStaysAsItIs) {
  south_connection c = Begun(1000, SOUTH_OPEN, 7);
  c.window_limit = 1;
  south_segment s = Lone(1000, 64240);
  s.flags = SOUTH_SYN | SOUTH_ACK;
  south_edits edits;
  ASSERT_EQ(south_judge(&c, &s, &edits), SOUTH_EGRESS_PASSED);
  EXPECT_EQ(edits.window, 64240u);
  south_note_departure(&c, &s, &edits, SOUTH_BY_TCP);
  EXPECT_EQ(c.rcv_edge, 1000u + 64240);
}

// TCP's own stream of acknowledgements, clamped to a stable point that follows at some distance: whatever
// the scale, the right edge on the wire never moves left (I6), and nothing beyond the point is said (I1).
TEST(VerdictTest, TheRightEdgeNeverMovesLeftInAStream) {
  for (const uint32_t base : kBases) {
    for (uint8_t shift = 0; shift <= 14; ++shift) {
      south_connection c = Begun(base, SOUTH_OPEN, shift);
      uint32_t edge = base;
      for (uint32_t i = 0; i < 200; ++i) {
        const uint32_t received = base + i * 1001;
        south_set_stable(&c, base + i / 3 * 1001);
        // Room for 100,000 bytes and no more: TCP rounds its window down.
        const uint32_t room = base + 100000 + i * 377 - received;
        if (static_cast<int32_t>(room) < 0) break;
        const south_segment s = Data(received, 10, static_cast<uint16_t>(std::min(room >> shift, 65535u)));
        south_edits edits;
        ASSERT_TRUE(south_leaves(south_judge(&c, &s, &edits)));
        ASSERT_FALSE(south_after(edits.ack, c.stable));
        ASSERT_FALSE(i > 0 && south_after(edge, Edge(c, edits))) << "scale " << +shift << ", segment " << i;
        edge = Edge(c, edits);
        south_note_departure(&c, &s, &edits, SOUTH_BY_TCP);
        ASSERT_EQ(c.rcv_edge, edge);
      }
    }
  }
}

TEST(VerdictTest, AnotherIncarnationAndAnotherHandshakeAreNoSegmentsOfThisOne) {
  south_connection c = Begun(0xfffffff0);
  south_segment s = Lone(0xfffffff0);
  s.flags = SOUTH_SYN | SOUTH_ACK;
  s.seq = kIss;
  EXPECT_TRUE(south_is_incarnation(&c, &s));
  s.seq = kIss + 1;
  EXPECT_FALSE(south_is_incarnation(&c, &s));
  s.flags = SOUTH_ACK;
  EXPECT_TRUE(south_is_incarnation(&c, &s)) << "only a SYN-ACK tells";

  for (const uint32_t within : {0u, 1u, 0xffffu}) {
    s.ack = c.stable + within;
    EXPECT_FALSE(south_is_other_handshake(&c, &s)) << within;
  }
  for (const uint32_t beyond : {0x10000u, 0x80000000u, 0xffffffffu}) {
    s.ack = c.stable + beyond;
    EXPECT_TRUE(south_is_other_handshake(&c, &s)) << beyond;
    for (const uint8_t more : {SOUTH_SYN, SOUTH_FIN, SOUTH_RST}) {
      south_segment other = s;
      other.flags |= more;
      EXPECT_FALSE(south_is_other_handshake(&c, &other));
    }
    south_segment data = s;
    data.payload = 1;
    EXPECT_FALSE(south_is_other_handshake(&c, &data));
  }
  c.ingress_seen = 1;
  EXPECT_FALSE(south_is_other_handshake(&c, &s)) << "the client has spoken";
}

TEST(VerdictTest, WithoutAConnection) {
  south_segment s = Lone(1);
  EXPECT_EQ(south_judge_unknown(&s, 0), SOUTH_EGRESS_PASSED) << "TIME_WAIT";
  EXPECT_EQ(south_judge_unknown(&s, 1), SOUTH_EGRESS_STRAY) << "its handshake had to make room";
  s.payload = 1;
  EXPECT_EQ(south_judge_unknown(&s, 0), SOUTH_EGRESS_STRAY);
  s = Lone(1);
  s.flags = SOUTH_ACK | SOUTH_FIN;
  EXPECT_EQ(south_judge_unknown(&s, 0), SOUTH_EGRESS_STRAY);
  s.flags = SOUTH_ACK | SOUTH_SYN;
  EXPECT_EQ(south_judge_unknown(&s, 0), SOUTH_EGRESS_SYN_ACK_HELD);
  for (const int more : {0, int{SOUTH_ACK}, SOUTH_ACK | SOUTH_SYN, SOUTH_ACK | SOUTH_FIN}) {
    s.flags = static_cast<uint8_t>(SOUTH_RST | more);
    EXPECT_EQ(south_judge_unknown(&s, 1), SOUTH_EGRESS_RST_UNKNOWN);
  }
}

// What could have passed on the way here, and only that, passes on another interface.
TEST(VerdictTest, ElsewhereNothingPassesThatCouldNotHavePassedBefore) {
  for (const uint32_t stable : kBases) {
    for (uint32_t flags = 0; flags < 8; ++flags) {
      for (unsigned bits = 0; bits < 16; ++bits) {
        for (const uint32_t payload : {0u, 9u}) {
          for (const int32_t distance : {-1, 0, 1}) {
            south_segment s = Data(stable + static_cast<uint32_t>(distance), payload);
            s.flags = Bits(bits);
            if (south_is_syn_ack(&s)) s.seq = kIss;
            SCOPED_TRACE(Shown(s) + " allowed " + std::to_string(flags));
            south_connection c = Begun(stable, flags);
            const south_counter there = south_judge_elsewhere(&c, &s, 0);
            south_edits edits;
            const south_counter here = south_judge(&c, &s, &edits);
            // Before Opened a RST may leave here alone: it would come from nobody's connection.
            if (!(flags & SOUTH_OPEN)) {
              EXPECT_EQ(there, SOUTH_EGRESS_ELSEWHERE);
            } else {
              EXPECT_EQ(there == SOUTH_EGRESS_PASSED, here == SOUTH_EGRESS_PASSED);
            }
          }
        }
      }
    }
  }
}

TEST(VerdictTest, ElsewhereWithoutAConnection) {
  south_segment s = Lone(1);
  EXPECT_EQ(south_judge_elsewhere(nullptr, &s, 0), SOUTH_EGRESS_PASSED);
  EXPECT_EQ(south_judge_elsewhere(nullptr, &s, 1), SOUTH_EGRESS_ELSEWHERE);
  EXPECT_FALSE(south_is_refused(nullptr, &s));
  s.flags = SOUTH_SYN | SOUTH_ACK;
  EXPECT_TRUE(south_is_refused(nullptr, &s));
  south_connection c = Begun(1);
  s.seq = kIss;
  EXPECT_FALSE(south_is_refused(&c, &s));
  s.seq = kIss + 1;
  EXPECT_TRUE(south_is_refused(&c, &s));
  EXPECT_EQ(south_judge_elsewhere(&c, &s, 0), SOUTH_EGRESS_ELSEWHERE);
}

// --- The switch, and the rest -------------------------------------------------------------------

TEST(VerdictTest, TheGateAndTheDeadline) {
  south_control control = {};
  EXPECT_FALSE(south_is_open(&control));
  EXPECT_TRUE(south_is_late(&control, 0)) << "no lease yet";
  control.gate = 1;
  EXPECT_TRUE(south_is_open(&control));
  south_renew(&control, 100);
  EXPECT_FALSE(south_is_late(&control, 99));
  EXPECT_TRUE(south_is_late(&control, 100));
  south_renew(&control, 50);
  EXPECT_FALSE(south_is_late(&control, 99)) << "never shortened";
  south_renew(&control, 200);
  EXPECT_FALSE(south_is_late(&control, 199));
}

TEST(VerdictTest, TheStablePointNeverMovesBack) {
  for (const uint32_t base : kBases) {
    south_connection c = Begun(base);
    south_set_stable(&c, base + 10);
    EXPECT_EQ(c.stable, base + 10);
    south_set_stable(&c, base + 9);
    EXPECT_EQ(c.stable, base + 10);
  }
}

TEST(VerdictTest, TokensComeBackWithTime) {
  constexpr uint64_t kInterval = 1000, kBurst = 5, kStart = 1'000'000;
  __u64 due = 0;
  const auto taken = [&](uint64_t now) {
    int count = 0;
    while (south_take_token(&due, now, kInterval, kBurst)) ++count;
    return count;
  };
  EXPECT_EQ(taken(kStart), 5) << "a burst";
  EXPECT_EQ(taken(kStart), 0);
  EXPECT_EQ(taken(kStart + kInterval), 1);
  int later = 0;
  for (uint64_t now = kStart + kInterval; now <= kStart + 100 * kInterval; now += 7) later += taken(now);
  EXPECT_NEAR(later, 99, 1) << "one for each interval, however often it is asked";
  EXPECT_EQ(taken(kStart + 1000 * kInterval), 5) << "no more than a burst is saved up";
}

}  // namespace
}  // namespace understudy::tcpshim
