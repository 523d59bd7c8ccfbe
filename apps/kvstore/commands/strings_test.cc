// Strings, and the commands for keys of any type: what Redis 7.0.15 says to the same requests.
#include <string>
#include <tuple>

#include "apps/kvstore/commands/command_fixture_for_test.h"
#include "gtest/gtest.h"

namespace kvstore {
namespace {

using StringsTest = CommandTest;

const std::string kOk = "+OK\r\n";
const std::string kNone = "$-1\r\n";
const std::string kSyntax = "-ERR syntax error\r\n";
const std::string kInteger = "-ERR value is not an integer or out of range\r\n";
const std::string kWrong(kWrongTypeReply);

std::string Invalid(const std::string& command) {
  return "-ERR invalid expire time in '" + command + "' command\r\n";
}

TEST_F(StringsTest, SetWithOptions) {
  EXPECT_EQ(Run("set", "a", "1", "xx"), kNone);
  EXPECT_EQ(Run("set", "a", "1", "NX"), kOk);
  EXPECT_EQ(Run("set", "a", "2", "nx"), kNone);
  EXPECT_EQ(Run("set", "a", "2", "nx", "get"), Bulk("1"));
  EXPECT_EQ(Run("set", "a", "2", "GET", "ex", "100"), Bulk("1"));
  EXPECT_EQ(Run("ttl", "a"), ":100\r\n");
  EXPECT_EQ(Run("set", "a", "3", "keepttl"), kOk);
  EXPECT_EQ(Run("ttl", "a"), ":100\r\n");
  EXPECT_EQ(Run("set", "a", "4"), kOk);
  EXPECT_EQ(Run("ttl", "a"), ":-1\r\n");
  EXPECT_EQ(Run("set", "new", "1", "get"), kNone);
  EXPECT_EQ(Run("get", "new"), Bulk("1"));
  EXPECT_EQ(Run("set", "a", "1", "exat", "1", "get"), Bulk("4"));  // written and gone
  EXPECT_EQ(Run("exists", "a"), ":0\r\n");
}

TEST_F(StringsTest, SetRefuses) {
  EXPECT_EQ(Run("set", "a", "1", "ex"), kSyntax);
  EXPECT_EQ(Run("set", "a", "1", "nx", "xx"), kSyntax);
  EXPECT_EQ(Run("set", "a", "1", "ex", "10", "px", "10"), kSyntax);
  EXPECT_EQ(Run("set", "a", "1", "ex", "10", "keepttl"), kSyntax);
  EXPECT_EQ(Run("set", "a", "1", "keepttl", "ex", "10"), kSyntax);
  EXPECT_EQ(Run("set", "a", "1", "persist"), kSyntax);
  EXPECT_EQ(Run("set", "a", "1", "ex", "x"), kInteger);
  EXPECT_EQ(Run("set", "a", "1", "ex", "x", "foo"), kSyntax);
  EXPECT_EQ(Run("set", "a", "1", "ex", "0"), Invalid("set"));
  EXPECT_EQ(Run("set", "a", "1", "px", "-1"), Invalid("set"));
  EXPECT_EQ(Run("set", "a", "1", "ex", "9223372036854775"), Invalid("set"));
  EXPECT_EQ(Run("set", "a", "1", "px", "9223372036854775807"), Invalid("set"));
  EXPECT_EQ(Run("set", "a", "1", "exat", "9223372036854776"), Invalid("set"));
  EXPECT_EQ(Run("exists", "a"), ":0\r\n");
  EXPECT_EQ(Run("set", "a", "1", "exat", "9223372036854775"), kOk);
  EXPECT_EQ(Run("set", "a", "1", "ex", "10", "ex", "20"), kOk);  // twice the same is no error
  EXPECT_EQ(Run("ttl", "a"), ":20\r\n");
  Run("lpush", "l", "1");
  EXPECT_EQ(Run("set", "l", "1", "nx", "get"), kWrong);
  EXPECT_EQ(Run("set", "l", "1", "ex", "0", "get"), Invalid("set"));
  EXPECT_EQ(Run("set", "l", "1", "nx"), kNone);
  EXPECT_EQ(Run("set", "l", "1", "xx"), kOk);
  EXPECT_EQ(Run("type", "l"), "+string\r\n");
}

TEST_F(StringsTest, GetEx) {
  EXPECT_EQ(Run("getex", "a", "ex", "x"), kNone);
  EXPECT_EQ(Run("getex", "a", "foo"), kSyntax);
  Run("set", "a", "1");
  EXPECT_EQ(Run("getex", "a", "ex", "10"), Bulk("1"));
  EXPECT_EQ(Run("ttl", "a"), ":10\r\n");
  EXPECT_EQ(Run("getex", "a"), Bulk("1"));
  EXPECT_EQ(Run("ttl", "a"), ":10\r\n");
  EXPECT_EQ(Run("getex", "a", "persist"), Bulk("1"));
  EXPECT_EQ(Run("ttl", "a"), ":-1\r\n");
  EXPECT_EQ(Run("getex", "a", "persist", "ex", "10"), kSyntax);
  EXPECT_EQ(Run("getex", "a", "ex", "10", "persist"), kSyntax);
  EXPECT_EQ(Run("getex", "a", "keepttl"), kSyntax);
  EXPECT_EQ(Run("getex", "a", "ex", "x"), kInteger);
  EXPECT_EQ(Run("getex", "a", "ex", "0"), Invalid("getex"));
  EXPECT_EQ(Run("getex", "a", "pxat", "1"), Bulk("1"));
  EXPECT_EQ(Run("exists", "a"), ":0\r\n");
}

TEST_F(StringsTest, OtherWaysToSet) {
  EXPECT_EQ(Run("setex", "a", "0", "1"), Invalid("setex"));
  EXPECT_EQ(Run("psetex", "a", "9223372036854775807", "1"), Invalid("psetex"));
  EXPECT_EQ(Run("psetex", "a", "1500", "1"), kOk);
  EXPECT_EQ(Run("pttl", "a"), ":1500\r\n");
  EXPECT_EQ(Run("setnx", "a", "2"), ":0\r\n");
  EXPECT_EQ(Run("getset", "a", "2"), Bulk("1"));
  EXPECT_EQ(Run("ttl", "a"), ":-1\r\n");
  EXPECT_EQ(Run("getdel", "a"), Bulk("2"));
  EXPECT_EQ(Run("getdel", "a"), kNone);
  EXPECT_EQ(Run("mset", "a", "1", "b"), "-ERR wrong number of arguments for 'mset' command\r\n");
  EXPECT_EQ(Run("mset", "a", "1", "a", "2"), kOk);
  EXPECT_EQ(Run("msetnx", "c", "1", "a", "2"), ":0\r\n");
  EXPECT_EQ(Run("msetnx", "c", "1", "d", "2"), ":1\r\n");
  Run("lpush", "l", "1");
  EXPECT_EQ(Run("mget", "a", "l", "none", "d"), "*4\r\n" + Bulk("2") + kNone + kNone + Bulk("2"));
  for (const auto command : {"getset", "append"}) EXPECT_EQ(Run(command, "l", "x"), kWrong);
  for (const auto command : {"get", "getdel", "getex", "strlen", "incr"}) {
    EXPECT_EQ(Run(command, "l"), kWrong) << command;
  }
}

// Across the sizes at which a string moves from its key's record into chunks.
TEST_F(StringsTest, AnyLength) {
  for (const size_t length : {0, 1, 4095, 4096, 4097, 65535, 65536, 65537, 200'000, 1 << 20}) {
    std::string value(length, ' ');
    for (char& c : value) c = static_cast<char>(random()());
    EXPECT_EQ(Run("set", "a", value), kOk);
    EXPECT_TRUE(Run("get", "a") == Bulk(value)) << length;
    EXPECT_EQ(Run("strlen", "a"), ":" + std::to_string(length) + "\r\n");
    EXPECT_TRUE(Run("append", "a", "xy") == ":" + std::to_string(length + 2) + "\r\n");
    EXPECT_TRUE(Run("copy", "a", "b", "replace") == ":1\r\n");
    EXPECT_TRUE(Run("getset", "a", "") == Bulk(value + "xy")) << length;
    EXPECT_TRUE(Run("getex", "b", "ex", "100") == Bulk(value + "xy")) << length;
    EXPECT_TRUE(Run("getrange", "b", "-4", "-1") == Bulk((value + "xy").substr(length < 2 ? 0 : length - 2)));
    EXPECT_TRUE(Run("getdel", "b") == Bulk(value + "xy")) << length;
  }
}

TEST_F(StringsTest, GetRange) {
  Run("set", "a", "xyz");
  const std::tuple<const char*, const char*, const char*> cases[] = {
      {"0", "-1", "xyz"},
      {"1", "1", "y"},
      {"-2", "-1", "yz"},
      {"5", "10", ""},
      {"2", "1", ""},
      {"-5", "-6", ""},
      {"-1", "-3", ""},
      {"0", "-100", "x"},
      {"-100", "-50", "x"},
      {"-100", "100", "xyz"},
      {"-9223372036854775808", "9223372036854775807", "xyz"}};
  for (const auto& [first, last, part] : cases) {
    EXPECT_EQ(Run("getrange", "a", first, last), Bulk(part)) << first << " " << last;
  }
  EXPECT_EQ(Run("substr", "none", "0", "-1"), Bulk(""));
  EXPECT_EQ(Run("getrange", "none", "x", "1"), kInteger);
}

TEST_F(StringsTest, AppendAndSetRange) {
  instance().limits.max_bulk = 1000;
  const std::string too_long = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)\r\n";
  EXPECT_EQ(Run("append", "a", ""), ":0\r\n");
  EXPECT_EQ(Run("exists", "a"), ":1\r\n");
  EXPECT_EQ(Run("append", "a", std::string(600, 'a')), ":600\r\n");
  EXPECT_EQ(Run("append", "a", std::string(401, 'a')), too_long);
  EXPECT_EQ(Run("setrange", "b", "5", "x"), ":6\r\n");
  EXPECT_EQ(Run("get", "b"), Bulk(std::string_view("\0\0\0\0\0x", 6)));
  EXPECT_EQ(Run("setrange", "b", "999", "x"), ":1000\r\n");
  EXPECT_EQ(Run("setrange", "b", "1000", "x"), too_long);
  EXPECT_EQ(Run("setrange", "b", "9223372036854775807", "x"), too_long);
  EXPECT_EQ(Run("setrange", "b", "9223372036854775807", ""), ":1000\r\n");
  EXPECT_EQ(Run("setrange", "b", "-1", "x"), "-ERR offset is out of range\r\n");
  EXPECT_EQ(Run("setrange", "none", "5000", ""), ":0\r\n");
  EXPECT_EQ(Run("exists", "none"), ":0\r\n");
}

TEST_F(StringsTest, Numbers) {
  EXPECT_EQ(Run("incr", "a"), ":1\r\n");
  EXPECT_EQ(Run("decrby", "a", "11"), ":-10\r\n");
  EXPECT_EQ(Run("incrby", "a", "1.5"), kInteger);
  Run("set", "a", "9223372036854775807", "ex", "100");
  EXPECT_EQ(Run("incr", "a"), "-ERR increment or decrement would overflow\r\n");
  EXPECT_EQ(Run("decr", "a"), ":9223372036854775806\r\n");
  EXPECT_EQ(Run("ttl", "a"), ":100\r\n");
  EXPECT_EQ(Run("decrby", "a", "-9223372036854775808"), "-ERR decrement would overflow\r\n");
  for (const std::string& bad :
       {std::string(" 1"), std::string(""), std::string("01"), std::string(5000, '1')}) {
    Run("set", "b", bad);
    EXPECT_EQ(Run("incr", "b"), kInteger) << bad;
  }
  const std::string not_a_float = "-ERR value is not a valid float\r\n";
  Run("set", "f", "10.50", "ex", "100");
  EXPECT_EQ(Run("incrbyfloat", "f", "0.1"), Bulk("10.6"));
  EXPECT_EQ(Run("incrbyfloat", "f", "-5"), Bulk("5.6"));
  EXPECT_EQ(Run("ttl", "f"), ":100\r\n");
  EXPECT_EQ(Run("incrbyfloat", "f", "x"), not_a_float);
  EXPECT_EQ(Run("incrbyfloat", "f", "inf"), "-ERR increment would produce NaN or Infinity\r\n");
  Run("set", "f", std::string(5118, '0') + "1");
  EXPECT_EQ(Run("incrbyfloat", "f", "1"), Bulk("2"));
  Run("set", "f", std::string(5119, '0') + "1");
  EXPECT_EQ(Run("incrbyfloat", "f", "1"), not_a_float);
}

}  // namespace
}  // namespace kvstore
