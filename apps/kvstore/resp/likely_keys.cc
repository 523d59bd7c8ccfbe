#include "apps/kvstore/resp/likely_keys.h"

namespace kvstore {

namespace {
// A request with more, or larger, arguments takes longer than the access to its key.
constexpr size_t kMostDigits = 5;
}  // namespace

// "<mark><number>\r\n".
bool LikelyKeys::ReadNumber(char mark, size_t* number) {
  if (rest_.empty() || rest_[0] != mark) return false;
  *number = 0;
  size_t at = 1;
  for (; at < rest_.size() && rest_[at] >= '0' && rest_[at] <= '9'; ++at) {
    if (at > kMostDigits) return false;
    *number = *number * 10 + static_cast<size_t>(rest_[at] - '0');
  }
  if (at == 1 || rest_.size() - at < 2) return false;
  rest_.remove_prefix(at + 2);
  return true;
}

// False also when it is not all there; then nothing follows either.
bool LikelyKeys::ReadBulk(std::string_view* bulk) {
  size_t size = 0;
  if (!ReadNumber('$', &size) || rest_.size() < size) return false;
  *bulk = rest_.substr(0, size);
  rest_.remove_prefix(rest_.size() - size < 2 ? rest_.size() : size + 2);
  return true;
}

bool LikelyKeys::Next(std::string_view* key) {
  std::string_view skipped;
  for (size_t args = 0; ReadNumber('*', &args);) {
    if (args == 0) continue;
    if (!ReadBulk(&skipped)) return false;
    if (args == 1) continue;
    if (!ReadBulk(key)) return false;
    // The rest of a request that is not all there ends the walk with the next call.
    for (size_t i = 2; i < args && ReadBulk(&skipped); ++i) {
    }
    return true;
  }
  return false;
}

}  // namespace kvstore
