#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <functional>
#include <iostream>
#include <random>
#include <string>
#include <variant>

#include "replication/pair_sim.h"

namespace understudy::replication {
namespace {

using std::chrono::seconds;

std::string TraceOf(const PairSim& sim) {
  std::string text;
  for (const std::string& line : sim.trace()) text += line + "\n";
  return text;
}

bool Settled(PairSim& sim) { return sim.Protected(); }

// One node's life, cut short where the other still has everything.
void SomethingHappens(PairSim& sim, bool* lost) {
  const int i = sim.random()() % 2;
  switch (sim.random()() % 20) {
    case 0: sim.Cut(true); break;
    case 17:
      sim.Reject(sim.random()() % 2 == 0);
      if (sim.random()() % 2 == 0) sim.ResetLinks();
      break;
    case 18:
      if (sim.node(1 - i).alive) sim.Hang(i, true);
      break;
    case 19: sim.Hang(i, false); break;
    case 1:
    case 2: sim.Cut(false); break;
    case 3: sim.ResetLinks(); break;
    case 4: sim.Pause(i, true); break;
    case 5:
    case 6: sim.Pause(i, false); break;
    case 7:
      // Losing all logs at once ends the service for good; not all runs should end so early.
      if (!sim.CanBeSpared(i) && sim.random()() % 10 != 0) break;
      if (!sim.CanBeSpared(i)) *lost = true;
      sim.Kill(i);
      break;
    case 8:
    case 9: sim.Restart(i); break;
    case 10: sim.Carrier(i, false); break;
    case 11: sim.Carrier(i, true); break;
    case 12: sim.ArbiterFlaky(sim.random()() % 3 == 0 ? 0.5 : 0); break;
    case 13: sim.Handover(i); break;
    case 14:
    case 15:
    case 16: sim.Stall(i, milliseconds(10 + sim.random()() % 500)); break;
  }
}

void OneRun(uint32_t seed) {
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  PairSim sim(seed);
  sim.arbiter_slow = true;
  bool lost = false;
  // Some runs are under load, and full of trouble just when something changes.
  const bool dense = sim.random()() % 2 == 0;
  const int step_us = dense ? 150 : 3000;
  for (int step = 0; step < 150 && !sim.Failed(); ++step) {
    const nanoseconds span = milliseconds(sim.random()() % (dense ? 8 : 40));
    const MonotonicTime end = sim.now() + span;
    uint64_t epoch = sim.reg().epoch;
    while (sim.now() < end && !sim.Failed()) {
      sim.Run(microseconds(1 + sim.random()() % step_us));
      for (int i = 0; i < 2; ++i) sim.AppendSome(i);
      if (dense && epoch != sim.reg().epoch && sim.random()() % 2 == 0) {
        SomethingHappens(sim, &lost);
      }
      epoch = sim.reg().epoch;
    }
    if (sim.random()() % 2 == 0) SomethingHappens(sim, &lost);
  }
  ASSERT_FALSE(sim.Failed()) << TraceOf(sim);
  // Everything mends: the pair comes together again.
  sim.Cut(false);
  sim.Reject(false);
  sim.ArbiterFlaky(0);
  for (int i = 0; i < 2; ++i) {
    sim.Pause(i, false);
    sim.Hang(i, false);
    sim.Restart(i);
    sim.Carrier(i, true);
  }
  const bool settled = sim.RunUntil([&] { return Settled(sim); }, seconds(5));
  ASSERT_FALSE(sim.Failed()) << TraceOf(sim);
  if (!lost) {
    ASSERT_TRUE(settled) << TraceOf(sim);
  }
}

class PairTest : public testing::Test {
 protected:
  void TearDown() override {
    EXPECT_FALSE(sim_.Failed());
    if (HasFailure()) std::cerr << TraceOf(sim_);
  }
  void Protect() {
    sim_.AppendSome(0);
    ASSERT_TRUE(sim_.RunUntil([this] { return sim_.Protected(); }, seconds(1)));
  }
  bool Wait(const std::function<bool()>& so) { return sim_.RunUntil(so, seconds(5)); }
  PrimaryCore* primary(int i) { return sim_.node(i).primary.get(); }
  SecondaryCore* secondary(int i) { return sim_.node(i).secondary.get(); }

