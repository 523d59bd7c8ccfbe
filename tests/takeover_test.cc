// The primary dies, in each of the ways it can, in each of the situations its clients can be in.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <tuple>

#include "tests/pair_fixture.h"
#include "tests/situations.h"

namespace understudy::lab {
namespace {

class TakeoverTest : public PairTest,
                     public testing::WithParamInterface<std::tuple<FaultKind, SituationKind>> {};

TEST_P(TakeoverTest, ClientsGoOn) {
  auto& [way, kind] = GetParam();
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client());
  std::unique_ptr<Situation> situation = kind.make({fleet, *watch_, TestSeed()});
  ASSERT_EQ(situation->Before(), "") << "before the fault";
  Inject(primary(), way);
  ExpectTakenOverBy(Host::kB, &fleet);
  EXPECT_EQ(situation->Release(), "");
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  EXPECT_EQ(situation->Check(client()), "");
  ExpectServes();
}

std::string TestName(const testing::TestParamInfo<std::tuple<FaultKind, SituationKind>>& info) {
  return NameOf(std::get<0>(info.param)) + std::get<1>(info.param).name;
}

// Unplugged differs from Isolated in what the old primary does, not in what it leaves behind: one test of
// all situations together, below.
INSTANTIATE_TEST_SUITE_P(Each, TakeoverTest,
                         testing::Combine(testing::Values(FaultKind::kKilled, FaultKind::kPowerCut,
                                                          FaultKind::kIsolated, FaultKind::kStopped),
                                          testing::ValuesIn(AllSituations())),
                         TestName);

class AllTogetherTest : public PairTest, public testing::WithParamInterface<FaultKind> {};

// All situations at once, and afterwards the old primary comes back, as far as it can: it must find that
// it is one no longer, before it says a single word to a client.
TEST_P(AllTogetherTest, ClientsGoOnAndTheOldPrimaryStaysSilent) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client());
  std::vector<std::unique_ptr<Situation>> situations;
  uint64_t seed = TestSeed();
  for (const SituationKind& kind : AllSituations()) {
    situations.push_back(kind.make({fleet, *watch_, seed += 1000}));
    ASSERT_EQ(situations.back()->Before(), "") << kind.name << ", before the fault";
  }
  // Goes on through all that follows.
  StreamClient* witness = fleet.Add(EchoPlan(
      {.bytes = 1u << 30, .seed = seed + 1, .max_ahead = 2000, .pace = std::chrono::microseconds(500)}));
  ASSERT_EQ(fleet.RunUntil([&] { return witness->received() > 10000; }, kPatience), "");

  Inject(primary(), GetParam());
  ExpectTakenOverBy(Host::kB, &fleet);
  for (auto& situation : situations) EXPECT_EQ(situation->Release(), "");
  ASSERT_EQ(fleet.RunFor(seconds(2)), "");
  Heal(primary(), GetParam());
  ASSERT_EQ(fleet.RunFor(milliseconds(500)), "");
  if (GetParam() != FaultKind::kKilled && GetParam() != FaultKind::kPowerCut &&
      pair_->process(primary()).running()) {
    ExpectState(primary(), "silent", &fleet);
  }
  witness->FinishEcho(100);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  for (auto& situation : situations) EXPECT_EQ(situation->Check(client()), "");
  ExpectServes();
}

using LossTest = PairTest;

