// The south wrapper: sits between TCP and the network interface, as an eBPF program on tcx, or on clsact
// where the kernel has no tcx (before 6.6).
//
// Claims 15-26 (the second wrapper). Its verdicts are in verdict.h, one place; this is its user space: an
// interface, which bpf_south_wrapper.cc implements from its parts (south_program, south_table, south_gate,
// south_events, south_fence), and the simulator in its own way.
//
// What stays true without anyone's help:
//  - A process that stops is silent at its deadline: the program compares it with the kernel's clock.
//  - A process that dies is silent at once: the verdicts hang on a program array that only this process
//    holds; the kernel empties it when the last descriptor goes, and what is left of the filter drops all
//    that comes from the service address, and all that goes to it. The filter itself outlives the process.
//    Measured (Linux 6.18, two busy cores, a packet every few microseconds): the last one left between 0
//    and 7 ms after SIGKILL. The descriptor goes when the process's memory has been torn down, so later
//    where that is much; until then the verdicts stand as they were, the stable points do not move, and
//    the deadline runs.
//  - A forked child does not hold the array (pthread_atfork closes its copy), so one that outlives its
//    parent does not speak for it. Attach after daemon(), then, not before.
//
// Silence is that of the IP: the gate and the deadline stop every protocol and port of the service address,
// ARP included. Two services on one IP are silent when either is. On the other interfaces of the host (but
// loopback) nothing of the service address is announced, and nothing leaves that has not passed here: clients
// that are reached by another interface are refused in the handshake (SOUTH_EVENT_ELSEWHERE).
//
// Segments sent by hand are known by the socket they come from (RawSender), not by a firewall mark: that is
// the host's firewall's to set and to act on.
//
// Capabilities: CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and CAP_PERFMON. Ethernet interfaces only.
// All methods belong to one thread, except RenewUntil, OpenGate and CloseGate, which any may call.
#ifndef UNDERSTUDY_TCPSHIM_SOUTH_WRAPPER_H_
#define UNDERSTUDY_TCPSHIM_SOUTH_WRAPPER_H_

#include <arpa/inet.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tcpshim/south_shared.h"
#include "tcpshim/tcp_types.h"
#include "tcpshim/verdict.h"

namespace understudy::tcpshim {

// Of an event.
inline FourTuple TupleOf(const south_tuple& t) {
  return {{ntohl(t.local_ip), ntohs(t.local_port)}, {ntohl(t.remote_ip), ntohs(t.remote_port)}};
}

class SouthWrapper {
 public:
  struct Options {
    std::string interface;
    SocketAddress service;
    // Of the RawSender whose segments are let through; 0: there is none.
    uint64_t hand_cookie = 0;
    uint16_t hand_ip_id = 0;
    uint32_t max_connections = 1 << 17;  // slots; memory is 128 bytes each
    bool tcx = true;                     // false: as where the kernel has none (before 6.6)
  };
  // Index of a connection in the shared array.
  using Slot = uint32_t;

  // Attaches to ingress and egress with the gate closed. A filter left over from a dead process for the same
  // service address is replaced; there is no moment in between in which the node is not silent. Takes some
  // 100 ms, which the kernel's verifier needs. PermissionDenied (says which capability), NotFound
  // (interface), FailedPrecondition (kernel too old, a time namespace, or packets get past the programs: says
  // what is missing or in the way), AlreadyExists (a live process holds this service address here).
  static absl::StatusOr<std::unique_ptr<SouthWrapper>> Attach(const Options& options);
  // Takes off what a dead process of this service has left on the interfaces here. Its service address must
  // be gone before; nobody may hold the service.
  static void RemoveLeftovers(const SocketAddress& service);
  // Detaches; clsact goes too if it was made here and nobody else has filters there. The service address
  // must have been removed before, or its packets are no longer filtered.
  virtual ~SouthWrapper() = default;

