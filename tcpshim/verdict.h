// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// What becomes of a segment: (control, connection, segment) -> a verdict, and what to change.
//
// Each verdict is here and nowhere else. south.bpf.c asks in the kernel, the simulator (tests/sim/south.cc)
// in its world, the tests by themselves. How a packet is read, changed, counted and reported is theirs.
// docs/design.md section 4 has the table of verdicts.
//
// A verdict is the counter that the segment counts in. One that leaves goes through three steps: ask for the
// verdict and the edits, apply the edits, note the departure. What cannot be edited is swallowed, and is not
// noted: it must not count as sent.
//
// Plain C, as BPF and as C++. Sequence numbers in host byte order.
#ifndef UNDERSTUDY_TCPSHIM_VERDICT_H_
#define UNDERSTUDY_TCPSHIM_VERDICT_H_

#include "tcpshim/south_shared.h"

#ifndef __bpf__
#include <sched.h>
#endif

#define SOUTH_INLINE static inline __attribute__((always_inline))

// The kernel and user space read and write a connection at the same time. Loads and stores are whole, and
// exchanges are full barriers on both sides. (BPF has no other loads than plain ones.)
#ifdef __bpf__
#define SOUTH_LOAD(x) (*(const volatile __typeof__(x)*)&(x))
#define SOUTH_STORE(x, value) (*(volatile __typeof__(x)*)&(x) = (value))
#else
#define SOUTH_LOAD(x) __atomic_load_n(&(x), __ATOMIC_SEQ_CST)
#define SOUTH_STORE(x, value) __atomic_store_n(&(x), value, __ATOMIC_SEQ_CST)
#endif
#define SOUTH_EXCHANGE(x, value) __atomic_exchange_n(&(x), value, __ATOMIC_SEQ_CST)
#define SOUTH_REPLACE(x, before, value) (__sync_val_compare_and_swap(&(x), before, value) == (before))

// --- Segments ------------------------------------------------------------------------------------

// As in the TCP header.
enum { SOUTH_FIN = 1, SOUTH_SYN = 2, SOUTH_RST = 4, SOUTH_ACK = 16, SOUTH_ECE = 64 };

struct south_segment {
  __u32 seq, ack;
  __u32 payload;  // bytes
  __u32 tsval, tsecr;
  __u16 window;     // as in the header
  __u8 flags;       // SOUTH_FIN...
  __u8 timestamps;  // 1: tsval and tsecr are valid
};

SOUTH_INLINE int south_after(__u32 a, __u32 b) { return (__s32)(a - b) > 0; }

SOUTH_INLINE __u32 south_end(const struct south_segment* s) {
  return s->seq + s->payload + !!(s->flags & SOUTH_SYN) + !!(s->flags & SOUTH_FIN);
}

// With a RST too, which TCP never sends.
SOUTH_INLINE int south_is_syn_ack(const struct south_segment* s) {
  return (s->flags & (SOUTH_SYN | SOUTH_ACK)) == (SOUTH_SYN | SOUTH_ACK);
}

// Its acknowledgement may not be said yet.
SOUTH_INLINE int south_is_past(const struct south_segment* s, __u32 stable) {
  return s->flags & SOUTH_ACK && !(s->flags & SOUTH_SYN) && south_after(s->ack, stable);
}

// --- The window ----------------------------------------------------------------------------------

// Of the windows that we announce; that of a SYN-ACK is never scaled (RFC 7323).
SOUTH_INLINE __u32 south_shift(const struct south_connection* c) { return c->rcv_wscale & 15; }

// The least window that reaches `edge` from `ack`, as in the header.
SOUTH_INLINE __u32 south_window_up_to(__u32 edge, __u32 ack, __u32 shift) {
  __u32 window = (edge - ack + (1u << shift) - 1) >> shift;
  return window > 65535 ? 65535 : window;
}

