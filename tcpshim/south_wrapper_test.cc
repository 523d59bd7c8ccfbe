// The south wrapper under real TCP, between two network namespaces that this process makes: the
// server's, in which it runs, and the client's, joined by a veth pair. They go with the process.
//
// Needs root, and says so.
#include "tcpshim/south_wrapper.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <iostream>
#include <map>
#include <random>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "tcpshim/raw_sender.h"
#include "tcpshim/segment.h"
#include "tcpshim/south_attachment.h"
#include "tcpshim/unique_fd.h"

namespace understudy::tcpshim {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using Clock = std::chrono::steady_clock;

constexpr uint32_t kServiceIp = 0xc6120001;
constexpr uint32_t kClientIp = 0xc6120002;
constexpr char kInterface[] = "svc";

sockaddr_in ToSockaddr(uint32_t ip, uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(ip);
  address.sin_port = htons(port);
  return address;
}

const sockaddr* Cast(const sockaddr_in& address) { return reinterpret_cast<const sockaddr*>(&address); }

bool Until(const std::function<bool()>& condition,
           std::chrono::milliseconds limit = std::chrono::seconds(10)) {
  const auto until = Clock::now() + limit;
  while (!condition()) {
    if (Clock::now() > until) return false;
    poll(nullptr, 0, 1);
  }
  return true;
}

std::string Output(const std::string& command) {
  std::string out;
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return "popen failed";
  std::array<char, 512> buffer;
  while (size_t n = fread(buffer.data(), 1, buffer.size(), pipe)) out.append(buffer.data(), n);
  pclose(pipe);
  return out;
}

bool Shell(const std::string& command) {
  const int status = system(command.c_str());
  EXPECT_EQ(status, 0) << command;
  return status == 0;
}

// All segments from the service that reach the client's interface.
class Wire {
 public:
  explicit Wire(UniqueFd fd) : fd_(std::move(fd)) {}

