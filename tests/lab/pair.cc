#include "tests/lab/pair.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "glog/logging.h"

namespace understudy::lab {

namespace {

// Far above what a start takes, so that a slow machine does not fail a test.
const std::chrono::seconds kStartTime = std::chrono::seconds(10) * Slowness();

// Where 80 ms cannot be held, as on an emulated processor: no less than UNDERSTUDY_TEST_SUSPECT_AFTER_MS,
// whatever the test asks for.
void RaiseSuspicion(std::vector<std::string>& flags) {
  const char* least = getenv("UNDERSTUDY_TEST_SUSPECT_AFTER_MS");
  if (least == nullptr) return;
  int wanted = 0;
  for (absl::string_view flag : flags) {
    if (absl::ConsumePrefix(&flag, "--suspect_after_ms=")) CHECK(absl::SimpleAtoi(flag, &wanted)) << flag;
  }
  if (wanted < atoi(least)) flags.push_back(absl::StrCat("--suspect_after_ms=", least));
}

}  // namespace

Pair::Pair(Lab& lab, const Options& options) : lab_(lab), options_(options) {
  PCHECK(mkdir((dir_.path() + "/register").c_str(), 0755) == 0);
  for (Host host : {Host::kA, Host::kB}) {
    PCHECK(symlink("register", ArbiterWay(host).c_str()) == 0);
  }
  const int fd = open(key_file().c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
  PCHECK(fd >= 0);
  const std::string key = "a key that only the nodes of this lab have";
  PCHECK(write(fd, key.data(), key.size()) == static_cast<ssize_t>(key.size()));
  close(fd);
}

void Pair::Isolate(Host host, Cut how) {
  lab_.CutLinks(host, how);
  CutArbiter(host);
}

void Pair::CutArbiter(Host host) {
  // A file in the place of the folder: whoever asks is told that he cannot. Nothing in its place could be
  // taken for a register in which nothing is written yet.
  std::string way = ArbiterWay(host);
  PCHECK(unlink(way.c_str()) == 0);
  int fd = open(way.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
  PCHECK(fd >= 0);
  close(fd);
}

void Pair::EndIsolation(Host host) {
  RestoreArbiter(host);
  lab_.RestoreLinks(host);
}

void Pair::RestoreArbiter(Host host) {
  std::string way = ArbiterWay(host);
  PCHECK(unlink(way.c_str()) == 0);
  PCHECK(symlink("register", way.c_str()) == 0);
}

absl::StatusOr<std::unique_ptr<Pair>> Pair::Start(Lab& lab, const Options& options) {
  std::unique_ptr<Pair> pair(new Pair(lab, options));
  absl::Status done = pair->StartNode(Host::kA, "primary");
  if (!done.ok()) return done;
  done = pair->status(Host::kA).WaitForState("solo", kStartTime);
  if (done.ok() && options.with_secondary) {
    done = pair->StartNode(Host::kB, "secondary");
    // The primary last: between the join and the secondary's look at the register it says so, and then not
    // any more.
    for (Host host : {Host::kB, Host::kA}) {
      if (done.ok()) done = pair->status(host).WaitForState("protected", kStartTime);
    }
  }
  if (done.ok()) return pair;
  return absl::Status(done.code(), absl::StrCat(std::string(done.message()), "\n", pair->LogTails(30)));
}

std::vector<std::string> Pair::FlagsOf(Host host, const std::string& role) const {
  std::vector<std::string> flags = {
      absl::StrCat("--role=", role),
      absl::StrCat("--service=", Lab::service()),
      absl::StrCat("--interface=", Lab::kServiceInterface),
      absl::StrCat("--node=", Name(host)),
      absl::StrCat("--replication=", Lab::replication_ip(host), ":", kReplicationPort),
      absl::StrCat("--peer=", Lab::replication_ip(Other(host)), ":", kReplicationPort),
      absl::StrCat("--replication_key_file=", key_file()),
      absl::StrCat("--arbiter=file:", ArbiterWay(host), "/arbiter"),
      absl::StrCat("--status=127.0.0.1:", kStatusPort),
      "--logtostderr",
      // A node that is of no use stays to be asked why.
      "--noexit_when_useless",
  };
  flags.insert(flags.end(), options_.flags.begin(), options_.flags.end());
  RaiseSuspicion(flags);
  return flags;
}

absl::Status Pair::StartNode(Host host, const std::string& role, const std::vector<std::string>& more_flags) {
  std::unique_ptr<Process>& process = processes_[static_cast<int>(host)];
  if (process != nullptr) {
    CHECK(!process->running()) << "node " << Name(host) << " runs already";
    former_.push_back(std::move(process));
  }
  Process::Options options;
  options.name = Name(host);
  options.argv = {options_.binary};
  std::vector<std::string> flags = FlagsOf(host, role);
  options.argv.insert(options.argv.end(), flags.begin(), flags.end());
  options.argv.insert(options.argv.end(), more_flags.begin(), more_flags.end());
  options.where = &lab_.host(host);
  absl::StatusOr<std::unique_ptr<Process>> started = Process::Start(options);
  if (!started.ok()) return started.status();
  process = *std::move(started);
  return absl::OkStatus();
}

StatusClient Pair::status(Host host) const {
  return StatusClient(&lab_.host(host), "127.0.0.1", kStatusPort);
}

void Pair::PowerCut(Host host) {
  // First nothing passes any more, then the process dies: what its kernel says to that nobody hears.
  lab_.CutLinks(host, Cut::kBlackhole);
  process(host).Kill();
  lab_.CutLinks(host, Cut::kCarrier);
}

std::string Pair::LogTails(size_t lines) const {
  std::string text;
  auto add = [&](const Process& process) {
    absl::StrAppend(&text, "--- last lines of ", process.log_path(), "\n", process.LogTail(lines));
  };
  for (const auto& process : former_) add(*process);
  for (const auto& process : processes_) {
    if (process != nullptr) add(*process);
  }
  return text;
}

}  // namespace understudy::lab
