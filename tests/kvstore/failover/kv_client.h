// One connection to a key-value store: writes what it is told, reads whole replies, never waits for ever.
#ifndef UNDERSTUDY_TESTS_KVSTORE_FAILOVER_KV_CLIENT_H_
#define UNDERSTUDY_TESTS_KVSTORE_FAILOVER_KV_CLIENT_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/lab/namespace.h"

namespace kvstore {

// A request as an array of bulk strings.
std::string RequestBytes(const std::vector<std::string>& words);
// A reply as a bulk string.
std::string BulkBytes(std::string_view value);

class KvClient {
 public:
  // Connects. `receive_buffer`: of its kernel; 0: the system's choice. Ends the process when it cannot.
  explicit KvClient(understudy::lab::Namespace& where, int receive_buffer = 0);
  ~KvClient();
  KvClient(const KvClient&) = delete;
  KvClient& operator=(const KvClient&) = delete;

  // All of these give up when nothing has moved for `kPatience`, and from then on error() says why and they
  // do nothing any more.
  static constexpr std::chrono::seconds kPatience{30};

  void Write(std::string_view bytes);
  // The next reply as it is on the wire, however deep; "" after an error.
  std::string ReadReply();
  std::string Ask(const std::vector<std::string>& words);
  // Receives until so many bytes wait to be read by ReadReply.
  void Receive(size_t bytes);
  size_t unread() const { return received_.size() - at_; }
  // Writes `bytes` and takes in at the same time what comes, for requests and replies that are too large to
  // wait for each other.
  void WriteWhileReceiving(std::string_view bytes);

  const std::string& error() const { return error_; }
  int fd() const { return fd_; }

 private:
  void Fail(const std::string& what);
  bool ReceiveSome(bool wait);
  // The end of the reply that begins at `at`; npos: more is needed.
  size_t EndOfReply(size_t at) const;

  int fd_;
  std::string received_;
  size_t at_ = 0;  // what is before has been given out
  std::string error_;
};

}  // namespace kvstore

#endif  // UNDERSTUDY_TESTS_KVSTORE_FAILOVER_KV_CLIENT_H_
