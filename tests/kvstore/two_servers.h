// What tests that compare the kvstore with redis-server share: both, started once for all tests of a program.
#ifndef UNDERSTUDY_TESTS_KVSTORE_TWO_SERVERS_H_
#define UNDERSTUDY_TESTS_KVSTORE_TWO_SERVERS_H_

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tests/kvstore/request.h"
#include "tests/kvstore/runner.h"
#include "tests/kvstore/servers.h"
#include "tests/kvstore/wire.h"

namespace kvstore::test {

class TwoServersTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    auto ours = TestServer::StartKvStore();
    ASSERT_TRUE(ours.ok()) << ours.status().message();
    ours_ = ours->release();
    auto redis = TestServer::StartRedis();
    ASSERT_TRUE(redis.ok()) << redis.status().message();
    redis_ = redis->release();
    runner_ = new Runner(ours_, redis_);
  }
  static void TearDownTestSuite() {
    if (ours_ != nullptr) {
      EXPECT_TRUE(ours_->process().running()) << ours_->process().LogTail(30);
    }
    delete std::exchange(runner_, nullptr);
    delete std::exchange(ours_, nullptr);
    delete std::exchange(redis_, nullptr);
  }
  void SetUp() override { ASSERT_NE(runner_, nullptr); }

  // From an empty store on both answer the same, and hold the same in the end. The first few differences of a
  // test are shown.
  static void ExpectSame(const Stream& stream) {
    const std::string what = runner_->Run(stream);
    if (!what.empty()) ADD_FAILURE() << what << "\nin\n" << Readable(stream).substr(0, 3000);
  }
  static std::unique_ptr<Wire> Connect(const TestServer* server) {
    auto wire = Wire::Connect(server->address());
    EXPECT_TRUE(wire.ok()) << wire.status();
    return wire.ok() ? *std::move(wire) : nullptr;
  }

  static inline TestServer* ours_ = nullptr;
  static inline TestServer* redis_ = nullptr;
  static inline Runner* runner_ = nullptr;
};

// One batch of a connection, out of the words of its requests.
inline Batch MakeBatch(std::vector<std::vector<std::string>> requests, size_t connection = 0) {
  Batch batch;
  batch.connection = connection;
  for (auto& args : requests) batch.requests.push_back({std::move(args)});
  return batch;
}

}  // namespace kvstore::test

#endif  // UNDERSTUDY_TESTS_KVSTORE_TWO_SERVERS_H_
