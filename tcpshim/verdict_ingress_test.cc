// The verdicts on what arrives, and what is noted and told of it.
#include "tcpshim/verdict.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>

#include "tcpshim/verdict_for_test.h"

namespace understudy::tcpshim {
namespace {

// --- Ingress ------------------------------------------------------------------------------------

// A connection whose client may send from `base`, and has been sent 100 bytes.
south_connection Sending(uint32_t base) {
  south_connection c = Begun(base, SOUTH_OPEN, 2);
  south_segment s = Data(base, 100, 50);
  Send(c, s);
  return c;
}

south_segment FromClient(uint32_t seq, uint32_t ack, uint16_t window = 300) {
  south_segment s = {};
  s.seq = seq;
  s.ack = ack;
  s.window = window;
  s.flags = SOUTH_ACK;
  return s;
}

TEST(VerdictIngressTest, OnlyWhatCanBeTheClientsIsBelieved) {
  constexpr uint32_t kSent = kIss + 101;
  for (const uint32_t base : kBases) {
    for (const int32_t off : {-2, -1, 0, 1, 199, 200, 201, 70000}) {
      for (const int32_t ahead : {-101, -1, 0, 1, 70000}) {
        south_connection c = Sending(base);
        const south_segment s =
            FromClient(base + static_cast<uint32_t>(off), kSent + static_cast<uint32_t>(ahead));
        south_arrival arrival;
        south_arrive(&c, &s, &arrival);
        EXPECT_EQ(arrival.verdict, SOUTH_INGRESS_PASSED) << "TCP has the last word";
        const bool in_window = off >= -1 && off <= 200;
        south_client client;
        EXPECT_EQ(south_read_client(&c, &client), in_window && ahead <= 0)
            << base << " " << off << " " << ahead;
        EXPECT_EQ(c.una, in_window && ahead <= 0 ? s.ack : 0);
      }
    }
  }
}

TEST(VerdictIngressTest, WhatTheClientAcknowledgesNeverMovesBack) {
  south_connection c = Sending(1000);
  south_segment s = FromClient(1000, kIss + 51, 300);
  s.timestamps = 1;
  s.tsval = 0xffffffff;
  ASSERT_FALSE(south_note_arrival(&c, &s));
  s = FromClient(1000, kIss + 21, 900);
  s.timestamps = 1;
  s.tsval = 0xfffffffe;
  ASSERT_FALSE(south_note_arrival(&c, &s));
  south_client client;
  ASSERT_TRUE(south_read_client(&c, &client));
  EXPECT_EQ(client.una, kIss + 51);
  EXPECT_EQ(client.window, 300) << "they belong together";
  EXPECT_EQ(client.tsval, 0xffffffff);
  s = FromClient(1000, kIss + 51, 900);
  s.timestamps = 1;
  s.tsval = 3;
  ASSERT_FALSE(south_note_arrival(&c, &s));
  ASSERT_TRUE(south_read_client(&c, &client));
  EXPECT_EQ(client.window, 900) << "a window update";
  EXPECT_EQ(client.tsval, 3u);
}

TEST(VerdictIngressTest, WhoseHandshakeItIsAcknowledgesTheSynAck) {
  for (const int32_t off : {-1, 0, 1}) {
    south_connection c = Begun(1000);
    south_segment s = Lone(1000, 500);
    s.seq = kIss;
    s.flags = SOUTH_SYN | SOUTH_ACK;
    Send(c, s, SOUTH_BY_HAND);
    south_segment first = FromClient(1000, kIss + 1 + static_cast<uint32_t>(off));
    south_note_arrival(&c, &first);
    EXPECT_EQ(c.ingress_seen, off == 0) << off;
  }
}

TEST(VerdictIngressTest, TheWakeComesOnceAndWhenItIsDue) {
  for (const uint32_t iss : {kIss, 0xffffffd0u}) {
    south_connection c = Sending(1000);
    c.snd_max = iss + 101;
    EXPECT_FALSE(south_wake_when_acked(&c, iss + 51));
    south_arrival arrival;
    south_segment s = FromClient(1000, iss + 50);
    south_arrive(&c, &s, &arrival);
    EXPECT_EQ(arrival.report, 0u) << "one byte is missing";
    s.ack = iss + 60;
    south_arrive(&c, &s, &arrival);
    EXPECT_EQ(arrival.report, static_cast<uint32_t>(SOUTH_EVENT_ACKED));
    s.ack = iss + 70;
    south_arrive(&c, &s, &arrival);
    EXPECT_EQ(arrival.report, 0u) << "once";
    EXPECT_TRUE(south_wake_when_acked(&c, iss + 70)) << "it has been acknowledged already";
    s.ack = iss + 80;
    south_arrive(&c, &s, &arrival);
    EXPECT_EQ(arrival.report, 0u) << "and no event comes";
  }
}

TEST(VerdictIngressTest, ASynIsRememberedAndToldOfAKnownConnection) {
  south_segment s = FromClient(1000, 0);
  s.flags = SOUTH_SYN;
  south_arrival arrival;
  south_arrive(nullptr, &s, &arrival);
  EXPECT_TRUE(arrival.remember_syn);
  EXPECT_EQ(arrival.report, 0u);
  south_connection c = Sending(1000);
  const south_connection before = c;
  south_arrive(&c, &s, &arrival);
  EXPECT_TRUE(arrival.remember_syn);
  EXPECT_EQ(arrival.report, static_cast<uint32_t>(SOUTH_EVENT_SYN_KNOWN));
  EXPECT_EQ(memcmp(&before, &c, sizeof(c)), 0);
}

TEST(VerdictIngressTest, OnlyTheExactRstEndsAHandshake) {
  for (const int32_t off : {-1, 0, 1}) {
    south_connection c = Sending(1000);
    south_segment s = FromClient(1000 + static_cast<uint32_t>(off), 0);
    s.flags = SOUTH_RST;
    south_arrival arrival;
    south_arrive(&c, &s, &arrival);
    EXPECT_EQ(arrival.report, off == 0 ? static_cast<uint32_t>(SOUTH_EVENT_RST_HANDSHAKE) : 0u) << off;
    EXPECT_FALSE(c.ingress_seen);
    c.ingress_seen = 1;
    south_arrive(&c, &s, &arrival);
    EXPECT_EQ(arrival.report, 0u) << "TCP tells of it itself";
  }
}

TEST(VerdictIngressTest, WhatHasNoSocketIsNotedAndKeptFromTcp) {
  south_connection c = Sending(1000);
  c.flags |= SOUTH_NO_SOCKET;
  const south_segment s = FromClient(1000, kIss + 101);
  south_arrival arrival;
  south_arrive(&c, &s, &arrival);
  EXPECT_EQ(arrival.verdict, SOUTH_INGRESS_NO_SOCKET);
  EXPECT_TRUE(c.ingress_seen);
}

TEST(VerdictIngressTest, AnOldEchoIsBlankedUntilANewerOneComes) {
  constexpr uint32_t kFrom = 0xfffffff8;
  south_connection c = Begun(1000);
  const south_sent sent = {kIss + 1, 1000, 2000, kFrom};
  south_begin_restored(&c, &sent);
  south_segment s = FromClient(1000, kIss + 1);
  south_arrival arrival;
  const auto blanks = [&](uint32_t tsecr) {
    s.tsecr = tsecr;
    south_arrive(&c, &s, &arrival);
    return arrival.blank_echo == 1;
  };
  EXPECT_FALSE(blanks(kFrom - 1)) << "without timestamps there is none";
  s.timestamps = 1;
  EXPECT_TRUE(blanks(kFrom - 1));
  EXPECT_FALSE(blanks(0)) << "TCP takes no time from it";
  EXPECT_TRUE(blanks(kFrom - 1000));
  EXPECT_FALSE(blanks(5)) << "this host's, behind the wrap";
  EXPECT_FALSE(blanks(kFrom - 1)) << "it is over";
}

TEST(VerdictIngressTest, WhatWentPastTheProgramsMovesForwardWhatIsKnown) {
  south_connection c = Begun(1000);
  south_note_past(&c, kIss + 500, kIss + 400);
  EXPECT_EQ(c.snd_max, 0u) << "nothing is known yet: the next segment tells";
  EXPECT_EQ(c.una, 0u);
  c = Sending(1000);
  const south_segment s = FromClient(1000, kIss + 101, 300);
  south_note_arrival(&c, &s);
  south_note_past(&c, kIss + 90, kIss + 90);
  EXPECT_EQ(c.snd_max, kIss + 101);
  EXPECT_EQ(c.una, kIss + 101);
  south_note_past(&c, kIss + 500, kIss + 400);
  EXPECT_EQ(c.snd_max, kIss + 500);
  EXPECT_EQ(c.una, kIss + 400);
  EXPECT_EQ(c.window, 300u);
}

// --- Handshakes ---------------------------------------------------------------------------------

TEST(VerdictIngressTest, ASynAckIsMatchedWithTheSynThatItAnswers) {
  const south_offer own = {1460, 7, 1}, own_unscaled = {1460, 0, 0};
  const south_syn syn = {0xffffffff, {1400, 9, 1}};
  south_segment s = Lone(0);
  s.flags = SOUTH_SYN | SOUTH_ACK;
  south_offer client;
  EXPECT_EQ(south_match_syn(&s, &own, &syn, &client), SOUTH_EGRESS_SYN_ACK_HELD);
  EXPECT_EQ(client.mss, 1400);
  EXPECT_EQ(client.wscale, 9);
  EXPECT_EQ(south_match_syn(&s, &own, nullptr, &client), SOUTH_EGRESS_SYN_UNKNOWN);
  s.ack = 1;
  EXPECT_EQ(south_match_syn(&s, &own, &syn, &client), SOUTH_EGRESS_SYN_UNKNOWN) << "another SYN's";
  EXPECT_EQ(south_match_syn(&s, &own_unscaled, &syn, &client), SOUTH_EGRESS_SYN_ACK_HELD);
  EXPECT_EQ(client.mss, 0) << "of which nothing is known";
}

TEST(VerdictIngressTest, OffersAreToldWithTheirDefaults) {
  const south_offer own = {1460, 7, 1}, none = {0, 0, 0}, wide = {0, 200, 1};
  south_event event = {};
  south_tell_offers(&event, &own, &wide);
  EXPECT_EQ(event.own_mss, 1460);
  EXPECT_EQ(event.peer_mss, 536);
  EXPECT_EQ(event.window_scaling, 1);
  EXPECT_EQ(event.rcv_wscale, 7);
  EXPECT_EQ(event.snd_wscale, 14) << "as RFC 7323 has it";
  event = {};
  south_tell_offers(&event, &none, &wide);
  EXPECT_EQ(event.own_mss, 536);
  EXPECT_EQ(event.window_scaling, 0) << "both must offer it";
  EXPECT_EQ(event.snd_wscale, 0);
}

}  // namespace
}  // namespace understudy::tcpshim
