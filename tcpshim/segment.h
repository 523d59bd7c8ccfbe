// TCP segments and ARP frames by hand: built, and parsed. Pure; no socket.
//
// The kernel speaks for a connection; these few segments it cannot be made to send: a SYN-ACK or a lone
// acknowledgement whose time has come (claims 2, 3, 20), a zero-window acknowledgement (claims 6, 14, 23),
// bytes in flight at the crash, an announcement of the service address.
#ifndef UNDERSTUDY_TCPSHIM_SEGMENT_H_
#define UNDERSTUDY_TCPSHIM_SEGMENT_H_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "tcpshim/tcp_types.h"

namespace understudy::tcpshim {

struct SegmentFlags {
  bool fin = false, syn = false, rst = false, psh = false, ack = false;
  bool ece = false;  // of a SYN-ACK: ECN is agreed upon (RFC 3168)
  bool operator==(const SegmentFlags&) const = default;
};

// An outgoing or incoming segment, host byte order.
struct Segment {
  SocketAddress source, destination;
  Seq seq = 0;
  Seq ack = 0;
  SegmentFlags flags;
  uint16_t window = 0;  // as in the header: not scaled
  // Options; mss, wscale and sack_permitted belong to SYNs only.
  std::optional<uint16_t> mss;
  std::optional<uint8_t> wscale;
  bool sack_permitted = false;
  struct Timestamps {
    uint32_t val = 0, ecr = 0;
    bool operator==(const Timestamps&) const = default;
  };
  std::optional<Timestamps> timestamps;
  std::string_view payload;  // not owned
};

// IPv4 packet with correct IP and TCP checksums, DF set, TTL 64. InvalidArgument: the payload fits in no
// packet.
absl::StatusOr<std::string> BuildPacket(const Segment& segment);
// From an IPv4 packet (no link header). InvalidArgument on anything that is not a whole TCP/IPv4 packet
// with correct lengths; TCP's checksum is looked at by tests alone. Unknown options are skipped. payload
// points into `packet`.
enum class Checksum { kIgnored, kVerified };
absl::StatusOr<Segment> ParsePacket(std::string_view packet, Checksum checksum = Checksum::kIgnored);

using MacAddress = std::array<uint8_t, 6>;
// Gratuitous ARP for `ip` at `mac`, Ethernet broadcast, 42 bytes.
enum class ArpForm { kRequest, kReply };
std::string BuildGratuitousArp(uint32_t ip, const MacAddress& mac, ArpForm form);
// Asks who has `ip` without claiming it (RFC 5227): the sender's address is 0.0.0.0. Ethernet broadcast, 42
// bytes.
std::string BuildArpProbe(uint32_t ip, const MacAddress& mac);
// "02:00:00:00:00:0a"
std::string ToString(const MacAddress& mac);

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_SEGMENT_H_
