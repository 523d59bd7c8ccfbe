// /status and /metrics: what they say, and that whoever asks cannot disturb the service.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <regex>
#include <set>
#include <sstream>

#include "tests/pair_fixture.h"

namespace understudy::lab {
namespace {

class StatusTest : public PairTest {
 protected:
  void SetUp() override { ASSERT_NO_FATAL_FAILURE(StartPair()); }

  int Dial(Host host) {
    int fd = lab_->host(host).Socket(AF_INET, SOCK_STREAM);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(Pair::kStatusPort);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
    return fd;
  }
};

TEST_F(StatusTest, SaysWhatIs) {
  Fleet fleet(client());
  auto clients = fleet.AddMany(7, [](int i) {
    Plan plan = EchoPlan({.bytes = 5000, .seed = static_cast<uint64_t>(i)});
    plan.send_first = 1000;
    return plan;
  });
  ASSERT_EQ(fleet.RunUntil(
                [&] {
                  return std::all_of(clients.begin(), clients.end(),
                                     [](auto* c) { return c->received() == 995; });
                },
                kPatience),
            "");
  absl::StatusOr<NodeStatus> a, b;
  // The secondary executes what it has stored a moment later.
  ASSERT_EQ(fleet.RunUntil(
                [&] {
                  a = status(Host::kA).Status();
                  b = status(Host::kB).Status();
                  return a.ok() && b.ok() && b->applied_lsn == a->applied_lsn &&
                         a->stable_lsn == b->stable_lsn;
                },
                kPatience),
            "")
      << a.status() << b.status();
  EXPECT_EQ(a->role, "primary");
  EXPECT_EQ(b->role, "secondary");
  EXPECT_EQ(a->node, "a");
  EXPECT_EQ(b->node, "b");
  EXPECT_EQ(a->epoch, b->epoch);
  EXPECT_EQ(a->connections, 7);
  EXPECT_EQ(b->connections, 7);
  // A record at least for each connection and what it sent.
  EXPECT_GE(a->stable_lsn, 14);

  int64_t before = a->stable_lsn;
  for (auto* one : clients) one->ReleaseSend();
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  a = status(Host::kA).Status();
  ASSERT_TRUE(a.ok()) << a.status();
  EXPECT_GT(a->stable_lsn, before);
  EXPECT_EQ(fleet.RunUntil(
                [&] {
                  a = status(Host::kA).Status();
                  return a.ok() && a->connections == 0;
                },
                kPatience),
            "");
}

TEST_F(StatusTest, MetricsAreWellFormed) {
  for (Host host : {Host::kA, Host::kB}) {
    auto reply = status(host).Get("/metrics");
    ASSERT_TRUE(reply.ok()) << reply.status();
    EXPECT_EQ(reply->code, 200);
    EXPECT_THAT(reply->content_type, testing::StartsWith("text/plain"));
    static const std::regex sample(
        R"re([a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_][a-zA-Z0-9_]*="[^"\\]*",?)*\})? -?[0-9.eE+-]+)re");
    static const std::regex comment(
        R"re(# (HELP [a-zA-Z_:][a-zA-Z0-9_:]* .*|)re"
        R"re(TYPE [a-zA-Z_:][a-zA-Z0-9_:]* (counter|gauge|histogram|summary|untyped)))re");
    std::istringstream lines(reply->body);
    std::string line;
    std::set<std::string> seen;
    while (std::getline(lines, line)) {
      if (line.empty()) continue;
      EXPECT_TRUE(std::regex_match(line, line[0] == '#' ? comment : sample)) << line;
      if (line[0] != '#') {
        EXPECT_TRUE(seen.insert(line.substr(0, line.rfind(' '))).second) << "twice: " << line;
      }
    }
    EXPECT_GT(seen.size(), 5u);
    EXPECT_TRUE(status(host).Metric("understudy_epoch").ok());
  }
}

