#include "tcpshim/service_address.h"

#include <arpa/inet.h>
#include <libmnl/libmnl.h>
#include <linux/if_packet.h>
#include <linux/rtnetlink.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <initializer_list>
#include <optional>
#include <utility>

#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "tcpshim/arp_prober.h"
#include "tcpshim/unique_fd.h"

namespace understudy::tcpshim {
namespace {

constexpr std::chrono::milliseconds kFirstRepeat{50};
// A description of an interface is larger than a page when it has much to tell.
constexpr size_t kMessageSize = 32 << 10;

absl::Status ErrnoStatus(int error, const std::string& what) {
  const std::string text = absl::StrCat(what, ": ", std::strerror(error));
  if (error == EPERM || error == EACCES) {
    return absl::PermissionDeniedError(
        absl::StrCat(text, " (run as root, or grant CAP_NET_ADMIN and CAP_NET_RAW)"));
  }
  if (error == ENODEV) return absl::NotFoundError(text);
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

// What rtnetlink says of an interface.
struct Link {
  int index = 0;
  bool carrier = false;
  std::optional<MacAddress> mac;   // of Ethernet only
};

int ReadAttribute(const nlattr* attribute, void* data) {
  auto* link = static_cast<Link*>(data);
  if (mnl_attr_get_type(attribute) == IFLA_ADDRESS &&
      mnl_attr_get_payload_len(attribute) == sizeof(MacAddress)) {
    std::memcpy(link->mac.emplace().data(), mnl_attr_get_payload(attribute), sizeof(MacAddress));
  }
  return MNL_CB_OK;
}

Link ReadLink(const nlmsghdr* header) {
  const auto* info = static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(header));
  Link link;
  link.index = info->ifi_index;
  constexpr unsigned kLowerUp = 1u << 16;   // IFF_LOWER_UP, whose header clashes with net/if.h
  link.carrier = header->nlmsg_type == RTM_NEWLINK && (info->ifi_flags & IFF_UP) != 0 &&
                 (info->ifi_flags & kLowerUp) != 0;
  if (info->ifi_type == ARPHRD_ETHER) {
    mnl_attr_parse(header, sizeof(ifinfomsg), ReadAttribute, &link);
  }
  return link;
}

// A socket for requests to the kernel, which answers each at once.
class Rtnetlink {
 public:
  absl::Status Open() {
    socket_.reset(mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC));
    if (socket_ == nullptr || mnl_socket_bind(socket_.get(), 0, MNL_SOCKET_AUTOPID) < 0) {
      return ErrnoStatus(errno, "cannot open rtnetlink");
    }
    return absl::OkStatus();
  }

  // 0 or an errno. `on_answer` sees what comes besides the acknowledgement.
  int Request(nlmsghdr* header, mnl_cb_t on_answer = nullptr, void* data = nullptr) {
    header->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
    header->nlmsg_seq = ++sequence_;
    if (mnl_socket_sendto(socket_.get(), header, header->nlmsg_len) < 0) return errno;
    std::array<char, kMessageSize> answer;
    const unsigned port = mnl_socket_get_portid(socket_.get());
    while (true) {
      const ssize_t size = mnl_socket_recvfrom(socket_.get(), answer.data(), answer.size());
      if (size < 0 && errno == EINTR) continue;
      if (size < 0) return errno;
      const int result = mnl_cb_run(answer.data(), static_cast<size_t>(size), sequence_, port,
                                    on_answer, data);
      if (result < 0) return errno;
      if (result == MNL_CB_STOP) return 0;
    }
  }

  // `name` or, when it is empty, `index`. 0 or an errno; ENODEV: no such interface.
  int GetLink(const std::string& name, int index, Link& link) {
    std::array<char, 256> buffer{};
    nlmsghdr* header = mnl_nlmsg_put_header(buffer.data());
    header->nlmsg_type = RTM_GETLINK;
    auto* info = static_cast<ifinfomsg*>(mnl_nlmsg_put_extra_header(header, sizeof(ifinfomsg)));
    info->ifi_family = AF_UNSPEC;
    info->ifi_index = index;
    if (!name.empty()) mnl_attr_put_strz(header, IFLA_IFNAME, name.c_str());
    return Request(
        header,
        [](const nlmsghdr* answer, void* data) {
          if (answer->nlmsg_type == RTM_NEWLINK) *static_cast<Link*>(data) = ReadLink(answer);
          return MNL_CB_OK;
        },
        &link);
  }

