// The kvstore alone, with a data directory: whatever it has acknowledged is there when it is started again,
// however it ended.
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>

#include <algorithm>
#include <chrono>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tests/kvstore/dump.h"
#include "tests/kvstore/generator.h"
#include "tests/kvstore/servers.h"
#include "tests/kvstore/values.h"
#include "tests/kvstore/wire.h"
#include "tests/lab/process.h"

namespace kvstore::test {
namespace {

using Args = std::vector<std::string>;

class RestartTest : public testing::Test {
 protected:
  void SetUp() override {
    auto server = TestServer::StartKvStore({absl::StrCat("--data_dir=", folder_.path(), "/data")});
    ASSERT_TRUE(server.ok()) << server.status().message();
    server_ = *std::move(server);
    ASSERT_NO_FATAL_FAILURE(ConnectAgain());
  }
  void ConnectAgain() {
    auto wire = Wire::Connect(server_->address());
    ASSERT_TRUE(wire.ok()) << wire.status();
    wire_ = *std::move(wire);
  }
  void StartAgain() {
    const absl::Status started = server_->StartAgainIfEnded();
    ASSERT_TRUE(started.ok()) << started.message();
    ASSERT_NO_FATAL_FAILURE(ConnectAgain());
  }
  // By SIGTERM, or by kill -9.
  void End(bool in_order) {
    if (!in_order) return server_->process().Kill();
    server_->process().Signal(SIGTERM);
    const auto ended = server_->process().Wait(std::chrono::seconds(30));
    EXPECT_TRUE(ended && WIFEXITED(*ended) && WEXITSTATUS(*ended) == 0) << server_->process().LogTail(20);
  }
  Dump OurDump() {
    auto dump = ReadDump(*wire_);
    EXPECT_TRUE(dump.ok()) << dump.status();
    return dump.ok() ? *std::move(dump) : Dump();
  }

