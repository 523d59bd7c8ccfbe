// How links come about: listening and dialing. See socket_link.h.
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <optional>
#include <sstream>
#include <utility>

#include <netinet/in.h>
#include <sys/socket.h>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "replication/own_address.h"
#include "replication/socket_link.h"

namespace understudy::replication {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;

// Out of file descriptors, for example: nothing that asking again at once would mend.
constexpr std::chrono::milliseconds kAcceptPause(100);

std::string ToString(const tcp::endpoint& endpoint) {
  std::ostringstream out;
  out << endpoint;
  return out.str();
}

}  // namespace

struct LinkListener::Impl : std::enable_shared_from_this<LinkListener::Impl> {
  Impl(asio::io_context& loop, const asio::ip::address& peer, std::function<void(tcp::socket)> accepted)
      : acceptor(loop), pause(loop), peer(peer), accepted(std::move(accepted)) {}

  void Accept() {
    acceptor.async_accept([self = shared_from_this()](error_code error, tcp::socket socket) {
      if (!self->acceptor.is_open()) return;
      if (error) {
        self->AcceptLater();
        return;
      }
      if (self->MayConnect(socket)) {
        const auto call = self->accepted;  // it may destroy the listener
        call(std::move(socket));
      }
      if (self->acceptor.is_open()) self->Accept();
    });
  }

  bool MayConnect(const tcp::socket& socket) {
    error_code error;
    const tcp::endpoint from = socket.remote_endpoint(error);
    if (!error && from.address() == peer) return true;
    ++turned_away;
    // Gone already, or not the peer's.
    LOG_EVERY_T(WARNING, 10) << "turned away a connection to the replication port from "
                             << (error ? "somebody" : from.address().to_string()) << ": only " << peer
                             << " (--peer) may connect; so far " << turned_away;
    return false;
  }

  void AcceptLater() {
    pause.expires_after(kAcceptPause);
    pause.async_wait([self = shared_from_this()](error_code error) {
      if (!error && self->acceptor.is_open()) self->Accept();
    });
  }

  void Close() {
    error_code ignored;
    acceptor.close(ignored);
    pause.cancel();
  }

  tcp::acceptor acceptor;
  asio::steady_timer pause;
  const asio::ip::address peer;
  const std::function<void(tcp::socket)> accepted;
  uint64_t turned_away = 0;
};

LinkListener::LinkListener(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

LinkListener::~LinkListener() { impl_->Close(); }

absl::StatusOr<std::unique_ptr<LinkListener>> LinkListener::Open(asio::io_context& loop,
                                                                 const tcp::endpoint& local,
                                                                 const asio::ip::address& peer,
                                                                 std::function<void(tcp::socket)> accepted) {
  auto impl = std::make_shared<Impl>(loop, peer, std::move(accepted));
  error_code error;
  impl->acceptor.open(local.protocol(), error);
  if (!error) impl->acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) impl->acceptor.bind(local, error);
  if (!error) BindToInterfaceOf(impl->acceptor.native_handle(), local.address(), peer, error);
  if (!error) impl->acceptor.listen(asio::socket_base::max_listen_connections, error);
  if (error) {
    const std::string what =
        absl::StrCat("cannot listen for replication on ", ToString(local), ": ", error.message());
    if (error == asio::error::address_in_use) return absl::UnavailableError(what);
    return absl::InvalidArgumentError(what);
  }
  impl->Accept();
  return std::unique_ptr<LinkListener>(new LinkListener(std::move(impl)));
}

tcp::endpoint LinkListener::local() const {
  error_code ignored;
  return impl_->acceptor.local_endpoint(ignored);
}

uint64_t LinkListener::turned_away() const { return impl_->turned_away; }

namespace {

using BindNoPort = asio::detail::socket_option::integer<IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT>;

struct DialState {
  explicit DialState(asio::io_context& loop) : socket(loop), timer(loop) {}

  void Finish(DialResult result) {
    if (!done) return;
    timer.cancel();
    if (result != DialResult::kConnected) {
      error_code ignored;
      socket.close(ignored);
    }
    std::exchange(done, nullptr)(result, std::move(socket));
  }

  tcp::socket socket;
  asio::steady_timer timer;
  std::function<void(DialResult, tcp::socket)> done;
};

}  // namespace

void DialPeer(asio::io_context& loop, const asio::ip::address& own, const tcp::endpoint& peer,
              std::chrono::milliseconds timeout, std::function<void(DialResult, tcp::socket)> done) {
  auto state = std::make_shared<DialState>(loop);
  state->done = std::move(done);
  error_code ignored;  // what cannot be bound finds no way either
  state->socket.open(peer.protocol(), ignored);
  // The port is chosen when the peer's is known, so that many dials do not use up the ports.
  state->socket.set_option(BindNoPort(1), ignored);
  state->socket.bind({own, 0}, ignored);
  state->timer.expires_after(timeout);
  state->timer.async_wait([state](error_code error) {
    if (!error) state->Finish(DialResult::kUnreachable);
  });
  state->socket.async_connect(peer, [state](error_code error) {
    if (!error) {
      state->Finish(DialResult::kConnected);
    } else if (error == asio::error::connection_refused) {
      state->Finish(DialResult::kRefused);
    } else {
      state->Finish(DialResult::kUnreachable);
    }
  });
}

}  // namespace understudy::replication
