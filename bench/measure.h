// Measuring tools that all benchmarks share.
#ifndef UNDERSTUDY_BENCH_MEASURE_H_
#define UNDERSTUDY_BENCH_MEASURE_H_

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bench/report.h"
#include "tests/lab/lab.h"
#include "tests/lab/pair.h"
#include "tests/lab/process.h"

namespace understudy::bench {

using Clock = std::chrono::steady_clock;

inline double Microseconds(Clock::duration span) {
  return std::chrono::duration<double, std::micro>(span).count();
}

class Samples {
 public:
  void Add(double value) { values_.push_back(value); }
  void Add(const Samples& more) { values_.insert(values_.end(), more.values_.begin(), more.values_.end()); }
  // Nearest rank: an observed value; of few samples the 99th percentile is the worst. 0 of none.
  double Percentile(double percent) const;
  double Median() const { return Percentile(50); }
  double Max() const { return Percentile(100); }
  size_t size() const { return values_.size(); }
  bool empty() const { return values_.empty(); }
  const std::vector<double>& values() const { return values_; }  // in the order in which they came

 private:
  std::vector<double> values_;
};

// CPU time a process has used, all its threads, in ns. In this lab a packet is carried through veth
// and switch into the receiver's TCP by softirqs that run on the sender's time, and count here.
int64_t CpuNs(pid_t pid);

// What all processors together have spent idle, in ns; in steps of 10 ms.
int64_t IdleNs();

// A program that is measured, and its flags.
struct Program {
  std::string path;
  std::vector<std::string> flags;
};
// The workbench, unless --server names another program.
Program Workbench();

// A program as a plain server on host a of a lab of its own, so that nothing of the pair's
// south wrapper is on its interface. Same wires, same kind of switch.
class Standalone {
 public:
  static std::unique_ptr<Standalone> Start(const Program& program = Workbench());
  lab::Lab& lab() { return *lab_; }
  lab::Namespace& client() { return lab_->client(); }
  std::string ip() const { return lab::Lab::host_ip(lab::Host::kA); }
  pid_t pid() const { return process_->pid(); }

 private:
  std::unique_ptr<lab::Lab> lab_;
  std::unique_ptr<lab::Process> process_;
};

// Waits until something listens there; ends the program if that takes more than ten seconds.
void AwaitListener(lab::Namespace& where, const std::string& ip, uint16_t port, lab::Process& server);

// Ends the program when it cannot be made, and so do the others here.
std::unique_ptr<lab::Lab> MakeLab();
// A program as a pair, protected when it returns.
std::unique_ptr<lab::Pair> StartPair(lab::Lab& lab, const Program& program = Workbench());

// A pair under a load that takes long. On a machine that is busy with other things the secondary
// may come to suspect the primary, and figures of a pair that is none any more would be too good.
class LastingPair {
 public:
  explicit LastingPair(Program program = Workbench());
  // Whether it is what it was; if not, another one is started, and connections must be made anew.
  bool Check();
  lab::Lab& lab() { return *lab_; }
  pid_t primary() const { return pair_->process(lab::Host::kA).pid(); }
  pid_t secondary() const { return pair_->process(lab::Host::kB).pid(); }
  int lost() const { return lost_; }

 private:
  const Program program_;
  std::unique_ptr<lab::Lab> lab_;
  std::unique_ptr<lab::Pair> pair_;
  int lost_ = 0;
};

// Says how often that happened, if it did.
void ReportLost(Report& report, const std::string& name, const LastingPair& pair);

// A connected socket, TCP_NODELAY, that has said `first_line`. Not non-blocking.
int Connect(lab::Namespace& where, const std::string& ip, uint16_t port, const std::string& first_line);
void SendAll(int fd, const char* data, size_t size);
void ReceiveAll(int fd, char* data, size_t size);

// Of a socket in `where`: what the kernel really uses there.
std::string CongestionControlOf(lab::Namespace& where);

// The load generator's thread may be pinned to a processor (--client_cpu).
void PinClient();
// Runs `fn` on a thread of its own, which may be pinned, and waits for it.
void OnClientThread(const std::function<void()>& fn);

}  // namespace understudy::bench

#endif  // UNDERSTUDY_BENCH_MEASURE_H_
