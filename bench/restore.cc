// A takeover with a thousand connections.
#include <gflags/gflags.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/measure.h"
#include "bench/probe.h"
#include "bench/suites.h"
#include "glog/logging.h"

DEFINE_int32(restore_connections, 1000, "restore: idle connections beside a busy one");
DEFINE_int32(restores, 8, "restore: takeovers");
DECLARE_bool(each);
DECLARE_uint64(seed);

namespace understudy::bench {

namespace {

using lab::Host;
using lab::Lab;

// The heir's own account of its takeover.
struct Account {
  int restored = 0, failed = 0;
  long replayed_us = 0, restored_us = 0, serving_us = 0;
};

Account AccountIn(const std::string& log) {
  const size_t at = log.find("took over at LSN ");
  CHECK_NE(at, std::string::npos) << log;
  Account account;
  const int read = sscanf(
      log.c_str() + at,
      "took over at LSN %*u: %d connections restored, %d failed, %*d wait for a route; replayed in %ld us, "
      "restored in %ld us, serving after %ld us",
      &account.restored, &account.failed, &account.replayed_us, &account.restored_us, &account.serving_us);
  CHECK_EQ(read, 5) << log.substr(at, 200);
  return account;
}

}  // namespace

void Restore(Report& report) {
  int unanswered = 0;
  Samples restored, serving, pause, busy_whole;
  for (int i = 0; i < FLAGS_restores; ++i) {
    auto lab = MakeLab();
    auto pair = StartPair(*lab);
    std::vector<int> idle;
    std::array<char, 64> message = {'i', 'd', 'l', 'e'};
    for (int c = 0; c < FLAGS_restore_connections; ++c) {
      idle.push_back(Connect(lab->client(), Lab::kServiceIp, Lab::kServicePort, "ECHO\n"));
      SendAll(idle.back(), message.data(), message.size());
    }
    for (int fd : idle) ReceiveAll(fd, message.data(), message.size());
    Probe busy(lab->client(), Lab::kServiceIp, Probe::Pace::kClosedLoop, FLAGS_seed);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    busy.Mark();
    const auto since = Clock::now();
    pair->process(Host::kA).Kill();
    const bool answered = busy.AwaitAnswerAfter(Clock::now(), std::chrono::seconds(5));
    Probe::Outcome outcome = busy.Stop(since);
    if (!answered) {
      ++unanswered;
      outcome.pause_us = Microseconds(Clock::now() - since);
      LOG(ERROR) << "no answer after the fault\n" << pair->LogTails(30);
    } else {
      // Each of the others goes on.
      for (int fd : idle) SendAll(fd, message.data(), message.size());
      for (int fd : idle) ReceiveAll(fd, message.data(), message.size());
    }
    for (int fd : idle) close(fd);
    const Account account = AccountIn(pair->process(Host::kB).Log());
    CHECK_EQ(account.failed, 0) << pair->LogTails(30);
    CHECK_GT(account.restored, FLAGS_restore_connections);
    if (FLAGS_each) {
      fprintf(stderr, "\n  %d restored in %.1f ms, all resent after %.1f ms; busy client %.1f ms%s", i,
              static_cast<double>(account.restored_us) / 1000, static_cast<double>(account.serving_us) / 1000,
              outcome.pause_us / 1000, outcome.segment_lost ? ", a segment lost" : "");
    }
    restored.Add(static_cast<double>(account.restored_us) / 1000);
    serving.Add(static_cast<double>(account.serving_us) / 1000);
    pause.Add(outcome.pause_us / 1000);
    if (!outcome.segment_lost) busy_whole.Add(outcome.pause_us / 1000);
  }
  report.Row(absl::StrFormat("restore of %d endpoints, p50 / worst of %d", FLAGS_restore_connections,
                             FLAGS_restores),
             "≤ 30 ms", absl::StrFormat("%.1f / %.1f ms", restored.Median(), restored.Max()),
             restored.Median() <= 30);
  report.Row("– from the decision to everything resent", "",
             absl::StrFormat("%.1f / %.1f ms", serving.Median(), serving.Max()));
  report.Row("– pause of a busy client among them; of those that lost no segment", "",
             absl::StrFormat("%.1f / %.1f ms; %.1f / %.1f ms (%d)", pause.Median(), pause.Max(),
                             busy_whole.Median(), busy_whole.Max(), busy_whole.size()));
  if (unanswered > 0) {
    report.Row("– busy client not answered within 5 s", "0", absl::StrCat(unanswered), false);
  }
  report.Value("restore.unanswered", unanswered);
  report.Value("restore.p50_ms", restored.Median());
  report.Value("restore.max_ms", restored.Max());
  report.Value("restore.serving.p50_ms", serving.Median());
  report.Value("restore.busy_pause.p50_ms", pause.Median());
}

}  // namespace understudy::bench
