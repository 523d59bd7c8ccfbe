#include "framework/serving.h"

#include <net/if.h>

#include <algorithm>
#include <array>

#include "glog/logging.h"

namespace understudy {

using replication::Lsn;
using replication::RecordView;
using tcpshim::FourTuple;
using tcpshim::Segment;
using tcpshim::TupleOf;

namespace {
constexpr std::chrono::milliseconds kSoonInterval{1};
constexpr std::chrono::milliseconds kWatchInterval{20};  // in case a report was lost
constexpr std::chrono::milliseconds kIdleInterval{100};  // only expiry
constexpr size_t kMaxReadSize = 256 << 10;
constexpr int kEventsPerTurn = 64;
}  // namespace

Serving::Serving(Host* host, Executor* executor, Journal* journal, SouthSide south)
    : host_(host),
      clock_(&host->clock()),
      logged_(clock_->Monotonic(), clock_->WallMicroseconds()),
      executor_(executor),
      journal_(journal),
      south_(south),
      tick_(host->NewTimer()),
      timers_(host->NewTimer()),
      builder_(executor->applied_lsn() + 1) {
  last_id_ = executor_->last_opened();
}

Serving::~Serving() { *alive_ = false; }

absl::Status Serving::Start(const tcpshim::NorthWrapper::Options& options) {
  auto north = host_->NewNorth(this, options);
  if (!north.ok()) return north.status();
  north_ = *std::move(north);
  if (south_.wrapper != nullptr) {
    south_events_ = host_->WatchReadable(south_.wrapper->event_fd(), [this] { HandleSouthEvents(); });
  }
  ScheduleTick();
  return absl::OkStatus();
}

void Serving::BeginEpoch(uint64_t epoch, uint64_t seed, uint32_t timestamp_shift, const std::string& node) {
  const EpochBegan body{epoch, seed, timestamp_shift, node, executor_->initial_state()};
  Append(RecordKind::kEpochBegan, Encode(body), 0);
  EndTurn();
}

// --- Records -------------------------------------------------------------------------------------

int64_t Serving::TimeUs() { return std::max({LoggedTimeUs(), executor_->time_us(), appended_us_}); }

void Serving::Append(RecordKind kind, std::string_view body, ConnectionId id) {
  ExecuteWaiting();
  if (server_threw_) return;
  const size_t at = builder_.size_bytes();
  Execute(builder_.Append(static_cast<uint32_t>(kind), NextTimeUs(), body), id, at);
}

// In order, until only the last `but` wait.
void Serving::ExecuteWaiting(size_t but) {
  while (waiting_.size() > but) {
    const Waiting first = waiting_.front();
    waiting_.pop_front();
    Execute(builder_.At(first.at), first.connection, first.at);
  }
}

// Runs ahead of stability: that is safe because what comes of it is held.
void Serving::Execute(const RecordView& record, ConnectionId id, size_t at) {
  const absl::Status applied = executor_->Apply(record);
  if (absl::IsAborted(applied)) return ServerThrew(applied, at);
  CHECK(applied.ok()) << "own record does not apply: " << applied;
  if (id != 0) {
    if (Live* live = Find(id); live != nullptr && executor_->Find(id) != nullptr) {
      commit_.Mark(record.lsn, id, Released::Of(*live->state));
    }
  }
  for (ConnectionId touched : executor_->TakeTouched()) {
    Live* live = Find(touched);
    if (live == nullptr || executor_->Find(touched) == nullptr) continue;
    if (touched != id) commit_.Mark(record.lsn, touched, Released::Of(*live->state));
    Watch(*live);
  }
}

// The record at `at` was the Server's last. It and what is behind it are not logged: clients send it again,
// to the other node, which is told whose call it was.
void Serving::ServerThrew(const absl::Status& why, size_t at) {
  server_threw_ = true;
  waiting_.clear();
  builder_.Truncate(at, executor_->applied_lsn() + 1);
  if (executor_->faulty().has_value()) {
    builder_.Append(static_cast<uint32_t>(RecordKind::kFault), NextTimeUs(), Encode(*executor_->faulty()));
  }
  Stop();
  journal_->OnServerThrew(why, builder_.empty() ? replication::RecordBatch() : builder_.Seal(),
                          executor_->applied_lsn(), executor_->output_hash());
}

void Serving::EndTurn() {
  if (in_turn_ || silent_ || taking_over_ || ShuttingDown()) return;
  in_turn_ = true;
  ExecuteWaiting();
  // What became stable at once may have let more happen; but other work must get its turn too.
  for (int round = 0; round < 8; ++round) {
    FireTimers();
    ConnectWaiting();
    if (ticking_ || !look_.empty()) CheckWatched();
    if (silent_ || builder_.empty()) break;
    // Output must not leave before the Server's Commit. Where it waits for another node anyway, the records
    // go first, so that both work at the same time.
    const bool at_once = journal_->StableAtOnce();
    if (at_once && !Commit()) break;
    const Lsn stable = journal_->Append(builder_.Seal(), executor_->applied_lsn(), executor_->output_hash());
    if (silent_ || (!at_once && !Commit())) break;
    ReleaseStable(stable);
    if (silent_) break;
  }
  in_turn_ = false;
  if (silent_) return;
  if (!builder_.empty() || !look_.empty() || !connectable_.empty()) {
    host_->Post([this, alive = alive_] {
      if (*alive) EndTurn();
    });
  }
  ScheduleTimers();
  if (!watched_.empty()) ScheduleTick();
}

// False: the Server is broken.
bool Serving::Commit(bool always) {
  const bool alone = journal_->StableAtOnce();
  const Lsn stable = alone ? executor_->applied_lsn() : journal_->StableLsn();
  const absl::Status committed = executor_->Commit(stable, alone, always);
  if (!committed.ok() && !absl::IsResourceExhausted(committed)) {
    journal_->OnCommitFailed(committed);
    return false;
  }
  if (!committed.ok() && !cannot_write_) LOG(WARNING) << "the Server cannot write now: " << committed;
  cannot_write_ = !committed.ok();
  TellStorage();
  if (!undurable_.empty() && !(cannot_write_ && alone)) {
    for (const auto& [id, released] : std::exchange(undurable_, {})) Release(id, released);
    FlushDirty();
  }
  return true;
}

void Serving::TellStorage() {
  const bool writable = !cannot_write_ && !journal_->PeerCannotWrite();
  const bool may = !taking_over_ && !silent_ && !ShuttingDown() && executor_->epoch() != 0;
  if (!may || writable == executor_->storage_writable()) return;
  LOG(WARNING) << (writable ? "the nodes can write again"
                            : "the Server is told that there is no room to write");
  Append(RecordKind::kStorage, Encode(Storage{writable}), 0);
}

// Of what was executed between the last good Commit and the time at which the Server learned of it.
bool Serving::MustHold(Lsn lsn) const {
  return cannot_write_ && lsn > executor_->committed_lsn() && lsn <= executor_->storage_full_lsn() &&
         journal_->StableAtOnce();
}

Serving::Live* Serving::Find(ConnectionId id) {
  auto found = live_.find(id);
  return found == live_.end() ? nullptr : found->second.get();
}

// Ordered, as a hash table is not: what comes of a walk shows in the log, and a run must be repeatable.
std::vector<ConnectionId> Serving::Ids() const {
  std::vector<ConnectionId> ids;
  ids.reserve(live_.size());
  for (const auto& [id, live] : live_) ids.push_back(id);
  std::sort(ids.begin(), ids.end());
  return ids;
}

Serving::Live& Serving::AddLive(ConnectionId id) {
  auto live = std::make_unique<Live>();
  live->id = id;
  live->state = executor_->Find(id);
  CHECK(live->state != nullptr);
  live->tuple = live->state->opened().tuple;
  live->since = clock_->Monotonic();
  return *(live_[id] = std::move(live));
}

// The log has no such connection any more: forgets what this node knew of it. The socket has been dealt
// with by the caller.
void Serving::Drop(Live& live) {
  const ConnectionId id = live.id;
  if (live.slot.has_value()) south_.wrapper->Remove(*live.slot);
  if (live.superseded) {
    superseded_.erase(live.tuple);
    const Live* next = FindNewest(live.tuple);
    if (next != nullptr && next->has_socket) connectable_.push_back(next->id);
  }
  watched_.erase(id);
  half_open_.erase(id);
  unproven_.erase(id);
  undurable_.erase(id);
  live_.erase(id);
}

// --- Input from the north wrapper ----------------------------------------------------------------

bool Serving::TooMuchPending(const ConnectionState& state) const {
  return state.pending_output() >= state.most_pending() ||
         (state.held_back() && state.unread_size() >= kMaxHeldBack);
}

absl::Span<char> Serving::BeginReceive(ConnectionId id) {
  Live* live = Find(id);
  if (live == nullptr || silent_) return {};
  if (ShuttingDown()) return BeginDiscard(id);
  if (!journal_->CanAppend()) {
    refused_by_log_.push_back(id);
    return {};
  }
  if (!live->state->connected()) {
    if (!IsProven(*live)) return {};  // Connect lets it go on
    Prove(*live);
  }
  // What was read from this connection before may have changed what is asked here.
  const auto is_its = [id](const Waiting& waiting) { return waiting.connection == id; };
  if (std::any_of(waiting_.begin(), waiting_.end(), is_its)) ExecuteWaiting();
  if (silent_) return {};
  if (!taking_the_rest_ && TooMuchPending(*live->state)) {
    live->paused = true;
    Watch(*live);
    return {};
  }
  receiving_ = id;
  receive_room_ = live->read_size;
  char* room = builder_.Reserve(static_cast<uint32_t>(RecordKind::kReceived),
                                EncodeHead(Received{id, ViewOf(*live), {}}), receive_room_);
  return {room, receive_room_};
}

void Serving::EndReceive(ConnectionId id, size_t size) {
  DCHECK_EQ(id, receiving_);
  if (size == 0) return builder_.Cancel();
  Live* live = Find(id);
  if (ShuttingDown()) {
    live->discarded += static_cast<uint32_t>(size);
    return builder_.Cancel();
  }
  if (size == receive_room_) live->read_size = std::min(live->read_size * 4, kMaxReadSize);
  counters_.bytes_received += size;
  const size_t at = builder_.size_bytes();
  const RecordView record = builder_.Commit(NextTimeUs(), size);
  if (!server_threw_) executor_->Expect(record);
  waiting_.push_back({at, id});
  ExecuteWaiting(Executor::kExpectAhead);
}

void Serving::OnEndOfStream(ConnectionId id) {
  Live* live = Find(id);
  if (live == nullptr || silent_) return;
  if (ShuttingDown()) {
    ++live->discarded;
    live->peer_ended = true;
    return;
  }
  Append(RecordKind::kPeerClosed, Encode(ConnectionOnly{id}), id);
  Watch(*live);
}

void Serving::OnBroken(ConnectionId id, int error) {
  Live* live = Find(id);
  if (live == nullptr || silent_) return;
  ++counters_.broken;
  if (ShuttingDown()) {
    live->broken = true;
    return;
  }
  north_->Forget(id);
  Append(RecordKind::kBroken, Encode(Broken{id, error}), 0);
  Drop(*live);
}

void Serving::OnWritable(ConnectionId id) {
  Live* live = Find(id);
  if (live == nullptr || silent_) return;
  live->blocked = false;
  ExecuteWaiting();
  Flush(*live);
}

void Serving::OnTurnDone() { EndTurn(); }

// --- Input from the south wrapper ----------------------------------------------------------------

void Serving::HandleSouthEvents() {
  const auto handle = [this](const south_event& event) {
    switch (event.kind) {
      case SOUTH_EVENT_SYN_ACK: return HandleSynAck(event);
      case SOUTH_EVENT_RST_UNKNOWN: return HandleUnknownRst(event);
      case SOUTH_EVENT_SYN_KNOWN: return HandleRepeatedSyn(event);
      case SOUTH_EVENT_ACKED: return HandleAcked(event);
      case SOUTH_EVENT_RST_HANDSHAKE: return HandleHandshakeReset(event);
      case SOUTH_EVENT_ELSEWHERE: return HandleElsewhere(event);
    }
  };
  // What is left keeps the descriptor readable: others get their turn first.
  south_.wrapper->PollEvents(handle, kEventsPerTurn);
  EndTurn();
}

// A segment found no socket, and the kernel would like to say so. Only a live, serving process can know
// whether that is the truth.
void Serving::HandleUnknownRst(const south_event& event) {
  const FourTuple tuple = TupleOf(event.tuple);
  if (executor_->FindByTuple(tuple) != nullptr) return;  // a socket that is about to be restored or closed
  Segment segment;
  segment.source = tuple.local;
  segment.destination = tuple.remote;
  const Executor::Departed* departed = executor_->FindDeparted(tuple);
  if (departed != nullptr && !departed->peer_closed && RestoreFinWait(tuple, *departed)) return;
  if (departed != nullptr && departed->peer_closed) {
    segment.seq = departed->snd_nxt;
    segment.ack = departed->rcv_nxt;
    segment.window = departed->window;
    segment.flags.ack = true;
    if (departed->options.timestamps) {
      segment.timestamps = {{departed->timestamp_offset + Milliseconds32(clock_->Monotonic()), 0}};
    }
    ++counters_.time_wait_acks;
  } else {
    segment.seq = event.seq;
    segment.ack = event.ack;
    segment.flags.rst = true;
    segment.flags.ack = event.ack != 0;
    ++counters_.rsts_vouched;
  }
  (void)south_.sender->Send(segment);  // as good as a lost segment when it fails
}

void Serving::HandleAcked(const south_event& event) {
  Live* live = FindNewest(TupleOf(event.tuple));
  if (live == nullptr || ShuttingDown()) return;
  IsProven(*live) ? Prove(*live) : Look(*live);
}

// The way to this client leads through an interface that does not have the service address. It would not move
// with the address, so the client is refused before it believes in the connection.
void Serving::HandleElsewhere(const south_event& event) {
  const FourTuple tuple = TupleOf(event.tuple);
  ++counters_.refused_elsewhere;
  std::array<char, IF_NAMESIZE> name = {};
  if (if_indextoname(event.interface, name.data()) == nullptr) name[0] = '?';
  LOG_EVERY_T(WARNING, 10) << "refused " << tuple.remote.ToString() << ": the route to it leads through "
                           << name.data() << ", not through the interface of the service address "
                           << tuple.local.ToString();
  Segment segment;
  segment.source = tuple.local;
  segment.destination = tuple.remote;
  segment.seq = event.seq;
  segment.ack = event.ack;
  segment.flags.rst = segment.flags.ack = true;
  (void)south_.sender->Send(segment);
}

// --- Time ----------------------------------------------------------------------------------------

void Serving::ScheduleTick() {
  if (silent_) return;
  const bool watching = !watched_.empty() || ShuttingDown();
  if (tick_->due().has_value() && !watching) return;
  const auto due = clock_->Monotonic() + (look_soon_ ? kSoonInterval
                                          : watching ? kWatchInterval
                                                     : kIdleInterval);
  if (tick_->due().has_value() && *tick_->due() <= due) return;
  tick_->Set(due, [this] { Tick(); });
}

void Serving::Tick() {
  if (ShuttingDown()) return ShutDownTick();
  ticking_ = true;
  look_soon_ = false;
  CheckHandshakes();
  RetryRoutes();
  EndTurn();
  if (!silent_ && !in_turn_ && !taking_over_ && Commit(/*always=*/true) && !builder_.empty()) EndTurn();
  ticking_ = false;
  ScheduleTick();
}

void Serving::FireTimers() {
  if (silent_) return;
  // Bounded, because a Server may set a timer anew from OnTimer that is due at once.
  for (int fired = 0; fired < 1024; ++fired) {
    const auto next = executor_->NextTimer();
    if (silent_ || !next.has_value() || next->due_us > TimeUs()) return;
    Append(RecordKind::kTimerFired, Encode(TimerFired{next->connection, next->timer}), next->connection);
  }
}

void Serving::ScheduleTimers() {
  const auto next = executor_->NextTimer();
  if (!next.has_value() || silent_) return;
  if (timers_at_us_ == next->due_us) return;
  timers_at_us_ = next->due_us;
  constexpr int64_t kLongest = 3'600'000'000;  // one that is due "never" is out of the range of clocks
  const int64_t wait = std::clamp<int64_t>(next->due_us - TimeUs(), 0, kLongest);
  timers_->Set(clock_->Monotonic() + std::chrono::microseconds(wait), [this] {
    timers_at_us_.reset();
    EndTurn();
  });
}

}  // namespace understudy
