#include "framework/status_pages.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"

namespace understudy {
namespace {

const char* const kStates[] = {"starting", "joining", "protected", "solo", "taking_over", "silent"};

std::string JsonString(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      constexpr char kHex[] = "0123456789abcdef";
      out += "\\u00";
      out += kHex[(c >> 4) & 15];
      out += kHex[c & 15];
    } else {
      out += c;
    }
  }
  return out + "\"";
}

void AppendJson(std::string* out, const std::string& text) { *out += JsonString(text); }

std::string HtmlText(const std::string& text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}});
}

}  // namespace

std::string StatusAsJson(const NodeStatus& s) {
  return absl::StrCat("{\"role\":", JsonString(RoleName(s.role)), ",\"state\":", JsonString(s.state),
                      ",\"node\":", JsonString(s.node), ",\"peer\":", JsonString(s.peer),
                      ",\"reason\":", JsonString(s.reason), ",\"epoch\":", s.epoch,
                      ",\"last_lsn\":", s.last_lsn, ",\"stable_lsn\":", s.stable_lsn,
                      ",\"applied_lsn\":", s.applied_lsn, ",\"connections\":", s.connections,
                      ",\"clock_off_ms\":", s.clock_off_ms, ",\"warnings\":[",
                      absl::StrJoin(s.warnings, ",", AppendJson), "]}\n");
}

std::string StatusAsMetrics(const NodeStatus& s) {
  std::string out;
  const auto gauge = [&](const char* name, const char* help, uint64_t value) {
    absl::StrAppend(&out, "# HELP understudy_", name, " ", help, "\n# TYPE understudy_", name,
                    " gauge\nunderstudy_", name, " ", value, "\n");
  };
  gauge("epoch", "Number of the current primaryship.", s.epoch);
  gauge("last_lsn", "Last record of the log.", s.last_lsn);
  gauge("stable_lsn", "Last record that every destination has stored.", s.stable_lsn);
  gauge("applied_lsn", "Last record that the Server here has executed.", s.applied_lsn);
  gauge("connections", "Client connections in the log.", s.connections);
  absl::StrAppend(&out,
                  "# HELP understudy_clock_off_ms Logged time less this host's wall clock, milliseconds.\n",
                  "# TYPE understudy_clock_off_ms gauge\nunderstudy_clock_off_ms ", s.clock_off_ms, "\n");
  absl::StrAppend(&out, "# HELP understudy_state 1 for the state the node is in.\n",
                  "# TYPE understudy_state gauge\n");
  for (const char* state : kStates) {
    absl::StrAppend(&out, "understudy_state{role=\"", RoleName(s.role), "\",state=\"", state, "\"} ",
                    s.state == state ? 1 : 0, "\n");
  }
  for (const auto& [name, value] : s.counters) {
    absl::StrAppend(&out, "# TYPE understudy_", name, " counter\nunderstudy_", name, " ", value, "\n");
  }
  return out;
}

std::string StatusAsPage(const NodeStatus& s) {
  std::string rows;
  const auto row = [&](const std::string& name, const std::string& value) {
    absl::StrAppend(&rows, "<tr><th>", HtmlText(name), "</th><td>", HtmlText(value), "</td></tr>\n");
  };
  row("role", RoleName(s.role));
  row("state", s.state);
  if (!s.reason.empty()) row("reason", s.reason);
  for (const std::string& warning : s.warnings) row("warning", warning);
  if (!s.peer.empty()) row("peer", s.peer);
  row("epoch", absl::StrCat(s.epoch));
  row("last record", absl::StrCat(s.last_lsn));
  row("stable up to", absl::StrCat(s.stable_lsn));
  row("applied up to", absl::StrCat(s.applied_lsn));
  row("connections", absl::StrCat(s.connections));
  if (s.clock_off_ms != 0) row("logged time less wall clock", absl::StrCat(s.clock_off_ms, " ms"));
  for (const auto& [name, value] : s.counters) row(name, absl::StrCat(value));
  const std::string title = HtmlText(s.node.empty() ? "understudy" : s.node);
  return absl::StrCat(
      "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta http-equiv=\"refresh\" content=\"2\"><title>",
      title, ": ", s.state,
      "</title><style>body{font:16px/1.5 sans-serif;margin:2em}th{text-align:left;font-weight:normal;"
      "padding-right:2em;color:#555}</style></head><body><h1>",
      title, "</h1><table>\n", rows, "</table></body></html>\n");
}

}  // namespace understudy
