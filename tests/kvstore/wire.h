// One connection of a test to a server that speaks RESP.
#ifndef UNDERSTUDY_TESTS_KVSTORE_WIRE_H_
#define UNDERSTUDY_TESTS_KVSTORE_WIRE_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "tests/kvstore/resp_value.h"

namespace kvstore::test {

// Where a server listens: a Unix socket, or 127.0.0.1:port.
struct Address {
  std::string path;
  uint16_t port = 0;
};

// "*2\r\n$3\r\nGET\r\n..."
std::string Encode(const std::vector<std::string>& args);

// What came back. `replies` are as many as were asked for, fewer when the server closed or `error` says why.
struct Answer {
  std::vector<RespValue> replies;
  bool closed = false;  // the server ended the connection
  std::string error;    // no RESP, or nothing for too long
};

// Closes when it goes. One thread.
class Wire {
 public:
  static absl::StatusOr<std::unique_ptr<Wire>> Connect(const Address& address);
  ~Wire();
  Wire(const Wire&) = delete;
  Wire& operator=(const Wire&) = delete;

  // Sends each piece with a write of its own, reading all the while, and reads `replies` replies. Returns
  // when both is done. What arrives beyond the replies is an error in the next call.
  Answer Exchange(const std::vector<std::string_view>& pieces, size_t replies) {
    return Exchange(pieces, replies, true);
  }
  Answer Exchange(std::string_view bytes, size_t replies) { return Exchange(std::vector{bytes}, replies); }
  // The same, but returns with the last of the replies, however much has been sent by then.
  Answer ExchangeUntil(std::string_view bytes, size_t replies) {
    return Exchange(std::vector{bytes}, replies, false);
  }
  // Sends, half-closes and reads all until the server closes.
  struct Rest {
    std::string bytes;
    std::string error;
  };
  Rest SendAndReadAll(std::string_view bytes);
  // One request, one reply. A failure is a value of type 0, its text says what.
  RespValue Ask(const std::vector<std::string>& args);

  // Longest wait for any progress.
  static constexpr std::chrono::seconds kPatience{30};

 private:
  explicit Wire(int fd) : fd_(fd) {}
  Answer Exchange(const std::vector<std::string_view>& pieces, size_t replies, bool send_all);
  // Waits, writes what can be written of `unsent`, reads what has come.
  enum class Turn { kGoesOn, kClosed, kStalled };
  Turn TakeTurn(std::string_view* unsent);

  const int fd_;
  std::string received_;
};

}  // namespace kvstore::test

#endif  // UNDERSTUDY_TESTS_KVSTORE_WIRE_H_
