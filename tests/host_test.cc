// What others do on a node's host: take its port, its address, its interface.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstring>
#include <thread>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "tests/pair_fixture.h"

namespace understudy::lab {
namespace {

using testing::HasSubstr;

class HostTest : public PairTest {
 protected:
  StreamClient* StartTalk(Fleet* fleet) {
    StreamClient* talk = fleet->Add(EchoPlan(
        {.bytes = 1u << 30, .seed = TestSeed(), .max_ahead = 2000, .pace = std::chrono::microseconds(500)}));
    EXPECT_EQ(fleet->RunUntil([&] { return talk->received() > 10000; }, kPatience), "");
    return talk;
  }
  void Finish(Fleet* fleet, StreamClient* talk) {
    talk->FinishEcho(1000);
    EXPECT_EQ(fleet->RunUntilDone(kPatience), "");
  }
  std::string Port(Host host) const { return absl::StrCat("sw-service-", Name(host)); }
  void DeleteInterface(Host host) {
    const absl::Status done = lab_->host(host).Ip(absl::StrCat("link del ", Lab::kServiceInterface));
    ASSERT_TRUE(done.ok()) << done;
  }
  void MakeInterface(Host host) {
    absl::Status done = lab_->wires().Ip(
        absl::StrCat("link add ", Port(host), " type veth peer name ", Lab::kServiceInterface, " address ",
                     ToString(lab_->mac(host)), " netns ", lab_->host(host).path(), "\nlink set ", Port(host),
                     " master br-service up"));
    ASSERT_TRUE(done.ok()) << done;
    done =
        lab_->host(host).Ip(absl::StrCat("addr add ", Lab::host_ip(host), "/24 dev ", Lab::kServiceInterface,
                                         "\nlink set ", Lab::kServiceInterface, " up"));
    ASSERT_TRUE(done.ok()) << done;
  }
  // What its kernel knows of those on the service network.
  std::string Neighbours(Host host) {
    std::string all;
    lab_->host(host).Run([&] {
      FILE* out = popen(absl::StrCat("ip -4 neigh show dev ", Lab::kServiceInterface).c_str(), "r");
      for (char line[200]; fgets(line, sizeof(line), out) != nullptr;) all += line;
      pclose(out);
    });
    return all;
  }
  // In its status.
  bool Says(Host host, const std::string& words) {
    const auto now = status(host).Status();
    return now.ok() && now->json.find(words) != std::string::npos;
  }
  bool Said(Host host, const std::string& words) {
    return pair_->process(host).Log().find(words) != std::string::npos;
  }
};

// Found out before it joins, not when it has been given the epoch.
TEST_F(HostTest, ThePortIsTakenOnTheHeir) {
  with_secondary_ = false;
  ASSERT_NO_FATAL_FAILURE(StartPair());
  const int taken = lab_->host(Host::kB).Socket(AF_INET, SOCK_STREAM);
  sockaddr_in any = {};
  any.sin_family = AF_INET;
  any.sin_port = htons(Lab::kServicePort);
  ASSERT_EQ(bind(taken, reinterpret_cast<sockaddr*>(&any), sizeof(any)), 0);
  ASSERT_EQ(listen(taken, 1), 0);
  ASSERT_TRUE(pair_->StartNode(Host::kB, "secondary").ok());
  Fleet fleet(client());
  StreamClient* talk = StartTalk(&fleet);
  EXPECT_EQ(fleet.RunUntil([&] { return Says(Host::kB, "198.18.0.10:7000: bind: Address already in use"); },
                           kPatience),
            "");
  EXPECT_EQ(status(Host::kB).State(), "joining");
  EXPECT_EQ(status(primary()).State(), "solo");
  close(taken);
  ExpectState(Host::kB, "protected", &fleet);
  epoch_ = status(primary()).Status()->epoch;
  Inject(primary(), FaultKind::kKilled);
  ExpectTakenOverBy(Host::kB, &fleet);
  Finish(&fleet, talk);
  ExpectServes();
}

// And nobody can take it later.
TEST_F(HostTest, ThePortIsHeldByTheHeir) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  const int late = lab_->host(Host::kB).Socket(AF_INET, SOCK_STREAM);
  const int on = 1;
  ASSERT_EQ(setsockopt(late, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
  sockaddr_in any = {};
  any.sin_family = AF_INET;
  any.sin_port = htons(Lab::kServicePort);
  EXPECT_FALSE(bind(late, reinterpret_cast<sockaddr*>(&any), sizeof(any)) == 0 && listen(late, 1) == 0);
  close(late);
  Fleet fleet(client());
  StreamClient* talk = StartTalk(&fleet);
  Inject(primary(), FaultKind::kKilled);
  ExpectTakenOverBy(Host::kB, &fleet);
  Finish(&fleet, talk);
  ExpectServes();
}

TEST_F(HostTest, TheServiceAddressIsPutBack) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client());
  StreamClient* talk = StartTalk(&fleet);
  const auto put_back = [&] {
    const auto count = status(primary()).Metric("understudy_service_address_put_back_total");
    return count.ok() ? *count : -1;
  };
  ASSERT_EQ(put_back(), 0);
  for (int i = 1; i <= 3; ++i) {
    const absl::Status done = lab_->host(primary()).Ip(
        absl::StrCat("addr del ", Lab::kServiceIp, "/32 dev ", Lab::kServiceInterface));
    ASSERT_TRUE(done.ok()) << done;
    const uint64_t before = talk->received();
    EXPECT_EQ(fleet.RunUntil([&] { return put_back() == i && talk->received() > before; }, kPatience), "");
  }
  EXPECT_EQ(status(primary()).State(), "protected");
  EXPECT_EQ(status(Host::kB).State(), "protected");
  Finish(&fleet, talk);
  ExpectServes();
}

TEST_F(HostTest, ThePrimarysInterfaceIsDeleted) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client());
  StreamClient* talk = StartTalk(&fleet);
  DeleteInterface(primary());
  ExpectTakenOverBy(Host::kB, &fleet);
  ExpectState(primary(), "silent", &fleet);
  Finish(&fleet, talk);
  ExpectServes();
}

