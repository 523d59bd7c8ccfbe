// Where pulses travel: UDP between the replication addresses of the two nodes, port numbers as for TCP.
//
// Until Beat is called the node's loop reads the socket (the secondary's part: hear and answer). Beat hands
// the socket to a thread of its own, which lives as long as this object (the primary's part: pulse.h).
// The thread sleeps while nothing is to be proven, and else wakes every two heartbeats to look at an
// atomic. I8: whatever arrives, at worst it is counted and dropped.
#ifndef UNDERSTUDY_REPLICATION_PULSE_LINK_H_
#define UNDERSTUDY_REPLICATION_PULSE_LINK_H_

#include <functional>
#include <optional>
#include <string_view>

#include "replication/pulse.h"

namespace understudy::replication {

class PulseLink {
 public:
  // On the loop, for each datagram from the peer. What it returns is sent back.
  using Heard = std::function<std::optional<PulseMessage>(std::string_view datagram)>;

  virtual ~PulseLink() = default;  // ends the thread

  // Starts the thread, which carries out what `pulse` says; later calls wake it. `Heard` is not called any
  // more. `pulse` outlives this object.
  virtual void Beat(Pulse* pulse) = 0;

  // The socket, whoever reads it; for a witness to send on. Belongs to this object. -1: there is none.
  virtual int fd() const = 0;
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_PULSE_LINK_H_
