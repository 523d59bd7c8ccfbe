// Handshakes, FIN and RST, one packet at a time.
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <time.h>

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tcpshim/frames_for_test.h"
#include "tcpshim/segment.h"
#include "tcpshim/south_program_for_test.h"
#include "tcpshim/south_wrapper.h"

namespace understudy::tcpshim {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

// --- New connections -----------------------------------------------------------------------------

TEST_F(SouthProgramTest, SynAckIsReportedWithTheOptionsOfBothSides) {
  Segment syn = FromClient(999, 0, {.syn = true}, 64000);
  syn.mss = 1400;
  syn.wscale = 9;
  syn.sack_permitted = true;
  syn.timestamps = Segment::Timestamps{77, 0};
  EXPECT_EQ(Ingress(syn), kPass);
  Segment syn_ack = FromServer(0xffffffff, 1000, kSynAck, 65160);
  syn_ack.mss = 1460;
  syn_ack.wscale = 7;
  syn_ack.sack_permitted = true;
  syn_ack.timestamps = Segment::Timestamps{88, 77};
  EXPECT_EQ(Egress(syn_ack), kSwallow);
  EXPECT_THAT(Counted(), ElementsAre(Pair("egress_syn_ack_held", 1), Pair("ingress_passed", 1)));

  const auto events = DrainEvents();
  ASSERT_EQ(events.size(), 1u);
  const south_event& event = events[0];
  EXPECT_EQ(event.kind, static_cast<uint32_t>(SOUTH_EVENT_SYN_ACK));
  EXPECT_EQ(ntohl(event.tuple.local_ip), kService.ip);
  EXPECT_EQ(ntohs(event.tuple.local_port), kService.port);
  EXPECT_EQ(ntohl(event.tuple.remote_ip), client_.ip);
  EXPECT_EQ(ntohs(event.tuple.remote_port), client_.port);
  EXPECT_EQ(event.seq, 0xffffffffu);
  EXPECT_EQ(event.ack, 1000u);
  EXPECT_EQ(event.window, 65160);
  EXPECT_EQ(event.own_mss, 1460);
  EXPECT_EQ(event.peer_mss, 1400);
  EXPECT_EQ(event.snd_wscale, 9);
  EXPECT_EQ(event.rcv_wscale, 7);
  EXPECT_EQ(event.window_scaling, 1);
  EXPECT_EQ(event.sack, 1);
  EXPECT_EQ(event.timestamps, 1);
  EXPECT_EQ(event.tsval, 88u);
  EXPECT_EQ(event.tsecr, 77u);
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  const uint64_t now_ns = static_cast<uint64_t>(now.tv_sec) * 1000000000u + now.tv_nsec;
  EXPECT_LE(event.at_ns, now_ns);
  EXPECT_GT(event.at_ns, now_ns - 10000000000u);
}

TEST_F(SouthProgramTest, SynAckToAPlainClient) {
  EXPECT_EQ(Ingress(FromClient(999, 0, {.syn = true})), kPass);
  EXPECT_EQ(Egress(FromServer(5, 1000, kSynAck)), kSwallow);
  const auto events = DrainEvents();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].own_mss, 536);
  EXPECT_EQ(events[0].peer_mss, 536);
  EXPECT_EQ(events[0].window_scaling + events[0].snd_wscale + events[0].rcv_wscale, 0);
  EXPECT_EQ(events[0].sack + events[0].timestamps, 0);
}

TEST_F(SouthProgramTest, ShiftThatTheServerDoesNotTakeUpIsNone) {
  Segment syn = FromClient(999, 0, {.syn = true});
  syn.wscale = 9;
  EXPECT_EQ(Ingress(syn), kPass);
  EXPECT_EQ(Egress(FromServer(5, 1000, kSynAck)), kSwallow);
  auto events = DrainEvents();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].window_scaling, 0);
  EXPECT_EQ(events[0].snd_wscale, 0);
  // RFC 7323: a shift above 14 counts as 14.
  syn.wscale = 200;
  EXPECT_EQ(Ingress(syn), kPass);
  Segment syn_ack = FromServer(5, 1000, kSynAck);
  syn_ack.wscale = 3;
  EXPECT_EQ(Egress(syn_ack), kSwallow);
  events = DrainEvents();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].snd_wscale, 14);
}

