#include "apps/kvstore/resp/request_parser.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "apps/kvstore/resp/requests_for_test.h"

namespace kvstore {
namespace {

using namespace std::string_literals;
using Requests = std::vector<std::vector<std::string>>;

struct Case {
  std::string stream;
  Requests requests;
  std::string error;  // behind "ERR Protocol error: "
};

// What a Redis 7.0.15 makes of the same bytes.
const std::vector<Case>& Cases() {
  static const auto& cases = *new std::vector<Case>{
      {"*1\r\n$4\r\nPING\r\n", {{"PING"}}, ""},
      {"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n*1\r\n$4\r\nPING\r\n", {{"ECHO", ""}, {"PING"}}, ""},
      {"*2\r\n$4\r\nECHO\r\n$6\r\n\r\n\0*$\xff\r\n"s, {{"ECHO", "\r\n\0*$\xff"s}}, ""},
      {"*0\r\n*-1\r\n*-5\r\n*1\r\n$4\r\nPING\r\n", {{}, {}, {}, {"PING"}}, ""},
      {"*1\r\n$0\r\n\r\n", {{""}}, ""},
      // Only the length of line ends is looked at, not what they are.
      {"*1\rX$4\rYPINGab", {{"PING"}}, ""},
      {"*2\r\n$4\r\nECHO\r\n$3\r\nab", {}, ""},

      {"*\r\n", {}, "invalid multibulk length"},
      {"*x\r\n", {}, "invalid multibulk length"},
      {"* 1\r\n", {}, "invalid multibulk length"},
      {"*+1\r\n", {}, "invalid multibulk length"},
      {"*01\r\n", {}, "invalid multibulk length"},
      {"*-0\r\n", {}, "invalid multibulk length"},
      {"*1\n$4\r\nPING\r\n", {}, "invalid multibulk length"},
      {"*2147483648\r\n", {}, "invalid multibulk length"},
      {"*9223372036854775808\r\n", {}, "invalid multibulk length"},
      {"*2147483647\r\n*\r\n", {}, "expected '$', got '*'"},
      {"PING\r\n*1\r\nPING\r\n", {{"PING"}}, "expected '$', got 'P'"},
      {"*1\r\n:4\r\n", {}, "expected '$', got ':'"},
      {"*1\r\n\r\n", {}, "expected '$', got '\r'"},
      {"*1\r\n$-1\r\n", {}, "invalid bulk length"},
      {"*1\r\n$x\r\n", {}, "invalid bulk length"},
      {"*1\r\n$\r\n", {}, "invalid bulk length"},
      {"*1\r\n$9223372036854775808\r\n", {}, "invalid bulk length"},

      {"\r\n\n \r\n\t\v\f\r\nPING\n", {{}, {}, {}, {}, {"PING"}}, ""},
      {"PING\r\r\n", {{"PING"}}, ""},
      {"  SET\ta  b \r\n", {{"SET", "a", "b"}}, ""},
      {"PING a\rb\r\n", {{"PING", "a", "b"}}, ""},
      // Vertical tabs and form feeds are blanks before a word, and bytes in it.
      {"\vPING \f\r\nECHO\va\r\n", {{"PING"}, {"ECHO\va"}}, ""},
      {" *1\r\n$4\r\n", {{"*1"}, {"$4"}}, ""},
      {"ECHO \"a b\" 'c d'\r\n", {{"ECHO", "a b", "c d"}}, ""},
      {"\"\" ''\r\n", {{"", ""}}, ""},
      {"ECHO a\"b\"\r\n", {{"ECHO", "ab"}}, ""},
      {"ECHO \"a\"\v\r\n", {{"ECHO", "a"}}, ""},
      {R"(ECHO "\x41\x4\xZZ\n\r\t\b\a\q\"\\")"
       "\r\n",
       {{"ECHO", "Ax4xZZ\n\r\t\b\aq\"\\"}},
       ""},
      {R"(ECHO "\x00\xfF")"
       "\r\n",
       {{"ECHO", "\0\xff"s}},
       ""},
      {R"(ECHO 'x\x41\n\'"')"
       "\r\n",
       {{"ECHO", R"(x\x41\n'")"}},
       ""},
      {"ECHO \"a\"b\r\n", {}, "unbalanced quotes in request"},
      {"ECHO 'a'b\r\n", {}, "unbalanced quotes in request"},
      {"ECHO \"a\r\n", {}, "unbalanced quotes in request"},
      {"ECHO 'a\r\n", {}, "unbalanced quotes in request"},
      {"ECHO \"a\\\r\n", {}, "unbalanced quotes in request"},
      {"ECHO \"a\\\"\r\n", {}, "unbalanced quotes in request"},

      // A line with a zero byte never ends.
      {"ECHO a\0b\r\nPING\r\n"s, {}, ""},
      {"PING\r\n*1\0\r\n$4\r\nPING\r\n"s, {{"PING"}}, ""},
      {"*1\r\n\0\r\n"s, {}, ""},
  };
  return cases;
}

ParsedStream Expected(const Case& c, const ParsedStream& parsed) {
  return {c.requests, parsed.consumed, c.error.empty() ? "" : "ERR Protocol error: " + c.error, ""};
}

void ExpectSame(const ParsedStream& expected, const ParsedStream& parsed) {
  EXPECT_EQ(expected.requests, parsed.requests);
  EXPECT_EQ(expected.consumed, parsed.consumed);
  EXPECT_EQ(expected.error, parsed.error);
  EXPECT_EQ(expected.broken, parsed.broken);
}

TEST(RequestParserTest, ReadsWhatRedisReads) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(testing::PrintToString(c.stream));
    const ParsedStream parsed = ParseWhole(c.stream, {});
    ExpectSame(Expected(c, parsed), parsed);
  }
}

