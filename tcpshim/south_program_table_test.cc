// The table, what is reported, and the other interfaces, one packet at a time.
#include <net/if.h>
#include <unistd.h>

#include <chrono>
#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tcpshim/frames_for_test.h"
#include "tcpshim/segment.h"
#include "tcpshim/south_probe.h"
#include "tcpshim/south_program_for_test.h"
#include "tcpshim/south_wrapper.h"

namespace understudy::tcpshim {
namespace {

using ::testing::ElementsAre;
using ::testing::Pair;

// --- The table -----------------------------------------------------------------------------------

TEST_F(SouthProgramTest, SlotsAreBoundedAndUsedAgain) {
  std::vector<SouthWrapper::Slot> slots;
  std::set<SouthWrapper::Slot> distinct;
  absl::Status full;
  for (uint16_t port = 1; full.ok(); ++port) {
    auto slot = south_->Add({kService, {0xc6120063, port}}, kIss, 1, SOUTH_OPEN, 0);
    if (!slot.ok()) {
      full = slot.status();
      break;
    }
    slots.push_back(*slot);
    distinct.insert(*slot);
  }
  EXPECT_EQ(full.code(), absl::StatusCode::kResourceExhausted) << full;
  EXPECT_EQ(slots.size(), 64u);
  EXPECT_EQ(distinct.size(), 64u);
  for (SouthWrapper::Slot slot : slots) south_->Remove(slot);
  // A used slot comes back clean.
  auto slot = Add(1000, 0, 3);
  EXPECT_FALSE(south_->Sent(slot));
  EXPECT_FALSE(south_->Client(slot));
  EXPECT_FALSE(south_->TakeHeldAck(slot));
  EXPECT_EQ(south_->Add({kService, client_}, kIss, 1, 0, 0).status().code(),
            absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(south_->Add({{kService.ip, 1}, client_}, kIss, 1, 0, 0).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(south_->Add({kService, {1, 1}}, kIss, 1, 0, 15).status().code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(SouthProgramTest, RemovedConnectionsAreUnknown) {
  auto slot = south_->Add({kService, client_}, kIss, 1000, SOUTH_OPEN, 7);
  ASSERT_TRUE(slot.ok());
  EXPECT_EQ(Egress(FromServer(50, 2000, kAck)), kSwallow);
  south_->Remove(*slot);
  EXPECT_EQ(Egress(FromServer(50, 2000, kAck)), kPass);
  EXPECT_EQ(Egress(FromServer(50, 2000, kRstAck)), kSwallow);
  EXPECT_EQ(DrainEvents().size(), 1u);
}

TEST_F(SouthProgramTest, EventsComeInPortionsAndLostOnesAreCounted) {
  Add(1000);
  const Segment repeated = FromClient(999, 0, {.syn = true});
  for (int i = 0; i < 10; ++i) EXPECT_EQ(Ingress(repeated), kPass);
  int seen = 0;
  auto count = [&seen](const south_event&) { ++seen; };
  EXPECT_EQ(south_->PollEvents(count, 3), 3);
  EXPECT_EQ(south_->PollEvents(count, 0), 0);
  EXPECT_EQ(south_->PollEvents(count, 7), 7);
  EXPECT_EQ(south_->PollEvents(count, 7), 0);
  EXPECT_EQ(seen, 10);
  // More than the ring holds.
  Counted();
  const uint64_t many = 20000;
  for (uint64_t i = 0; i < many; ++i) Ingress(repeated);
  auto counted = Counted();
  EXPECT_GT(counted["events_lost"], 0u);
  EXPECT_EQ(DrainEvents().size() + counted["events_lost"], many);
}

// A flood of segments for connections that nobody knows: some are answered, and neither other clients nor
// handshakes notice.
TEST_F(SouthProgramTest, StraysAreLimited) {
  const auto begun = std::chrono::steady_clock::now();
  constexpr uint64_t kMany = 20000;
  for (uint64_t i = 0; i < kMany; ++i) EXPECT_EQ(Egress(FromServer(5, 6, kRstAck)), kSwallow);
  auto counted = Counted();
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
  EXPECT_EQ(counted["egress_rst_unknown"] + counted["egress_rst_limited"], kMany);
  EXPECT_LE(counted["egress_rst_unknown"], int{SOUTH_STRAYS_PER_CLIENT} * (1 + seconds) + 1);
  EXPECT_GE(counted["egress_rst_unknown"], SOUTH_STRAYS_PER_CLIENT);
  EXPECT_EQ(DrainEvents().size() + counted["events_lost"], counted["egress_rst_unknown"]);

  // Many clients, each of them modest.
  const auto from = std::chrono::steady_clock::now();
  uint64_t sent = 0;
  for (uint32_t ip = 0; ip < 5000; ++ip, ++sent) {
    Segment segment = FromServer(5, 6, kRstAck);
    segment.destination.ip = 0xc6130000 + ip;
    EXPECT_EQ(Egress(segment), kSwallow);
  }
  counted = Counted();
  const double took = std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count();
  EXPECT_EQ(counted["egress_rst_unknown"] + counted["egress_rst_limited"], sent);
  EXPECT_LE(counted["egress_rst_unknown"], int{SOUTH_STRAYS_BURST} + int{SOUTH_STRAYS} * took + 1);
  // Their ring is full by now, or nearly. A handshake is reported all the same, and first.
  Segment syn_ack = FromServer(7, 8, kSynAck);
  EXPECT_EQ(Egress(syn_ack), kSwallow);
  const auto events = DrainEvents();
  ASSERT_FALSE(events.empty());
  EXPECT_EQ(events[0].kind, static_cast<uint32_t>(SOUTH_EVENT_SYN_ACK));
  // In a while there is room again. (Each try takes what has come since the last.)
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  constexpr int kSome = 50;
  do {
    ASSERT_LT(std::chrono::steady_clock::now(), until);
    usleep(300000);
    Counted();
    for (int i = 0; i < kSome; ++i) Egress(FromServer(5, 6, kRstAck));
  } while (Counted()["egress_rst_unknown"] < kSome);
}

// What was sent by hand, as an answer to a report, is not reported again, whatever a firewall does to it.
TEST_F(SouthProgramTest, RstByHandIsNeverReported) {
  EXPECT_EQ(Egress(FromServer(5, 6, kRstAck), kByHand), kPass);
  std::string lost_its_socket = *BuildPacket(FromServer(5, 6, kRstAck));
  Set16(lost_its_socket, 4, kHandIpId);
  EXPECT_EQ(Egress(Frame(lost_its_socket)), kSwallow);
  EXPECT_THAT(DrainEvents(), ElementsAre());
  EXPECT_EQ(Egress(FromServer(5, 6, kRstAck)), kSwallow);
  EXPECT_EQ(DrainEvents().size(), 1u) << "the kernel's is";
}

// --- The other interfaces ------------------------------------------------------------------------

// Nothing leaves there but what south_egress has let pass, or would: a bridge's frames leave through its
// port, too.
TEST_F(SouthProgramTest, ElsewhereOnlyWhatHasPassedHereLeaves) {
  auto slot = Add(1000);
  Segment data = FromServer(50, 1000, kAck);
  data.payload = "x";
  EXPECT_EQ(Egress(data), kPass);
  EXPECT_EQ(Elsewhere(data), kPass);
  EXPECT_EQ(Elsewhere(FromServer(51, 1000, kAck)), kPass);
  EXPECT_EQ(Elsewhere(FromServer(kIss, 1000, kSynAck)), kPass);
  EXPECT_EQ(Elsewhere(FromServer(51, 1001, kAck), kByHand), kPass);
  EXPECT_THAT(Counted(), ElementsAre(Pair("egress_by_hand", 1), Pair("egress_passed", 4)));
  data.ack = 1001;
  EXPECT_EQ(Elsewhere(data), kSwallow) << "past the stable point";
  EXPECT_EQ(Elsewhere(FromServer(51, 1001, kAck)), kSwallow);
  EXPECT_EQ(Elsewhere(FromServer(51, 1000, kFinAck)), kSwallow);
  EXPECT_EQ(Elsewhere(FromServer(51, 1000, kRstAck)), kSwallow);
  EXPECT_THAT(Counted(), ElementsAre(Pair("egress_elsewhere", 4)));
  south_->Allow(slot, SOUTH_FIN_OK | SOUTH_RST_OK);
  EXPECT_EQ(Elsewhere(FromServer(51, 1000, kFinAck)), kPass);
  EXPECT_EQ(Elsewhere(FromServer(51, 1000, kRstAck)), kPass);
  south_->CloseGate();
  EXPECT_EQ(Elsewhere(FromServer(51, 1000, kAck)), kSwallow);
  EXPECT_EQ(Elsewhere(FromServer(51, 1000, kAck), kByHand), kSwallow);
  south_->OpenGate();
}

TEST_F(SouthProgramTest, HandshakesElsewhereAreReported) {
  EXPECT_EQ(Elsewhere(FromServer(5, 1000, kSynAck)), kSwallow);
  auto events = DrainEvents();
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].kind, static_cast<uint32_t>(SOUTH_EVENT_ELSEWHERE));
  EXPECT_EQ(events[0].seq, 5u);
  EXPECT_EQ(events[0].ack, 1000u);
  EXPECT_EQ(Elsewhere(FromServer(6, 1000, kRstAck)), kSwallow);
  Segment data = FromServer(6, 1000, kAck);
  data.payload = "x";
  EXPECT_EQ(Elsewhere(data), kSwallow);
  EXPECT_THAT(DrainEvents(), ElementsAre());
  data.source.port = 9999;
  EXPECT_EQ(Elsewhere(data), kPass) << "another port's";
  EXPECT_THAT(Counted(), ElementsAre(Pair("egress_elsewhere", 3), Pair("egress_passed", 1)));
}

TEST_F(SouthProgramTest, TheServiceAddressIsNotAnnouncedElsewhere) {
  const MacAddress other = {2, 9, 9, 9, 9, 9};
  EXPECT_EQ(Run(elsewhere_, BuildGratuitousArp(kService.ip, other, ArpForm::kReply)).action, kSwallow);
  // A question is put without telling who asks.
  const std::string question = BuildGratuitousArp(kService.ip, other, ArpForm::kRequest);
  const Verdict put = Run(elsewhere_, question);
  EXPECT_EQ(put.action, kPass);
  std::string expected = question;
  expected.replace(28, 4, 4, '\0');
  EXPECT_EQ(put.frame, expected);
  // But through an interface that carries the one that has the address.
  ASSERT_TRUE(south_->Check().ok());
  const auto home = SouthProbe::MacOf(static_cast<int>(if_nametoindex("south0")));
  ASSERT_TRUE(home);
  const std::string own = BuildGratuitousArp(kService.ip, *home, ArpForm::kReply);
  EXPECT_EQ(Run(elsewhere_, own).action, kPass);
  south_->CloseGate();
  EXPECT_EQ(Run(elsewhere_, own).action, kSwallow);
  south_->OpenGate();
}

}  // namespace
}  // namespace understudy::tcpshim
