#include "framework/status_server.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <unistd.h>

#include <deque>
#include <vector>

#include <boost/asio/read.hpp>
#include <boost/asio/write.hpp>

namespace understudy {
namespace {

using boost::asio::ip::tcp;

class StatusServerTest : public testing::Test {
 protected:
  void SetUp() override {
    auto opened = StatusServer::Open(loop_, {boost::asio::ip::address_v4::loopback(), 0}, {}, [] {
      NodeStatus status;
      status.state = "solo";
      return status;
    });
    ASSERT_TRUE(opened.ok()) << opened.status();
    server_ = *std::move(opened);
  }

  // A connection from 127.0.0.`source` that has sent `text`.
  tcp::socket& Dial(int source, const std::string& text) {
    tcp::socket& socket = sockets_.emplace_back(loop_);
    socket.open(tcp::v4());
    socket.bind({boost::asio::ip::address_v4(0x7f000000u + source), 0});
    socket.connect(server_->local());
    boost::asio::write(socket, boost::asio::buffer(text));
    return socket;
  }

  // All that comes until the end of the stream; "" and an end for a connection that was closed.
  std::string Answer(tcp::socket& socket) {
    std::string answer;
    bool ended = false;
    boost::asio::async_read(socket, boost::asio::dynamic_buffer(answer),
                            [&](boost::system::error_code, size_t) { ended = true; });
    loop_.restart();
    while (!ended && loop_.run_one_for(std::chrono::seconds(30)) > 0) {
    }
    EXPECT_TRUE(ended);
    return answer;
  }

  boost::asio::io_context loop_;
  std::deque<tcp::socket> sockets_;
  std::unique_ptr<StatusServer> server_;
};

constexpr char kHealth[] = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
constexpr char kHalf[] = "GET /status HT";

TEST_F(StatusServerTest, HalfRequestsDoNotKeepOthersOut) {
  for (size_t i = 0; i < 4 * StatusServer::kMaxSessions; ++i) Dial(2, kHalf);
  EXPECT_THAT(Answer(Dial(3, kHealth)), testing::HasSubstr("200 OK"));
  // Nor those of the same source.
  EXPECT_THAT(Answer(Dial(2, kHealth)), testing::HasSubstr("200 OK"));
}

TEST_F(StatusServerTest, WhoHasMostGivesWay) {
  tcp::socket& patient = Dial(3, kHalf);
  for (size_t i = 0; i < 4 * StatusServer::kMaxSessions; ++i) Dial(2, kHalf);
  EXPECT_THAT(Answer(Dial(4, kHealth)), testing::HasSubstr("200 OK"));
  boost::asio::write(patient, boost::asio::buffer(std::string_view("TP/1.1\r\nHost: localhost\r\n\r\n")));
  EXPECT_THAT(Answer(patient), testing::HasSubstr("\"state\":\"solo\""));
}

TEST_F(StatusServerTest, OutOfDescriptorsIsWaitedFor) {
  tcp::socket& waiting = Dial(2, kHealth);
  // Every descriptor that is left.
  std::vector<int> taken;
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit small{std::min<rlim_t>(before.rlim_cur, 256), before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &small), 0);
  for (int fd; (fd = open("/dev/null", O_RDONLY)) >= 0;) taken.push_back(fd);
  ASSERT_EQ(errno, EMFILE);
  // It neither spins nor gives up.
  size_t events = 0;
  const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(250);
  while (std::chrono::steady_clock::now() < until) events += loop_.run_one_until(until);
  EXPECT_LT(events, 20u);
  for (int fd : taken) close(fd);
  EXPECT_THAT(Answer(waiting), testing::HasSubstr("200 OK"));
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
}

}  // namespace
}  // namespace understudy
