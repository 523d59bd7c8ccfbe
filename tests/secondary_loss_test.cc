// The secondary dies: the primary asks the arbiter, goes solo, and its clients hardly notice.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/pair_fixture.h"
#include "tests/situations.h"

namespace understudy::lab {
namespace {

// --suspect_after_ms is 80; the rest is for a machine that runs everything on two cores.
const milliseconds kLongestStall = milliseconds(80 + 400) * Slowness();

class SecondaryLossTest : public PairTest, public testing::WithParamInterface<FaultKind> {};

TEST_P(SecondaryLossTest, NothingIsLostOrStalls) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client());
  uint64_t seed = TestSeed();
  std::vector<StreamClient*> talks;
  for (uint64_t ahead : {10, 3000, 60000}) {
    talks.push_back(fleet.Add(EchoPlan({.bytes = 1u << 30,
                                        .seed = seed + ahead,
                                        .max_ahead = ahead,
                                        .piece = 20000,
                                        .pace = milliseconds(1)})));
  }
  fleet.Add(UploadPlan(24 << 20, seed + 1));
  fleet.Add(DownloadPlan(24 << 20, seed + 2));
  fleet.AddTimer("timer", 10, 100);
  ASSERT_EQ(fleet.RunUntil(
                [&] {
                  return talks[0]->received() > 500 && talks[1]->received() > 100000 &&
                         talks[2]->received() > 100000;
                },
                kPatience),
            "");
  for (auto& one : fleet.clients()) one->ResetPause();
  Inject(Host::kB, GetParam());
  ExpectState(primary(), "solo", &fleet);
  ASSERT_EQ(fleet.RunFor(milliseconds(200)), "");
  for (StreamClient* talk : talks) {
    EXPECT_LE(talk->longest_pause(), kLongestStall) << talk->name();
  }

  // The lost one comes back. It may join again, which is another matter; it must not take over.
  Heal(Host::kB, GetParam());
  ASSERT_EQ(fleet.RunFor(milliseconds(500)), "");
  for (StreamClient* talk : talks) talk->FinishEcho(1000);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  EXPECT_TRUE(Serves(primary()));
  EXPECT_FALSE(Serves(Host::kB));
  ExpectServes();
  WatchTotals totals = Count(watch_->Packets());
  EXPECT_EQ(totals.by_speaker.count(lab_->mac(Host::kB)), 0u) << "b has spoken to clients";
}

INSTANTIATE_TEST_SUITE_P(Each, SecondaryLossTest, testing::ValuesIn(kAllFaults),
                         [](const auto& info) { return NameOf(info.param); });

class SoloTest : public PairTest {};

// A primary that has not got a secondary yet serves as well.
TEST_F(SoloTest, ServesBeforeASecondaryJoins) {
  with_secondary_ = false;
  ASSERT_NO_FATAL_FAILURE(StartPair());
  ExpectServes();
  EXPECT_EQ(pair_->status(primary()).State(), "solo");
}

// Over and over, as over a link too slow to stay joined on: the log stays readable.
TEST_F(SoloTest, ASecondaryThatComesAndGoesDoesNotFillTheLog) {
  with_secondary_ = false;
  ASSERT_NO_FATAL_FAILURE(StartPair());
  constexpr int kTimes = 6;
  for (int i = 0; i < kTimes; ++i) {
    ASSERT_TRUE(pair_->StartNode(Host::kB, "secondary").ok());
    ExpectState(primary(), "protected");
    pair_->process(Host::kB).Kill();
    ExpectState(primary(), "solo");
  }
  const std::string log = pair_->process(primary()).Log();
  int joins = 0;
  for (size_t at = 0; (at = log.find("b joins at LSN", at)) != std::string::npos; ++at) ++joins;
  EXPECT_GE(joins, 1);
  EXPECT_LT(joins, kTimes) << log;
  ExpectServes();
}

}  // namespace
}  // namespace understudy::lab