  struct Seen {
    std::string packet;  // IPv4 and on; an ARP frame whole
    uint16_t protocol;
    bool checksum_pending;
  };
  // What has come since the last call.
  const std::vector<Seen>& Look() {
    std::array<char, 70000> buffer;
    for (;;) {
      sockaddr_ll from = {};
      iovec part = {buffer.data(), buffer.size()};
      std::array<char, 256> control;
      msghdr message = {};
      message.msg_name = &from;
      message.msg_namelen = sizeof(from);
      message.msg_iov = &part;
      message.msg_iovlen = 1;
      message.msg_control = control.data();
      message.msg_controllen = control.size();
      const ssize_t size = recvmsg(fd_.get(), &message, MSG_DONTWAIT);
      if (size < 0) break;
      if (from.sll_pkttype == PACKET_OUTGOING) continue;
      bool pending = false;
      for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level != SOL_PACKET || c->cmsg_type != PACKET_AUXDATA) continue;
        tpacket_auxdata data;
        memcpy(&data, CMSG_DATA(c), sizeof(data));
        pending = (data.tp_status & TP_STATUS_CSUMNOTREADY) != 0;
      }
      const std::string frame(buffer.data(), static_cast<size_t>(size));
      const uint16_t protocol = ntohs(from.sll_protocol);
      seen_.push_back({protocol == ETH_P_IP ? frame.substr(14) : frame, protocol, pending});
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
  UniqueFd fd_;
  std::vector<Seen> seen_;
};

class SouthWrapperTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    ASSERT_EQ(unshare(CLONE_NEWNET), 0)
        << "this test must run as root: it loads BPF programs in network namespaces of its own";
    client_space_ = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    ASSERT_EQ(unshare(CLONE_NEWNET), 0);
    server_space_ = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    ready_ = true;
  }

  void SetUp() override {
    ASSERT_TRUE(ready_) << "no namespaces: see the first failure";
    // A pair of its own for each test: nothing is left over, not even by a failed one.
    const std::string client = absl::StrCat("/proc/", getpid(), "/fd/", client_space_);
    ASSERT_TRUE(
        Shell(absl::StrCat("ip link add svc type veth peer name cli && ip link set cli netns ", client)));
    ASSERT_TRUE(Shell("ip link set lo up && ip addr add 198.18.0.1/24 dev svc && ip link set svc up"));
    InClient([this] {
      Shell("ip link set lo up && ip addr add 198.18.0.2/24 dev cli && ip link set cli up");
      UniqueFd fd(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ALL)));
      sockaddr_ll address = {};
      address.sll_family = AF_PACKET;
      address.sll_protocol = htons(ETH_P_ALL);
      address.sll_ifindex = static_cast<int>(if_nametoindex("cli"));
      EXPECT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
      const int on = 1;
      EXPECT_EQ(setsockopt(fd.get(), SOL_PACKET, PACKET_AUXDATA, &on, sizeof(on)), 0);
      const int room = 64 << 20;
      setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
      wire_ = std::make_unique<Wire>(std::move(fd));
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
    if (ready_) Shell("ip link del svc");
  }

  static void InClient(const std::function<void()>& body) {
    ASSERT_EQ(setns(client_space_, CLONE_NEWNET), 0);
    body();
    ASSERT_EQ(setns(server_space_, CLONE_NEWNET), 0);
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
    const sockaddr_in address = ToSockaddr(service_.ip, service_.port);
    ASSERT_EQ(bind(listener_.get(), Cast(address), sizeof(address)), 0) << strerror(errno);
    ASSERT_EQ(listen(listener_.get(), 16), 0);
  }

  UniqueFd StartConnect() {
    UniqueFd fd;
    InClient([&] { fd = UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)); });
    const sockaddr_in to = ToSockaddr(service_.ip, service_.port);
    EXPECT_EQ(connect(fd.get(), Cast(to), sizeof(to)), -1);
    EXPECT_EQ(errno, EINPROGRESS);
    return fd;
  }

  // Waits for one event of this kind.
  std::optional<south_event> Event(uint32_t kind) {
    std::optional<south_event> found;
    Until([&] {
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
    EXPECT_TRUE(Until([&] { return Ready(c.client.get(), POLLOUT); }));
    EXPECT_TRUE(Until([&] {
      c.server = UniqueFd(accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
      return static_cast<bool>(c.server);
    }));
    return c;
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
    Until([&] {
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

  static int client_space_;
  static int server_space_;
  static bool ready_;
  SocketAddress service_;
  bool tcx_ = true;
  std::unique_ptr<SouthWrapper> south_;
  std::unique_ptr<RawSender> hand_;
  std::unique_ptr<Wire> wire_;
  UniqueFd listener_;
};

int SouthWrapperTest::client_space_ = -1;
int SouthWrapperTest::server_space_ = -1;
bool SouthWrapperTest::ready_ = false;

// --- A connection's life -------------------------------------------------------------------------

TEST_F(SouthWrapperTest, SynAckIsHeldAndThenSentByHand) {
  Attach();
  Listen();
  UniqueFd client = StartConnect();
  auto event = Event(SOUTH_EVENT_SYN_ACK);
  ASSERT_TRUE(event);
  EXPECT_TRUE(event->window_scaling && event->sack && event->timestamps);
  EXPECT_EQ(event->peer_mss, 1460);
  EXPECT_EQ(event->own_mss, 1460);
  const FourTuple tuple = {service_, {ntohl(event->tuple.remote_ip), ntohs(event->tuple.remote_port)}};
  auto slot = south_->Add(tuple, event->seq, event->ack, 0, event->rcv_wscale);
  ASSERT_TRUE(slot.ok());
  // TCP's own repetition, a second later, is held too: `Opened` is not stable.
  ASSERT_TRUE(Until([&] { return Count(SOUTH_EGRESS_SYN_ACK_HELD) >= 2; }));
  EXPECT_TRUE(wire_->Segments(service_).empty());
  EXPECT_FALSE(Ready(client.get(), POLLOUT));

  south_->Allow(*slot, SOUTH_OPEN);
  ASSERT_TRUE(hand_->Send(SynAckOf(*event)).ok());
  EXPECT_TRUE(Until([&] { return Ready(client.get(), POLLOUT); }));
  EXPECT_TRUE(Until([&] { return south_->Client(*slot).has_value(); }));
  EXPECT_EQ(south_->Client(*slot)->una, event->seq + 1);
  EXPECT_EQ(south_->Sent(*slot)->snd_max, event->seq + 1);
  UniqueFd server;
  EXPECT_TRUE(Until([&] {
    server = UniqueFd(accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    return static_cast<bool>(server);
  }));
  SendAll(server, "welcome");
  EXPECT_EQ(Receive(client, 7), "welcome");
  EXPECT_TRUE(Until([&] { return south_->Client(*slot)->una == event->seq + 8; }));
}

// What the kernel's socket has negotiated, the client learns.
TEST_F(SouthWrapperTest, EcnIsNegotiatedByBothOrByNone) {
  for (const char* ecn : {"1", "0"}) {
    ASSERT_TRUE(Shell(absl::StrCat("sysctl -qw net.ipv4.tcp_ecn=", ecn)));
    InClient([] { Shell("sysctl -qw net.ipv4.tcp_ecn=1"); });
    Attach();
    if (!listener_) Listen();
    Connection c = Establish();
    auto has_ecn = [](const UniqueFd& fd) {
      tcp_info info = {};
      socklen_t size = sizeof(info);
      EXPECT_EQ(getsockopt(fd.get(), IPPROTO_TCP, TCP_INFO, &info, &size), 0);
      return (info.tcpi_options & TCPI_OPT_ECN) != 0;
    };
    EXPECT_EQ(has_ecn(c.server), *ecn == '1');
    EXPECT_EQ(has_ecn(c.client), *ecn == '1');
    south_.reset();
  }
  Shell("sysctl -qw net.ipv4.tcp_ecn=2");
  InClient([] { Shell("sysctl -qw net.ipv4.tcp_ecn=2"); });
}

TEST_F(SouthWrapperTest, RepeatedSynIsReported) {
  Attach();
  Listen();
  UniqueFd client = StartConnect();
  auto event = Event(SOUTH_EVENT_SYN_ACK);
  ASSERT_TRUE(event);
  const FourTuple tuple = {service_, {ntohl(event->tuple.remote_ip), ntohs(event->tuple.remote_port)}};
  ASSERT_TRUE(south_->Add(tuple, event->seq, event->ack, SOUTH_OPEN, event->rcv_wscale).ok());
  // Nobody sends the SYN-ACK; the client asks again.
  auto again = Event(SOUTH_EVENT_SYN_KNOWN);
  ASSERT_TRUE(again);
  EXPECT_EQ(again->seq + 1, event->ack);
  EXPECT_TRUE(Until([&] { return Ready(client.get(), POLLOUT); })) << "TCP answered, and was let";
}

TEST_F(SouthWrapperTest, LoneAckIsHeldAndReSent) {
  Attach();
  Listen();
  Connection c = Establish();
  wire_->Clear();
  SendAll(c.client, std::string(100, 'x'));
  EXPECT_EQ(Receive(c.server, 100), std::string(100, 'x'));
  ASSERT_TRUE(Until([&] { return Count(SOUTH_EGRESS_ACK_HELD) > 0; }));
  EXPECT_EQ(Unacknowledged(c.client), 100);
  EXPECT_FALSE(SendHeld(c)) << "nothing is stable";

  south_->SetStable(c.slot, c.opened.ack + 60);
  EXPECT_TRUE(SendHeld(c));
  EXPECT_TRUE(Until([&] { return Unacknowledged(c.client) == 40; }));
  south_->SetStable(c.slot, c.opened.ack + 100);
  EXPECT_TRUE(SendHeld(c));
  EXPECT_TRUE(Until([&] { return Unacknowledged(c.client) == 0; }));
  EXPECT_FALSE(SendHeld(c));
  for (const Segment& segment : wire_->Segments(service_)) {
    EXPECT_THAT(segment.ack - c.opened.ack, testing::AnyOf(60, 100));
  }
  // The connection is none the worse for it.
  SendAll(c.server, "fine");
  EXPECT_EQ(Receive(c.client, 4), "fine");
}

// The reply leaves at once, its acknowledgement does not. With complete and with partial checksums.
class ChecksumTest : public SouthWrapperTest, public testing::WithParamInterface<bool> {};

TEST_P(ChecksumTest, AckOnDataIsClamped) {
  const bool offload = GetParam();
  ASSERT_TRUE(Shell(absl::StrCat("ethtool -K svc tx ", offload ? "on" : "off", " >/dev/null")));
  Attach();
  Listen();
  Connection c = Establish();
  SendAll(c.client, std::string(1000, 'x'));
  EXPECT_EQ(Receive(c.server, 1000).size(), 1000u);
  wire_->Clear();
  SendAll(c.server, "reply");
  EXPECT_EQ(Receive(c.client, 5), "reply");
  EXPECT_EQ(Unacknowledged(c.client), 1000);
  EXPECT_EQ(Count(SOUTH_EGRESS_ACK_CLAMPED), 1u);
  int replies = 0;
  for (const Wire::Seen& seen : wire_->Look()) {
    if (seen.protocol != ETH_P_IP) continue;
    if (auto any = ParsePacket(seen.packet); any.ok() && any->source != service_) continue;
    auto segment = ParsePacket(seen.packet, /*verify_checksum=*/!offload);
    ASSERT_TRUE(segment.ok()) << segment.status();
    EXPECT_EQ(segment->ack, c.opened.ack);
    if (segment->payload == "reply") ++replies;
    EXPECT_EQ(seen.checksum_pending, offload) << "this test looks at the wrong kind of checksum";
    if (offload) {
      // The field holds the sum of the pseudo header, no more: the hardware adds the rest.
      const std::string& packet = seen.packet;
      auto get16 = [&packet](size_t at) {
        return static_cast<uint32_t>(static_cast<uint8_t>(packet[at]) << 8 |
                                     static_cast<uint8_t>(packet[at + 1]));
      };
      uint32_t sum = 6 + static_cast<uint32_t>(packet.size()) - 20;
      for (size_t at = 12; at < 20; at += 2) sum += get16(at);
      while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
      EXPECT_EQ(get16(36), sum);
    }
  }
  EXPECT_EQ(replies, 1);
  // What was taken off the reply is due when it is stable, though TCP thinks it has said it.
  south_->SetStable(c.slot, c.opened.ack + 1000);
  EXPECT_TRUE(SendHeld(c));
  EXPECT_TRUE(Until([&] { return Unacknowledged(c.client) == 0; }));
}

// Both directions full, the log a little behind: whatever TCP makes of it, all bytes arrive, and no
// acknowledgement leaves early.
TEST_P(ChecksumTest, EchoOfManyBytes) {
  const bool offload = GetParam();
  ASSERT_TRUE(Shell(absl::StrCat("ethtool -K svc tx ", offload ? "on" : "off", " >/dev/null")));
  Attach();
  Listen();
  Connection c = Establish();
  constexpr size_t kTotal = 4 << 20;
  const uint32_t seed = std::random_device()();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  std::string bytes(kTotal, '\0');
  for (char& b : bytes) b = static_cast<char>(random());

  size_t sent = 0, received = 0, logged = 0, stable = 0;
  std::string at_server;
  size_t echoed = 0;
  std::vector<size_t> turns;  // the log acknowledges three turns later
  std::string buffer(1 << 16, '\0');
  const auto until = Clock::now() + std::chrono::seconds(30);
  bool equal = true;
  Seq newest_ack = c.opened.ack;
  while (received < kTotal && Clock::now() < until) {
    if (sent < kTotal) {
      const ssize_t n =
          send(c.client.get(), bytes.data() + sent, std::min<size_t>(kTotal - sent, 100000), MSG_NOSIGNAL);
      if (n > 0) sent += static_cast<size_t>(n);
    }
    ssize_t n = recv(c.server.get(), buffer.data(), buffer.size(), 0);
    if (n > 0) {
      at_server.append(buffer.data(), static_cast<size_t>(n));
      logged += static_cast<size_t>(n);
    }
    turns.push_back(logged);
    if (turns.size() > 3) {
      stable = turns[turns.size() - 4];
      south_->SetStable(c.slot, c.opened.ack + static_cast<Seq>(stable));
    }
    if (echoed < stable) {
      n = send(c.server.get(), at_server.data() + echoed, stable - echoed, MSG_NOSIGNAL);
      if (n > 0) echoed += static_cast<size_t>(n);
    }
    SendHeld(c);
    n = recv(c.client.get(), buffer.data(), buffer.size(), 0);
    if (n > 0) {
      equal = equal &&
              bytes.compare(received, static_cast<size_t>(n), buffer.data(), static_cast<size_t>(n)) == 0;
      received += static_cast<size_t>(n);
    }
    for (const Segment& segment : wire_->Segments(service_)) {
      if (segment.flags.ack) newest_ack = SeqMax(newest_ack, segment.ack);
    }
    wire_->Clear();
    ASSERT_FALSE(SeqAfter(newest_ack, c.opened.ack + static_cast<Seq>(stable)));
  }
  EXPECT_EQ(received, kTotal);
  EXPECT_TRUE(equal);
  EXPECT_GT(Count(SOUTH_EGRESS_ACK_CLAMPED), 10u);
  EXPECT_GT(Count(SOUTH_EGRESS_ACK_HELD), 0u);
  EXPECT_EQ(Count(SOUTH_EGRESS_MALFORMED), 0u);
  tcp_info info = {};
  socklen_t size = sizeof(info);
  ASSERT_EQ(getsockopt(c.server.get(), IPPROTO_TCP, TCP_INFO, &info, &size), 0);
  RecordProperty("retransmissions", static_cast<int>(info.tcpi_total_retrans));
  RecordProperty("clamped", static_cast<int>(Count(SOUTH_EGRESS_ACK_CLAMPED)));
  RecordProperty("held", static_cast<int>(Count(SOUTH_EGRESS_ACK_HELD)));
}

INSTANTIATE_TEST_SUITE_P(Offload, ChecksumTest, testing::Bool(),
                         [](const testing::TestParamInfo<bool>& info) {
                           return info.param ? "Partial" : "Complete";
                         });

TEST_F(SouthWrapperTest, FinOfAProcessThatDiesIsDiscarded) {
  Attach();
  Listen();
  Connection c = Establish();
  c.server.reset();
  ASSERT_TRUE(Until([&] { return Count(SOUTH_EGRESS_FIN_DISCARDED) >= 2; })) << "TCP repeats it";
  EXPECT_FALSE(Ready(c.client.get(), POLLIN));
  for (const Segment& segment : wire_->Segments(service_)) EXPECT_FALSE(segment.flags.fin);
  // Had it been a logged close, the next repetition would have left.
  south_->Allow(c.slot, SOUTH_FIN_OK);
  EXPECT_TRUE(Until([&] { return Ready(c.client.get(), POLLIN); }));
  char byte;
  EXPECT_EQ(recv(c.client.get(), &byte, 1, 0), 0);
}

TEST_F(SouthWrapperTest, RstOfAProcessThatDiesIsDiscarded) {
  Attach();
  Listen();
  Connection c = Establish();
  SendAll(c.client, "unread");
  EXPECT_TRUE(Until([&] { return Ready(c.server.get(), POLLIN); }));
  c.server.reset();  // unread bytes make it a RST
  ASSERT_TRUE(Until([&] { return Count(SOUTH_EGRESS_RST_DISCARDED) > 0; }));
  // There is no socket any more: each further segment of the client provokes one.
  const uint64_t before = Count(SOUTH_EGRESS_RST_DISCARDED);
  SendAll(c.client, "more");
  ASSERT_TRUE(Until([&] { return Count(SOUTH_EGRESS_RST_DISCARDED) > before; }));
  for (const Segment& segment : wire_->Segments(service_)) EXPECT_FALSE(segment.flags.rst);
  south_->Allow(c.slot, SOUTH_RST_OK);
  EXPECT_TRUE(Until([&] { return Ready(c.client.get(), POLLHUP); })) << "explained by a logged abort";
}

TEST_F(SouthWrapperTest, RefusalIsLeftToUserSpace) {
  Attach();  // no listener
  UniqueFd client = StartConnect();
  auto event = Event(SOUTH_EVENT_RST_UNKNOWN);
  ASSERT_TRUE(event);
  EXPECT_FALSE(Ready(client.get(), POLLHUP));
  Segment rst;
  rst.source = service_;
  rst.destination = {ntohl(event->tuple.remote_ip), ntohs(event->tuple.remote_port)};
  rst.seq = event->seq;
  rst.ack = event->ack;
  rst.flags.rst = rst.flags.ack = true;
  ASSERT_TRUE(hand_->Send(rst).ok());
  EXPECT_TRUE(Until([&] { return Ready(client.get(), POLLHUP); }));
}

TEST_F(SouthWrapperTest, EventsMakeTheDescriptorReadable) {
  Attach();
  EXPECT_FALSE(Ready(south_->event_fd(), POLLIN));
  UniqueFd client = StartConnect();
  EXPECT_TRUE(Until([&] { return Ready(south_->event_fd(), POLLIN); }));
  EXPECT_GT(south_->PollEvents([](const south_event&) {}), 0);
  EXPECT_FALSE(Ready(south_->event_fd(), POLLIN));
}

// --- Silence (I3) --------------------------------------------------------------------------------

TEST_F(SouthWrapperTest, ClosedGateSilencesTcpAndArp) {
  Attach();
  Listen();
  Connection c = Establish();
  south_->CloseGate();
  wire_->Clear();
  SendAll(c.server, "late");
  ASSERT_TRUE(Until([&] { return Count(SOUTH_EGRESS_SILENT_GATE) >= 2; }));
  // The client has forgotten the hardware address, and asks.
  const uint64_t before = Count(SOUTH_EGRESS_SILENT_GATE);
  InClient([] { Shell("ip neigh flush dev cli"); });
  SendAll(c.client, "hello?");
  ASSERT_TRUE(Until([&] { return Count(SOUTH_EGRESS_SILENT_GATE) > before; }));
  for (const Wire::Seen& seen : wire_->Look()) EXPECT_NE(seen.protocol, ETH_P_ARP);
  EXPECT_TRUE(wire_->Segments(service_).empty());
  EXPECT_FALSE(Ready(c.client.get(), POLLIN));
  south_->OpenGate();
  EXPECT_EQ(Receive(c.client, 4), "late");
  EXPECT_EQ(Receive(c.server, 6), "hello?");
}

TEST_F(SouthWrapperTest, PastTheDeadlineTheKernelIsSilent) {
  auto south = SouthWrapper::Attach(Options());
  ASSERT_TRUE(south.ok()) << south.status();
  south_ = *std::move(south);
  south_->OpenGate();
  auto deadline = Clock::now() + std::chrono::seconds(1);
  south_->RenewUntil(deadline);
  Listen();
  Connection c = Establish();
  ASSERT_LT(Clock::now(), deadline) << "the machine is too slow for this test";
  // Nobody does anything from here on.
  ASSERT_TRUE(Until([&] { return Clock::now() >= deadline; }));
  wire_->Clear();
  SendAll(c.server, "late");
  ASSERT_TRUE(Until([&] { return Count(SOUTH_EGRESS_SILENT_DEADLINE) >= 2; }));
  EXPECT_TRUE(hand_->Send(SynAckOf(c.opened)).ok()) << "swallowed like all others";
  EXPECT_TRUE(wire_->Segments(service_).empty());
  south_->RenewUntil(Clock::now() + std::chrono::hours(1));
  EXPECT_EQ(Receive(c.client, 4), "late");
}

// A stream of datagrams from the service's address, as a measure of silence.
class Stream {
 public:
  Stream(UniqueFd from, UniqueFd to) : from_(std::move(from)), to_(std::move(to)) {}

  // Sends one, and returns whether one came.
  bool Step() {
    const int64_t now = Clock::now().time_since_epoch().count();
    const sockaddr_in to = ToSockaddr(kClientIp, 9000);
    sendto(from_.get(), &now, sizeof(now), MSG_DONTWAIT, Cast(to), sizeof(to));
    bool came = false;
    int64_t at = 0;
    while (recv(to_.get(), &at, sizeof(at), MSG_DONTWAIT) == sizeof(at)) {
      last_ = Clock::time_point(Clock::duration(at));
      came = true;
    }
    return came;
  }
  // Sends until none has come for this long, and returns when the last that came was sent.
  std::optional<Clock::time_point> UntilSilent(std::chrono::milliseconds quiet) {
    auto until = Clock::now() + std::chrono::seconds(10);
    auto silent_from = Clock::now();
    while (Clock::now() - silent_from < quiet) {
      if (Step()) silent_from = Clock::now();
      if (Clock::now() > until) return std::nullopt;
    }
    return last_;
  }

 private:
  UniqueFd from_, to_;
  Clock::time_point last_;
};

class DeathTest : public SouthWrapperTest {
 protected:
  void TearDown() override {
    for (pid_t pid : children_) {
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
    SouthWrapperTest::TearDown();
  }

  std::unique_ptr<Stream> MakeStream() {
    UniqueFd from(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    const sockaddr_in local = ToSockaddr(kServiceIp, 9001);
    EXPECT_EQ(bind(from.get(), Cast(local), sizeof(local)), 0);
    UniqueFd to;
    InClient([&to] {
      to = UniqueFd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      const sockaddr_in address = ToSockaddr(kClientIp, 9000);
      EXPECT_EQ(bind(to.get(), Cast(address), sizeof(address)), 0);
    });
    return std::make_unique<Stream>(std::move(from), std::move(to));
  }

  // A process that attaches, opens the gate and then does `rest`, which should not return.
  pid_t StartNode(const std::function<void(SouthWrapper&)>& rest) {
    int ready[2];
    EXPECT_EQ(pipe2(ready, O_CLOEXEC), 0);
    const pid_t pid = fork();
    if (pid == 0) {
      prctl(PR_SET_PDEATHSIG, SIGKILL);
      auto south = SouthWrapper::Attach(Options());
      if (!south.ok()) {
        std::cerr << south.status() << "\n";
        _exit(1);
      }
      (*south)->OpenGate();
      (*south)->RenewUntil(Clock::now() + std::chrono::milliseconds(100));
      if (write(ready[1], "r", 1) != 1) _exit(1);
      rest(**south);
      _exit(0);
    }
    children_.push_back(pid);
    close(ready[1]);
    char byte;
    EXPECT_EQ(read(ready[0], &byte, 1), 1) << "the node did not start";
    close(ready[0]);
    return pid;
  }

  static void Renew(SouthWrapper& south, std::chrono::milliseconds ahead) {
    for (;;) {
      south.RenewUntil(Clock::now() + ahead);
      poll(nullptr, 0, 5);
    }
  }

  std::vector<pid_t> children_;
};

TEST_F(DeathTest, DeadProcessIsSilentAtOnceAndReplacedWithoutAGap) {
  auto stream = MakeStream();
  ASSERT_TRUE(Until([&] { return stream->Step(); }));
  const pid_t node = StartNode([](SouthWrapper& south) { Renew(south, std::chrono::hours(1)); });
  ASSERT_TRUE(Until([&] { return stream->Step(); })) << "the gate is open";

  // While it lives, nobody else may have its place.
  auto second = SouthWrapper::Attach(Options());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists) << second.status();
  EXPECT_THAT(std::string(second.status().message()), HasSubstr(service_.ToString()));
  ASSERT_TRUE(Until([&] { return stream->Step(); })) << "the attempt did it no harm";

  const auto killed = Clock::now();
  ASSERT_EQ(kill(node, SIGKILL), 0);
  auto last = stream->UntilSilent(std::chrono::milliseconds(300));
  ASSERT_TRUE(last) << "the dead process's kernel goes on speaking";
  const double after = std::chrono::duration<double, std::milli>(*last - killed).count();
  std::cout << "last packet " << after << " ms after SIGKILL\n";
  EXPECT_LT(after, 1000);
  EXPECT_EQ(Programs(), 1u);

  // A new process: silent until it opens the gate.
  Attach();
  south_->CloseGate();
  EXPECT_EQ(Programs(), 1u);
  ASSERT_TRUE(Until([&] {
    EXPECT_FALSE(stream->Step());
    return Count(SOUTH_EGRESS_SILENT_GATE) > 100;
  }));
  south_->OpenGate();
  EXPECT_TRUE(Until([&] { return stream->Step(); }));
  south_.reset();
  EXPECT_EQ(Programs(), 0u);
}

// A child that writes a checkpoint may outlive its parent. It has descriptors of the same maps.
TEST_F(DeathTest, ForkedChildDoesNotSpeakForItsDeadParent) {
  auto stream = MakeStream();
  int alive[2];
  int leave[2];
  ASSERT_EQ(pipe2(alive, O_CLOEXEC), 0);
  ASSERT_EQ(pipe2(leave, O_CLOEXEC), 0);
  const pid_t node = StartNode([&](SouthWrapper& south) {
    close(leave[1]);
    if (fork() == 0) {
      char byte;
      if (write(alive[1], "a", 1) != 1) _exit(1);
      _exit(read(leave[0], &byte, 1) == 0 ? 0 : 1);
    }
    Renew(south, std::chrono::hours(1));
  });
  close(alive[1]);
  char byte;
  ASSERT_EQ(read(alive[0], &byte, 1), 1);
  ASSERT_TRUE(Until([&] { return stream->Step(); }));
  kill(node, SIGKILL);
  EXPECT_TRUE(stream->UntilSilent(std::chrono::milliseconds(300)));
  // The pipe's other end is still open in the child: it lives.
  EXPECT_FALSE(Ready(alive[0], POLLHUP));
  waitpid(node, nullptr, 0);
  auto heir = SouthWrapper::Attach(Options());
  EXPECT_TRUE(heir.ok()) << heir.status();
  close(leave[1]);
  EXPECT_TRUE(Until([&] { return Ready(alive[0], POLLHUP); }));
  close(leave[0]);
  close(alive[0]);
}

// The end of a forked child, with destructors, does not take the parent's filters off.
TEST_F(DeathTest, ForkedChildsDestructorLeavesTheFilters) {
  Attach();
  const pid_t child = fork();
  if (child == 0) {
    south_.reset();
    _exit(0);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(Programs(), 1u);
  EXPECT_EQ(Programs(SouthAttachment::kIngress), 1u);
  auto stream = MakeStream();
  EXPECT_TRUE(Until([&] { return stream->Step(); })) << "the verdicts are still there";
}

TEST_F(DeathTest, StoppedProcessIsSilentAtItsDeadline) {
  auto stream = MakeStream();
  const pid_t node = StartNode([](SouthWrapper& south) { Renew(south, std::chrono::milliseconds(100)); });
  ASSERT_TRUE(Until([&] { return stream->Step(); }));
  const auto stopped = Clock::now();
  kill(node, SIGSTOP);
  auto last = stream->UntilSilent(std::chrono::milliseconds(300));
  ASSERT_TRUE(last);
  const double after = std::chrono::duration<double, std::milli>(*last - stopped).count();
  std::cout << "last packet " << after << " ms after SIGSTOP, with 100 ms renewed each 5 ms\n";
  EXPECT_LT(after, 150);
  kill(node, SIGCONT);
  EXPECT_TRUE(Until([&] { return stream->Step(); }));
}

// --- Neighbours on the interface -----------------------------------------------------------------

TEST_F(SouthWrapperTest, NothingIsLeftBehind) {
  Attach();
  EXPECT_EQ(Programs(), 1u);
  EXPECT_EQ(Programs(SouthAttachment::kIngress), 1u);
  south_.reset();
  EXPECT_EQ(Programs(), 0u);
  EXPECT_EQ(Programs(SouthAttachment::kIngress), 0u);
  EXPECT_THAT(Output("tc qdisc show"), Not(HasSubstr("clsact")));

  tcx_ = false;
  Attach();
  EXPECT_THAT(Output("tc qdisc show dev svc"), HasSubstr("clsact"));
  EXPECT_THAT(Output("tc filter show dev svc egress"), HasSubstr("south_egress"));
  EXPECT_THAT(Output("tc filter show dev svc ingress"), HasSubstr("south_ingress"));
  south_.reset();
  EXPECT_THAT(Output("tc qdisc show"), Not(HasSubstr("clsact")));
}

TEST_F(SouthWrapperTest, ClsactOfOthersIsLeftAlone) {
  ASSERT_TRUE(Shell("tc qdisc add dev svc clsact"));
  tcx_ = false;
  Attach();
  south_.reset();
  EXPECT_THAT(Output("tc qdisc show dev svc"), HasSubstr("clsact"));
  EXPECT_EQ(Output("tc filter show dev svc egress; tc filter show dev svc ingress"), "");
}

TEST_F(SouthWrapperTest, TwoServiceAddressesDoNotDisturbEachOther) {
  ASSERT_TRUE(Shell("ip addr add 198.18.0.5/24 dev svc"));
  SouthWrapper::Options options = Options();
  options.service.ip = kServiceIp + 4;
  auto first = SouthWrapper::Attach(options);  // makes the qdisc
  ASSERT_TRUE(first.ok()) << first.status();
  Attach();
  Listen();
  Connection c = Establish();
  SendAll(c.server, "one");
  EXPECT_EQ(Receive(c.client, 3), "one");
  // The other one's gate was closed all the time, and concerns it alone.
  EXPECT_EQ((*first)->Counters()[SOUTH_EGRESS_PASSED], 0u);
  EXPECT_GT((*first)->Counters()[SOUTH_EGRESS_OTHER], 0u);
  first->reset();
  EXPECT_EQ(Programs(), 1u);
  SendAll(c.client, std::string(100, 'x'));
  EXPECT_EQ(Receive(c.server, 100).size(), 100u);
  EXPECT_TRUE(Until([&] { return Count(SOUTH_EGRESS_ACK_HELD) > 0; }));
}

TEST_F(SouthWrapperTest, TwoPortsOfOneAddress) {
  Attach();
  SouthWrapper::Options options = Options();
  options.service.port = 80;
  auto other = SouthWrapper::Attach(options);
  ASSERT_TRUE(other.ok()) << other.status();
  south_->CloseGate();
  for (int i = 0; i < 5; ++i) {
    EXPECT_TRUE(south_->Check().ok());
    EXPECT_TRUE((*other)->Check().ok());
  }
  EXPECT_EQ(south_->mended() + (*other)->mended(), 0u) << "they do not fight for the first place";
  south_->OpenGate();
  (*other)->OpenGate();
  (*other)->RenewUntil(Clock::now() + std::chrono::hours(1));
  Listen();
  Connection c = Establish();
  SendAll(c.server, "one");
  EXPECT_EQ(Receive(c.client, 3), "one");
}

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
  EXPECT_TRUE(Until([&] {
    for (const Wire::Seen& seen : wire_->Look()) {
      auto parsed = ParsePacket(seen.packet, /*verify_checksum=*/true);
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

// --- Nothing gets past it ------------------------------------------------------------------------

// Programs and filters of others: that of the name lets everything through at once.
class FenceTest : public SouthWrapperTest, public testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    SouthWrapperTest::SetUp();
    tcx_ = GetParam();
  }
  void TearDown() override {
    stranger_.reset();
    SouthWrapperTest::TearDown();
  }

  // A connection whose acknowledgements are held; whether one gets past.
  void BeginHolding() {
    Listen();
    c_ = Establish();
    // Nothing is acknowledged: each must go out all the same.
    const int on = 1;
    EXPECT_EQ(setsockopt(c_.client.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)), 0);
    SendAll(c_.client, "held?");
    EXPECT_EQ(Receive(c_.server, 5), "held?");
    EXPECT_TRUE(Until([&] { return Count(SOUTH_EGRESS_ACK_HELD) > 0; }));
  }
  bool IsHeld() {
    const uint64_t before = Count(SOUTH_EGRESS_ACK_HELD);
    SendAll(c_.client, "more?");
    EXPECT_EQ(Receive(c_.server, 5), "more?");
    EXPECT_TRUE(
        Until([&] { return Count(SOUTH_EGRESS_ACK_HELD) > before || Unacknowledged(c_.client) == 0; }));
    return Unacknowledged(c_.client) > 0;
  }

  // A program of somebody who lets all pass: TC_ACT_OK, which is TCX_PASS.
  void LoadStranger() {
    const std::vector<bpf_insn> pass = {
        {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0},
        {.code = BPF_JMP | BPF_EXIT, .dst_reg = 0, .src_reg = 0, .off = 0, .imm = 0}};
    stranger_ = UniqueFd(
        bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "stranger", "GPL", pass.data(), pass.size(), nullptr));
    ASSERT_TRUE(stranger_) << strerror(errno);
  }

  // As a filter of tc's.
  void PassByFilter(uint32_t priority) {
    LoadStranger();
    bpf_tc_hook hook = {};
    hook.sz = sizeof(hook);
    hook.ifindex = static_cast<int>(if_nametoindex(kInterface));
    hook.attach_point = static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS);
    const int made = bpf_tc_hook_create(&hook);
    ASSERT_TRUE(made == 0 || made == -EEXIST);
    hook.attach_point = BPF_TC_EGRESS;
    bpf_tc_opts filter = {};
    filter.sz = sizeof(filter);
    filter.priority = priority;
    filter.prog_fd = stranger_.get();
    ASSERT_EQ(bpf_tc_attach(&hook, &filter), 0);
  }

  // On tcx, ahead of all.
  void PassInFront() {
    LoadStranger();
    for (uint32_t type : {46u, 47u}) {
      struct {
        uint32_t interface_index, program, type, flags, replaced, relative;
        uint64_t revision;
      } call = {if_nametoindex(kInterface), static_cast<uint32_t>(stranger_.get()), type, 1u << 3, 0, 0, 0};
      ASSERT_EQ(syscall(SYS_bpf, BPF_PROG_ATTACH, &call, sizeof(call)), 0) << strerror(errno);
    }
  }

  Connection c_;
  UniqueFd stranger_;
};

// With tcx and without, as far as this kernel has it.
std::vector<bool> Ways() {
  return SouthAttachment::HaveTcx() ? std::vector{false, true} : std::vector{false};
}
std::string NameOfWay(const testing::TestParamInfo<bool>& info) {
  return info.param ? "WithTcx" : "WithoutTcx";
}

INSTANTIATE_TEST_SUITE_P(Kernel, FenceTest, testing::ValuesIn(Ways()), NameOfWay);

TEST_P(FenceTest, ItKnowsThatItIsMet) {
  Attach();
  const uint64_t before = Count(SOUTH_EGRESS_PROBE);
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(south_->Check().ok());
  EXPECT_EQ(Count(SOUTH_EGRESS_PROBE), before + 40);
  EXPECT_TRUE(Until([&] { return Count(SOUTH_INGRESS_PROBE) >= 20; })) << "and what comes in";
  EXPECT_EQ(south_->mended(), 0u);
  south_->CloseGate();
  EXPECT_TRUE(south_->Check().ok());
  EXPECT_EQ(south_->mended(), 0u) << "gate open or not";
  for (const Wire::Seen& seen : wire_->Look())
    EXPECT_FALSE(ParsePacket(seen.packet).ok()) << "a probe has left";
}

TEST_P(FenceTest, FilterOfTheLowestPriorityNumber) {
  PassByFilter(1);
  Attach();
  BeginHolding();
  EXPECT_TRUE(IsHeld()) << "one that was there before";
  EXPECT_TRUE(south_->Check().ok());
  EXPECT_EQ(south_->mended(), 0u);
  PassByFilter(2);
  EXPECT_TRUE(IsHeld());
  PassByFilter(1);
  EXPECT_TRUE(Until([&] { return Ready(south_->change_fd(), POLLIN); })) << "it is told";
  if (!tcx_) {
    EXPECT_FALSE(IsHeld()) << "this test tests nothing";
  }
  EXPECT_TRUE(south_->Check().ok());
  EXPECT_EQ(south_->mended(), tcx_ ? 0u : 1u);
  EXPECT_EQ(Programs(), 1u);
  EXPECT_TRUE(IsHeld());
}

TEST_P(FenceTest, QdiscTakenAway) {
  Attach();
  BeginHolding();
  // Where the programs do not hang on it, there is none.
  (void)system("tc qdisc add dev svc clsact 2>/dev/null");
  while (Ready(south_->change_fd(), POLLIN)) ASSERT_TRUE(south_->Check().ok());
  ASSERT_TRUE(Shell("tc qdisc del dev svc clsact"));
  EXPECT_TRUE(Until([&] { return Ready(south_->change_fd(), POLLIN); })) << "it is told";
  EXPECT_TRUE(south_->Check().ok());
  EXPECT_EQ(south_->mended(), tcx_ ? 0u : 1u);
  EXPECT_EQ(Programs(), 1u);
  EXPECT_TRUE(IsHeld());
}

TEST_P(FenceTest, WhoDisplacesItAgainAndAgain) {
  Attach();
  absl::Status status;
  int times = 0;
  for (; times < 50 && status.ok(); ++times) {
    stranger_.reset();
    if (tcx_) {
      PassInFront();
    } else {
      PassByFilter(1);
    }
    status = south_->Check();
  }
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_GT(times, 3);
  EXPECT_LT(times, 20);
}

TEST_P(FenceTest, InterfaceThatIsDownIsNoHole) {
  Attach();
  ASSERT_TRUE(Shell("ip link set svc down"));
  for (int i = 0; i < 10; ++i) EXPECT_TRUE(south_->Check().ok());
  ASSERT_TRUE(Shell("ip link set svc up"));
  EXPECT_TRUE(south_->Check().ok());
  EXPECT_EQ(south_->mended(), 0u);
}

// Where the programs are filters of tc's.
class FilterFenceTest : public FenceTest {};
INSTANTIATE_TEST_SUITE_P(Kernel, FilterFenceTest, testing::Values(false), NameOfWay);

TEST_P(FilterFenceTest, FiltersTakenAway) {
  Attach();
  BeginHolding();
  ASSERT_TRUE(Shell("tc filter del dev svc egress"));
  EXPECT_TRUE(south_->Check().ok());
  EXPECT_EQ(south_->mended(), 1u);
  EXPECT_TRUE(IsHeld());
}

// Where strangers have tcx: no test of kernels that do not.
class TcxStrangerTest : public FenceTest {};
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(TcxStrangerTest);
INSTANTIATE_TEST_SUITE_P(Kernel, TcxStrangerTest,
                         testing::ValuesIn(SouthAttachment::HaveTcx() ? Ways() : std::vector<bool>()),
                         NameOfWay);

TEST_P(TcxStrangerTest, ProgramInFrontThatLetsAllPass) {
  Attach();
  BeginHolding();
  PassInFront();
  EXPECT_FALSE(IsHeld()) << "this test tests nothing";
  if (tcx_) {
    EXPECT_TRUE(south_->Check().ok());
    EXPECT_EQ(south_->mended(), 1u);
    EXPECT_EQ(Programs(), 1u);
    EXPECT_TRUE(IsHeld());
  } else {
    // Before all filters: nothing can be done about it from there.
    const absl::Status status = south_->Check();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("svc"), HasSubstr("stranger")));
    // Nor does another begin there.
    south_.reset();
    const auto another = SouthWrapper::Attach(Options());
    EXPECT_EQ(another.status().code(), absl::StatusCode::kFailedPrecondition) << another.status();
  }
}

// --- Other interfaces of the host, in the same segment and in others -----------------------------

class ElsewhereTest : public FenceTest {
 protected:
  // A second pair of interfaces: "svc2" here, "cli2" at the client's. ARP is as Linux has it.
  void AddSecond() {
    const std::string client = absl::StrCat("/proc/", getpid(), "/fd/", client_space_);
    ASSERT_TRUE(
        Shell(absl::StrCat("ip link add svc2 type veth peer name cli2 && ip link set cli2 netns ", client)));
    ASSERT_TRUE(Shell("ip addr add 198.18.1.1/24 dev svc2 && ip link set svc2 up"));
    InClient([] { Shell("ip addr add 198.18.1.2/24 dev cli2 && ip link set cli2 up"); });
  }
  void TearDown() override {
    (void)system("ip link del svc2 2>/dev/null");
    FenceTest::TearDown();
  }
  // What the client's "cli2" gets for an ARP question about the service address.
  std::string AskOnSecond() {
    std::string out;
    InClient([&out] {
      out = Output(
          "ip neigh flush dev cli2; ping -c1 -W1 -I cli2 198.18.0.1 >/dev/null; ip neigh show dev cli2");
    });
    return out;
  }
};

INSTANTIATE_TEST_SUITE_P(Kernel, ElsewhereTest, testing::ValuesIn(Ways()), NameOfWay);

TEST_P(ElsewhereTest, NobodyLearnsTheServiceAddressThere) {
  AddSecond();
  EXPECT_THAT(AskOnSecond(), HasSubstr("lladdr")) << "this test tests nothing";
  Attach();
  EXPECT_THAT(AskOnSecond(), Not(HasSubstr("lladdr")));
  south_->CloseGate();
  EXPECT_THAT(AskOnSecond(), Not(HasSubstr("lladdr"))) << "a deposed host's neither";
}

// Its route leads elsewhere: it is told so in the handshake.
TEST_P(ElsewhereTest, ClientThatIsReachedElsewhereIsRefused) {
  Attach();
  AddSecond();  // later than this node began
  EXPECT_TRUE(Until([&] { return Ready(south_->change_fd(), POLLIN); }));
  EXPECT_TRUE(south_->Check().ok());
  Listen();
  UniqueFd client;
  InClient([&] {
    // As a router on that segment would send it.
    Shell("ip route add 198.18.0.1/32 via 198.18.1.1 dev cli2 src 198.18.1.2");
    client = UniqueFd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  });
  auto mend = absl::MakeCleanup([] { InClient([] { Shell("ip route del 198.18.0.1/32"); }); });
  const sockaddr_in to = ToSockaddr(service_.ip, service_.port);
  EXPECT_EQ(connect(client.get(), Cast(to), sizeof(to)), -1);
  auto event = Event(SOUTH_EVENT_ELSEWHERE);
  ASSERT_TRUE(event);
  EXPECT_EQ(event->interface, if_nametoindex("svc2"));
  EXPECT_FALSE(Ready(client.get(), POLLOUT | POLLHUP)) << "the SYN-ACK has left";
  Segment rst;
  rst.source = service_;
  rst.destination = {ntohl(event->tuple.remote_ip), ntohs(event->tuple.remote_port)};
  rst.seq = event->seq;
  rst.ack = event->ack;
  rst.flags.rst = rst.flags.ack = true;
  EXPECT_TRUE(hand_->Send(rst).ok());
  EXPECT_TRUE(Until([&] { return Ready(client.get(), POLLHUP); }));
  char byte;
  EXPECT_EQ(accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK), -1);
  EXPECT_EQ(recv(client.get(), &byte, 1, 0), -1);
  EXPECT_EQ(errno, ECONNREFUSED);
}

// The service's interface may be a bridge, whose frames leave through its ports.
TEST_P(ElsewhereTest, BridgeAndItsPort) {
  ASSERT_TRUE(Shell(
      "ip addr del 198.18.0.1/24 dev svc && ip link add br7 type bridge && ip link set svc master br7 && "
      "ip addr add 198.18.0.1/24 dev br7 && ip link set br7 up"));
  auto mend = absl::MakeCleanup([this] {
    south_.reset();
    Shell("ip link del br7");
  });
  SouthWrapper::Options options = Options();
  options.interface = "br7";
  auto south = SouthWrapper::Attach(options);
  ASSERT_TRUE(south.ok()) << south.status();
  south_ = *std::move(south);
  south_->OpenGate();
  south_->RenewUntil(Clock::now() + std::chrono::hours(1));
  BeginHolding();
  EXPECT_TRUE(IsHeld());
  south_->SetStable(c_.slot, c_.opened.ack + 10);
  EXPECT_TRUE(SendHeld(c_));
  EXPECT_TRUE(Until([&] { return Unacknowledged(c_.client) == 0; }));
  SendAll(c_.server, "fine");
  EXPECT_EQ(Receive(c_.client, 4), "fine");
  EXPECT_EQ(Count(SOUTH_EGRESS_ELSEWHERE), 0u);
}

// --- The host's firewall -------------------------------------------------------------------------

TEST_F(SouthWrapperTest, FirewallThatSetsMarksMakesNoDifference) {
  ASSERT_TRUE(
      Shell("nft 'table ip marks { chain out { type route hook output priority mangle; meta mark set 0x1234; "
            "}; }'"));
  auto mend = absl::MakeCleanup([] { Shell("nft delete table ip marks"); });
  Attach();
  Listen();
  Connection c = Establish();
  SendAll(c.server, "one");
  EXPECT_EQ(Receive(c.client, 3), "one");

  // One stray segment makes one RST, not an endless series of them.
  Segment stray;
  stray.source = {kClientIp, 1234};
  stray.destination = service_;
  stray.seq = 5;
  stray.ack = 6;
  stray.flags.ack = true;
  InClient([&] {
    auto sender = RawSender::Open();
    ASSERT_TRUE(sender.ok()) << sender.status();
    EXPECT_TRUE((*sender)->Send(stray).ok());
  });
  int reports = 0;
  auto answer = [&](const south_event& event) {
    if (event.kind != SOUTH_EVENT_RST_UNKNOWN) return;
    ++reports;
    Segment rst;
    rst.source = service_;
    rst.destination = {ntohl(event.tuple.remote_ip), ntohs(event.tuple.remote_port)};
    rst.seq = event.seq;
    rst.flags.rst = true;
    EXPECT_TRUE(hand_->Send(rst).ok());
  };
  ASSERT_TRUE(Until([&] {
    south_->PollEvents(answer);
    return reports > 0;
  }));
  // A segment by hand is looked at while it is sent.
  for (int i = 0; i < 10; ++i) south_->PollEvents(answer);
  EXPECT_EQ(reports, 1);
  EXPECT_TRUE(Until([&] {
    for (const Segment& segment : wire_->Segments(service_)) {
      if (segment.flags.rst && segment.destination == stray.source) return true;
    }
    return false;
  }));
}

// kube-proxy's rule: what has this bit is masqueraded.
TEST_F(SouthWrapperTest, SegmentsByHandAreNotMasqueraded) {
  ASSERT_TRUE(
      Shell("nft 'table ip kube { chain post { type nat hook postrouting priority srcnat; "
            "meta mark & 0x4000 == 0x4000 masquerade; }; }'"));
  auto mend = absl::MakeCleanup([] { Shell("nft delete table ip kube"); });
  Segment segment;
  segment.source = {kServiceIp + 50, 1234};
  segment.destination = {kClientIp, 80};
  segment.flags.ack = true;
  segment.payload = "by hand";
  ASSERT_TRUE(hand_->Send(segment).ok());
  std::optional<SocketAddress> source;
  EXPECT_TRUE(Until([&] {
    for (const Wire::Seen& seen : wire_->Look()) {
      auto parsed = ParsePacket(seen.packet);
      if (parsed.ok() && parsed->payload == "by hand") source = parsed->source;
    }
    return source.has_value();
  }));
  EXPECT_EQ(source, segment.source);
}

}  // namespace
}  // namespace understudy::tcpshim
