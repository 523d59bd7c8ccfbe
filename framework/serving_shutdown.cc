// The ends of a node that still has something to do for its clients.
//
// One that has promised them more than the log has takes what is left in its sockets. One that is alone does
// not leave its clients in silence. The log ends before that begins: no record is made any more, the Server
// is not called. What clients still send is read and thrown away, so that no RST cuts off bytes on their way
// to them.
#include <algorithm>
#include <utility>
#include <vector>

#include "framework/serving.h"
#include "glog/logging.h"
#include "tcpshim/endpoint.h"

namespace understudy {

namespace {
constexpr size_t kDiscardSize = 64 << 10;
// For a client that has everything and keeps its side open: what it may have on its way is let come.
constexpr std::chrono::milliseconds kLinger{500};
}  // namespace

void Serving::TakeTheRest() {
  taking_the_rest_ = true;
  for (ConnectionId id : Ids()) {
    if (std::exchange(Find(id)->paused, false)) north_->Resume(id);
  }
}

bool Serving::HasTheRest() const {
  return std::all_of(live_.begin(), live_.end(), [this](const auto& entry) {
    const Live& live = *entry.second;
    return !live.has_socket || !live.state->connected() || north_->UnreadBytes(live.id) == 0;
  });
}

void Serving::ShutDown(std::chrono::milliseconds limit, std::function<void()> finished) {
  ExecuteWaiting();
  EndTurn();  // what has been taken from clients is answered
  if (silent_) return finished();
  (void)Commit(/*always=*/true);
  if (silent_) return finished();
  shutdown_ = {clock_->Monotonic() + limit, std::move(finished)};
  north_->StopListening();
  LOG(INFO) << "closing " << live_.size() << " connections";
  for (ConnectionId id : Ids()) {
    Live& live = *Find(id);
    live.since = clock_->Monotonic();
    live.paused = false;
    north_->Resume(id);
    // Only output that no other node could contradict.
    if (journal_->StableAtOnce() && !undurable_.contains(id)) live.released = Released::Of(*live.state);
  }
  // Not from inside the call: whoever asked may be about to be destroyed by `finished`.
  host_->Post([this, alive = alive_] {
    if (*alive) ShutDownTick();
  });
}

absl::Span<char> Serving::BeginDiscard(ConnectionId id) {
  receiving_ = id;
  receive_room_ = kDiscardSize;
  return {builder_.Reserve(static_cast<uint32_t>(RecordKind::kReceived), {}, kDiscardSize), kDiscardSize};
}

void Serving::ShutDownTick() {
  if (silent_ || !ShuttingDown()) return;
  size_t left = 0;
  for (ConnectionId id : Ids()) left += !HasShutDown(*Find(id));
  const bool late = clock_->Monotonic() >= shutdown_->limit;
  if (left == 0 || late) {
    if (left > 0) LOG(WARNING) << left << " clients did not take what was left for them in time";
    // Still shutting down: `finished` destroys this later, and nothing else may begin until then.
    if (const auto finished = std::exchange(shutdown_->finished, nullptr)) finished();
    return;
  }
  ScheduleTick();
}

// True: nothing is left to do for this client.
bool Serving::HasShutDown(Live& live) {
  if (!live.has_socket || live.broken) return true;
  if (live.slot.has_value()) south_.wrapper->SetStable(*live.slot, live.state->rcv_nxt() + live.discarded);
  WriteOutput(live);
  if (live.slot.has_value()) SendHeldAck(live);
  if (!live.fin_written && live.written == live.state->output().end() && !live.released.abort) {
    if (live.slot.has_value()) south_.wrapper->Allow(*live.slot, SOUTH_FIN_OK);
    live.fin_written = true;
    live.since = clock_->Monotonic();
    north_->ShutdownWrite(live.id);
  }
  return live.fin_written && FinAcked(live) &&
         (live.peer_ended || live.state->peer_closed() || clock_->Monotonic() - live.since >= kLinger);
}

}  // namespace understudy
