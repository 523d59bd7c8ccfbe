// SIGTERM: a node without another leaves no client in silence. (With another it is a takeover: status_test.)
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include "tests/pair_fixture.h"

namespace understudy::lab {
namespace {

enum class Alone { kFromTheStart, kAfterATakeover };

class StopTest : public PairTest, public testing::WithParamInterface<Alone> {
 protected:
  // The node that is alone when this returns.
  Host BecomeAlone(Fleet& fleet) {
    if (GetParam() == Alone::kFromTheStart) return Host::kA;
    Inject(Host::kA, FaultKind::kKilled);
    ExpectTakenOverBy(Host::kB, &fleet);
    return Host::kB;
  }
};

TEST_P(StopTest, ClientsGetTheirAnswersAndAFin) {
  with_secondary_ = GetParam() == Alone::kAfterATakeover;
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client());
  const uint64_t seed = TestSeed();
  // One whose answer has not all left: more than a socket buffer holds, and not read before the end.
  constexpr uint64_t kUnread = 3 << 20;
  Plan slow = AnswerPlan(kUnread, 1, seed);
  slow.reading = false;
  slow.half_close_after_send = false;
  StreamClient* reader = fleet.Add(slow);
  // Idle ones, and one that has sent half a request. None of them ends its side first.
  std::vector<StreamClient*> others;
  for (const char* said : {"ECHO\nhello", "ECHO\n", "GATHER 100\nhalf"}) {
    Plan plan;
    plan.name = said;
    plan.send.prefix = said;
    plan.expect.prefix = std::string(said) == "ECHO\nhello" ? "hello" : "";
    plan.half_close_after_send = false;
    others.push_back(fleet.Add(plan));
  }
  ASSERT_EQ(fleet.RunUntil([&] { return others[0]->received() == 5; }, kPatience), "");
  ASSERT_EQ(fleet.RunUntilConnected(kPatience), "");
  const Host alone = BecomeAlone(fleet);
  Process& process = pair_->process(alone);
  // Everything that was asked has been executed: three megabytes are waiting for the reader.
  ASSERT_EQ(fleet.RunUntil(
                [&] {
                  const auto status = this->status(alone).Status();
                  // An epoch, and of each client a SYN, its end of the handshake, and bytes.
                  return status.ok() && status->connections == 4 && status->stable_lsn >= 13;
                },
                kPatience),
            "");
  process.Signal(SIGTERM);
  reader->SetReading(true);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");  // all bytes, then the end of the stream
  const auto ended = process.Wait(seconds(10));
  ASSERT_TRUE(ended.has_value());
  EXPECT_TRUE(WIFEXITED(*ended) && WEXITSTATUS(*ended) == 0) << *ended;
}  // TearDown: no RST on the wire

TEST_P(StopTest, AClientThatDoesNotReadHoldsItUpNoLongerThanAllowed) {
  with_secondary_ = GetParam() == Alone::kAfterATakeover;
  flags_ = {"--stop_within_ms=300"};
  resets_allowed_ = true;  // the client's, when it goes with all that it has not read
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client());
  Plan deaf = DownloadPlan(64 << 20, TestSeed());
  deaf.reading = false;
  fleet.Add(deaf);
  ASSERT_EQ(fleet.RunUntilConnected(kPatience), "");
  Process& process = pair_->process(BecomeAlone(fleet));
  process.Signal(SIGTERM);
  const auto ended = process.Wait(seconds(20));
  ASSERT_TRUE(ended.has_value());
  EXPECT_TRUE(WIFEXITED(*ended) && WEXITSTATUS(*ended) == 0) << *ended;
}

INSTANTIATE_TEST_SUITE_P(Each, StopTest, testing::Values(Alone::kFromTheStart, Alone::kAfterATakeover),
                         [](const auto& info) {
                           return info.param == Alone::kFromTheStart ? "FromTheStart" : "AfterATakeover";
                         });

}  // namespace
}  // namespace understudy::lab
