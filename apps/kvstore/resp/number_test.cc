#include "apps/kvstore/resp/number.h"

#include <cmath>
#include <limits>
#include <optional>
#include <string>

#include <gtest/gtest.h>

namespace kvstore {
namespace {

using namespace std::string_literals;

TEST(NumberTest, Integers) {
  EXPECT_EQ(ParseInteger("0"), 0);
  EXPECT_EQ(ParseInteger("-1"), -1);
  EXPECT_EQ(ParseInteger("1234567890"), 1234567890);
  EXPECT_EQ(ParseInteger("9223372036854775807"), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(ParseInteger("-9223372036854775808"), std::numeric_limits<int64_t>::min());
  for (const auto& text :
       {""s, "-"s, "+1"s, "01"s, "-0"s, "-01"s, "00"s, " 1"s, "1 "s, "1\0"s, "x"s, "1x"s, "0x1"s, "1.0"s,
        "--1"s, "9223372036854775808"s, "-9223372036854775809"s, std::string(21, '1')}) {
    EXPECT_EQ(ParseInteger(text), std::nullopt) << text;
  }
}

TEST(NumberTest, Cursors) {
  EXPECT_EQ(ParseCursor("0"), 0u);
  EXPECT_EQ(ParseCursor("007"), 7u);
  EXPECT_EQ(ParseCursor("+1"), 1u);
  EXPECT_EQ(ParseCursor("-1"), std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(ParseCursor("18446744073709551615"), std::numeric_limits<uint64_t>::max());
  EXPECT_EQ(ParseCursor(""), 0u);
  EXPECT_EQ(ParseCursor("1\0x"s), 1u);
  for (const auto& text : {" 1"s, "1 "s, "x"s, "-"s, "18446744073709551616"s, "1.0"s}) {
    EXPECT_EQ(ParseCursor(text), std::nullopt) << text;
  }
}

TEST(NumberTest, Floats) {
  EXPECT_EQ(ParseFloat("3.5"), 3.5L);
  EXPECT_EQ(ParseFloat("+.5"), .5L);
  EXPECT_EQ(ParseFloat("5."), 5.0L);
  EXPECT_EQ(ParseFloat("-1e3"), -1000.0L);
  EXPECT_EQ(ParseFloat("0x1p3"), 8.0L);
  EXPECT_EQ(ParseFloat("1e4000"), 1e4000L);
  EXPECT_EQ(ParseFloat("iNf"), std::numeric_limits<long double>::infinity());
  EXPECT_EQ(ParseFloat("-infinity"), -std::numeric_limits<long double>::infinity());
  EXPECT_EQ(ParseFloat(std::string(5118, '0') + "1"), 1.0L);
  for (const auto& text : {""s, "."s, " 1"s, "1 "s, "1\0"s, "\0"s, "1e"s, "--1"s, "1,5"s, "nan"s, "-nan"s,
                           "1e5000"s, "1e-5000"s, std::string(5119, '0') + "1"}) {
    EXPECT_EQ(ParseFloat(text), std::nullopt) << text;
  }
}

TEST(NumberTest, FormatsFloats) {
  EXPECT_EQ(FormatFloat(10.0L), "10");
  EXPECT_EQ(FormatFloat(3.5L), "3.5");
  EXPECT_EQ(FormatFloat(-0.1L), "-0.1");
  EXPECT_EQ(FormatFloat(0.1L + 0.2L), "0.3");
  EXPECT_EQ(FormatFloat(0.0L), "0");
  EXPECT_EQ(FormatFloat(-0.0L), "0");
  EXPECT_EQ(FormatFloat(-1e-30L), "0");
  EXPECT_EQ(FormatFloat(1e-17L), "0.00000000000000001");
  EXPECT_EQ(FormatFloat(1e21L), "1000000000000000000000");
  EXPECT_EQ(FormatFloat(100.0L), "100");
  EXPECT_EQ(FormatFloat(std::numeric_limits<long double>::max()).size(), 4933u);
  EXPECT_EQ(FormatFloat(INFINITY), "inf");
  EXPECT_EQ(FormatFloat(-INFINITY), "-inf");
}

}  // namespace
}  // namespace kvstore
