// The replication network of the simulator: links and pulses between the two processes.
#ifndef UNDERSTUDY_TESTS_SIM_SIM_TRANSPORT_H_
#define UNDERSTUDY_TESTS_SIM_SIM_TRANSPORT_H_

#include <memory>

#include "replication/transport.h"
#include "tests/sim/world.h"

namespace understudy::sim {

class SimTransport final : public replication::Transport {
 public:
  explicit SimTransport(Process* process) : process_(process) {}
  ~SimTransport() override;
  absl::Status Listen(Accepted accepted) override;
  uint64_t turned_away() const override { return 0; }
  void Dial(std::chrono::milliseconds timeout, Dialed done) override;
  std::shared_ptr<replication::Link> StartLink(std::unique_ptr<Connection> connection,
                                               replication::Link::Handler* handler, bool dialed) override;
  absl::StatusOr<std::unique_ptr<replication::PulseLink>> OpenPulse(
      replication::PulseLink::Heard heard) override;

 private:
  Process* const process_;
};

// The kernel closes the connections of a process that has died; after a power cut nobody does.
void CloseLinksOf(Process& process);
// Both ends find all connections of the replication network broken.
void ResetLinks(World& world);
// Connections of the replication network, for the next world to begin without.
void ForgetLinks();

}  // namespace understudy::sim

#endif  // UNDERSTUDY_TESTS_SIM_SIM_TRANSPORT_H_
