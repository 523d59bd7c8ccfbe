#include "tests/kvstore/failover/linearizable.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <random>

#include "absl/strings/str_cat.h"

namespace kvstore {
namespace {

Operation Op(int client, int64_t sent, int64_t answered, std::vector<std::string> request,
             std::string reply) {
  return {client, sent, answered, std::move(request), std::move(reply)};
}

TEST(Linearizable, OneAfterTheOther) {
  EXPECT_TRUE(Judge({}).linearizable);
  EXPECT_TRUE(Judge({Op(1, 0, 1, {"GET"}, "$-1\r\n"), Op(1, 2, 3, {"SET", "a"}, "+OK\r\n"),
                     Op(1, 4, 5, {"GET"}, "$1\r\na\r\n"), Op(1, 6, 7, {"APPEND", "b"}, ":2\r\n"),
                     Op(1, 8, 9, {"GETDEL"}, "$2\r\nab\r\n"), Op(1, 10, 11, {"SETNX", "5"}, ":1\r\n"),
                     Op(1, 12, 13, {"INCR"}, ":6\r\n"), Op(1, 14, 15, {"GETSET", "x"}, "$1\r\n6\r\n"),
                     Op(1, 16, 17, {"INCR"}, "-ERR value is not an integer or out of range\r\n")})
                  .linearizable);
}

TEST(Linearizable, WhatOverlapsMayBeInEitherOrder) {
  const Operation write = Op(1, 0, 10, {"SET", "a"}, "+OK\r\n");
  EXPECT_TRUE(Judge({write, Op(2, 5, 6, {"GET"}, "$-1\r\n")}).linearizable);
  EXPECT_TRUE(Judge({write, Op(2, 5, 6, {"GET"}, "$1\r\na\r\n")}).linearizable);
  // Seen once, seen for good: also by others, and while it has not been answered.
  const std::string none = "$-1\r\n", a = "$1\r\na\r\n";
  EXPECT_TRUE(Judge({write, Op(2, 2, 3, {"GET"}, none), Op(3, 4, 5, {"GET"}, a)}).linearizable);
  EXPECT_FALSE(Judge({write, Op(2, 2, 3, {"GET"}, a), Op(3, 4, 5, {"GET"}, none)}).linearizable);
}

TEST(Linearizable, ALostWriteIsFound) {
  const Judgement judgement = Judge({Op(1, 0, 1, {"SET", "a"}, "+OK\r\n"), Op(2, 2, 3, {"GET"}, "$-1\r\n")});
  EXPECT_FALSE(judgement.linearizable);
  EXPECT_NE(judgement.why.find("client 2 [2, 3] GET -> $-1"), std::string::npos) << judgement.why;
}

TEST(Linearizable, AWriteDoneTwiceIsFound) {
  EXPECT_FALSE(Judge({Op(1, 0, 1, {"INCR"}, ":1\r\n"), Op(1, 2, 3, {"INCR"}, ":3\r\n")}).linearizable);
  EXPECT_FALSE(Judge({Op(1, 0, 9, {"INCR"}, ":1\r\n"), Op(2, 0, 9, {"INCR"}, ":1\r\n")}).linearizable);
  const Operation append = Op(1, 0, 1, {"APPEND", "x"}, ":1\r\n");
  EXPECT_FALSE(Judge({append, Op(1, 2, 3, {"GET"}, "$2\r\nxx\r\n")}).linearizable);
}

TEST(Linearizable, ASearchThatHasToGoBack) {
  // Of three writes at once only one order explains the two readings behind.
  std::vector<Operation> history = {
      Op(1, 0, 10, {"SET", "a"}, "+OK\r\n"), Op(2, 0, 10, {"SET", "b"}, "+OK\r\n"),
      Op(3, 0, 10, {"GETSET", "c"}, "$1\r\nb\r\n"), Op(1, 11, 12, {"GET"}, "$1\r\na\r\n")};
  EXPECT_TRUE(Judge(history).linearizable);
  history.push_back(Op(2, 13, 14, {"GET"}, "$1\r\nc\r\n"));
  EXPECT_FALSE(Judge(history).linearizable);
}

uint64_t Seed() {
  const char* given = getenv("UNDERSTUDY_TEST_SEED");
  const uint64_t seed = given != nullptr ? strtoull(given, nullptr, 10) : std::random_device()();
  std::cout << "UNDERSTUDY_TEST_SEED=" << seed << std::endl;
  return seed;
}

// Many clients on a server that does one thing after the other, with delays on both ways.
std::vector<Operation> RandomHistory(std::mt19937_64& random, size_t size) {
  constexpr int kClients = 8;
  std::vector<int64_t> free_at(kClients, 0);
  std::vector<Operation> history;
  int64_t now = 0;
  Value value;
  for (size_t i = 0; i < size; ++i) {
    Operation operation;
    const auto client = static_cast<size_t>(random() % kClients);
    operation.client = static_cast<int>(client);
    now = std::max(now, free_at[client]) + 1 + static_cast<int64_t>(random() % 3);
    operation.sent_ns = std::max(free_at[client], now - static_cast<int64_t>(random() % 20));
    operation.answered_ns = now + static_cast<int64_t>(random() % 20);
    free_at[client] = operation.answered_ns + 1;
    switch (random() % 5) {
      case 0: operation.request = {"SET", absl::StrCat("v", i)}; break;
      case 1: operation.request = {"GETSET", absl::StrCat("v", i)}; break;
      case 2: operation.request = {"APPEND", "x"}; break;
      default: operation.request = {"GET"}; break;
    }
    std::tie(value, operation.reply) = StepOf(value, operation.request);
    history.push_back(operation);
  }
  return history;
}

TEST(Linearizable, HistoriesOfOneServerAreAndBrokenOnesAreNot) {
  std::mt19937_64 random(Seed());
  int judged_broken = 0;
  for (int round = 0; round < 30; ++round) {
    std::vector<Operation> history = RandomHistory(random, 400);
    ASSERT_TRUE(Judge(history).linearizable) << Judge(history).why;
    // A read that finds what was overwritten before it was sent: a write whose effect was lost.
    std::vector<size_t> writes, reads;
    for (size_t i = 0; i < history.size(); ++i) {
      if (history[i].request[0] == "SET") writes.push_back(i);
    }
    ASSERT_GE(writes.size(), 2u);
    const Operation& first = history[writes[0]];
    bool broken = false;
    for (size_t i = writes[1] + 1; i < history.size() && !broken; ++i) {
      if (history[i].request[0] != "GET" || history[i].sent_ns <= history[writes[1]].answered_ns ||
          history[writes[1]].sent_ns <= first.answered_ns) {
        continue;
      }
      history[i].reply = absl::StrCat("$", first.request[1].size(), "\r\n", first.request[1], "\r\n");
      broken = true;
    }
    if (!broken) continue;
    ++judged_broken;
    EXPECT_FALSE(Judge(history).linearizable);
  }
  EXPECT_GT(judged_broken, 5);
}

}  // namespace
}  // namespace kvstore
