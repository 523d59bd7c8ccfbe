// What goes over the wire below the commands: requests in every form, broken ones, large ones.
#include <gtest/gtest.h>

#include <sys/stat.h>

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/kvstore/two_servers.h"
#include "tests/kvstore/values.h"
#include "tests/lab/process.h"

namespace kvstore::test {
namespace {

using namespace std::string_literals;
using namespace std::string_view_literals;

using Args = std::vector<std::string>;

class ProtocolTest : public TwoServersTest {
 protected:
  // Sends the bytes, and behind them a request that is answered if the connection still understands; then
  // FIN. All that comes back until the server closes is the same. Returns it.
  static std::string ExpectSameBytes(const std::string& bytes,
                                     const std::string& behind = Encode(Args{"ECHO", "understood"})) {
    Wire::Rest rest[2];
    const TestServer* servers[] = {ours_, redis_};
    for (int i = 0; i < 2; ++i) {
      auto wire = Connect(servers[i]);
      if (wire == nullptr) return "";
      rest[i] = wire->SendAndReadAll(bytes + behind);
    }
    EXPECT_EQ(rest[0].bytes, rest[1].bytes)
        << "after " << Quoted(bytes, 400) << "\nredis: " << Quoted(rest[1].bytes, 400);
    EXPECT_EQ(rest[0].error, rest[1].error) << "after " << Quoted(bytes, 400);
    return rest[1].bytes;
  }
};

TEST_F(ProtocolTest, FormsOfRequests) {
  for (const std::string& bytes : {""s,
                                   "\r\n"s,
                                   "\n"s,
                                   "  \r\n"s,
                                   "\r\n\r\n\r\n"s,
                                   "PING\r\n"s,
                                   "PING\n"s,
                                   "  PING  \r\n"s,
                                   "ping\thello\r\n"s,
                                   "PING 'a b'\r\n"s,
                                   "PING \"a b\"\r\n"s,
                                   "PING \"\\x41\\n\\t\\\\\\\"\\a\\b\"\r\n"s,
                                   "PING '\\x41\\''\r\n"s,
                                   "PING \"\\x4\\xzz\\q\"\r\n"s,
                                   "PING ''\r\n"s,
                                   "PING \"\"\r\n"s,
                                   "'' x\r\n"s,
                                   "\"PING\"\r\n"s,
                                   "PING 'a'\v\r\n"s,
                                   "PING\v\r\n"s,
                                   "PING a\rb\r\n"s,
                                   "PING \xff\xfe\r\n"s,
                                   "ECHO *1\r\n"s,
                                   "$4\r\nPING\r\n"s,
                                   "+PING\r\n"s,
                                   "*0\r\n"s,
                                   "*-1\r\n"s,
                                   "*-5\r\n"s,
                                   "*0\r\n*0\r\nPING\r\n"s,
                                   "*1\r\n$4\r\nPING\r\n"s,
                                   "*1\r\n$4\r\nPINGxx"s,
                                   "*1\r\n$4\r\nPING\n\n"s,
                                   "*2\r\n$4\r\nECHO\r\n$0\r\n\r\n"s,
                                   "*1\r\n$0\r\n\r\n"s,
                                   "*2\r\n$4\r\nECHO\r\n$4\r\n\r\n\r\n\r\n"s,
                                   "*1\rx$4\rxPING\r\n"s,
                                   "PING\r\n*1\r\n$4\r\nPING\r\nPING\r\n"s,
                                   "QUIT\r\n"s,
                                   "QUIT\r\nPING\r\n"s,
                                   "QUIT a\r\n"s,
                                   "quit 'a\r\n"s,
                                   "PING a\0b\r\n"s,
                                   "P\0NG\r\n"s,
                                   "PING\n\r\nPING\n"s,
                                   "GET\r\n"s,
                                   "NOSUCH 'a\\r\\n' \"a\\r\\n\"\r\n"s}) {
    ExpectSameBytes(bytes);
  }
}

TEST_F(ProtocolTest, BrokenRequests) {
  for (const std::string& bytes : {"*a\r\n"s,
                                   "*\r\n"s,
                                   "* 1\r\n"s,
                                   "*+1\r\n$4\r\nPING\r\n"s,
                                   "*01\r\n$4\r\nPING\r\n"s,
                                   "*1 \r\n"s,
                                   "*1x\r\n"s,
                                   "*2147483648\r\n"s,
                                   "*2147483647\r\n"s,
                                   "*1048577\r\n"s,
                                   "*-2147483649\r\n"s,
                                   "*9223372036854775808\r\n"s,
                                   "*1\r\n4\r\nPING\r\n"s,
                                   "*1\r\n:4\r\n"s,
                                   "*1\r\n*1\r\n$4\r\nPING\r\n"s,
                                   "*1\r\n\r\n"s,
                                   "*1\r\n\0\r\n"s,
                                   "*1\r\n\xff\r\n"s,
                                   "*1\r\n\n\r\n"s,
                                   "*1\r\n$\r\n"s,
                                   "*1\r\n$a\r\n"s,
                                   "*1\r\n$-1\r\n"s,
                                   "*1\r\n$-5\r\n"s,
                                   "*1\r\n$ 4\r\nPING\r\n"s,
                                   "*1\r\n$04\r\nPING\r\n"s,
                                   "*1\r\n$+4\r\nPING\r\n"s,
                                   "*1\r\n$4 \r\nPING\r\n"s,
                                   "*1\r\n$67108865\r\n"s,
                                   "*1\r\n$67108864\r\n"s,
                                   "*1\r\n$9223372036854775808\r\n"s,
                                   "*1\r\n$1e3\r\n"s,
                                   "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$-1\r\n"s,
                                   "PING 'a\r\n"s,
                                   "PING \"a\r\n"s,
                                   "PING 'a'b\r\n"s,
                                   "PING \"a\"b\r\n"s,
                                   "PING \"a\\\r\n"s,
                                   "PING a'b\r\n"s,
                                   "PING a'b'\r\n"s,
                                   "*1\n$4\nPING\n"s,
                                   "PING\r\n*x\r\nPING\r\n"s}) {
    ExpectSameBytes("PING before\r\n" + bytes);
  }
}

// A web browser that was talked into it: closed without a word.
TEST_F(ProtocolTest, Browsers) {
  // Nothing before it: Redis may or may not lose replies that are still to be sent.
  for (const std::string& bytes : {"POST / HTTP/1.1\r\n\r\n"s, "Host: x\r\n"s, "post\r\n"s,
                                   "*1\r\n$4\r\nPOST\r\n"s, "*2\r\n$5\r\nhost:\r\n$0\r\n\r\n"s}) {
    EXPECT_EQ(ExpectSameBytes(bytes), "");
  }
}

TEST_F(ProtocolTest, LongLines) {
  // A line is given up when 64 KB of it are there without an end.
  for (const size_t size : {60000, 70000, 200000}) {
    ExpectSameBytes(std::string(size, 'a'), "");
    ExpectSameBytes("*" + std::string(size, '1'), "");
    ExpectSameBytes("*1\r\n$" + std::string(size, '1'), "");
  }
  ExpectSameBytes("PING " + std::string(60000, 'a') + "\r\n");
  ExpectSameBytes("ECHO \"" + std::string(50000, 'a') + "\"\r\n");
}

// A connection that is closed for what it sent takes no other with it.
TEST_F(ProtocolTest, OthersDoNotMind) {
  auto other = Connect(ours_);
  ASSERT_NE(other, nullptr);
  EXPECT_EQ(other->Ask({"SET", "k", "v"}).text, "OK");
  Answer half = other->Exchange("*2\r\n$3\r\nGET\r\n$1", 0);
  EXPECT_EQ(half.error, "");
  EXPECT_EQ(ExpectSameBytes("*1\r\nx\r\n"), "-ERR Protocol error: expected '$', got 'x'\r\n");
  Answer rest = other->Exchange("\r\nk\r\n", 1);
  ASSERT_EQ(rest.replies.size(), 1u);
  EXPECT_EQ(rest.replies[0].text, "v");
}

// Requests with bytes changed at random: whatever becomes of them, it is the same. UNDERSTUDY_DIFF_STREAMS=N:
// so often.
TEST_F(ProtocolTest, SpoiledBytes) {
  const uint64_t first = TestSeed(), rounds = FromEnvironment("UNDERSTUDY_DIFF_STREAMS", 1500);
  const std::vector<Args> requests = {
      {"SET", "k", "value"},      {"GET", "k"},    {"ECHO", "\r\n$1\r\n"}, {"PING"},
      {"APPEND", "k", "x"},       {"STRLEN", "k"}, {"DEL", "k"},           {"LPUSH", "l", "1", "2"},
      {"LRANGE", "l", "0", "-1"}, {"nosuch", ""}};
  for (uint64_t seed = first; seed < first + rounds; ++seed) {
    Dice dice(seed);
    std::string bytes;
    for (uint64_t i = 0; i < 6; ++i) {
      bytes += Encode(Request{requests[dice.Below(requests.size())], dice.Percent(30)});
    }
    for (uint64_t i = 0; i < 1 + dice.Below(3); ++i) {
      static constexpr std::string_view kBytes = "\r\n*$0123456789- \"'\\aq\xff\0"sv;
      const size_t at = dice.Below(bytes.size());
      const char byte = kBytes[dice.Below(kBytes.size())];
      if (dice.Percent(40)) {
        bytes[at] = byte;
      } else if (dice.Percent(50)) {
        bytes.insert(at, 1, byte);
      } else {
        bytes.erase(at, 1 + dice.Below(3));
      }
    }
    ExpectSameBytes("FLUSHALL\r\n" + bytes);
    ASSERT_FALSE(HasFailure()) << "UNDERSTUDY_TEST_SEED=" << seed;
  }
}

TEST_F(ProtocolTest, LargeValues) {
  constexpr size_t kMegabyte = 1 << 20;
  const std::string one(kMegabyte, '1'), twenty(20 * kMegabyte, '2');
  ExpectSame(
      {MakeBatch({{"SET", "a", one},
                  {"GET", "a"},
                  {"APPEND", "a", one},
                  {"STRLEN", "a"},
                  {"GETRANGE", "a", "1048570", "1048580"}}),
       MakeBatch({{"SET", "b", twenty}}), MakeBatch({{"GET", "b"}}),
       MakeBatch({{"GETRANGE", "b", "100", "10000000"}, {"SETRANGE", "b", "20971500", one}, {"STRLEN", "b"}}),
       MakeBatch({{"COPY", "b", "c"}, {"RENAME", "c", "d"}, {"GETDEL", "d"}}),
       MakeBatch({{"RPUSH", "l", one, twenty, one, ""},
                  {"LRANGE", "l", "0", "-1"},
                  {"LSET", "l", "1", one},
                  {"LREM", "l", "0", one},
                  {"LRANGE", "l", "0", "-1"}}),
       MakeBatch({{"HSET", "h", one, twenty, "f", one},
                  {"HGETALL", "h"},
                  {"HSTRLEN", "h", one},
                  {"HDEL", "h", one}}),
       MakeBatch({{"SADD", "s", one, twenty}, {"SISMEMBER", "s", twenty}, {"SMEMBERS", "s"}}),
       MakeBatch({{"ECHO", twenty}, {"PING", twenty}, {"SET", one, one}, {"GET", one}}),
       MakeBatch({{"MULTI"}, {"SET", "m", twenty}, {"GET", "m"}, {"EXEC"}})});
}

TEST_F(ProtocolTest, LimitOfAValue) {
  const std::string most(kMaxBulk, 'm');
  ExpectSame(
      {MakeBatch({{"SET", "k", most}}),
       MakeBatch({{"GETRANGE", "k", "-3", "-1"}, {"APPEND", "k", "x"}, {"STRLEN", "k"}}),
       MakeBatch({{"GET", "k"}}),
       MakeBatch({{"SETRANGE", "k", "67108863", "y"},
                  {"SETRANGE", "k", "67108864", "y"},
                  {"SETRANGE", "k", "67108863", "yy"}}),
       MakeBatch(
           {{"SETRANGE", "new", "67108864", "y"}, {"SETRANGE", "new", "67108864", ""}, {"EXISTS", "new"}}),
       MakeBatch({{"SETRANGE", "new", "67108863", "y"}, {"STRLEN", "new"}, {"DEL", "new", "k"}})});
  ExpectSameBytes("*1\r\n$67108865\r\n" + most.substr(0, 1000));
}

TEST_F(ProtocolTest, AnotherLimit) {
  auto ours = TestServer::StartKvStore({"--proto_max_bulk_mb=1"});
  ASSERT_TRUE(ours.ok()) << ours.status().message();
  auto redis = TestServer::StartRedis({"--proto-max-bulk-len", "1mb"});
  ASSERT_TRUE(redis.ok()) << redis.status().message();
  Runner runner(ours->get(), redis->get());
  EXPECT_EQ(runner.Run({MakeBatch({{"CONFIG", "GET", "proto-max-bulk-len"}}),
                        MakeBatch({{"SET", "k", std::string(1 << 20, 'x')},
                                   {"APPEND", "k", "x"},
                                   {"SETRANGE", "k", "1048576", "x"}})}),
            "");
  const std::string too_long = "*1\r\n$1048577\r\n";
  EXPECT_EQ(Connect(ours->get())->SendAndReadAll(too_long).bytes,
            Connect(redis->get())->SendAndReadAll(too_long).bytes);
}

// Passwords: the same words let in, and keep out.
TEST_F(ProtocolTest, Passwords) {
  understudy::lab::TempDir dir;
  const std::string path = dir.path() + "/password";
  std::ofstream(path) << "a-secret\n";
  ASSERT_EQ(chmod(path.c_str(), 0600), 0);
  const std::string bytes = Encode(Args{"PING"}) + Encode(Args{"FOO"}) + Encode(Args{"AUTH", "wrong"}) +
                            Encode(Args{"AUTH", "nobody", "a-secret"}) + Encode(Args{"AUTH", "a", "b", "c"}) +
                            Encode(Args{"HELLO", "3"}) + Encode(Args{"GET", "a"}) + Encode(Args{"MULTI"}) +
                            Encode(Args{"HELLO", "2", "AUTH", "default", "wrong"}) +
                            Encode(Args{"AUTH", "a-secret"}) + Encode(Args{"PING"}) + Encode(Args{"RESET"}) +
                            Encode(Args{"PING"}) + Encode(Args{"AUTH", "default", "a-secret"}) +
                            Encode(Args{"PING"}) + Encode(Args{"CONFIG", "GET", "requirepass"}) +
                            Encode(Args{"QUIT"});
  // A server that has a password does not answer the PING with which these are waited for.
  auto ours = TestServer::StartKvStore({"--requirepass_file=" + path}, "a-secret");
  ASSERT_TRUE(ours.ok()) << ours.status().message();
  auto redis = TestServer::StartRedis({"--requirepass", "a-secret"}, "a-secret");
  ASSERT_TRUE(redis.ok()) << redis.status().message();
  const std::string right = Connect(redis->get())->SendAndReadAll(bytes).bytes;
  EXPECT_EQ(Connect(ours->get())->SendAndReadAll(bytes).bytes, right);
  EXPECT_NE(right.find("NOAUTH"), std::string::npos);
}

// More replies than either side buffers, while the client reads them.
TEST_F(ProtocolTest, LongPipelines) {
  Batch set = MakeBatch({{"SET", "k", std::string(100'000, 'v')}}), get;
  for (int i = 0; i < 1000; ++i) get.requests.push_back({{"GET", "k"}});
  Batch many;
  for (int i = 0; i < 20'000; ++i) many.requests.push_back({{"RPUSH", "l", std::to_string(i)}});
  ExpectSame({set, get, many, MakeBatch({{"LRANGE", "l", "0", "-1"}})});
}

TEST_F(ProtocolTest, ManyArguments) {
  Args mset = {"MSET"}, mget = {"MGET"}, sadd = {"SADD", "s"}, sinter = {"SINTER"}, del = {"DEL"};
  for (int i = 0; i < 30'000; ++i) {
    mset.push_back(absl::StrCat("key", i));
    mset.push_back(std::to_string(i));
    mget.push_back(absl::StrCat("key", i * 2));
    sadd.push_back(std::to_string(i));
    del.push_back(absl::StrCat("key", i));
    if (i < 20) sinter.push_back("s");
  }
  ExpectSame({MakeBatch({mset}), MakeBatch({mget}), MakeBatch({sadd}), MakeBatch({sinter, {"SMEMBERS", "s"}}),
              MakeBatch({{"KEYS", "key1*"}, {"DBSIZE"}}), MakeBatch({del, {"DBSIZE"}})});
}

}  // namespace
}  // namespace kvstore::test