  understudy::lab::TempDir folder_;
  std::unique_ptr<TestServer> server_;
  std::unique_ptr<Wire> wire_;
};

TEST_F(RestartTest, EveryTypeIsThereAgain) {
  for (const bool in_order : {true, false}) {
    const std::vector<Args> requests = {{"SET", "string", "v"},
                                        {"SET", "", std::string("\0\r\n\xff", 4)},
                                        {"SET", "long", std::string(3 << 20, 'l')},
                                        {"SET", "expires", "v", "PXAT", "5000000000123"},
                                        {"RPUSH", "list", "a", "", "a", std::string(100'000, 'e')},
                                        {"LPUSH", "list", "first"},
                                        {"LREM", "list", "1", "a"},
                                        {"SADD", "set", "a", "b", ""},
                                        {"SREM", "set", "a"},
                                        {"HSET", "hash", "f", "v", "", "", "n", "1"},
                                        {"HINCRBY", "hash", "n", "41"},
                                        {"EXPIREAT", "hash", "5000000000"},
                                        {"SET", "gone", "v"},
                                        {"DEL", "gone"},
                                        {"RENAME", "string", "renamed"},
                                        {"COPY", "list", "copied"},
                                        {"APPEND", "long", "tail"},
                                        {"SETRANGE", "long", "100000", "middle"},
                                        {"INCRBYFLOAT", "float", "1.25"}};
    ASSERT_EQ(wire_->Ask({"FLUSHALL"}).text, "OK");
    for (const Args& args : requests) ASSERT_FALSE(wire_->Ask(args).is_error()) << Readable(Request{args});
    const Dump before = OurDump();
    const std::string digest = wire_->Ask({"DEBUG", "DIGEST"}).text, size = wire_->Ask({"DBSIZE"}).text;
    EXPECT_EQ(before.size(), 9u);
    for (int times = 0; times < 2; ++times) {
      End(in_order);
      ASSERT_NO_FATAL_FAILURE(StartAgain());
      EXPECT_EQ(CompareDumps(OurDump(), before, std::chrono::milliseconds(0)), "");
      EXPECT_EQ(wire_->Ask({"DEBUG", "DIGEST"}).text, digest);
      EXPECT_EQ(wire_->Ask({"DBSIZE"}).text, size);
    }
  }
}

TEST_F(RestartTest, WhatExpiredMeanwhileIsGone) {
  ASSERT_EQ(wire_->Ask({"SET", "short", "v", "PX", "100"}).text, "OK");
  ASSERT_EQ(wire_->Ask({"SET", "k", "v"}).text, "OK");
  const auto expired = std::chrono::steady_clock::now() + std::chrono::milliseconds(150);
  End(false);
  while (std::chrono::steady_clock::now() < expired) sched_yield();
  ASSERT_NO_FATAL_FAILURE(StartAgain());
  EXPECT_EQ(wire_->Ask({"DBSIZE"}).text, "1");
  EXPECT_TRUE(wire_->Ask({"GET", "short"}).null);
  EXPECT_EQ(wire_->Ask({"GET", "k"}).text, "v");
}

// The same data directory twice at once would be the end of it.
TEST_F(RestartTest, TheFolderIsTakenOnce) {
  auto second = TestServer::StartKvStore({absl::StrCat("--data_dir=", folder_.path(), "/data")});
  ASSERT_FALSE(second.ok());
  EXPECT_NE(std::string(second.status().message()).find("data"), std::string::npos) << second.status();
  EXPECT_EQ(wire_->Ask({"PING"}).text, "PONG");
}

// One request after the other of a random stream, many on their way, each followed by INCR of a counter; kill
// -9 in the middle. What is there again is what a redis-server holds that was given the same requests up to
// some point, and that point is not before the last reply.
class KilledTest : public RestartTest {
 protected:
  static constexpr char kCounter[] = "requests so far";

  // Nothing at random, nothing that ends the connection or is answered by the time.
  static bool Repeats(const Args& args) {
    std::string name = args[0];
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::toupper(c); });
    for (const char* other : {"SPOP", "QUIT", "RESET", "HELLO", "MULTI", "EXEC", "DISCARD", "WATCH",
                              "FLUSHALL", "FLUSHDB", "DEBUG", "CLIENT"}) {
      if (name == other) return false;
    }
    return true;
  }
  static std::vector<Args> RandomRequests(uint64_t seed, size_t count) {
    Generator generator(seed);
    std::vector<Args> requests;
    while (requests.size() < count) {
      Args args = generator.MakeRequest().args;
      if (Repeats(args)) requests.push_back(std::move(args));
    }
    return requests;
  }
  // The counter, or -1.
  static int64_t Count(Wire& wire) {
    int64_t count = -1;
    return absl::SimpleAtoi(wire.Ask({"GET", kCounter}).text, &count) ? count : -1;
  }
};

TEST_F(KilledTest, EverythingAcknowledgedIsThereAgain) {
  auto redis = TestServer::StartRedis();
  ASSERT_TRUE(redis.ok()) << redis.status().message();
  const uint64_t first = TestSeed();
  for (uint64_t seed = first; seed < first + 12; ++seed) {
    SCOPED_TRACE(absl::StrCat("UNDERSTUDY_TEST_SEED=", seed));
    Dice dice(seed);
    const std::vector<Args> requests = RandomRequests(seed, 3000);
    auto wire = Wire::Connect((*redis)->address());
    ASSERT_TRUE(wire.ok()) << wire.status();
    for (Wire* one : {wire_.get(), wire->get()}) {
      ASSERT_EQ(one->Ask({"FLUSHALL"}).text, "OK");
      ASSERT_EQ(one->Ask({"SET", kCounter, "0"}).text, "OK");
    }
    std::string bytes;
    for (const Args& args : requests) bytes += Encode(args) + Encode(Args{"INCR", kCounter});
    // So many replies are read before the end; what is behind them is on its way.
    const size_t acknowledged = 2 * dice.Below(requests.size());
    const Answer answer = wire_->ExchangeUntil(bytes, acknowledged);
    ASSERT_GE(answer.replies.size(), acknowledged);
    ASSERT_EQ(answer.error, "");
    End(false);
    ASSERT_NO_FATAL_FAILURE(StartAgain());

    const int64_t done = Count(*wire_);
    ASSERT_GE(done, static_cast<int64_t>(acknowledged / 2));
    ASSERT_LE(done, static_cast<int64_t>(requests.size()));
    std::cout << acknowledged / 2 << " acknowledged, " << done << " done, of " << requests.size()
              << std::endl;
    const size_t whole = static_cast<size_t>(done);
    for (size_t i = 0; i < whole; ++i) (*wire)->Ask(requests[i]);
    ASSERT_EQ((*wire)->Ask({"SET", kCounter, std::to_string(done)}).text, "OK");
    const auto tolerance = std::chrono::seconds(60);  // it was given the times to live later
    std::string difference = CompareDumps(OurDump(), *ReadDump(**wire), tolerance);
    if (!difference.empty() && whole < requests.size()) {
      // One more had been executed, its INCR not.
      (*wire)->Ask(requests[whole]);
      const std::string with_it = CompareDumps(OurDump(), *ReadDump(**wire), tolerance);
      if (with_it.empty()) difference.clear();
    }
    EXPECT_EQ(difference, "");
  }
}

}  // namespace
}  // namespace kvstore::test
