// Acknowledgements that leave (I1), and those that come, one packet at a time.
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tcpshim/frames_for_test.h"
#include "tcpshim/segment.h"
#include "tcpshim/south_program_for_test.h"

namespace understudy::tcpshim {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

// --- Acknowledgements (I1) -----------------------------------------------------------------------

TEST_F(SouthProgramTest, StableAcksPass) {
  auto slot = Add(1000);
  Segment segment = FromServer(50, 1000, kAck);
  EXPECT_EQ(Egress(segment), kPass);
  segment.ack = 872;  // old; the same right edge
  segment.window = 501;
  EXPECT_EQ(Egress(segment), kPass);
  segment.payload = "abc";
  segment.timestamps = Segment::Timestamps{10, 20};
  const std::string frame = Frame(*BuildPacket(segment));
  const Verdict verdict = Run(egress_, frame);
  EXPECT_EQ(verdict.action, kPass);
  EXPECT_EQ(verdict.frame, frame) << "unchanged";
  EXPECT_THAT(Counted(), ElementsAre(Pair("egress_passed", 3)));
  auto sent = south_->Sent(slot);
  ASSERT_TRUE(sent);
  EXPECT_EQ(sent->last_ack, 1000u);
  EXPECT_EQ(sent->snd_max, 53u);
  EXPECT_EQ(sent->rcv_edge, 1000u + (500u << 7));
  EXPECT_EQ(sent->tsval, 10u);
  EXPECT_FALSE(south_->TakeHeldAck(slot));
}

TEST_F(SouthProgramTest, LoneAckIsHeldUntilItIsStable) {
  auto slot = Add(1000);
  Segment segment = FromServer(50, 1100, kAck, 500);
  segment.timestamps = Segment::Timestamps{10, 20};
  EXPECT_EQ(Egress(segment), kSwallow);
  EXPECT_FALSE(south_->Sent(slot));
  EXPECT_THAT(Counted(), ElementsAre(Pair("egress_ack_held", 1)));

  south_->SetStable(slot, 1100);
  auto held = south_->TakeHeldAck(slot);
  ASSERT_TRUE(held);
  EXPECT_EQ(held->ack, 1100u);
  EXPECT_EQ(held->seq, 50u);
  EXPECT_EQ(held->window, 500);
  EXPECT_EQ(held->tsval, 10u);
  EXPECT_EQ(held->tsecr, 20u);
  EXPECT_FALSE(south_->TakeHeldAck(slot)) << "once only";
}

TEST_F(SouthProgramTest, OfHeldAcksTheNewestIsKept) {
  auto slot = Add(1000);
  for (Seq ack : {1100u, 1300u, 1200u}) {  // the last out of order
    EXPECT_EQ(Egress(FromServer(50, ack, kAck, static_cast<uint16_t>(ack / 10))), kSwallow);
  }
  south_->SetStable(slot, 1300);
  auto held = south_->TakeHeldAck(slot);
  ASSERT_TRUE(held);
  EXPECT_EQ(held->ack, 1300u);
  EXPECT_EQ(held->window, 130);
  // A window update repeats the number.
  EXPECT_EQ(Egress(FromServer(50, 1400, kAck, 500)), kSwallow);
  EXPECT_EQ(Egress(FromServer(50, 1400, kAck, 777)), kSwallow);
  south_->SetStable(slot, 5000);
  held = south_->TakeHeldAck(slot);
  ASSERT_TRUE(held);
  EXPECT_EQ(held->ack, 1400u);
  EXPECT_EQ(held->window, 777);
  EXPECT_FALSE(south_->TakeHeldAck(slot));
}

TEST_F(SouthProgramTest, HeldAckIsReleasedInParts) {
  auto slot = Add(1000);
  EXPECT_EQ(Egress(FromServer(50, 1000, kAck, 500)), kPass);
  EXPECT_EQ(Egress(FromServer(50, 1000 + 1280, kAck, 490)), kSwallow);
  EXPECT_FALSE(south_->TakeHeldAck(slot)) << "nothing of it is stable";
  south_->SetStable(slot, 1000 + 640);
  auto held = south_->TakeHeldAck(slot);
  ASSERT_TRUE(held);
  EXPECT_EQ(held->ack, 1640u);
  EXPECT_EQ(held->ack + (held->window << 7), 2280u + (490u << 7)) << "the right edge stays";
  Segment by_hand = FromServer(held->seq, held->ack, kAck, held->window);
  EXPECT_EQ(Egress(by_hand, kByHand), kPass);
  EXPECT_FALSE(south_->TakeHeldAck(slot)) << "the rest is not stable yet";
  south_->SetStable(slot, 3000);
  held = south_->TakeHeldAck(slot);
  ASSERT_TRUE(held);
  EXPECT_EQ(held->ack, 2280u);
  EXPECT_EQ(held->window, 490);
}

TEST_F(SouthProgramTest, PartOfWhichTheWindowDoesNotFitSaturates) {
  auto slot = Add(1000, SOUTH_OPEN, 0);
  EXPECT_EQ(Egress(FromServer(50, 1000 + 60000, kAck, 65000)), kSwallow);
  south_->SetStable(slot, 2000);
  auto held = south_->TakeHeldAck(slot);
  ASSERT_TRUE(held);
  EXPECT_EQ(held->ack, 2000u);
  EXPECT_EQ(held->window, 65535);
}

TEST_F(SouthProgramTest, DataThatCarriesTheAckMakesTheHeldOneNeedless) {
  auto slot = Add(1000);
  EXPECT_EQ(Egress(FromServer(50, 1100, kAck)), kSwallow);
  south_->SetStable(slot, 1100);
  Segment data = FromServer(50, 1100, kAck);
  data.payload = "reply";
  EXPECT_EQ(Egress(data), kPass);
  EXPECT_FALSE(south_->TakeHeldAck(slot));
}

TEST_F(SouthProgramTest, SentByHandTheHeldOneIsNeedlessToo) {
  auto slot = Add(1000);
  EXPECT_EQ(Egress(FromServer(50, 1100, kAck)), kSwallow);
  south_->SetStable(slot, 1100);
  EXPECT_EQ(Egress(FromServer(50, 1100, kAck), kByHand), kPass);
  EXPECT_FALSE(south_->TakeHeldAck(slot));
  EXPECT_THAT(Counted(), ElementsAre(Pair("egress_ack_held", 1), Pair("egress_by_hand", 1)));
}

TEST_F(SouthProgramTest, AZeroWindowByHandDoesNotBuryAWindowUpdate) {
  auto slot = Add(1000);
  EXPECT_EQ(Egress(FromServer(50, 1100, kAck, 500)), kSwallow);
  south_->SetStable(slot, 1100);
  EXPECT_EQ(Egress(FromServer(50, 1100, kAck, 0), kByHand), kPass);
  auto held = south_->TakeHeldAck(slot);
  ASSERT_TRUE(held);
  EXPECT_EQ(held->window, 500);
}

TEST_F(SouthProgramTest, HeldAckGoesOutBehindWhatHasBeenSentSince) {
  auto slot = Add(1000);
  Segment ack = FromServer(50, 1100, kAck);
  ack.timestamps = Segment::Timestamps{10, 20};
  EXPECT_EQ(Egress(ack), kSwallow);
  Segment data = FromServer(50, 900, kAck, 600);
  data.timestamps = Segment::Timestamps{15, 20};
  data.payload = "0123456789";
  EXPECT_EQ(Egress(data), kPass);
  south_->SetStable(slot, 1100);
  auto held = south_->TakeHeldAck(slot);
  ASSERT_TRUE(held);
  EXPECT_EQ(held->seq, 60u) << "an older one would be out of the client's window";
  EXPECT_EQ(held->tsval, 15u) << "an older one would fall to PAWS";
  EXPECT_GE(held->ack + (held->window << 7) + 127, south_->Sent(slot)->rcv_edge);
}

TEST_F(SouthProgramTest, AckOnDataIsClampedByteForByte) {
  auto slot = Add(1000);
  for (bool timestamps : {false, true}) {
    for (size_t size : {1u, 2u, 3u, 1400u}) {
      const std::string payload(size, 'p');
      Segment data = FromServer(50, 1000 + 1280 + 5, kAck, 500);
      data.payload = payload;
      if (timestamps) data.timestamps = Segment::Timestamps{10, 20};
      const Verdict verdict = Run(egress_, Frame(*BuildPacket(data)));
      EXPECT_EQ(verdict.action, kPass);
      data.ack = 1000;
      data.window = 510;  // 1285 >> 7, rounded down
      EXPECT_EQ(verdict.frame, Frame(*BuildPacket(data)));
    }
  }
  EXPECT_THAT(Counted(), ElementsAre(Pair("egress_ack_clamped", 8)));
  auto sent = south_->Sent(slot);
  ASSERT_TRUE(sent);
  EXPECT_EQ(sent->last_ack, 1000u) << "after clamping";
  EXPECT_EQ(sent->snd_max, 50u + 1400);
  EXPECT_EQ(sent->rcv_edge, 1000u + (510u << 7));
}

// TCP takes the acknowledgement that came with the data for delivered and would not repeat it.
TEST_F(SouthProgramTest, AckTakenOffDataIsHeld) {
  auto slot = Add(1000);
  Segment data = FromServer(50, 1500, kAck);
  data.payload = "0123456789";
  EXPECT_EQ(Egress(data), kPass);
  EXPECT_FALSE(south_->TakeHeldAck(slot));
  south_->SetStable(slot, 1500);
  auto held = south_->TakeHeldAck(slot);
  ASSERT_TRUE(held);
  EXPECT_EQ(held->ack, 1500u);
  EXPECT_EQ(held->seq, 60u);
  EXPECT_EQ(held->window, 500);
}

TEST_F(SouthProgramTest, ClampedWindowSaturates) {
  Add(1000, SOUTH_OPEN, 0);
  Segment data = FromServer(50, 1000 + 40000, kAck, 60000);
  data.payload = "p";
  const Verdict verdict = Run(egress_, Frame(*BuildPacket(data)));
  data.ack = 1000;
  data.window = 65535;
  EXPECT_EQ(verdict.frame, Frame(*BuildPacket(data)));
}

TEST_F(SouthProgramTest, ClampBlanksSackAndOnlySack) {
  Add(1000);
  auto sack = [](int blocks) {
    std::string option = {5, static_cast<char>(2 + 8 * blocks)};
    for (int i = 0; i < 8 * blocks; ++i) option.push_back(static_cast<char>(0x81 + 7 * i));
    return option;
  };
  auto nops = [](size_t count) { return std::string(count, '\1'); };
  const std::string ts = {8, 10, 0, 0, 0, 10, 0, 0, 0, 20};
  Segment data = FromServer(50, 1000 + 1280, kAck, 500);
  data.payload = "odd";
  const std::string before = *BuildPacket(data);
  data.ack = 1000;
  data.window = 510;
  const std::string after = *BuildPacket(data);
  const std::vector<std::pair<std::string, std::string>> cases = {
      {nops(2) + ts + nops(2) + sack(1), nops(2) + ts + nops(2) + nops(10)},
      {nops(2) + ts + nops(2) + sack(3), nops(2) + ts + nops(2) + nops(26)},
      {nops(2) + sack(4), nops(2) + nops(34)},
      {sack(1) + nops(2), nops(10) + nops(2)},
      // At an odd place, and the timestamps behind it.
      {nops(1) + sack(1) + ts + nops(3), nops(1) + nops(10) + ts + nops(3)},
      {nops(1) + sack(2) + nops(1), nops(1) + nops(18) + nops(1)},
      // An option's length that leads out: the walk ends, nothing is changed.
      {nops(2) + std::string({5, 60}) + nops(8), nops(2) + std::string({5, 60}) + nops(8)},
      {std::string({0, 5, 10, 0}) + nops(8), std::string({0, 5, 10, 0}) + nops(8)},
      {nops(40), nops(40)},
  };
  for (const auto& [in, out] : cases) {
    const Verdict verdict = Run(egress_, Frame(WithOptions(before, in)));
    EXPECT_EQ(verdict.action, kPass);
    EXPECT_EQ(verdict.frame, Frame(WithOptions(after, out)));
  }
}

TEST_F(SouthProgramTest, SackStaysWhereTheAckIsNotClamped) {
  Add(1000);
  const std::string packet = WithOptions(*BuildPacket(FromServer(50, 1000, kAck)),
                                         std::string({1, 1, 5, 10, 0, 0, 9, 9, 0, 0, 9, 10}));
  const Verdict verdict = Run(egress_, Frame(packet));
  EXPECT_EQ(verdict.action, kPass);
  EXPECT_EQ(verdict.frame, Frame(packet));
}

// Timestamps are where nobody puts them.
TEST_F(SouthProgramTest, TimestampsAreFoundAnywhere) {
  auto slot = Add(1000);
  const std::string ts = {8, 10, 0x11, 0x22, 0x33, 0x44, 0, 0, 0, 20};
  for (const std::string& options :
       {std::string(ts + "\1\1"), "\1" + ts + "\1", std::string({5, 10, 1, 1, 1, 1, 1, 1, 1, 1}) + ts}) {
    ASSERT_EQ(options.size() % 4, 0u);
    EXPECT_EQ(Egress(Frame(WithOptions(*BuildPacket(FromServer(50, 1100, kAck)), options))), kSwallow);
    south_->SetStable(slot, 1000);
  }
  south_->SetStable(slot, 1100);
  auto held = south_->TakeHeldAck(slot);
  ASSERT_TRUE(held);
  EXPECT_EQ(held->tsval, 0x11223344u);
  EXPECT_EQ(held->tsecr, 20u);
}

TEST_F(SouthProgramTest, SuperPacketSaysLengthZero) {
  auto slot = Add(1000);
  const std::string payload(1000, 'p');
  Segment data = FromServer(50, 1280, kAck, 500);
  data.payload = payload;
  std::string packet = *BuildPacket(data);
  Set16(packet, 2, 0);
  EXPECT_EQ(Egress(Frame(packet)), kPass);
  EXPECT_THAT(Counted(), ElementsAre(Pair("egress_ack_clamped", 1)));
  EXPECT_EQ(south_->Sent(slot)->snd_max, 1050u);
}

TEST_F(SouthProgramTest, PacketsByHandPassUnchanged) {
  auto slot = Add(1000, 0);
  Segment data = FromServer(50, 2000, kFinAck);
  data.payload = "abc";
  const std::string frame = Frame(*BuildPacket(data));
  const Verdict verdict = Run(egress_, frame, kByHand);
  EXPECT_EQ(verdict.action, kPass);
  EXPECT_EQ(verdict.frame, frame);
  EXPECT_EQ(Run(egress_, frame, false, 0x55445359).action, kSwallow) << "a firewall mark says nothing";
  auto sent = south_->Sent(slot);
  ASSERT_TRUE(sent);
  EXPECT_EQ(sent->last_ack, 2000u);
  EXPECT_EQ(sent->snd_max, 54u);
}

TEST_F(SouthProgramTest, SequenceNumbersWrap) {
  auto slot = Add(0xffffff00u);
  EXPECT_EQ(Egress(FromServer(0xfffffff0u, 0xffffff00u, kAck, 100)), kPass);
  EXPECT_EQ(Egress(FromServer(0xfffffff0u, 0x00000100u, kAck, 100)), kSwallow);
  Segment data = FromServer(0xfffffff0u, 0x00000100u, kAck, 100);
  data.payload = "0123456789abcdefghij";
  const Verdict verdict = Run(egress_, Frame(*BuildPacket(data)));
  Segment clamped = data;
  clamped.ack = 0xffffff00u;
  clamped.window = 104;
  EXPECT_EQ(verdict.frame, Frame(*BuildPacket(clamped)));
  auto sent = south_->Sent(slot);
  EXPECT_EQ(sent->snd_max, 4u);
  EXPECT_EQ(sent->rcv_edge, 0xffffff00u + (104u << 7));
  south_->SetStable(slot, 0x80);
  auto held = south_->TakeHeldAck(slot);
  ASSERT_TRUE(held);
  EXPECT_EQ(held->ack, 0x80u);
  EXPECT_EQ(held->seq, 4u);
  EXPECT_EQ(held->window, 101);
  south_->SetStable(slot, 0xfffffff0u);
  EXPECT_EQ(Egress(FromServer(4, 0x80, kAck)), kPass) << "the stable point never goes back";
  EXPECT_EQ(Ingress(FromClient(0x80, 4, kAck)), kPass);
  EXPECT_EQ(south_->Client(slot)->una, 4u);
  EXPECT_EQ(Ingress(FromClient(0x80, 0xfffffff0u, kAck)), kPass);
  EXPECT_EQ(south_->Client(slot)->una, 4u);
}

// --- The client's side ---------------------------------------------------------------------------

TEST_F(SouthProgramTest, ClientsAcknowledgementsAreKept) {
  auto slot = Add(1000);
  EXPECT_FALSE(south_->Client(slot));
  EXPECT_EQ(Ingress(FromClient(999, 0, {.syn = true})), kPass);
  EXPECT_FALSE(south_->Client(slot)) << "not from the SYN";
  Segment ack = FromClient(1000, 51, kAck, 400);
  ack.timestamps = Segment::Timestamps{70, 10};
  EXPECT_EQ(Ingress(ack), kPass);
  EXPECT_FALSE(south_->Client(slot)) << "nothing has left that it could acknowledge";
  EXPECT_EQ(Egress(FromServer(60, 1000, kAck)), kPass);
  EXPECT_EQ(Ingress(ack), kPass);
  auto client = south_->Client(slot);
  ASSERT_TRUE(client);
  EXPECT_EQ(client->una, 51u);
  EXPECT_EQ(client->window, 400);
  EXPECT_EQ(client->tsval, 70u);
  // Newer, equal (a window update), older.
  ack.ack = 60;
  ack.window = 300;
  EXPECT_EQ(Ingress(ack), kPass);
  EXPECT_EQ(south_->Client(slot)->una, 60u);
  ack.window = 350;
  ack.timestamps->val = 80;
  EXPECT_EQ(Ingress(ack), kPass);
  EXPECT_EQ(south_->Client(slot)->window, 350);
  ack.ack = 55;
  ack.window = 10;
  ack.timestamps->val = 75;
  EXPECT_EQ(Ingress(ack), kPass);
  client = south_->Client(slot);
  EXPECT_EQ(client->una, 60u);
  EXPECT_EQ(client->window, 350);
  EXPECT_EQ(client->tsval, 80u);
}

TEST_F(SouthProgramTest, ImplausibleSegmentsDoNotMoveTheClientsPoint) {
  auto slot = Add(1000);
  Segment data = FromServer(50, 1000, kAck, 100);
  data.payload = "0123456789";
  EXPECT_EQ(Egress(data), kPass);  // snd_max 60, window 1000 to 13800
  EXPECT_EQ(Ingress(FromClient(1000, 61, kAck)), kPass);
  EXPECT_FALSE(south_->Client(slot)) << "acknowledges what was not sent";
  EXPECT_EQ(Ingress(FromClient(998, 60, kAck)), kPass);
  EXPECT_FALSE(south_->Client(slot)) << "left of the window";
  EXPECT_EQ(Ingress(FromClient(13801, 60, kAck)), kPass);
  EXPECT_FALSE(south_->Client(slot)) << "right of it";
  EXPECT_EQ(Ingress(FromClient(1000, 60, kRstAck)), kPass);
  EXPECT_EQ(Ingress(FromClient(1000, 60, {.rst = true})), kPass);
  EXPECT_EQ(Ingress(FromClient(1000, 60, {.psh = true})), kPass);
  EXPECT_FALSE(south_->Client(slot)) << "RST, or no ACK at all";
  EXPECT_EQ(Ingress(FromClient(999, 55, kAck)), kPass);  // a keep-alive probe
  EXPECT_EQ(south_->Client(slot)->una, 55u);
  EXPECT_EQ(Ingress(FromClient(13800, 60, kAck)), kPass);  // at the edge
  EXPECT_EQ(south_->Client(slot)->una, 60u);
}

}  // namespace
}  // namespace understudy::tcpshim
