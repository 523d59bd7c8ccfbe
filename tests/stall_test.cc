// A call of the Server that takes long is no death; and what dies meanwhile is noticed as quickly as ever.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "absl/strings/str_cat.h"
#include "tests/pair_fixture.h"

namespace understudy::lab {
namespace {

// Far below a stall, far above a takeover.
constexpr milliseconds kSoon(1500);

class StallTest : public PairTest {
 protected:
  // `b` does not stall, so that what it does after a takeover can be timed.
  void Start() {
    with_secondary_ = false;
    ASSERT_NO_FATAL_FAILURE(StartPair());
    const absl::Status started = pair_->StartNode(Host::kB, "secondary", {"--stalls=false"});
    ASSERT_TRUE(started.ok()) << started;
    for (Host host : {Host::kA, Host::kB}) ExpectState(host, "protected");
    epoch_ = status(Host::kA).Status()->epoch;
  }
  StreamClient* AddWitness(Fleet* fleet) {
    return fleet->Add(EchoPlan(
        {.bytes = 1u << 30, .seed = TestSeed(), .max_ahead = 2000, .pace = std::chrono::microseconds(500)}));
  }
  // A client that makes the primary stand still, which it does when this returns.
  StreamClient* BeginStall(Fleet* fleet, StreamClient* witness, milliseconds span) {
    StreamClient* staller = fleet->Add(AskPlan(absl::StrCat("STALL ", span.count(), "\n"), "done\n"));
    EXPECT_EQ(fleet->RunUntil([&] { return staller->sent() > 0; }, kPatience), "");
    // The witness has no answer for far longer than one takes.
    EXPECT_EQ(fleet->RunUntil(
                  [&, before = witness->received(), since = std::chrono::steady_clock::now()]() mutable {
                    const auto now = std::chrono::steady_clock::now();
                    if (std::exchange(before, witness->received()) != witness->received()) since = now;
                    return now - since > milliseconds(150);
                  },
                  kPatience),
              "");
    return staller;
  }
  void ExpectStillProtected() {
    ExpectState(Host::kA, "protected");
    ExpectState(Host::kB, "protected");
    const auto now = status(Host::kA).Status();
    ASSERT_TRUE(now.ok());
    EXPECT_EQ(now->role, "primary");
    EXPECT_EQ(now->epoch, epoch_) << "the secondary was lost meanwhile";
  }
  double Metric(Host host, const std::string& name) {
    const auto value = status(host).Metric("understudy_" + name);
    EXPECT_TRUE(value.ok()) << value.status();
    return value.value_or(-1);
  }
};

TEST_F(StallTest, ACallThatTakesLongIsNoDeath) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  ExpectState(Host::kA, "protected");
  epoch_ = status(Host::kA).Status()->epoch;
  EXPECT_LT(Metric(Host::kA, "pulses_sent_total"), 10) << "nothing is sent while the loop ticks";
  Fleet fleet(client());
  StreamClient* witness = AddWitness(&fleet);
  fleet.Add(UploadPlan(8 << 20, TestSeed() + 1));
  fleet.Add(DownloadPlan(8 << 20, TestSeed() + 2));
  ASSERT_EQ(fleet.RunUntil([&] { return witness->received() > 1000; }, kPatience), "");
  for (const char* verb : {"STALL", "BURN"}) {
    for (int ms : {30, 60, 90, 150, 400, 1500}) {
      SCOPED_TRACE(absl::StrCat(verb, " ", ms));
      StreamClient* staller = fleet.Add(AskPlan(absl::StrCat(verb, " ", ms, "\n"), "done\n"));
      ASSERT_EQ(fleet.RunUntil([&] { return staller->done(); }, kPatience), "");
      ASSERT_EQ(fleet.RunUntilAllReceive(1000, kPatience), "");
    }
  }
  ExpectStillProtected();
  EXPECT_GT(Metric(Host::kA, "pulses_answered_total"), 200);
  EXPECT_GE(Metric(Host::kA, "stalls_total"), 8);
  witness->FinishEcho(1000);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  // And it was no mere luck that the other has everything.
  pair_->process(Host::kA).Signal(SIGKILL);
  ExpectTakenOverBy(Host::kB);
  ExpectServes();
}

TEST_F(StallTest, ManyInARow) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  ExpectState(Host::kA, "protected");
  epoch_ = status(Host::kA).Status()->epoch;
  Fleet fleet(client());
  StreamClient* witness = AddWitness(&fleet);
  ASSERT_EQ(fleet.RunUntil([&] { return witness->received() > 1000; }, kPatience), "");
  fleet.AddMany(25, [](int i) { return AskPlan(absl::StrCat("STALL ", 60 + 10 * i, "\n"), "done\n"); });
  ASSERT_EQ(fleet.RunUntil(
                [&] {
                  return std::all_of(fleet.clients().begin(), fleet.clients().end(),
                                     [&](auto& one) { return one.get() == witness || one->done(); });
                },
                kPatience),
            "");
  ExpectStillProtected();
  witness->FinishEcho(1000);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
}

