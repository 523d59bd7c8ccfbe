// A stream of bytes that both ends know from a seed, and can produce from any offset on.
#ifndef UNDERSTUDY_TESTS_APPS_PATTERN_H_
#define UNDERSTUDY_TESTS_APPS_PATTERN_H_

#include <isa-l/crc.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace understudy::workbench {

// splitmix64, by index instead of by state.
inline uint64_t PatternWord(uint64_t seed, uint64_t index) {
  uint64_t z = seed + (index + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// Bytes [offset, offset + size) of the stream of `seed`.
inline void FillPattern(uint64_t seed, uint64_t offset, char* out, size_t size) {
  while (size > 0) {
    uint64_t word = PatternWord(seed, offset / 8);
    size_t skip = offset % 8;
    size_t n = 8 - skip < size ? 8 - skip : size;
    memcpy(out, reinterpret_cast<const char*>(&word) + skip, n);
    out += n;
    offset += n;
    size -= n;
  }
}

// CRC-32C of a stream that comes in pieces: start with 0.
inline uint32_t ExtendCrc(uint32_t crc, std::string_view bytes) {
  return ~crc32_iscsi(reinterpret_cast<unsigned char*>(const_cast<char*>(bytes.data())),
                      static_cast<int>(bytes.size()), ~crc);
}

}  // namespace understudy::workbench

#endif  // UNDERSTUDY_TESTS_APPS_PATTERN_H_
