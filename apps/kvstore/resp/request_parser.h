// Requests of one connection, out of what it has sent: RESP arrays of bulk strings, and inline commands.
//
// https://redis.io/docs/reference/protocol-spec/. Limits, and the texts of the errors, are those of Redis 7.
#ifndef UNDERSTUDY_APPS_KVSTORE_RESP_REQUEST_PARSER_H_
#define UNDERSTUDY_APPS_KVSTORE_RESP_REQUEST_PARSER_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/types/span.h"

namespace kvstore {

class RequestParser {
 public:
  struct Limits {
    size_t max_bulk = size_t{64} << 20;    // bytes of one argument (proto-max-bulk-len)
    size_t max_inline = size_t{64} << 10;  // bytes of an inline command, and of a length's line
    int64_t max_args = std::numeric_limits<int32_t>::max();
  };

  enum class Result {
    kRequest,     // args() is one request, size() bytes long; no argument at all: nothing to do, no answer
    kIncomplete,  // call again with the same bytes and more behind them; no work is done twice
    kError,       // error() is the answer, then the connection has to be closed
  };

  // `unread`: what the connection has sent from the first byte of this request on. Between kIncomplete and
  // the next call the bytes may move, but their values must not change.
  Result Parse(std::string_view unread, const Limits& limits);

  // After kRequest, until the next Parse. Into `unread`, or for an inline command into this object.
  absl::Span<const std::string_view> args() const { return args_; }
  size_t size() const { return size_; }
  // Bytes that it keeps of the request besides the bytes of that, about.
  size_t memory() const { return (bounds_.size() + args_.size()) * kArgument; }
  // After kRequest, when its arguments are not needed any more: gives the room for many of them back.
  void Forget();
  // After kError. For Reply::Error: "ERR Protocol error: invalid bulk length".
  const std::string& error() const { return error_; }

 private:
  // One of bounds_ or args_, in a vector that has grown.
  static constexpr size_t kArgument = 2 * sizeof(std::string_view);

  enum class Found { kNumber, kNoNumber, kIncomplete, kTooLong };

  Result ParseInline(std::string_view unread, const Limits& limits);
  Result ParseArray(std::string_view unread, const Limits& limits);
  Result ParseBulk(std::string_view unread, const Limits& limits);  // kRequest: one argument more
  Found ReadLength(std::string_view unread, const Limits& limits, int64_t* length);
  Result Fail(std::string text);

  size_t position_ = 0;                            // everything before is parsed
  size_t scanned_ = 0;                             // no line end before it, from position_ on
  size_t line_end_ = 0;                            // behind the line that ReadLength has read
  int64_t args_wanted_ = -1;                       // -1: the array's head has not been read yet
  int64_t bulk_length_ = -1;                       // -1: the length's line has not been read yet
  std::vector<std::pair<size_t, size_t>> bounds_;  // offset, size of each argument so far
  std::vector<std::string> words_;                 // of an inline command, unquoted
  std::vector<std::string_view> args_;
  size_t size_ = 0;
  std::string error_;
};

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_RESP_REQUEST_PARSER_H_
