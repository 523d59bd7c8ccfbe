#include "replication/last_word.h"

#include <openssl/sha.h>
#include <sys/random.h>

#include <cstring>

#include "replication/auth.h"

namespace understudy::replication {
namespace {
constexpr std::string_view kMagic = "LastWord";  // no pulse begins like this (pulse.cc)
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

std::string EncodeLastWord(const LastWord& last, std::string_view key) {
  std::string out(kMagic);
  out.append(last.word);
  out.append(reinterpret_cast<const char*>(&last.fatal),
             sizeof last.fatal);  // little endian, as all we run on
  if (!key.empty()) out.append(Hmac(key, out));
  return out;
}

std::optional<LastWord> DecodeLastWord(std::string_view datagram, std::string_view key) {
  constexpr size_t kSize = kMagic.size() + kLastWordSize + sizeof(FatalCall);
  if (datagram.size() != kSize + (key.empty() ? 0 : kHmacSize) || !datagram.starts_with(kMagic))
    return std::nullopt;
  if (!key.empty() && !SameMac(datagram.substr(kSize), Hmac(key, datagram.substr(0, kSize))))
    return std::nullopt;
  LastWord last;
  last.word = std::string(datagram.substr(kMagic.size(), kLastWordSize));
  std::memcpy(&last.fatal, datagram.data() + kMagic.size() + kLastWordSize, sizeof last.fatal);
  return last;
}

}  // namespace understudy::replication
