#include "framework/claim_role.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "glog/logging.h"

namespace understudy {

using replication::Register;

namespace {
constexpr std::chrono::milliseconds kFirstDialTimeout{500};
// How long hosts are waited for that may have the service address.
constexpr std::chrono::milliseconds kFirstProbe{200};
}  // namespace

void ClaimRole::Read(std::function<void(const Register& current)> then) {
  parts_.arbiter->Read([this, then = std::move(then),
                        alive = alive_](absl::StatusOr<replication::Arbiter::Outcome> outcome) {
    if (!*alive || left()) return;
    if (outcome.ok()) return then(outcome->current);
    parts_.owner->GiveUp(absl::UnavailableError(absl::StrCat(
        "cannot read the arbiter ", parts_.config->arbiter, ": ", std::string(outcome.status().message()))));
  });
}

void ClaimRole::CannotBegin(const Register& current, const std::string& why) {
  parts_.owner->GiveUp(absl::FailedPreconditionError(absl::StrCat("cannot begin as primary: the arbiter ",
                                                                  parts_.config->arbiter, " says ",
                                                                  current.ToString(), ", and ", why)));
}

void ClaimRole::Begin() {
  Read([this](const Register& current) { CheckKeepers(current); });
}

void ClaimRole::CheckKeepers(const Register& current) {
  if (current.epoch != 0 && !current.KeptBy(parts_.config->node)) {
    const std::string keepers = absl::StrJoin(current.Keepers(), " or ");
    if (!parts_.config->force_data_loss) {
      return CannotBegin(
          current,
          absl::StrCat("the newest data is on ", keepers,
                       ", not here: begin there, and start this "
                       "node with --role=secondary. If it is lost for good, --force_data_loss begins "
                       "with the old data that is here"));
    }
    LOG(WARNING) << "--force_data_loss: beginning without the data of " << keepers << ": "
                 << current.ToString();
  }
  AskPeer(current);
}

void ClaimRole::AskPeer(const Register& current) {
  // This node served alone when it ended; that it is no longer running is known by the name that it holds on
  // the interface (SouthWrapper::Attach).
  if (current.holder == parts_.config->node && current.secondary.empty()) return ProbeAddress(current);
  parts_.links->transport().Dial(
      kFirstDialTimeout, [this, current, alive = alive_](replication::DialResult result, auto) {
        if (!*alive || left()) return;
        // A first start: the peer may be there already, as a secondary that waits. But where each node has an
        // arbiter of its own, nothing is ever written.
        const bool first = current.epoch == 0 && parts_.config->arbiter != "unsafe-none";
        switch (result) {
          case replication::DialResult::kConnected:
            if (first) return ProbeAddress(current);
            return CannotBegin(current, "the peer is running: start this node with --role=secondary");
          case replication::DialResult::kRefused:
            // By the host of a process that is gone, or by a firewall for one that lives.
            return current.epoch == 0 ? ProbeAddress(current) : WatchRegister(current);
          case replication::DialResult::kUnreachable:
            if (current.epoch == 0) return ProbeAddress(current);
            if (parts_.config->force_data_loss) return WatchRegister(current);
            return CannotBegin(
                current,
                "the peer cannot be reached to make sure that it is not serving. If it is gone for "
                "good, --force_data_loss begins without asking it");
        }
      });
}

// A secondary that lives takes over within this time, and a pair that has lost its link changes the register.
void ClaimRole::WatchRegister(const Register& current) {
  pause_->Set(Now() + 2 * parts_.config->suspect_after, [this, current] {
    Read([this, current](const Register& now) {
      if (now == current) return ProbeAddress(current);
      CannotBegin(now, "that has just changed: somebody lives, whom this node cannot reach");
    });
  });
}

void ClaimRole::ProbeAddress(const Register& current) {
  parts_.frontend->address().Probe(
      kFirstProbe,
      [this, current, alive = alive_](absl::StatusOr<std::optional<tcpshim::MacAddress>> answered) {
        if (!*alive || left()) return;
        if (answered.ok() && answered->has_value()) {
          return CannotBegin(
              current, absl::StrCat(tcpshim::ToString(**answered), " on ", parts_.config->interface,
                                    " answers for the service address ", parts_.config->service.ToString(),
                                    ": another host has it, or serves"));
        }
        // Who cannot ask knows nothing; that is bad only where there is somebody to be known of.
        if (!answered.ok() && current.epoch != 0 && current.holder != parts_.config->node) {
          return CannotBegin(current, absl::StrCat("nobody can be asked who has the service address: ",
                                                   std::string(answered.status().message())));
        }
        Claim(current);
      });
}

void ClaimRole::Claim(const Register& from) {
  const Register wanted = replication::FirstServedBy(from, parts_.config->node);
  parts_.arbiter->CompareAndSwap(
      from, wanted, [this, wanted, alive = alive_](absl::StatusOr<replication::Arbiter::Outcome> outcome) {
        if (!*alive || left()) return;
        if (outcome.ok() && outcome->swapped) return parts_.owner->BecomePrimary(wanted);
        parts_.owner->GiveUp(absl::UnavailableError(absl::StrCat(
            "cannot begin as primary: the arbiter ", parts_.config->arbiter, " says ",
            outcome.ok() ? outcome->current.ToString() : std::string(outcome.status().message()))));
      });
}

}  // namespace understudy
