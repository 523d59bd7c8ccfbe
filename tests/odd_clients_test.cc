// Clients that are within their rights and not what most are: segment sizes that no wire has, urgent bytes,
// windows that stay closed, hosts that vanish. None may cost the others anything, or itself a byte.
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <set>

#include "absl/strings/str_cat.h"
#include "tests/apps/pattern.h"
#include "tests/lab/mini_tcp.h"
#include "tests/pair_fixture.h"

namespace understudy::lab {
namespace {

std::string Pattern(uint64_t seed, size_t size) {
  std::string text(size, 0);
  workbench::FillPattern(seed, 0, text.data(), size);
  return text;
}

// --- Segment sizes -------------------------------------------------------------------------------

struct SizeCase {
  std::string name;
  uint16_t mss;
  size_t bytes;
  std::string on_the_heir = "link show";  // a command of ip
};
void PrintTo(const SizeCase& size, std::ostream* out) { *out << size.name; }

class SegmentSizeTest : public PairTest, public testing::WithParamInterface<SizeCase> {};

// Nothing of the answer is acknowledged when the primary dies, so the heir resends it by hand.
TEST_P(SegmentSizeTest, UnacknowledgedOutputIsResent) {
  const SizeCase& size = GetParam();
  ASSERT_NO_FATAL_FAILURE(StartPair());
  const absl::Status done = lab_->host(Host::kB).Ip(size.on_the_heir + "\n");
  ASSERT_TRUE(done.ok()) << done;
  MiniTcp tcp(*lab_, MiniTcp::Options{.port = 40000, .tsval = 1, .mss = size.mss});
  ASSERT_EQ(tcp.Connect(kPatience), "");
  // The request goes out; what comes back is received, and nobody is told.
  tcp.Send(absl::StrCat("SOURCE ", size.bytes, " ", TestSeed(), "\n"));
  tcp.SetMute(true);
  ASSERT_EQ(tcp.RunUntil([&] { return !tcp.received().empty(); }, kPatience), "");
  pair_->PowerCut(primary());
  ExpectTakenOverBy(Host::kB);
  tcp.SetMute(false);
  ASSERT_EQ(tcp.RunUntil([&] { return tcp.end_seen(); }, kPatience), "");
  EXPECT_TRUE(tcp.received() == Pattern(TestSeed(), size.bytes)) << "other bytes";
  auto resent = status(Host::kB).Metric("understudy_segments_resent_total");
  auto refused = status(Host::kB).Metric("understudy_segments_refused_total");
  ASSERT_TRUE(resent.ok() && refused.ok()) << resent.status() << refused.status();
  EXPECT_GT(*resent, 0);
  EXPECT_EQ(*refused, 0) << "segments that the heir's interface does not take";
  tcp.Close();
  ASSERT_EQ(tcp.RunUntil([&] { return tcp.acknowledged() == tcp.next_seq() - 1001; }, kPatience), "");
  ExpectServes();
}

INSTANTIATE_TEST_SUITE_P(Each, SegmentSizeTest,
                         testing::Values(SizeCase{"Mss65535", 65535, 500'000},
                                         SizeCase{"Mss9000", 9000, 500'000}, SizeCase{"Mss0", 0, 200'000},
                                         SizeCase{"Mss1", 1, 100'000}, SizeCase{"Mss40", 40, 100'000},
                                         SizeCase{"SmallerMtuOnTheHeir", 1460, 500'000,
                                                  "link set service0 mtu 1000"},
                                         SizeCase{"SmallerRouteOnTheHeir", 1460, 500'000,
                                                  "route change 198.18.0.0/24 dev service0 proto kernel "
                                                  "scope link src 198.18.0.12 mtu 1000"}),
                         [](const auto& info) { return info.param.name; });

// --- Urgent bytes --------------------------------------------------------------------------------

// An echo client that may send bytes as urgent.
class UrgentClient {
 public:
  UrgentClient(const Namespace& where, const std::string& ip, uint16_t port) {
    fd_ = where.Socket(AF_INET, SOCK_STREAM);
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    inet_pton(AF_INET, ip.c_str(), &address.sin_addr);
    connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0;
    const std::string hello = "ECHO\n";
    connected_ = connected_ && send(fd_, hello.data(), hello.size(), 0) == 5;
  }
  ~UrgentClient() { close(fd_); }
  bool connected() const { return connected_; }

  void Send(const std::string& bytes, bool urgent) {
    EXPECT_EQ(send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | (urgent ? MSG_OOB : 0)),
              static_cast<ssize_t>(bytes.size()));
    sent_ += bytes;
  }
  // Ordinary bytes, urgent ones alone and behind others, some of them before the server has read anything.
  void SendAllKinds() {
    Send("plain ", false);
    Send("!", true);
    Send(" then two: ", false);
    Send("?", true);
    Send(";", true);
    Send("and one at the end of more", true);
    Send(".", true);
  }
  // All that was sent has come back, and is acknowledged.
  std::string Settle() {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    int unacknowledged = -1;
    while (std::chrono::steady_clock::now() < deadline) {
      char buffer[4096];
      const ssize_t n = recv(fd_, buffer, sizeof(buffer), MSG_DONTWAIT);
      if (n == 0) return "the server ended";
      if (n > 0) received_.append(buffer, static_cast<size_t>(n));
      if (n < 0 && errno != EAGAIN) return strerror(errno);
      if (received_.size() > sent_.size()) break;
      if (received_ == sent_ && ioctl(fd_, SIOCOUTQ, &unacknowledged) == 0 && unacknowledged == 0) return "";
      pollfd readable{fd_, POLLIN, 0};
      poll(&readable, 1, 20);
    }
    return absl::StrCat("\"", received_, "\" came back of \"", sent_, "\", ", unacknowledged,
                        " bytes not acknowledged");
  }
  std::string End() {
    shutdown(fd_, SHUT_WR);
    pollfd readable{fd_, POLLIN, 0};
    poll(&readable, 1, static_cast<int>(milliseconds(kPatience).count()));
    char byte;
    return recv(fd_, &byte, 1, MSG_DONTWAIT) == 0 ? "" : "no end of the stream";
  }

 private:
  int fd_;
  bool connected_ = false;
  std::string sent_, received_;
};

class UrgentTest : public PairTest, public testing::WithParamInterface<FaultKind> {};

TEST_P(UrgentTest, UrgentBytesAreBytesOfTheStream) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  UrgentClient early(client(), Lab::kServiceIp, Lab::kServicePort);
  UrgentClient mixed(client(), Lab::kServiceIp, Lab::kServicePort);
  ASSERT_TRUE(early.connected() && mixed.connected());
  for (UrgentClient* one : {&early, &mixed}) {
    one->SendAllKinds();
    ASSERT_EQ(one->Settle(), "");
  }
  Inject(primary(), GetParam());
  mixed.SendAllKinds();  // into the gap
  ExpectTakenOverBy(Host::kB);
  for (UrgentClient* one : {&early, &mixed}) {
    EXPECT_EQ(one->Settle(), "");
    one->SendAllKinds();
    EXPECT_EQ(one->Settle(), "");
    EXPECT_EQ(one->End(), "");
  }
  ExpectServes();
}

INSTANTIATE_TEST_SUITE_P(Each, UrgentTest, testing::Values(FaultKind::kKilled, FaultKind::kPowerCut),
                         [](const auto& info) { return NameOf(info.param); });

// --- The same without a pair ---------------------------------------------------------------------

class StandaloneOddTest : public testing::Test {
 protected:
  void SetUp() override {
    auto where = Namespace::Create("standalone");
    ASSERT_TRUE(where.ok()) << where.status().message();
    where_ = *std::move(where);
    ASSERT_TRUE(where_->Ip("link set lo up\n").ok());
    Process::Options options;
    options.name = "standalone";
    options.argv = {Runfile("tests/apps/workbench"), "--role=standalone", "--service=127.0.0.1:7000",
                    "--status=127.0.0.1:7200",       "--logtostderr",     "--client_keepalive_s=2"};
    options.where = where_.get();
    options.as_nobody = true;
    auto process = Process::Start(options);
    ASSERT_TRUE(process.ok()) << process.status();
    process_ = *std::move(process);
    ASSERT_TRUE(Status().WaitForState("solo", kPatience).ok()) << process_->Log();
  }
  StatusClient Status() { return StatusClient(where_.get(), "127.0.0.1", 7200); }

