#include "framework/role.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace understudy {

namespace wire = replication::wire;
using replication::Register;

NodeRole::Verdict NodeRole::OnJoin(const std::string&, const wire::JoinRequest&, wire::JoinReply&) {
  return RefuseAsNotPrimary(absl::StrCat(parts_.config->node, " is not the primary, it is ", state()));
}

NodeRole::Verdict NodeRole::OnAppend(wire::AppendRequest, wire::AppendReply&) { return RefuseAsNotJoined(); }

NodeRole::Verdict NodeRole::OnHandover(const wire::HandoverRequest&, wire::HandoverReply&) {
  return RefuseAsNotJoined();
}

std::function<void(absl::StatusOr<replication::Arbiter::Outcome>)> NodeRole::ArbiterAnswer() {
  ++parts_.counters->arbiter_calls;
  return [this, alive = alive_](const absl::StatusOr<replication::Arbiter::Outcome>& outcome) {
    if (!*alive || left_) return;
    if (!outcome.ok()) {
      ++parts_.counters->arbiter_failures;
      LOG_EVERY_T(ERROR, 5) << "arbiter: " << outcome.status();
    }
    OnArbiter(outcome);
    parts_.owner->Pump();
  };
}

void NodeRole::ReadRegister() { parts_.arbiter->Read(ArbiterAnswer()); }

void NodeRole::SwapRegister(const Register& expected, const Register& desired) {
  LOG(INFO) << "asking the arbiter: " << expected.ToString() << " -> " << desired.ToString();
  parts_.arbiter->CompareAndSwap(expected, desired, ArbiterAnswer());
}

}  // namespace understudy
