// What framework/server.h promises beyond calls and bytes: when Commit comes, what a full disk means, what
// must be the same on both nodes, and that no client makes a node's memory grow without bound.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>

#include "tests/pair_fixture.h"

namespace understudy::lab {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class ServerApiTest : public PairTest {
 protected:
  void StartWith(const std::vector<std::string>& flags_of_a, const std::vector<std::string>& flags_of_b) {
    with_secondary_ = false;
    flags_ = flags_of_a;
    ASSERT_NO_FATAL_FAILURE(StartPair());
    const absl::Status started = pair_->StartNode(Host::kB, "secondary", flags_of_b);
    ASSERT_TRUE(started.ok()) << started;
  }
  // The clients go on until `host` has logged `text`.
  // A client of its own: `words`, one a line, are answered like this.
  void ExpectRecord(const std::string& words, const std::string& answer) {
    Plan plan = AskPlan("RECORD\n" + words, answer);
    plan.half_close_after_send = true;
    Fleet fleet(client());
    fleet.Add(plan);
    EXPECT_EQ(fleet.RunUntilDone(kPatience), "") << words;
  }
  static bool IsThere(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

  TempDir dir_;
  const std::string full_ = dir_.path() + "/full", alone_a_ = dir_.path() + "/a",
                    alone_b_ = dir_.path() + "/b";
};

// --- A full disk ---------------------------------------------------------------------------------

constexpr char kFull[] = "the Server is told that there is no room to write";
constexpr char kWritable[] = "the nodes can write again";

TEST_F(ServerApiTest, WhenBothDisksAreFullTheServerRefusesAndServesOn) {
  flags_ = {"--commit_full_if=" + full_};
  ASSERT_NO_FATAL_FAILURE(StartPair());
  ExpectRecord("a\n", "kept a\n");
  std::ofstream(full_) << "yes";
  Fleet fleet(client());
  StreamClient* echo = fleet.Add(EchoPlan({.bytes = 1u << 30, .seed = TestSeed()}));
  ExpectLog(Host::kA, kFull, &fleet);
  ExpectRecord("b\n?\n", "full\na\n");
  pair_->process(Host::kA).Signal(SIGKILL);
  ExpectTakenOverBy(Host::kB, &fleet);
  ExpectRecord("c\n?\n", "full\na\n");  // it has learned of it through the log
  ASSERT_EQ(std::remove(full_.c_str()), 0);
  ExpectLog(Host::kB, kWritable, &fleet);
  ExpectRecord("d\n?\n", "kept d\nd\n");
  echo->FinishEcho(100000);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
}

TEST_F(ServerApiTest, TheDiskOfTheSecondaryCountsAsWell) {
  ASSERT_NO_FATAL_FAILURE(StartWith({"--commit_full_if="}, {"--commit_full_if=" + full_}));
  ExpectState(Host::kB, "protected");
  std::ofstream(full_) << "yes";
  Fleet fleet(client());
  StreamClient* echo = fleet.Add(EchoPlan({.bytes = 1u << 30, .seed = TestSeed()}));
  ExpectLog(Host::kA, kFull, &fleet);
  ExpectRecord("b\n", "full\n");
  ASSERT_EQ(std::remove(full_.c_str()), 0);
  ExpectLog(Host::kA, kWritable, &fleet);
  ExpectRecord("c\n", "kept c\n");
  ExpectState(Host::kB, "protected", &fleet);
  echo->FinishEcho(100000);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
}

// The word FILL fills the disk itself: what is answered to it is executed and not durable, and who is alone
// tells nobody.
TEST_F(ServerApiTest, ANodeThatIsAloneKeepsBackWhatItCannotWrite) {
  with_secondary_ = false;
  flags_ = {"--commit_full_if=" + full_};
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Plan plan = AskPlan("RECORD\nFILL\n?\n", "kept FILL\nFILL\n");
  plan.half_close_after_send = true;
  Fleet fleet(client());
  StreamClient* held = fleet.Add(plan);
  ExpectLog(Host::kA, kFull, &fleet);
  ExpectRecord("a\n?\n", "full\nFILL\n");
  ASSERT_EQ(fleet.RunFor(milliseconds(100)), "");
  EXPECT_EQ(held->received(), 0u);
  ASSERT_EQ(std::remove(full_.c_str()), 0);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  ExpectRecord("b\n?\n", "kept b\nb\n");
}

// --- Alone ---------------------------------------------------------------------------------------

// An echo of two parts, the second sent when released.
Plan TwoParts() {
  Plan plan = EchoPlan({.bytes = 2000, .seed = 7});
  plan.send_first = 1000;
  return plan;
}

TEST_F(ServerApiTest, AnHeirCommitsAloneBeforeItAnswers) {
  ASSERT_NO_FATAL_FAILURE(StartWith({"--commit_alone_to=" + alone_a_}, {"--commit_alone_to=" + alone_b_}));
  ExpectState(Host::kB, "protected");
  Fleet fleet(client());
  StreamClient* echo = fleet.Add(TwoParts());
  ASSERT_EQ(fleet.RunUntil([&] { return echo->received() > 900; }, kPatience), "");
  EXPECT_FALSE(IsThere(alone_b_));
  pair_->process(Host::kA).Signal(SIGKILL);
  ASSERT_TRUE(pair_->process(Host::kA).Wait(seconds(10)).has_value());
  const uint64_t before = echo->received();
  echo->ReleaseSend();
  ASSERT_EQ(fleet.RunUntil([&] { return echo->received() > before; }, kPatience), "");
  EXPECT_TRUE(IsThere(alone_b_));
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
}

TEST_F(ServerApiTest, APrimaryThatHasLostItsSecondaryCommitsAloneBeforeItAnswers) {
  ASSERT_NO_FATAL_FAILURE(StartWith({"--commit_alone_to=" + alone_a_}, {"--commit_alone_to=" + alone_b_}));
  ExpectState(Host::kB, "protected");
  Fleet fleet(client());
  StreamClient* echo = fleet.Add(TwoParts());
  ASSERT_EQ(fleet.RunUntil([&] { return echo->received() > 900; }, kPatience), "");
  ASSERT_EQ(std::remove(alone_a_.c_str()), 0) << "from before there was a secondary";
  pair_->process(Host::kB).Signal(SIGSTOP);
  const uint64_t before = echo->received();
  echo->ReleaseSend();
  ASSERT_EQ(fleet.RunUntil([&] { return echo->received() > before; }, kPatience), "");
  EXPECT_TRUE(IsThere(alone_a_));
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  pair_->process(Host::kB).Signal(SIGKILL);
}

// --- What must agree -----------------------------------------------------------------------------

TEST_F(ServerApiTest, NodesThatDifferInAFlagOfTheApplicationAreNoPair) {
  ASSERT_NO_FATAL_FAILURE(StartWith({"--must_agree=one"}, {"--must_agree=two"}));
  Fleet nobody(client());
  const std::string what = "--must_agree must be the same on both nodes, and is ";
  ExpectLog(Host::kA, what, &nobody);
  ExpectLog(Host::kB, what, &nobody);
  ExpectState(Host::kB, "joining");
  ExpectState(Host::kA, "solo");
  ExpectServes();
}

TEST_F(ServerApiTest, NodesThatDifferInALimitAreNoPair) {
  ASSERT_NO_FATAL_FAILURE(StartWith({"--max_pending_output_mb=3"}, {"--max_pending_output_mb=4"}));
  Fleet nobody(client());
  ExpectLog(Host::kB,
            "--max_pending_output_mb must be the same on both nodes, and is \"3\" on a and \"4\" on b",
            &nobody);
  ExpectState(Host::kA, "solo");
}

TEST_F(ServerApiTest, NodesThatDifferInWhatTheyWaitForAreNoPair) {
  ASSERT_NO_FATAL_FAILURE(StartWith({}, {"--suspect_after_ms=12345"}));
  Fleet nobody(client());
  const std::string what = "--suspect_after_ms must be the same on both nodes, and is ";
  ExpectLog(Host::kA, what, &nobody);
  ExpectLog(Host::kB, what, &nobody);
  ExpectState(Host::kA, "solo");
  EXPECT_EQ(status(Host::kA).Status()->epoch, 1u) << "it was not even begun with";
}

// --- Memory --------------------------------------------------------------------------------------

TEST_F(ServerApiTest, AClientThatDoesNotTakeItsOutputIsEndedAloneOnBothNodes) {
  resets_allowed_ = true;
  flags_ = {"--max_pending_output_mb=4"};
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet others(client()), greedy(client());
  StreamClient* echo = others.Add(EchoPlan({.bytes = 1u << 30, .seed = TestSeed()}));
  Plan plan = AskPlan("FLOOD 6000000 1\n", std::string(6'000'000, '?'));
  plan.reading = false;
  const StreamClient* asks = greedy.Add(plan);
  ASSERT_EQ(greedy.RunUntil([&] { return asks->sent() == plan.send.size(); }, kPatience), "");
  ExpectLog(Host::kA, "(--max_pending_output_mb)", &others);
  ExpectLog(Host::kB, "(--max_pending_output_mb)", &others);
  EXPECT_THAT(greedy.RunUntilDone(kPatience), HasSubstr("reset"));
  pair_->process(Host::kA).Signal(SIGKILL);
  ExpectTakenOverBy(Host::kB, &others);
  echo->FinishEcho(100000);
  EXPECT_EQ(others.RunUntilDone(kPatience), "");
}

TEST_F(ServerApiTest, TheLargestOfManyHalfRequestsIsEnded) {
  resets_allowed_ = true;
  flags_ = {"--max_buffered_mb=4"};
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet small(client()), large(client());
  const std::vector<StreamClient*> gather = small.AddMany(6, [](int i) {
    Plan plan = GatherPlan(500'000, 1, TestSeed() + static_cast<uint64_t>(i));
    plan.send_first = 400'000;
    return plan;
  });
  const auto sent = [&] {
    return std::all_of(gather.begin(), gather.end(), [](const auto* one) { return one->sent() >= 400'000; });
  };
  ASSERT_EQ(small.RunUntil(sent, kPatience), "");
  large.Add(GatherPlan(30'000'000, 1, TestSeed()));
  EXPECT_THAT(large.RunUntilDone(kPatience), HasSubstr("reset"));
  ExpectLog(Host::kB, "(--max_buffered_mb)", &small);
  for (StreamClient* one : gather) one->ReleaseSend();
  EXPECT_EQ(small.RunUntilDone(kPatience), "");
}

// --- Requests that the Server does not survive ---------------------------------------------------

constexpr char kThrew[] = "(Received), connection ";
constexpr char kBegin[] = "bytes, which begin 54 48 52 4f 57 0a";  // THROW

// `request` ends A's process, and how; B ends the connection and serves all others.
class PoisonTest : public ServerApiTest {
 protected:
  void ExpectSurvived(const std::string& request, int* ended) {
    resets_allowed_ = true;
    ASSERT_NO_FATAL_FAILURE(StartPair());
    Fleet others(client()), poison(client());
    StreamClient* echo = others.Add(EchoPlan({.bytes = 1u << 30, .seed = TestSeed()}));
    ASSERT_EQ(others.RunUntilAllReceive(1000, kPatience), "");
    poison.Add(AskPlan(request, ""));
    EXPECT_THAT(poison.RunUntilDone(kPatience), HasSubstr("reset"));
    ExpectTakenOverBy(Host::kB, &others);
    const auto status = pair_->process(Host::kA).Wait(seconds(10));
    ASSERT_TRUE(status.has_value());
    *ended = *status;
    ExpectLog(Host::kB, "(the process of a is gone)", &others);  // its witness said so
    ExpectLog(Host::kB, "the other node's Server threw, or died, in a call for connection ", &others);
    echo->FinishEcho(100000);
    EXPECT_EQ(others.RunUntilDone(kPatience), "");
  }
};

TEST_F(PoisonTest, TheOtherNodeSurvivesARequestThatMadeTheServerThrow) {
  int ended = 0;
  ASSERT_NO_FATAL_FAILURE(ExpectSurvived("THROW\n", &ended));
  EXPECT_TRUE(WIFEXITED(ended) && WEXITSTATUS(ended) == 1) << ended;
  ExpectNoSockets(Host::kA);
  EXPECT_THAT(pair_->process(Host::kA).Log(), AllOf(HasSubstr(kThrew), HasSubstr(kBegin)));
}

// The heir has not got the request, and the client sends it again: it is not to be the end of both.
TEST_F(PoisonTest, TheOtherNodeSurvivesARequestThatEndedTheProcess) {
  int ended = 0;
  ASSERT_NO_FATAL_FAILURE(ExpectSurvived("CRASH\n", &ended));
  EXPECT_TRUE(WIFSIGNALED(ended) && WTERMSIG(ended) == SIGSEGV) << ended;
}

TEST_F(ServerApiTest, ATransactionalServerThrowsAndServesOn) {
  resets_allowed_ = true;
  flags_ = {"--transactional"};
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet others(client()), poison(client());
  StreamClient* echo = others.Add(EchoPlan({.bytes = 1u << 30, .seed = TestSeed()}));
  poison.Add(AskPlan("THROW\n", ""));
  EXPECT_THAT(poison.RunUntilDone(kPatience), HasSubstr("reset"));
  ExpectLog(Host::kA, kBegin, &others);
  ExpectLog(Host::kB, kBegin, &others);
  ExpectState(Host::kB, "protected", &others);
  echo->FinishEcho(100000);
  EXPECT_EQ(others.RunUntilDone(kPatience), "");
}

TEST_F(ServerApiTest, ASignalIsExplained) {
  resets_allowed_ = true;
  with_secondary_ = false;
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet poison(client());
  poison.Add(AskPlan("CRASH\n", ""));
  const auto ended = [&] { return !pair_->process(Host::kA).running(); };
  EXPECT_EQ(poison.RunUntil(ended, kPatience), "");
  EXPECT_THAT(pair_->process(Host::kA).Log(),
              AllOf(HasSubstr("the process died inside a call of the Server: record "),
                    HasSubstr("bytes, which begin 43 52 41 53 48 0a")));
}

// --- Requests that are left unread ---------------------------------------------------------------

// The Server's own mark is far below high_water(); the client half-closes behind 400 requests.
TEST_F(ServerApiTest, PipelinedRequestsBelowTheHighWaterMarkAreAllAnswered) {
  flags_ = {"--answer_mark=1"};
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client());
  fleet.Add(AnswerPlan(1000, 400, TestSeed()));
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
}

}  // namespace
}  // namespace understudy::lab