  PairSim sim_{1};
};

TEST_F(PairTest, NormalFlow) {
  Protect();
  for (int i = 0; i < 500; ++i) {
    sim_.AppendSome(0);
    sim_.Run(microseconds(300));
    ASSERT_EQ(sim_.serving(), 0);
  }
  sim_.Run(milliseconds(5));
  EXPECT_EQ(primary(0)->stable_lsn(), primary(0)->last_lsn());
  EXPECT_EQ(secondary(1)->stored_lsn(), primary(0)->last_lsn());
  EXPECT_EQ(sim_.reg(), (Register{2, "a", "b"})) << "one change in all";
}

TEST_F(PairTest, LateJoinerCatchesUpUnderLoad) {
  sim_.Cut(true);
  for (int i = 0; i < 100; ++i) sim_.AppendSome(0);
  sim_.Run(milliseconds(100));
  EXPECT_EQ(primary(0)->stable_lsn(), primary(0)->last_lsn());
  sim_.Cut(false);
  for (int i = 0; i < 3000 && !sim_.Protected(); ++i) {
    sim_.AppendSome(0);
    sim_.Run(microseconds(200));
  }
  EXPECT_TRUE(sim_.Protected());
}

// Who wins is open; that it is one of them, and that the other was silent before, is not.
TEST_F(PairTest, CutCableGivesTheEpochToExactlyOne) {
  Protect();
  for (int i = 0; i < 20; ++i) sim_.AppendSome(0);
  sim_.Cut(true);
  MonotonicTime lease_end{}, taken_at{};
  bool asked[2] = {false, false};
  sim_.intercept = [&](int node, const Action& action) {
    asked[node] |= std::holds_alternative<SwapRegister>(action);
    if (node == 1 && std::holds_alternative<TakeOver>(action)) {
      taken_at = sim_.now();
      lease_end = sim_.node(0).lease_until;
    }
    return false;
  };
  ASSERT_TRUE(Wait([&] { return sim_.reg().epoch == 3 && sim_.serving() >= 0; }));
  EXPECT_TRUE(asked[0]);
  const bool taken = sim_.takeovers() == 1;
  EXPECT_EQ(sim_.reg(), (Register{3, taken ? "b" : "a", ""}));
  if (taken) {
    EXPECT_LE(lease_end, taken_at);
    sim_.Run(seconds(1));
    EXPECT_EQ(primary(0), nullptr) << "deposed";
  }
  sim_.Cut(false);
  EXPECT_TRUE(Wait([&] { return sim_.Protected(); }));
}

TEST_F(PairTest, CutCableWithThePrimaryCutOffFromTheArbiterToo) {
  Protect();
  // a's requests never arrive.
  sim_.intercept = [](int node, const Action& action) {
    return node == 0 &&
           (std::holds_alternative<SwapRegister>(action) || std::holds_alternative<ReadRegister>(action));
  };
  sim_.Cut(true);
  ASSERT_TRUE(Wait([&] { return sim_.serving() == 1; }));
  EXPECT_LE(sim_.node(0).lease_until, sim_.now());
  EXPECT_EQ(primary(0)->state(), PrimaryCore::State::kAlone);
  sim_.Run(seconds(2));
  EXPECT_EQ(sim_.serving(), 1);
}

TEST_F(PairTest, DeadProcessIsReplacedAtOnce) {
  Protect();
  const MonotonicTime died = sim_.now();
  sim_.Kill(0);
  ASSERT_TRUE(Wait([&] { return sim_.serving() == 1; }));
  // No waiting for the silence: two network delays and one question to the arbiter.
  EXPECT_LT(sim_.now() - died, milliseconds(40));
  sim_.Restart(0);
  EXPECT_TRUE(Wait([&] { return sim_.Protected(); }));
}

// What tells of the death may be lost; the lease runs out all the same.
TEST_F(PairTest, DeadProcessWithoutALastWordIsReplacedWhenItsLeaseIsOver) {
  Protect();
  const MonotonicTime died = sim_.now();
  sim_.Cut(true);
  sim_.Kill(0);
  ASSERT_TRUE(Wait([&] { return sim_.serving() == 1; }));
  EXPECT_GE(sim_.now() - died, milliseconds(60));
  EXPECT_LT(sim_.now() - died, milliseconds(120));
}

// A firewall rejects: both are refused, both live. Whoever goes on, the other is silent before.
TEST_F(PairTest, RefusedConnectionsOfTheLivingMakeNoSecondPrimary) {
  Protect();
  int taken = 0;
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 20; ++i) sim_.AppendSome(sim_.serving());
    // The primary's own request comes too late in half of the rounds.
    sim_.intercept = [&](int node, const Action& action) {
      const bool asks =
          std::holds_alternative<SwapRegister>(action) || std::holds_alternative<ReadRegister>(action);
      return round % 2 == 0 && node == 0 && asks;
    };
    const int before = sim_.takeovers();
    sim_.Cut(true);
    sim_.Reject(true);
    sim_.ResetLinks();
    ASSERT_TRUE(Wait([&] { return sim_.reg().secondary.empty() && sim_.serving() >= 0; }));
    taken += sim_.takeovers() - before;
    sim_.Run(milliseconds(200));
    sim_.intercept = nullptr;
    sim_.Cut(false);
    sim_.Reject(false);
    // Its questions have been lost, and it waits for the answers.
    if (sim_.serving() == 1) sim_.Kill(0);
    sim_.Restart(0);
    ASSERT_TRUE(Wait([&] { return sim_.Protected(); }));
    if (sim_.serving() == 1) {
      sim_.Handover(1);
      ASSERT_TRUE(Wait([&] { return sim_.serving() == 0 && sim_.Protected(); }));
    }
  }
  EXPECT_GE(taken, 10);
}

