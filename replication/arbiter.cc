#include "replication/arbiter.h"

#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "replication/names.h"

namespace understudy::replication {
namespace {

// What stands between " key=" and the next blank.
std::string_view Field(std::string_view line, std::string_view key) {
  const size_t at = line.find(key);
  if (at == std::string_view::npos) return {};
  line.remove_prefix(at + key.size());
  return line.substr(0, line.find(' '));
}

absl::Status Damaged(const std::string& text) {
  return absl::InvalidArgumentError(
      absl::StrCat("this is no register of an arbiter: \"", Printable(text, 100), "\""));
}

Register Next(const Register& from, std::string holder, std::string secondary) {
  return Register{from.epoch + 1, std::move(holder), std::move(secondary)};
}

}  // namespace

std::string Register::ToString() const {
  if (epoch == 0) return "epoch 0: nobody has served yet";
  return absl::StrCat(
      "epoch ", epoch, ": ", holder, " serves, ",
      secondary.empty() ? "no secondary" : absl::StrCat(secondary, " is secondary"));
}

std::string Register::Encode() const {
  return absl::StrCat("understudy epoch=", epoch, " holder=", holder, " secondary=", secondary, " end");
}

absl::StatusOr<Register> Register::Decode(const std::string& text) {
  std::string line = text;
  if (!line.empty() && line.back() == '\n') line.pop_back();
  Register out;
  const std::string epoch(Field(line, " epoch="));
  if (!absl::SimpleAtoi(epoch, &out.epoch)) return Damaged(text);
  out.holder = std::string(Field(line, " holder="));
  out.secondary = std::string(Field(line, " secondary="));
  // There is one spelling of each register; anything else is damage.
  if (out.Encode() != line) return Damaged(text);
  // The wire has no unsigned numbers.
  if (out.epoch > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return Damaged(text);
  if ((out.epoch == 0) != out.holder.empty()) return Damaged(text);
  if (!out.holder.empty() && !IsNodeName(out.holder)) return Damaged(text);
  if (!out.secondary.empty() && !IsNodeName(out.secondary)) return Damaged(text);
  if (!out.secondary.empty() && (out.epoch == 0 || out.secondary == out.holder)) {
    return Damaged(text);
  }
  return out;
}

Register TakenOverBy(const Register& from, const std::string& node) { return Next(from, node, ""); }

Register GoneSolo(const Register& from) { return Next(from, from.holder, ""); }

Register JoinedBy(const Register& from, const std::string& node) {
  return Next(from, from.holder, node);
}

Register FirstServedBy(const Register& from, const std::string& node) {
  return Next(from, node, "");
}

}  // namespace understudy::replication
