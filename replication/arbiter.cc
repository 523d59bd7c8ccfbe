#include "replication/arbiter.h"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "replication/names.h"

namespace understudy::replication {
namespace {

// 1 had no keepers, and no version.
constexpr uint64_t kVersion = 2;

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

std::string EncodeVersion1(const Register& reg) {
  return absl::StrCat("understudy epoch=", reg.epoch, " holder=", reg.holder, " secondary=", reg.secondary,
                      " end");
}

Register Next(const Register& from, std::string holder, std::string secondary) {
  return Register{from.epoch + 1, std::move(holder), std::move(secondary)};
}

}  // namespace

std::string Register::ToString() const {
  if (epoch == 0) return "epoch 0: nobody has served yet";
  if (holder.empty()) {
    return absl::StrCat("epoch ", epoch, ": given back, nobody serves; ", absl::StrJoin(left_to, " and "),
                        " may");
  }
  return absl::StrCat("epoch ", epoch, ": ", holder, " serves, ",
                      secondary.empty() ? "no secondary" : absl::StrCat(secondary, " is secondary"));
}

std::vector<std::string> Register::Keepers() const {
  if (holder.empty()) return left_to;
  if (secondary.empty()) return {holder};
  return {holder, secondary};
}

bool Register::KeptBy(const std::string& node) const {
  const std::vector<std::string> keepers = Keepers();
  return std::find(keepers.begin(), keepers.end(), node) != keepers.end();
}

std::string Register::Encode() const {
  return absl::StrCat("understudy v=", kVersion, " epoch=", epoch, " holder=", holder,
                      " secondary=", secondary, " keepers=", absl::StrJoin(Keepers(), ","), " end");
}

absl::StatusOr<Register> Register::Decode(const std::string& text) {
  std::string line = text;
  if (!line.empty() && line.back() == '\n') line.pop_back();
  Register out;
  // Without a version: what was written before there was one, the same but for the keepers.
  uint64_t version = 1;
  const std::string_view told = Field(line, " v=");
  if (!told.empty() && !absl::SimpleAtoi(std::string(told), &version)) return Damaged(text);
  if (version > kVersion) {
    return absl::InvalidArgumentError(absl::StrCat("the register is of version ", version,
                                                   ", and this program knows ", kVersion,
                                                   ": it was written by a newer one"));
  }
  const std::string epoch(Field(line, " epoch="));
  if (!absl::SimpleAtoi(epoch, &out.epoch)) return Damaged(text);
  out.holder = std::string(Field(line, " holder="));
  out.secondary = std::string(Field(line, " secondary="));
  if (out.holder.empty() && out.epoch != 0) {
    const std::string keepers(Field(line, " keepers="));
    out.left_to = absl::StrSplit(keepers, ',');
  }
  // There is one spelling of each register; anything else is damage.
  const bool same = version == 1 ? EncodeVersion1(out) == line : out.Encode() == line;
  if (!same) return Damaged(text);
  // The wire has no unsigned numbers.
  if (out.epoch > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return Damaged(text);
  if (out.epoch == 0 && !out.holder.empty()) return Damaged(text);
  if (!out.holder.empty() && !IsNodeName(out.holder)) return Damaged(text);
  if (!out.secondary.empty() && !IsNodeName(out.secondary)) return Damaged(text);
  if (!out.secondary.empty() && (out.holder.empty() || out.secondary == out.holder)) return Damaged(text);
  if (!std::all_of(out.left_to.begin(), out.left_to.end(), IsNodeName)) return Damaged(text);
  return out;
}

Register TakenOverBy(const Register& from, const std::string& node) { return Next(from, node, ""); }

Register GoneSolo(const Register& from) { return Next(from, from.holder, ""); }

Register JoinedBy(const Register& from, const std::string& node) { return Next(from, from.holder, node); }

Register FirstServedBy(const Register& from, const std::string& node) { return Next(from, node, ""); }

Register GivenBack(const Register& from, const std::string& other) {
  Register out = Next(from, "", "");
  out.left_to = {other, from.holder};
  return out;
}

Register TakenUpBy(const Register& from, const std::string& node) { return Next(from, node, ""); }

}  // namespace understudy::replication
