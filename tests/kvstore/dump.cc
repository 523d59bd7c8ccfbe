#include "tests/kvstore/dump.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace kvstore::test {
namespace {

absl::StatusOr<std::vector<RespValue>> AskAll(Wire& wire,
                                              const std::vector<std::vector<std::string>>& requests) {
  std::string bytes;
  for (const auto& request : requests) bytes += Encode(request);
  Answer answer = wire.Exchange(bytes, requests.size());
  if (answer.replies.size() == requests.size()) return std::move(answer.replies);
  return absl::UnavailableError(answer.closed ? "closed while its data was read" : answer.error);
}

std::vector<std::string> HowToRead(const std::string& type, const std::string& key) {
  if (type == "string") return {"GET", key};
  if (type == "list") return {"LRANGE", key, "0", "-1"};
  if (type == "set") return {"SMEMBERS", key};
  if (type == "hash") return {"HGETALL", key};
  if (type == "zset") return {"ZRANGE", key, "0", "-1", "WITHSCORES"};
  return {"TYPE", key};
}

std::string Canonical(const std::string& type, const RespValue& value) {
  const size_t step = type == "hash" ? 2 : type == "set" ? 1 : 0;
  if (step == 0) return Encode(type == "zset" ? WithoutSignOfZero(value) : value);
  std::vector<std::string> parts;
  for (size_t i = 0; i < value.elements.size(); ++i) {
    if (i % step == 0) parts.emplace_back();
    parts.back() += Encode(value.elements[i]);
  }
  std::sort(parts.begin(), parts.end());
  std::string all = absl::StrCat(parts.size(), " elements: ");
  for (const std::string& part : parts) all += part;
  return all;
}

std::string Describe(const KeyDump& key) {
  return absl::StrCat(key.type, ", expires ", key.expire_ms, ", ", Quoted(key.value, 400));
}

}  // namespace

absl::StatusOr<Dump> ReadDump(Wire& wire) {
  const RespValue keys = wire.Ask({"KEYS", "*"});
  if (keys.type != '*') return absl::InternalError(absl::StrCat("KEYS *: ", Readable(keys)));
  std::vector<std::vector<std::string>> about, values;
  for (const RespValue& key : keys.elements) {
    about.push_back({"TYPE", key.text});
    about.push_back({"PEXPIRETIME", key.text});
  }
  const auto answers = AskAll(wire, about);
  if (!answers.ok()) return answers.status();
  for (size_t i = 0; i < keys.elements.size(); ++i) {
    values.push_back(HowToRead((*answers)[2 * i].text, keys.elements[i].text));
  }
  const auto contents = AskAll(wire, values);
  if (!contents.ok()) return contents.status();
  Dump dump;
  for (size_t i = 0; i < keys.elements.size(); ++i) {
    const std::string& type = (*answers)[2 * i].text;
    const KeyDump key = {type, Canonical(type, (*contents)[i]), (*answers)[2 * i + 1].integer().value_or(-3)};
    if (!dump.emplace(keys.elements[i].text, key).second) {
      return absl::InternalError(absl::StrCat("KEYS * has twice ", Quoted(keys.elements[i].text)));
    }
  }
  return dump;
}

std::string CompareDumps(const Dump& ours, const Dump& redis, std::chrono::milliseconds tolerance) {
  for (const auto& [key, right] : redis) {
    const auto found = ours.find(key);
    if (found == ours.end())
      return absl::StrCat("key ", Quoted(key), " is missing, redis has ", Describe(right));
    const KeyDump& left = found->second;
    const bool same_time = left.expire_ms < 0 || right.expire_ms < 0
                               ? left.expire_ms == right.expire_ms
                               : std::llabs(left.expire_ms - right.expire_ms) <= tolerance.count();
    if (left.type == right.type && left.value == right.value && same_time) continue;
    return absl::StrCat("key ", Quoted(key), "\n  kvstore: ", Describe(left),
                        "\n  redis:   ", Describe(right));
  }
  for (const auto& [key, left] : ours) {
    if (!redis.contains(key)) return absl::StrCat("redis has no key ", Quoted(key), ": ", Describe(left));
  }
  return "";
}

}  // namespace kvstore::test