TEST_F(SouthProgramTest, SynAckWhoseSynWasNotSeen) {
  Segment syn_ack = FromServer(5, 1000, kSynAck);
  syn_ack.mss = 1460;
  EXPECT_EQ(Egress(syn_ack), kSwallow);
  auto events = DrainEvents();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].peer_mss, 536);
  EXPECT_EQ(events[0].own_mss, 1460);
  Counted();
  // The client's shift cannot be guessed.
  syn_ack.wscale = 7;
  EXPECT_EQ(Egress(syn_ack), kSwallow);
  EXPECT_THAT(DrainEvents(), ElementsAre());
  EXPECT_THAT(Counted(), ElementsAre(Pair("egress_syn_unknown", 1)));
  // Nor taken from another incarnation's SYN.
  Segment syn = FromClient(500, 0, {.syn = true});
  syn.wscale = 9;
  EXPECT_EQ(Ingress(syn), kPass);
  EXPECT_EQ(Egress(syn_ack), kSwallow);
  EXPECT_THAT(DrainEvents(), ElementsAre());
  // But from its own, when that comes.
  syn.seq = 999;
  EXPECT_EQ(Ingress(syn), kPass);
  EXPECT_EQ(Egress(syn_ack), kSwallow);
  EXPECT_EQ(DrainEvents().size(), 1u);
}

TEST_F(SouthProgramTest, UnknownConnections) {
  EXPECT_EQ(Egress(FromServer(5, 6, kRstAck)), kSwallow);
  EXPECT_EQ(Egress(FromServer(7, 0, {.rst = true})), kSwallow);
  const auto events = DrainEvents();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].kind, static_cast<uint32_t>(SOUTH_EVENT_RST_UNKNOWN));
  EXPECT_EQ(events[0].seq, 5u);
  EXPECT_EQ(events[0].ack, 6u);
  EXPECT_EQ(events[1].seq, 7u);
  EXPECT_EQ(Egress(FromServer(5, 6, kAck)), kPass) << "as TIME_WAIT answers";
  Segment data = FromServer(5, 6, kAck);
  data.payload = "x";
  EXPECT_EQ(Egress(data), kSwallow);
  EXPECT_EQ(Egress(FromServer(5, 6, kFinAck)), kSwallow);
  EXPECT_EQ(Egress(data, kByHand), kPass);
  EXPECT_THAT(Counted(), ElementsAre(Pair("egress_by_hand", 1), Pair("egress_passed", 1),
                                     Pair("egress_rst_unknown", 2), Pair("egress_stray", 2)));
}

TEST_F(SouthProgramTest, KnownButNotOpenIsSilent) {
  auto slot = Add(1000, 0);
  EXPECT_EQ(Egress(FromServer(5, 1000, kSynAck)), kSwallow);
  EXPECT_EQ(Egress(FromServer(6, 1000, kAck)), kSwallow);
  EXPECT_EQ(Egress(FromServer(6, 1000, kRstAck)), kSwallow);
  EXPECT_THAT(DrainEvents(), ElementsAre()) << "it is known already";
  EXPECT_FALSE(south_->Sent(slot));
  EXPECT_THAT(Counted(), ElementsAre(Pair("egress_rst_discarded", 1), Pair("egress_syn_ack_held", 2)));
  south_->Allow(slot, SOUTH_OPEN);
  EXPECT_EQ(Egress(FromServer(5, 1000, kSynAck, 60000)), kPass);
  auto sent = south_->Sent(slot);
  ASSERT_TRUE(sent);
  EXPECT_EQ(sent->snd_max, 6u);
  EXPECT_EQ(sent->last_ack, 1000u);
  EXPECT_EQ(sent->rcv_edge, 61000u) << "the window of a SYN-ACK is not scaled";
}

