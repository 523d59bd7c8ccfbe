// A node and a neighbour on one cable, in namespaces of their own.
#include "tcpshim/service_address.h"

#include <linux/capability.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tcpshim/arp_announcer.h"
#include "tcpshim/namespaces_for_test.h"
#include "tcpshim/unique_fd.h"

namespace understudy::tcpshim {
namespace {

using ::testing::AssertionFailure;
using ::testing::AssertionResult;
using ::testing::AssertionSuccess;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Clock = std::chrono::steady_clock;

constexpr uint32_t kIp = 0xC6120001;  // 198.18.0.1
constexpr uint32_t kNeighbour = 0xC6120009;
const MacAddress kMac = {0x02, 0, 0, 0, 0, 0x0a};

const auto* const kEnvironment = ::testing::AddGlobalTestEnvironment(new NamespacesNeeded);

class ServiceAddressTest : public ::testing::Test {
 protected:
  void SetUp() override {
    node_.Ip("link add eth0 address 02:00:00:00:00:0a type veth peer name eth0 netns " + neighbour_.path() +
             "\nlink set eth0 up");
    neighbour_.Ip("link set eth0 up");
    {
      InNamespace here(neighbour_);
      ears_.reset(::socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_ARP)));
      ASSERT_TRUE(ears_) << strerror(errno);
    }
    auto address = Create("eth0");
    ASSERT_TRUE(address.ok()) << address.status();
    address_ = std::move(*address);
    ASSERT_TRUE(RunUntil([&] { return address_->carrier(); }));
  }

  absl::StatusOr<std::unique_ptr<ServiceAddress>> Create(const std::string& interface) {
    InNamespace here(node_);
    return ServiceAddress::Create(loop_, {interface, kIp, announce_every_});
  }

  AssertionResult RunUntil(const std::function<bool()>& done) {
    const auto deadline = Clock::now() + std::chrono::seconds(20);
    while (!done()) {
      if (Clock::now() > deadline) return AssertionFailure() << "timed out";
      InNamespace here(node_);  // where the process would be
      loop_.run_for(std::chrono::milliseconds(1));
    }
    return AssertionSuccess();
  }

  // Lines of `ip addr` with the service address.
  int Addresses() {
    InNamespace here(node_);
    FILE* out = ::popen("ip -o -4 addr show dev eth0", "r");
    char line[500];
    int count = 0;
    while (std::fgets(line, sizeof(line), out)) {
      if (std::strstr(line, "inet 198.18.0.1/32 ")) ++count;
    }
    ::pclose(out);
    return count;
  }

  // What `ip neigh` says of kNeighbour.
  std::string Neighbour() {
    InNamespace here(node_);
    FILE* out = ::popen("ip -4 neigh show 198.18.0.9 dev eth0", "r");
    char line[500] = "";
    (void)!std::fgets(line, sizeof(line), out);
    ::pclose(out);
    return line;
  }

  struct Arp {
    Clock::time_point at;
    std::string frame;
  };
  static std::string SenderOf(const Arp& arp) {
    uint32_t ip;
    std::memcpy(&ip, arp.frame.data() + ETH_HLEN + 14, sizeof(ip));
    return IpText(ntohl(ip));
  }
  void Hear() {
    char frame[200];
    ssize_t n;
    while ((n = ::recv(ears_.get(), frame, sizeof(frame), 0)) > 0) {
      heard_.push_back({Clock::now(), std::string(frame, n)});
    }
  }

  Namespace node_, neighbour_;
  std::chrono::milliseconds announce_every_{60'000};
  boost::asio::io_context loop_{1};
  std::unique_ptr<ServiceAddress> address_;
  UniqueFd ears_;
  std::vector<Arp> heard_;
};

TEST_F(ServiceAddressTest, AHostsOwnAddressIsRefused) {
  node_.Ip("addr add 198.18.0.1/24 dev eth0");
  const auto own = Create("eth0");
  EXPECT_EQ(own.status().code(), absl::StatusCode::kInvalidArgument) << own.status();
  EXPECT_THAT(std::string(own.status().message()), HasSubstr("198.18.0.1/24 on eth0"));
  // What a node that was killed has left is no reason.
  node_.Ip("addr del 198.18.0.1/24 dev eth0\naddr add 198.18.0.1/32 dev eth0");
  EXPECT_TRUE(Create("eth0").ok());
}

TEST_F(ServiceAddressTest, AddAndRemoveAreIdempotent) {
  EXPECT_EQ(0, Addresses());
  EXPECT_TRUE(address_->Remove().ok());
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(address_->Add().ok());
    EXPECT_EQ(1, Addresses());
  }
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(address_->Remove().ok());
    EXPECT_EQ(0, Addresses());
  }
}

