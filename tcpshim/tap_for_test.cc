#include "tcpshim/tap_for_test.h"

#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "gtest/gtest.h"

namespace understudy::tcpshim {
namespace {

bool IsChecksumPending(msghdr& message) {
  for (cmsghdr* c = CMSG_FIRSTHDR(&message); c != nullptr; c = CMSG_NXTHDR(&message, c)) {
    if (c->cmsg_level != SOL_PACKET || c->cmsg_type != PACKET_AUXDATA) continue;
    tpacket_auxdata data;
    memcpy(&data, CMSG_DATA(c), sizeof(data));
    return (data.tp_status & TP_STATUS_CSUMNOTREADY) != 0;
  }
  return false;
}

}  // namespace

Tap::Tap(const char* interface, uint16_t protocol)
    : fd_(socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {
  EXPECT_TRUE(fd_) << strerror(errno);
  const int on = 1;
  EXPECT_EQ(setsockopt(fd_.get(), SOL_PACKET, PACKET_AUXDATA, &on, sizeof(on)), 0) << strerror(errno);
  const int room = 64 << 20;
  setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room));
  sockaddr_ll address = {};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(protocol);
  address.sll_ifindex = static_cast<int>(if_nametoindex(interface));
  EXPECT_EQ(bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0)
      << interface << ": " << strerror(errno);
}

std::vector<Tap::Frame> Tap::Take() {
  static std::string buffer(1 << 17, '\0');
  std::vector<Frame> frames;
  for (;;) {
    sockaddr_ll from = {};
    iovec part = {buffer.data(), buffer.size()};
    alignas(cmsghdr) std::array<char, 256> control;
    msghdr message = {};
    message.msg_name = &from;
    message.msg_namelen = sizeof(from);
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t size = recvmsg(fd_.get(), &message, MSG_DONTWAIT);
    if (size < 0) return frames;
    if (from.sll_pkttype == PACKET_OUTGOING || size < ETH_HLEN) continue;
    frames.push_back(
        {buffer.substr(0, static_cast<size_t>(size)), ntohs(from.sll_protocol), IsChecksumPending(message)});
  }
}

}  // namespace understudy::tcpshim