// An heir whose interface is another one now must take over on that, and be as silent on it before.
TEST_F(HostTest, TheHeirsInterfaceIsMadeAnew) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client());
  StreamClient* talk = StartTalk(&fleet);
  DeleteInterface(Host::kB);
  MakeInterface(Host::kB);
  EXPECT_EQ(fleet.RunUntil([&] { return Said(Host::kB, "service0 can be used again"); }, kPatience), "");
  // To load the programs anew may take longer than the primary waits for an answer.
  EXPECT_EQ(
      fleet.RunUntil(
          [&] { return status(primary()).State() == "protected" && status(Host::kB).State() == "protected"; },
          kPatience),
      "");
  epoch_ = status(primary()).Status()->epoch;
  Inject(primary(), FaultKind::kPowerCut);
  ExpectTakenOverBy(Host::kB, &fleet);
  Finish(&fleet, talk);
  ExpectServes();
}

// There is nobody to hand over to.
TEST_F(HostTest, ASolePrimaryServesOnItsInterfaceMadeAnew) {
  with_secondary_ = false;
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client());
  StreamClient* talk = StartTalk(&fleet);
  for (int i = 0; i < 2; ++i) {
    DeleteInterface(primary());
    EXPECT_EQ(fleet.RunFor(milliseconds(100)), "");
    MakeInterface(primary());
    const uint64_t before = talk->received();
    EXPECT_EQ(fleet.RunUntil([&] { return talk->received() > before + 1000; }, kPatience), "");
  }
  EXPECT_EQ(status(primary()).State(), "solo");
  // As filtered as before: what a secondary does not have is not acknowledged.
  ASSERT_TRUE(pair_->StartNode(Host::kB, "secondary").ok());
  ExpectState(Host::kB, "protected", &fleet);
  epoch_ = status(primary()).Status()->epoch;
  fleet.Add(UploadPlan(16 << 20, TestSeed() + 1));
  EXPECT_EQ(fleet.RunUntilAllReceive(1000, kPatience), "");
  Inject(primary(), FaultKind::kKilled);
  ExpectTakenOverBy(Host::kB, &fleet);
  Finish(&fleet, talk);
  ExpectServes();
}

