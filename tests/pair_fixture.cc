#include "tests/pair_fixture.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>

#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>

#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace understudy::lab {

std::string NameOf(FaultKind fault) {
  switch (fault) {
    case FaultKind::kKilled: return "Killed";
    case FaultKind::kPowerCut: return "PowerCut";
    case FaultKind::kIsolated: return "Isolated";
    case FaultKind::kUnplugged: return "Unplugged";
    case FaultKind::kStopped: return "Stopped";
  }
  return "";
}

uint64_t TestSeed() {
  static const uint64_t seed = [] {
    const char* given = getenv("UNDERSTUDY_TEST_SEED");
    uint64_t value = given != nullptr ? strtoull(given, nullptr, 10) : std::random_device()();
    std::cout << "UNDERSTUDY_TEST_SEED=" << value << std::endl;
    return value;
  }();
  return seed;
}

void PairTest::StartPair() {
  TestSeed();
  auto lab = Lab::Create(lab_options_);
  ASSERT_TRUE(lab.ok()) << lab.status().message();
  lab_ = *std::move(lab);
  for (const auto& [name, value] : sysctls_) {
    for (Namespace* where : {&lab_->client(), &lab_->host(Host::kA), &lab_->host(Host::kB)}) {
      const absl::Status set = where->SetSysctl(name, value);
      ASSERT_TRUE(set.ok()) << set;
    }
  }
  auto watch = SegmentWatch::Start(lab_->client(), Lab::kClientInterface);
  ASSERT_TRUE(watch.ok()) << watch.status();
  watch_ = *std::move(watch);
  Pair::Options options;
  options.binary = Runfile(binary_);
  options.flags = flags_;
  options.with_secondary = with_secondary_;
  auto pair = Pair::Start(*lab_, options);
  ASSERT_TRUE(pair.ok()) << pair.status().message();
  pair_ = *std::move(pair);
  auto status = pair_->status(primary()).Status();
  ASSERT_TRUE(status.ok()) << status.status();
  epoch_ = status->epoch;
}

std::string PairTest::HistoryOfAReset(const std::vector<SeenPacket>& packets) const {
  uint16_t port = 0;
  std::vector<std::string> lines;
  for (const SeenPacket& packet : packets) {
    if (!packet.arp && port == 0 && (packet.flags & TH_RST) != 0) port = packet.client_port;
  }
  if (port == 0) return "";
  for (const SeenPacket& packet : packets) {
    if (!packet.arp && packet.client_port == port) lines.push_back(Describe(packet));
  }
  if (lines.size() > 40) lines.erase(lines.begin() + 20, lines.end() - 20);
  std::string text = "a connection that was reset:\n";
  for (const std::string& line : Named(std::move(lines))) text += "  " + line + "\n";
  return text;
}

std::vector<std::string> PairTest::Named(std::vector<std::string> lines) const {
  for (std::string& line : lines) {
    for (Host host : {Host::kA, Host::kB}) {
      absl::StrReplaceAll({{ToString(lab_->mac(host)), Name(host)}}, &line);
    }
  }
  return lines;
}

void PairTest::TearDown() {
  if (watch_ != nullptr) {
    watch_->Stop();
    EXPECT_EQ(watch_->missed(), 0u) << "the watch was too slow to prove anything";
    std::vector<SeenPacket> packets = watch_->Packets();
    if (!resets_allowed_) {
      EXPECT_THAT(Named(FindResets(packets)), testing::IsEmpty());
      // A test that gave up has left its clients in mid-sentence.
      if (!HasFailure()) {
        EXPECT_THAT(Named(FindClientResets(packets)), testing::IsEmpty());
      }
    }
    EXPECT_THAT(Named(FindTwoSpeakers(packets)), testing::IsEmpty());
    EXPECT_THAT(Named(FindMovesBack(packets)), testing::IsEmpty());
    if (HasFailure()) {
      if (!resets_allowed_) std::cout << HistoryOfAReset(packets);
      WatchTotals totals = Count(packets);
      std::cout << "wire: " << totals.from_service << " segments from the service, " << totals.to_service
                << " to it, " << totals.server_retransmits << " and " << totals.client_retransmits
                << " of them again, " << totals.zero_windows << " zero windows";
      for (auto& [mac, count] : totals.by_speaker) {
        std::cout << ", " << count << " by "
                  << (mac == lab_->mac(Host::kA)   ? "a"
                      : mac == lab_->mac(Host::kB) ? "b"
                                                   : ToString(mac));
      }
      std::cout << std::endl;
    }
  }
  if (HasFailure() && pair_ != nullptr) std::cout << pair_->LogTails(40) << std::endl;
}