TEST_F(ServiceAddressTest, AddressOfAnotherPrefixIsLeftAlone) {
  node_.Ip("addr add 198.18.0.1/24 dev eth0");
  EXPECT_TRUE(address_->Add().ok());
  EXPECT_EQ(1, Addresses());
  EXPECT_TRUE(address_->Remove().ok());
  EXPECT_EQ(0, Addresses());
  node_.Ip("addr del 198.18.0.1/24 dev eth0");  // still there
}

// --- Neighbours ----------------------------------------------------------------------------------

TEST_F(ServiceAddressTest, TellsTheNextHop) {
  node_.Ip("addr add 198.18.0.7/24 dev eth0\nroute add 198.19.0.0/16 via 198.18.0.9");
  InNamespace here(node_);
  const auto direct = address_->RouteTo(0xC6120008), routed = address_->RouteTo(0xC6130001);
  ASSERT_TRUE(direct.ok() && routed.ok());
  EXPECT_TRUE(direct->here && routed->here);
  EXPECT_EQ(direct->next_hop, 0xC6120008);
  EXPECT_EQ(routed->next_hop, kNeighbour);
}

TEST_F(ServiceAddressTest, ResolvesANeighbourInTheNameOfItsInterface) {
  node_.Ip("addr add 198.18.0.7/24 dev eth0");
  neighbour_.Ip("addr add 198.18.0.9/24 dev eth0");
  ASSERT_TRUE(address_->Resolve(kNeighbour).ok());
  ASSERT_TRUE(RunUntil([&] { return Neighbour().find("REACHABLE") != std::string::npos; })) << Neighbour();
  Hear();
  ASSERT_FALSE(heard_.empty());
  for (const Arp& arp : heard_)
    EXPECT_EQ(SenderOf(arp), "198.18.0.7") << "not the service's, which this host has not";
}

// Then ARP asks in nobody's name, and is answered all the same.
TEST_F(ServiceAddressTest, ResolvesANeighbourWithoutAnAddressOfItsOwn) {
  node_.Ip("route add 198.18.0.0/24 dev eth0");
  neighbour_.Ip("addr add 198.18.0.9/24 dev eth0");
  ASSERT_TRUE(address_->Resolve(kNeighbour).ok());
  ASSERT_TRUE(RunUntil([&] { return Neighbour().find("REACHABLE") != std::string::npos; })) << Neighbour();
  Hear();
  ASSERT_FALSE(heard_.empty());
  for (const Arp& arp : heard_) EXPECT_EQ(SenderOf(arp), "0.0.0.0");
}

TEST_F(ServiceAddressTest, AStaleNeighbourIsAskedAgainAndStaysKnown) {
  neighbour_.Ip("addr add 198.18.0.9/24 dev eth0");
  node_.Ip("addr add 198.18.0.7/24 dev eth0");
  node_.Sysctl("net.ipv4.neigh.eth0.delay_first_probe_time", "0");
  node_.Ip("neigh add 198.18.0.9 lladdr 02:00:00:00:00:0f dev eth0 nud stale");  // another host had it
  ASSERT_TRUE(address_->Resolve(kNeighbour).ok());
  ASSERT_TRUE(RunUntil([&] {
    (void)address_->Resolve(kNeighbour);
    return Neighbour().find("REACHABLE") != std::string::npos;
  })) << Neighbour();
  EXPECT_EQ(Neighbour().find("02:00:00:00:00:0f"), std::string::npos) << Neighbour();
}

TEST_F(ServiceAddressTest, WhatAnOperatorHasEnteredIsLeftAlone) {
  node_.Ip(
      "addr add 198.18.0.7/24 dev eth0\nneigh add 198.18.0.9 lladdr 02:00:00:00:00:0f dev eth0 nud "
      "permanent");
  ASSERT_TRUE(address_->Resolve(kNeighbour).ok());
  EXPECT_THAT(Neighbour(), HasSubstr("02:00:00:00:00:0f PERMANENT"));
}

