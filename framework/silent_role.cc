#include "framework/silent_role.h"

#include "absl/strings/str_cat.h"

namespace understudy {

using replication::Register;

namespace {
constexpr std::chrono::seconds kGiveBackPatience{5};
constexpr std::chrono::milliseconds kGiveBackRetry{50};
}  // namespace

void SilentRole::Leave() {
  NodeRole::Leave();
  pause_->Cancel();
}

void SilentRole::Describe(NodeStatus& status) const {
  status = former_;
  status.reason = reason_;
}

void SilentRole::GiveBack(const Register& granted, const std::string& other, absl::Status why) {
  AskToGiveBack(granted, replication::GivenBack(granted, other), why, Now() + kGiveBackPatience);
}

void SilentRole::AskToGiveBack(const Register& granted, const Register& given_back, const absl::Status& why,
                               replication::MonotonicTime until) {
  parts_.arbiter->CompareAndSwap(
      granted, given_back,
      [=, this, alive = alive_](const absl::StatusOr<replication::Arbiter::Outcome>& outcome) {
        if (!*alive || left()) return;
        if (outcome.ok() || Now() >= until) {
          const std::string now =
              outcome.ok() ? outcome->current.ToString() : std::string(outcome.status().message());
          const std::string text =
              absl::StrCat("cannot take over: ", why.message(), "; the arbiter says ", now);
          return absl::IsAborted(why) ? parts_.owner->EndAsUseless(text)
                                      : parts_.owner->GiveUp(absl::Status(why.code(), text));
        }
        // Perhaps only the answer was lost: then the next one says what is there now.
        pause_->Set(Now() + kGiveBackRetry, [=, this] { AskToGiveBack(granted, given_back, why, until); });
      });
}

}  // namespace understudy
