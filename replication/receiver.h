// The end of the log's way: joins a primary, checks what comes, stores it and acknowledges. Pure.
//
// Claims 10, 13: it stores the log before it acknowledges, and does not execute first. It knows nothing of
// arbiters; with an Heir it is a secondary, alone it would be a log server.
#ifndef UNDERSTUDY_REPLICATION_RECEIVER_H_
#define UNDERSTUDY_REPLICATION_RECEIVER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "replication/log.h"
#include "replication/protocol.h"

namespace understudy::replication {

// Whom this node follows, as far as it knows.
struct Following {
  uint64_t epoch = 0;  // the newest that a primary has told on a link of this process; 0: none
  std::string primary = {};
  bool member = false;         // the register names this node as the secondary of that epoch
  bool joined = false;         // the link is, now
  int32_t version = 0;         // of the protocol, as agreed when it was joined last
  MonotonicTime last_heard{};  // the newest accepted append, or what counts as one
};

class Receiver {
 public:
  // What an event has done to the link.
  enum class Change {
    kNone,
    kDialFailed,
    kJoined,
    kLost,  // it had been joined
  };
  // Dials at once. All actions are added to `out`. The log outlives this object; nobody else appends to it.
  Receiver(ProtocolConfig config, Log* log, MonotonicTime now, Actions& out);

  const Following& following() const { return following_; }
  Lsn stored_lsn() const { return log_->last_lsn(); }
  const NodeId& primary_id() const { return primary_id_; }  // that it joined last
  const std::string& why() const { return why_; }           // of the last failure to join

  // --- Events. While stopped, links that come up are closed and nothing is dialed ---

  Change OnDialed(DialResult result, MonotonicTime now, Actions& out);
  Change OnJoinReply(const wire::JoinReply& reply, MonotonicTime now, Actions& out);
  Change OnRefused(const wire::Refused& refused, MonotonicTime now, Actions& out);
  Change OnLinkDown(const std::string& reason, MonotonicTime now, Actions& out);

  struct AppendOutcome {
    std::optional<wire::Refused> refused;
    wire::AppendReply reply = {};  // when not refused; cannot_take_over is the owner's
    bool news = false;             // the epoch, or whether this node is a member, has changed
  };
  // Stores, and leaves a Replay of what is new. REQUIRES: !stopped().
  AppendOutcome OnAppend(wire::AppendRequest request, Lsn applied, MonotonicTime now, Actions& out);
  // A pulse of the primary, of that version: true if it counts as heard. It may be of the epoch in which this
  // node becomes a member, before the append that tells it so.
  bool OnPulse(uint64_t epoch, int32_t version, MonotonicTime now);
  // Whether the primary, silent by now, may leave what it has to this node.
  std::optional<wire::Refused> CheckHandover(const wire::HandoverRequest& request) const;
  void Heard(MonotonicTime now) { following_.last_heard = now; }

  Change OnTick(MonotonicTime now, Actions& out);
  MonotonicTime NextTick() const;

  // --- The owner ---

  // The register says that this node is a member, in that epoch.
  void BecomeMember(uint64_t epoch, MonotonicTime now);
  // Closes the link, if there is one.
  void CloseLinkFor(const std::string& reason, Actions& out);
  // From here on nothing is stored and nobody dialed; a link that is up stays.
  void Stop();
  bool stopped() const { return stopped_; }
  // As a joiner: whatever this node was a member of goes on without it.
  void StartAnew(const std::string& why, Actions& out);

  wire::Refused Refuse(wire::RefuseReason::type reason, std::string detail) const;
  // Panics (CHECK) when an internal invariant does not hold.
  void CheckInvariants() const;

 private:
  enum class LinkState {
    kNone,
    kDialing,
    kJoinSent,
    kJoined,
  };
  void SetLink(LinkState link);
  nanoseconds SlowDown(nanoseconds most);
  nanoseconds BackOff(const wire::Refused& refused);
  void StartDial(Actions& out);
  void DialLater(nanoseconds pause, MonotonicTime now);
  Change CloseAndRetry(const std::string& reason, MonotonicTime now, Actions& out);
  std::string FaultOf(const wire::JoinReply& reply) const;
  std::optional<wire::Refused> CheckAppend(const wire::AppendRequest& request) const;
  std::optional<wire::Refused> Store(wire::AppendRequest* request, Actions& out);
  std::vector<OutputHash> NewHashes(const wire::AppendRequest& request, Lsn end);

  ProtocolConfig config_;
  Log* log_;
  Following following_;
  std::string why_;
  bool stopped_ = false;
  NodeId primary_id_;
  OutputHash told_;  // the newest that was passed on

  LinkState link_ = LinkState::kNone;
  MonotonicTime link_since_;  // of kJoinSent
  std::optional<MonotonicTime> dial_at_;
  nanoseconds back_off_{0};
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_RECEIVER_H_
