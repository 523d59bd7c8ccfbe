// Endpoints in each of TCP's states, beside listeners, and where they cannot be.
#include <linux/capability.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tcpshim/bytes_for_test.h"
#include "tcpshim/endpoint.h"
#include "tcpshim/endpoint_for_test.h"
#include "tcpshim/namespaces_for_test.h"
#include "tcpshim/sockaddr.h"
#include "tcpshim/socket_north_wrapper.h"
#include "tcpshim/unique_fd.h"
#include "tcpshim/wait_for_test.h"

namespace understudy::tcpshim {
namespace {

using ::testing::HasSubstr;

// --- States --------------------------------------------------------------------------------------

class EndpointStateTest : public EndpointTest, public ::testing::WithParamInterface<State> {};

TEST_P(EndpointStateTest, GoesOn) {
  const State state = GetParam();
  const bool we_close = state != kEstablished && state != kCloseWait;
  const bool client_closes = state == kCloseWait || state == kLastAck || state == kClosing;
  Connect();
  ClientSends("request");
  ASSERT_TRUE(Eventually([&] { return Unread(server_.get()) == 7; }));
  if (state == kFinWait2) {
    ServerSends("reply");
    ::shutdown(server_.get(), SHUT_WR);
    ASSERT_TRUE(Eventually([&] { return StateOf(server_.get()) == kFinWait2; }));
  } else if (state == kFinWait1 || state == kClosing) {
    MuteA();
    ServerSends("reply");
    ::shutdown(server_.get(), SHUT_WR);
  }
  if (client_closes) {
    ::shutdown(peer_.get(), SHUT_WR);
    ASSERT_TRUE(
        Eventually([&] { return StateOf(server_.get()) == (state == kClosing ? kClosing : kCloseWait); }));
  }
  if (state == kLastAck) {
    MuteA();
    ServerSends("reply");
    ::shutdown(server_.get(), SHUT_WR);
  }
  if (!we_close) ServerSends("reply");
  ASSERT_EQ(state, StateOf(server_.get()));

  auto endpoint = CaptureAtA();
  ASSERT_TRUE(endpoint.ok()) << endpoint.status();
  EXPECT_EQ(we_close, endpoint->fin_sent);
  EXPECT_EQ("request", endpoint->unread);
  RestoreAtB(*endpoint);
  // A FIN that we had is not to be seen again: the state is as if it were still to come.
  EXPECT_EQ(we_close ? kFinWait1 : kEstablished, StateOf(server_.get()));

  const std::string more = "more";
  if (!client_closes) ClientSends(more);
  if (!we_close) ServerSends(more);
  ASSERT_TRUE(Eventually([&] {
    ReceiveSome(server_.get(), to_server_.received);
    ReceiveSome(peer_.get(), to_client_.received);
    return to_server_.received == to_server_.sent && to_client_.received == to_client_.sent;
  })) << to_server_.Same().message()
      << "; " << to_client_.Same().message();
  if (!client_closes) ::shutdown(peer_.get(), SHUT_WR);
  if (!we_close) ::shutdown(server_.get(), SHUT_WR);
  // The client has everything and is content: no reset, both streams over.
  ASSERT_TRUE(Eventually([&] { return Ended(peer_.get()); }));
  EXPECT_TRUE(Eventually([&] { return StateOf(peer_.get()) == kClose; })) << StateOf(peer_.get());
  EXPECT_EQ(0, Option(peer_.get(), SOL_SOCKET, SO_ERROR));
  // Our FIN is acknowledged.
  EXPECT_TRUE(Eventually([&] { return Unacknowledged(server_.get()) == 0; }));
}

INSTANTIATE_TEST_SUITE_P(States, EndpointStateTest,
                         ::testing::Values(kEstablished, kFinWait1, kFinWait2, kCloseWait, kLastAck,
                                           kClosing),
                         [](const auto& info) -> std::string {
                           switch (info.param) {
                             case kEstablished: return "Established";
                             case kFinWait1: return "FinWait1";
                             case kFinWait2: return "FinWait2";
                             case kCloseWait: return "CloseWait";
                             case kLastAck: return "LastAck";
                             default: return "Closing";
                           }
                         });

// --- Listeners on the same port ------------------------------------------------------------------

class NoLog : public NorthWrapper::Log {
 public:
  NorthWrapper::Accepted OnAccepted(int, const FourTuple&) override { return {.id = ++accepted}; }
  absl::Span<char> BeginReceive(uint64_t) override { return {}; }
  void EndReceive(uint64_t, size_t) override {}
  void OnEndOfStream(uint64_t) override {}
  void OnBroken(uint64_t, int) override {}
  void OnWritable(uint64_t) override {}
  void OnTurnDone() override {}
  uint64_t accepted = 0;
};

TEST_F(EndpointTest, ListenerBeforeAndAfter) {
  for (const bool listen_first : {true, false}) {
    SCOPED_TRACE(listen_first);
    boost::asio::io_context loop;
    NoLog log;
    auto north = SocketNorthWrapper::Create(loop, &log);
    ASSERT_TRUE(north.ok()) << north.status();
    const auto listen = [&] {
      InNamespace here(b_);  // the service address is not there yet
      const absl::Status status = (*north)->Listen(kService, Connections::kMayMove);
      ASSERT_TRUE(status.ok()) << status;
    };
    to_client_ = to_server_ = {};
    Numbers numbers;
    numbers.sent = "reply";
    const Endpoint endpoint = Invent(numbers);
    if (listen_first) listen();
    RestoreAtB(endpoint);
    if (!listen_first) listen();
    GoOn(10'000);
    UniqueFd restored = std::move(peer_), other;
    {
      InNamespace here(client_);
      other.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      const sockaddr_in address = ToSockaddr(kService);
      ASSERT_EQ(0, ::connect(other.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)))
          << strerror(errno);
    }
    ASSERT_TRUE(Eventually([&] {
      loop.poll();
      return log.accepted == 1;
    }));
    (*north)->Abort(1);
    CloseSilently(std::move(server_));
    CloseSilently(std::move(restored));
    b_.Ip("addr del 198.18.0.1/32 dev eth0");
  }
}

// --- Errors --------------------------------------------------------------------------------------

TEST_F(EndpointTest, FourTupleInUse) {
  const Endpoint endpoint = Invent({});
  InNamespace here(b_);
  auto first = Restore(endpoint);
  ASSERT_TRUE(first.ok()) << first.status();
  auto second = Restore(endpoint);
  EXPECT_EQ(absl::StatusCode::kAlreadyExists, second.status().code()) << second.status();
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("198.18.0.1:7000 <- 198.18.0.9:40000"));
  CloseSilently(std::move(*first));
  second = Restore(endpoint);
  EXPECT_TRUE(second.ok()) << second.status();
}

TEST_F(EndpointTest, NoRoute) {
  Endpoint endpoint = Invent({});
  endpoint.tuple.remote.ip = 0xC6130009;  // 198.19.0.9
  InNamespace here(b_);
  auto server = Restore(endpoint);
  EXPECT_EQ(absl::StatusCode::kUnavailable, server.status().code()) << server.status();
  EXPECT_THAT(std::string(server.status().message()), HasSubstr("198.19.0.9"));
  EXPECT_THAT(std::string(server.status().message()), HasSubstr("no route"));
}

TEST_F(EndpointTest, WithoutPermission) {
  Connect();
  const Endpoint endpoint = Invent({});
  // Capabilities belong to the thread.
  std::thread([&] {
    __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct none[2] = {};
    ASSERT_EQ(0, ::syscall(SYS_capset, &header, none)) << strerror(errno);
    auto restored = Restore(endpoint);
    EXPECT_EQ(absl::StatusCode::kPermissionDenied, restored.status().code()) << restored.status();
    EXPECT_THAT(std::string(restored.status().message()), HasSubstr("CAP_NET_ADMIN"));
    CapturedBytes bytes;
    auto captured = Capture(server_.get(), bytes);
    EXPECT_EQ(absl::StatusCode::kPermissionDenied, captured.status().code()) << captured.status();
    EXPECT_THAT(std::string(captured.status().message()), HasSubstr("CAP_NET_ADMIN"));
  }).join();
}

TEST_F(EndpointTest, WhatCannotBeCaptured) {
  Connect();
  CapturedBytes bytes;
  for (const int fd : {listener_.get(), -1, 0}) {
    const auto captured = Capture(fd, bytes);
    EXPECT_EQ(absl::StatusCode::kFailedPrecondition, captured.status().code()) << captured.status();
  }
  UniqueFd fresh(::socket(AF_INET, SOCK_STREAM, 0));
  EXPECT_EQ(absl::StatusCode::kFailedPrecondition, Capture(fresh.get(), bytes).status().code());
  UniqueFd datagram(::socket(AF_INET, SOCK_DGRAM, 0));
  const sockaddr_in address = ToSockaddr({INADDR_LOOPBACK, 9});
  ASSERT_EQ(0, ::connect(datagram.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)));
  EXPECT_EQ(absl::StatusCode::kFailedPrecondition, Capture(datagram.get(), bytes).status().code());
  // Reset by the client.
  linger option = {1, 0};
  ::setsockopt(peer_.get(), SOL_SOCKET, SO_LINGER, &option, sizeof(option));
  peer_.reset();
  ASSERT_TRUE(Eventually([&] { return StateOf(server_.get()) == kClose; }));
  EXPECT_EQ(absl::StatusCode::kFailedPrecondition, Capture(server_.get(), bytes).status().code());
}

