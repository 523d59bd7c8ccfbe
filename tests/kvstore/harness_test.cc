// The harness itself: it accepts a redis-server compared with another, and finds what is made to differ.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>

#include "tests/kvstore/comparer.h"
#include "tests/kvstore/generator.h"
#include "tests/kvstore/runner.h"
#include "tests/kvstore/servers.h"

namespace kvstore::test {
namespace {

using testing::HasSubstr;

RespValue Read(const std::string& bytes) {
  RespValue value;
  auto size = ReadResp(bytes, &value);
  EXPECT_TRUE(size.ok() && *size == bytes.size()) << Quoted(bytes);
  return value;
}

TEST(RespValueTest, ReadsAndWritesEveryType) {
  for (const std::string& bytes :
       {std::string("+OK\r\n"), std::string("-ERR no\r\n"), std::string(":-12\r\n"),
        std::string("$3\r\na\r\n\r\n"), std::string("$-1\r\n"), std::string("*-1\r\n"), std::string("*0\r\n"),
        std::string("*2\r\n*1\r\n:1\r\n$0\r\n\r\n"), std::string("%1\r\n+a\r\n:1\r\n"),
        std::string("~2\r\n:1\r\n:2\r\n"), std::string("_\r\n"), std::string("=7\r\ntxt:abc\r\n"),
        std::string("#t\r\n"), std::string(",1.5\r\n")}) {
    EXPECT_EQ(Encode(Read(bytes)), bytes);
    for (size_t size = 0; size < bytes.size(); ++size) {
      RespValue value;
      const auto part = ReadResp(bytes.substr(0, size), &value);
      ASSERT_TRUE(part.ok()) << Quoted(bytes);
      EXPECT_EQ(*part, 0u);
    }
  }
}

TEST(RespValueTest, RefusesWhatIsNone) {
  for (const char* bytes :
       {"x1\r\n", "\r\n", "$03\r\nabc\r\n", ":+1\r\n", ":01\r\n", "$3\r\nabcd\r\n", "*-2\r\n", "$-0\r\n"}) {
    RespValue value;
    EXPECT_FALSE(ReadResp(bytes, &value).ok()) << bytes;
  }
}

struct Pair {
  std::vector<std::string> args;
  std::string ours, redis;
  bool same;
};

TEST(ComparerTest, SaysWhatIsTheSame) {
  const std::string ab = "*2\r\n$1\r\na\r\n$1\r\nb\r\n", ba = "*2\r\n$1\r\nb\r\n$1\r\na\r\n";
  for (const Pair& pair : std::initializer_list<Pair>{
           {{"LRANGE"}, ab, ba, false},
           {{"SMEMBERS"}, ab, ba, true},
           {{"smembers"}, ab, "~2\r\n$1\r\nb\r\n$1\r\na\r\n", false},
           {{"HGETALL"}, ab, ba, false},
           {{"HGETALL"}, "%2\r\n:1\r\n:2\r\n:3\r\n:4\r\n", "%2\r\n:3\r\n:4\r\n:1\r\n:2\r\n", true},
           {{"KEYS"}, "*2\r\n$1\r\na\r\n$1\r\na\r\n", ab, false},
           {{"PTTL"}, ":5000\r\n", ":5003\r\n", true},
           {{"PTTL"}, ":5000\r\n", ":50000\r\n", false},
           {{"PTTL"}, ":-1\r\n", ":5\r\n", false},
           {{"TTL"}, ":-1\r\n", ":-2\r\n", false},
           {{"TTL"}, ":100\r\n", ":101\r\n", true},
           {{"SRANDMEMBER"}, ab, ba, true},
           {{"SRANDMEMBER"}, ab, "*1\r\n$1\r\na\r\n", false},
           {{"SCAN"}, "*2\r\n$1\r\n5\r\n*0\r\n", "*2\r\n$1\r\n0\r\n*1\r\n$1\r\na\r\n", true},
           {{"SCAN"}, "*2\r\n$1\r\n5\r\n*-1\r\n", "*2\r\n$1\r\n0\r\n*0\r\n", false},
           {{"SMEMBERS"}, "-ERR a\r\n", "-ERR b\r\n", false},
           {{"CLIENT", "id"}, ":1\r\n", ":2\r\n", true},
           {{"CLIENT", "getname"}, "$1\r\na\r\n", "$1\r\nb\r\n", false},
           {{"HELLO"},
            "*4\r\n$2\r\nid\r\n:5\r\n$5\r\nproto\r\n:2\r\n",
            "*4\r\n$2\r\nid\r\n:6\r\n$5\r\nproto\r\n:2\r\n",
            true},
           {{"HELLO"}, "*2\r\n$5\r\nproto\r\n:3\r\n", "*2\r\n$5\r\nproto\r\n:2\r\n", false},
       }) {
    EXPECT_EQ(CompareReplies(pair.args, Read(pair.ours), Read(pair.redis)).empty(), pair.same)
        << pair.args[0] << " " << Quoted(pair.ours) << " " << Quoted(pair.redis);
  }
}

TEST(ComparerTest, AnExecIsComparedByWhatWasQueued) {
  const std::string one = "*2\r\n:1\r\n*2\r\n:1\r\n:2\r\n", other = "*2\r\n:1\r\n*2\r\n:2\r\n:1\r\n";
  for (const auto& [command, same] : {std::pair("SMEMBERS", true), std::pair("LRANGE", false)}) {
    Comparer comparer;
    EXPECT_EQ(comparer.Compare({"MULTI"}, Read("+OK\r\n"), Read("+OK\r\n")), "");
    EXPECT_EQ(comparer.Compare({"LLEN"}, Read("+QUEUED\r\n"), Read("+QUEUED\r\n")), "");
    EXPECT_EQ(comparer.Compare({command}, Read("+QUEUED\r\n"), Read("+QUEUED\r\n")), "");
    EXPECT_EQ(comparer.Compare({"EXEC"}, Read(one), Read(other)).empty(), same);
  }
}

TEST(GeneratorTest, OneSeedOneStream) {
  EXPECT_EQ(Readable(Generator(5).MakeStream()), Readable(Generator(5).MakeStream()));
  EXPECT_NE(Readable(Generator(5).MakeStream()), Readable(Generator(6).MakeStream()));
}

TEST(GeneratorTest, SaysEveryCommand) {
  std::set<std::string> missing;
  for (const Form& form : Grammar()) {
    if (form.weight > 0) missing.insert(std::string(form.name));  // others have tests of their own
  }
  for (uint64_t seed = 1; seed < 50; ++seed) {
    for (const Batch& batch : Generator(seed).MakeStream()) {
      for (const Request& request : batch.requests) missing.erase(request.args[0]);
    }
  }
  EXPECT_THAT(missing, testing::IsEmpty());
}

TEST(HarnessTest, TwoRedisServersAreTheSame) {
  auto one = TestServer::StartRedis(), other = TestServer::StartRedis();
  ASSERT_TRUE(one.ok() && other.ok()) << one.status().message() << other.status().message();
  Runner runner(one->get(), other->get());
  const uint64_t first = TestSeed();
  for (uint64_t seed = first; seed < first + 40; ++seed) {
    ASSERT_EQ(runner.Run(Generator(seed).MakeStream()), "") << "seed " << seed;
  }
}

TEST(HarnessTest, FindsAndShrinksADifference) {
  auto one = TestServer::StartRedis({"--databases", "2"}), other = TestServer::StartRedis();
  ASSERT_TRUE(one.ok() && other.ok()) << one.status().message() << other.status().message();
  Runner runner(one->get(), other->get());
  const auto differs = [&](const Stream& part) { return !runner.Run(part).empty(); };
  for (uint64_t seed = 1; seed < 100; ++seed) {
    Stream stream = Generator(seed).MakeStream();
    if (!differs(stream)) continue;
    stream = Shrink(std::move(stream), differs, 1000);
    ASSERT_EQ(stream.size(), 1u) << Readable(stream);
    ASSERT_EQ(stream[0].requests.size(), 1u) << Readable(stream);
    EXPECT_THAT(runner.Run(stream), HasSubstr("DB index is out of range"));
    return;
  }
  FAIL() << "nothing found";
}

}  // namespace
}  // namespace kvstore::test
