// A listening socket, opened long before anybody accepts from it.
#ifndef UNDERSTUDY_TCPSHIM_LISTENER_H_
#define UNDERSTUDY_TCPSHIM_LISTENER_H_

#include "absl/status/statusor.h"
#include "tcpshim/tcp_types.h"
#include "tcpshim/unique_fd.h"

namespace understudy::tcpshim {

// Whether a listener's connections end with this host.
enum class Connections {
  kStay,
  // They may go on at another one. The address need not be present here yet (CAP_NET_ADMIN), and TCP
  // Fast Open is off whatever net.ipv4.tcp_fastopen says: bytes of a SYN would be received before the log
  // knows of the connection.
  kMayMove,
};

// Listens on `address`: non-blocking, close-on-exec. AlreadyExists: port in use; NotFound: no such address;
// each names the address.
absl::StatusOr<UniqueFd> OpenListener(const SocketAddress& address, Connections connections);

// The largest segments that clients of `listener` are told to send, and are sent, from now on: at most what
// fits into packets of `mtu` bytes. Connections that are there already keep theirs.
absl::Status LimitSegments(int listener, uint32_t mtu);

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_LISTENER_H_
