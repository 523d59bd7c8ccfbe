#include "tests/kvstore/request.h"

#include <cctype>
#include <string_view>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tests/kvstore/resp_value.h"
#include "tests/kvstore/wire.h"

namespace kvstore::test {
namespace {

// One word of an inline command.
std::string InlineWord(const std::string& arg) {
  bool plain = !arg.empty();
  for (const char c : arg) plain = plain && (std::isalnum(static_cast<unsigned char>(c)) || c == '_');
  if (plain) return arg;
  std::string out = "\"";
  for (const char c : arg) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      absl::StrAppend(&out, "\\", std::string(1, c));
    } else if (byte < 32 || byte > 126) {
      absl::StrAppend(&out, absl::StrFormat("\\x%02x", byte));
    } else {
      out.push_back(c);
    }
  }
  return out + "\"";
}

}  // namespace

std::string Encode(const Request& request) {
  if (!request.inline_form) return Encode(request.args);
  std::string out;
  for (const std::string& arg : request.args) absl::StrAppend(&out, out.empty() ? "" : " ", InlineWord(arg));
  return out + "\r\n";
}

std::string Readable(const Request& request) {
  std::string out = request.inline_form ? "(inline)" : "";
  for (const std::string& arg : request.args) absl::StrAppend(&out, out.empty() ? "" : " ", Quoted(arg));
  return out;
}

std::string Readable(const Batch& batch) {
  std::string out;
  for (const Request& request : batch.requests) {
    absl::StrAppend(&out, "  ", batch.connection, "> ", batch.kind == Batch::Kind::kWalk ? "(walk) " : "",
                    Readable(request), "\n");
  }
  return out;
}

std::string Readable(const Stream& stream) {
  std::string out;
  for (const Batch& batch : stream) absl::StrAppend(&out, Readable(batch), "  --\n");
  return out;
}

}  // namespace kvstore::test