// --- The address is kept -------------------------------------------------------------------------

TEST_F(ServiceAddressTest, TakenAwayIsPutBackAndAnnounced) {
  std::vector<bool> changes;
  address_->WatchCarrier([&](bool up) { changes.push_back(up); });
  node_.Ip("addr add 198.18.0.7/32 dev eth0");
  ASSERT_TRUE(address_->Add().ok());
  address_->Announce();
  ASSERT_TRUE(RunUntil([&] {
    Hear();
    return heard_.size() >= 12;  // the next one is 1.6 s away
  }));
  for (uint64_t times = 1; times <= 3; ++times) {
    heard_.clear();
    const auto taken = Clock::now();
    node_.Ip(times == 2 ? "addr flush dev eth0" : "addr del 198.18.0.1/32 dev eth0");
    ASSERT_TRUE(RunUntil([&] {
      Hear();
      return Addresses() == 1 && heard_.size() >= 2;
    }));
    EXPECT_LT(Clock::now() - taken, std::chrono::seconds(1));
    EXPECT_EQ(times, address_->times_put_back());
  }
  EXPECT_THAT(changes, ElementsAre()) << "what was put right at once is no loss";
  // Another's, another prefix, and what we take off ourselves, is nobody's concern.
  node_.Ip(
      "addr add 198.18.0.7/32 dev eth0\naddr add 198.18.0.1/24 dev eth0\n"
      "addr del 198.18.0.7/32 dev eth0\naddr del 198.18.0.1/24 dev eth0");
  EXPECT_TRUE(address_->Remove().ok());
  node_.Ip("link set eth0 mtu 1300");  // behind all these events
  for (int i = 0; i < 50; ++i) loop_.run_for(std::chrono::milliseconds(1));
  EXPECT_EQ(0, Addresses());
  EXPECT_EQ(3u, address_->times_put_back());
}

TEST_F(ServiceAddressTest, NewInterfaceOfTheSameNameTakesOver) {
  std::vector<std::string> events;
  absl::Status ready = absl::UnavailableError("not yet");
  address_->WatchCarrier([&](bool up) { events.push_back(up ? "up" : "down"); });
  address_->WatchReplacement([&](int index) {
    EXPECT_EQ(0, Addresses()) << "nothing is on it before it is ready";
    InNamespace here(node_);
    EXPECT_EQ(static_cast<int>(::if_nametoindex("eth0")), index);
    events.push_back(ready.ok() ? "ready" : "unready");
    return ready;
  });
  ASSERT_TRUE(address_->Add().ok());
  address_->Announce();
  node_.Ip("link del eth0");
  ASSERT_TRUE(RunUntil([&] { return events.size() == 1; }));
  EXPECT_EQ(0, address_->interface_index());
  // Another name is another interface.
  node_.Ip("link add eth1 type veth peer name eth2\nlink del eth1");
  node_.Ip("link add eth0 address 02:00:00:00:00:1a type veth peer name eth0 netns " + neighbour_.path() +
           "\nlink set eth0 up");
  neighbour_.Ip("link set eth0 up");
  {
    InNamespace here(neighbour_);
    ears_.reset(::socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, htons(ETH_P_ARP)));
  }
  ASSERT_TRUE(RunUntil([&] { return events.size() == 2; }));
  EXPECT_FALSE(address_->carrier());
  ready = absl::OkStatus();
  ASSERT_TRUE(RunUntil([&] { return !events.empty() && events.back() == "up"; }));
  EXPECT_EQ("down", events.front());
  EXPECT_THAT(events, ::testing::Contains("ready"));
  EXPECT_EQ(1, Addresses());
  heard_.clear();
  ASSERT_TRUE(RunUntil([&] {
    Hear();
    return std::any_of(heard_.begin(), heard_.end(), [](const Arp& arp) { return arp.frame[11] == 0x1a; });
  }));
  std::optional<absl::StatusOr<std::optional<MacAddress>>> probed;
  address_->Probe(std::chrono::milliseconds(30), [&](auto result) { probed = result; });
  ASSERT_TRUE(RunUntil([&] { return probed.has_value(); }));
  EXPECT_TRUE(probed->ok()) << probed->status();
}