// The window to offer with the acknowledgement `ack`, when TCP would let `room` bytes follow it. Its right
// edge is
//  - TCP's own, rounded down to the scale;
//  - not further from `ack` than window_limit, so that an heir that knows the limit, and has stored what
//    is acknowledged, can offer as much (I6 across a takeover);
//  - never left of what was offered before (I6), for which it is rounded up: TCP alone takes back up to
//    one unit of the scale now and then (RFC 7323 section 2.4), and a clamped acknowledgement does not lie
//    on the raster of TCP's own.
SOUTH_INLINE __u32 south_fit_window(const struct south_connection* c, __u32 ack, __u32 room) {
  __u32 shift = south_shift(c);
  __u32 limit = SOUTH_LOAD(c->window_limit);
  if (limit && room > limit) room = limit;
  __u32 window = room >> shift;
  if (SOUTH_LOAD(c->egress_seen)) {
    __u32 edge = SOUTH_LOAD(c->rcv_edge);
    if (south_after(edge, ack + (window << shift))) return south_window_up_to(edge, ack, shift);
  }
  return window > 65535 ? 65535 : window;
}

// --- Departure -----------------------------------------------------------------------------------

// Who made a segment: the kernel's TCP, or user space (RawSender).
enum south_maker { SOUTH_BY_TCP, SOUTH_BY_HAND };

// What a segment leaves with.
struct south_edits {
  __u32 ack;     // another than its own: it leaves without SACK blocks as well (see south_clamp)
  __u32 window;  // as in the header
};

// *at = the later of *at and `value`. Loses only against others that did better, or against eight in a
// row: then what is written next brings it forward.
SOUTH_INLINE void south_raise(__u32* at, __u32 value) {
  for (int i = 0; i < 8; ++i) {
    __u32 old = SOUTH_LOAD(*at);
    if (!south_after(value, old)) return;
    if (SOUTH_REPLACE(*at, old, value)) return;
  }
}

// `s` leaves, with `edits`.
SOUTH_INLINE void south_note_departure(struct south_connection* c, const struct south_segment* s,
                                       const struct south_edits* edits, enum south_maker maker) {
  if (s->flags & SOUTH_RST || !(s->flags & SOUTH_ACK)) return;
  __u32 edge = edits->ack + (edits->window << (s->flags & SOUTH_SYN ? 0 : south_shift(c)));
  if (!SOUTH_LOAD(c->egress_seen)) {
    c->last_ack = edits->ack;
    c->snd_max = south_end(s);
    c->rcv_edge = edge;
    c->last_tsval = s->tsval;
    SOUTH_EXCHANGE(c->egress_seen, 1u);
  } else {
    south_raise(&c->last_ack, edits->ack);
    south_raise(&c->snd_max, south_end(s));
    south_raise(&c->rcv_edge, edge);
    if (s->timestamps) south_raise(&c->last_tsval, s->tsval);
  }
  // What is held has just been said. Not so when this was sent by hand: user space runs beside the
  // kernel's TCP, which may hold a newer one between our look and our exchange. (south_take_held compares
  // with last_ack itself.) The window counts too: an older one must not bury an update.
  if (maker == SOUTH_BY_TCP && SOUTH_LOAD(c->held) && !south_after(c->held_ack, edits->ack) &&
      !south_after(c->held_ack + ((__u32)c->held_window << south_shift(c)), edge)) {
    SOUTH_EXCHANGE(c->held, 0u);
  }
}

// --- Acknowledgements past the stable point ------------------------------------------------------

