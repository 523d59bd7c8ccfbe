// The role of a node that has nothing more to say to clients: deposed, broken, or about to end.
#ifndef UNDERSTUDY_FRAMEWORK_SILENT_ROLE_H_
#define UNDERSTUDY_FRAMEWORK_SILENT_ROLE_H_

#include <memory>
#include <string>
#include <utility>

#include "framework/role.h"

namespace understudy {

class SilentRole final : public NodeRole {
 public:
  // `former`: what the role before had to say; that stays to be read.
  SilentRole(const NodeParts& parts, std::string reason, NodeStatus former)
      : NodeRole(parts),
        reason_(std::move(reason)),
        former_(std::move(former)),
        pause_(parts.host->NewTimer()) {}

  void Begin() override {}
  void Leave() override;
  const char* state() const override { return "silent"; }
  bool IsSilent() const override { return true; }
  void Describe(NodeStatus& status) const override;

  // Tries for a while to give the epoch back to a node that perhaps can serve.
  void GiveBack(const replication::Register& granted, const std::string& other, absl::Status why);

 private:
  void AskToGiveBack(const replication::Register& granted, const replication::Register& given_back,
                     const absl::Status& why, replication::MonotonicTime until);

  const std::string reason_;
  const NodeStatus former_;
  const std::unique_ptr<Timer> pause_;
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_SILENT_ROLE_H_
