#include "tcpshim/socket_north_wrapper.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <climits>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <boost/asio/error.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "tcpshim/endpoint.h"
#include "tcpshim/sockaddr.h"

namespace understudy::tcpshim {
namespace {

// Bounds of one turn: other handlers of the loop shall not starve. And what is read in a turn is answered a
// round trip later: of so many connections the processor's cache (L2) still has what the kernel and this
// process need then; of hundreds it has not, which costs a tenth of the throughput. Fewer are smaller
// batches.
constexpr int kEventsPerTurn = 64;
constexpr int kAcceptsPerTurn = 256;
// Out of descriptors: the next try. Connections wait in the backlog meanwhile.
constexpr auto kAcceptPause = std::chrono::milliseconds(100);
// The listener's tag in the epoll set; no connection has this id.
constexpr uint64_t kListenerTag = std::numeric_limits<uint64_t>::max();

SocketAddress LocalAddress(int fd) {
  sockaddr_in address = {};
  socklen_t size = sizeof(address);
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return {};
  return FromSockaddr(address);
}

void CloseWithReset(UniqueFd fd) {
  linger option = {};
  option.l_onoff = 1;
  if (::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &option, sizeof(option)) != 0) PLOG(ERROR) << "SO_LINGER";
}

// What all sockets of clients are given; accepted ones inherit it from the listener, which saves the calls.
// Returns the name of what was refused, or nullptr.
const char* SetClientOptions(int fd, std::chrono::seconds keepalive) {
  const auto set = [fd](int level, int option, int value) {
    return ::setsockopt(fd, level, option, &value, sizeof(value)) == 0;
  };
  if (!set(IPPROTO_TCP, TCP_NODELAY, 1)) return "TCP_NODELAY";
  // An urgent byte has a sequence number like any other: recv would skip it, and it would never be in the
  // log.
  if (!set(SOL_SOCKET, SO_OOBINLINE, 1)) return "SO_OOBINLINE";
  const int span = static_cast<int>(keepalive.count());
  if (span <= 0) return nullptr;
  // Half of the time nothing is asked; in the other half up to five times. Only while nothing is under way:
  // see LookForUnanswered.
  const int idle = std::max(span / 2, 1), interval = std::max(span / 10, 1);
  if (!set(IPPROTO_TCP, TCP_KEEPIDLE, std::min(idle, 32767))) return "TCP_KEEPIDLE";
  if (!set(IPPROTO_TCP, TCP_KEEPINTVL, std::min(interval, 32767))) return "TCP_KEEPINTVL";
  if (!set(IPPROTO_TCP, TCP_KEEPCNT, std::clamp((span - idle) / interval, 1, 5))) return "TCP_KEEPCNT";
  if (!set(SOL_SOCKET, SO_KEEPALIVE, 1)) return "SO_KEEPALIVE";
  return nullptr;
}

class EpollNorthWrapper final : public SocketNorthWrapper {
 public:
  EpollNorthWrapper(boost::asio::io_context& loop, Log* log, const Options& options)
      : loop_(loop),
        log_(log),
        options_(options),
        descriptor_(loop),
        accept_timer_(loop),
        unanswered_timer_(loop) {}

  ~EpollNorthWrapper() override {
    // The epoll set is closed by its own owner, after the loop has let go of it.
    if (descriptor_.is_open()) descriptor_.release();
  }

  absl::Status Start() {
    epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
    if (!epoll_) return absl::InternalError(absl::StrCat("epoll_create1: ", strerror(errno)));
    boost::system::error_code error;
    descriptor_.assign(epoll_.get(), error);
    if (error) {
      return absl::InternalError(
          absl::StrCat("cannot put an epoll set on the event loop: ", error.message()));
    }
    Wait();
    if (options_.keepalive.count() > 0) LookForUnanswered();
    return absl::OkStatus();
  }

