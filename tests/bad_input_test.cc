// Strangers, liars and noise on the replication port: that link is closed, the reason logged and counted,
// and the service goes on as if nothing had happened.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <thrift/protocol/TBinaryProtocol.h>
#include <thrift/transport/TBufferTransports.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iostream>
#include <random>

#include "absl/strings/str_cat.h"
#include "replication/PrimaryService.h"
#include "replication/SecondaryService.h"
#include "replication/pulse.h"
#include "replication/replication_constants.h"
#include "replication/replication_types.h"
#include "tests/pair_fixture.h"

namespace understudy::lab {
namespace {

namespace wire = replication::wire;
using apache::thrift::protocol::TBinaryProtocol;
using apache::thrift::transport::TMemoryBuffer;

std::string Framed(const std::string& message) {
  uint32_t size = htonl(static_cast<uint32_t>(message.size()));
  return std::string(reinterpret_cast<const char*>(&size), 4) + message;
}

template <typename Client, typename Call>
std::string Message(const Call& call) {
  auto buffer = std::make_shared<TMemoryBuffer>();
  auto protocol = std::make_shared<TBinaryProtocol>(buffer);
  Client client(protocol);
  call(client);
  return Framed(buffer->getBufferAsString());
}

std::string Join(const wire::JoinRequest& request) {
  return Message<wire::PrimaryServiceClient>([&](auto& client) { client.send_join(request); });
}

std::string Append(const wire::AppendRequest& request) {
  return Message<wire::SecondaryServiceClient>([&](auto& client) { client.send_append(request); });
}

wire::JoinRequest GoodJoin() {
  wire::JoinRequest request;
  request.protocol_version = wire::g_replication_constants.PROTOCOL_VERSION;
  request.service_address = Lab::service();
  request.node = "c";
  request.epoch = 0;
  request.last_lsn = 0;
  return request;
}

wire::AppendRequest GoodAppend() {
  wire::AppendRequest request;
  request.epoch = 1;
  request.first_lsn = 1;
  request.sent_at_ns = 1;
  request.member = true;
  request.executed_lsn = 0;
  request.output_hash = 0;
  return request;
}

class BadInputTest : public PairTest {
 protected:
  void SetUp() override {
    // A busy machine must not look like a fault here: the pair is asked to stay as it is.
    // And it believes whoever speaks from the other's address, so that what he says is looked at (with a key
    // nothing is: trust_test.cc).
    flags_ = {"--suspect_after_ms=2000", "--replication_key_file=", "--replication_insecure"};
    ASSERT_NO_FATAL_FAILURE(StartPair());
    // Service goes on: one client talks through all of it, and nobody may make it wait.
    fleet_ = std::make_unique<Fleet>(client());
    talk_ = fleet_->Add(
        EchoPlan({.bytes = 1u << 30, .seed = TestSeed(), .max_ahead = 2000, .pace = milliseconds(1)}));
    ASSERT_EQ(fleet_->RunUntil([&] { return talk_->received() > 10000; }, kPatience), "");
    talk_->ResetPause();
  }

  void TearDown() override {
    if (talk_ != nullptr && !HasFatalFailure()) {
      EXPECT_LE(talk_->longest_pause(), std::chrono::seconds(3)) << "somebody made the client wait";
      talk_->FinishEcho(1000);
      EXPECT_EQ(fleet_->RunUntilDone(kPatience), "");
      ExpectServes();
      // Neither the roles nor the epoch have changed, and the pair still is one.
      for (Host host : {Host::kA, Host::kB}) {
        auto now = status(host).Status();
        EXPECT_TRUE(now.ok()) << now.status();
        if (!now.ok()) continue;
        EXPECT_EQ(now->state, "protected") << Name(host);
        EXPECT_EQ(now->epoch, epoch_) << Name(host);
      }
    }
    fleet_.reset();
    PairTest::TearDown();
  }

