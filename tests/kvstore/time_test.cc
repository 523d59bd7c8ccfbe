// Keys that expire, next to a real redis-server's, and walks over what changes meanwhile.
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/kvstore/comparer.h"
#include "tests/kvstore/two_servers.h"
#include "tests/kvstore/values.h"

namespace kvstore::test {
namespace {

using Args = std::vector<std::string>;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

class TimeTest : public TwoServersTest {
 protected:
  void SetUp() override {
    TwoServersTest::SetUp();
    for (size_t i : {0, 1}) {
      wires_[i] = Connect(i == 0 ? ours_ : redis_);
      others_[i] = Connect(i == 0 ? ours_ : redis_);
      ASSERT_TRUE(wires_[i] != nullptr && others_[i] != nullptr);
      ASSERT_EQ(wires_[i]->Ask({"FLUSHALL"}).text, "OK");
    }
  }
  void ExpectSameReply(const Args& args) {
    EXPECT_EQ(CompareReplies(args, wires_[0]->Ask(args), wires_[1]->Ask(args)), "")
        << Readable(Request{args});
  }
  // On both, by a connection of its own.
  void WaitUntilGone(const std::string& key) {
    const auto deadline = steady_clock::now() + Wire::kPatience;
    for (auto& other : others_) {
      while (other->Ask({"EXISTS", key}).text != "0") ASSERT_LT(steady_clock::now(), deadline) << key;
    }
  }

