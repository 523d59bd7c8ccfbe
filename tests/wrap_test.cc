// Clients that no kernel would be: sequence numbers and time stamps that wrap while the server changes,
// options missing, handshakes stopped halfway; and a look at what the server says, segment by segment.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/tcp.h>
#include <signal.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "tests/apps/pattern.h"
#include "tests/lab/mini_tcp.h"
#include "tests/pair_fixture.h"

namespace understudy::lab {
namespace {

std::string Pattern(uint64_t seed, size_t size) {
  std::string text(size, 0);
  workbench::FillPattern(seed, 0, text.data(), size);
  return text;
}

class MiniClientTest : public PairTest {
 protected:
  void SetUp() override { ASSERT_NO_FATAL_FAILURE(StartPair()); }
  void TakeOver() {
    pair_->PowerCut(primary());
    ExpectTakenOverBy(Host::kB);
  }
  // Sends `text` and gets it back.
  void Echo(MiniTcp& tcp, const std::string& text) {
    size_t before = tcp.received().size();
    tcp.Send(text);
    ASSERT_EQ(tcp.RunUntil([&] { return tcp.received().size() >= before + text.size(); }, kPatience), "");
    EXPECT_TRUE(tcp.received().substr(before) == text) << "other bytes came back";
  }
  // Of the new primary's connections, as its kernel has them, in milliseconds; 0 where it knows none.
  std::vector<double> RoundTripTimes() {
    std::string text;
    lab_->host(Host::kB).Run([&] {
      FILE* const ss = popen("ss -tinH sport = 7000", "r");
      ASSERT_NE(ss, nullptr);
      for (int c; (c = fgetc(ss)) != EOF;) text.push_back(static_cast<char>(c));
      EXPECT_EQ(pclose(ss), 0);
    });
    std::vector<double> all;
    for (size_t at = 0; (at = text.find(" bytes_acked:", at)) != std::string::npos; ++at) {
      const size_t line = text.rfind('\n', at), rtt = text.rfind(" rtt:", at);
      const bool known = rtt != std::string::npos && (line == std::string::npos || rtt > line);
      all.push_back(known ? std::stod(text.substr(rtt + 5)) : 0);
    }
    return all;
  }
  // The server, up to this sequence number, whether the client has it or not.
  static bool HasSent(const MiniTcp& tcp, uint32_t end) {
    return std::any_of(tcp.segments().begin(), tcp.segments().end(), [end](const MiniTcp::Segment& segment) {
      return static_cast<int32_t>(segment.seq + static_cast<uint32_t>(segment.payload.size()) - end) >= 0;
    });
  }
  void EndInOrder(MiniTcp& tcp) {
    tcp.Close();
    EXPECT_EQ(tcp.RunUntil([&] { return tcp.end_seen(); }, kPatience), "");
  }
};

// All 32-bit numbers a client chooses pass 0 while no server is there: sent before, acknowledged after.
TEST_F(MiniClientTest, SequenceNumbersAndTimestampsWrapDuringTheTakeover) {
  MiniTcp::Options options;
  std::string text = Pattern(TestSeed(), 30000);
  // The wrap of the sequence number falls into the middle of the bytes that are sent into the gap.
  options.isn = 0u - 40000;
  // That of the time stamps some 100 ms after the start, when the primary is gone already.
  options.tsval = 0u - 100;
  MiniTcp tcp(*lab_, options);
  ASSERT_EQ(tcp.Connect(kPatience), "");
  tcp.Send("ECHO\n");
  Echo(tcp, text);
  pair_->Isolate(primary(), Cut::kBlackhole);
  tcp.Send(text);
  ASSERT_EQ(tcp.RunFor(milliseconds(150)), "");
  TakeOver();
  ASSERT_EQ(tcp.RunUntil([&] { return tcp.received().size() == 2 * text.size(); }, kPatience), "");
  EXPECT_TRUE(tcp.received() == text + text);
  Echo(tcp, text);
  EndInOrder(tcp);
}

// Each wrap at a different distance from the takeover.
TEST_F(MiniClientTest, WrapsBeforeAndAfterTheTakeover) {
  std::vector<std::unique_ptr<MiniTcp>> clients;
  std::string text = Pattern(TestSeed(), 3000);
  // Bytes sent before the takeover: 5 + 3000. The wrap is before, at and after the point of the takeover.
  uint16_t port = 40000;
  for (uint32_t to_wrap : {1u, 2u, 7u, 3004u, 3005u, 3006u, 3007u, 4000u}) {
    MiniTcp::Options options;
    options.port = port++;
    options.isn = 0u - to_wrap;
    options.tsval = 0u - to_wrap;
    clients.push_back(std::make_unique<MiniTcp>(*lab_, options));
    ASSERT_EQ(clients.back()->Connect(kPatience), "") << to_wrap;
    clients.back()->Send("ECHO\n");
    Echo(*clients.back(), text);
  }
  TakeOver();
  for (auto& tcp : clients) {
    SCOPED_TRACE(tcp->next_seq());
    Echo(*tcp, text);
    EndInOrder(*tcp);
  }
}

TEST_F(MiniClientTest, EveryOptionMissing) {
  std::vector<std::unique_ptr<MiniTcp>> clients;
  std::string text = Pattern(TestSeed(), 50000);
  for (int missing = 0; missing < 8; ++missing) {
    MiniTcp::Options options;
    options.port = static_cast<uint16_t>(40000 + missing);
    options.sack = (missing & 1) == 0;
    if ((missing & 2) == 0) options.tsval = 77777;
    if ((missing & 4) != 0) options.wscale.reset();
    options.mss = 536;
    clients.push_back(std::make_unique<MiniTcp>(*lab_, options));
    SCOPED_TRACE(missing);
    ASSERT_EQ(clients.back()->Connect(kPatience), "");
    clients.back()->Send("ECHO\n");
    Echo(*clients.back(), text);
  }
  TakeOver();
  for (size_t missing = 0; missing < clients.size(); ++missing) {
    SCOPED_TRACE(missing);
    Echo(*clients[missing], text);
    for (const auto& segment : clients[missing]->segments()) {
      if (segment.payload.size() > 536) ADD_FAILURE() << "larger than the client's MSS";
      if (!segment.sack_blocks.empty() && (missing & 1) != 0) ADD_FAILURE() << "SACK, not agreed on";
    }
    EndInOrder(*clients[missing]);
  }
}

// The server's SYN-ACK does not reach the client, the primary dies, the client asks again: whoever
// answers must stay with the number that may have been read already.
TEST_F(MiniClientTest, SynAckNeverArrived) {
  MiniTcp tcp(*lab_, MiniTcp::Options{.port = 40000, .tsval = 1});
  tcp.SetDeaf(true);
  tcp.StartConnect();
  ASSERT_EQ(tcp.RunUntil([&] { return !tcp.segments().empty(); }, kPatience), "");
  uint32_t promised = tcp.segments()[0].seq;
  TakeOver();
  tcp.SetDeaf(false);
  ASSERT_EQ(tcp.RunUntil([&] { return tcp.established(); }, kPatience), "");
  EXPECT_EQ(tcp.next_expected(), promised + 1);
  tcp.Send("ECHO\n");
  Echo(tcp, "still here?");
  EndInOrder(tcp);
}

// The client has the SYN-ACK, for it the connection exists; its acknowledgement never reached anybody.
TEST_F(MiniClientTest, HandshakeDoneForTheClientOnly) {
  MiniTcp quiet(*lab_, MiniTcp::Options{.port = 40001, .tsval = 1});
  MiniTcp talking(*lab_, MiniTcp::Options{.port = 40002, .tsval = 1});
  for (MiniTcp* tcp : {&quiet, &talking}) {
    // Mute: its kernel, so to speak, sends the SYN and then nothing more.
    tcp->SetMute(true);
    tcp->StartConnect();
    ASSERT_EQ(tcp->RunUntil([&] { return tcp->knows_server(); }, kPatience), "");
    tcp->SendRaw(TH_SYN, 1000, 0);
    ASSERT_EQ(tcp->RunUntil([&] { return tcp->established(); }, kPatience), "");
  }
  TakeOver();
  talking.SetMute(false);
  talking.Send("ECHO\n");
  Echo(talking, "I was told that we are connected");
  EndInOrder(talking);
  // And the other says nothing for a while yet.
  ASSERT_EQ(quiet.RunFor(milliseconds(1500)), "");
  quiet.SetMute(false);
  quiet.Send("ECHO\n");
  Echo(quiet, "so was I");
  EndInOrder(quiet);
}

// Output commit, seen from outside: while the secondary does not answer nothing becomes stable, so nothing
// new may be acknowledged or answered; and nothing is lost.
TEST_F(MiniClientTest, NothingUnstableIsAcknowledged) {
  MiniTcp tcp(*lab_, MiniTcp::Options{.port = 40000, .tsval = 1});
  ASSERT_EQ(tcp.Connect(kPatience), "");
  tcp.Send("ECHO\n");
  Echo(tcp, "stable");
  constexpr uint64_t kKnown = 11;
  ASSERT_EQ(tcp.RunUntil([&] { return tcp.acknowledged() == kKnown; }, kPatience), "");
  pair_->process(Host::kB).Signal(SIGSTOP);
  // The primary may go on alone when it has been granted that, not before it suspects the other.
  auto stopped = std::chrono::steady_clock::now();
  tcp.Send("unstable");
  size_t before = tcp.segments().size();
  std::string waited = tcp.RunFor(milliseconds(40));
  auto waited_for = std::chrono::steady_clock::now() - stopped;
  // Only if this test itself was quick enough is the answer known.
  if (waited_for < milliseconds(70)) {
    EXPECT_EQ(waited, "");
    EXPECT_EQ(tcp.acknowledged(), kKnown);
    EXPECT_EQ(tcp.received(), "stable");
    for (size_t i = before; i < tcp.segments().size(); ++i) {
      EXPECT_EQ(tcp.segments()[i].payload, "");
    }
  }
  ASSERT_EQ(tcp.RunUntil([&] { return tcp.received() == "stableunstable"; }, kPatience), "");
  ExpectState(primary(), "solo");
  EndInOrder(tcp);
}

// An acknowledgement that was damaged on the way is none: TCP drops it, and the log must not have it either,
// or the heir would not have what it speaks of.
TEST_F(MiniClientTest, ADamagedAcknowledgementIsNone) {
  MiniTcp tcp(*lab_, MiniTcp::Options{.port = 40000, .tsval = 1});
  ASSERT_EQ(tcp.Connect(kPatience), "");
  const std::string text = Pattern(TestSeed(), 6000);
  tcp.Send("ECHO\n");
  Echo(tcp, text);
  tcp.SetDeaf(true);  // all that comes is lost
  tcp.Send(text);
  const uint32_t all = tcp.next_expected() + static_cast<uint32_t>(text.size());
  ASSERT_EQ(tcp.RunUntil([&] { return HasSent(tcp, all); }, kPatience), "");
  tcp.SetDamaged(true);
  tcp.SendRaw(TH_ACK, tcp.next_seq(), all);
  tcp.SetDamaged(false);
  tcp.Send("and with this record the log learns what the client has");
  ASSERT_EQ(tcp.RunUntil([&] { return HasSent(tcp, all + 1); }, kPatience), "");
  pair_->process(primary()).Signal(SIGKILL);
  tcp.SetDeaf(false);
  ExpectTakenOverBy(Host::kB);
  const size_t sum = 2 * text.size() + strlen("and with this record the log learns what the client has");
  EXPECT_EQ(tcp.RunUntil([&] { return tcp.received().size() == sum; }, kPatience), "");
  EndInOrder(tcp);
}

// A restored socket knows no round-trip time, and its kernel would find the loss of its first answer in
// seconds.
TEST_F(MiniClientTest, TheFirstAnswerAfterATakeoverMayBeLost) {
  std::vector<std::unique_ptr<MiniTcp>> clients;
  const std::string text = Pattern(TestSeed(), 6000);
  for (const bool timestamps : {false, true}) {
    MiniTcp::Options options;
    options.port = static_cast<uint16_t>(40000 + timestamps);
    if (timestamps) options.tsval = 1;
    clients.push_back(std::make_unique<MiniTcp>(*lab_, options));
    ASSERT_EQ(clients.back()->Connect(kPatience), "");
    clients.back()->Send("ECHO\n");
    Echo(*clients.back(), text);
  }
  TakeOver();
  for (auto& tcp : clients) {
    SCOPED_TRACE(tcp == clients[0] ? "without timestamps" : "with timestamps");
    ASSERT_EQ(tcp->RunFor(milliseconds(50)), "");  // it hears where the service address is now
    tcp->SetDeaf(true);
    tcp->Send(text);
    const uint32_t all = tcp->next_expected() + static_cast<uint32_t>(text.size());
    ASSERT_EQ(tcp->RunUntil([&] { return HasSent(*tcp, all); }, kPatience), "");
    tcp->SetDeaf(false);
    ASSERT_EQ(tcp->RunUntil([&] { return tcp->received().size() == 2 * text.size(); }, kPatience), "");
    EndInOrder(*tcp);
  }
}

// Nor does it learn one from what a client echoes that has been silent for a while.
TEST_F(MiniClientTest, IdleTimeIsNoRoundTripTime) {
  Fleet fleet(client());
  std::vector<StreamClient*> talks;
  for (uint64_t i = 0; i < 8; ++i) {
    talks.push_back(fleet.Add(EchoPlan({.bytes = 1u << 30, .seed = TestSeed() + i, .max_ahead = 8000})));
  }
  ASSERT_EQ(fleet.RunUntilAllReceive(100'000, kPatience), "");
  for (StreamClient* talk : talks) talk->SetPace(std::chrono::hours(1), 1);
  const auto begun = std::chrono::steady_clock::now();
  const auto idle = [&] { return std::chrono::steady_clock::now() - begun > milliseconds(1500); };
  ASSERT_EQ(fleet.RunUntil(idle, kPatience), "");
  TakeOver();
  // What the heir resends has been answered.
  EXPECT_EQ(fleet.RunUntil([&] { return RoundTripTimes().size() >= talks.size(); }, kPatience), "");
  for (const double ms : RoundTripTimes()) EXPECT_LT(ms, 1000) << "a client was silent so long";
  for (StreamClient* talk : talks) {
    talk->SetPace(milliseconds(0), 16 << 10);
    talk->FinishEcho(20'000);
  }
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  for (const double ms : RoundTripTimes()) EXPECT_LT(ms, 1000) << "afterwards";
}

}  // namespace
}  // namespace understudy::lab