// The switch, and the proof that the tests above test something.
TEST_F(StallTest, WithoutThePulseItIsOne) {
  flags_ = {"--max_stall_ms=0"};
  ASSERT_NO_FATAL_FAILURE(Start());
  Fleet fleet(client());
  StreamClient* witness = AddWitness(&fleet);
  ASSERT_EQ(fleet.RunUntil([&] { return witness->received() > 1000; }, kPatience), "");
  fleet.Add(AskPlan("STALL 400\n", "done\n"));
  ExpectTakenOverBy(Host::kB, &fleet);
  witness->FinishEcho(1000);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
}

// As long as it may: then the application is taken for hung.
TEST_F(StallTest, ACallThatDoesNotEndIsADeath) {
  flags_ = {"--max_stall_ms=500"};
  ASSERT_NO_FATAL_FAILURE(Start());
  Fleet fleet(client());
  StreamClient* witness = AddWitness(&fleet);
  ASSERT_EQ(fleet.RunUntil([&] { return witness->received() > 1000; }, kPatience), "");
  const auto begun = std::chrono::steady_clock::now();
  BeginStall(&fleet, witness, seconds(4));
  ExpectTakenOverBy(Host::kB, &fleet);
  const auto taken = std::chrono::steady_clock::now() - begun;
  EXPECT_GE(taken, milliseconds(500));
  EXPECT_LT(taken, milliseconds(500) + kSoon);
  // The old primary comes back to itself, and finds that it is none.
  ExpectState(Host::kA, "silent", &fleet);
  witness->FinishEcho(1000);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  ExpectServes();
}

class DeathInAStallTest : public StallTest, public testing::WithParamInterface<FaultKind> {};

TEST_P(DeathInAStallTest, IsNoticedAsQuicklyAsEver) {
  ASSERT_NO_FATAL_FAILURE(Start());
  Fleet fleet(client());
  StreamClient* witness = AddWitness(&fleet);
  ASSERT_EQ(fleet.RunUntil([&] { return witness->received() > 1000; }, kPatience), "");
  BeginStall(&fleet, witness, seconds(4));
  ASSERT_EQ(status(Host::kB).State(), "protected") << "a stall is no death";
  const auto struck = std::chrono::steady_clock::now();
  Inject(Host::kA, GetParam());
  ExpectTakenOverBy(Host::kB, &fleet);
  const auto taken = std::chrono::steady_clock::now() - struck;
  std::cout << "taken over after " << std::chrono::duration_cast<milliseconds>(taken).count() << " ms"
            << std::endl;
  EXPECT_LT(taken, kSoon);
  ASSERT_EQ(fleet.RunUntilAllReceive(1000, kPatience), "");
  Heal(Host::kA, GetParam());
  ASSERT_EQ(fleet.RunFor(milliseconds(500)), "");
  if (GetParam() != FaultKind::kKilled && GetParam() != FaultKind::kPowerCut)
    ExpectState(Host::kA, "silent", &fleet);
  witness->FinishEcho(1000);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  ExpectServes();
}