  // --- That nothing gets past it ---
  // Tries whether packets meet the programs, puts them back in front of all others when not, and on
  // interfaces that are new. To be called whenever change_fd is readable, and now and then: not all changes
  // are reported. FailedPrecondition: packets get past, and it cannot be mended; the node must not speak.
  // Says what is in the way. An interface that takes no packets is no error.
  virtual absl::Status Check() = 0;
  // Readable when interfaces or filters have changed; -1: there are no reports.
  virtual int change_fd() const = 0;
  // How often Check had to put the programs back.
  virtual uint64_t mended() const = 0;

  // An interface has come in the place of the one of that name: goes on there, with all that it knows. Errors
  // as Attach.
  virtual absl::Status FollowInterface() = 0;

  // --- The gate (I3) ---
  virtual void OpenGate() = 0;
  virtual void CloseGate() = 0;
  // Egress is silent from `deadline` on, gate open or not. Never shortens; see CloseGate.
  virtual void RenewUntil(std::chrono::steady_clock::time_point deadline) = 0;

  // --- Connections ---
  // `iss`: ours; a SYN-ACK with another one is reported as that of a new connection. `stable`: first
  // acknowledgement allowed. `flags`: SOUTH_*. ResourceExhausted when the slots are used up.
  // `said`: of a restored connection, what may have left from another host: snd_max and rcv_edge are what
  // the client may know, and nothing will contradict them; an echo of a TSval before `tsval` is kept from
  // TCP, whose clock it is not. nullptr: nothing has left.
  using ServerView = south_sent;
  absl::StatusOr<Slot> Add(const FourTuple& tuple, Seq iss, Seq stable, uint32_t flags, uint8_t rcv_wscale,
                           const ServerView* said = nullptr);
  // Offers the client no window beyond `bytes`, except what was offered already. 0: no limit.
  void SetWindowLimit(Slot slot, uint32_t bytes);
  virtual void Remove(Slot slot) = 0;
  void Allow(Slot slot, uint32_t flags);     // adds to the flags
  void Disallow(Slot slot, uint32_t flags);  // takes from them
  // Moves the stable point forward (never back).
  void SetStable(Slot slot, Seq stable);

  // An acknowledgement that was swallowed, or clamped away from data, and that the stable point allows by
  // now: to be sent by hand, alone.
  // Call after SetStable, and after the output that became stable with it was written: when that has
  // carried the acknowledgement, there is none to take. What is held beyond the stable point stays held.
  using HeldAck = south_held;
  std::optional<HeldAck> TakeHeldAck(Slot slot);

  // What the client has acknowledged and offered; nullopt before its first segment after the handshake's SYN.
  using ClientView = south_client;
  std::optional<ClientView> Client(Slot slot) const;
  // One SOUTH_EVENT_ACKED when the client acknowledges `una` or more; a new call replaces the old wish. True:
  // it has done so already, and no event comes. An event may be lost (ring buffer full): look now and then.
  bool WakeWhenAcked(Slot slot, Seq una);
  // What TCP knows of segments that went past the programs (see Check): up to `snd_max` may have left, so
  // that the client is believed when it acknowledges that; `una` it has acknowledged. Neither moves back.
  void NotePast(Slot slot, Seq snd_max, Seq una);
  // What has left for the client; nullopt before the first segment.
  std::optional<ServerView> Sent(Slot slot) const;

  // --- Events ---
  // Readable when there are events. PollEvents hands them over, at most `limit`; returns how many. The
  // kernel wakes for an event only when those before it have been taken: poll until less than `limit` come.
  // The handler may call all but PollEvents.
  virtual int event_fd() const = 0;
  virtual int PollEvents(const std::function<void(const south_event&)>& handle, int limit = 1024) = 0;

  // Of the map that holds the gate, for a SouthGate in another process. Belongs to this object.
  virtual int gate_fd() const = 0;

  virtual std::array<uint64_t, SOUTH_COUNTERS> Counters() const = 0;
  static const char* CounterName(int counter);  // "egress_ack_held", ...

 protected:
  SouthWrapper() = default;

 private:
  // What the calls about connections stand on. At REQUIRES: inserted, and not removed.
  virtual absl::StatusOr<Slot> Insert(const FourTuple& tuple, const south_connection& connection) = 0;
  virtual south_connection& At(Slot slot) const = 0;
};

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_SOUTH_WRAPPER_H_
