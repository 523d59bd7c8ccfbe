// Random requests, sent to the kvstore and to a real redis-server: the replies are the same.
//
//   UNDERSTUDY_TEST_SEED=N      the seed of the first stream; the next ones have N + 1, N + 2, ...
//   UNDERSTUDY_DIFF_STREAMS=N   so many streams
//
// One failing stream again: both, with N = 1 for the second.
#include <gtest/gtest.h>

#include <chrono>
#include <iostream>
#include <memory>
#include <set>
#include <string>

#include "tests/kvstore/generator.h"
#include "tests/kvstore/runner.h"
#include "tests/kvstore/servers.h"

namespace kvstore::test {
namespace {

constexpr int kShrinkingRuns = 1500;
constexpr std::chrono::seconds kShrinkingTime(60);
constexpr size_t kFailuresToShow = 8;

TEST(DifferentialTest, RandomStreams) {
  auto redis = TestServer::StartRedis();
  ASSERT_TRUE(redis.ok()) << redis.status().message();
  auto ours = TestServer::StartKvStore();
  ASSERT_TRUE(ours.ok()) << ours.status().message();
  Runner runner(ours->get(), redis->get());

  const uint64_t first = TestSeed();
  const uint64_t streams = FromEnvironment("UNDERSTUDY_DIFF_STREAMS", 300);
  size_t requests = 0;
  std::set<std::string> seen;  // one of a kind is enough
  for (uint64_t seed = first; seed < first + streams && seen.size() < kFailuresToShow; ++seed) {
    Stream stream = Generator(seed).MakeStream();
    const std::string what = runner.Run(stream);
    requests += runner.requests_done();
    if ((seed - first) % 1000 == 999) std::cout << seed - first + 1 << " streams" << std::endl;
    if (what.empty() || !seen.insert(what.substr(what.find('\n') + 1)).second) continue;
    const bool crashed = !(*ours)->process().running();
    const auto deadline = std::chrono::steady_clock::now() + kShrinkingTime;
    const auto differs = [&](const Stream& part) {
      return std::chrono::steady_clock::now() < deadline && !runner.Run(part).empty();
    };
    stream = Shrink(std::move(stream), differs, kShrinkingRuns);
    ADD_FAILURE() << "UNDERSTUDY_TEST_SEED=" << seed << " differs:\n"
                  << what << "\nand shrunk to\n"
                  << Readable(stream) << runner.Run(stream)
                  << (crashed ? "\nthe kvstore has ended:\n" + (*ours)->process().LogTail(30) : "");
  }
  std::cout << streams << " streams, " << requests << " requests" << std::endl;
}

}  // namespace
}  // namespace kvstore::test
