#include "replication/last_word.h"

#include <openssl/sha.h>
#include <sys/random.h>

namespace understudy::replication {
namespace {
constexpr std::string_view kMagic = "LastWord";   // no pulse begins like this (pulse.cc)
}  // namespace

std::string NewLastWord() {
  std::string word(kLastWordSize, '\0');
  const ssize_t got = getrandom(word.data(), word.size(), 0);
  return got == static_cast<ssize_t>(word.size()) ? word : "";
}

std::string HashOfLastWord(std::string_view word) {
  std::string hash(kLastWordHashSize, '\0');
  SHA256(reinterpret_cast<const unsigned char*>(word.data()), word.size(),
         reinterpret_cast<unsigned char*>(hash.data()));
  return hash;
}

std::string EncodeLastWord(std::string_view word) {
  std::string out(kMagic);
  out.append(word);
  return out;
}

std::optional<std::string> DecodeLastWord(std::string_view datagram) {
  if (datagram.size() != kMagic.size() + kLastWordSize || datagram.substr(0, kMagic.size()) != kMagic) {
    return std::nullopt;
  }
  return std::string(datagram.substr(kMagic.size()));
}

}  // namespace understudy::replication
