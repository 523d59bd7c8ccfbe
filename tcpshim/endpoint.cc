#include "tcpshim/endpoint.h"

#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "tcpshim/sockaddr.h"

namespace understudy::tcpshim {
namespace {

// Not in the kernel's headers for programs: TCP states, the queues and option codes of TCP_REPAIR.
enum TcpState { kEstablished = 1, kFinWait1 = 4, kFinWait2 = 5, kCloseWait = 8, kLastAck = 9, kClosing = 11 };
constexpr uint32_t kOptionMss = 2, kOptionWindowScale = 3, kOptionSackPermitted = 4, kOptionTimestamps = 8;

// Newer than the headers of Debian 12.
constexpr int kTcpRtoMaxMs = 44;
constexpr int kSmallestRtoMaxMs = 1000;

// One send into a queue under repair makes one buffer of the kernel; larger ones are cut by it.
constexpr size_t kPieceSize = 32 << 10;

template <typename T>
bool Set(int fd, int level, int option, const T& value) {
  return ::setsockopt(fd, level, option, &value, sizeof(value)) == 0;
}

template <typename T>
bool Get(int fd, int level, int option, T& value) {
  socklen_t size = sizeof(value);
  value = {};
  return ::getsockopt(fd, level, option, &value, &size) == 0;
}

bool SelectQueue(int fd, int queue) { return Set(fd, IPPROTO_TCP, TCP_REPAIR_QUEUE, queue); }

absl::Status RestoreError(const FourTuple& tuple, const char* step, int error) {
  const std::string text =
      absl::StrCat("cannot restore ", tuple.ToString(), ": ", step, ": ", strerror(error));
  switch (error) {
    case EPERM:
    case EACCES: return absl::PermissionDeniedError(absl::StrCat(text, " (needs CAP_NET_ADMIN)"));
    case EADDRNOTAVAIL:
    case EADDRINUSE:
      return absl::AlreadyExistsError(absl::StrCat(text, " (the four-tuple is in use on this host)"));
    case ENETUNREACH:
    case EHOSTUNREACH:
    case ENETDOWN: return absl::UnavailableError(absl::StrCat(text, " (no route to the client)"));
    default: return absl::InternalError(text);
  }
}

// Makes room for `bytes` in one of the buffers. What a buffer of the kernel may hold counts its own
// overhead, so twice the bytes. A buffer that is large enough is left alone.
bool Reserve(int fd, int size_option, int force_option, size_t bytes) {
  int size = 0;
  if (!Get(fd, SOL_SOCKET, size_option, size)) return false;
  if (static_cast<size_t>(size) >= 2 * bytes) return true;
  // The kernel doubles what it is told.
  const int half =
      static_cast<int>(std::min<size_t>(bytes + kPieceSize, std::numeric_limits<int>::max() / 2));
  if (!Set(fd, SOL_SOCKET, force_option, half) &&
      // In a user namespace FORCE is refused; up to net.core.[rw]mem_max this will do.
      !(errno == EPERM && Set(fd, SOL_SOCKET, size_option, half))) {
    return false;
  }
  // A size that was set is never adapted again, unless the lock is taken off. Linux 5.14; before that the
  // connection works too, with the window it has.
  if (!Set(fd, SOL_SOCKET, SO_BUF_LOCK, int{0})) {
    LOG_FIRST_N(WARNING, 1) << "SO_BUF_LOCK: " << strerror(errno)
                            << ": buffers of restored connections keep their size";
  }
  return true;
}

// Puts bytes into the queue selected. The estimate of Reserve may be short: grow, while that helps.
bool Fill(int fd, std::string_view bytes, int size_option, int force_option) {
  size_t reserved = bytes.size();
  while (!bytes.empty()) {
    const ssize_t n =
        ::send(fd, bytes.data(), std::min(bytes.size(), kPieceSize), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
      bytes.remove_prefix(n);
      continue;
    }
    if (n == 0 || errno == EINTR) continue;
    if (errno != EAGAIN && errno != EWOULDBLOCK && errno != ENOMEM) return false;
    if (reserved > std::numeric_limits<int>::max() / 4) return false;
    reserved = 2 * reserved + 2 * kPieceSize;
    if (!Reserve(fd, size_option, force_option, reserved)) return false;
  }
  return true;
}

bool IsCapturable(int state) {
  return state == kEstablished || state == kFinWait1 || state == kFinWait2 || state == kCloseWait ||
         state == kLastAck || state == kClosing;
}

// Where a socket under repair stands.
struct Position {
  Seq write_seq = 0;      // end of the send queue, its FIN counted
  uint32_t outgoing = 0;  // of it, not acknowledged
  uint32_t not_sent = 0;  // of that, not sent
  Seq rcv_nxt = 0;
  uint32_t incoming = 0;  // not read; without the FIN
  tcp_repair_window windows = {};

