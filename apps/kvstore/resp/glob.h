// Glob patterns as KEYS, SCAN and CONFIG GET take them.
#ifndef UNDERSTUDY_APPS_KVSTORE_RESP_GLOB_H_
#define UNDERSTUDY_APPS_KVSTORE_RESP_GLOB_H_

#include <string_view>

namespace kvstore {

// `*` any bytes, `?` one byte, `[abc]`, `[^a-z]`, `\x` the byte x itself; everything else stands for
// itself. Bytes, not characters. Time is bounded by |pattern| x |text|, whatever the pattern.
bool GlobMatches(std::string_view pattern, std::string_view text, bool ignore_case = false);

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_RESP_GLOB_H_
