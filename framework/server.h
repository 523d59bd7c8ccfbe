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

  // Queues bytes. They leave once everything they may depend on is stable. No limit is enforced: a
  // Server that produces much stops at high_water() and goes on in OnWritable. No-op after HalfClose,
  // Close or Abort.
  virtual void Send(std::string_view bytes) = 0;
  // Bytes sent that the client is not known to have acknowledged yet.
  virtual size_t pending_output() const = 0;

  // FIN behind what was sent; the client may go on sending, and OnData goes on.
  virtual void HalfClose() = 0;
  // FIN behind what was sent; what the client still sends is read and thrown away, so that no RST cuts
  // off bytes on their way to it. OnClosed follows when the client is done too.
  virtual void Close() = 0;
  // RST; output not yet sent is lost. OnClosed follows.
  virtual void Abort() = 0;

  // Calls OnTimer with `timer` once, `after` from Now(). Setting it again replaces it. Timers are kept per
  // connection and numbered by the application; they end with the connection. They fire when the loop
  // gets to it, never early.
  virtual void SetTimer(uint32_t timer, std::chrono::microseconds after) = 0;
  virtual void CancelTimer(uint32_t timer) = 0;

  // Data the application wants to keep with the connection. Owned by the connection from here on.
  struct Context { virtual ~Context() = default; };
  virtual void set_context(std::unique_ptr<Context> context) = 0;
  virtual Context* context() const = 0;

  // Time and randomness for a Server: the same on both nodes.
  virtual LoggedTime Now() const = 0;
  virtual uint64_t Random() = 0;     // uniform over all 64 bits; not for secrets

  // A Server that produces more than it was asked for (a download, say) should stop sending when
  // pending_output() >= high_water(); OnWritable comes when it has fallen below half of it. One that
  // answers requests may stop consuming there instead: see Server::OnWritable.
  static constexpr size_t high_water() { return 1u << 20; }
};

enum class CloseReason {
  kDone,      // both directions ended in order
  kReset,     // the client reset it, or vanished
  kAborted,   // the Server aborted it
};

class Server {
 public:
  virtual ~Server() = default;

  // What this Server's state is before the first record of the log, in words or as a digest: both nodes of
  // a pair must begin with the same, and one that begins with another never serves. For a Server that may
  // begin with data of its own. Called once, before anything else.
  virtual std::string InitialState() { return ""; }

  virtual void OnConnect(Connection&) {}
  // `unread`: all bytes of this connection not consumed so far. Returns how many it has consumed now
  // (0 to unread.size()); the rest is given again together with the next bytes, or after OnWritable. At
  // the end of the client's stream what is left unread is gone after OnPeerClosed.
  virtual size_t OnData(Connection& connection, std::string_view unread) = 0;
  // A hint: `bytes` have come from some client, and will be given to OnData, with what may be unread before
  // them, when the few things that came before them are done. For a Server that can bring what it will need
  // closer, into the processor's cache, say. It may come for some bytes and not for others, and differs
  // between the nodes: nothing that a client could see may depend on it.
  virtual void Expect(std::string_view /*bytes*/) {}
  // The client has sent FIN: no more OnData. Put off while the Server is held back, that is while
  // OnWritable is owed and something is unread: a client that sends many requests, half-closes and then
  // reads slowly gets all its answers. Left out when the connection ends first. The default closes.
  virtual void OnPeerClosed(Connection& connection) { connection.Close(); }
  // pending_output() was at or above high_water() after a Send, and has fallen below half of it. If bytes
  // are unread then, OnData is called with them right after: a Server may leave requests unread while
  // pending_output() >= high_water() and is asked again when there is room. Not called any more after
  // HalfClose, Close or Abort.
  virtual void OnWritable(Connection&) {}
  virtual void OnTimer(Connection&, uint32_t /*timer*/) {}
  // Last call for this connection; nothing can be sent any more.
  virtual void OnClosed(Connection&, CloseReason) {}

  // What was executed since the last Commit should now be made durable, if the Server keeps anything.
  // Not an input: it comes at different places on the two nodes (after each turn of the primary's loop,
  // after each run of replayed records on the secondary), so nothing that a client could see may depend on
  // it, and nothing can be sent from it. Also about ten times a second when nothing was executed, for a
  // Server that writes behind.
  // `alone`: no other node has it. The output of the turn leaves when this returns, and what is not durable
  // then is gone if this node dies. Not alone: the turn's records are on their way to the other node already,
  // and output waits for its answer anyway; durable may be later. A node becomes alone when the other dies.
  // Not OK (disk full, ...): this node can no longer serve. It gives up before anything leaves that was
  // executed since the last Commit that succeeded, and the other node goes on.
  virtual absl::Status Commit(bool /*alone*/) { return absl::OkStatus(); }
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_SERVER_H_
