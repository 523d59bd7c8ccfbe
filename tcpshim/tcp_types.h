// The words of RFC 9293 and RFC 7323 that the parts of tcpshim share. IPv4.
#ifndef UNDERSTUDY_TCPSHIM_TCP_TYPES_H_
#define UNDERSTUDY_TCPSHIM_TCP_TYPES_H_

#include <cstdint>
#include <string>
#include <utility>

namespace understudy::tcpshim {

// Sequence numbers wrap; compare them with these only (RFC 9293 section 3.4).
using Seq = uint32_t;
inline bool SeqBefore(Seq a, Seq b) { return static_cast<int32_t>(a - b) < 0; }
inline bool SeqAfter(Seq a, Seq b) { return static_cast<int32_t>(a - b) > 0; }
inline Seq SeqMax(Seq a, Seq b) { return SeqBefore(a, b) ? b : a; }

std::string IpText(uint32_t ip);  // "198.18.0.1"; host byte order

// Host byte order.
struct SocketAddress {
  uint32_t ip = 0;
  uint16_t port = 0;
  auto operator<=>(const SocketAddress&) const = default;
  std::string ToString() const;  // "198.18.0.1:7000"
};

// `local` is the service address, `remote` the client.
struct FourTuple {
  SocketAddress local;
  SocketAddress remote;
  auto operator<=>(const FourTuple&) const = default;
  std::string ToString() const;  // "198.18.0.1:7000 <- 198.18.0.9:40000"
  template <typename H>
  friend H AbslHashValue(H h, const FourTuple& t) {
    return H::combine(std::move(h), t.local.ip, t.local.port, t.remote.ip, t.remote.port);
  }
};

// What the two ends agreed on in the handshake.
struct TcpOptions {
  uint16_t peer_mss = 536;  // from the client's SYN: the most we may send in a segment
  uint16_t own_mss = 536;   // from our SYN-ACK
  bool window_scaling = false;
  uint8_t snd_wscale = 0;  // shift of windows the client announces
  uint8_t rcv_wscale = 0;  // shift of windows we announce
  bool sack = false;
  bool timestamps = false;
  bool operator==(const TcpOptions&) const = default;
};

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_TCP_TYPES_H_
