#include "tcpshim/raw_sender.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace understudy::tcpshim {

absl::StatusOr<std::unique_ptr<RawSender>> RawSender::Open(uint32_t mark) {
  auto failed = [](const char* what, const char* capability) -> absl::Status {
    const int error = errno;
    const std::string text = absl::StrCat("raw socket: ", what, ": ", strerror(error));
    if (error == EPERM || error == EACCES) {
      return absl::PermissionDeniedError(absl::StrCat(
          text, ". ", capability, " is missing; run as root, or grant it: setcap ", "cap_net_raw,",
          "cap_net_admin+ep BINARY, or AmbientCapabilities= in the systemd unit"));
    }
    return absl::InternalError(text);
  };
  // IPPROTO_RAW: the IP header is ours, and nothing is ever received.
  UniqueFd fd(socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_RAW));
  if (!fd) return failed("socket", "CAP_NET_RAW");
  const int on = 1;
  if (setsockopt(fd.get(), IPPROTO_IP, IP_HDRINCL, &on, sizeof(on)) != 0) {
    return failed("IP_HDRINCL", "CAP_NET_RAW");
  }
  if (setsockopt(fd.get(), SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) != 0) {
    return failed("SO_MARK", "CAP_NET_ADMIN");
  }
  return std::unique_ptr<RawSender>(new RawSender(std::move(fd)));
}

absl::Status RawSender::Send(const Segment& segment) {
  const auto built = BuildPacket(segment);
  if (!built.ok()) return built.status();
  const std::string& packet = *built;
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(segment.destination.ip);
  ssize_t sent;
  do {
    sent = sendto(fd_.get(), packet.data(), packet.size(), MSG_DONTWAIT | MSG_NOSIGNAL,
                  reinterpret_cast<const sockaddr*>(&to), sizeof(to));
  } while (sent < 0 && errno == EINTR);
  if (sent == static_cast<ssize_t>(packet.size())) return absl::OkStatus();
  const int error = sent < 0 ? errno : EMSGSIZE;
  const std::string text =
      absl::StrCat("segment to ", segment.destination.ToString(), " not sent: ", strerror(error));
  // Larger than the MTU is the caller's mistake; all else can be gone the next time.
  if (error == EMSGSIZE || error == EINVAL) return absl::InvalidArgumentError(text);
  return absl::UnavailableError(text);
}

}  // namespace understudy::tcpshim
