#include "tests/lab/fixed_port.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace understudy::lab {

std::string FixedPort::Ask(const std::string& request, const std::string& answer, Until until, End end,
                           std::chrono::milliseconds timeout) {
  const int fd = where_.Socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK);
  const absl::Cleanup closes = [&] {
    const linger option = {.l_onoff = end == End::kReset, .l_linger = 0};
    PCHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &option, sizeof(option)) == 0);
    close(fd);
  };
  const auto ready = [&](short events) {
    pollfd waited = {.fd = fd, .events = events, .revents = 0};
    return poll(&waited, 1, static_cast<int>(timeout.count())) > 0;
  };
  const int on = 1;
  PCHECK(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0);
  sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(port_), .sin_addr = {}, .sin_zero = {}};
  if (port_ != 0 && bind(fd, reinterpret_cast<sockaddr*>(&own), sizeof(own)) != 0) {
    return absl::StrCat("bind: ", strerror(errno));
  }
  sockaddr_in server = {
      .sin_family = AF_INET, .sin_port = htons(server_port_), .sin_addr = {}, .sin_zero = {}};
  CHECK_EQ(inet_pton(AF_INET, server_ip_.c_str(), &server.sin_addr), 1);
  int error = 0;
  socklen_t size = sizeof(error);
  // Not before the own kernel is done with the connection before: its FIN may not be acknowledged yet.
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  int refused;
  do {
    refused = connect(fd, reinterpret_cast<sockaddr*>(&server), sizeof(server));
  } while (refused != 0 && errno == EADDRNOTAVAIL && std::chrono::steady_clock::now() < deadline &&
           poll(nullptr, 0, 1) == 0);
  if (refused != 0) {
    if (errno != EINPROGRESS) return absl::StrCat("connect: ", strerror(errno));
    if (!ready(POLLOUT)) return "does not connect";
    PCHECK(getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0);
    if (error != 0) return absl::StrCat("connect: ", strerror(error));
  }
  if (send(fd, request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size())) {
    return absl::StrCat("send: ", strerror(errno));
  }
  std::string received;
  while (until == Until::kEndOfStream || (until == Until::kAnswer && received.size() < answer.size())) {
    if (!ready(POLLIN)) return absl::StrCat("no answer after \"", received, "\"");
    char bytes[4096];
    const ssize_t n = recv(fd, bytes, sizeof(bytes), 0);
    if (n < 0) return absl::StrCat("recv after \"", received, "\": ", strerror(errno));
    if (n == 0) break;
    received.append(bytes, static_cast<size_t>(n));
  }
  if (until != Until::kNothing && received != answer) return absl::StrCat("received \"", received, "\"");
  return "";
}

}  // namespace understudy::lab
