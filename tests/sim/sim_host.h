// The node's Host in the simulator: one process of the world, with its loop, its timers and what it stands
// on.
#ifndef UNDERSTUDY_TESTS_SIM_SIM_HOST_H_
#define UNDERSTUDY_TESTS_SIM_SIM_HOST_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "framework/host.h"
#include "tests/sim/world.h"

namespace understudy::sim {

class SimHost final : public understudy::Host {
 public:
  explicit SimHost(Process* process) : process_(process) {}

  // Runs what was posted, what is due, and what waits at the south wrapper, until nothing does. False: after
  // `most` of them there was more.
  bool Run(int most);

  const Clock& clock() const override { return *process_->clock; }
  uint64_t Random() override { return process_->world->Random(~uint64_t{0}); }
  void Post(std::function<void()> run) override { posted_.push_back(std::move(run)); }
  std::unique_ptr<Timer> NewTimer() override;
  std::unique_ptr<DescriptorWatch> WatchReadable(int fd, std::function<void()> readable) override;
  absl::StatusOr<std::shared_ptr<void>> LockAddress(uint32_t ip, const std::string& who) override;
  absl::StatusOr<std::unique_ptr<tcpshim::ServiceAddress>> NewServiceAddress(
      const tcpshim::ServiceAddress::Options& options) override;
  absl::StatusOr<std::unique_ptr<tcpshim::RawSender>> OpenRawSender() override;
  absl::StatusOr<std::unique_ptr<tcpshim::SouthWrapper>> AttachSouth(
      const tcpshim::SouthWrapper::Options& options) override;
  absl::StatusOr<tcpshim::UniqueFd> OpenListener(const tcpshim::SocketAddress& address,
                                                 tcpshim::Connections connections) override;
  absl::StatusOr<std::unique_ptr<tcpshim::NorthWrapper>> NewNorth(
      tcpshim::NorthWrapper::Log* log, const tcpshim::NorthWrapper::Options& options) override;
  std::unique_ptr<replication::Transport> NewTransport(
      const replication::Transport::Options& options) override;
  absl::StatusOr<std::unique_ptr<replication::Arbiter>> NewArbiter(const std::string& uri) override;
  std::unique_ptr<Replayer> NewReplayer(Executor* executor,
                                        std::function<void(std::string why)> unusable) override;

 private:
  class SimTimer;
  class SouthWatch;
  using TimerKey = std::pair<Timer::Time, uint64_t>;

  std::function<void()> TakeNext();

  Process* const process_;
  std::deque<std::function<void()>> posted_;
  std::map<TimerKey, SimTimer*> timers_;  // those that are set
  uint64_t timers_set_ = 0;
  SouthWatch* south_watch_ = nullptr;
};

}  // namespace understudy::sim

#endif  // UNDERSTUDY_TESTS_SIM_SIM_HOST_H_
