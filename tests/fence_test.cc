// Somebody on the host gets in the way of the south wrapper's programs, or clients come another way: what
// must not leave does not, clients notice nothing, or at least the truth.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/pair_fixture.h"
#include "tests/situations.h"

namespace understudy::lab {
namespace {

using testing::HasSubstr;

class FenceTest : public PairTest {
 protected:
  void TearDown() override {
    for (int program : programs_) close(program);
    if (!programs_.empty() && watch_ != nullptr) {
      // What TCP has promised past the wrapper, nobody knows: the windows are not judged.
      watch_->Stop();
      const std::vector<SeenPacket> packets = watch_->Packets();
      EXPECT_THAT(Named(FindResets(packets)), testing::IsEmpty()) << HistoryOfAReset(packets);
      EXPECT_THAT(Named(FindTwoSpeakers(packets)), testing::IsEmpty());
      watch_.reset();
    }
    PairTest::TearDown();
  }

  // Programs that let everything pass, ahead of all others on the service's interface: on tcx where this
  // kernel has it, as the node's are, and else as a filter of the lowest priority number.
  void PassInFront(Host host) {
    const std::vector<bpf_insn> pass = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
        {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
    const int program =
        bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "stranger", "GPL", pass.data(), pass.size(), nullptr);
    ASSERT_GE(program, 0) << strerror(errno);
    programs_.push_back(program);
    lab_->host(host).Run([&] {
      struct {
        uint32_t interface_index, program, type, flags, replaced, relative;
        uint64_t revision;
      } call = {if_nametoindex(Lab::kServiceInterface), static_cast<uint32_t>(program), 47, 1u << 3, 0, 0, 0};
      if (syscall(SYS_bpf, BPF_PROG_ATTACH, &call, sizeof(call)) == 0) return;
      ASSERT_EQ(errno, EINVAL) << "on a kernel without tcx: " << strerror(errno);
      bpf_tc_hook hook = {};
      hook.sz = sizeof(hook);
      hook.ifindex = static_cast<int>(call.interface_index);
      hook.attach_point = BPF_TC_EGRESS;
      bpf_tc_opts filter = {};
      filter.sz = sizeof(filter);
      filter.priority = 1;
      filter.prog_fd = program;
      ASSERT_EQ(bpf_tc_attach(&hook, &filter), 0);
    });
  }

  StreamClient* StartClients(Fleet* fleet) {
    uint64_t seed = TestSeed();
    StreamClient* talk = fleet->Add(EchoPlan(
        {.bytes = 1u << 30, .seed = seed, .max_ahead = 2000, .pace = std::chrono::microseconds(500)}));
    fleet->Add(UploadPlan(16 << 20, seed + 1));
    // Slow enough to be under way during five seconds of displacements.
    Plan download = DownloadPlan(96 << 20, seed + 2);
    download.pace = std::chrono::milliseconds(1);
    download.piece = 16 << 10;
    fleet->Add(download);
    fleet->AddTimer("timer", 20, 50);
    EXPECT_EQ(fleet->RunUntil([&] { return talk->received() > 10000; }, kPatience), "");
    return talk;
  }

  int64_t PutBack(Host host) {
    const auto metric = status(host).Metric("understudy_south_programs_put_back_total");
    return metric.ok() ? static_cast<int64_t>(*metric) : -1;
  }

  std::vector<int> programs_;
};

TEST_F(FenceTest, ProgramsAreInFrontAgainWithinASecond) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client());
  StreamClient* talk = StartClients(&fleet);
  ASSERT_NO_FATAL_FAILURE(PassInFront(primary()));
  EXPECT_EQ(fleet.RunUntil([&] { return PutBack(primary()) == 1; }, kPatience), "");
  talk->FinishEcho(1000);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  EXPECT_EQ(status(primary()).State(), "protected");
  // A death still resets nobody.
  StreamClient* more = StartClients(&fleet);
  pair_->process(primary()).Kill();
  ExpectTakenOverBy(Host::kB, &fleet);
  more->FinishEcho(1000);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
}

// Somebody insists. The primary ends rather than speak past its wrapper, and says why.
TEST_F(FenceTest, PrimaryThatIsBypassedForGoodEnds) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client());
  StreamClient* talk = StartClients(&fleet);
  ASSERT_NO_FATAL_FAILURE(PassInFront(primary()));
  int64_t put_back = 0;
  EXPECT_EQ(fleet.RunUntil(
                [&] {
                  if (PutBack(primary()) > put_back) {
                    ++put_back;
                    PassInFront(primary());
                  }
                  return !pair_->process(primary()).running();
                },
                kPatience),
            "");
  EXPECT_THAT(pair_->process(primary()).Log(), HasSubstr("do not meet the south wrapper's programs"));
  ExpectTakenOverBy(Host::kB, &fleet);
  talk->FinishEcho(1000);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
}

// The host has another interface, and a client's route leads there.
TEST_F(FenceTest, ClientReachedByAnotherInterfaceIsRefused) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Namespace& host = lab_->host(primary());
  ASSERT_TRUE(host.Ip(absl::StrCat("link add other0 type veth peer name other1 netns ", client().path(),
                                   "\naddr add 198.18.7.1/24 dev other0\nlink set other0 up"))
                  .ok());
  ASSERT_TRUE(client()
                  .Ip(absl::StrCat("addr add 198.18.7.9/24 dev other1\nlink set other1 up\nroute add ",
                                   Lab::kServiceIp, "/32 via 198.18.7.1 dev other1 src 198.18.7.9"))
                  .ok());
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_port = htons(Lab::kServicePort);
  to.sin_addr.s_addr = htonl(0xc612000a);
  // The node hears of the new interface a moment later.
  int error = 0;
  const auto until = std::chrono::steady_clock::now() + kPatience;
  while (error != ECONNREFUSED && std::chrono::steady_clock::now() < until) {
    const int fd = client().Socket(AF_INET, SOCK_STREAM);
    error = connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 0 ? 0 : errno;
    close(fd);
  }
  EXPECT_EQ(error, ECONNREFUSED);
  ExpectLog(primary(), "the route to it leads through other0");
  ASSERT_TRUE(client().Ip(absl::StrCat("route del ", Lab::kServiceIp, "/32 dev other1")).ok());
  ExpectServes();
}

}  // namespace
}  // namespace understudy::lab
