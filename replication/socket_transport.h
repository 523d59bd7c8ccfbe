// Transport on the sockets of this host.
#ifndef UNDERSTUDY_REPLICATION_SOCKET_TRANSPORT_H_
#define UNDERSTUDY_REPLICATION_SOCKET_TRANSPORT_H_

#include <memory>

#include <boost/asio/io_context.hpp>

#include "replication/socket_link.h"
#include "replication/transport.h"

namespace understudy::replication {

class SocketTransport final : public Transport {
 public:
  // `loop` outlives this object and all that it makes.
  SocketTransport(boost::asio::io_context& loop, const Options& options);

  absl::Status Listen(Accepted accepted) override;
  uint64_t turned_away() const override;
  void Dial(std::chrono::milliseconds timeout, Dialed done) override;
  std::shared_ptr<Link> StartLink(std::unique_ptr<Connection> connection, Link::Handler* handler,
                                  bool dialed) override;
  absl::StatusOr<std::unique_ptr<PulseLink>> OpenPulse(PulseLink::Heard heard) override;

 private:
  boost::asio::io_context& loop_;
  const Options options_;
  std::unique_ptr<LinkListener> listener_;
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_SOCKET_TRANSPORT_H_
