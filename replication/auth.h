// The shared key of the pair, and what is made of it: proofs that the other end of a link has it too, and
// authentication codes of what travels between the nodes. Nothing is encrypted.
//
// The handshake of a link, before anything else on it (replication.thrift: hello):
//
//   dialer                                          acceptor
//     nonce D  ------------------------------------>
//              <------------------------------------  nonce A, HMAC(key, "acceptor", D, A, names, service)
//     every frame from here on, join first, carries the GMAC of its bytes and its position, under a key of
//     this connection and direction that is HMAC(key, direction, D, A, names, service)
//
// So each end proves the key on a nonce of the other: a handshake that was recorded proves nothing, and one
// that is passed on lets through only what the two ends have to say to each other. Pulses carry an HMAC of
// all their fields (pulse.h).
#ifndef UNDERSTUDY_REPLICATION_AUTH_H_
#define UNDERSTUDY_REPLICATION_AUTH_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace understudy::replication {

inline constexpr size_t kMinKeySize = 32;
inline constexpr size_t kHmacSize = 32;
inline constexpr size_t kNonceSize = 32;

// Reads the key: all bytes of the file, 32 to 4096. InvalidArgument names the file and what is wrong with it;
// a file that others than its owner can read is refused, and one whose owner is neither root nor this user.
absl::StatusOr<std::string> LoadReplicationKey(const std::string& path);

// HMAC-SHA256.
std::string Hmac(std::string_view key, std::string_view message);
// In time that does not depend on where they differ.
bool SameMac(std::string_view a, std::string_view b);
// Fresh random bytes; empty: the system has none to give.
std::string NewNonce();

// What both ends of a link know of it once hello has been answered.
struct LinkTranscript {
  std::string service;
  std::string dialer, acceptor;  // names of the nodes
  std::string dialer_nonce, acceptor_nonce;
};
std::string AcceptorProof(std::string_view key, const LinkTranscript& transcript);

// Authentication codes of the frames of one direction of one connection, in the order in which they are sent.
class FrameMac {
 public:
  static constexpr size_t kSize = 16;
  // Of what the dialer sends, or the acceptor.
  FrameMac(std::string_view key, const LinkTranscript& transcript, bool of_dialer);
  ~FrameMac();
  FrameMac(const FrameMac&) = delete;
  FrameMac& operator=(const FrameMac&) = delete;

  // Writes the code of the next frame: kSize bytes.
  void Next(std::string_view frame, uint8_t* mac);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_AUTH_H_
