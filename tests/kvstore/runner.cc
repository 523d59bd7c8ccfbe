#include "tests/kvstore/runner.h"

#include <algorithm>
#include <cstdlib>
#include <set>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tests/kvstore/dump.h"
#include "tests/kvstore/values.h"

namespace kvstore::test {
namespace {

std::vector<std::string_view> Split(std::string_view bytes, uint64_t how) {
  if (how == 0 || bytes.empty()) return {bytes};
  Dice dice(how);
  std::vector<size_t> cuts = {0, bytes.size()};
  for (uint64_t i = 0; i <= dice.Below(6); ++i) cuts.push_back(dice.Below(bytes.size() + 1));
  std::sort(cuts.begin(), cuts.end());
  std::vector<std::string_view> pieces;
  for (size_t i = 1; i < cuts.size(); ++i) pieces.push_back(bytes.substr(cuts[i - 1], cuts[i] - cuts[i - 1]));
  return pieces;
}

std::string Complain(const Request& request, const std::string& what) {
  return what.empty() ? "" : absl::StrCat("  ", Readable(request), "\n  ", what);
}

// Bulks of an array or set, or the only one; nulls are nothing.
std::vector<std::string> Texts(const RespValue& value) {
  std::vector<std::string> all;
  if (!value.is_aggregate() && !value.null) all.push_back(value.text);
  for (const RespValue& element : value.elements) all.push_back(element.text);
  return all;
}

// All of `members` are in the set at `key`, or in the sorted set.
bool AreMembers(Wire& wire, const std::string& key, const std::vector<std::string>& members,
                bool sorted = false) {
  if (members.empty()) return true;
  std::vector<std::string> args = {sorted ? "ZMSCORE" : "SMISMEMBER", key};
  args.insert(args.end(), members.begin(), members.end());
  const RespValue answer = wire.Ask(args);
  return !answer.elements.empty() &&
         std::all_of(answer.elements.begin(), answer.elements.end(),
                     [sorted](const RespValue& is) { return sorted ? !is.null : is.text == "1"; });
}

// Redis writes large scores here in one way or the other, by how it stores the set.
std::string SameScore(const std::string& score) {
  return absl::StrFormat("%.17g", std::strtod(score.c_str(), nullptr) + 0.0);
}

std::vector<std::string> Without(const std::vector<std::string>& all, const std::set<std::string>& out) {
  std::vector<std::string> rest;
  for (const std::string& one : all) {
    if (!out.contains(one)) rest.push_back(one);
  }
  return rest;
}

}  // namespace

absl::Status Runner::Connect(Session* session) {
  for (size_t i : {kOurs, kRedis}) {
    auto wire = Wire::Connect(servers_[i]->address());
    if (!wire.ok()) return wire.status();
    session->wires[i] = *std::move(wire);
  }
  return absl::OkStatus();
}

absl::Status Runner::Begin() {
  sessions_.clear();
  for (TestServer* server : servers_) {
    if (absl::Status runs = server->StartAgainIfEnded(); !runs.ok()) return runs;
  }
  if (absl::Status connected = Connect(&control_); !connected.ok()) return connected;
  for (auto& wire : control_.wires) {
    const RespValue flushed = wire->Ask({"FLUSHALL"});
    if (flushed.text != "OK") return absl::InternalError(absl::StrCat("FLUSHALL: ", Readable(flushed)));
  }
  return absl::OkStatus();
}

std::string Runner::CompareAnswers(const Batch& batch, const Answer& ours, const Answer& redis,
                                   Session& session) {
  const size_t count = std::min(ours.replies.size(), redis.replies.size());
  for (size_t i = 0; i < count; ++i) {
    const Request& request = batch.requests[i];
    std::string what = session.comparer.Compare(request.args, ours.replies[i], redis.replies[i]);
    if (!what.empty()) return Complain(request, what);
  }
  // An error of the connection is one even when both have it.
  const bool in_order = ours.error.empty() && redis.error.empty();
  if (in_order && ours.replies.size() == redis.replies.size() && ours.closed == redis.closed) return "";
  const auto end = [](const Answer& answer) {
    return absl::StrCat(answer.replies.size(), " replies", answer.closed ? ", then closed" : "",
                        answer.error.empty() ? "" : ", then ", answer.error);
  };
  return Complain(batch.requests[std::min(count, batch.requests.size() - 1)],
                  absl::StrCat("kvstore: ", end(ours), "\n  redis:   ", end(redis)));
}

std::string Runner::RunBatch(const Batch& batch) {
  Session& session = sessions_[batch.connection];
  if (session.wires[kOurs] == nullptr) {
    if (absl::Status connected = Connect(&session); !connected.ok()) return connected.ToString();
  }
  std::string bytes;
  for (const Request& request : batch.requests) bytes += Encode(request);
  const auto pieces = Split(bytes, batch.split);
  const Answer redis = session.wires[kRedis]->Exchange(pieces, batch.requests.size());
  const Answer ours = session.wires[kOurs]->Exchange(pieces, batch.requests.size());
  std::string what = CompareAnswers(batch, ours, redis, session);
  if (what.empty() && batch.kind == Batch::Kind::kPick && ours.replies.size() == 1) {
    what = Complain(batch.requests[0], SettlePick(batch.requests[0].args, ours.replies[0], redis.replies[0]));
  }
  requests_done_ += batch.requests.size();
  if (ours.closed) sessions_.erase(batch.connection);
  return what;
}

std::string Runner::SettlePick(const std::vector<std::string>& args, const RespValue& ours,
                               const RespValue& redis) {
  if (ours.is_error() || ours.null) return "";
  const std::vector<std::string> picked = Texts(ours);
  if (args[0] == "RANDOMKEY") {
    const RespValue exists = control_.wires[kRedis]->Ask({"EXISTS", ours.text});
    return exists.text == "1" ? "" : absl::StrCat("no key: ", Readable(ours));
  }
  const bool sorted = args[0] == "ZRANDMEMBER";
  const bool may_repeat = (sorted || args[0] == "SRANDMEMBER") && args.size() > 2 && args[2][0] == '-';
  const std::set<std::string> distinct(picked.begin(), picked.end());
  if (!may_repeat && distinct.size() != picked.size()) return absl::StrCat("one twice: ", Readable(ours));
  if (args[0] == "SPOP") return SettlePop(args[1], picked, Texts(redis));
  return AreMembers(*control_.wires[kRedis], args[1], picked, sorted)
             ? ""
             : absl::StrCat("no members: ", Readable(ours));
}

// Makes our set the one that Redis now has.
std::string Runner::SettlePop(const std::string& key, const std::vector<std::string>& ours,
                              const std::vector<std::string>& redis) {
  const auto only_ours = Without(ours, std::set<std::string>(redis.begin(), redis.end()));
  const auto only_redis = Without(redis, std::set<std::string>(ours.begin(), ours.end()));
  if (!AreMembers(*control_.wires[kRedis], key, only_ours)) return "popped what was no member";
  if (!AreMembers(*control_.wires[kOurs], key, only_redis)) return "lost what was not popped";
  // First in, then out: a set that becomes empty would lose its expiry.
  for (const auto& [command, members] : {std::pair("SADD", only_ours), std::pair("SREM", only_redis)}) {
    if (members.empty()) continue;
    std::vector<std::string> args = {command, key};
    args.insert(args.end(), members.begin(), members.end());
    const RespValue done = control_.wires[kOurs]->Ask(args);
    if (done.text != std::to_string(members.size())) return absl::StrCat(command, ": ", Readable(done));
  }
  return "";
}

std::string Runner::RunWalk(const Batch& batch) {
  const Request& request = batch.requests[0];
  const bool sorted = request.args[0] == "ZSCAN", pairs = sorted || request.args[0] == "HSCAN";
  const size_t cursor_at = request.args[0] == "SCAN" ? 1 : 2;
  RespValue seen[2];
  for (size_t i : {kRedis, kOurs}) {
    std::vector<std::string> args = request.args;
    std::set<std::string> elements;
    for (int calls = 0;; ++calls) {
      const RespValue page = control_.wires[i]->Ask(args);
      if (page.is_error() || page.elements.size() != 2) {
        seen[i] = page;
        break;
      }
      const auto& found = page.elements[1].elements;
      for (size_t k = 0; k < found.size(); k += pairs ? 2 : 1) {
        std::string element = Encode(found[k]);
        if (pairs) element += sorted ? SameScore(found[k + 1].text) : Encode(found[k + 1]);
        const bool is_new = elements.insert(std::move(element)).second;
        if (i == kOurs && !is_new)
          return Complain(request, absl::StrCat("visited twice: ", Readable(found[k])));
      }
      args[cursor_at] = page.elements[0].text;
      if (args[cursor_at] == "0") break;
      if (calls > 10000) return Complain(request, "the walk does not end");
    }
    for (const std::string& element : elements) seen[i].text += element;
  }
  if (Encode(seen[kOurs]) == Encode(seen[kRedis])) return "";
  return Complain(request, absl::StrCat("kvstore walks: ", Readable(seen[kOurs]),
                                        "\n  redis walks:   ", Readable(seen[kRedis])));
}

std::string Runner::CompareData() {
  const auto ours = ReadDump(*control_.wires[kOurs]);
  const auto redis = ReadDump(*control_.wires[kRedis]);
  if (!ours.ok()) return absl::StrCat("kvstore's data: ", ours.status().ToString());
  if (!redis.ok()) return absl::StrCat("redis's data: ", redis.status().ToString());
  const std::string what = CompareDumps(*ours, *redis, kClockTolerance);
  return what.empty() ? "" : absl::StrCat("the data in the end: ", what);
}

std::string Runner::Run(const Stream& stream) {
  requests_done_ = 0;
  if (absl::Status begun = Begin(); !begun.ok()) return begun.ToString();
  for (const Batch& batch : stream) {
    std::string what = batch.kind == Batch::Kind::kWalk ? RunWalk(batch) : RunBatch(batch);
    if (!what.empty()) return what;
  }
  return CompareData();
}

}  // namespace kvstore::test