TEST_F(HostTest, TheInterfaceIsRenamedAndGoesDownAndUp) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client());
  StreamClient* talk = StartTalk(&fleet);
  ASSERT_TRUE(lab_->host(Host::kB).Ip("link set service0 down").ok());
  EXPECT_EQ(fleet.RunUntil([&] { return Said(Host::kB, "service0 cannot be used"); }, kPatience), "");
  ASSERT_TRUE(lab_->host(Host::kB).Ip("link set service0 name lan0\nlink set lan0 up").ok());
  EXPECT_EQ(fleet.RunUntil([&] { return Said(Host::kB, "service0 can be used again"); }, kPatience), "");
  Inject(primary(), FaultKind::kKilled);
  ExpectTakenOverBy(Host::kB, &fleet);
  Finish(&fleet, talk);
  ExpectServes();
}

// The end of one would silence both.
TEST_F(HostTest, TwoServicesOnOneAddressAreRefused) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Process::Options options;
  options.name = "second";
  options.argv = {Runfile(binary_)};
  for (std::string flag : pair_->FlagsOf(primary(), "primary")) {
    for (const char* own : {"--service=", "--replication=", "--arbiter=", "--status=", "--peer="}) {
      if (flag.starts_with(own)) flag.clear();
    }
    if (!flag.empty()) options.argv.push_back(flag);
  }
  TempDir dir;
  for (const std::string& flag : {absl::StrCat("--service=", Lab::kServiceIp, ":7001"),
                                  absl::StrCat("--replication=", Lab::replication_ip(primary()), ":7101"),
                                  absl::StrCat("--peer=", Lab::replication_ip(Host::kB), ":7101"),
                                  absl::StrCat("--arbiter=file:", dir.path(), "/arbiter")}) {
    options.argv.push_back(flag);
  }
  options.where = &lab_->host(primary());
  auto second = Process::Start(options);
  ASSERT_TRUE(second.ok()) << second.status();
  const auto status = (*second)->Wait(seconds(10));
  ASSERT_TRUE(status.has_value()) << "two services on one address";
  EXPECT_TRUE(WIFEXITED(*status) && WEXITSTATUS(*status) == 1) << *status;
  EXPECT_THAT((*second)->Log(), HasSubstr("198.18.0.10:7000 on service0"));
  ExpectServes();
}

TEST_F(HostTest, AnotherHostWithTheAddressIsNoticed) {
  with_secondary_ = false;
  ASSERT_NO_FATAL_FAILURE(StartPair());
  const std::string address = absl::StrCat(Lab::kServiceIp, "/32 dev ", Lab::kRawInterface);
  ASSERT_TRUE(lab_->raw().Ip("addr add " + address).ok());
  const auto says = [&](const std::string& words) { return Says(primary(), words); };
  Fleet nobody(client());
  EXPECT_EQ(nobody.RunUntil([&] { return says("another host (" + ToString(lab_->raw_mac())); }, kPatience),
            "");
  EXPECT_EQ(status(primary()).State(), "solo");
  ASSERT_TRUE(lab_->raw().Ip("addr del " + address).ok());
  EXPECT_EQ(nobody.RunUntil([&] { return !says("another host ("); }, kPatience), "");
}

