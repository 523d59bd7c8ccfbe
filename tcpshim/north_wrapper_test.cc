#include "tcpshim/north_wrapper.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace understudy::tcpshim {
namespace {

using ::testing::HasSubstr;
using ConnectionId = NorthWrapper::ConnectionId;
using Clock = std::chrono::steady_clock;

constexpr uint32_t kLoopback = INADDR_LOOPBACK;

// A client: an ordinary blocking socket.
class Client {
 public:
  explicit Client(const SocketAddress& server, int receive_buffer = 0) {
    fd_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_TRUE(fd_) << strerror(errno);
    if (receive_buffer > 0) {
      ::setsockopt(fd_.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof(receive_buffer));
    }
    sockaddr_in address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(server.ip == INADDR_ANY ? kLoopback : server.ip);
    address.sin_port = htons(server.port);
    EXPECT_EQ(0, ::connect(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)))
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
    SocketAddress result;
    result.ip = ntohl(address.sin_addr.s_addr);
    result.port = ntohs(address.sin_port);
    return result;
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
    auto north = NorthWrapper::Create(loop_, &log_);
    ASSERT_TRUE(north.ok()) << north.status();
    north_ = std::move(*north);
    ASSERT_TRUE(north_->Listen({kLoopback, 0}, false).ok());
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
  std::unique_ptr<NorthWrapper> north_;
};

std::string RandomBytes(size_t size, uint32_t seed) {
  std::mt19937 random(seed);
  std::string bytes(size, '\0');
  for (char& c : bytes) c = static_cast<char>(random());
  return bytes;
}

TEST_F(NorthWrapperTest, AcceptsAndNamesTheConnection) {
  Client client(north_->listening());
  const ConnectionId id = Accepted();
  EXPECT_EQ(log_.entries[id].tuple.local, north_->listening());
  EXPECT_EQ(log_.entries[id].tuple.remote, client.local());
  EXPECT_EQ(1u, north_->connections());
  ASSERT_GE(north_->fd(id), 0);
  EXPECT_EQ(north_->fd(id), log_.last_accepted_fd);
  EXPECT_EQ(-1, north_->fd(id + 1));

  int no_delay = 0;
  socklen_t size = sizeof(no_delay);
  ASSERT_EQ(0, ::getsockopt(north_->fd(id), IPPROTO_TCP, TCP_NODELAY, &no_delay, &size));
  EXPECT_EQ(1, no_delay) << "not inherited from the listener";
  EXPECT_TRUE(::fcntl(north_->fd(id), F_GETFD) & FD_CLOEXEC);
  EXPECT_TRUE(::fcntl(north_->fd(id), F_GETFL) & O_NONBLOCK);
}

TEST_F(NorthWrapperTest, ListenerOnAnyAddressNamesTheOneThatWasUsed) {
  north_->StopListening();
  EXPECT_EQ(north_->listening(), SocketAddress());
  ASSERT_TRUE(north_->Listen({INADDR_ANY, 0}, false).ok());
  Client client(north_->listening());
  const ConnectionId id = Accepted();
  EXPECT_EQ(log_.entries[id].tuple.local.ip, kLoopback);
  EXPECT_EQ(log_.entries[id].tuple.local.port, north_->listening().port);
}

TEST_F(NorthWrapperTest, BytesArriveInOrder) {
  const uint32_t seed = std::random_device()();
  std::printf("seed %u\n", seed);
  const std::string sent = RandomBytes(3 << 20, seed);
  log_.room = 5000;  // many reads; each asks for room once per turn
  Client client(north_->listening());
  const ConnectionId id = Accepted();
  std::string_view rest = sent;
  ASSERT_TRUE(RunUntil([&] {
    rest.remove_prefix(client.SendSome(rest.substr(0, 70'001)));
    return log_.entries[id].received.size() == sent.size();
  }));
  EXPECT_TRUE(log_.entries[id].received == sent);
}

TEST_F(NorthWrapperTest, RoomIsAskedForOncePerSocketAndTurn) {
  Client one(north_->listening()), two(north_->listening());
  Accepted(2);
  one.Send(std::string(100, 'a'));
  two.Send(std::string(100, 'b'));
  log_.room = 10;
  std::map<ConnectionId, int> asked;
  log_.on_begin = [&](ConnectionId id) { ++asked[id]; };
  log_.on_turn_done = [&] {
    for (const auto& [id, count] : asked) EXPECT_EQ(1, count) << "connection " << id;
    asked.clear();
  };
  ASSERT_TRUE(RunUntil(
      [&] { return log_.entries[1].received.size() == 100 && log_.entries[2].received.size() == 100; }));
  EXPECT_GE(log_.turns, 10);
}

TEST_F(NorthWrapperTest, BackPressureStopsReadingUntilResume) {
  Client client(north_->listening());
  const ConnectionId id = Accepted();
  log_.full = true;
  client.Send("hello");
  client.ShutdownWrite();
  ASSERT_TRUE(RunUntil([&] { return log_.refused > 0; }));
  EXPECT_LT(Settle(), 10);
  EXPECT_EQ(1, log_.refused) << "asked again without Resume";
  EXPECT_EQ(0, log_.entries[id].ends) << "the end came before the bytes";

  north_->Resume(id);  // still full: refused once more
  ASSERT_TRUE(RunUntil([&] { return log_.refused == 2; }));
  EXPECT_LT(Settle(), 10);
  EXPECT_EQ(2, log_.refused);

  log_.full = false;
  north_->Resume(id);
  ASSERT_TRUE(RunUntil([&] { return log_.entries[id].ends == 1; }));
  EXPECT_EQ("hello", log_.entries[id].received);
}

// The read stops before an urgent byte, and goes on with it.
TEST_F(NorthWrapperTest, UrgentBytesAreBytesOfTheStream) {
  Client client(north_->listening());
  const ConnectionId id = Accepted();
  std::string sent;
  const auto send = [&](const std::string& bytes, int flags) {
    ASSERT_EQ(static_cast<ssize_t>(bytes.size()), ::send(client.fd(), bytes.data(), bytes.size(), flags));
    sent += bytes;
  };
  send("before", 0);
  send("!", MSG_OOB);
  send("between", 0);
  send("?", MSG_OOB);
  ASSERT_TRUE(RunUntil([&] { return log_.entries[id].received.size() >= sent.size(); }));
  EXPECT_EQ(sent, log_.entries[id].received);
  send("and alone", 0);
  ASSERT_TRUE(RunUntil([&] { return log_.entries[id].received.size() >= sent.size(); }));
  send("!", MSG_OOB);
  client.ShutdownWrite();
  ASSERT_TRUE(RunUntil([&] { return log_.entries[id].ends == 1; }));
  EXPECT_EQ(sent, log_.entries[id].received);
}

TEST_F(NorthWrapperTest, KeepaliveIsInheritedAndGivenToTheAdopted) {
  NorthWrapper::Options options;
  options.keepalive = std::chrono::seconds(300);
  FakeLog log;
  auto north = NorthWrapper::Create(loop_, &log, options);
  ASSERT_TRUE(north.ok()) << north.status();
  ASSERT_TRUE((*north)->Listen({kLoopback, 0}, false).ok());
  Client client((*north)->listening());
  ASSERT_TRUE(RunUntil([&] { return log.entries.size() == 1; }));
  Client of_the_other(north_->listening());  // adopted below; its other end is of no interest
  (*north)->Adopt(77, UniqueFd(::dup(of_the_other.fd())), true);
  const auto get = [](int fd, int level, int option) {
    int value = -1;
    socklen_t size = sizeof(value);
    EXPECT_EQ(0, ::getsockopt(fd, level, option, &value, &size));
    return value;
  };
  for (ConnectionId id : {ConnectionId{1}, ConnectionId{77}}) {
    const int fd = (*north)->fd(id);
    ASSERT_GE(fd, 0);
    EXPECT_EQ(1, get(fd, SOL_SOCKET, SO_KEEPALIVE));
    EXPECT_EQ(1, get(fd, SOL_SOCKET, SO_OOBINLINE));
    EXPECT_EQ(300, get(fd, IPPROTO_TCP, TCP_KEEPIDLE) +
                       get(fd, IPPROTO_TCP, TCP_KEEPINTVL) * get(fd, IPPROTO_TCP, TCP_KEEPCNT));
  }
  EXPECT_EQ(2u, (*north)->connections());
}

TEST_F(NorthWrapperTest, ResetUnderBackPressureIsReportedBehindTheBytes) {
  Client client(north_->listening());
  const ConnectionId id = Accepted();
  log_.full = true;
  client.Send("last words");
  ASSERT_TRUE(RunUntil([&] { return log_.refused == 1; }));
  client.Reset();
  EXPECT_LT(Settle(), 10) << "a hang-up must not spin";
  EXPECT_TRUE(log_.entries[id].broken.empty());
  log_.full = false;
  north_->Resume(id);
  ASSERT_TRUE(RunUntil([&] { return !log_.entries[id].broken.empty(); }));
  EXPECT_EQ("last words", log_.entries[id].received);
  EXPECT_EQ(std::vector<int>{ECONNRESET}, log_.entries[id].broken);
}

TEST_F(NorthWrapperTest, WriteToResetConnectionUnderBackPressure) {
  Client client(north_->listening());
  const ConnectionId id = Accepted();
  log_.full = true;
  client.Send("last words");
  ASSERT_TRUE(RunUntil([&] { return log_.refused == 1; }));
  client.Reset();
  Settle();
  EXPECT_EQ(0u, Write(id, "too late"));  // takes the kernel's error
  Settle();
  EXPECT_TRUE(log_.entries[id].broken.empty());
  log_.full = false;
  north_->Resume(id);
  ASSERT_TRUE(RunUntil([&] { return !log_.entries[id].broken.empty(); }));
  EXPECT_EQ("last words", log_.entries[id].received);
  EXPECT_EQ(std::vector<int>{ECONNRESET}, log_.entries[id].broken);
  EXPECT_EQ(0, log_.entries[id].ends) << "a reset is no end of stream";
}

TEST_F(NorthWrapperTest, ForgettingAPausedConnection) {
  Client client(north_->listening());
  const ConnectionId id = Accepted();
  log_.full = true;
  client.Send("hello");
  ASSERT_TRUE(RunUntil([&] { return log_.refused == 1; }));
  north_->Forget(id);
  log_.full = false;
  north_->Resume(id);
  Settle();
  EXPECT_EQ("", log_.entries[id].received);
}

TEST_F(NorthWrapperTest, HalfCloseByTheClient) {
  Client client(north_->listening());
  const ConnectionId id = Accepted();
  client.Send("question");
  client.ShutdownWrite();
  ASSERT_TRUE(RunUntil([&] { return log_.entries[id].ends > 0; }));
  EXPECT_EQ("question", log_.entries[id].received);
  EXPECT_LT(Settle(), 10);
  EXPECT_EQ(1, log_.entries[id].ends);

  EXPECT_EQ(6u, Write(id, "answer"));
  north_->ShutdownWrite(id);
  EXPECT_EQ("answer", ReceiveAll(client, 7));
  EXPECT_LT(Settle(), 10) << "a connection closed in both directions must not spin";
  EXPECT_EQ(1, log_.entries[id].ends);
  EXPECT_TRUE(log_.entries[id].broken.empty());
  EXPECT_EQ(1u, north_->connections());
  north_->Forget(id);
  EXPECT_EQ(0u, north_->connections());
}

TEST_F(NorthWrapperTest, HalfCloseByTheServer) {
  Client client(north_->listening());
  const ConnectionId id = Accepted();
  EXPECT_EQ(7u, Write(id, "goodbye"));
  north_->ShutdownWrite(id);
  EXPECT_EQ(0u, Write(id, "more"));
  EXPECT_EQ("goodbye", ReceiveAll(client, 8));
  client.Send("so long");
  ASSERT_TRUE(RunUntil([&] { return log_.entries[id].received == "so long"; }));
  client.Close();
  ASSERT_TRUE(RunUntil([&] { return log_.entries[id].ends == 1; }));
  EXPECT_LT(Settle(), 10);
  EXPECT_TRUE(log_.entries[id].broken.empty());
}

TEST_F(NorthWrapperTest, ErrorsAreSeenAfterTheEndOfStream) {
  Client client(north_->listening());
  const ConnectionId id = Accepted();
  client.ShutdownWrite();
  ASSERT_TRUE(RunUntil([&] { return log_.entries[id].ends == 1; }));
  client.Reset();
  ASSERT_TRUE(RunUntil([&] { return !log_.entries[id].broken.empty(); }));
  EXPECT_EQ(1u, log_.entries[id].broken.size());
  EXPECT_LT(Settle(), 10);
  EXPECT_EQ(1u, log_.entries[id].broken.size());
  EXPECT_EQ(0u, Write(id, "x"));
  EXPECT_GE(north_->fd(id), 0) << "known until it is forgotten";
  north_->Forget(id);
  EXPECT_EQ(-1, north_->fd(id));
}

TEST_F(NorthWrapperTest, ResetByTheClient) {
  Client client(north_->listening());
  const ConnectionId id = Accepted();
  client.Reset();
  ASSERT_TRUE(RunUntil([&] { return !log_.entries[id].broken.empty(); }));
  EXPECT_EQ(std::vector<int>{ECONNRESET}, log_.entries[id].broken);
  EXPECT_EQ(0, log_.entries[id].ends);
  EXPECT_LT(Settle(), 10);
  EXPECT_EQ(1u, log_.entries[id].broken.size());
  EXPECT_EQ(1u, north_->connections());
  north_->ForgetSilently(id);
  EXPECT_EQ(0u, north_->connections());
}

TEST_F(NorthWrapperTest, ErrorMetByWriteIsReportedFromTheLoopOnce) {
  for (const bool ended : {false, true}) {
    Client client(north_->listening());
    const ConnectionId id = Accepted(log_.entries.size() + 1);
    if (ended) {
      client.ShutdownWrite();
      ASSERT_TRUE(RunUntil([&] { return log_.entries[id].ends == 1; }));
    }
    client.Reset();
    EXPECT_EQ(0u, Write(id, "x"));
    EXPECT_TRUE(log_.entries[id].broken.empty()) << "reported inside Write";
    EXPECT_EQ(0u, Write(id, "x"));
    ASSERT_TRUE(RunUntil([&] { return !log_.entries[id].broken.empty(); }));
    Settle();
    EXPECT_EQ(1u, log_.entries[id].broken.size());
    EXPECT_EQ(ended ? 1 : 0, log_.entries[id].ends);
  }
}

TEST_F(NorthWrapperTest, AbortResets) {
  Client client(north_->listening());
  const ConnectionId id = Accepted();
  north_->Abort(id);
  EXPECT_EQ(-1, north_->fd(id));
  ASSERT_TRUE(RunUntil([&] { return !client.ReceiveSome() && client.error() != 0; }));
  EXPECT_EQ(ECONNRESET, client.error());
}

TEST_F(NorthWrapperTest, ForgetClosesAsTheKernelDoes) {
  Client client(north_->listening());
  const ConnectionId id = Accepted();
  EXPECT_EQ(3u, Write(id, "bye"));
  north_->Forget(id);
  EXPECT_EQ("bye", ReceiveAll(client, 4));
  EXPECT_EQ(0, client.error());
  north_->Forget(id);  // unknown by now: nothing happens
  north_->Abort(id);
  north_->ForgetSilently(id);
  north_->ShutdownWrite(id);
  EXPECT_EQ(0u, Write(id, "x"));
}

TEST_F(NorthWrapperTest, ForgetInsideCallbacks) {
  // Whatever the callback, it may forget its own connection and the one whose event comes next.
  for (int where = 0; where < 5; ++where) {
    SCOPED_TRACE(where);
    log_.on_begin = log_.on_received = log_.on_end = log_.on_broken = nullptr;
    std::vector<std::unique_ptr<Client>> clients;
    const ConnectionId first = log_.next_id;
    for (int i = 0; i < 10; ++i) clients.push_back(std::make_unique<Client>(north_->listening()));
    ASSERT_TRUE(RunUntil([&] { return log_.next_id == first + 10; }));
    int calls = 0;
    auto forget_all = [&](ConnectionId) {
      ++calls;
      for (ConnectionId id = first; id < first + 10; ++id) {
        switch (id % 3) {
          case 0: north_->Forget(id); break;
          case 1: north_->Abort(id); break;
          case 2: north_->ForgetSilently(id); break;
        }
      }
    };
    switch (where) {
      case 0: log_.on_begin = forget_all; break;
      case 1: log_.on_received = forget_all; break;
      case 2: log_.on_end = forget_all; break;
      case 3: log_.on_broken = forget_all; break;
      case 4: log_.on_accepted = forget_all; break;
    }
    for (auto& client : clients) {
      if (where < 2) client->Send("x");
      if (where == 2) client->ShutdownWrite();
      if (where == 3) client->Reset();
    }
    std::optional<Client> late;
    if (where == 4) late.emplace(north_->listening());
    ASSERT_TRUE(RunUntil([&] { return calls > 0; }));
    Settle();
    EXPECT_EQ(1, calls) << "an event of a forgotten connection was reported";
    EXPECT_EQ(where == 4 ? 1u : 0u, north_->connections());
    log_.on_accepted = nullptr;
    if (where == 4) north_->Forget(log_.next_id - 1);
  }
}

TEST_F(NorthWrapperTest, SameIdAdoptedAgainInTheSameTurn) {
  Client one(north_->listening()), two(north_->listening());
  Accepted(2);
  int pair[2];
  ASSERT_EQ(0, ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair));
  UniqueFd left(pair[0]), right(pair[1]);
  log_.on_received = [&](ConnectionId id) {
    if (left) {
      north_->Forget(3 - id);
      north_->Adopt(3 - id, std::move(left), true);
    }
  };
  one.Send("1");
  two.Send("2");
  ASSERT_TRUE(RunUntil([&] { return log_.turns > 0 && !left; }));
  Settle();
  EXPECT_EQ(1u, log_.entries[1].received.size() + log_.entries[2].received.size());
  ASSERT_EQ(1, ::write(right.get(), "n", 1));
  ASSERT_TRUE(RunUntil([&] {
    return log_.entries[1].received + log_.entries[2].received == "1n" ||
           log_.entries[1].received + log_.entries[2].received == "n2";
  }));
}

TEST_F(NorthWrapperTest, PartialWritesAreContinuedWhenWritable) {
  const uint32_t seed = std::random_device()();
  std::printf("seed %u\n", seed);
  const std::string bytes = RandomBytes(2 << 20, seed);
  Client client(north_->listening(), 4096);
  const ConnectionId id = Accepted();
  const int small = 4096;
  ASSERT_EQ(0, ::setsockopt(north_->fd(id), SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)));
  std::string_view rest = bytes;
  int cut_short = 0;
  auto write = [&](ConnectionId) {
    // Gathered from pieces of odd sizes.
    std::vector<iovec> pieces;
    size_t at = 0;
    for (size_t size = 1; at < rest.size() && pieces.size() < 3000; size = size % 997 + 1) {
      const size_t n = std::min(size, rest.size() - at);
      pieces.push_back({const_cast<char*>(rest.data() + at), n});
      at += n;
    }
    const size_t taken = north_->Write(id, pieces);
    ASSERT_LE(taken, at);
    if (taken < at) ++cut_short;
    rest.remove_prefix(taken);
    if (taken == at && !rest.empty()) log_.on_writable(id);
  };
  log_.on_writable = write;
  write(id);
  EXPECT_GT(cut_short, 0);
  EXPECT_EQ(0, log_.entries[id].writable);
  EXPECT_LT(Settle(), 10) << "the client does not read: nothing to do";
  std::string received;
  while (received.size() < bytes.size()) {
    const size_t before = received.size();
    received += ReceiveAll(client, 1);
    ASSERT_GT(received.size(), before);
  }
  EXPECT_TRUE(received == bytes);
  EXPECT_LE(log_.entries[id].writable, cut_short) << "OnWritable once for each Write cut short";
  Settle();
  EXPECT_LE(log_.entries[id].writable, cut_short);
}

TEST_F(NorthWrapperTest, WritableAfterTheEndOfStream) {
  Client client(north_->listening(), 4096);
  const ConnectionId id = Accepted();
  const int small = 4096;
  ASSERT_EQ(0, ::setsockopt(north_->fd(id), SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)));
  client.ShutdownWrite();
  ASSERT_TRUE(RunUntil([&] { return log_.entries[id].ends == 1; }));
  const std::string bytes = RandomBytes(1 << 20, 1);
  std::string_view rest = bytes;
  auto write = [&](ConnectionId) { rest.remove_prefix(Write(id, rest)); };
  log_.on_writable = write;
  write(id);
  EXPECT_LT(Settle(), 10);
  EXPECT_TRUE(ReceiveAll(client, bytes.size()) == bytes);
}

TEST_F(NorthWrapperTest, TwoThousandConnections) {
  const int kCount = 2000;
  rlimit limit = {};
  ASSERT_EQ(0, ::getrlimit(RLIMIT_NOFILE, &limit));
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  ASSERT_GE(limit.rlim_cur, 2 * kCount + 100u) << "raise the hard limit of open files (ulimit -Hn)";
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < kCount; ++i) clients.push_back(std::make_unique<Client>(north_->listening()));
  Accepted(kCount);
  EXPECT_EQ(static_cast<size_t>(kCount), north_->connections());