TEST(RequestParserTest, PiecesDoNotMatter) {
  for (const Case& c : Cases()) {
    SCOPED_TRACE(testing::PrintToString(c.stream));
    const ParsedStream whole = ParseWhole(c.stream, {});
    ExpectSame(whole, ParseStream(c.stream, {}, [] { return 1; }));
    for (size_t split = 1; split < c.stream.size(); ++split) {
      SCOPED_TRACE(split);
      bool first = true;
      const auto pieces = [&] { return std::exchange(first, false) ? split : c.stream.size(); };
      ExpectSame(whole, ParseStream(c.stream, {}, pieces));
    }
  }
}

TEST(RequestParserTest, PiecesOfALongStreamDoNotMatter) {
  const auto seed = std::random_device()();
  std::printf("seed %u\n", seed);
  std::mt19937 random(seed);
  std::string stream;
  Requests requests;
  for (int i = 0; i < 300; ++i) {
    std::vector<std::string> args(1 + random() % 5);
    for (auto& arg : args) arg.assign(random() % 50, static_cast<char>(random()));
    stream += "*" + std::to_string(args.size()) + "\r\n";
    for (const auto& arg : args) stream += "$" + std::to_string(arg.size()) + "\r\n" + arg + "\r\n";
    requests.push_back(std::move(args));
  }
  for (size_t longest : {1, 2, 10, 100, 5000}) {
    const ParsedStream parsed = ParseStream(stream, {}, [&] { return 1 + random() % longest; });
    ExpectSame({requests, stream.size(), "", ""}, parsed);
  }
}

TEST(RequestParserTest, BoundsLines) {
  RequestParser::Limits limits;
  limits.max_inline = 10;
  const struct {
    std::string stream, error;
  } cases[] = {
      {"0123456789\n", ""},
      {"012345678\r\n", ""},
      {"0123456789\r\n", "too big inline request"},
      {"0123456789a", "too big inline request"},
      {"a\0 234567890"s, "too big inline request"},
      {"*000000001\r\n", "too big mbulk count string"},
      {"*00000001\r\n", "invalid multibulk length"},
      {"*0000000011", "too big mbulk count string"},
      {"*1\r\n$0000000001", "too big bulk count string"},
      {"*1\r\n$00000001\r\n", "invalid bulk length"},
      {"*1\r\n:0000000001\r\n", "too big bulk count string"},
      {"*1\r\n$1\0\r\n6789a\n"s, "too big bulk count string"},
  };
  for (const auto& [stream, error] : cases) {
    SCOPED_TRACE(testing::PrintToString(stream));
    const ParsedStream whole = ParseWhole(stream, limits);
    EXPECT_EQ(whole.error, error.empty() ? "" : "ERR Protocol error: " + error);
    ExpectSame(whole, ParseStream(stream, limits, [] { return 1; }));
  }
}

TEST(RequestParserTest, BoundsArguments) {
  RequestParser::Limits limits;
  limits.max_bulk = 3;
  limits.max_args = 2;
  EXPECT_EQ(ParseWhole("*2\r\n$3\r\nabc\r\n$0\r\n\r\n", limits).requests, (Requests{{"abc", ""}}));
  EXPECT_EQ(ParseWhole("*1\r\n$4\r\n", limits).error, "ERR Protocol error: invalid bulk length");
  EXPECT_EQ(ParseWhole("*3\r\n", limits).error, "ERR Protocol error: invalid multibulk length");
}

TEST(RequestParserTest, ManyArgumentsThenFew) {
  std::string stream = "*100000\r\n";
  for (int i = 0; i < 100000; ++i) stream += "$1\r\nx\r\n";
  stream += "*1\r\n$4\r\nPING\r\n";
  const ParsedStream parsed = ParseWhole(stream, {});
  ASSERT_EQ(parsed.requests.size(), 2u);
  EXPECT_EQ(parsed.requests[0], std::vector<std::string>(100000, "x"));
  EXPECT_EQ(parsed.requests[1], std::vector<std::string>{"PING"});
}

// The time for a big value in small pieces is linear: its bytes are not even looked at, and cannot be here.
TEST(RequestParserTest, DoesNotTouchTheBytesOfAnArgument) {
  constexpr size_t kPage = 4096, kSize = size_t{64} << 20;
  void* memory = mmap(nullptr, kPage + kSize, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(memory, MAP_FAILED);
  ASSERT_EQ(mprotect(memory, kPage, PROT_READ | PROT_WRITE), 0);
  auto* bytes = static_cast<char*>(memory);
  const std::string head = "*1\r\n$" + std::to_string(kSize) + "\r\n";
  std::memcpy(bytes, head.data(), head.size());
  RequestParser parser;
  const size_t whole = head.size() + kSize + 2;
  for (size_t size = 1; size < whole; size += kPage) {
    ASSERT_EQ(parser.Parse(std::string_view(bytes, size), {}), RequestParser::Result::kIncomplete);
  }
  ASSERT_EQ(parser.Parse(std::string_view(bytes, whole), {}), RequestParser::Result::kRequest);
  EXPECT_EQ(parser.size(), whole);
  ASSERT_EQ(parser.args().size(), 1u);
  EXPECT_EQ(parser.args()[0].data(), bytes + head.size());
  EXPECT_EQ(parser.args()[0].size(), kSize);
  munmap(memory, kPage + kSize);
}

}  // namespace
}  // namespace kvstore
