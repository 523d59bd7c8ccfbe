// Three hosts: a client and two servers, A and B, which share a service address; the client's bridge
// decides which of the two is in the net. A connection of A goes on at B.
#include "tcpshim/endpoint.h"

#include <linux/capability.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tcpshim/namespaces_for_test.h"
#include "tcpshim/north_wrapper.h"
#include "tcpshim/segment.h"

namespace understudy::tcpshim {
namespace {

using ::testing::AnyOf;
using ::testing::AssertionFailure;
using ::testing::AssertionResult;
using ::testing::AssertionSuccess;
using ::testing::HasSubstr;
using Clock = std::chrono::steady_clock;

enum State {
  kEstablished = 1,
  kFinWait1 = 4,
  kFinWait2 = 5,
  kClose = 7,
  kCloseWait = 8,
  kLastAck = 9,
  kClosing = 11
};

constexpr uint32_t kServiceIp = 0xC6120001;  // 198.18.0.1
constexpr uint32_t kClientIp = 0xC6120009;   // 198.18.0.9
constexpr SocketAddress kService = {kServiceIp, 7000};
constexpr auto kDeadline = std::chrono::seconds(20);

const auto* const kEnvironment = ::testing::AddGlobalTestEnvironment(new NamespacesNeeded);

sockaddr_in ToSockaddr(const SocketAddress& address) {
  sockaddr_in result = {};
  result.sin_family = AF_INET;
  result.sin_addr.s_addr = htonl(address.ip);
  result.sin_port = htons(address.port);
  return result;
}

AssertionResult Eventually(const std::function<bool()>& condition) {
  const auto until = Clock::now() + kDeadline;
  while (!condition()) {
    if (Clock::now() > until) return AssertionFailure() << "timed out";
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return AssertionSuccess();
}

tcp_info Info(int fd) {
  tcp_info info = {};
  socklen_t size = sizeof(info);
  EXPECT_EQ(0, ::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size)) << strerror(errno);
  return info;
}
int StateOf(int fd) { return Info(fd).tcpi_state; }
int Option(int fd, int level, int option) {
  int value = 0;
  socklen_t size = sizeof(value);
  EXPECT_EQ(0, ::getsockopt(fd, level, option, &value, &size)) << strerror(errno);
  return value;
}
int Queued(int fd, int request) {
  int value = -1;
  EXPECT_EQ(0, ::ioctl(fd, request, &value)) << strerror(errno);
  return value;
}
int Unread(int fd) { return Queued(fd, SIOCINQ); }
int Unacknowledged(int fd) { return Queued(fd, SIOCOUTQ); }

std::string RandomBytes(size_t size) {
  static const uint32_t seed = [] {
    const uint32_t seed = std::random_device()();
    std::printf("seed of the bytes: %u\n", seed);
    return seed;
  }();
  static std::mt19937 random(seed);
  std::string bytes(size, '\0');
  for (char& c : bytes) c = static_cast<char>(random());
  return bytes;
}

// Writes what fits.
void SendSome(int fd, std::string_view& bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0) {
      ASSERT_EQ(EAGAIN, errno) << strerror(errno);
      return;
    }
    bytes.remove_prefix(n);
  }
}
void ReceiveSome(int fd, std::string& bytes, bool* ended = nullptr) {
  static std::string buffer(1 << 18, '\0');
  while (true) {
    const ssize_t n = ::recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (n < 0) {
      ASSERT_EQ(EAGAIN, errno) << strerror(errno);
      return;
    }
    if (n == 0) {
      if (ended != nullptr) *ended = true;
      return;
    }
    bytes.append(buffer.data(), n);
  }
}
bool Ended(int fd) {
  char byte;
  return ::recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
}

// The two directions of a connection: what has been given to one end and is due at the other.
struct Stream {
  std::string sent, received;
  AssertionResult Same() const {
    if (sent == received) return AssertionSuccess();
    const size_t at =
        std::mismatch(sent.begin(), sent.begin() + std::min(sent.size(), received.size()), received.begin())
            .first -
        sent.begin();
    return AssertionFailure() << received.size() << " bytes received of " << sent.size()
                              << ", the same up to byte " << at;
  }
};

