#include "tcpshim/raw_sender.h"

#include <netinet/in.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tcpshim/unique_fd.h"

namespace understudy::tcpshim {
namespace {

class SocketRawSender final : public RawSender {
 public:
  SocketRawSender(UniqueFd fd, uint64_t cookie, uint16_t ip_id)
      : fd_(std::move(fd)), cookie_(cookie), ip_id_(ip_id) {}
  uint64_t cookie() const override { return cookie_; }
  uint16_t ip_id() const override { return ip_id_; }
  absl::Status Send(const Segment& segment) override;

 private:
  const UniqueFd fd_;
  const uint64_t cookie_;
  const uint16_t ip_id_;
};

absl::Status SocketRawSender::Send(const Segment& segment) {
  auto built = BuildPacket(segment);
  if (!built.ok()) return built.status();
  std::string& packet = *built;
  // The kernel computes the header's checksum anew.
  packet[4] = static_cast<char>(ip_id_ >> 8);
  packet[5] = static_cast<char>(ip_id_);
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

}  // namespace

absl::StatusOr<std::unique_ptr<RawSender>> RawSender::Open() {
  auto failed = [](const char* what) -> absl::Status {
    const int error = errno;
    const std::string text = absl::StrCat("raw socket: ", what, ": ", strerror(error));
    if (error == EPERM || error == EACCES) {
      return absl::PermissionDeniedError(absl::StrCat(
          text,
          ". CAP_NET_RAW is missing; run as root, or grant it: setcap cap_net_raw,cap_net_admin+ep BINARY, "
          "or AmbientCapabilities= in the systemd unit"));
    }
    return absl::InternalError(text);
  };
  // IPPROTO_RAW: the IP header is ours, and nothing is ever received.
  UniqueFd fd(socket(AF_INET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_RAW));
  if (!fd) return failed("socket");
  const int on = 1;
  if (setsockopt(fd.get(), IPPROTO_IP, IP_HDRINCL, &on, sizeof(on)) != 0) {
    return failed("IP_HDRINCL");
  }
  uint64_t cookie = 0;
  socklen_t size = sizeof(cookie);
  if (getsockopt(fd.get(), SOL_SOCKET, SO_COOKIE, &cookie, &size) != 0) return failed("SO_COOKIE");
  uint16_t ip_id = 0;
  while (ip_id == 0) {
    if (getrandom(&ip_id, sizeof(ip_id), 0) != sizeof(ip_id)) return failed("getrandom");
  }
  return std::make_unique<SocketRawSender>(std::move(fd), cookie, ip_id);
}

}  // namespace understudy::tcpshim
