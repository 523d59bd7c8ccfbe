// Thousands of failures of the pair, each decided by a seed.
//
//   UNDERSTUDY_SIM_SEED=N   runs that seed alone and prints all that happened
//   UNDERSTUDY_SIM_RUNS=N   seeds in each of the two blocks
#include <gtest/gtest.h>

#include <cstdlib>
#include <ctime>
#include <iostream>
#include <map>
#include <set>
#include <string>

#include "glog/logging.h"
#include "tests/sim/world.h"

namespace understudy::sim {
namespace {

constexpr char kReplay[] =
    "bazel test --test_output=all --test_filter=SimTest.FixedSeeds --test_env=UNDERSTUDY_SIM_SEED=";

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* given = std::getenv(name);
  return given == nullptr ? otherwise : std::strtoull(given, nullptr, 10);
}

// A CHECK of the node's own that fails ends the process: the seed must be known then, too.
uint64_t running = 0;
[[noreturn]] void SayWhichSeed() {
  std::cerr << "in seed " << running << "\nreplay: " << kReplay << running << " //tests/sim:sim_test"
            << std::endl;
  std::abort();
}

// The node says much; of the seed that is replayed it may.
void Quiet(bool quiet) {
  FLAGS_logtostderr = true;
  FLAGS_minloglevel = quiet ? google::GLOG_FATAL : google::GLOG_INFO;
  google::InstallFailureFunction(&SayWhichSeed);
}

struct Totals {
  int runs = 0, lost = 0, takeovers = 0, restarts = 0, rejoined = 0;
  uint64_t unfiltered = 0;
  uint64_t packets = 0, turns = 0, stalls = 0;
  Nanos longest{0};
  uint64_t longest_seed = 0;
};

void OneRun(uint64_t seed, bool trace, Totals& totals) {
  running = seed;
  Outcome outcome = World(seed, Mutations{}, trace).Run();
  for (const std::string& line : outcome.trace) std::cout << line << "\n";
  if (trace) std::cout << "digest " << outcome.digest << "\n";
  ++totals.runs;
  totals.lost += outcome.service_lost;
  totals.takeovers += outcome.takeovers - 1;
  totals.restarts += outcome.restarts;
  totals.rejoined += outcome.rejoined;
  totals.unfiltered += outcome.unfiltered;
  totals.packets += outcome.packets;
  totals.turns += outcome.turns;
  totals.stalls += outcome.stalls;
  if (outcome.until_done > totals.longest) {
    totals.longest = outcome.until_done;
    totals.longest_seed = seed;
  }
  if (outcome.violation.has_value()) {
    ADD_FAILURE() << "seed " << seed << ": " << outcome.violation->invariant << ": "
                  << outcome.violation->what << "\nreplay: " << kReplay << seed << " //tests/sim:sim_test";
  }
}

void Block(uint64_t first, uint64_t count) {
  std::cout << "seeds " << first << " to " << first + count - 1 << std::endl;
  Totals totals;
  for (uint64_t seed = first; seed < first + count; ++seed) OneRun(seed, false, totals);
  std::cout << totals.runs << " runs, " << totals.takeovers << " takeovers, " << totals.restarts
            << " restarts (" << totals.rejoined << " became the secondary again), " << totals.unfiltered
            << " packets past the programs, " << totals.packets << " packets, " << totals.turns << " turns, "
            << totals.stalls << " stalls; the service was lost in " << totals.lost
            << "; the longest was done " << totals.longest.count() / 1'000'000
            << " ms after all was mended (seed " << totals.longest_seed << ")" << std::endl;
  if (count >= 1000) {
    EXPECT_GT(totals.rejoined, 50) << "nobody comes back";
  }
}

// UNDERSTUDY_SIM_SEED=N: that seed alone, with a full trace. Otherwise always the same ones, so that two
// machines agree on a change.
TEST(SimTest, FixedSeeds) {
  const uint64_t seed = FromEnvironment("UNDERSTUDY_SIM_SEED", 0);
  Quiet(seed == 0);
  if (seed == 0) return Block(1, FromEnvironment("UNDERSTUDY_SIM_RUNS", 2000));
  Totals totals;
  OneRun(seed, true, totals);
}

// Never the same, so that each run of the tests looks at what none has seen.
TEST(SimTest, FreshSeeds) {
  Quiet(true);
  const uint64_t first = 1'000'000 + static_cast<uint64_t>(std::time(nullptr)) * 1000;
  Block(first,
        FromEnvironment("UNDERSTUDY_SIM_RUNS", std::getenv("UNDERSTUDY_TEST_LONG") != nullptr ? 5000 : 1000));
}

// I7: a client that sends and never reads is slowed down before the node keeps more than it may for
// it.
TEST(SimTest, WhoNeverReadsIsSlowedDown) {
  Quiet(true);
  World world(7, Mutations{}, false);
  const size_t given = world.RunHoarder(24u << 20, std::chrono::seconds(20));
  constexpr size_t kOneRead = 256u << 10, kTcpBuffers = 256u << 10;
  constexpr size_t kMostPending = 8 * Connection::kDefaultHighWater;
  EXPECT_GE(given, kMostPending);
  EXPECT_LE(given, kMostPending + kOneRead + kTcpBuffers);
}

// While pulses get through, a Server that takes its time is not taken for dead, and loses no secondary.
TEST(SimTest, LongCallsAreNoDeath) {
  Quiet(true);
  uint64_t stalls = 0;
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    running = seed;
    World world(seed, Mutations{.drifting_clocks = true}, false);
    const Outcome outcome = world.RunStalls(std::chrono::milliseconds(500));
    EXPECT_FALSE(outcome.violation.has_value())
        << "seed " << seed << ": " << outcome.violation->invariant << ": " << outcome.violation->what;
    EXPECT_EQ(outcome.takeovers, 1) << "seed " << seed;
    EXPECT_EQ(world.reg(), (replication::Register{2, "a", "b"})) << "seed " << seed;
    stalls += outcome.stalls;
  }
  std::cout << stalls << " stalls" << std::endl;
  EXPECT_GT(stalls, 100u);
}

