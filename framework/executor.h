// The executor: records in, calls on the Server, output out. The same code on the primary, which runs
// ahead of stability, and on the secondary, which replays. Pure: no socket, no clock, no thread.
#ifndef UNDERSTUDY_FRAMEWORK_EXECUTOR_H_
#define UNDERSTUDY_FRAMEWORK_EXECUTOR_H_

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "framework/connection_state.h"
#include "framework/limits.h"
#include "framework/record_body.h"
#include "framework/server.h"
#include "replication/record.h"

namespace understudy {

class Executor {
 public:
  // `server` outlives the executor; is asked for its InitialState here.
  explicit Executor(Server* server, Limits limits = {});
  ~Executor();

  const std::string& initial_state() const { return initial_state_; }  // the Server's

  // Applies the next record. InvalidArgument: the body is damaged, or the record does not fit the state
  // (unknown connection, LSN out of order, a time that cannot be); nothing was changed then and no later
  // record may be applied. Aborted: a call of the Server threw, and the Server is not to be called any more
  // (Limits:: on_poison); the record counts as not applied, and faulty() says what the other node must know.
  // The first record of a log is refused if the Server it was made with began in another state.
  absl::Status Apply(const replication::RecordView& record);

  // `record` will be applied soon: see Server::Expect. Whoever has records ahead tells of each this many
  // before it is applied: enough for two accesses to memory, few enough to stay in the nearest cache.
  static constexpr size_t kExpectAhead = 4;
  void Expect(const replication::RecordView& record);

  // Server::Commit, if a record was applied since the last call that succeeded, or always. `stable`: see
  // CommitPoint; may be more than what is applied.
  absl::Status Commit(replication::Lsn stable, bool alone, bool always = false);
  replication::Lsn committed_lsn() const { return committed_lsn_; }  // of the last that succeeded
  // It covers all that is applied, and the Server was told that no other node has it.
  bool committed_alone() const { return committed_alone_ && committed_lsn_ == applied_lsn_; }

  // What the Server was last told by OnStorage; and where it was told that there is no room, 0: never.
  bool storage_writable() const { return storage_writable_; }
  replication::Lsn storage_full_lsn() const { return storage_full_lsn_; }

  // After Aborted: the connection that the call was for; nullopt: none.
  const std::optional<Fault>& faulty() const { return faulty_; }

  size_t buffered() const { return buffered_; }        // bytes, as Limits counts them
  uint64_t over_limit() const { return over_limit_; }  // connections that were aborted for it

  replication::Lsn applied_lsn() const { return applied_lsn_; }
  int64_t time_us() const { return time_us_; }  // of the last record applied
  uint64_t epoch() const { return epoch_; }
  ConnectionId last_opened() const { return last_opened_; }
  // Over everything any connection has ever sent, closed or aborted, in order.
  uint64_t output_hash() const { return output_hash_; }

  // Connections whose output grew, or that were half-closed, closed or aborted, since the last call, each
  // once. Cheap when there are none.
  std::vector<ConnectionId> TakeTouched();

  // nullptr: never opened, or ended.
  const ConnectionState* Find(ConnectionId id) const;
  // The newest: a client that has given a connection up may open the next one from the same port before the
  // end of the old one is in the log. Those before it are known by their ids until then.
  const ConnectionState* FindByTuple(const tcpshim::FourTuple& tuple) const;
  size_t connection_count() const { return connections_.size(); }
  // In order of id. Do not apply records inside.
  void ForEach(const std::function<void(const ConnectionState&)>& visit) const;

  // A connection of which both streams have ended may still be asked for the last acknowledgement
  // (TIME_WAIT); one whose client has not sent its FIN yet, for that of the FIN (FIN_WAIT_2). As many as the
  // kernel keeps (net.ipv4.tcp_max_tw_buckets), the newest.
  struct Departed {
    tcpshim::Seq snd_nxt = 0, rcv_nxt = 0;
    bool peer_closed = false;  // false: FIN_WAIT_2
    tcpshim::TcpOptions options;
    uint32_t timestamp_offset = 0;
    uint16_t window = 0;  // as in the header: no less than was offered (I6)
    int64_t ended_us = 0;
  };
  static constexpr int64_t kTimeWaitUs = 60'000'000;
  static constexpr size_t kMaxDeparted = 1 << 18;
  const Departed* FindDeparted(const tcpshim::FourTuple& tuple) const;

  // When the next timer is due, in logged time; and which. Only a kTimerFired record fires it.
  struct DueTimer {
    int64_t due_us;
    ConnectionId connection;
    uint32_t timer;
  };
  std::optional<DueTimer> NextTimer() const;

 private:
  friend class ConnectionState;
  using TimerKey = std::tuple<int64_t, ConnectionId, uint32_t>;  // due, connection, timer

  absl::Status Dispatch(const replication::RecordView& record);
  absl::Status OnThrown(const char* what, uint64_t hash_before);
  void AbortFaulty(ConnectionState& connection);
  void Remove(ConnectionState& connection, CloseReason reason);
  absl::Status Begin(const EpochBegan& body);
  absl::Status Open(const Opened& body);
  absl::Status Receive(const Received& body);
  absl::Status Advance(const Progress& body);
  absl::Status Fire(const TimerFired& body);
  absl::StatusOr<ConnectionState*> Known(ConnectionId id);

  // True: what is unread is to be given again.
  bool SetView(ConnectionState& connection, const PeerView& view);
  void GivePeerClosed(ConnectionState& connection);
  void GiveUnread(ConnectionState& connection, std::string_view fresh);
  size_t GiveOnce(ConnectionState& connection, std::string_view all);
  void End(ConnectionState& connection, CloseReason reason);
  void ForgetUnread(ConnectionState& connection);
  void Count(ConnectionState& connection);
  void EnforceLimits();
  void AbortOverLimit(ConnectionState& connection, const std::string& what);
  void Touch(ConnectionState& connection);
  void HashOutput(ConnectionState& connection, char what, std::string_view bytes);
  void SetTimer(ConnectionState& connection, uint32_t timer, int64_t due_us);
  void CancelTimer(ConnectionState& connection, uint32_t timer);
  void CancelTimers(ConnectionState& connection);
  void ForgetDeparted();

  Server* const server_;
  const Limits limits_;
  const bool drops_faulty_;
  std::optional<Fault> faulty_;
  const std::string initial_state_;
  replication::Lsn applied_lsn_ = 0;
  replication::Lsn committed_lsn_ = 0;
  bool committed_alone_ = false;
  bool storage_writable_ = true;
  replication::Lsn storage_full_lsn_ = 0;
  size_t buffered_ = 0;
  uint64_t over_limit_ = 0;
  const ConnectionState* giving_ = nullptr;  // whose unread bytes the Server is looking at
  int64_t time_us_ = 0;
  uint64_t epoch_ = 0;
  uint64_t output_hash_ = 0;
  std::mt19937_64 random_;  // the standard fixes its output to the bit
  absl::flat_hash_map<ConnectionId, std::unique_ptr<ConnectionState>> connections_;
  absl::flat_hash_map<tcpshim::FourTuple, ConnectionId> by_tuple_;
  ConnectionId last_opened_ = 0;
  std::vector<ConnectionId> touched_;
  std::set<TimerKey> timers_;
  absl::flat_hash_map<tcpshim::FourTuple, Departed> departed_;
  std::deque<std::pair<int64_t, tcpshim::FourTuple>> departed_order_;
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_EXECUTOR_H_