  // An echo, so that each gets what it sent.
  log_.on_received = [&](ConnectionId id) {
    const std::string& received = log_.entries[id].received;
    EXPECT_EQ(received.size(), Write(id, received));
  };
  for (int i = 0; i < kCount; ++i) clients[i]->Send("request " + std::to_string(i));
  const int turns = log_.turns;
  for (int i = 0; i < kCount; ++i) {
    const std::string expected = "request " + std::to_string(i);
    ASSERT_EQ(expected, ReceiveAll(*clients[i], expected.size()));
  }
  EXPECT_LT(log_.turns - turns, kCount / 10) << "what is ready together is reported together";
  for (auto& client : clients) client->Close();
  ASSERT_TRUE(RunUntil([&] {
    return std::all_of(log_.entries.begin(), log_.entries.end(),
                       [](const auto& entry) { return entry.second.ends == 1; });
  }));
  for (ConnectionId id = 1; id <= static_cast<ConnectionId>(kCount); ++id) north_->Forget(id);
  EXPECT_EQ(0u, north_->connections());
}

TEST_F(NorthWrapperTest, OutOfDescriptorsWaitsAndGoesOn) {
  rlimit before = {};
  ASSERT_EQ(0, ::getrlimit(RLIMIT_NOFILE, &before));
  std::vector<std::unique_ptr<Client>> clients;
  for (int i = 0; i < 5; ++i) clients.push_back(std::make_unique<Client>(north_->listening()));
  // Room for one more descriptor.
  const int next = ::dup(0);
  ASSERT_GE(next, 0);
  ::close(next);
  rlimit tight = before;
  tight.rlim_cur = next + 1;
  ASSERT_EQ(0, ::setrlimit(RLIMIT_NOFILE, &tight));
  EXPECT_TRUE(RunUntil([&] { return log_.entries.size() == 1; }));
  // Tried again now and then, not all the time.
  int handlers = 0;
  const auto until = Clock::now() + std::chrono::milliseconds(400);
  while (Clock::now() < until) handlers += loop_.run_one_for(std::chrono::milliseconds(10));
  EXPECT_LT(handlers, 20);
  EXPECT_EQ(1u, log_.entries.size());
  // A descriptor becomes free: the next one comes in, in the order of arrival.
  north_->Forget(1);
  EXPECT_TRUE(RunUntil([&] { return log_.entries.size() == 2; }));
  ASSERT_EQ(0, ::setrlimit(RLIMIT_NOFILE, &before));
  EXPECT_TRUE(RunUntil([&] { return log_.entries.size() == 5; }));
  for (int i = 0; i < 5; ++i) EXPECT_EQ(log_.entries[i + 1].tuple.remote, clients[i]->local());
}

