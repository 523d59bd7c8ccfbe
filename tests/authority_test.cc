// Who may serve, when networks lie about who lives, data is old, and heirs fail.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <cstdlib>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "tests/pair_fixture.h"

namespace understudy::lab {
namespace {

using testing::HasSubstr;

class AuthorityTest : public PairTest {
 protected:
  StreamClient* AddTalk(Fleet* fleet) {
    return fleet->Add(EchoPlan(
        {.bytes = 1u << 30, .seed = TestSeed(), .max_ahead = 2000, .pace = std::chrono::microseconds(500)}));
  }
  // A firewall on `host` that refuses the other node's connections and drops its datagrams.
  void Reject(Host host) {
    int status = -1;
    lab_->host(host).Run([&] {
      status = std::system(
          "nft 'add table ip wall; add chain ip wall in { type filter hook input priority 0; }; "
          "add rule ip wall in tcp dport 7100 reject with tcp reset; add rule ip wall in udp dport 7100 "
          "drop'");
    });
    ASSERT_EQ(status, 0) << "nft";
  }
  std::string Register() {
    std::ifstream file(pair_->arbiter_file());
    std::string line;
    std::getline(file, line);
    return line;
  }
  void WriteRegister(const std::string& line) {
    const std::string path = pair_->arbiter_file() + ".by-hand";
    std::ofstream(path) << line << "\n";
    ASSERT_EQ(rename(path.c_str(), pair_->arbiter_file().c_str()), 0);
  }
  // Of a node that ends by itself.
  void ExpectExit(Host host, int code, const std::string& said) {
    const auto status = pair_->process(host).Wait(kPatience);
    ASSERT_TRUE(status.has_value()) << "it runs on";
    EXPECT_TRUE(WIFEXITED(*status) && WEXITSTATUS(*status) == code) << *status;
    EXPECT_THAT(pair_->process(host).Log(), HasSubstr(said));
  }
  std::string Reason(Host host) {
    auto now = status(host).Status();
    return now.ok() ? now->json : now.status().ToString();
  }
};

// --- A refused connection is no proof of death ---------------------------------------------------

// The heir alone can ask the arbiter: so it takes over, and must wait until the other's lease is over.
TEST_F(AuthorityTest, AFirewallThatRejectsMakesNoSecondPrimary) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client());
  StreamClient* talk = AddTalk(&fleet);
  ASSERT_EQ(fleet.RunUntil([&] { return talk->received() > 10000; }, kPatience), "");
  pair_->CutArbiter(Host::kA);
  ASSERT_NO_FATAL_FAILURE(Reject(Host::kA));
  ExpectTakenOverBy(Host::kB, &fleet);
  ASSERT_EQ(fleet.RunFor(milliseconds(300)), "");
  pair_->RestoreArbiter(Host::kA);
  ExpectState(Host::kA, "silent", &fleet);
  talk->FinishEcho(1000);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  ExpectServes();
  ExpectLog(Host::kB, "(a is silent)");
}

TEST_F(AuthorityTest, AFirewallThatRejectsLetsNobodyBeginBesideAServingNode) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  pair_->process(Host::kA).Kill();
  ExpectTakenOverBy(Host::kB);
  ASSERT_NO_FATAL_FAILURE(Reject(Host::kB));
  ASSERT_TRUE(pair_->StartNode(Host::kA, "primary", {"--force_data_loss"}).ok());
  ExpectExit(Host::kA, 1, absl::StrCat(ToString(lab_->mac(Host::kB)), " on service0 answers"));
  EXPECT_TRUE(Serves(Host::kB));
  ExpectServes();
}

// A heir that is refused by the living and cannot be seen either: the register moves, and that tells.
TEST_F(AuthorityTest, AFirewallThatRejectsLetsNobodyBeginBesideAnHeir) {
  flags_ = {"--suspect_after_ms=400"};
  ASSERT_NO_FATAL_FAILURE(StartPair());
  // The heir hears no last word, and waits for the lease.
  ASSERT_NO_FATAL_FAILURE(Reject(Host::kB));
  pair_->process(Host::kA).Kill();
  ASSERT_TRUE(pair_->StartNode(Host::kA, "primary").ok());
  ExpectExit(Host::kA, 1, "cannot begin as primary");
  ExpectTakenOverBy(Host::kB);
  ExpectServes();
}

// --- The last word -------------------------------------------------------------------------------

TEST_F(AuthorityTest, TheWitnessTellsOfADeath) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  pair_->process(Host::kA).Kill();
  ExpectTakenOverBy(Host::kB);
  ExpectLog(Host::kB, "(the process of a is gone)");
  auto heard = status(Host::kB).Metric("understudy_last_words_heard_total");
  ASSERT_TRUE(heard.ok()) << heard.status();
  EXPECT_GE(*heard, 1);
  ExpectServes();
}

TEST_F(AuthorityTest, WithoutAWitnessTheLeaseRunsOut) {
  flags_ = {"--nowitness"};
  ASSERT_NO_FATAL_FAILURE(StartPair());
  pair_->process(Host::kA).Kill();
  ExpectTakenOverBy(Host::kB);
  ExpectLog(Host::kB, "(a is silent)");
  ExpectServes();
}

