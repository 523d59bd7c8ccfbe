// One connection as the log describes it: what the application sees (Connection) and what an heir needs
// to restore its endpoint. The same on both nodes at the same LSN. Pure.
#ifndef UNDERSTUDY_FRAMEWORK_CONNECTION_STATE_H_
#define UNDERSTUDY_FRAMEWORK_CONNECTION_STATE_H_

#include <algorithm>
#include <memory>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "framework/output_queue.h"
#include "framework/record_body.h"
#include "framework/server.h"

namespace understudy {

class Executor;

class ConnectionState final : public Connection {
 public:
  ConnectionState(Executor* executor, const Opened& opened);

  // --- Connection ---
  ConnectionId id() const override { return opened_.connection; }
  const std::string& peer() const override { return peer_; }
  const std::string& local() const override { return local_; }
  void Send(std::string_view bytes) override;
  size_t pending_output() const override { return output_.size(); }
  size_t high_water() const override { return high_water_; }
  void SetHighWater(size_t bytes) override;
  void HalfClose() override;
  void Close() override;
  void Abort() override;
  void SetTimer(uint32_t timer, std::chrono::microseconds after) override;
  void CancelTimer(uint32_t timer) override;
  void set_context(std::unique_ptr<Context> context) override { context_ = std::move(context); }
  Context* context() const override { return context_.get(); }
  LoggedTime Now() const override;
  uint64_t Random() override;

  // --- Facts, for the node ---
  const Opened& opened() const { return opened_; }
  bool connected() const { return connected_; }      // kConnected has been applied
  uint64_t received() const { return received_; }    // bytes, from the first on
  bool peer_closed() const { return peer_closed_; }  // the client's FIN has been applied
  const OutputQueue& output() const { return output_; }
  bool fin_wanted() const { return fin_wanted_; }  // a FIN follows output().end()
  bool abort_wanted() const { return abort_wanted_; }
  bool ignores_input() const { return closed_; }             // Close or Abort was called
  bool writable_wanted() const { return writable_wanted_; }  // OnWritable is owed
  size_t unread_size() const { return unread_.size(); }      // bytes the Server has left unread
  // The Server waits for room, and will be asked again to read what it has left unread.
  bool held_back() const { return writable_wanted_ && room_wanted(); }
  // It may wait for room, at a mark of its own: it is asked again when all output is acknowledged.
  bool room_wanted() const {
    return !unread_.empty() && output_.size() > 0 && !fin_wanted_ && !abort_wanted_;
  }
  // The client's progress becomes a record in steps of so much: each costs one, and the heir restores up to a
  // step more.
  uint64_t progress_step() const { return std::min<uint64_t>(256 << 10, high_water_ / 4); }
  // Pending output from which on nothing more is read from the client (I7).
  size_t most_pending() const { return high_water_ > SIZE_MAX / 8 ? SIZE_MAX : 8 * high_water_; }
  const PeerView& view() const { return view_; }  // the client's last word in the log
  // The most that may be offered to the client beyond what is acknowledged, once the log is stable up to
  // here. The primary's windows grow within this limit only, and an heir offers all of it: so the right
  // edge does not move left when it takes over (I6). Twice what was offered so far: TCP doubles a window
  // at most in the time of a round trip, in which the next record becomes stable.
  uint32_t window_limit() const {
    const uint32_t scaled = opened_.options.window_scaling ? 65535u << opened_.options.rcv_wscale : 65535;
    return std::min(std::clamp(2 * view_.offered, 128u << 10, 8u << 20), scaled);
  }
  uint32_t timestamp_offset() const { return timestamp_offset_; }

  // RCV.NXT as the log has it: everything up to here may be acknowledged once it is stable.
  tcpshim::Seq rcv_nxt() const {
    return opened_.irs + 1 + static_cast<uint32_t>(received_) + (peer_closed_ ? 1 : 0);
  }
  // Sequence number of the output byte at `offset`.
  tcpshim::Seq SeqOf(uint64_t offset) const { return opened_.iss + 1 + static_cast<uint32_t>(offset); }

 private:
  friend class Executor;

  Executor* const executor_;
  const Opened opened_;
  const std::string peer_, local_;
  uint32_t timestamp_offset_;
  std::unique_ptr<Context> context_;

  bool connected_ = false;
  bool peer_closed_ = false;
  bool peer_closed_owed_ = false;  // OnPeerClosed is put off
  bool closed_ = false;
  bool fin_wanted_ = false;
  bool abort_wanted_ = false;
  bool writable_wanted_ = false;
  bool closed_told_ = false;  // OnClosed has been called, on the node that died of it
  CloseReason abort_reason_ = CloseReason::kAborted;
  size_t counted_ = 0;  // in Executor::buffered_
  uint64_t received_ = 0;
  std::string unread_;
  bool wants_more_ = false;  // what is unread was refused when there was all the room there can be
  size_t high_water_ = kDefaultHighWater;
  OutputQueue output_;
  PeerView view_;
  absl::flat_hash_map<uint32_t, int64_t> timers_;  // timer -> due, logged time
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_CONNECTION_STATE_H_
