// Endpoint capture and restore: a TCP connection as a value, and back (TCP_REPAIR).
//
// Claims 1, 9, 18: restoring a server to its pre-failure connection state. Knows sockets only.
#ifndef UNDERSTUDY_TCPSHIM_ENDPOINT_H_
#define UNDERSTUDY_TCPSHIM_ENDPOINT_H_

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "tcpshim/tcp_types.h"
#include "tcpshim/unique_fd.h"

namespace understudy::tcpshim {

// An endpoint in ESTABLISHED or later, as far as it can be restored.
//
//        snd_una                 snd_una + sent.size() (+ 1 if fin_sent) = SND.NXT
//   ------- | ---------- sent ---------- |
//        rcv_nxt (a FIN that was received has been counted)
//
// A client's FIN that has been received is in rcv_nxt only: the socket itself stays in ESTABLISHED (or
// FIN_WAIT), will never see an end of stream, and its owner must know (see Restore).
struct Endpoint {
  FourTuple tuple;
  TcpOptions options;
  Seq snd_una = 0;        // must not be after what the client has acknowledged
  std::string_view sent;  // from snd_una; must reach as far as anything the client may have acknowledged
  bool fin_sent = false;  // a FIN follows `sent`
  Seq rcv_nxt = 0;
  std::string_view unread;  // received, acknowledged, not read yet: the bytes before rcv_nxt (and the FIN)
  uint32_t snd_wnd = 0;     // bytes the client last offered, counted from snd_una
  Seq rcv_edge = 0;         // right edge of the window last offered to the client (I6)
  uint32_t timestamp = 0;   // what the socket's TSval shall be now; unused without options.timestamps
};

// Makes a socket that is `endpoint`: non-blocking, close-on-exec, reading and writing as usual, nothing
// sent yet. `sent` counts as sent: the kernel resends it only at its RTO (after 1 s; 3 s before Linux
// 6.15), so the owner resends it by hand.
// The local address need not be present (IP_TRANSPARENT). Nothing may reach the client meanwhile: the
// south wrapper's gate is closed.
//   AlreadyExists: the four-tuple is in use here.  PermissionDenied: CAP_NET_ADMIN is missing.
//   Unavailable: no route to the client.  Internal: any other refusal of the kernel, step and errno named.
absl::StatusOr<UniqueFd> Restore(const Endpoint& endpoint);

// The opposite, from a live socket in ESTABLISHED, FIN_WAIT1/2, CLOSE_WAIT, LAST_ACK or CLOSING. The
// socket is left in repair mode: closing it sends nothing. It still answers segments of the client, so
// the gate must be closed before. On an error it goes on as before. `storage` receives the bytes that
// `sent` and `unread` point into, and apart from them:
// `unsent`: accepted by write(), never sent. They are for the owner to write again once the gate is open
// (and then to shut down again, where the state says that it had); as `sent` they would wait for a timer.
// A FIN of ours that the client has acknowledged (FIN_WAIT2) comes out as still in flight. `timestamp` is
// that of the moment of the capture: the owner adds what passes until Restore.
//   FailedPrecondition: no TCP connection, or in another state.  PermissionDenied as above.
struct CapturedBytes {
  std::string sent, unread, unsent;
};
absl::StatusOr<Endpoint> Capture(int fd, CapturedBytes& storage);

// Closes a socket so that neither FIN nor RST is sent.
void CloseSilently(UniqueFd fd);

// A number that no other socket of this host has or had (SO_COOKIE). An accepted socket has that of its
// handshake, see south_event::cookie. 0: unknown.
uint64_t SocketCookie(int fd);

// Bytes of payload that the kernel would put in one segment of this connection: the client's MSS, the MTU of
// the route and what ICMP has said of the path have had their say, and options are taken off. 0: not known.
size_t SegmentSize(int fd);

// Of what was written to the socket, the bytes that the peer has not acknowledged (a FIN counts as one), and
// those that have not been sent yet. 0 also for a socket that is no more.
uint32_t UnackedBytes(int fd);
uint32_t UnsentBytes(int fd);
// Bytes that TCP has received and nobody has read. 0 also for a socket that is no more.
uint32_t UnreadBytes(int fd);

// The kernel has measured a round-trip time on this connection, and its timers go by that. Until then they
// wait for one to four seconds.
bool HasRoundTripTime(int fd);

// The client has been silent for `limit`, although something of ours waits for its acknowledgement and has
// been sent, or its window probed, at least twice since. A client whose window is closed and who answers
// probes is not silent.
bool IsUnanswered(int fd, std::chrono::milliseconds limit);

// TSval the socket would send now; 0 when the connection has no timestamps.
uint32_t CurrentTimestamp(int fd);

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_ENDPOINT_H_
