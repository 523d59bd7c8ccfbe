// How a primary begins that takes over from a dead one: the endpoints of its connections come to this host,
// with the gate closed, then the service address, then the gate opens and clients are told what they may be
// missing.
#include <optional>

#include "framework/primary_role.h"
#include "glog/logging.h"

namespace understudy {

namespace {
// Added to the timestamps of restored connections: what passes between the estimate of the old primary's
// clock and the first segment, and the error of the estimate. Too little and clients drop segments as old
// (RFC 7323, PAWS); a little too much costs nothing.
constexpr std::chrono::milliseconds kTimestampMargin{20};

int64_t Microseconds(std::chrono::nanoseconds span) {
  return std::chrono::duration_cast<std::chrono::microseconds>(span).count();
}
}  // namespace

void PrimaryRole::TakeOver(const Inheritance& inheritance) {
  taking_over_ = true;
  const replication::Register& granted = inheritance.granted.granted;
  const auto give_back = [&](absl::Status why) {
    parts_.owner->GiveBack(granted, inheritance.former, std::move(why));
  };
  if (absl::Status started = serving_->Start({parts_.config->client_keepalive}); !started.ok()) {
    return give_back(started);
  }
  const auto ahead = inheritance.clock_ahead.value_or(std::chrono::nanoseconds(0)) + kTimestampMargin;
  const auto shift =
      static_cast<uint32_t>(std::chrono::duration_cast<std::chrono::milliseconds>(ahead).count());
  if (inheritance.logged_time.known()) serving_->ContinueLoggedTime(inheritance.logged_time.At(Now()));
  const Serving::RestoreOutcome restored = serving_->RestoreEndpoints(shift);
  if (!serving_->CommitAlone()) return;
  if (absl::Status serves = parts_.frontend->Serve(serving_->north()); !serves.ok()) return give_back(serves);
  if (absl::Status fence = parts_.frontend->LookAtFence(); !fence.ok()) return give_back(fence);
  const auto ready = Now();
  OpenGate();
  if (left()) return;
  serving_->ResendPending();
  serving_->ResumeTurns(granted.epoch, shift, parts_.config->node, FatalConnection(inheritance));
  taking_over_ = false;
  LOG(WARNING) << "took over at LSN " << inheritance.granted.last_lsn << ": " << restored.restored
               << " connections restored, " << restored.failed << " failed, " << restored.without_route
               << " wait for a route; replayed in " << Microseconds(inheritance.replayed - inheritance.begun)
               << " us, restored in " << Microseconds(ready - inheritance.replayed) << " us, serving after "
               << Microseconds(Now() - inheritance.begun) << " us";
}

// The connection of whose last bytes the dead primary's process died: they are not to be the end of this one
// as well. What is in the log up to the takeover this node has executed, and lives.
std::optional<Fault> PrimaryRole::FatalConnection(const Inheritance& inheritance) const {
  const replication::FatalCall& fatal = inheritance.fatal;
  if (fatal.connection == 0 || fatal.lsn <= inheritance.granted.last_lsn ||
      parts_.executor->Find(fatal.connection) == nullptr) {
    return std::nullopt;
  }
  return Fault{fatal.connection, static_cast<uint8_t>(fatal.ending != 0)};
}

}  // namespace understudy
