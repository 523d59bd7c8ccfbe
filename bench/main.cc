// Measures the pair against a standalone server in network namespaces. See docs/performance.md.
#include <gflags/gflags.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <random>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "bench/measure.h"
#include "bench/report.h"
#include "bench/suites.h"
#include "glog/logging.h"

DEFINE_string(only, "",
              "Benchmarks to run, by commas: echo1,echo50,bulk,kill,cut,restore; and of the "
              "key-value store: kvset,kvget,kvpipe,kv1,kvmany");
DEFINE_bool(markdown, false, "Print the table as Markdown");
DEFINE_string(json, "", "File to write all numbers to, as JSON");
DEFINE_string(csv, "", "File to write all numbers to, as CSV");
DEFINE_uint64(seed, 0, "For the moments of the faults; 0: choose one, and say which");
DECLARE_int32(client_cpu);

namespace understudy::bench {
namespace {

struct Suite {
  const char* name;
  void (*run)(Report&);
  bool by_default = true;  // without --only
};

constexpr Suite kSuites[] = {
    {"echo1", EchoOne},      {"echo50", EchoMany},      {"bulk", Bulk},
    {"kill", PauseOnKill},   {"cut", PauseOnCut},       {"restore", Restore},
    {"kvset", KvSet, false}, {"kvget", KvGet, false},   {"kvpipe", KvPipeline, false},
    {"kv1", KvOne, false},   {"kvmany", KvMany, false},
};

void WriteFile(const std::string& path, const std::string& text) {
  if (path.empty()) return;
  std::ofstream file(path);
  file << text;
  CHECK(file.good()) << "cannot write " << path;
}

// The lab takes what the machine lets a namespace have; numbers under another algorithm are others.
std::string CongestionControl() {
  auto lab = MakeLab();
  const std::string client = CongestionControlOf(lab->client());
  const std::string server = CongestionControlOf(lab->host(lab::Host::kA));
  return client == server ? client : absl::StrCat("client ", client, ", servers ", server);
}

int Run() {
  std::set<std::string> wanted;
  if (!FLAGS_only.empty()) wanted = absl::StrSplit(FLAGS_only, ',');
  for (const std::string& name : wanted) {
    bool known = false;
    for (const Suite& suite : kSuites) known = known || name == suite.name;
    if (!known) {
      std::cerr << "bench: --only=" << name << ": no such benchmark\n";
      return 2;
    }
  }
  if (geteuid() != 0) {
    std::cerr << "bench: needs root, for network namespaces and eBPF: sudo bench/run\n";
    return 1;
  }
  // Ten thousand connections, and as many in the server.
  rlimit files;
  PCHECK(getrlimit(RLIMIT_NOFILE, &files) == 0);
  files.rlim_cur = files.rlim_max;
  PCHECK(setrlimit(RLIMIT_NOFILE, &files) == 0);

  if (FLAGS_seed == 0) FLAGS_seed = std::random_device()();
  utsname machine;
  PCHECK(uname(&machine) == 0);
  double load = 0;
  PCHECK(getloadavg(&load, 1) == 1);
  Report report;
  // Of the release only the version: the rest names who built it.
  const std::string release = std::string(machine.release);
  report.Fact("machine",
              absl::StrFormat("Linux %s, %d shared processors, load %.1f before the run",
                              release.substr(0, release.find('-')), sysconf(_SC_NPROCESSORS_ONLN), load));
  report.Fact("congestion control", CongestionControl());
  report.Fact("load generator", FLAGS_client_cpu < 0
                                    ? std::string("not pinned")
                                    : absl::StrCat("pinned to processor ", FLAGS_client_cpu));
  report.Fact("seed", absl::StrCat(FLAGS_seed));
  const auto begun = std::chrono::steady_clock::now();
  for (const Suite& suite : kSuites) {
    if (wanted.empty() ? !suite.by_default : !wanted.contains(suite.name)) continue;
    std::cerr << suite.name << " ..." << std::flush;
    const auto at = std::chrono::steady_clock::now();
    suite.run(report);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - at;
    std::cerr << absl::StrFormat(" %.0f s\n", took.count());
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
  report.Fact("time", absl::StrFormat("%.0f s", took.count()));
  std::cout << (FLAGS_markdown ? report.Markdown() : report.Text()) << std::flush;
  WriteFile(FLAGS_json, report.Json());
  WriteFile(FLAGS_csv, report.Csv());
  return 0;
}

}  // namespace
}  // namespace understudy::bench

int main(int argc, char** argv) {
  google::InitGoogleLogging(argv[0]);
  FLAGS_logtostderr = true;
  gflags::SetUsageMessage("measures the pair; run it through bench/run");
  gflags::ParseCommandLineFlags(&argc, &argv, true);
  return understudy::bench::Run();
}
