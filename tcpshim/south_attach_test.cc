// What can go wrong when the south wrapper is attached, or its sender opened.
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tcpshim/raw_sender.h"
#include "tcpshim/segment.h"
#include "tcpshim/south_wrapper.h"
#include "tcpshim/south_wrapper_for_test.h"
#include "tcpshim/unique_fd.h"
#include "tcpshim/wait_for_test.h"

namespace understudy::tcpshim {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

// --- What can go wrong ---------------------------------------------------------------------------

TEST_F(SouthWrapperTest, ErrorsSayWhatIsWrong) {
  SouthWrapper::Options options = Options();
  options.interface = "nosuch0";
  auto south = SouthWrapper::Attach(options);
  EXPECT_EQ(south.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(south.status().message()), HasSubstr("nosuch0"));
  options.interface = "a-name-too-long-for-an-interface";
  EXPECT_EQ(SouthWrapper::Attach(options).status().code(), absl::StatusCode::kNotFound);
  options.interface = "";
  EXPECT_EQ(SouthWrapper::Attach(options).status().code(), absl::StatusCode::kNotFound);

  options = Options();
  options.service.port = 0;
  EXPECT_EQ(SouthWrapper::Attach(options).status().code(), absl::StatusCode::kInvalidArgument);
  options = Options();
  options.max_connections = 0;
  EXPECT_EQ(SouthWrapper::Attach(options).status().code(), absl::StatusCode::kInvalidArgument);

  if (system("ip tuntap add dev tun7 mode tun 2>/dev/null") == 0) {
    options = Options();
    options.interface = "tun7";
    south = SouthWrapper::Attach(options);
    EXPECT_EQ(south.status().code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(south.status().message()), HasSubstr("Ethernet"));
    Shell("ip link del tun7");
  }
  EXPECT_THAT(Output("tc qdisc show dev svc"), Not(HasSubstr("clsact"))) << "failures leave nothing";
}

// Runs `body` in a process of its own; returns what it returned.
std::string InChild(const std::function<std::string()>& body) {
  int result[2];
  EXPECT_EQ(pipe2(result, O_CLOEXEC), 0);
  const pid_t pid = fork();
  if (pid == 0) {
    const std::string text = body();
    _exit(write(result[1], text.data(), text.size()) == static_cast<ssize_t>(text.size()) ? 0 : 1);
  }
  close(result[1]);
  std::string text;
  std::array<char, 4096> buffer;
  for (;;) {
    const ssize_t n = read(result[0], buffer.data(), buffer.size());
    if (n <= 0) break;
    text.append(buffer.data(), static_cast<size_t>(n));
  }
  close(result[0]);
  waitpid(pid, nullptr, 0);
  return text;
}

// The same with these capabilities only.
std::string WithCapabilities(const std::vector<unsigned>& capabilities,
                             const std::function<std::string()>& body) {
  return InChild([&]() -> std::string {
    __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    std::array<__user_cap_data_struct, 2> data = {};
    for (unsigned capability : capabilities) {
      data[capability / 32].effective |= 1u << capability % 32;
      data[capability / 32].permitted |= 1u << capability % 32;
    }
    if (syscall(SYS_capset, &header, data.data()) != 0) return absl::StrCat("capset: ", strerror(errno));
    return body();
  });
}

TEST_F(SouthWrapperTest, MissingCapabilitiesAreNamed) {
  auto attach = [this] { return SouthWrapper::Attach(Options()).status().ToString(); };
  EXPECT_THAT(WithCapabilities({}, attach),
              AllOf(HasSubstr("PERMISSION_DENIED"),
                    HasSubstr("Missing here: CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF, CAP_PERFMON;"),
                    HasSubstr("setcap")));
  EXPECT_THAT(WithCapabilities({CAP_NET_ADMIN, CAP_NET_RAW, CAP_PERFMON}, attach),
              AllOf(HasSubstr("PERMISSION_DENIED"), HasSubstr("here: CAP_BPF;")));
  EXPECT_THAT(WithCapabilities({CAP_BPF, CAP_NET_ADMIN, CAP_NET_RAW}, attach),
              AllOf(HasSubstr("PERMISSION_DENIED"), HasSubstr("here: CAP_PERFMON;")));
  EXPECT_THAT(WithCapabilities({CAP_BPF, CAP_NET_RAW, CAP_PERFMON}, attach),
              AllOf(HasSubstr("PERMISSION_DENIED"), HasSubstr("here: CAP_NET_ADMIN;")));
  EXPECT_EQ(WithCapabilities({CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN, CAP_NET_RAW}, attach), "OK")
      << "what the message tells people to grant must be enough";
}

// Runs `body` in a process whose CLOCK_MONOTONIC is that many seconds ahead; returns what it returned.
std::string InTimeNamespace(int seconds, const std::function<std::string()>& body) {
  const auto offset = [seconds, &body]() -> std::string {
    if (unshare(CLONE_NEWTIME) != 0) return absl::StrCat("unshare: ", strerror(errno));
    const UniqueFd file(open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC));
    const std::string line = absl::StrCat("monotonic ", seconds, " 0");
    if (write(file.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
      return absl::StrCat("timens_offsets: ", strerror(errno));
    }
    return InChild(body);  // the namespace is that of the children
  };
  return InChild(offset);
}

TEST_F(SouthWrapperTest, ATimeNamespaceIsRefused) {
  const auto attach = [this] { return SouthWrapper::Attach(Options()).status().ToString(); };
  EXPECT_THAT(InTimeNamespace(86400, attach),
              AllOf(HasSubstr("FAILED_PRECONDITION"), HasSubstr("time namespace"), HasSubstr("86400."),
                    HasSubstr("ahead of")));
  EXPECT_THAT(InTimeNamespace(-2, attach), AllOf(HasSubstr("FAILED_PRECONDITION"), HasSubstr("behind")));
  EXPECT_EQ(InTimeNamespace(0, attach), "OK") << "a namespace without an offset does no harm";
}

TEST_F(SouthWrapperTest, RawSenderNamesMissingCapabilities) {
  auto open = [] { return RawSender::Open().status().ToString(); };
  EXPECT_THAT(WithCapabilities({}, open),
              AllOf(HasSubstr("PERMISSION_DENIED"), HasSubstr("CAP_NET_RAW is missing")));
  EXPECT_EQ(WithCapabilities({CAP_NET_RAW}, open), "OK");
}

TEST_F(SouthWrapperTest, RawSenderSendsWhatItIsGiven) {
  Segment segment;
  segment.source = {kServiceIp + 50, 1234};  // an address that nobody has
  segment.destination = {kClientIp, 80};
  segment.seq = 99;
  segment.flags.ack = true;
  segment.payload = "by hand";
  ASSERT_TRUE(hand_->Send(segment).ok());
  bool came = false;
  EXPECT_TRUE(Eventually([&] {
    for (const Wire::Seen& seen : wire_->Look()) {
      auto parsed = ParsePacket(seen.packet, Checksum::kVerified);
      came = came || (parsed.ok() && parsed->source == segment.source && parsed->seq == 99 &&
                      parsed->payload == "by hand");
    }
    return came;
  }));
  segment.destination.ip = 0x0a000001;
  EXPECT_EQ(hand_->Send(segment).code(), absl::StatusCode::kUnavailable) << "no route";
  const std::string large(5000, 'x');
  segment.destination.ip = kClientIp;
  segment.payload = large;
  EXPECT_EQ(hand_->Send(segment).code(), absl::StatusCode::kInvalidArgument) << "above the MTU";
}

}  // namespace
}  // namespace understudy::tcpshim
