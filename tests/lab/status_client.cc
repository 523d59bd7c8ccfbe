#include "tests/lab/status_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/beast/http.hpp>
#include <boost/json/src.hpp>
#include <cerrno>
#include <cstring>
#include <sstream>
#include <thread>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "tests/lab/process.h"

namespace understudy::lab {

namespace http = boost::beast::http;
namespace json = boost::json;
using Clock = std::chrono::steady_clock;

namespace {

absl::Status WaitFor(int fd, short events, Clock::time_point deadline) {
  pollfd wanted = {.fd = fd, .events = events, .revents = 0};
  auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
  int ready = poll(&wanted, 1, static_cast<int>(std::max<int64_t>(left, 0)));
  if (ready > 0) return absl::OkStatus();
  return absl::DeadlineExceededError("no answer in time");
}

absl::Status Broken(const char* what) {
  return absl::UnavailableError(absl::StrCat(what, ": ", strerror(errno)));
}

absl::StatusOr<std::string> Text(const json::object& object, const char* name) {
  const json::value* value = object.if_contains(name);
  if (value == nullptr || !value->is_string()) {
    return absl::InternalError(absl::StrCat("no text \"", name, "\" in ", json::serialize(object)));
  }
  return std::string(value->get_string());
}

absl::StatusOr<int64_t> Number(const json::object& object, const char* name) {
  const json::value* value = object.if_contains(name);
  if (value == nullptr || !(value->is_int64() || value->is_uint64())) {
    return absl::InternalError(absl::StrCat("no integer \"", name, "\" in ", json::serialize(object)));
  }
  return value->to_number<int64_t>();
}

}  // namespace

StatusClient::StatusClient(const Namespace* where, std::string ip, uint16_t port)
    : where_(where), ip_(std::move(ip)), port_(port) {}

absl::StatusOr<HttpReply> StatusClient::Get(const std::string& target,
                                            std::chrono::milliseconds timeout) const {
  Clock::time_point deadline = Clock::now() + timeout * Slowness();
  int type = SOCK_STREAM | SOCK_NONBLOCK;
  int fd = where_ != nullptr ? where_->Socket(AF_INET, type) : socket(AF_INET, type | SOCK_CLOEXEC, 0);
  PCHECK(fd >= 0);
  absl::Cleanup closing = [fd] { close(fd); };
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  to.sin_port = htons(port_);
  CHECK_EQ(inet_pton(AF_INET, ip_.c_str(), &to.sin_addr), 1) << ip_;
  if (connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)) != 0) {
    if (errno != EINPROGRESS) return Broken("connect");
    absl::Status connected = WaitFor(fd, POLLOUT, deadline);
    if (!connected.ok()) return connected;
    socklen_t size = sizeof(errno);
    int error = 0;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
    errno = error;
    if (error != 0) return Broken("connect");
  }
  std::string request =
      absl::StrCat("GET ", target, " HTTP/1.1\r\nHost: ", ip_, "\r\nConnection: close\r\n\r\n");
  if (send(fd, request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size())) {
    return Broken("send");
  }
  http::response_parser<http::string_body> parser;
  parser.eager(true);
  std::string unread;
  std::array<char, 16384> buffer;
  while (!parser.is_done()) {
    absl::Status ready = WaitFor(fd, POLLIN, deadline);
    if (!ready.ok()) return ready;
    ssize_t n = recv(fd, buffer.data(), buffer.size(), 0);
    if (n < 0) return Broken("recv");
    boost::system::error_code error;
    if (n == 0) {
      parser.put_eof(error);
      if (error) return absl::InternalError(absl::StrCat("half an answer: ", error.message()));
      break;
    }
    unread.append(buffer.data(), n);
    while (!unread.empty() && !parser.is_done()) {
      size_t used = parser.put(boost::asio::buffer(unread), error);
      unread.erase(0, used);
      if (error == http::error::need_more) break;
      if (error) return absl::InternalError(absl::StrCat("not HTTP: ", error.message()));
      if (used == 0) break;
    }
  }
  HttpReply reply;
  reply.code = parser.get().result_int();
  reply.content_type = std::string(parser.get()[http::field::content_type]);
  reply.body = parser.get().body();
  return reply;
}

absl::StatusOr<NodeStatus> StatusClient::Status() const {
  absl::StatusOr<HttpReply> reply = Get("/status");
  if (!reply.ok()) return reply.status();
  if (reply->code != 200) return absl::InternalError(absl::StrCat("/status says ", reply->code));
  boost::system::error_code error;
  json::value value = json::parse(reply->body, error);
  if (error || !value.is_object()) {
    return absl::InternalError(absl::StrCat("/status is no JSON object: ", reply->body));
  }
  const json::object& object = value.get_object();
  NodeStatus status;
  status.json = reply->body;
  for (auto& [name, field] : {std::pair{"role", &status.role}, std::pair{"state", &status.state},
                              std::pair{"node", &status.node}}) {
    auto text = Text(object, name);
    if (!text.ok()) return text.status();
    *field = *std::move(text);
  }
  for (auto& [name, field] :
       {std::pair{"epoch", &status.epoch}, std::pair{"stable_lsn", &status.stable_lsn},
        std::pair{"applied_lsn", &status.applied_lsn}, std::pair{"connections", &status.connections}}) {
    auto number = Number(object, name);
    if (!number.ok()) return number.status();
    *field = *number;
  }
  return status;
}

std::string StatusClient::State() const {
  absl::StatusOr<NodeStatus> status = Status();
  return status.ok() ? status->state : "";
}

absl::StatusOr<double> StatusClient::Metric(const std::string& name) const {
  absl::StatusOr<HttpReply> reply = Get("/metrics");
  if (!reply.ok()) return reply.status();
  std::istringstream lines(reply->body);
  std::string line, start = name + " ";
  double value;
  while (std::getline(lines, line)) {
    if (line.rfind(start, 0) == 0 && absl::SimpleAtod(line.substr(start.size()), &value)) {
      return value;
    }
  }
  return absl::NotFoundError(absl::StrCat("no metric ", name));
}

absl::Status StatusClient::WaitForState(const std::string& state, std::chrono::milliseconds timeout) const {
  Clock::time_point deadline = Clock::now() + timeout;
  std::string last = "never asked";
  while (Clock::now() < deadline) {
    absl::StatusOr<NodeStatus> status = Status();
    if (status.ok() && status->state == state) return absl::OkStatus();
    last = status.ok() ? status->json : status.status().ToString();
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
  }
  return absl::DeadlineExceededError(
      absl::StrCat("not ", state, " within ", timeout.count(), " ms; last answer: ", last));
}

}  // namespace understudy::lab
