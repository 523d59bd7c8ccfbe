// Programs as they come with Redis, through a failure: redis-cli and redis-benchmark notice nothing.
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/kvstore/failover/kv_pair_fixture.h"
#include "tests/lab/process.h"

namespace kvstore {
namespace {

using understudy::lab::FaultKind;
using understudy::lab::kPatience;
using understudy::lab::Lab;
using understudy::lab::Process;

class OrdinaryClientsTest : public KvPairTest {
 protected:
  void SetUp() override { StartPair(); }

  std::unique_ptr<Process> StartClient(const std::string& name, std::vector<std::string> argv) {
    Process::Options options;
    options.name = name;
    options.argv = {"/usr/bin/" + name, "-h", Lab::kServiceIp, "-p", absl::StrCat(Lab::kServicePort)};
    options.argv.insert(options.argv.end(), argv.begin(), argv.end());
    options.where = &client();
    auto process = Process::Start(options);
    EXPECT_TRUE(process.ok()) << process.status();
    return process.ok() ? *std::move(process) : nullptr;
  }
  // Waits until so many requests have been served.
  void AwaitKey(const std::string& key, int64_t at_least) {
    KvClient watcher(client());
    const auto end = std::chrono::steady_clock::now() + kPatience;
    int64_t value = 0;
    while (value < at_least && std::chrono::steady_clock::now() < end) {
      const std::string reply = watcher.Ask({"INCRBY", key, "0"});
      ASSERT_EQ(watcher.error(), "");
      value = std::stoll(reply.substr(1));
    }
    ASSERT_GE(value, at_least);
  }
};

TEST_P(OrdinaryClientsTest, RedisBenchmark) {
  constexpr int kRequests = 60000;
  auto benchmark =
      StartClient("redis-benchmark", {"-c", "20", "-n", absl::StrCat(kRequests), "-q", "INCR", "count"});
  ASSERT_NE(benchmark, nullptr);
  AwaitKey("count", kRequests / 4);
  Fault();
  const auto ended = benchmark->Wait(std::chrono::seconds(60));
  ASSERT_TRUE(ended.has_value()) << benchmark->LogTail(5);
  EXPECT_EQ(*ended, 0) << benchmark->LogTail(5);
  EXPECT_FALSE(absl::StrContains(benchmark->Log(), "rror")) << benchmark->LogTail(5);
  KvClient one(client());
  EXPECT_EQ(one.Ask({"GET", "count"}), BulkBytes(absl::StrCat(kRequests))) << "lost or done twice";
  ExpectTakenOver();
}

TEST_P(OrdinaryClientsTest, RedisCli) {
  constexpr int kRequests = 20000;
  auto cli = StartClient("redis-cli", {"-r", absl::StrCat(kRequests), "INCR", "count"});
  ASSERT_NE(cli, nullptr);
  AwaitKey("count", kRequests / 4);
  Fault();
  const auto ended = cli->Wait(std::chrono::seconds(60));
  ASSERT_TRUE(ended.has_value()) << cli->LogTail(5);
  EXPECT_EQ(*ended, 0) << cli->LogTail(5);
  std::string expected;
  for (int i = 1; i <= kRequests; ++i) absl::StrAppend(&expected, i, "\n");
  EXPECT_TRUE(cli->Log() == expected) << cli->LogTail(5);
  ExpectTakenOver();
}

INSTANTIATE_TEST_SUITE_P(, OrdinaryClientsTest, testing::Values(FaultKind::kKilled, FaultKind::kPowerCut),
                         NameOfFault);

}  // namespace
}  // namespace kvstore
