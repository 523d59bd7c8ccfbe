// A reply of RESP2 or RESP3, for tests that compare two servers.
#ifndef UNDERSTUDY_TESTS_KVSTORE_RESP_VALUE_H_
#define UNDERSTUDY_TESTS_KVSTORE_RESP_VALUE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace kvstore::test {

struct RespValue {
  char type = 0;                    // as on the wire: + - : $ * _ % ~ = # , (
  bool null = false;                // "$-1", "*-1", "_"
  std::string text;                 // of what is no aggregate
  std::vector<RespValue> elements;  // of a map: key, value, key, value, ...

  bool is_error() const { return type == '-'; }
  bool is_aggregate() const { return type == '*' || type == '%' || type == '~'; }
  std::optional<int64_t> integer() const;  // of ':'
};

// Reads one value from the front: how many bytes it took, 0 when more have to come. An error: this is no
// RESP, or not in its shortest form ("$01"), so that Encode gives back what was read to the byte.
absl::StatusOr<size_t> ReadResp(std::string_view bytes, RespValue* value);
std::string Encode(const RespValue& value);
// "0" wherever there is "-0".
RespValue WithoutSignOfZero(RespValue value);
// For people, at most `limit` bytes.
std::string Readable(const RespValue& value, size_t limit = 600);
// Bytes for people: 'a\r\n\x00', the middle left out when there are more than `limit`.
std::string Quoted(std::string_view bytes, size_t limit = 80);

}  // namespace kvstore::test

#endif  // UNDERSTUDY_TESTS_KVSTORE_RESP_VALUE_H_