TEST_F(ServiceAddressTest, RenamedInterfaceIsStillTheSame) {
  ASSERT_TRUE(address_->Add().ok());
  const int index = address_->interface_index();
  node_.Ip("link set eth0 down\nlink set eth0 name lan0\nlink set lan0 up");
  ASSERT_TRUE(RunUntil([&] { return address_->carrier(); }));
  EXPECT_EQ(index, address_->interface_index());
  node_.Ip("addr del 198.18.0.1/32 dev lan0");
  ASSERT_TRUE(RunUntil([&] { return address_->times_put_back() == 1; }));
}

// --- Announcements -------------------------------------------------------------------------------

TEST_F(ServiceAddressTest, AnnouncesInBothFormsWithGrowingPauses) {
  ASSERT_TRUE(address_->Add().ok());
  address_->Announce();
  ASSERT_TRUE(RunUntil([&] {
    Hear();
    return heard_.size() >= 6;
  }));
  for (size_t i = 0; i < heard_.size(); ++i) {
    // Of 42 bytes; a driver may pad.
    EXPECT_EQ(BuildGratuitousArp(kIp, kMac, i % 2 == 1 ? ArpForm::kReply : ArpForm::kRequest),
              heard_[i].frame.substr(0, 42));
  }
  EXPECT_GE(heard_[2].at - heard_[0].at, std::chrono::milliseconds(45));
  EXPECT_GE(heard_[4].at - heard_[2].at, std::chrono::milliseconds(90));
  // A neighbour believes it.
  neighbour_.Ip(
      "addr add 198.18.0.9/24 dev eth0\n"
      "neigh replace 198.18.0.1 lladdr 02:00:00:00:00:bb dev eth0 nud stale");
  address_->Announce();
  EXPECT_TRUE(RunUntil([&] {
    InNamespace here(neighbour_);
    FILE* out = ::popen("ip neigh show 198.18.0.1", "r");
    char line[500] = "";
    const bool read = std::fgets(line, sizeof(line), out) != nullptr;
    ::pclose(out);
    return read && std::strstr(line, "02:00:00:00:00:0a") != nullptr;
  }));
}

TEST_F(ServiceAddressTest, NewSeriesAndRemoveEndAnOldOne) {
  address_->Announce();
  address_->Announce();
  // Two pairs at once, and then one series alone: 50, 150, 350 ms after its beginning.
  ASSERT_TRUE(RunUntil([&] {
    Hear();
    return heard_.size() >= 10;
  }));
  EXPECT_EQ(10u, heard_.size());
  EXPECT_GE(heard_[8].at - heard_[2].at, std::chrono::milliseconds(345));

  EXPECT_TRUE(address_->Remove().ok());
  const auto end = Clock::now() + std::chrono::milliseconds(600);
  ASSERT_TRUE(RunUntil([&] { return Clock::now() > end; }));
  Hear();
  EXPECT_EQ(10u, heard_.size());
}

// A switch port that learns for 30 s, or a switch that is rebooted, hears what is said later.
TEST_F(ServiceAddressTest, GoesOnAnnouncing) {
  // The series itself, on a clock that does not wait: 50 ms, doubled until a minute is over, then each
  // period.
  std::vector<std::chrono::milliseconds> pauses;
  for (auto next = ArpAnnouncer::Pauses(std::chrono::seconds(45)); pauses.size() < 14;) {
    const auto pause = next.Next();
    ASSERT_TRUE(pause.has_value());
    pauses.push_back(*pause);
  }
  std::chrono::milliseconds passed{0};
  for (size_t i = 0; i < 11; ++i) {
    EXPECT_EQ(pauses[i], std::chrono::milliseconds(50 << i));
    passed += pauses[i];
  }
  EXPECT_GE(passed, std::chrono::seconds(60));
  EXPECT_EQ(pauses[11], std::chrono::seconds(45));
  EXPECT_EQ(pauses[13], std::chrono::seconds(45));
  auto none = ArpAnnouncer::Pauses(std::chrono::seconds(0));
  for (int i = 0; i < 11; ++i) EXPECT_TRUE(none.Next().has_value());
  EXPECT_EQ(none.Next(), std::nullopt);
}

