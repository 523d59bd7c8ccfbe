// Three hosts: a client and two servers, A and B, which share a service address; the client's bridge
// decides which of the two is in the net. A connection of A goes on at B.
#ifndef UNDERSTUDY_TCPSHIM_ENDPOINT_FOR_TEST_H_
#define UNDERSTUDY_TCPSHIM_ENDPOINT_FOR_TEST_H_

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tcpshim/bytes_for_test.h"
#include "tcpshim/endpoint.h"
#include "tcpshim/namespaces_for_test.h"
#include "tcpshim/segment.h"
#include "tcpshim/sockaddr.h"
#include "tcpshim/tap_for_test.h"
#include "tcpshim/wait_for_test.h"

namespace understudy::tcpshim {

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

inline constexpr uint32_t kServiceIp = 0xC6120001;  // 198.18.0.1
inline constexpr uint32_t kClientIp = 0xC6120009;   // 198.18.0.9
inline constexpr SocketAddress kService = {kServiceIp, 7000};

inline tcp_info Info(int fd) {
  tcp_info info = {};
  socklen_t size = sizeof(info);
  EXPECT_EQ(0, ::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size)) << strerror(errno);
  return info;
}
inline int StateOf(int fd) { return Info(fd).tcpi_state; }
inline int Option(int fd, int level, int option) {
  int value = 0;
  socklen_t size = sizeof(value);
  EXPECT_EQ(0, ::getsockopt(fd, level, option, &value, &size)) << strerror(errno);
  return value;
}
inline int Queued(int fd, int request) {
  int value = -1;
  EXPECT_EQ(0, ::ioctl(fd, request, &value)) << strerror(errno);
  return value;
}
inline int Unread(int fd) { return Queued(fd, SIOCINQ); }
inline int Unacknowledged(int fd) { return Queued(fd, SIOCOUTQ); }

// Writes what fits.
inline void SendSome(int fd, std::string_view& bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0) {
      ASSERT_EQ(EAGAIN, errno) << strerror(errno);
      return;
    }
    bytes.remove_prefix(n);
  }
}
inline void ReceiveSome(int fd, std::string& bytes, bool* ended = nullptr) {
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
inline bool Ended(int fd) {
  char byte;
  return ::recv(fd, &byte, 1, MSG_DONTWAIT | MSG_PEEK) == 0;
}

// The two directions of a connection: what has been given to one end and is due at the other.
struct Stream {
  std::string sent, received;
  ::testing::AssertionResult Same() const {
    if (sent == received) return ::testing::AssertionSuccess();
    const size_t at =
        std::mismatch(sent.begin(), sent.begin() + std::min(sent.size(), received.size()), received.begin())
            .first -
        sent.begin();
    return ::testing::AssertionFailure()
           << received.size() << " bytes received of " << sent.size() << ", the same up to byte " << at;
  }
};

// Sees the segments that one of the servers sends, at the client's end of its cable.
class Sniffer {
 public:
  Sniffer(const Namespace& where, const char* interface) {
    InNamespace here(where);
    tap_.emplace(interface);
  }
  // What the server has sent over TCP since the last call. `marker`: a UDP datagram has been seen, too.
  struct Seen {
    Segment header;
    size_t size;
  };
  std::vector<Seen> Take(bool* marker = nullptr) {
    std::vector<Seen> result;
    for (const Tap::Frame& frame : tap_->Take()) {
      const std::string packet = frame.packet();
      if (frame.protocol != ETH_P_IP || packet.size() < 20) continue;
      if (packet[9] == IPPROTO_UDP && marker != nullptr) *marker = true;
      auto segment = ParsePacket(packet);
      if (!segment.ok()) continue;
      result.push_back({*segment, segment->payload.size()});
      result.back().header.payload = {};
    }
    return result;
  }

 private:
  std::optional<Tap> tap_;
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

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_ENDPOINT_FOR_TEST_H_
