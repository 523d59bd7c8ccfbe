// What a parser makes of a stream, in a form that tests can compare.
#ifndef UNDERSTUDY_APPS_KVSTORE_RESP_REQUESTS_FOR_TEST_H_
#define UNDERSTUDY_APPS_KVSTORE_RESP_REQUESTS_FOR_TEST_H_

#include <algorithm>
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "apps/kvstore/resp/request_parser.h"

namespace kvstore {

struct ParsedStream {
  std::vector<std::vector<std::string>> requests;
  size_t consumed = 0;  // bytes of these requests
  std::string error;    // empty: the stream ends between two requests, or within one
  std::string broken;   // what the parser has done against its contract; empty: nothing

  bool operator==(const ParsedStream& other) const {
    return requests == other.requests && consumed == other.consumed && error == other.error &&
           broken == other.broken;
  }
};

// Why `args`, out of the parser of `unread`, cannot be right; empty: they can be.
inline std::string BrokenContract(const RequestParser& parser, std::string_view unread) {
  if (parser.size() == 0 || parser.size() > unread.size()) return "a request of no bytes, or of unsent ones";
  const std::less<const char*> before;
  for (std::string_view arg : parser.args()) {
    // An inline command's arguments live in the parser, those of an array in what was handed over.
    if (unread[0] != '*') continue;
    if (before(arg.data(), unread.data()) || before(unread.data() + parser.size(), arg.data() + arg.size())) {
      return "an argument outside of its request";
    }
  }
  return "";
}

// Feeds `stream` in pieces: `next_piece` says how many bytes come next, at least 1; more than there are means
// all. The bytes that the parser sees lie in a buffer of just their size, and elsewhere each time: a
// sanitizer notices reads beyond, and a parser that keeps pointers.
inline ParsedStream ParseStream(std::string_view stream, const RequestParser::Limits& limits,
                                const std::function<size_t()>& next_piece) {
  ParsedStream result;
  RequestParser parser;
  size_t received = 0;
  while (received < stream.size()) {
    received += std::min(next_piece(), stream.size() - received);
    const std::vector<char> bytes(stream.begin() + result.consumed, stream.begin() + received);
    std::string_view unread(bytes.data(), bytes.size());
    while (true) {
      const RequestParser::Result parsed = parser.Parse(unread, limits);
      if (parsed == RequestParser::Result::kIncomplete) break;
      if (parsed == RequestParser::Result::kError) {
        result.error = parser.error();
        return result;
      }
      result.broken = BrokenContract(parser, unread);
      if (!result.broken.empty()) return result;
      result.requests.emplace_back(parser.args().begin(), parser.args().end());
      result.consumed += parser.size();
      unread.remove_prefix(parser.size());
    }
  }
  return result;
}

inline ParsedStream ParseWhole(std::string_view stream, const RequestParser::Limits& limits) {
  return ParseStream(stream, limits, [&] { return std::max<size_t>(stream.size(), 1); });
}

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_RESP_REQUESTS_FOR_TEST_H_
