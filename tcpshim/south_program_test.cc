// What the programs have to do with a packet at all: whose it is, the gate and the deadline; and packets at
// random.
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <iostream>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tcpshim/frames_for_test.h"
#include "tcpshim/segment.h"
#include "tcpshim/south_attachment.h"
#include "tcpshim/south_program_for_test.h"

namespace understudy::tcpshim {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

// --- What concerns the service address -----------------------------------------------------------

TEST_F(SouthProgramTest, OthersPassUnseen) {
  Segment segment = FromServer(1, 1, kAck);
  segment.source.ip = 0xc6120003;
  segment.payload = "x";
  EXPECT_EQ(Egress(segment), kPass);
  segment.destination = kService;  // to it, on the way out
  EXPECT_EQ(Egress(segment), kPass);
  EXPECT_EQ(Egress(Frame(*BuildPacket(FromServer(1, 1, kRstAck)), 0x86dd)), kPass);
  EXPECT_EQ(Egress(BuildGratuitousArp(0xc6120003, {}, ArpForm::kReply)), kPass);
  EXPECT_THAT(Counted(), ElementsAre(Pair("egress_other", 4)));

  segment = FromClient(1, 1, kAck);
  segment.destination.ip = 0xc6120003;
  EXPECT_EQ(Ingress(segment), kPass);
  EXPECT_EQ(Run(ingress_, BuildGratuitousArp(kService.ip, {}, ArpForm::kRequest)).action, kPass);
  EXPECT_THAT(Counted(), ElementsAre(Pair("ingress_other", 2)));
}

TEST_F(SouthProgramTest, OtherProtocolsAndPortsOfTheAddressPass) {
  Segment segment = FromServer(1, 1, kRstAck);
  segment.source.port = 7001;
  EXPECT_EQ(Egress(segment), kPass);
  std::string udp = *BuildPacket(FromServer(1, 1, kRstAck));
  udp[9] = 17;
  EXPECT_EQ(Egress(Frame(udp)), kPass);
  EXPECT_EQ(Egress(BuildGratuitousArp(kService.ip, {}, ArpForm::kReply)), kPass);
  // A fragment that is not the first has no TCP header.
  std::string fragment = *BuildPacket(FromServer(1, 1, kRstAck));
  Set16(fragment, 6, 0x0001);
  EXPECT_EQ(Egress(Frame(fragment)), kPass);
  EXPECT_THAT(Counted(), ElementsAre(Pair("egress_passed", 4)));

  segment = FromClient(1, 1, kAck);
  segment.destination.port = 7001;
  EXPECT_EQ(Ingress(segment), kPass);
  udp = *BuildPacket(FromClient(1, 1, kAck));
  udp[9] = 17;
  EXPECT_EQ(Run(ingress_, Frame(udp)).action, kPass);
  EXPECT_THAT(Counted(), ElementsAre(Pair("ingress_passed", 2)));
}

TEST_F(SouthProgramTest, MalformedNeverLeaves) {
  Add(100);
  const std::string good = *BuildPacket(FromServer(1, 100, kAck));
  std::vector<std::string> bad;
  for (auto [at, byte] : std::vector<std::pair<size_t, int>>{{0, 0x65},      // version 6
                                                             {0, 0x44},      // IP header too short
                                                             {0, 0x4f},      // and too long
                                                             {3, 39},        // packet too short
                                                             {3, 41},        // and longer than the frame
                                                             {32, 0x40},     // TCP header too short
                                                             {32, 0x60}}) {  // and too long
    bad.push_back(good);
    bad.back()[at] = static_cast<char>(byte);
  }
  for (size_t size = 20; size < good.size(); ++size) bad.push_back(good.substr(0, size));
  for (const std::string& packet : bad) EXPECT_EQ(Egress(Frame(packet)), kSwallow);
  EXPECT_THAT(Counted(), ElementsAre(Pair("egress_malformed", bad.size())));
  EXPECT_EQ(Egress(Frame(good)), kPass);

  std::string in = *BuildPacket(FromClient(1, 100, kAck));
  in[32] = 0x40;
  EXPECT_EQ(Run(ingress_, Frame(in)).action, kPass) << "TCP itself drops it";
  EXPECT_THAT(Counted(), ElementsAre(Pair("egress_passed", 1), Pair("ingress_malformed", 1)));
}

TEST_F(SouthProgramTest, ShortFramesAreNobodys) {
  // (The kernel does not run programs on IPv4 frames this short; with ARP's number it does.)
  const std::string frame = Frame(*BuildPacket(FromServer(1, 1, kAck)), 0x0806);
  int runs = 0;
  for (size_t size = 14; size < 34; ++size, ++runs) {
    EXPECT_EQ(Egress(frame.substr(0, size)), kPass) << size;
    EXPECT_EQ(Run(ingress_, frame.substr(0, size)).action, kPass) << size;
  }
  EXPECT_THAT(Counted(), ElementsAre(Pair("egress_other", runs), Pair("ingress_other", runs)));
}

TEST_F(SouthProgramTest, IpOptionsAndPaddingAreSkipped) {
  auto slot = Add(100);
  std::string packet = *BuildPacket(FromServer(1, 200, kAck));
  packet.insert(20, 8, '\1');
  packet[0] = 0x47;
  Set16(packet, 2, static_cast<uint32_t>(packet.size()));
  EXPECT_EQ(Egress(Frame(packet)), kSwallow);
  EXPECT_EQ(Egress(Frame(*BuildPacket(FromServer(1, 201, kAck)) + std::string(6, 'p'))), kSwallow);
  EXPECT_THAT(Counted(), ElementsAre(Pair("egress_ack_held", 2)));
  south_->SetStable(slot, 500);
  EXPECT_EQ(south_->TakeHeldAck(slot)->ack, 201u);
}

// --- The gate and the deadline (I3) --------------------------------------------------------------

TEST_F(SouthProgramTest, ClosedGateSilencesEverything) {
  auto slot = Add(1000);
  std::string udp = *BuildPacket(FromServer(1, 1, kAck));
  udp[9] = 17;
  Segment data = FromServer(1, 1000, kAck);
  data.payload = "x";
  south_->CloseGate();
  EXPECT_EQ(Egress(data), kSwallow);
  EXPECT_EQ(Egress(data, kByHand), kSwallow) << "a silent node is silent by hand too";
  EXPECT_EQ(Egress(Frame(udp)), kSwallow);
  EXPECT_EQ(Egress(BuildGratuitousArp(kService.ip, {}, ArpForm::kReply)), kSwallow);
  EXPECT_EQ(Egress(BuildGratuitousArp(kService.ip, {}, ArpForm::kReply), kByHand), kSwallow);
  EXPECT_EQ(Ingress(FromClient(1, 1, kAck)), kSwallow);
  EXPECT_EQ(Run(ingress_, BuildGratuitousArp(kService.ip, {}, ArpForm::kRequest)).action, kPass);
  south_->OpenGate();
  EXPECT_THAT(Counted(), ElementsAre(Pair("egress_silent_gate", 5), Pair("ingress_other", 1),
                                     Pair("ingress_silent", 1)));
  EXPECT_FALSE(south_->Sent(slot)) << "what did not leave was not sent";
  EXPECT_FALSE(south_->Client(slot));
  EXPECT_EQ(Egress(data), kPass);
}

TEST_F(SouthProgramTest, PastTheDeadlineEgressIsSilent) {
  constexpr SocketAddress service = {0xc6120007, 7000};
  auto other = Attach(service);
  ASSERT_NE(other, nullptr);
  const int egress = ProgramFd(SouthAttachment::kEgress, service);
  const int ingress = ProgramFd(SouthAttachment::kIngress, service);
  ASSERT_GE(egress, 0);
  Segment segment = FromServer(1, 1, kAck);
  segment.source = service;
  const std::string out = Frame(*BuildPacket(segment));
  segment = FromClient(1, 1, kAck);
  segment.destination = service;
  const std::string in = Frame(*BuildPacket(segment));
  const std::string arp = BuildGratuitousArp(service.ip, {}, ArpForm::kReply);

  EXPECT_EQ(Run(egress, out).action, kSwallow) << "the gate is closed at first";
  other->OpenGate();
  EXPECT_EQ(Run(egress, out).action, kSwallow) << "no deadline has been given";
  auto now = [] { return std::chrono::steady_clock::now(); };
  other->RenewUntil(now() + std::chrono::milliseconds(100));
  const Verdict early = Run(egress, out);
  ASSERT_EQ(early.action, kPass);
  const auto until = now() + std::chrono::seconds(5);
  while (Run(egress, out).action == kPass) ASSERT_LT(now(), until);
  EXPECT_EQ(Run(egress, out, kByHand).action, kSwallow);
  EXPECT_EQ(Run(egress, arp).action, kSwallow);
  EXPECT_EQ(Run(ingress, in).action, kPass) << "only egress falls silent at the deadline";
  other->RenewUntil(now() + std::chrono::hours(1));
  EXPECT_EQ(Run(egress, out).action, kPass);
  other->RenewUntil(now());
  EXPECT_EQ(Run(egress, out).action, kPass) << "a deadline is never shortened";
  other->CloseGate();
  EXPECT_EQ(Run(egress, out).action, kSwallow);
  EXPECT_GE(other->Counters()[SOUTH_EGRESS_SILENT_DEADLINE], 3u);
  close(egress);
  close(ingress);
}

TEST_F(SouthProgramTest, WithoutTheProcessNothingPasses) {
  constexpr SocketAddress service = {0xc6120008, 7000};
  auto other = Attach(service);
  ASSERT_NE(other, nullptr);
  other->OpenGate();
  other->RenewUntil(std::chrono::steady_clock::now() + std::chrono::hours(1));
  const int egress = ProgramFd(SouthAttachment::kEgress, service);
  const int ingress = ProgramFd(SouthAttachment::kIngress, service);
  Segment segment = FromServer(1, 1, kAck);
  segment.source = service;
  const std::string out = Frame(*BuildPacket(segment));
  segment = FromClient(1, 1, kAck);
  segment.destination = service;
  const std::string in = Frame(*BuildPacket(segment));
  const std::string arp = BuildGratuitousArp(service.ip, {}, ArpForm::kReply);
  EXPECT_EQ(Run(egress, out).action, kPass);
  EXPECT_EQ(Run(egress, arp).action, kPass);
  EXPECT_EQ(Run(ingress, in).action, kPass);
  // The programs live on through our descriptors, as they do in the filter of a dead process; the
  // program array goes with its last user.
  other.reset();
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  while (Run(egress, out).action == kPass || Run(ingress, in).action == kPass) {
    ASSERT_LT(std::chrono::steady_clock::now(), until);
  }
  EXPECT_EQ(Run(egress, arp).action, kSwallow);
  EXPECT_EQ(Run(ingress, in).action, kSwallow);
  segment.destination.ip = 0xc6120003;
  EXPECT_EQ(Run(ingress, Frame(*BuildPacket(segment))).action, kPass) << "others are not hurt";
  close(egress);
  close(ingress);
}

// --- Random --------------------------------------------------------------------------------------

// Whatever comes, it is counted once, the verdict is one of two, and no acknowledgement past the stable
// point leaves a known connection.
TEST_F(SouthProgramTest, RandomPackets) {
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  auto below = [&random](uint32_t limit) { return static_cast<uint32_t>(random() % limit); };
  const Seq base = static_cast<Seq>(random());
  auto slot = Add(base, SOUTH_OPEN | (below(2) ? SOUTH_FIN_OK : 0) | (below(2) ? SOUTH_RST_OK : 0),
                  static_cast<uint8_t>(below(15)));
  Seq stable = base;
  Seq released = base;
  int runs = 0;
  int clamped = 0;
  for (int i = 0; i < 30000; ++i) {
    Segment segment = FromServer(static_cast<Seq>(random()), stable + below(3000) - 1000, {});
    segment.flags = {.fin = below(8) == 0,
                     .syn = below(8) == 0,
                     .rst = below(8) == 0,
                     .psh = below(2) == 0,
                     .ack = below(8) != 0};
    segment.window = static_cast<uint16_t>(random());
    if (below(2)) segment.timestamps = Segment::Timestamps{static_cast<uint32_t>(random()), 2};
    const std::string payload(below(3) ? 0 : below(50), 'p');
    segment.payload = payload;
    std::string packet = *BuildPacket(segment);
    if (!segment.timestamps && !segment.flags.syn && below(3) == 0) {
      std::string options(4 * below(11), '\0');
      for (char& c : options) c = static_cast<char>(below(3) ? below(12) : random());
      packet = WithOptions(packet, options);
    }
    const bool sound = below(4) != 0;
    if (!sound) {
      for (uint32_t n = 1 + below(4); n > 0; --n) {
        // Neither the addresses nor the ports: it should be looked at.
        size_t at = below(static_cast<uint32_t>(packet.size()));
        if (at >= 12 && at < 24) at = 0;
        packet[at] = static_cast<char>(random());
      }
      if (below(4) == 0) packet.resize(20 + below(static_cast<uint32_t>(packet.size()) - 20));
    }
    const bool egress = below(4) != 0;
    if (!egress && packet.size() >= 24) {
      std::swap_ranges(packet.begin() + 12, packet.begin() + 16, packet.begin() + 16);
      std::swap_ranges(packet.begin() + 20, packet.begin() + 22, packet.begin() + 22);
    }
    const Verdict verdict = Run(egress ? egress_ : ingress_, Frame(packet));
    ++runs;
    ASSERT_TRUE(verdict.action == kPass || verdict.action == kSwallow) << verdict.action;
    ASSERT_EQ(verdict.frame.size(), packet.size() + 14);
    if (egress && verdict.action == kPass && sound && segment.flags.ack && !segment.flags.syn) {
      auto left = ParsePacket(std::string_view(verdict.frame).substr(14), Checksum::kVerified);
      // Random options may be beyond parsing; the checksum is right all the same.
      if (left.ok()) {
        ASSERT_FALSE(SeqAfter(left->ack, stable));
        if (left->ack != segment.ack) ++clamped;
      } else {
        ASSERT_THAT(std::string(left.status().message()), testing::HasSubstr("option"));
      }
    }
    if (below(50) == 0) {
      stable += below(500);
      south_->SetStable(slot, stable);
      if (auto held = south_->TakeHeldAck(slot)) {
        ASSERT_FALSE(SeqAfter(held->ack, stable));
        ASSERT_FALSE(SeqBefore(held->ack, released));
        released = held->ack;
      }
    }
  }
  EXPECT_GT(clamped, 100) << "the test looks at nothing";
  uint64_t sum = 0;
  for (const auto& [name, count] : Counted()) {
    if (name != "events_lost") sum += count;
  }
  EXPECT_EQ(sum, static_cast<uint64_t>(runs));
}

// --- The protocol of `held`, both sides at once --------------------------------------------------

// One thread plays the kernel's TCP, the other the log. Whenever the stable point has reached the newest
// acknowledgement, that must have left: through the program, or by hand. Without egress's second look at
// the stable point this loses one within a few thousand rounds.
TEST_F(SouthProgramTest, NoHeldAckIsLostBetweenTwoCpus) {
  constexpr int kRounds = 30000;
  auto slot = Add(1000);
  std::atomic<int> round_begun = -1;
  std::atomic<int> round_done = -1;
  std::atomic<bool> stop = false;
  std::string frame;
  int action = 0;
  std::thread kernel([&] {
    for (int round = 0; round < kRounds; ++round) {
      while (round_begun.load() < round) {
        if (stop.load()) return;
      }
      action = Run(egress_, frame).action;
      round_done.store(round);
    }
  });
  Seq ack = 1000;
  int by_hand = 0;
  int by_kernel = 0;
  const auto enough = std::chrono::steady_clock::now() + std::chrono::seconds(3);
  for (int round = 0; round < kRounds && std::chrono::steady_clock::now() < enough; ++round) {
    ack += 128;
    frame = Frame(*BuildPacket(FromServer(50, ack, kAck)));
    round_begun.store(round);
    // The call into the kernel takes some microseconds: let the two meet at all its places.
    const auto from = std::chrono::steady_clock::now() + std::chrono::nanoseconds(round * 7 % 6000);
    while (std::chrono::steady_clock::now() < from) {
    }
    south_->SetStable(slot, ack);
    auto held = south_->TakeHeldAck(slot);
    while (round_done.load() < round) {
    }
    if (held) {
      EXPECT_EQ(held->ack, ack);
      EXPECT_EQ(Egress(FromServer(held->seq, held->ack, kAck, held->window), kByHand), kPass);
      ++by_hand;
    } else {
      // Egress looked at the stable point last, and let it pass.
      EXPECT_EQ(action, kPass) << "round " << round << ": neither side sends " << ack;
      ++by_kernel;
    }
    EXPECT_EQ(south_->Sent(slot)->last_ack, ack);
    EXPECT_FALSE(south_->TakeHeldAck(slot));
    if (HasFailure()) break;
  }
  stop.store(true);
  kernel.join();
  RecordProperty("by_hand", by_hand);
  RecordProperty("by_kernel", by_kernel);
  std::cout << by_hand << " sent by hand, " << by_kernel << " by the kernel\n";
  // On a busy machine the two take turns and never meet; that is no failure, but no proof either.
  if (by_hand == 0 || by_kernel == 0) std::cout << "this time the two never met\n";
}

}  // namespace
}  // namespace understudy::tcpshim