TEST_F(ServiceAddressTest, AnnouncesWhenCarrierReturns) {
  const auto announced = [&] { return heard_.size(); };
  address_->Announce();
  ASSERT_TRUE(RunUntil([&] {
    Hear();
    return announced() >= 12;  // the next one is 1.6 s away
  }));
  std::optional<bool> last;
  address_->WatchCarrier([&](bool up) { last = up; });
  neighbour_.Ip("link set eth0 down");
  ASSERT_TRUE(RunUntil([&] { return last == false; }));  // the kernel may sit on the news for a second
  Hear();
  const size_t before = announced();
  neighbour_.Ip("link set eth0 up");
  // A new series: 50, 150, 350 ms after its beginning. The old one would have had pauses of seconds.
  ASSERT_TRUE(RunUntil([&] {
    Hear();
    return announced() >= before + 8;
  }));
  EXPECT_LT(heard_[before + 7].at - heard_[before].at, std::chrono::milliseconds(1600));
}

TEST_F(ServiceAddressTest, AnnouncesWithTheMacAddressOfNow) {
  node_.Ip("link set eth0 address 02:00:00:00:00:0c");
  ASSERT_TRUE(RunUntil([&] {
    address_->Announce();
    Hear();
    return !heard_.empty() && heard_.back().frame[11] == 0x0c;
  }));
}

// --- Who has the address? ------------------------------------------------------------------------

using Probed = absl::StatusOr<std::optional<MacAddress>>;

TEST_F(ServiceAddressTest, ProbeFindsWhoHasTheAddress) {
  neighbour_.Ip("link set eth0 address 02:00:00:00:00:0b\naddr add 198.18.0.1/24 dev eth0");
  std::optional<Probed> result;
  const auto begun = Clock::now();
  address_->Probe(std::chrono::seconds(10), [&](Probed probed) { result = probed; });
  EXPECT_FALSE(result.has_value()) << "inside the call";
  ASSERT_TRUE(RunUntil([&] { return result.has_value(); }));
  EXPECT_LT(Clock::now() - begun, std::chrono::seconds(9)) << "an answer is not waited out";
  ASSERT_TRUE(result->ok()) << result->status();
  EXPECT_EQ(**result, (MacAddress{0x02, 0, 0, 0, 0, 0x0b}));
}

TEST_F(ServiceAddressTest, ProbeThatNobodyAnswers) {
  // A neighbour that has another address, and one of our own.
  neighbour_.Ip("addr add 198.18.0.2/24 dev eth0");
  ASSERT_TRUE(address_->Add().ok());
  std::vector<Probed> results;
  const auto begun = Clock::now();
  for (const int wait : {300, 30}) {
    address_->Probe(std::chrono::milliseconds(wait), [&](Probed probed) { results.push_back(probed); });
  }
  ASSERT_TRUE(RunUntil([&] { return results.size() == 1; }));
  EXPECT_GE(Clock::now() - begun, std::chrono::milliseconds(30));
  ASSERT_TRUE(RunUntil([&] { return results.size() == 2; }));
  EXPECT_GE(Clock::now() - begun, std::chrono::milliseconds(300));
  for (const Probed& result : results) {
    ASSERT_TRUE(result.ok()) << result.status();
    EXPECT_EQ(*result, std::nullopt);
  }
  Hear();
  EXPECT_EQ(6u, heard_.size());
  for (const Arp& arp : heard_) EXPECT_EQ(BuildArpProbe(kIp, kMac), arp.frame.substr(0, 42));
}

TEST_F(ServiceAddressTest, ProbeHearsAnnouncementsToo) {
  std::optional<Probed> result;
  address_->Probe(std::chrono::seconds(10), [&](Probed probed) { result = probed; });
  ASSERT_TRUE(RunUntil([&] {
    Hear();
    return !heard_.empty();
  }));
  // Who does not answer, but speaks for the address: of other addresses, of our own hardware, of this one.
  const auto say = [&](const std::string& frame) {
    sockaddr_ll to = {};
    to.sll_family = AF_PACKET;
    to.sll_halen = ETH_ALEN;
    {
      InNamespace here(neighbour_);
      to.sll_ifindex = static_cast<int>(::if_nametoindex("eth0"));
    }
    ASSERT_EQ(static_cast<ssize_t>(frame.size()), ::sendto(ears_.get(), frame.data(), frame.size(), 0,
                                                           reinterpret_cast<sockaddr*>(&to), sizeof(to)));
  };
  const MacAddress other = {0x02, 0, 0, 0, 0, 0x0c};
  say(BuildGratuitousArp(kIp + 1, other, ArpForm::kRequest));
  say(BuildGratuitousArp(kIp, kMac, ArpForm::kRequest));
  say(BuildArpProbe(kIp, other));
  say(BuildGratuitousArp(kIp, other, ArpForm::kReply));
  ASSERT_TRUE(RunUntil([&] { return result.has_value(); }));
  ASSERT_TRUE(result->ok()) << result->status();
  EXPECT_EQ(**result, other);
}

