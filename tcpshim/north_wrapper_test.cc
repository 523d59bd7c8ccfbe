#include "tcpshim/socket_north_wrapper.h"

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
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tcpshim/bytes_for_test.h"
#include "tcpshim/north_wrapper_for_test.h"

namespace understudy::tcpshim {
namespace {

using ::testing::HasSubstr;

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
  ASSERT_TRUE(north_->Listen({INADDR_ANY, 0}, Connections::kStay).ok());
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
  auto north = SocketNorthWrapper::Create(loop_, &log, options);
  ASSERT_TRUE(north.ok()) << north.status();
  ASSERT_TRUE((*north)->Listen({kLoopback, 0}, Connections::kStay).ok());
  Client client((*north)->listening());
  ASSERT_TRUE(RunUntil([&] { return log.entries.size() == 1; }));
  Client of_the_other(north_->listening());  // adopted below; its other end is of no interest
  (*north)->Adopt(77, UniqueFd(::dup(of_the_other.fd())), NorthWrapper::Input::kExpected);
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
      north_->Adopt(3 - id, std::move(left), NorthWrapper::Input::kExpected);
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
  ASSERT_TRUE(north_->Listen(address, Connections::kStay).ok());
  Client four(address);
  EXPECT_TRUE(RunUntil([&] { return log_.entries.size() == 2; }));
}

TEST_F(NorthWrapperTest, ErrorsOfListenNameTheAddress) {
  boost::asio::io_context loop;
  FakeLog log;
  auto other = SocketNorthWrapper::Create(loop, &log);
  ASSERT_TRUE(other.ok());
  absl::Status status = (*other)->Listen(north_->listening(), Connections::kStay);
  EXPECT_EQ(absl::StatusCode::kAlreadyExists, status.code()) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr(north_->listening().ToString()));
  status = (*other)->Listen({0xC6120001, 7000}, Connections::kStay);
  EXPECT_EQ(absl::StatusCode::kNotFound, status.code()) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("198.18.0.1:7000"));
  status = north_->Listen({kLoopback, 0}, Connections::kStay);
  EXPECT_EQ(absl::StatusCode::kFailedPrecondition, status.code()) << status;
}

TEST_F(NorthWrapperTest, AdoptedConnectionWithoutInput) {
  Client client(north_->listening());
  const ConnectionId id = Accepted();
  UniqueFd copy(::fcntl(north_->fd(id), F_DUPFD_CLOEXEC, 0));
  north_->Forget(id);  // the copy keeps the connection open, and its events must be gone
  client.Send("unseen");
  EXPECT_LT(Settle(), 10);
  north_->Adopt(77, std::move(copy), NorthWrapper::Input::kEnded);
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
