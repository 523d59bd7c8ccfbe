// Every command in every shape that matters: wrong numbers of arguments, keys of each type, every number that
// may be wrong, all options against each other; always what a real redis-server says.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tests/kvstore/grammar.h"
#include "tests/kvstore/two_servers.h"
#include "tests/kvstore/values.h"

namespace kvstore::test {
namespace {

// Both protocols: 2 and 3.
class CommandsTest : public TwoServersTest, public testing::WithParamInterface<int> {
 protected:
  // A stream that begins in the protocol of the test.
  static Stream NewStream() { return {MakeBatch({{"HELLO", std::to_string(GetParam())}})}; }
};

INSTANTIATE_TEST_SUITE_P(Resp, CommandsTest, testing::Values(2, 3), testing::PrintToStringParamName());

using Args = std::vector<std::string>;

// A key of each kind that a command may meet.
const std::vector<Args> kSituations = {
    {},
    {"SET", "k", "some text"},
    {"SET", "k", "10", "EX", "100000"},
    {"SET", "k", ""},
    {"RPUSH", "k", "1", "b", "1", ""},
    {"SADD", "k", "1", "b", ""},
    {"HSET", "k", "1", "10", "b", "text", "", ""},
    {"ZADD", "k", "1", "1", "1", "b", "1", ""},
};

std::set<std::string> Names() {
  std::set<std::string> names;
  for (const Form& form : Grammar()) names.insert(std::string(form.name));
  return names;
}

// `turn` chooses among the alternatives of the form: 0 always the first.
Args Plain(const Form& form, uint64_t turn = 0) {
  Choice choice;
  choice.below = [turn](uint64_t n) { return turn % n; };
  choice.value = [](std::string_view kind) -> Args {
    if (kind == "request") return {"GET", "k"};
    return {PlainValue(kind, "k")};
  };
  return Expand(form, choice);
}

// All that Plain gives for the first `turns`, each once.
std::set<Args> PlainRequests(uint64_t turns) {
  std::set<Args> all;
  for (const Form& form : Grammar()) {
    for (uint64_t turn = 0; turn < turns; ++turn) all.insert(Plain(form, turn));
  }
  return all;
}

TEST_P(CommandsTest, AnyNumberOfArguments) {
  for (const std::string& name : Names()) {
    Stream stream = NewStream(), in_multi = NewStream();
    for (const std::string word : {"x", "100000000"}) {
      for (size_t count = 0; count < 8; ++count) {
        Args args(1 + count, word);
        args[0] = name;
        stream.push_back(MakeBatch({args}));
        in_multi.push_back(MakeBatch({{"MULTI"}, args, {"EXEC"}}));
        in_multi.push_back(MakeBatch({{"DISCARD"}}));
      }
    }
    ExpectSame(stream);
    ExpectSame(in_multi);
  }
}

TEST_P(CommandsTest, Subcommands) {
  const std::vector<Args> requests = {
      {"CLIENT", "GETNAME"},  {"CLIENT", "SETNAME"}, {"CLIENT", "NO-EVICT"}, {"CLIENT", "ID"},
      {"CLIENT", "LIST"},     {"CLIENT", "INFO"},    {"CLIENT", "nosuch"},   {"CLIENT", "HELP"},
      {"CONFIG", "GET"},      {"CONFIG", "SET"},     {"CONFIG", "nosuch"},   {"CONFIG", "HELP"},
      {"COMMAND", "COUNT"},   {"COMMAND", "DOCS"},   {"COMMAND", "INFO"},    {"COMMAND", "LIST"},
      {"COMMAND", "GETKEYS"}, {"COMMAND", "nosuch"}, {"COMMAND", "HELP"},    {"DEBUG", "SLEEP"},
      {"DEBUG", "DIGEST"},    {"DEBUG", "nosuch"},   {"CLIENT", ""},         {"CONFIG", "\r\nx"},
      {"COMMAND", "a\0b"},
  };
  for (const Args& request : requests) {
    Stream stream = NewStream();
    Args args = request;
    for (int extra = 0; extra < 4; ++extra, args.push_back("x")) {
      const bool help_of_its_own = args.size() == 2 && args[1] == "HELP";
      if (!help_of_its_own) stream.push_back(MakeBatch({args, {"MULTI"}, args, {"EXEC"}}));
    }
    ExpectSame(stream);
  }
}

TEST_P(CommandsTest, KeysOfEveryType) {
  for (const Args& args : PlainRequests(3)) {
    Stream stream = NewStream();
    for (const Args& situation : kSituations) {
      stream.push_back(MakeBatch({{"FLUSHALL"}}));
      if (!situation.empty()) stream.push_back(MakeBatch({situation}));
      stream.push_back(MakeBatch({args}));
      stream.push_back(MakeBatch({{"RESET"}, {"HELLO", std::to_string(GetParam())}}));
      stream.push_back(MakeBatch({{"TYPE", "k"}, {"PTTL", "k"}, {"GET", "k"}, {"LRANGE", "k", "0", "-1"}}));
      stream.push_back(
          MakeBatch({{"SMEMBERS", "k"}, {"HGETALL", "k"}, {"DBSIZE"}, {"ZRANGE", "k", "0", "-1"}}));
    }
    ExpectSame(stream);
  }
}

bool IsNumber(std::string_view kind) {
  static const std::set<std::string_view> kinds = {"int",  "float", "index",     "count",  "offset", "ttl",
                                                   "pttl", "at",    "pat",       "later",  "plater", "cursor",
                                                   "db",   "score", "score_end", "lex_end"};
  return kinds.contains(kind);
}

// As Plain, with `number` in the place of the number that is the `which`th, from 0; as Plain if there is
// none.
Args WithNumber(const Form& form, uint64_t turn, size_t which, const std::string& number) {
  size_t seen = 0;
  Choice choice;
  choice.below = [turn](uint64_t n) { return turn % n; };
  choice.value = [&](std::string_view kind) -> Args {
    if (kind == "request") return {"GET", "k"};
    if (IsNumber(kind) && seen++ == which) return {number};
    return {PlainValue(kind, "k")};
  };
  return Expand(form, choice);
}

// Each number of each command, one at a time, is what it must not be, or may just be.
TEST_P(CommandsTest, EveryWrongNumber) {
  std::vector<std::string> numbers(WrongIntegers().begin(), WrongIntegers().end());
  for (const std::string& number : WrongFloats()) numbers.push_back(number);
  for (const char* number :
       {"0", "-1", "-2", "9223372036854775807", "-9223372036854775808", "9223372036854775806",
        "-9223372036854775807", "9223372036854775", "9223372036854776", "-9223372036854776", "536870912",
        "67108864", "1e17", "1.5", "0x10", "1.0e2"}) {
    numbers.push_back(number);
  }
  std::set<Args> done;
  for (const Form& form : Grammar()) {
    // What these may be asked for has no end.
    if (form.name == "SRANDMEMBER" || form.name == "ZRANDMEMBER") continue;
    for (uint64_t turn = 0; turn < 5; ++turn) {
      for (size_t which = 0;; ++which) {
        const Args shape = WithNumber(form, turn, which, "?");
        if (std::find(shape.begin(), shape.end(), "?") == shape.end()) break;
        if (!done.insert(shape).second) continue;
        Stream stream = NewStream();
        for (const std::string& number : numbers) {
          Batch& batch = stream.emplace_back();
          for (const Args& situation : kSituations) {
            if (situation.empty()) continue;
            for (const Args& args : {Args{"DEL", "k"}, situation, WithNumber(form, turn, which, number),
                                     Args{"TYPE", "k"}, Args{"PTTL", "k"}}) {
              batch.requests.push_back({args});
            }
          }
        }
        ExpectSame(stream);
      }
    }
  }
}

TEST_P(CommandsTest, IncrementsOfEveryNumber) {
  std::vector<std::string> numbers(WrongFloats().begin(), WrongFloats().end());
  numbers.insert(numbers.end(), WrongIntegers().begin(), WrongIntegers().end());
  for (const char* number : {"0",
                             "1",
                             "-1",
                             "1.5",
                             "-0",
                             "0.1",
                             "0.2",
                             "3.0e3",
                             "1e17",
                             "1e-17",
                             "1e300",
                             "1e-300",
                             "10.00",
                             "00012.5",
                             "0x1p3",
                             "0x1.8p1",
                             "1e20",
                             "-1e20",
                             ".5",
                             "5.",
                             "+2",
                             "1e4000",
                             "9223372036854775807",
                             "-9223372036854775808",
                             "9007199254740993",
                             "123456789.123456789",
                             "3.14159265358979323846264338327950288",
                             "0.000000000000000001",
                             "1e-4940",
                             "99999999999999999.9"}) {
    numbers.push_back(number);
  }
  for (const std::string& number : numbers) {
    Stream stream = NewStream();
    for (const std::string& by : numbers) {
      stream.push_back(MakeBatch({{"SET", "s", number},
                                  {"INCRBYFLOAT", "s", by},
                                  {"GET", "s"},
                                  {"HSET", "h", "f", number},
                                  {"HINCRBYFLOAT", "h", "f", by},
                                  {"HGET", "h", "f"},
                                  {"SET", "s", number},
                                  {"INCRBY", "s", by},
                                  {"DECRBY", "s", by},
                                  {"INCR", "s"},
                                  {"HSET", "h", "f", number},
                                  {"HINCRBY", "h", "f", by}}));
    }
    ExpectSame(stream);
  }
}

// All sequences of up to three of `options` behind `command`, in every situation of the key.
void TryOptions(const Args& command, const std::vector<Args>& options, const std::vector<Args>& situations,
                Stream* stream) {
  std::vector<Args> sequences = {command};
  for (size_t begin = 0, round = 0; round < 3; ++round) {
    const size_t end = sequences.size();
    for (; begin < end; ++begin) {
      for (const Args& option : options) {
        Args longer = sequences[begin];
        longer.insert(longer.end(), option.begin(), option.end());
        sequences.push_back(longer);
      }
    }
  }
  for (const Args& args : sequences) {
    for (const Args& situation : situations) {
      if (situation.empty()) {
        stream->push_back(MakeBatch({{"DEL", "k"}, args, {"GET", "k"}, {"PTTL", "k"}}));
      } else {
        stream->push_back(MakeBatch({{"DEL", "k"}, situation, args, {"GET", "k"}, {"PTTL", "k"}}));
      }
    }
  }
}

const std::vector<Args> kStringSituations = {
    {}, {"SET", "k", "old"}, {"SET", "k", "old", "PX", "500000000"}, {"RPUSH", "k", "x"}};

TEST_P(CommandsTest, OptionsOfSet) {
  Stream stream = NewStream();
  TryOptions({"SET", "k", "new"},
             {{"EX", "100000"},
              {"PX", "100000000"},
              {"EXAT", "4102444800"},
              {"PXAT", "4102444800000"},
              {"NX"},
              {"XX"},
              {"KEEPTTL"},
              {"GET"},
              {"PERSIST"},
              {"EX"},
              {"nosuch"},
              {"EX", "0"},
              {"PX", "text"}},
             kStringSituations, &stream);
  ExpectSame(stream);
}

TEST_P(CommandsTest, OptionsOfGetEx) {
  Stream stream = NewStream();
  TryOptions({"GETEX", "k"},
             {{"EX", "100000"},
              {"PX", "100000000"},
              {"EXAT", "4102444800"},
              {"PXAT", "4102444800000"},
              {"PERSIST"},
              {"EX"},
              {"NX"},
              {"KEEPTTL"},
              {"PXAT", "1000"},
              {"EX", "-1"},
              {"PX", "9223372036854775807"}},
             kStringSituations, &stream);
  ExpectSame(stream);
}

TEST_P(CommandsTest, OptionsOfExpire) {
  const std::vector<Args> situations = {{}, {"SET", "k", "v"}, {"SET", "k", "v", "PXAT", "5000000000000"}};
  Stream stream = NewStream();
  for (const Args& command : std::vector<Args>{{"EXPIRE", "k", "100000"},
                                               {"PEXPIRE", "k", "100000000"},
                                               {"EXPIREAT", "k", "4102444800"},
                                               {"PEXPIREAT", "k", "6000000000000"},
                                               {"PEXPIREAT", "k", "5000000000000"},
                                               {"PEXPIREAT", "k", "1000"},
                                               {"EXPIRE", "k", "-5"},
                                               {"EXPIRE", "k", "text"}}) {
    TryOptions(command, {{"NX"}, {"XX"}, {"GT"}, {"LT"}, {"nosuch"}, {"gt"}}, situations, &stream);
  }
  ExpectSame(stream);
}

TEST_P(CommandsTest, OptionsOfScan) {
  const std::vector<Args> options = {{"MATCH", "*"},     {"MATCH"},      {"COUNT", "5"}, {"COUNT", "0"},
                                     {"COUNT", "-1"},    {"COUNT", "x"}, {"COUNT"},      {"TYPE", "string"},
                                     {"TYPE", "nosuch"}, {"nosuch"}};
  Stream stream = NewStream();
  for (const Args& command : std::vector<Args>{
           {"SCAN", "0"}, {"SCAN", "x"}, {"SSCAN", "k", "0"}, {"HSCAN", "k", "0"}, {"ZSCAN", "k", "0"}}) {
    TryOptions(command, options, {{}, {"SADD", "k", "a"}, {"HSET", "k", "a", "b"}}, &stream);
  }
  ExpectSame(stream);
}

// Ranges by member have a meaning where all scores are the same: there, few members or many.
TEST_P(CommandsTest, RangesByMember) {
  const std::vector<std::string> ends = {"-",     "+",  "[",          "(",          "[a",         "(a",
                                         "[aa",   "(b", "[member050", "(member050", "[member149", "(zz",
                                         "[\xff", "a",  "",           "+x",         "-x"};
  for (const int members : {0, 1, 5, 200}) {
    Stream stream = NewStream();
    for (int i = 0; i < members; ++i) {
      stream.push_back(MakeBatch({{"ZADD", "k", "-2.5", absl::StrFormat("member%03d", i)}}));
    }
    if (members > 1) {
      stream.push_back(MakeBatch({{"ZADD", "k", "-2.5", "", "-2.5", "a", "-2.5", "b", "-2.5", "\xff"}}));
    }
    for (const std::string& low : ends) {
      for (const std::string& high : ends) {
        stream.push_back(MakeBatch({{"ZRANGEBYLEX", "k", low, high},
                                    {"ZREVRANGEBYLEX", "k", low, high},
                                    {"ZLEXCOUNT", "k", low, high},
                                    {"ZRANGE", "k", low, high, "BYLEX", "REV", "LIMIT", "1", "3"},
                                    {"ZRANGEBYLEX", "k", low, high, "LIMIT", "2", "-1"},
                                    {"ZRANGESTORE", "to", "k", low, high, "BYLEX"},
                                    {"ZREMRANGEBYLEX", "to", "[b", high},
                                    {"ZRANGE", "to", "0", "-1", "WITHSCORES"}}));
      }
    }
    ExpectSame(stream);
  }
}

// More than 128 members Redis stores in another way.
void AddScores(int members, Stream* stream) {
  for (int i = 0; i < members; ++i) {
    const std::string score = absl::StrCat((i * 37) % 100 - 8 + (i % 3) * 0.25);
    stream->push_back(MakeBatch({{"ZADD", "k", score, absl::StrCat("m", i)}}));
  }
  if (members > 1)
    stream->push_back(MakeBatch({{"ZADD", "k", "inf", "most", "-inf", "least", "-7.5", "some"}}));
}

TEST_P(CommandsTest, RangesByScoreAndRank) {
  const Args scores = {"-inf", "(-inf", "-7.5", "(-7.5", "0", "3", "(3", "40", "(99", "inf", "(inf"};
  const Args ranks = {"0", "1", "-1", "-2", "5", "100", "-100", "150", "-150", "1000", "-1000"};
  for (const int members : {0, 1, 7, 257}) {
    Stream stream = NewStream();
    AddScores(members, &stream);
    const auto ask = [&](const std::string& from, const std::string& to, const Args& by) {
      for (const Args& options : std::vector<Args>{{}, {"REV"}, {"WITHSCORES"}, {"REV", "WITHSCORES"}}) {
        Args args = {"ZRANGE", "k", from, to};
        args.insert(args.end(), by.begin(), by.end());
        args.insert(args.end(), options.begin(), options.end());
        stream.push_back(MakeBatch({args}));
      }
    };
    for (const std::string& from : scores) {
      for (const std::string& to : scores) {
        ask(from, to, {"BYSCORE"});
        ask(from, to, {"BYSCORE", "LIMIT", "3", "4"});
        stream.push_back(MakeBatch({{"ZCOUNT", "k", from, to}}));
      }
    }
    for (const std::string& from : ranks) {
      for (const std::string& to : ranks) ask(from, to, {});
    }
    for (int i = 0; i < members; i += 5) {
      stream.push_back(
          MakeBatch({{"ZRANK", "k", absl::StrCat("m", i)}, {"ZREVRANK", "k", absl::StrCat("m", i)}}));
    }
    stream.push_back(MakeBatch({{"ZREMRANGEBYRANK", "k", "3", "10"},
                                {"ZREMRANGEBYSCORE", "k", "(10", "20"},
                                {"ZPOPMIN", "k", "20"},
                                {"ZPOPMAX", "k", "30"},
                                {"ZPOPMIN", "k"},
                                {"ZRANGE", "k", "0", "-1"},
                                {"ZREMRANGEBYRANK", "k", "0", "-1"},
                                {"EXISTS", "k"}}));
    ExpectSame(stream);
  }
}

// A watched key and every command that may or may not change it.
TEST_P(CommandsTest, WhatAWatchSees) {
  for (const Args& args : PlainRequests(4)) {
    Stream stream = NewStream();
    for (const Args& situation : kSituations) {
      stream.push_back(MakeBatch({{"FLUSHALL"}}));
      if (!situation.empty()) stream.push_back(MakeBatch({situation}));
      stream.push_back(MakeBatch({{"WATCH", "k"}}));
      stream.push_back(MakeBatch({args}, 1));
      stream.push_back(MakeBatch({{"RESET"}}, 1));
      stream.push_back(MakeBatch({{"MULTI"}, {"TYPE", "k"}, {"EXEC"}}));
    }
    ExpectSame(stream);
  }
}

TEST_P(CommandsTest, Transactions) {
  const std::vector<std::vector<Args>> cases = {
      {{"EXEC"}},
      {{"DISCARD"}},
      {{"MULTI"}, {"MULTI"}, {"EXEC"}},
      {{"MULTI"}, {"WATCH", "k"}, {"EXEC"}},
      {{"MULTI"}, {"UNWATCH"}, {"EXEC"}},
      {{"MULTI"}, {"nosuch"}, {"SET", "k", "v"}, {"EXEC"}, {"GET", "k"}},
      {{"MULTI"}, {"GET"}, {"SET", "k", "v"}, {"EXEC"}, {"GET", "k"}},
      {{"MULTI"}, {"EXEC", "x"}, {"EXEC"}, {"GET", "k"}},
      {{"MULTI"}, {"DISCARD", "x"}, {"EXEC"}},
      {{"MULTI"}, {"SET", "k", "v"}, {"LPUSH", "k", "x"}, {"INCR", "k"}, {"GET", "k"}, {"EXEC"}},
      {{"MULTI"}, {"EXEC"}},
      {{"MULTI"}, {"PING"}, {"DISCARD"}, {"PING"}},
      {{"MULTI"}, {"PING"}, {"RESET"}, {"EXEC"}},
      {{"MULTI"},
       {"HELLO", "3"},
       {"HGETALL", "k"},
       {"HELLO", "2"},
       {"HGETALL", "k"},
       {"EXEC"},
       {"HGETALL", "k"}},
      {{"MULTI"}, {"CLIENT", "SETNAME", "x"}, {"CLIENT", "GETNAME"}, {"EXEC"}},
      {{"MULTI"}, {"CLIENT", "nosuch"}, {"EXEC"}},
      {{"MULTI"}, {"CLIENT", "nosuch", "x"}, {"CONFIG", "SET", "nosuch", "1"}, {"EXEC"}},
      {{"MULTI"}, {"SELECT", "0"}, {"SELECT", "1"}, {"AUTH", "x"}, {"EXEC"}},
      {{"WATCH", "k"},
       {"SET", "k", "v"},
       {"MULTI"},
       {"GET", "k"},
       {"EXEC"},
       {"MULTI"},
       {"GET", "k"},
       {"EXEC"}},
      {{"WATCH", "k"}, {"SET", "k", "v"}, {"UNWATCH"}, {"MULTI"}, {"GET", "k"}, {"EXEC"}},
      {{"WATCH", "k"}, {"SET", "k", "v"}, {"MULTI"}, {"nosuch"}, {"EXEC"}},
      {{"WATCH", "k"}, {"MULTI"}, {"SET", "k", "v"}, {"EXEC"}, {"MULTI"}, {"PING"}, {"EXEC"}},
      {{"WATCH", "k"}, {"MULTI"}, {"DISCARD"}, {"SET", "k", "v"}, {"MULTI"}, {"PING"}, {"EXEC"}},
      {{"WATCH", "k"}, {"EXEC"}, {"SET", "k", "v"}, {"MULTI"}, {"PING"}, {"EXEC"}},
      {{"MULTI"}, {"QUIT"}, {"EXEC"}},
      {{"MULTI"}, {"FLUSHALL"}, {"DBSIZE"}, {"SET", "k", "v"}, {"DBSIZE"}, {"RANDOMKEY"}, {"EXEC"}},
  };
  for (const auto& requests : cases) {
    Stream together = NewStream(), apart = NewStream();
    together.push_back(MakeBatch(requests));
    for (const Args& args : requests) apart.push_back(MakeBatch({args}));
    ExpectSame(together);
    ExpectSame(apart);
  }
}

}  // namespace
}  // namespace kvstore::test
