// The north wrapper on a simulated kernel.
#ifndef UNDERSTUDY_TESTS_SIM_SIM_NORTH_H_
#define UNDERSTUDY_TESTS_SIM_SIM_NORTH_H_

#include <map>

#include "tcpshim/north_wrapper.h"
#include "tests/sim/world.h"

namespace understudy::sim {

// Turn() does what one readiness of its epoll set does.
class SimNorth final : public tcpshim::NorthWrapper {
 public:
  SimNorth(Process* process, Log* log);
  ~SimNorth() override;

  void Turn();

  absl::Status Listen(tcpshim::UniqueFd listener) override;
  absl::Status LimitSegments(uint32_t) override { return absl::OkStatus(); }  // segments have no size here
  SocketAddress listening() const override { return process_->world->service(); }
  void StopListening() override { is_listening_ = false; }
  absl::Status Restore(ConnectionId id, const tcpshim::Endpoint& endpoint, Input input) override;
  absl::Status RestoreClosed(const tcpshim::Endpoint& endpoint) override;
  absl::StatusOr<tcpshim::Endpoint> Capture(ConnectionId id, tcpshim::CapturedBytes& storage) override;
  size_t Write(ConnectionId id, absl::Span<const iovec> bytes) override;
  void ShutdownWrite(ConnectionId id) override;
  void Abort(ConnectionId id) override;
  void Forget(ConnectionId id) override;
  void ForgetSilently(ConnectionId id) override;
  uint32_t UnackedBytes(ConnectionId id) const override;
  uint32_t UnsentBytes(ConnectionId id) const override;
  uint32_t UnreadBytes(ConnectionId id) const override;
  size_t SegmentSize(ConnectionId) const override { return 0; }
  bool HasRoundTripTime(ConnectionId id) const override;
  uint32_t CurrentTimestamp(ConnectionId id) const override;
  uint64_t Cookie(int accepted) const override { return static_cast<uint64_t>(accepted); }
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

}  // namespace understudy::sim

#endif  // UNDERSTUDY_TESTS_SIM_SIM_NORTH_H_
