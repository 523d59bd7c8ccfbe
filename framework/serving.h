// Serving: what a node does while it owns the clients, as primary or standalone.
//
// It joins the north wrapper (input), the log (Journal), the executor, output commit and, in a pair, the
// south wrapper. One turn of the loop is: input becomes records, records are executed (a few records behind,
// so that the Server can be told what to expect: Server::Expect), the turn's records go to the journal in one
// batch; when the journal says they are stable, output and acknowledgements leave. Standalone is the same
// with a journal that is stable at once and no south wrapper.
//
// The code is in five files: serving.cc (input, time), serving_handshake.cc (the beginning of connections),
// serving_output.cc (what leaves), serving_takeover.cc (endpoints of the dead), and serving_shutdown.cc (a
// graceful end).
#ifndef UNDERSTUDY_FRAMEWORK_SERVING_H_
#define UNDERSTUDY_FRAMEWORK_SERVING_H_

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "framework/executor.h"
#include "framework/host.h"
#include "framework/logged_clock.h"
#include "framework/output_commit.h"
#include "replication/record.h"
#include "tcpshim/endpoint.h"
#include "tcpshim/north_wrapper.h"
#include "tcpshim/raw_sender.h"
#include "tcpshim/south_wrapper.h"

namespace understudy {

// Where the records of a turn go. What becomes stable later it says with Serving::OnStable, never inside a
// call from here.
class Journal {
 public:
  virtual ~Journal() = default;
  // Returns up to where the log is stable now.
  virtual replication::Lsn Append(replication::RecordBatch batch, replication::Lsn executed_lsn,
                                  uint64_t output_hash) = 0;
  // False: stop reading from clients until the next OnStable (I7).
  virtual bool CanAppend() const = 0;
  // True: what is appended now is stable when Append returns.
  virtual bool StableAtOnce() const = 0;
  virtual replication::Lsn StableLsn() const = 0;
  // The other node has the records, and says that its Server cannot write now.
  virtual bool PeerCannotWrite() const = 0;
  // The Server cannot make durable what it has executed (Server::Commit), and nothing of that has left.
  // This Serving must be stopped before this returns.
  virtual void OnCommitFailed(absl::Status why) = 0;
  // A call of the Server threw, and it must not be called any more; this Serving has stopped. `last`: what is
  // not in the log yet, with the record by which the other node learns of it; may be empty.
  virtual void OnServerThrew(absl::Status why, replication::RecordBatch last, replication::Lsn executed_lsn,
                             uint64_t output_hash) = 0;
};

// The south side of a pair; a standalone node has none. Not owned.
struct SouthSide {
  tcpshim::SouthWrapper* wrapper = nullptr;
  tcpshim::RawSender* sender = nullptr;
  // Whether an address is this host's own: such a client's segments do not pass the south wrapper. Empty:
  // none is.
  std::function<bool(uint32_t ip)> is_local;
};

class Serving final : public tcpshim::NorthWrapper::Log {
 public:
  // Bytes that may be in TCP's hands beyond the client's progress that the log tells of. An heir must be
  // able to claim all of them as sent, so this also bounds what it restores.
  static constexpr uint64_t kMaxUnacked = 6u << 20;
  // Input that a Server which is held back (Server::OnWritable) has left unread, beyond which no more is
  // read (I7). One that waits for more input may leave as much unread as it likes.
  static constexpr size_t kMaxHeldBack = 1u << 20;
  // Handshakes under way at once (I7); beyond them the oldest makes room, so that a flood of SYNs keeps
  // nobody out. As many as TCP itself keeps (the listener's backlog) before it goes over to SYN cookies.
  static constexpr size_t kMaxHalfOpen = 4096;
  // A takeover restores the endpoints of as many handshakes at once; of more, those whose clients answer.
  static constexpr size_t kMaxRestoredHandshakes = 512;

  // `executor` has applied everything up to its applied_lsn; the first record here follows it.
  Serving(Host* host, Executor* executor, Journal* journal, SouthSide south);
  ~Serving() override;

  // Logged time, from now on. After a takeover it goes on where the dead primary's is by now.
  int64_t LoggedTimeUs() { return logged_.Advance(clock_->Monotonic(), clock_->WallMicroseconds()); }
  void ContinueLoggedTime(int64_t us) { logged_ = LoggedClock(clock_->Monotonic(), us); }

  // Makes the north wrapper; nothing listens yet.
  absl::Status Start(const tcpshim::NorthWrapper::Options& options = {});
  tcpshim::NorthWrapper& north() { return *north_; }
  tcpshim::SocketAddress north_address() const { return north_->listening(); }

