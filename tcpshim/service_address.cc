#include "tcpshim/service_address.h"

#include <ifaddrs.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include <boost/asio/error.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "tcpshim/arp_announcer.h"
#include "tcpshim/arp_prober.h"
#include "tcpshim/rtnetlink.h"
#include "tcpshim/unique_fd.h"

namespace understudy::tcpshim {
namespace {

using std::chrono::milliseconds;

// Between two times that the address is put back: whoever takes it away in a loop shall not have all of this
// one.
constexpr milliseconds kPutBackPause{10};
constexpr milliseconds kRetryPause{200};
constexpr milliseconds kReplacementPause{1000};

// One that stays is no address that moves: the host would lose its own with the service.
absl::Status RefuseOwnAddress(uint32_t ip) {
  ifaddrs* all = nullptr;
  if (::getifaddrs(&all) != 0) return NetlinkStatus(errno, "cannot list this host's addresses");
  const absl::Cleanup free_all = [all] { ::freeifaddrs(all); };
  for (const ifaddrs* one = all; one != nullptr; one = one->ifa_next) {
    if (one->ifa_addr == nullptr || one->ifa_addr->sa_family != AF_INET || one->ifa_netmask == nullptr)
      continue;
    const uint32_t here = ntohl(reinterpret_cast<const sockaddr_in*>(one->ifa_addr)->sin_addr.s_addr);
    const uint32_t mask = ntohl(reinterpret_cast<const sockaddr_in*>(one->ifa_netmask)->sin_addr.s_addr);
    // /32 is what a node that died has left.
    if (here != ip || mask == 0xffffffff) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "--service: ", IpText(ip), " is this host's own address (", IpText(ip), "/", std::popcount(mask),
        " on ", one->ifa_name, "); the service needs one of its own that moves"));
  }
  return absl::OkStatus();
}

class RtnetlinkAddress final : public ServiceAddress {
 public:
  RtnetlinkAddress(boost::asio::io_context& loop, const Options& options)
      : loop_(loop),
        interface_(options.interface),
        ip_(options.ip),
        announcer_(loop, options.ip, options.announce_every),
        events_(loop),
        put_back_later_(loop),
        replace_later_(loop) {}
  ~RtnetlinkAddress() override {
    if (events_.is_open()) events_.release();  // the mnl socket owns it
  }