// Sees the frames that one of the servers sends, at the client's end of its cable.
class Sniffer {
 public:
  Sniffer(const Namespace& where, const char* interface) {
    InNamespace here(where);
    fd_.reset(::socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    EXPECT_TRUE(fd_) << strerror(errno);
    const int large = 32 << 20;
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &large, sizeof(large));
    sockaddr_ll address = {};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(ETH_P_ALL);  // others come behind the bridge
    address.sll_ifindex = ::if_nametoindex(interface);
    EXPECT_EQ(0, ::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)))
        << strerror(errno);
  }
  // What the server has sent over TCP since the last call. `marker`: a UDP datagram has been seen, too.
  struct Seen {
    Segment header;
    size_t size;
  };
  std::vector<Seen> Take(bool* marker = nullptr) {
    std::vector<Seen> result;
    static std::string frame(1 << 17, '\0');
    while (true) {
      sockaddr_ll from = {};
      socklen_t size = sizeof(from);
      const ssize_t n =
          ::recvfrom(fd_.get(), frame.data(), frame.size(), 0, reinterpret_cast<sockaddr*>(&from), &size);
      if (n < 0) return result;
      if (from.sll_pkttype == PACKET_OUTGOING || from.sll_protocol != htons(ETH_P_IP) || n < ETH_HLEN + 20) {
        continue;
      }
      const std::string_view packet(frame.data() + ETH_HLEN, n - ETH_HLEN);
      if (packet[9] == IPPROTO_UDP && marker != nullptr) *marker = true;
      auto segment = ParsePacket(packet);
      if (!segment.ok()) continue;
      result.push_back({*segment, segment->payload.size()});
      result.back().header.payload = {};
    }
  }

 private:
  UniqueFd fd_;
};

class EndpointTest : public ::testing::Test {
 protected:
  void SetUp() override {
    client_.Ip(
        "link add br0 type bridge ageing_time 0\n"
        "addr add 198.18.0.9/24 dev br0\n"
        "link set br0 up");
    AddServer(a_, "port_a", "198.18.0.2");
    AddServer(b_, "port_b", "198.18.0.3");
    Cut("port_b");
    a_.Ip("addr add 198.18.0.1/32 dev eth0");
  }

  void AddServer(const Namespace& server, const std::string& port, const std::string& own_ip) {
    client_.Ip(
        absl::StrReplaceAll("link add PORT type veth peer name eth0 netns PATH\n"
                            "link set PORT master br0\n"
                            "link set PORT up\n",
                            {{"PORT", port}, {"PATH", server.path()}}));
    // The same MAC address for both, so that no ARP cache comes into it.
    server.Ip(absl::StrCat("link set eth0 address 02:00:00:00:00:01\naddr add ", own_ip,
                           "/24 dev eth0\nlink set eth0 up\n"));
    // The bridge takes a port into use a moment after its cable has come up.
    ASSERT_TRUE(Eventually([&] { return Forwards(port); })) << port;
  }
  bool Forwards(const std::string& port) {
    InNamespace here(client_);
    FILE* out = ::popen(absl::StrCat("bridge -json link show dev ", port).c_str(), "r");
    char text[1000] = "";
    const size_t size = std::fread(text, 1, sizeof(text), out);
    ::pclose(out);
    return std::string_view(text, size).find("\"forwarding\"") != std::string_view::npos;
  }
  // A cable of the bridge: cut or joined at once, without either end noticing.
  void Cut(const std::string& port) { client_.Bridge(absl::StrCat("link set dev ", port, " state 0")); }
  void Join(const std::string& port) { client_.Bridge(absl::StrCat("link set dev ", port, " state 3")); }
  // Only what A sends is lost.
  void MuteA() { a_.Ip("neigh replace 198.18.0.9 lladdr 02:00:00:00:00:ff dev eth0 nud permanent"); }

