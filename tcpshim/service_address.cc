#include "tcpshim/service_address.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/if_packet.h>
#include <linux/rtnetlink.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>
#include <vector>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "tcpshim/unique_fd.h"

namespace understudy::tcpshim {
namespace {

constexpr std::chrono::milliseconds kFirstRepeat{50};

absl::Status ErrnoStatus(int error, const std::string& what) {
  const std::string text = absl::StrCat(what, ": ", std::strerror(error));
  if (error == EPERM || error == EACCES) {
    return absl::PermissionDeniedError(
        absl::StrCat(text, " (run as root, or grant CAP_NET_ADMIN and CAP_NET_RAW)"));
  }
  return absl::InternalError(text);
}

std::string IpText(uint32_t ip) {
  const in_addr address{htonl(ip)};
  char text[INET_ADDRSTRLEN];
  inet_ntop(AF_INET, &address, text, sizeof text);
  return text;
}

struct MnlCloser {
  void operator()(mnl_socket* socket) const { mnl_socket_close(socket); }
};
using MnlSocket = std::unique_ptr<mnl_socket, MnlCloser>;

class RtnetlinkAddress final : public ServiceAddress {
 public:
  RtnetlinkAddress(boost::asio::io_context& loop, std::string interface, int index, uint32_t ip)
      : interface_(std::move(interface)), index_(index), ip_(ip), repeat_(loop), link_events_(loop) {}
  ~RtnetlinkAddress() override {
    if (link_events_.is_open()) link_events_.release();   // the mnl socket owns it
  }

  absl::Status Open(MacAddress mac) {
    mac_ = mac;
    packets_.reset(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!packets_) return ErrnoStatus(errno, absl::StrCat("cannot announce on ", interface_));
    requests_.reset(mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC));
    if (requests_ == nullptr || mnl_socket_bind(requests_.get(), 0, MNL_SOCKET_AUTOPID) < 0) {
      return ErrnoStatus(errno, "cannot open rtnetlink");
    }
    monitor_.reset(mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (monitor_ == nullptr || mnl_socket_bind(monitor_.get(), RTMGRP_LINK, MNL_SOCKET_AUTOPID) < 0) {
      return ErrnoStatus(errno, absl::StrCat("cannot watch ", interface_));
    }
    link_events_.assign(mnl_socket_get_fd(monitor_.get()));
    if (absl::Status read = ReadCarrier(); !read.ok()) return read;
    AwaitLinkEvents();
    return absl::OkStatus();
  }

  absl::Status Add() override {
    return Change(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, {EEXIST}, "put");
  }

  absl::Status Remove() override {
    repeat_.cancel();
    ++series_;
    return Change(RTM_DELADDR, 0, {EADDRNOTAVAIL, ENODEV, ENXIO}, "remove");
  }

  void Announce(int repeats) override {
    ++series_;
    SendAnnouncement();
    AnnounceLater(repeats, kFirstRepeat, series_);
  }

  bool carrier() const override { return carrier_; }
  void WatchCarrier(std::function<void(bool)> changed) override { changed_ = std::move(changed); }
  int interface_index() const override { return index_; }

 private:
  // A request that changes the address; the errors in `fine` mean that there was nothing to change.
  absl::Status Change(uint16_t type, uint16_t flags, std::vector<int> fine, const char* verb) {
    std::array<char, 256> buffer{};
    nlmsghdr* header = mnl_nlmsg_put_header(buffer.data());
    header->nlmsg_type = type;
    header->nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    header->nlmsg_seq = ++sequence_;
    auto* address = static_cast<ifaddrmsg*>(mnl_nlmsg_put_extra_header(header, sizeof(ifaddrmsg)));
    address->ifa_family = AF_INET;
    address->ifa_prefixlen = 32;
    address->ifa_scope = RT_SCOPE_UNIVERSE;
    address->ifa_index = static_cast<uint32_t>(index_);
    mnl_attr_put_u32(header, IFA_LOCAL, htonl(ip_));
    mnl_attr_put_u32(header, IFA_ADDRESS, htonl(ip_));
    const int error = Transact(header);
    if (error == 0) return absl::OkStatus();
    for (const int harmless : fine) {
      if (error == harmless) return absl::OkStatus();
    }
    return ErrnoStatus(error, absl::StrCat("cannot ", verb, " the service address ", IpText(ip_), " on ",
                                           interface_));
  }

  int Transact(nlmsghdr* header) {
    if (mnl_socket_sendto(requests_.get(), header, header->nlmsg_len) < 0) return errno;
    std::vector<char> answer(MNL_SOCKET_BUFFER_SIZE);
    const unsigned port = mnl_socket_get_portid(requests_.get());
    while (true) {
      const ssize_t size = mnl_socket_recvfrom(requests_.get(), answer.data(), answer.size());
      if (size < 0) return errno;
      const int result = mnl_cb_run(answer.data(), static_cast<size_t>(size), sequence_, port, nullptr, nullptr);
      if (result < 0) return errno;
      if (result == MNL_CB_STOP) return 0;
    }
  }

