// Frames for tests, and how to make one wrong, and right again.
#ifndef UNDERSTUDY_TCPSHIM_FRAMES_FOR_TEST_H_
#define UNDERSTUDY_TCPSHIM_FRAMES_FOR_TEST_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace understudy::tcpshim {

// Of an IPv4 packet, or of what `protocol` says.
inline std::string Frame(const std::string& packet, uint16_t protocol = 0x0800) {
  std::string frame = "\x02\x02\x02\x02\x02\x02\x04\x04\x04\x04\x04\x04";
  frame.push_back(static_cast<char>(protocol >> 8));
  frame.push_back(static_cast<char>(protocol));
  return frame + packet;
}

inline uint16_t InternetChecksum(std::string_view bytes, uint32_t sum = 0) {
  for (size_t i = 0; i < bytes.size(); ++i) {
    const uint32_t byte = static_cast<uint8_t>(bytes[i]);
    sum += i % 2 == 0 ? byte << 8 : byte;
    sum = (sum & 0xffff) + (sum >> 16);
  }
  return static_cast<uint16_t>(~sum);
}

inline void Set16(std::string& bytes, size_t at, uint32_t value) {
  bytes[at] = static_cast<char>(value >> 8);
  bytes[at + 1] = static_cast<char>(value);
}

// Makes lengths and checksums of a packet with a 20-byte IP header right again.
inline void Mend(std::string& packet) {
  Set16(packet, 2, static_cast<uint32_t>(packet.size()));
  Set16(packet, 10, 0);
  Set16(packet, 10, InternetChecksum(packet.substr(0, 20)));
  Set16(packet, 36, 0);
  const uint32_t pseudo = static_cast<uint16_t>(~InternetChecksum(packet.substr(12, 8))) + 6u +
                          static_cast<uint32_t>(packet.size()) - 20;
  Set16(packet, 36, InternetChecksum(packet.substr(20), pseudo));
}

// `packet`, which has no options, with these (a multiple of four bytes).
inline std::string WithOptions(std::string packet, const std::string& options) {
  packet.insert(40, options);
  packet[32] = static_cast<char>((20 + options.size()) / 4 << 4);
  Mend(packet);
  return packet;
}

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_FRAMES_FOR_TEST_H_
