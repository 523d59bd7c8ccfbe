// Servers under test, as processes: Debian's redis-server, which says what is right, and the kvstore.
#ifndef UNDERSTUDY_TESTS_KVSTORE_SERVERS_H_
#define UNDERSTUDY_TESTS_KVSTORE_SERVERS_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/kvstore/wire.h"
#include "tests/lab/process.h"

namespace kvstore::test {

// Values of both are limited to this, so that the limit can be met.
inline constexpr size_t kMaxBulk = size_t{64} << 20;

class TestServer {
 public:
  // On a Unix socket in a folder of its own, with one database and nothing on disk. `flags` come last.
  // `password` is what the flags tell it, if they tell it one.
  static absl::StatusOr<std::unique_ptr<TestServer>> StartRedis(std::vector<std::string> flags = {},
                                                                const std::string& password = "");
  // --role=standalone on a free port of the loopback.
  static absl::StatusOr<std::unique_ptr<TestServer>> StartKvStore(std::vector<std::string> flags = {},
                                                                  const std::string& password = "");

  const Address& address() const { return address_; }
  understudy::lab::Process& process() { return *process_; }
  bool is_kvstore() const { return is_kvstore_; }
  // The same program with the same flags once more, if it has ended. Its address may be another.
  absl::Status StartAgainIfEnded();

 private:
  TestServer() = default;
  absl::Status Start();

  bool is_kvstore_ = false;
  std::string password_;
  std::vector<std::string> flags_;
  understudy::lab::TempDir folder_;
  Address address_;
  std::unique_ptr<understudy::lab::Process> process_;
};

}  // namespace kvstore::test

#endif  // UNDERSTUDY_TESTS_KVSTORE_SERVERS_H_
