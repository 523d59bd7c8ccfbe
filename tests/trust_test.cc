// Who may be the other node: what strangers on the replication network, and others who only say to be the
// peer, bring about. Nothing: neither a role, nor the log, nor a wait.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <thrift/protocol/TBinaryProtocol.h>
#include <thrift/transport/TBufferTransports.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <deque>
#include <fstream>
#include <iterator>
#include <thread>

#include "absl/strings/str_cat.h"
#include "replication/PrimaryService.h"
#include "replication/pulse.h"
#include "replication/replication_constants.h"
#include "tests/pair_fixture.h"

namespace understudy::lab {
namespace {

namespace wire = replication::wire;

constexpr char kStranger[] = "198.18.1.77";  // of host b, but not its --replication

// A join as a node without a key says it.
std::string Join(const std::string& node) {
  auto buffer = std::make_shared<apache::thrift::transport::TMemoryBuffer>();
  wire::PrimaryServiceClient client(std::make_shared<apache::thrift::protocol::TBinaryProtocol>(buffer));
  wire::JoinRequest request;
  request.protocol_version = wire::g_replication_constants.PROTOCOL_VERSION;
  request.service_address = Lab::service();
  request.node = node;
  request.epoch = request.last_lsn = 0;
  client.send_join(request);
  const std::string message = buffer->getBufferAsString();
  const uint32_t size = htonl(static_cast<uint32_t>(message.size()));
  return std::string(reinterpret_cast<const char*>(&size), 4) + message;
}

class TrustTest : public PairTest {
 protected:
  void Start() {
    ASSERT_NO_FATAL_FAILURE(StartPair());
    const absl::Status added =
        lab_->host(Host::kB).Ip(absl::StrCat("addr add ", kStranger, "/24 dev ", Lab::kReplicationInterface));
    ASSERT_TRUE(added.ok()) << added;
  }

  // Host b's connection to a's replication port from that address, perhaps not made yet.
  int Dial(const std::string& from) {
    const int fd = lab_->host(Host::kB).Socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
    sockaddr_in own = AddressOf(from, 0),
                to = AddressOf(Lab::replication_ip(Host::kA), Pair::kReplicationPort);
    EXPECT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&own), sizeof own), 0) << strerror(errno);
    EXPECT_TRUE(connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0 || errno == EINPROGRESS);
    return fd;
  }
  static sockaddr_in AddressOf(const std::string& ip, uint16_t port) {
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    EXPECT_EQ(inet_pton(AF_INET, ip.c_str(), &address.sin_addr), 1);
    return address;
  }

  // Says `bytes` from there; what a answers until it closes.
  std::string Answer(const std::string& from, const std::string& bytes) {
    const int fd = Dial(from);
    std::string answer;
    bool said = false;
    Fleet nobody(client());
    const std::string late = nobody.RunUntil(
        [&] {
          if (!said) said = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL) > 0 || errno != EAGAIN;
          char some[4096];
          const ssize_t n = recv(fd, some, sizeof some, 0);
          if (n > 0) answer.append(some, static_cast<size_t>(n));
          return n == 0 || (n < 0 && errno != EAGAIN);
        },
        kPatience);
    EXPECT_EQ(late, "") << "the link is kept";
    close(fd);
    return answer;
  }

  double MetricOf(Host host, const std::string& name) {
    return status(host).Metric("understudy_" + name).value_or(-1);
  }
  size_t LinesOfA() {
    const std::string log = pair_->process(Host::kA).Log();
    return static_cast<size_t>(std::count(log.begin(), log.end(), '\n'));
  }
  std::string Register() {
    std::ifstream in(pair_->arbiter_file());
    return std::string(std::istreambuf_iterator<char>(in), {});
  }
};

TEST_F(TrustTest, ASoloPrimaryTakesNobodyWithoutTheKey) {
  with_secondary_ = false;
  ASSERT_NO_FATAL_FAILURE(Start());
  const std::string before = Register();
  EXPECT_EQ(Answer(kStranger, Join("b")), "") << "a stranger is told nothing";
  EXPECT_EQ(MetricOf(Host::kA, "links_turned_away_total"), 1);
  const std::string names[] = {"b", "c\nE1231 23:59:59.999999 1 pair_node.cc:1] forged",
                               std::string(5000, 'x')};
  for (const std::string& name : names) {
    EXPECT_THAT(Answer(Lab::replication_ip(Host::kB), Join(name)),
                testing::HasSubstr("replication_key_file"));
  }
  EXPECT_EQ(MetricOf(Host::kA, "links_closed_for_cause_total"), 3);
  EXPECT_EQ(status(Host::kA).State(), "solo");
  EXPECT_EQ(Register(), before);
  const std::string log = pair_->process(Host::kA).Log();
  EXPECT_THAT(log, testing::Not(testing::HasSubstr("\nE1231 23:59:59")));
  EXPECT_THAT(log, testing::Not(testing::HasSubstr(std::string(300, 'x'))));
  ExpectServes();
}

