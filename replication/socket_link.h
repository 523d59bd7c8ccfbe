// The links of the pair on sockets: frames of Thrift's on the node's own Boost.Asio loop, into the generated
// code.
#ifndef UNDERSTUDY_REPLICATION_SOCKET_LINK_H_
#define UNDERSTUDY_REPLICATION_SOCKET_LINK_H_

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "absl/status/statusor.h"
#include "replication/frames.h"
#include "replication/link.h"
#include "replication/protocol.h"

namespace understudy::replication {

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

class SocketLink final : public Link, public std::enable_shared_from_this<SocketLink> {
 public:
  // `socket` is connected. Sets TCP_NODELAY. `handler` outlives the link or the link is Close()d first.
  // The other end is a stranger until its first frame (with a key: the first that proves it) is complete: it
  // has `first_frame_timeout` and kMaxFirstFrame bytes for it.
  static std::shared_ptr<SocketLink> Start(
      boost::asio::ip::tcp::socket socket, Handler* handler, const LinkSecurity& security = {},
      std::chrono::milliseconds first_frame_timeout = std::chrono::seconds(2));
  ~SocketLink() override;

  void Join(const wire::JoinRequest& request) override;
  void Append(const wire::AppendRequest& request) override;
  void Handover(const wire::HandoverRequest& request) override;
  void Close() override;
  std::string remote() const override;

  // Bytes queued but not yet taken by the kernel.
  size_t unsent_bytes() const;

 private:
  struct Impl;
  explicit SocketLink(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

// Listens on a node's replication endpoint and hands out what connects from the peer's address. Others are
// closed at once: they are counted, and cost nothing that the peer needs.
class LinkListener {
 public:
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

#endif  // UNDERSTUDY_REPLICATION_SOCKET_LINK_H_
