// Commands for keys of any type, and expiry: what Redis 7.0.15 says to the same requests.
#include <set>
#include <string>

#include "apps/kvstore/commands/command_fixture_for_test.h"
#include "gtest/gtest.h"

namespace kvstore {
namespace {

using KeysTest = CommandTest;

const std::string kOk = "+OK\r\n";
const std::string kSyntax = "-ERR syntax error\r\n";
const std::string kInteger = "-ERR value is not an integer or out of range\r\n";

TEST_F(KeysTest, DeleteAndCount) {
  Run("mset", "a", "1", "b", "2", "c", "3");
  EXPECT_EQ(Run("exists", "a", "a", "x", "b"), ":3\r\n");
  EXPECT_EQ(Run("touch", "a", "a", "x"), ":2\r\n");
  EXPECT_EQ(Run("del", "a", "a", "x"), ":1\r\n");
  EXPECT_EQ(Run("unlink", "b", "c"), ":2\r\n");
  EXPECT_EQ(Run("type", "a"), "+none\r\n");
  Run("sadd", "s", "1");
  EXPECT_EQ(Run("type", "s"), "+set\r\n");
}

TEST_F(KeysTest, Rename) {
  EXPECT_EQ(Run("rename", "x", "x"), "-ERR no such key\r\n");
  EXPECT_EQ(Run("renamenx", "x", "y"), "-ERR no such key\r\n");
  Run("set", "a", "1", "ex", "100");
  Run("rpush", "b", "2");
  EXPECT_EQ(Run("rename", "a", "a"), kOk);
  EXPECT_EQ(Run("renamenx", "a", "a"), ":0\r\n");
  EXPECT_EQ(Run("renamenx", "a", "b"), ":0\r\n");
  EXPECT_EQ(Run("rename", "a", "b"), kOk);
  EXPECT_EQ(Run("ttl", "b"), ":100\r\n");
  EXPECT_EQ(Run("renamenx", "b", "c"), ":1\r\n");
  EXPECT_EQ(Run("get", "c"), Bulk("1"));
  EXPECT_EQ(Run("dbsize"), ":1\r\n");
}

TEST_F(KeysTest, Copy) {
  const std::string same = "-ERR source and destination objects are the same\r\n";
  const std::string range = "-ERR DB index is out of range\r\n";
  EXPECT_EQ(Run("copy", "x", "x"), same);
  EXPECT_EQ(Run("copy", "x", "y"), ":0\r\n");
  EXPECT_EQ(Run("copy", "x", "x", "db", "99"), range);
  EXPECT_EQ(Run("copy", "x", "y", "db", "x"), kInteger);
  EXPECT_EQ(Run("copy", "x", "y", "db"), kSyntax);
  Run("rpush", "a", "1", "2");
  Run("expire", "a", "100");
  EXPECT_EQ(Run("copy", "a", "b", "db", "0"), ":1\r\n");
  EXPECT_EQ(Run("copy", "a", "b"), ":0\r\n");
  Run("rpush", "a", "3");
  EXPECT_EQ(Run("llen", "b"), ":2\r\n");
  EXPECT_EQ(Run("copy", "a", "b", "replace"), ":1\r\n");
  EXPECT_EQ(Run("lrange", "b", "0", "-1"), Bulks({"1", "2", "3"}));
  EXPECT_EQ(Run("ttl", "b"), ":100\r\n");
}

TEST_F(KeysTest, KeysAndScan) {
  Run("mset", "hello", "1", "hallo", "2", "hllo", "3");
  Run("sadd", "set", "1");
  Run("set", "gone", "1", "px", "1");
  Pass(std::chrono::milliseconds(2));
  EXPECT_EQ(SortedBulks(Run("keys", "*")), (std::vector<std::string>{"hallo", "hello", "hllo", "set"}));
  EXPECT_EQ(SortedBulks(Run("keys", "h[ae]llo")), (std::vector<std::string>{"hallo", "hello"}));
  EXPECT_EQ(Run("scan", "0", "match", "s*", "type", "SET"), "*2\r\n" + Bulk("0") + Bulks({"set"}));
  EXPECT_EQ(Run("scan", "0", "type", ""), "*2\r\n" + Bulk("0") + "*0\r\n");
  EXPECT_EQ(Run("scan", "x", "foo"), "-ERR invalid cursor\r\n");
  EXPECT_EQ(Run("scan", "0", "count"), kSyntax);
  EXPECT_EQ(Run("scan", "0", "count", "0"), kSyntax);
  EXPECT_EQ(Run("scan", "0", "count", "x", "foo"), kInteger);
  EXPECT_EQ(Run("scan", "0", "foo", "count", "x"), kSyntax);
  EXPECT_EQ(Run("del", "hello", "hallo", "hllo"), ":3\r\n");
  EXPECT_EQ(Run("randomkey"), Bulk("set"));
  Run("del", "set");
  EXPECT_EQ(Run("randomkey"), "$-1\r\n");
}

TEST_F(KeysTest, Expire) {
  EXPECT_EQ(Run("expire", "a", "10"), ":0\r\n");
  EXPECT_EQ(Run("ttl", "a"), ":-2\r\n");
  Run("set", "a", "1");
  EXPECT_EQ(Run("persist", "a"), ":0\r\n");
  EXPECT_EQ(Run("expire", "a", "10", "xx"), ":0\r\n");
  EXPECT_EQ(Run("expire", "a", "10", "gt"), ":0\r\n");  // never is later than any time
  EXPECT_EQ(Run("expire", "a", "100", "lt"), ":1\r\n");
  EXPECT_EQ(Run("expire", "a", "100", "nx"), ":0\r\n");
  EXPECT_EQ(Run("expire", "a", "200", "lt"), ":0\r\n");
  EXPECT_EQ(Run("expire", "a", "200", "xx", "gt"), ":1\r\n");
  EXPECT_EQ(Run("pexpire", "a", "1499"), ":1\r\n");
  EXPECT_EQ(Run("ttl", "a"), ":1\r\n");
  EXPECT_EQ(Run("pexpire", "a", "1500"), ":1\r\n");
  EXPECT_EQ(Run("ttl", "a"), ":2\r\n");
  EXPECT_EQ(Run("pttl", "a"), ":1500\r\n");
  EXPECT_EQ(Run("persist", "a"), ":1\r\n");
  EXPECT_EQ(Run("pttl", "a"), ":-1\r\n");
  EXPECT_EQ(Run("pexpireat", "a", "9223372036854775807"), ":1\r\n");
  EXPECT_EQ(Run("pexpiretime", "a"), ":9223372036854775807\r\n");
  EXPECT_EQ(Run("expiretime", "a"), ":9223372036854776\r\n");
  EXPECT_EQ(Run("get", "a"), Bulk("1"));
  for (const auto past : {"-1", "0", "-9223372036854775"}) {
    Run("set", "a", "1");
    EXPECT_EQ(Run("expire", "a", past), ":1\r\n");
    EXPECT_EQ(Run("exists", "a"), ":0\r\n");
  }
}

TEST_F(KeysTest, ExpireRefuses) {
  const std::string invalid = "-ERR invalid expire time in 'expire' command\r\n";
  const std::string nx = "-ERR NX and XX, GT or LT options at the same time are not compatible\r\n";
  EXPECT_EQ(Run("expire", "a", "x"), kInteger);
  EXPECT_EQ(Run("expire", "a", "x", "Foo"), "-ERR Unsupported option Foo\r\n");
  EXPECT_EQ(Run("expire", "a", "x", "nx", "gt"), nx);
  EXPECT_EQ(Run("expire", "a", "1", "gt", "nx", "lt"), nx);
  EXPECT_EQ(Run("expire", "a", "1", "gt", "lt"),
            "-ERR GT and LT options at the same time are not compatible\r\n");
  EXPECT_EQ(Run("expire", "a", "9223372036854775807"), invalid);
  EXPECT_EQ(Run("expire", "a", "9223372036854775"), invalid);
  EXPECT_EQ(Run("expire", "a", "-9223372036854776"), invalid);
  EXPECT_EQ(Run("pexpire", "a", "-9223372036854775808"), ":0\r\n");
}

// Time is the connection's, and stands where the last request left it.
TEST_F(KeysTest, KeysExpire) {
  Run("set", "a", "1", "px", "10");
  Run("rpush", "l", "1");
  Run("pexpire", "l", "20");
  Pass(std::chrono::milliseconds(10));
  EXPECT_EQ(Run("get", "a"), Bulk("1"));
  Pass(std::chrono::milliseconds(1));
  EXPECT_EQ(Run("get", "a"), "$-1\r\n");
  EXPECT_EQ(Run("dbsize"), ":1\r\n");
  Pass(std::chrono::milliseconds(10));
  EXPECT_EQ(Run("rpush", "l", "2"), ":1\r\n");
  EXPECT_EQ(Run("ttl", "l"), ":-1\r\n");
}

TEST_F(KeysTest, WatchersSeeChanges) {
  const auto other = Connect();
  const auto touched = [&](std::vector<std::vector<std::string_view>> changes) {
    Run("watch", "k");
    for (const auto& change : changes) other->RunArgs(change);
    Run("multi");
    return Run("exec") == "*-1\r\n";
  };
  EXPECT_TRUE(touched({{"set", "k", "v", "exat", "1"}})) << "written and gone";
  EXPECT_FALSE(touched({{"del", "k"}}));
  EXPECT_FALSE(touched({{"setrange", "k", "9", ""}}));
  EXPECT_TRUE(touched({{"append", "k", ""}}));
  EXPECT_TRUE(touched({{"append", "k", ""}}));
  EXPECT_TRUE(touched({{"set", "k", "1"}}));
  EXPECT_FALSE(
      touched({{"get", "k"}, {"getex", "k"}, {"getex", "k", "persist"}, {"persist", "k"}, {"touch", "k"}}));
  EXPECT_FALSE(
      touched({{"set", "k", "v", "nx"}, {"msetnx", "k", "1"}, {"rename", "k", "k"}, {"copy", "k", "z"}}));
  EXPECT_TRUE(touched({{"incrby", "k", "0"}}));
  EXPECT_TRUE(touched({{"expire", "k", "10"}}));
  EXPECT_TRUE(touched({{"getex", "k", "persist"}}));
  EXPECT_TRUE(touched({{"copy", "z", "k", "replace"}}));
  EXPECT_TRUE(touched({{"rename", "k", "y"}}));
  EXPECT_TRUE(touched({{"renamenx", "y", "k"}}));
  EXPECT_TRUE(touched({{"getex", "k", "exat", "1"}}));
}

}  // namespace
}  // namespace kvstore