  absl::Status Open() {
    if (absl::Status opened = requests_.Open(); !opened.ok()) return opened;
    // Before the first look at the interface, so that no change is missed in between.
    monitor_.reset(mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (monitor_ == nullptr ||
        mnl_socket_bind(monitor_.get(), RTMGRP_LINK | RTMGRP_IPV4_IFADDR, MNL_SOCKET_AUTOPID) < 0) {
      return NetlinkStatus(errno, absl::StrCat("cannot watch interface ", interface_));
    }
    const int error = interface_.empty() ? ENODEV : requests_.GetLink(interface_, 0, link_);
    if (error == ENODEV) {
      return absl::NotFoundError(absl::StrCat("there is no network interface \"", interface_, "\""));
    }
    if (error != 0) return NetlinkStatus(error, absl::StrCat("cannot look up interface ", interface_));
    if (absl::Status refused = RefuseOwnAddress(ip_); !refused.ok()) return refused;

    // Found out now rather than at the first takeover.
    if (absl::Status opened = announcer_.Open(); !opened.ok()) return opened;
    if (absl::Status opened = OpenProber(); !opened.ok()) return opened;
    const UniqueFd probe(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const int on = 1;  // allowed to those who may change addresses here, and changes nothing
    if (!probe || ::setsockopt(probe.get(), IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)) != 0) {
      return NetlinkStatus(errno, absl::StrCat("cannot own ", IpText(ip_), " on ", interface_));
    }

    boost::system::error_code assigned;
    events_.assign(mnl_socket_get_fd(monitor_.get()), assigned);
    if (assigned) {
      return absl::InternalError(
          absl::StrCat("cannot watch interface ", interface_, ": ", assigned.message()));
    }
    able_ = Able();
    AwaitEvents();
    return absl::OkStatus();
  }

  absl::Status Add() override {
    const int error = requests_.ChangeAddress(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, link_.index, ip_);
    if (error != 0) return ChangeFailed(error, "add");
    wanted_ = true;
    missing_ = refused_ = false;
    return absl::OkStatus();
  }

  absl::Status Remove() override {
    wanted_ = missing_ = refused_ = false;
    put_back_later_.cancel();
    announcer_.Stop();
    const int error = requests_.ChangeAddress(RTM_DELADDR, 0, link_.index, ip_);
    if (error == 0 || error == EADDRNOTAVAIL || error == ENODEV) return absl::OkStatus();
    return ChangeFailed(error, "remove");
  }

  absl::StatusOr<Route> RouteTo(uint32_t ip) override {
    NetRoute route;
    const int error = requests_.GetRoute(ip, route);
    if (error != 0)
      return absl::NotFoundError(absl::StrCat("no route to ", IpText(ip), ": ", std::strerror(error)));
    return Route{route.local, route.interface == link_.index, route.next_hop};
  }

  absl::Status Resolve(uint32_t next_hop) override {
    if (link_.index == 0) return absl::NotFoundError(absl::StrCat("there is no interface ", interface_));
    const int error = requests_.UseNeighbour(link_.index, next_hop);
    if (error == 0) return absl::OkStatus();
    return NetlinkStatus(error, absl::StrCat("cannot look for ", IpText(next_hop), " on ", interface_));
  }

  uint64_t times_put_back() const override { return times_put_back_; }
  void Announce() override { announcer_.Start(link_); }

  void Probe(milliseconds wait, Probed done) override {
    if (!CanProbe()) return Answer<std::optional<MacAddress>>(std::move(done));
    prober_->Probe(*link_.mac, wait, std::move(done));
  }

  void ProbeAll(milliseconds wait, ProbedAll done) override {
    if (!CanProbe()) return Answer<std::vector<MacAddress>>(std::move(done));
    prober_->ProbeAll(*link_.mac, wait, std::move(done));
  }

  bool carrier() const override {
    // Asked anew: the loop may be behind with the events, and who decides by this wants to know now.
    NetLink now;
    return Usable() && requests_.GetLink("", link_.index, now) == 0 && now.carrier;
  }
  void WatchCarrier(std::function<void(bool)> changed) override { changed_ = std::move(changed); }
  void WatchReplacement(std::function<absl::Status(int)> replaced) override {
    replaced_ = std::move(replaced);
  }
  uint32_t mtu() const override { return link_.mtu; }
  int interface_index() const override { return link_.index; }

 private:
  bool CanProbe() const { return prober_ != nullptr && link_.index != 0 && link_.mac.has_value(); }

  // Of who cannot be asked: nobody, where there is no Ethernet.
  template <typename Nobody>
  void Answer(std::function<void(absl::StatusOr<Nobody>)> done) {
    const bool other_wire = link_.index != 0 && !link_.mac.has_value();
    boost::asio::post(loop_, [this, other_wire, done = std::move(done), alive = std::weak_ptr<char>(alive_)] {
      if (alive.expired()) return;
      if (other_wire) return done(Nobody{});
      done(absl::UnavailableError(absl::StrCat("there is no interface ", interface_)));
    });
  }

  absl::Status ChangeFailed(int error, const char* verb) const {
    return NetlinkStatus(error, absl::StrCat("cannot ", verb, " the service address ", IpText(ip_),
                                             ", interface ", interface_));
  }

  absl::Status OpenProber() {
    auto prober = ArpProber::Open(loop_, link_.index, ip_);
    if (!prober.ok()) return prober.status();
    prober_ = *std::move(prober);
    return absl::OkStatus();
  }

  // All but the carrier.
  bool Usable() const { return link_.index != 0 && !replacing_ && !refused_; }
  bool Able() const { return Usable() && link_.carrier; }

  void TellChanges() {
    const bool able = Able();
    if (able != std::exchange(able_, able) && changed_) changed_(able);
  }

  // --- Events ---

  void AwaitEvents() {
    events_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                       [this, alive = std::weak_ptr<char>(alive_)](boost::system::error_code error) {
                         if (alive.expired() || error == boost::asio::error::operation_aborted) return;
                         AwaitEvents();
                         DrainEvents();
                         Settle();
                       });
  }

  void DrainEvents() {
    std::array<char, kNetlinkMessageSize> buffer;
    bool lost = false;
    while (true) {
      const ssize_t size = mnl_socket_recvfrom(monitor_.get(), buffer.data(), buffer.size());
      if (size >= 0) {
        mnl_cb_run(buffer.data(), static_cast<size_t>(size), 0, 0, &RtnetlinkAddress::OnMessage, this);
      } else if (errno == ENOBUFS || errno == ENOSPC) {
        lost = true;  // or cut off
      } else if (errno != EINTR) {
        break;
      }
    }
    if (!lost) return;
    // The interface itself knows best. Only now: what is still queued is older than what was lost.
    NetLink now;
    if (requests_.GetLink("", link_.index, now) == 0) {
      link_ = now;
    } else {
      link_ = {};
      if (requests_.GetLink(interface_, 0, now) == 0) Replaced(now);
    }
    missing_ = wanted_;  // perhaps; that is found out by adding it
  }