  // An ordinary connection from the client to A.
  void Connect(int client_receive_buffer = 0) {
    {
      InNamespace here(a_);
      if (!listener_) {
        listener_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        const int on = 1;
        ::setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        const sockaddr_in address = ToSockaddr(kService);
        ASSERT_EQ(0, ::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)))
            << strerror(errno);
        ASSERT_EQ(0, ::listen(listener_.get(), 100));
      }
    }
    InNamespace here(client_);
    peer_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (client_receive_buffer > 0) {
      ::setsockopt(peer_.get(), SOL_SOCKET, SO_RCVBUF, &client_receive_buffer, sizeof(client_receive_buffer));
    }
    const sockaddr_in address = ToSockaddr(kService);
    ASSERT_EQ(0, ::connect(peer_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)))
        << strerror(errno);
    server_.reset(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    ASSERT_TRUE(server_) << strerror(errno);
  }

  void ClientSends(std::string_view bytes) {
    to_server_.sent += bytes;
    SendSome(peer_.get(), bytes);
    ASSERT_EQ("", bytes);
  }
  void ServerSends(std::string_view bytes) {
    to_client_.sent += bytes;
    SendSome(server_.get(), bytes);
    ASSERT_EQ("", bytes);
  }

  // A dies; B has the address, but no socket yet.
  absl::StatusOr<Endpoint> CaptureAtA() {
    Cut("port_a");
    auto endpoint = Capture(server_.get(), bytes_);
    if (endpoint.ok()) CloseSilently(std::move(server_));
    return endpoint;
  }
  void RestoreAtB(const Endpoint& endpoint) {
    InNamespace here(b_);
    auto server = Restore(endpoint);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = std::move(*server);
    b_.Ip("addr add 198.18.0.1/32 dev eth0");
    Join("port_b");
  }
  void Failover() {
    auto endpoint = CaptureAtA();
    ASSERT_TRUE(endpoint.ok()) << endpoint.status();
    RestoreAtB(*endpoint);
    ASSERT_TRUE(server_);
  }

  // Sends as much both ways and reads everything, from what was pending on.
  void GoOn(size_t size = 300'000) {
    const std::string up = RandomBytes(size), down = bytes_.unsent + RandomBytes(size);
    to_server_.sent += up;
    // `unsent` was counted when it was written.
    to_client_.sent += std::string_view(down).substr(bytes_.unsent.size());
    bytes_.unsent.clear();
    std::string_view up_rest = up, down_rest = down;
    ASSERT_TRUE(Eventually([&] {
      SendSome(peer_.get(), up_rest);
      SendSome(server_.get(), down_rest);
      ReceiveSome(peer_.get(), to_client_.received);
      ReceiveSome(server_.get(), to_server_.received);
      return (to_client_.received.size() >= to_client_.sent.size() &&
              to_server_.received.size() >= to_server_.sent.size()) ||
             HasFatalFailure();
    })) << "to the client: "
        << to_client_.Same().message() << "; to the server: " << to_server_.Same().message();
    EXPECT_TRUE(to_client_.Same());
    EXPECT_TRUE(to_server_.Same());
  }
  // Both ends close in order.
  void Finish() {
    ASSERT_EQ(0, ::shutdown(server_.get(), SHUT_WR)) << strerror(errno);
    ASSERT_TRUE(Eventually([&] { return Ended(peer_.get()); }));
    ASSERT_EQ(0, ::shutdown(peer_.get(), SHUT_WR)) << strerror(errno);
    ASSERT_TRUE(Eventually([&] { return Ended(server_.get()); }));
    EXPECT_TRUE(Eventually([&] { return Unacknowledged(peer_.get()) == 0; }));
  }

  // A datagram from a server: whatever it has sent before has been seen when this has.
  void Mark(const Namespace& server) {
    InNamespace here(server);
    const UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const sockaddr_in address = ToSockaddr({kClientIp, 9});
    ASSERT_EQ(1, ::sendto(fd.get(), "x", 1, 0, reinterpret_cast<const sockaddr*>(&address), sizeof(address)))
        << strerror(errno);
  }
  // Everything over TCP up to the marker.
  std::vector<Sniffer::Seen> UpToMark(Sniffer& sniffer) {
    std::vector<Sniffer::Seen> all;
    bool marker = false;
    EXPECT_TRUE(Eventually([&] {
      for (auto& seen : sniffer.Take(&marker)) all.push_back(seen);
      return marker;
    }));
    return all;
  }

  // Both ends of a connection that never was, from numbers alone: the client's in its namespace, and what
  // the server's shall be. The client has received none of `sent` and sent all of `unread`.
  struct Numbers {
    Seq server = 1000, client = 5000;  // snd_una of the server, next number of the client
    uint32_t timestamp = 100'000;
    std::string sent, unread;
    uint32_t window = 60'000;  // of either
    TcpOptions options = {1460, 1460, true, 7, 7, true, true};
  };
  Endpoint Invent(const Numbers& numbers) {
    bytes_ = {numbers.sent, numbers.unread, ""};
    Endpoint server;
    server.tuple = {kService, {kClientIp, 40000}};
    server.options = numbers.options;
    server.snd_una = numbers.server;
    server.sent = bytes_.sent;
    server.rcv_nxt = numbers.client;
    server.unread = bytes_.unread;
    server.snd_wnd = numbers.window;
    server.rcv_edge = numbers.client + numbers.window;
    server.timestamp = numbers.timestamp;
    Endpoint client;
    client.tuple = {server.tuple.remote, server.tuple.local};
    client.options = server.options;
    client.snd_una = numbers.client;
    client.rcv_nxt = numbers.server;
    client.snd_wnd = numbers.window;
    client.rcv_edge = numbers.server + numbers.window;
    client.timestamp = numbers.timestamp;
    InNamespace here(client_);
    auto peer = Restore(client);
    EXPECT_TRUE(peer.ok()) << peer.status();
    if (peer.ok()) peer_ = std::move(*peer);
    to_client_.sent = numbers.sent;
    to_server_.sent = numbers.unread;
    Cut("port_a");
    return server;
  }

  Namespace client_, a_, b_;
  UniqueFd listener_, peer_, server_;  // peer_ is the client's end, server_ that of A and then of B
  CapturedBytes bytes_;
  Stream to_client_, to_server_;
};

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
    auto north = NorthWrapper::Create(loop, &log);
    ASSERT_TRUE(north.ok()) << north.status();
    const auto listen = [&] {
      InNamespace here(b_);  // the service address is not there yet
      const absl::Status status = (*north)->Listen(kService, /*transparent=*/true);
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