  bool operator==(const Position& other) const {
    return write_seq == other.write_seq && outgoing == other.outgoing && not_sent == other.not_sent &&
           rcv_nxt == other.rcv_nxt && incoming == other.incoming &&
           windows.snd_wnd == other.windows.snd_wnd && windows.rcv_wup == other.windows.rcv_wup &&
           windows.rcv_wnd == other.windows.rcv_wnd;
  }
};

bool GetPosition(int fd, Position& position) {
  int outgoing = 0, not_sent = 0, incoming = 0;
  if (!SelectQueue(fd, TCP_SEND_QUEUE) || !Get(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, position.write_seq) ||
      ::ioctl(fd, SIOCOUTQ, &outgoing) != 0 || ::ioctl(fd, SIOCOUTQNSD, &not_sent) != 0 ||
      !SelectQueue(fd, TCP_RECV_QUEUE) || !Get(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, position.rcv_nxt) ||
      ::ioctl(fd, SIOCINQ, &incoming) != 0 || !Get(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, position.windows)) {
    return false;
  }
  position.outgoing = outgoing;
  position.not_sent = not_sent;
  position.incoming = incoming;
  return true;
}

// The last `size` bytes of the send queue. The kernel hands out its buffers as they are: the first may
// begin before what has been acknowledged, and all must fit.
bool PeekOutgoing(int fd, size_t size, std::string& bytes) {
  bytes.clear();
  if (size == 0) return true;
  if (!SelectQueue(fd, TCP_SEND_QUEUE)) return false;
  for (size_t room = size + (1 << 16);; room *= 2) {
    bytes.resize(room);
    const ssize_t n = ::recv(fd, bytes.data(), bytes.size(), MSG_PEEK | MSG_DONTWAIT);
    if (n >= 0 && static_cast<size_t>(n) >= size) {
      bytes.resize(n);
      bytes.erase(0, n - size);
      return true;
    }
    if (n >= 0) errno = EBUSY;  // acknowledged meanwhile
    if (n >= 0 || errno != EFAULT || room > (size_t{1} << 30)) return false;
  }
}

bool PeekIncoming(int fd, size_t size, std::string& bytes) {
  bytes.resize(size);
  if (size == 0) return true;
  if (!SelectQueue(fd, TCP_RECV_QUEUE)) return false;
  const ssize_t n = ::recv(fd, bytes.data(), size, MSG_PEEK | MSG_DONTWAIT);
  if (n == static_cast<ssize_t>(size)) return true;
  if (n >= 0) errno = EBUSY;
  return false;
}

}  // namespace

absl::StatusOr<UniqueFd> Restore(const Endpoint& endpoint) {
  const FourTuple& tuple = endpoint.tuple;
  const TcpOptions& options = endpoint.options;
  UniqueFd owner(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  const int fd = owner.get();
  const auto error = [&](const char* step) { return RestoreError(tuple, step, errno); };
  if (fd < 0) return error("socket");
  const int on = 1;
  if (!Set(fd, IPPROTO_TCP, TCP_REPAIR, int{TCP_REPAIR_ON})) return error("TCP_REPAIR");
  if (!Set(fd, IPPROTO_IP, IP_TRANSPARENT, on)) return error("IP_TRANSPARENT");
  // As NorthWrapper does it: an urgent byte is one of the stream.
  if (!Set(fd, SOL_SOCKET, SO_OOBINLINE, on)) return error("SO_OOBINLINE");

  // Buffers for what the window has promised, and what is in the queues. Before connect, which takes the
  // limit of the window from the receive buffer.
  const int32_t window = std::max<int32_t>(endpoint.rcv_edge - endpoint.rcv_nxt, 0);
  const size_t incoming = window + endpoint.unread.size();
  if (!Reserve(fd, SO_RCVBUF, SO_RCVBUFFORCE, incoming)) return error("receive buffer");
  if (!endpoint.sent.empty() && !Reserve(fd, SO_SNDBUF, SO_SNDBUFFORCE, endpoint.sent.size())) {
    return error("send buffer");
  }

  // connect chooses a shift for the windows we announce, and no option would take it back: with at most
  // this window it chooses none. Without it 64 KB would be announced as 512 bytes, for ever.
  if (!options.window_scaling && !Set(fd, IPPROTO_TCP, TCP_WINDOW_CLAMP, int{65535})) {
    return error("TCP_WINDOW_CLAMP");
  }

  const sockaddr_in local = ToSockaddr(tuple.local), remote = ToSockaddr(tuple.remote);
  if (::bind(fd, reinterpret_cast<const sockaddr*>(&local), sizeof(local)) != 0) {
    return error("bind");
  }
  if (options.timestamps) {
    // Bit 0 would switch the socket to a clock of microseconds. Rounded up: TSval never goes back (I6).
    const uint32_t timestamp = (endpoint.timestamp + 1) & ~1u;
    if (!Set(fd, IPPROTO_TCP, TCP_TIMESTAMP, timestamp)) return error("TCP_TIMESTAMP");
  }
  if (!SelectQueue(fd, TCP_SEND_QUEUE) || !Set(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, endpoint.snd_una)) {
    return error("TCP_QUEUE_SEQ of the send queue");
  }
  // With a FIN behind `unread` this numbers the unread bytes one too high. Nobody ever sees that: the
  // client acknowledged nothing of them, and rcv_nxt comes out right.
  const Seq unread_start = endpoint.rcv_nxt - static_cast<uint32_t>(endpoint.unread.size());
  if (!SelectQueue(fd, TCP_RECV_QUEUE) || !Set(fd, IPPROTO_TCP, TCP_QUEUE_SEQ, unread_start)) {
    return error("TCP_QUEUE_SEQ of the receive queue");
  }
  if (::connect(fd, reinterpret_cast<const sockaddr*>(&remote), sizeof(remote)) != 0) {
    return error("connect");
  }

  tcp_repair_opt agreed[3];
  int count = 0;
  agreed[count++] = {kOptionMss, options.peer_mss};
  if (options.window_scaling) {
    agreed[count++] = {kOptionWindowScale, options.snd_wscale | static_cast<uint32_t>(options.rcv_wscale)
                                                                    << 16};
  }
  if (options.timestamps) agreed[count++] = {kOptionTimestamps, 0};
  if (::setsockopt(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, agreed, count * sizeof(agreed[0])) != 0) {
    return error("TCP_REPAIR_OPTIONS");
  }
  // connect has worked out the segment size before the client's MSS was known: 524 bytes instead of 1448,
  // for as long as the window does not grow. Setting the IP options, to none as before, is what makes the
  // kernel work it out again.
  if (::setsockopt(fd, IPPROTO_IP, IP_OPTIONS, nullptr, 0) != 0) return error("IP_OPTIONS");

  if (!endpoint.unread.empty() && !Fill(fd, endpoint.unread, SO_RCVBUF, SO_RCVBUFFORCE)) {
    return error("unread input");
  }
  // What is put in the send queue now starts the retransmission timer, and without any round-trip time
  // known that is 3 s (TCP_INFO; measured: 3.0 to 3.2 s until the client has a lone segment). With SACK
  // a tail-loss probe comes first, after 1 s, but it resends the last segment only, and only then do the
  // 3 s begin: a reply of 42 segments came after 4.07 s. Two things bring both down to 1.0 s without a
  // BPF program: SACK is agreed only after the queue is filled, which leaves the probe out, and the
  // limit of the timer is at its smallest meanwhile (1 s; Linux 6.15, before that it stays at 3 s).
  // TCP_RTO_MIN_US and rto_min of a route count only once a round-trip time is known: no help here.
  int rto_max = 0;
  const bool in_flight = !endpoint.sent.empty() || endpoint.fin_sent;
  if (in_flight) {
    if (!Get(fd, IPPROTO_TCP, kTcpRtoMaxMs, rto_max) ||
        !Set(fd, IPPROTO_TCP, kTcpRtoMaxMs, kSmallestRtoMaxMs)) {
      rto_max = 0;
    }
    if (!SelectQueue(fd, TCP_SEND_QUEUE)) return error("TCP_REPAIR_QUEUE");
    if (!Fill(fd, endpoint.sent, SO_SNDBUF, SO_SNDBUFFORCE)) return error("output already sent");
  }
  const tcp_repair_opt sack = {kOptionSackPermitted, 0};
  if (options.sack && !Set(fd, IPPROTO_TCP, TCP_REPAIR_OPTIONS, sack)) {
    return error("TCP_REPAIR_OPTIONS (SACK)");
  }
  // While the send queue is under repair, a FIN too counts as sent. It is probed for after 1 s, as SACK
  // cannot be agreed behind it; bytes in front of it then wait for 3 s more, unless resent by hand.
  if (endpoint.fin_sent && ::shutdown(fd, SHUT_WR) != 0) return error("shutdown");
  // The limit holds for later timeouts too, and shortens the life of a connection without answer.
  if (rto_max != 0 && !Set(fd, IPPROTO_TCP, kTcpRtoMaxMs, rto_max)) return error("TCP_RTO_MAX_MS");

  tcp_repair_window windows = {};
  // One before rcv_nxt: whatever window the client's next segment offers replaces this one.
  windows.snd_wl1 = endpoint.rcv_nxt - 1;
  windows.snd_wnd = endpoint.snd_wnd;
  windows.max_window = endpoint.snd_wnd;
  windows.rcv_wnd = window;
  windows.rcv_wup = endpoint.rcv_nxt;
  if (!Set(fd, IPPROTO_TCP, TCP_REPAIR_WINDOW, windows)) return error("TCP_REPAIR_WINDOW");

  if (!Set(fd, IPPROTO_TCP, TCP_REPAIR, int{TCP_REPAIR_OFF_NO_WP})) return error("TCP_REPAIR off");
  // The end of repair has cleared it, and without it no listener could share the port.
  if (!Set(fd, SOL_SOCKET, SO_REUSEADDR, on)) return error("SO_REUSEADDR");
  return owner;
}

absl::StatusOr<Endpoint> Capture(int fd, CapturedBytes& storage) {
  Endpoint endpoint;
  sockaddr_in local = {}, remote = {};
  socklen_t local_size = sizeof(local), remote_size = sizeof(remote);
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&local), &local_size) != 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot capture descriptor ", fd, ": ", strerror(errno)));
  }
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&remote), &remote_size) != 0 ||
      local.sin_family != AF_INET) {
    return absl::FailedPreconditionError(
        absl::StrCat("cannot capture descriptor ", fd, ": not a TCP connection over IPv4"));
  }
  endpoint.tuple.local = FromSockaddr(local);
  endpoint.tuple.remote = FromSockaddr(remote);

  const std::string what = absl::StrCat("cannot capture ", endpoint.tuple.ToString(), ": ");
  const auto unfit = [&](int state) {
    return absl::FailedPreconditionError(absl::StrCat(what, "it is in TCP state ", state));
  };
  tcp_info info;
  if (!Get(fd, IPPROTO_TCP, TCP_INFO, info)) {
    return absl::FailedPreconditionError(absl::StrCat(what, "not TCP: ", strerror(errno)));
  }
  if (!IsCapturable(info.tcpi_state)) return unfit(info.tcpi_state);
  if (!Set(fd, IPPROTO_TCP, TCP_REPAIR, int{TCP_REPAIR_ON})) {
    const std::string text = absl::StrCat(what, "TCP_REPAIR: ", strerror(errno));
    return errno == EPERM ? absl::PermissionDeniedError(absl::StrCat(text, " (needs CAP_NET_ADMIN)"))
                          : absl::InternalError(text);
  }
  const auto as_it_was = [&] {
    Set(fd, IPPROTO_TCP, TCP_REPAIR, int{TCP_REPAIR_OFF_NO_WP});
    Set(fd, SOL_SOCKET, SO_REUSEADDR, int{1});
  };
  const auto error = [&](const char* step) {
    const std::string text = absl::StrCat(what, step, ": ", strerror(errno));
    as_it_was();
    return absl::InternalError(text);
  };

  // Under repair the socket sends nothing on its own account, but segments that arrive and timers that
  // expire still change it. Where the owner has not closed the gate, look again until two looks agree.
  Position position;
  for (int attempt = 0;; ++attempt) {
    if (attempt == 100) {
      errno = EBUSY;
      return error("segments keep arriving; close the south wrapper's gate first");
    }
    if (!Get(fd, IPPROTO_TCP, TCP_INFO, info)) return error("TCP_INFO");
    if (!IsCapturable(info.tcpi_state)) {
      as_it_was();
      return unfit(info.tcpi_state);
    }
    if (!GetPosition(fd, position)) return error("queue positions");
    const bool fin_queued =
        info.tcpi_state == kFinWait1 || info.tcpi_state == kClosing || info.tcpi_state == kLastAck;
    const bool fin_acked = info.tcpi_state == kFinWait2;
    if ((fin_queued && position.outgoing == 0) || position.not_sent > position.outgoing) {
      continue;  // acknowledged between two of the questions
    }
    // The FIN is the last of the queue: either both have been sent or neither.
    endpoint.fin_sent = fin_acked || (fin_queued && position.not_sent == 0);
    const uint32_t unsent = position.not_sent - (fin_queued && position.not_sent > 0 ? 1 : 0);
    const uint32_t queued = position.outgoing - (fin_queued ? 1 : 0);
    // A FIN that was acknowledged is put back in flight: that is how Restore gets to know of it. The
    // client's next acknowledgement takes it out again.
    endpoint.snd_una = position.write_seq - position.outgoing - (fin_acked ? 1 : 0);
    endpoint.rcv_nxt = position.rcv_nxt;
    endpoint.snd_wnd = position.windows.snd_wnd;
    endpoint.rcv_edge = position.windows.rcv_wup + position.windows.rcv_wnd;

    if (!PeekOutgoing(fd, queued, storage.sent)) {
      if (errno == EBUSY) continue;
      return error("send queue");
    }
    storage.unsent = storage.sent.substr(queued - unsent);
    storage.sent.resize(queued - unsent);
    if (!PeekIncoming(fd, position.incoming, storage.unread)) {
      if (errno == EBUSY) continue;
      return error("receive queue");
    }

    endpoint.options.window_scaling = info.tcpi_options & TCPI_OPT_WSCALE;
    endpoint.options.snd_wscale = info.tcpi_snd_wscale;
    endpoint.options.rcv_wscale = info.tcpi_rcv_wscale;
    endpoint.options.sack = info.tcpi_options & TCPI_OPT_SACK;
    endpoint.options.timestamps = info.tcpi_options & TCPI_OPT_TIMESTAMPS;
    endpoint.options.own_mss = info.tcpi_advmss;
    int mss = 0;  // under repair: the client's
    if (!Get(fd, IPPROTO_TCP, TCP_MAXSEG, mss)) return error("TCP_MAXSEG");
    endpoint.options.peer_mss = mss;

    Position after;
    tcp_info info_after;
    if (!GetPosition(fd, after) || !Get(fd, IPPROTO_TCP, TCP_INFO, info_after)) {
      return error("queue positions");
    }
    if (info.tcpi_state == info_after.tcpi_state && position == after) break;
  }
  if (endpoint.options.timestamps) {
    // Past whatever has left: CurrentTimestamp has bit 0 cleared.
    endpoint.timestamp = CurrentTimestamp(fd) + 2;
  }
  endpoint.sent = storage.sent;
  endpoint.unread = storage.unread;
  return endpoint;
}