// south_hold, south_take_held: an acknowledgement past the stable point is kept until user space re-sends it.
//
// What must not happen: the stable point moves past the acknowledgement, and neither side sends it. So
// each side first publishes what it did and only then looks at what the other did (Dekker):
//
//     egress: south_hold                   user space
//     held_* = this acknowledgement        stable = S         (south_set_stable)
//     held <-> 1                           held <-> 0         (south_take_held)
//     read stable                          was 1: held_* are ours to send, as far as stable allows
//
// Exchanges are full barriers, so at least one side sees the other's step:
//  - Egress still sees the old stable point: then its exchange came before the store of `stable` in the
//    order of all, and south_take_held, which comes later still, finds held = 1.
//  - Egress sees a stable point that covers the acknowledgement: it takes held back. When it gets the 1,
//    user space has not taken it and will not: the segment leaves here. When it gets 0, user space has
//    taken it and re-sends: the segment is swallowed.
// User space that takes an acknowledgement of which only a part is stable sends that part and puts held
// back to 1. It alone moves `stable`, in the same thread, so the point does not pass the acknowledgement
// between the two; and if egress has held a newer one meanwhile, held is 1 already.
//
// held_* are read by user space while egress may write a newer set: torn, an old window with a new
// acknowledgement would offer room that is not there. Hence the sequence lock `held_version`: egress
// makes it odd, writes, makes it even; user space reads again when it was odd or has changed. When a set
// newer than the 1 it took is read, that newer one is sent and its own 1 finds nothing beyond last_ack.
//
// Two CPUs can be here for one connection: TCP sends under the socket's lock, and this hook runs inside
// that call, so almost always they take turns; but packets that waited for the neighbour's hardware
// address are sent later from another context. The odd version is a lock between those. It is held for a
// few stores in a context that is not preempted; who does not get it in 64 tries does not write its
// acknowledgement, but sets held all the same. In the worst case the older acknowledgement is re-sent,
// and the client's retransmission asks for the newer one: late, never wrong.
//
// held_ack never moves back, so a late older acknowledgement does not replace a newer one.
//
// Held are lone acknowledgements, which are swallowed, and also those that came with data and were
// clamped: TCP takes such an acknowledgement for delivered and would not repeat it.
//
// Returns 1 when the segment may leave as it is. *stable: the stable point as seen last.
SOUTH_INLINE int south_hold(struct south_connection* c, const struct south_segment* s, __u32* stable) {
#ifdef __clang__
#pragma clang loop unroll(disable)
#endif
  for (int i = 0; i < 64; ++i) {
    __u32 version = SOUTH_LOAD(c->held_version);
    if (version & 1) continue;
    if (!SOUTH_REPLACE(c->held_version, version, version + 1)) continue;
    if (!south_after(c->held_ack, s->ack)) {
      SOUTH_STORE(c->held_ack, s->ack);
      SOUTH_STORE(c->held_seq, south_end(s));
      SOUTH_STORE(c->held_tsval, s->tsval);
      SOUTH_STORE(c->held_tsecr, s->tsecr);
      SOUTH_STORE(c->held_window, s->window);
    }
    SOUTH_EXCHANGE(c->held_version, version + 2);
    break;
  }
  SOUTH_EXCHANGE(c->held, 1u);
  *stable = SOUTH_LOAD(c->stable);
  if (south_after(s->ack, *stable)) return 0;
  return SOUTH_EXCHANGE(c->held, 0u) == 1;
}

// --- Egress --------------------------------------------------------------------------------------

SOUTH_INLINE int south_is_open(const struct south_control* control) { return SOUTH_LOAD(control->gate) != 0; }

// The right to serve has lapsed. `now_ns`: CLOCK_MONOTONIC.
SOUTH_INLINE int south_is_late(const struct south_control* control, __u64 now_ns) {
  return now_ns >= SOUTH_LOAD(control->deadline_ns);
}

// Whether what TCP sends on the connection's tuple is of that connection.
//  - TCP makes a SYN-ACK only where it has no connection any more: one with another ISS than the log has is
//    the next incarnation.
//  - A lone ACK of what the client of this connection, of whom nothing has been heard, was not even offered:
//    TCP has another handshake with it, and tells it so. The client's answer, a RST, ends that one.
SOUTH_INLINE int south_is_incarnation(const struct south_connection* c, const struct south_segment* s) {
  return !south_is_syn_ack(s) || s->seq == c->iss;
}
SOUTH_INLINE int south_is_other_handshake(const struct south_connection* c, const struct south_segment* s) {
  if ((s->flags & (SOUTH_SYN | SOUTH_FIN | SOUTH_RST | SOUTH_ACK)) != SOUTH_ACK || s->payload ||
      SOUTH_LOAD(c->ingress_seen)) {
    return 0;
  }
  return s->ack - SOUTH_LOAD(c->stable) > 0xffff;
}

// It may leave with the acknowledgement it has.
SOUTH_INLINE enum south_counter south_pass(const struct south_connection* c, const struct south_segment* s,
                                           struct south_edits* edits) {
  edits->ack = s->ack;
  edits->window = s->window;
  if (s->flags & SOUTH_ACK && !(s->flags & (SOUTH_SYN | SOUTH_RST))) {
    edits->window = south_fit_window(c, s->ack, (__u32)s->window << south_shift(c));
  }
  return SOUTH_EGRESS_PASSED;
}

