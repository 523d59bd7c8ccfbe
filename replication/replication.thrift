// The protocol of the pair. Frames of 4 bytes big-endian length + one Thrift message (binary protocol,
// strict) on one TCP connection. The secondary dials; it calls PrimaryService, the primary calls
// SecondaryService on the same connection. Calls are answered in order; several may be in flight.
//
// With a shared key (auth.h) the secondary's first call is hello, and every frame behind its answer ends with
// 16 bytes of authentication code, counted in its length. Without one there is no hello, and no code.
//
// LSNs, epochs: see record.h, arbiter.h. Thrift has no unsigned types; all numbers here are >= 0.

namespace cpp understudy.replication.wire

// What this program speaks: all versions in between (version.h).
const i32 PROTOCOL_VERSION = 5
const i32 OLDEST_PROTOCOL_VERSION = 5

enum RefuseReason {
  WRONG_VERSION = 1,        // the other end speaks another protocol
  WRONG_SERVICE = 2,        // belongs to another service address
  NOT_PRIMARY = 3,          // asked a node that does not serve
  WRONG_EPOCH = 4,          // sender's epoch is over, or unknown here
  ALREADY_HAVE_ONE = 5,     // a secondary is joined already
  NEEDS_STATE_TRANSFER = 6, // the log before the asker's position is gone
  BAD_RECORDS = 7,          // CRC, length or LSN of a record is wrong
  OUT_OF_ORDER = 8,         // not the next LSN
  NOT_JOINED = 9,           // a call before join succeeded
  SAME_NODE = 10,           // both ends have the same name
  NOT_AUTHENTIC = 11,       // one end has a key and the other none, or a name that is not the one in hello
  NOT_REPLAYING = 12,       // holds records and replays none of them
  OTHER_SETTINGS = 20,      // a setting that must be the same on both differs
}

exception Refused {
  1: required i32 reason       // a RefuseReason; an i32, because a peer may know more of them
  2: required string detail
  3: required i64 epoch     // what the refusing node believes to be the current epoch, 0 if it knows none
}

struct HelloRequest {
  1: required i32 protocol_version     // the newest it speaks
  2: required string service_address   // "IP:PORT"
  3: required string node       // name of the node that dialed
  4: required binary nonce      // 32 random bytes
  5: optional i32 oldest_protocol_version   // that it speaks; not set: the newest is the only one
}

struct HelloReply {
  1: required string node
  2: required binary nonce
  3: required binary proof      // auth.h: AcceptorProof
}

struct JoinRequest {
  1: required i32 protocol_version     // the newest it speaks
  2: required string service_address   // "IP:PORT"; `service` is a word of Thrift
  3: required string node       // name of the joining node
  4: required i64 epoch         // epoch of the last record it holds, 0 if it holds none
  5: required i64 last_lsn      // last record it holds, 0 if none
  6: i64 applied_lsn            // how far its replay is
  7: optional i32 oldest_protocol_version   // that it speaks; not set: the newest is the only one
  8: optional i64 incarnation   // with `node`: a NodeId (node_id.h)
  9: optional string endpoint
  // What its host can do, so that the primary promises no client more.
  20: optional i32 interface_mtu       // of the service interface
  21: optional i64 max_connections     // by its limit of open files
  30: optional map<string, string> settings   // must be the primary's: names and values
}

struct JoinReply {
  1: required string node
  2: required i64 epoch
  3: required i64 next_lsn          // first record the primary will send
  4: required i32 suspect_after_ms  // both must use the same; the joiner refuses another
  5: binary last_word_hash          // last_word.h: 32 bytes; empty: this process has no witness
  6: i32 protocol_version           // the newest both speak: used from here on
  7: optional i64 incarnation       // with `node`: a NodeId (node_id.h)
  8: optional string endpoint
}

// Of all output of the primary's Server, up to and including that record.
struct OutputHash {
  1: required i64 lsn
  2: required i64 hash
}

// One turn of the primary's loop; a heartbeat when it carries no record. Several turns when the receiver
// catches up.
struct AppendRequest {
  1: required i64 epoch
  2: required i64 first_lsn       // of records; when empty: of the next record to come
  3: required binary records      // RecordBatch::bytes()
  4: required i64 sent_at_ns      // primary's CLOCK_MONOTONIC; echoed: the lease runs from here
  5: required bool member         // the register names the receiver as the secondary of this epoch
  6: required i64 executed_lsn    // the last record up to the end of `records` behind which a turn ended ...
  7: required i64 output_hash     // ... and the hash of all output up to there
  8: optional list<OutputHash> earlier_hashes   // the same of the turns before, of those in `records`
  20: optional i64 logged_us      // the primary's logged time at sent_at_ns, microseconds since 1970
}

struct AppendReply {
  1: required i64 epoch
  2: required i64 stored_lsn      // all records up to here are stored
  3: required i64 sent_at_ns      // echo
  4: required i64 applied_lsn     // how far the replay is
  5: required string cannot_take_over   // why, if the primary died now; empty: the sender could
  20: optional bool cannot_write  // its Server cannot make things durable now: its disk is full, say
  21: optional string warning     // what its operator should know of a takeover; empty: nothing
}

struct HandoverRequest {
  1: required i64 epoch
  2: required i64 last_lsn        // the log ends here; the sender is silent already
  3: required string why
}

struct HandoverReply {
  1: required i64 epoch
}

service PrimaryService {
  HelloReply hello(1: HelloRequest request) throws (1: Refused refused)
  JoinReply join(1: JoinRequest request) throws (1: Refused refused)
}

service SecondaryService {
  AppendReply append(1: AppendRequest request) throws (1: Refused refused)
  HandoverReply handover(1: HandoverRequest request) throws (1: Refused refused)
}
