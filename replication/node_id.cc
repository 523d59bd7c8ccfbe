#include "replication/node_id.h"

#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "replication/names.h"

namespace understudy::replication {
namespace {

constexpr size_t kDigits = 16;
// "[" IPv6 "]:65535", with a scope.
constexpr size_t kMaxEndpoint = 80;

bool IsEndpoint(std::string_view text) {
  if (text.empty() || text.size() > kMaxEndpoint || text.find(':') == text.npos) return false;
  return text.find_first_not_of("0123456789abcdefABCDEF.:[]%_-ghijklmnopqrstuvwxyz") ==
         std::string_view::npos;
}

}  // namespace

std::string NodeId::ToString() const {
  std::string out = name;
  if (incarnation != 0) absl::StrAppend(&out, "/", absl::Hex(incarnation, absl::kZeroPad16));
  if (!endpoint.empty()) absl::StrAppend(&out, "@", endpoint);
  return out;
}

absl::StatusOr<NodeId> NodeId::Parse(const std::string& text) {
  const absl::Status fault =
      absl::InvalidArgumentError(absl::StrCat("\"", Printable(text, 100), "\" does not name a node"));
  NodeId id;
  std::string_view rest = text;
  if (const size_t at = rest.find('@'); at != std::string_view::npos) {
    id.endpoint = std::string(rest.substr(at + 1));
    if (!IsEndpoint(id.endpoint)) return fault;
    rest = rest.substr(0, at);
  }
  if (const size_t at = rest.find('/'); at != std::string_view::npos) {
    const std::string digits(rest.substr(at + 1));
    if (digits.size() != kDigits || digits.find_first_not_of("0123456789abcdef") != digits.npos) return fault;
    if (!absl::SimpleHexAtoi(digits, &id.incarnation)) return fault;
    if (id.incarnation == 0) return fault;
    rest = rest.substr(0, at);
  }
  id.name = std::string(rest);
  if (!IsNodeName(id.name)) return fault;
  return id;
}

}  // namespace understudy::replication
