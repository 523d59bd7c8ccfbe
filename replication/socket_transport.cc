#include "replication/socket_transport.h"

#include <utility>

#include "replication/udp_pulse_link.h"

namespace understudy::replication {
namespace {

using boost::asio::ip::tcp;

struct SocketConnection final : Transport::Connection {
  explicit SocketConnection(tcp::socket socket) : socket(std::move(socket)) {}
  tcp::socket socket;
};

}  // namespace

SocketTransport::SocketTransport(boost::asio::io_context& loop, const Options& options)
    : loop_(loop), options_(options) {}

absl::Status SocketTransport::Listen(Accepted accepted) {
  auto listener = LinkListener::Open(
      loop_, options_.own, options_.peer.address(),
      [accepted](tcp::socket socket) { accepted(std::make_unique<SocketConnection>(std::move(socket))); });
  if (!listener.ok()) return listener.status();
  listener_ = *std::move(listener);
  return absl::OkStatus();
}

uint64_t SocketTransport::turned_away() const { return listener_ == nullptr ? 0 : listener_->turned_away(); }

void SocketTransport::Dial(std::chrono::milliseconds timeout, Dialed done) {
  DialPeer(loop_, options_.own.address(), options_.peer, timeout,
           [done = std::move(done)](DialResult result, tcp::socket socket) {
             if (result != DialResult::kConnected) return done(result, nullptr);
             done(result, std::make_unique<SocketConnection>(std::move(socket)));
           });
}

std::shared_ptr<Link> SocketTransport::StartLink(std::unique_ptr<Connection> connection,
                                                 Link::Handler* handler, bool dialed) {
  // Every Connection that there is was made here.
  return SocketLink::Start(
      std::move(static_cast<SocketConnection&>(*connection).socket), handler,
      {.key = options_.key, .service = options_.service, .node = options_.node, .dialed = dialed});
}

absl::StatusOr<std::unique_ptr<PulseLink>> SocketTransport::OpenPulse(PulseLink::Heard heard) {
  return UdpPulseLink::Open(loop_, options_.own, options_.peer, options_.key, std::move(heard));
}

}  // namespace understudy::replication