// The acknowledgement goes down to `stable`; the window goes up by as much, so that its right edge stays.
//
// SACK blocks are blanked then, and only then. With them left in, a block would adjoin or contain what
// the clamped number denies, and the client would take it for a loss (measured: cwnd 30 -> 1). On
// segments that are not clamped they stay, although they tell of bytes that no log has: they promise
// nothing (RFC 2018 section 8: a client keeps SACKed data until it is acknowledged, for the receiver may
// drop it), and without them loss recovery towards the server would be that of 1995.
SOUTH_INLINE enum south_counter south_clamp(const struct south_connection* c, const struct south_segment* s,
                                            __u32 stable, struct south_edits* edits) {
  edits->ack = stable;
  edits->window = south_fit_window(c, stable, s->ack - stable + ((__u32)s->window << south_shift(c)));
  return SOUTH_EGRESS_ACK_CLAMPED;
}

// Whether a verdict of egress lets the segment leave; south_edits are valid then.
SOUTH_INLINE int south_leaves(enum south_counter verdict) {
  return verdict == SOUTH_EGRESS_PASSED || verdict == SOUTH_EGRESS_ACK_CLAMPED;
}

// What TCP sends on a connection. Of `c` nothing is written but what is held.
SOUTH_INLINE enum south_counter south_judge(struct south_connection* c, const struct south_segment* s,
                                            struct south_edits* edits) {
  __u32 flags = SOUTH_LOAD(c->flags);
  if (s->flags & SOUTH_RST && !(flags & SOUTH_RST_OK)) return SOUTH_EGRESS_RST_DISCARDED;
  // User space sends the SYN-ACK by hand when its time comes; nothing else can be due before it.
  if (!(s->flags & SOUTH_RST) && !(flags & SOUTH_OPEN)) return SOUTH_EGRESS_SYN_ACK_HELD;
  // With its payload, if a retransmission has merged the two: TCP repeats it when the FIN may leave.
  if (s->flags & SOUTH_FIN && !(flags & SOUTH_FIN_OK)) return SOUTH_EGRESS_FIN_DISCARDED;

  __u32 stable = SOUTH_LOAD(c->stable);
  if (!south_is_past(s, stable)) return south_pass(c, s, edits);
  // A RST ends the connection: nothing is left to be acknowledged later.
  if (!(s->flags & SOUTH_RST) && south_hold(c, s, &stable)) return south_pass(c, s, edits);
  if (!s->payload && !(s->flags & (SOUTH_FIN | SOUTH_RST))) return SOUTH_EGRESS_ACK_HELD;
  // Stable meanwhile, but user space has taken the acknowledgement: it may be said twice.
  if (!south_is_past(s, stable)) return south_pass(c, s, edits);
  return south_clamp(c, s, stable, edits);
}

// What TCP sends without a connection in the table. `live`: it does so for a socket that is open. Nothing
// tells then what the log has of it: a handshake that had to make room and was completed all the same.
// RST_UNKNOWN and SYN_ACK_HELD are to be reported.
SOUTH_INLINE enum south_counter south_judge_unknown(const struct south_segment* s, int live) {
  if (s->flags & SOUTH_RST) return SOUTH_EGRESS_RST_UNKNOWN;
  if (south_is_syn_ack(s)) return SOUTH_EGRESS_SYN_ACK_HELD;
  if (s->payload || s->flags & SOUTH_FIN || live) return SOUTH_EGRESS_STRAY;
  return SOUTH_EGRESS_PASSED;  // TIME_WAIT's acknowledgements
}