TEST_F(NorthWrapperTest, RefusedConnectionIsNotKept) {
  log_.refuse_connections = true;
  Client client(north_->listening());
  ASSERT_TRUE(RunUntil([&] { return log_.last_accepted_fd >= 0; }));
  Settle();
  EXPECT_EQ(0u, north_->connections());
}

TEST_F(NorthWrapperTest, RefusedConnectionCanBeReset) {
  log_.refuse_connections = log_.reset_refused = true;
  Client client(north_->listening());
  ASSERT_TRUE(RunUntil([&] { return !client.ReceiveSome() && client.error() == ECONNRESET; }));
  EXPECT_EQ(0u, north_->connections());
}

TEST_F(NorthWrapperTest, ResumeIsForOne) {
  Client one(north_->listening()), two(north_->listening());
  ASSERT_TRUE(RunUntil([&] { return log_.entries.size() == 2; }));
  log_.full = true;
  one.Send("x");
  two.Send("x");
  ASSERT_TRUE(RunUntil([&] { return log_.refused == 2; }));
  log_.full = false;
  north_->Resume(1);
  north_->Resume(1);   // has resumed
  north_->Resume(77);  // is not known
  ASSERT_TRUE(RunUntil([&] { return log_.entries[1].received == "x"; }));
  Settle();
  EXPECT_EQ("", log_.entries[2].received);
  north_->Resume(2);
  EXPECT_TRUE(RunUntil([&] { return log_.entries[2].received == "x"; }));
}

