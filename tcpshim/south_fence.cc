#include "tcpshim/south_fence.h"

#include <glog/logging.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"

namespace understudy::tcpshim {
namespace {

// Somebody who displaces the programs as often as this does it on purpose, and will again.
constexpr size_t kMendedTooOften = 8;
constexpr std::chrono::seconds kOften{20};

std::string NameOf(int interface_index) {
  std::array<char, IF_NAMESIZE> name = {};
  if (if_indextoname(static_cast<unsigned>(interface_index), name.data()) != nullptr) return name.data();
  return absl::StrCat("interface ", interface_index);
}

}  // namespace

absl::StatusOr<std::unique_ptr<SouthFence>> SouthFence::Raise(int interface_index,
                                                              const SocketAddress& service,
                                                              const Programs& programs, bool tcx,
                                                              std::unique_ptr<SouthProbe> probe,
                                                              south_control* control) {
  std::unique_ptr<SouthFence> fence(
      new SouthFence(interface_index, service, programs, tcx, std::move(probe), control));
  fence->WatchChanges();
  auto home = SouthAttachment::Attach(interface_index, programs.home, tcx);
  if (!home.ok()) return home.status();
  fence->home_ = *std::move(home);
  if (absl::Status met = fence->Check(); !met.ok()) return met;
  return fence;
}

SouthFence::~SouthFence() = default;

absl::Status SouthFence::MoveTo(int interface_index) {
  others_.erase(interface_index);  // it may have been taken for one of these
  auto home = SouthAttachment::Attach(interface_index, programs_.home, tcx_);
  if (!home.ok()) return home.status();
  home_->Abandon();
  home_ = *std::move(home);
  interface_index_ = interface_index;
  links_changed_ = true;
  return Check();
}

void SouthFence::Abandon() {
  if (home_ != nullptr) home_->Abandon();
  for (auto& [index, other] : others_) {
    if (other != nullptr) other->Abandon();
  }
}

// --- Changes -------------------------------------------------------------------------------------

void SouthFence::WatchChanges() {
  UniqueFd fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
  sockaddr_nl address = {};
  address.nl_family = AF_NETLINK;
  address.nl_groups = RTMGRP_LINK | RTMGRP_TC;
  if (!fd || bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
    LOG(WARNING) << "south wrapper: no reports of changes to interfaces, filters are looked at less often: "
                 << strerror(errno);
    return;
  }
  changes_ = std::move(fd);
}

void SouthFence::TakeChanges() {
  if (!changes_) {
    links_changed_ = true;
    return;
  }
  alignas(nlmsghdr) std::array<char, 32768> buffer;
  for (;;) {
    const ssize_t size = recv(changes_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (size < 0 && errno == EINTR) continue;
    if (size < 0 && errno == ENOBUFS) {  // some were lost
      links_changed_ = true;
      continue;
    }
    if (size <= 0) return;
    int left = static_cast<int>(size);
    for (auto* message = reinterpret_cast<const nlmsghdr*>(buffer.data()); NLMSG_OK(message, left);
         message = NLMSG_NEXT(message, left)) {
      if (message->nlmsg_type == RTM_NEWLINK || message->nlmsg_type == RTM_DELLINK) links_changed_ = true;
    }
  }
}

// --- The other interfaces ------------------------------------------------------------------------

void SouthFence::FenceOthers() {
  struct if_nameindex* all = if_nameindex();
  if (all == nullptr) return;  // links_changed_ stays: again at the next look
  links_changed_ = false;
  UniqueFd probe(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  std::set<int> there;
  for (const struct if_nameindex* one = all; one->if_index != 0; ++one) {
    const int index = static_cast<int>(one->if_index);
    ifreq request = {};
    strncpy(request.ifr_name, one->if_name, IFNAMSIZ - 1);
    if (index == interface_index_ || !probe || ioctl(probe.get(), SIOCGIFHWADDR, &request) != 0) continue;
    if (request.ifr_hwaddr.sa_family == ARPHRD_LOOPBACK) continue;
    there.insert(index);
    if (others_.contains(index)) continue;
    const bool ethernet = request.ifr_hwaddr.sa_family == ARPHRD_ETHER;
    auto attached = SouthAttachment::Attach(index, ethernet ? programs_.ethernet : programs_.raw, tcx_);
    LOG_IF(WARNING, !attached.ok() && !absl::IsNotFound(attached.status()))
        << "south wrapper: what comes and goes by " << one->if_name
        << " is not filtered, and must not concern the service address: " << attached.status().message();
    others_[index] = attached.ok() ? *std::move(attached) : nullptr;
  }
  if_freenameindex(all);
  for (auto it = others_.begin(); it != others_.end();) {
    if (there.contains(it->first)) {
      ++it;
      continue;
    }
    if (it->second != nullptr) it->second->Abandon();  // gone, and what was there with it
    it = others_.erase(it);
  }
}

// --- The watch -----------------------------------------------------------------------------------

absl::Status SouthFence::Check() {
  TakeChanges();
  if (links_changed_) FenceOthers();
  if (auto mac = SouthProbe::MacOf(interface_index_)) memcpy(control_->mac, mac->data(), mac->size());
  const SouthProbe::Result result = probe_->Send(interface_index_, service_, *control_);
  if (!result.sent || (!result.egress_missed && !result.ingress_missed)) return absl::OkStatus();
  return Mend();
}

absl::Status SouthFence::Mend() {
  const std::string where = NameOf(interface_index_);
  const std::string there = home_->Describe();
  LOG(ERROR) << "south wrapper: packets on " << where
             << " do not meet its programs: they were taken off, or others are in front of them. There: "
             << there;
  const auto now = std::chrono::steady_clock::now();
  while (!lately_.empty() && now - lately_.front() > kOften) lately_.pop_front();
  lately_.push_back(now);
  if (lately_.size() > kMendedTooOften) {
    return absl::FailedPreconditionError(absl::StrCat("packets on ", where,
                                                      " do not meet the south wrapper's programs: "
                                                      "they are displaced again and again. There: ",
                                                      there));
  }
  if (absl::Status moved = home_->MoveToFront(); !moved.ok()) {
    if (absl::IsNotFound(moved)) return absl::OkStatus();  // without the interface there are no packets
    return absl::FailedPreconditionError(absl::StrCat("packets on ", where,
                                                      " do not meet the south wrapper's programs, "
                                                      "and these cannot be put back: ",
                                                      moved.message(), ". There: ", there));
  }
  const SouthProbe::Result again = probe_->Send(interface_index_, service_, *control_);
  if (again.sent && again.egress_missed) {
    return absl::FailedPreconditionError(absl::StrCat("packets on ", where,
                                                      " do not meet the south wrapper's programs, "
                                                      "which are in their place. There: ",
                                                      home_->Describe()));
  }
  ++mended_;
  LOG(WARNING) << "south wrapper: its programs are ahead of all others on " << where << " again";
  return absl::OkStatus();
}

}  // namespace understudy::tcpshim