// --- The register --------------------------------------------------------------------------------

void ExpectSilentWithinASecond(PairSim& sim) {
  ASSERT_EQ(sim.serving(), 0);
  sim.Overwrite(Register{90, "c", ""});
  const MonotonicTime written = sim.now();
  ASSERT_TRUE(sim.RunUntil([&] { return sim.serving() < 0; }, seconds(5)));
  EXPECT_LT(sim.now() - written, milliseconds(1100));
}

TEST_F(PairTest, WhoHoldsNothingAnyMoreIsSilentWithinASecond) {
  Protect();
  ExpectSilentWithinASecond(sim_);
}

TEST_F(PairTest, WhoHoldsNothingAnyMoreAndIsAloneIsSilentWithinASecond) {
  sim_.Kill(1);
  sim_.Run(milliseconds(300));
  ExpectSilentWithinASecond(sim_);
}

TEST_F(PairTest, AnArbiterThatIsGoneOrHasForgottenSilencesNobody) {
  Protect();
  sim_.Overwrite(Register{});
  sim_.Run(seconds(3));
  EXPECT_EQ(sim_.serving(), 0);
  sim_.ArbiterFlaky(1);
  sim_.Run(seconds(3));
  EXPECT_EQ(sim_.serving(), 0);
}

// --- A heir that cannot serve --------------------------------------------------------------------

TEST_F(PairTest, AHandoverToWhoCannotServeComesBack) {
  Protect();
  for (int i = 0; i < 20; ++i) sim_.AppendSome(0);
  sim_.node(1).cannot_serve = true;
  EXPECT_TRUE(sim_.Handover(0));
  ASSERT_TRUE(Wait([&] { return sim_.reg().epoch == 5; }));
  ASSERT_TRUE(Wait([&] { return sim_.serving() == 0; }));
  EXPECT_EQ(sim_.reg(), (Register{5, "a", ""}));
  EXPECT_EQ(sim_.takeovers(), 1);
  sim_.node(1).cannot_serve = false;
  sim_.Restart(1);
  EXPECT_TRUE(Wait([&] { return sim_.Protected(); }));
}

TEST_F(PairTest, ACutOffPrimaryServesOnWhenItsHeirCannot) {
  Protect();
  // Its own question comes after the heir's.
  sim_.intercept = [&](int node, const Action& action) {
    return node == 0 && std::holds_alternative<SwapRegister>(action) && sim_.reg().epoch == 2;
  };
  sim_.node(1).cannot_serve = true;
  sim_.Stall(0, milliseconds(600));  // the pulse ends at 400
  ASSERT_TRUE(Wait([&] { return sim_.takeovers() == 1; }));
  ASSERT_TRUE(Wait([&] { return sim_.serving() == 0; }));
  EXPECT_EQ(sim_.reg(), (Register{5, "a", ""}));
}

TEST_F(PairTest, WhoIsReplacedForGoodGivesUpInTheEnd) {
  Protect();
  EXPECT_TRUE(sim_.Handover(0));
  ASSERT_TRUE(Wait([&] { return sim_.serving() == 1; }));
  sim_.Run(milliseconds(200));
  ASSERT_NE(primary(0), nullptr);
  EXPECT_EQ(primary(0)->state(), PrimaryCore::State::kReplaced);
  EXPECT_TRUE(Wait([&] { return sim_.Protected(); })) << "deposed, and a secondary then";
  EXPECT_EQ(sim_.serving(), 1);
}

// --- A replay that hangs -------------------------------------------------------------------------

