#include "replication/node_id.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "absl/status/status.h"

namespace understudy::replication {
namespace {

TEST(NodeIdTest, TextAndBack) {
  const NodeId whole{"node-1", 0xc0ffee, "198.18.0.1:7100"};
  EXPECT_EQ(whole.ToString(), "node-1/0000000000c0ffee@198.18.0.1:7100");
  for (const NodeId& id :
       {whole, NodeId{"a", 0, ""}, NodeId{"a", UINT64_MAX, ""}, NodeId{"a.b", 0, "[fe80::1%eth0]:1"}}) {
    const auto back = NodeId::Parse(id.ToString());
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(*back, id);
  }
}

TEST(NodeIdTest, WhatNamesNoNode) {
  for (const std::string text :
       {"", "@1.2.3.4:5", "/00c0ffee00c0ffee", "a/", "a/c0ffee", "a/00c0ffee00c0ffe-", "a/ 0c0ffee00c0ffee",
        "a/0000000000000000", "a/00c0ffee00c0ffee00", "a@", "a@here", "a@1.2.3.4:5 b", "a@1.2.3.4:5,b", "a b",
        "a/-0c0ffee00c0ffee", "a/0x00000000c0ffee"}) {
    EXPECT_FALSE(NodeId::Parse(text).ok()) << text;
  }
  EXPECT_FALSE(NodeId::Parse("a@" + std::string(81, ':')).ok());
}

// What is taken for a node is one, and means itself.
TEST(NodeIdTest, RandomText) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  const std::string good = NodeId{"a", 0xc0ffee00c0ffee, "198.18.0.1:7100"}.ToString();
  for (int i = 0; i < 20000; ++i) {
    std::string text = good;
    for (int n = random() % 3; n >= 0; --n) text[random() % text.size()] = static_cast<char>(random());
    const auto id = NodeId::Parse(text);
    if (!id.ok()) continue;
    const auto again = NodeId::Parse(id->ToString());
    ASSERT_TRUE(again.ok()) << again.status();
    EXPECT_EQ(*again, *id);
  }
}

}  // namespace
}  // namespace understudy::replication
