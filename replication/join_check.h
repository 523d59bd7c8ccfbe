// Whether a node that asks to join belongs to this pair at all: what can be said without looking at the log
// or at who else is there. Pure.
#ifndef UNDERSTUDY_REPLICATION_JOIN_CHECK_H_
#define UNDERSTUDY_REPLICATION_JOIN_CHECK_H_

#include <optional>
#include <string>

#include "replication/protocol.h"

namespace understudy::replication {

struct JoinFault {
  wire::RefuseReason::type reason;
  std::string detail;
};

// The version to use with that node; nullopt: it speaks none that this one does.
std::optional<int32_t> VersionWith(const ProtocolConfig& config, const wire::JoinRequest& request);

// nullopt: its name, protocol, service and position are possible ones.
std::optional<JoinFault> FaultOfJoiner(const ProtocolConfig& config, const wire::JoinRequest& request);
// Names the first setting that differs, with both values.
std::optional<JoinFault> FaultOfSettings(const ProtocolConfig& config, const wire::JoinRequest& request);

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_JOIN_CHECK_H_
