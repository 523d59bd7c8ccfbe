#include "bench/report.h"

#include <algorithm>
#include <array>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace understudy::bench {

namespace {

std::string Quoted(const std::string& text) {
  return absl::StrCat("\"", absl::StrReplaceAll(text, {{"\\", "\\\\"}, {"\"", "\\\""}}), "\"");
}

}  // namespace

std::string Report::Line::Verdict() const {
  if (!reached.has_value()) return "";
  return *reached ? "yes" : "NO";
}

void Report::Row(std::string figure, std::string reach, std::string measured, std::optional<bool> reached) {
  lines_.push_back({std::move(figure), std::move(reach), std::move(measured), reached});
}

void Report::Fact(std::string name, std::string value) {
  facts_.emplace_back(std::move(name), std::move(value));
}

void Report::Value(std::string name, double value) { values_.emplace_back(std::move(name), value); }

std::string Report::Text() const {
  std::string text;
  for (const auto& [name, value] : facts_) absl::StrAppend(&text, name, ": ", value, "\n");
  std::array<size_t, 2> width = {6, 5};
  for (const Line& line : lines_) {
    width[0] = std::max(width[0], line.figure.size());
    width[1] = std::max(width[1], line.reach.size());
  }
  auto add = [&](const std::string& figure, const std::string& reach, const std::string& reached,
                 const std::string& measured) {
    absl::StrAppend(&text, absl::StrFormat("%-*s  %-*s  %-7s  %s\n", static_cast<int>(width[0]), figure,
                                           static_cast<int>(width[1]), reach, reached, measured));
  };
  absl::StrAppend(&text, "\n");
  add("figure", "reach", "reached", "measured");
  for (const Line& line : lines_) add(line.figure, line.reach, line.Verdict(), line.measured);
  return text;
}

std::string Report::Markdown() const {
  std::string text;
  for (const auto& [name, value] : facts_) absl::StrAppend(&text, "- ", name, ": ", value, "\n");
  absl::StrAppend(&text, "\n| figure | reach | measured | reached |\n|---|---|---|---|\n");
  for (const Line& line : lines_) {
    absl::StrAppend(&text, "| ", line.figure, " | ", line.reach, " | ", line.measured, " | ", line.Verdict(),
                    " |\n");
  }
  return text;
}

std::string Report::Json() const {
  std::string text = "{\n  \"facts\": {";
  const char* separator = "\n";
  for (const auto& [name, value] : facts_) {
    absl::StrAppend(&text, separator, "    ", Quoted(name), ": ", Quoted(value));
    separator = ",\n";
  }
  absl::StrAppend(&text, "\n  },\n  \"values\": {");
  separator = "\n";
  for (const auto& [name, value] : values_) {
    absl::StrAppend(&text, separator, "    ", Quoted(name), ": ", absl::StrFormat("%.6g", value));
    separator = ",\n";
  }
  absl::StrAppend(&text, "\n  }\n}\n");
  return text;
}

std::string Report::Csv() const {
  std::string text = "name,value\n";
  for (const auto& [name, value] : values_) {
    absl::StrAppend(&text, name, ",", absl::StrFormat("%.6g", value), "\n");
  }
  return text;
}

}  // namespace understudy::bench