  std::unique_ptr<Namespace> where_;
  std::unique_ptr<Process> process_;
};

TEST_F(StandaloneOddTest, UrgentBytesAreBytesOfTheStream) {
  UrgentClient client(*where_, "127.0.0.1", 7000);
  ASSERT_TRUE(client.connected());
  for (int round = 0; round < 3; ++round) {
    client.SendAllKinds();
    ASSERT_EQ(client.Settle(), "");
  }
  EXPECT_EQ(client.End(), "");
}

TEST_F(StandaloneOddTest, VanishedClientsAreGivenUp) {
  Fleet fleet(*where_, "127.0.0.1", 7000);
  std::vector<StreamClient*> clients;
  for (uint64_t i = 0; i < 3; ++i) {
    Plan plan = EchoPlan({.bytes = 3000, .seed = i});
    plan.send_first = 1000;
    clients.push_back(fleet.Add(plan));
  }
  ASSERT_EQ(fleet.RunUntilAllReceive(995, kPatience), "");
  clients[0]->DropIncoming(true);
  clients[1]->DropIncoming(true);
  clients[1]->ReleaseSend();  // asks, and will not hear the answer
  int64_t left = -1;
  EXPECT_EQ(fleet.RunUntil(
                [&] {
                  auto now = Status().Status();
                  left = now.ok() ? now->connections : -1;
                  return left == 1;
                },
                kPatience),
            "")
      << left << " are left";
  clients[2]->ReleaseSend();
  EXPECT_EQ(fleet.RunUntil([&] { return clients[2]->done(); }, kPatience), "");
}

// --- Closed windows ------------------------------------------------------------------------------

enum class Change { kPowerCut, kHandover };
struct StallCase {
  std::string name;
  Change change;
  milliseconds pause;  // from the takeover until the clients read again
};
void PrintTo(const StallCase& stall, std::ostream* out) { *out << stall.name; }

class StalledReaderTest : public PairTest, public testing::WithParamInterface<StallCase> {
 protected:
  void ChangeServer(Fleet& fleet) {
    if (GetParam().change == Change::kPowerCut) {
      pair_->PowerCut(primary());
    } else {
      pair_->process(primary()).Signal(SIGTERM);
    }
    ExpectTakenOverBy(Host::kB, &fleet);
  }
};

// With the takeover behind it, a client that reads again is as well off as if there had been none. The
// kernel's timers double from a second on: whoever waits for them waits for about as long as the pause was.
TEST_P(StalledReaderTest, TheStreamGoesOnWhenTheWindowOpens) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client());
  std::vector<StreamClient*> stalled;
  const uint64_t seed = TestSeed();
  for (uint64_t i = 0; i < 4; ++i) {
    Plan plan = i % 2 == 0 ? AnswerPlan(4 << 20, 1, seed + i) : DownloadPlan(8 << 20, seed + i);
    plan.name = absl::StrCat("stalled ", i);
    plan.reading = false;
    if (i >= 2) plan.receive_buffer = 16 << 10;
    stalled.push_back(fleet.Add(plan));
  }
  const auto shut = [&] {
    std::set<uint16_t> ports;
    for (const SeenPacket& packet : watch_->Packets()) {
      if (!packet.arp && !packet.from_service && packet.window == 0) ports.insert(packet.client_port);
    }
    return ports.size() == stalled.size();
  };
  ASSERT_EQ(fleet.RunUntil(shut, kPatience), "");
  ChangeServer(fleet);
  ASSERT_EQ(fleet.RunFor(GetParam().pause), "");
  for (StreamClient* one : stalled) {
    one->SetReading(true);
    ASSERT_EQ(fleet.RunUntil([&] { return one->received() > 0; }, kPatience), "");  // of its own kernel
    one->ResetPause();
    ASSERT_EQ(fleet.RunUntil([&] { return one->done(); }, kPatience), "");
    EXPECT_LT(one->longest_pause(), seconds(1)) << one->name();
    std::cout << one->name() << ": longest wait " << one->longest_pause().count() / 1000 << " ms\n";
  }
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  ExpectServes();
}

