#include "framework/status_server.h"

#include <algorithm>
#include <chrono>
#include <list>
#include <map>
#include <utility>

#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "framework/status_pages.h"
#include "glog/logging.h"

namespace understudy {
namespace {

namespace beast = boost::beast;
namespace http = beast::http;
using boost::asio::ip::tcp;

constexpr std::chrono::seconds kRequestTimeout{5};
// After an accept that failed (out of descriptors, say): at once it would only fail again.
constexpr std::chrono::milliseconds kAcceptPause{100};

// One HTTP connection.
class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(tcp::socket socket, const HostPolicy& hosts, const StatusPages& pages)
      : stream_(std::move(socket)), hosts_(hosts), pages_(pages) {
    parser_.body_limit(4096);
  }

  // `done` comes once, unless Close was called before.
  void Run(std::function<void()> done) {
    done_ = std::move(done);
    stream_.expires_after(kRequestTimeout);
    http::async_read(stream_, buffer_, parser_, [self = shared_from_this()](beast::error_code error, size_t) {
      if (self->done_ == nullptr) return;
      error ? self->Done() : self->Answer();
    });
  }

  void Close() {
    done_ = nullptr;
    stream_.close();
  }

 private:
  void Answer() {
    response_ = Respond(parser_.get(), hosts_, pages_);
    http::async_write(stream_, response_, [self = shared_from_this()](beast::error_code, size_t) {
      if (self->done_ == nullptr) return;
      beast::error_code ignored;
      (void)self->stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
      self->Done();
    });
  }

  void Done() {
    if (const auto done = std::exchange(done_, nullptr)) done();
  }

  beast::tcp_stream stream_;
  beast::flat_buffer buffer_{16 << 10};
  http::request_parser<http::string_body> parser_;
  http::response<http::string_body> response_;
  const HostPolicy hosts_;
  const StatusPages pages_;
  std::function<void()> done_;
};

}  // namespace

struct StatusServer::Impl : std::enable_shared_from_this<StatusServer::Impl> {
  Impl(boost::asio::io_context& loop, HostPolicy known, std::function<NodeStatus()> snapshot)
      : acceptor(loop), pause(loop), hosts(std::move(known)) {
    pages.json = [snapshot] { return StatusAsJson(snapshot()); };
    pages.metrics = [snapshot] { return StatusAsMetrics(snapshot()); };
    pages.html = [snapshot] { return StatusAsPage(snapshot()); };
  }

  void Accept() {
    acceptor.async_accept([self = shared_from_this()](beast::error_code error, tcp::socket socket) {
      if (error == boost::asio::error::operation_aborted || !self->acceptor.is_open()) return;
      if (error) return self->AcceptLater(error);
      self->Serve(std::move(socket));
      self->Accept();
    });
  }

  void AcceptLater(beast::error_code error) {
    LOG_EVERY_T(ERROR, 10) << "status: cannot accept: " << error.message();
    // Perhaps for want of the descriptor that one of them holds.
    if (!sessions.empty()) Evict();
    pause.expires_after(kAcceptPause);
    pause.async_wait([self = shared_from_this()](beast::error_code cancelled) {
      if (!cancelled && self->acceptor.is_open()) self->Accept();
    });
  }

  void Serve(tcp::socket socket) {
    beast::error_code error;
    const tcp::endpoint remote = socket.remote_endpoint(error);
    if (error) return;  // gone already
    if (sessions.size() >= kMaxSessions) Evict();
    auto session = std::make_shared<Session>(std::move(socket), hosts, pages);
    sessions.push_back({remote.address(), session});
    session->Run([this, self = weak_from_this(), at = std::prev(sessions.end())] {
      if (!self.expired()) sessions.erase(at);
    });
  }

  // The oldest of the source that has most.
  void Evict() {
    std::map<boost::asio::ip::address, size_t> count;
    for (const Open& open : sessions) ++count[open.source];
    const auto most = std::max_element(count.begin(), count.end(),
                                       [](const auto& a, const auto& b) { return a.second < b.second; });
    const auto oldest = std::find_if(sessions.begin(), sessions.end(),
                                     [&](const Open& open) { return open.source == most->first; });
    oldest->session->Close();
    sessions.erase(oldest);
  }

  void Close() {
    beast::error_code ignored;
    acceptor.close(ignored);
    pause.cancel();
    for (const Open& open : sessions) open.session->Close();
    sessions.clear();
  }

  struct Open {
    boost::asio::ip::address source;
    std::shared_ptr<Session> session;
  };
  tcp::acceptor acceptor;
  boost::asio::steady_timer pause;
  const HostPolicy hosts;
  StatusPages pages;
  std::list<Open> sessions;  // oldest first
};

StatusServer::StatusServer(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

StatusServer::~StatusServer() { impl_->Close(); }

absl::StatusOr<std::unique_ptr<StatusServer>> StatusServer::Open(boost::asio::io_context& loop,
                                                                 const tcp::endpoint& local, HostPolicy hosts,
                                                                 std::function<NodeStatus()> snapshot) {
  auto impl = std::make_shared<Impl>(loop, std::move(hosts), std::move(snapshot));
  beast::error_code error;
  impl->acceptor.open(local.protocol(), error);
  if (!error) impl->acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) impl->acceptor.bind(local, error);
  if (!error) impl->acceptor.listen(boost::asio::socket_base::max_listen_connections, error);
  if (error) {
    return absl::UnavailableError(absl::StrCat("cannot listen on --status=", local.address().to_string(), ":",
                                               local.port(), ": ", error.message()));
  }
  impl->Accept();
  return std::unique_ptr<StatusServer>(new StatusServer(std::move(impl)));
}

tcp::endpoint StatusServer::local() const {
  beast::error_code ignored;
  return impl_->acceptor.local_endpoint(ignored);
}

}  // namespace understudy