  void SendAnnouncement() {
    sockaddr_ll to{};
    to.sll_family = AF_PACKET;
    to.sll_ifindex = index_;
    to.sll_protocol = htons(ETH_P_ARP);
    to.sll_halen = ETH_ALEN;
    std::memset(to.sll_addr, 0xff, ETH_ALEN);
    for (const bool reply_form : {false, true}) {
      const std::string frame = BuildGratuitousArp(ip_, mac_, reply_form);
      if (sendto(packets_.get(), frame.data(), frame.size(), 0, reinterpret_cast<sockaddr*>(&to),
                 sizeof to) < 0) {
        LOG(WARNING) << "gratuitous ARP for " << IpText(ip_) << " on " << interface_ << ": "
                     << std::strerror(errno);
      }
    }
  }

  void AnnounceLater(int repeats, std::chrono::milliseconds pause, uint64_t series) {
    if (repeats <= 0) return;
    repeat_.expires_after(pause);
    repeat_.async_wait([this, repeats, pause, series](boost::system::error_code error) {
      if (error || series != series_) return;
      SendAnnouncement();
      AnnounceLater(repeats - 1, pause * 2, series);
    });
  }

  absl::Status ReadCarrier() {
    ifreq request{};
    std::strncpy(request.ifr_name, interface_.c_str(), IFNAMSIZ - 1);
    if (ioctl(packets_.get(), SIOCGIFFLAGS, &request) != 0) {
      return ErrnoStatus(errno, absl::StrCat("cannot read the state of ", interface_));
    }
    // ifr_flags has no room for IFF_LOWER_UP; IFF_RUNNING follows it, and needs IFF_UP as well.
    const auto flags = static_cast<unsigned short>(request.ifr_flags);
    carrier_ = (flags & IFF_UP) != 0 && (flags & IFF_RUNNING) != 0;
    return absl::OkStatus();
  }

  void AwaitLinkEvents() {
    link_events_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                            [this](boost::system::error_code error) {
                              if (error) return;
                              const bool before = carrier_;
                              DrainLinkEvents();
                              const bool now = carrier_;
                              AwaitLinkEvents();
                              if (now != before && changed_) changed_(now);
                            });
  }

  void DrainLinkEvents() {
    std::vector<char> buffer(MNL_SOCKET_BUFFER_SIZE);
    while (true) {
      const ssize_t size = mnl_socket_recvfrom(monitor_.get(), buffer.data(), buffer.size());
      if (size < 0) {
        if (errno == EINTR) continue;
        // ENOBUFS: messages were lost; the interface itself knows best.
        if (errno == ENOBUFS && !ReadCarrier().ok()) carrier_ = false;
        if (errno == ENOBUFS) continue;
        return;
      }
      mnl_cb_run(buffer.data(), static_cast<size_t>(size), 0, 0, &RtnetlinkAddress::OnLink, this);
    }
  }

  static int OnLink(const nlmsghdr* header, void* data) {
    auto* self = static_cast<RtnetlinkAddress*>(data);
    if (header->nlmsg_type != RTM_NEWLINK && header->nlmsg_type != RTM_DELLINK) return MNL_CB_OK;
    const auto* link = static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(header));
    if (link->ifi_index != self->index_ || link->ifi_family != AF_UNSPEC) return MNL_CB_OK;
    constexpr unsigned kLowerUp = 1u << 16;   // IFF_LOWER_UP, whose header clashes with net/if.h
    self->carrier_ = header->nlmsg_type == RTM_NEWLINK && (link->ifi_flags & IFF_UP) != 0 &&
                     (link->ifi_flags & kLowerUp) != 0;
    return MNL_CB_OK;
  }

  const std::string interface_;
  const int index_;
  const uint32_t ip_;
  MacAddress mac_{};
  UniqueFd packets_;
  MnlSocket requests_;
  MnlSocket monitor_;
  boost::asio::steady_timer repeat_;
  boost::asio::posix::stream_descriptor link_events_;
  std::function<void(bool)> changed_;
  bool carrier_ = false;
  uint32_t sequence_ = 0;
  uint64_t series_ = 0;   // of announcements; an older one ends when a new one begins
};

}  // namespace

absl::StatusOr<std::unique_ptr<ServiceAddress>> ServiceAddress::Create(boost::asio::io_context& loop,
                                                                       const std::string& interface,
                                                                       uint32_t ip) {
  const unsigned index = if_nametoindex(interface.c_str());
  if (index == 0) {
    return absl::NotFoundError(absl::StrCat("there is no network interface \"", interface, "\""));
  }
  UniqueFd probe(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strncpy(request.ifr_name, interface.c_str(), IFNAMSIZ - 1);
  if (!probe || ioctl(probe.get(), SIOCGIFHWADDR, &request) != 0) {
    return ErrnoStatus(errno, absl::StrCat("cannot read the address of ", interface));
  }
  MacAddress mac;
  std::memcpy(mac.data(), request.ifr_hwaddr.sa_data, mac.size());
  auto address = std::make_unique<RtnetlinkAddress>(loop, interface, static_cast<int>(index), ip);
  if (absl::Status opened = address->Open(mac); !opened.ok()) return opened;
  return address;
}

}  // namespace understudy::tcpshim