TEST_F(PairTest, AHungReplayHoldsNobodyUp) {
  Protect();
  sim_.Hang(1, true);
  const MonotonicTime hung = sim_.now();
  for (int i = 0; i < 4000 && sim_.reg().epoch == 2; ++i) {
    sim_.AppendSome(0);
    sim_.Run(microseconds(300));
    ASSERT_EQ(sim_.serving(), 0);
  }
  EXPECT_EQ(sim_.reg(), (Register{3, "a", ""}));
  EXPECT_GT(sim_.now() - hung, milliseconds(399));
  EXPECT_LT(sim_.now() - hung, milliseconds(500));
  EXPECT_THAT(primary(0)->why_alone(), testing::HasSubstr("hangs"));
  // It does not come back while it hangs.
  for (int i = 0; i < 100; ++i) {
    sim_.AppendSome(0);
    sim_.Run(milliseconds(30));
    ASSERT_EQ(sim_.reg().epoch, 3u);
  }
  EXPECT_THAT(secondary(1)->why(), testing::HasSubstr("still hangs"));
  sim_.Hang(1, false);
  EXPECT_TRUE(Wait([&] { return sim_.Protected(); }));
}

TEST_F(PairTest, ASlowReplayIsNoHungOne) {
  Protect();
  sim_.Hang(1, true);
  for (int i = 0; i < 500; ++i) {
    sim_.AppendSome(0);
    sim_.Run(milliseconds(2));
    ++sim_.node(1).hung_at;
  }
  EXPECT_EQ(sim_.reg().epoch, 2u);
}

TEST_F(PairTest, StoppedPrimaryHasNoLeaseWhenItGoesOn) {
  Protect();
  for (int i = 0; i < 50; ++i) {
    sim_.AppendSome(0);
    sim_.Run(microseconds(100));
  }
  sim_.Pause(0, true);
  ASSERT_TRUE(Wait([&] { return sim_.serving() == 1; }));
  sim_.Run(milliseconds(300));
  // All that came for it meanwhile is handled now, answers to its last appends among it.
  bool leased = false;
  sim_.intercept = [&](int node, const Action& action) {
    leased |= node == 0 && std::holds_alternative<Lease>(action);
    return false;
  };
  sim_.Pause(0, false);
  sim_.Run(milliseconds(10));
  EXPECT_FALSE(leased);
  sim_.intercept = nullptr;
  EXPECT_TRUE(Wait([&] { return sim_.Protected(); }));
  EXPECT_EQ(sim_.serving(), 1);
}

TEST_F(PairTest, AStalledPrimaryKeepsItsEpochAndItsSecondary) {
  Protect();
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 10; ++i) {
      sim_.AppendSome(0);
      sim_.Run(microseconds(100));
    }
    const MonotonicTime begun = sim_.now();
    sim_.Stall(0, milliseconds(50 + 15 * round));
    ASSERT_TRUE(Wait([&] { return !sim_.node(0).stalled; }));
    EXPECT_GE(sim_.now() - begun, milliseconds(50 + 15 * round));
    ASSERT_EQ(sim_.serving(), 0);
    sim_.Run(milliseconds(20));
  }
  EXPECT_EQ(sim_.reg().epoch, 2u);
  EXPECT_TRUE(sim_.Protected());
  EXPECT_EQ(primary(0)->stable_lsn(), primary(0)->last_lsn());
}

TEST_F(PairTest, AStallThatDoesNotEndIsADeath) {
  Protect();
  const MonotonicTime begun = sim_.now();
  sim_.Stall(0, seconds(3));
  ASSERT_TRUE(Wait([&] { return sim_.serving() == 1; }));
  EXPECT_GT(sim_.now() - begun, milliseconds(400));
  EXPECT_LT(sim_.now() - begun, milliseconds(600));
  EXPECT_TRUE(Wait([&] { return sim_.Protected(); }));
  EXPECT_EQ(sim_.serving(), 1);
}

TEST_F(PairTest, APrimaryThatIsCutOffInAStallIsSilentBeforeItIsReplaced) {
  Protect();
  sim_.Stall(0, milliseconds(390));
  sim_.Run(milliseconds(150));
  EXPECT_EQ(sim_.serving(), 0);
  sim_.Cut(true);
  ASSERT_TRUE(Wait([&] { return sim_.serving() == 1; }));
  EXPECT_LE(sim_.node(0).lease_until, sim_.now());
  sim_.Run(milliseconds(500));
  EXPECT_EQ(sim_.serving(), 1);
  sim_.Cut(false);
  EXPECT_TRUE(Wait([&] { return sim_.Protected(); }));
}