// A segment made by hand carries the TSval and the window of when it was made. When the kernel has sent later
// ones since, they must not go back (I6). These are those to leave with.
SOUTH_INLINE __u32 south_newest_tsval(const struct south_connection* c, const struct south_segment* s) {
  __u32 newest = SOUTH_LOAD(c->last_tsval);
  if (!s->timestamps || !SOUTH_LOAD(c->egress_seen) || !south_after(newest, s->tsval)) return s->tsval;
  return newest;
}
SOUTH_INLINE __u32 south_newest_window(const struct south_connection* c, const struct south_segment* s) {
  if (!(s->flags & SOUTH_ACK) || s->flags & (SOUTH_SYN | SOUTH_RST) || !SOUTH_LOAD(c->egress_seen)) {
    return s->window;
  }
  __u32 shift = south_shift(c);
  __u32 edge = SOUTH_LOAD(c->rcv_edge);
  if (!south_after(edge, s->ack + ((__u32)s->window << shift))) return s->window;
  return south_window_up_to(edge, s->ack, shift);
}

// On an interface that does not have the service address. What leaves there would reach clients by a way that
// does not move with the address; but a segment may leave through several interfaces of this host, one after
// the other (a bridge and its port, a VLAN and what carries it). So what is swallowed is what cannot have
// passed the verdicts above before. `c` may be 0; `live` as above, where it is. ELSEWHERE of a SYN-ACK
// (south_is_refused) is to be reported.
SOUTH_INLINE int south_is_refused(const struct south_connection* c, const struct south_segment* s) {
  return south_is_syn_ack(s) && !(s->flags & SOUTH_RST) && (!c || s->seq != c->iss);
}
SOUTH_INLINE enum south_counter south_judge_elsewhere(const struct south_connection* c,
                                                      const struct south_segment* s, int live) {
  if (south_is_refused(c, s)) return SOUTH_EGRESS_ELSEWHERE;
  if (!c) {
    if (s->flags & (SOUTH_RST | SOUTH_SYN | SOUTH_FIN) || s->payload || live) return SOUTH_EGRESS_ELSEWHERE;
    return SOUTH_EGRESS_PASSED;
  }
  __u32 flags = SOUTH_LOAD(c->flags);
  if (!(flags & SOUTH_OPEN) || (s->flags & SOUTH_RST && !(flags & SOUTH_RST_OK)) ||
      (s->flags & SOUTH_FIN && !(flags & SOUTH_FIN_OK)) || south_is_past(s, SOUTH_LOAD(c->stable))) {
    return SOUTH_EGRESS_ELSEWHERE;
  }
  return SOUTH_EGRESS_PASSED;
}

// A token bucket as one number: the time at which it is full again, which each token moves by `interval`.
// Returns whether there was one. Of CPUs that meet here one gets none: they meet in floods.
SOUTH_INLINE int south_take_token(__u64* due, __u64 now, __u64 interval, __u64 burst) {
  __u64 old = SOUTH_LOAD(*due);
  __u64 from = old > now ? old : now;
  if (from - now >= burst * interval) return 0;
  return SOUTH_REPLACE(*due, old, from + interval);
}

// --- Handshakes ----------------------------------------------------------------------------------

// What a SYN or a SYN-ACK offers in its options.
struct south_offer {
  __u16 mss;  // 0: none
  __u8 wscale;
  __u8 has_wscale;
};

// A client's newest SYN: its SYN-ACK does not tell what it offers.
struct south_syn {
  __u32 isn;
  struct south_offer offer;
};

// The SYN-ACK `s`, which offers `own`, answers a SYN that offered *client. `newest`: of that client; 0: it is
// not known. There may have been another SYN since the one that is answered. SYN_ACK_HELD: *client is known
// as far as it matters. SYN_UNKNOWN: the client's shift is nowhere else than in its SYN, which was pushed
// out, or did not come through this interface; in the first case it comes again.
SOUTH_INLINE enum south_counter south_match_syn(const struct south_segment* s, const struct south_offer* own,
                                                const struct south_syn* newest, struct south_offer* client) {
  client->mss = 0;
  client->wscale = client->has_wscale = 0;
  if (newest && newest->isn + 1 == s->ack) *client = newest->offer;
  return own->has_wscale && !client->has_wscale ? SOUTH_EGRESS_SYN_UNKNOWN : SOUTH_EGRESS_SYN_ACK_HELD;
}

