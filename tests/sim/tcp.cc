#include "tests/sim/tcp.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

namespace understudy::sim {

using tcpshim::SeqAfter;
using tcpshim::SeqBefore;

std::string Packet::ToString() const {
  std::string what = absl::StrCat(source.ToString(), " > ", destination.ToString(), " ");
  if (flags.syn) what += "S";
  if (flags.fin) what += "F";
  if (flags.rst) what += "R";
  absl::StrAppend(&what, " seq ", seq, "+", payload.size());
  if (flags.ack) absl::StrAppend(&what, " ack ", ack, " win ", window);
  if (wscale.has_value()) absl::StrAppend(&what, " wscale ", int{*wscale});
  if (timestamp_option) absl::StrAppend(&what, " ts ", tsval);
  return what;
}

std::string Tcp::ToString() const {
  return absl::StrCat("state ", static_cast<int>(state_), " una ", SndSeq(una_), " nxt ", SndNxt(),
                      " unsent+unacked ", send_.size(), " fin ", fin_wanted_, fin_sent_, fin_acked_, " wnd ",
                      peer_window_, " rcv ", RcvNxt(), " unread ", receive_.size(), " early ", early_.size(),
                      " peer fin ", fin_received_);
}

void Tcp::Connect(Seq iss) {
  state_ = State::kSynSent;
  snd_base_ = iss + 1;
  EmitSyn(false);
  Arm(true);
}

void Tcp::Accept(const Packet& syn, Seq iss) {
  state_ = State::kSynReceived;
  snd_base_ = iss + 1;
  rcv_base_ = syn.seq + 1;
  peer_window_ = syn.window;
  peer_shift_ = syn.wscale.value_or(0);
  ts_seen_ = syn.timestamp_option;
  ts_recent_ = syn.tsval;
  EmitSyn(true);
  Arm(true);
}

void Tcp::Restore(const Restored& from) {
  state_ = State::kEstablished;
  restored_ = true;
  snd_base_ = from.snd_una;
  send_ = from.sent;
  restored_end_ = nxt_ = send_.size();
  fin_wanted_ = fin_sent_ = from.fin_sent;
  rcv_base_ = from.rcv_nxt - static_cast<uint32_t>(from.unread.size());
  receive_ = from.unread;
  rcv_ = from.unread.size();
  edge_ = from.rcv_edge - rcv_base_;
  peer_window_ = from.snd_wnd;
  peer_shift_ = from.peer_shift;
  // Without a history the kernel waits a second before it resends.
  rto_ = std::chrono::seconds(1);
  if (!send_.empty() || fin_sent_) retransmit_at_ = host_.now() + rto_;
}

Tcp::Restored Tcp::Captured() const {
  Restored now;
  now.snd_una = SndSeq(una_);
  now.sent = send_.substr(0, nxt_ - una_);
  now.fin_sent = fin_sent_;
  now.rcv_nxt = RcvNxt();
  now.unread = receive_;
  now.snd_wnd = peer_window_;
  now.rcv_edge = rcv_base_ + static_cast<uint32_t>(edge_);
  now.peer_shift = peer_shift_;
  return now;
}

uint16_t Tcp::Window() {
  const uint64_t used = receive_.size();
  const uint64_t room = config_.receive_buffer > used ? config_.receive_buffer - used : 0;
  edge_ = std::max(edge_, rcv_ + room);
  return static_cast<uint16_t>(std::min<uint64_t>((edge_ - rcv_) >> config_.shift, 65535));
}

Packet Tcp::Base(Seq seq) {
  Packet packet;
  packet.source = config_.local;
  packet.destination = config_.remote;
  packet.seq = seq;
  packet.flags.ack = true;
  packet.ack = RcvNxt();
  packet.window = Window();
  return packet;
}

void Tcp::Emit(Packet packet) {
  if (config_.timestamps) {
    packet.timestamp_option = true;
    packet.tsval = host_.timestamp();
  }
  if (packet.flags.ack) ack_at_.reset();
  host_.emit(std::move(packet));
}

void Tcp::EmitSyn(bool with_ack) {
  Packet packet = Base(snd_base_ - 1);
  packet.flags.syn = true;
  packet.flags.ack = with_ack;
  if (!with_ack) packet.ack = 0;
  edge_ = std::max<uint64_t>(edge_, config_.receive_buffer);
  packet.window = static_cast<uint16_t>(std::min<uint32_t>(config_.receive_buffer, 65535));
  if (config_.scaling) packet.wscale = config_.shift;
  Emit(std::move(packet));
}

// One segment of what is sent already, and no more of it than the window takes, as Linux does it.
uint64_t Tcp::EmitFrom(uint64_t offset) {
  Packet packet = Base(SndSeq(offset));
  const uint64_t edge = una_ + peer_window_;
  const uint64_t limit = edge > offset ? std::min(nxt_, edge) : nxt_;
  packet.payload = send_.substr(offset - una_, std::min<uint64_t>(config_.mss, limit - offset));
  const uint64_t end = offset + packet.payload.size();
  packet.flags.fin = fin_sent_ && end == una_ + send_.size();
  Emit(std::move(packet));
  return end;
}

void Tcp::Output() {
  if (state_ != State::kEstablished) return;
  const uint64_t limit = una_ + std::min(peer_window_, config_.max_flight);
  const uint64_t end = una_ + send_.size();
  while (nxt_ < end && nxt_ < limit) {
    const uint64_t at = nxt_;
    Packet packet = Base(SndSeq(at));
    packet.payload = send_.substr(at - una_, std::min<uint64_t>(config_.mss, limit - at));
    nxt_ = at + packet.payload.size();
    if (fin_wanted_ && nxt_ == end) packet.flags.fin = fin_sent_ = true;
    Emit(std::move(packet));
  }
  if (fin_wanted_ && !fin_sent_ && nxt_ == end) {
    Packet packet = Base(SndSeq(nxt_));
    packet.flags.fin = fin_sent_ = true;
    Emit(std::move(packet));
  }
  Arm(false);
}

void Tcp::Arm(bool anew) {
  const bool waiting = state_ == State::kSynSent || state_ == State::kSynReceived ||
                       (state_ == State::kEstablished && !all_acked());
  if (!waiting) {
    retransmit_at_.reset();
    return;
  }
  if (anew) rto_ = state_ == State::kEstablished ? config_.rto : std::chrono::seconds(1);
  if (rto_ == Nanos(0)) rto_ = config_.rto;
  if (anew || !retransmit_at_.has_value()) retransmit_at_ = host_.now() + rto_;
}

std::optional<Nanos> Tcp::next_timer() const {
  if (!ack_at_.has_value()) return retransmit_at_;
  if (!retransmit_at_.has_value()) return ack_at_;
  return std::min(*ack_at_, *retransmit_at_);
}

void Tcp::OnTimer() {
  const Nanos now = host_.now();
  if (ack_at_.has_value() && now >= *ack_at_) EmitAck();
  if (!retransmit_at_.has_value() || now < *retransmit_at_) return;
  rto_ = std::min(rto_ * 2, config_.max_rto);
  retransmit_at_ = now + rto_;
  if (state_ == State::kSynSent || state_ == State::kSynReceived) {
    EmitSyn(state_ == State::kSynReceived);
  } else if (peer_window_ == 0 && nxt_ == una_ && !fin_sent_) {
    Emit(Base(SndSeq(una_) - 1));  // a probe: the answer brings the window
  } else if (nxt_ > una_ || fin_sent_) {
    resend_at_ = EmitFrom(una_);
  } else {
    Output();
  }
}

size_t Tcp::Write(std::string_view bytes) {
  if (fin_wanted_ || state_ == State::kReset) return 0;
  const size_t taken = std::min(bytes.size(), room());
  send_.append(bytes.substr(0, taken));
  Output();
  return taken;
}

void Tcp::Shutdown() {
  fin_wanted_ = true;
  Output();
}

std::string Tcp::Read(size_t at_most) {
  std::string bytes = receive_.substr(0, at_most);
  receive_.erase(0, bytes.size());
  // Tells a peer that was stopped by the window, not each time.
  const uint64_t offered = edge_ - rcv_;
  if (state_ == State::kEstablished && offered < 2 * config_.mss &&
      config_.receive_buffer - receive_.size() >= config_.receive_buffer / 2) {
    EmitAck();
  }
  return bytes;
}

void Tcp::Reset() {
  const bool silent = state_ == State::kNew || state_ == State::kSynSent;  // nobody knows of it
  Packet packet = Base(SndNxt());
  packet.flags.rst = true;
  state_ = State::kReset;
  retransmit_at_.reset();
  ack_at_.reset();
  if (!silent) Emit(std::move(packet));
}

void Tcp::EmitReset(Seq seq) {
  Packet packet;
  packet.source = config_.local;
  packet.destination = config_.remote;
  packet.seq = seq;
  packet.flags.rst = true;
  host_.emit(std::move(packet));
}

// Answers what cannot be, now and then: two ends that answer each other each time never stop.
void Tcp::Challenge() {
  if (host_.now() < challenged_ + std::chrono::milliseconds(100)) return;
  challenged_ = host_.now();
  EmitAck();
}

bool Tcp::TakeAck(const Packet& packet) {
  const int32_t ahead = static_cast<int32_t>(packet.ack - SndSeq(una_));
  const int32_t most = static_cast<int32_t>(SndNxt() - SndSeq(una_));
  if (ahead > most || (restored_ && ahead < 0 && static_cast<uint64_t>(-ahead) > acked_since_restore_)) {
    Challenge();
    return false;
  }
  if (ahead < 0) return true;
  const uint32_t window = uint32_t{packet.window} << peer_shift_;
  const bool window_news = window != peer_window_;
  peer_window_ = window;
  if (ahead == 0) {
    if (packet.payload.empty() && !packet.flags.fin && !window_news && nxt_ > una_ &&
        ++duplicate_acks_ == 3) {
      EmitFrom(una_);
    }
    return true;
  }
  duplicate_acks_ = 0;
  const size_t bytes = std::min<size_t>(ahead, send_.size());
  if (static_cast<size_t>(ahead) > bytes) fin_acked_ = true;
  send_.erase(0, bytes);
  una_ += bytes;
  nxt_ = std::max(nxt_, una_);
  acked_since_restore_ += ahead;
  Arm(true);
  for (int i = 0; i < 2 && resend_at_.has_value(); ++i) {
    resend_at_ = std::max(*resend_at_, una_);
    if (*resend_at_ >= nxt_) {
      resend_at_.reset();
    } else if (*resend_at_ >= una_ + peer_window_) {
      break;  // with the next acknowledgement
    } else {
      resend_at_ = EmitFrom(*resend_at_);
    }
  }
  return true;
}

void Tcp::TakeData(const Packet& packet) {
  if (packet.payload.empty() && !packet.flags.fin) return;
  const int64_t offset = static_cast<int64_t>(rcv_) +
                         static_cast<int32_t>(packet.seq - (rcv_base_ + static_cast<uint32_t>(rcv_)));
  const bool in_order = offset == static_cast<int64_t>(rcv_);
  std::string bytes = packet.payload;
  uint64_t at = offset < 0 ? 0 : static_cast<uint64_t>(offset);
  if (offset < 0) bytes.erase(0, std::min<uint64_t>(bytes.size(), static_cast<uint64_t>(-offset)));
  bool fin = packet.flags.fin;
  if (at + bytes.size() > edge_) {  // beyond the window
    bytes.resize(edge_ > at ? edge_ - at : 0);
    fin = false;
  }
  if (fin) fin_at_ = at + bytes.size();
  if (!bytes.empty() && at + bytes.size() > rcv_) {
    std::string& slot = early_[at];
    if (slot.size() < bytes.size()) slot = std::move(bytes);
  }
  while (!early_.empty() && early_.begin()->first <= rcv_) {
    const auto& [from, data] = *early_.begin();
    if (from + data.size() > rcv_) {
      receive_.append(data, rcv_ - from);
      rcv_ = from + data.size();
    }
    early_.erase(early_.begin());
  }
  if (fin_at_ == rcv_) fin_received_ = true;
  if (config_.delayed_ack == Nanos(0) || !in_order || packet.flags.fin || !early_.empty()) {
    EmitAck();
  } else if (!ack_at_.has_value()) {
    ack_at_ = host_.now() + config_.delayed_ack;
  } else {
    EmitAck();  // the second of two
  }
}

void Tcp::OnPacket(const Packet& packet) {
  if (state_ == State::kReset || state_ == State::kNew) return;
  if (Resets(packet)) {
    state_ = State::kReset;
    retransmit_at_.reset();
    ack_at_.reset();
    return;
  }
  if (state_ == State::kSynSent) {
    if (packet.flags.rst) return;
    // It is about another connection, of which the peer shall know that it is gone.
    if (packet.flags.ack && packet.ack != snd_base_) return EmitReset(packet.ack);
    if (!packet.flags.syn || !packet.flags.ack || packet.ack != snd_base_) return;
    rcv_base_ = packet.seq + 1;
    peer_window_ = packet.window;
    peer_shift_ = packet.wscale.value_or(0);
    ts_seen_ = packet.timestamp_option;
    ts_recent_ = packet.tsval;
    state_ = State::kEstablished;
    retransmit_at_.reset();
    EmitAck();
    Output();
    return;
  }
  if (packet.flags.rst) {
    if (packet.seq - RcvNxt() < config_.receive_buffer) Challenge();
    return;
  }
  if (packet.flags.syn) {
    if (state_ == State::kSynReceived && !packet.flags.ack && packet.seq + 1 == rcv_base_) {
      EmitSyn(true);
    } else {
      EmitAck();
    }
    return;
  }
  if (!packet.flags.ack) return;
  // PAWS, with the tick of tolerance that Linux has.
  if (config_.timestamps && ts_seen_ && packet.timestamp_option && packet.tsval != 0) {
    const bool old = SeqBefore(packet.tsval + 1, ts_recent_);
    if (old && (!packet.payload.empty() || packet.flags.fin)) {
      EmitAck();
      return;
    }
    // Not from a segment that is not acceptable: of an earlier connection of this port, say.
    if (!old && !SeqAfter(packet.seq, RcvNxt()) && !SeqBefore(packet.end(), RcvNxt()) &&
        SeqAfter(packet.tsval, ts_recent_)) {
      ts_recent_ = packet.tsval;
    }
  }
  // Before the window: a probe, or a retransmission of what is here already.
  const bool stale = SeqBefore(packet.seq, RcvNxt()) && !SeqAfter(packet.end(), RcvNxt());
  if (stale) {
    if (TakeAck(packet)) packet.payload.empty() ? Challenge() : EmitAck();
    Output();
    return;
  }
  if (state_ == State::kSynReceived) {
    if (packet.ack != snd_base_) return;
    state_ = State::kEstablished;
    retransmit_at_.reset();
  }
  if (!TakeAck(packet)) return;
  TakeData(packet);
  Output();
}

}  // namespace understudy::sim
