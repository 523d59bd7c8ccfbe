// The north wrapper: sits between the application and TCP. All socket traffic of an application goes
// through it: it turns what TCP delivers into records-to-be, and writes what may leave.
//
// Claims 15-26 (the first wrapper). It stores nothing itself: it tells its Log what happened, in order.
//
// SocketNorthWrapper is the real one; the simulator has its own.
#ifndef UNDERSTUDY_TCPSHIM_NORTH_WRAPPER_H_
#define UNDERSTUDY_TCPSHIM_NORTH_WRAPPER_H_

#include <sys/uio.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "tcpshim/endpoint.h"
#include "tcpshim/tcp_types.h"
#include "tcpshim/unique_fd.h"

namespace understudy::tcpshim {

class NorthWrapper {
 public:
  using ConnectionId = uint64_t;

  struct Accepted {
    std::optional<ConnectionId> id = {};  // under which it is watched from now on; UINT64_MAX is none
    bool reset = false;                   // without an id: closed with a RST, else silently
  };

  // What the north wrapper needs of the log. Called on the loop only, never inside a method of
  // NorthWrapper; may call any of its methods, but not destroy it.
  class Log {
   public:
    virtual ~Log() = default;
    // A connection was accepted. Until it has returned, the id is unknown to Write and the like.
    virtual Accepted OnAccepted(int fd, const FourTuple& tuple) = 0;
    // Room for the next bytes of `id`; an empty span: not now (back-pressure, or its turn has not come; see
    // Resume).
    virtual absl::Span<char> BeginReceive(ConnectionId id) = 0;
    // `size` bytes were put there; 0: nothing was, forget the room. Follows each non-empty room at once,
    // also when BeginReceive itself forgot the connection.
    virtual void EndReceive(ConnectionId id, size_t size) = 0;
    virtual void OnEndOfStream(ConnectionId id) = 0;
    // The connection broke: reset by the client, timed out, unreachable. `error` is an errno. What it had
    // received has been reported before, so under back-pressure this waits for Resume. Reported once; the
    // socket stays known until it is forgotten.
    virtual void OnBroken(ConnectionId id, int error) = 0;
    // The socket takes bytes again after a Write that was cut short.
    virtual void OnWritable(ConnectionId id) = 0;
    // Everything that was ready in this turn has been reported.
    virtual void OnTurnDone() = 0;
  };

  struct Options {
    // A client that cannot be reached for so long is broken (ETIMEDOUT), whether it owes an acknowledgement
    // or nothing is under way. One that acknowledges is never, however long its window stays closed. 0: as
    // the kernel has it, a quarter of an hour with something under way, for ever without.
    std::chrono::seconds keepalive{0};
  };
  virtual ~NorthWrapper() = default;  // closes all sockets as the kernel does it

  // Accepts from a listener (listener.h) from now on.
  virtual absl::Status Listen(UniqueFd listener) = 0;
  // See listener.h.
  virtual absl::Status LimitSegments(uint32_t mtu) = 0;
  virtual SocketAddress listening() const = 0;  // with the port chosen, when 0 was asked for
  virtual void StopListening() = 0;

  // Whether the client's stream has ended already.
  enum class Input { kExpected, kEnded };
  // Restores an endpoint (endpoint.h, with its errors) and takes it under `id`.
  virtual absl::Status Restore(ConnectionId id, const Endpoint& endpoint, Input input) = 0;
  // Restores an endpoint that nobody will use, and closes it: what is left to say to its client, TCP says.
  virtual absl::Status RestoreClosed(const Endpoint& endpoint) = 0;
  // tcpshim::Capture of a connection that is here: what follows is ForgetSilently.
  virtual absl::StatusOr<Endpoint> Capture(ConnectionId id, CapturedBytes& storage) = 0;

  // Writes as much as TCP takes now, gathers; returns the bytes taken. Less than asked: OnWritable follows.
  // 0 also for an unknown or broken connection (OnBroken follows or has been) and after ShutdownWrite.
  virtual size_t Write(ConnectionId id, absl::Span<const iovec> bytes) = 0;
  virtual void ShutdownWrite(ConnectionId id) = 0;   // FIN behind what was written
  virtual void Abort(ConnectionId id) = 0;           // RST, and forgotten
  virtual void Forget(ConnectionId id) = 0;          // closed as the kernel does it, and forgotten
  virtual void ForgetSilently(ConnectionId id) = 0;  // neither FIN nor RST is sent

  // What TCP says of a connection: see endpoint.h. Of one that is unknown, as of a socket that is no more.
  virtual uint32_t UnackedBytes(ConnectionId id) const = 0;
  virtual uint32_t UnsentBytes(ConnectionId id) const = 0;
  virtual uint32_t UnreadBytes(ConnectionId id) const = 0;
  virtual size_t SegmentSize(ConnectionId id) const = 0;
  virtual bool HasRoundTripTime(ConnectionId id) const = 0;
  virtual uint32_t CurrentTimestamp(ConnectionId id) const = 0;
  // tcpshim::SocketCookie of what OnAccepted was called with.
  virtual uint64_t Cookie(int accepted) const = 0;

  // After BeginReceive refused: read again. Nothing happens when it did not, or is not known any more.
  virtual void Resume(ConnectionId id) = 0;
  virtual size_t connections() const = 0;
};

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_NORTH_WRAPPER_H_