TEST_F(ServiceAddressTest, ProbeWithoutAnInterfaceToAskOn) {
  std::optional<Probed> result;
  node_.Ip("link set eth0 down");
  address_->Probe(std::chrono::seconds(10), [&](Probed probed) { result = probed; });
  ASSERT_TRUE(RunUntil([&] { return result.has_value(); }));
  EXPECT_EQ(absl::StatusCode::kUnavailable, result->status().code()) << result->status();
  node_.Ip("link set eth0 up");
  ASSERT_TRUE(RunUntil([&] { return address_->carrier(); }));
  result.reset();
  address_->Probe(std::chrono::milliseconds(30), [&](Probed probed) { result = probed; });
  ASSERT_TRUE(RunUntil([&] { return result.has_value(); }));
  EXPECT_TRUE(result->ok()) << result->status();

  auto loopback = Create("lo");
  ASSERT_TRUE(loopback.ok()) << loopback.status();
  result.reset();
  (*loopback)->Probe(std::chrono::seconds(10), [&](Probed probed) { result = probed; });
  ASSERT_TRUE(RunUntil([&] { return result.has_value(); }));
  EXPECT_TRUE(result->ok()) << result->status();
}

TEST_F(ServiceAddressTest, DestroyedWhileProbing) {
  address_->Probe(std::chrono::milliseconds(30), [](Probed) { FAIL() << "of an object that is gone"; });
  ASSERT_TRUE(RunUntil([&] {
    Hear();
    return !heard_.empty();
  }));
  address_.reset();
  loop_.run();
}

// --- Carrier -------------------------------------------------------------------------------------

TEST_F(ServiceAddressTest, CarrierGoesAndComes) {
  std::vector<bool> changes;
  address_->WatchCarrier([&](bool up) {
    changes.push_back(up);
    EXPECT_EQ(up, address_->carrier());
  });
  // Changes of other kinds are none.
  node_.Ip("link set eth0 mtu 1400\nlink set eth0 txqueuelen 500");
  neighbour_.Ip("link set eth0 down");
  EXPECT_FALSE(address_->carrier()) << "before the loop has run";
  ASSERT_TRUE(RunUntil([&] { return changes.size() == 1; }));
  neighbour_.Ip("link set eth0 up");
  ASSERT_TRUE(RunUntil([&] { return changes.size() == 2; }));
  EXPECT_TRUE(address_->carrier());
  node_.Ip("link set eth0 down");
  ASSERT_TRUE(RunUntil([&] { return changes.size() == 3; }));
  node_.Ip("link set eth0 up");
  ASSERT_TRUE(RunUntil([&] { return changes.size() == 4; }));
  EXPECT_THAT(changes, ElementsAre(false, true, false, true));
}

TEST_F(ServiceAddressTest, LostEventsAreMadeUpFor) {
  std::optional<bool> last;
  address_->WatchCarrier([&](bool up) { last = up; });
  // More than the socket's buffer holds, with the loop not running.
  std::string commands;
  for (int i = 0; i < 400; ++i) {
    commands += "link set eth0 mtu " + std::to_string(1000 + i) + "\n";
  }
  node_.Ip(commands);
  neighbour_.Ip("link set eth0 down");
  ASSERT_TRUE(RunUntil([&] { return last == false; }));
}

TEST_F(ServiceAddressTest, BridgePortIsNoChange) {
  std::vector<bool> changes;
  address_->WatchCarrier([&](bool up) { changes.push_back(up); });
  node_.Ip(
      "link add br0 type bridge\nlink set br0 up\nlink set eth0 master br0\n"
      "link set eth0 nomaster\nlink set eth0 down");
  ASSERT_TRUE(RunUntil([&] { return !changes.empty(); }));
  EXPECT_THAT(changes, ElementsAre(false));
}

