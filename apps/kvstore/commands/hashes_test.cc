#include <set>
#include <string>
#include <vector>

#include "apps/kvstore/commands/command_fixture_for_test.h"
#include "gtest/gtest.h"

namespace kvstore {
namespace {

using Hashes = CommandTest;

TEST_F(Hashes, SetAndGet) {
  EXPECT_EQ(Run("HSET", "h", "a", "1", "b", "2", "a", "3"), ":2\r\n");
  EXPECT_EQ(Run("HSET", "h", "a", "4", "c", "5"), ":1\r\n");
  EXPECT_EQ(Run("HMSET", "h", "d", "6"), "+OK\r\n");
  EXPECT_EQ(Run("HSETNX", "h", "a", "7"), ":0\r\n");
  EXPECT_EQ(Run("HSETNX", "h", "e", "7"), ":1\r\n");
  EXPECT_EQ(Run("HGET", "h", "a"), Bulk("4"));
  EXPECT_EQ(Run("HGET", "h", "q"), "$-1\r\n");
  EXPECT_EQ(Run("HMGET", "h", "e", "q", "a", "a"), "*4\r\n$1\r\n7\r\n$-1\r\n$1\r\n4\r\n$1\r\n4\r\n");
  EXPECT_EQ(Run("HLEN", "h"), ":5\r\n");
  EXPECT_EQ(Run("HSTRLEN", "h", "a"), ":1\r\n");
  EXPECT_EQ(Run("HSTRLEN", "h", "q"), ":0\r\n");
  EXPECT_EQ(Run("HEXISTS", "h", "a"), ":1\r\n");
  EXPECT_EQ(Run("HEXISTS", "h", "q"), ":0\r\n");
  EXPECT_EQ(Run("HDEL", "h", "a", "a", "q", "b"), ":2\r\n");
  EXPECT_EQ(SortedBulks(Run("HKEYS", "h")), (std::vector<std::string>{"c", "d", "e"}));
  EXPECT_EQ(SortedBulks(Run("HVALS", "h")), (std::vector<std::string>{"5", "6", "7"}));
  EXPECT_EQ(Run("HDEL", "h", "c", "d", "e", "c"), ":3\r\n");
  EXPECT_EQ(Run("EXISTS", "h"), ":0\r\n");
}

TEST_F(Hashes, NamesAndValuesAreBytes) {
  const std::string name("\0\r\n\xff", 4), value("\r\n\0", 3);
  EXPECT_EQ(Run("HSET", "h", name, value, "", ""), ":2\r\n");
  EXPECT_EQ(Run("HGET", "h", name), Bulk(value));
  EXPECT_EQ(Run("HGET", "h", ""), Bulk(""));
  EXPECT_EQ(SortedBulks(Run("HGETALL", "h")), (std::vector<std::string>{"", "", name, value}));
}

TEST_F(Hashes, NoSuchKey) {
  EXPECT_EQ(Run("HGET", "no", "a"), "$-1\r\n");
  EXPECT_EQ(Run("HMGET", "no", "a", "b"), "*2\r\n$-1\r\n$-1\r\n");
  EXPECT_EQ(Run("HGETALL", "no"), "*0\r\n");
  EXPECT_EQ(Run("HKEYS", "no"), "*0\r\n");
  EXPECT_EQ(Run("HVALS", "no"), "*0\r\n");
  EXPECT_EQ(Run("HLEN", "no"), ":0\r\n");
  EXPECT_EQ(Run("HEXISTS", "no", "a"), ":0\r\n");
  EXPECT_EQ(Run("HSTRLEN", "no", "a"), ":0\r\n");
  EXPECT_EQ(Run("HDEL", "no", "a"), ":0\r\n");
  EXPECT_EQ(Run("EXISTS", "no"), ":0\r\n");
}

TEST_F(Hashes, Errors) {
  Run("SET", "s", "x");
  const std::string arity = "-ERR wrong number of arguments for 'hset' command\r\n";
  EXPECT_EQ(Run("HSET", "h", "f"), arity);
  EXPECT_EQ(Run("HSET", "h", "f", "v", "g"), arity);
  EXPECT_EQ(Run("HSET", "s", "f", "v", "g"), arity);  // before the type
  EXPECT_EQ(Run("HMSET", "s", "f", "v", "g"), "-ERR wrong number of arguments for 'hmset' command\r\n");
  EXPECT_EQ(Run("EXISTS", "h"), ":0\r\n");
  EXPECT_EQ(Run("HSET", "s", "f", "v"), kWrongTypeReply);
  EXPECT_EQ(Run("HMSET", "s", "f", "v"), kWrongTypeReply);
  EXPECT_EQ(Run("HSETNX", "s", "f", "v"), kWrongTypeReply);
  EXPECT_EQ(Run("HGET", "s", "f"), kWrongTypeReply);
  EXPECT_EQ(Run("HMGET", "s", "f"), kWrongTypeReply);
  EXPECT_EQ(Run("HDEL", "s", "f"), kWrongTypeReply);
  EXPECT_EQ(Run("HEXISTS", "s", "f"), kWrongTypeReply);
  EXPECT_EQ(Run("HSTRLEN", "s", "f"), kWrongTypeReply);
  for (const char* name : {"HGETALL", "HKEYS", "HVALS", "HLEN"}) {
    EXPECT_EQ(Run(name, "s"), kWrongTypeReply) << name;
  }
}

TEST_F(Hashes, Resp3) {
  client().session().protocol = 3;
  Run("HSET", "h", "a", "1");
  EXPECT_EQ(Run("HGETALL", "h"), "%1\r\n$1\r\na\r\n$1\r\n1\r\n");
  EXPECT_EQ(Run("HGETALL", "no"), "%0\r\n");
  EXPECT_EQ(Run("HKEYS", "h"), Bulks({"a"}));
  EXPECT_EQ(Run("HVALS", "h"), Bulks({"1"}));
  EXPECT_EQ(Run("HGET", "h", "q"), "_\r\n");
  EXPECT_EQ(Run("HMGET", "h", "q", "a"), "*2\r\n_\r\n$1\r\n1\r\n");
  EXPECT_EQ(Run("HSCAN", "h", "0"), "*2\r\n$1\r\n0\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n");
  EXPECT_EQ(Run("HINCRBYFLOAT", "h", "a", "0.5"), Bulk("1.5"));
}

TEST_F(Hashes, IncrementIntegers) {
  EXPECT_EQ(Run("HINCRBY", "h", "n", "5"), ":5\r\n");
  EXPECT_EQ(Run("HINCRBY", "h", "n", "-7"), ":-2\r\n");
  EXPECT_EQ(Run("HGET", "h", "n"), Bulk("-2"));
  Run("SET", "s", "x");
  const std::string not_an_integer = "-ERR value is not an integer or out of range\r\n";
  EXPECT_EQ(Run("HINCRBY", "s", "n", "x"), not_an_integer);
  EXPECT_EQ(Run("HINCRBY", "h", "n", "9223372036854775808"), not_an_integer);
  EXPECT_EQ(Run("HINCRBY", "s", "n", "1"), kWrongTypeReply);
  Run("HSET", "h", "x", " 1", "e", "", "max", "9223372036854775807", "min", "-9223372036854775808");
  EXPECT_EQ(Run("HINCRBY", "h", "x", "1"), "-ERR hash value is not an integer\r\n");
  EXPECT_EQ(Run("HINCRBY", "h", "e", "1"), "-ERR hash value is not an integer\r\n");
  EXPECT_EQ(Run("HINCRBY", "h", "max", "1"), "-ERR increment or decrement would overflow\r\n");
  EXPECT_EQ(Run("HINCRBY", "h", "min", "-1"), "-ERR increment or decrement would overflow\r\n");
  EXPECT_EQ(Run("HINCRBY", "h", "min", "9223372036854775807"), ":-1\r\n");
}

TEST_F(Hashes, IncrementFloats) {
  EXPECT_EQ(Run("HINCRBYFLOAT", "h", "x", "1.5"), Bulk("1.5"));
  EXPECT_EQ(Run("HINCRBYFLOAT", "h", "x", "1e5"), Bulk("100001.5"));
  EXPECT_EQ(Run("HGET", "h", "x"), Bulk("100001.5"));
  EXPECT_EQ(Run("HINCRBYFLOAT", "h", "y", "3.0e-20"), Bulk("0"));
  EXPECT_EQ(Run("HINCRBYFLOAT", "h", "y", "0x10"), Bulk("16"));
  Run("SET", "s", "x");
  for (const char* wrong : {"x", "nan", " 1", ""}) {
    EXPECT_EQ(Run("HINCRBYFLOAT", "s", "x", wrong), "-ERR value is not a valid float\r\n") << wrong;
  }
  EXPECT_EQ(Run("HINCRBYFLOAT", "h", "x", "-inf"), "-ERR value is NaN or Infinity\r\n");
  EXPECT_EQ(Run("HINCRBYFLOAT", "s", "x", "1"), kWrongTypeReply);
  Run("HSET", "h", "w", "word", "i", "inf");
  EXPECT_EQ(Run("HINCRBYFLOAT", "h", "w", "1"), "-ERR hash value is not a float\r\n");
  EXPECT_EQ(Run("HINCRBYFLOAT", "h", "i", "1"), "-ERR increment would produce NaN or Infinity\r\n");
}

TEST_F(Hashes, ScanChecks) {
  Run("SET", "s", "x");
  Run("HSET", "h", "a", "1", "b", "2");
  const std::string nothing = "*2\r\n$1\r\n0\r\n*0\r\n";
  EXPECT_EQ(Run("HSCAN", "s", "x"), "-ERR invalid cursor\r\n");
  EXPECT_EQ(Run("HSCAN", "s", "0", "FOO"), kWrongTypeReply);
  // There is nothing to scan: nobody looks at the options.
  EXPECT_EQ(Run("HSCAN", "no", "0", "COUNT", "x"), nothing);
  EXPECT_EQ(Run("HSCAN", "h", "0", "COUNT", "0"), "-ERR syntax error\r\n");
  EXPECT_EQ(Run("HSCAN", "h", "0", "COUNT", "x"), "-ERR value is not an integer or out of range\r\n");
  EXPECT_EQ(Run("HSCAN", "h", "0", "TYPE", "hash"), "-ERR syntax error\r\n");
  EXPECT_EQ(Run("HSCAN", "h", "0", "MATCH", "c*"), nothing);
  EXPECT_EQ(Run("HSCAN", "h", "0", "match", "a*"), "*2\r\n$1\r\n0\r\n" + Bulks({"a", "1"}));
}

TEST_F(Hashes, ScanFindsEachFieldOnce) {
  std::multiset<std::string> expected, found;
  for (int i = 0; i < 1000; ++i) {
    const std::string field = "f" + std::to_string(i), value = "v" + std::to_string(i);
    Run("HSET", "h", field, value);
    expected.insert({field, value});
  }
  std::string cursor = "0";
  int steps = 0;
  do {
    const std::string reply = Run("HSCAN", "h", cursor, "COUNT", "70");
    ASSERT_TRUE(reply.starts_with("*2\r\n$")) << reply;
    const size_t begin = reply.find("\r\n", 4) + 2, end = reply.find("\r\n", begin);
    cursor = reply.substr(begin, end - begin);
    for (const std::string& each : SortedBulks(std::string_view(reply).substr(end + 2))) found.insert(each);
    ASSERT_LT(++steps, 100);
  } while (cursor != "0");
  EXPECT_EQ(found, expected);
  EXPECT_GE(steps, 14);
}

TEST_F(Hashes, KeepTheirExpiry) {
  Run("HSET", "h", "a", "1");
  Run("PEXPIRE", "h", "1000");
  Run("HSET", "h", "a", "2", "b", "3");
  Run("HDEL", "h", "a");
  EXPECT_EQ(Run("PTTL", "h"), ":1000\r\n");
  Pass(std::chrono::milliseconds(1001));
  EXPECT_EQ(Run("HLEN", "h"), ":0\r\n");
  EXPECT_EQ(Run("HSET", "h", "c", "1"), ":1\r\n");
  EXPECT_EQ(Run("HGETALL", "h"), Bulks({"c", "1"}));
  EXPECT_EQ(Run("PTTL", "h"), ":-1\r\n");
}

}  // namespace
}  // namespace kvstore
