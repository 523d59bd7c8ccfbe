// Where pulses travel: UDP between the replication addresses of the two nodes, port numbers as for TCP.
//
// Until Beat is called the node's loop reads the socket (the secondary's part: hear and answer). Beat hands
// the socket to a thread of its own, which lives as long as this object (the primary's part: pulse.h).
// The thread sleeps while nothing is to be proven, and else wakes every two heartbeats to look at an
// atomic. I8: whatever arrives, at worst it is counted and dropped.
#ifndef UNDERSTUDY_REPLICATION_PULSE_LINK_H_
#define UNDERSTUDY_REPLICATION_PULSE_LINK_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "absl/status/statusor.h"
#include "replication/pulse.h"

namespace understudy::replication {

class PulseLink {
 public:
  // On the loop, for each datagram from the peer. What it returns is sent back.
  using Heard = std::function<std::optional<PulseMessage>(std::string_view datagram)>;

  // Binds `own`, on the interface that has the address; takes datagrams from `peer` only. `key`: see pulse.h.
  // Unavailable names the address and the system's reason.
  static absl::StatusOr<std::unique_ptr<PulseLink>> Open(boost::asio::io_context& loop,
                                                         const boost::asio::ip::tcp::endpoint& own,
                                                         const boost::asio::ip::tcp::endpoint& peer,
                                                         const std::string& key, Heard heard);
  ~PulseLink();  // ends the thread

  // Starts the thread, which carries out what `pulse` says; later calls wake it. `heard` is not called any
  // more. `pulse` outlives this object.
  void Beat(Pulse* pulse);

  // The socket, whoever reads it; for a witness to send on. Belongs to this object.
  int fd() const;

 private:
  struct Impl;
  explicit PulseLink(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_PULSE_LINK_H_