// --- Many ----------------------------------------------------------------------------------------

TEST_F(EndpointTest, AThousandConnections) {
  const int kCount = 1000;
  Cut("port_a");
  const std::string reply = RandomBytes(500), request = RandomBytes(100);
  std::vector<Endpoint> endpoints;
  for (int i = 0; i < kCount; ++i) {
    Endpoint endpoint;
    endpoint.tuple = {kService, {kClientIp, static_cast<uint16_t>(20'000 + i)}};
    endpoint.options = {1460, 1460, true, 7, 7, true, true};
    endpoint.snd_una = 1000u * i;
    endpoint.rcv_nxt = 2000u * i;
    endpoint.snd_wnd = 60'000;
    endpoint.rcv_edge = endpoint.rcv_nxt + 60'000;
    endpoint.timestamp = 12345;
    if (i % 2 == 1) endpoint.sent = reply;
    if (i % 3 == 1) endpoint.unread = request;
    endpoints.push_back(endpoint);
  }
  InNamespace here(b_);
  std::vector<UniqueFd> servers;
  servers.reserve(kCount);
  const auto start = Clock::now();
  for (const Endpoint& endpoint : endpoints) {
    auto server = Restore(endpoint);
    ASSERT_TRUE(server.ok()) << server.status();
    servers.push_back(std::move(*server));
  }
  const auto restored = Clock::now();
  for (int i = 0; i < kCount; ++i) {
    CapturedBytes bytes;
    auto captured = Capture(servers[i].get(), bytes);
    ASSERT_TRUE(captured.ok()) << captured.status();
    const Endpoint& endpoint = endpoints[i];
    ASSERT_EQ(endpoint.tuple, captured->tuple);
    ASSERT_EQ(endpoint.options, captured->options);
    ASSERT_EQ(endpoint.snd_una, captured->snd_una);
    ASSERT_EQ(endpoint.sent, captured->sent);
    ASSERT_EQ("", bytes.unsent);
    ASSERT_EQ(endpoint.rcv_nxt, captured->rcv_nxt);
    ASSERT_EQ(endpoint.unread, captured->unread);
    ASSERT_EQ(endpoint.snd_wnd, captured->snd_wnd);
    ASSERT_EQ(endpoint.rcv_edge, captured->rcv_edge);
    ASSERT_FALSE(SeqBefore(captured->timestamp, endpoint.timestamp));
  }
  const auto captured = Clock::now();
  const auto ms = [](auto from, auto to) {
    return std::chrono::duration<double, std::milli>(to - from).count();
  };
  std::printf("%d endpoints: restored in %.1f ms, captured in %.1f ms\n", kCount, ms(start, restored),
              ms(restored, captured));
  for (UniqueFd& server : servers) CloseSilently(std::move(server));
}

}  // namespace
}  // namespace understudy::tcpshim
