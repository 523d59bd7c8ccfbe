#include "tests/kvstore/values.h"

#include <cstdlib>
#include <iostream>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace kvstore::test {
namespace {

using namespace std::string_literals;

// clang-format off
const std::string kWrongIntegers[] = {
    "", " ", " 1", "1 ", "+1", "01", "-01", "-0", "00", "0x10", "1e3", "1.0", "abc", "--1", "-", "1\0"s,
    "\0"s, "1\r\n", "9223372036854775808", "-9223372036854775809", "18446744073709551616",
    "99999999999999999999999", "nan", "1_000"};

const std::string kEdgeIntegers[] = {
    "0", "1", "-1", "9223372036854775807", "-9223372036854775808", "9223372036854775806",
    "-9223372036854775807", "2147483647", "2147483648", "-2147483649", "4294967295", "4294967296",
    "4611686018427387904"};

const std::string kFloats[] = {
    "0", "1", "-1", "1.5", "-3.25", "0.1", "0.2", "1e3", "1E-3", "3.0e2", "10", "-0", "1e-20", "1e17",
    "123456789.123456789", "12345678901234567890", ".5", "5.", "+2", "0x1p3", "0xA", "1e300", "-1e300",
    "00012.500", "3.14159265358979323846"};

const std::string kWrongFloats[] = {
    "", " ", " 1", "1 ", "nan", "-nan", "inf", "-inf", "+inf", "infinity", "1e5000", "-1e5000", "1e-5000",
    "abc", "1.5x", "1,5", "1..2", "--1", "1e", "0x", "1\0"s, "."};

// Five keys for each of s, l, t, h, z; the last of each is not for people.
const std::string kKeys[] = {"s0", "s1", "s2", "s3", "s\0\r\n\xff"s,
                             "l0", "l1", "l2", "l3", std::string(300, 'l'),
                             "t0", "t1", "t2", "t3", "",
                             "h0", "h1", "h2", "h3", "{h} *?[]\\",
                             "z0", "z1", "z2", "z3", "z\0z"s};
constexpr uint64_t kKeysOfAType = 5;

const std::string kFields[] = {
    "a", "b", "c", "A", "", "1", "2", "-7", "9223372036854775807", "field\0with\r\nbytes"s, "1.5", "\xc3\xa4",
    "x y", "\"", "dd", "ee", "ff", "gg", "hh", "01"};

const std::string kPatterns[] = {
    "*", "s*", "?0", "h?", "[st]*", "[^s]*", "*\\**", "", "**", "s[0-2]", "[2-0]*", "l*l", "[", "[]", "[a",
    "\\", "a[^]*", "*[]]", "[a-", "t\\0", "*3", "S0", "f*", "*d", "\xff*", "?*?"};

const std::string kNames[] = {
    "me", "default", "", "two words", "new\nline", "\xc3\xa4", "a-b_c.d:e", "x\x7f"};
const std::string kTypes[] = {
    "string", "list", "set", "hash", "zset", "STRING", "none", "nosuch", ""};
const std::string kDatabases[] = {
    "0", "0", "1", "-1", "abc", "15", "99999999999", ""};
const std::string kWords[] = {
    "nosuch", "HELP!", "EX", "NX", "get", "ON", "a b", "'", "0", "10000000", "-1", "yes", "\r\nmalicious",
    "unknown-subcommand-that-is-rather-long"};

const std::string kScores[] = {
    "0", "1", "1", "2", "-1", "1.5", "-3.25", "0.1", "0.2", "1e3", "10", "1e-20", "123456789.123456789",
    "inf", "-inf", "+inf", "1e300", "3.14159265358979323846", "0x10", "5e-324"};
const std::string kWrongScores[] = {"", " 1", "nan", "abc", "1e400", "1x", "(1", "--1", "1\0"s};
const std::string kScoreEnds[] = {"-inf",  "+inf", "inf", "0",   "1",   "(1", "(0",
                                  "2",     "(2",   "-1",  "(-1", "1.5", "10", "(inf",
                                  "(-inf", "1e3",  "",    "(",   " 1"};
const std::string kWrongScoreEnds[] = {"nan", "abc", "((1", "1x", "[1", "-", "+", "1,5"};
// clang-format on

std::string Key(std::string_view kind, Dice& dice) {
  constexpr std::string_view kKinds = "slthz";
  if (kind == "key" || dice.Percent(12)) return dice.OneOf(kKeys);
  const size_t type = kKinds.find(kind);
  CHECK_NE(type, std::string_view::npos) << kind;
  return kKeys[type * kKeysOfAType + dice.Below(kKeysOfAType)];
}

std::string Bytes(size_t size, Dice& dice) {
  std::string bytes(size, '\0');
  const bool binary = dice.Percent(50);
  for (char& c : bytes) c = static_cast<char>(binary ? dice.Below(256) : 'a' + dice.Below(26));
  return bytes;
}

std::string Value(Dice& dice) {
  const uint64_t what = dice.Below(100);
  if (what < 20) return absl::StrCat(static_cast<int64_t>(dice.Below(200)) - 100);
  if (what < 27) return dice.OneOf(kEdgeIntegers);
  if (what < 31) return dice.OneOf(kWrongIntegers);
  if (what < 38) return dice.OneOf(kFloats);
  if (what < 40) return dice.OneOf(kWrongFloats);
  if (what < 70) return dice.OneOf(kFields);
  if (what < 96) return Bytes(dice.Below(100), dice);
  // Around 4 KB and 64 KB the store keeps strings in another way.
  if (what < 99) return Bytes(4000 + dice.Below(200), dice);
  return Bytes(65000 + dice.Below(1000), dice);
}

std::string Integer(Dice& dice) {
  if (dice.Percent(70)) return absl::StrCat(static_cast<int64_t>(dice.Below(200)) - 100);
  return dice.Percent(70) ? dice.OneOf(kEdgeIntegers) : dice.OneOf(kWrongIntegers);
}

std::string Index(Dice& dice) {
  if (dice.Percent(85)) return absl::StrCat(static_cast<int64_t>(dice.Below(25)) - 12);
  if (dice.Percent(30)) return absl::StrCat(static_cast<int64_t>(dice.Below(20000)) - 10000);
  return dice.Percent(60) ? dice.OneOf(kEdgeIntegers) : dice.OneOf(kWrongIntegers);
}

std::string Count(Dice& dice) {
  if (dice.Percent(80)) return absl::StrCat(dice.Below(20));
  if (dice.Percent(40)) return absl::StrCat(-static_cast<int64_t>(dice.Below(20)));
  return dice.Percent(40) ? "1000000" : dice.OneOf(kWrongIntegers);
}

std::string Offset(Dice& dice) {
  const uint64_t what = dice.Below(100);
  if (what < 80) return absl::StrCat(dice.Below(200));
  if (what < 85) return absl::StrCat(4000 + dice.Below(200));
  if (what < 87) return absl::StrCat(65000 + dice.Below(2000));
  if (what < 90) return "-1";
  if (what < 95) return "536870912";
  return dice.OneOf(kWrongIntegers);
}

enum class Since { kNow, k1970, k1970NotLongAgo };

// `unit`: how many of it are a second.
std::string Time(uint64_t unit, Since since, Dice& dice) {
  static const std::string kSpecial[] = {"0",
                                         "-1",
                                         "-1000000",
                                         "9223372036854775807",
                                         "-9223372036854775808",
                                         "9223372036854775",
                                         "9223372036854776",
                                         "9223370000000000000"};
  const uint64_t what = dice.Below(100);
  if (what < 6) return dice.OneOf(kSpecial);
  if (what < 9) return dice.OneOf(kWrongIntegers);
  if (what < 13 && since == Since::k1970) return absl::StrCat(1'000'000'000 * unit);  // long ago
  const uint64_t later = (1000 + 100 * dice.Below(1 << 20)) * unit;
  return absl::StrCat(since == Since::kNow ? later : 4'102'444'800 * unit + later);  // from 2100 on
}

}  // namespace

absl::Span<const std::string> WrongIntegers() { return kWrongIntegers; }
absl::Span<const std::string> WrongFloats() { return kWrongFloats; }

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* given = std::getenv(name);
  return given == nullptr ? otherwise : std::strtoull(given, nullptr, 10);
}

uint64_t TestSeed() {
  const uint64_t seed = FromEnvironment("UNDERSTUDY_TEST_SEED", std::random_device()());
  std::cout << "UNDERSTUDY_TEST_SEED=" << seed << std::endl;
  return seed;
}

std::string RandomValue(std::string_view kind, Dice& dice) {
  if (kind == "key" || kind.size() == 1) return Key(kind, dice);
  if (kind == "value") return Value(dice);
  if (kind == "field" || kind == "member") return dice.Percent(90) ? dice.OneOf(kFields) : Value(dice);
  if (kind == "int") return Integer(dice);
  if (kind == "float") return dice.Percent(85) ? dice.OneOf(kFloats) : dice.OneOf(kWrongFloats);
  if (kind == "score") return dice.Percent(95) ? dice.OneOf(kScores) : dice.OneOf(kWrongScores);
  if (kind == "score_end") return dice.Percent(95) ? dice.OneOf(kScoreEnds) : dice.OneOf(kWrongScoreEnds);
  if (kind == "index") return Index(dice);
  if (kind == "count") return Count(dice);
  if (kind == "offset") return Offset(dice);
  if (kind == "ttl") return Time(1, Since::kNow, dice);
  if (kind == "pttl") return Time(1000, Since::kNow, dice);
  if (kind == "at") return Time(1, Since::k1970, dice);
  if (kind == "pat") return Time(1000, Since::k1970, dice);
  // SET to a time long ago leaves a key that DBSIZE of Redis counts until somebody finds it expired.
  if (kind == "later") return Time(1, Since::k1970NotLongAgo, dice);
  if (kind == "plater") return Time(1000, Since::k1970NotLongAgo, dice);
  if (kind == "pattern") return dice.OneOf(kPatterns);
  if (kind == "cursor") return dice.Percent(85) ? "0" : dice.OneOf(kWrongIntegers);
  if (kind == "name") return dice.OneOf(kNames);
  if (kind == "type") return dice.OneOf(kTypes);
  if (kind == "db") return dice.OneOf(kDatabases);
  if (kind == "junk") return dice.OneOf(kWords);
  LOG(FATAL) << "no values of kind " << kind;
}

std::string PlainValue(std::string_view kind, const std::string& key) {
  if (kind == "key" || kind.size() == 1) return key;
  if (kind == "ttl") return "100000";
  if (kind == "pttl") return "100000000";
  if (kind == "at" || kind == "later") return "4102444800";
  if (kind == "pat" || kind == "plater") return "4102444800000";
  if (kind == "pattern") return "*";
  if (kind == "cursor" || kind == "db") return "0";
  if (kind == "name") return "me";
  if (kind == "type") return "string";
  if (kind == "junk") return "nosuch";
  if (kind == "lex_end") return "[1";
  return "1";
}

}  // namespace kvstore::test