TEST_F(AuthorityTest, ADeadWitnessIsMissed) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  const std::string pid = std::to_string(pair_->process(Host::kA).pid());
  std::ifstream children("/proc/" + pid + "/task/" + pid + "/children");
  pid_t witness = -1;
  ASSERT_TRUE(children >> witness);
  ASSERT_EQ(kill(witness, SIGKILL), 0);
  Fleet fleet(client());
  StreamClient* talk = AddTalk(&fleet);
  ExpectLog(Host::kA, "the witness has died", &fleet);
  EXPECT_THAT(status(Host::kA).Status()->json, HasSubstr("\"warnings\":[\"the witness has died"));
  EXPECT_EQ(status(Host::kA).State(), "protected");
  pair_->process(Host::kA).Kill();
  ExpectTakenOverBy(Host::kB, &fleet);
  ExpectLog(Host::kB, "(a is silent)", &fleet);
  talk->FinishEcho(1000);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
}

// --- The register --------------------------------------------------------------------------------

TEST_F(AuthorityTest, WhoHoldsTheRegisterNoMoreFallsSilentAndEnds) {
  with_secondary_ = false;
  flags_ = {"--exit_when_useless"};
  ASSERT_NO_FATAL_FAILURE(StartPair());
  EXPECT_THAT(Reason(Host::kA), HasSubstr("no node has joined yet"));
  WriteRegister("understudy v=2 epoch=90 holder=c secondary= keepers=c end");
  ExpectState(Host::kA, "silent");
  EXPECT_THAT(Reason(Host::kA), HasSubstr("c serves"));
  ExpectExit(Host::kA, 3, "--role=secondary");
}

TEST_F(AuthorityTest, OldDataIsNotServed) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  pair_->process(Host::kA).Kill();
  ExpectTakenOverBy(Host::kB);
  pair_->process(Host::kB).Kill();
  ASSERT_TRUE(pair_->StartNode(Host::kA, "primary").ok());
  ExpectExit(Host::kA, 1, "the newest data is on b, not here");
  // Whoever has it may begin.
  ASSERT_TRUE(pair_->StartNode(Host::kB, "primary").ok());
  ExpectState(Host::kB, "solo");
  pair_->process(Host::kB).Kill();
  watch_.reset();  // it judges one change of speakers
  // And who must.
  ASSERT_TRUE(pair_->StartNode(Host::kA, "primary", {"--force_data_loss"}).ok());
  ExpectState(Host::kA, "solo");
  EXPECT_THAT(Register(), HasSubstr("holder=a"));
  ExpectServes();
}

// --- A replay that hangs -------------------------------------------------------------------------

class HungReplayTest : public AuthorityTest {
 protected:
  void StartWith(const std::vector<std::string>& flags) {
    flags_ = flags;
    with_secondary_ = false;
    ASSERT_NO_FATAL_FAILURE(StartPair());
    ASSERT_TRUE(pair_->StartNode(Host::kB, "secondary", {absl::StrCat("--hangs_if=", hang_)}).ok());
    for (Host host : {Host::kA, Host::kB}) ExpectState(host, "protected");
    epoch_ = status(Host::kA).Status()->epoch;
  }
  void Hang() { std::ofstream(hang_) << "x"; }
  void GoOn() { ASSERT_EQ(unlink(hang_.c_str()), 0); }

  TempDir dir_;
  const std::string hang_ = dir_.path() + "/hang";
};

TEST_F(HungReplayTest, DoesNotHoldThePrimaryUp) {
  ASSERT_NO_FATAL_FAILURE(StartWith({"--max_stall_ms=1000"}));
  Fleet fleet(client());
  StreamClient* talk = AddTalk(&fleet);
  ASSERT_EQ(fleet.RunUntil([&] { return talk->received() > 10000; }, kPatience), "");
  Hang();
  ExpectState(Host::kA, "solo", &fleet);
  EXPECT_THAT(Reason(Host::kA), HasSubstr("hangs"));
  ExpectLog(Host::kA, "serving without a secondary: the replay of b hangs");
  const uint64_t before = talk->received();
  ASSERT_EQ(fleet.RunUntil([&] { return talk->received() > before + 10000; }, kPatience), "");
  EXPECT_EQ(status(Host::kA).State(), "solo") << "it does not join again while it hangs";
  ASSERT_NO_FATAL_FAILURE(GoOn());
  ExpectState(Host::kA, "protected", &fleet);
  talk->FinishEcho(1000);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
}

// The heir of a primary that was only stopped cannot serve: it gives the epoch back, and nothing is lost.
TEST_F(HungReplayTest, AnHeirThatCannotServeGivesTheEpochBack) {
  ASSERT_NO_FATAL_FAILURE(StartWith({"--max_stall_ms=600"}));
  Fleet fleet(client());
  StreamClient* talk = AddTalk(&fleet);
  ASSERT_EQ(fleet.RunUntil([&] { return talk->received() > 10000; }, kPatience), "");
  Hang();
  const uint64_t before = talk->received();
  ASSERT_EQ(fleet.RunUntil([&] { return talk->received() > before; }, kPatience), "")
      << "something to replay";
  pair_->process(Host::kA).Signal(SIGSTOP);
  ASSERT_EQ(fleet.RunUntil([&] { return Register().find("holder= ") != std::string::npos; }, kPatience), "");
  EXPECT_THAT(Register(), HasSubstr("keepers=a,b"));
  pair_->process(Host::kA).Signal(SIGCONT);
  ExpectState(Host::kA, "solo", &fleet);
  talk->FinishEcho(1000);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  ExpectServes();
  ExpectExit(Host::kB, 1, "giving the epoch back");
}

}  // namespace
}  // namespace understudy::lab
