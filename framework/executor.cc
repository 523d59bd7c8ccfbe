#include "framework/executor.h"

#include <algorithm>
#include <exception>
#include <limits>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "framework/current_call.h"
#include "glog/logging.h"

namespace understudy {

using replication::Lsn;
using replication::RecordView;

namespace {
// Behind the year 9999; far enough from the end of the range that sums with spans stay within it.
constexpr int64_t kLatestTimeUs = int64_t{1} << 60;
}  // namespace

// --- ConnectionState: what an application does to a connection -----------------------------------

ConnectionState::ConnectionState(Executor* executor, const Opened& opened)
    : executor_(executor),
      opened_(opened),
      peer_(opened.tuple.remote.ToString()),
      local_(opened.tuple.local.ToString()),
      timestamp_offset_(opened.timestamp_offset) {
  view_.window = opened.options.window_scaling ? 1 << 16 : 65535;
  view_.offered = opened.window;
}

void ConnectionState::Send(std::string_view bytes) {
  if (fin_wanted_ || abort_wanted_ || bytes.empty()) return;
  if (output_.size() > executor_->limits_.pending_output) {
    return executor_->AbortOverLimit(
        *this, absl::StrCat(output_.size(), " bytes of output are pending (--max_pending_output_mb)"));
  }
  output_.Append(bytes);
  if (output_.size() >= high_water_) writable_wanted_ = true;
  executor_->HashOutput(*this, 's', bytes);
  executor_->Touch(*this);
  executor_->Count(*this);
  executor_->EnforceLimits();
}

void ConnectionState::HalfClose() {
  if (fin_wanted_ || abort_wanted_) return;
  fin_wanted_ = true;
  executor_->HashOutput(*this, 'f', {});
  executor_->Touch(*this);
}

void ConnectionState::Close() {
  HalfClose();
  closed_ = true;  // unread_ stays: the Server may be looking at it right now
}

void ConnectionState::Abort() {
  if (abort_wanted_) return;
  closed_ = true;
  abort_wanted_ = true;
  executor_->CancelTimers(*this);
  executor_->HashOutput(*this, 'a', {});
  executor_->Touch(*this);
}

void ConnectionState::SetHighWater(size_t bytes) {
  high_water_ = std::max(bytes, kLowestHighWater);
  writable_wanted_ = output_.size() >= high_water_;
}

void ConnectionState::SetTimer(uint32_t timer, std::chrono::microseconds after) {
  constexpr int64_t kNever = std::numeric_limits<int64_t>::max();
  const int64_t wait = std::max<int64_t>(after.count(), 0), now = executor_->time_us();
  executor_->SetTimer(*this, timer, wait < kNever - now ? now + wait : kNever);
}

void ConnectionState::CancelTimer(uint32_t timer) { executor_->CancelTimer(*this, timer); }

LoggedTime ConnectionState::Now() const {
  return LoggedTime(std::chrono::microseconds(executor_->time_us()));
}

uint64_t ConnectionState::Random() { return executor_->random_(); }

// --- Executor ------------------------------------------------------------------------------------

static bool DropsFaulty(OnPoison on_poison, const Server& server) {
  return on_poison == OnPoison::kAsServerSays ? server.Transactional()
                                              : on_poison == OnPoison::kDropConnection;
}

Executor::Executor(Server* server, Limits limits)
    : server_(server),
      limits_(limits),
      drops_faulty_(DropsFaulty(limits.on_poison, *server)),
      initial_state_(server->InitialState()) {}
Executor::~Executor() = default;

absl::Status Executor::Commit(Lsn stable, bool alone, bool always) {
  if (committed_lsn_ == applied_lsn_ && !always) return absl::OkStatus();
  const CommitPoint point{applied_lsn_, std::min(stable, applied_lsn_), alone};
  if (absl::Status committed = server_->Commit(point); !committed.ok()) return committed;
  committed_lsn_ = applied_lsn_;
  committed_alone_ = alone;
  return absl::OkStatus();
}

absl::Status Executor::Apply(const RecordView& record) {
  if (record.lsn != applied_lsn_ + 1) {
    return absl::InvalidArgumentError(absl::StrCat("record ", record.lsn, " does not follow ", applied_lsn_));
  }
  if (record.time_us < 0 || record.time_us > kLatestTimeUs) {
    return absl::InvalidArgumentError(
        absl::StrCat("record ", record.lsn, ": its time cannot be: ", record.time_us));
  }
  const int64_t before = time_us_;
  time_us_ = std::max(time_us_, record.time_us);
  const uint64_t hash_before = output_hash_;
  const auto kind = static_cast<RecordKind>(record.kind);
  current_call = {.lsn = record.lsn, .kind = RecordKindName(kind)};
  current_call.ending = kind == RecordKind::kBroken || kind == RecordKind::kEnded;
  absl::Status applied;
  try {
    applied = Dispatch(record);
  } catch (const std::exception& thrown) {
    applied = OnThrown(thrown.what(), hash_before);
  } catch (...) {
    applied = OnThrown("no std::exception", hash_before);
  }
  current_call.lsn = 0;
  if (!applied.ok()) {
    time_us_ = before;
    if (absl::IsAborted(applied)) return applied;
    return absl::InvalidArgumentError(absl::StrCat("record ", record.lsn, " (",
                                                   RecordKindName(static_cast<RecordKind>(record.kind)),
                                                   "): ", std::string(applied.message())));
  }
  applied_lsn_ = record.lsn;
  return absl::OkStatus();
}

// A call of the Server has thrown: see Server::Transactional.
absl::Status Executor::OnThrown(const char* what, uint64_t hash_before) {
  const bool ending = current_call.ending;
  const auto found = connections_.find(current_call.connection);
  const bool drop = drops_faulty_ && found != connections_.end();
  char call[kDescribed];
  Describe(current_call, call);
  LOG(ERROR) << "the Server threw in " << call << ": " << what
             << (drop ? "; the connection is aborted" : "; it is not called any more");
  giving_ = nullptr;
  if (!drop) {
    output_hash_ = hash_before;
    if (found != connections_.end()) faulty_ = Fault{found->first, ending};
    return absl::AbortedError(absl::StrCat("the Server threw in ", call, ": ", what));
  }
  if (ending) {
    Remove(*found->second, CloseReason::kFault);
  } else {
    AbortFaulty(*found->second);
  }
  return absl::OkStatus();
}

void Executor::AbortFaulty(ConnectionState& connection) {
  connection.abort_reason_ = CloseReason::kFault;
  connection.peer_closed_owed_ = false;
  connection.Abort();
  ForgetUnread(connection);
}

void Executor::Expect(const RecordView& record) {
  if (static_cast<RecordKind>(record.kind) != RecordKind::kReceived) return;
  // A damaged one is found when it is applied.
  if (const auto body = DecodeReceived(record.body); body.ok()) server_->Expect(body->bytes);
}

// Decodes `record`'s body with `decode` and hands it to `apply`.
template <typename Decode, typename Use>
static absl::Status With(Decode decode, std::string_view in, Use use) {
  auto body = decode(in);
  if (!body.ok()) return body.status();
  return use(*body);
}

absl::Status Executor::Dispatch(const RecordView& record) {
  switch (static_cast<RecordKind>(record.kind)) {
    case RecordKind::kReceived:
      return With(DecodeReceived, record.body, [&](auto& body) { return Receive(body); });
    case RecordKind::kProgress:
      return With(DecodeProgress, record.body, [&](auto& body) { return Advance(body); });
    case RecordKind::kTimerFired:
      return With(DecodeTimerFired, record.body, [&](auto& body) { return Fire(body); });
    case RecordKind::kOpened: return With(DecodeOpened, record.body, [&](auto& body) { return Open(body); });
    case RecordKind::kEpochBegan:
      return With(DecodeEpochBegan, record.body, [&](auto& body) { return Begin(body); });
    case RecordKind::kConnected:
      return With(DecodeConnectionOnly, record.body, [&](auto& body) -> absl::Status {
        auto connection = Known(body.connection);
        if (!connection.ok()) return connection.status();
        if ((*connection)->connected_) return absl::InvalidArgumentError("connected twice");
        (*connection)->connected_ = true;
        // Aborted before the Server has heard of it, for the call that would tell it: it never does.
        if ((*connection)->abort_wanted_) {
          (*connection)->closed_told_ = true;
        } else {
          server_->OnConnect(**connection);
        }
        return absl::OkStatus();
      });
    case RecordKind::kPeerClosed:
      return With(DecodeConnectionOnly, record.body, [&](auto& body) -> absl::Status {
        auto connection = Known(body.connection);
        if (!connection.ok()) return connection.status();
        if ((*connection)->peer_closed_) return absl::InvalidArgumentError("closed twice");
        (*connection)->peer_closed_ = (*connection)->peer_closed_owed_ = true;
        GivePeerClosed(**connection);
        return absl::OkStatus();
      });
    case RecordKind::kBroken:
      return With(DecodeBroken, record.body, [&](auto& body) -> absl::Status {
        auto connection = Known(body.connection);
        if (!connection.ok()) return connection.status();
        End(**connection, CloseReason::kReset);
        return absl::OkStatus();
      });
    case RecordKind::kEnded:
      return With(DecodeConnectionOnly, record.body, [&](auto& body) -> absl::Status {
        auto connection = Known(body.connection);
        if (!connection.ok()) return connection.status();
        End(**connection, (*connection)->abort_wanted_ ? (*connection)->abort_reason_ : CloseReason::kDone);
        return absl::OkStatus();
      });
    case RecordKind::kFault:
      return With(DecodeFault, record.body, [&](auto& body) -> absl::Status {
        auto connection = Known(body.connection);
        if (!connection.ok()) return connection.status();
        LOG(ERROR) << "the other node's Server threw, or died, in a call for connection " << body.connection
                   << " of " << (*connection)->peer() << ", which is aborted";
        (*connection)->closed_told_ = body.ending != 0;
        AbortFaulty(**connection);
        return absl::OkStatus();
      });
    case RecordKind::kStorage:
      return With(DecodeStorage, record.body, [&](auto& body) -> absl::Status {
        storage_writable_ = body.writable != 0;
        if (!storage_writable_) storage_full_lsn_ = record.lsn;
        server_->OnStorage(storage_writable_);
        return absl::OkStatus();
      });
  }
  return absl::InvalidArgumentError(absl::StrCat("unknown kind ", record.kind));
}

static absl::Status OtherData(const std::string& own, const std::string& primarys) {
  const auto shown = [](const std::string& state) { return absl::CEscape(state.substr(0, 200)); };
  return absl::InvalidArgumentError(
      absl::StrCat("this node's data differ from the primary's: it begins with \"", shown(own),
                   "\", the primary began with \"", shown(primarys), "\""));
}

absl::Status Executor::Begin(const EpochBegan& body) {
  if (body.epoch <= epoch_) {
    return absl::InvalidArgumentError(absl::StrCat("epoch ", body.epoch, " after ", epoch_));
  }
  if (epoch_ == 0) {
    if (body.initial_state != initial_state_) return OtherData(initial_state_, body.initial_state);
    random_.seed(body.seed);
  }
  epoch_ = body.epoch;
  for (auto& [id, connection] : connections_) connection->timestamp_offset_ += body.timestamp_shift;
  for (auto& [tuple, departed] : departed_) departed.timestamp_offset += body.timestamp_shift;
  return absl::OkStatus();
}

absl::Status Executor::Open(const Opened& body) {
  if (body.connection <= last_opened_) {
    return absl::InvalidArgumentError(absl::StrCat("connection ", body.connection, " is not new"));
  }
  last_opened_ = body.connection;
  by_tuple_[body.tuple] = body.connection;
  departed_.erase(body.tuple);
  connections_[body.connection] = std::make_unique<ConnectionState>(this, body);
  return absl::OkStatus();
}

absl::StatusOr<ConnectionState*> Executor::Known(ConnectionId id) {
  auto found = connections_.find(id);
  if (found == connections_.end()) {
    return absl::InvalidArgumentError(absl::StrCat("connection ", id, " is not open"));
  }
  current_call.connection = id;
  current_call.peer = found->second->peer().c_str();
  return found->second.get();
}

absl::Status Executor::Receive(const Received& body) {
  auto connection = Known(body.connection);
  if (!connection.ok()) return connection.status();
  if (!(*connection)->connected_) return absl::InvalidArgumentError("bytes before the handshake");
  if ((*connection)->peer_closed_) {
    return absl::InvalidArgumentError("bytes behind the end of the stream");
  }
  SetView(**connection, body.view);  // what is unread comes with the new bytes
  (*connection)->received_ += body.bytes.size();
  if (!(*connection)->closed_) GiveUnread(**connection, body.bytes);
  return absl::OkStatus();
}

void Executor::GiveUnread(ConnectionState& connection, std::string_view fresh) {
  std::string& unread = connection.unread_;
  // The usual way is that the Server takes everything each time, and nothing is copied.
  const bool direct = unread.empty();
  if (!direct) unread.append(fresh);
  const std::string_view all = direct ? fresh : std::string_view(unread);
  if (all.empty()) return;
  size_t consumed = 0;
  giving_ = &connection;
  for (bool again = true; again;) {
    const size_t more = GiveOnce(connection, all.substr(consumed));
    consumed += more;
    const bool writable_owed = connection.writable_wanted_ && !connection.fin_wanted_;
    again = more > 0 && consumed < all.size() && !connection.closed_ && !writable_owed;
  }
  giving_ = nullptr;
  if (connection.closed_) {
    unread = std::string();
  } else if (direct) {
    unread.assign(fresh.substr(consumed));
  } else {
    unread.erase(0, consumed);
  }
  Count(connection);
  EnforceLimits();
}

size_t Executor::GiveOnce(ConnectionState& connection, std::string_view all) {
  const bool room = connection.output_.size() == 0 || connection.fin_wanted_;
  current_call.bytes = all.data();
  current_call.size = all.size();
  const size_t consumed = server_->OnData(connection, all);
  current_call.size = 0;
  CHECK_LE(consumed, all.size()) << "OnData says it consumed more than it was given";
  connection.wants_more_ = consumed == 0 && room;
  return consumed;
}

absl::Status Executor::Advance(const Progress& body) {
  auto connection = Known(body.connection);
  if (!connection.ok()) return connection.status();
  ConnectionState& c = **connection;
  if (SetView(c, body.view)) GiveUnread(c, {});
  GivePeerClosed(c);
  return absl::OkStatus();
}

// Once the Server has had its last chance to read what is unread: see Server::OnPeerClosed.
void Executor::GivePeerClosed(ConnectionState& connection) {
  if (!connection.peer_closed_owed_) return;
  const auto may_read = [&connection] {
    return !connection.unread_.empty() && !connection.closed_ && !connection.wants_more_;
  };
  if (may_read() && !connection.room_wanted()) GiveUnread(connection, {});
  if (may_read() && connection.room_wanted()) return;
  connection.peer_closed_owed_ = false;
  if (!connection.closed_) server_->OnPeerClosed(connection);
  ForgetUnread(connection);
}

bool Executor::SetView(ConnectionState& connection, const PeerView& view) {
  const uint32_t offered = std::max(connection.view_.offered, view.offered);
  if (view.acked >= connection.view_.acked) connection.view_ = view;
  connection.view_.offered = offered;
  const bool was_pending = connection.output_.size() > 0;
  connection.output_.TrimTo(view.acked);
  Count(connection);
  const bool drained = was_pending && connection.output_.size() == 0 && !connection.closed_;
  if (!connection.writable_wanted_ || connection.output_.size() >= connection.high_water_ / 2) return drained;
  connection.writable_wanted_ = false;
  if (connection.fin_wanted_ || connection.abort_wanted_) return drained;
  server_->OnWritable(connection);
  if (connection.closed_) ForgetUnread(connection);
  return !connection.closed_;
}

absl::Status Executor::Fire(const TimerFired& body) {
  auto connection = Known(body.connection);
  if (!connection.ok()) return connection.status();
  auto due = (*connection)->timers_.find(body.timer);
  if (due == (*connection)->timers_.end()) return absl::InvalidArgumentError("timer is not set");
  if (due->second > time_us_) return absl::InvalidArgumentError("timer is not due");
  CancelTimer(**connection, body.timer);
  server_->OnTimer(**connection, body.timer);
  if (!(*connection)->closed_) GiveUnread(**connection, {});
  GivePeerClosed(**connection);
  return absl::OkStatus();
}

void Executor::End(ConnectionState& connection, CloseReason reason) {
  connection.closed_ = true;
  connection.fin_wanted_ = true;  // nothing can be sent from OnClosed
  if (connection.connected_ && !connection.closed_told_) server_->OnClosed(connection, reason);
  Remove(connection, reason);
}

void Executor::Remove(ConnectionState& connection, CloseReason reason) {
  const ConnectionId id = connection.id();
  CancelTimers(connection);
  buffered_ -= connection.counted_;
  connection.counted_ = 0;
  const auto newest = by_tuple_.find(connection.opened_.tuple);
  const bool is_newest = newest != by_tuple_.end() && newest->second == id;
  const bool closed = connection.peer_closed_ || connection.connected_;  // no mere handshake
  if (reason == CloseReason::kDone && closed && is_newest) {
    ForgetDeparted();
    const uint32_t unit = 1u << connection.opened_.options.rcv_wscale;
    const uint32_t window = std::min((connection.window_limit() + unit - 1) / unit, uint32_t{65535});
    departed_[connection.opened_.tuple] = {connection.SeqOf(connection.output_.end()) + 1,
                                           connection.rcv_nxt(),
                                           connection.peer_closed_,
                                           connection.opened_.options,
                                           connection.timestamp_offset_,
                                           static_cast<uint16_t>(window),
                                           time_us_};
    departed_order_.emplace_back(time_us_, connection.opened_.tuple);
  }
  if (is_newest) by_tuple_.erase(newest);
  connections_.erase(id);
}

// --- Bounds --------------------------------------------------------------------------------------

void Executor::ForgetUnread(ConnectionState& connection) {
  connection.unread_ = std::string();
  Count(connection);
}

void Executor::Count(ConnectionState& connection) {
  // What is aborted gives back its memory as soon as nobody looks at it.
  const size_t now = connection.abort_wanted_ ? 0 : connection.output_.size() + connection.unread_.size();
  buffered_ += now - connection.counted_;
  connection.counted_ = now;
}

void Executor::EnforceLimits() {
  while (buffered_ > limits_.buffered) {
    ConnectionState* largest = nullptr;
    for (auto& [id, connection] : connections_) {
      const bool larger = largest == nullptr || connection->counted_ > largest->counted_ ||
                          (connection->counted_ == largest->counted_ && id < largest->id());
      if (larger) largest = connection.get();
    }
    AbortOverLimit(*largest,
                   absl::StrCat(largest->output_.size(), " bytes of output and ", largest->unread_.size(),
                                " of unread input, the most of all, where all have ", buffered_,
                                " (--max_buffered_mb)"));
  }
}

// Ends the connection like Connection::Abort, and gives its memory back.
void Executor::AbortOverLimit(ConnectionState& connection, const std::string& what) {
  ++over_limit_;
  LOG(WARNING) << "aborting connection " << connection.id() << " of " << connection.peer() << ": " << what;
  connection.abort_reason_ = CloseReason::kOverLimit;
  connection.Abort();
  connection.output_.Drop();
  if (giving_ != &connection) connection.unread_ = std::string();
  Count(connection);
}

void Executor::ForgetDeparted() {
  while (!departed_order_.empty() &&
         (departed_order_.size() >= kMaxDeparted || departed_order_.front().first + kTimeWaitUs < time_us_)) {
    auto found = departed_.find(departed_order_.front().second);
    if (found != departed_.end() && found->second.ended_us == departed_order_.front().first) {
      departed_.erase(found);
    }
    departed_order_.pop_front();
  }
}

void Executor::Touch(ConnectionState& connection) {
  if (touched_.empty() || touched_.back() != connection.id()) touched_.push_back(connection.id());
}

void Executor::HashOutput(ConnectionState& connection, char what, std::string_view bytes) {
  // Two checksums chained: of what and where, and of the bytes. Not against an attacker; of all other
  // differences one in 2^64 is missed.
  char head[1 + sizeof(ConnectionId) + sizeof(uint64_t)];
  head[0] = what;
  const uint64_t id = connection.id(), end = connection.output_.end();
  std::copy_n(reinterpret_cast<const char*>(&id), sizeof id, head + 1);
  std::copy_n(reinterpret_cast<const char*>(&end), sizeof end, head + 1 + sizeof id);
  output_hash_ = replication::Crc64(bytes, replication::Crc64({head, sizeof head}, output_hash_));
}

std::vector<ConnectionId> Executor::TakeTouched() {
  std::sort(touched_.begin(), touched_.end());
  touched_.erase(std::unique(touched_.begin(), touched_.end()), touched_.end());
  return std::exchange(touched_, {});
}

const ConnectionState* Executor::Find(ConnectionId id) const {
  auto found = connections_.find(id);
  return found == connections_.end() ? nullptr : found->second.get();
}

const ConnectionState* Executor::FindByTuple(const tcpshim::FourTuple& tuple) const {
  auto found = by_tuple_.find(tuple);
  return found == by_tuple_.end() ? nullptr : Find(found->second);
}

void Executor::ForEach(const std::function<void(const ConnectionState&)>& visit) const {
  std::vector<ConnectionId> ids;
  ids.reserve(connections_.size());
  for (const auto& [id, connection] : connections_) ids.push_back(id);
  std::sort(ids.begin(), ids.end());
  for (ConnectionId id : ids) visit(*connections_.at(id));
}

const Executor::Departed* Executor::FindDeparted(const tcpshim::FourTuple& tuple) const {
  auto found = departed_.find(tuple);
  if (found == departed_.end() || found->second.ended_us + kTimeWaitUs < time_us_) return nullptr;
  return &found->second;
}

void Executor::SetTimer(ConnectionState& connection, uint32_t timer, int64_t due_us) {
  if (connection.abort_wanted_) return;
  CancelTimer(connection, timer);
  timers_.insert({due_us, connection.id(), timer});
  connection.timers_[timer] = due_us;
}

void Executor::CancelTimer(ConnectionState& connection, uint32_t timer) {
  auto due = connection.timers_.find(timer);
  if (due == connection.timers_.end()) return;
  timers_.erase({due->second, connection.id(), timer});
  connection.timers_.erase(due);
}

void Executor::CancelTimers(ConnectionState& connection) {
  for (const auto& [timer, due] : connection.timers_) timers_.erase({due, connection.id(), timer});
  connection.timers_.clear();
}

std::optional<Executor::DueTimer> Executor::NextTimer() const {
  if (timers_.empty()) return std::nullopt;
  const auto& [due, connection, timer] = *timers_.begin();
  return DueTimer{due, connection, timer};
}

}  // namespace understudy
