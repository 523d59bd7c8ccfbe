#include "tcpshim/load_error.h"

#include <bpf/libbpf.h>
#include <glog/logging.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

namespace understudy::tcpshim {
namespace {

thread_local LibbpfComplaints* collecting = nullptr;

// A verifier's log has tens of thousands of lines, the reason is in the last, and glog cuts a message at
// 30,000 bytes.
constexpr size_t kMostLogged = 20000;

}  // namespace

struct LibbpfPrinter {
  static int Print(enum libbpf_print_level level, const char* format, va_list arguments) {
    const int verbosity = level == LIBBPF_DEBUG ? 3 : 1;
    const bool keep = level == LIBBPF_WARN && collecting != nullptr;
    if (!keep && !VLOG_IS_ON(verbosity)) return 0;
    va_list copy;
    va_copy(copy, arguments);
    const int size = vsnprintf(nullptr, 0, format, copy);
    va_end(copy);
    if (size <= 0) return 0;
    std::string text(static_cast<size_t>(size) + 1, '\0');
    vsnprintf(text.data(), text.size(), format, arguments);
    while (!text.empty() && (text.back() == '\0' || text.back() == '\n')) text.pop_back();
    if (keep) absl::StrAppend(&collecting->text_, text, "\n");
    VLOG(verbosity) << (text.size() > kMostLogged ? "... " : "")
                    << absl::string_view(text).substr(text.size() - std::min(text.size(), kMostLogged));
    return 0;
  }
};

LibbpfComplaints::LibbpfComplaints() : outer_(collecting) {
  collecting = this;
  libbpf_set_print(&LibbpfPrinter::Print);
}

LibbpfComplaints::~LibbpfComplaints() { collecting = outer_; }

std::string WhyNotLoaded(absl::string_view complaints) {
  std::string program;
  absl::string_view first, reason;
  bool in_log = false;
  for (absl::string_view line : absl::StrSplit(complaints, '\n')) {
    line = absl::StripTrailingAsciiWhitespace(line);
    if (line.empty()) continue;
    if (absl::StrContains(line, "-- BEGIN PROG LOAD LOG --")) {
      // prog 'south_egress': -- BEGIN PROG LOAD LOG --
      const std::vector<absl::string_view> quoted = absl::StrSplit(line, '\'');
      if (quoted.size() >= 3) program = std::string(quoted[1]);
      in_log = true;
    } else if (absl::StrContains(line, "-- END PROG LOAD LOG --")) {
      break;
    } else if (!in_log) {
      if (first.empty()) first = absl::StripPrefix(line, "libbpf: ");
    } else if (!absl::StartsWith(line, "processed ") && !absl::StartsWith(line, "verification time ") &&
               !absl::StartsWith(line, "stack depth ")) {
      // Behind the reason come figures only.
      reason = line;
    }
  }
  if (reason.empty()) return std::string(first);
  return program.empty() ? std::string(reason) : absl::StrCat(program, ": ", reason);
}

}  // namespace understudy::tcpshim