void PairTest::ExpectLog(Host host, const std::string& words, Fleet* fleet) {
  Fleet nobody(client());
  const auto said = [&] { return pair_->process(host).Log().find(words) != std::string::npos; };
  EXPECT_EQ((fleet != nullptr ? *fleet : nobody).RunUntil(said, kPatience), "") << "waiting for: " << words;
}

void PairTest::ExpectNoSockets(Host host) {
  std::string sockets;
  lab_->host(host).Run([&] {
    std::ifstream table("/proc/thread-self/net/tcp");
    sockets.assign(std::istreambuf_iterator<char>(table), {});
  });
  in_addr service;
  ASSERT_EQ(inet_pton(AF_INET, Lab::kServiceIp, &service), 1);
  const std::string address = absl::StrFormat("%08X:%04X", service.s_addr, Lab::kServicePort);
  EXPECT_THAT(sockets, testing::HasSubstr("local_address"));
  EXPECT_THAT(sockets, testing::Not(testing::HasSubstr(address)));
}

void PairTest::Inject(Host host, FaultKind fault) {
  switch (fault) {
    case FaultKind::kKilled: return pair_->process(host).Signal(SIGKILL);
    case FaultKind::kPowerCut: return pair_->PowerCut(host);
    case FaultKind::kIsolated: return pair_->Isolate(host, Cut::kBlackhole);
    case FaultKind::kUnplugged: return pair_->Isolate(host, Cut::kCarrier);
    case FaultKind::kStopped: return pair_->process(host).Signal(SIGSTOP);
  }
}

void PairTest::Heal(Host host, FaultKind fault) {
  switch (fault) {
    case FaultKind::kKilled: return;
    case FaultKind::kPowerCut: return lab_->RestoreLinks(host);  // its kernel is back, nothing else
    case FaultKind::kIsolated:
    case FaultKind::kUnplugged: return pair_->EndIsolation(host);
    case FaultKind::kStopped: return pair_->process(host).Signal(SIGCONT);
  }
}

void PairTest::ExpectState(Host host, const std::string& state, Fleet* fleet, milliseconds timeout) {
  StatusClient asked = status(host);
  if (fleet == nullptr) {
    absl::Status reached = asked.WaitForState(state, timeout);
    EXPECT_TRUE(reached.ok()) << Name(host) << ": " << reached;
    return;
  }
  std::string last;
  std::string error = fleet->RunUntil([&] { return (last = asked.State()) == state; }, timeout * Slowness());
  EXPECT_EQ(error, "") << Name(host) << " is " << last << ", should be " << state;
}

void PairTest::ExpectTakenOverBy(Host host, Fleet* fleet) {
  ExpectState(host, "solo", fleet);
  auto now = status(host).Status();
  ASSERT_TRUE(now.ok()) << now.status();
  EXPECT_EQ(now->role, "primary");
  EXPECT_GT(now->epoch, epoch_);
}

bool PairTest::Serves(Host host) {
  auto now = status(host).Status();
  return now.ok() && now->role == "primary" && (now->state == "solo" || now->state == "protected");
}

void PairTest::ExpectServes() {
  Fleet fleet(client());
  uint64_t seed = TestSeed();
  fleet.Add(EchoPlan({.bytes = 100000, .seed = seed}));
  fleet.Add(UploadPlan(300000, seed + 1));
  fleet.Add(DownloadPlan(300000, seed + 2));
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "") << "new clients";
}

}  // namespace understudy::lab
