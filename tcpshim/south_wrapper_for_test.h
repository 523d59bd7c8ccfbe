// The south wrapper under real TCP, between two network namespaces that this process makes: the server's, in
// which it runs, and the client's, joined by a veth pair. They go with the process.
//
// Needs root, and says so.
#ifndef UNDERSTUDY_TCPSHIM_SOUTH_WRAPPER_FOR_TEST_H_
#define UNDERSTUDY_TCPSHIM_SOUTH_WRAPPER_FOR_TEST_H_

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tcpshim/namespaces_for_test.h"
#include "tcpshim/raw_sender.h"
#include "tcpshim/segment.h"
#include "tcpshim/sockaddr.h"
#include "tcpshim/south_attachment.h"
#include "tcpshim/south_wrapper.h"
#include "tcpshim/tap_for_test.h"
#include "tcpshim/unique_fd.h"
#include "tcpshim/wait_for_test.h"

namespace understudy::tcpshim {

using Clock = std::chrono::steady_clock;

inline constexpr uint32_t kServiceIp = 0xc6120001;
inline constexpr uint32_t kClientIp = 0xc6120002;
inline constexpr char kInterface[] = "svc";

inline const sockaddr* Cast(const sockaddr_in& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

inline std::string Output(const std::string& command) {
  std::string out;
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return "popen failed";
  std::array<char, 512> buffer;
  while (size_t n = fread(buffer.data(), 1, buffer.size(), pipe)) out.append(buffer.data(), n);
  pclose(pipe);
  return out;
}

inline bool Shell(const std::string& command) {
  const int status = system(command.c_str());
  EXPECT_EQ(status, 0) << command;
  return status == 0;
}

// All segments from the service that reach the client's interface.
class Wire {
 public:
  explicit Wire(const char* interface) : tap_(interface) {}

  struct Seen {
    std::string packet;  // IPv4 and on; an ARP frame whole
    uint16_t protocol;
    bool checksum_pending;
  };
  // What has come since it was cleared.
  const std::vector<Seen>& Look() {
    for (const Tap::Frame& frame : tap_.Take()) {
      const bool ip = frame.protocol == ETH_P_IP;
      seen_.push_back({ip ? frame.packet() : frame.bytes, frame.protocol, frame.checksum_pending});
    }
    return seen_;
  }
  // Those of this service: sockets of earlier tests still repeat theirs.
  std::vector<Segment> Segments(const SocketAddress& service) {
    std::vector<Segment> out;
    for (const Seen& seen : Look()) {
      auto segment = ParsePacket(seen.packet);
      if (segment.ok() && segment->source == service) out.push_back(*segment);
    }
    return out;
  }
  void Clear() {
    Look();
    seen_.clear();
  }

 private:
  Tap tap_;
  std::vector<Seen> seen_;
};

class SouthWrapperTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    client_ = std::make_unique<Namespace>();
    server_ = std::make_unique<Namespace>();
    here_ = std::make_unique<InNamespace>(*server_);
  }
  static void TearDownTestSuite() {
    here_.reset();
    server_.reset();
    client_.reset();
  }

  void SetUp() override {
    // A pair of its own for each test: nothing is left over, not even by a failed one.
    ASSERT_TRUE(Shell(
        absl::StrCat("ip link add svc type veth peer name cli && ip link set cli netns ", client_->path())));
    ASSERT_TRUE(Shell("ip link set lo up && ip addr add 198.18.0.1/24 dev svc && ip link set svc up"));
    InClient([this] {
      Shell("ip link set lo up && ip addr add 198.18.0.2/24 dev cli && ip link set cli up");
      wire_ = std::make_unique<Wire>("cli");
    });
    static uint16_t port = 7000;
    service_ = {kServiceIp, ++port};
    auto hand = RawSender::Open();
    ASSERT_TRUE(hand.ok()) << hand.status();
    hand_ = *std::move(hand);
  }

  void TearDown() override {
    south_.reset();
    wire_.reset();
    Shell("ip link del svc");
  }

  static void InClient(const std::function<void()>& body) {
    InNamespace there(*client_);
    body();
  }

  SouthWrapper::Options Options() const {
    SouthWrapper::Options options;
    options.interface = kInterface;
    options.service = service_;
    options.max_connections = 256;
    options.tcx = tcx_;
    options.hand_cookie = hand_->cookie();
    options.hand_ip_id = hand_->ip_id();
    return options;
  }

  void Attach() {
    auto south = SouthWrapper::Attach(Options());
    ASSERT_TRUE(south.ok()) << south.status();
    south_ = *std::move(south);
    south_->OpenGate();
    south_->RenewUntil(Clock::now() + std::chrono::hours(1));
  }

  void Listen() {
    listener_ = UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    const sockaddr_in address = ToSockaddr(service_);
    ASSERT_EQ(bind(listener_.get(), Cast(address), sizeof(address)), 0) << strerror(errno);
    ASSERT_EQ(listen(listener_.get(), 16), 0);
  }

