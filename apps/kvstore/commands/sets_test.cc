#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "apps/kvstore/commands/command_fixture_for_test.h"
#include "apps/kvstore/store/keyspace.h"
#include "gtest/gtest.h"

namespace kvstore {
namespace {

using Words = std::vector<std::string>;

class Sets : public CommandTest {
 protected:
  // Adds "0", "1", ... up to `count`.
  Words AddNumbers(std::string_view key, int count) {
    Words members;
    for (int i = 0; i < count; ++i) {
      members.push_back(std::to_string(i));
      Run("SADD", key, members.back());
    }
    std::sort(members.begin(), members.end());
    return members;
  }
};

std::string NotBetween(const std::string& least) {
  return "-ERR value is out of range, value must between " + least + " and 9223372036854775807\r\n";
}

constexpr char kMustBePositive[] = "-ERR value is out of range, must be positive\r\n";

TEST_F(Sets, AddAndRemove) {
  EXPECT_EQ(Run("SADD", "s", "a", "b", "a", ""), ":3\r\n");
  EXPECT_EQ(Run("SADD", "s", "a", "c"), ":1\r\n");
  EXPECT_EQ(Run("SCARD", "s"), ":4\r\n");
  EXPECT_EQ(Run("SISMEMBER", "s", ""), ":1\r\n");
  EXPECT_EQ(Run("SISMEMBER", "s", "q"), ":0\r\n");
  EXPECT_EQ(Run("SMISMEMBER", "s", "q", "a", "a"), "*3\r\n:0\r\n:1\r\n:1\r\n");
  EXPECT_EQ(SortedBulks(Run("SMEMBERS", "s")), (Words{"", "a", "b", "c"}));
  EXPECT_EQ(Run("SREM", "s", "a", "a", "q"), ":1\r\n");
  EXPECT_EQ(Run("SREM", "s", "", "b", "c"), ":3\r\n");
  EXPECT_EQ(Run("EXISTS", "s"), ":0\r\n");
}

TEST_F(Sets, NoSuchKey) {
  EXPECT_EQ(Run("SMEMBERS", "no"), "*0\r\n");
  EXPECT_EQ(Run("SCARD", "no"), ":0\r\n");
  EXPECT_EQ(Run("SISMEMBER", "no", "a"), ":0\r\n");
  EXPECT_EQ(Run("SMISMEMBER", "no", "a", "b"), "*2\r\n:0\r\n:0\r\n");
  EXPECT_EQ(Run("SREM", "no", "a"), ":0\r\n");
  EXPECT_EQ(Run("SPOP", "no"), "$-1\r\n");
  EXPECT_EQ(Run("SPOP", "no", "2"), "*0\r\n");
  EXPECT_EQ(Run("SRANDMEMBER", "no"), "$-1\r\n");
  EXPECT_EQ(Run("SRANDMEMBER", "no", "-2"), "*0\r\n");
  EXPECT_EQ(Run("SSCAN", "no", "0", "FOO"), "*2\r\n$1\r\n0\r\n*0\r\n");
  for (const char* name : {"SINTER", "SUNION", "SDIFF"}) {
    EXPECT_EQ(Run(name, "no"), "*0\r\n") << name;
    EXPECT_EQ(Run(name, "no", "no", "nope"), "*0\r\n") << name;
  }
}

TEST_F(Sets, WrongType) {
  Run("SET", "x", "x");
  for (const char* name : {"SADD", "SREM", "SISMEMBER", "SMISMEMBER"}) {
    EXPECT_EQ(Run(name, "x", "a"), kWrongTypeReply) << name;
  }
  for (const char* name : {"SMEMBERS", "SCARD", "SPOP", "SRANDMEMBER", "SINTER", "SUNION", "SDIFF"}) {
    EXPECT_EQ(Run(name, "x"), kWrongTypeReply) << name;
  }
  EXPECT_EQ(Run("SPOP", "x", "0"), kWrongTypeReply);
  EXPECT_EQ(Run("SRANDMEMBER", "x", "0"), kWrongTypeReply);
  EXPECT_EQ(Run("SSCAN", "x", "0", "FOO"), kWrongTypeReply);
  // An empty set decides the answer, and still each key is looked at.
  for (const char* name : {"SINTER", "SUNION", "SDIFF"}) {
    EXPECT_EQ(Run(name, "no", "x"), kWrongTypeReply) << name;
  }
}

TEST_F(Sets, Algebra) {
  Run("SADD", "s1", "a", "b", "c", "d");
  Run("SADD", "s2", "c");
  Run("SADD", "s3", "a", "c", "e");
  EXPECT_EQ(SortedBulks(Run("SINTER", "s1", "s2", "s3")), (Words{"c"}));
  EXPECT_EQ(SortedBulks(Run("SINTER", "s1", "s3")), (Words{"a", "c"}));
  EXPECT_EQ(SortedBulks(Run("SINTER", "s3", "s3")), (Words{"a", "c", "e"}));
  EXPECT_EQ(SortedBulks(Run("SINTER", "s3")), (Words{"a", "c", "e"}));
  EXPECT_EQ(Run("SINTER", "s1", "no"), "*0\r\n");
  EXPECT_EQ(SortedBulks(Run("SUNION", "s1", "s2", "s3", "no")), (Words{"a", "b", "c", "d", "e"}));
  EXPECT_EQ(SortedBulks(Run("SUNION", "s1")), (Words{"a", "b", "c", "d"}));
  EXPECT_EQ(SortedBulks(Run("SDIFF", "s1", "s2", "s3")), (Words{"b", "d"}));
  EXPECT_EQ(SortedBulks(Run("SDIFF", "s3", "s1", "no")), (Words{"e"}));
  EXPECT_EQ(SortedBulks(Run("SDIFF", "s3", "no")), (Words{"a", "c", "e"}));
  EXPECT_EQ(SortedBulks(Run("SDIFF", "s3")), (Words{"a", "c", "e"}));
  EXPECT_EQ(Run("SDIFF", "s1", "s1"), "*0\r\n");
  EXPECT_EQ(Run("SDIFF", "no", "s1"), "*0\r\n");
}

// Against the standard library, sets of all sizes: SDIFF has two ways, SINTER picks the smallest.
TEST_F(Sets, RandomAlgebra) {
  for (int round = 0; round < 40; ++round) {
    std::set<std::string> sets[3];
    for (int i = 0; i < 3; ++i) {
      const std::string key = std::to_string(i);
      Run("DEL", key);
      for (size_t n = random()() % 40; n > 0; --n) {
        const std::string member = std::to_string(random()() % 50);
        sets[i].insert(member);
        Run("SADD", key, member);
      }
    }
    std::set<std::string> both, all, difference;
    std::set_intersection(sets[0].begin(), sets[0].end(), sets[1].begin(), sets[1].end(),
                          std::inserter(both, both.end()));
    std::set_difference(sets[0].begin(), sets[0].end(), sets[1].begin(), sets[1].end(),
                        std::inserter(difference, difference.end()));
    Words inter;
    std::set_intersection(both.begin(), both.end(), sets[2].begin(), sets[2].end(),
                          std::back_inserter(inter));
    for (const auto& set : sets) all.insert(set.begin(), set.end());
    Words diff;
    std::set_difference(difference.begin(), difference.end(), sets[2].begin(), sets[2].end(),
                        std::back_inserter(diff));
    EXPECT_EQ(SortedBulks(Run("SINTER", "0", "1", "2")), inter);
    EXPECT_EQ(SortedBulks(Run("SUNION", "0", "1", "2")), Words(all.begin(), all.end()));
    EXPECT_EQ(SortedBulks(Run("SDIFF", "0", "1", "2")), diff);
  }
}

TEST_F(Sets, Resp3) {
  client().session().protocol = 3;
  Run("SADD", "s", "a");
  Run("SADD", "t", "a", "b");
  EXPECT_EQ(Run("SMEMBERS", "s"), Bulks({"a"}, '~'));
  EXPECT_EQ(Run("SINTER", "s", "t"), Bulks({"a"}, '~'));
  EXPECT_EQ(SortedBulks(Run("SUNION", "s", "t"), '~'), (Words{"a", "b"}));
  EXPECT_EQ(Run("SDIFF", "t", "s"), Bulks({"b"}, '~'));
  EXPECT_EQ(Run("SRANDMEMBER", "s", "5"), Bulks({"a"}));
  EXPECT_EQ(Run("SRANDMEMBER", "s", "-2"), Bulks({"a", "a"}));
  EXPECT_EQ(Run("SMISMEMBER", "s", "a"), "*1\r\n:1\r\n");
  EXPECT_EQ(Run("SSCAN", "s", "0"), "*2\r\n$1\r\n0\r\n" + Bulks({"a"}));
  EXPECT_EQ(Run("SPOP", "s", "0"), "~0\r\n");
  EXPECT_EQ(Run("SPOP", "s", "5"), Bulks({"a"}, '~'));
  EXPECT_EQ(Run("SPOP", "s", "5"), "~0\r\n");
  EXPECT_EQ(Run("SPOP", "s"), "_\r\n");
  for (const char* name : {"SMEMBERS", "SINTER", "SUNION", "SDIFF"}) EXPECT_EQ(Run(name, "no"), "~0\r\n");
}

TEST_F(Sets, CountsThatAreWrong) {
  Run("SET", "x", "x");
  Run("SADD", "s", "a");
  for (const char* wrong : {"-1", "x", "9223372036854775808"}) {
    EXPECT_EQ(Run("SPOP", "x", wrong), kMustBePositive) << wrong;
  }
  for (const char* wrong : {"x", "9223372036854775808"}) {
    EXPECT_EQ(Run("SRANDMEMBER", "x", wrong), "-ERR value is not an integer or out of range\r\n") << wrong;
  }
  EXPECT_EQ(Run("SPOP", "x", "1", "1"), "-ERR syntax error\r\n");
  EXPECT_EQ(Run("SRANDMEMBER", "x", "1", "1"), "-ERR syntax error\r\n");
  // Each of these would be an answer larger than any memory.
  for (const char* much : {"-16777217", "-9223372036854775807"}) {
    EXPECT_EQ(Run("SRANDMEMBER", "s", much), NotBetween("-16777216"));
    EXPECT_EQ(Run("SRANDMEMBER", "no", much), "*0\r\n");
  }
  EXPECT_EQ(Run("SRANDMEMBER", "no", "-9223372036854775808"), NotBetween("-9223372036854775807"));
  EXPECT_EQ(Run("SRANDMEMBER", "s", "9223372036854775807"), Bulks({"a"}));
}

// From one to all, and so by both ways of choosing.
TEST_F(Sets, PopsEachMemberOnce) {
  for (int count : {1, 2, 5, 50, 150, 199, 200, 1000}) {
    SCOPED_TRACE(count);
    Words all = AddNumbers("s", 200), popped;
    while (popped.size() < all.size()) {
      const size_t expected = std::min(all.size() - popped.size(), static_cast<size_t>(count));
      const Words some = SortedBulks(Run("SPOP", "s", std::to_string(count)));
      ASSERT_EQ(some.size(), expected);
      for (const std::string& member : some) EXPECT_EQ(Run("SISMEMBER", "s", member), ":0\r\n");
      popped.insert(popped.end(), some.begin(), some.end());
    }
    std::sort(popped.begin(), popped.end());
    EXPECT_EQ(popped, all);
    EXPECT_EQ(Run("EXISTS", "s"), ":0\r\n");
  }
}

TEST_F(Sets, PopOne) {
  Words all = AddNumbers("s", 20), popped;
  for (int i = 0; i < 20; ++i) {
    const std::string reply = Run("SPOP", "s");
    popped.push_back(SortedBulks("*1\r\n" + reply).at(0));
  }
  std::sort(popped.begin(), popped.end());
  EXPECT_EQ(popped, all);
  EXPECT_EQ(Run("SPOP", "s"), "$-1\r\n");
}

TEST_F(Sets, RandomMembersAreDifferent) {
  const Words all = AddNumbers("s", 200);
  for (int count : {1, 2, 5, 7, 50, 199, 200, 201}) {
    const Words some = SortedBulks(Run("SRANDMEMBER", "s", std::to_string(count)));
    EXPECT_EQ(some.size(), std::min<size_t>(count, all.size()));
    EXPECT_EQ(std::set<std::string>(some.begin(), some.end()).size(), some.size());
    EXPECT_TRUE(std::includes(all.begin(), all.end(), some.begin(), some.end()));
  }
  EXPECT_EQ(Run("SRANDMEMBER", "s", "0"), "*0\r\n");
  EXPECT_EQ(Run("SCARD", "s"), ":200\r\n");
}

TEST_F(Sets, RandomMembersRepeat) {
  const Words all = AddNumbers("s", 200);
  for (int count : {1, 5, 6, 7, 1000}) {
    const Words some = SortedBulks(Run("SRANDMEMBER", "s", std::to_string(-count)));
    EXPECT_EQ(some.size(), static_cast<size_t>(count));
    for (const std::string& member : some) EXPECT_TRUE(std::binary_search(all.begin(), all.end(), member));
  }
}

// Each of 10 members is expected 400 times in 4000 and 3 of 10; 6 sigma is about 115 and 103.
TEST_F(Sets, RandomMembersAreEquallyLikely) {
  AddNumbers("s", 10);
  std::map<std::string, int> alone, repeated, together;
  for (int i = 0; i < 4000; ++i) ++alone[SortedBulks("*1\r\n" + Run("SRANDMEMBER", "s")).at(0)];
  for (const std::string& member : SortedBulks(Run("SRANDMEMBER", "s", "-4000"))) ++repeated[member];
  for (int i = 0; i < 1333; ++i) {
    for (const std::string& member : SortedBulks(Run("SRANDMEMBER", "s", "3"))) ++together[member];
  }
  for (const auto& counts : {alone, repeated, together}) {
    EXPECT_EQ(counts.size(), 10u);
    for (const auto& [member, count] : counts) EXPECT_NEAR(count, 400, 115) << member;
  }
}

// The walk's order begins at a random place; members that stand in one corner of it are hit by few places.
TEST_F(Sets, MembersOfOneCornerAreFoundInTime) {
  for (int i = 0, added = 0; added < 700; ++i) {
    const std::string member = std::to_string(i);
    if (WalkPosition(member) >> 57 != 0) continue;
    Run("SADD", "s", member);
    ++added;
  }
  const Words some = SortedBulks(Run("SRANDMEMBER", "s", "20"));
  EXPECT_EQ(std::set<std::string>(some.begin(), some.end()).size(), 20u);
  EXPECT_EQ(SortedBulks(Run("SPOP", "s", "20")).size(), 20u);
  EXPECT_EQ(Run("SCARD", "s"), ":680\r\n");
}

// What a client sees depends on the random numbers and the data, not on how the data came about.
TEST_F(Sets, TheSameRandomNumbersTheSameMembers) {
  for (const char* count : {"1", "3", "-3", "60", "90", "-90"}) {
    Run("DEL", "s", "t");
    for (int i = 0; i < 100; ++i) Run("SADD", "s", std::to_string(i));
    for (int i = 120; i >= 0; --i) Run("SADD", "t", std::to_string(i));
    for (int i = 100; i <= 120; ++i) Run("SREM", "t", std::to_string(i));
    for (const char* name : {"SRANDMEMBER", "SPOP"}) {
      if (*count == '-' && std::string(name) == "SPOP") continue;
      const auto before = random();
      const std::string reply = Run(name, "s", count);
      random() = before;
      EXPECT_TRUE(keys().Commit().ok());
      EXPECT_EQ(Run(name, "t", count), reply);
    }
    EXPECT_EQ(Run("SMEMBERS", "t"), Run("SMEMBERS", "s"));
    EXPECT_EQ(Run("SUNION", "t", "s"), Run("SUNION", "s", "t"));
  }
}

TEST_F(Sets, ScanFindsEachMemberOnce) {
  const Words all = AddNumbers("s", 1000);
  Words found;
  std::string cursor = "0";
  do {
    const std::string reply = Run("SSCAN", "s", cursor, "COUNT", "90");
    const size_t begin = reply.find("\r\n", 4) + 2, end = reply.find("\r\n", begin);
    cursor = reply.substr(begin, end - begin);
    const Words some = SortedBulks(std::string_view(reply).substr(end + 2));
    found.insert(found.end(), some.begin(), some.end());
  } while (cursor != "0" && found.size() <= all.size());
  std::sort(found.begin(), found.end());
  EXPECT_EQ(found, all);
}

TEST_F(Sets, KeepTheirExpiry) {
  Run("SADD", "s", "a", "b", "c");
  Run("PEXPIRE", "s", "1000");
  Run("SADD", "s", "d");
  Run("SREM", "s", "a");
  Run("SPOP", "s");
  Run("SPOP", "s", "1");
  EXPECT_EQ(Run("PTTL", "s"), ":1000\r\n");
  AddNumbers("s", 20);
  Run("SPOP", "s", "19");
  EXPECT_EQ(Run("PTTL", "s"), ":1000\r\n");
}

}  // namespace
}  // namespace kvstore
