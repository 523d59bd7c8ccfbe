// The primary's service interface loses its carrier: it can serve nobody, and must not be the one who wins.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "tests/pair_fixture.h"
#include "tests/situations.h"

namespace understudy::lab {
namespace {

class CarrierTest : public PairTest {
 protected:
  StreamClient* StartClients(Fleet* fleet) {
    uint64_t seed = TestSeed();
    StreamClient* talk = fleet->Add(EchoPlan(
        {.bytes = 1u << 30, .seed = seed, .max_ahead = 2000, .pace = std::chrono::microseconds(500)}));
    fleet->Add(UploadPlan(16 << 20, seed + 1));
    fleet->Add(DownloadPlan(16 << 20, seed + 2));
    fleet->AddTimer("timer", 20, 50);
    EXPECT_EQ(fleet->RunUntil([&] { return talk->received() > 10000; }, kPatience), "");
    return talk;
  }
};

// With the replication link alive the primary hands over; it does not wait to be suspected.
TEST_F(CarrierTest, HandsOverAtOnce) {
  // So long that who waited for it would be seen to.
  flags_ = {"--heartbeat_ms=200", absl::StrCat("--suspect_after_ms=", 5000 * Slowness())};
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client());
  StreamClient* talk = StartClients(&fleet);
  auto before = std::chrono::steady_clock::now();
  lab_->CutService(primary(), Cut::kCarrier);
  ExpectTakenOverBy(Host::kB, &fleet);
  // The kernel may sit on the news of a carrier for up to a second.
  EXPECT_LT(std::chrono::steady_clock::now() - before, milliseconds(2500) * Slowness());
  ExpectState(primary(), "silent", &fleet);
  talk->FinishEcho(1000);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  // The cable is put back: nobody asks the old one to serve.
  lab_->RestoreService(primary());
  ExpectServes();
  EXPECT_EQ(status(primary()).State(), "silent");
}

// Both of its links: it must not go solo, though it could reach the arbiter first.
TEST_F(CarrierTest, DoesNotGoSoloWithoutALink) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client());
  StreamClient* talk = StartClients(&fleet);
  lab_->CutService(primary(), Cut::kCarrier);
  lab_->CutReplication(primary(), Cut::kCarrier);
  ExpectTakenOverBy(Host::kB, &fleet);
  talk->FinishEcho(1000);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  EXPECT_NE(status(primary()).State(), "solo");
  lab_->RestoreLinks(primary());
  ExpectServes();
  ExpectState(primary(), "silent");
}

// The replication link goes first and the primary goes solo; then there is nobody to hand over to. When
// the carrier returns it goes on: it still holds the epoch.
TEST_F(CarrierTest, SoloPrimaryGetsItsCarrierBack) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client());
  StreamClient* talk = StartClients(&fleet);
  pair_->PowerCut(Host::kB);
  ExpectState(primary(), "solo", &fleet);
  lab_->CutService(primary(), Cut::kCarrier);
  ASSERT_EQ(fleet.RunFor(milliseconds(1500)), "");
  lab_->RestoreService(primary());
  talk->FinishEcho(1000);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  ExpectServes();
}

// The secondary's service interface has no carrier: nothing changes, and it is not handed the service.
TEST_F(CarrierTest, SecondaryWithoutCarrierChangesNothing) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client());
  StreamClient* talk = StartClients(&fleet);
  lab_->CutService(Host::kB, Cut::kCarrier);
  ASSERT_EQ(fleet.RunFor(milliseconds(1500)), "");
  EXPECT_NE(status(primary()).State(), "silent");
  talk->FinishEcho(1000);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  ExpectServes();
}

}  // namespace
}  // namespace understudy::lab
