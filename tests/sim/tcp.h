// A small TCP, for the clients of the simulator and for the kernels of its hosts: sequence numbers,
// cumulative acknowledgement, out-of-order queue, receive window, retransmission by timeout with
// backoff, fast retransmission, zero-window probes, FIN in both directions, timestamps with PAWS.
//
// Where Linux is peculiar in a way that a takeover can fall over, this is peculiar
// too: an acknowledgement of what was never sent is dropped with its segment; so is one
// that is older than what a restored socket began with.
#ifndef UNDERSTUDY_TESTS_SIM_TCP_H_
#define UNDERSTUDY_TESTS_SIM_TCP_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "tcpshim/segment.h"
#include "tcpshim/tcp_types.h"

namespace understudy::sim {

using Nanos = std::chrono::nanoseconds;
using tcpshim::Seq;
using tcpshim::SocketAddress;

// A segment that owns its payload.
struct Packet {
  SocketAddress source, destination;
  Seq seq = 0, ack = 0;
  tcpshim::SegmentFlags flags;
  uint16_t window = 0;            // as in the header
  std::optional<uint8_t> wscale;  // SYNs only
  bool timestamp_option = false;  // `tsval` is valid
  uint32_t tsval = 0;
  std::string payload;

  Seq end() const { return seq + payload.size() + (flags.syn ? 1 : 0) + (flags.fin ? 1 : 0); }
  std::string ToString() const;
};

class Tcp {
 public:
  struct Config {
    SocketAddress local, remote;
    uint32_t mss = 1000;
    uint32_t receive_buffer = 48 << 10;
    uint32_t send_buffer = 64 << 10;
    uint32_t max_flight = 12000;  // stands in for the congestion window
    Nanos rto = std::chrono::milliseconds(200);
    Nanos max_rto = std::chrono::seconds(3);
    Nanos delayed_ack{0};  // 0: each segment is acknowledged at once
    bool scaling = false;
    uint8_t shift = 0;  // of the windows this end announces
    bool timestamps = false;
  };
  // The outside of this end.
  struct Host {
    std::function<Nanos()> now;
    std::function<uint32_t()> timestamp;  // TSval now
    std::function<void(Packet&&)> emit;
  };

  Tcp(Config config, Host host) : config_(config), host_(std::move(host)) {}

  // Three ways to begin.
  void Connect(Seq iss);
  void Accept(const Packet& syn, Seq iss);
  struct Restored {
    Seq snd_una = 0;
    std::string sent;
    bool fin_sent = false;
    Seq rcv_nxt = 0;
    std::string unread;  // the bytes before rcv_nxt
    uint32_t snd_wnd = 0;
    Seq rcv_edge = 0;
    uint8_t peer_shift = 0;
  };
  void Restore(const Restored& from);
  // And back: what is sent, received and offered. Not what waits out of order.
  Restored Captured() const;

  void OnPacket(const Packet& packet);
  void OnTimer();  // call at or after next_timer()
  std::optional<Nanos> next_timer() const;

  size_t Write(std::string_view bytes);  // bytes taken
  void Shutdown();
  std::string Read(size_t at_most);
  void Reset();  // sends a RST

  // Something has been acknowledged that this end has sent itself.
  bool timed() const { return una_ > restored_end_; }
  bool fresh() const { return state_ == State::kNew; }
  bool half_open() const { return state_ == State::kSynSent || state_ == State::kSynReceived; }
  bool established() const { return state_ == State::kEstablished; }
  // Of both streams there is nothing left to come: TIME_WAIT, as far as a new SYN is concerned.
  bool finished() const { return fin_received_ && fin_acked_; }
  // A RST that ends this connection (RFC 5961).
  bool Resets(const Packet& packet) const {
    if (!packet.flags.rst || state_ == State::kNew || state_ == State::kReset) return false;
    return state_ == State::kSynSent ? packet.flags.ack && packet.ack == snd_base_ : packet.seq == RcvNxt();
  }
  bool MayFollow(const Packet& syn) const { return tcpshim::SeqAfter(syn.seq, RcvNxt()); }
  bool reset() const { return state_ == State::kReset; }
  size_t readable() const { return receive_.size(); }
  // A FIN counts as a byte, as SIOCOUTQNSD has it.
  // Sent or not; a FIN counts as a byte, as SIOCOUTQ has it.
  size_t unacked() const { return send_.size() + (fin_wanted_ && !fin_acked_ ? 1 : 0); }
  size_t unsent() const { return una_ + send_.size() - nxt_ + (fin_wanted_ && !fin_sent_ ? 1 : 0); }
  // Everything up to the peer's FIN has been read.
  bool at_end() const { return fin_received_ && receive_.empty(); }
  bool fin_received() const { return fin_received_; }
  bool fin_sent() const { return fin_sent_; }
  bool fin_acked() const { return fin_acked_; }
  size_t room() const { return config_.send_buffer > send_.size() ? config_.send_buffer - send_.size() : 0; }
  bool all_acked() const { return send_.empty() && (!fin_wanted_ || fin_acked_); }
  const Config& config() const { return config_; }
  uint8_t peer_shift() const { return peer_shift_; }
  std::string ToString() const;

 private:
  enum class State { kNew, kSynSent, kSynReceived, kEstablished, kReset };

  Seq SndSeq(uint64_t offset) const { return snd_base_ + static_cast<uint32_t>(offset); }
  Seq RcvNxt() const { return rcv_base_ + static_cast<uint32_t>(rcv_) + (fin_received_ ? 1 : 0); }
  uint16_t Window();
  Packet Base(Seq seq);
  void Emit(Packet packet);
  void Challenge();
  void EmitAck() { Emit(Base(SndNxt())); }
  Seq SndNxt() const { return SndSeq(nxt_) + (fin_sent_ ? 1 : 0); }
  void EmitReset(Seq seq);
  void EmitSyn(bool with_ack);
  uint64_t EmitFrom(uint64_t offset);  // the offset behind it
  void Output();
  bool TakeAck(const Packet& packet);  // false: drop the segment
  void TakeData(const Packet& packet);
  void Arm(bool anew);

  const Config config_;
  const Host host_;
  State state_ = State::kNew;

  // Sending. Offsets count from snd_base_.
  Seq snd_base_ = 0;
  uint64_t una_ = 0, nxt_ = 0;
  std::string send_;  // from una_ on
  bool fin_wanted_ = false, fin_sent_ = false, fin_acked_ = false;
  uint32_t peer_window_ = 0;
  uint8_t peer_shift_ = 0;
  bool restored_ = false;
  uint64_t acked_since_restore_ = 0;
  uint64_t restored_end_ = 0;  // output that was restored as sent
  int duplicate_acks_ = 0;
  std::optional<uint64_t> resend_at_;  // after a timeout all is resent, two segments for each that arrives
  std::optional<Nanos> retransmit_at_;
  Nanos rto_{0};

  // Receiving. Offsets count from rcv_base_.
  Seq rcv_base_ = 0;
  uint64_t rcv_ = 0;
  std::string receive_;
  std::map<uint64_t, std::string> early_;
  bool fin_received_ = false;
  std::optional<uint64_t> fin_at_;
  uint64_t edge_ = 0;  // right edge of the window offered
  std::optional<Nanos> ack_at_;
  Nanos challenged_{0};
  bool ts_seen_ = false;
  uint32_t ts_recent_ = 0;
};

}  // namespace understudy::sim

#endif  // UNDERSTUDY_TESTS_SIM_TCP_H_
