// A connection's life under the south wrapper; its neighbours on the interface, and the host's firewall.
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tcpshim/namespaces_for_test.h"
#include "tcpshim/raw_sender.h"
#include "tcpshim/segment.h"
#include "tcpshim/south_attachment.h"
#include "tcpshim/south_wrapper.h"
#include "tcpshim/south_wrapper_for_test.h"
#include "tcpshim/unique_fd.h"
#include "tcpshim/wait_for_test.h"

namespace understudy::tcpshim {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const auto* const kEnvironment = ::testing::AddGlobalTestEnvironment(new NamespacesNeeded);

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
  ASSERT_TRUE(Eventually([&] { return Count(SOUTH_EGRESS_SYN_ACK_HELD) >= 2; }));
  EXPECT_TRUE(wire_->Segments(service_).empty());
  EXPECT_FALSE(Ready(client.get(), POLLOUT));

  south_->Allow(*slot, SOUTH_OPEN);
  ASSERT_TRUE(hand_->Send(SynAckOf(*event)).ok());
  EXPECT_TRUE(Eventually([&] { return Ready(client.get(), POLLOUT); }));
  EXPECT_TRUE(Eventually([&] { return south_->Client(*slot).has_value(); }));
  EXPECT_EQ(south_->Client(*slot)->una, event->seq + 1);
  EXPECT_EQ(south_->Sent(*slot)->snd_max, event->seq + 1);
  UniqueFd server;
  EXPECT_TRUE(Eventually([&] {
    server = UniqueFd(accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    return static_cast<bool>(server);
  }));
  SendAll(server, "welcome");
  EXPECT_EQ(Receive(client, 7), "welcome");
  EXPECT_TRUE(Eventually([&] { return south_->Client(*slot)->una == event->seq + 8; }));
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
  EXPECT_TRUE(Eventually([&] { return Ready(client.get(), POLLOUT); })) << "TCP answered, and was let";
}

TEST_F(SouthWrapperTest, LoneAckIsHeldAndReSent) {
  Attach();
  Listen();
  Connection c = Establish();
  wire_->Clear();
  SendAll(c.client, std::string(100, 'x'));
  EXPECT_EQ(Receive(c.server, 100), std::string(100, 'x'));
  ASSERT_TRUE(Eventually([&] { return Count(SOUTH_EGRESS_ACK_HELD) > 0; }));
  EXPECT_EQ(Unacknowledged(c.client), 100);
  EXPECT_FALSE(SendHeld(c)) << "nothing is stable";

  south_->SetStable(c.slot, c.opened.ack + 60);
  EXPECT_TRUE(SendHeld(c));
  EXPECT_TRUE(Eventually([&] { return Unacknowledged(c.client) == 40; }));
  south_->SetStable(c.slot, c.opened.ack + 100);
  EXPECT_TRUE(SendHeld(c));
  EXPECT_TRUE(Eventually([&] { return Unacknowledged(c.client) == 0; }));
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
    auto segment = ParsePacket(seen.packet, offload ? Checksum::kIgnored : Checksum::kVerified);
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
  EXPECT_TRUE(Eventually([&] { return Unacknowledged(c.client) == 0; }));
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
  ASSERT_TRUE(Eventually([&] { return Count(SOUTH_EGRESS_FIN_DISCARDED) >= 2; })) << "TCP repeats it";
  EXPECT_FALSE(Ready(c.client.get(), POLLIN));
  for (const Segment& segment : wire_->Segments(service_)) EXPECT_FALSE(segment.flags.fin);
  // Had it been a logged close, the next repetition would have left.
  south_->Allow(c.slot, SOUTH_FIN_OK);
  EXPECT_TRUE(Eventually([&] { return Ready(c.client.get(), POLLIN); }));
  char byte;
  EXPECT_EQ(recv(c.client.get(), &byte, 1, 0), 0);
}

TEST_F(SouthWrapperTest, RstOfAProcessThatDiesIsDiscarded) {
  Attach();
  Listen();
  Connection c = Establish();
  SendAll(c.client, "unread");
  EXPECT_TRUE(Eventually([&] { return Ready(c.server.get(), POLLIN); }));
  c.server.reset();  // unread bytes make it a RST
  ASSERT_TRUE(Eventually([&] { return Count(SOUTH_EGRESS_RST_DISCARDED) > 0; }));
  // There is no socket any more: each further segment of the client provokes one.
  const uint64_t before = Count(SOUTH_EGRESS_RST_DISCARDED);
  SendAll(c.client, "more");
  ASSERT_TRUE(Eventually([&] { return Count(SOUTH_EGRESS_RST_DISCARDED) > before; }));
  for (const Segment& segment : wire_->Segments(service_)) EXPECT_FALSE(segment.flags.rst);
  south_->Allow(c.slot, SOUTH_RST_OK);
  EXPECT_TRUE(Eventually([&] { return Ready(c.client.get(), POLLHUP); })) << "explained by a logged abort";
}

TEST_F(SouthWrapperTest, RefusalIsLeftToUserSpace) {
  Attach();  // no listener
  UniqueFd client = StartConnect();
  auto event = Event(SOUTH_EVENT_RST_UNKNOWN);
  ASSERT_TRUE(event);
  EXPECT_FALSE(Ready(client.get(), POLLHUP));
  SendRst(*event);
  EXPECT_TRUE(Eventually([&] { return Ready(client.get(), POLLHUP); }));
}

TEST_F(SouthWrapperTest, EventsMakeTheDescriptorReadable) {
  Attach();
  EXPECT_FALSE(Ready(south_->event_fd(), POLLIN));
  UniqueFd client = StartConnect();
  EXPECT_TRUE(Eventually([&] { return Ready(south_->event_fd(), POLLIN); }));
  EXPECT_GT(south_->PollEvents([](const south_event&) {}), 0);
  EXPECT_FALSE(Ready(south_->event_fd(), POLLIN));
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
  EXPECT_TRUE(Eventually([&] { return Count(SOUTH_EGRESS_ACK_HELD) > 0; }));
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
  ASSERT_TRUE(Eventually([&] {
    south_->PollEvents(answer);
    return reports > 0;
  }));
  // A segment by hand is looked at while it is sent.
  for (int i = 0; i < 10; ++i) south_->PollEvents(answer);
  EXPECT_EQ(reports, 1);
  EXPECT_TRUE(Eventually([&] {
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
  EXPECT_TRUE(Eventually([&] {
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
