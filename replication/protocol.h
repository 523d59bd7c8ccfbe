// What the two state machines of the pair share: time, configuration, and the actions they ask for.
//
// primary.h and secondary.h are pure: no socket, no clock, no thread, no file. They are given events
// (messages, link changes, answers of the arbiter, the passing of time) and leave actions, which the
// owner carries out in order. The simulator in tests/ and the node in framework/ run the same code.
#ifndef UNDERSTUDY_REPLICATION_PROTOCOL_H_
#define UNDERSTUDY_REPLICATION_PROTOCOL_H_

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "replication/arbiter.h"
#include "replication/log.h"
#include "replication/monotonic_time.h"
#include "replication/node_id.h"
#include "replication/record.h"
#include "replication/replication_types.h"  // generated from replication.thrift
#include "replication/version.h"

namespace understudy::replication {

struct ProtocolConfig {
  NodeId self;          // only the name must be known
  std::string service;  // "IP:PORT", must be the same on both
  std::string key;      // shared by the pair (auth.h); empty: anybody is believed
  VersionRange versions = SpokenVersions();
  milliseconds heartbeat{10};
  milliseconds suspect_after{80};
  // The primary's right to serve ends this much before the secondary may suspect it. It covers the
  // granularity of timers, not the clocks: both spans run from one event, on clocks of one rate.
  milliseconds lease_guard{10};
  // SHA-256 of what this process's witness will say when it is dead (last_word.h); empty: it has none.
  std::string last_word_hash;
  // Who holds the register looks at it this often.
  milliseconds register_check{1000};
  // How long a secondary may hold records without replaying any of them before the primary does without it.
  milliseconds max_stall{10'000};
  // How long a primary that was replaced waits, silent, for the epoch to be given back by a heir that failed.
  milliseconds give_back_wait{3000};
  // Must be the same on both: a node with others is not let join. Names and values.
  std::map<std::string, std::string> settings = {};
  // Bytes of records that may be unstable at once; beyond, PrimaryCore::CanAppend() is false (I7).
  size_t max_unstable_bytes = 16u << 20;
  // Bytes of records sent to the secondary but not yet acknowledged while it catches up.
  size_t max_catch_up_bytes = 4u << 20;
  // Bytes of records sent to the secondary that it has not replayed; beyond, one that catches up is sent no
  // more, and for one that is a member CanAppend() is false (I7).
  size_t max_replay_lag = 64u << 20;
  // Bytes of stable records kept so that a secondary that was away for a moment can go on from where it
  // was. Without them it needs a state transfer.
  size_t retain_bytes = 64u << 20;
  // The secondary looks this often whether it could take over, and this soon again when it could not.
  milliseconds check_every{2000};
  milliseconds check_again{100};
};

// A join takes two round trips, for the proofs of the key and for itself, and has suspect_after. A link that
// is slower than that allows could not renew a lease in time for long either.
inline std::string SlowLinkAdvice(milliseconds suspect_after) {
  return "if a round trip of the replication link takes " + std::to_string(suspect_after.count() / 2) +
         " ms or more, raise --suspect_after_ms on both nodes to three times that";
}

// --- Actions -------------------------------------------------------------------------------------

// Send on the current link. The reply comes back as an event.
struct SendJoin {
  wire::JoinRequest request;
};
struct SendAppend {
  wire::AppendRequest request;
};
struct SendHandover {
  wire::HandoverRequest request;
};
// Close the current link, log and count the reason. No OnLinkDown follows.
struct CloseLink {
  std::string reason;
};
// Dial the peer once; the outcome comes back as OnDialed.
struct Dial {};
// Ask the arbiter; the outcome comes back as OnArbiter. At most one is outstanding.
struct ReadRegister {};
// Ask the arbiter whether this node can read it and could swap (Arbiter::Probe); the outcome comes back as
// OnArbiterChecked. Beside the others: at most one is outstanding, too.
struct CheckArbiter {};
struct SwapRegister {
  Register expected, desired;
};
// Everything up to lsn is stable: held output up to it may leave.
struct StableUpTo {
  Lsn lsn;
};
// This node may emit packets for the service address until then. Later ones extend, never shorten,
// except FallSilent.
struct Lease {
  MonotonicTime until;
};
// Close the gate now. The epoch may or may not be lost; a Lease may follow.
struct FallSilent {
  std::string reason;
};
// The epoch is another's. Silent for good; the core does nothing more.
struct Deposed {
  std::string reason;
  Register current;
};
// New records for the store's owner to replay (secondary). They count as stored already. `hashes`: of the
// primary's output, up to the last record of each of its batches; the replay's must be the same. In order,
// and of records up to the end of `batch`; perhaps of one that was there before. Either may be empty.
struct Replay {
  RecordBatch batch;
  std::vector<OutputHash> hashes;
};
// The arbiter has granted the epoch: replay to last_lsn, restore the endpoints, serve.
struct TakeOver {
  Register granted;
  Lsn last_lsn;
  std::string why;
};

using Action = std::variant<SendJoin, SendAppend, SendHandover, CloseLink, Dial, ReadRegister, CheckArbiter,
                            SwapRegister, StableUpTo, Lease, FallSilent, Deposed, Replay, TakeOver>;
using Actions = std::vector<Action>;

// --- What the wire says ---------------------------------------------------------------------------

// JoinRequest or JoinReply: who the sender is, whose name has been checked. An endpoint that is none is left
// out.
template <typename Join>
NodeId IdOf(const Join& join) {
  NodeId id{join.node, static_cast<uint64_t>(join.incarnation), join.endpoint};
  if (!NodeId::Parse(id.ToString()).ok()) id.endpoint.clear();
  return id;
}
template <typename Join>
void SetId(const NodeId& id, Join& join) {
  join.node = id.name;
  join.__set_incarnation(static_cast<int64_t>(id.incarnation));
  join.__set_endpoint(id.endpoint);
}

// --- Events shared by both -----------------------------------------------------------------------

enum class DialResult {
  kConnected,
  // Nothing listens there, says the peer's host, or a firewall on the way. It proves nothing: who may serve
  // is a matter of the lease, the last word (last_word.h) and the arbiter.
  kRefused,
  kUnreachable,  // no answer, or no route: proves nothing
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_PROTOCOL_H_
