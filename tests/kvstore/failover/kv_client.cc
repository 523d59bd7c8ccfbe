#include "tests/kvstore/failover/kv_client.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "tests/lab/lab.h"

namespace kvstore {

using understudy::lab::Lab;

std::string RequestBytes(const std::vector<std::string>& words) {
  std::string bytes = absl::StrCat("*", words.size(), "\r\n");
  for (const std::string& word : words) bytes += BulkBytes(word);
  return bytes;
}

std::string BulkBytes(std::string_view value) {
  std::string bytes = absl::StrCat("$", value.size(), "\r\n");
  bytes.append(value).append("\r\n");
  return bytes;
}

KvClient::KvClient(understudy::lab::Namespace& where, int receive_buffer)
    : fd_(where.Socket(AF_INET, SOCK_STREAM)) {
  if (receive_buffer != 0) {
    PCHECK(setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer) == 0);
  }
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(Lab::kServicePort);
  CHECK_EQ(inet_pton(AF_INET, Lab::kServiceIp, &address.sin_addr), 1);
  PCHECK(connect(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0);
  const int on = 1;
  PCHECK(setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
}

KvClient::~KvClient() { close(fd_); }

void KvClient::Fail(const std::string& what) {
  if (error_.empty()) error_ = what;
}

bool KvClient::ReceiveSome(bool wait) {
  if (!error_.empty()) return false;
  pollfd ready = {fd_, POLLIN, 0};
  const int timeout = wait ? static_cast<int>(std::chrono::milliseconds(kPatience).count()) : 0;
  if (poll(&ready, 1, timeout) != 1) {
    if (wait) Fail("nothing has come for too long");
    return false;
  }
  if (at_ > (1 << 20)) received_.erase(0, std::exchange(at_, 0));
  const size_t had = received_.size();
  received_.resize(had + (64 << 10));
  const ssize_t size = recv(fd_, received_.data() + had, received_.size() - had, MSG_DONTWAIT);
  received_.resize(had + static_cast<size_t>(std::max<ssize_t>(size, 0)));
  if (size == 0) Fail("the server has closed the connection");
  if (size < 0 && errno != EAGAIN) Fail(absl::StrCat("recv: ", strerror(errno)));
  return size > 0;
}

void KvClient::Write(std::string_view bytes) {
  while (!bytes.empty() && error_.empty()) {
    pollfd ready = {fd_, POLLOUT, 0};
    if (poll(&ready, 1, static_cast<int>(std::chrono::milliseconds(kPatience).count())) != 1) {
      return Fail("nothing has been taken for too long");
    }
    const ssize_t size = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (size < 0 && errno != EAGAIN) return Fail(absl::StrCat("send: ", strerror(errno)));
    if (size > 0) bytes.remove_prefix(static_cast<size_t>(size));
  }
}

void KvClient::WriteWhileReceiving(std::string_view bytes) {
  while (!bytes.empty() && error_.empty()) {
    pollfd ready = {fd_, POLLOUT | POLLIN, 0};
    if (poll(&ready, 1, static_cast<int>(std::chrono::milliseconds(kPatience).count())) != 1) {
      return Fail("nothing has moved for too long");
    }
    if (ready.revents & POLLIN) ReceiveSome(false);
    if (!(ready.revents & POLLOUT)) continue;
    const ssize_t size = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (size < 0 && errno != EAGAIN) return Fail(absl::StrCat("send: ", strerror(errno)));
    if (size > 0) bytes.remove_prefix(static_cast<size_t>(size));
  }
}

size_t KvClient::EndOfReply(size_t at) const {
  const size_t line = received_.find("\r\n", at);
  if (line == std::string::npos) return std::string::npos;
  const int64_t number = strtoll(received_.c_str() + at + 1, nullptr, 10);
  size_t end = line + 2;
  switch (received_[at]) {
    case '$':
    case '=':
      if (number >= 0) end += static_cast<size_t>(number) + 2;
      return end <= received_.size() ? end : std::string::npos;
    case '*':
    case '~':
    case '%':
      for (int64_t i = 0; i < (received_[at] == '%' ? 2 * number : number); ++i) {
        if (end >= received_.size()) return std::string::npos;
        end = EndOfReply(end);
        if (end == std::string::npos) return end;
      }
      return end;
    default: return end;  // a line
  }
}

std::string KvClient::ReadReply() {
  while (error_.empty()) {
    const size_t end = at_ < received_.size() ? EndOfReply(at_) : std::string::npos;
    if (end != std::string::npos) {
      std::string reply = received_.substr(at_, end - at_);
      at_ = end;
      return reply;
    }
    ReceiveSome(true);
  }
  return "";
}

std::string KvClient::Ask(const std::vector<std::string>& words) {
  Write(RequestBytes(words));
  return ReadReply();
}

void KvClient::Receive(size_t bytes) {
  while (error_.empty() && unread() < bytes) ReceiveSome(true);
}

}  // namespace kvstore
