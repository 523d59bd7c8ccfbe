// Host: everything that a node needs of the world outside its own logic, as one interface: time and chance,
// the event loop, the network of the clients, the peer, the arbiter, and the thread that replays.
//
// SystemHost (system_host.h) is the real one. The simulator in tests/sim has its own, and runs the node's
// code unchanged on it. So nothing above reads a clock, draws a random number or opens a socket by itself.
#ifndef UNDERSTUDY_FRAMEWORK_HOST_H_
#define UNDERSTUDY_FRAMEWORK_HOST_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "framework/clock.h"
#include "framework/executor.h"
#include "framework/replayer.h"
#include "replication/arbiter.h"
#include "replication/transport.h"
#include "tcpshim/listener.h"
#include "tcpshim/north_wrapper.h"
#include "tcpshim/raw_sender.h"
#include "tcpshim/service_address.h"
#include "tcpshim/south_wrapper.h"
#include "tcpshim/tcp_types.h"
#include "tcpshim/unique_fd.h"

namespace understudy {

// One shot, on the loop.
class Timer {
 public:
  using Time = std::chrono::steady_clock::time_point;

  virtual ~Timer() = default;  // as Cancel
  // Calls `run` at `time` of Clock::Monotonic or soon after it, never inside this call; instead of what was
  // set before.
  virtual void Set(Time time, std::function<void()> run) = 0;
  // What was set is not called any more, even if it is due.
  virtual void Cancel() = 0;
  // nullopt: nothing is set, or it has been called (or is just being).
  virtual std::optional<Time> due() const = 0;
};

// Watches a descriptor as long as it lives; the descriptor must live longer.
class DescriptorWatch {
 public:
  virtual ~DescriptorWatch() = default;
};

// All on the loop's thread. Outlives what it makes. Makers whose errors are not named here have those of the
// class that they make.
class Host {
 public:
  virtual ~Host() = default;

  virtual const Clock& clock() const = 0;
  // 64 bits that nobody can foretell.
  virtual uint64_t Random() = 0;

  // --- The event loop ---
  // Later, after what is waiting already. From any thread.
  virtual void Post(std::function<void()> run) = 0;
  virtual std::unique_ptr<Timer> NewTimer() = 0;
  // `readable` is called again and again while `fd` is readable; it may destroy the watch.
  virtual std::unique_ptr<DescriptorWatch> WatchReadable(int fd, std::function<void()> readable) = 0;

  // --- The network of the clients ---
  // One service for each address: no other process here may take charge of `ip` while the result lives. `who`
  // is what it is told. Errors as tcpshim::AddressLock::Take.
  virtual absl::StatusOr<std::shared_ptr<void>> LockAddress(uint32_t ip, const std::string& who) = 0;
  virtual absl::StatusOr<std::unique_ptr<tcpshim::ServiceAddress>> NewServiceAddress(
      const tcpshim::ServiceAddress::Options& options) = 0;
  virtual absl::StatusOr<std::unique_ptr<tcpshim::RawSender>> OpenRawSender() = 0;
  virtual absl::StatusOr<std::unique_ptr<tcpshim::SouthWrapper>> AttachSouth(
      const tcpshim::SouthWrapper::Options& options) = 0;
  // tcpshim::OpenListener.
  virtual absl::StatusOr<tcpshim::UniqueFd> OpenListener(const tcpshim::SocketAddress& address,
                                                         tcpshim::Connections connections) = 0;
  // `log` outlives it.
  virtual absl::StatusOr<std::unique_ptr<tcpshim::NorthWrapper>> NewNorth(
      tcpshim::NorthWrapper::Log* log, const tcpshim::NorthWrapper::Options& options) = 0;

  // --- The pair ---
  virtual std::unique_ptr<replication::Transport> NewTransport(
      const replication::Transport::Options& options) = 0;
  virtual absl::StatusOr<std::unique_ptr<replication::Arbiter>> NewArbiter(const std::string& uri) = 0;
  // See replayer.h. `unusable` is called on the loop.
  virtual std::unique_ptr<Replayer> NewReplayer(Executor* executor,
                                                std::function<void(std::string why)> unusable) = 0;
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_HOST_H_