// What the two agree on, as SOUTH_EVENT_SYN_ACK tells it.
SOUTH_INLINE void south_tell_offers(struct south_event* event, const struct south_offer* own,
                                    const struct south_offer* client) {
  event->own_mss = own->mss ? own->mss : 536;
  event->peer_mss = client->mss ? client->mss : 536;
  if (!own->has_wscale) return;
  event->window_scaling = 1;
  event->snd_wscale = client->wscale > 14 ? 14 : client->wscale;
  event->rcv_wscale = own->wscale;
}

// --- Ingress -------------------------------------------------------------------------------------

// What becomes of a segment that arrives.
struct south_arrival {
  enum south_counter verdict;  // INGRESS_PASSED, INGRESS_NO_SOCKET
  __u32 report;       // SOUTH_EVENT_*; 0: nothing. RST_HANDSHAKE only when TCP would take it for whole
  __u8 remember_syn;  // 1: what it offers is to be kept (struct south_syn)
  __u8 blank_echo;    // 1: its TSecr is to be 0 (see south_old_echo)
};

// What the client has acknowledged decides what is kept for it, so a forged or stale segment must not raise
// it: the number must have been sent, and the segment must lie where the client may send. (One before
// last_ack is a probe.) A true segment that does not qualify costs nothing: una stays lower than it could be.
// TCP itself has the last word on the segment, whose checksum nobody has looked at here: it is passed in any
// case, and user space believes no more than TCP does (Serving::ViewOf).
//
// Returns 1 when the client has acknowledged what user space waits for (wake_at).
SOUTH_INLINE int south_note_arrival(struct south_connection* c, const struct south_segment* s) {
  if (!(s->flags & SOUTH_ACK) || s->flags & (SOUTH_RST | SOUTH_SYN)) return 0;
  if (!SOUTH_LOAD(c->egress_seen)) return 0;
  __u32 snd_max = SOUTH_LOAD(c->snd_max);
  if (south_after(s->ack, snd_max)) return 0;
  __u32 left = SOUTH_LOAD(c->last_ack) - 1;
  if (s->seq - left > SOUTH_LOAD(c->rcv_edge) - left) return 0;
  int first = !SOUTH_LOAD(c->ingress_seen);
  // Nothing but our SYN-ACK has left: whoever has it acknowledges that.
  if (first && snd_max == c->iss + 1 && s->ack != snd_max) return 0;
  if (first || !south_after(c->una, s->ack)) {
    struct south_connection both;
    both.una = s->ack;
    both.window = s->window;
    SOUTH_STORE(c->una_and_window, both.una_and_window);
  }
  if (s->timestamps) {
    if (first) {
      c->client_tsval = s->tsval;
    } else {
      south_raise(&c->client_tsval, s->tsval);
    }
  }
  if (first) SOUTH_EXCHANGE(c->ingress_seen, 1u);
  // Published before looking, as user space does it the other way round (south_wake_when_acked).
  return SOUTH_LOAD(c->wake_armed) && !south_after(SOUTH_LOAD(c->wake_at), s->ack) &&
         SOUTH_EXCHANGE(c->wake_armed, 0u);
}

// After a takeover: TCP would take the time since the dead host said something, an idle client's for hours,
// for a round-trip time, and its retransmission timer for three times that. From an echo of 0 it takes none.
SOUTH_INLINE int south_old_echo(struct south_connection* c, const struct south_segment* s) {
  if (!SOUTH_LOAD(c->old_echoes) || !s->timestamps || !s->tsecr) return 0;
  if (south_after(c->echo_from, s->tsecr)) return 1;
  c->old_echoes = 0;
  return 0;
}

SOUTH_INLINE int south_is_syn(const struct south_segment* s) {
  return (s->flags & (SOUTH_SYN | SOUTH_ACK | SOUTH_RST)) == SOUTH_SYN;
}

