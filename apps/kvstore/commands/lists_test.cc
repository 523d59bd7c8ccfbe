#include <algorithm>
#include <deque>
#include <string>
#include <vector>

#include "apps/kvstore/commands/command_fixture_for_test.h"
#include "gtest/gtest.h"

namespace kvstore {
namespace {

class Lists : public CommandTest {
 protected:
  std::string All(std::string_view key) { return Run("LRANGE", key, "0", "-1"); }
};

constexpr char kNotAnIntegerReply[] = "-ERR value is not an integer or out of range\r\n";

TEST_F(Lists, Push) {
  EXPECT_EQ(Run("LPUSH", "l", "a", "b"), ":2\r\n");
  EXPECT_EQ(Run("RPUSH", "l", "c", "d"), ":4\r\n");
  EXPECT_EQ(Run("LPUSHX", "l", "e"), ":5\r\n");
  EXPECT_EQ(Run("RPUSHX", "l", "", "f"), ":7\r\n");
  EXPECT_EQ(All("l"), Bulks({"e", "b", "a", "c", "d", "", "f"}));
  EXPECT_EQ(Run("LLEN", "l"), ":7\r\n");
  EXPECT_EQ(Run("LPUSHX", "no", "e"), ":0\r\n");
  EXPECT_EQ(Run("RPUSHX", "no", "e"), ":0\r\n");
  EXPECT_EQ(Run("LLEN", "no"), ":0\r\n");
  EXPECT_EQ(Run("LPUSH", "l"), "-ERR wrong number of arguments for 'lpush' command\r\n");
}

TEST_F(Lists, WrongType) {
  Run("SET", "s", "x");
  for (const char* name : {"LPUSH", "RPUSH", "LPUSHX", "RPUSHX"}) {
    EXPECT_EQ(Run(name, "s", "a"), kWrongTypeReply) << name;
  }
  for (const char* name : {"LLEN", "LPOP", "RPOP"}) EXPECT_EQ(Run(name, "s"), kWrongTypeReply) << name;
  EXPECT_EQ(Run("LPOP", "s", "0"), kWrongTypeReply);
  // Where a number is wrong as well, some look at it first and some do not.
  EXPECT_EQ(Run("LRANGE", "s", "0", "x"), kNotAnIntegerReply);
  EXPECT_EQ(Run("LRANGE", "s", "0", "1"), kWrongTypeReply);
  EXPECT_EQ(Run("LTRIM", "s", "x", "0"), kNotAnIntegerReply);
  EXPECT_EQ(Run("LTRIM", "s", "0", "1"), kWrongTypeReply);
  EXPECT_EQ(Run("LREM", "s", "x", "a"), kNotAnIntegerReply);
  EXPECT_EQ(Run("LREM", "s", "0", "a"), kWrongTypeReply);
  EXPECT_EQ(Run("LINDEX", "s", "x"), kWrongTypeReply);
  EXPECT_EQ(Run("LSET", "s", "x", "a"), kWrongTypeReply);
  EXPECT_EQ(Run("LINSERT", "s", "beside", "a", "b"), "-ERR syntax error\r\n");
  EXPECT_EQ(Run("LINSERT", "s", "before", "a", "b"), kWrongTypeReply);
}

TEST_F(Lists, Pop) {
  Run("RPUSH", "l", "a", "b", "c", "d", "e", "f");
  EXPECT_EQ(Run("LPOP", "l"), Bulk("a"));
  EXPECT_EQ(Run("RPOP", "l"), Bulk("f"));
  EXPECT_EQ(Run("LPOP", "l", "0"), "*0\r\n");
  EXPECT_EQ(Run("LPOP", "l", "1"), Bulks({"b"}));
  EXPECT_EQ(Run("RPOP", "l", "2"), Bulks({"e", "d"}));
  EXPECT_EQ(Run("RPOP", "l", "9223372036854775807"), Bulks({"c"}));
  EXPECT_EQ(Run("EXISTS", "l"), ":0\r\n");
  Run("RPUSH", "l", "a", "b");
  EXPECT_EQ(Run("LPOP", "l", "2"), Bulks({"a", "b"}));
  EXPECT_EQ(Run("EXISTS", "l"), ":0\r\n");
}

TEST_F(Lists, PopFromNothing) {
  EXPECT_EQ(Run("LPOP", "no"), "$-1\r\n");
  EXPECT_EQ(Run("LPOP", "no", "0"), "*-1\r\n");
  EXPECT_EQ(Run("RPOP", "no", "1"), "*-1\r\n");
  Run("SET", "s", "x");
  const std::string negative = "-ERR value is out of range, must be positive\r\n";
  for (const char* wrong : {"-1", "x", "9223372036854775808"}) {
    EXPECT_EQ(Run("LPOP", "s", wrong), negative) << wrong;
    EXPECT_EQ(Run("RPOP", "no", wrong), negative) << wrong;
  }
  EXPECT_EQ(Run("LPOP", "s", "1", "1"), "-ERR wrong number of arguments for 'lpop' command\r\n");
  client().session().protocol = 3;
  EXPECT_EQ(Run("LPOP", "no"), "_\r\n");
  EXPECT_EQ(Run("LPOP", "no", "1"), "_\r\n");
}

TEST_F(Lists, Index) {
  Run("RPUSH", "l", "a", "b", "c");
  EXPECT_EQ(Run("LINDEX", "l", "0"), Bulk("a"));
  EXPECT_EQ(Run("LINDEX", "l", "-1"), Bulk("c"));
  EXPECT_EQ(Run("LINDEX", "l", "-3"), Bulk("a"));
  for (const char* outside : {"3", "-4", "9223372036854775807", "-9223372036854775808"}) {
    EXPECT_EQ(Run("LINDEX", "l", outside), "$-1\r\n") << outside;
    EXPECT_EQ(Run("LSET", "l", outside, "x"), "-ERR index out of range\r\n") << outside;
  }
  EXPECT_EQ(Run("LINDEX", "l", "x"), kNotAnIntegerReply);
  EXPECT_EQ(Run("LINDEX", "no", "x"), "$-1\r\n");
  EXPECT_EQ(Run("LSET", "l", "1", "B"), "+OK\r\n");
  EXPECT_EQ(Run("LSET", "l", "-1", ""), "+OK\r\n");
  EXPECT_EQ(Run("LSET", "l", "x", "y"), kNotAnIntegerReply);
  EXPECT_EQ(Run("LSET", "no", "x", "y"), "-ERR no such key\r\n");
  EXPECT_EQ(All("l"), Bulks({"a", "B", ""}));
}

// LRANGE and LTRIM take the same bounds.
TEST_F(Lists, Bounds) {
  const std::vector<std::string> all = {"a", "b", "c", "d", "e"};
  struct Case {
    const char *first, *last;
    std::vector<std::string> kept;
  };
  const Case cases[] = {
      {"0", "-1", all},
      {"1", "3", {"b", "c", "d"}},
      {"-2", "-1", {"d", "e"}},
      {"-100", "1", {"a", "b"}},
      {"3", "100", {"d", "e"}},
      {"3", "2", {}},
      {"5", "10", {}},
      {"-100", "-50", {}},
      {"-1", "0", {}},
      {"0", "0", {"a"}},
      {"-1", "-1", {"e"}},
      {"0", "-5", {"a"}},
      {"0", "-6", {}},
      {"-9223372036854775808", "9223372036854775807", all},
      {"9223372036854775807", "-9223372036854775808", {}},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(std::string(c.first) + " " + c.last);
    Run("DEL", "l");
    Run("RPUSH", "l", "a", "b", "c", "d", "e");
    EXPECT_EQ(Run("LRANGE", "l", c.first, c.last), Bulks(c.kept));
    EXPECT_EQ(Run("LTRIM", "l", c.first, c.last), "+OK\r\n");
    EXPECT_EQ(All("l"), Bulks(c.kept));
    EXPECT_EQ(Run("EXISTS", "l"), c.kept.empty() ? ":0\r\n" : ":1\r\n");
  }
  EXPECT_EQ(Run("LRANGE", "no", "0", "-1"), "*0\r\n");
  EXPECT_EQ(Run("LTRIM", "no", "0", "-1"), "+OK\r\n");
}

TEST_F(Lists, Remove) {
  Run("RPUSH", "l", "a", "b", "a", "c", "a", "d", "a");
  EXPECT_EQ(Run("LREM", "l", "2", "a"), ":2\r\n");
  EXPECT_EQ(All("l"), Bulks({"b", "c", "a", "d", "a"}));
  EXPECT_EQ(Run("LREM", "l", "-1", "a"), ":1\r\n");
  EXPECT_EQ(All("l"), Bulks({"b", "c", "a", "d"}));
  EXPECT_EQ(Run("LREM", "l", "-9223372036854775808", "x"), ":0\r\n");
  EXPECT_EQ(Run("LREM", "l", "0", "a"), ":1\r\n");
  EXPECT_EQ(Run("LREM", "no", "0", "a"), ":0\r\n");
  for (const char* each : {"b", "c", "d"}) Run("LREM", "l", "0", each);
  EXPECT_EQ(Run("EXISTS", "l"), ":0\r\n");
}

TEST_F(Lists, Insert) {
  Run("RPUSH", "l", "a", "b", "a");
  EXPECT_EQ(Run("LINSERT", "l", "BEFORE", "a", "x"), ":4\r\n");
  EXPECT_EQ(Run("LINSERT", "l", "after", "a", "y"), ":5\r\n");
  EXPECT_EQ(All("l"), Bulks({"x", "a", "y", "b", "a"}));
  EXPECT_EQ(Run("LINSERT", "l", "after", "q", "y"), ":-1\r\n");
  EXPECT_EQ(Run("LINSERT", "no", "after", "q", "y"), ":0\r\n");
  EXPECT_EQ(Run("EXISTS", "no"), ":0\r\n");
}

// Pivots everywhere in a list that takes several blocks to look through.
TEST_F(Lists, InsertIntoLongList) {
  std::deque<std::string> expected;
  for (int i = 0; i < 300; ++i) {
    expected.push_back(std::to_string(i));
    Run("RPUSH", "l", expected.back());
  }
  for (int i = 0; i < 300; i += 7) {
    const std::string pivot = std::to_string(i), value = "new" + pivot;
    EXPECT_EQ(Run("LINSERT", "l", "AFTER", pivot, value), ":" + std::to_string(expected.size() + 1) + "\r\n");
    expected.insert(std::find(expected.begin(), expected.end(), pivot) + 1, value);
  }
  EXPECT_EQ(All("l"), Bulks({expected.begin(), expected.end()}));
}

// Against a deque, with what moves ends about and now and then commits.
TEST_F(Lists, RandomPushesAndPops) {
  std::deque<std::string> model;
  for (int step = 0; step < 2000; ++step) {
    const bool front = random()() % 2 != 0;
    if (random()() % 2 != 0) {
      const std::string value = std::to_string(step);
      front ? model.push_front(value) : model.push_back(value);
      EXPECT_EQ(Run(front ? "LPUSH" : "RPUSH", "l", value), ":" + std::to_string(model.size()) + "\r\n");
    } else {
      const size_t count = random()() % 5;
      std::vector<std::string> popped;
      const bool existed = !model.empty();
      while (popped.size() < count && !model.empty()) {
        popped.push_back(front ? model.front() : model.back());
        front ? model.pop_front() : model.pop_back();
      }
      EXPECT_EQ(Run(front ? "LPOP" : "RPOP", "l", std::to_string(count)),
                existed ? Bulks(popped) : "*-1\r\n");
    }
    if (random()() % 50 == 0) {
      EXPECT_TRUE(keys().Commit().ok());
      EXPECT_EQ(All("l"), Bulks({model.begin(), model.end()}));
    }
  }
}

TEST_F(Lists, KeepTheirExpiry) {
  Run("RPUSH", "l", "a", "b", "c", "d");
  Run("PEXPIRE", "l", "1000");
  Run("LPOP", "l", "2");
  Run("LPUSH", "l", "x");
  Run("LTRIM", "l", "0", "1");
  EXPECT_EQ(Run("PTTL", "l"), ":1000\r\n");
}

}  // namespace
}  // namespace kvstore