// Windows of a few KB, opened bit by bit: there is always something to wait for.
TEST_P(StalledReaderTest, SlowReadersGoOnAtTheirPace) {
  ASSERT_NO_FATAL_FAILURE(StartPair());
  Fleet fleet(client());
  std::vector<StreamClient*> slow;
  for (uint64_t i = 0; i < 3; ++i) {
    Plan plan = AnswerPlan(2 << 20, 1, TestSeed() + i);
    plan.name = absl::StrCat("slow ", i);
    plan.receive_buffer = 4096 << i;
    plan.piece = 1024 << i;
    plan.pace = std::chrono::milliseconds(5);
    slow.push_back(fleet.Add(plan));
  }
  ASSERT_EQ(fleet.RunUntil([&] { return slow[0]->received() > 20000; }, kPatience), "");
  ChangeServer(fleet);
  // The change itself has cost something.
  ASSERT_EQ(fleet.RunUntilAllReceive(4000, kPatience), "");
  for (StreamClient* one : slow) one->ResetPause();
  ASSERT_EQ(fleet.RunFor(GetParam().pause), "");
  for (StreamClient* one : slow) {
    EXPECT_LT(one->longest_pause(), seconds(1)) << one->name();
    std::cout << one->name() << ": longest wait " << one->longest_pause().count() / 1000 << " ms, "
              << one->received() << " bytes\n";
    one->SetPace(std::chrono::microseconds(0), 256 << 10);
  }
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
}