  UniqueFd StartConnect() {
    UniqueFd fd;
    InClient([&] { fd = UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)); });
    const sockaddr_in to = ToSockaddr(service_);
    EXPECT_EQ(connect(fd.get(), Cast(to), sizeof(to)), -1);
    EXPECT_EQ(errno, EINPROGRESS);
    return fd;
  }

  // Waits for one event of this kind.
  std::optional<south_event> Event(uint32_t kind) {
    std::optional<south_event> found;
    Eventually([&] {
      south_->PollEvents([&](const south_event& event) {
        if (event.kind == kind) found = event;
      });
      return found.has_value();
    });
    EXPECT_TRUE(found) << "no event of kind " << kind;
    return found;
  }

  static bool Ready(int fd, short events) {
    pollfd one = {fd, events, 0};
    return poll(&one, 1, 0) == 1 && (one.revents & events) != 0;
  }

  Segment SynAckOf(const south_event& event) const {
    Segment segment;
    segment.source = service_;
    segment.destination = {ntohl(event.tuple.remote_ip), ntohs(event.tuple.remote_port)};
    segment.seq = event.seq;
    segment.ack = event.ack;
    segment.flags.syn = segment.flags.ack = true;
    segment.flags.ece = event.ecn;
    segment.window = event.window;
    segment.mss = event.own_mss;
    if (event.window_scaling) segment.wscale = event.rcv_wscale;
    segment.sack_permitted = event.sack;
    if (event.timestamps) segment.timestamps = Segment::Timestamps{event.tsval, event.tsecr};
    return segment;
  }

  // A connection, established as a node does it.
  struct Connection {
    UniqueFd client, server;
    south_event opened;
    SouthWrapper::Slot slot;
    FourTuple tuple;
  };
  Connection Establish() {
    Connection c;
    c.client = StartConnect();
    auto event = Event(SOUTH_EVENT_SYN_ACK);
    if (!event) return c;
    c.opened = *event;
    c.tuple = {service_, {ntohl(event->tuple.remote_ip), ntohs(event->tuple.remote_port)}};
    auto slot = south_->Add(c.tuple, event->seq, event->ack, SOUTH_OPEN, event->rcv_wscale);
    EXPECT_TRUE(slot.ok()) << slot.status();
    c.slot = *slot;
    EXPECT_TRUE(hand_->Send(SynAckOf(*event)).ok());
    EXPECT_TRUE(Eventually([&] { return Ready(c.client.get(), POLLOUT); }));
    EXPECT_TRUE(Eventually([&] {
      c.server = UniqueFd(accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      return static_cast<bool>(c.server);
    }));
    return c;
  }

  // The RST that the event is about, as user space sends it.
  void SendRst(const south_event& event) {
    Segment rst;
    rst.source = service_;
    rst.destination = {ntohl(event.tuple.remote_ip), ntohs(event.tuple.remote_port)};
    rst.seq = event.seq;
    rst.ack = event.ack;
    rst.flags.rst = rst.flags.ack = true;
    EXPECT_TRUE(hand_->Send(rst).ok());
  }

  // Sends a lone acknowledgement, if one is due.
  bool SendHeld(const Connection& c) {
    auto held = south_->TakeHeldAck(c.slot);
    if (!held) return false;
    Segment segment;
    segment.source = c.tuple.local;
    segment.destination = c.tuple.remote;
    segment.seq = held->seq;
    segment.ack = held->ack;
    segment.flags.ack = true;
    segment.window = held->window;
    if (c.opened.timestamps) segment.timestamps = Segment::Timestamps{held->tsval, held->tsecr};
    EXPECT_TRUE(hand_->Send(segment).ok());
    return true;
  }

  // Bytes of `fd` that its peer has not acknowledged.
  static int Unacknowledged(const UniqueFd& fd) {
    int bytes = -1;
    EXPECT_EQ(ioctl(fd.get(), SIOCOUTQ, &bytes), 0);
    return bytes;
  }

  static void SendAll(const UniqueFd& fd, std::string_view bytes) {
    ASSERT_EQ(send(fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL), static_cast<ssize_t>(bytes.size()));
  }

  // Reads exactly `size` bytes.
  static std::string Receive(const UniqueFd& fd, size_t size) {
    std::string out;
    Eventually([&] {
      std::array<char, 65536> buffer;
      const ssize_t n = recv(fd.get(), buffer.data(), std::min(buffer.size(), size - out.size()), 0);
      if (n > 0) out.append(buffer.data(), static_cast<size_t>(n));
      return out.size() == size || n == 0;
    });
    EXPECT_EQ(out.size(), size);
    return out;
  }

  // How many hang on the service's interface.
  size_t Programs(SouthAttachment::Direction direction = SouthAttachment::kEgress) const {
    const south_service who = {htonl(service_.ip), htons(service_.port), 0};
    return SouthAttachment::ProgramIds(static_cast<int>(if_nametoindex(kInterface)), direction, who).size();
  }

  uint64_t Count(int counter) const { return south_->Counters()[static_cast<size_t>(counter)]; }

  static inline std::unique_ptr<Namespace> client_, server_;
  static inline std::unique_ptr<InNamespace> here_;  // in server_
  SocketAddress service_;
  bool tcx_ = true;
  std::unique_ptr<SouthWrapper> south_;
  std::unique_ptr<RawSender> hand_;
  std::unique_ptr<Wire> wire_;
  UniqueFd listener_;
};

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_SOUTH_WRAPPER_FOR_TEST_H_