TEST_F(NorthWrapperTest, StopListeningInsideOnAccepted) {
  const SocketAddress address = north_->listening();
  Client one(address), two(address), three(address);
  log_.on_accepted = [&](ConnectionId) { north_->StopListening(); };
  ASSERT_TRUE(RunUntil([&] { return !log_.entries.empty(); }));
  Settle();
  EXPECT_EQ(1u, log_.entries.size());
  EXPECT_EQ(1u, north_->connections()) << "the one that was accepted stays";
  log_.on_accepted = nullptr;
  ASSERT_TRUE(north_->Listen(address, false).ok());
  Client four(address);
  EXPECT_TRUE(RunUntil([&] { return log_.entries.size() == 2; }));
}

TEST_F(NorthWrapperTest, ErrorsOfListenNameTheAddress) {
  boost::asio::io_context loop;
  FakeLog log;
  auto other = NorthWrapper::Create(loop, &log);
  ASSERT_TRUE(other.ok());
  absl::Status status = (*other)->Listen(north_->listening(), false);
  EXPECT_EQ(absl::StatusCode::kAlreadyExists, status.code()) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(north_->listening().ToString()));
  status = (*other)->Listen({0xC6120001, 7000}, false);
  EXPECT_EQ(absl::StatusCode::kNotFound, status.code()) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("198.18.0.1:7000"));
  status = north_->Listen({kLoopback, 0}, false);
  EXPECT_EQ(absl::StatusCode::kFailedPrecondition, status.code()) << status;
}