  std::unique_ptr<Wire> wires_[2], others_[2];
};

const std::vector<Args> kMakeKey = {{"SET", "k", "10"},
                                    {"RPUSH", "k", "a", "b"},
                                    {"SADD", "k", "a", "b"},
                                    {"HSET", "k", "a", "1"},
                                    {"SET", "k", std::string(100'000, 'x')}};

TEST_F(TimeTest, AnExpiredKeyIsNoneForAnyCommand) {
  const std::vector<Args> commands = {{"GET", "k"},
                                      {"TYPE", "k"},
                                      {"TTL", "k"},
                                      {"PEXPIRETIME", "k"},
                                      {"EXISTS", "k", "k"},
                                      {"TOUCH", "k"},
                                      {"PERSIST", "k"},
                                      {"EXPIRE", "k", "1000000"},
                                      {"RENAME", "k", "l"},
                                      {"COPY", "k", "l"},
                                      {"DEL", "k"},
                                      {"KEYS", "*"},
                                      {"RANDOMKEY"},
                                      {"STRLEN", "k"},
                                      {"LLEN", "k"},
                                      {"SMEMBERS", "k"},
                                      {"HGETALL", "k"},
                                      {"GETEX", "k", "PERSIST"},
                                      {"GETDEL", "k"},
                                      {"SET", "k", "v", "XX"},
                                      {"LPUSHX", "k", "v"},
                                      {"SINTER", "k"},
                                      {"SET", "k", "v", "NX"},
                                      {"SET", "k", "v", "KEEPTTL"},
                                      {"SET", "k", "v", "GET"},
                                      {"GETSET", "k", "v"},
                                      {"INCR", "k"},
                                      {"APPEND", "k", "v"},
                                      {"SETRANGE", "k", "1", "v"},
                                      {"MSETNX", "k", "v"},
                                      {"LPUSH", "k", "v"},
                                      {"SADD", "k", "v"},
                                      {"HSET", "k", "f", "v"},
                                      {"HINCRBY", "k", "f", "1"}};
  for (const Args& command : commands) {
    for (const Args& make : kMakeKey) {
      ExpectSameReply({"FLUSHALL"});
      ExpectSameReply({"MULTI"});
      ExpectSameReply(make);
      ExpectSameReply({"PEXPIRE", "k", "1"});
      ExpectSameReply({"EXEC"});
      // Some keys are found expired by the command itself, some were looked at before.
      if (&make == &kMakeKey[0]) {
        WaitUntilGone("k");
      } else {
        const auto moment = steady_clock::now() + milliseconds(3);
        while (steady_clock::now() < moment) ASSERT_EQ(others_[0]->Ask({"PING"}).text, "PONG");
      }
      ExpectSameReply(command);
      for (const Args& look : std::vector<Args>{{"TYPE", "k"}, {"TTL", "k"}, {"GET", "k"}, {"DBSIZE"}})
        ExpectSameReply(look);
      if (HasFailure()) return;
    }
  }
}

// By the server's own clock, which is this machine's.
TEST_F(TimeTest, NeverTooEarly) {
  for (const int64_t ttl : {1, 20, 150}) {
    for (const Args& set : std::vector<Args>{{"SET", "k", "v", "PX", std::to_string(ttl)},
                                             {"PSETEX", "k", std::to_string(ttl), "v"}}) {
      const auto begin = steady_clock::now();
      ASSERT_EQ(wires_[0]->Ask(set).text, "OK");
      const auto set_by = steady_clock::now();
      RespValue left;
      do {
        left = wires_[0]->Ask({"PTTL", "k"});
        ASSERT_TRUE(left.integer().has_value());
        ASSERT_LE(*left.integer(), ttl);
      } while (*left.integer() >= 0 && steady_clock::now() < set_by + Wire::kPatience);
      EXPECT_EQ(left.text, "-2");
      EXPECT_GE(steady_clock::now() - begin, milliseconds(ttl - 1));
    }
  }
}

TEST_F(TimeTest, AWatchedKeyThatExpires) {
  // There when it was watched: gone is changed. On a machine that is busy it may go too soon; then again.
  bool was_there = false;
  for (int ttl = 50; !was_there && ttl < 10'000; ttl *= 2) {
    ExpectSameReply({"UNWATCH"});
    ExpectSameReply({"SET", "k", "v", "PX", std::to_string(ttl)});
    ExpectSameReply({"WATCH", "k"});
    was_there = others_[0]->Ask({"EXISTS", "k"}).text == "1" && others_[1]->Ask({"EXISTS", "k"}).text == "1";
  }
  ASSERT_TRUE(was_there);
  WaitUntilGone("k");
  ExpectSameReply({"MULTI"});
  ExpectSameReply({"PING"});
  ExpectSameReply({"EXEC"});
  // Gone before it was watched.
  ExpectSameReply({"SET", "k", "v", "PX", "1"});
  WaitUntilGone("k");
  ExpectSameReply({"WATCH", "k"});
  ExpectSameReply({"MULTI"});
  ExpectSameReply({"PING"});
  ExpectSameReply({"EXEC"});
}

// (For PTTL it does not on redis-server: it would answer 0.)
TEST_F(TimeTest, TimeStandsStillInATransaction) {
  for (const Args& args : std::vector<Args>{
           {"MULTI"}, {"SET", "k", "v", "PX", "20"}, {"DEBUG", "SLEEP", "0.1"}, {"GET", "k"}, {"EXEC"}}) {
    ExpectSameReply(args);
  }
  ExpectSameReply({"GET", "k"});
}

// SET to a time that is over: not there, for whoever asks (only DBSIZE of Redis may count it for a while).
TEST_F(TimeTest, SetInThePast) {
  for (const Args& set : std::vector<Args>{{"SET", "k", "v", "PXAT", "1000"},
                                           {"SET", "k", "v", "EXAT", "1000000000"},
                                           {"SET", "k", "v", "PXAT", "1"}}) {
    for (const Args& before : std::vector<Args>{{"DEL", "k"}, {"SET", "k", "old"}, {"RPUSH", "k", "old"}}) {
      for (const Args& args : std::vector<Args>{{"DEL", "k"},
                                                before,
                                                set,
                                                {"GET", "k"},
                                                {"EXISTS", "k"},
                                                {"TYPE", "k"},
                                                {"KEYS", "*"},
                                                {"PTTL", "k"}}) {
        ExpectSameReply(args);
      }
    }
  }
}

TEST_F(TimeTest, KeysThatNobodyAsksForGoAway) {
  for (int i = 0; i < 2000; ++i)
    ASSERT_EQ(wires_[0]->Ask({"SET", absl::StrCat("k", i), "v", "PX", "1"}).text, "OK");
  const auto deadline = steady_clock::now() + Wire::kPatience;
  while (wires_[0]->Ask({"DBSIZE"}).text != "0") ASSERT_LT(steady_clock::now(), deadline);
  EXPECT_EQ(wires_[0]->Ask({"RANDOMKEY"}).null, true);
}

struct Walk {
  Args scan;  // the cursor behind it
  Args (*add)(const std::string& name);
  Args (*remove)(const std::string& name);
  size_t step;  // elements of the reply for one name
};

const std::vector<Walk> kWalks = {
    {{"SCAN"},
     [](const std::string& n) {
       return Args{"SET", n, "v"};
     },
     [](const std::string& n) {
       return Args{"DEL", n};
     },
     1},
    {{"SSCAN", "k"},
     [](const std::string& n) {
       return Args{"SADD", "k", n};
     },
     [](const std::string& n) {
       return Args{"SREM", "k", n};
     },
     1},
    {{"HSCAN", "k"},
     [](const std::string& n) {
       return Args{"HSET", "k", n, "v"};
     },
     [](const std::string& n) {
       return Args{"HDEL", "k", n};
     },
     2},
};

// What is there from the first call to the last is visited once; what comes and goes may be, and nothing
// else.
TEST_F(TimeTest, WalksOverWhatChanges) {
  Dice dice(TestSeed());
  for (const Walk& walk : kWalks) {
    for (const int count : {1, 7, 100}) {
      ASSERT_EQ(wires_[0]->Ask({"FLUSHALL"}).text, "OK");
      std::set<std::string> stay;
      for (int i = 0; i < 300; ++i) {
        const std::string name = absl::StrCat("stay", i);
        stay.insert(name);
        ASSERT_FALSE(wires_[0]->Ask(walk.add(name)).is_error());
      }
      std::map<std::string, int> visits;
      std::string cursor = "0";
      do {
        Args args = walk.scan;
        args.insert(args.end(), {cursor, "COUNT", std::to_string(count)});
        const RespValue page = wires_[0]->Ask(args);
        ASSERT_EQ(page.elements.size(), 2u) << Readable(page);
        cursor = page.elements[0].text;
        for (size_t i = 0; i < page.elements[1].elements.size(); i += walk.step)
          ++visits[page.elements[1].elements[i].text];
        for (int i = 0; i < 5; ++i) {
          const std::string name = absl::StrCat("change", dice.Below(100));
          ASSERT_FALSE(wires_[0]->Ask(dice.Percent(50) ? walk.add(name) : walk.remove(name)).is_error());
        }
      } while (cursor != "0");
      for (const std::string& name : stay) EXPECT_EQ(visits[name], 1) << name;
      for (const auto& [name, times] : visits)
        EXPECT_TRUE(stay.contains(name) || name.rfind("change", 0) == 0) << name;
    }
  }
}

}  // namespace
}  // namespace kvstore::test
