// Clients that begin anew from the same port, and clients that never were: what the log has of one connection
// must not stand in the way of the next, and a handshake that nobody completes must not stay.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/tcp.h>

#include <cstdlib>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/lab/fixed_port.h"
#include "tests/lab/mini_tcp.h"
#include "tests/lab/syn_flood.h"
#include "tests/pair_fixture.h"

namespace understudy::lab {
namespace {

using Until = FixedPort::Until;
using End = FixedPort::End;

class IncarnationTest : public PairTest {
 protected:
  IncarnationTest() { resets_allowed_ = true; }  // the clients reset

  FixedPort Port(uint16_t port) { return FixedPort(client(), Lab::kServiceIp, Lab::kServicePort, port); }
  static MiniTcp::Options From(uint16_t port, uint32_t isn) {
    MiniTcp::Options options;
    options.port = port;
    options.isn = isn;
    return options;
  }
  // One after the other, in all the ways in which a client can end a connection.
  void ComeAgainAndAgain(int times, uint16_t port) {
    FixedPort client = Port(port);
    for (int i = 0; i < times; ++i) {
      std::string wrong;
      switch (i % 4) {
        case 0: wrong = client.Ask("ECHO\n123", "123", Until::kAnswer, End::kReset, seconds(5)); break;
        case 1: wrong = client.Ask("DANCE\n", "what?\n", Until::kEndOfStream, End::kClose, seconds(5)); break;
        case 2: wrong = client.Ask("ECHO\n123", "", Until::kNothing, End::kReset, seconds(5)); break;
        case 3: wrong = client.Ask("", "", Until::kNothing, End::kReset, seconds(5)); break;
      }
      ASSERT_EQ(wrong, "") << "connection " << i;
    }
  }
  void ExpectConnections(Host host, int64_t count, milliseconds within) {
    const auto deadline = std::chrono::steady_clock::now() + within;
    absl::StatusOr<NodeStatus> now;
    do {
      now = status(host).Status();
      if (now.ok() && now->connections == count) return;
    } while (std::chrono::steady_clock::now() < deadline);
    ADD_FAILURE() << Name(host) << ": " << (now.ok() ? now->json : now.status().ToString());
  }
};

TEST_F(IncarnationTest, ThreeThousandFromOnePort) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  ASSERT_NO_FATAL_FAILURE(ComeAgainAndAgain(3000, 40001));
  for (Host host : {Host::kA, Host::kB}) ExpectConnections(host, 0, seconds(5));
}

TEST_F(IncarnationTest, AcrossATakeover) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  ASSERT_NO_FATAL_FAILURE(ComeAgainAndAgain(99, 40001));
  Fleet fleet(client());
  Plan plan = EchoPlan({.bytes = 1u << 30, .seed = TestSeed(), .max_ahead = 1000});
  plan.bind_ip = 0xc6120009;
  plan.bind_port = 40002;
  ASSERT_NO_FATAL_FAILURE(ComeAgainAndAgain(3, 40002));
  StreamClient* talk = fleet.Add(plan);
  ASSERT_EQ(fleet.RunUntil([&] { return talk->received() > 10000; }, kPatience), "");
  Inject(primary(), FaultKind::kPowerCut);
  ExpectTakenOverBy(Host::kB, &fleet);
  talk->FinishEcho(1000);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  ASSERT_NO_FATAL_FAILURE(ComeAgainAndAgain(200, 40001));
  ExpectConnections(Host::kB, 0, seconds(5));
}

// A client that has lost its memory in mid-handshake: the host tells it of the old handshake, it resets that,
// and the one that counts is logged as it is.
TEST_F(IncarnationTest, AHandshakeBegunAnewWithAnotherNumber) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  const uint32_t isn = static_cast<uint32_t>(TestSeed());
  {
    MiniTcp first(*lab_, From(40100, isn));
    first.SetDeaf(true);
    first.StartConnect();
    ASSERT_EQ(first.RunUntil([&] { return !first.segments().empty(); }, kPatience), "");
  }
  MiniTcp second(*lab_, From(40100, isn + 5'000'000));
  second.StartConnect();
  size_t looked = 0;
  ASSERT_EQ(second.RunUntil(
                [&] {
                  for (; looked < second.segments().size(); ++looked) {
                    const MiniTcp::Segment& segment = second.segments()[looked];
                    if (segment.ack == isn + 1) second.SendRaw(TH_RST, isn + 1, 0);
                  }
                  return second.established();
                },
                kPatience),
            "");
  second.Send("ECHO\nbefore");
  ASSERT_EQ(second.RunUntil([&] { return second.received() == "before"; }, kPatience), "");
  Inject(primary(), FaultKind::kPowerCut);
  ExpectTakenOverBy(Host::kB);
  second.Send(" and after");
  EXPECT_EQ(second.RunUntil([&] { return second.received() == "before and after"; }, kPatience), "");
  second.Close();
  EXPECT_EQ(second.RunUntil([&] { return second.end_seen(); }, kPatience), "");
}

