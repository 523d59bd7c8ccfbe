// A pair of nodes in the lab, as an operator would run it.
//
//   auto lab = Lab::Create();
//   auto pair = Pair::Start(**lab, {.binary = Runfile("tests/apps/workbench")});  // returns when protected
//   Fleet fleet((*lab)->client());
//   ... load ...
//   (*pair)->PowerCut(Host::kA);
//   EXPECT_OK((*pair)->status(Host::kB).WaitForState("solo", 2s));
#ifndef UNDERSTUDY_TESTS_LAB_PAIR_H_
#define UNDERSTUDY_TESTS_LAB_PAIR_H_

#include <array>
#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/lab/lab.h"
#include "tests/lab/process.h"
#include "tests/lab/status_client.h"

namespace understudy::lab {

class Pair {
 public:
  struct Options {
    std::string binary;              // path of the program
    std::vector<std::string> flags;  // for both nodes, after those of the lab
    bool with_secondary = true;
  };
  static constexpr uint16_t kReplicationPort = 7100;
  static constexpr uint16_t kStatusPort = 7200;

  // `a` as the primary; when it serves, `b` as the secondary; returns when both say "protected".
  static absl::StatusOr<std::unique_ptr<Pair>> Start(Lab& lab, const Options& options);

  // Starts a node: kA begins as primary, kB as secondary, unless `role` says otherwise. A process that
  // runs on that host already must have ended.
  absl::Status StartNode(Host host, const std::string& role, const std::vector<std::string>& more_flags = {});
  // The flags of a node, without the program; for tests that start something by hand.
  std::vector<std::string> FlagsOf(Host host, const std::string& role) const;

  Lab& lab() { return lab_; }
  Process& process(Host host) { return *processes_[static_cast<int>(host)]; }
  bool has_process(Host host) const { return processes_[static_cast<int>(host)] != nullptr; }
  StatusClient status(Host host) const;
  std::string arbiter_file() const { return dir_.path() + "/register/arbiter"; }
  std::string key_file() const { return dir_.path() + "/key"; }

  // The machine loses its power: nothing more of it on any wire, not even of its kernel; then its
  // process is gone.
  void PowerCut(Host host);

  // Alive, and cut off from everything: from clients, the other node, and the arbiter. (A real one is
  // beyond some wire; the file of this lab is not, so each host has a way of its own to it.)
  void Isolate(Host host, Cut how);
  void EndIsolation(Host host);
  // The arbiter alone.
  void CutArbiter(Host host);
  void RestoreArbiter(Host host);

  // The last lines of both nodes' logs, for the report of a failure.
  std::string LogTails(size_t lines) const;

 private:
  Pair(Lab& lab, const Options& options);
  std::string ArbiterWay(Host host) const { return dir_.path() + "/" + Name(host); }

  Lab& lab_;
  Options options_;
  TempDir dir_{"/dev/shm"};  // the arbiter's, as it would be in /run: nobody waits for a disk
  std::array<std::unique_ptr<Process>, 2> processes_;
  std::vector<std::unique_ptr<Process>> former_;  // kept for their logs
};

}  // namespace understudy::lab

#endif  // UNDERSTUDY_TESTS_LAB_PAIR_H_
