// The primary dies, in each of the ways it can, in each of the situations its clients can be in.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <tuple>

#include "tests/pair_fixture.h"
#include "tests/situations.h"

namespace understudy::lab {
namespace {

class TakeoverTest : public PairTest,
                     public testing::WithParamInterface<std::tuple<Way, SituationKind>> {};

TEST_P(TakeoverTest, ClientsGoOn) {
  auto& [way, kind] = GetParam();
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client());
  std::unique_ptr<Situation> situation = kind.make({fleet, *watch_, TestSeed()});
  ASSERT_EQ(situation->Before(), "") << "before the fault";
  Strike(primary(), way);
  ExpectTakenOverBy(Host::kB, &fleet);
  EXPECT_EQ(situation->Release(), "");
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  EXPECT_EQ(situation->Check(client()), "");
  ExpectServes();
}

std::string TestName(const testing::TestParamInfo<std::tuple<Way, SituationKind>>& info) {
  return NameOf(std::get<0>(info.param)) + std::get<1>(info.param).name;
}

// Unplugged differs from Isolated in what the old primary does, not in what it leaves behind: one test of
// all situations together, below.
INSTANTIATE_TEST_SUITE_P(Each, TakeoverTest,
                         testing::Combine(testing::Values(Way::kKilled, Way::kPowerCut,
                                                          Way::kIsolated, Way::kStopped),
                                          testing::ValuesIn(AllSituations())),
                         TestName);

class AllTogetherTest : public PairTest, public testing::WithParamInterface<Way> {};

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
  StreamClient* witness = fleet.Add(EchoPlan({.bytes = 1u << 30,
                                              .seed = seed + 1,
                                              .max_ahead = 2000,
                                              .pace = std::chrono::microseconds(500)}));
  ASSERT_EQ(fleet.RunUntil([&] { return witness->received() > 10000; }, kPatience), "");

  Strike(primary(), GetParam());
  ExpectTakenOverBy(Host::kB, &fleet);
  for (auto& situation : situations) EXPECT_EQ(situation->Release(), "");
  ASSERT_EQ(fleet.RunFor(seconds(2)), "");
  Revive(primary(), GetParam());
  ASSERT_EQ(fleet.RunFor(milliseconds(500)), "");
  if (GetParam() != Way::kKilled && GetParam() != Way::kPowerCut &&
      pair_->process(primary()).running()) {
    ExpectState(primary(), "silent", &fleet);
  }
  witness->FinishEcho(100);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  for (auto& situation : situations) EXPECT_EQ(situation->Check(client()), "");
  ExpectServes();
}

INSTANTIATE_TEST_SUITE_P(Each, AllTogetherTest, testing::ValuesIn(kAllWays),
                         [](const auto& info) { return NameOf(info.param); });

}  // namespace
}  // namespace understudy::lab