// As a load balancer looks whether the port is open.
TEST_F(IncarnationTest, AResetInTheHandshakeEndsItAtOnce) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  for (uint16_t i = 0; i < 1000; ++i) {
    MiniTcp check(*lab_, From(static_cast<uint16_t>(10000 + i), 7000u * i));
    check.SetDeaf(true);
    check.StartConnect();
    ASSERT_EQ(check.RunUntil([&] { return !check.segments().empty(); }, kPatience), "");
    check.SendRaw(TH_RST, 7000u * i + 1, 0);
  }
  for (Host host : {Host::kA, Host::kB}) ExpectConnections(host, 0, seconds(2));
  EXPECT_EQ(*status(primary()).Metric("understudy_handshakes_reset_total"), 1000);
}

// UNDERSTUDY_FLOOD_SECONDS: how long it lasts.
TEST_F(IncarnationTest, AFloodOfSynsKeepsNobodyOutAndLeavesNoGhosts) {
  // The pair shall stay one while the flood begins, also on a machine that has other things to do.
  flags_ = {"--greeting=welcome", "--suspect_after_ms=1000"};
  ASSERT_NO_FATAL_FAILURE(StartPair());
  const char* given = getenv("UNDERSTUDY_FLOOD_SECONDS");
  const seconds lasts(given != nullptr ? atoi(given) : 5);
  SynFlood flood(*lab_);
  FixedPort port = Port(0);
  milliseconds longest{0};
  const auto ping = [&] {
    const auto asked = std::chrono::steady_clock::now();
    const std::string wrong =
        port.Ask("DANCE\n", "welcome\nwhat?\n", Until::kEndOfStream, End::kClose, seconds(6));
    longest =
        std::max(longest, std::chrono::duration_cast<milliseconds>(std::chrono::steady_clock::now() - asked));
    return wrong;
  };
  flood.Send(primary(), 5000);
  const auto begun = std::chrono::steady_clock::now();
  int sent = 0, pings = 0;
  for (auto now = begun; now < begun + lasts; now = std::chrono::steady_clock::now()) {
    const int due = static_cast<int>((now - begun) / milliseconds(1) * 60 / 1000);
    flood.Send(primary(), due - std::exchange(sent, due));
    ASSERT_EQ(ping(), "") << "after " << pings << " that were answered";
    ++pings;
    std::this_thread::sleep_until(now + milliseconds(10));
  }
  std::cout << pings << " pings, the longest took " << longest.count() << " ms" << std::endl;
  EXPECT_GT(flood.TakeSeen().syn_acks, 1000) << "it has no effect";

  // Among all those one client that is true, and whose handshake the failure falls into.
  MiniTcp slow(*lab_, From(40100, 1));
  slow.SetDeaf(true);
  slow.StartConnect();
  ASSERT_EQ(slow.RunUntil([&] { return !slow.segments().empty(); }, kPatience), "");
  Inject(primary(), FaultKind::kPowerCut);
  ExpectTakenOverBy(Host::kB);
  slow.SetDeaf(false);
  ASSERT_EQ(slow.RunUntil([&] { return slow.established(); }, kPatience), "");
  slow.Send("ECHO\nhello");
  EXPECT_EQ(slow.RunUntil([&] { return slow.received() == "welcome\nhello"; }, kPatience), "");
  slow.Close();
  EXPECT_EQ(slow.RunUntil([&] { return slow.end_seen(); }, kPatience), "");
  EXPECT_EQ(ping(), "");
  ExpectConnections(Host::kB, 0, seconds(30));
  const SynFlood::Seen seen = flood.TakeSeen();
  EXPECT_GT(seen.syn_acks, 100) << "they may have been clients";
  EXPECT_EQ(seen.others, 0) << "somebody who never was is spoken to";
  EXPECT_EQ(seen.resets, 0);
  EXPECT_EQ(ping(), "");
}

}  // namespace
}  // namespace understudy::lab
