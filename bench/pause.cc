// The pause a client sees when the primary is killed or its power cut, and the reply in flight
// then.
#include <gflags/gflags.h>
#include <linux/filter.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/measure.h"
#include "bench/probe.h"
#include "bench/suites.h"
#include "glog/logging.h"

DEFINE_int32(kills, 80, "kill: how many primaries to kill");
DEFINE_int32(cuts, 24, "cut: how many power cuts");
DEFINE_bool(each, false, "kill, cut, restore: print every trial");
DECLARE_uint64(seed);

namespace understudy::bench {

namespace {

using lab::Host;
using lab::Lab;

constexpr std::chrono::milliseconds kPatience(5000);

double WallMicroseconds() {
  timespec now;
  PCHECK(clock_gettime(CLOCK_REALTIME, &now) == 0);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) / 1e3;
}

// A connection whose reply is lost on its way: its kernel drops what arrives for it until shortly
// before the crash. By then the request is in the log, and the reply counts as sent.
class LostReply {
 public:
  explicit LostReply(Lab& lab) : fd_(Connect(lab.client(), Lab::kServiceIp, Lab::kServicePort, "ECHO\n")) {
    // Once around, so that nothing of the handshake is under way.
    SendAll(fd_, request_.data(), request_.size());
    Message reply;
    ReceiveAll(fd_, reply.data(), reply.size());
  }
  ~LostReply() {
    if (thread_.joinable()) thread_.join();
    close(fd_);
  }

