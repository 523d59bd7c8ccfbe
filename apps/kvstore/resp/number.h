// Numbers as Redis reads and writes them.
#ifndef UNDERSTUDY_APPS_KVSTORE_RESP_NUMBER_H_
#define UNDERSTUDY_APPS_KVSTORE_RESP_NUMBER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace kvstore {

// The whole of `text` and nothing else: no blanks, no '+', no leading zeros, no "-0".
std::optional<int64_t> ParseInteger(std::string_view text);
std::optional<uint64_t> ParseCursor(std::string_view text);  // as SCAN's: strtoull's rules, no leading blank

// INCRBYFLOAT's: a decimal or hexadecimal number, inf; no blanks, no NaN. x86's 80 bits.
std::optional<long double> ParseFloat(std::string_view text);
// A score: a double, or infinite; what is too large or too small for one is none.
std::optional<double> ParseDouble(std::string_view text);
// All digits that tell it from others, with an exponent where that is shorter: "%.17g".
std::string FormatDouble(double value);
// Without exponent, 17 digits behind the point at most, no trailing zeros: "3.5", "10", "-0.1".
std::string FormatFloat(long double value);

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_RESP_NUMBER_H_
