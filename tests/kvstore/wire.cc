#include "tests/kvstore/wire.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace kvstore::test {
namespace {

absl::Status Failed(const char* what) {
  return absl::UnavailableError(absl::StrCat(what, ": ", std::strerror(errno)));
}

int ConnectTo(const Address& address, int* fd) {
  if (address.path.empty()) {
    *fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    setsockopt(*fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    sockaddr_in to = {};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(address.port);
    return connect(*fd, reinterpret_cast<sockaddr*>(&to), sizeof(to));
  }
  *fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un to = {};
  to.sun_family = AF_UNIX;
  address.path.copy(to.sun_path, sizeof(to.sun_path) - 1);
  return connect(*fd, reinterpret_cast<sockaddr*>(&to), sizeof(to));
}

}  // namespace

std::string Encode(const std::vector<std::string>& args) {
  std::string out = absl::StrCat("*", args.size(), "\r\n");
  for (const std::string& arg : args) absl::StrAppend(&out, "$", arg.size(), "\r\n", arg, "\r\n");
  return out;
}

absl::StatusOr<std::unique_ptr<Wire>> Wire::Connect(const Address& address) {
  int fd = -1;
  const int connected = ConnectTo(address, &fd);
  if (fd < 0) return Failed("socket");
  std::unique_ptr<Wire> wire(new Wire(fd));
  if (connected != 0) return Failed("connect");
  return wire;
}

Wire::~Wire() { close(fd_); }

Wire::Turn Wire::TakeTurn(std::string_view* unsent) {
  pollfd ready = {.fd = fd_, .events = POLLIN, .revents = 0};
  if (!unsent->empty()) ready.events |= POLLOUT;
  const int timeout = static_cast<int>(std::chrono::milliseconds(kPatience).count());
  const int count = poll(&ready, 1, timeout);
  if (count < 0 && errno == EINTR) return Turn::kGoesOn;
  if (count <= 0) return Turn::kStalled;
  if (ready.revents & POLLOUT) {
    const ssize_t sent = send(fd_, unsent->data(), unsent->size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    // A server that has closed takes nothing any more, but what it said before is still to be read.
    if (sent < 0 && errno != EAGAIN && errno != EINTR) *unsent = {};
    if (sent > 0) unsent->remove_prefix(static_cast<size_t>(sent));
  }
  if ((ready.revents & (POLLIN | POLLHUP | POLLERR)) == 0) return Turn::kGoesOn;
  char buffer[256 << 10];
  const ssize_t got = recv(fd_, buffer, sizeof(buffer), MSG_DONTWAIT);
  if (got < 0) return errno == EAGAIN || errno == EINTR ? Turn::kGoesOn : Turn::kClosed;
  if (got == 0) return Turn::kClosed;
  received_.append(buffer, static_cast<size_t>(got));
  return Turn::kGoesOn;
}

Answer Wire::Exchange(const std::vector<std::string_view>& pieces, size_t replies, bool send_all) {
  Answer answer;
  if (!received_.empty()) answer.error = absl::StrCat("more than the replies: ", Quoted(received_));
  size_t piece = 0;
  std::string_view unsent = pieces.empty() ? std::string_view() : pieces[0];
  size_t parsed = 0, wait_for = 0;
  while (answer.error.empty()) {
    while (answer.replies.size() < replies && received_.size() - parsed > wait_for) {
      RespValue value;
      auto size = ReadResp(std::string_view(received_).substr(parsed), &value);
      if (!size.ok()) {
        answer.error = std::string(size.status().message());
        return answer;
      }
      if (*size == 0) {
        wait_for = received_.size() - parsed;  // not again before more has come
        break;
      }
      parsed += *size;
      wait_for = 0;
      answer.replies.push_back(std::move(value));
    }
    while (unsent.empty() && piece + 1 < pieces.size()) unsent = pieces[++piece];
    if (answer.replies.size() == replies && (unsent.empty() || !send_all)) break;
    switch (TakeTurn(&unsent)) {
      case Turn::kGoesOn: continue;
      case Turn::kClosed: answer.closed = true; break;
      case Turn::kStalled: answer.error = "no answer"; break;
    }
    if (!answer.closed) break;
    // What came together with the end.
    RespValue value;
    for (auto size = ReadResp(std::string_view(received_).substr(parsed), &value);
         size.ok() && *size > 0 && answer.replies.size() < replies;
         size = ReadResp(std::string_view(received_).substr(parsed), &value)) {
      parsed += *size;
      answer.replies.push_back(std::move(value));
    }
    break;
  }
  received_.erase(0, parsed);
  return answer;
}

Wire::Rest Wire::SendAndReadAll(std::string_view bytes) {
  Rest rest;
  bool half_closed = false;
  for (;;) {
    if (bytes.empty() && !half_closed) {
      shutdown(fd_, SHUT_WR);
      half_closed = true;
    }
    const Turn turn = TakeTurn(&bytes);
    if (turn == Turn::kGoesOn) continue;
    if (turn == Turn::kStalled) rest.error = "the server does not close";
    rest.bytes = std::exchange(received_, {});
    return rest;
  }
}

RespValue Wire::Ask(const std::vector<std::string>& args) {
  Answer answer = Exchange(Encode(args), 1);
  if (answer.replies.size() == 1) return std::move(answer.replies[0]);
  RespValue failed;
  failed.text = answer.closed ? "closed" : answer.error;
  return failed;
}

}  // namespace kvstore::test
