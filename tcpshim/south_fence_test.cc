// That nothing gets past the south wrapper's programs, on its interface or by another.
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/tcp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tcpshim/segment.h"
#include "tcpshim/sockaddr.h"
#include "tcpshim/south_attachment.h"
#include "tcpshim/south_wrapper.h"
#include "tcpshim/south_wrapper_for_test.h"
#include "tcpshim/unique_fd.h"
#include "tcpshim/wait_for_test.h"

namespace understudy::tcpshim {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// --- Nothing gets past it ------------------------------------------------------------------------

// Programs and filters of others: that of the name lets everything through at once.
class FenceTest : public SouthWrapperTest, public testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    SouthWrapperTest::SetUp();
    tcx_ = GetParam();
  }
  void TearDown() override {
    stranger_.reset();
    SouthWrapperTest::TearDown();
  }

  // A connection whose acknowledgements are held; whether one gets past.
  void BeginHolding() {
    Listen();
    c_ = Establish();
    // Nothing is acknowledged: each must go out all the same.
    const int on = 1;
    EXPECT_EQ(setsockopt(c_.client.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), 0);
    SendAll(c_.client, "held?");
    EXPECT_EQ(Receive(c_.server, 5), "held?");
    EXPECT_TRUE(Eventually([&] { return Count(SOUTH_EGRESS_ACK_HELD) > 0; }));
  }
  bool IsHeld() {
    const uint64_t before = Count(SOUTH_EGRESS_ACK_HELD);
    SendAll(c_.client, "more?");
    EXPECT_EQ(Receive(c_.server, 5), "more?");
    EXPECT_TRUE(
        Eventually([&] { return Count(SOUTH_EGRESS_ACK_HELD) > before || Unacknowledged(c_.client) == 0; }));
    return Unacknowledged(c_.client) > 0;
  }

  // A program of somebody who lets all pass: TC_ACT_OK, which is TCX_PASS.
  void LoadStranger() {
    const std::vector<bpf_insn> pass = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
        {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
    stranger_ = UniqueFd(
        bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "stranger", "GPL", pass.data(), pass.size(), nullptr));
    ASSERT_TRUE(stranger_) << strerror(errno);
  }

  // As a filter of tc's.
  void PassByFilter(uint32_t priority) {
    LoadStranger();
    bpf_tc_hook hook = {};
    hook.sz = sizeof(hook);
    hook.ifindex = static_cast<int>(if_nametoindex(kInterface));
    hook.attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS);
    const int made = bpf_tc_hook_create(&hook);
    ASSERT_TRUE(made == 0 || made == -EEXIST);
    hook.attach_point = BPF_TC_EGRESS;
    bpf_tc_opts filter = {};
    filter.sz = sizeof(filter);
    filter.priority = priority;
    filter.prog_fd = stranger_.get();
    ASSERT_EQ(bpf_tc_attach(&hook, &filter), 0);
  }

  // On tcx, ahead of all.
  void PassInFront() {
    LoadStranger();
    for (uint32_t type : {46u, 47u}) {
      struct {
        uint32_t interface_index, program, type, flags, replaced, relative;
        uint64_t revision;
      } call = {if_nametoindex(kInterface), static_cast<uint32_t>(stranger_.get()), type, 1u << 3, 0, 0, 0};
      ASSERT_EQ(syscall(SYS_bpf, BPF_PROG_ATTACH, &call, sizeof(call)), 0) << strerror(errno);
    }
  }

  Connection c_;
  UniqueFd stranger_;
};

// With tcx and without, as far as this kernel has it.
std::vector<bool> Ways() {
  return SouthAttachment::HaveTcx() ? std::vector{false, true} : std::vector{false};
}
std::string NameOfWay(const testing::TestParamInfo<bool>& info) {
  return info.param ? "WithTcx" : "WithoutTcx";
}

INSTANTIATE_TEST_SUITE_P(Kernel, FenceTest, testing::ValuesIn(Ways()), NameOfWay);

TEST_P(FenceTest, ItKnowsThatItIsMet) {
  Attach();
  const uint64_t before = Count(SOUTH_EGRESS_PROBE);
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(south_->Check().ok());
  EXPECT_EQ(Count(SOUTH_EGRESS_PROBE), before + 40);
  EXPECT_TRUE(Eventually([&] { return Count(SOUTH_INGRESS_PROBE) >= 20; })) << "and what comes in";
  EXPECT_EQ(south_->mended(), 0u);
  south_->CloseGate();
  EXPECT_TRUE(south_->Check().ok());
  EXPECT_EQ(south_->mended(), 0u) << "gate open or not";
  for (const Wire::Seen& seen : wire_->Look())
    EXPECT_FALSE(ParsePacket(seen.packet).ok()) << "a probe has left";
}