// What the heir resends may be lost, too. The kernel's own timer would be at a second, and before Linux 6.15
// at three.
TEST_F(LossTest, WhatTheHeirResendsIsResentBeforeTheKernelWould) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client());
  Plan plan = EchoPlan({.bytes = 2000, .seed = TestSeed(), .max_ahead = 1000});
  plan.send_first = 0;
  StreamClient* deaf = fleet.Add(plan);
  ASSERT_EQ(fleet.RunUntil([&] { return deaf->connected(); }, kPatience), "");
  deaf->DropIncoming(true);
  deaf->ReleaseSend();
  // The first bytes of the reply, as often as one of the hosts has said them.
  const auto said_by = [&](Host host) {
    std::vector<int64_t> times;
    std::optional<uint32_t> first;
    for (const SeenPacket& packet : watch_->Packets()) {
      if (packet.arp || !packet.from_service || packet.length == 0) continue;
      if (!first.has_value()) first = packet.seq;
      if (packet.seq == *first && packet.source_mac == lab_->mac(host)) times.push_back(packet.time_ns);
    }
    return times;
  };
  ASSERT_EQ(fleet.RunUntil([&] { return !said_by(Host::kA).empty(); }, kPatience), "");
  Inject(primary(), FaultKind::kPowerCut);
  ASSERT_EQ(fleet.RunUntil([&] { return said_by(Host::kB).size() >= 3; }, kPatience), "");
  const auto times = said_by(Host::kB);
  EXPECT_LT((times[1] - times[0]) / 1'000'000, 900) << "ms until the second time";
  EXPECT_LT((times[2] - times[0]) / 1'000'000, 900 + 400 * Slowness()) << "ms until the third time";
  deaf->DropIncoming(false);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  ExpectServes();
}

using LateFinTest = PairTest;

// The Server has closed long ago, and as far as it goes all is over: only TCP waits for the client's FIN, as
// it does for a minute. That host dies, and then the client closes: the FIN is acknowledged like any other.
TEST_F(LateFinTest, OfAClientThatThePrimaryHasForgotten) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client());
  const auto late = fleet.AddMany(3, [](int) {
    Plan plan = AskPlan("CLOSE\n", "");
    plan.half_close_after_send = true;
    plan.hold_fin = true;
    return plan;
  });
  const auto forgotten_by = [&](Host host) {
    const auto now = status(host).Status();
    return now.ok() && now->connections == 0;
  };
  const auto closed = [](auto* one) { return one->end_seen(); };
  ASSERT_EQ(fleet.RunUntil([&] { return std::all_of(late.begin(), late.end(), closed); }, kPatience), "");
  ASSERT_EQ(fleet.RunUntil([&] { return forgotten_by(Host::kA) && forgotten_by(Host::kB); }, kPatience), "");
  Inject(primary(), FaultKind::kPowerCut);
  ExpectTakenOverBy(Host::kB, &fleet);
  for (StreamClient* one : late) one->ReleaseFin();
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  EXPECT_EQ(status(Host::kB).Metric("understudy_fin_waits_restored_total").value_or(-1), 3);
  ExpectServes();
}

class LostWindowTest : public PairTest, public testing::WithParamInterface<bool> {};

// A whole window is lost with the primary, far more than an heir resends at once. Where no timestamps tell
// the kernel of the round-trip time, its timer would be at three seconds.
TEST_P(LostWindowTest, ComesAgainSoon) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  ASSERT_TRUE(client().SetSysctl("net.ipv4.tcp_timestamps", GetParam() ? "1" : "0").ok());
  Fleet fleet(client());
  StreamClient* download = fleet.Add(DownloadPlan(32 << 20, TestSeed()));
  ASSERT_EQ(fleet.RunUntil([&] { return download->received() > 4 << 20; }, kPatience), "");
  download->DropIncoming(true);
  ASSERT_EQ(fleet.RunFor(milliseconds(20)), "");
  Inject(primary(), FaultKind::kPowerCut);
  download->DropIncoming(false);
  ExpectTakenOverBy(Host::kB, &fleet);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  EXPECT_LT(download->longest_pause(), milliseconds(900) * Slowness());
  std::cout << "longest pause: " << download->longest_pause().count() / 1000 << " ms" << std::endl;
}

INSTANTIATE_TEST_SUITE_P(Each, LostWindowTest, testing::Bool(),
                         [](const auto& info) { return info.param ? "Timestamps" : "NoTimestamps"; });

INSTANTIATE_TEST_SUITE_P(Each, AllTogetherTest, testing::ValuesIn(kAllFaults),
                         [](const auto& info) { return NameOf(info.param); });

}  // namespace
}  // namespace understudy::lab
