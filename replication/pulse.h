// The pulse: while the primary's loop is inside one long call of the Server, a thread goes on proving
// that the node lives, by datagrams that the secondary answers.
//
// Appends, heartbeats among them, come from the loop, so a call that takes longer than suspect_after would
// look like a death. A pulse stands for an empty append: the secondary, if it is joined and still follows
// that epoch's primary, counts it as heard and answers; the answer extends the primary's lease, from the
// *sending* of the pulse, by the same span as an answered append does. So the argument of primary.h holds
// word for word: the lease ends suspect_after - lease_guard after the sending, the secondary suspects no
// earlier than suspect_after after the arrival, which is later; and a secondary that has asked for the epoch
// answers no pulse any more. Datagrams may be lost, late, doubled or come in any order: a pulse that comes
// late puts a suspicion off, which costs time, never safety; an answer counts only for a pulse this process
// has sent in the same epoch, and is worth what is left of the span from its sending.
//
// A pulse says that the process lives, not that the Server does: after max_stall without a turn of the loop
// the application is taken for hung, the pulse ends, and the secondary takes over. A process that is
// stopped sends none; one that dies has no thread.
//
// With a shared key each datagram carries an HMAC of all its fields (auth.h), and a pulse counts only once:
// the receiver takes none that is not newer than all it has heard (framework/), so that a recorded one proves
// nothing.
//
// Nothing is sent while the loop ticks.
#ifndef UNDERSTUDY_REPLICATION_PULSE_H_
#define UNDERSTUDY_REPLICATION_PULSE_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>

#include "replication/protocol.h"

namespace understudy::replication {

// A datagram: magic, version of the protocol, kind, epoch, time, service; then the HMAC of all that, or
// without a key its CRC32C; little endian.
struct PulseMessage {
  bool answer = false;
  uint64_t epoch = 0;
  int64_t sent_at_ns = 0;                     // CLOCK_MONOTONIC of the primary; the answer brings it back
  std::string service;                        // "IP:PORT"
  int32_t version = SpokenVersions().newest;  // as agreed at the join
};
inline constexpr size_t kMaxPulseSize = 128;
// `key` is ProtocolConfig::key.
std::string Encode(const PulseMessage& message, std::string_view key);
// nullopt: damaged, forged, of a version that this program does not speak, or no pulse at all.
std::optional<PulseMessage> DecodePulse(std::string_view datagram, std::string_view key);

// The primary's half. Pure but for the mutex: the loop says that it runs and what may be extended, the
// thread (pulse_link.h) asks what to send and hands over what comes back.
class Pulse {
 public:
  // `renew` extends the node's right to serve; called from the thread, never during or after Forbid.
  Pulse(ProtocolConfig config, nanoseconds max_stall, std::function<void(MonotonicTime until)> renew);

  // --- The loop ---
  // It has come round. Cheap.
  void Beat(MonotonicTime now) { beat_ns_.store(now.time_since_epoch().count(), std::memory_order_relaxed); }
  // From here on answered pulses of `epoch` extend the lease; `version` is what is spoken with the secondary.
  // The thread may be asleep: wake it.
  void Allow(uint64_t epoch, int32_t version, MonotonicTime now);
  // No pulse extends anything from here on.
  void Forbid();
  // The newest pulse of the epoch now allowed that was answered since the last call.
  struct Answered {
    uint64_t epoch;
    MonotonicTime sent_at;
  };
  std::optional<Answered> TakeAnswered();

  // --- The thread ---
  struct Next {
    std::optional<PulseMessage> send;
    MonotonicTime wake_at;  // max(): when the thread is woken
  };
  Next OnWake(MonotonicTime now);
  void OnDatagram(std::string_view datagram, MonotonicTime now);

  // Any thread.
  struct Counters {
    uint64_t sent, answered, dropped;
  };
  Counters counters() const { return {sent_count_, answered_count_, dropped_count_}; }

 private:
  bool Accept(const PulseMessage& answer, MonotonicTime now);

  const ProtocolConfig config_;
  const nanoseconds max_stall_;
  const std::function<void(MonotonicTime)> renew_;
  std::atomic<int64_t> beat_ns_{0};
  std::atomic<uint64_t> sent_count_{0}, answered_count_{0}, dropped_count_{0};

  std::mutex mutex_;
  // Guarded by mutex_.
  std::optional<uint64_t> epoch_;  // allowed
  int32_t version_ = 0;            // of its pulses
  MonotonicTime next_send_{};
  std::deque<int64_t> unanswered_;  // sending times of pulses whose answer would be worth something
  std::optional<MonotonicTime> answered_;
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_PULSE_H_