TEST_P(FenceTest, FilterOfTheLowestPriorityNumber) {
  PassByFilter(1);
  Attach();
  BeginHolding();
  EXPECT_TRUE(IsHeld()) << "one that was there before";
  EXPECT_TRUE(south_->Check().ok());
  EXPECT_EQ(south_->mended(), 0u);
  PassByFilter(2);
  EXPECT_TRUE(IsHeld());
  PassByFilter(1);
  EXPECT_TRUE(Eventually([&] { return Ready(south_->change_fd(), POLLIN); })) << "it is told";
  if (!tcx_) {
    EXPECT_FALSE(IsHeld()) << "this test tests nothing";
  }
  EXPECT_TRUE(south_->Check().ok());
  EXPECT_EQ(south_->mended(), tcx_ ? 0u : 1u);
  EXPECT_EQ(Programs(), 1u);
  EXPECT_TRUE(IsHeld());
}

TEST_P(FenceTest, QdiscTakenAway) {
  Attach();
  BeginHolding();
  // Where the programs do not hang on it, there is none.
  (void)system("tc qdisc add dev svc clsact 2>/dev/null");
  while (Ready(south_->change_fd(), POLLIN)) ASSERT_TRUE(south_->Check().ok());
  ASSERT_TRUE(Shell("tc qdisc del dev svc clsact"));
  EXPECT_TRUE(Eventually([&] { return Ready(south_->change_fd(), POLLIN); })) << "it is told";
  EXPECT_TRUE(south_->Check().ok());
  EXPECT_EQ(south_->mended(), tcx_ ? 0u : 1u);
  EXPECT_EQ(Programs(), 1u);
  EXPECT_TRUE(IsHeld());
}

TEST_P(FenceTest, WhoDisplacesItAgainAndAgain) {
  Attach();
  absl::Status status;
  int times = 0;
  for (; times < 50 && status.ok(); ++times) {
    stranger_.reset();
    if (tcx_) {
      PassInFront();
    } else {
      PassByFilter(1);
    }
    status = south_->Check();
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_GT(times, 3);
  EXPECT_LT(times, 20);
}

TEST_P(FenceTest, InterfaceThatIsDownIsNoHole) {
  Attach();
  ASSERT_TRUE(Shell("ip link set svc down"));
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(south_->Check().ok());
  ASSERT_TRUE(Shell("ip link set svc up"));
  EXPECT_TRUE(south_->Check().ok());
  EXPECT_EQ(south_->mended(), 0u);
}

// Where the programs are filters of tc's.
class FilterFenceTest : public FenceTest {};
INSTANTIATE_TEST_SUITE_P(Kernel, FilterFenceTest, testing::Values(false), NameOfWay);

TEST_P(FilterFenceTest, FiltersTakenAway) {
  Attach();
  BeginHolding();
  ASSERT_TRUE(Shell("tc filter del dev svc egress"));
  EXPECT_TRUE(south_->Check().ok());
  EXPECT_EQ(south_->mended(), 1u);
  EXPECT_TRUE(IsHeld());
}

// Where strangers have tcx: no test of kernels that do not.
class TcxStrangerTest : public FenceTest {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(TcxStrangerTest);
INSTANTIATE_TEST_SUITE_P(Kernel, TcxStrangerTest,
                         testing::ValuesIn(SouthAttachment::HaveTcx() ? Ways() : std::vector<bool>()),
                         NameOfWay);

TEST_P(TcxStrangerTest, ProgramInFrontThatLetsAllPass) {
  Attach();
  BeginHolding();
  PassInFront();
  EXPECT_FALSE(IsHeld()) << "this test tests nothing";
  if (tcx_) {
    EXPECT_TRUE(south_->Check().ok());
    EXPECT_EQ(south_->mended(), 1u);
    EXPECT_EQ(Programs(), 1u);
    EXPECT_TRUE(IsHeld());
  } else {
    // Before all filters: nothing can be done about it from there.
    const absl::Status status = south_->Check();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("svc"), HasSubstr("stranger")));
    // Nor does another begin there.
    south_.reset();
    const auto another = SouthWrapper::Attach(Options());
    EXPECT_EQ(another.status().code(), absl::StatusCode::kFailedPrecondition) << another.status();
  }
}

// --- Other interfaces of the host, in the same segment and in others -----------------------------

