#include "tcpshim/south_probe.h"

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <optional>

#include "absl/strings/str_cat.h"

namespace understudy::tcpshim {
namespace {

// Frames that come in are handled when the kernel finds the time: under load, not at once.
constexpr int kRoundsToComeIn = 4;
constexpr std::chrono::seconds kTimeToComeIn{2};

uint32_t Load(const __u32& at) { return std::atomic_ref<__u32>(const_cast<__u32&>(at)).load(); }

}  // namespace

std::optional<MacAddress> SouthProbe::MacOf(int interface_index) {
  ifreq request = {};
  const UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!fd || if_indextoname(static_cast<unsigned>(interface_index), request.ifr_name) == nullptr ||
      ioctl(fd.get(), SIOCGIFHWADDR, &request) != 0) {
    return std::nullopt;
  }
  MacAddress mac;
  memcpy(mac.data(), request.ifr_hwaddr.sa_data, mac.size());
  return mac;
}

absl::StatusOr<std::unique_ptr<SouthProbe>> SouthProbe::Open() {
  auto failed = [](const char* what) -> absl::Status {
    const int error = errno;
    const std::string text = absl::StrCat("packet socket: ", what, ": ", strerror(error));
    if (error == EPERM || error == EACCES) {
      return absl::PermissionDeniedError(absl::StrCat(text, ". Missing here: CAP_NET_RAW"));
    }
    return absl::FailedPreconditionError(text);
  };
  // Protocol 0: it receives nothing.
  UniqueFd fd(socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!fd) return failed("socket");
  uint64_t cookie = 0, nonce = 0;
  socklen_t size = sizeof(cookie);
  if (getsockopt(fd.get(), SOL_SOCKET, SO_COOKIE, &cookie, &size) != 0) return failed("SO_COOKIE");
  if (getrandom(&nonce, sizeof(nonce), 0) != sizeof(nonce)) return failed("getrandom");
  return std::unique_ptr<SouthProbe>(new SouthProbe(std::move(fd), cookie, nonce));
}

bool SouthProbe::SendFrame(int interface_index, const std::string& frame) const {
  sockaddr_ll to = {};
  to.sll_family = AF_PACKET;
  to.sll_protocol = frame[12] == 0x08 && frame[13] == 0x06 ? htons(ETH_P_ARP) : htons(ETH_P_IP);
  to.sll_ifindex = interface_index;
  to.sll_halen = ETH_ALEN;
  std::copy_n(frame.begin(), ETH_ALEN, to.sll_addr);
  ssize_t sent;
  do {
    sent = sendto(fd_.get(), frame.data(), frame.size(), MSG_DONTWAIT, reinterpret_cast<const sockaddr*>(&to),
                  sizeof(to));
  } while (sent < 0 && errno == EINTR);
  return sent == static_cast<ssize_t>(frame.size());
}

SouthProbe::Result SouthProbe::Send(int interface_index, const SocketAddress& service,
                                    const south_control& control) {
  Result result;
  const std::optional<MacAddress> mac = MacOf(interface_index);
  if (!mac) return result;
  const std::string addresses = std::string(mac->begin(), mac->end()) + std::string(mac->begin(), mac->end());
  // A RST: nothing would answer it, should a TCP get to see it.
  Segment segment;
  segment.source = service;
  segment.destination = {service.ip, 9};
  memcpy(&segment.seq, reinterpret_cast<const char*>(&nonce_), 4);
  memcpy(&segment.ack, reinterpret_cast<const char*>(&nonce_) + 4, 4);
  segment.seq = ntohl(segment.seq);
  segment.ack = ntohl(segment.ack);
  segment.flags.rst = true;
  const std::string tcp = addresses + std::string("\x08\x00", 2) + *BuildPacket(segment);
  std::string arp = BuildGratuitousArp(service.ip, *mac, ArpForm::kReply);
  arp.replace(0, addresses.size(), addresses);

  const uint32_t in = Load(control.probes_in);
  if (in != seen_in_) unseen_in_ = 0;
  seen_in_ = in;
  const auto now = std::chrono::steady_clock::now();
  result.ingress_missed = unseen_in_ >= kRoundsToComeIn && now - unseen_since_ > kTimeToComeIn;
  // Egress has come to its verdict when sendto returns.
  const uint32_t tcp_before = Load(control.probes_tcp);
  const uint32_t arp_before = Load(control.probes_arp);
  if (!SendFrame(interface_index, tcp) || !SendFrame(interface_index, arp)) return result;
  result.sent = true;
  result.egress_missed = Load(control.probes_tcp) == tcp_before || Load(control.probes_arp) == arp_before;
  // A segment that was missed on its way out is not sent in.
  if (!result.egress_missed && unseen_in_++ == 0) unseen_since_ = now;
  return result;
}

}  // namespace understudy::tcpshim
