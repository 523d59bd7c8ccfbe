// What the simulator needs of its own seams (see seams.cc).
#ifndef UNDERSTUDY_TESTS_SIM_SEAMS_H_
#define UNDERSTUDY_TESTS_SIM_SEAMS_H_

#include <map>

#include "replication/transport.h"
#include "tcpshim/north_wrapper.h"
#include "tests/sim/world.h"

namespace understudy::sim {

// The north wrapper on a simulated kernel. Turn() does what one readiness of its epoll set does.
class SimNorth final : public tcpshim::NorthWrapper {
 public:
  SimNorth(Process* process, Log* log);
  ~SimNorth() override;

  void Turn();

  absl::Status Listen(tcpshim::UniqueFd listener) override;
  absl::Status LimitSegments(uint32_t) override { return absl::OkStatus(); }  // segments have no size here
  SocketAddress listening() const override { return process_->world->service(); }
  void StopListening() override { is_listening_ = false; }
  void Adopt(ConnectionId id, tcpshim::UniqueFd fd, bool expect_input) override;
  size_t Write(ConnectionId id, absl::Span<const iovec> bytes) override;
  void ShutdownWrite(ConnectionId id) override;
  void Abort(ConnectionId id) override;
  void Forget(ConnectionId id) override;
  void ForgetSilently(ConnectionId id) override;
  int fd(ConnectionId id) const override;
  void Resume(ConnectionId id) override;
  size_t connections() const override { return known_.size(); }

  bool is_listening() const { return is_listening_; }

 private:
  struct Known {
    FourTuple tuple;
    uint64_t number = 0;  // of the socket
    bool expect_input = true;
    bool broken_reported = false;
    bool blocked = false;
    bool shut = false;
    bool paused = false;
  };
  Socket* SocketOf(ConnectionId id) const;
  void Erase(ConnectionId id);
  void Accept(Socket& socket, const FourTuple& tuple);
  void Serve(ConnectionId id);
  bool MayRead(ConnectionId id);

  Process* const process_;
  Log* const log_;
  bool is_listening_ = false;
  std::map<ConnectionId, Known> known_;
};

// The replication network.
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
// Of all event loops (reactor.cc).
void ForgetReactors();

// A socket's number as a file descriptor, above all real ones, so that closing it by mistake does
// nothing.
constexpr int kFirstFd = 1 << 24;

}  // namespace understudy::sim

#endif  // UNDERSTUDY_TESTS_SIM_SEAMS_H_
