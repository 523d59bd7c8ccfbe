// Server and Connection: what an application is written against.
//
// A complete echo server:
//
//   class Echo : public understudy::Server {
//     size_t OnData(understudy::Connection& c, std::string_view unread) override {
//       c.Send(unread);
//       return unread.size();
//     }
//   };
//   int main(int argc, char** argv) { return understudy::Run<Echo>(argc, argv); }   // framework/run.h
//
// The same object runs on the primary and, a moment later, on the secondary, which is given the same
// calls in the same order (state-machine replication over the log of inputs). So a Server must be
// deterministic: what it does may depend only on what it is handed. In particular
//   - time is Connection::Now(), randomness is Connection::Random(); no clock, no random device, no
//     address of an object, no iteration order of a hash table that is seeded per process;
//   - no thread of its own whose timing shows in the output;
//   - the outside world (files of this host, other services) may be read or changed only in ways that
//     are the same on both nodes.
// The pair compares a running hash of the output and says loudly when a Server is not.
//
// A call holds up all clients while it runs. One that takes longer than --max_stall_ms (10 s) is taken for
// hung: the other node takes over, and is given the same input.
//
// Threads: all calls of one Server come one after the other, never two at once. Not always from the same
// thread: the secondary replays on a thread of its own.
#ifndef UNDERSTUDY_FRAMEWORK_SERVER_H_
#define UNDERSTUDY_FRAMEWORK_SERVER_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace understudy {

// Numbers connections in the order in which their handshakes began: 1, 2, 3, ...; never reused, the same on
// both nodes.
using ConnectionId = uint64_t;

// Microseconds since 1970, from the log. Never goes back, stands still during one call.
using LoggedTime = std::chrono::time_point<std::chrono::system_clock, std::chrono::microseconds>;

// One client's TCP connection, as an application sees it. Owned by the framework; a pointer to it is good
// until OnClosed returns. Only to be used inside a call of the Server.
class Connection {
 public:
  virtual ~Connection() = default;

  virtual ConnectionId id() const = 0;
  // "198.18.0.9:40000": the client.
  virtual const std::string& peer() const = 0;
  // "198.18.0.100:7000": the service address that it connected to.
  virtual const std::string& local() const = 0;

  // Queues bytes. They leave once everything they may depend on is stable. A Server that produces much stops
  // at high_water() and goes on in OnWritable. No-op after HalfClose, Close or Abort. A connection is aborted
  // inside a Send that finds more than --max_pending_output_mb pending already (so one Send may be of any
  // size); when pending output and unread input of all connections are more than --max_buffered_mb, the
  // connection that has most of it is, inside any Send and after any OnData. OnClosed(kOverLimit) follows.
  virtual void Send(std::string_view bytes) = 0;
  // Bytes sent that the client is not known to have acknowledged yet. What it acknowledges becomes known with
  // its next bytes, or in steps of min(256 KiB, high_water() / 4): so much of this a client may have long
  // had.
  virtual size_t pending_output() const = 0;

  // FIN behind what was sent; the client may go on sending, and OnData goes on.
  virtual void HalfClose() = 0;
  // FIN behind what was sent; what the client still sends is read and thrown away, so that no RST cuts
  // off bytes on their way to it. OnClosed follows when the client is done too.
  virtual void Close() = 0;
  // RST; output not yet sent is lost. OnClosed follows.
  virtual void Abort() = 0;

  // Calls OnTimer with `timer` once, `after` from Now(): negative is now, microseconds::max() is never.
  // Setting it again replaces it. Timers are kept per connection and numbered by the application; they end
  // with the connection, that is with OnClosed: after Close they still fire, after Abort no more. They fire
  // when the loop gets to it, never early.
  virtual void SetTimer(uint32_t timer, std::chrono::microseconds after) = 0;
  virtual void CancelTimer(uint32_t timer) = 0;

  // Data the application wants to keep with the connection. Owned by the connection from here on.
  struct Context {
    virtual ~Context() = default;
  };
  virtual void set_context(std::unique_ptr<Context> context) = 0;
  virtual Context* context() const = 0;

  // Time and randomness for a Server: the same on both nodes.
  virtual LoggedTime Now() const = 0;
  virtual uint64_t Random() = 0;  // uniform over all 64 bits; not for secrets

  // A Server that produces more than it was asked for (a download, say) should stop sending when
  // pending_output() >= high_water(); OnWritable comes when it has fallen below half of it. One that
  // answers requests may stop consuming there instead: see Server::OnData.
  // While pending_output() is at eight times high_water() or above, the client's bytes are not read any more.
  static constexpr size_t kDefaultHighWater = 1u << 20;
  static constexpr size_t kLowestHighWater = 4u << 10;
  virtual size_t high_water() const = 0;
  // At least kLowestHighWater. Below pending_output(): OnWritable is owed; above it: OnWritable is not owed
  // any more. A Server that would rather keep answers than let a client wait that sends before it reads says
  // SIZE_MAX.
  virtual void SetHighWater(size_t bytes) = 0;
};

enum class CloseReason {
  kDone,       // both directions ended in order
  kReset,      // the client reset it, or vanished
  kAborted,    // the Server aborted it
  kOverLimit,  // the framework aborted it: see Connection::Send
  kFault,      // the framework aborted it, since a call of the Server for it threw: see Server::Transactional
};

// What Server::Commit is told. LSNs are positions in the log, the same on both nodes.
struct CommitPoint {
  uint64_t executed = 0;  // every record up to here was executed, and none behind it
  uint64_t stable = 0;    // up to here (at most `executed`) the history is settled: see Server::Commit
  bool alone = false;     // no other node has the records
};