// Who says to be the secondary, from its address, neither takes its place nor makes the primary let go of it.
TEST_F(TrustTest, ANamesakeWithoutTheKeyIsNothing) {
  flags_ = {"--suspect_after_ms=2000"};
  ASSERT_NO_FATAL_FAILURE(Start());
  const std::string before = Register();
  for (int i = 0; i < 20; ++i) Answer(Lab::replication_ip(Host::kB), Join("b"));
  for (Host host : {Host::kA, Host::kB}) EXPECT_EQ(status(host).State(), "protected") << Name(host);
  EXPECT_EQ(Register(), before);
  ExpectServes();
}

// 200 connections a second, half of them from the peer's own address, that say nothing.
TEST_F(TrustTest, AFloodOfConnectionsDoesNotKeepThePeerOut) {
  flags_ = {"--suspect_after_ms=2000"};
  with_secondary_ = false;
  ASSERT_NO_FATAL_FAILURE(Start());
  const size_t lines = LinesOfA();
  std::atomic<bool> stop = false;
  std::atomic<int> dialed = 0;
  std::thread flood([&] {
    std::deque<int> open;
    for (auto next = std::chrono::steady_clock::now(); !stop; next += milliseconds(5)) {
      std::this_thread::sleep_until(next);  // the rate is the attack
      open.push_back(Dial(dialed % 2 == 0 ? kStranger : Lab::replication_ip(Host::kB)));
      ++dialed;
      if (open.size() > 500) {
        close(open.front());
        open.pop_front();
      }
    }
    for (const int fd : open) close(fd);
  });
  Fleet nobody(client());
  EXPECT_EQ(nobody.RunUntil([&] { return dialed >= 200; }, kPatience), "");
  const absl::Status started = pair_->StartNode(Host::kB, "secondary");
  EXPECT_TRUE(started.ok()) << started;
  for (Host host : {Host::kA, Host::kB}) ExpectState(host, "protected", nullptr, kPatience);
  // Not how long it took, which depends on the machine: how often it had to try.
  EXPECT_LE(MetricOf(Host::kB, "dials_total"), 8);
  EXPECT_EQ(nobody.RunUntil([&] { return dialed >= 600; }, kPatience), "");
  for (Host host : {Host::kA, Host::kB}) EXPECT_EQ(status(host).State(), "protected") << Name(host);
  stop = true;
  flood.join();
  EXPECT_GE(MetricOf(Host::kA, "links_turned_away_total"), 200);
  EXPECT_LE(LinesOfA() - lines, 40u) << "a line for each";
  ExpectServes();
}

// The primary is stopped, and somebody on its network says in its name that it lives. He knows everything but
// the key: addresses, service, epoch, time.
TEST_F(TrustTest, ForgedPulsesKeepNobodyFromTakingOver) {
  ASSERT_NO_FATAL_FAILURE(Start());
  const double dropped = MetricOf(Host::kB, "pulse_datagrams_dropped_total");
  std::atomic<bool> stop = false;
  const int fd = lab_->host(Host::kA).Socket(AF_INET, SOCK_RAW, IPPROTO_UDP);
  std::thread forger([&] {
    const sockaddr_in to = AddressOf(Lab::replication_ip(Host::kB), 0);
    int64_t now_ns = int64_t{1} << 61;
    for (auto next = std::chrono::steady_clock::now(); !stop; next += milliseconds(2)) {
      std::this_thread::sleep_until(next);
      for (const std::string& key : {std::string(), std::string(32, 'k')}) {
        const std::string pulse =
            replication::Encode({false, static_cast<uint64_t>(epoch_), ++now_ns, Lab::service()}, key);
        const udphdr header = {{{htons(Pair::kReplicationPort), htons(Pair::kReplicationPort),
                                 htons(static_cast<uint16_t>(sizeof(udphdr) + pulse.size())), 0}}};
        const std::string packet = std::string(reinterpret_cast<const char*>(&header), sizeof header) + pulse;
        (void)!sendto(fd, packet.data(), packet.size(), 0, reinterpret_cast<const sockaddr*>(&to), sizeof to);
      }
    }
  });
  Fleet nobody(client());
  EXPECT_EQ(
      nobody.RunUntil([&] { return MetricOf(Host::kB, "pulse_datagrams_dropped_total") > dropped + 20; },
                      kPatience),
      "");
  pair_->process(Host::kA).Signal(SIGSTOP);
  ExpectTakenOverBy(Host::kB);
  stop = true;
  forger.join();
  close(fd);
  EXPECT_EQ(MetricOf(Host::kB, "pulses_heard_total"), 0);
  ExpectServes();
}