TEST_F(PairTest, StoppedSecondaryIsLeftBehindAndComesBack) {
  Protect();
  sim_.Pause(1, true);
  ASSERT_TRUE(Wait([&] { return primary(0)->state() == PrimaryCore::State::kSolo; }));
  for (int i = 0; i < 10; ++i) sim_.AppendSome(0);
  EXPECT_EQ(primary(0)->stable_lsn(), primary(0)->last_lsn());
  sim_.Run(milliseconds(300));
  sim_.Pause(1, false);
  EXPECT_TRUE(Wait([&] { return sim_.Protected(); }));
  EXPECT_EQ(sim_.takeovers(), 0);
}

// The primary dies when it has just been told that the register names b; b has not heard of it.
TEST_F(PairTest, LostWordOfMembership) {
  sim_.AppendSome(0);
  sim_.intercept = [&](int node, const Action& action) {
    const auto* send = std::get_if<SendAppend>(&action);
    return node == 0 && send != nullptr && send->request.member;
  };
  ASSERT_TRUE(Wait([&] { return primary(0)->state() == PrimaryCore::State::kProtected; }));
  EXPECT_EQ(secondary(1)->state(), SecondaryCore::State::kJoining);
  sim_.Kill(0);
  ASSERT_TRUE(Wait([&] { return sim_.serving() == 1; }));
  EXPECT_EQ(sim_.reg(), (Register{3, "b", ""}));
}

// It dies even before the arbiter's answer reaches it.
TEST_F(PairTest, LostWordOfMembershipToThePrimaryItself) {
  sim_.AppendSome(0);
  ASSERT_TRUE(Wait([&] { return sim_.reg().epoch == 2; }));
  sim_.Kill(0);
  ASSERT_TRUE(Wait([&] { return sim_.serving() == 1; }));
}

// A secondary that starts anew with nothing must not believe that the register means it.
TEST_F(PairTest, ANewLifeWithoutTheLogDoesNotTakeOver) {
  Protect();
  sim_.Kill(1);
  sim_.Kill(0);
  sim_.Restart(1);
  sim_.Run(seconds(5));
  EXPECT_EQ(sim_.serving(), -1);
  EXPECT_EQ(sim_.takeovers(), 0);
}

TEST_F(PairTest, ResetLinksAreTakenUpWithoutAChangeOfEpoch) {
  Protect();
  for (int round = 0; round < 30; ++round) {
    for (int i = 0; i < 10; ++i) {
      sim_.AppendSome(0);
      sim_.Run(microseconds(sim_.random()() % 300));
    }
    sim_.ResetLinks();
    ASSERT_TRUE(Wait([&] {
      return secondary(1)->stored_lsn() == primary(0)->last_lsn() &&
             primary(0)->stable_lsn() == primary(0)->last_lsn();
    }));
    ASSERT_EQ(sim_.serving(), 0);
  }
  EXPECT_EQ(sim_.reg().epoch, 2u);
}

TEST_F(PairTest, CarrierLossHandsOver) {
  Protect();
  for (int i = 0; i < 20; ++i) sim_.AppendSome(0);
  const MonotonicTime lost = sim_.now();
  sim_.Carrier(0, false);
  ASSERT_TRUE(Wait([&] { return sim_.serving() == 1; }));
  EXPECT_LT(sim_.now() - lost, milliseconds(40));
  EXPECT_TRUE(Wait([&] { return sim_.Protected(); })) << "without a carrier one can be secondary";
  // And back, by wish.
  sim_.Carrier(0, true);
  EXPECT_TRUE(sim_.Handover(1));
  ASSERT_TRUE(Wait([&] { return sim_.serving() == 0; }));
}

TEST_F(PairTest, WithoutCarrierAnywhereNobodyTakesOver) {
  Protect();
  sim_.Carrier(1, false);
  sim_.Carrier(0, false);
  sim_.Run(seconds(2));
  EXPECT_EQ(sim_.takeovers(), 0);
  sim_.Carrier(1, true);
  EXPECT_TRUE(Wait([&] { return sim_.serving() == 1; }));
}

TEST(PairSimTest, RandomFailures) {
  const char* given = std::getenv("UNDERSTUDY_SEED");
  const uint32_t seed = given != nullptr ? std::strtoul(given, nullptr, 10) : std::random_device{}();
  const char* runs = std::getenv("UNDERSTUDY_RUNS");
  const int count = given != nullptr ? 1 : runs != nullptr ? std::atoi(runs) : 20;
  for (int run = 0; run < count && !testing::Test::HasFatalFailure(); ++run) OneRun(seed + run);
}

}  // namespace
}  // namespace understudy::replication
