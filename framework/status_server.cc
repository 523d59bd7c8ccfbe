#include "framework/status_server.h"

#include <chrono>
#include <utility>

#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "glog/logging.h"

namespace understudy {
namespace {

namespace beast = boost::beast;
namespace http = beast::http;
using boost::asio::ip::tcp;

constexpr std::chrono::seconds kRequestTimeout{5};
constexpr int kMaxSessions = 32;

const char* const kStates[] = {"starting", "joining", "protected", "solo", "taking_over", "silent"};

std::string JsonString(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20) {
      constexpr char kHex[] = "0123456789abcdef";
      out += "\\u00";
      out += kHex[(c >> 4) & 15];
      out += kHex[c & 15];
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string HtmlText(const std::string& text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}});
}

// One HTTP connection.
class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(tcp::socket socket, const std::function<NodeStatus()>& snapshot, std::shared_ptr<int> count)
      : stream_(std::move(socket)), snapshot_(snapshot), count_(std::move(count)) {
    ++*count_;
    parser_.body_limit(4096);
  }
  ~Session() { --*count_; }

  void Run() {
    stream_.expires_after(kRequestTimeout);
    http::async_read(stream_, buffer_, parser_,
                     [self = shared_from_this()](beast::error_code error, size_t) {
                       if (!error) self->Answer();
                     });
  }

 private:
  void Answer() {
    const auto& request = parser_.get();
    response_.version(request.version());
    response_.keep_alive(false);
    response_.set(http::field::cache_control, "no-store");
    const std::string target(request.target());
    if (request.method() != http::verb::get && request.method() != http::verb::head) {
      Fill(http::status::method_not_allowed, "text/plain", "only GET\n");
    } else if (target == "/status") {
      Fill(http::status::ok, "application/json", StatusAsJson(snapshot_()));
    } else if (target == "/metrics") {
      Fill(http::status::ok, "text/plain; version=0.0.4", StatusAsMetrics(snapshot_()));
    } else if (target == "/") {
      Fill(http::status::ok, "text/html; charset=utf-8", StatusAsPage(snapshot_()));
    } else {
      Fill(http::status::not_found, "text/plain", "there are /status, /metrics and /\n");
    }
    if (request.method() == http::verb::head) response_.body().clear();
    http::async_write(stream_, response_, [self = shared_from_this()](beast::error_code, size_t) {
      beast::error_code ignored;
      (void)self->stream_.socket().shutdown(tcp::socket::shutdown_send, ignored);
    });
  }

  void Fill(http::status status, const char* type, std::string body) {
    response_.result(status);
    response_.set(http::field::content_type, type);
    response_.body() = std::move(body);
    response_.prepare_payload();
  }

  beast::tcp_stream stream_;
  beast::flat_buffer buffer_{16 << 10};
  http::request_parser<http::string_body> parser_;
  http::response<http::string_body> response_;
  const std::function<NodeStatus()> snapshot_;
  const std::shared_ptr<int> count_;
};

}  // namespace

struct StatusServer::Impl : std::enable_shared_from_this<StatusServer::Impl> {
  Impl(boost::asio::io_context& loop, std::function<NodeStatus()> take)
      : acceptor(loop), snapshot(std::move(take)) {}

  void Accept() {
    acceptor.async_accept([self = shared_from_this()](beast::error_code error, tcp::socket socket) {
      if (error == boost::asio::error::operation_aborted) return;
      if (!error && *self->sessions < kMaxSessions) {
        std::make_shared<Session>(std::move(socket), self->snapshot, self->sessions)->Run();
      }
      self->Accept();
    });
  }

  tcp::acceptor acceptor;
  const std::function<NodeStatus()> snapshot;
  const std::shared_ptr<int> sessions = std::make_shared<int>(0);
};