// UNDERSTUDY_TEST_LONG=1: with the pauses that were reported, too.
std::vector<StallCase> StallCases() {
  std::vector<StallCase> cases = {{"PowerCut", Change::kPowerCut, milliseconds(3300)},
                                  {"Handover", Change::kHandover, milliseconds(3300)}};
  if (getenv("UNDERSTUDY_TEST_LONG") != nullptr) {
    for (int pause : {6, 15, 20}) {
      cases.push_back({absl::StrCat("PowerCut", pause, "s"), Change::kPowerCut, seconds(pause)});
    }
  }
  return cases;
}
INSTANTIATE_TEST_SUITE_P(Each, StalledReaderTest, testing::ValuesIn(StallCases()),
                         [](const auto& info) { return info.param.name; });

// --- Clients that vanish -------------------------------------------------------------------------

class VanishedTest : public PairTest {
 protected:
  void SetUp() override {
    flags_ = {"--client_keepalive_s=2"};
    resets_allowed_ = true;  // nobody is there to get them
    ASSERT_NO_FATAL_FAILURE(StartPair());
  }
  // Three that will be gone: silent; with an answer that is never acknowledged; with a closed window. And
  // three that live: silent; with a closed window that answers all probes; talking.
  void Connect(Fleet& fleet) {
    const uint64_t seed = TestSeed();
    const auto add = [&](Plan plan, const char* name) {
      plan.name = name;
      return fleet.Add(plan);
    };
    const auto idle = [&](uint64_t i) {
      Plan plan = EchoPlan({.bytes = 3000, .seed = seed + i});
      plan.send_first = 1000;
      return plan;
    };
    const auto stalled = [&](uint64_t i) {
      Plan plan = AnswerPlan(4 << 20, 1, seed + i);
      plan.reading = false;
      return plan;
    };
    gone_ = {add(idle(1), "gone, silent"), add(idle(2), "gone, answered"), add(stalled(3), "gone, stalled")};
    alive_ = {add(idle(4), "silent"), add(stalled(5), "stalled")};
    for (StreamClient* one : {gone_[0], gone_[1], alive_[0]}) {
      ASSERT_EQ(fleet.RunUntil([&] { return one->received() == 995; }, kPatience), "");
    }
    const auto shut = [&] {
      std::set<uint16_t> ports;
      for (const SeenPacket& packet : watch_->Packets()) {
        if (!packet.arp && !packet.from_service && packet.window == 0) ports.insert(packet.client_port);
      }
      return ports.size() == 2;
    };
    ASSERT_EQ(fleet.RunUntil(shut, kPatience), "");
  }
  void Vanish() {
    for (StreamClient* one : gone_) one->DropIncoming(true);
    gone_[1]->ReleaseSend();  // asks, and will not hear the answer
  }
  void ExpectOnlyTheLiving(Host host, Fleet& fleet) {
    NodeStatus last;
    const auto left = [&] {
      auto now = status(host).Status();
      if (now.ok()) last = *now;
      return now.ok() && now->connections == static_cast<int64_t>(alive_.size());
    };
    EXPECT_EQ(fleet.RunUntil(left, kPatience), "") << Name(host) << " has " << last.connections;
  }
  // The living have not noticed anything, some timeouts later.
  void ExpectTheLivingGoOn(Fleet& fleet) {
    ASSERT_EQ(fleet.RunFor(seconds(5)), "");
    for (StreamClient* one : alive_) {
      one->SetReading(true);
      one->ReleaseSend();
      EXPECT_EQ(fleet.RunUntil([&] { return one->done(); }, kPatience), "");
      EXPECT_EQ(one->error(), "");
    }
  }

  std::vector<StreamClient*> gone_, alive_;
};

TEST_F(VanishedTest, AreGivenUpOnBothNodes) {
  Fleet fleet(client());
  ASSERT_NO_FATAL_FAILURE(Connect(fleet));
  Vanish();
  ExpectOnlyTheLiving(Host::kA, fleet);
  ExpectOnlyTheLiving(Host::kB, fleet);
  auto broken = status(Host::kA).Metric("understudy_connections_broken_total");
  ASSERT_TRUE(broken.ok());
  EXPECT_EQ(*broken, 3);
  ExpectTheLivingGoOn(fleet);
}

TEST_F(VanishedTest, AreGivenUpByTheHeirToo) {
  Fleet fleet(client());
  ASSERT_NO_FATAL_FAILURE(Connect(fleet));
  Vanish();
  pair_->PowerCut(primary());
  ExpectTakenOverBy(Host::kB, &fleet);
  ExpectOnlyTheLiving(Host::kB, fleet);
  ExpectTheLivingGoOn(fleet);
}

}  // namespace
}  // namespace understudy::lab