 private:
  MnlSocket socket_;
  uint32_t sequence_ = 0;
};

class RtnetlinkAddress final : public ServiceAddress {
 public:
  RtnetlinkAddress(boost::asio::io_context& loop, std::string interface, uint32_t ip)
      : loop_(loop), interface_(std::move(interface)), ip_(ip), repeat_(loop), link_events_(loop) {}
  ~RtnetlinkAddress() override {
    if (link_events_.is_open()) link_events_.release();   // the mnl socket owns it
  }

  absl::Status Open() {
    if (absl::Status opened = requests_.Open(); !opened.ok()) return opened;
    // Before the first look at the interface, so that no change is missed in between.
    monitor_.reset(mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (monitor_ == nullptr ||
        mnl_socket_bind(monitor_.get(), RTMGRP_LINK, MNL_SOCKET_AUTOPID) < 0) {
      return ErrnoStatus(errno, absl::StrCat("cannot watch interface ", interface_));
    }
    // Longer names are none; the kernel would call them out of range.
    const int error = interface_.empty() || interface_.size() >= IFNAMSIZ
                          ? ENODEV
                          : requests_.GetLink(interface_, 0, link_);
    if (error == ENODEV) {
      return absl::NotFoundError(
          absl::StrCat("there is no network interface \"", interface_, "\""));
    }
    if (error != 0) return ErrnoStatus(error, absl::StrCat("cannot look up interface ", interface_));

    // Found out now rather than at the first takeover.
    packets_.reset(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!packets_) {
      return ErrnoStatus(errno, absl::StrCat("cannot announce ", IpText(ip_), " on ", interface_));
    }
    auto prober = ArpProber::Open(loop_, link_.index, ip_);
    if (!prober.ok()) return prober.status();
    prober_ = *std::move(prober);
    const UniqueFd probe(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int on = 1;   // allowed to those who may change addresses here, and changes nothing
    if (!probe || ::setsockopt(probe.get(), IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)) != 0) {
      return ErrnoStatus(errno, absl::StrCat("cannot own ", IpText(ip_), " on ", interface_));
    }

    boost::system::error_code assigned;
    link_events_.assign(mnl_socket_get_fd(monitor_.get()), assigned);
    if (assigned) {
      return absl::InternalError(
          absl::StrCat("cannot watch interface ", interface_, ": ", assigned.message()));
    }
    AwaitLinkEvents();
    return absl::OkStatus();
  }

  absl::Status Add() override {
    return Change(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, {}, "add");
  }

  absl::Status Remove() override {
    repeat_.cancel();
    ++series_;
    return Change(RTM_DELADDR, 0, {EADDRNOTAVAIL, ENODEV}, "remove");
  }

  void Announce(int repeats) override {
    repeat_.cancel();
    ++series_;
    SendAnnouncement();
    AnnounceLater(repeats, kFirstRepeat, series_);
  }

  void Probe(std::chrono::milliseconds wait, Probed done) override {
    if (!link_.mac) {
      return boost::asio::post(loop_, [done = std::move(done), alive = std::weak_ptr<char>(alive_)] {
        if (!alive.expired()) done(std::nullopt);
      });
    }
    prober_->Probe(*link_.mac, wait, std::move(done));
  }

  bool carrier() const override {
    // Asked anew: the loop may be behind with the events, and who decides by this wants to know now.
    Link now;
    return requests_.GetLink("", link_.index, now) == 0 && now.carrier;
  }
  void WatchCarrier(std::function<void(bool)> changed) override { changed_ = std::move(changed); }
  int interface_index() const override { return link_.index; }

 private:
  // A request that changes the address; the errors in `fine` mean that there was nothing to change.
  absl::Status Change(uint16_t type, uint16_t flags, std::initializer_list<int> fine,
                      const char* verb) {
    std::array<char, 256> buffer{};
    nlmsghdr* header = mnl_nlmsg_put_header(buffer.data());
    header->nlmsg_type = type;
    header->nlmsg_flags = flags;
    auto* address = static_cast<ifaddrmsg*>(mnl_nlmsg_put_extra_header(header, sizeof(ifaddrmsg)));
    address->ifa_family = AF_INET;
    address->ifa_prefixlen = 32;
    address->ifa_scope = RT_SCOPE_UNIVERSE;
    address->ifa_index = static_cast<uint32_t>(link_.index);
    mnl_attr_put_u32(header, IFA_LOCAL, htonl(ip_));
    mnl_attr_put_u32(header, IFA_ADDRESS, htonl(ip_));
    const int error = requests_.Request(header);
    if (error == 0) return absl::OkStatus();
    for (const int harmless : fine) {
      if (error == harmless) return absl::OkStatus();
    }
    return ErrnoStatus(error, absl::StrCat("cannot ", verb, " the service address ", IpText(ip_),
                                           ", interface ", interface_));
  }

  void SendAnnouncement() {
    if (!link_.mac) return;   // no Ethernet: nobody there keeps addresses
    sockaddr_ll to{};
    to.sll_family = AF_PACKET;
    to.sll_ifindex = link_.index;
    to.sll_protocol = htons(ETH_P_ARP);
    to.sll_halen = ETH_ALEN;
    std::memset(to.sll_addr, 0xff, ETH_ALEN);
    for (const bool reply_form : {false, true}) {
      const std::string frame = BuildGratuitousArp(ip_, *link_.mac, reply_form);
      if (::sendto(packets_.get(), frame.data(), frame.size(), 0, reinterpret_cast<sockaddr*>(&to),
                   sizeof to) < 0) {
        LOG(WARNING) << "gratuitous ARP for " << IpText(ip_) << " on " << interface_ << ": "
                     << std::strerror(errno);
      }
    }
  }

  void AnnounceLater(int repeats, std::chrono::milliseconds pause, uint64_t series) {
    if (repeats <= 0) return;
    repeat_.expires_after(pause);
    repeat_.async_wait([this, alive = std::weak_ptr<char>(alive_), repeats, pause,
                        series](boost::system::error_code error) {
      if (alive.expired() || error || series != series_) return;
      SendAnnouncement();
      AnnounceLater(repeats - 1, pause * 2, series);
    });
  }

  void AwaitLinkEvents() {
    link_events_.async_wait(
        boost::asio::posix::stream_descriptor::wait_read,
        [this, alive = std::weak_ptr<char>(alive_)](boost::system::error_code error) {
          if (alive.expired() || error == boost::asio::error::operation_aborted) return;
          const bool before = link_.carrier;
          DrainLinkEvents();
          const bool now = link_.carrier;
          AwaitLinkEvents();
          if (now != before && changed_) changed_(now);
        });
  }

  void DrainLinkEvents() {
    std::array<char, kMessageSize> buffer;
    bool lost = false;
    while (true) {
      const ssize_t size = mnl_socket_recvfrom(monitor_.get(), buffer.data(), buffer.size());
      if (size >= 0) {
        mnl_cb_run(buffer.data(), static_cast<size_t>(size), 0, 0, &RtnetlinkAddress::OnLink, this);
      } else if (errno == ENOBUFS || errno == ENOSPC) {
        lost = true;   // or cut off
      } else if (errno != EINTR) {
        break;
      }
    }
    if (!lost) return;
    // The interface itself knows best. Only now: what is still queued is older than what was lost.
    Link now;
    now.index = link_.index;
    if (requests_.GetLink("", link_.index, now) != 0) now.carrier = false;
    link_ = now;
  }

  static int OnLink(const nlmsghdr* header, void* data) {
    auto* self = static_cast<RtnetlinkAddress*>(data);
    if (header->nlmsg_type != RTM_NEWLINK && header->nlmsg_type != RTM_DELLINK) return MNL_CB_OK;
    // Other families tell of a port's life in its bridge.
    const auto* info = static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(header));
    if (info->ifi_index != self->link_.index || info->ifi_family != AF_UNSPEC) return MNL_CB_OK;
    self->link_ = ReadLink(header);
    return MNL_CB_OK;
  }

  boost::asio::io_context& loop_;
  const std::string interface_;
  const uint32_t ip_;
  Link link_;                    // as of the last event
  mutable Rtnetlink requests_;
  MnlSocket monitor_;
  UniqueFd packets_;
  std::unique_ptr<ArpProber> prober_;
  boost::asio::steady_timer repeat_;
  boost::asio::posix::stream_descriptor link_events_;
  std::function<void(bool)> changed_;
  uint64_t series_ = 0;          // of announcements; an older one ends when a new one begins
  // Gone with this object: handlers still queued in the loop then do nothing.
  const std::shared_ptr<char> alive_ = std::make_shared<char>();
};

}  // namespace

absl::StatusOr<std::unique_ptr<ServiceAddress>> ServiceAddress::Create(
    boost::asio::io_context& loop, const std::string& interface, uint32_t ip) {
  auto address = std::make_unique<RtnetlinkAddress>(loop, interface, ip);
  if (absl::Status opened = address->Open(); !opened.ok()) return opened;
  return address;
}

}  // namespace understudy::tcpshim