// A client that began anew: what the log has of the old connection says nothing of this one.
TEST_F(SouthProgramTest, SynAckWithAnotherIssIsThatOfAnotherConnection) {
  for (const uint32_t flags : {0u, static_cast<uint32_t>(SOUTH_OPEN)}) {
    auto slot = Add(1000, flags);
    EXPECT_EQ(Ingress(FromClient(4999, 0, {.syn = true})), kPass);
    DrainEvents();
    EXPECT_EQ(Egress(FromServer(kIss + 1, 5000, kSynAck)), kSwallow);
    const auto events = DrainEvents();
    ASSERT_EQ(events.size(), 1u);
    EXPECT_EQ(events[0].kind, static_cast<uint32_t>(SOUTH_EVENT_SYN_ACK));
    EXPECT_EQ(events[0].seq, kIss + 1);
    EXPECT_EQ(events[0].ack, 5000u);
    EXPECT_FALSE(south_->Sent(slot)) << "nothing of this one has left";
    south_->Remove(slot);
    slots_.clear();
  }
}

// TCP has a handshake of which the log does not know (the report was lost), and says to the client's next SYN
// what it expects. Only the RST that comes of it makes TCP forget.
TEST_F(SouthProgramTest, LoneAckOfAnotherHandshakeIsNotThisConnections) {
  for (const uint32_t flags : {0u, static_cast<uint32_t>(SOUTH_OPEN)}) {
    auto slot = Add(1000, flags);
    if (flags != 0) Egress(FromServer(kIss, 1000, kSynAck));
    for (const Seq ack : {Seq{500'000}, Seq{999}}) {
      EXPECT_EQ(Egress(FromServer(kIss + 9001, ack, kAck)), kPass);
      EXPECT_EQ(Egress(FromServer(kIss + 9001, ack, kFinAck)), kSwallow);
    }
    EXPECT_EQ(Egress(FromServer(kIss + 1, 1000 + 65535, kAck)), kSwallow) << "this one's, not stable";
    south_->Remove(slot);
    slots_.clear();
  }
  auto slot = Add(1000);
  Egress(FromServer(kIss, 1000, kSynAck));
  EXPECT_EQ(Ingress(FromClient(1000, kIss + 1, kAck)), kPass);
  EXPECT_TRUE(south_->Client(slot).has_value());
  EXPECT_EQ(Egress(FromServer(kIss + 1, 500'000, kAck)), kSwallow) << "it is heard, and not stable";
}

TEST_F(SouthProgramTest, ResetInTheHandshakeIsReported) {
  auto slot = Add(1000);
  Egress(FromServer(kIss, 1000, kSynAck));
  EXPECT_EQ(Ingress(FromClient(1001, 0, {.rst = true})), kPass);
  EXPECT_EQ(Ingress(FromClient(999, 0, {.rst = true})), kPass);
  EXPECT_THAT(DrainEvents(), ElementsAre()) << "it may be anybody's guess";
  EXPECT_EQ(Ingress(FromClient(1000, 0, {.rst = true})), kPass);
  const auto events = DrainEvents();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, static_cast<uint32_t>(SOUTH_EVENT_RST_HANDSHAKE));
  EXPECT_EQ(events[0].seq, 1000u);
  EXPECT_EQ(ntohs(events[0].tuple.remote_port), client_.port);
  EXPECT_EQ(Ingress(FromClient(1000, kIss + 1, kAck)), kPass);
  ASSERT_TRUE(south_->Client(slot));
  EXPECT_EQ(Ingress(FromClient(1000, 0, {.rst = true})), kPass);
  EXPECT_THAT(DrainEvents(), ElementsAre()) << "TCP itself tells";
}

// A frame that was damaged on the way, which TCP drops. What is left to hardware it takes.
TEST_F(SouthProgramTest, OnlyAWholeResetEndsAHandshake) {
  Add(1000);
  Egress(FromServer(kIss, 1000, kSynAck));
  const Segment reset = FromClient(1000, 0, {.rst = true, .ack = true});
  constexpr size_t kTcp = ETH_HLEN + 20, kCheck = kTcp + 16;
  const std::string whole = Frame(*BuildPacket(reset));
  for (size_t byte = kTcp + 8; byte < whole.size(); ++byte) {
    std::string damaged = whole;
    damaged[byte] ^= 1;
    EXPECT_EQ(Run(ingress_, damaged).action, kPass);
    const auto events = DrainEvents();
    if (byte == kTcp + 13) continue;  // the flags: it may be no reset any more
    EXPECT_THAT(events, ElementsAre()) << "byte " << byte;
  }
  std::string partial = whole;
  uint32_t sum = IPPROTO_TCP + 20;  // of the pseudo header, as the kernel leaves it for the hardware
  for (size_t at = ETH_HLEN + 12; at < kTcp; at += 2) {
    sum += static_cast<uint8_t>(whole[at]) << 8 | static_cast<uint8_t>(whole[at + 1]);
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  partial[kCheck] = static_cast<char>(sum >> 8);
  partial[kCheck + 1] = static_cast<char>(sum);
  for (const std::string& frame : {whole, partial}) {
    EXPECT_EQ(Run(ingress_, frame).action, kPass);
    EXPECT_EQ(DrainEvents().size(), 1u);
  }
}

// What the client echoes of a dead host's clock is no measure of a round trip: TCP gets to see none.
TEST_F(SouthProgramTest, EchoesOfAnotherHostAreBlanked) {
  constexpr uint32_t kFrom = 0xffffff00;  // and across the wrap
  const SouthWrapper::ServerView said{kIss + 1, 1000, 2000, kFrom};
  auto slot = south_->Add({kService, client_}, kIss, 1000, SOUTH_OPEN, 7, &said);
  ASSERT_TRUE(slot.ok()) << slot.status();
  slots_.push_back(*slot);
  Segment segment = FromClient(1000, kIss + 1, kAck);
  const std::string payload = "whose checksum covers it";
  segment.payload = payload;
  const auto passes_with = [&](uint32_t echo, uint32_t seen) {
    segment.timestamps = Segment::Timestamps{7, echo};
    const Verdict verdict = Run(ingress_, Frame(*BuildPacket(segment)));
    EXPECT_EQ(verdict.action, kPass);
    segment.timestamps = Segment::Timestamps{7, seen};
    EXPECT_EQ(verdict.frame, Frame(*BuildPacket(segment))) << echo;
  };
  passes_with(kFrom - 1, 0);
  passes_with(kFrom - 0x7fffffff, 0);
  passes_with(0, 0);
  passes_with(kFrom - 1, 0);
  passes_with(kFrom + 0x200, kFrom + 0x200);
  passes_with(kFrom - 1, kFrom - 1);  // it has heard this host, and is slow or wrong: not our affair
}

// An acknowledgement of an earlier incarnation's SYN-ACK, or a guess, does not complete this handshake.
TEST_F(SouthProgramTest, TheHandshakesLastAckAcknowledgesItsSynAck) {
  auto slot = Add(1000);
  Egress(FromServer(kIss, 1000, kSynAck));
  for (const Seq ack : {kIss, kIss - 1000, kIss + 2}) EXPECT_EQ(Ingress(FromClient(1000, ack, kAck)), kPass);
  EXPECT_FALSE(south_->Client(slot));
  EXPECT_EQ(Ingress(FromClient(1000, kIss + 1, kAck)), kPass);
  ASSERT_TRUE(south_->Client(slot));
  EXPECT_EQ(south_->Client(slot)->una, kIss + 1);
}

TEST_F(SouthProgramTest, WithoutASocketTcpSeesNothing) {
  auto slot = Add(1000, SOUTH_OPEN | SOUTH_NO_SOCKET);
  Egress(FromServer(kIss, 1000, kSynAck), kByHand);
  EXPECT_FALSE(south_->WakeWhenAcked(slot, kIss + 1));
  EXPECT_EQ(Ingress(FromClient(999, 0, {.syn = true})), kSwallow);
  EXPECT_EQ(Ingress(FromClient(1000, kIss + 1, kAck)), kSwallow);
  const auto events = DrainEvents();
  ASSERT_EQ(events.size(), 2u);
  EXPECT_EQ(events[0].kind, static_cast<uint32_t>(SOUTH_EVENT_SYN_KNOWN));
  EXPECT_EQ(events[1].kind, static_cast<uint32_t>(SOUTH_EVENT_ACKED));
  EXPECT_THAT(Counted(), ElementsAre(Pair("egress_by_hand", 1), Pair("ingress_no_socket", 2)));
  south_->Disallow(slot, SOUTH_NO_SOCKET);
  EXPECT_EQ(Ingress(FromClient(1000, kIss + 1, kAck)), kPass);
}

TEST_F(SouthProgramTest, SynByHandCounts) {
  auto slot = Add(1000, 0);
  Segment syn_ack = FromServer(5, 1000, kSynAck, 60000);
  syn_ack.timestamps = Segment::Timestamps{321, 1};
  EXPECT_EQ(Egress(syn_ack, kByHand), kPass);
  auto sent = south_->Sent(slot);
  ASSERT_TRUE(sent);
  EXPECT_EQ(sent->snd_max, 6u);
  EXPECT_EQ(sent->tsval, 321u);
}

TEST_F(SouthProgramTest, RepeatedSynOfAKnownConnectionIsReported) {
  Add(1000);
  EXPECT_EQ(Ingress(FromClient(999, 0, {.syn = true})), kPass);
  const auto events = DrainEvents();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, static_cast<uint32_t>(SOUTH_EVENT_SYN_KNOWN));
  EXPECT_EQ(events[0].seq, 999u);
  EXPECT_EQ(ntohs(events[0].tuple.remote_port), client_.port);
}

// --- FIN and RST ---------------------------------------------------------------------------------

TEST_F(SouthProgramTest, FinNeedsALoggedClose) {
  auto slot = Add(1000);
  EXPECT_EQ(Egress(FromServer(50, 1000, kFinAck)), kSwallow);
  Segment merged = FromServer(40, 1000, kFinAck);
  merged.payload = "0123456789";
  EXPECT_EQ(Egress(merged), kSwallow);
  EXPECT_FALSE(south_->Sent(slot));
  EXPECT_THAT(Counted(), ElementsAre(Pair("egress_fin_discarded", 2)));
  south_->Allow(slot, SOUTH_FIN_OK);
  EXPECT_EQ(Egress(merged), kPass);
  EXPECT_EQ(south_->Sent(slot)->snd_max, 51u);
  // Its acknowledgement is clamped like that of data.
  const Verdict clamped = Run(egress_, Frame(*BuildPacket(FromServer(51, 1100, kFinAck))));
  EXPECT_EQ(clamped.action, kPass);
  auto parsed = ParsePacket(std::string_view(clamped.frame).substr(14), Checksum::kVerified);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->ack, 1000u);
  EXPECT_TRUE(parsed->flags.fin);
}

TEST_F(SouthProgramTest, RstNeedsALoggedAbort) {
  auto slot = Add(1000);
  EXPECT_EQ(Egress(FromServer(50, 1000, kRstAck)), kSwallow);
  EXPECT_EQ(Egress(FromServer(50, 0, {.rst = true})), kSwallow);
  EXPECT_THAT(Counted(), ElementsAre(Pair("egress_rst_discarded", 2)));
  EXPECT_THAT(DrainEvents(), ElementsAre());
  EXPECT_EQ(Egress(FromServer(50, 1000, kRstAck), kByHand), kPass) << "by hand";
  south_->Allow(slot, SOUTH_RST_OK);
  EXPECT_EQ(Egress(FromServer(50, 0, {.rst = true})), kPass);
  EXPECT_FALSE(south_->Sent(slot)) << "a RST acknowledges nothing for good";
  const Verdict clamped = Run(egress_, Frame(*BuildPacket(FromServer(50, 1300, kRstAck))));
  EXPECT_EQ(clamped.action, kPass);
  auto parsed = ParsePacket(std::string_view(clamped.frame).substr(14), Checksum::kVerified);
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed->ack, 1000u);
  south_->SetStable(slot, 1300);
  EXPECT_FALSE(south_->TakeHeldAck(slot)) << "nobody waits for it";
}

}  // namespace
}  // namespace understudy::tcpshim