// Names and values that both nodes of a pair must have alike: see Server::MustAgree.
using Settings = std::map<std::string, std::string>;

class Server {
 public:
  virtual ~Server() = default;

  // What this Server's state is before the first record of the log, in words or as a digest: both nodes of
  // a pair must begin with the same, and one that begins with another never serves. For a Server that may
  // begin with data of its own. Called once, before anything else.
  virtual std::string InitialState() { return ""; }

  // What else must be the same on both nodes for them to do the same: flags that matter to what clients see,
  // by name (ValuesOfFlags in run.h reads gflags). A node whose values differ is not let join, and both logs
  // name the first that differs, with both values. Called once, before anything else.
  virtual Settings MustAgree() { return {}; }

  // Whether a call that ends with an exception has left this Server as if it had not been made. If so, only
  // the connection that the call was for is ended, on both nodes (OnClosed(kFault)); what the call has sent
  // to others stays sent. If not, the node where it was thrown stops, since half of a change may have been
  // made, and the other node, if it protects, takes over without giving its Server the same call: it only
  // ends the connection. --on_poison overrides this. Asked once.
  virtual bool Transactional() const { return false; }

  virtual void OnConnect(Connection&) {}
  // `unread`: all bytes of this connection not consumed so far. Returns how many it has consumed now
  // (0 to unread.size()). What is left is given again:
  //   - at once, if something was consumed, and OnWritable is not owed: until a call consumes nothing;
  //   - together with the next bytes;
  //   - after OnWritable, and after OnTimer;
  //   - when pending_output() has come down to 0.
  // So a Server may consume one request at a time, or stop while pending_output() is too high for it, at
  // high_water() or at a lower mark of its own: it is asked again. One that waits for something else (the
  // request of another client, say) sets a timer. At the end of the client's stream what is left unread is
  // gone after OnPeerClosed, which waits for it: see there.
  virtual size_t OnData(Connection& connection, std::string_view unread) = 0;
  // A hint: `bytes` have come from some client, and will be given to OnData, with what may be unread before
  // them, when the few things that came before them are done. For a Server that can bring what it will need
  // closer, into the processor's cache, say. It may come for some bytes and not for others, and differs
  // between the nodes: nothing that a client could see may depend on it.
  virtual void Expect(std::string_view /*bytes*/) {}
  // The client has sent FIN: no more OnData. While something is unread it is put off until OnData has been
  // given that and consumed nothing of it although pending_output() was 0 (or the Server has half-closed):
  // a client that sends many requests, half-closes and then reads slowly gets all its answers. Left out when
  // the connection ends first. The default closes.
  virtual void OnPeerClosed(Connection& connection) { connection.Close(); }
  // pending_output() was at or above high_water() after a Send, and has fallen below half of it. If bytes
  // are unread then, OnData is called with them right after. Not called any more after HalfClose, Close or
  // Abort.
  virtual void OnWritable(Connection&) {}
  // Comes after Close too, until OnClosed: a client that has not closed its side can make that a minute. Not
  // after Abort.
  virtual void OnTimer(Connection&, uint32_t /*timer*/) {}
  // Last call for this connection; nothing can be sent any more.
  virtual void OnClosed(Connection&, CloseReason) {}

  // What was executed since the last Commit should now be made durable, if the Server keeps anything.
  // Not an input: it comes at different places on the two nodes (after each turn of the primary's loop,
  // after each run of replayed records on the secondary), so nothing that a client could see may depend on
  // it, and nothing can be sent from it. Also about ten times a second when nothing was executed, for a
  // Server that writes behind.
  //
  // When: `alone` (no other node has the records: standalone, or the other node is lost), the output of what
  // was executed leaves when this has returned, and what is not durable then is gone if this node dies. Not
  // alone, the records are on their way to the other node already, and output waits for its answer anyway:
  // durable may be later. A node that becomes alone, also by a takeover, is told so before the first output
  // leaves that is not the dead node's.
  //
  // What: up to `stable` it has happened for good. What was executed beyond is an attempt: if this node loses
  // its role before it is stable (cut off, then dead), the other node's history goes on without it, and what
  // was kept of it is wrong. On the secondary and on a node that is alone all that is executed is stable. So
  // a Server either keeps what is beyond `stable` in memory until a later Commit tells that it is stable, or
  // counts on its data being replaced by a copy of the other node's when this node comes back after having
  // lost its role; it cannot come back with them by mistake if InitialState tells them apart.
  //
  // OK: done. ResourceExhausted: cannot write now (the disk is full), but is sound, has forgotten nothing,
  // and will be asked again: see OnStorage. Anything else: it is broken, and this node can no longer serve.
  // It gives up before anything leaves that was executed since the last Commit that succeeded, and the other
  // node goes on.
  virtual absl::Status Commit(const CommitPoint&) { return absl::OkStatus(); }
  // Through the log, so at the same place on both nodes: whether there is room to keep things. False when a
  // Commit of either node was ResourceExhausted; from then on nothing should be changed that would have to be
  // kept, but clients be told so. True when both can write again. Starts as true; each call changes it.
  // Meanwhile Commit goes on being called, about ten times a second and after each turn, and clients are
  // served: in a pair as ever, for what is not durable is on two nodes. On a node that is alone, connections
  // that got output after the last good Commit and before OnStorage(false) get no more until a Commit is
  // good: what they were to be told is not durable. So a Server whose Commit says ResourceExhausted must
  // override this; and it does best to say so while there is still some room to write what was executed.
  virtual void OnStorage(bool /*writable*/) {}
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_SERVER_H_
