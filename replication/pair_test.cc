#include <gtest/gtest.h>

#include <cstdlib>
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
  switch (sim.random()() % 14) {
    case 0:
      sim.Cut(true);
      break;
    case 1:
    case 2:
      sim.Cut(false);
      break;
    case 3:
      sim.ResetLinks();
      break;
    case 4:
      sim.Pause(i, true);
      break;
    case 5:
    case 6:
      sim.Pause(i, false);
      break;
    case 7:
      // Losing all logs at once ends the service for good; not all runs should end so early.
      if (!sim.CanBeSpared(i) && sim.random()() % 20 != 0) break;
      if (!sim.CanBeSpared(i)) *lost = true;
      sim.Kill(i);
      break;
    case 8:
    case 9:
      sim.Restart(i);
      break;
    case 10:
      sim.Carrier(i, false);
      break;
    case 11:
      sim.Carrier(i, true);
      break;
    case 12:
      sim.ArbiterFlaky(sim.random()() % 3 == 0 ? 0.5 : 0);
      break;
    case 13:
      sim.Handover(i);
      break;
  }
}

void OneRun(uint32_t seed) {
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  PairSim sim(seed);
  bool lost = false;
  for (int step = 0; step < 150 && !sim.Failed(); ++step) {
    const nanoseconds span = milliseconds(sim.random()() % 40);
    const MonotonicTime end = sim.now() + span;
    while (sim.now() < end && !sim.Failed()) {
      sim.Run(microseconds(1 + sim.random()() % 3000));
      for (int i = 0; i < 2; ++i) sim.AppendSome(i);
    }
    if (sim.random()() % 2 == 0) SomethingHappens(sim, &lost);
  }
  ASSERT_FALSE(sim.Failed()) << TraceOf(sim);
  // Everything mends: the pair comes together again.
  sim.Cut(false);
  sim.ArbiterFlaky(0);
  for (int i = 0; i < 2; ++i) {
    sim.Pause(i, false);
    sim.Restart(i);
    sim.Carrier(i, true);
  }
  const bool settled = sim.RunUntil([&] { return Settled(sim); }, seconds(5));
  ASSERT_FALSE(sim.Failed()) << TraceOf(sim);
  if (!lost) {
    ASSERT_TRUE(settled) << TraceOf(sim);
  }
}

TEST(PairTest, RandomFailures) {
  const char* given = std::getenv("UNDERSTUDY_SEED");
  const uint32_t seed =
      given != nullptr ? std::strtoul(given, nullptr, 10) : std::random_device{}();
  const char* runs = std::getenv("UNDERSTUDY_RUNS");
  const int count = given != nullptr ? 1 : runs != nullptr ? std::atoi(runs) : 100;
  for (int run = 0; run < count && !testing::Test::HasFatalFailure(); ++run) OneRun(seed + run);
}

}  // namespace
}  // namespace understudy::replication
