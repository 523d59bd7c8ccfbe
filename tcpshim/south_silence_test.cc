// That nobody speaks whose time is over (I3), whatever has become of its process.
#include <fcntl.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

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

using ::testing::HasSubstr;

// --- Silence (I3) --------------------------------------------------------------------------------

TEST_F(SouthWrapperTest, ClosedGateSilencesTcpAndArp) {
  Attach();
  Listen();
  Connection c = Establish();
  south_->CloseGate();
  wire_->Clear();
  SendAll(c.server, "late");
  ASSERT_TRUE(Eventually([&] { return Count(SOUTH_EGRESS_SILENT_GATE) >= 2; }));
  // The client has forgotten the hardware address, and asks.
  const uint64_t before = Count(SOUTH_EGRESS_SILENT_GATE);
  InClient([] { Shell("ip neigh flush dev cli"); });
  SendAll(c.client, "hello?");
  ASSERT_TRUE(Eventually([&] { return Count(SOUTH_EGRESS_SILENT_GATE) > before; }));
  for (const Wire::Seen& seen : wire_->Look()) EXPECT_NE(seen.protocol, ETH_P_ARP);
  EXPECT_TRUE(wire_->Segments(service_).empty());
  EXPECT_FALSE(Ready(c.client.get(), POLLIN));
  south_->OpenGate();
  EXPECT_EQ(Receive(c.client, 4), "late");
  EXPECT_EQ(Receive(c.server, 6), "hello?");
}

TEST_F(SouthWrapperTest, PastTheDeadlineTheKernelIsSilent) {
  auto south = SouthWrapper::Attach(Options());
  ASSERT_TRUE(south.ok()) << south.status();
  south_ = *std::move(south);
  south_->OpenGate();
  auto deadline = Clock::now() + std::chrono::seconds(1);
  south_->RenewUntil(deadline);
  Listen();
  Connection c = Establish();
  ASSERT_LT(Clock::now(), deadline) << "the machine is too slow for this test";
  // Nobody does anything from here on.
  ASSERT_TRUE(Eventually([&] { return Clock::now() >= deadline; }));
  wire_->Clear();
  SendAll(c.server, "late");
  ASSERT_TRUE(Eventually([&] { return Count(SOUTH_EGRESS_SILENT_DEADLINE) >= 2; }));
  EXPECT_TRUE(hand_->Send(SynAckOf(c.opened)).ok()) << "swallowed like all others";
  EXPECT_TRUE(wire_->Segments(service_).empty());
  south_->RenewUntil(Clock::now() + std::chrono::hours(1));
  EXPECT_EQ(Receive(c.client, 4), "late");
}

// A stream of datagrams from the service's address, as a measure of silence.
class Stream {
 public:
  Stream(UniqueFd from, UniqueFd to) : from_(std::move(from)), to_(std::move(to)) {}

  // Sends one, and returns whether one came.
  bool Step() {
    const int64_t now = Clock::now().time_since_epoch().count();
    const sockaddr_in to = ToSockaddr({kClientIp, 9000});
    sendto(from_.get(), &now, sizeof(now), MSG_DONTWAIT, Cast(to), sizeof(to));
    bool came = false;
    int64_t at = 0;
    while (recv(to_.get(), &at, sizeof(at), MSG_DONTWAIT) == sizeof(at)) {
      last_ = Clock::time_point(Clock::duration(at));
      came = true;
    }
    return came;
  }
  // Sends until none has come for this long, and returns when the last that came was sent.
  std::optional<Clock::time_point> UntilSilent(std::chrono::milliseconds quiet) {
    auto until = Clock::now() + std::chrono::seconds(10);
    auto silent_from = Clock::now();
    while (Clock::now() - silent_from < quiet) {
      if (Step()) silent_from = Clock::now();
      if (Clock::now() > until) return std::nullopt;
    }
    return last_;
  }

 private:
  UniqueFd from_, to_;
  Clock::time_point last_;
};

class DeathTest : public SouthWrapperTest {
 protected:
  void TearDown() override {
    for (pid_t pid : children_) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
    SouthWrapperTest::TearDown();
  }

  std::unique_ptr<Stream> MakeStream() {
    UniqueFd from(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const sockaddr_in local = ToSockaddr({kServiceIp, 9001});
    EXPECT_EQ(bind(from.get(), Cast(local), sizeof(local)), 0);
    UniqueFd to;
    InClient([&to] {
      to = UniqueFd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      const sockaddr_in address = ToSockaddr({kClientIp, 9000});
      EXPECT_EQ(bind(to.get(), Cast(address), sizeof(address)), 0);
    });
    return std::make_unique<Stream>(std::move(from), std::move(to));
  }

  // A process that attaches, opens the gate and then does `rest`, which should not return.
  pid_t StartNode(const std::function<void(SouthWrapper&)>& rest) {
    int ready[2];
    EXPECT_EQ(pipe2(ready, O_CLOEXEC), 0);
    const pid_t pid = fork();
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      auto south = SouthWrapper::Attach(Options());
      if (!south.ok()) {
        std::cerr << south.status() << "\n";
        _exit(1);
      }
      (*south)->OpenGate();
      (*south)->RenewUntil(Clock::now() + std::chrono::milliseconds(100));
      if (write(ready[1], "r", 1) != 1) _exit(1);
      rest(**south);
      _exit(0);
    }
    children_.push_back(pid);
    close(ready[1]);
    char byte;
    EXPECT_EQ(read(ready[0], &byte, 1), 1) << "the node did not start";
    close(ready[0]);
    return pid;
  }

