// The lab tests itself: a test that passes in a lab that cuts nothing, or in front of a watch that sees
// nothing, proves nothing.
#include "tests/lab/lab.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "absl/strings/str_cat.h"
#include "tests/apps/pattern.h"
#include "tests/lab/clients.h"
#include "tests/lab/mini_tcp.h"
#include "tests/lab/process.h"
#include "tests/lab/segment_watch.h"
#include "tests/lab/status_client.h"

namespace understudy::lab {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

sockaddr_in Address(const std::string& ip, uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  EXPECT_EQ(inet_pton(AF_INET, ip.c_str(), &address.sin_addr), 1);
  return address;
}

// Whether `from` reaches ip within a time: UDP to a port where nobody listens comes back as an error.
bool ReachesWithin(milliseconds time, Namespace& from, const std::string& ip) {
  int fd = from.Socket(AF_INET, SOCK_DGRAM);
  sockaddr_in to = Address(ip, 9);
  EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)), 0);
  auto deadline = std::chrono::steady_clock::now() + time;
  bool reached = false;
  while (!reached && std::chrono::steady_clock::now() < deadline) {
    reached = send(fd, "x", 1, 0) < 0 && errno == ECONNREFUSED;
    pollfd answer = {.fd = fd, .events = POLLIN, .revents = 0};
    if (!reached && poll(&answer, 1, 20) == 1) {
      int error = 0;
      socklen_t size = sizeof(error);
      getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
      reached = error == ECONNREFUSED;
    }
  }
  close(fd);
  return reached;
}

// What ARP remembers of the cut would only take time. Long enough for it to try again after a second.
bool Reaches(Namespace& from, const std::string& ip) {
  EXPECT_TRUE(from.Ip("neigh flush all\n").ok());
  return ReachesWithin(seconds(5), from, ip);
}

bool IsCutOff(Namespace& from, const std::string& ip) { return !ReachesWithin(milliseconds(150), from, ip); }

bool HasCarrier(Namespace& where, const std::string& interface) {
  int fd = where.Socket(AF_INET, SOCK_DGRAM);
  ifreq request = {};
  memcpy(request.ifr_name, interface.data(), interface.size());
  EXPECT_EQ(ioctl(fd, SIOCGIFFLAGS, &request), 0);
  close(fd);
  return (request.ifr_flags & IFF_RUNNING) != 0;
}

// The kernel reports a change with some delay.
bool GetsCarrier(Namespace& where, const std::string& interface, bool carrier) {
  for (int i = 0; i < 300; ++i) {
    if (HasCarrier(where, interface) == carrier) return true;
    std::this_thread::sleep_for(milliseconds(10));
  }
  return false;
}

// A thread that accepts one connection at the service address on `host` and echoes, so far as it is
// asked to; the lab's own stand-in for a server.
class TinyServer {
 public:
  explicit TinyServer(Lab& lab, Host host, const std::string& answer_first = "") {
    listener_ = lab.host(host).Socket(AF_INET, SOCK_STREAM);
    int on = 1;
    EXPECT_EQ(setsockopt(listener_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), 0);
    sockaddr_in at = Address(Lab::kServiceIp, Lab::kServicePort);
    EXPECT_EQ(bind(listener_, reinterpret_cast<sockaddr*>(&at), sizeof(at)), 0) << strerror(errno);
    EXPECT_EQ(listen(listener_, 64), 0);
    thread_ = std::thread([this, answer_first] { Serve(answer_first); });
  }
  ~TinyServer() {
    stop_ = true;
    thread_.join();
    close(listener_);
  }
  void ResetNow() { reset_ = true; }