// The service address's neighbours see the replication port only where it is.
TEST_F(TrustTest, TheReplicationPortIsOnItsOwnInterface) {
  ASSERT_NO_FATAL_FAILURE(Start());
  // A client that sends what is for a's replication address to a's service interface.
  const absl::Status routed = client().Ip(
      absl::StrCat("route add ", Lab::replication_ip(Host::kA), "/32 via ", Lab::host_ip(Host::kA)));
  ASSERT_TRUE(routed.ok()) << routed;
  const int fd = client().Socket(AF_INET, SOCK_STREAM);
  sockaddr_in to = AddressOf(Lab::replication_ip(Host::kA), Pair::kReplicationPort);
  EXPECT_NE(connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  EXPECT_EQ(errno, ECONNREFUSED);
  close(fd);
  EXPECT_EQ(MetricOf(Host::kA, "links_turned_away_total"), 0);
}

// It would find out when the primary is dead.
TEST_F(TrustTest, ASecondaryWithAnotherArbiterProtectsNobody) {
  with_secondary_ = false;
  ASSERT_NO_FATAL_FAILURE(Start());
  const std::string before = Register();
  const std::string folder = testing::TempDir() + "/another_arbiter";
  ASSERT_EQ(mkdir(folder.c_str(), 0700), 0);
  const absl::Status started =
      pair_->StartNode(Host::kB, "secondary", {absl::StrCat("--arbiter=file:", folder, "/arbiter")});
  ASSERT_TRUE(started.ok()) << started;
  const auto says = [this](Host host, const std::string& text) {
    const auto now = status(host).Status();
    return now.ok() && now->json.find(text) != std::string::npos;
  };
  Fleet nobody(client());
  EXPECT_EQ(nobody.RunUntil(
                [&] {
                  return says(Host::kB, "is --arbiter the same for both?") &&
                         says(Host::kA, "could not take over");
                },
                kPatience),
            "")
      << "nobody says what is wrong";
  EXPECT_EQ(status(Host::kB).State(), "joining");
  EXPECT_EQ(status(Host::kA).State(), "solo");
  EXPECT_EQ(Register(), before);
  pair_->process(Host::kB).Kill();
  const absl::Status again = pair_->StartNode(Host::kB, "secondary");
  ASSERT_TRUE(again.ok()) << again;
  for (Host host : {Host::kA, Host::kB}) ExpectState(host, "protected", nullptr, kPatience);
  ExpectServes();
}

TEST_F(TrustTest, ANodeWithAnotherKeyOrNoneIsToldWhatIsWrong) {
  with_secondary_ = false;
  ASSERT_NO_FATAL_FAILURE(Start());
  const std::string other = testing::TempDir() + "/other_key";
  std::ofstream(other) << std::string(32, 'o');
  ASSERT_EQ(chmod(other.c_str(), 0600), 0);
  const std::vector<std::string> ways[] = {{"--replication_key_file=" + other},
                                           {"--replication_key_file=", "--replication_insecure"}};
  for (const auto& flags : ways) {
    const absl::Status started = pair_->StartNode(Host::kB, "secondary", flags);
    ASSERT_TRUE(started.ok()) << started;
    Fleet nobody(client());
    EXPECT_EQ(nobody.RunUntil(
                  [&] {
                    const auto now = status(Host::kB).Status();
                    return now.ok() && now->json.find("replication_key_file") != std::string::npos;
                  },
                  kPatience),
              "")
        << "its status does not say why it cannot join";
    EXPECT_EQ(status(Host::kB).State(), "joining");
    EXPECT_EQ(status(Host::kA).State(), "solo");
    pair_->process(Host::kB).Kill();
  }
}

}  // namespace
}  // namespace understudy::lab
