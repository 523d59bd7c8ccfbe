#include "replication/join_check.h"

#include <map>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "replication/names.h"

namespace understudy::replication {
namespace {

using wire::RefuseReason;
using Settings = std::map<std::string, std::string>;

std::string Shown(const std::string& text) { return absl::CEscape(text.substr(0, 200)); }

std::string ValueIn(const Settings& settings, const std::string& name) {
  const auto found = settings.find(name);
  return found == settings.end() ? "nothing" : absl::StrCat("\"", Shown(found->second), "\"");
}

VersionRange VersionsOf(const wire::JoinRequest& request) {
  return ToldVersions(request.protocol_version, request.__isset.oldest_protocol_version,
                      request.oldest_protocol_version);
}

}  // namespace

std::optional<int32_t> VersionWith(const ProtocolConfig& config, const wire::JoinRequest& request) {
  return NewestOfBoth(config.versions, VersionsOf(request));
}

std::optional<JoinFault> FaultOfJoiner(const ProtocolConfig& config, const wire::JoinRequest& request) {
  if (!IsNodeName(request.node)) {
    return JoinFault{RefuseReason::NOT_AUTHENTIC, absl::StrCat("a node's name is ", kNodeNameWants)};
  }
  if (!VersionWith(config, request).has_value()) {
    return JoinFault{
        RefuseReason::WRONG_VERSION,
        absl::StrCat(config.self.name, " speaks ", ToString(config.versions), " of the protocol, and ",
                     request.node, " ", ToString(VersionsOf(request)))};
  }
  if (request.service_address != config.service) {
    return JoinFault{RefuseReason::WRONG_SERVICE, absl::StrCat("this node serves ", config.service, ", not ",
                                                               Printable(request.service_address, 40))};
  }
  if (request.node == config.self.name) {
    return JoinFault{RefuseReason::SAME_NODE, absl::StrCat("this node is ", config.self.name, " too")};
  }
  if (request.epoch < 0 || request.last_lsn < 0 || (request.last_lsn > 0 && request.epoch == 0) ||
      request.applied_lsn < 0 || request.applied_lsn > request.last_lsn) {
    return JoinFault{RefuseReason::OUT_OF_ORDER, "a log that cannot be"};
  }
  return std::nullopt;
}

std::optional<JoinFault> FaultOfSettings(const ProtocolConfig& config, const wire::JoinRequest& request) {
  Settings all = config.settings;
  all.insert(request.settings.begin(), request.settings.end());
  for (const auto& [name, unused] : all) {
    const std::string here = ValueIn(config.settings, name), there = ValueIn(request.settings, name);
    if (here == there) continue;
    return JoinFault{RefuseReason::OTHER_SETTINGS,
                     absl::StrCat(Shown(name), " must be the same on both nodes, and is ", here, " on ",
                                  config.self.name, " and ", there, " on ", request.node)};
  }
  return std::nullopt;
}

}  // namespace understudy::replication