void CloseSilently(UniqueFd fd) {
  if (!fd) return;
  if (!Set(fd.get(), IPPROTO_TCP, TCP_REPAIR, int{TCP_REPAIR_ON})) {
    PLOG(ERROR) << "cannot close a connection silently (TCP_REPAIR, which needs CAP_NET_ADMIN); "
                   "its client will see a FIN or a RST";
  }
}

uint64_t SocketCookie(int fd) {
  uint64_t cookie = 0;
  return Get(fd, SOL_SOCKET, SO_COOKIE, cookie) ? cookie : 0;
}

size_t SegmentSize(int fd) {
  tcp_info info;
  return Get(fd, IPPROTO_TCP, TCP_INFO, info) ? info.tcpi_snd_mss : 0;
}

uint32_t UnackedBytes(int fd) {
  int bytes = 0;
  return ::ioctl(fd, SIOCOUTQ, &bytes) == 0 ? static_cast<uint32_t>(bytes) : 0;
}

uint32_t UnsentBytes(int fd) {
  int bytes = 0;
  return ::ioctl(fd, SIOCOUTQNSD, &bytes) == 0 ? static_cast<uint32_t>(bytes) : 0;
}

uint32_t UnreadBytes(int fd) {
  int bytes = 0;
  return ::ioctl(fd, SIOCINQ, &bytes) == 0 ? static_cast<uint32_t>(bytes) : 0;
}

bool HasRoundTripTime(int fd) {
  tcp_info info;
  return Get(fd, IPPROTO_TCP, TCP_INFO, info) && info.tcpi_rtt != 0;
}

bool IsUnanswered(int fd, std::chrono::milliseconds limit) {
  tcp_info info;
  // Both counts are of the kernel, and go back to 0 when the client says something.
  return Get(fd, IPPROTO_TCP, TCP_INFO, info) && (info.tcpi_retransmits >= 2 || info.tcpi_probes >= 2) &&
         std::chrono::milliseconds(info.tcpi_last_ack_recv) > limit;
}

uint32_t CurrentTimestamp(int fd) {
  tcp_info info;
  uint32_t timestamp;
  if (!Get(fd, IPPROTO_TCP, TCP_INFO, info) || !(info.tcpi_options & TCPI_OPT_TIMESTAMPS) ||
      !Get(fd, IPPROTO_TCP, TCP_TIMESTAMP, timestamp)) {
    return 0;
  }
  return timestamp & ~1u;
}

}  // namespace understudy::tcpshim
