// The Thrift link of the pair on the node's own Boost.Asio loop: frames on an Asio socket, into the
// generated code. Several calls may be in flight; both ends may call (see replication.thrift).
//
// I8: whatever comes from the network, at worst closes the link it came on, with a reason that names the
// fault. Texts of the other end that reach the owner (Refused::detail, HandoverRequest::why) are printable
// and short; names are names (names.h).
#ifndef UNDERSTUDY_REPLICATION_LINK_H_
#define UNDERSTUDY_REPLICATION_LINK_H_

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "replication/protocol.h"
#include "replication/replication_types.h"

namespace understudy::replication {

inline constexpr size_t kMaxFrame = 32u << 20;
inline constexpr size_t kMaxFirstFrame = 64u << 10;
// A peer that does not read is closed when so much waits for it.
inline constexpr size_t kMaxUnsent = 4 * kMaxFrame;

// With a key a link first finds out whether the other end has it too (auth.h): calls made meanwhile wait, and
// the owner hears of nothing before. Every frame from then on is authenticated.
struct LinkSecurity {
  std::string key;      // empty: none, and nothing below matters
  std::string service;  // "IP:PORT"
  std::string node;     // own name
  bool dialed = false;  // this end did
};

// One connection between two nodes. Everything happens on the loop's thread. Alive until closed; destroy
// it at any time, also inside a callback.
class Link : public std::enable_shared_from_this<Link> {
 public:
  // What the owner is told. All calls come from the loop, none from inside a method of Link, none after
  // Close() or OnClosed().
  class Handler {
   public:
    virtual ~Handler() = default;
    // Calls of the other end. Setting `refuse` makes the answer a Refused; once it has been written the
    // link is closed, and OnClosed says so.
    struct Verdict {
      bool refuse = false;
      wire::Refused refused;
    };
    virtual Verdict OnJoin(Link& link, const wire::JoinRequest& request, wire::JoinReply& reply) = 0;
    virtual Verdict OnAppend(Link& link, wire::AppendRequest request, wire::AppendReply& reply) = 0;
    virtual Verdict OnHandover(Link& link, const wire::HandoverRequest& request,
                               wire::HandoverReply& reply) = 0;
    // Answers to own calls.
    virtual void OnJoinReply(Link& link, const wire::JoinReply& reply) = 0;
    virtual void OnAppendReply(Link& link, const wire::AppendReply& reply) = 0;
    virtual void OnHandoverReply(Link& link, const wire::HandoverReply& reply) = 0;
    virtual void OnRefused(Link& link, const wire::Refused& refused) = 0;
    // The other end closed, the connection broke, or it broke the rules (malformed or oversized frame,
    // an answer to no call, a silent stranger): `reason` says which. Last call for this link.
    virtual void OnClosed(Link& link, const std::string& reason) = 0;
    // All frames that one turn of the loop brought have been handled.
    virtual void OnTurnDone(Link&) {}
  };

  // `socket` is connected. Sets TCP_NODELAY. `handler` outlives the link or the link is Close()d first.
  // The other end is a stranger until its first frame (with a key: the first that proves it) is complete: it
  // has `first_frame_timeout` and kMaxFirstFrame bytes for it.
  static std::shared_ptr<Link> Start(boost::asio::ip::tcp::socket socket, Handler* handler,
                                     const LinkSecurity& security = {},
                                     std::chrono::milliseconds first_frame_timeout = std::chrono::seconds(2));
  ~Link();

  // Queue a call; written at once if the socket takes it. Never blocks. No-op after Close.
  void Join(const wire::JoinRequest& request);
  void Append(const wire::AppendRequest& request);
  void Handover(const wire::HandoverRequest& request);

  // Closes without a further callback.
  void Close();

  const boost::asio::ip::tcp::endpoint& remote() const;
  // Bytes queued but not yet taken by the kernel.
  size_t unsent_bytes() const;

 private:
  struct Impl;
  explicit Link(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

// Listens on a node's replication endpoint and hands out what connects from the peer's address. Others are
// closed at once: they are counted, and cost nothing that the peer needs. The owner starts a Link on each,
// and keeps no more than kMaxStrangers that have not joined.
class LinkListener {
 public:
  static constexpr size_t kMaxStrangers = 16;
  // `peer`: who may connect. What comes in on another interface than the one that has the address is not
  // served, unless the peer's address is this host's own too.
  // Unavailable/InvalidArgument names the endpoint and the system's reason (port in use, no such address).
  static absl::StatusOr<std::unique_ptr<LinkListener>> Open(
      boost::asio::io_context& loop, const boost::asio::ip::tcp::endpoint& local,
      const boost::asio::ip::address& peer, std::function<void(boost::asio::ip::tcp::socket)> accepted);
  ~LinkListener();
  boost::asio::ip::tcp::endpoint local() const;  // with the port chosen, when 0 was asked for
  uint64_t turned_away() const;                  // connections from other addresses

 private:
  struct Impl;
  explicit LinkListener(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

// Dials once, from the address `own`, by which the other end knows this node. `done` gets kConnected with the
// socket, or why not. Gives up after `timeout`. Never calls inside this call.
void DialPeer(boost::asio::io_context& loop, const boost::asio::ip::address& own,
              const boost::asio::ip::tcp::endpoint& peer, std::chrono::milliseconds timeout,
              std::function<void(DialResult, boost::asio::ip::tcp::socket)> done);

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_LINK_H_
