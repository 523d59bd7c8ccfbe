// For tests of commands: a store on a temporary table, connections to it, requests in, replies out.
#ifndef UNDERSTUDY_APPS_KVSTORE_COMMANDS_COMMAND_FIXTURE_FOR_TEST_H_
#define UNDERSTUDY_APPS_KVSTORE_COMMANDS_COMMAND_FIXTURE_FOR_TEST_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "apps/kvstore/commands/command.h"
#include "apps/kvstore/instance.h"
#include "apps/kvstore/session.h"
#include "apps/kvstore/store/keyspace.h"
#include "apps/kvstore/store/store_for_test.h"
#include "apps/kvstore/store/table.h"
#include "framework/server.h"
#include "gtest/gtest.h"

namespace kvstore {

// A connection that is good for Dispatch. What else a command might do with it fails the test.
class TestClient : public understudy::Connection {
 public:
  // `now_us` and `random` are read at each use; all outlive it.
  TestClient(Instance* instance, uint64_t id, const int64_t* now_us, std::mt19937_64* random);
  ~TestClient() override;

  Session& session() { return *session_; }

  // One request; its reply as it is on the wire.
  template <typename... Words>
  std::string Run(const Words&... words) {
    return RunArgs({std::string_view(words)...});
  }
  std::string RunArgs(const std::vector<std::string_view>& args);

  understudy::ConnectionId id() const override { return session_->id; }
  const std::string& peer() const override { return session_->peer; }
  const std::string& local() const override { return session_->local; }
  void Send(std::string_view) override { ADD_FAILURE() << "a command sends"; }
  size_t pending_output() const override { return 0; }
  size_t high_water() const override { return kDefaultHighWater; }
  void SetHighWater(size_t) override {}
  void HalfClose() override { ADD_FAILURE() << "a command half-closes"; }
  void Close() override { ADD_FAILURE() << "a command closes"; }
  void Abort() override { ADD_FAILURE() << "a command aborts"; }
  void SetTimer(uint32_t, std::chrono::microseconds) override { ADD_FAILURE() << "a command sets a timer"; }
  void CancelTimer(uint32_t) override { ADD_FAILURE() << "a command cancels a timer"; }
  void set_context(std::unique_ptr<Context>) override { ADD_FAILURE() << "a command sets the context"; }
  Context* context() const override { return session_.get(); }
  understudy::LoggedTime Now() const override {
    return understudy::LoggedTime(std::chrono::microseconds(*now_us_));
  }
  uint64_t Random() override { return (*random_)(); }

 private:
  Instance* const instance_;
  const int64_t* const now_us_;
  std::mt19937_64* const random_;
  const std::unique_ptr<Session> session_;
};

class CommandTest : public testing::Test {
 protected:
  CommandTest();
  ~CommandTest() override;

  std::unique_ptr<TestClient> Connect();

  // One request of the client that is there from the beginning.
  template <typename... Words>
  std::string Run(const Words&... words) {
    return client_->Run(words...);
  }
  TestClient& client() { return *client_; }

  Instance& instance() { return instance_; }
  Keyspace& keys() { return *keys_; }
  void Pass(std::chrono::milliseconds time) { now_us_ += std::chrono::microseconds(time).count(); }
  std::mt19937_64& random() { return random_; }  // the same that commands get; its seed is printed

 private:
  int64_t now_us_ = 1'700'000'000'000'000;
  uint64_t last_id_ = 0;
  std::mt19937_64 random_;
  TestDirectory directory_;
  std::unique_ptr<Table> table_;
  Instance instance_;
  std::unique_ptr<Keyspace> keys_;
  std::unique_ptr<TestClient> client_;
};

inline constexpr std::string_view kWrongTypeReply =
    "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";

// "$3\r\nabc\r\n"
std::string Bulk(std::string_view bytes);
// "*2\r\n$1\r\na\r\n$1\r\nb\r\n"; `type` '~' for a set.
std::string Bulks(const std::vector<std::string>& elements, char type = '*');
// The other way round, sorted: for replies in no order of their own. Anything else fails the test.
std::vector<std::string> SortedBulks(std::string_view reply, char type = '*');

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_COMMANDS_COMMAND_FIXTURE_FOR_TEST_H_
