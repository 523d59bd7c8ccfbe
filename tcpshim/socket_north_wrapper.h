// The north wrapper on the sockets of this host.
//
// Sockets are watched by an epoll set of its own, which is one descriptor on the Asio loop: one turn of
// the loop takes everything that is ready, so that the records of one turn make one append. Reads go
// straight into the log's buffer.
#ifndef UNDERSTUDY_TCPSHIM_SOCKET_NORTH_WRAPPER_H_
#define UNDERSTUDY_TCPSHIM_SOCKET_NORTH_WRAPPER_H_

#include <memory>

#include <boost/asio/io_context.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tcpshim/listener.h"
#include "tcpshim/north_wrapper.h"

namespace understudy::tcpshim {

class SocketNorthWrapper : public NorthWrapper {
 public:
  static absl::StatusOr<std::unique_ptr<SocketNorthWrapper>> Create(boost::asio::io_context& loop, Log* log,
                                                                    const Options& options);
  static absl::StatusOr<std::unique_ptr<SocketNorthWrapper>> Create(boost::asio::io_context& loop, Log* log) {
    return Create(loop, log, Options());
  }

  using NorthWrapper::Listen;
  // Opens a listener first; errors as OpenListener's.
  absl::Status Listen(const SocketAddress& address, Connections connections);

  // Takes a socket that is connected already; as Restore.
  virtual void Adopt(ConnectionId id, UniqueFd fd, Input input) = 0;
  virtual int fd(ConnectionId id) const = 0;  // -1: unknown
};

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_SOCKET_NORTH_WRAPPER_H_
