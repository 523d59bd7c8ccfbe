// The two nodes lose each other while both live: exactly one serves.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/pair_fixture.h"

namespace understudy::lab {
namespace {

class PartitionTest : public PairTest, public testing::WithParamInterface<Cut> {
 protected:
  StreamClient* AddWitness(Fleet* fleet) {
    return fleet->Add(EchoPlan(
        {.bytes = 1u << 30, .seed = TestSeed(), .max_ahead = 2000, .pace = std::chrono::microseconds(500)}));
  }
};

TEST_P(PartitionTest, ExactlyOneServes) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client());
  StreamClient* witness = AddWitness(&fleet);
  fleet.Add(UploadPlan(16 << 20, TestSeed() + 1));
  fleet.Add(DownloadPlan(16 << 20, TestSeed() + 2));
  ASSERT_EQ(fleet.RunUntil([&] { return witness->received() > 10000; }, kPatience), "");
  lab_->CutReplication(primary(), GetParam());

  // Either may win, and goes on alone.
  std::string a, b;
  ASSERT_EQ(fleet.RunUntil(
                [&] {
                  a = status(Host::kA).State();
                  b = status(Host::kB).State();
                  return (a == "solo") != (b == "solo");
                },
                kPatience),
            "")
      << "a is " << a << ", b is " << b;
  Host winner = a == "solo" ? Host::kA : Host::kB;
  // And it stays like that, before and after they see each other again.
  for (bool restored : {false, true}) {
    if (restored) lab_->RestoreReplication(primary());
    ASSERT_EQ(fleet.RunFor(milliseconds(700)), "");
    EXPECT_TRUE(Serves(winner)) << "restored: " << restored;
    EXPECT_FALSE(Serves(Other(winner))) << "restored: " << restored;
  }
  witness->FinishEcho(1000);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  ExpectServes();
  // The fixture looks for two speakers; here it is also known who the one is.
  std::vector<SeenPacket> packets = watch_->Packets();
  ASSERT_FALSE(packets.empty());
  for (auto it = packets.rbegin(); it != packets.rend(); ++it) {
    if (!it->from_service) continue;
    EXPECT_EQ(it->source_mac, lab_->mac(winner));
    break;
  }
}

INSTANTIATE_TEST_SUITE_P(Each, PartitionTest, testing::Values(Cut::kBlackhole, Cut::kCarrier),
                         [](const auto& info) {
                           return info.param == Cut::kBlackhole ? "Blackhole" : "Carrier";
                         });

class FlappingTest : public PairTest {};

// Cuts shorter and longer than the suspicion, on both links of both nodes: whatever is decided, clients
// that can reach the winner go on, and there is never a second voice.
TEST_F(FlappingTest, ShortCutsHurtNobody) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client());
  StreamClient* witness = fleet.Add(EchoPlan(
      {.bytes = 1u << 30, .seed = TestSeed(), .max_ahead = 2000, .pace = std::chrono::microseconds(500)}));
  ASSERT_EQ(fleet.RunUntil([&] { return witness->received() > 10000; }, kPatience), "");
  for (int ms : {1, 5, 20, 40, 60, 75, 85, 120, 300}) {
    lab_->CutReplication(Host::kA, Cut::kBlackhole);
    ASSERT_EQ(fleet.RunFor(milliseconds(ms)), "") << ms;
    lab_->RestoreReplication(Host::kA);
    ASSERT_EQ(fleet.RunFor(milliseconds(100)), "") << ms;
  }
  witness->FinishEcho(1000);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  EXPECT_NE(Serves(Host::kA), Serves(Host::kB));
  ExpectServes();
}

}  // namespace
}  // namespace understudy::lab
