// Bytes that no two tests have in common.
#ifndef UNDERSTUDY_TCPSHIM_BYTES_FOR_TEST_H_
#define UNDERSTUDY_TCPSHIM_BYTES_FOR_TEST_H_

#include <cstdint>
#include <cstdio>
#include <random>
#include <string>

namespace understudy::tcpshim {

inline std::string RandomBytes(size_t size, std::mt19937& random) {
  std::string bytes(size, '\0');
  for (char& c : bytes) c = static_cast<char>(random());
  return bytes;
}

inline std::string RandomBytes(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  return RandomBytes(size, random);
}

// Each call others; prints the seed.
inline std::string RandomBytes(size_t size) {
  static const uint32_t seed = [] {
    const uint32_t seed = std::random_device()();
    std::printf("seed of the bytes: %u\n", seed);
    return seed;
  }();
  static std::mt19937 random(seed);
  return RandomBytes(size, random);
}

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_BYTES_FOR_TEST_H_
