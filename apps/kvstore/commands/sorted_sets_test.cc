// Sorted sets. The replies are Redis 7.0.15's; tests/kvstore compares many more.
#include <cmath>
#include <map>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "apps/kvstore/commands/command_fixture_for_test.h"

namespace kvstore {
namespace {

using SortedSetCommands = CommandTest;

TEST_F(SortedSetCommands, Add) {
  EXPECT_EQ(Run("ZADD", "z", "1", "a", "2", "b", "1", "a"), ":2\r\n");
  EXPECT_EQ(Run("ZADD", "z", "CH", "3", "a", "2", "b", "0.1", "c"), ":2\r\n");
  EXPECT_EQ(Run("ZADD", "z", "NX", "9", "a", "9", "d"), ":1\r\n");
  EXPECT_EQ(Run("ZADD", "z", "XX", "CH", "4", "a", "9", "e"), ":1\r\n");
  EXPECT_EQ(Run("ZADD", "z", "GT", "CH", "3", "a", "5", "b"), ":1\r\n");
  EXPECT_EQ(Run("ZADD", "z", "LT", "INCR", "1", "a"), "$-1\r\n");
  EXPECT_EQ(Run("ZADD", "z", "INCR", "1.5", "a"), Bulk("5.5"));
  EXPECT_EQ(Run("ZINCRBY", "z", "-inf", "a"), Bulk("-inf"));
  EXPECT_EQ(Run("ZINCRBY", "z", "inf", "a"), "-ERR resulting score is not a number (NaN)\r\n");
  EXPECT_EQ(Run("ZRANGE", "z", "0", "-1", "WITHSCORES"),
            Bulks({"a", "-inf", "c", "0.10000000000000001", "b", "5", "d", "9"}));
  EXPECT_EQ(Run("ZADD", "z", "1", "x", "nan", "y"), "-ERR value is not a valid float\r\n");
  EXPECT_EQ(Run("ZCARD", "z"), ":4\r\n") << "all or nothing";
  Run("SET", "s", "1");
  EXPECT_EQ(Run("ZADD", "s", "1", "x"), kWrongTypeReply);
  EXPECT_EQ(Run("ZADD", "none", "XX", "1", "x"), ":0\r\n");
  EXPECT_FALSE(keys().Find("none"));
}

TEST_F(SortedSetCommands, Resp3HasDoublesAndPairs) {
  Run("HELLO", "3");
  Run("ZADD", "z", "1.5", "a", "inf", "b");
  EXPECT_EQ(Run("ZSCORE", "z", "a"), ",1.5\r\n");
  EXPECT_EQ(Run("ZMSCORE", "z", "b", "none"), "*2\r\n,inf\r\n_\r\n");
  EXPECT_EQ(Run("ZRANGE", "z", "0", "-1", "WITHSCORES"),
            "*2\r\n*2\r\n$1\r\na\r\n,1.5\r\n*2\r\n$1\r\nb\r\n,inf\r\n");
  EXPECT_EQ(Run("ZPOPMIN", "z"), "*2\r\n$1\r\na\r\n,1.5\r\n");
  EXPECT_EQ(Run("ZPOPMIN", "z", "5"), "*1\r\n*2\r\n$1\r\nb\r\n,inf\r\n");
  EXPECT_EQ(Run("ZPOPMIN", "z"), "*0\r\n");
  EXPECT_FALSE(keys().Find("z"));
}

TEST_F(SortedSetCommands, OfAnyTypeAKeyIs) {
  Run("ZADD", "z", "1", "a", "2", "b");
  EXPECT_EQ(Run("TYPE", "z"), "+zset\r\n");
  EXPECT_EQ(Run("EXPIRE", "z", "100"), ":1\r\n");
  EXPECT_EQ(Run("ZADD", "z", "3", "c"), ":1\r\n");
  EXPECT_EQ(Run("TTL", "z"), ":100\r\n");
  EXPECT_EQ(Run("COPY", "z", "y"), ":1\r\n");
  EXPECT_EQ(Run("ZREM", "z", "a", "b", "c"), ":3\r\n");
  EXPECT_EQ(Run("EXISTS", "z"), ":0\r\n");
  EXPECT_EQ(Run("RENAME", "y", "x"), "+OK\r\n");
  EXPECT_EQ(Run("ZREVRANGE", "x", "0", "0"), Bulks({"c"}));
  EXPECT_EQ(Run("SCAN", "0", "TYPE", "zset"), "*2\r\n$1\r\n0\r\n*1\r\n$1\r\nx\r\n");
  EXPECT_EQ(Run("ZRANGESTORE", "w", "x", "0", "1"), ":2\r\n");
  EXPECT_EQ(Run("TTL", "w"), ":-1\r\n");
  // Two records for each of three members, and the key's own.
  EXPECT_EQ(Run("MEMORY", "USAGE", "x"), ":279\r\n");
  EXPECT_EQ(Run("LPUSH", "x", "1"), kWrongTypeReply);
}

TEST_F(SortedSetCommands, AWatchIsToldOfChangesOnly) {
  Run("ZADD", "z", "1", "a");
  const auto other = Connect();
  const auto changed = [&](auto... request) {
    Run("WATCH", "z");
    other->Run(request...);
    Run("MULTI");
    return Run("EXEC") == "*-1\r\n";
  };
  EXPECT_FALSE(changed("ZADD", "z", "1", "a"));
  EXPECT_FALSE(changed("ZADD", "z", "NX", "2", "a"));
  EXPECT_TRUE(changed("ZADD", "z", "2", "a"));
  EXPECT_FALSE(changed("ZREM", "z", "none"));
  EXPECT_TRUE(changed("ZPOPMAX", "z"));
}

TEST_F(SortedSetCommands, RandomMembersAreFair) {
  for (const int members : {100, 1000}) {
    Run("DEL", "z");
    for (int i = 0; i < members; ++i) Run("ZADD", "z", absl::StrCat(i / 7), absl::StrCat(i));
    for (const std::string count : {"", "5"}) {
      std::map<std::string, int> picked;
      int picks = 0;
      while (picks < 20 * members) {
        const std::string reply =
            count.empty() ? "*1\r\n" + Run("ZRANDMEMBER", "z") : Run("ZRANDMEMBER", "z", count);
        const auto some = SortedBulks(reply);
        EXPECT_EQ(std::set<std::string>(some.begin(), some.end()).size(), some.size());
        for (const std::string& member : some) ++picked[member], ++picks;
      }
      const double expected = static_cast<double>(picks) / members;
      double squares = 0;
      for (int i = 0; i < members; ++i) {
        squares += std::pow(picked[absl::StrCat(i)] - expected, 2) / expected;
      }
      EXPECT_LT(squares, members + 6 * std::sqrt(2.0 * members)) << members << " " << count;
    }
  }
  EXPECT_EQ(Run("ZRANDMEMBER", "z", "-16777217").substr(0, 37), "-ERR value is out of range, value mus");
  EXPECT_EQ(SortedBulks(Run("ZRANDMEMBER", "z", "-2500")).size(), 2500u);
}

TEST_F(SortedSetCommands, SeveralTogether) {
  Run("ZADD", "a", "1", "x", "2", "y", "inf", "z");
  Run("ZADD", "b", "10", "y", "-inf", "z");
  Run("SADD", "s", "x", "w");
  EXPECT_EQ(Run("ZUNION", "3", "a", "b", "s", "WITHSCORES"),
            Bulks({"z", "0", "w", "1", "x", "2", "y", "12"}));
  EXPECT_EQ(Run("ZINTER", "2", "a", "b", "WEIGHTS", "2", "0", "WITHSCORES"), Bulks({"y", "4", "z", "inf"}));
  EXPECT_EQ(Run("ZDIFF", "2", "a", "s", "WITHSCORES"), Bulks({"y", "2", "z", "inf"}));
  EXPECT_EQ(Run("ZINTERCARD", "2", "a", "b", "LIMIT", "1"), ":1\r\n");
  EXPECT_EQ(Run("ZUNIONSTORE", "a", "2", "a", "b", "AGGREGATE", "MAX"), ":3\r\n");
  EXPECT_EQ(Run("ZREVRANGE", "a", "0", "-1", "WITHSCORES"), Bulks({"z", "inf", "y", "10", "x", "1"}));
  EXPECT_EQ(Run("ZINTERSTORE", "a", "2", "a", "none"), ":0\r\n");
  EXPECT_FALSE(keys().Find("a"));
  EXPECT_EQ(Run("ZUNION", "0", "a"), "-ERR at least 1 input key is needed for 'zunion' command\r\n");
  EXPECT_EQ(Run("COMMAND", "GETKEYS", "ZUNIONSTORE", "to", "2", "a", "b", "WEIGHTS", "1", "2"),
            Bulks({"to", "a", "b"}));
  EXPECT_EQ(Run("COMMAND", "GETKEYS", "ZUNION", "3", "a", "b"),
            "-ERR Invalid arguments specified for command\r\n");
}

}  // namespace
}  // namespace kvstore
