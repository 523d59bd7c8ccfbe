// How connections begin: handshakes, and what becomes of the connection that the log still has of the same
// client and port.
//
// The log learns of a connection at its SYN-ACK, which leaves once `Opened` is stable. From one port a client
// can begin again at once (it has reset the old connection, or that is in TIME_WAIT), and TCP, which makes
// the new SYN-ACK, has let go of the old one then, also if this node has not read all of it yet. So the new
// one is a connection of its own from the first record on, known by its ISS, and its accepted socket waits
// until the old one's end has been executed: the Server never sees two of one peer.
#include <algorithm>

#include "framework/serving.h"
#include "glog/logging.h"
#include "tcpshim/endpoint.h"

namespace understudy {

using tcpshim::FourTuple;
using tcpshim::NorthWrapper;
using tcpshim::TupleOf;

namespace {
constexpr std::chrono::seconds kHandshakeTimeout{75};  // the kernel gives up after 63 s
// After a takeover the SYN-ACKs of handshakes under way are sent like this, as the kernel does it, not too
// many at a time; who has not answered in the end is no client of ours (or repeats its SYN).
constexpr std::chrono::seconds kSendSynAck[] = {std::chrono::seconds(0), std::chrono::seconds(1),
                                                std::chrono::seconds(3)};
constexpr int kSynAcksPerTick = 256;
constexpr std::chrono::seconds kUnprovenTimeout{7};
constexpr int kEvictionLook = 64;
// TCP hides what the client offered in the low bits of a SYN cookie's TSval, which is then behind its clock
// by up to so many milliseconds.
constexpr uint32_t kCookieTimestampBits = 64;
}  // namespace

Serving::Live* Serving::FindNewest(const FourTuple& tuple) {
  const ConnectionState* state = executor_->FindByTuple(tuple);
  return state == nullptr ? nullptr : Find(state->id());
}

// --- Handshakes ----------------------------------------------------------------------------------

// The kernel's SYN-ACK was swallowed: it may leave once `Opened` is stable (SendSynAck).
void Serving::HandleSynAck(const south_event& event) {
  if (ShuttingDown()) return;
  const FourTuple tuple = TupleOf(event.tuple);
  if (Live* known = FindNewest(tuple)) {
    const Opened& opened = known->state->opened();
    if (opened.iss == event.seq) return;  // the kernel's retransmission
    // Another SYN cookie for the same SYN: the first one is as good, and the client may have it.
    if (event.cookie == 0 && known->cookie == 0 && half_open_.contains(known->id) &&
        opened.irs + 1 == event.ack) {
      if (known->syn_ack_sent) SendSynAck(*known);
      return;
    }
    Supersede(*known);
  }
  if (half_open_.size() >= kMaxHalfOpen && !EvictHalfOpen()) {
    ++counters_.half_open_refused;
    return;
  }
  auto slot = south_.wrapper->Add(tuple, event.seq, event.ack, 0, event.rcv_wscale);
  if (!slot.ok()) {
    LOG_EVERY_N(ERROR, 1000) << "no room for another connection: " << slot.status();
    return;
  }
  Opened opened;
  opened.connection = ++last_id_;
  opened.tuple = tuple;
  opened.iss = event.seq;
  opened.irs = event.ack - 1;
  opened.options = {event.peer_mss,   event.own_mss,   event.window_scaling != 0, event.snd_wscale,
                    event.rcv_wscale, event.sack != 0, event.timestamps != 0};
  opened.window = event.window;
  opened.timestamp = event.tsval;
  opened.timestamp_echo = event.tsecr;
  opened.timestamp_offset = event.tsval - static_cast<uint32_t>(event.at_ns / 1'000'000);
  opened.ecn = event.ecn != 0;
  if (event.cookie == 0) opened.timestamp_offset += kCookieTimestampBits;
  Append(RecordKind::kOpened, Encode(opened), 0);
  if (silent_) return;  // the Server threw on what was waiting
  Live& live = AddLive(opened.connection);
  live.cookie = event.cookie;
  live.slot = *slot;
  half_open_.insert(live.id);
  commit_.Mark(executor_->applied_lsn(), live.id, Released::Of(*live.state));
}

void Serving::HandleRepeatedSyn(const south_event& event) {
  Live* live = FindNewest(TupleOf(event.tuple));
  // Where the kernel knows of the handshake it answers itself; of a restored one it does not.
  if (live == nullptr || !unproven_.contains(live->id)) return;
  if (event.seq == live->state->opened().irs) SendSynAck(*live);
}

// Nobody waits for an answer: a load balancer's check, a client that has given up.
void Serving::HandleHandshakeReset(const south_event& event) {
  Live* live = FindNewest(TupleOf(event.tuple));
  if (live == nullptr || ShuttingDown() || event.seq != live->state->opened().irs + 1) return;
  if (!half_open_.contains(live->id) && !unproven_.contains(live->id)) return;
  ++counters_.half_open_reset;
  EndHandshake(*live);
}

// Neither the Server nor the client ever hears of it.
void Serving::EndHandshake(Live& live) {
  // One that was restored is open as far as TCP knows; of any other it has let go.
  if (live.has_socket) live.restored ? north_->ForgetSilently(live.id) : north_->Forget(live.id);
  Append(RecordKind::kEnded, Encode(ConnectionOnly{live.id}), 0);
  Drop(live);
}

// The oldest that the client has not answered makes room. If it does so yet, it is reset (OnAccepted).
bool Serving::EvictHalfOpen() {
  int looked = 0;
  for (ConnectionId id : half_open_) {
    Live* live = Find(id);
    if (!south_.wrapper->Client(*live->slot).has_value()) {
      ++counters_.half_open_evicted;
      EndHandshake(*live);
      return true;
    }
    if (++looked == kEvictionLook) break;
  }
  return false;  // complete, and about to be accepted
}

void Serving::CheckHandshakes() {
  const auto now = clock_->Monotonic();
  while (!half_open_.empty()) {
    Live* oldest = Find(*half_open_.begin());
    if (now - oldest->since <= kHandshakeTimeout) break;
    ++counters_.half_open_expired;
    EndHandshake(*oldest);
  }
  const std::vector<ConnectionId> unproven(unproven_.begin(), unproven_.end());
  int sent = 0;
  for (ConnectionId id : unproven) {
    Live& live = *Find(id);
    const auto waited = now - live.since;
    if (IsProven(live)) {  // the report was lost
      Prove(live);
    } else if (waited > kUnprovenTimeout) {
      ++counters_.half_open_expired;
      EndHandshake(live);
    } else if (live.syn_acks < std::size(kSendSynAck) && waited >= kSendSynAck[live.syn_acks] &&
               ++sent <= kSynAcksPerTick) {
      ++live.syn_acks;
      SendSynAck(live);
    }
  }
}

// --- Complete handshakes -------------------------------------------------------------------------

NorthWrapper::Accepted Serving::OnAccepted(int accepted, const FourTuple& tuple) {
  if (silent_ || ShuttingDown()) return {};
  Live* live = FindNewest(tuple);
  if (south_.wrapper == nullptr) {
    live = OpenUnseen(tuple, /*local=*/false);
  } else if (live == nullptr || !half_open_.contains(live->id) || !IsAcceptOf(accepted, *live)) {
    if (!IsLocal(tuple.remote.ip)) {
      // A handshake that had to make room, or has expired; or one that its client has given up for the next.
      ++counters_.accepts_refused;
      return {.reset = true};
    }
    ++counters_.local_clients;
    live = OpenUnseen(tuple, /*local=*/true);
  }
  if (live == nullptr) return {};
  live->has_socket = true;
  half_open_.erase(live->id);
  ++counters_.accepted;
  if (!superseded_.contains(tuple)) Connect(*live);
  return {.id = live->id};
}

// A connection whose handshake no south wrapper has seen: standalone there is none, and what a client of this
// host sends goes by loopback. Nothing that comes of its input leaves before that is stable, as for all; but
// TCP's acknowledgements do, so it could not go on on another host. nullptr: the Server threw on what was
// waiting.
Serving::Live* Serving::OpenUnseen(const FourTuple& tuple, bool local) {
  if (Live* known = FindNewest(tuple)) Supersede(*known);
  Opened opened;
  opened.connection = ++last_id_;
  opened.tuple = tuple;
  opened.local = local;
  Append(RecordKind::kOpened, Encode(opened), 0);
  return silent_ ? nullptr : &AddLive(opened.connection);
}

bool Serving::IsLocal(uint32_t ip) {
  if (south_.is_local == nullptr) return false;
  if (!taking_over_) return south_.is_local(ip);
  const auto [known, is_new] = local_ips_.try_emplace(ip);
  if (is_new) known->second = south_.is_local(ip);
  return known->second;
}

// Sockets come out of the listener's queue in the order in which handshakes were completed, those of earlier
// incarnations too.
bool Serving::IsAcceptOf(int accepted, const Live& live) const {
  if (live.cookie != 0) return live.cookie == north_->Cookie(accepted);
  // A SYN cookie: TCP made the socket from the client's ACK, which must be the answer to the SYN-ACK in the
  // log.
  return south_.wrapper->Client(*live.slot).has_value();
}

void Serving::Connect(Live& live) {
  Append(RecordKind::kConnected, Encode(ConnectionOnly{live.id}), live.id);
  north_->Resume(live.id);
}

void Serving::ConnectWaiting() {
  for (ConnectionId id : std::exchange(connectable_, {})) {
    Live* live = Find(id);
    if (live != nullptr && !live->state->connected()) Connect(*live);
  }
}

// After a takeover: has the client of a handshake that was under way answered?
bool Serving::IsProven(const Live& live) const {
  return unproven_.contains(live.id) && south_.wrapper->Client(*live.slot).has_value();
}

void Serving::Prove(Live& live) {
  unproven_.erase(live.id);
  const absl::Status made = live.has_socket ? absl::OkStatus() : RestoreSocket(live, EndpointOf(*live.state));
  if (absl::IsUnavailable(made)) {
    AwaitRoute(live, made);
  } else if (!made.ok()) {
    LOG(ERROR) << "cannot restore " << live.state->opened().tuple.ToString() << ": " << made;
    Append(RecordKind::kBroken, Encode(Broken{live.id, ECONNABORTED}), 0);
    return Drop(live);
  }
  Connect(live);
  Watch(live);
}

// --- The connection before, from the same port ---------------------------------------------------

// Its client has begun anew.
void Serving::Supersede(Live& old) {
  if (!old.state->connected()) return EndHandshake(old);  // the Server has never heard of it
  ++counters_.superseded;
  old.superseded = true;
  old.unheard_until = 0;  // there is nobody left who could say a word
  superseded_[old.tuple] = old.id;
  if (old.slot.has_value()) {  // the tuple is the next one's
    south_.wrapper->Remove(*old.slot);
    old.slot.reset();
  }
  watched_.insert(old.id);
  Look(old);
}

// TCP has let go of it, so what it has left to say is in the socket, its end behind it, and nothing that we
// say reaches anybody.
bool Serving::CheckSuperseded(Live& live) {
  const ConnectionState& state = *live.state;
  CheckProgress(live);
  if (!state.peer_closed() && !live.paused) return false;  // its end will be read
  north_->Forget(live.id);
  if (live.fin_written && state.peer_closed()) {
    ++counters_.ended;
    Append(RecordKind::kEnded, Encode(ConnectionOnly{live.id}), 0);
  } else {
    ++counters_.broken;
    Append(RecordKind::kBroken, Encode(Broken{live.id, ECONNRESET}), 0);
  }
  Drop(live);
  return true;
}

}  // namespace understudy
