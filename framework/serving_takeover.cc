// The endpoints of the dead: restored from what the log says of them (claims 1, 9, 18, 29).
//
// Order: RestoreEndpoints while the gate is closed; then listener, service address, gate; then
// ResendPending, and ResumeTurns. See docs/design.md, "Takeover".
#include <algorithm>

#include "framework/serving.h"
#include "glog/logging.h"
#include "tcpshim/endpoint.h"

namespace understudy {

using tcpshim::Endpoint;
using tcpshim::Segment;
using tcpshim::Seq;

namespace {

// Segments resent by hand for one connection: an initial window (RFC 6928). The first of them brings back
// the client's true ACK number, from which the kernel goes on.
constexpr int kResendSegments = 10;
// The first of them comes again after so long, then after twice and four times as long: at 0.2, 0.6 and 1.4
// s.
constexpr std::chrono::milliseconds kResendAgain{200};
constexpr int kResendsAgain = 3;
// How long a client is waited for that this host has no route to.
constexpr std::chrono::seconds kRouteWait{60};
constexpr size_t kRouteTriesPerTick = 100;

constexpr size_t kSmallestMss = 48, kTimestampsSize = 12;  // the kernel's least, too; of the option

bool NothingPending(const ConnectionState& state) {
  return state.output().size() == 0 && !state.fin_wanted() && !state.abort_wanted() && state.connected();
}

tcpshim::NorthWrapper::Input InputOf(const ConnectionState& state) {
  using Input = tcpshim::NorthWrapper::Input;
  return state.peer_closed() ? Input::kEnded : Input::kExpected;
}

}  // namespace

Serving::RestoreOutcome Serving::RestoreEndpoints(uint32_t timestamp_shift) {
  RestoreOutcome outcome;
  taking_over_ = true;
  timestamp_shift_ = timestamp_shift;
  executor_->ForEach([&](const ConnectionState& state) {
    if (IsOfDeadHost(state)) {
      not_restored_.push_back(state.id());
    } else if (!state.connected()) {
      unproven_.insert(state.id());
    }
  });
  // Connections with something pending come first: somebody is waiting on them.
  for (const bool idle : {false, true}) {
    executor_->ForEach([&](const ConnectionState& state) {
      if (NothingPending(state) != idle || executor_->FindByTuple(state.opened().tuple) != &state) return;
      if (IsRestoredLate(state) || IsOfDeadHost(state)) return;
      RestoreOne(state) ? ++outcome.restored : ++outcome.failed;
    });
  }
  outcome.without_route = routeless_.size();
  outcome.restored -= routeless_.size();
  return outcome;
}

Endpoint Serving::EndpointOf(const ConnectionState& state) const {
  const OutputQueue& output = state.output();
  const uint64_t acked = state.view().acked;
  // As far as the dead primary may have sent: the client may have acknowledged any of it.
  const uint64_t sent_end = std::min(output.end(), acked + kMaxUnacked);
  Endpoint endpoint;
  endpoint.tuple = state.opened().tuple;
  endpoint.options = state.opened().options;
  endpoint.snd_una = state.SeqOf(acked);
  endpoint.sent = output.View(acked, sent_end);
  endpoint.fin_sent = state.fin_wanted() && sent_end == output.end();
  endpoint.rcv_nxt = state.rcv_nxt();
  endpoint.snd_wnd = state.view().window;
  endpoint.rcv_edge = state.rcv_nxt() + state.window_limit();
  endpoint.timestamp = state.timestamp_offset() + timestamp_shift_ + Milliseconds32(clock_->Monotonic());
  return endpoint;
}

// Of a client of the dead primary's host, and one of this host whose handshake is not complete.
bool Serving::IsOfDeadHost(const ConnectionState& state) {
  return state.opened().local || (!state.connected() && IsLocal(state.opened().tuple.remote.ip));
}

// Of very many handshakes: a flood of SYNs must not delay the takeover.
bool Serving::IsRestoredLate(const ConnectionState& state) const {
  return !state.connected() && unproven_.size() > kMaxRestoredHandshakes;
}

// Into the south wrapper's table, and a socket for it; not of those whose clients are most likely nobody.
bool Serving::RestoreOne(const ConnectionState& state) {
  const Endpoint endpoint = EndpointOf(state);
  Live& live = AddLive(state.id());
  if (IsLocal(endpoint.tuple.remote.ip)) return RestoreLocal(live, endpoint);
  const uint32_t flags = SOUTH_OPEN | SOUTH_NO_SOCKET | (state.fin_wanted() ? SOUTH_FIN_OK : 0);
  const tcpshim::SouthWrapper::ServerView said{
      endpoint.snd_una + static_cast<uint32_t>(endpoint.sent.size()) + endpoint.fin_sent, endpoint.rcv_nxt,
      endpoint.rcv_edge, endpoint.timestamp};
  auto slot = south_.wrapper->Add(endpoint.tuple, state.opened().iss, endpoint.rcv_nxt, flags,
                                  endpoint.options.rcv_wscale, &said);
  if (slot.ok()) {
    live.slot = *slot;
    live.restored = true;
    live.syn_ack_sent = true;
    live.released = Released::Of(state);  // all that this node has stored is stable: it alone holds it
    if (IsRestoredLate(state)) return true;
    const absl::Status made = RestoreSocket(live, endpoint);
    if (made.ok()) return true;
    if (absl::IsUnavailable(made)) {
      AwaitRoute(live, made);
      return true;
    }
    LOG(ERROR) << "cannot restore " << endpoint.tuple.ToString() << ": " << made;
  } else {
    LOG(ERROR) << "cannot restore " << endpoint.tuple.ToString() << ": " << slot.status();
  }
  live.restored = false;
  not_restored_.push_back(live.id);
  return false;
}

absl::Status Serving::RestoreSocket(Live& live, const Endpoint& endpoint) {
  const absl::Status made = north_->Restore(live.id, endpoint, InputOf(*live.state));
  if (!made.ok()) return made;
  live.has_socket = true;
  live.written = live.state->view().acked + endpoint.sent.size();
  live.fin_written = endpoint.fin_sent;
  live.untimed = live.slot.has_value();
  if (live.slot.has_value() && !endpoint.sent.empty()) live.unheard_until = live.written;
  if (live.slot.has_value()) south_.wrapper->Disallow(*live.slot, SOUTH_NO_SOCKET);
  return absl::OkStatus();
}

// The Server had closed, and the client has not: the TCP that waited for its FIN (FIN_WAIT_2) has died with
// its host. What the client has sent just now cannot be seen from here. When it comes again, TCP acknowledges
// it if it is a FIN, and refuses data. False: it has refused, or cannot be told.
bool Serving::RestoreFinWait(const tcpshim::FourTuple& tuple, const Executor::Departed& departed) {
  if (fin_waits_.size() >= Executor::kMaxDeparted) fin_waits_.clear();
  if (int64_t& known = fin_waits_[tuple]; std::exchange(known, departed.ended_us) == departed.ended_us)
    return false;
  Endpoint endpoint;
  endpoint.tuple = tuple;
  endpoint.options = departed.options;
  endpoint.snd_una = departed.snd_nxt - 1;
  endpoint.fin_sent = true;
  endpoint.rcv_nxt = departed.rcv_nxt;
  endpoint.rcv_edge = departed.rcv_nxt + (uint32_t{departed.window} << departed.options.rcv_wscale);
  endpoint.timestamp = departed.timestamp_offset + Milliseconds32(clock_->Monotonic());
  if (const absl::Status made = north_->RestoreClosed(endpoint); !made.ok()) {
    LOG_EVERY_T(WARNING, 10) << "cannot wait for the FIN of " << tuple.remote.ToString() << ": " << made;
    return false;
  }
  ++counters_.fin_waits_restored;
  return true;
}

// A client of this host: what it says goes by loopback from now on, where no south wrapper sees it, and
// nothing is sent by hand. It goes on when TCP's timers say so.
bool Serving::RestoreLocal(Live& live, const Endpoint& endpoint) {
  live.restored = true;
  live.syn_ack_sent = true;
  live.released = Released::Of(*live.state);
  const absl::Status made = RestoreSocket(live, endpoint);
  if (made.ok()) return true;
  LOG(ERROR) << "cannot restore " << endpoint.tuple.ToString() << ": " << made;
  live.restored = false;
  not_restored_.push_back(live.id);
  return false;
}

// A route that a daemon has not learned yet, or that went with something else: the client is in no hurry to
// give up.
void Serving::AwaitRoute(Live& live, const absl::Status& why) {
  LOG_EVERY_T(WARNING, 1) << why << "; waits for one";
  routeless_.push_back({live.id, clock_->Monotonic() + kRouteWait});
}

void Serving::RetryRoutes() {
  if (routeless_.empty() || taking_over_ || silent_) return;
  const auto now = clock_->Monotonic();
  for (size_t left = std::min(routeless_.size(), kRouteTriesPerTick); left > 0; --left) {
    const Routeless next = routeless_.front();
    routeless_.pop_front();
    Live* live = Find(next.id);
    if (live == nullptr || live->has_socket) continue;
    const absl::Status made = RestoreSocket(*live, EndpointOf(*live->state));
    if (made.ok()) {
      ResendOne(*live);
      MarkDirty(*live);
      Watch(*live);
    } else if (absl::IsUnavailable(made) && now < next.until) {
      routeless_.push_back(next);
    } else {
      LOG(ERROR) << "cannot restore " << live->state->opened().tuple.ToString() << ": " << made;
      unproven_.erase(next.id);
      Append(RecordKind::kBroken, Encode(Broken{next.id, EHOSTUNREACH}), 0);
      Drop(*live);
    }
  }
  FlushDirty();
}

void Serving::ResendPending() {
  for (const bool idle : {false, true}) {
    executor_->ForEach([&](const ConnectionState& state) {
      Live* live = Find(state.id());
      if (live != nullptr && live->has_socket && NothingPending(state) == idle) ResendOne(*live);
    });
  }
}

// The bytes count as sent, so the kernel would resend them only at its RTO, which without a history is a
// second. Sent with the socket's own TSval: never ahead of what the socket itself sends next.
void Serving::ResendOne(Live& live) {
  if (!live.slot.has_value()) return;
  const ConnectionState& state = *live.state;
  // The client may never have had our SYN-ACK; if it had, it answers with a duplicate acknowledgement.
  if (!state.connected()) {
    ++live.syn_acks;
    SendSynAck(live);
  }

  const uint64_t acked = state.view().acked;
  ResendByHand(live, {acked, live.written, live.fin_written});
  // A client that was last offered no window waits for an update, which may have died with the primary.
  if (acked == live.written && !live.fin_written && state.view().offered < state.opened().options.own_mss) {
    Segment segment = AckByHand(live);
    segment.seq = state.SeqOf(acked);
    (void)south_.sender->Send(segment);
  }
}

void Serving::ResendByHand(Live& live, Resent what) {
  live.resent.reset();
  if (what.from == what.end && !what.fin) return;
  what.next = Resend(live, what, kResendSegments);
  what.again_at = clock_->Monotonic() + kResendAgain;
  live.resent = what;
}

// A restored socket has written what may be lost, and its kernel would find out in seconds: it is watched by
// hand, as what was resent is. (What the kernel has not sent yet is not: it would take no acknowledgement of
// that.)
void Serving::WatchUntimed(Live& live) {
  if (!live.untimed || live.unheard_until != 0) return;
  const uint64_t sent = live.written - north_->UnsentBytes(live.id);
  if (live.resent.has_value()) {
    live.resent->end = std::max(live.resent->end, sent);
    live.resent->next = std::max(live.resent->next, sent);
  } else if (const uint64_t acked = ViewOf(live).acked; acked < sent) {
    live.resent = Resent{acked, sent, false, sent, clock_->Monotonic() + kResendAgain, 0};
  }
}

// What was resent by hand may be lost, too. The kernel's timer, which knows no round-trip time, is at a
// second then, and at three before Linux 6.15. Until it fires, the first segment is resent as TCP would:
// alone, ever more seldom.
//
// When an acknowledgement has told the kernel a round-trip time it resends the rest within 0.2 s. Not every
// one does: not the answer to what the client had already, which echoes what the dead host has said. Until
// then all that may have been sent is resent by hand, as much at once as at the beginning of a connection.
void Serving::ResendAgain(Live& live) {
  Resent& what = *live.resent;
  if (what.fin && FinAcked(live)) return live.resent.reset();
  if (const uint64_t acked = ViewOf(live).acked; acked > what.from) {
    live.untimed = !north_->HasRoundTripTime(live.id);
    if (!live.untimed || acked >= what.end) {
      live.resent.reset();
    } else if (acked >= what.next) {
      ResendByHand(live, {acked, what.end, what.fin});
    } else {
      what.from = acked;
      what.again_at = clock_->Monotonic() + kResendAgain;
      what.times = 0;
    }
  } else if (clock_->Monotonic() >= what.again_at) {
    what.next = std::max(what.next, Resend(live, what, 1));
    what.again_at += kResendAgain * (2 << what.times);
    if (++what.times == kResendsAgain) live.resent.reset();
  }
}

// A lone acknowledgement; the sequence number and what goes with it are left to the caller.
Segment Serving::AckByHand(const Live& live) const {
  const ConnectionState& state = *live.state;
  const tcpshim::TcpOptions& options = state.opened().options;
  Segment segment;
  segment.source = state.opened().tuple.local;
  segment.destination = state.opened().tuple.remote;
  segment.flags.ack = true;
  segment.ack = live.released.rcv_nxt;
  // What has been offered, no more and no less (I6).
  const uint32_t unit = 1u << options.rcv_wscale;
  const auto sent = south_.wrapper->Sent(*live.slot);
  const uint32_t room = sent.has_value() ? sent->rcv_edge - segment.ack : live.released.window_limit;
  segment.window = static_cast<uint16_t>(std::min((room + unit - 1) / unit, uint32_t{65535}));
  if (options.timestamps) segment.timestamps = {{TimestampByHand(live), 0}};
  return segment;
}

// So many of its first segments, and the FIN if it comes next. No byte more: the kernel takes no
// acknowledgement of what it does not count as sent. Returns up to where.
uint64_t Serving::Resend(Live& live, const Resent& what, int segments) {
  const ConnectionState& state = *live.state;
  const tcpshim::TcpOptions& options = state.opened().options;
  Segment segment = AckByHand(live);
  // What this host's kernel would send, and what both ends have said that they can receive: either may be on
  // a wire that takes less than this host's.
  const size_t agreed = std::max<size_t>(std::min(options.peer_mss, options.own_mss), kSmallestMss);
  size_t size = agreed - (options.timestamps ? kTimestampsSize : 0);
  if (const size_t kernels = north_->SegmentSize(live.id); kernels != 0) size = std::min(size, kernels);
  uint64_t at = what.from;
  for (int i = 0; i < segments && (at < what.end || (i == 0 && what.fin)); ++i) {
    segment.payload = state.output().View(at, std::min<uint64_t>(at + size, what.end));
    segment.seq = state.SeqOf(at);
    const uint64_t next = at + segment.payload.size();
    segment.flags.psh = next == what.end;
    segment.flags.fin = next == what.end && what.fin;
    ++counters_.segments_resent;
    const absl::Status sent = south_.sender->Send(segment);
    if (absl::IsInvalidArgument(sent) && size > kSmallestMss) {
      // The route takes less than the kernel has found out.
      ++counters_.segments_refused;
      size = std::max(size / 2, kSmallestMss);
      continue;
    }
    at = next;
  }
  return at;
}

// Until the client says something, all that the dead primary may have sent counts as sent (see RestoreOne).
// What lies beyond the client's window has not been sent, though, and the kernel believes that it has: it
// would resend it when its timer says so, which doubles while the window is closed, and not when the window
// opens. So the socket is made once more, from the client's first word: sent is what its window allowed, and
// all else is written as new. Then the kernel knows how things are, and does what it does for any client.
//
// That word may be an old one, overtaken by a wider window which the dead primary has used: the client
// acknowledges more then than this socket has sent, and would be ignored for ever. So the socket is made a
// third time, with all of it sent (HasLostGrip).
void Serving::TakeGrip(Live& live) {
  const bool again = live.unheard_until == 0;
  const uint64_t sent_end =
      again ? std::exchange(live.claimed_until, 0) : std::exchange(live.unheard_until, 0);
  ExecuteWaiting();  // the log's RCV.NXT is that of what has been read, below
  const ConnectionState& state = *live.state;
  const tcpshim::TcpOptions& options = state.opened().options;
  const auto client = south_.wrapper->Client(*live.slot);
  PeerView view = ViewOf(live);
  // Edges of windows do not move left, so the log's counts too.
  uint64_t edge = std::max(view.acked + (uint64_t{client->window} << options.snd_wscale),
                           state.view().acked + state.view().window);
  if (again) {
    edge = sent_end;
  } else if (edge >= sent_end) {
    return;  // all of it may have been sent
  } else {
    live.claimed_until = sent_end;
  }

  // A segment that comes meanwhile is as good as lost.
  south_.wrapper->Allow(*live.slot, SOUTH_NO_SOCKET);
  tcpshim::CapturedBytes bytes;
  auto endpoint = north_->Capture(live.id, bytes);
  if (!endpoint.ok()) {
    south_.wrapper->Disallow(*live.slot, SOUTH_NO_SOCKET);
    LOG_EVERY_T(WARNING, 1) << "a client with a small window goes on when the kernel's timers say so: "
                            << endpoint.status();
    return;
  }
  endpoint->options = options;
  endpoint->snd_una = state.SeqOf(view.acked);
  endpoint->sent = state.output().View(view.acked, edge);
  endpoint->fin_sent = false;
  endpoint->snd_wnd = edge - view.acked;
  if (const auto sent = south_.wrapper->Sent(*live.slot)) {
    endpoint->rcv_edge = tcpshim::SeqMax(endpoint->rcv_edge, sent->rcv_edge);
  }
  // A FIN that has arrived and not been read is not acknowledged either (I1): the client repeats it.
  if (endpoint->rcv_nxt - static_cast<uint32_t>(endpoint->unread.size()) == state.rcv_nxt() + 1) {
    --endpoint->rcv_nxt;
  }
  north_->ForgetSilently(live.id);
  const absl::Status made = north_->Restore(live.id, *endpoint, InputOf(state));
  if (!made.ok()) {
    LOG(ERROR) << "cannot restore again: " << made;
    ++counters_.broken;
    Append(RecordKind::kBroken, Encode(Broken{live.id, ECONNABORTED}), 0);
    return Drop(live);
  }
  ++counters_.regripped;
  live.written = edge;
  live.fin_written = live.blocked = live.paused = false;
  south_.wrapper->Disallow(*live.slot, SOUTH_NO_SOCKET);
  ResendByHand(live, {view.acked, edge, false});
  WriteOutput(live);
}

// True: the client acknowledges what the dead primary has sent and this socket has not.
bool Serving::HasLostGrip(Live& live) {
  if (live.claimed_until == 0) return false;
  const auto client = south_.wrapper->Client(*live.slot);
  if (!client.has_value()) return false;
  const uint64_t sent = live.written - north_->UnsentBytes(live.id);
  if (sent >= live.claimed_until) live.claimed_until = 0;
  const uint32_t fin = live.fin_written ? 1 : 0;
  return live.claimed_until != 0 && tcpshim::SeqAfter(client->una, live.state->SeqOf(sent) + fin);
}

void Serving::ResumeTurns(uint64_t epoch, uint32_t timestamp_shift, const std::string& node,
                          const std::optional<Fault>& fault) {
  Append(RecordKind::kEpochBegan, Encode(EpochBegan{epoch, 0, timestamp_shift, node}), 0);
  if (fault.has_value()) Append(RecordKind::kFault, Encode(*fault), fault->connection);
  for (ConnectionId id : std::exchange(not_restored_, {})) {
    Append(RecordKind::kBroken, Encode(Broken{id, ECONNABORTED}), 0);
    if (Live* live = Find(id)) Drop(*live);  // none: of a client of the dead host
  }
  // Their clients had begun anew from the same port, so nobody waits for these.
  std::vector<ConnectionId> superseded;
  std::vector<ConnectionId> late;
  executor_->ForEach([&](const ConnectionState& state) {
    if (executor_->FindByTuple(state.opened().tuple) != &state) {
      superseded.push_back(state.id());
    } else if (Find(state.id()) == nullptr) {
      late.push_back(state.id());
    }
  });
  for (ConnectionId id : superseded) {
    Append(RecordKind::kBroken, Encode(Broken{id, ECONNRESET}), 0);
    unproven_.erase(id);
  }
  // What the dead primary owed: output beyond what it may have sent, aborts, ends.
  executor_->ForEach([&](const ConnectionState& state) {
    Live* live = Find(state.id());
    if (live == nullptr || !live->restored) return;
    MarkDirty(*live);
    Watch(*live);
  });
  taking_over_ = false;
  local_ips_.clear();
  timestamp_shift_ = 0;
  FlushDirty();
  EndTurn();
  if (silent_) return;
  for (ConnectionId id : late) {
    if (RestoreOne(*executor_->Find(id))) continue;
    Append(RecordKind::kBroken, Encode(Broken{id, ECONNABORTED}), 0);
    Drop(*Find(id));
  }
  not_restored_.clear();
  // A client that has our SYN-ACK answers the one of ResendPending with a duplicate acknowledgement.
  std::vector<ConnectionId> proven;
  for (ConnectionId id : unproven_) {
    const Live& live = *Find(id);
    if (south_.wrapper->WakeWhenAcked(*live.slot, live.state->opened().iss + 1)) proven.push_back(id);
  }
  for (ConnectionId id : proven) Prove(*Find(id));
  if (!late.empty() || !proven.empty()) EndTurn();
}

void Serving::Stop() {
  silent_ = true;
  tick_->Cancel();
  timers_->Cancel();
  south_events_.reset();
}

void Serving::FallSilent() {
  Stop();  // if it was not: a Server that threw has stopped already, and its clients shall not hear of it
  if (north_ == nullptr) return;
  north_->StopListening();
  for (ConnectionId id : Ids()) {
    const Live& live = *Find(id);
    // A client of this host cannot go on with another one, and shall know.
    const bool local = south_.wrapper != nullptr && !live.slot.has_value() && !live.superseded;
    if (live.has_socket) local ? north_->Abort(id) : north_->ForgetSilently(id);
    if (live.slot.has_value()) south_.wrapper->Remove(*live.slot);
  }
  live_.clear();
}

}  // namespace understudy
