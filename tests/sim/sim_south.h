// The south wrapper and its sender, as one simulated process has them. The filter itself is its Process's
// (South), where the world asks it.
#ifndef UNDERSTUDY_TESTS_SIM_SIM_SOUTH_H_
#define UNDERSTUDY_TESTS_SIM_SIM_SOUTH_H_

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tcpshim/raw_sender.h"
#include "tcpshim/south_wrapper.h"
#include "tests/sim/world.h"

namespace understudy::sim {

class SimSouth final : public tcpshim::SouthWrapper {
 public:
  explicit SimSouth(Process* process) : process_(process) {}
  ~SimSouth() override;

  absl::Status Check() override;
  int change_fd() const override { return -1; }
  uint64_t mended() const override { return process_->host->times_mended; }
  absl::Status FollowInterface() override { return absl::OkStatus(); }  // interfaces stay

  void OpenGate() override;
  void CloseGate() override;
  void RenewUntil(std::chrono::steady_clock::time_point deadline) override;
  int gate_fd() const override { return -1; }

  void Remove(Slot slot) override;

  int event_fd() const override { return -1; }
  int PollEvents(const std::function<void(const south_event&)>& handle, int limit) override;
  std::array<uint64_t, SOUTH_COUNTERS> Counters() const override { return {}; }

 private:
  absl::StatusOr<Slot> Insert(const FourTuple& tuple, const south_connection& connection) override;
  south_connection& At(Slot slot) const override { return process_->south.connections.at(slot); }

  Process* const process_;
};

class SimRawSender final : public tcpshim::RawSender {
 public:
  explicit SimRawSender(Process* process) : process_(process) {}
  uint64_t cookie() const override { return 1; }
  uint16_t ip_id() const override { return 1; }
  absl::Status Send(const tcpshim::Segment& segment) override;

 private:
  Process* const process_;
};

}  // namespace understudy::sim

#endif  // UNDERSTUDY_TESTS_SIM_SIM_SOUTH_H_