  // Returns when the reply has been lost.
  void Lose() {
    sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
    const sock_fprog program = {1, &drop};
    PCHECK(setsockopt(fd_, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0);
    SendAll(fd_, request_.data(), request_.size());
    // Far above what the pair takes to answer, far below any retransmission.
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    const int none = 0;
    PCHECK(setsockopt(fd_, SOL_SOCKET, SO_DETACH_FILTER, &none, sizeof none) == 0);
    char byte;
    lost_ = recv(fd_, &byte, 1, MSG_DONTWAIT | MSG_PEEK) < 0;
    thread_ = std::thread([this] {
      pollfd wanted = {fd_, POLLIN, 0};
      if (poll(&wanted, 1, static_cast<int>(kPatience.count())) != 1) return;
      Message reply;
      ReceiveAll(fd_, reply.data(), reply.size());
      arrived_us_ = WallMicroseconds();
      CHECK(reply == request_) << "the lost reply came back as another";
    });
  }
  // Wall clock, when it came.
  std::optional<double> Arrived() {
    thread_.join();
    return lost_ ? arrived_us_ : std::nullopt;
  }

 private:
  using Message = std::array<char, 64>;
  Message request_ = {'l', 'o', 's', 't'};
  int fd_;
  bool lost_ = false;
  std::optional<double> arrived_us_;
  std::thread thread_;
};

// Wall clock of the first line of a glog file with `text` in it: "W20260102 03:04:05.678901 ...".
std::optional<double> LoggedAt(const std::string& log, const std::string& text) {
  size_t at = log.find(text);
  if (at == std::string::npos) return std::nullopt;
  at = log.rfind('\n', at) + 1;  // npos + 1 is the beginning
  tm parts = {};
  const char* rest = strptime(log.c_str() + at + 1, "%Y%m%d %H:%M:%S", &parts);
  CHECK(rest != nullptr && *rest == '.') << log.substr(at, 60);
  parts.tm_isdst = -1;
  return static_cast<double>(mktime(&parts)) * 1e6 + strtod(rest + 1, nullptr);
}

enum class Fault { kKill, kPowerCut };

struct Trial {
  bool answered = false;  // if not, the pause is the time the client was given
  Probe::Outcome client;
  double detection_us = 0;              // fault to "taking over"
  double takeover_us = 0;               // from there to "serving"
  std::optional<double> lost_reply_us;  // "serving" to its arrival
};

// None: the machine was so busy that the secondary took over before there was a fault.
std::optional<Trial> RunTrial(Fault fault, Probe::Pace pace, uint64_t seed) {
  std::mt19937_64 random(seed);
  // New hosts each time: no socket, neighbour or filter is left from the last failure.
  auto made = MakeLab();
  Lab& lab = *made;
  auto pair = StartPair(lab);
  Probe client(lab.client(), Lab::kServiceIp, pace, seed);
  LostReply lost(lab);
  std::this_thread::sleep_for(
      std::chrono::microseconds(std::uniform_int_distribution<int>(50'000, 80'000)(random)));
  lost.Lose();
  // Not in step with the lost reply.
  std::this_thread::sleep_for(std::chrono::microseconds(std::uniform_int_distribution<int>(0, 3000)(random)));
  client.Mark();
  const double fault_us = WallMicroseconds();
  const auto since = Clock::now();
  if (fault == Fault::kKill) {
    pair->process(Host::kA).Kill();
  } else {
    pair->PowerCut(Host::kA);
  }
  const auto dead = Clock::now();
  Trial trial;
  trial.answered = client.AwaitAnswerAfter(dead, kPatience);
  trial.client = client.Stop(since);
  if (!trial.answered) {
    trial.client.pause_us = Microseconds(Clock::now() - since);
    LOG(ERROR) << "no answer after the fault\n" << pair->LogTails(30);
  }
  const std::optional<double> arrived = lost.Arrived();
  const std::string log = pair->process(Host::kB).Log();
  const std::optional<double> suspected = LoggedAt(log, "taking over:"), serving = LoggedAt(log, "serving ");
  CHECK(suspected.has_value() && serving.has_value()) << pair->LogTails(30);
  if (*suspected < fault_us) return std::nullopt;
  trial.detection_us = *suspected - fault_us;
  trial.takeover_us = *serving - *suspected;
  if (arrived.has_value()) trial.lost_reply_us = *arrived - *serving;
  return trial;
}

struct Trials {
  Samples all, whole, lost, open_loop, closed_loop, detection, takeover, reply;
  Samples beyond_detection;  // of those whose segment was not lost
  int spoiled = 0, unanswered = 0;
};

Trials RunTrials(Fault fault, int count) {
  Trials trials;
  for (int i = 0; i < count; ++i) {
    const auto pace = i % 2 == 0 ? Probe::Pace::kOpenLoop : Probe::Pace::kClosedLoop;
    const uint64_t seed = FLAGS_seed + static_cast<uint64_t>(i) * 2 + (fault == Fault::kKill ? 0 : 1);
    const std::optional<Trial> trial = RunTrial(fault, pace, seed);
    if (!trial.has_value()) {
      ++trials.spoiled;
      continue;
    }
    const double ms = trial->client.pause_us / 1000;
    if (!trial->answered) ++trials.unanswered;
    if (FLAGS_each) {
      fprintf(stderr, "\n  %d %s: pause %.1f ms%s, decision after %.1f ms, gate %.1f ms later", i,
              pace == Probe::Pace::kOpenLoop ? "open loop" : "closed loop", ms,
              trial->client.segment_lost ? ", a segment lost" : "", trial->detection_us / 1000,
              trial->takeover_us / 1000);
    }
    trials.all.Add(ms);
    (trial->client.segment_lost ? trials.lost : trials.whole).Add(ms);
    (pace == Probe::Pace::kOpenLoop ? trials.open_loop : trials.closed_loop).Add(ms);
    trials.detection.Add(trial->detection_us / 1000);
    trials.takeover.Add(trial->takeover_us / 1000);
    if (!trial->client.segment_lost) trials.beyond_detection.Add(ms - trial->detection_us / 1000);
    if (trial->lost_reply_us.has_value()) trials.reply.Add(*trial->lost_reply_us / 1000);
  }
  return trials;
}

std::string Show(const Samples& samples) {
  if (samples.empty()) return "none";
  return absl::StrFormat("%.1f / %.1f ms (%d)", samples.Median(), samples.Percentile(99), samples.size());
}

void Put(Report& report, const std::string& name, const Samples& samples) {
  report.Value(name + ".p50_ms", samples.Median());
  report.Value(name + ".p99_ms", samples.Percentile(99));
  report.Value(name + ".samples", static_cast<double>(samples.size()));
}

void Details(Report& report, const std::string& name, const Trials& trials) {
  report.Row("– no segment of the client lost, p50 / p99 (of)", "", Show(trials.whole));
  report.Row("– a segment of the client lost", "", Show(trials.lost));
  report.Row("– client with a request each ms / with one after the other", "",
             absl::StrCat(Show(trials.open_loop), " / ", Show(trials.closed_loop)));
  report.Row("– from the fault to the secondary's decision", "", Show(trials.detection));
  report.Row("– from the decision to the open gate", "", Show(trials.takeover));
  if (trials.unanswered > 0) {
    report.Row("– client not answered within 5 s", "0", absl::StrCat(trials.unanswered), false);
  }
  if (trials.spoiled > 0) {
    report.Row("– not counted: took over before the fault", "", absl::StrCat(trials.spoiled));
  }
  Put(report, name + ".all", trials.all);
  Put(report, name + ".not_lost", trials.whole);
  Put(report, name + ".lost", trials.lost);
  Put(report, name + ".open_loop", trials.open_loop);
  Put(report, name + ".closed_loop", trials.closed_loop);
  Put(report, name + ".detection", trials.detection);
  Put(report, name + ".takeover", trials.takeover);
  Put(report, name + ".lost_reply", trials.reply);
  report.Value(name + ".unanswered", trials.unanswered);
  report.Value(name + ".spoiled", trials.spoiled);
}

}  // namespace

void PauseOnKill(Report& report) {
  const Trials trials = RunTrials(Fault::kKill, FLAGS_kills);
  report.Row("pause, kill -9", "p50 ≤ 15 ms, p99 ≤ 60 ms", Show(trials.all),
             trials.all.Median() <= 15 && trials.all.Percentile(99) <= 60);
  Details(report, "kill", trials);
  report.Row("reply in flight at the crash, after the gate opens", "≤ 10 ms", Show(trials.reply),
             trials.reply.Percentile(99) <= 10);
}

void PauseOnCut(Report& report) {
  const Trials trials = RunTrials(Fault::kPowerCut, FLAGS_cuts);
  report.Row("pause, power cut, beyond detection; no segment of the client lost", "≤ 20 ms",
             Show(trials.beyond_detection), trials.beyond_detection.Percentile(99) <= 20);
  report.Row("pause, power cut; a segment of the client lost", "≤ 260 ms", Show(trials.lost),
             trials.lost.Percentile(99) <= 260);
  Details(report, "cut", trials);
  Put(report, "cut.beyond_detection", trials.beyond_detection);
}

}  // namespace understudy::bench