// Two hosts that answer for the address are worse than none: the heir is not to become one of them.
TEST_F(HostTest, TheHeirIsNoSecondHostWithTheAddress) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  const std::string address = absl::StrCat(Lab::kServiceIp, "/32 dev ", Lab::kRawInterface);
  ASSERT_TRUE(lab_->raw().Ip("addr add " + address).ok());
  Fleet nobody(client());
  EXPECT_EQ(nobody.RunUntil([&] { return Says(Host::kB, "more than one host has the service address"); },
                            kPatience),
            "");
  EXPECT_EQ(status(Host::kB).State(), "joining");
  EXPECT_EQ(nobody.RunUntil([&] { return status(primary()).State() == "solo"; }, kPatience), "");
  Inject(primary(), FaultKind::kPowerCut);
  // Now the other one is the only one to answer.
  EXPECT_EQ(nobody.RunUntil([&] { return Says(Host::kB, "another host (" + ToString(lab_->raw_mac())); },
                            kPatience),
            "");
  EXPECT_EQ(status(Host::kB).State(), "joining");
  ASSERT_TRUE(lab_->raw().Ip("addr del " + address).ok());
  ExpectTakenOverBy(Host::kB);
  ExpectServes();
}

TEST_F(HostTest, ClientsThatTheHeirCannotReachAreKnownBefore) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client());
  StreamClient* talk = StartTalk(&fleet);
  const std::string address = absl::StrCat(Lab::host_ip(Host::kB), "/24 dev ", Lab::kServiceInterface);
  ASSERT_TRUE(lab_->host(Host::kB).Ip("addr del " + address).ok());  // the route goes with it
  for (const Host host : {Host::kA, Host::kB}) {
    EXPECT_EQ(
        fleet.RunUntil([&] { return Says(host, "client addresses that could not be reached"); }, kPatience),
        "");
    EXPECT_EQ(status(host).State(), "protected");
  }
  ASSERT_TRUE(lab_->host(Host::kB).Ip("addr add " + address).ok());
  for (const Host host : {Host::kA, Host::kB}) {
    EXPECT_EQ(fleet.RunUntil([&] { return !Says(host, "could not be reached"); }, kPatience), "");
  }
  Finish(&fleet, talk);
  ExpectServes();
}

