#include "tcpshim/listener.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tcpshim/sockaddr.h"

namespace understudy::tcpshim {
namespace {

constexpr int kBacklog = 4096;
constexpr uint32_t kHeaders = 40;  // IPv4 and TCP
// The kernel refuses less and more (TCP_MIN_MSS, MAX_TCP_WINDOW).
constexpr uint32_t kSmallestSegment = 88, kLargestSegment = 32767;

absl::Status Failed(const SocketAddress& address, const char* step, int error) {
  const std::string text =
      absl::StrCat("cannot listen on ", address.ToString(), ": ", step, ": ", strerror(error));
  switch (error) {
    case EADDRINUSE: return absl::AlreadyExistsError(absl::StrCat(text, " (the port is taken)"));
    case EADDRNOTAVAIL: return absl::NotFoundError(absl::StrCat(text, " (no interface has this address)"));
    case EACCES:
    case EPERM: return absl::PermissionDeniedError(text);
    default: return absl::InternalError(text);
  }
}

}  // namespace

absl::StatusOr<UniqueFd> OpenListener(const SocketAddress& address, Connections connections) {
  const bool movable = connections == Connections::kMayMove;
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return Failed(address, "socket", errno);
  const int on = 1, off = 0;
  const auto set = [&](int level, int option, const int& value) {
    return ::setsockopt(fd.get(), level, option, &value, sizeof(value)) == 0;
  };
  // Connections of an earlier life of this port may still be in TIME_WAIT, or restored here.
  if (!set(SOL_SOCKET, SO_REUSEADDR, on)) return Failed(address, "SO_REUSEADDR", errno);
  if (movable && !set(IPPROTO_IP, IP_TRANSPARENT, on)) {
    return Failed(address, "IP_TRANSPARENT (needs CAP_NET_ADMIN)", errno);
  }
  const sockaddr_in name = ToSockaddr(address);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof(name)) != 0) {
    return Failed(address, "bind", errno);
  }
  if (::listen(fd.get(), kBacklog) != 0) return Failed(address, "listen", errno);
  // After listen, which switches it on where the host says so for all listeners. A kernel without it has no
  // such option.
  if (movable && !set(IPPROTO_TCP, TCP_FASTOPEN, off) && errno != ENOPROTOOPT && errno != EOPNOTSUPP) {
    return Failed(address, "TCP_FASTOPEN", errno);
  }
  return fd;
}

absl::Status LimitSegments(int listener, uint32_t mtu) {
  const int segment =
      static_cast<int>(std::clamp(mtu, kHeaders + kSmallestSegment, kHeaders + kLargestSegment) - kHeaders);
  if (::setsockopt(listener, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof(segment)) != 0) {
    return absl::InternalError(absl::StrCat("TCP_MAXSEG ", segment, ": ", strerror(errno)));
  }
  return absl::OkStatus();
}

}  // namespace understudy::tcpshim