TEST_F(ServiceAddressTest, InterfaceThatDisappearsHasNoCarrier) {
  std::vector<bool> changes;
  address_->WatchCarrier([&](bool up) { changes.push_back(up); });
  ASSERT_TRUE(address_->Add().ok());
  node_.Ip("link del eth0");
  ASSERT_TRUE(RunUntil([&] { return !changes.empty(); }));
  EXPECT_THAT(changes, ElementsAre(false));
  EXPECT_FALSE(address_->carrier());
  EXPECT_TRUE(address_->Remove().ok()) << "the address has gone with it";
  const absl::Status added = address_->Add();
  EXPECT_EQ(absl::StatusCode::kNotFound, added.code()) << added;
  EXPECT_THAT(std::string(added.message()), HasSubstr("198.18.0.1"));
  EXPECT_THAT(std::string(added.message()), HasSubstr("eth0"));
  address_->Announce();  // says so in the log, no more
}

TEST_F(ServiceAddressTest, UnknownInterfaceIsNamed) {
  for (const std::string name : {"eth7", "", "a-name-longer-than-interfaces-have"}) {
    const auto other = Create(name);
    EXPECT_EQ(absl::StatusCode::kNotFound, other.status().code()) << other.status();
    EXPECT_THAT(std::string(other.status().message()), HasSubstr("\"" + name + "\""));
  }
}

TEST_F(ServiceAddressTest, LoopbackIsNotAnnounced) {
  auto loopback = Create("lo");
  ASSERT_TRUE(loopback.ok()) << loopback.status();
  EXPECT_TRUE((*loopback)->carrier());
  EXPECT_TRUE((*loopback)->Add().ok());
  (*loopback)->Announce();
  EXPECT_TRUE((*loopback)->Remove().ok());
  InNamespace here(node_);
  EXPECT_EQ(static_cast<int>(::if_nametoindex("lo")), (*loopback)->interface_index());
  EXPECT_EQ(static_cast<int>(::if_nametoindex("eth0")), address_->interface_index());
}

TEST_F(ServiceAddressTest, WithoutPermission) {
  for (const int missing : {CAP_NET_ADMIN, CAP_NET_RAW}) {
    SCOPED_TRACE(missing);
    // Capabilities belong to the thread, and so does the namespace it is in.
    std::thread([&] {
      InNamespace here(node_);
      __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
      __user_cap_data_struct caps[2] = {};
      ASSERT_EQ(0, ::syscall(SYS_capget, &header, caps));
      const __user_cap_data_struct before[2] = {caps[0], caps[1]};
      caps[0].effective &= ~(1u << missing);
      ASSERT_EQ(0, ::syscall(SYS_capset, &header, caps)) << strerror(errno);
      const auto other = ServiceAddress::Create(loop_, {"eth0", kIp});
      EXPECT_EQ(absl::StatusCode::kPermissionDenied, other.status().code()) << other.status();
      EXPECT_THAT(std::string(other.status().message()), HasSubstr("CAP_NET_ADMIN and CAP_NET_RAW"));
      EXPECT_THAT(std::string(other.status().message()), HasSubstr("198.18.0.1"));
      if (missing == CAP_NET_ADMIN) {
        const absl::Status added = address_->Add();
        EXPECT_EQ(absl::StatusCode::kPermissionDenied, added.code()) << added;
        EXPECT_THAT(std::string(added.message()), HasSubstr("198.18.0.1"));
      }
      ASSERT_EQ(0, ::syscall(SYS_capset, &header, before)) << strerror(errno);
    }).join();
  }
}

TEST_F(ServiceAddressTest, DestroyedWithWorkPending) {
  address_->WatchCarrier([](bool) { FAIL() << "of an object that is gone"; });
  address_->Announce();
  neighbour_.Ip("link set eth0 down");
  // Ready, and not handled yet: one turn of the loop queues both.
  const auto until = Clock::now() + std::chrono::milliseconds(60);
  while (Clock::now() < until) std::this_thread::yield();
  address_.reset();
  loop_.run();
}

}  // namespace
}  // namespace understudy::tcpshim