INSTANTIATE_TEST_SUITE_P(Each, DeathInAStallTest, testing::ValuesIn(kAllFaults),
                         [](const auto& info) { return NameOf(info.param); });

// The nodes lose each other while the primary stands still: as in any partition, one serves.
TEST_F(StallTest, PartitionMeanwhile) {
  ASSERT_NO_FATAL_FAILURE(Start());
  Fleet fleet(client());
  StreamClient* witness = AddWitness(&fleet);
  ASSERT_EQ(fleet.RunUntil([&] { return witness->received() > 1000; }, kPatience), "");
  BeginStall(&fleet, witness, milliseconds(1200));
  lab_->CutReplication(Host::kA, Cut::kBlackhole);
  ExpectTakenOverBy(Host::kB, &fleet);
  ExpectState(Host::kA, "silent", &fleet);
  lab_->RestoreReplication(Host::kA);
  ASSERT_EQ(fleet.RunFor(milliseconds(300)), "");
  EXPECT_TRUE(Serves(Host::kB));
  EXPECT_FALSE(Serves(Host::kA));
  witness->FinishEcho(1000);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
}

// Shorter than the suspicion: pulses are lost, and nothing comes of it.
TEST_F(StallTest, AShortCutMeanwhileHurtsNobody) {
  ASSERT_NO_FATAL_FAILURE(Start());
  Fleet fleet(client());
  StreamClient* witness = AddWitness(&fleet);
  ASSERT_EQ(fleet.RunUntil([&] { return witness->received() > 1000; }, kPatience), "");
  StreamClient* staller = BeginStall(&fleet, witness, milliseconds(1200));
  for (int i = 0; i < 4; ++i) {
    lab_->CutReplication(Host::kA, Cut::kBlackhole);
    ASSERT_EQ(fleet.RunFor(milliseconds(25)), "");
    lab_->RestoreReplication(Host::kA);
    ASSERT_EQ(fleet.RunFor(milliseconds(150)), "");
  }
  ASSERT_EQ(fleet.RunUntil([&] { return staller->done(); }, kPatience), "");
  ExpectStillProtected();
  witness->FinishEcho(1000);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
}

class SecondaryDeathInAStallTest : public StallTest, public testing::WithParamInterface<FaultKind> {};

// Nobody tells the primary before it comes back to itself; then it goes on alone.
TEST_P(SecondaryDeathInAStallTest, ThePrimaryGoesOnAlone) {
  ASSERT_NO_FATAL_FAILURE(Start());
  Fleet fleet(client());
  StreamClient* witness = AddWitness(&fleet);
  ASSERT_EQ(fleet.RunUntil([&] { return witness->received() > 1000; }, kPatience), "");
  StreamClient* staller = BeginStall(&fleet, witness, milliseconds(1000));
  Inject(Host::kB, GetParam());
  ASSERT_EQ(fleet.RunUntil([&] { return staller->done(); }, kPatience), "");
  ExpectState(Host::kA, "solo", &fleet);
  Heal(Host::kB, GetParam());
  ASSERT_EQ(fleet.RunFor(milliseconds(300)), "");
  EXPECT_TRUE(Serves(Host::kA));
  EXPECT_FALSE(Serves(Host::kB));
  witness->FinishEcho(1000);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  ExpectServes();
}

INSTANTIATE_TEST_SUITE_P(Each, SecondaryDeathInAStallTest, testing::ValuesIn(kAllFaults),
                         [](const auto& info) { return NameOf(info.param); });

}  // namespace
}  // namespace understudy::lab