  // A stranger on the replication network, dialling `to`.
  int Dial(Host to) {
    int fd = lab_->host(Other(to)).Socket(AF_INET, SOCK_STREAM);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(Pair::kReplicationPort);
    EXPECT_EQ(inet_pton(AF_INET, Lab::replication_ip(to).c_str(), &address.sin_addr), 1);
    EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0) << strerror(errno);
    return fd;
  }

  // Until the node closes the connection, whatever it says before. False when it does not.
  bool IsClosed(int fd, milliseconds timeout = seconds(10)) {
    bool closed = false;
    fleet_->RunUntil(
        [&] {
          char bytes[4096];
          ssize_t n = recv(fd, bytes, sizeof(bytes), MSG_DONTWAIT);
          closed = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
          return closed;
        },
        timeout);
    return closed;
  }

  double Refusals(Host host) {
    double sum = 0;
    for (const char* name : {"understudy_links_closed_for_cause_total", "understudy_joins_refused_total"}) {
      auto value = status(host).Metric(name);
      EXPECT_TRUE(value.ok()) << value.status();
      if (value.ok()) sum += *value;
    }
    return sum;
  }

  // Sends `bytes` to a node: it closes, counts, and says `reason` in its log, if one is given. (What comes
  // often is not said each time.)
  void ExpectRefused(Host host, const std::string& bytes, const std::string& reason = "") {
    double refusals = Refusals(host);
    size_t log = pair_->process(host).Log().size();
    int fd = Dial(host);
    EXPECT_EQ(send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
    EXPECT_TRUE(IsClosed(fd)) << Name(host) << " keeps the link";
    close(fd);
    EXPECT_GT(Refusals(host), refusals) << Name(host) << " has not counted it";
    std::string said = pair_->process(host).Log().substr(log);
    EXPECT_THAT(said, testing::ContainsRegex(reason)) << Name(host);
  }

  std::unique_ptr<Fleet> fleet_;
  StreamClient* talk_ = nullptr;
};

TEST_F(BadInputTest, MalformedAndOversizedFrames) {
  for (Host host : {Host::kA, Host::kB}) {
    SCOPED_TRACE(Name(host));
    ExpectRefused(host, std::string("\x7f\xff\xff\xff", 4));
    ExpectRefused(host, std::string("\xff\xff\xff\xff", 4));
    ExpectRefused(host, std::string("\x02\x00\x00\x01", 4));  // one more than the largest
    ExpectRefused(host, std::string(4, '\0'));
    ExpectRefused(host, Framed("GET / HTTP/1.1\r\n\r\n"));
    ExpectRefused(host, "GET / HTTP/1.1\r\n\r\n");
    ExpectRefused(host, Framed(std::string(1000, '\xff')));
    ExpectRefused(host, Framed(std::string(1000, '\0')));
    std::string join = Join(GoodJoin());
    for (size_t cut : {size_t{1}, join.size() / 2}) {
      ExpectRefused(host, Framed(join.substr(4, join.size() - 4 - cut)));
    }
  }
}

// Fields and whole containers that say they are larger than the frame they are in.
TEST_F(BadInputTest, MutilatedMessages) {
  std::mt19937_64 random(TestSeed());
  for (Host host : {Host::kA, Host::kB}) {
    for (const std::string& good : {Join(GoodJoin()), Append(GoodAppend())}) {
      for (int i = 0; i < 25; ++i) {
        std::string bad = good;
        for (uint64_t changes = 1 + random() % 4; changes > 0; --changes) {
          bad[4 + random() % (bad.size() - 4)] = static_cast<char>(random());
        }
        int fd = Dial(host);
        EXPECT_GT(send(fd, bad.data(), bad.size(), MSG_NOSIGNAL), 0);
        // A change may leave it acceptable (a node of another name). Hanging up must then be harmless.
        IsClosed(fd, milliseconds(30));
        close(fd);
      }
    }
  }
  for (Host host : {Host::kA, Host::kB}) EXPECT_TRUE(pair_->process(host).running());
}

TEST_F(BadInputTest, JoinsThatDoNotFit) {
  wire::JoinRequest request = GoodJoin();
  ExpectRefused(primary(), Join(request), "(second|joined|already|ALREADY|has a)");
  ++request.protocol_version;
  ExpectRefused(primary(), Join(request), "(version|VERSION|protocol)");
  request = GoodJoin();
  request.service_address = "198.18.0.99:7000";
  ExpectRefused(primary(), Join(request), "198.18.0.99:7000|service|SERVICE");
  request = GoodJoin();
  request.node = "a";
  ExpectRefused(primary(), Join(request));
  request = GoodJoin();
  request.node = "";
  ExpectRefused(primary(), Join(request));
  request = GoodJoin();
  request.node = std::string(100000, 'x');
  ExpectRefused(primary(), Join(request));
  // A name that would be a line of the log, or more than the register can hold.
  request = GoodJoin();
  request.node = "c\nE1231 23:59:59.999999 1 pair_node.cc:1] silent: forged";
  ExpectRefused(primary(), Join(request), "a node's name is 1 to 64 letters");
  request.node = std::string(5000, 'x');
  ExpectRefused(primary(), Join(request));
  EXPECT_THAT(pair_->process(primary()).Log(), testing::Not(testing::HasSubstr("\nE1231 23:59:59.999999")));
  request = GoodJoin();
  request.epoch = 1000000;
  request.last_lsn = 5;
  ExpectRefused(primary(), Join(request));
  request = GoodJoin();
  request.epoch = -1;
  request.last_lsn = -1;
  ExpectRefused(primary(), Join(request));
  // Nobody can join a secondary.
  ExpectRefused(Host::kB, Join(GoodJoin()), "(NOT_PRIMARY|not the primary|not serve|secondary)");
}

// Somebody says to be the secondary that is joined already. The primary cannot know whether it is that one,
// back without its log, so it may let go of the old link; but the newcomer is not let in just so, and in the
// end the pair is one again.
TEST_F(BadInputTest, ANamesakeOfTheSecondary) {
  wire::JoinRequest request = GoodJoin();
  request.node = "b";
  ExpectRefused(primary(), Join(request));
  for (Host host : {Host::kA, Host::kB}) ExpectState(host, "protected", fleet_.get());
  EXPECT_TRUE(Serves(primary()));
  EXPECT_FALSE(Serves(Host::kB));
  epoch_ = status(primary()).Status()->epoch;
}

TEST_F(BadInputTest, AppendsFromAStranger) {
  for (Host host : {Host::kA, Host::kB}) {
    SCOPED_TRACE(Name(host));
    wire::AppendRequest request = GoodAppend();
    ExpectRefused(host, Append(request));
    request.epoch = 1000000;
    ExpectRefused(host, Append(request));
    request = GoodAppend();
    request.records = std::string(100000, 'r');
    ExpectRefused(host, Append(request));
  }
}

// The real program, with the flags of a second secondary, on the host of the first: it says who is there
// already.
TEST_F(BadInputTest, ASecondSecondary) {
  Process::Options options;
  options.name = "c";
  options.argv = {Runfile("tests/apps/workbench")};
  for (std::string flag : pair_->FlagsOf(Host::kB, "secondary")) {
    if (flag.rfind("--node=", 0) == 0) flag = "--node=c";
    // It lives on b's host, where service0 is taken.
    if (flag.rfind("--interface=", 0) == 0) flag = "--interface=replication0";
    if (flag.rfind("--replication=", 0) == 0) flag = "--replication=198.18.1.2:7101";
    if (flag.rfind("--status=", 0) == 0) flag = "--status=127.0.0.1:7201";
    options.argv.push_back(flag);
  }
  options.where = &lab_->host(Host::kB);
  auto second = Process::Start(options);
  ASSERT_TRUE(second.ok()) << second.status();
  const auto ended = (*second)->Wait(seconds(10));
  ASSERT_TRUE(ended.has_value());
  EXPECT_TRUE(WIFEXITED(*ended) && WEXITSTATUS(*ended) == 1) << *ended;
  EXPECT_THAT((*second)->Log(), testing::HasSubstr("each service needs an address of its own"));
  ASSERT_EQ(fleet_->RunFor(milliseconds(500)), "");
}

// Datagrams that look as if they came from the peer: garbage, and pulses that are none of this pair's epoch.
TEST_F(BadInputTest, Datagrams) {
  std::mt19937_64 random(TestSeed());
  const std::string good = replication::Encode({false, static_cast<uint64_t>(epoch_), 1, Lab::service()}, "");
  for (Host host : {Host::kA, Host::kB}) {
    SCOPED_TRACE(Name(host));
    const auto dropped = [&] {
      return status(host).Metric("understudy_pulse_datagrams_dropped_total").value_or(-1);
    };
    std::vector<std::string> datagrams = {"", "x", std::string(5000, '\0'), good.substr(1), good + "x"};
    for (int i = 0; i < 200; ++i) {
      datagrams.push_back(good);
      datagrams.back()[random() % good.size()] ^= static_cast<char>(1 + random() % 255);
    }
    for (const uint64_t epoch : {0, 1000000}) {
      datagrams.push_back(replication::Encode({false, epoch, 1, Lab::service()}, ""));
    }
    datagrams.push_back(
        replication::Encode({false, static_cast<uint64_t>(epoch_), 1, "198.18.0.99:7000"}, ""));
    // Answers to nothing: the one with the lease must not be impressed, the other neither.
    datagrams.push_back(replication::Encode({true, static_cast<uint64_t>(epoch_), 1, Lab::service()}, ""));
    datagrams.push_back(
        replication::Encode({true, static_cast<uint64_t>(epoch_), INT64_MAX, Lab::service()}, ""));
    const double before = dropped();
    const int fd = lab_->host(Other(host)).Socket(AF_INET, SOCK_RAW, IPPROTO_UDP);
    for (const std::string& datagram : datagrams) {
      const udphdr header = {{{htons(Pair::kReplicationPort), htons(Pair::kReplicationPort),
                               htons(static_cast<uint16_t>(sizeof(udphdr) + datagram.size())), 0}}};
      const std::string packet =
          std::string(reinterpret_cast<const char*>(&header), sizeof header) + datagram;
      sockaddr_in to = {};
      to.sin_family = AF_INET;
      EXPECT_EQ(inet_pton(AF_INET, Lab::replication_ip(host).c_str(), &to.sin_addr), 1);
      EXPECT_EQ(sendto(fd, packet.data(), packet.size(), 0, reinterpret_cast<sockaddr*>(&to), sizeof to),
                static_cast<ssize_t>(packet.size()))
          << strerror(errno);
    }
    close(fd);
    EXPECT_EQ(fleet_->RunUntil([&] { return dropped() >= before + static_cast<double>(datagrams.size()); },
                               kPatience),
              "");
    EXPECT_EQ(dropped(), before + static_cast<double>(datagrams.size()));
  }
}

// Who connects and says nothing, or half a frame, is sent away after a while; meanwhile there is room.
TEST_F(BadInputTest, SilentStrangers) {
  for (Host host : {Host::kA, Host::kB}) {
    SCOPED_TRACE(Name(host));
    std::vector<int> strangers;
    for (int i = 0; i < 100; ++i) {
      strangers.push_back(Dial(host));
      if (i % 2 == 1) {
        EXPECT_EQ(send(strangers.back(), "\0\0\1\0half", 8, MSG_NOSIGNAL), 8);
      }
    }
    int kept = 0;
    for (int fd : strangers) kept += IsClosed(fd, seconds(15)) ? 0 : 1;
    EXPECT_EQ(kept, 0) << "strangers kept";
    for (int fd : strangers) close(fd);
  }
}

}  // namespace
}  // namespace understudy::lab