  static void Renew(SouthWrapper& south, std::chrono::milliseconds ahead) {
    for (;;) {
      south.RenewUntil(Clock::now() + ahead);
      poll(nullptr, 0, 5);
    }
  }

  std::vector<pid_t> children_;
};

TEST_F(DeathTest, DeadProcessIsSilentAtOnceAndReplacedWithoutAGap) {
  auto stream = MakeStream();
  ASSERT_TRUE(Eventually([&] { return stream->Step(); }));
  const pid_t node = StartNode([](SouthWrapper& south) { Renew(south, std::chrono::hours(1)); });
  ASSERT_TRUE(Eventually([&] { return stream->Step(); })) << "the gate is open";

  // While it lives, nobody else may have its place.
  auto second = SouthWrapper::Attach(Options());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists) << second.status();
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(service_.ToString()));
  ASSERT_TRUE(Eventually([&] { return stream->Step(); })) << "the attempt did it no harm";

  const auto killed = Clock::now();
  ASSERT_EQ(kill(node, SIGKILL), 0);
  auto last = stream->UntilSilent(std::chrono::milliseconds(300));
  ASSERT_TRUE(last) << "the dead process's kernel goes on speaking";
  const double after = std::chrono::duration<double, std::milli>(*last - killed).count();
  std::cout << "last packet " << after << " ms after SIGKILL\n";
  EXPECT_LT(after, 1000);
  EXPECT_EQ(Programs(), 1u);

  // A new process: silent until it opens the gate.
  Attach();
  south_->CloseGate();
  EXPECT_EQ(Programs(), 1u);
  ASSERT_TRUE(Eventually([&] {
    EXPECT_FALSE(stream->Step());
    return Count(SOUTH_EGRESS_SILENT_GATE) > 100;
  }));
  south_->OpenGate();
  EXPECT_TRUE(Eventually([&] { return stream->Step(); }));
  south_.reset();
  EXPECT_EQ(Programs(), 0u);
}

// A child that writes a checkpoint may outlive its parent. It has descriptors of the same maps.
TEST_F(DeathTest, ForkedChildDoesNotSpeakForItsDeadParent) {
  auto stream = MakeStream();
  int alive[2];
  int leave[2];
  ASSERT_EQ(pipe2(alive, O_CLOEXEC), 0);
  ASSERT_EQ(pipe2(leave, O_CLOEXEC), 0);
  const pid_t node = StartNode([&](SouthWrapper& south) {
    close(leave[1]);
    if (fork() == 0) {
      char byte;
      if (write(alive[1], "a", 1) != 1) _exit(1);
      _exit(read(leave[0], &byte, 1) == 0 ? 0 : 1);
    }
    Renew(south, std::chrono::hours(1));
  });
  close(alive[1]);
  char byte;
  ASSERT_EQ(read(alive[0], &byte, 1), 1);
  ASSERT_TRUE(Eventually([&] { return stream->Step(); }));
  kill(node, SIGKILL);
  EXPECT_TRUE(stream->UntilSilent(std::chrono::milliseconds(300)));
  // The pipe's other end is still open in the child: it lives.
  EXPECT_FALSE(Ready(alive[0], POLLHUP));
  waitpid(node, nullptr, 0);
  auto heir = SouthWrapper::Attach(Options());
  EXPECT_TRUE(heir.ok()) << heir.status();
  close(leave[1]);
  EXPECT_TRUE(Eventually([&] { return Ready(alive[0], POLLHUP); }));
  close(leave[0]);
  close(alive[0]);
}

// The end of a forked child, with destructors, does not take the parent's filters off.
TEST_F(DeathTest, ForkedChildsDestructorLeavesTheFilters) {
  Attach();
  const pid_t child = fork();
  if (child == 0) {
    south_.reset();
    _exit(0);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(Programs(), 1u);
  EXPECT_EQ(Programs(SouthAttachment::kIngress), 1u);
  auto stream = MakeStream();
  EXPECT_TRUE(Eventually([&] { return stream->Step(); })) << "the verdicts are still there";
}

TEST_F(DeathTest, StoppedProcessIsSilentAtItsDeadline) {
  auto stream = MakeStream();
  const pid_t node = StartNode([](SouthWrapper& south) { Renew(south, std::chrono::milliseconds(100)); });
  ASSERT_TRUE(Eventually([&] { return stream->Step(); }));
  const auto stopped = Clock::now();
  kill(node, SIGSTOP);
  auto last = stream->UntilSilent(std::chrono::milliseconds(300));
  ASSERT_TRUE(last);
  const double after = std::chrono::duration<double, std::milli>(*last - stopped).count();
  std::cout << "last packet " << after << " ms after SIGSTOP, with 100 ms renewed each 5 ms\n";
  EXPECT_LT(after, 150);
  kill(node, SIGCONT);
  EXPECT_TRUE(Eventually([&] { return stream->Step(); }));
}

}  // namespace
}  // namespace understudy::tcpshim
