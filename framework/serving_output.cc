// What leaves: output commit carried out, acknowledgements, the end of connections.
#include <algorithm>

#include "framework/serving.h"
#include "glog/logging.h"
#include "tcpshim/endpoint.h"

namespace understudy {

using replication::Lsn;
using tcpshim::Segment;
using tcpshim::Seq;
using tcpshim::SouthWrapper;

namespace {
// After the Server has closed: a client that has all that was sent may still send so long and so much before
// it ends its stream. One that does not take what was sent is given up.
constexpr std::chrono::seconds kLinger{1};
constexpr uint64_t kMaxLingerBytes = 64 << 10;
constexpr std::chrono::seconds kGiveUpAfter{60};
constexpr std::chrono::seconds kDoubtInterval{1};
// So often the client's acknowledgement is looked for again at once when TCP has not got it yet.
constexpr uint8_t kSoonAgain = 3;
}  // namespace

void Serving::OnStable(Lsn lsn) {
  if (silent_) return;
  ReleaseStable(lsn);
  EndTurn();
}

void Serving::ReleaseStable(Lsn lsn) {
  if (journal_->StableAtOnce() && !taking_over_ && !CommitAlone()) return;
  commit_.ReleaseUpTo(lsn, [this](Lsn at, ConnectionId id, const Released& released) {
    if (MustHold(at) || undurable_.contains(id)) {
      undurable_[id] = released;
    } else {
      Release(id, released);
    }
  });
  FlushDirty();
  if (!refused_by_log_.empty() && journal_->CanAppend()) {
    for (ConnectionId id : std::exchange(refused_by_log_, {})) north_->Resume(id);
  }
}

void Serving::Release(ConnectionId id, const Released& released) {
  Live* live = Find(id);
  if (live == nullptr) return;
  live->released = released;
  MarkDirty(*live);
}

void Serving::MarkDirty(Live& live) {
  if (live.dirty) return;
  live.dirty = true;
  dirty_.push_back(live.id);
}

void Serving::FlushDirty() {
  for (ConnectionId id : std::exchange(dirty_, {})) {
    Live* live = Find(id);
    if (live == nullptr) continue;
    live->dirty = false;
    Flush(*live);
  }
}

// Lets leave what is stable for one connection. May end it: `live` is gone then.
void Serving::Flush(Live& live) {
  if (!live.has_socket) {
    if (live.released.abort && !live.state->connected()) return EndHandshake(live);
    if (!live.syn_ack_sent && live.slot.has_value()) {
      live.syn_ack_sent = true;
      south_.wrapper->Allow(*live.slot, SOUTH_OPEN);
      SendSynAck(live);
    }
    return;
  }
  if (live.slot.has_value()) {
    south_.wrapper->SetWindowLimit(*live.slot, live.released.window_limit);
    south_.wrapper->SetStable(*live.slot, live.released.rcv_nxt);
  }
  if (live.released.abort) {
    if (live.slot.has_value()) south_.wrapper->Allow(*live.slot, SOUTH_RST_OK);
    north_->Abort(live.id);
    ++counters_.ended;
    Append(RecordKind::kEnded, Encode(ConnectionOnly{live.id}), 0);
    return Drop(live);
  }
  WriteOutput(live);
  if (live.slot.has_value()) SendHeldAck(live);
  if (live.fin_written) Look(live);  // the client's FIN may be what has become stable
}

void Serving::WriteOutput(Live& live) {
  const OutputQueue& output = live.state->output();
  if (!live.blocked) {
    // While shutting down, no heir will have to claim it as sent.
    const uint64_t limit = ShuttingDown() ? live.released.output
                                          : std::min(live.released.output, live.released.acked + kMaxUnacked);
    const std::string_view bytes = output.View(live.written, limit);
    if (!bytes.empty()) {
      const iovec piece{const_cast<char*>(bytes.data()), bytes.size()};
      const size_t taken = north_->Write(live.id, {&piece, 1});
      live.written += taken;
      live.blocked = taken < bytes.size();
      counters_.bytes_sent += taken;
      WatchUntimed(live);
      Watch(live);
    }
  }
  if (live.released.fin && !live.fin_written && live.written == output.end()) {
    if (live.slot.has_value()) south_.wrapper->Allow(*live.slot, SOUTH_FIN_OK);
    live.fin_written = true;
    live.since = clock_->Monotonic();
    north_->ShutdownWrite(live.id);
    Watch(live);
  }
}

// The reply has carried the acknowledgement; where there was none, it goes alone.
void Serving::SendHeldAck(Live& live) {
  const auto held = south_.wrapper->TakeHeldAck(*live.slot);
  if (!held.has_value()) return;
  const Opened& opened = live.state->opened();
  Segment segment;
  segment.source = opened.tuple.local;
  segment.destination = opened.tuple.remote;
  segment.flags.ack = true;
  segment.seq = held->seq;
  segment.ack = held->ack;
  segment.window = held->window;
  if (opened.options.timestamps) segment.timestamps = {{held->tsval, held->tsecr}};
  ++counters_.acks_by_hand;
  (void)south_.sender->Send(segment);  // as good as a lost segment when it fails
}

void Serving::OnFenceMended() {
  for (ConnectionId id : Ids()) BelieveTcp(*Find(id));
}

// An acknowledgement of what the south wrapper has not seen leave is not believed, and does not come again.
// But TCP has taken it: what TCP knows counts.
void Serving::BelieveTcp(Live& live) {
  live.next_doubt = clock_->Monotonic() + kDoubtInterval;
  if (!live.has_socket || !live.slot.has_value() || live.superseded || live.unheard_until != 0) return;
  const Seq sent = live.state->SeqOf(live.written) + live.fin_written;
  const Seq taken = live.state->SeqOf(AckedForTcp(live));
  const auto client = south_.wrapper->Client(*live.slot);
  if (!client.has_value() || !tcpshim::SeqAfter(taken, client->una)) {
    return south_.wrapper->NotePast(*live.slot, sent, live.state->opened().iss);
  }
  ++counters_.acks_past_programs;
  south_.wrapper->NotePast(*live.slot, sent, taken);
  Watch(live);
}

// A TSval for a segment by hand: not before what has left (I6), and not ahead of what the socket itself
// will send next, or the client would drop that as old (RFC 7323, PAWS).
uint32_t Serving::TimestampByHand(const Live& live) const {
  uint32_t now = live.has_socket ? north_->CurrentTimestamp(live.id)
                                 : live.state->timestamp_offset() + timestamp_shift_ +
                                       Milliseconds32(clock_->Monotonic());
  if (const auto sent = south_.wrapper->Sent(*live.slot)) now = tcpshim::SeqMax(now, sent->tsval);
  return now;
}

void Serving::SendSynAck(Live& live) {
  const Opened& opened = live.state->opened();
  Segment segment;
  segment.source = opened.tuple.local;
  segment.destination = opened.tuple.remote;
  segment.flags.syn = segment.flags.ack = true;
  segment.flags.ece = opened.ecn && !live.restored;  // a restored socket knows no ECN
  segment.seq = opened.iss;
  segment.ack = opened.irs + 1;
  segment.window = opened.window;
  segment.mss = opened.options.own_mss;
  if (opened.options.window_scaling) segment.wscale = opened.options.rcv_wscale;
  segment.sack_permitted = opened.options.sack;
  // The kernel's own TSval, to the digit: since Linux 6.15 it takes a handshake's last ACK only if that
  // echoes a TSval it has sent itself. A restored connection has no handshake in the kernel any more, but
  // a clock that must not go back.
  if (opened.options.timestamps) {
    segment.timestamps = {{live.restored ? TimestampByHand(live) : opened.timestamp, opened.timestamp_echo}};
  }
  ++counters_.syn_acks_by_hand;
  (void)south_.sender->Send(segment);
}

// The end of the output that the client has acknowledged and TCP has taken; a FIN counts as one byte more.
//
// The south wrapper's programs believe a segment before TCP has looked at its checksum, and a byte that the
// log takes for acknowledged is gone for ever.
uint64_t Serving::AckedForTcp(const Live& live) const {
  const uint64_t sent = live.written + live.fin_written;
  return sent - std::min<uint64_t>(north_->UnackedBytes(live.id), sent);
}

// TCP has seen what the south wrapper's programs have.
bool Serving::IsConfirmed(const Live& live) const {
  const auto client = south_.wrapper->Client(*live.slot);
  return client.has_value() && !tcpshim::SeqAfter(client->una, live.state->SeqOf(AckedForTcp(live)));
}

// What the client has acknowledged and offers now, as the log puts it.
PeerView Serving::ViewOf(const Live& live) const {
  PeerView view = live.state->view();
  if (!live.slot.has_value()) {
    view.acked = live.written;  // standalone: TCP's word is good enough, nobody will take over
    return view;
  }
  if (const auto client = south_.wrapper->Client(*live.slot)) {
    const int32_t ahead = static_cast<int32_t>(client->una - live.state->SeqOf(view.acked));
    if (ahead > 0) view.acked = std::min({view.acked + ahead, live.written, AckedForTcp(live)});
    view.window = uint32_t{client->window} << live.state->opened().options.snd_wscale;
  }
  if (const auto sent = south_.wrapper->Sent(*live.slot)) view.offered = sent->rcv_edge - sent->last_ack;
  return view;
}

// --- What depends on the client's acknowledgements -----------------------------------------------

// Such connections are watched. They are looked at when something has changed: the south wrapper reports
// the acknowledgement that matters (WakeWhenAcked), and the rest is known here.
bool Serving::MustWatch(const Live& live) {
  const ConnectionState& state = *live.state;
  return live.paused || live.unheard_until != 0 || live.claimed_until != 0 || live.resent.has_value() ||
         state.fin_wanted() || state.writable_wanted() || state.room_wanted() ||
         state.pending_output() >= state.progress_step();
}

void Serving::Watch(Live& live) {
  if (MustWatch(live)) {
    if (watched_.insert(live.id).second) {
      live.next_doubt = clock_->Monotonic() + kDoubtInterval;
      ScheduleTick();
    }
    Look(live);
  }
}

void Serving::Look(Live& live) {
  if (live.look) return;
  live.look = true;
  look_.push_back(live.id);
}

void Serving::CheckWatched() {
  if (ticking_) {  // a report may have been lost, and lingering ends by the clock
    for (ConnectionId id : watched_) Look(*Find(id));
  }
  const auto now = clock_->Monotonic();
  for (ConnectionId id : std::exchange(look_, {})) {
    Live* live = Find(id);
    if (live == nullptr) continue;
    live->look = false;
    if (!live->has_socket || !watched_.contains(id) || CheckFinished(*live)) continue;
    if (live->superseded) {
      CheckSuperseded(*live);
      continue;
    }
    if ((live->unheard_until != 0 && south_.wrapper->Client(*live->slot).has_value()) || HasLostGrip(*live)) {
      TakeGrip(*live);
      live = Find(id);
      if (live == nullptr) continue;
    }
    if (live->resent.has_value()) ResendAgain(*live);
    // Perhaps the fence had a hole, and nobody has noticed.
    if (ticking_ && now >= live->next_doubt) BelieveTcp(*live);
    if (!CheckProgress(*live)) {
      watched_.erase(id);
    } else if (live->slot.has_value() && AwaitAck(*live)) {
      if (IsConfirmed(*live)) {
        live->unconfirmed = 0;
        Look(*live);
      } else if (live->unconfirmed < kSoonAgain) {
        ++live->unconfirmed;
        look_soon_ = true;  // TCP is about to see it, most likely
        ScheduleTick();
      }
    }
  }
}

// Asks for a report of the acknowledgement at which there is something to do. True: it is there already.
bool Serving::AwaitAck(const Live& live) {
  const ConnectionState& state = *live.state;
  const uint64_t end = state.output().end();
  if (live.unheard_until != 0)
    return south_.wrapper->WakeWhenAcked(*live.slot, state.SeqOf(state.view().acked));
  if (live.fin_written) {
    // Once it is acknowledged, what is left to come is the client's FIN, which comes as a record.
    return !FinAcked(live) && south_.wrapper->WakeWhenAcked(*live.slot, state.SeqOf(end) + 1);
  }
  uint64_t at = state.view().acked + state.progress_step();
  if (state.writable_wanted()) at = std::min(at, end - state.high_water() / 2 + 1);
  if (state.room_wanted()) at = std::min(at, end);
  if (live.resent.has_value()) at = std::min(at, live.resent->next);
  if (at > live.written) return false;  // it cannot come before more is written, which is looked at
  return south_.wrapper->WakeWhenAcked(*live.slot, state.SeqOf(at));
}

bool Serving::CheckProgress(Live& live) {
  const ConnectionState& state = *live.state;
  const PeerView view = ViewOf(live);
  const uint64_t gained = view.acked - state.view().acked;
  const uint64_t rest = state.output().end() - view.acked;
  const bool writable = state.writable_wanted() && rest < state.high_water() / 2;
  const bool drained = state.room_wanted() && rest == 0;
  if (gained >= state.progress_step() || (gained > 0 && (writable || drained))) {
    Append(RecordKind::kProgress, Encode(Progress{live.id, view}), live.id);
  }
  if (live.paused && state.pending_output() < state.most_pending() / 2 && !TooMuchPending(state)) {
    live.paused = false;
    north_->Resume(live.id);
  }
  return MustWatch(live);
}

bool Serving::FinAcked(const Live& live) const {
  if (!live.fin_written) return false;
  if (!live.slot.has_value()) return true;  // standalone: the kernel sees to it
  const auto client = south_.wrapper->Client(*live.slot);
  return client.has_value() && client->una == live.state->SeqOf(live.state->output().end()) + 1 &&
         north_->UnackedBytes(live.id) == 0;
}

bool Serving::HasLingered(Live& live) {
  const ConnectionState& state = *live.state;
  if (!live.fin_written || !state.ignores_input() || state.peer_closed()) return false;
  const auto now = clock_->Monotonic();
  const bool has_all = live.slot.has_value() ? FinAcked(live) : north_->UnackedBytes(live.id) == 0;
  if (!has_all) return now - live.since > kGiveUpAfter;
  if (!live.lingers_since.has_value()) {
    live.lingers_since = now;
    live.lingers_from = state.received();
  }
  return now - *live.lingers_since > kLinger || state.received() - live.lingers_from > kMaxLingerBytes;
}

// Both directions done: what the client's FIN is answered with has left, and ours was acknowledged, so
// that nothing would be left for an heir to do.
bool Serving::CheckFinished(Live& live) {
  const ConnectionState& state = *live.state;
  const bool both = state.peer_closed() && live.released.rcv_nxt == state.rcv_nxt() && FinAcked(live);
  if (!both && !HasLingered(live)) return false;
  ++counters_.ended;
  north_->Forget(live.id);
  Append(RecordKind::kEnded, Encode(ConnectionOnly{live.id}), 0);
  Drop(live);
  return true;
}

}  // namespace understudy