 private:
  void Serve(const std::string& answer_first) {
    std::vector<pollfd> fds = {{listener_, POLLIN, 0}};
    while (!stop_) {
      poll(fds.data(), fds.size(), 2);
      if (reset_) {
        linger now = {.l_onoff = 1, .l_linger = 0};
        for (size_t i = 1; i < fds.size(); ++i) {
          setsockopt(fds[i].fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        }
        break;
      }
      if ((fds[0].revents & POLLIN) != 0) {
        int fd = accept(listener_, nullptr, nullptr);
        (void)!write(fd, answer_first.data(), answer_first.size());
        fds.push_back({fd, POLLIN, 0});
        continue;
      }
      for (size_t i = 1; i < fds.size(); ++i) {
        if (fds[i].revents == 0) continue;
        std::array<char, 65536> buffer;
        ssize_t n = read(fds[i].fd, buffer.data(), buffer.size());
        if (n <= 0) {
          close(fds[i].fd);
          fds.erase(fds.begin() + static_cast<long>(i));
          break;
        }
        for (ssize_t done = 0; done < n;) {
          ssize_t put = write(fds[i].fd, buffer.data() + done, static_cast<size_t>(n - done));
          if (put <= 0) break;
          done += put;
        }
      }
    }
    for (size_t i = 1; i < fds.size(); ++i) close(fds[i].fd);
  }

  int listener_;
  std::thread thread_;
  std::atomic<bool> stop_{false}, reset_{false};
};

class LabTest : public testing::Test {
 protected:
  void SetUp() override {
    auto lab = Lab::Create();
    ASSERT_TRUE(lab.ok()) << lab.status();
    lab_ = *std::move(lab);
  }
  void GiveServiceAddressTo(Host host) {
    absl::Status done = lab_->host(host).Ip(
        absl::StrCat("addr add ", Lab::kServiceIp, "/32 dev ", Lab::kServiceInterface, "\n"));
    ASSERT_TRUE(done.ok()) << done;
  }

