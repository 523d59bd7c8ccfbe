#include "tests/lab/syn_flood.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "tcpshim/segment.h"

namespace understudy::lab {

namespace {
constexpr uint32_t kNetwork = 0xc6130000;  // 198.19.0.0/16
constexpr uint16_t kFirstPort = 1024, kPorts = 30000;

uint32_t Ip(const char* text) {
  in_addr address;
  CHECK_EQ(inet_pton(AF_INET, text, &address), 1);
  return ntohl(address.s_addr);
}
}  // namespace

SynFlood::SynFlood(Lab& lab) : lab_(lab) {
  for (Host host : {Host::kA, Host::kB}) {
    const absl::Status routed =
        lab.host(host).Ip(absl::StrCat("route add 198.19.0.0/16 via ", Lab::kClientIp, "\n"));
    CHECK(routed.ok()) << routed;
  }
  fd_ = lab.client().Socket(AF_PACKET, SOCK_RAW, 0);
  int index = 0;
  lab.client().Run([&] { index = static_cast<int>(if_nametoindex(Lab::kClientInterface)); });
  const int size = 16 << 20;
  PCHECK(setsockopt(fd_, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) == 0);
  sockaddr_ll address = {};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ETH_P_IP);
  address.sll_ifindex = index;
  PCHECK(bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
}

SynFlood::~SynFlood() { close(fd_); }

void SynFlood::Send(Host host, int count) {
  for (int i = 0; i < count; ++i, ++next_) {
    CHECK_LT(next_, kPorts) << "the watch tells clients apart by their ports";
    tcpshim::Segment syn;
    syn.source = {kNetwork + 1 + next_, static_cast<uint16_t>(kFirstPort + next_)};
    syn.destination = {Ip(Lab::kServiceIp), Lab::kServicePort};
    syn.seq = next_ * 0x9e3779b1u;
    syn.flags.syn = true;
    syn.window = 64240;
    syn.mss = 1460;
    syn.wscale = 7;
    syn.sack_permitted = true;
    syn.timestamps = {{next_, 0}};
    std::string frame(reinterpret_cast<const char*>(lab_.mac(host).data()), 6);
    frame.append(reinterpret_cast<const char*>(lab_.client_mac().data()), 6);
    frame.append("\x08\x00", 2);
    frame += tcpshim::BuildPacket(syn).value();
    const ssize_t sent = send(fd_, frame.data(), frame.size(), 0);
    // A queue on the way is full: that one is lost.
    PCHECK(sent == static_cast<ssize_t>(frame.size()) || errno == ENOBUFS);
  }
}

SynFlood::Seen SynFlood::TakeSeen() {
  Seen seen;
  std::array<char, 2048> frame;
  for (;;) {
    sockaddr_ll from = {};
    socklen_t from_size = sizeof(from);
    const ssize_t n = recvfrom(fd_, frame.data(), frame.size(), MSG_DONTWAIT,
                               reinterpret_cast<sockaddr*>(&from), &from_size);
    if (n < 0) return seen;
    if (from.sll_pkttype == PACKET_OUTGOING || n < ETH_HLEN) continue;
    const auto segment = tcpshim::ParsePacket({frame.data() + ETH_HLEN, static_cast<size_t>(n) - ETH_HLEN});
    if (!segment.ok() || (segment->destination.ip & 0xffff0000) != kNetwork) continue;
    if (segment->flags.rst) {
      ++seen.resets;
    } else {
      ++(segment->flags.syn ? seen.syn_acks : seen.others);
    }
  }
}

}  // namespace understudy::lab
