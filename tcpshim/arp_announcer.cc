#include "tcpshim/arp_announcer.h"

#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace understudy::tcpshim {

ArpAnnouncer::ArpAnnouncer(boost::asio::io_context& loop, uint32_t ip, std::chrono::milliseconds every)
    : ip_(ip), every_(every), timer_(loop) {}

absl::Status ArpAnnouncer::Open() {
  packets_.reset(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!packets_) return NetlinkStatus(errno, absl::StrCat("cannot announce ", IpText(ip_)));
  return absl::OkStatus();
}

void ArpAnnouncer::Start(const NetLink& link) {
  link_ = link;
  started_ = true;
  ++series_;
  Send();
  SendLater(Pauses(every_));
}

void ArpAnnouncer::Update(const NetLink& link) {
  const bool anew = link.carrier && (!link_.carrier || link.mac != link_.mac || link.index != link_.index);
  link_ = link;
  if (started_ && anew) Start(link);
}

void ArpAnnouncer::Stop() {
  started_ = false;
  ++series_;
  timer_.cancel();
}

std::optional<std::chrono::milliseconds> ArpAnnouncer::Pauses::Next() {
  if (passed_ >= kDense) return every_ == every_.zero() ? std::nullopt : std::optional(every_);
  passed_ += pause_;
  return std::exchange(pause_, pause_ * 2);
}

void ArpAnnouncer::SendLater(Pauses pauses) {
  const auto pause = pauses.Next();
  if (!pause.has_value()) return;
  timer_.expires_after(*pause);
  timer_.async_wait(
      [this, alive = std::weak_ptr<char>(alive_), pauses, series = series_](boost::system::error_code error) {
        if (alive.expired() || error || series != series_) return;
        Send();
        SendLater(pauses);
      });
}

void ArpAnnouncer::Send() {
  if (!link_.mac || link_.index == 0) return;
  sockaddr_ll to{};
  to.sll_family = AF_PACKET;
  to.sll_ifindex = link_.index;
  to.sll_protocol = htons(ETH_P_ARP);
  to.sll_halen = ETH_ALEN;
  std::memset(to.sll_addr, 0xff, ETH_ALEN);
  for (const ArpForm form : {ArpForm::kRequest, ArpForm::kReply}) {
    const std::string frame = BuildGratuitousArp(ip_, *link_.mac, form);
    if (::sendto(packets_.get(), frame.data(), frame.size(), 0, reinterpret_cast<sockaddr*>(&to), sizeof to) <
        0) {
      LOG_EVERY_T(WARNING, 10) << "gratuitous ARP for " << IpText(ip_) << " on " << link_.name << ": "
                               << std::strerror(errno);
    }
  }
}

}  // namespace understudy::tcpshim