  std::unique_ptr<Lab> lab_;
};

TEST_F(LabTest, AllHostsReachEachOther) {
  for (Host host : {Host::kA, Host::kB}) {
    EXPECT_TRUE(Reaches(lab_->client(), Lab::host_ip(host)));
    EXPECT_TRUE(Reaches(lab_->host(host), Lab::host_ip(Other(host))));
    EXPECT_TRUE(Reaches(lab_->host(host), Lab::replication_ip(Other(host))));
  }
  EXPECT_NE(lab_->mac(Host::kA), lab_->mac(Host::kB));
}

TEST_F(LabTest, CutsCutWhatTheySayAndRestoresUndoThem) {
  for (Cut how : {Cut::kBlackhole, Cut::kCarrier}) {
    SCOPED_TRACE(how == Cut::kBlackhole ? "blackhole" : "carrier");
    lab_->CutReplication(Host::kA, how);
    EXPECT_TRUE(IsCutOff(lab_->host(Host::kA), Lab::replication_ip(Host::kB)));
    EXPECT_TRUE(Reaches(lab_->client(), Lab::host_ip(Host::kA)));
    lab_->RestoreReplication(Host::kA);
    EXPECT_TRUE(Reaches(lab_->host(Host::kA), Lab::replication_ip(Host::kB)));

    lab_->CutService(Host::kB, how);
    EXPECT_TRUE(IsCutOff(lab_->client(), Lab::host_ip(Host::kB)));
    EXPECT_TRUE(Reaches(lab_->client(), Lab::host_ip(Host::kA)));
    EXPECT_TRUE(Reaches(lab_->host(Host::kA), Lab::replication_ip(Host::kB)));
    lab_->CutReplication(Host::kB, how);
    EXPECT_TRUE(IsCutOff(lab_->host(Host::kA), Lab::replication_ip(Host::kB)));
    lab_->CutLinks(Host::kB, how);  // again
    lab_->RestoreLinks(Host::kB);
    EXPECT_TRUE(Reaches(lab_->client(), Lab::host_ip(Host::kB)));
    EXPECT_TRUE(Reaches(lab_->host(Host::kA), Lab::replication_ip(Host::kB)));
  }
  // One after the other, as in a power cut.
  lab_->CutLinks(Host::kA, Cut::kBlackhole);
  lab_->CutLinks(Host::kA, Cut::kCarrier);
  lab_->CutLinks(Host::kA, Cut::kBlackhole);
  EXPECT_TRUE(IsCutOff(lab_->client(), Lab::host_ip(Host::kA)));
  lab_->RestoreLinks(Host::kA);
  EXPECT_TRUE(Reaches(lab_->client(), Lab::host_ip(Host::kA)));
}

TEST_F(LabTest, OnlyOneKindOfCutIsSeenByTheHost) {
  Namespace& a = lab_->host(Host::kA);
  ASSERT_TRUE(GetsCarrier(a, Lab::kServiceInterface, true));
  lab_->CutService(Host::kA, Cut::kBlackhole);
  EXPECT_TRUE(IsCutOff(lab_->client(), Lab::host_ip(Host::kA)));
  EXPECT_TRUE(HasCarrier(a, Lab::kServiceInterface));
  lab_->CutService(Host::kA, Cut::kCarrier);
  EXPECT_TRUE(GetsCarrier(a, Lab::kServiceInterface, false));
  EXPECT_TRUE(HasCarrier(a, Lab::kReplicationInterface));
  lab_->RestoreService(Host::kA);
  EXPECT_TRUE(GetsCarrier(a, Lab::kServiceInterface, true));
  lab_->CutReplication(Host::kB, Cut::kCarrier);
  EXPECT_TRUE(GetsCarrier(lab_->host(Host::kB), Lab::kReplicationInterface, false));
  EXPECT_TRUE(HasCarrier(a, Lab::kReplicationInterface));
}

TEST_F(LabTest, NothingOfItIsLeftBehind) {
  std::string path = lab_->client().path();
  EXPECT_EQ(access(path.c_str(), F_OK), 0);
  lab_.reset();
  EXPECT_NE(access(path.c_str(), F_OK), 0);
}

TEST_F(LabTest, ClientsSeeWrongBytesAndEarlyEnds) {
  GiveServiceAddressTo(Host::kA);
  uint64_t seed = 7;
  {
    TinyServer server(*lab_, Host::kA);
    Fleet fleet(lab_->client());
    fleet.Add(EchoPlan({.bytes = 3 << 20, .seed = seed}, true));
    fleet.AddMany(20, [&](int i) { return EchoPlan({.bytes = 100000, .seed = seed + i}, true); });
    EXPECT_EQ(fleet.RunUntilDone(seconds(10)), "");
  }
  {
    TinyServer server(*lab_, Host::kA);
    Fleet fleet(lab_->client());
    Plan plan = EchoPlan({.bytes = 100000, .seed = seed}, true);
    plan.expect.seed = seed + 1;
    fleet.Add(plan);
    EXPECT_THAT(fleet.RunUntilDone(seconds(10)), HasSubstr("echo: wrong byte at 0,"));
  }
  {
    TinyServer server(*lab_, Host::kA);
    Fleet fleet(lab_->client());
    Plan plan = EchoPlan({.bytes = 100000, .seed = seed}, true);
    plan.expect.suffix = "x";
    fleet.Add(plan);
    EXPECT_THAT(fleet.RunUntilDone(seconds(10)), HasSubstr("ended too early"));
  }
  {
    TinyServer server(*lab_, Host::kA, "unasked");
    Fleet fleet(lab_->client());
    Plan plan = AskPlan("", "un");
    fleet.Add(plan);
    EXPECT_THAT(fleet.RunUntilDone(seconds(10)), HasSubstr("more bytes than expected"));
  }
  Fleet fleet(lab_->client());
  fleet.Add(AskPlan("a", "b"));
  EXPECT_THAT(fleet.RunUntilDone(seconds(10)), HasSubstr("connect: Connection refused"));
}

TEST_F(LabTest, WatchCountsResetsAndSpeakers) {
  auto watch = SegmentWatch::Start(lab_->client(), Lab::kClientInterface);
  ASSERT_TRUE(watch.ok()) << watch.status();
  GiveServiceAddressTo(Host::kA);
  auto server = std::make_unique<TinyServer>(*lab_, Host::kA);
  Fleet fleet(lab_->client());
  StreamClient* echo = fleet.Add(EchoPlan({.bytes = 8 << 20, .seed = 3, .pace = milliseconds(1)}, true));
  EXPECT_EQ(fleet.RunUntil([&] { return echo->received() > 400000; }, seconds(10)), "");
  (*watch)->Stop();
  auto packets = (*watch)->Packets();
  EXPECT_THAT(FindOffences(packets), IsEmpty());
  WatchTotals totals = Count(packets);
  EXPECT_EQ(totals.by_speaker.size(), 1u);
  EXPECT_EQ(totals.by_speaker.count(lab_->mac(Host::kA)), 1u);
  EXPECT_GT(totals.from_service, 10);
  EXPECT_GT(totals.to_service, 10);
  EXPECT_EQ(totals.resets, 0);

  watch = SegmentWatch::Start(lab_->client(), Lab::kClientInterface);
  ASSERT_TRUE(watch.ok()) << watch.status();
  server->ResetNow();
  EXPECT_THAT(fleet.RunUntilDone(seconds(5)), HasSubstr("Connection reset by peer"));
  server.reset();
  // The other host speaks, then the first one again.
  Namespace& a = lab_->host(Host::kA);
  ASSERT_TRUE(a.Ip(absl::StrCat("addr del ", Lab::kServiceIp, "/32 dev service0\n")).ok());
  auto refused = [&] {
    Fleet one(lab_->client());
    one.Add(AskPlan("a", "b"));
    EXPECT_THAT(one.RunUntilDone(seconds(5)), HasSubstr("refused"));
  };
  ASSERT_TRUE(lab_->client().Ip("neigh flush dev eth0\n").ok());
  GiveServiceAddressTo(Host::kB);
  refused();
  ASSERT_TRUE(lab_->client().Ip("neigh flush dev eth0\n").ok());
  ASSERT_TRUE(lab_->host(Host::kB).Ip(absl::StrCat("addr del ", Lab::kServiceIp, "/32 dev service0\n")).ok());
  EXPECT_THAT(FindTwoSpeakers((*watch)->Packets()), IsEmpty());
  GiveServiceAddressTo(Host::kA);
  refused();
  (*watch)->Stop();
  EXPECT_EQ((*watch)->missed(), 0u);
  packets = (*watch)->Packets();
  EXPECT_THAT(FindResets(packets), SizeIs(testing::Ge(3u)));
  EXPECT_THAT(FindTwoSpeakers(packets), testing::Not(IsEmpty()));
}

// A real TCP and the small one understand each other, over wraps and with each option missing.
TEST_F(LabTest, MiniTcpEchoes) {
  GiveServiceAddressTo(Host::kA);
  std::string text(60000, 0);
  workbench::FillPattern(5, 0, text.data(), text.size());
  for (int variant = 0; variant < 5; ++variant) {
    SCOPED_TRACE(variant);
    TinyServer server(*lab_, Host::kA);
    MiniTcp::Options options;
    options.isn = 0xffffff00;
    options.tsval = 0xfffffffe;
    if (variant == 1) options.tsval.reset();
    if (variant == 2) options.sack = false;
    if (variant == 3) options.wscale.reset();
    if (variant == 4) options.mss = 500;
    options.port = static_cast<uint16_t>(40000 + variant);
    MiniTcp tcp(*lab_, options);
    ASSERT_EQ(tcp.Connect(seconds(5)), "");
    tcp.Send(text);
    EXPECT_EQ(tcp.RunUntil([&] { return tcp.received().size() >= text.size(); }, seconds(5)), "");
    EXPECT_TRUE(tcp.received() == text);
    tcp.Close();
    EXPECT_EQ(tcp.RunUntil([&] { return tcp.end_seen(); }, seconds(5)), "");
    EXPECT_EQ(tcp.RunUntil([&] { return tcp.acknowledged() == text.size() + 1; }, seconds(5)), "");
  }
  TinyServer server(*lab_, Host::kA);
  MiniTcp::Options options;
  options.port = 41000;
  MiniTcp tcp(*lab_, options);
  tcp.SetDeaf(true);
  tcp.StartConnect();
  ASSERT_EQ(tcp.RunUntil([&] { return !tcp.segments().empty(); }, seconds(5)), "");
  EXPECT_FALSE(tcp.established());
  tcp.SetDeaf(false);
  ASSERT_EQ(tcp.RunUntil([&] { return tcp.established(); }, seconds(5)), "");
  tcp.Send("accepted?");  // the reset is for connections that the server has
  ASSERT_EQ(tcp.RunUntil([&] { return tcp.received().size() == 9; }, seconds(5)), "");
  server.ResetNow();
  EXPECT_THAT(tcp.RunFor(seconds(5)), HasSubstr("reset by the server"));
}

SeenPacket FromService(uint32_t ack, uint16_t window, uint32_t tsval) {
  SeenPacket packet;
  packet.from_service = true;
  packet.client_ip = 1;
  packet.client_port = 2;
  packet.flags = TH_ACK;
  packet.ack = ack;
  packet.window = window;
  packet.tsval = tsval;
  return packet;
}

TEST(JudgeTest, WindowAndTimestampsNeverMoveBack) {
  SeenPacket syn;
  syn.client_ip = 1;
  syn.client_port = 2;
  syn.flags = TH_SYN;
  syn.wscale = 7;
  SeenPacket syn_ack = FromService(1000, 5000, 10);
  syn_ack.flags = TH_SYN | TH_ACK;
  syn_ack.wscale = 2;
  std::vector<SeenPacket> packets = {syn, syn_ack, FromService(1000, 1250, 10), FromService(2000, 1000, 11)};
  EXPECT_THAT(FindMovesBack(packets), IsEmpty());
  packets.push_back(FromService(2000, 999, 11));
  EXPECT_THAT(FindMovesBack(packets), SizeIs(1));
  EXPECT_THAT(FindMovesBack(packets)[0], HasSubstr("moves left by 4"));
  packets.back() = FromService(2000, 1000, 9);
  ASSERT_THAT(FindMovesBack(packets), SizeIs(1));
  EXPECT_THAT(FindMovesBack(packets)[0], HasSubstr("TSval goes back by 2"));

  // Data that were overtaken on their way are forgiven, for as long as that takes, and to one sender.
  packets.back() = FromService(1999, 1000, 9);
  packets.back().length = 100;
  EXPECT_THAT(FindMovesBack(packets), IsEmpty());
  packets.back().time_ns += 10'000'000;
  EXPECT_THAT(FindMovesBack(packets), SizeIs(2));
  packets.back().time_ns -= 10'000'000;
  packets.back().source_mac[0] = 1;
  EXPECT_THAT(FindMovesBack(packets), SizeIs(2));

  // So are lone acknowledgements that were made before what overtook them, and no others.
  packets.back() = FromService(2000, 1001, 12);
  packets.back().seq = 100;
  packets.back().length = 100;
  SeenPacket lone = FromService(2000, 1000, 11);
  lone.seq = 199;
  packets.push_back(lone);
  EXPECT_THAT(FindMovesBack(packets), IsEmpty());
  packets.back().seq = 200;
  EXPECT_THAT(FindMovesBack(packets), SizeIs(2)) << "made after it";
  packets.back().ack = 1999;
  EXPECT_THAT(FindMovesBack(packets), IsEmpty());
  packets.back().time_ns += 10'000'000;
  EXPECT_THAT(FindMovesBack(packets), SizeIs(2)) << "too late";
  packets.back().time_ns -= 10'000'000;
  packets.back().source_mac[0] = 1;
  EXPECT_THAT(FindMovesBack(packets), SizeIs(2)) << "another sender";

  // Both wrap.
  packets = {FromService(0xfffffff0, 8, 0xffffffff), FromService(0x10, 8, 0x0)};
  EXPECT_THAT(FindMovesBack(packets), IsEmpty());
  packets = {FromService(0x10, 8, 0x0), FromService(0xfffffff0, 8, 0xffffffff)};
  packets.back().time_ns += 10'000'000;  // not overtaken
  EXPECT_THAT(FindMovesBack(packets), SizeIs(2));
}

TEST(ProcessTest, RunsStopsAndReaps) {
  Process::Options options;
  options.name = "sleep";
  options.argv = {"/bin/sh", "-c", "echo one; echo two >&2; exec sleep 60"};
  auto process = Process::Start(options);
  ASSERT_TRUE(process.ok()) << process.status();
  pid_t pid = (*process)->pid();
  EXPECT_TRUE((*process)->running());
  // Its own words are the sign that it has got that far.
  while ((*process)->Log() != "one\ntwo\n") std::this_thread::sleep_for(milliseconds(1));
  (*process)->Signal(SIGSTOP);
  EXPECT_EQ((*process)->Wait(milliseconds(20)), std::nullopt);
  (*process)->Kill();
  EXPECT_FALSE((*process)->running());
  EXPECT_EQ(WTERMSIG(*(*process)->Wait(milliseconds(0))), SIGKILL);
  EXPECT_EQ(kill(pid, 0), -1);
  EXPECT_EQ((*process)->LogTail(1), "two\n");
  EXPECT_EQ((*process)->LogTail(9), "one\ntwo\n");

  options.argv = {"/bin/sh", "-c", "exit 3"};
  process = Process::Start(options);
  ASSERT_TRUE(process.ok()) << process.status();
  auto status = (*process)->Wait(seconds(5));
  ASSERT_TRUE(status.has_value());
  EXPECT_EQ(WEXITSTATUS(*status), 3);

  options.argv = {"/usr/bin/id", "-u"};
  options.as_nobody = true;
  process = Process::Start(options);
  ASSERT_TRUE(process.ok()) << process.status();
  ASSERT_TRUE((*process)->Wait(seconds(5)).has_value());
  EXPECT_EQ((*process)->Log(), "65534\n");

  options.argv = {"/no/such/program"};
  EXPECT_THAT(Process::Start(options).status().ToString(), HasSubstr("/no/such/program"));
}

}  // namespace
}  // namespace understudy::lab
