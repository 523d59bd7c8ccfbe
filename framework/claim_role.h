// The role of a node that is to begin as the primary, until it knows whether it may.
//
// A process that begins has no log. It may claim the epoch only when no other process can hold one, and only
// with the newest data.
#ifndef UNDERSTUDY_FRAMEWORK_CLAIM_ROLE_H_
#define UNDERSTUDY_FRAMEWORK_CLAIM_ROLE_H_

#include <functional>
#include <memory>
#include <string>

#include "framework/role.h"

namespace understudy {

class ClaimRole final : public NodeRole {
 public:
  explicit ClaimRole(const NodeParts& parts) : NodeRole(parts), pause_(parts.host->NewTimer()) {}
  void Begin() override;
  const char* state() const override { return "starting"; }
  void Describe(NodeStatus& status) const override { status.role = Role::kPrimary; }

 private:
  // Each step leads to the next, or to CannotBegin.
  void CheckKeepers(const replication::Register& current);   // has it the newest data?
  void AskPeer(const replication::Register& current);        // does the other one run?
  void WatchRegister(const replication::Register& current);  // is it refused for the living?
  void ProbeAddress(const replication::Register& current);   // has anybody the service address?
  void Claim(const replication::Register& from);
  void CannotBegin(const replication::Register& current, const std::string& why);
  void Read(std::function<void(const replication::Register& current)> then);

  const std::unique_ptr<Timer> pause_;
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_CLAIM_ROLE_H_
