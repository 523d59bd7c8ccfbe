// A listening socket, opened long before anybody accepts from it.
#ifndef UNDERSTUDY_TCPSHIM_LISTENER_H_
#define UNDERSTUDY_TCPSHIM_LISTENER_H_

#include "absl/status/statusor.h"
#include "tcpshim/tcp_types.h"
#include "tcpshim/unique_fd.h"

namespace understudy::tcpshim {

// Listens on `address`: non-blocking, close-on-exec. `movable`: for connections that may go on at another
// host. The address need not be present on this one yet (CAP_NET_ADMIN), and TCP Fast Open is off whatever
// net.ipv4.tcp_fastopen says: bytes of a SYN would be received before the log knows of the connection.
// AlreadyExists: port in use; NotFound: no such address; each names the address.
absl::StatusOr<UniqueFd> OpenListener(const SocketAddress& address, bool movable);

// The largest segments that clients of `listener` are told to send, and are sent, from now on: at most what
// fits into packets of `mtu` bytes. Connections that are there already keep theirs.
absl::Status LimitSegments(int listener, uint32_t mtu);

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_LISTENER_H_
