// Values with many parts, next to a real redis-server's: strings over several chunks, lists, hashes and sets
// of thousands of elements, many keys.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/kvstore/two_servers.h"
#include "tests/kvstore/values.h"

namespace kvstore::test {
namespace {

using Args = std::vector<std::string>;

std::string Number(int64_t value) { return std::to_string(value); }

class LargeTest : public TwoServersTest {
 protected:
  // `start` first, then `batches` times 20 requests that `next` makes. A few seeds, printed.
  static void TryAtRandom(size_t batches, const std::vector<Args>& start,
                          const std::function<Args(Dice&)>& next) {
    const uint64_t first = TestSeed(), rounds = FromEnvironment("UNDERSTUDY_DIFF_STREAMS", 3);
    for (uint64_t seed = first; seed < first + rounds; ++seed) {
      Dice dice(seed);
      Stream stream = {MakeBatch(start)};
      for (size_t i = 0; i < batches; ++i) {
        Batch& batch = stream.emplace_back();
        for (int k = 0; k < 20; ++k) batch.requests.push_back({next(dice)});
      }
      const std::string what = runner_->Run(stream);
      if (what.empty()) continue;
      stream = Shrink(
          std::move(stream), [](const Stream& part) { return !runner_->Run(part).empty(); }, 300);
      FAIL() << "UNDERSTUDY_TEST_SEED=" << seed << "\n"
             << what << "\nand shrunk to\n"
             << Readable(stream).substr(0, 5000) << runner_->Run(stream);
    }
  }
};

// Around the edges of chunks, mostly.
int64_t Offset(Dice& dice, int64_t size) {
  constexpr int64_t kChunk = 16 << 10;  // kStringChunk
  if (dice.Percent(50)) return static_cast<int64_t>(dice.Below(static_cast<uint64_t>(size)));
  const int64_t near = static_cast<int64_t>(dice.Below(static_cast<uint64_t>(size / kChunk + 1))) * kChunk;
  return std::clamp<int64_t>(near + static_cast<int64_t>(dice.Below(7)) - 3, 0, size);
}

std::string Bytes(Dice& dice) {
  static const size_t sizes[] = {0, 1, 3, 100, 4095, 4096, 4097, 16383, 16384, 16385, 65536, 200'000};
  return std::string(dice.OneOf(sizes), static_cast<char>('a' + dice.Below(26)));
}

TEST_F(LargeTest, Strings) {
  TryAtRandom(25, {{"SET", "k", std::string(300'000, 'k')}}, [](Dice& dice) -> Args {
    const std::string key = dice.Percent(70) ? "k" : "l", other = key == "k" ? "l" : "k";
    const int64_t at = Offset(dice, 400'000);
    switch (dice.Below(14)) {
      case 0: return {"SET", key, Bytes(dice)};
      case 1: return {"APPEND", key, Bytes(dice)};
      case 2: return {"SETRANGE", key, Number(at), Bytes(dice)};
      case 3: return {"SETRANGE", key, Number(at), "x"};
      case 4: return {"STRLEN", key};
      case 5: return {"GETRANGE", key, Number(-at), "-1"};
      case 6: return {"COPY", key, other, "REPLACE"};
      case 7: return {"RENAME", key, other};
      case 8: return {"GETEX", key, "PXAT", "5000000000000"};
      case 9: return dice.Percent(80) ? Args{"PERSIST", key} : Args{"GETDEL", key};
      default: return {"GETRANGE", key, Number(at), Number(at + static_cast<int64_t>(dice.Below(70'000)))};
    }
  });
}

TEST_F(LargeTest, Lists) {
  Args start = {"RPUSH", "k"};
  for (int i = 0; i < 3000; ++i) start.push_back(Number(i % 50));
  TryAtRandom(60, {start, {"COPY", "k", "l"}}, [](Dice& dice) -> Args {
    const std::string key = dice.Percent(80) ? "k" : "l",
                      value = Number(static_cast<int64_t>(dice.Below(50)));
    const int64_t index = static_cast<int64_t>(dice.Below(6200)) - 3100;
    switch (dice.Below(16)) {
      case 0: return {"LPUSH", key, value, "new"};
      case 1: return {"RPUSH", key, value, "new", ""};
      case 2: return {"LPOP", key};
      case 3: return {"RPOP", key, Number(static_cast<int64_t>(dice.Below(30)))};
      case 4: return {"LSET", key, Number(index), absl::StrCat("set", value)};
      case 5:
        return {"LINSERT", key, dice.Percent(50) ? "BEFORE" : "AFTER", value, absl::StrCat("in", value)};
      case 6: return {"LREM", key, Number(static_cast<int64_t>(dice.Below(9)) - 4), value};
      case 7:
        return {"LTRIM", key, Number(static_cast<int64_t>(dice.Below(20))),
                Number(-static_cast<int64_t>(dice.Below(20)) - 1)};
      case 8: return {"LRANGE", key, Number(index), Number(index + 40)};
      case 9: return {"LLEN", key};
      case 10: return {"RENAME", key, key == "k" ? "l" : "k"};
      case 11: return {"COPY", key, key == "k" ? "l" : "k", "REPLACE"};
      default: return {"LINDEX", key, Number(index)};
    }
  });
}

TEST_F(LargeTest, Hashes) {
  Args start = {"HSET", "k"};
  for (int i = 0; i < 3000; ++i) start.insert(start.end(), {absl::StrCat("f", i), Number(i)});
  TryAtRandom(60, {start, {"COPY", "k", "l"}}, [](Dice& dice) -> Args {
    const std::string key = dice.Percent(80) ? "k" : "l", field = absl::StrCat("f", dice.Below(4000));
    switch (dice.Below(14)) {
      case 0: return {"HSET", key, field, "new", absl::StrCat("f", dice.Below(4000)), "10"};
      case 1: return {"HDEL", key, field, absl::StrCat("f", dice.Below(4000))};
      case 2: return {"HSETNX", key, field, "1"};
      case 3: return {"HINCRBY", key, field, "5"};
      case 4: return {"HINCRBYFLOAT", key, field, "0.5"};
      case 5: return {"HLEN", key};
      case 6: return {"HMGET", key, field, "nosuch", field};
      case 7: return dice.Percent(5) ? Args{"HGETALL", key} : Args{"HEXISTS", key, field};
      case 8: return {"COPY", key, key == "k" ? "l" : "k", "REPLACE"};
      case 9: return dice.Percent(4) ? Args{"HKEYS", key} : Args{"HSTRLEN", key, field};
      default: return {"HGET", key, field};
    }
  });
}

TEST_F(LargeTest, Sets) {
  Args first = {"SADD", "s0"}, second = {"SADD", "s1"};
  for (int i = 0; i < 3000; ++i) first.push_back(Number(i));
  for (int i = 2000; i < 4000; ++i) second.push_back(Number(i));
  TryAtRandom(60, {first, second}, [](Dice& dice) -> Args {
    const auto member = [&] { return Number(static_cast<int64_t>(dice.Below(5000))); };
    const auto key = [&] { return absl::StrCat("s", dice.Below(3)); };
    switch (dice.Below(14)) {
      case 0: return {"SADD", key(), member(), member(), member()};
      case 1: return {"SREM", key(), member(), member()};
      case 2: return {"SCARD", key()};
      case 3: return {"SMISMEMBER", key(), member(), member(), member()};
      case 4: return dice.Percent(10) ? Args{"SINTER", key(), key()} : Args{"SISMEMBER", key(), member()};
      case 5:
        return dice.Percent(10) ? Args{"SUNION", key(), key(), key()} : Args{"SISMEMBER", key(), member()};
      case 6: return dice.Percent(10) ? Args{"SDIFF", key(), key()} : Args{"SISMEMBER", key(), member()};
      case 7: return dice.Percent(10) ? Args{"SMEMBERS", key()} : Args{"SISMEMBER", key(), member()};
      case 8: return dice.Percent(20) ? Args{"COPY", key(), key(), "REPLACE"} : Args{"SCARD", key()};
      default: return {"SISMEMBER", key(), member()};
    }
  });
}

// Pops and picks by the thousand: each time the two are made the same again.
TEST_F(LargeTest, PopsAndPicks) {
  Args start = {"SADD", "k"};
  for (int i = 0; i < 5000; ++i) start.push_back(absl::StrCat("m", i));
  for (const char* count : {"1", "10", "2500", "4990", "4999", "5000", "5001"}) {
    Stream stream = {MakeBatch({start})};
    for (const Args& args : std::vector<Args>{{"SRANDMEMBER", "k", count},
                                              {"SRANDMEMBER", "k", absl::StrCat("-", count)},
                                              {"SPOP", "k", count},
                                              {"SRANDMEMBER", "k"},
                                              {"SPOP", "k"},
                                              {"SPOP", "k", count}}) {
      Batch pick = MakeBatch({args}, 1);
      pick.kind = Batch::Kind::kPick;
      stream.push_back(pick);
      stream.push_back(MakeBatch({{"SCARD", "k"}, {"SMEMBERS", "k"}}));
    }
    ExpectSame(stream);
  }
}

TEST_F(LargeTest, ManyKeys) {
  std::vector<Args> start;
  for (int i = 0; i < 5000; ++i) start.push_back({"SET", absl::StrCat("key:", i), Number(i)});
  TryAtRandom(60, start, [](Dice& dice) -> Args {
    const auto key = [&] { return absl::StrCat("key:", dice.Below(6000)); };
    switch (dice.Below(13)) {
      case 0: return {"DEL", key(), key(), key()};
      case 1: return {"RENAME", key(), key()};
      case 2: return {"COPY", key(), key()};
      case 3: return {"EXISTS", key(), key()};
      case 4: return {"DBSIZE"};
      case 5:
        return dice.Percent(10) ? Args{"KEYS", absl::StrCat("*", dice.Below(100))} : Args{"TYPE", key()};
      case 6: return {"EXPIREAT", key(), "5000000000"};
      case 7: return {"EXPIREAT", key(), "5"};
      case 8: return {"MSET", key(), "1", key(), "2", key(), "3"};
      case 9: return {"PERSIST", key()};
      case 10: return {"RPUSH", key(), "x"};
      default: return {"GET", key()};
    }
  });
  for (const Args& scan : std::vector<Args>{{"SCAN", "0", "COUNT", "1000"},
                                            {"SCAN", "0", "MATCH", "*7", "COUNT", "100"},
                                            {"SCAN", "0", "TYPE", "list"}}) {
    Stream stream = {MakeBatch(start), MakeBatch({scan})};
    stream.back().kind = Batch::Kind::kWalk;
    ExpectSame(stream);
  }
}

}  // namespace
}  // namespace kvstore::test
