#include "tcpshim/segment.h"

#include <algorithm>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace understudy::tcpshim {
namespace {

constexpr size_t kIpHeader = 20;
constexpr size_t kTcpHeader = 20;
constexpr uint8_t kProtocolTcp = 6;

enum OptionKind : uint8_t {
  kEnd = 0,
  kNop = 1,
  kMss = 2,
  kWindowScale = 3,
  kSackPermitted = 4,
  kTimestamps = 8,
};

enum FlagBit : uint8_t { kFin = 1, kSyn = 2, kRst = 4, kPsh = 8, kAck = 16, kEce = 64 };

void Put16(std::string& out, uint32_t value) {
  out.push_back(static_cast<char>(value >> 8));
  out.push_back(static_cast<char>(value));
}

void Put32(std::string& out, uint32_t value) {
  Put16(out, value >> 16);
  Put16(out, value & 0xffff);
}

void Set16(std::string& out, size_t at, uint16_t value) {
  out[at] = static_cast<char>(value >> 8);
  out[at + 1] = static_cast<char>(value);
}

uint8_t Get8(std::string_view bytes, size_t at) { return static_cast<uint8_t>(bytes[at]); }

uint16_t Get16(std::string_view bytes, size_t at) {
  return static_cast<uint16_t>(Get8(bytes, at) << 8 | Get8(bytes, at + 1));
}

uint32_t Get32(std::string_view bytes, size_t at) {
  return static_cast<uint32_t>(Get16(bytes, at)) << 16 | Get16(bytes, at + 2);
}

// RFC 1071, not folded yet. `bytes` but the last piece must have even length.
uint64_t Sum(std::string_view bytes, uint64_t sum = 0) {
  size_t i = 0;
  for (; i + 1 < bytes.size(); i += 2) sum += Get16(bytes, i);
  if (i < bytes.size()) sum += static_cast<uint32_t>(Get8(bytes, i)) << 8;
  return sum;
}

uint16_t Fold(uint64_t sum) {
  while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(~sum);
}

// Of the TCP part `tcp` of an IPv4 packet whose addresses stand in `addresses` (8 bytes).
uint16_t TcpChecksum(std::string_view addresses, std::string_view tcp) {
  return Fold(Sum(tcp, Sum(addresses) + kProtocolTcp + tcp.size()));
}

// Padded to a multiple of four. Laid out as Linux does: timestamps are then at a fixed place, which
// lets receivers take their fast path.
std::string BuildOptions(const Segment& segment) {
  std::string out;
  const bool syn = segment.flags.syn;
  const bool sack_permitted = syn && segment.sack_permitted;
  if (syn && segment.mss) {
    out.push_back(kMss);
    out.push_back(4);
    Put16(out, *segment.mss);
  }
  if (sack_permitted) {
    out.push_back(kSackPermitted);
    out.push_back(2);
  } else if (segment.timestamps) {
    out.append(2, kNop);
  }
  if (segment.timestamps) {
    out.push_back(kTimestamps);
    out.push_back(10);
    Put32(out, segment.timestamps->val);
    Put32(out, segment.timestamps->ecr);
  } else if (sack_permitted) {
    out.append(2, kNop);
  }
  if (syn && segment.wscale) {
    out.push_back(kNop);
    out.push_back(kWindowScale);
    out.push_back(3);
    out.push_back(static_cast<char>(*segment.wscale));
  }
  return out;
}

absl::Status ParseOptions(std::string_view options, Segment& segment) {
  size_t at = 0;
  while (at < options.size()) {
    const uint8_t kind = Get8(options, at);
    if (kind == kEnd) break;
    if (kind == kNop) {
      ++at;
      continue;
    }
    if (at + 1 >= options.size()) return absl::InvalidArgumentError("TCP option without a length");
    const size_t length = Get8(options, at + 1);
    if (length < 2 || at + length > options.size()) {
      return absl::InvalidArgumentError(absl::StrCat("TCP option ", kind, " with the wrong length ", length));
    }
    const bool syn = segment.flags.syn;
    // One of another length than the RFC says is an unknown option.
    if (kind == kMss && length == 4 && syn) {
      segment.mss = Get16(options, at + 2);
    } else if (kind == kWindowScale && length == 3 && syn) {
      segment.wscale = Get8(options, at + 2);
    } else if (kind == kSackPermitted && length == 2 && syn) {
      segment.sack_permitted = true;
    } else if (kind == kTimestamps && length == 10) {
      segment.timestamps = Segment::Timestamps{Get32(options, at + 2), Get32(options, at + 6)};
    }
    at += length;
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> BuildPacket(const Segment& segment) {
  const std::string options = BuildOptions(segment);
  const size_t size = kIpHeader + kTcpHeader + options.size() + segment.payload.size();
  if (size > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("a payload of ", segment.payload.size(), " bytes fits in no packet"));
  }

  std::string packet;
  packet.reserve(size);
  Put16(packet, 0x4500);  // version 4, five words, no service class
  Put16(packet, static_cast<uint16_t>(size));
  Put16(packet, 0);       // identification: the kernel fills it in
  Put16(packet, 0x4000);  // do not fragment
  packet.push_back(64);   // TTL
  packet.push_back(kProtocolTcp);
  Put16(packet, 0);
  Put32(packet, segment.source.ip);
  Put32(packet, segment.destination.ip);
  Set16(packet, 10, Fold(Sum(packet)));

  Put16(packet, segment.source.port);
  Put16(packet, segment.destination.port);
  Put32(packet, segment.seq);
  Put32(packet, segment.ack);
  packet.push_back(static_cast<char>((kTcpHeader + options.size()) / 4 << 4));
  packet.push_back(static_cast<char>((segment.flags.fin ? kFin : 0) | (segment.flags.syn ? kSyn : 0) |
                                     (segment.flags.rst ? kRst : 0) | (segment.flags.psh ? kPsh : 0) |
                                     (segment.flags.ack ? kAck : 0) | (segment.flags.ece ? kEce : 0)));
  Put16(packet, segment.window);
  Put16(packet, 0);
  Put16(packet, 0);  // urgent pointer
  packet += options;
  packet.append(segment.payload.data(), segment.payload.size());
  const std::string_view whole = packet;
  Set16(packet, kIpHeader + 16, TcpChecksum(whole.substr(12, 8), whole.substr(kIpHeader)));
  return packet;
}

absl::StatusOr<Segment> ParsePacket(std::string_view packet, Checksum checksum) {
  auto invalid = [&packet](const char* what) {
    return absl::InvalidArgumentError(absl::StrCat(what, " (", packet.size(), " bytes)"));
  };
  if (packet.size() < kIpHeader) return invalid("shorter than an IPv4 header");
  if (Get8(packet, 0) >> 4 != 4) return invalid("not IPv4");
  const size_t ip_header = (Get8(packet, 0) & 15) * 4u;
  if (ip_header < kIpHeader) return invalid("IPv4 header length too small");
  const size_t total = Get16(packet, 2);
  // Ethernet pads short frames: there may be more bytes than the packet has.
  if (total > packet.size()) return invalid("cut short");
  packet = packet.substr(0, total);
  if (total < ip_header + kTcpHeader) return invalid("no room for a TCP header");
  if (Get8(packet, 9) != kProtocolTcp) return invalid("not TCP");
  if ((Get16(packet, 6) & 0x3fff) != 0) return invalid("a fragment");
  const std::string_view tcp = packet.substr(ip_header);
  const size_t tcp_header = (Get8(tcp, 12) >> 4) * 4u;
  if (tcp_header < kTcpHeader) return invalid("TCP header length too small");
  if (tcp_header > tcp.size()) return invalid("TCP header longer than the packet");
  if (checksum == Checksum::kVerified) {
    if (Fold(Sum(packet.substr(0, ip_header))) != 0) return invalid("wrong IPv4 checksum");
    if (TcpChecksum(packet.substr(12, 8), tcp) != 0) return invalid("wrong TCP checksum");
  }

  Segment segment;
  segment.source = {Get32(packet, 12), Get16(tcp, 0)};
  segment.destination = {Get32(packet, 16), Get16(tcp, 2)};
  segment.seq = Get32(tcp, 4);
  segment.ack = Get32(tcp, 8);
  const uint8_t bits = Get8(tcp, 13);
  segment.flags.fin = (bits & kFin) != 0;
  segment.flags.syn = (bits & kSyn) != 0;
  segment.flags.rst = (bits & kRst) != 0;
  segment.flags.psh = (bits & kPsh) != 0;
  segment.flags.ack = (bits & kAck) != 0;
  segment.flags.ece = (bits & kEce) != 0;
  segment.window = Get16(tcp, 14);
  absl::Status status = ParseOptions(tcp.substr(kTcpHeader, tcp_header - kTcpHeader), segment);
  if (!status.ok()) return status;
  segment.payload = tcp.substr(tcp_header);
  return segment;
}

namespace {
// To everybody. RFC 5227: the target of an announcement is the address itself; of its hardware address only
// the reply form knows something.
std::string BroadcastArp(uint16_t operation, const MacAddress& sender_mac, uint32_t sender_ip,
                         const MacAddress& target_mac, uint32_t target_ip) {
  auto put_mac = [](std::string& out, const MacAddress& address) {
    for (uint8_t byte : address) out.push_back(static_cast<char>(byte));
  };
  MacAddress broadcast;
  broadcast.fill(0xff);
  std::string frame;
  put_mac(frame, broadcast);
  put_mac(frame, sender_mac);
  Put16(frame, 0x0806);  // ARP
  Put16(frame, 1);       // over Ethernet
  Put16(frame, 0x0800);  // for IPv4
  frame.push_back(6);
  frame.push_back(4);
  Put16(frame, operation);
  put_mac(frame, sender_mac);
  Put32(frame, sender_ip);
  put_mac(frame, target_mac);
  Put32(frame, target_ip);
  return frame;
}
}  // namespace

std::string BuildGratuitousArp(uint32_t ip, const MacAddress& mac, ArpForm form) {
  const bool reply = form == ArpForm::kReply;
  return BroadcastArp(reply ? 2 : 1, mac, ip, reply ? mac : MacAddress{}, ip);
}

std::string BuildArpProbe(uint32_t ip, const MacAddress& mac) {
  return BroadcastArp(1, mac, 0, MacAddress{}, ip);
}

std::string ToString(const MacAddress& mac) {
  return absl::StrFormat("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

}  // namespace understudy::tcpshim