class ElsewhereTest : public FenceTest {
 protected:
  // A second pair of interfaces: "svc2" here, "cli2" at the client's. ARP is as Linux has it.
  void AddSecond() {
    ASSERT_TRUE(Shell(absl::StrCat("ip link add svc2 type veth peer name cli2 && ip link set cli2 netns ",
                                   client_->path())));
    ASSERT_TRUE(Shell("ip addr add 198.18.1.1/24 dev svc2 && ip link set svc2 up"));
    InClient([] { Shell("ip addr add 198.18.1.2/24 dev cli2 && ip link set cli2 up"); });
  }
  void TearDown() override {
    (void)system("ip link del svc2 2>/dev/null");
    FenceTest::TearDown();
  }
  // What the client's "cli2" gets for an ARP question about the service address.
  std::string AskOnSecond() {
    std::string out;
    InClient([&out] {
      out = Output(
          "ip neigh flush dev cli2; ping -c1 -W1 -I cli2 198.18.0.1 >/dev/null; ip neigh show dev cli2");
    });
    return out;
  }
};

INSTANTIATE_TEST_SUITE_P(Kernel, ElsewhereTest, testing::ValuesIn(Ways()), NameOfWay);

TEST_P(ElsewhereTest, NobodyLearnsTheServiceAddressThere) {
  AddSecond();
  // The cable may have come up a moment ago.
  EXPECT_TRUE(Eventually([&] { return absl::StrContains(AskOnSecond(), "lladdr"); }))
      << "this test tests nothing";
  Attach();
  EXPECT_THAT(AskOnSecond(), Not(HasSubstr("lladdr")));
  south_->CloseGate();
  EXPECT_THAT(AskOnSecond(), Not(HasSubstr("lladdr"))) << "a deposed host's neither";
}

// Its route leads elsewhere: it is told so in the handshake.
TEST_P(ElsewhereTest, ClientThatIsReachedElsewhereIsRefused) {
  Attach();
  AddSecond();  // later than this node began
  EXPECT_TRUE(Eventually([&] { return Ready(south_->change_fd(), POLLIN); }));
  EXPECT_TRUE(south_->Check().ok());
  Listen();
  UniqueFd client;
  InClient([&] {
    // As a router on that segment would send it.
    Shell("ip route add 198.18.0.1/32 via 198.18.1.1 dev cli2 src 198.18.1.2");
    client = UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  });
  auto mend = absl::MakeCleanup([] { InClient([] { Shell("ip route del 198.18.0.1/32"); }); });
  const sockaddr_in to = ToSockaddr(service_);
  EXPECT_EQ(connect(client.get(), Cast(to), sizeof(to)), -1);
  auto event = Event(SOUTH_EVENT_ELSEWHERE);
  ASSERT_TRUE(event);
  EXPECT_EQ(event->interface, if_nametoindex("svc2"));
  EXPECT_FALSE(Ready(client.get(), POLLOUT | POLLHUP)) << "the SYN-ACK has left";
  SendRst(*event);
  EXPECT_TRUE(Eventually([&] { return Ready(client.get(), POLLHUP); }));
  char byte;
  EXPECT_EQ(accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK), -1);
  EXPECT_EQ(recv(client.get(), &byte, 1, 0), -1);
  EXPECT_EQ(errno, ECONNREFUSED);
}

// The service's interface may be a bridge, whose frames leave through its ports.
TEST_P(ElsewhereTest, BridgeAndItsPort) {
  ASSERT_TRUE(Shell(
      "ip addr del 198.18.0.1/24 dev svc && ip link add br7 type bridge && ip link set svc master br7 && "
      "ip addr add 198.18.0.1/24 dev br7 && ip link set br7 up"));
  auto mend = absl::MakeCleanup([this] {
    south_.reset();
    Shell("ip link del br7");
  });
  SouthWrapper::Options options = Options();
  options.interface = "br7";
  auto south = SouthWrapper::Attach(options);
  ASSERT_TRUE(south.ok()) << south.status();
  south_ = *std::move(south);
  south_->OpenGate();
  south_->RenewUntil(Clock::now() + std::chrono::hours(1));
  BeginHolding();
  EXPECT_TRUE(IsHeld());
  south_->SetStable(c_.slot, c_.opened.ack + 10);
  EXPECT_TRUE(SendHeld(c_));
  EXPECT_TRUE(Eventually([&] { return Unacknowledged(c_.client) == 0; }));
  SendAll(c_.server, "fine");
  EXPECT_EQ(Receive(c_.client, 4), "fine");
  EXPECT_EQ(Count(SOUTH_EGRESS_ELSEWHERE), 0u);
}

}  // namespace
}  // namespace understudy::tcpshim