  static int OnMessage(const nlmsghdr* header, void* data) {
    auto* self = static_cast<RtnetlinkAddress*>(data);
    switch (header->nlmsg_type) {
      case RTM_NEWLINK:
      case RTM_DELLINK:
        // Other families tell of a port's life in its bridge.
        if (static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(header))->ifi_family == AF_UNSPEC) {
          self->OnLink(ReadLink(header), header->nlmsg_type == RTM_DELLINK);
        }
        break;
      case RTM_DELADDR:
        if (self->IsOurs(header) && self->wanted_) self->missing_ = true;
        break;
      default: break;
    }
    return MNL_CB_OK;
  }

  bool IsOurs(const nlmsghdr* header) const {
    const auto* address = static_cast<const ifaddrmsg*>(mnl_nlmsg_get_payload(header));
    if (address->ifa_family != AF_INET || address->ifa_prefixlen != 32 ||
        static_cast<int>(address->ifa_index) != link_.index) {
      return false;
    }
    uint32_t local = 0;
    mnl_attr_parse(
        header, sizeof(ifaddrmsg),
        [](const nlattr* attribute, void* out) {
          if (mnl_attr_get_type(attribute) == IFA_LOCAL && mnl_attr_validate(attribute, MNL_TYPE_U32) == 0) {
            *static_cast<uint32_t*>(out) = ntohl(mnl_attr_get_u32(attribute));
          }
          return MNL_CB_OK;
        },
        &local);
    return local == ip_;
  }

  void OnLink(const NetLink& link, bool gone) {
    if (link.index == link_.index && gone) {
      LOG(WARNING) << "interface " << interface_ << " is gone";
      link_ = {};
      prober_.reset();
      if (wanted_) missing_ = true;
    } else if (link.index == link_.index) {
      if (link.name != link_.name) {
        LOG(WARNING) << "interface " << link_.name << " is called " << link.name << " now";
      }
      link_ = link;
      announcer_.Update(link_);  // of a loss, too, that is over before the loop comes to ask
    } else if (link_.index == 0 && !gone && link.name == interface_) {
      Replaced(link);
    }
  }

  void Replaced(const NetLink& link) {
    LOG(WARNING) << "interface " << interface_ << " has been made anew";
    link_ = link;
    replacing_ = true;
    missing_ = wanted_;
  }

  // After any change: does what is to be done, and tells.
  void Settle() {
    if (replacing_) Replace();
    if (missing_ && link_.index != 0 && !replacing_) PutBack();
    if (!replacing_) announcer_.Update(link_);
    TellChanges();
  }

  void Replace() {
    absl::Status done = OpenProber();
    if (done.ok() && replaced_) done = replaced_(link_.index);
    if (done.ok()) {
      replacing_ = false;
      return;
    }
    LOG_EVERY_T(ERROR, 10) << "cannot use the new interface " << interface_ << ": " << done;
    replace_later_.expires_after(kReplacementPause);
    replace_later_.async_wait([this, alive = std::weak_ptr<char>(alive_)](boost::system::error_code error) {
      if (!alive.expired() && !error) Settle();
    });
  }

  void PutBack() {
    const auto now = std::chrono::steady_clock::now();
    if (now < next_put_back_) return PutBackLater(next_put_back_);
    next_put_back_ = now + kPutBackPause;
    // Only what is not there: events may be older than our own latest change.
    const int error = requests_.ChangeAddress(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, link_.index, ip_);
    if (error != 0 && error != EEXIST) {
      refused_ = true;
      LOG_EVERY_T(ERROR, 10) << ChangeFailed(error, "put back");
      return PutBackLater(now + kRetryPause);
    }
    missing_ = refused_ = false;
    if (error == EEXIST) return;
    ++times_put_back_;
    LOG_EVERY_T(WARNING, 1) << "the service address " << IpText(ip_) << " had been taken off " << interface_
                            << ", and was put back";
    if (announcer_.started()) announcer_.Start(link_);
  }

  void PutBackLater(std::chrono::steady_clock::time_point when) {
    put_back_later_.expires_at(when);
    put_back_later_.async_wait([this, alive = std::weak_ptr<char>(alive_)](boost::system::error_code error) {
      if (!alive.expired() && !error) Settle();
    });
  }

  boost::asio::io_context& loop_;
  const std::string interface_;
  const uint32_t ip_;
  NetLink link_;            // as of the last event
  bool wanted_ = false;     // the address is to be on the interface
  bool missing_ = false;    // and is not
  bool refused_ = false;    // nor can it be put back
  bool replacing_ = false;  // the interface is new, and not ready for the address yet
  bool able_ = false;       // what was told last
  uint64_t times_put_back_ = 0;
  mutable Rtnetlink requests_;
  MnlSocket monitor_;
  ArpAnnouncer announcer_;
  std::unique_ptr<ArpProber> prober_;
  boost::asio::posix::stream_descriptor events_;
  boost::asio::steady_timer put_back_later_, replace_later_;
  std::chrono::steady_clock::time_point next_put_back_;
  std::function<void(bool)> changed_;
  std::function<absl::Status(int)> replaced_;
  // Gone with this object: handlers still queued in the loop then do nothing.
  const std::shared_ptr<char> alive_ = std::make_shared<char>();
};

}  // namespace

absl::StatusOr<std::unique_ptr<ServiceAddress>> ServiceAddress::Create(boost::asio::io_context& loop,
                                                                       const Options& options) {
  auto address = std::make_unique<RtnetlinkAddress>(loop, options);
  if (absl::Status opened = address->Open(); !opened.ok()) return opened;
  return address;
}

}  // namespace understudy::tcpshim
