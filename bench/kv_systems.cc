#include "bench/kv_systems.h"

#include <gflags/gflags.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "glog/logging.h"

DEFINE_string(kvstore, "", "kvstore program to measure instead of the one that was built along");
DEFINE_string(kvstore_flags, "", "More flags for it, separated by spaces");
DEFINE_string(redis_server, "/usr/bin/redis-server", "The redis-server to compare with");

namespace understudy::bench {

namespace {

constexpr uint16_t kPort = lab::Lab::kServicePort;

Program KvStore() {
  std::vector<std::string> flags = absl::StrSplit(FLAGS_kvstore_flags, ' ', absl::SkipEmpty());
  // As the redis-server: no password, and room for 10,000 connections and those that look on.
  flags.insert(flags.begin(), {"--protected_mode=false", "--maxclients=15000"});
  return {FLAGS_kvstore.empty() ? lab::Runfile("apps/kvstore/kvstore") : FLAGS_kvstore, flags};
}

class StandaloneSystem final : public KvSystem {
 public:
  std::string name() const override { return "standalone"; }
  lab::Lab& lab() override { return server_->lab(); }
  std::string ip() const override { return server_->ip(); }
  std::vector<pid_t> processes() const override { return {server_->pid()}; }

 private:
  std::unique_ptr<Standalone> server_ = Standalone::Start(KvStore());
};

class PairSystem final : public KvSystem {
 public:
  std::string name() const override { return "pair"; }
  lab::Lab& lab() override { return pair_.lab(); }
  std::string ip() const override { return lab::Lab::kServiceIp; }
  std::vector<pid_t> processes() const override { return {pair_.primary(), pair_.secondary()}; }
  bool Check() override { return pair_.Check(); }
  int lost() const override { return pair_.lost(); }

 private:
  LastingPair pair_{KvStore()};
};

// The answer to one inline command.
std::string AskRedis(lab::Namespace& where, const std::string& ip, const std::string& command) {
  const int fd = Connect(where, ip, kPort, command + "\r\n");
  std::string answer;
  char buffer[8192];
  // An answer of INFO comes in one piece here, or in a few that follow at once.
  for (pollfd wait = {fd, POLLIN, 0}; poll(&wait, 1, answer.empty() ? 5000 : 50) == 1;) {
    const ssize_t size = recv(fd, buffer, sizeof buffer, 0);
    if (size <= 0) break;
    answer.append(buffer, static_cast<size_t>(size));
  }
  close(fd);
  return answer;
}

class Redis final : public KvSystem {
 public:
  explicit Redis(bool replicated) : lab_(MakeLab()) {
    processes_.push_back(StartOn(lab::Host::kA, {}));
    if (!replicated) return;
    processes_.push_back(StartOn(
        lab::Host::kB, {"--replicaof", lab::Lab::replication_ip(lab::Host::kA), absl::StrCat(kPort)}));
    for (int i = 0; i < 1000; ++i) {
      const std::string answer = AskRedis(lab_->host(lab::Host::kA), ip(), "INFO replication");
      if (absl::StrContains(answer, "state=online")) return;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    LOG(FATAL) << "the replica does not come up:\n" << processes_.back()->LogTail(20);
  }
  std::string name() const override { return processes_.size() == 1 ? "redis" : "redis_wait"; }
  lab::Lab& lab() override { return *lab_; }
  std::string ip() const override { return lab::Lab::host_ip(lab::Host::kA); }
  std::vector<pid_t> processes() const override {
    std::vector<pid_t> pids;
    for (const auto& process : processes_) pids.push_back(process->pid());
    return pids;
  }

 private:
  std::unique_ptr<lab::Process> StartOn(lab::Host host, const std::vector<std::string>& more) {
    lab::Process::Options options;
    options.name = absl::StrCat("redis-", lab::Name(host));
    options.argv = {FLAGS_redis_server,
                    "--port",
                    absl::StrCat(kPort),
                    "--bind",
                    "0.0.0.0",
                    "--protected-mode",
                    "no",
                    "--save",
                    "",
                    "--appendonly",
                    "no",
                    "--maxclients",
                    "15000",
                    "--dir",
                    dir_.path()};
    options.argv.insert(options.argv.end(), more.begin(), more.end());
    options.where = &lab_->host(host);
    auto process = lab::Process::Start(options);
    CHECK(process.ok()) << process.status();
    AwaitListener(lab_->host(host), lab::Lab::host_ip(host), kPort, **process);
    return *std::move(process);
  }

  lab::TempDir dir_;
  std::unique_ptr<lab::Lab> lab_;
  std::vector<std::unique_ptr<lab::Process>> processes_;
};

}  // namespace

std::unique_ptr<KvSystem> KvStandalone() { return std::make_unique<StandaloneSystem>(); }
std::unique_ptr<KvSystem> KvPair() { return std::make_unique<PairSystem>(); }
std::unique_ptr<KvSystem> RedisAlone() { return std::make_unique<Redis>(false); }
std::unique_ptr<KvSystem> RedisReplicated() { return std::make_unique<Redis>(true); }

}  // namespace understudy::bench