  absl::Status Listen(UniqueFd listener) override {
    const SocketAddress address = LocalAddress(listener.get());
    const auto failed = [&](const std::string& what) {
      return absl::StrCat("cannot listen on ", address.ToString(), ": ", what);
    };
    if (listener_) {
      return absl::FailedPreconditionError(
          failed(absl::StrCat("listening on ", listening_.ToString(), " already")));
    }
    if (const char* refused = SetClientOptions(listener.get(), options_.keepalive)) {
      return absl::InternalError(failed(absl::StrCat(refused, ": ", strerror(errno))));
    }
    epoll_event event = {};
    event.events = EPOLLIN;
    event.data.u64 = kListenerTag;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, listener.get(), &event) != 0) {
      return absl::InternalError(failed(absl::StrCat("epoll_ctl: ", strerror(errno))));
    }
    listening_ = address;
    listener_ = std::move(listener);
    ++listener_generation_;
    accepting_ = true;
    return absl::OkStatus();
  }

  absl::Status LimitSegments(uint32_t mtu) override {
    if (!listener_) return absl::FailedPreconditionError("not listening");
    return tcpshim::LimitSegments(listener_.get(), mtu);
  }

  SocketAddress listening() const override { return listening_; }

  void StopListening() override {
    if (!listener_) return;
    Unwatch(listener_.get());
    listener_.reset();
    ++listener_generation_;
    listening_ = {};
    accept_timer_.cancel();
  }

  absl::Status Restore(ConnectionId id, const Endpoint& endpoint, Input input) override {
    auto fd = tcpshim::Restore(endpoint);
    if (!fd.ok()) return fd.status();
    Adopt(id, *std::move(fd), input);
    return absl::OkStatus();
  }

  absl::Status RestoreClosed(const Endpoint& endpoint) override {
    return tcpshim::Restore(endpoint).status();
  }

  absl::StatusOr<Endpoint> Capture(ConnectionId id, CapturedBytes& storage) override {
    return tcpshim::Capture(fd(id), storage);
  }

  uint32_t UnackedBytes(ConnectionId id) const override { return tcpshim::UnackedBytes(fd(id)); }
  uint32_t UnsentBytes(ConnectionId id) const override { return tcpshim::UnsentBytes(fd(id)); }
  uint32_t UnreadBytes(ConnectionId id) const override { return tcpshim::UnreadBytes(fd(id)); }
  size_t SegmentSize(ConnectionId id) const override { return tcpshim::SegmentSize(fd(id)); }
  bool HasRoundTripTime(ConnectionId id) const override { return tcpshim::HasRoundTripTime(fd(id)); }
  uint32_t CurrentTimestamp(ConnectionId id) const override { return tcpshim::CurrentTimestamp(fd(id)); }
  uint64_t Cookie(int accepted) const override { return tcpshim::SocketCookie(accepted); }

  void Adopt(ConnectionId id, UniqueFd fd, Input input) override {
    if (const char* refused = SetClientOptions(fd.get(), options_.keepalive)) {
      PLOG(WARNING) << "connection " << id << ": " << refused;
    }
    Watch(id, std::move(fd), /*ended=*/input == Input::kEnded);
  }

  size_t Write(ConnectionId id, absl::Span<const iovec> bytes) override {
    auto it = sockets_.find(id);
    if (it == sockets_.end()) return 0;
    Socket& socket = it->second;
    if (socket.broken || socket.error != 0 || socket.write_shut) return 0;
    size_t taken = 0;
    while (!bytes.empty()) {
      const auto part = bytes.subspan(0, IOV_MAX);
      size_t asked = 0;
      for (const iovec& piece : part) asked += piece.iov_len;
      ssize_t sent;
      do {
        sent = SendParts(socket.fd.get(), part);
      } while (sent < 0 && errno == EINTR);
      if (sent < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
        // The kernel tells an error once; a read from now on would look like an end of stream.
        socket.error = errno;
        Fail(id);
        return taken;
      }
      if (sent > 0) taken += sent;
      if (sent < 0 || static_cast<size_t>(sent) < asked) {
        socket.writing = true;
        Arm(id, socket);
        return taken;
      }
      bytes.remove_prefix(part.size());
    }
    return taken;
  }

  void ShutdownWrite(ConnectionId id) override {
    auto it = sockets_.find(id);
    if (it == sockets_.end() || it->second.broken || it->second.write_shut) return;
    it->second.write_shut = true;
    it->second.writing = false;
    // ENOTCONN: it broke meanwhile, which is reported from its own event.
    ::shutdown(it->second.fd.get(), SHUT_WR);
    Arm(id, it->second);
  }

  void Abort(ConnectionId id) override {
    UniqueFd fd = Take(id);
    if (fd) CloseWithReset(std::move(fd));
  }

  void Forget(ConnectionId id) override { Take(id); }

  void ForgetSilently(ConnectionId id) override {
    UniqueFd fd = Take(id);
    if (fd) CloseSilently(std::move(fd));
  }

  int fd(ConnectionId id) const override {
    auto it = sockets_.find(id);
    return it == sockets_.end() ? -1 : it->second.fd.get();
  }

  void Resume(ConnectionId id) override {
    auto it = sockets_.find(id);
    if (it == sockets_.end() || !it->second.paused) return;
    it->second.paused = false;
    Arm(id, it->second);
    if (it->second.error != 0) Fail(id);
  }

  size_t connections() const override { return sockets_.size(); }

 private:
  struct Socket {
    UniqueFd fd;
    uint32_t armed = 0;    // what the epoll set watches
    int error = 0;         // met by Write, not reported yet
    bool paused = false;   // the log refused room
    bool ended = false;    // the client's stream has ended
    bool broken = false;   // reported; not watched any more
    bool writing = false;  // a Write was cut short, OnWritable is owed
    bool write_shut = false;
    bool reading() const { return !paused && !ended && !broken; }
  };

  static ssize_t SendParts(int fd, absl::Span<const iovec> parts) {
    constexpr int kFlags = MSG_NOSIGNAL | MSG_DONTWAIT;
    // The usual case; the kernel has less to copy and to check for it.
    if (parts.size() == 1) return ::send(fd, parts[0].iov_base, parts[0].iov_len, kFlags);
    msghdr message = {};
    message.msg_iov = const_cast<iovec*>(parts.data());
    message.msg_iovlen = parts.size();
    return ::sendmsg(fd, &message, kFlags);
  }

  // --- The epoll set ---

  static uint32_t Wanted(const Socket& socket) {
    // A closed connection is "hung up" for good and epoll reports that whether asked or not: unless a
    // read takes note of it, it must be an edge, or the loop spins.
    const uint32_t in = socket.reading() ? EPOLLIN | EPOLLRDHUP : EPOLLET;
    return in | (socket.writing ? static_cast<uint32_t>(EPOLLOUT) : 0u);
  }

  void Arm(ConnectionId id, Socket& socket) {
    if (socket.broken) return;
    const uint32_t wanted = Wanted(socket);
    // An edge that has been is not reported again, except by arming anew.
    if (wanted == socket.armed && !((wanted & EPOLLET) && (wanted & EPOLLOUT))) return;
    epoll_event event = {};
    event.events = wanted;
    event.data.u64 = id;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, socket.fd.get(), &event) == 0) {
      socket.armed = wanted;
    } else if (socket.error == 0) {  // else it could not be watched from the start, and that is on its way
      PLOG(ERROR) << "cannot watch connection " << id;
      socket.error = errno;
      Fail(id);
    }
  }

  void Watch(ConnectionId id, UniqueFd fd, bool ended) {
    CHECK_NE(id, kListenerTag) << "not a connection's id";
    Socket socket;
    socket.fd = std::move(fd);
    socket.ended = ended;
    socket.armed = Wanted(socket);
    epoll_event event = {};
    event.events = socket.armed;
    event.data.u64 = id;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, socket.fd.get(), &event) != 0) {
      // Out of memory, or past fs.epoll.max_user_watches. It is known, and broken.
      PLOG(ERROR) << "cannot watch connection " << id;
      socket.error = errno;
    }
    const bool failed = socket.error != 0;
    CHECK(sockets_.try_emplace(id, std::move(socket)).second) << "connection " << id << " is known already";
    if (failed) Fail(id);
  }

  // Explicitly, not by close: a forked child may hold the socket open, and its events would go on.
  void Unwatch(int fd) { ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr); }

  UniqueFd Take(ConnectionId id) {
    auto it = sockets_.find(id);
    if (it == sockets_.end()) return {};
    UniqueFd fd = std::move(it->second.fd);
    if (!it->second.broken) Unwatch(fd.get());
    sockets_.erase(it);
    // A descriptor is about to be free.
    if (!accepting_) ResumeAccepting(listener_generation_);
    return fd;
  }

  // --- A turn ---

  void Wait() {
    descriptor_.async_wait(
        boost::asio::posix::stream_descriptor::wait_read,
        [this, alive = std::weak_ptr<char>(alive_)](const boost::system::error_code& error) {
          if (alive.expired() || error == boost::asio::error::operation_aborted) return;
          Turn();
          Wait();
        });
  }

  void Turn() {
    in_turn_ = true;
    const int count = ::epoll_wait(epoll_.get(), events_.data(), kEventsPerTurn, 0);
    PCHECK(count >= 0 || errno == EINTR) << "epoll_wait";
    for (int i = 0; i < count; ++i) {
      if (events_[i].data.u64 == kListenerTag) {
        AcceptAll();
      } else {
        Handle(events_[i].data.u64, events_[i].events);
      }
    }
    while (!failed_.empty()) {
      const std::vector<ConnectionId> failed = std::exchange(failed_, {});
      for (ConnectionId id : failed) HandleFailed(id);
    }
    in_turn_ = false;
    if (std::exchange(reported_, false)) log_->OnTurnDone();
  }

  // Each callback may forget this connection or any other, so each is followed by a new look-up. Ids of
  // connections forgotten earlier in the turn are not found.
  void Handle(ConnectionId id, uint32_t events) {
    auto it = sockets_.find(id);
    if (it == sockets_.end() || it->second.broken) return;
    if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
      if (it->second.reading()) {
        Read(id, it->second.fd.get());
      } else if (it->second.ended && (events & EPOLLERR)) {
        int error = 0;
        socklen_t size = sizeof(error);
        ::getsockopt(it->second.fd.get(), SOL_SOCKET, SO_ERROR, &error, &size);
        if (it->second.error != 0) error = it->second.error;
        if (error != 0) Break(id, error);
      }
    }
    if (events & EPOLLOUT) {
      it = sockets_.find(id);
      if (it == sockets_.end() || it->second.broken || !it->second.writing) return;
      it->second.writing = false;
      reported_ = true;
      log_->OnWritable(id);
      // Not before: a Write that was cut short again needs no change in the epoll set.
      it = sockets_.find(id);
      if (it != sockets_.end()) Arm(id, it->second);
    }
  }

  void Read(ConnectionId id, int fd) {
    reported_ = true;
    const absl::Span<char> room = log_->BeginReceive(id);
    auto it = sockets_.find(id);
    if (it == sockets_.end() || it->second.fd.get() != fd || !it->second.reading()) {
      if (!room.empty()) log_->EndReceive(id, 0);
      return;
    }
    if (room.empty()) {
      it->second.paused = true;
      Arm(id, it->second);
      return;
    }
    ssize_t size;
    do {
      size = ::recv(fd, room.data(), room.size(), MSG_DONTWAIT);
    } while (size < 0 && errno == EINTR);
    const int error = size < 0 ? errno : 0;
    log_->EndReceive(id, size > 0 ? size : 0);
    if (size > 0) return;

    it = sockets_.find(id);
    if (it == sockets_.end() || it->second.fd.get() != fd || !it->second.reading()) return;
    if (it->second.error != 0) {
      Break(id, it->second.error);
    } else if (error == EAGAIN || error == EWOULDBLOCK) {
      return;
    } else if (error != 0) {
      Break(id, error);
    } else {
      it->second.ended = true;
      Arm(id, it->second);
      log_->OnEndOfStream(id);
    }
  }

  void Break(ConnectionId id, int error) {
    auto it = sockets_.find(id);
    it->second.broken = true;
    it->second.paused = false;
    Unwatch(it->second.fd.get());
    reported_ = true;
    log_->OnBroken(id, error);
  }

  // Reports `socket.error` from the loop, in this turn when there is one.
  void Fail(ConnectionId id) {
    failed_.push_back(id);
    if (in_turn_ || failed_.size() > 1) return;
    boost::asio::post(loop_, [this, alive = std::weak_ptr<char>(alive_)] {
      if (!alive.expired()) Turn();
    });
  }

  void HandleFailed(ConnectionId id) {
    // What the client had sent before comes first, as far as the log takes it.
    while (true) {
      auto it = sockets_.find(id);
      if (it == sockets_.end() || it->second.broken || it->second.error == 0) return;
      if (it->second.ended) return Break(id, it->second.error);
      if (it->second.paused) return;  // Resume comes back to it
      Read(id, it->second.fd.get());
    }
  }

  // --- Clients that have vanished ---

  // The kernel asks idle clients only (SO_KEEPALIVE), and gives up one that owes an acknowledgement after a
  // quarter of an hour. TCP_USER_TIMEOUT would shorten that, but also end clients that answer each probe of
  // their closed window. So here the sockets are looked at, a few at a time, some times in each `keepalive`.
  void LookForUnanswered() {
    constexpr size_t kAtOnce = 128;
    constexpr std::chrono::milliseconds kStep{5};
    const std::chrono::milliseconds limit = options_.keepalive;
    for (size_t i = 0; i < kAtOnce && !to_look_at_.empty(); ++i) {
      const ConnectionId id = to_look_at_.back();
      to_look_at_.pop_back();
      auto it = sockets_.find(id);
      if (it == sockets_.end() || it->second.broken || it->second.error != 0) continue;
      if (!IsUnanswered(it->second.fd.get(), limit)) continue;
      // Closed without the kernel's going on to ask; a client that comes back after all is told.
      const linger abort{1, 0};
      ::setsockopt(it->second.fd.get(), SOL_SOCKET, SO_LINGER, &abort, sizeof(abort));
      it->second.error = ETIMEDOUT;
      Fail(id);
    }
    const bool done = to_look_at_.empty();
    if (done) {
      to_look_at_.reserve(sockets_.size());
      for (const auto& [id, socket] : sockets_) to_look_at_.push_back(id);
    }
    unanswered_timer_.expires_after(
        done ? std::clamp(limit / 8, {std::chrono::milliseconds(100)}, {std::chrono::milliseconds(10'000)})
             : kStep);
    unanswered_timer_.async_wait(
        [this, alive = std::weak_ptr<char>(alive_)](const boost::system::error_code& error) {
          if (!alive.expired() && !error) LookForUnanswered();
        });
  }

  // --- The listener ---

  void AcceptAll() {
    const uint64_t generation = listener_generation_;
    for (int i = 0; i < kAcceptsPerTurn && listener_ && generation == listener_generation_; ++i) {
      sockaddr_in peer = {};
      socklen_t size = sizeof(peer);
      UniqueFd fd(::accept4(listener_.get(), reinterpret_cast<sockaddr*>(&peer), &size,
                            SOCK_NONBLOCK | SOCK_CLOEXEC));
      if (!fd) {
        if (errno == EAGAIN || errno == EWOULDBLOCK) return;
        // One connection that broke while it waited is no fault of the listener.
        if (errno == EINTR || errno == ECONNABORTED || errno == EPROTO || errno == ENETDOWN ||
            errno == ENETUNREACH || errno == EHOSTDOWN || errno == EHOSTUNREACH || errno == ENONET ||
            errno == EPERM) {
          continue;
        }
        PauseAccepting(errno);
        return;
      }
      FourTuple tuple;
      tuple.local = listening_.ip == INADDR_ANY ? LocalAddress(fd.get()) : listening_;
      tuple.remote = FromSockaddr(peer);
      reported_ = true;
      const Accepted accepted = log_->OnAccepted(fd.get(), tuple);
      if (accepted.id.has_value()) {
        Watch(*accepted.id, std::move(fd), /*ended=*/false);
      } else {
        accepted.reset ? CloseWithReset(std::move(fd)) : CloseSilently(std::move(fd));
      }
    }
  }

  // The connections stay in the backlog: better late than reset.
  void PauseAccepting(int error) {
    const auto now = std::chrono::steady_clock::now();
    if (now >= next_accept_log_) {
      next_accept_log_ = now + std::chrono::seconds(1);
      LOG(ERROR) << "cannot accept connections on " << listening_.ToString() << ": " << strerror(error)
                 << "; " << sockets_.size() << " connections are open; trying again";
    }
    SetAccepting(false);
    accept_timer_.expires_after(kAcceptPause);
    accept_timer_.async_wait([this, alive = std::weak_ptr<char>(alive_),
                              generation = listener_generation_](const boost::system::error_code& error) {
      if (alive.expired() || error) return;
      ResumeAccepting(generation);
    });
  }

  void ResumeAccepting(uint64_t generation) {
    if (!listener_ || generation != listener_generation_ || accepting_) return;
    SetAccepting(true);
  }

  void SetAccepting(bool accepting) {
    epoll_event event = {};
    event.events = accepting ? static_cast<uint32_t>(EPOLLIN) : 0u;
    event.data.u64 = kListenerTag;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, listener_.get(), &event) != 0) {
      PLOG(ERROR) << "cannot watch the listener";  // asked again at the next event
      return;
    }
    accepting_ = accepting;
  }

  boost::asio::io_context& loop_;
  Log* const log_;
  const Options options_;
  UniqueFd epoll_;
  boost::asio::posix::stream_descriptor descriptor_;  // of epoll_, which owns it
  // Gone with this object: handlers still queued in the loop then do nothing.
  const std::shared_ptr<char> alive_ = std::make_shared<char>();

  UniqueFd listener_;
  SocketAddress listening_;
  uint64_t listener_generation_ = 0;
  bool accepting_ = true;  // false: out of descriptors, the timer runs
  boost::asio::steady_timer accept_timer_;
  std::chrono::steady_clock::time_point next_accept_log_;

  boost::asio::steady_timer unanswered_timer_;
  std::vector<ConnectionId> to_look_at_;  // of LookForUnanswered
  absl::flat_hash_map<ConnectionId, Socket> sockets_;
  std::vector<ConnectionId> failed_;
  bool in_turn_ = false;
  bool reported_ = false;  // in this turn, to the log
  std::array<epoll_event, kEventsPerTurn> events_;
};

}  // namespace

absl::Status SocketNorthWrapper::Listen(const SocketAddress& address, Connections connections) {
  auto listener = OpenListener(address, connections);
  if (!listener.ok()) return listener.status();
  return Listen(*std::move(listener));
}

absl::StatusOr<std::unique_ptr<SocketNorthWrapper>> SocketNorthWrapper::Create(boost::asio::io_context& loop,
                                                                               Log* log,
                                                                               const Options& options) {
  CHECK(log != nullptr);
  auto wrapper = std::make_unique<EpollNorthWrapper>(loop, log, options);
  if (absl::Status status = wrapper->Start(); !status.ok()) return status;
  return wrapper;
}

}  // namespace understudy::tcpshim
