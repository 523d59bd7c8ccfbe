// A north wrapper on loopback, what it reports to, and clients of it.
#ifndef UNDERSTUDY_TCPSHIM_NORTH_WRAPPER_FOR_TEST_H_
#define UNDERSTUDY_TCPSHIM_NORTH_WRAPPER_FOR_TEST_H_

#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tcpshim/sockaddr.h"
#include "tcpshim/socket_north_wrapper.h"

namespace understudy::tcpshim {

using ConnectionId = NorthWrapper::ConnectionId;
using Clock = std::chrono::steady_clock;

inline constexpr uint32_t kLoopback = INADDR_LOOPBACK;

// A client: an ordinary blocking socket.
class Client {
 public:
  explicit Client(const SocketAddress& server, int receive_buffer = 0) {
    fd_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_TRUE(fd_) << strerror(errno);
    if (receive_buffer > 0) {
      ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
    }
    const sockaddr_in address = ToSockaddr({server.ip == INADDR_ANY ? kLoopback : server.ip, server.port});
    EXPECT_EQ(0, ::connect(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)))
        << strerror(errno);
  }

  void Send(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t n = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      ASSERT_GT(n, 0) << strerror(errno);
      bytes.remove_prefix(n);
    }
  }
  // As much as fits now.
  size_t SendSome(std::string_view bytes) {
    const ssize_t n = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    return n > 0 ? n : 0;
  }
  // What is there now; nullopt: nothing. "" at the end of the stream.
  std::optional<std::string> ReceiveSome() {
    std::string buffer(1 << 16, '\0');
    const ssize_t n = ::recv(fd_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (n < 0) {
      error_ = errno == EAGAIN ? 0 : errno;
      return std::nullopt;
    }
    buffer.resize(n);
    return buffer;
  }
  int error() const { return error_; }
  void ShutdownWrite() { ASSERT_EQ(0, ::shutdown(fd_.get(), SHUT_WR)); }
  void Reset() {
    linger option = {};
    option.l_onoff = 1;
    ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &option, sizeof(option));
    fd_.reset();
  }
  void Close() { fd_.reset(); }
  int fd() const { return fd_.get(); }
  SocketAddress local() const {
    sockaddr_in address = {};
    socklen_t size = sizeof(address);
    ::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size);
    return FromSockaddr(address);
  }

 private:
  UniqueFd fd_;
  int error_ = 0;
};

// Keeps what it is told; hooks let a test act inside the callbacks.
class FakeLog : public NorthWrapper::Log {
 public:
  struct Entry {
    FourTuple tuple;
    std::string received;
    int ends = 0;
    std::vector<int> broken;
    int writable = 0;
  };

  NorthWrapper::Accepted OnAccepted(int fd, const FourTuple& tuple) override {
    ++callbacks;
    last_accepted_fd = fd;
    if (refuse_connections) return {.reset = reset_refused};
    const ConnectionId id = next_id++;
    entries[id].tuple = tuple;
    if (on_accepted) on_accepted(id);
    return {.id = id};
  }
  absl::Span<char> BeginReceive(ConnectionId id) override {
    ++callbacks;
    EXPECT_FALSE(room_for) << "room was given and not taken back";
    if (on_begin) on_begin(id);
    if (full) {
      ++refused;
      return {};
    }
    room_for = id;
    buffer.resize(room);
    return absl::MakeSpan(buffer);
  }
  void EndReceive(ConnectionId id, size_t size) override {
    ++callbacks;
    EXPECT_EQ(room_for, id);
    room_for.reset();
    EXPECT_EQ(0, entries[id].ends);
    EXPECT_TRUE(entries[id].broken.empty());
    entries[id].received.append(buffer.data(), size);
    if (size > 0 && on_received) on_received(id);
  }
  void OnEndOfStream(ConnectionId id) override {
    ++callbacks;
    ++entries[id].ends;
    if (on_end) on_end(id);
  }
  void OnBroken(ConnectionId id, int error) override {
    ++callbacks;
    entries[id].broken.push_back(error);
    if (on_broken) on_broken(id);
  }
  void OnWritable(ConnectionId id) override {
    ++callbacks;
    ++entries[id].writable;
    if (on_writable) on_writable(id);
  }
  void OnTurnDone() override {
    EXPECT_GT(callbacks, callbacks_at_last_turn) << "a turn in which nothing was reported";
    callbacks_at_last_turn = callbacks;
    ++turns;
    if (on_turn_done) on_turn_done();
  }

  std::map<ConnectionId, Entry> entries;
  ConnectionId next_id = 1;
  bool refuse_connections = false, reset_refused = false;
  bool full = false;
  size_t room = 1 << 16;
  int refused = 0;
  int turns = 0;
  int callbacks = 0;
  int callbacks_at_last_turn = 0;
  int last_accepted_fd = -1;
  std::string buffer;
  std::optional<ConnectionId> room_for;
  std::function<void(ConnectionId)> on_accepted, on_begin, on_received, on_end, on_broken, on_writable;
  std::function<void()> on_turn_done;
};

class NorthWrapperTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto north = SocketNorthWrapper::Create(loop_, &log_);
    ASSERT_TRUE(north.ok()) << north.status();
    north_ = std::move(*north);
    ASSERT_TRUE(north_->Listen({kLoopback, 0}, Connections::kStay).ok());
  }

  // Runs the loop until `done`, or fails after 20 s.
  ::testing::AssertionResult RunUntil(const std::function<bool()>& done) {
    const auto deadline = Clock::now() + std::chrono::seconds(20);
    while (!done()) {
      if (Clock::now() > deadline) return ::testing::AssertionFailure() << "timed out";
      loop_.run_for(std::chrono::milliseconds(1));
    }
    return ::testing::AssertionSuccess();
  }
  // Lets everything that is ready be handled; returns the number of handlers run. Anything that spins
  // exceeds the bound.
  int Settle() {
    int handlers = 0;
    while (handlers < 1000) {
      const int n = loop_.run_one_for(std::chrono::milliseconds(20));
      if (n == 0) return handlers;
      handlers += n;
    }
    ADD_FAILURE() << "the loop does not come to rest";
    return handlers;
  }

  ConnectionId Accepted(size_t count = 1) {
    EXPECT_TRUE(RunUntil([&] { return log_.entries.size() >= count; }));
    return log_.next_id - 1;
  }

  size_t Write(ConnectionId id, std::string_view bytes) {
    const iovec piece = {const_cast<char*>(bytes.data()), bytes.size()};
    return north_->Write(id, {&piece, 1});
  }

  std::string ReceiveAll(Client& client, size_t size) {
    std::string received;
    EXPECT_TRUE(RunUntil([&] {
      while (auto some = client.ReceiveSome()) {
        if (some->empty()) return true;
        received += *some;
      }
      return received.size() >= size || client.error() != 0;
    }));
    return received;
  }

  boost::asio::io_context loop_{1};
  FakeLog log_;
  std::unique_ptr<SocketNorthWrapper> north_;
};

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_NORTH_WRAPPER_FOR_TEST_H_