// `c`: the connection that is in the table; may be 0, and then the timestamps of `s` need not be valid.
SOUTH_INLINE void south_arrive(struct south_connection* c, const struct south_segment* s,
                               struct south_arrival* out) {
  out->verdict = SOUTH_INGRESS_PASSED;
  out->report = 0;
  out->remember_syn = out->blank_echo = 0;
  if (south_is_syn(s)) out->remember_syn = 1;
  if (!c) return;
  if (south_is_syn(s)) {
    out->report = SOUTH_EVENT_SYN_KNOWN;
  } else if (s->flags & SOUTH_RST) {
    // As RFC 5961 has it: the exact number. After the handshake TCP tells of resets itself.
    if (!SOUTH_LOAD(c->ingress_seen) && s->seq == SOUTH_LOAD(c->stable)) {
      out->report = SOUTH_EVENT_RST_HANDSHAKE;
    }
  } else {
    if (south_note_arrival(c, s)) out->report = SOUTH_EVENT_ACKED;
    out->blank_echo = south_old_echo(c, s);
  }
  if (SOUTH_LOAD(c->flags) & SOUTH_NO_SOCKET) out->verdict = SOUTH_INGRESS_NO_SOCKET;
}

// --- User space's side ---------------------------------------------------------------------------

#ifndef __bpf__

// Moves the deadline forward, never back.
SOUTH_INLINE void south_renew(struct south_control* control, __u64 deadline_ns) {
  __u64 now;
  do {
    now = SOUTH_LOAD(control->deadline_ns);
  } while (now < deadline_ns && !SOUTH_REPLACE(control->deadline_ns, now, deadline_ns));
}

// A connection of which nothing has left yet. The arguments are those of SouthWrapper::Add.
SOUTH_INLINE void south_begin(struct south_connection* c, __u32 iss, __u32 stable, __u32 flags,
                              __u8 rcv_wscale) {
  struct south_connection fresh = {};
  fresh.iss = iss;
  fresh.stable = stable;
  fresh.flags = flags;
  fresh.rcv_wscale = rcv_wscale;
  // Only what is after `stable` is held, and held_ack never moves back.
  fresh.held_ack = stable;
  *c = fresh;
}

// What may have left, of a connection of this host or of another.
struct south_sent {
  __u32 snd_max, last_ack, rcv_edge;
  __u32 tsval;
};

// It has been another host's, which has sent `sent`.
SOUTH_INLINE void south_begin_restored(struct south_connection* c, const struct south_sent* sent) {
  c->snd_max = sent->snd_max;
  c->last_ack = sent->last_ack;
  c->rcv_edge = sent->rcv_edge;
  c->last_tsval = sent->tsval;
  c->echo_from = sent->tsval;
  c->old_echoes = 1;
  c->egress_seen = 1;
}

// Returns 0 when nothing has left.
SOUTH_INLINE int south_read_sent(const struct south_connection* c, struct south_sent* sent) {
  if (!SOUTH_LOAD(c->egress_seen)) return 0;
  sent->snd_max = SOUTH_LOAD(c->snd_max);
  sent->last_ack = SOUTH_LOAD(c->last_ack);
  sent->rcv_edge = SOUTH_LOAD(c->rcv_edge);
  sent->tsval = SOUTH_LOAD(c->last_tsval);
  return 1;
}

// What the client has acknowledged and offered. Returns 0 when nothing has come.
struct south_client {
  __u32 una;
  __u16 window;  // as in the header
  __u32 tsval;
};
SOUTH_INLINE int south_read_client(const struct south_connection* c, struct south_client* client) {
  if (!SOUTH_LOAD(c->ingress_seen)) return 0;
  struct south_connection both;
  both.una_and_window = SOUTH_LOAD(c->una_and_window);
  client->una = both.una;
  client->window = (__u16)both.window;
  client->tsval = SOUTH_LOAD(c->client_tsval);
  return 1;
}

// Adds to SOUTH_OPEN and so on, and takes from them.
SOUTH_INLINE void south_allow(struct south_connection* c, __u32 flags) {
  __atomic_fetch_or(&c->flags, flags, __ATOMIC_SEQ_CST);
}
SOUTH_INLINE void south_disallow(struct south_connection* c, __u32 flags) {
  __atomic_fetch_and(&c->flags, ~flags, __ATOMIC_SEQ_CST);
}

// The stable point moves forward, never back.
SOUTH_INLINE void south_set_stable(struct south_connection* c, __u32 stable) {
  if (south_after(stable, c->stable)) SOUTH_EXCHANGE(c->stable, stable);
}

