#include "replication/names.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace understudy::replication {

bool IsNodeName(std::string_view name) {
  return !name.empty() && name.size() <= kMaxNodeName && std::all_of(name.begin(), name.end(), [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '_' || c == '-';
  });
}

std::string Printable(std::string_view text, size_t max) {
  // Quotes begin no line, and people quote values.
  std::string out =
      absl::StrReplaceAll(absl::CHexEscape(std::string(text.substr(0, max))), {{"\\\"", "\""}, {"\\'", "'"}});
  if (text.size() > max) absl::StrAppend(&out, "... (", text.size(), " bytes)");
  return out;
}

}  // namespace understudy::replication
