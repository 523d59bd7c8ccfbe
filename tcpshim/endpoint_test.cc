// What a connection takes along from one host to another: its queues, windows, numbers and options.
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tcpshim/bytes_for_test.h"
#include "tcpshim/endpoint.h"
#include "tcpshim/endpoint_for_test.h"
#include "tcpshim/namespaces_for_test.h"
#include "tcpshim/wait_for_test.h"

namespace understudy::tcpshim {
namespace {

const auto* const kEnvironment = ::testing::AddGlobalTestEnvironment(new NamespacesNeeded);

TEST_F(EndpointTest, Idle) {
  Connect();
  ClientSends("hello");
  ServerSends("world");
  ASSERT_TRUE(Eventually([&] {
    ReceiveSome(peer_.get(), to_client_.received);
    ReceiveSome(server_.get(), to_server_.received);
    return to_client_.received == "world" && to_server_.received == "hello";
  }));
  ASSERT_TRUE(
      Eventually([&] { return Unacknowledged(peer_.get()) == 0 && Unacknowledged(server_.get()) == 0; }));
  const tcp_info before = Info(server_.get());
  Failover();
  EXPECT_EQ("", bytes_.sent + bytes_.unread + bytes_.unsent);
  const tcp_info after = Info(server_.get());
  EXPECT_EQ(before.tcpi_options, after.tcpi_options);
  EXPECT_EQ(before.tcpi_snd_wscale, after.tcpi_snd_wscale);
  EXPECT_EQ(before.tcpi_rcv_wscale, after.tcpi_rcv_wscale);
  EXPECT_EQ(before.tcpi_snd_mss, after.tcpi_snd_mss) << "small segments for ever";
  EXPECT_EQ(before.tcpi_snd_wnd, after.tcpi_snd_wnd);
  GoOn();
  Finish();
}

TEST_F(EndpointTest, NothingIsSentByRestore) {
  Connect();
  Sniffer sniffer(client_, "port_b");
  Failover();
  Mark(b_);
  EXPECT_EQ(0u, UpToMark(sniffer).size());
  // And by a silent close. (The client's segments would be answered, by a RST: but it sends none.)
  ServerSends("x");
  ASSERT_TRUE(Eventually([&] { return Unread(peer_.get()) == 1; }));
  ASSERT_TRUE(Eventually([&] { return Unacknowledged(server_.get()) == 0; }));
  sniffer.Take();
  CloseSilently(std::move(server_));
  Mark(b_);
  EXPECT_EQ(0u, UpToMark(sniffer).size());
  EXPECT_EQ(kEstablished, StateOf(peer_.get()));
}

TEST_F(EndpointTest, SilentCloseWithUnreadInput) {
  Connect();
  ClientSends("unread");
  ASSERT_TRUE(Eventually([&] { return Unread(server_.get()) == 6; }));
  ASSERT_TRUE(Eventually([&] { return Unacknowledged(peer_.get()) == 0; }));
  Sniffer sniffer(client_, "port_a");
  CloseSilently(std::move(server_));
  Mark(a_);
  EXPECT_EQ(0u, UpToMark(sniffer).size());
}

TEST_F(EndpointTest, UnreadInput) {
  Connect();
  ClientSends(RandomBytes(20'000));
  ASSERT_TRUE(Eventually([&] { return Unread(server_.get()) == 20'000; }));
  ASSERT_TRUE(Eventually([&] { return Unacknowledged(peer_.get()) == 0; }));
  Failover();
  EXPECT_EQ(20'000u, bytes_.unread.size());
  pollfd readable = {server_.get(), POLLIN, 0};
  EXPECT_EQ(1, ::poll(&readable, 1, 0)) << "unread input does not make it readable";
  GoOn();
  Finish();
}

TEST_F(EndpointTest, PartlyReadInputAndRequestDuringTheGap) {
  Connect();
  ClientSends("one two ");
  ASSERT_TRUE(Eventually([&] { return Unread(server_.get()) == 8; }));
  char word[4];
  ASSERT_EQ(4, ::recv(server_.get(), word, 4, 0));
  to_server_.received.append(word, 4);
  Cut("port_a");
  ClientSends("three");  // lost, and sent again by the client
  Failover();
  EXPECT_EQ("two ", bytes_.unread);
  GoOn();
  Finish();
}

TEST_F(EndpointTest, OutputInFlightIsResentByTheKernel) {
  Connect();
  ServerSends("acknowledged");
  ASSERT_TRUE(Eventually([&] { return Unacknowledged(server_.get()) == 0; }));
  Cut("port_a");
  ServerSends(RandomBytes(10'000));
  Failover();
  EXPECT_EQ(10'000u, bytes_.sent.size());
  EXPECT_EQ(10'000, Unacknowledged(server_.get()));
  const auto restored = Clock::now();
  ASSERT_TRUE(Eventually([&] { return Unacknowledged(server_.get()) == 0; }));
  const auto elapsed = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - restored);
  RecordProperty("resent_after_ms", elapsed.count());
  std::printf("resent after %d ms\n", static_cast<int>(elapsed.count()));
  int limit = 0;
  socklen_t size = sizeof(limit);
  if (::getsockopt(server_.get(), IPPROTO_TCP, /*TCP_RTO_MAX_MS*/ 44, &limit, &size) == 0) {
    EXPECT_LT(elapsed, std::chrono::milliseconds(2500)) << "the retransmission timer is not at 1 s";
    EXPECT_EQ(120'000, limit) << "the limit of the timer has to be as before";
  }
  GoOn();
  Finish();
}

TEST_F(EndpointTest, SeveralMegabytesInFlight) {
  Numbers numbers;
  numbers.sent = RandomBytes(5'000'000);
  numbers.window = 8 << 20;
  const Endpoint endpoint = Invent(numbers);
  RestoreAtB(endpoint);
  EXPECT_EQ(5'000'000, Unacknowledged(server_.get()));
  EXPECT_EQ(0, Option(server_.get(), SOL_SOCKET, SO_BUF_LOCK));
  GoOn(3'000'000);
  Finish();
}

TEST_F(EndpointTest, SeveralMegabytesUnread) {
  Numbers numbers;
  numbers.unread = RandomBytes(5'000'000);
  const Endpoint endpoint = Invent(numbers);
  RestoreAtB(endpoint);
  EXPECT_EQ(5'000'000, Unread(server_.get()));
  EXPECT_EQ(0, Option(server_.get(), SOL_SOCKET, SO_BUF_LOCK));
  GoOn(3'000'000);
  Finish();
}

// Buffers grow as those of any connection do: counted in bytes that are under way, not in time.
TEST_F(EndpointTest, WindowsAreNotPinnedSmall) {
  for (const size_t pending : {0, 300'000}) {
    SCOPED_TRACE(pending);
    Numbers numbers;
    numbers.sent = numbers.unread = RandomBytes(pending);
    numbers.window = std::max<size_t>(60'000, pending);
    to_client_ = to_server_ = {};
    const Endpoint endpoint = Invent(numbers);
    RestoreAtB(endpoint);
    GoOn(1'000'000);  // a round-trip time is known by now
    const int receive_buffer = Option(server_.get(), SOL_SOCKET, SO_RCVBUF);
    const int send_buffer = Option(server_.get(), SOL_SOCKET, SO_SNDBUF);

    // A reader that takes its bytes in large draughts, so that whole windows are under way.
    const auto flood = [&](int from, int to, size_t draught, Stream& stream) {
      size_t most = 0;
      const std::string bytes = RandomBytes(24 << 20);
      std::string_view rest = bytes;
      stream.sent += bytes;
      size_t before = 0;
      EXPECT_TRUE(Eventually([&] {
        SendSome(from, rest);
        const size_t waiting = Unread(to);
        most = std::max(most, waiting);
        // Stalled or enough: take it.
        if (waiting >= draught || waiting == before) ReceiveSome(to, stream.received);
        before = waiting;
        return stream.received.size() == stream.sent.size();
      }));
      EXPECT_TRUE(stream.Same());
      return most;
    };
    const size_t up = flood(peer_.get(), server_.get(), 1 << 20, to_server_);
    const size_t down = flood(server_.get(), peer_.get(), 1 << 20, to_client_);
    std::printf(
        "pending %zu: receive buffer %d -> %d, most unread %zu; send buffer %d -> %d, most at "
        "the client %zu\n",
        pending, receive_buffer, Option(server_.get(), SOL_SOCKET, SO_RCVBUF), up, send_buffer,
        Option(server_.get(), SOL_SOCKET, SO_SNDBUF), down);
    EXPECT_GT(up, 500'000u) << "the window we offer is pinned";
    EXPECT_GT(Option(server_.get(), SOL_SOCKET, SO_SNDBUF), 500'000) << "the send buffer is pinned";
    Finish();
    CloseSilently(std::move(server_));
    CloseSilently(std::move(peer_));
    b_.Ip("addr del 198.18.0.1/32 dev eth0");
  }
}

TEST_F(EndpointTest, FinInFlight) {
  Connect();
  Cut("port_a");
  ServerSends("the end");
  ASSERT_EQ(0, ::shutdown(server_.get(), SHUT_WR));
  auto endpoint = CaptureAtA();
  ASSERT_TRUE(endpoint.ok()) << endpoint.status();
  EXPECT_TRUE(endpoint->fin_sent);
  EXPECT_EQ("the end", endpoint->sent);
  Sniffer sniffer(client_, "port_b");
  RestoreAtB(*endpoint);
  EXPECT_EQ(kFinWait1, StateOf(server_.get()));
  ClientSends("still here");  // acknowledges nothing of the FIN, which it never got
  ASSERT_TRUE(Eventually([&] { return Unread(server_.get()) == 10; }));
  for (const auto& seen : sniffer.Take()) {
    EXPECT_EQ(endpoint->snd_una + 8, seen.header.seq + seen.size + seen.header.flags.fin)
        << "the FIN counts as sent";
  }
  ASSERT_TRUE(Eventually([&] { return StateOf(server_.get()) == kFinWait2; }));
  ReceiveSome(peer_.get(), to_client_.received);
  EXPECT_EQ("the end", to_client_.received);
  EXPECT_TRUE(Ended(peer_.get()));
  ClientSends(RandomBytes(50'000));
  ::shutdown(peer_.get(), SHUT_WR);
  bool ended = false;
  ASSERT_TRUE(Eventually([&] {
    ReceiveSome(server_.get(), to_server_.received, &ended);
    return ended;
  }));
  EXPECT_TRUE(to_server_.Same());
  EXPECT_TRUE(Eventually([&] { return StateOf(server_.get()) == kClose; }));
}

TEST_F(EndpointTest, LoneFinInFlightIsResent) {
  Connect();
  Cut("port_a");
  ASSERT_EQ(0, ::shutdown(server_.get(), SHUT_WR));
  Failover();
  ASSERT_TRUE(Eventually([&] { return Ended(peer_.get()); }));
  ASSERT_TRUE(Eventually([&] { return StateOf(server_.get()) == kFinWait2; }));
}

TEST_F(EndpointTest, AcknowledgedPointBehindTheClient) {
  // All of `sent`, or its first half, was acknowledged before; the owner did not know.
  for (const uint32_t behind : {1, 5'000, 10'000}) {
    SCOPED_TRACE(behind);
    Numbers numbers;
    numbers.sent = RandomBytes(10'000);
    Endpoint endpoint = Invent(numbers);
    CloseSilently(std::move(peer_));
    numbers.sent = numbers.sent.substr(behind);
    numbers.server += behind;
    Endpoint client = Invent(numbers);  // the client as it is
    to_client_ = to_server_ = {};
    to_client_.sent = numbers.sent;
    bytes_ = {};
    std::string all = RandomBytes(behind) + numbers.sent;
    endpoint.sent = all;
    endpoint.rcv_nxt = client.rcv_nxt;
    RestoreAtB(endpoint);
    GoOn();
    Finish();
    CloseSilently(std::move(server_));
    CloseSilently(std::move(peer_));
    b_.Ip("addr del 198.18.0.1/32 dev eth0");
    to_client_ = to_server_ = {};
  }
}

// The bytes before the client's acknowledgement are never seen by it, whatever they are.
TEST_F(EndpointTest, AcknowledgedPointBehindTheClientLive) {
  Connect();
  ServerSends("seen by the client");
  ASSERT_TRUE(Eventually([&] { return Unacknowledged(server_.get()) == 0; }));
  auto endpoint = CaptureAtA();
  ASSERT_TRUE(endpoint.ok()) << endpoint.status();
  endpoint->snd_una -= 18;
  endpoint->sent = "seen by the client";
  ClientSends("and goes on");  // in the gap
  RestoreAtB(*endpoint);
  ASSERT_TRUE(Eventually([&] { return Unread(server_.get()) == 11; }));
  EXPECT_EQ(0, Unacknowledged(server_.get())) << "trimmed by the client's acknowledgement";
  GoOn();
  Finish();
}

class EndpointOptionsTest : public EndpointTest,
                            public ::testing::WithParamInterface<std::tuple<bool, bool, bool>> {};

TEST_P(EndpointOptionsTest, UnreadAndInFlight) {
  const auto [sack, timestamps, scaling] = GetParam();
  client_.Sysctl("net.ipv4.tcp_sack", sack ? "1" : "0");
  client_.Sysctl("net.ipv4.tcp_timestamps", timestamps ? "1" : "0");
  client_.Sysctl("net.ipv4.tcp_window_scaling", scaling ? "1" : "0");
  Connect();
  ClientSends(RandomBytes(5'000));
  ASSERT_TRUE(Eventually([&] { return Unread(server_.get()) == 5'000; }));
  Cut("port_a");
  ServerSends(RandomBytes(7'000));
  ClientSends(RandomBytes(3'000));
  const uint32_t timestamp = CurrentTimestamp(server_.get());
  EXPECT_EQ(timestamps, timestamp != 0);
  auto endpoint = CaptureAtA();
  ASSERT_TRUE(endpoint.ok()) << endpoint.status();
  EXPECT_EQ(sack, endpoint->options.sack);
  EXPECT_EQ(timestamps, endpoint->options.timestamps);
  EXPECT_EQ(scaling, endpoint->options.window_scaling);
  EXPECT_EQ(1460, endpoint->options.peer_mss);
  if (timestamps) {
    EXPECT_FALSE(SeqBefore(endpoint->timestamp, timestamp));
  }
  RestoreAtB(*endpoint);
  const tcp_info info = Info(server_.get());
  EXPECT_EQ(sack, (info.tcpi_options & TCPI_OPT_SACK) != 0);
  EXPECT_EQ(timestamps, (info.tcpi_options & TCPI_OPT_TIMESTAMPS) != 0);
  EXPECT_EQ(scaling, (info.tcpi_options & TCPI_OPT_WSCALE) != 0);
  EXPECT_EQ(timestamps, CurrentTimestamp(server_.get()) != 0);
  GoOn();
  Finish();
}

INSTANTIATE_TEST_SUITE_P(Options, EndpointOptionsTest,
                         ::testing::Combine(::testing::Bool(), ::testing::Bool(), ::testing::Bool()),
                         [](const auto& info) {
                           return absl::StrCat(std::get<0>(info.param) ? "Sack" : "NoSack",
                                               std::get<1>(info.param) ? "Timestamps" : "NoTimestamps",
                                               std::get<2>(info.param) ? "Scaling" : "NoScaling");
                         });

TEST_F(EndpointTest, SequenceNumbersWrapInTheQueues) {
  Numbers numbers;
  numbers.sent = RandomBytes(30'000);
  numbers.unread = RandomBytes(30'000);
  numbers.server = -10'000u;  // wraps inside `sent`
  numbers.client = 20'000u;   // wrapped inside `unread`
  const Endpoint endpoint = Invent(numbers);
  RestoreAtB(endpoint);
  GoOn();
  Finish();
}

TEST_F(EndpointTest, SequenceNumbersWrapAtTheEdges) {
  for (const Seq at : {Seq{0}, Seq{1}, ~Seq{0}, Seq{0x80000000}}) {
    SCOPED_TRACE(at);
    Numbers numbers;
    numbers.server = at - 5;
    numbers.sent = "12345";
    numbers.client = at;
    numbers.unread = "67890";
    to_client_ = to_server_ = {};
    const Endpoint endpoint = Invent(numbers);
    RestoreAtB(endpoint);
    GoOn(10'000);
    CloseSilently(std::move(server_));
    CloseSilently(std::move(peer_));
    b_.Ip("addr del 198.18.0.1/32 dev eth0");
  }
}

TEST_F(EndpointTest, TimestampWraps) {
  Numbers numbers;
  numbers.timestamp = -50u;  // 50 ms before
  numbers.sent = RandomBytes(1'000);
  const Endpoint endpoint = Invent(numbers);
  RestoreAtB(endpoint);
  ASSERT_TRUE(Eventually([&] { return CurrentTimestamp(server_.get()) < 0x80000000; }));
  GoOn();
  Finish();
}

TEST_F(EndpointTest, TimestampIsOfMillisecondsAndNeverBehind) {
  for (const uint32_t timestamp : {1u, 77'777u, 77'778u, ~0u}) {
    Numbers numbers;
    numbers.timestamp = timestamp;
    const Endpoint endpoint = Invent(numbers);
    InNamespace here(b_);
    auto server = Restore(endpoint);
    ASSERT_TRUE(server.ok()) << server.status();
    const auto from = Clock::now();
    const uint32_t now = Option(server->get(), IPPROTO_TCP, TCP_TIMESTAMP);
    EXPECT_FALSE(SeqBefore(now, timestamp)) << now << " " << timestamp;
    EXPECT_TRUE(SeqBefore(now, timestamp + 2000)) << now << " " << timestamp;
    // Bit 0 says of a clock of microseconds only since Linux 6.7; its pace does everywhere.
    while (Clock::now() - from < std::chrono::milliseconds(5)) continue;
    const uint32_t later = Option(server->get(), IPPROTO_TCP, TCP_TIMESTAMP);
    const auto passed = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - from);
    EXPECT_LE(later - now, passed.count() + 2) << "microsecond clock";
    CloseSilently(std::move(*server));
    CloseSilently(std::move(peer_));
  }
}

TEST_F(EndpointTest, ClientWithZeroWindow) {
  Connect(4096);
  // Until nothing more is sent: the rest stays unsent at A.
  const std::string bytes = RandomBytes(200'000);
  std::string_view rest = bytes;
  SendSome(server_.get(), rest);
  to_client_.sent = bytes.substr(0, bytes.size() - rest.size());
  ASSERT_TRUE(Eventually(
      [&] { return Info(server_.get()).tcpi_snd_wnd == 0 && Info(server_.get()).tcpi_unacked == 0; }));
  Failover();
  EXPECT_EQ("", bytes_.sent);
  EXPECT_GT(bytes_.unsent.size(), 0u);
  EXPECT_EQ(0u, Info(server_.get()).tcpi_snd_wnd);
  const int at_client = Unread(peer_.get());
  // Not into a closed window.
  std::string_view unsent = bytes_.unsent;
  SendSome(server_.get(), unsent);
  EXPECT_EQ("", unsent);
  EXPECT_EQ(at_client, Unread(peer_.get()));
  bytes_.unsent.clear();
  GoOn(50'000);
  Finish();
}

TEST_F(EndpointTest, UnsentOutputAndShutdown) {
  Connect(4096);
  const std::string bytes = RandomBytes(100'000);
  std::string_view rest = bytes;
  SendSome(server_.get(), rest);
  to_client_.sent = bytes.substr(0, bytes.size() - rest.size());
  ASSERT_EQ(0, ::shutdown(server_.get(), SHUT_WR));
  ASSERT_TRUE(Eventually([&] { return Info(server_.get()).tcpi_unacked == 0; }));
  auto endpoint = CaptureAtA();
  ASSERT_TRUE(endpoint.ok()) << endpoint.status();
  EXPECT_FALSE(endpoint->fin_sent) << "behind bytes that were not sent";
  RestoreAtB(*endpoint);
  std::string_view unsent = bytes_.unsent;
  SendSome(server_.get(), unsent);
  ASSERT_EQ("", unsent);
  ASSERT_EQ(0, ::shutdown(server_.get(), SHUT_WR));
  bool ended = false;
  ASSERT_TRUE(Eventually([&] {
    ReceiveSome(peer_.get(), to_client_.received, &ended);
    return ended;
  }));
  EXPECT_TRUE(to_client_.Same());
}

TEST_F(EndpointTest, RightEdgeOfTheWindowNeverMovesLeft) {
  Connect();
  // A large window: A has read a lot, and then stops.
  const std::string bytes = RandomBytes(8 << 20);
  std::string_view rest = bytes;
  ASSERT_TRUE(Eventually([&] {
    SendSome(peer_.get(), rest);
    if (to_server_.received.size() < (4 << 20)) ReceiveSome(server_.get(), to_server_.received);
    return to_server_.received.size() >= (4 << 20);
  }));
  Sniffer at_a(client_, "port_a"), at_b(client_, "port_b");
  const auto edge = [&](std::vector<Sniffer::Seen> all, std::optional<Seq> from, const char* who) {
    const int shift = Info(peer_.get()).tcpi_snd_wscale;
    for (const auto& seen : all) {
      const Seq right = seen.header.ack + (static_cast<uint32_t>(seen.header.window) << shift);
      if (from) {
        EXPECT_FALSE(SeqBefore(right, *from)) << who << ": by " << *from - right;
      }
      from = from ? SeqMax(*from, right) : right;
    }
    return from;
  };
  // Some more, unread: acknowledgements with a shrinking rest of the window.
  const size_t some = 40'000;
  std::string_view burst = rest.substr(0, some);
  SendSome(peer_.get(), burst);
  ASSERT_TRUE(Eventually([&] { return Unacknowledged(peer_.get()) == 0; }));
  Mark(a_);
  const std::optional<Seq> edge_at_a = edge(UpToMark(at_a), std::nullopt, "A");
  ASSERT_TRUE(edge_at_a);
  to_server_.sent = bytes.substr(0, bytes.size() - rest.size() + some - burst.size());

  auto endpoint = CaptureAtA();
  ASSERT_TRUE(endpoint.ok()) << endpoint.status();
  EXPECT_EQ(*edge_at_a, endpoint->rcv_edge);
  std::printf("window at the failure: %u\n", endpoint->rcv_edge - endpoint->rcv_nxt);
  RestoreAtB(*endpoint);
  ServerSends("x");  // its acknowledgement and window are B's first
  ClientSends("y");
  ASSERT_TRUE(Eventually([&] { return Unread(peer_.get()) == 1; }));
  GoOn();
  Mark(b_);
  const auto seen = UpToMark(at_b);
  ASSERT_FALSE(seen.empty());
  edge(seen, edge_at_a, "B");
}

TEST_F(EndpointTest, RightEdgeOfAWindowThatTheBufferAloneWouldNotGive) {
  Numbers numbers;
  numbers.window = 65'536;  // of a default buffer the kernel offers a little less
  const Endpoint endpoint = Invent(numbers);
  Sniffer sniffer(client_, "port_b");
  RestoreAtB(endpoint);
  ServerSends("x");
  ASSERT_TRUE(Eventually([&] { return Unread(peer_.get()) == 1; }));
  Mark(b_);
  const auto seen = UpToMark(sniffer);
  ASSERT_FALSE(seen.empty());
  for (const auto& [header, size] : seen) {
    const Seq right = header.ack + (header.window << numbers.options.rcv_wscale);
    EXPECT_FALSE(SeqBefore(right, endpoint.rcv_edge)) << "by " << endpoint.rcv_edge - right;
  }
  GoOn();
}

TEST_F(EndpointTest, AllOfThePromisedWindowIsTaken) {
  // The client sends at once as much as A had offered; B has to have room for it, unread.
  Numbers numbers;
  numbers.window = 3'000'000;
  const Endpoint endpoint = Invent(numbers);
  RestoreAtB(endpoint);
  const std::string bytes = RandomBytes(2'900'000);
  std::string_view rest = bytes;
  to_server_.sent = bytes;
  ASSERT_TRUE(Eventually([&] {
    SendSome(peer_.get(), rest);
    return Unread(server_.get()) == static_cast<int>(bytes.size());
  })) << Unread(server_.get());
  EXPECT_EQ(0u, Info(peer_.get()).tcpi_total_retrans) << "B had refused some of it at first";
  GoOn();
}

}  // namespace
}  // namespace understudy::tcpshim