TEST_F(StatusTest, OtherRequests) {
  auto reply = status(primary()).Get("/nothing/here");
  ASSERT_TRUE(reply.ok()) << reply.status();
  EXPECT_EQ(reply->code, 404);
  auto said = [&](const std::string& request) {
    int fd = Dial(primary());
    EXPECT_GT(send(fd, request.data(), request.size(), MSG_NOSIGNAL), 0);
    std::string answer;
    char bytes[4096];
    ssize_t n;
    pollfd ready = {.fd = fd, .events = POLLIN, .revents = 0};
    while (poll(&ready, 1, 10000) == 1 && (n = recv(fd, bytes, sizeof(bytes), 0)) > 0) {
      answer.append(bytes, static_cast<size_t>(n));
    }
    close(fd);
    return answer;
  };
  EXPECT_THAT(said("POST /status HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"),
              testing::StartsWith("HTTP/1.1 405"));
  EXPECT_THAT(said("GET /status HTTP/1.0\r\n\r\n"), testing::HasSubstr("200"));
  // No answer is due to these, but an end is; and life goes on.
  said("\x16\x03\x01 this is not HTTP\r\n\r\n");
  said("GET /" + std::string(100000, 'x') + " HTTP/1.1\r\n\r\n");
  EXPECT_EQ(status(primary()).State(), "protected");
}

// People with curl, scanners, and a monitoring system that has lost its patience.
TEST_F(StatusTest, WhoAsksAndDoesNotListenDisturbsNobody) {
  Fleet fleet(client());
  StreamClient* talk = fleet.Add(
      EchoPlan({.bytes = 1u << 30, .seed = TestSeed(), .max_ahead = 2000, .pace = milliseconds(1)}));
  ASSERT_EQ(fleet.RunUntil([&] { return talk->received() > 10000; }, kPatience), "");
  talk->ResetPause();
  std::vector<int> idle;
  for (int i = 0; i < 200; ++i) {
    idle.push_back(Dial(primary()));
    std::string half = "GET /status HT";
    if (i % 2 == 0) {
      EXPECT_GT(send(idle.back(), half.data(), half.size(), MSG_NOSIGNAL), 0);
    }
  }
  ASSERT_EQ(fleet.RunFor(milliseconds(300)), "");
  EXPECT_LE(talk->longest_pause(), seconds(3)) << "it waited for somebody";
  talk->FinishEcho(1000);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  for (int fd : idle) close(fd);
  ExpectState(primary(), "protected");
}

// SIGTERM is an order: status 0, and the secondary takes the clients over at once.
TEST_F(StatusTest, SigtermEndsInOrder) {
  Fleet fleet(client());
  StreamClient* talk = fleet.Add(
      EchoPlan({.bytes = 1u << 30, .seed = TestSeed(), .max_ahead = 2000, .pace = milliseconds(1)}));
  ASSERT_EQ(fleet.RunUntil([&] { return talk->received() > 10000; }, kPatience), "");
  ExpectLog(Host::kA, "protected: b has the log, and could take over", &fleet);
  ExpectLog(Host::kB, "protected: this node has the log of a, and could take over", &fleet);
  EXPECT_THAT(pair_->process(Host::kA).Log(), testing::Not(testing::HasSubstr("NOT PROTECTED")));
  pair_->process(primary()).Signal(SIGTERM);
  ExpectTakenOverBy(Host::kB, &fleet);
  auto ended = pair_->process(primary()).Wait(seconds(10));
  ASSERT_TRUE(ended.has_value());
  EXPECT_TRUE(WIFEXITED(*ended) && WEXITSTATUS(*ended) == 0) << *ended;
  ExpectNoSockets(Host::kA);
  ExpectLog(Host::kB, "(the process of a is gone)");
  const auto page = status(Host::kB).Get("/status");
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_THAT(page->body, testing::HasSubstr("it took over, and no node has joined since"));
  talk->FinishEcho(1000);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
}

}  // namespace
}  // namespace understudy::lab
