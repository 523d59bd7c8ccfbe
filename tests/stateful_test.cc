// Servers that keep something: what begins with other data, or cannot make durable what it is told, never
// serves; and requests that wait for room survive a takeover.
#include <signal.h>
#include <sys/wait.h>

#include <fstream>

#include "tests/pair_fixture.h"

namespace understudy::lab {
namespace {

using testing::HasSubstr;

class StatefulTest : public PairTest {
 protected:
  // `a` alone, then `b` with flags of its own, which need not get on with each other.
  void StartWith(const std::vector<std::string>& flags_of_a, const std::vector<std::string>& flags_of_b) {
    with_secondary_ = false;
    flags_ = flags_of_a;
    ASSERT_NO_FATAL_FAILURE(StartPair());
    const absl::Status started = pair_->StartNode(Host::kB, "secondary", flags_of_b);
    ASSERT_TRUE(started.ok()) << started;
  }
  void ExpectUnusable(Host host, const std::string& why) {
    ExpectState(host, "silent");
    const auto now = status(host).Status();
    ASSERT_TRUE(now.ok()) << now.status();
    EXPECT_THAT(now->json, HasSubstr("this copy is unusable"));
    EXPECT_THAT(now->json, HasSubstr(why));
  }
  void Fill() { std::ofstream(full_) << "yes"; }

  TempDir dir_;
  const std::string full_ = dir_.path() + "/full";
};

TEST_F(StatefulTest, APrimaryThatCannotCommitMakesRoomForTheOther) {
  ASSERT_NO_FATAL_FAILURE(StartWith({"--commit_fails_if=" + full_}, {"--commit_fails_if="}));
  ExpectState(Host::kB, "protected");
  Fleet fleet(client());
  StreamClient* echo = fleet.Add(EchoPlan({.bytes = 1u << 30, .seed = TestSeed()}));
  fleet.AddTimer("timer", 10, 100);
  ASSERT_EQ(fleet.RunUntilAllReceive(1000, kPatience), "");
  Fill();
  ExpectTakenOverBy(Host::kB, &fleet);
  const auto ended = pair_->process(Host::kA).Wait(seconds(10));
  ASSERT_TRUE(ended.has_value());
  EXPECT_TRUE(WIFEXITED(*ended) && WEXITSTATUS(*ended) == 1);
  EXPECT_THAT(pair_->process(Host::kA).Log(),
              HasSubstr("workbench: the Server cannot commit: the workbench is broken"));
  echo->FinishEcho(100000);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  ExpectServes();
}

TEST_F(StatefulTest, APrimaryAloneThatCannotCommitGivesUp) {
  with_secondary_ = false;
  resets_allowed_ = true;
  flags_ = {"--commit_fails_if=" + full_};
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client());
  StreamClient* echo = fleet.Add(EchoPlan({.bytes = 1u << 30, .seed = TestSeed()}));
  ASSERT_EQ(fleet.RunUntilAllReceive(1000, kPatience), "");
  Fill();
  const auto ended = pair_->process(Host::kA).Wait(seconds(10));
  ASSERT_TRUE(ended.has_value());
  EXPECT_TRUE(WIFEXITED(*ended) && WEXITSTATUS(*ended) == 1);
  EXPECT_EQ(fleet.RunFor(milliseconds(300)), "") << "no FIN, no RST: this host is silent";
  EXPECT_FALSE(echo->done());
}

TEST_F(StatefulTest, ASecondaryThatCannotCommitNeverServes) {
  ASSERT_NO_FATAL_FAILURE(StartWith({"--commit_fails_if="}, {"--commit_fails_if=" + full_}));
  ExpectState(Host::kB, "protected");
  Fleet fleet(client());
  StreamClient* echo = fleet.Add(EchoPlan({.bytes = 1u << 30, .seed = TestSeed()}));
  ASSERT_EQ(fleet.RunUntilAllReceive(1000, kPatience), "");
  Fill();
  ExpectState(primary(), "solo", &fleet);
  ExpectUnusable(Host::kB, "the Server cannot commit");
  echo->FinishEcho(100000);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  pair_->process(Host::kA).Signal(SIGKILL);
  EXPECT_FALSE(Serves(Host::kB));
}

TEST_F(StatefulTest, ASecondaryThatBeginsWithOtherDataNeverServes) {
  ASSERT_NO_FATAL_FAILURE(StartWith({"--initial_state=3 keys"}, {"--initial_state=4 keys"}));
  ExpectUnusable(Host::kB,
                 "this node's data differ from the primary's: it begins with \\\"4 keys\\\", "
                 "the primary began with \\\"3 keys\\\"");
  ExpectState(primary(), "solo");
  ExpectServes();
}

TEST_F(StatefulTest, TheSameDataAreAPair) {
  flags_ = {"--initial_state=3 keys"};
  ASSERT_NO_FATAL_FAILURE(StartPair());
  pair_->process(Host::kA).Signal(SIGKILL);
  ExpectTakenOverBy(Host::kB);
  ExpectServes();
}

// Requests, and the end of the stream behind them, that the Server has put off for want of room.
TEST_F(StatefulTest, WhatWaitsForRoomSurvivesATakeover) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client());
  std::vector<StreamClient*> late;
  for (uint64_t bytes : {100000, 700000, 3000000}) {
    Plan plan = AnswerPlan(bytes, 15, TestSeed() + bytes);
    plan.reading = false;
    late.push_back(fleet.Add(plan));
  }
  ASSERT_EQ(fleet.RunUntilConnected(kPatience), "");
  ASSERT_EQ(fleet.RunFor(milliseconds(200)), "");
  late[0]->SetReading(true);
  ASSERT_EQ(fleet.RunUntil([&] { return late[0]->received() > 100000; }, kPatience), "");
  pair_->process(Host::kA).Signal(SIGKILL);
  ExpectTakenOverBy(Host::kB, &fleet);
  for (StreamClient* one : late) one->SetReading(true);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
}

}  // namespace
}  // namespace understudy::lab
