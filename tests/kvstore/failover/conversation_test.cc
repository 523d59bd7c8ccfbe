// Conversations that a failure falls into the middle of: transactions, pipelines, walks, large values.
#include <gtest/gtest.h>

#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tests/kvstore/failover/kv_pair_fixture.h"

namespace kvstore {
namespace {

using understudy::lab::FaultKind;
using understudy::lab::kPatience;
using understudy::lab::TestSeed;

constexpr size_t kLarge = 20 << 20;

std::string RandomBytes(size_t size, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::string bytes(size, 0);
  for (char& byte : bytes) byte = static_cast<char>(random());
  return bytes;
}

class ConversationTest : public KvPairTest {
 protected:
  void SetUp() override { StartPair(); }
};

TEST_P(ConversationTest, MidTransaction) {
  KvClient one(client()), other(client());
  EXPECT_EQ(one.Ask({"SET", "n", "1"}), "+OK\r\n");
  EXPECT_EQ(one.Ask({"MULTI"}), "+OK\r\n");
  EXPECT_EQ(one.Ask({"INCR", "n"}), "+QUEUED\r\n");
  EXPECT_EQ(one.Ask({"SET", "s", std::string("a\0b", 3)}), "+QUEUED\r\n");
  Fault();
  EXPECT_EQ(other.Ask({"GET", "n"}), "$1\r\n1\r\n") << "a queued request has run";
  EXPECT_EQ(one.Ask({"LPUSH", "l", "x", "y"}), "+QUEUED\r\n");
  EXPECT_EQ(one.Ask({"INCR", "s"}), "+QUEUED\r\n");
  EXPECT_EQ(one.Ask({"EXEC"}), "*4\r\n:2\r\n+OK\r\n:2\r\n-ERR value is not an integer or out of range\r\n");
  EXPECT_EQ(other.Ask({"LRANGE", "l", "0", "-1"}), "*2\r\n$1\r\ny\r\n$1\r\nx\r\n");
  EXPECT_EQ(one.error() + other.error(), "");
  ExpectTakenOver();
}

TEST_P(ConversationTest, WatchedKeysStayWatched) {
  KvClient changed(client()), unchanged(client()), expired(client()), other(client());
  other.Ask({"MSET", "a", "1", "b", "1"});
  other.Ask({"SET", "c", "1", "PX", "1"});
  for (const auto& [watcher, key] : {std::pair{&changed, "a"}, {&unchanged, "b"}}) {
    EXPECT_EQ(watcher->Ask({"WATCH", key}), "+OK\r\n");
    EXPECT_EQ(watcher->Ask({"MULTI"}), "+OK\r\n");
    EXPECT_EQ(watcher->Ask({"APPEND", key, "x"}), "+QUEUED\r\n");
  }
  Fault();
  EXPECT_EQ(other.Ask({"SET", "a", "2"}), "+OK\r\n");
  EXPECT_EQ(changed.Ask({"EXEC"}), "*-1\r\n");
  EXPECT_EQ(unchanged.Ask({"EXEC"}), "*1\r\n:2\r\n");
  EXPECT_EQ(changed.error() + unchanged.error() + other.error(), "");
  ExpectTakenOver();
}

TEST_P(ConversationTest, MidPipeline) {
  constexpr int kRequests = 20000;
  KvClient client_(client());
  std::string requests, first_half;
  for (int i = 0; i < kRequests; ++i) requests += RequestBytes({"INCR", "counter"});
  // In pieces that end anywhere, and the fault when some of the answers are there.
  const size_t half = requests.size() / 2 + 7;
  client_.WriteWhileReceiving(std::string_view(requests).substr(0, half));
  client_.Receive(1000);
  Fault();
  client_.WriteWhileReceiving(std::string_view(requests).substr(half));
  for (int i = 1; i <= kRequests; ++i) {
    ASSERT_EQ(client_.ReadReply(), absl::StrCat(":", i, "\r\n")) << client_.error();
  }
  EXPECT_EQ(client_.Ask({"GET", "counter"}), BulkBytes(absl::StrCat(kRequests)));
  ExpectTakenOver();
}

TEST_P(ConversationTest, MidLargeValueUpwards) {
  const std::string value = RandomBytes(kLarge, TestSeed());
  KvClient writer(client()), reader(client());
  const std::string request = RequestBytes({"SET", "large", value});
  writer.Write(std::string_view(request).substr(0, kLarge / 3));
  Fault();
  writer.Write(std::string_view(request).substr(kLarge / 3));
  EXPECT_EQ(writer.ReadReply(), "+OK\r\n") << writer.error();
  EXPECT_TRUE(reader.Ask({"GET", "large"}) == BulkBytes(value)) << reader.error();
  ExpectTakenOver();
}

TEST_P(ConversationTest, MidLargeValueDownwards) {
  const std::string value = RandomBytes(kLarge, TestSeed() + 1);
  // The reader's kernel cannot hold it all: most of it is still to come when the primary goes.
  KvClient writer(client()), reader(client(), 256 << 10);
  EXPECT_EQ(writer.Ask({"SET", "large", value}), "+OK\r\n") << writer.error();
  reader.Write(RequestBytes({"GET", "large"}) + RequestBytes({"STRLEN", "large"}));
  reader.Receive(kLarge / 3);
  Fault();
  EXPECT_TRUE(reader.ReadReply() == BulkBytes(value)) << reader.error();
  EXPECT_EQ(reader.ReadReply(), absl::StrCat(":", kLarge, "\r\n")) << reader.error();
  ExpectTakenOver();
}

TEST_P(ConversationTest, MidWalkEveryKeyComesExactlyOnce) {
  constexpr int kKeys = 3000;
  KvClient one(client());
  std::string requests;
  for (int i = 0; i < kKeys; ++i) requests += RequestBytes({"SET", absl::StrCat("key", i), "v"});
  one.WriteWhileReceiving(requests);
  for (int i = 0; i < kKeys; ++i) ASSERT_EQ(one.ReadReply(), "+OK\r\n") << one.error();
  std::multiset<std::string> seen;
  std::string cursor = "0";
  for (int step = 0; step == 0 || cursor != "0"; ++step) {
    ASSERT_LT(step, 10 * kKeys);
    if (step == 20) Fault();
    std::string reply = one.Ask({"SCAN", cursor, "COUNT", "20"});
    ASSERT_EQ(one.error(), "");
    // "*2", the cursor, "*N", the keys.
    std::vector<std::string> words;
    for (size_t at = 0, end; (end = reply.find("\r\n", at)) != std::string::npos; at = end + 2) {
      const std::string line = reply.substr(at, end - at);
      if (line[0] != '*' && line[0] != '$') words.push_back(line);
    }
    ASSERT_FALSE(words.empty()) << reply;
    cursor = words[0];
    seen.insert(words.begin() + 1, words.end());
  }
  EXPECT_EQ(seen.size(), static_cast<size_t>(kKeys));
  for (int i = 0; i < kKeys; ++i) EXPECT_EQ(seen.count(absl::StrCat("key", i)), 1u) << i;
  ExpectTakenOver();
}

TEST_P(ConversationTest, WhatAConnectionHasSaidOfItselfStays) {
  KvClient one(client());
  one.Ask({"HELLO", "3"});
  EXPECT_EQ(one.Ask({"CLIENT", "SETNAME", "lady-macbeth"}), "+OK\r\n");
  const std::string id = one.Ask({"CLIENT", "ID"});
  EXPECT_EQ(one.Ask({"HSET", "h", "f", "v"}), ":1\r\n");
  Fault();
  EXPECT_EQ(one.Ask({"CLIENT", "GETNAME"}), BulkBytes("lady-macbeth"));
  EXPECT_EQ(one.Ask({"CLIENT", "ID"}), id);
  EXPECT_EQ(one.Ask({"HGETALL", "h"}), "%1\r\n$1\r\nf\r\n$1\r\nv\r\n") << "RESP3 has been forgotten";
  EXPECT_EQ(one.error(), "");
  ExpectTakenOver();
}

TEST_P(ConversationTest, WhatWasToExpireDoes) {
  KvClient one(client());
  EXPECT_EQ(one.Ask({"SET", "soon", "v", "PX", "50"}), "+OK\r\n");
  EXPECT_EQ(one.Ask({"SET", "late", "v", "EX", "100"}), "+OK\r\n");
  const std::string at = one.Ask({"PEXPIRETIME", "late"});
  Fault();
  EXPECT_EQ(one.Ask({"PEXPIRETIME", "late"}), at);
  int64_t left = 0;
  const std::string reply = one.Ask({"PTTL", "late"});
  ASSERT_TRUE(absl::SimpleAtoi(reply.substr(1), &left)) << reply;
  EXPECT_GT(left, 60'000);
  EXPECT_LE(left, 100'000);
  const auto end = std::chrono::steady_clock::now() + kPatience;
  while (one.Ask({"EXISTS", "soon"}) != ":0\r\n" && std::chrono::steady_clock::now() < end) {
  }
  EXPECT_EQ(one.Ask({"EXISTS", "soon"}), ":0\r\n");
  EXPECT_EQ(one.Ask({"DBSIZE"}), ":1\r\n");
  EXPECT_EQ(one.error(), "");
  ExpectTakenOver();
}

// What both hold is the same: the pair compares its output, of which a digest is a part; and the heir's is
// what the primary's was.
TEST_P(ConversationTest, BothHoldTheSame) {
  const uint64_t seed = TestSeed() + 2;
  std::mt19937_64 random(seed);
  KvClient one(client());
  std::string requests;
  constexpr int kRequests = 5000;
  for (int i = 0; i < kRequests; ++i) {
    const std::string key = absl::StrCat("k", random() % 50), word = absl::StrCat(random() % 40);
    const std::vector<std::vector<std::string>> choices = {
        {"SET", key, word},
        {"SET", key, word, "EX", "100"},
        {"APPEND", key, RandomBytes(random() % 9000, i)},
        {"HSET", key, word, key},
        {"HDEL", key, word},
        {"RPUSH", key, word, "x"},
        {"LPUSH", key, word},
        {"LREM", key, "0", word},
        {"LPOP", key},
        {"LINSERT", key, "BEFORE", "x", word},
        {"SADD", key, word},
        {"SREM", key, word},
        {"SPOP", key},
        {"SRANDMEMBER", key},
        {"RANDOMKEY"},
        {"RENAME", key, absl::StrCat("k", random() % 50)},
        {"DEL", key},
        {"PEXPIRE", key, "20"},
        {"COPY", key, word},
        {"INCRBYFLOAT", key, "0.1"},
        {"ZADD", key, word, "x", "1.5", word},
        {"ZINCRBY", key, "0.1", word},
        {"ZREM", key, word},
        {"ZPOPMIN", key},
        {"ZRANDMEMBER", key, "-3"},
        {"ZUNIONSTORE", word, "2", key, "k1", "WEIGHTS", "0.3", "2"},
        {"INFO", "memory"},
        {"ZREVRANGE", key, "0", "-1", "WITHSCORES"},
        {"PERSIST", key},
        {"TIME"}};
    requests += RequestBytes(choices[random() % choices.size()]);
  }
  one.WriteWhileReceiving(requests);
  for (int i = 0; i < kRequests; ++i) ASSERT_NE(one.ReadReply(), "") << one.error();
  // So that the time of the digest does not matter.
  const std::string keys = one.Ask({"KEYS", "*"});
  for (size_t at = 0, end; (end = keys.find("\r\n", at)) != std::string::npos; at = end + 2) {
    const std::string line = keys.substr(at, end - at);
    if (line[0] != '*' && line[0] != '$') one.Ask({"PERSIST", line});
  }
  const std::string digest = one.Ask({"DEBUG", "DIGEST"});
  EXPECT_EQ(one.Ask({"DEBUG", "DIGEST"}), digest);
  EXPECT_EQ(status(primary()).State(), "protected");
  EXPECT_EQ(status(understudy::lab::Other(primary())).State(), "protected") << "the secondary differs:\n"
                                                                            << pair_->LogTails(20);
  Fault();
  EXPECT_EQ(one.Ask({"DEBUG", "DIGEST"}), digest);
  EXPECT_NE(digest, absl::StrCat("+", std::string(32, '0'), "\r\n"));
  EXPECT_EQ(one.error(), "");
  ExpectTakenOver();
}

INSTANTIATE_TEST_SUITE_P(, ConversationTest,
                         testing::Values(FaultKind::kKilled, FaultKind::kPowerCut, FaultKind::kStopped),
                         NameOfFault);

}  // namespace
}  // namespace kvstore
