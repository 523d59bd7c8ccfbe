#include "tcpshim/arp_prober.h"

#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/error.hpp>
#include <boost/asio/post.hpp>

#include "absl/strings/str_cat.h"
#include "tcpshim/unique_fd.h"

namespace understudy::tcpshim {
namespace {

constexpr int kProbes = 3;  // PROBE_NUM of RFC 5227
constexpr size_t kMostHeard = 16;
constexpr size_t kSenderMacAt = 22, kSenderIpAt = 28;  // in an Ethernet frame

absl::Status Failed(const char* what, int error) {
  const std::string text =
      absl::StrCat("cannot ask by ARP who has an address: ", what, ": ", strerror(error));
  if (error == EPERM || error == EACCES) {
    return absl::PermissionDeniedError(absl::StrCat(text, " (run as root, or grant CAP_NET_RAW)"));
  }
  return absl::InternalError(text);
}

// Of a busy segment's ARP only what says that `ip` is the sender's wakes this process.
bool FilterBySender(int fd, uint32_t ip) {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kSenderIpAt),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ip, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, 0xffff),
      BPF_STMT(BPF_RET | BPF_K, 0),
  };
  const sock_fprog program = {std::size(code), code};
  return ::setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) == 0;
}

}  // namespace

ArpProber::ArpProber(boost::asio::io_context& loop, int interface_index, uint32_t ip)
    : loop_(loop), interface_index_(interface_index), ip_(ip), packets_(loop) {}

ArpProber::~ArpProber() = default;

absl::StatusOr<std::unique_ptr<ArpProber>> ArpProber::Open(boost::asio::io_context& loop, int interface_index,
                                                           uint32_t ip) {
  // It hears nothing before it is bound, which is when it has its filter.
  UniqueFd fd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return Failed("packet socket", errno);
  if (!FilterBySender(fd.get(), ip)) return Failed("filter", errno);
  sockaddr_ll here = {};
  here.sll_family = AF_PACKET;
  here.sll_protocol = htons(ETH_P_ARP);
  here.sll_ifindex = interface_index;
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&here), sizeof(here)) != 0) {
    return Failed("bind", errno);
  }
  std::unique_ptr<ArpProber> prober(new ArpProber(loop, interface_index, ip));
  boost::system::error_code assigned;
  prober->packets_.assign(fd.get(), assigned);
  if (assigned) return absl::InternalError(absl::StrCat("ARP on the event loop: ", assigned.message()));
  fd.release();
  prober->Await();
  return prober;
}

void ArpProber::Probe(const MacAddress& own, std::chrono::milliseconds wait, Probed done) {
  Ask(own, wait, /*enough=*/1,
      [done = std::move(done)](const absl::StatusOr<std::vector<MacAddress>>& heard) {
        if (!heard.ok()) return done(heard.status());
        done(heard->empty() ? std::nullopt : std::optional(heard->front()));
      });
}

void ArpProber::ProbeAll(const MacAddress& own, std::chrono::milliseconds wait, ProbedAll done) {
  Ask(own, wait, kMostHeard, std::move(done));
}

void ArpProber::Ask(const MacAddress& own, std::chrono::milliseconds wait, size_t enough, ProbedAll done) {
  const uint64_t id = ++last_id_;
  askings_[id] = {own,
                  wait / kProbes,
                  enough,
                  std::move(done),
                  {},
                  0,
                  std::make_unique<boost::asio::steady_timer>(loop_)};
  // From the loop, so that nothing comes back before this returns.
  boost::asio::post(loop_, [this, id, alive = std::weak_ptr<char>(alive_)] {
    if (!alive.expired()) AskNext(id);
  });
}

void ArpProber::AskNext(uint64_t id) {
  const auto found = askings_.find(id);
  if (found == askings_.end()) return;  // answered
  Asking& asking = found->second;
  if (asking.sent == kProbes) {
    Hear();  // a loop that is late hears before it says that nobody spoke
    return Finish(id, absl::OkStatus());
  }
  const std::string frame = BuildArpProbe(ip_, asking.own);
  sockaddr_ll to = {};
  to.sll_family = AF_PACKET;
  to.sll_protocol = htons(ETH_P_ARP);
  to.sll_ifindex = interface_index_;
  to.sll_halen = ETH_ALEN;
  std::memset(to.sll_addr, 0xff, ETH_ALEN);
  if (::sendto(packets_.native_handle(), frame.data(), frame.size(), 0,
               reinterpret_cast<const sockaddr*>(&to), sizeof(to)) < 0) {
    return Finish(id, absl::UnavailableError(absl::StrCat("cannot send an ARP probe: ", strerror(errno))));
  }
  ++asking.sent;
  asking.timer->expires_after(asking.pause);
  asking.timer->async_wait([this, id, alive = std::weak_ptr<char>(alive_)](boost::system::error_code error) {
    if (!error && !alive.expired()) AskNext(id);
  });
}

void ArpProber::Finish(uint64_t id, const absl::Status& status) {
  const auto found = askings_.find(id);
  if (found == askings_.end()) return;
  const Asking asking = std::move(found->second);
  askings_.erase(found);
  // May destroy this object.
  status.ok() ? asking.done(asking.heard) : asking.done(status);
}

void ArpProber::Await() {
  packets_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                      [this, alive = std::weak_ptr<char>(alive_)](boost::system::error_code error) {
                        if (alive.expired() || error == boost::asio::error::operation_aborted) return;
                        Await();
                        Hear();
                      });
}

void ArpProber::Hear() {
  const std::weak_ptr<char> alive = alive_;
  std::array<char, 128> frame;
  while (!alive.expired()) {
    const ssize_t size = ::recv(packets_.native_handle(), frame.data(), frame.size(), 0);
    if (size < 0 && (errno == EINTR || errno == ENETDOWN)) continue;  // each is told once
    if (size < 0) return;
    if (static_cast<size_t>(size) < kSenderIpAt + sizeof(uint32_t)) continue;
    MacAddress who;
    std::memcpy(who.data(), frame.data() + kSenderMacAt, who.size());
    std::vector<uint64_t> answered;
    for (auto& [id, asking] : askings_) {
      if (asking.sent == 0 || who == asking.own) continue;
      if (std::find(asking.heard.begin(), asking.heard.end(), who) == asking.heard.end())
        asking.heard.push_back(who);
      if (asking.heard.size() >= asking.enough) answered.push_back(id);
    }
    for (const uint64_t id : answered) {
      if (!alive.expired()) Finish(id, absl::OkStatus());
    }
  }
}

}  // namespace understudy::tcpshim
