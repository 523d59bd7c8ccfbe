// The replication network of a node: links with its peer, and pulses.
//
// SocketTransport is the real one; the simulator has its own.
#ifndef UNDERSTUDY_REPLICATION_TRANSPORT_H_
#define UNDERSTUDY_REPLICATION_TRANSPORT_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include <boost/asio/ip/tcp.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "replication/link.h"
#include "replication/protocol.h"
#include "replication/pulse_link.h"

namespace understudy::replication {

// All on the loop's thread. Callbacks never come inside the call that they were given to.
class Transport {
 public:
  // How many accepted links that have not joined an owner shall keep.
  static constexpr size_t kMaxStrangers = 16;

  // A connection with the peer's host that is not used yet. It is closed when this goes.
  class Connection {
   public:
    virtual ~Connection() = default;
  };
  using Accepted = std::function<void(std::unique_ptr<Connection>)>;
  using Dialed = std::function<void(DialResult, std::unique_ptr<Connection>)>;

  struct Options {
    boost::asio::ip::tcp::endpoint own, peer;  // the replication endpoints
    std::string key;                           // shared by the pair (auth.h); empty: anybody is believed
    std::string service;                       // "IP:PORT"
    std::string node;                          // own name
  };

  virtual ~Transport() = default;

  // From now on `accepted` is called for each connection from the peer's address. Once. Unavailable or
  // InvalidArgument names the endpoint and the system's reason.
  virtual absl::Status Listen(Accepted accepted) = 0;
  // Connections from other addresses, which were closed at once.
  virtual uint64_t turned_away() const = 0;

  // Dials the peer once. `done` gets kConnected with the connection, or why there is none, at most `timeout`
  // later.
  virtual void Dial(std::chrono::milliseconds timeout, Dialed done) = 0;

  // `dialed`: this end did. `handler` outlives the link, or the link is closed first.
  virtual std::shared_ptr<Link> StartLink(std::unique_ptr<Connection> connection, Link::Handler* handler,
                                          bool dialed) = 0;

  // Unavailable names the address and the system's reason.
  virtual absl::StatusOr<std::unique_ptr<PulseLink>> OpenPulse(PulseLink::Heard heard) = 0;
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_TRANSPORT_H_