// Such as a health check, or redis-cli of the operator.
TEST_F(HostTest, ClientsOfTheServingHostAreServed) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client()), own(lab_->host(primary()));
  StreamClient* talk = StartTalk(&fleet);
  own.Add(EchoPlan({.bytes = 1 << 20, .seed = TestSeed()}));
  own.Add(UploadPlan(4 << 20, TestSeed() + 1));
  own.Add(DownloadPlan(4 << 20, TestSeed() + 2));
  own.AddTimer("timer", 20, 10);
  EXPECT_EQ(own.RunUntilDone(kPatience), "");
  // One that is there when the service moves away is told.
  const int late = lab_->host(primary()).Socket(AF_INET, SOCK_STREAM);
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_port = htons(Lab::kServicePort);
  to.sin_addr.s_addr = htonl(0xc612000a);
  ASSERT_EQ(connect(late, reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0) << strerror(errno);
  std::string word = "ECHO\nword";
  ASSERT_EQ(send(late, word.data(), word.size(), 0), static_cast<ssize_t>(word.size()));
  ASSERT_EQ(recv(late, word.data(), 4, MSG_WAITALL), 4);
  pair_->process(primary()).Signal(SIGTERM);
  ExpectTakenOverBy(Host::kB, &fleet);
  pollfd end = {late, POLLIN, 0};
  EXPECT_EQ(poll(&end, 1, 10'000), 1) << "it would wait for ever";
  EXPECT_LE(recv(late, word.data(), 1, 0), 0);
  close(late);
  // The service is elsewhere now, and this host's clients find it there.
  Fleet moved(lab_->host(primary()));
  moved.Add(EchoPlan({.bytes = 1 << 20, .seed = TestSeed() + 3}));
  EXPECT_EQ(moved.RunUntilDone(kPatience), "");
  Finish(&fleet, talk);
  ExpectServes();
}

TEST_F(HostTest, ClientsOfTheHeirsHostAreServedAfterATakeover) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client()), own(lab_->host(Host::kB));
  StreamClient* talk = StartTalk(&fleet);
  StreamClient* before = own.Add(EchoPlan({.bytes = 1u << 30, .seed = TestSeed() + 1, .max_ahead = 2000}));
  EXPECT_EQ(own.RunUntil([&] { return before->received() > 10'000; }, kPatience), "");
  Inject(primary(), FaultKind::kPowerCut);
  ExpectTakenOverBy(Host::kB, &fleet);
  before->FinishEcho(100'000);
  EXPECT_EQ(own.RunUntilDone(kPatience), "") << "not promised, but it can be done";
  Fleet after(lab_->host(Host::kB));
  after.Add(EchoPlan({.bytes = 1 << 20, .seed = TestSeed() + 2}));
  after.Add(DownloadPlan(4 << 20, TestSeed() + 3));
  EXPECT_EQ(after.RunUntilDone(kPatience), "");
  Finish(&fleet, talk);
  ExpectServes();
}

// What the heir cannot reach when it takes over it may reach a moment later.
TEST_F(HostTest, TheRouteToTheClientsComesLater) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client());
  StreamClient* talk = StartTalk(&fleet);
  fleet.Add(UploadPlan(16 << 20, TestSeed() + 1));
  StreamClient* download = fleet.Add(DownloadPlan(16 << 20, TestSeed() + 2));
  fleet.AddTimer("timer", 20, 50);
  EXPECT_EQ(fleet.RunUntil([&] { return download->received() > 100'000; }, kPatience), "");
  const std::string address = absl::StrCat(Lab::host_ip(Host::kB), "/24 dev ", Lab::kServiceInterface);
  ASSERT_TRUE(lab_->host(Host::kB).Ip("addr del " + address).ok());  // the route goes with it
  Inject(primary(), FaultKind::kKilled);
  ExpectTakenOverBy(Host::kB, &fleet);
  ASSERT_EQ(fleet.RunFor(milliseconds(1500)), "");
  ASSERT_TRUE(lab_->host(Host::kB).Ip("addr add " + address).ok());
  Finish(&fleet, talk);
  ExpectServes();
}

// Answers ARP requests for the client's address in place of its kernel: late, and not at all when it is told
// so. The client's kernel asks nobody either of whom it has heard: that would tell its own hardware address.
class SlowArp {
 public:
  SlowArp(Lab& lab, milliseconds late) : late_(late) {
    CHECK(lab.client()
              .SetSysctl(absl::StrCat("net.ipv4.conf.", Lab::kClientInterface, ".arp_ignore"), "8")
              .ok());
    const std::string neighbours = absl::StrCat("net.ipv4.neigh.", Lab::kClientInterface, ".");
    CHECK(lab.client().SetSysctl(neighbours + "delay_first_probe_time", "1000").ok());
    fd_ = lab.client().Socket(AF_PACKET, SOCK_RAW, 0);
    sockaddr_ll address = {};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(ETH_P_ARP);
    lab.client().Run([&] { address.sll_ifindex = static_cast<int>(if_nametoindex(Lab::kClientInterface)); });
    PCHECK(bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
    mac_ = lab.client_mac();
    thread_ = std::thread([this] { Loop(); });
  }
  ~SlowArp() {
    ends_ = true;
    thread_.join();
    close(fd_);
  }
  void SetAnswers(bool answers) { answers_ = answers; }

 private:
  struct Frame {
    MacAddress to, from;
    uint16_t protocol, hardware, network;
    uint8_t sizes[2];
    uint16_t operation;
    MacAddress sender;
    uint8_t sender_ip[4];
    MacAddress target;
    uint8_t target_ip[4];
  } __attribute__((packed));

  void Loop() {
    while (!ends_) {
      pollfd wait = {fd_, POLLIN, 0};
      Frame frame;
      if (poll(&wait, 1, 50) != 1 ||
          recv(fd_, &frame, sizeof(frame), 0) < static_cast<ssize_t>(sizeof(frame)))
        continue;
      constexpr uint8_t kClient[4] = {198, 18, 0, 9};
      if (frame.operation != htons(1) || memcmp(frame.target_ip, kClient, sizeof(kClient)) != 0) continue;
      std::this_thread::sleep_for(late_);
      if (!answers_) continue;
      frame.operation = htons(2);
      frame.to = frame.target = frame.sender;
      frame.from = frame.sender = mac_;
      memcpy(frame.target_ip, frame.sender_ip, sizeof(kClient));
      memcpy(frame.sender_ip, kClient, sizeof(kClient));
      PCHECK(send(fd_, &frame, sizeof(frame), 0) == static_cast<ssize_t>(sizeof(frame)));
    }
  }

  const milliseconds late_;
  int fd_ = -1;
  MacAddress mac_;
  std::atomic<bool> answers_{true}, ends_{false};
  std::thread thread_;
};

// Behind one router there are more clients than the kernel keeps packets for a neighbour that it must find
// first. What the heir sends by hand must not wait there: here it would wait for ever.
TEST_F(HostTest, TheHeirKnowsTheRouterBeforeItTakesOver) {
  constexpr int kClients = 150;
  ASSERT_NO_FATAL_FAILURE(StartPair());
  SlowArp arp(*lab_, milliseconds(50));
  std::string addresses;
  for (int i = 1; i <= kClients; ++i) absl::StrAppend(&addresses, "addr add 198.19.0.", i, "/32 dev lo\n");
  ASSERT_TRUE(client().Ip(addresses).ok());
  for (Host host : {Host::kA, Host::kB}) {
    const absl::Status routed =
        lab_->host(host).Ip(absl::StrCat("route add 198.19.0.0/16 via ", Lab::kClientIp));
    ASSERT_TRUE(routed.ok()) << routed;
  }
  Fleet fleet(client());
  const std::vector<StreamClient*> talks = fleet.AddMany(kClients, [](int i) {
    Plan plan = EchoPlan({.bytes = 1u << 30,
                          .seed = TestSeed() + static_cast<uint64_t>(i),
                          .max_ahead = 2000,
                          .piece = 500,
                          .pace = milliseconds(20)});
    plan.bind_ip = 0xc6130001 + static_cast<uint32_t>(i);
    return plan;
  });
  ASSERT_EQ(fleet.RunUntilAllReceive(1000, kPatience), "");
  ASSERT_TRUE(lab_->host(Host::kB).Ip(absl::StrCat("neigh flush dev ", Lab::kServiceInterface)).ok());
  EXPECT_EQ(
      fleet.RunUntil([&] { return Neighbours(Host::kB).find("198.18.0.9 lladdr") != std::string::npos; },
                     seconds(20)),
      "")
      << Neighbours(Host::kB);

  arp.SetAnswers(false);
  std::vector<uint64_t> before;
  for (const StreamClient* talk : talks) before.push_back(talk->received());
  Inject(primary(), FaultKind::kKilled);
  ExpectTakenOverBy(Host::kB, &fleet);
  EXPECT_EQ(fleet.RunUntil(
                [&] {
                  for (size_t i = 0; i < talks.size(); ++i) {
                    if (talks[i]->received() < before[i] + 3000) return false;  // more than was under way
                  }
                  return true;
                },
                kPatience),
            "")
      << Neighbours(Host::kB);
  arp.SetAnswers(true);
  for (StreamClient* talk : talks) talk->FinishEcho(100);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  ExpectServes();
}

// A primary's connections are told to send no larger segments than the heir's interface takes in.
TEST_F(HostTest, TheSmallerMtuDecides) {
  with_secondary_ = false;
  ASSERT_NO_FATAL_FAILURE(StartPair());
  ASSERT_TRUE(lab_->host(Host::kB).Ip("link set service0 mtu 1400").ok());
  const auto segment_size = [&] {
    const int fd = client().Socket(AF_INET, SOCK_STREAM);
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_port = htons(Lab::kServicePort);
    to.sin_addr.s_addr = htonl(0xc612000a);
    EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0) << strerror(errno);
    int size = 0;
    socklen_t length = sizeof(size);
    EXPECT_EQ(getsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &size, &length), 0);
    EXPECT_EQ(send(fd, "CLOSE\n", 6, 0), 6);
    char end;
    EXPECT_EQ(recv(fd, &end, 1, 0), 0);
    close(fd);
    return size;
  };
  EXPECT_GT(segment_size(), 1400);
  ASSERT_TRUE(pair_->StartNode(Host::kB, "secondary").ok());
  ExpectState(Host::kB, "protected");
  EXPECT_LE(segment_size(), 1360);
  Fleet fleet(client());
  fleet.Add(UploadPlan(8 << 20, TestSeed()));
  StreamClient* download = fleet.Add(DownloadPlan(8 << 20, TestSeed() + 1));
  EXPECT_EQ(fleet.RunUntil([&] { return download->received() > 100'000; }, kPatience), "");
  Inject(primary(), FaultKind::kPowerCut);
  ExpectTakenOverBy(Host::kB, &fleet);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  ExpectServes();
}

// One file for each connection; and who has fewer than the other is no full heir.
TEST_F(HostTest, TheLimitOfOpenFilesIsRaisedAndTold) {
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  const rlimit low = {.rlim_cur = 256, .rlim_max = before.rlim_max};
  with_secondary_ = false;
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
  StartPair();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  ASSERT_FALSE(HasFatalFailure());
  const auto limits = [&](Host host) {
    rlimit now = {};
    EXPECT_EQ(prlimit(pair_->process(host).pid(), RLIMIT_NOFILE, nullptr, &now), 0);
    return now;
  };
  EXPECT_EQ(limits(primary()).rlim_cur, before.rlim_max);

  // The heir's own hard limit is lower: in a child, for it cannot be raised again by everybody.
  Process::Options options;
  options.name = "b";
  options.argv = {"/bin/sh", "-c", "ulimit -n 1000; exec \"$@\"", "sh", Runfile(binary_)};
  for (const std::string& flag : pair_->FlagsOf(Host::kB, "secondary")) options.argv.push_back(flag);
  options.where = &lab_->host(Host::kB);
  auto heir = Process::Start(options);
  ASSERT_TRUE(heir.ok()) << heir.status();
  const absl::Status joined = status(Host::kB).WaitForState("protected", kPatience);
  ASSERT_TRUE(joined.ok()) << joined << (*heir)->Log();
  EXPECT_THAT(status(primary()).Status()->json, HasSubstr("the secondary can hold 900 connections"));
}

// What a node that was killed has left keeps the host from seeing the service, wherever that is now.
TEST_F(HostTest, LeftoversAreReleased) {
  with_secondary_ = false;
  ASSERT_NO_FATAL_FAILURE(StartPair());
  const auto release = [&] {
    Process::Options options;
    options.name = "release";
    options.argv = {Runfile(binary_)};
    for (const std::string& flag : pair_->FlagsOf(primary(), "primary")) options.argv.push_back(flag);
    options.argv.push_back("--release");
    options.where = &lab_->host(primary());
    auto process = Process::Start(options);
    EXPECT_TRUE(process.ok()) << process.status();
    const auto ended = (*process)->Wait(seconds(20));
    EXPECT_TRUE(ended.has_value() && WIFEXITED(*ended)) << (*process)->Log();
    return std::pair(ended.has_value() ? WEXITSTATUS(*ended) : -1, (*process)->Log());
  };
  const auto [refused, says] = release();
  EXPECT_EQ(refused, 1) << says;
  EXPECT_THAT(says, HasSubstr("198.18.0.10:7000 on service0"));
  ExpectServes();

  pair_->process(primary()).Kill();
  const std::string address = absl::StrCat(Lab::kServiceIp, "/32 dev ", Lab::kServiceInterface);
  Namespace& host = lab_->host(primary());
  EXPECT_FALSE(host.Ip("addr add " + address).ok())
      << "the test shows nothing: the address is gone by itself";
  const auto [released, nothing] = release();
  EXPECT_EQ(released, 0) << nothing;
  // It is anybody's again, and nothing stands in between.
  ASSERT_TRUE(host.Ip("addr add " + address).ok());
  const int listener = host.Socket(AF_INET, SOCK_STREAM);
  sockaddr_in here = {};
  here.sin_family = AF_INET;
  here.sin_port = htons(Lab::kServicePort + 1);  // the filters know no port
  here.sin_addr.s_addr = htonl(0xc612000a);
  ASSERT_EQ(bind(listener, reinterpret_cast<sockaddr*>(&here), sizeof(here)), 0) << strerror(errno);
  ASSERT_EQ(listen(listener, 1), 0);
  const int visitor = client().Socket(AF_INET, SOCK_STREAM);
  const timeval limit = {.tv_sec = 10, .tv_usec = 0};
  ASSERT_EQ(setsockopt(visitor, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)), 0);  // of connect, too
  EXPECT_EQ(connect(visitor, reinterpret_cast<sockaddr*>(&here), sizeof(here)), 0) << strerror(errno);
  close(visitor);
  close(listener);
  EXPECT_EQ(release().first, 0) << "nothing to do is no failure";
}

// Hosts where every listener has Fast Open, and clients that send data in their SYN.
TEST_F(HostTest, ClientsWithFastOpenAreServed) {
  sysctls_ = {{"net.ipv4.tcp_fastopen", "0x607"}};
  ASSERT_NO_FATAL_FAILURE(StartPair());
  const std::string said = "ECHO\nhello";
  std::vector<int> sockets;
  const auto connect_with_data = [&] {
    const int fd = client().Socket(AF_INET, SOCK_STREAM);
    timeval limit = {.tv_sec = kPatience.count(), .tv_usec = 0};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_port = htons(Lab::kServicePort);
    to.sin_addr.s_addr = htonl(0xc612000a);
    ASSERT_EQ(
        sendto(fd, said.data(), said.size(), MSG_FASTOPEN, reinterpret_cast<sockaddr*>(&to), sizeof(to)),
        static_cast<ssize_t>(said.size()))
        << strerror(errno);
    sockets.push_back(fd);
  };
  const auto echoed = [](int fd, const std::string& text) {
    std::string got(text.size(), '\0');
    const ssize_t size = recv(fd, got.data(), got.size(), MSG_WAITALL);
    EXPECT_EQ(got, text) << size << " " << strerror(errno);
  };
  for (int i = 0; i < 3; ++i) {  // the first learns a cookie, if there is one
    ASSERT_NO_FATAL_FAILURE(connect_with_data());
    echoed(sockets.back(), "hello");
  }
  Inject(primary(), FaultKind::kKilled);
  ExpectTakenOverBy(Host::kB);
  ASSERT_NO_FATAL_FAILURE(connect_with_data());
  echoed(sockets.back(), "hello");
  for (const int fd : sockets) {
    ASSERT_EQ(send(fd, "again", 5, 0), 5);
    echoed(fd, "again");
    shutdown(fd, SHUT_WR);
    char end;
    EXPECT_EQ(recv(fd, &end, 1, 0), 0);
    close(fd);
  }
}

}  // namespace
}  // namespace understudy::lab
