// What all system tests share: a lab, a pair (of workbenches, mostly) in it, a watch on the wire of the
// client, clients; and at the end of each test the question whether the wire saw anything that must not be.
#ifndef UNDERSTUDY_TESTS_PAIR_FIXTURE_H_
#define UNDERSTUDY_TESTS_PAIR_FIXTURE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "tests/lab/clients.h"
#include "tests/lab/lab.h"
#include "tests/lab/pair.h"
#include "tests/lab/process.h"
#include "tests/lab/segment_watch.h"

namespace understudy::lab {

using std::chrono::milliseconds;
using std::chrono::seconds;

// Far more than anything here takes: a machine under load must not fail a test, a stall must not hang it.
inline const seconds kPatience = seconds(30) * Slowness();

// How a primary may go. The last two leave its kernel alive, which then must not speak.
enum class FaultKind {
  kKilled,     // kill -9 of the process
  kPowerCut,   // links cut, process killed
  kIsolated,   // links cut, it lives on and does not know
  kUnplugged,  // both cables out, it lives on and sees that
  kStopped,    // SIGSTOP
};
inline constexpr FaultKind kAllFaults[] = {FaultKind::kKilled, FaultKind::kPowerCut, FaultKind::kIsolated,
                                           FaultKind::kUnplugged, FaultKind::kStopped};
std::string NameOf(FaultKind fault);
inline void PrintTo(FaultKind fault, std::ostream* out) { *out << NameOf(fault); }

// UNDERSTUDY_TEST_SEED, or a new one; printed once.
uint64_t TestSeed();

class PairTest : public testing::Test {
 protected:
  // `binary_` on both nodes, with the flags of the test in `flags_`, on a lab with `lab_options_`.
  void StartPair();
  void TearDown() override;

  Host primary() const { return Host::kA; }
  StatusClient status(Host host) { return pair_->status(host); }
  Namespace& client() { return lab_->client(); }

  // What `fault` does to a host; and the end of it, where the host lives on.
  void Inject(Host host, FaultKind fault);
  void Heal(Host host, FaultKind fault);
  // `host` has taken over: says "solo" in a later epoch than before. Drives the clients meanwhile.
  void ExpectTakenOverBy(Host host, Fleet* fleet = nullptr);
  // State of `host` becomes `state`, while the clients go on.
  void ExpectState(Host host, const std::string& state, Fleet* fleet = nullptr,
                   milliseconds timeout = seconds(10));
  // `host` has said `words` in its log, or does so soon: a thread of its own writes it.
  void ExpectLog(Host host, const std::string& words, Fleet* fleet = nullptr);
  // Nothing is left in the kernel of `host` that would go on about a connection of the service: a process
  // that ends in order closes them silently.
  void ExpectNoSockets(Host host);
  // By its own account. (After a short absence a secondary may have joined again.)
  bool Serves(Host host);
  // New clients are served, everything of the workbench's works.
  void ExpectServes();
  // The segments of the first connection in which there was a RST; "" if there was none.
  std::string HistoryOfAReset(const std::vector<SeenPacket>& packets) const;
  // With the hosts' names in place of their MACs.
  std::vector<std::string> Named(std::vector<std::string> lines) const;

  Lab::Options lab_options_;
  std::string binary_ = "tests/apps/workbench";
  std::vector<std::string> flags_;
  std::vector<std::pair<std::string, std::string>> sysctls_;  // of all hosts, before anything starts
  bool with_secondary_ = true;
  // A test in which the client itself resets, or the server is asked to.
  bool resets_allowed_ = false;
  int64_t epoch_ = 0;  // at the start

  std::unique_ptr<Lab> lab_;
  std::unique_ptr<Pair> pair_;
  std::unique_ptr<SegmentWatch> watch_;  // of the client
};

}  // namespace understudy::lab

#endif  // UNDERSTUDY_TESTS_PAIR_FIXTURE_H_