  // Appends the first record of an epoch (and of the log). `timestamp_shift`: see EpochBegan.
  void BeginEpoch(uint64_t epoch, uint64_t seed, uint32_t timestamp_shift, const std::string& node);

  // Before a node that has become alone lets anything leave. False: the Server is broken, and this was
  // stopped.
  bool CommitAlone() { return executor_->committed_alone() || Commit(/*always=*/true); }

  // --- Takeover, in this order; see serving_takeover.cc ---
  // Restores every endpoint of the executor, those with something pending first, while the gate is
  // closed. Returns how many could not be restored; their reasons are logged.
  struct RestoreOutcome {
    size_t restored = 0, failed = 0, without_route = 0;
  };
  // `timestamp_shift`: the old primary's clock less ours, as far as it can be known, plus a margin.
  RestoreOutcome RestoreEndpoints(uint32_t timestamp_shift);
  // The gate is open: sends what clients may be missing, without waiting for a timer.
  void ResendPending();
  // Appends the epoch's first record; what could not be restored is broken. Turns begin. Handshakes that were
  // under way are complete when their clients say a word; those that do not are forgotten without one.
  // `fault`: a connection that is aborted before anything of it is executed.
  void ResumeTurns(uint64_t epoch, uint32_t timestamp_shift, const std::string& node,
                   const std::optional<Fault>& fault = std::nullopt);

  // Segments may have left past the south wrapper, which does not know of them.
  void OnFenceMended();

  // The last turns of a node that may have acknowledged what is not in the log: whatever TCP has received is
  // taken, however much is pending. See that nothing more comes in.
  void TakeTheRest();
  bool HasTheRest() const;

  // Everything up to `lsn` is stable.
  void OnStable(replication::Lsn lsn);

  // Graceful end of a node that has no other to hand its clients to (serving_shutdown.cc): takes nothing more
  // from clients, lets leave what was answered, and a FIN behind it. `finished` is called once, on the loop:
  // when each client has all of it, or after `limit`. The Server is not called any more.
  void ShutDown(std::chrono::milliseconds limit, std::function<void()> finished);

  // Writes nothing more and calls the Server no more.
  void Stop();
  // Stops, and closes all sockets without a FIN or RST. For a node that has lost its right to serve.
  void FallSilent();

  replication::Lsn last_lsn() const { return builder_.next_lsn() - 1; }

  struct Counters {
    uint64_t accepted = 0, accepts_refused = 0, ended = 0, broken = 0, superseded = 0;
    uint64_t half_open_refused = 0, half_open_evicted = 0, half_open_expired = 0, half_open_reset = 0;
    uint64_t acks_by_hand = 0, acks_past_programs = 0, syn_acks_by_hand = 0, rsts_vouched = 0,
             time_wait_acks = 0;
    uint64_t refused_elsewhere = 0;
    uint64_t local_clients = 0;  // of this host: see OpenUnseen
    uint64_t bytes_received = 0, bytes_sent = 0, segments_resent = 0;
    uint64_t segments_refused = 0;  // of these, by this host: too large
    uint64_t regripped = 0;         // see TakeGrip
    uint64_t fin_waits_restored = 0;
  };
  const Counters& counters() const { return counters_; }

  // --- NorthWrapper::Log ---
  tcpshim::NorthWrapper::Accepted OnAccepted(int fd, const tcpshim::FourTuple& tuple) override;
  absl::Span<char> BeginReceive(ConnectionId id) override;
  void EndReceive(ConnectionId id, size_t size) override;
  void OnEndOfStream(ConnectionId id) override;
  void OnBroken(ConnectionId id, int error) override;
  void OnWritable(ConnectionId id) override;
  void OnTurnDone() override;

 private:
  // Output [from, end), and the FIN behind it, that is resent by hand until the client acknowledges it, or
  // the kernel can.
  struct Resent {
    uint64_t from = 0, end = 0;
    bool fin = false;
    uint64_t next = 0;  // up to where it was resent
    std::chrono::steady_clock::time_point again_at{};
    uint8_t times = 0;  // its first segment was resent again
  };

