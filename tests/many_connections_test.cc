// A thousand connections survive together.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>

#include "tests/pair_fixture.h"

namespace understudy::lab {
namespace {

constexpr int kConnections = 1000;

class ManyConnectionsTest : public PairTest, public testing::WithParamInterface<FaultKind> {};

TEST_P(ManyConnectionsTest, AllGoOn) {
  // Three hosts and a thousand clients share the machine: it must be the fault that is suspected.
  flags_ = {"--suspect_after_ms=500"};
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client());
  uint64_t seed = TestSeed();
  // Three in four talk all the time, the others are idle when it happens.
  auto clients = fleet.AddMany(kConnections, [seed](int i) {
    Plan plan = EchoPlan({.bytes = 1u << 30,
                          .seed = seed + static_cast<uint64_t>(i),
                          .max_ahead = 200,
                          .piece = 2000,
                          .pace = milliseconds(20)});
    if (i % 4 == 0) plan.send_first = 500;
    return plan;
  });
  ASSERT_EQ(fleet.RunUntil(
                [&] {
                  return std::all_of(clients.begin(), clients.end(),
                                     [](auto* c) { return c->received() >= 490; });
                },
                kPatience),
            "");
  for (Host host : {Host::kA, Host::kB}) {
    auto status = pair_->status(host).Status();
    ASSERT_TRUE(status.ok()) << status.status();
    EXPECT_EQ(status->connections, kConnections) << Name(host);
  }
  Inject(primary(), GetParam());
  ExpectTakenOverBy(Host::kB, &fleet);
  auto status = pair_->status(Host::kB).Status();
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_EQ(status->connections, kConnections);
  for (StreamClient* one : clients) {
    one->ReleaseSend();
    one->FinishEcho(1000);
  }
  EXPECT_EQ(fleet.RunUntilDone(2 * kPatience), "");
  std::cout << "longest pause of " << kConnections << ": " << fleet.longest_pause().count() / 1000 << " ms"
            << std::endl;
  ExpectServes();
}

INSTANTIATE_TEST_SUITE_P(Each, ManyConnectionsTest,
                         testing::Values(FaultKind::kKilled, FaultKind::kPowerCut, FaultKind::kStopped),
                         [](const auto& info) { return NameOf(info.param); });

}  // namespace
}  // namespace understudy::lab