// More handshakes than are kept, and than are restored before their clients answer.
TEST(SimTest, AFloodLeavesNoGhosts) {
  Quiet(true);
  for (const uint64_t seed : {1, 2, 3}) {
    running = seed;
    const Outcome outcome = World(seed, Mutations{}, false).RunFlood(seed == 1 ? 5000 : 1000);
    EXPECT_FALSE(outcome.violation.has_value())
        << "seed " << seed << ": " << outcome.violation->invariant << ": " << outcome.violation->what;
    EXPECT_EQ(outcome.takeovers, 2) << "seed " << seed;
  }
}

// The guard covers what two clocks may run apart.
TEST(SimTest, ClocksThatRunApartNeverMakeTwoSpeakers) {
  Quiet(true);
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    running = seed;
    const Outcome outcome = World(seed, Mutations{.drifting_clocks = true}, false).Run();
    EXPECT_FALSE(outcome.violation.has_value())
        << "seed " << seed << ": " << outcome.violation->invariant << ": " << outcome.violation->what;
  }
}

constexpr int kChrony = 83'333;  // ppm: as fast as it slews

std::string Shown(const std::optional<Violation>& violation) {
  return violation.has_value() ? violation->invariant + ": " + violation->what : "";
}

// A lease of 60 ms on the slowest clock is over before 80 ms are on the fastest: up to a seventh each.
TEST(SimTest, TheGuardCoversClocksThatRunApart) {
  Quiet(true);
  for (const int apart_ppm : {0, kChrony, 140'000}) {
    int takeovers = 0;
    for (uint64_t seed = 1; seed <= 300; ++seed) {
      running = seed;
      const Outcome outcome = World(seed, Mutations{}, false).RunStopped(apart_ppm);
      EXPECT_FALSE(outcome.violation.has_value()) << "seed " << seed << ": " << Shown(outcome.violation);
      takeovers += outcome.takeovers - 1;
    }
    EXPECT_GT(takeovers, 290) << apart_ppm;
  }
}

// Where the guard is needed, and how far it goes.
TEST(SimTest, WithoutTheGuardClocksThatRunApartMakeTwoSpeakers) {
  Quiet(true);
  const auto first_found = [](const Mutations& mutations, int apart_ppm) -> std::string {
    for (uint64_t seed = 1; seed <= 300; ++seed) {
      running = seed;
      const Outcome outcome = World(seed, mutations, false).RunStopped(apart_ppm);
      if (!outcome.violation.has_value()) continue;
      std::cout << apart_ppm << " ppm, seed " << seed << ": " << Shown(outcome.violation) << std::endl;
      return outcome.violation->invariant;
    }
    return "nothing";
  };
  const Mutations without{.no_lease_guard = true};
  EXPECT_EQ(first_found(without, kChrony), "I3");
  EXPECT_EQ(first_found(without, 0), "nothing");
  EXPECT_EQ(first_found(Mutations{}, 160'000), "I3");
}

// A lease from before counts no more: silent at once, and serving again with a new one.
TEST(SimTest, AMachineThatWasAwayIsSilentUntilItHasANewLease) {
  Quiet(true);
  for (uint64_t seed = 1; seed <= 20; ++seed) {
    running = seed;
    World world(seed, Mutations{}, false);
    int closed = 0, open = 0;
    const Outcome outcome = world.RunAbsences(10, [&](bool closed_now, bool open_again) {
      closed += closed_now;
      open += open_again;
    });
    EXPECT_FALSE(outcome.violation.has_value())
        << "seed " << seed << ": " << outcome.violation->invariant << ": " << outcome.violation->what;
    EXPECT_EQ(closed, 10) << "seed " << seed;
    EXPECT_EQ(open, 10) << "seed " << seed;
    EXPECT_EQ(outcome.takeovers, 1) << "seed " << seed;
  }
}

// Whoever was told something past the programs that never got into the log may be left with it. All others
// notice nothing: neither when the programs are put in front again, nor when that cannot be and the node
// ends.
TEST(SimTest, PacketsThatGetPastTheProgramsAreNoticed) {
  Quiet(true);
  uint64_t unfiltered = 0;
  for (uint64_t seed = 1; seed <= 100; ++seed) {
    for (const bool stays : {false, true}) {
      running = seed;
      World world(seed, Mutations{}, false);
      const Outcome outcome = world.RunBypass(stays);
      EXPECT_FALSE(outcome.violation.has_value()) << "seed " << seed << ": " << Shown(outcome.violation);
      const replication::Register kept{2, "a", "b"}, taken{3, "b", ""};
      EXPECT_EQ(world.reg(), stays ? taken : kept) << "seed " << seed << ": " << world.reg().ToString();
      EXPECT_EQ(outcome.unkept, 0) << "seed " << seed << (stays ? ": lost by a node that ended" : ": lost");
      unfiltered += outcome.unfiltered;
    }
  }
  EXPECT_GT(unfiltered, 100u);
  std::cout << unfiltered << " past the programs" << std::endl;
  const Outcome blind = World(1, Mutations{.blind_fence = true}, false).RunBypass(false);
  EXPECT_EQ(Shown(blind.violation), "fence: nobody has noticed");
}

// It finds out before it has said a word, and the epoch goes back to the one that has only been slow.
TEST(SimTest, AnHeirWithoutAFenceGivesTheEpochBack) {
  Quiet(true);
  int given_back = 0;
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    running = seed;
    World world(seed, Mutations{}, false);
    const Outcome outcome = world.RunBypassedHeir();
    EXPECT_FALSE(outcome.violation.has_value()) << "seed " << seed << ": " << Shown(outcome.violation);
    EXPECT_EQ(world.reg().holder, "a") << "seed " << seed << ": " << world.reg().ToString();
    EXPECT_EQ(outcome.takeovers, 1) << "seed " << seed;
    given_back += world.reg().epoch == 5;
  }
  EXPECT_GT(given_back, 25);
}

TEST(SimTest, OneSeedDecidesAll) {
  Quiet(true);
  for (const uint64_t seed : {3, 17, 84}) {
    const Outcome once = World(seed, Mutations{}, false).Run();
    const Outcome again = World(seed, Mutations{}, true).Run();
    EXPECT_EQ(once.digest, again.digest) << "seed " << seed;
    EXPECT_EQ(once.turns, again.turns) << "seed " << seed;
  }
}

// --- Each check finds something when the protection it stands for is taken out -------------------

struct Taken {
  const char* name;
  Mutations mutations;
  std::set<std::string> found_by;  // any of these is right
  uint64_t at_most = 300;          // seeds
};

class WithoutTest : public testing::TestWithParam<Taken> {};

TEST_P(WithoutTest, SomeSeedFindsIt) {
  Quiet(true);
  std::map<std::string, int> others;
  for (uint64_t seed = 1; seed <= GetParam().at_most; ++seed) {
    running = seed;
    const Outcome outcome = World(seed, GetParam().mutations, false).Run();
    if (!outcome.violation.has_value()) continue;
    if (GetParam().found_by.contains(outcome.violation->invariant)) {
      std::cout << "seed " << seed << ": " << outcome.violation->invariant << ": " << outcome.violation->what
                << std::endl;
      return;
    }
    ++others[outcome.violation->invariant];
  }
  for (const auto& [invariant, count] : others) std::cout << count << " times " << invariant << std::endl;
  FAIL() << "not found in " << GetParam().at_most << " seeds";
}

INSTANTIATE_TEST_SUITE_P(
    Protection, WithoutTest,
    testing::Values(Taken{"OutputCommit", {.acknowledge_unstored = true}, {"I1"}},
                    Taken{"Clamp", {.no_clamp = true}, {"I1"}},
                    Taken{"SynAckHold", {.no_syn_ack_hold = true}, {"I1"}},
                    Taken{"Incarnation", {.any_syn_ack = true}, {"I1", "I4", "liveness"}, 1000},
                    Taken{"Deadline", {.no_deadline = true}, {"I3"}},
                    Taken{"PulseAnswer", {.unanswered_pulses = true}, {"I3"}, 2000},
                    Taken{"PulseHearing", {.answers_every_pulse = true}, {"I3"}, 4000},
                    Taken{"ProofOfDeath", {.refusal_is_death = true}, {"I3"}, 4000},
                    Taken{"FinAndRstFilter", {.no_fin_rst_filter = true}, {"I5", "I1"}},
                    Taken{"WindowFit", {.no_window_fit = true}, {"I6"}},
                    Taken{"RightBytes", {.garble_restored = true}, {"I4"}},
                    Taken{"Announcement", {.no_announcement = true}, {"liveness"}},
                    Taken{"Replay", {.skip_replay = true}, {"I2"}, 2000}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace understudy::sim