  // What this node, not the log, knows of a connection.
  struct Live {
    ConnectionId id = 0;
    const ConnectionState* state = nullptr;  // the executor's; gone when this is
    tcpshim::FourTuple tuple;
    uint64_t cookie = 0;                              // of the socket that its handshake becomes; 0: unknown
    std::optional<tcpshim::SouthWrapper::Slot> slot;  // none: of this host, or superseded, or standalone
    bool has_socket = false;
    bool syn_ack_sent = false;
    uint8_t syn_acks = 0;     // SYN-ACKs sent after a takeover
    bool superseded = false;  // its client has begun anew from the same port
    bool dirty = false;       // in dirty_
    bool look = false;        // in look_
    bool restored = false;    // by takeover: something may have to be resent
    bool blocked = false;     // TCP takes nothing now; OnWritable follows
    bool paused = false;      // reading was refused: see TooMuchPending
    bool fin_written = false;
    // While shutting down, beyond what the log says:
    uint32_t discarded = 0;   // bytes, and 1 for the client's FIN
    bool peer_ended = false;  // that FIN has come
    bool broken = false;
    // Restored as sent up to this output offset, and the client has not said anything since; 0: it has.
    uint64_t unheard_until = 0;
    // The same, after its first word has made it less (TakeGrip): the client may still acknowledge so much,
    // if that word was an old one. 0: it is past.
    uint64_t claimed_until = 0;
    std::optional<Resent> resent;
    bool untimed = false;     // restored, and the kernel has no round-trip time yet: see ResendAgain
    uint8_t unconfirmed = 0;  // looks at which TCP had not seen what the south wrapper had
    std::chrono::steady_clock::time_point next_doubt{};  // while it is watched: see BelieveTcp
    Released released;
    uint64_t written = 0;                           // output offset handed to TCP
    size_t read_size = 4096;                        // grows with what the client sends
    std::chrono::steady_clock::time_point since{};  // of the handshake, or the takeover; then of our FIN
    // The client has all that was sent to it, and lingers: since when, and what had come from it then.
    std::optional<std::chrono::steady_clock::time_point> lingers_since;
    uint64_t lingers_from = 0;
  };

  // serving.cc
  void Append(RecordKind kind, std::string_view body, ConnectionId id);
  void Execute(const replication::RecordView& record, ConnectionId id, size_t at);
  void ServerThrew(const absl::Status& why, size_t at);
  void ExecuteWaiting(size_t but = 0);
  void EndTurn();
  void ReleaseStable(replication::Lsn lsn);
  bool Commit(bool always = false);
  void TellStorage();
  bool MustHold(replication::Lsn lsn) const;
  void Release(ConnectionId id, const Released& released);
  bool TooMuchPending(const ConnectionState& state) const;
  void HandleUnknownRst(const south_event& event);
  void HandleAcked(const south_event& event);
  void HandleElsewhere(const south_event& event);
  void HandleSouthEvents();
  void Tick();
  void ScheduleTick();
  void FireTimers();
  void ScheduleTimers();
  Live* Find(ConnectionId id);
  std::vector<ConnectionId> Ids() const;
  Live& AddLive(ConnectionId id);
  void Drop(Live& live);
  int64_t TimeUs();
  int64_t NextTimeUs() { return appended_us_ = TimeUs(); }

  // serving_handshake.cc
  void HandleSynAck(const south_event& event);
  void HandleRepeatedSyn(const south_event& event);
  void HandleHandshakeReset(const south_event& event);
  Live* FindNewest(const tcpshim::FourTuple& tuple);
  bool IsAcceptOf(int accepted, const Live& live) const;
  Live* OpenUnseen(const tcpshim::FourTuple& tuple, bool local);
  bool IsLocal(uint32_t ip);
  void Connect(Live& live);
  void ConnectWaiting();
  void Supersede(Live& old);
  bool CheckSuperseded(Live& live);  // true: it has ended
  void EndHandshake(Live& live);
  bool EvictHalfOpen();
  void CheckHandshakes();
  bool IsProven(const Live& live) const;
  void Prove(Live& live);

  // serving_output.cc
  void MarkDirty(Live& live);
  void FlushDirty();
  void Flush(Live& live);
  void WriteOutput(Live& live);
  void SendHeldAck(Live& live);
  void SendSynAck(Live& live);
  uint32_t TimestampByHand(const Live& live) const;
  bool IsConfirmed(const Live& live) const;
  uint64_t AckedForTcp(const Live& live) const;
  PeerView ViewOf(const Live& live) const;
  bool FinAcked(const Live& live) const;
  void BelieveTcp(Live& live);
  static bool MustWatch(const Live& live);
  void Watch(Live& live);
  void Look(Live& live);
  bool AwaitAck(const Live& live);
  void CheckWatched();
  bool CheckProgress(Live& live);  // false: need not be watched any longer
  bool CheckFinished(Live& live);  // true: it has ended
  bool HasLingered(Live& live);

