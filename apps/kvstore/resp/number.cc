#include "apps/kvstore/resp/number.h"

#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>

namespace kvstore {

namespace {
// As Redis bounds what it reads as a float.
constexpr size_t kMaxFloatText = 5 * 1024;
}  // namespace

std::optional<int64_t> ParseInteger(std::string_view text) {
  if (text.empty() || text.size() > 20) return std::nullopt;
  const std::string_view digits = text.substr(text[0] == '-' ? 1 : 0);
  if (digits.empty() || (digits[0] == '0' && text.size() > 1)) return std::nullopt;
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

std::optional<uint64_t> ParseCursor(std::string_view text) {
  // strtoull takes blanks first, which Redis refuses, a sign, and digits. No digits at all are 0 to it, and
  // what is behind a zero byte it does not see.
  if (!text.empty() && isspace(static_cast<unsigned char>(text[0]))) return std::nullopt;
  const std::string terminated(text);
  char* end = nullptr;
  errno = 0;
  const uint64_t value = strtoull(terminated.c_str(), &end, 10);
  if (errno == ERANGE || *end != '\0') return std::nullopt;
  return value;
}

std::optional<long double> ParseFloat(std::string_view text) {
  if (text.empty() || text.size() >= kMaxFloatText || isspace(static_cast<unsigned char>(text[0]))) {
    return std::nullopt;
  }
  const std::string terminated(text);
  char* end = nullptr;
  errno = 0;
  const long double value = strtold(terminated.c_str(), &end);
  if (end != terminated.c_str() + terminated.size() || std::isnan(value)) return std::nullopt;
  if (errno == ERANGE && (std::isinf(value) || value == 0)) return std::nullopt;
  return value;
}

std::optional<double> ParseDouble(std::string_view text) {
  if (text.empty() || isspace(static_cast<unsigned char>(text[0]))) return std::nullopt;
  const std::string terminated(text);
  char* end = nullptr;
  errno = 0;
  const double value = strtod(terminated.c_str(), &end);
  if (end != terminated.c_str() + terminated.size() || std::isnan(value)) return std::nullopt;
  if (errno == ERANGE && (std::isinf(value) || value == 0)) return std::nullopt;
  return value;
}

std::string FormatDouble(double value) {
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  char buffer[32];
  const int size = std::snprintf(buffer, sizeof buffer, "%.17g", value);
  return std::string(buffer, static_cast<size_t>(size));
}

std::string FormatFloat(long double value) {
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  // The largest has 4933 digits before the point.
  char buffer[5 * 1024];
  const int size = std::snprintf(buffer, sizeof buffer, "%.17Lf", value);
  std::string text(buffer, static_cast<size_t>(size));
  if (text.find('.') != std::string::npos) {
    text.erase(text.find_last_not_of('0') + 1);
    if (text.back() == '.') text.pop_back();
  }
  return text == "-0" ? "0" : text;
}

}  // namespace kvstore