// An acknowledgement that was held.
struct south_held {
  __u32 seq, ack;
  __u16 window;  // as in the header; of what is to be sent: widened, so that the right edge stays
  __u32 tsval, tsecr;
};

// One whole set of held_*. Returns 0 when egress is writing.
SOUTH_INLINE int south_read_held(const struct south_connection* c, struct south_held* held) {
  __u32 before = SOUTH_LOAD(c->held_version);
  held->ack = SOUTH_LOAD(c->held_ack);
  held->seq = SOUTH_LOAD(c->held_seq);
  held->tsval = SOUTH_LOAD(c->held_tsval);
  held->tsecr = SOUTH_LOAD(c->held_tsecr);
  held->window = SOUTH_LOAD(c->held_window);
  return !(before & 1) && SOUTH_LOAD(c->held_version) == before;
}

// What is to be sent of `held`, which was taken: as far as it is stable, and not behind what has been sent
// since. Returns 0 when that has said it all.
SOUTH_INLINE int south_fit_held(struct south_connection* c, struct south_held* held) {
  __u32 shift = south_shift(c);
  __u32 edge = held->ack + ((__u32)held->window << shift);
  int whole = !south_after(held->ack, c->stable);
  if (!whole) {
    held->ack = c->stable;
    (void)SOUTH_REPLACE(c->held, 0u, 1u);
  }
  struct south_sent sent;
  int seen = south_read_sent(c, &sent);
  if (seen) {
    // TCP may have sent more since then. An older sequence number, time stamp or window would be
    // dropped by the client, or take room back.
    if (south_after(sent.rcv_edge, edge)) edge = sent.rcv_edge;
    if (south_after(sent.snd_max, held->seq)) held->seq = sent.snd_max;
    if (held->tsval && south_after(sent.tsval, held->tsval)) held->tsval = sent.tsval;
  }
  held->window = (__u16)south_fit_window(c, held->ack, edge - held->ack);
  if (!seen || south_after(held->ack, sent.last_ack)) return 1;
  // The number has been said. Worth a segment of its own is only a window that has not.
  return whole && south_after(held->ack + ((__u32)held->window << shift), sent.rcv_edge);
}

// See south_hold. Returns 0 when there is nothing to send.
SOUTH_INLINE int south_take_held(struct south_connection* c, struct south_held* held) {
  if (!SOUTH_LOAD(c->held) || !SOUTH_EXCHANGE(c->held, 0u)) return 0;
  for (int tries = 1; !south_read_held(c, held); ++tries) {
    if (tries % 64 == 0) sched_yield();  // the writer cannot be preempted, but be interrupted
  }
  return south_fit_held(c, held);
}

// One SOUTH_EVENT_ACKED is reported when the client acknowledges `una`. Returns 1 when it has done so
// already, and no event comes.
SOUTH_INLINE int south_wake_when_acked(struct south_connection* c, __u32 una) {
  SOUTH_EXCHANGE(c->wake_armed, 0u);
  SOUTH_STORE(c->wake_at, una);
  SOUTH_EXCHANGE(c->wake_armed, 1u);
  // Armed first, then looked: ingress does it the other way round, so one of the two sees it.
  struct south_client client;
  if (!south_read_client(c, &client) || south_after(una, client.una)) return 0;
  return SOUTH_EXCHANGE(c->wake_armed, 0u) == 1;  // else the event is on its way
}

// What TCP knows of segments that went past the programs. Neither moves back. Where nothing has left, or
// come, the next segment tells.
SOUTH_INLINE void south_note_past(struct south_connection* c, __u32 snd_max, __u32 una) {
  if (SOUTH_LOAD(c->egress_seen)) south_raise(&c->snd_max, snd_max);
  if (!SOUTH_LOAD(c->ingress_seen)) return;
  struct south_connection both;
  both.una_and_window = SOUTH_LOAD(c->una_and_window);
  __u64 before = both.una_and_window;
  if (!south_after(una, both.una)) return;
  both.una = una;
  // What an arriving segment has put there meanwhile is newer.
  (void)SOUTH_REPLACE(c->una_and_window, before, both.una_and_window);
}

#endif  // __bpf__

#endif  // UNDERSTUDY_TCPSHIM_VERDICT_H_
