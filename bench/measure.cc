#include "bench/measure.h"

#include <arpa/inet.h>
#include <gflags/gflags.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "glog/logging.h"

DEFINE_int32(client_cpu, -1, "Processor for the load generator's thread; -1: the scheduler's choice");
DEFINE_string(server, "", "Program to measure instead of the workbench that was built along");
DEFINE_string(server_flags, "", "More flags for the servers, separated by spaces");

namespace understudy::bench {

namespace {

sockaddr_in AddressOf(const std::string& ip, uint16_t port) {
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  CHECK_EQ(inet_pton(AF_INET, ip.c_str(), &address.sin_addr), 1) << ip;
  return address;
}

}  // namespace

double Samples::Percentile(double percent) const {
  if (values_.empty()) return 0;
  std::vector<double> sorted = values_;
  const auto rank = static_cast<size_t>(std::ceil(percent / 100 * static_cast<double>(sorted.size())));
  const size_t index = std::clamp<size_t>(rank, 1, sorted.size()) - 1;
  std::nth_element(sorted.begin(), sorted.begin() + static_cast<ptrdiff_t>(index), sorted.end());
  return sorted[index];
}

int64_t CpuNs(pid_t pid) {
  // /proc/PID/stat has the same in steps of 10 ms.
  clockid_t clock;
  CHECK_EQ(clock_getcpuclockid(pid, &clock), 0);
  timespec used;
  PCHECK(clock_gettime(clock, &used) == 0) << "process " << pid;
  return used.tv_sec * int64_t{1'000'000'000} + used.tv_nsec;
}

int64_t IdleNs() {
  std::ifstream file("/proc/stat");
  std::string cpu;
  int64_t user, nice, system, idle;
  file >> cpu >> user >> nice >> system >> idle;
  CHECK(file.good() && cpu == "cpu");
  return idle * (1'000'000'000 / sysconf(_SC_CLK_TCK));
}

Program Workbench() {
  Program program;
  program.path = FLAGS_server.empty() ? lab::Runfile("tests/apps/workbench") : FLAGS_server;
  program.flags = absl::StrSplit(FLAGS_server_flags, ' ', absl::SkipEmpty());
  return program;
}

std::unique_ptr<Standalone> Standalone::Start(const Program& program) {
  auto standalone = std::make_unique<Standalone>();
  standalone->lab_ = MakeLab();
  lab::Process::Options options;
  options.name = "standalone";
  options.argv = {program.path, "--role=standalone", "--logtostderr",
                  absl::StrCat("--service=", standalone->ip(), ":", lab::Lab::kServicePort)};
  options.argv.insert(options.argv.end(), program.flags.begin(), program.flags.end());
  options.where = &standalone->lab_->host(lab::Host::kA);
  auto process = lab::Process::Start(options);
  CHECK(process.ok()) << process.status();
  standalone->process_ = *std::move(process);
  AwaitListener(standalone->client(), standalone->ip(), lab::Lab::kServicePort, *standalone->process_);
  return standalone;
}

void AwaitListener(lab::Namespace& where, const std::string& ip, uint16_t port, lab::Process& server) {
  const sockaddr_in address = AddressOf(ip, port);
  for (int i = 0; i < 2000; ++i) {
    const int fd = where.Socket(AF_INET, SOCK_STREAM);
    const int result = connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
    close(fd);
    if (result == 0) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  LOG(FATAL) << "nothing listens at " << ip << ":" << port << ":\n" << server.LogTail(20);
}

std::unique_ptr<lab::Lab> MakeLab() {
  auto lab = lab::Lab::Create();
  CHECK(lab.ok()) << lab.status();
  // Some machines send what passes a bridge through their packet filter; a switch does not. Where
  // there is no such filter there is nothing to set.
  (void)(*lab)->wires().SetSysctl("net.bridge.bridge-nf-call-iptables", "0");
  return *std::move(lab);
}

std::unique_ptr<lab::Pair> StartPair(lab::Lab& lab, const Program& program) {
  auto pair = lab::Pair::Start(lab, {.binary = program.path, .flags = program.flags});
  CHECK(pair.ok()) << pair.status();
  return *std::move(pair);
}

LastingPair::LastingPair(Program program)
    : program_(std::move(program)), lab_(MakeLab()), pair_(StartPair(*lab_, program_)) {}

bool LastingPair::Check() {
  const std::string a = pair_->status(lab::Host::kA).State(), b = pair_->status(lab::Host::kB).State();
  if (a == "protected" && b == "protected") return true;
  CHECK_LT(++lost_, 20) << "the pair does not last on this machine\n" << pair_->LogTails(20);
  pair_.reset();
  pair_ = StartPair(*lab_, program_);
  return false;
}

void ReportLost(Report& report, const std::string& name, const LastingPair& pair) {
  report.Value(name + ".pairs_lost", pair.lost());
  if (pair.lost() == 0) return;
  report.Row("– rounds not counted: a takeover without a fault", "", absl::StrCat(pair.lost()));
}

int Connect(lab::Namespace& where, const std::string& ip, uint16_t port, const std::string& first_line) {
  const int fd = where.Socket(AF_INET, SOCK_STREAM);
  const sockaddr_in address = AddressOf(ip, port);
  PCHECK(connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
      << "connect to " << ip << ":" << port;
  const int on = 1;
  PCHECK(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
  SendAll(fd, first_line.data(), first_line.size());
  return fd;
}

void SendAll(int fd, const char* data, size_t size) {
  while (size > 0) {
    const ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
    PCHECK(sent > 0) << "send";
    data += sent;
    size -= static_cast<size_t>(sent);
  }
}

void ReceiveAll(int fd, char* data, size_t size) {
  while (size > 0) {
    const ssize_t received = recv(fd, data, size, 0);
    PCHECK(received >= 0) << "recv";
    CHECK_GT(received, 0) << "the server has closed the connection";
    data += received;
    size -= static_cast<size_t>(received);
  }
}

std::string CongestionControlOf(lab::Namespace& where) {
  const int fd = where.Socket(AF_INET, SOCK_STREAM);
  char name[16] = {};
  socklen_t size = sizeof name;
  PCHECK(getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, &size) == 0);
  close(fd);
  return name;
}

void PinClient() {
  if (FLAGS_client_cpu < 0) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(static_cast<size_t>(FLAGS_client_cpu), &set);
  PCHECK(sched_setaffinity(0, sizeof set, &set) == 0) << "--client_cpu=" << FLAGS_client_cpu;
}

void OnClientThread(const std::function<void()>& fn) {
  std::thread([&fn] {
    PinClient();
    fn();
  }).join();
}

}  // namespace understudy::bench