  // serving_shutdown.cc
  bool ShuttingDown() const { return shutdown_.has_value(); }
  absl::Span<char> BeginDiscard(ConnectionId id);
  void ShutDownTick();
  bool HasShutDown(Live& live);

  // serving_takeover.cc
  tcpshim::Endpoint EndpointOf(const ConnectionState& state) const;
  bool IsOfDeadHost(const ConnectionState& state);
  bool IsRestoredLate(const ConnectionState& state) const;
  bool RestoreOne(const ConnectionState& state);
  bool RestoreLocal(Live& live, const tcpshim::Endpoint& endpoint);
  bool RestoreFinWait(const tcpshim::FourTuple& tuple, const Executor::Departed& departed);
  // Unavailable: there is no route to the client.
  absl::Status RestoreSocket(Live& live, const tcpshim::Endpoint& endpoint);
  void AwaitRoute(Live& live, const absl::Status& why);
  void RetryRoutes();
  void ResendOne(Live& live);
  void ResendByHand(Live& live, Resent what);
  void ResendAgain(Live& live);
  void WatchUntimed(Live& live);
  tcpshim::Segment AckByHand(const Live& live) const;
  uint64_t Resend(Live& live, const Resent& what, int segments);
  void TakeGrip(Live& live);
  bool HasLostGrip(Live& live);

  Host* const host_;
  const Clock* const clock_;
  LoggedClock logged_;
  Executor* const executor_;
  Journal* const journal_;
  const SouthSide south_;
  std::unique_ptr<tcpshim::NorthWrapper> north_;
  std::unique_ptr<DescriptorWatch> south_events_;
  const std::unique_ptr<Timer> tick_;
  const std::unique_ptr<Timer> timers_;  // the Server's
  bool look_soon_ = false;               // the next tick comes soon
  bool ticking_ = false;                 // this turn is a tick
  bool silent_ = false;
  bool server_threw_ = false;  // nothing is executed any more
  bool in_turn_ = false;
  bool taking_the_rest_ = false;
  bool taking_over_ = false;  // from RestoreEndpoints to ResumeTurns: nothing new happens
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // for what is posted
  struct Shutdown {
    std::chrono::steady_clock::time_point limit;
    std::function<void()> finished;
  };
  std::optional<Shutdown> shutdown_;
  std::optional<int64_t> timers_at_us_;

  replication::BatchBuilder builder_;
  int64_t appended_us_ = 0;  // time of the last record in it
  // Received bytes that are in builder_ and not executed yet: nothing else happens before they are.
  struct Waiting {
    size_t at;  // in builder_
    ConnectionId connection;
  };
  std::deque<Waiting> waiting_;
  OutputCommit commit_;
  bool cannot_write_ = false;  // the Server said so in its last Commit
  // Stable, but nothing of it is durable on this node, which is alone: see Server::OnStorage.
  absl::btree_map<ConnectionId, Released> undurable_;
  absl::flat_hash_map<ConnectionId, std::unique_ptr<Live>> live_;
  std::vector<ConnectionId> dirty_;  // released further, not flushed yet
  // Ordered: what comes of walking through them shows in the log, and a run must be repeatable.
  absl::btree_set<ConnectionId> watched_;    // something depends on the client's acknowledgements
  absl::btree_set<ConnectionId> half_open_;  // oldest first
  absl::btree_set<ConnectionId> unproven_;   // of a takeover: their clients have said nothing yet
  // Connections that the log still has as open, although their clients have begun anew; at most one each.
  // The next one is accepted, and waits for its end.
  absl::flat_hash_map<tcpshim::FourTuple, ConnectionId> superseded_;
  std::vector<ConnectionId> connectable_;     // which wait no longer
  std::vector<ConnectionId> refused_by_log_;  // whose input was refused until the next OnStable
  std::vector<ConnectionId> look_;            // of the watched, those to look at in this turn
  std::vector<ConnectionId> not_restored_;
  absl::flat_hash_map<uint32_t, bool> local_ips_;  // while taking over: IsLocal, the same to all that ask
  // Restored but for the socket: this host has no route to their clients yet.
  struct Routeless {
    ConnectionId id;
    std::chrono::steady_clock::time_point until;
  };
  std::deque<Routeless> routeless_;
  // Given to this host's TCP (RestoreFinWait): logged time of their end.
  absl::flat_hash_map<tcpshim::FourTuple, int64_t> fin_waits_;
  uint32_t timestamp_shift_ = 0;  // while taking over, before EpochBegan has it applied
  ConnectionId receiving_ = 0;
  size_t receive_room_ = 0;
  ConnectionId last_id_ = 0;
  Counters counters_;
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_SERVING_H_