TEST_F(NorthWrapperTest, AdoptedConnectionWithoutInput) {
  Client client(north_->listening());
  const ConnectionId id = Accepted();
  UniqueFd copy(::fcntl(north_->fd(id), F_DUPFD_CLOEXEC, 0));
  north_->Forget(id);  // the copy keeps the connection open, and its events must be gone
  client.Send("unseen");
  EXPECT_LT(Settle(), 10);
  north_->Adopt(77, std::move(copy), /*expect_input=*/false);
  EXPECT_LT(Settle(), 10);
  EXPECT_EQ("", log_.entries[77].received);
  EXPECT_EQ(2u, Write(77, "ok"));
  EXPECT_EQ("ok", ReceiveAll(client, 2));
  client.Reset();
  ASSERT_TRUE(RunUntil([&] { return log_.entries[77].broken.size() == 1; }));
}

TEST_F(NorthWrapperTest, DestroyedWithWorkPending) {
  Client client(north_->listening());
  const ConnectionId id = Accepted();
  client.Send("x");
  Client late(north_->listening());
  client.Reset();
  Write(id, "x");
  north_.reset();
  Settle();
  EXPECT_EQ("", log_.entries[id].received);
  EXPECT_EQ(1u, log_.entries.size());
}

}  // namespace
}  // namespace understudy::tcpshim