StatusServer::StatusServer(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

StatusServer::~StatusServer() {
  beast::error_code ignored;
  impl_->acceptor.close(ignored);
}

absl::StatusOr<std::unique_ptr<StatusServer>> StatusServer::Open(boost::asio::io_context& loop,
                                                                 const tcp::endpoint& local,
                                                                 std::function<NodeStatus()> snapshot) {
  auto impl = std::make_shared<Impl>(loop, std::move(snapshot));
  beast::error_code error;
  impl->acceptor.open(local.protocol(), error);
  if (!error) impl->acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  if (!error) impl->acceptor.bind(local, error);
  if (!error) impl->acceptor.listen(boost::asio::socket_base::max_listen_connections, error);
  if (error) {
    return absl::UnavailableError(absl::StrCat("cannot listen on --status=", local.address().to_string(),
                                               ":", local.port(), ": ", error.message()));
  }
  impl->Accept();
  return std::unique_ptr<StatusServer>(new StatusServer(std::move(impl)));
}

tcp::endpoint StatusServer::local() const {
  beast::error_code ignored;
  return impl_->acceptor.local_endpoint(ignored);
}

std::string StatusAsJson(const NodeStatus& s) {
  return absl::StrCat("{\"role\":", JsonString(RoleName(s.role)), ",\"state\":", JsonString(s.state),
                      ",\"node\":", JsonString(s.node), ",\"peer\":", JsonString(s.peer),
                      ",\"reason\":", JsonString(s.reason), ",\"epoch\":", s.epoch,
                      ",\"last_lsn\":", s.last_lsn, ",\"stable_lsn\":", s.stable_lsn,
                      ",\"applied_lsn\":", s.applied_lsn, ",\"connections\":", s.connections, "}\n");
}

std::string StatusAsMetrics(const NodeStatus& s) {
  std::string out;
  const auto gauge = [&](const char* name, const char* help, uint64_t value) {
    absl::StrAppend(&out, "# HELP understudy_", name, " ", help, "\n# TYPE understudy_", name,
                    " gauge\nunderstudy_", name, " ", value, "\n");
  };
  gauge("epoch", "Number of the current primaryship.", s.epoch);
  gauge("last_lsn", "Last record of the log.", s.last_lsn);
  gauge("stable_lsn", "Last record that every destination has stored.", s.stable_lsn);
  gauge("applied_lsn", "Last record that the Server here has executed.", s.applied_lsn);
  gauge("connections", "Client connections in the log.", s.connections);
  absl::StrAppend(&out, "# HELP understudy_state 1 for the state the node is in.\n",
                  "# TYPE understudy_state gauge\n");
  for (const char* state : kStates) {
    absl::StrAppend(&out, "understudy_state{role=\"", RoleName(s.role), "\",state=\"", state, "\"} ",
                    s.state == state ? 1 : 0, "\n");
  }
  for (const auto& [name, value] : s.counters) {
    absl::StrAppend(&out, "# TYPE understudy_", name, " counter\nunderstudy_", name, " ", value, "\n");
  }
  return out;
}

std::string StatusAsPage(const NodeStatus& s) {
  std::string rows;
  const auto row = [&](const std::string& name, const std::string& value) {
    absl::StrAppend(&rows, "<tr><th>", HtmlText(name), "</th><td>", HtmlText(value), "</td></tr>\n");
  };
  row("role", RoleName(s.role));
  row("state", s.state);
  if (!s.reason.empty()) row("reason", s.reason);
  if (!s.peer.empty()) row("peer", s.peer);
  row("epoch", absl::StrCat(s.epoch));
  row("last record", absl::StrCat(s.last_lsn));
  row("stable up to", absl::StrCat(s.stable_lsn));
  row("applied up to", absl::StrCat(s.applied_lsn));
  row("connections", absl::StrCat(s.connections));
  for (const auto& [name, value] : s.counters) row(name, absl::StrCat(value));
  const std::string title = HtmlText(s.node.empty() ? "understudy" : s.node);
  return absl::StrCat(
      "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta http-equiv=\"refresh\" content=\"2\"><title>", title, ": ", s.state,
      "</title><style>body{font:16px/1.5 sans-serif;margin:2em}th{text-align:left;font-weight:normal;"
      "padding-right:2em;color:#555}</style></head><body><h1>", title, "</h1><table>\n", rows,
      "</table></body></html>\n");
}

}  // namespace understudy
