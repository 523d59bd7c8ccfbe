// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// The south wrapper's half in the kernel: a verdict on each packet between TCP and the interface.
//
// Claims 15-26 (the second wrapper); docs/design.md section 4 has the table of verdicts. Two layers:
//
//  - The entry programs hang on clsact and decide only whether a packet concerns the service address.
//    They outlive the process.
//  - The verdict programs are reached through a program array which the process alone keeps open. When
//    it dies the kernel empties the array, the tail call fails, and the entry programs swallow all that
//    concerns the service address. So nobody has to notice that a process is dead.
//
// "Pass" is TC_ACT_UNSPEC, or TCX_NEXT, which is the same number: programs and filters behind this one
// (another service address's, a stranger's) have their say too. "Swallow" must be taken for sent by TCP: a
// plain drop (TC_ACT_SHOT, TCX_DROP) would tell it of congestion and halve its window. On clsact that is
// TC_ACT_STOLEN, which tcx does not have; there it is a redirection to an interface that does not exist.
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "tcpshim/south_shared.h"

#define PASS TC_ACT_UNSPEC
#define SWALLOW swallow()
#define INLINE static __always_inline
#define READ(x) (*(volatile typeof(x)*)&(x))

// Set before the program is loaded; network byte order.
const volatile __u32 service_ip = 0;
const volatile __u16 service_port = 0;
const volatile __u8 by_tcx = 0;  // the programs hang on tcx, not on clsact
// How segments sent by hand are known: by the socket they come from (RawSender's; 0: there is none). Not by a
// firewall mark, which belongs to the host's firewall and is changed or acted on there.
const volatile __u64 hand_cookie = 0;
// They carry this IP identification too, which is random and never 0, so that one whose socket was lost on
// the way here is at least not taken for the kernel's.
const volatile __u16 hand_ip_id = 0;
// How SouthProbe's frames are known: by their socket when they leave, by this number when they come in.
const volatile __u64 probe_cookie = 0;
const volatile __u64 probe_nonce = 0;

// --- Maps ----------------------------------------------------------------------------------------

struct {
  __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
  __uint(max_entries, SOUTH_VERDICTS);
  __type(key, __u32);
  __type(value, __u32);
} verdicts SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct south_control);
} control SEC(".maps");

// Resized before loading.
struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(map_flags, BPF_F_MMAPABLE);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct south_connection);
} connections SEC(".maps");

// Tuple -> slot in `connections`. User space alone writes it.
struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, 1);
  __type(key, struct south_tuple);
  __type(value, __u32);
} slots SEC(".maps");

// What a client offered in its SYN: the SYN-ACK does not tell. A flood of SYNs pushes older ones out;
// those clients repeat theirs.
struct syn_options {
  __u32 isn;
  __u16 mss;
  __u8 wscale;
  __u8 has_wscale;
};

struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 16384);
  __type(key, struct south_tuple);
  __type(value, struct syn_options);
} syns SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 1 << 20);
} events SEC(".maps");

// SOUTH_EVENT_RST_UNKNOWN has a ring of its own: anybody can cause it, and handshakes need theirs.
struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, 1 << 16);
} strays SEC(".maps");

// When the next answer to a stranger may leave: by client, and (`stray_due`) altogether.
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 4096);
  __type(key, __u32);
  __type(value, __u64);
} stray_dues SEC(".maps");

__u64 stray_due = 0;

struct counters {
  __u64 value[SOUTH_COUNTERS];
};

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct counters);
} counters SEC(".maps");

// TCP options are walked through here, not on the stack: functions that the verifier looks at by
// themselves (walk_options) can share a map. Room behind the 40 bytes for reads that a length forbids
// later.
struct options {
  __u32 sack_at;      // of the SACK option, from the start of the options
  __u32 sack_length;  // 0: none
  __u32 tsval, tsecr;
  __u16 mss;  // 0: none
  __u8 wscale;
  __u8 has_wscale;
  __u8 sack_permitted;
  __u8 timestamps;
  __u8 pad[2];
};

struct scratch {
  __u8 before[40 + 16];
  __u8 after[40];
  struct options found;
  __u32 place;  // of the walk
};

struct {
  __uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct scratch);
} scratches SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, 1);
  __type(key, __u32);
  __type(value, struct south_service);
} south_service SEC(".maps");

// --- Small things --------------------------------------------------------------------------------

INLINE int swallow(void) { return by_tcx ? bpf_redirect(0, 0) : TC_ACT_STOLEN; }

INLINE int count(enum south_counter which, int verdict) {
  __u32 zero = 0;
  struct counters* all = bpf_map_lookup_elem(&counters, &zero);
  if (all) all->value[which]++;  // this CPU's own
  return verdict;
}

INLINE int seq_after(__u32 a, __u32 b) { return (__s32)(a - b) > 0; }

// *at = the later of *at and `value`. Loses only against others that did better, or against four in a
// row: then what is written next brings it forward.
INLINE void raise(__u32* at, __u32 value) {
  for (int i = 0; i < 8; ++i) {
    __u32 old = READ(*at);
    if (!seq_after(value, old)) return;
    if (__sync_val_compare_and_swap(at, old, value) == old) return;
  }
}

INLINE struct south_connection* find(const struct south_tuple* tuple) {
  __u32* slot = bpf_map_lookup_elem(&slots, tuple);
  if (!slot) return 0;
  __u32 index = *slot;
  return bpf_map_lookup_elem(&connections, &index);
}

// --- Reading a packet ----------------------------------------------------------------------------

enum { FIN = 1, SYN = 2, RST = 4, ACK = 16, ECE = 64 };

struct segment {
  struct south_tuple tuple;
  __u32 at;       // of the TCP header, from the start of the frame
  __u32 options;  // bytes
  __u32 payload;  // bytes
  __u32 seq, ack;
  __u16 window;  // as in the header
  __u16 ip_id;   // as it is
  __u8 flags;
  __u8 timestamps;  // 1: the next two are valid
  __u32 tsval, tsecr;
};

enum kind {
  KIND_TCP,        // to or from the service port
  KIND_OTHER,      // another protocol, another port, or a fragment without a TCP header
  KIND_MALFORMED,  // claims to be TCP, but is not
};

// All but tsval and tsecr. `egress`: the local end is the source. `link`: bytes of the link header, a
// constant (0 or Ethernet's).
INLINE enum kind read_segment(struct __sk_buff* skb, int egress, __u32 link, struct segment* s) {
  struct iphdr ip;
  if (link) {
    struct {
      __u8 addresses[2 * ETH_ALEN];
      __u16 protocol;
      struct iphdr ip;
    } __attribute__((packed, aligned(4))) frame;
    if (bpf_skb_load_bytes(skb, 0, &frame, sizeof(frame))) return KIND_MALFORMED;
    if (frame.protocol != bpf_htons(ETH_P_IP)) return KIND_OTHER;  // ARP
    ip = frame.ip;
  } else if (bpf_skb_load_bytes(skb, 0, &ip, sizeof(ip))) {
    return KIND_MALFORMED;
  }
  __u32 ip_header = ip.ihl * 4;
  if (ip.version != 4 || ip_header < sizeof(ip)) return KIND_MALFORMED;
  if (ip.protocol != IPPROTO_TCP) return KIND_OTHER;
  // Fragments behind the first. They do not arise here, as TCP sets DF.
  if (ip.frag_off & bpf_htons(0x1fff)) return KIND_OTHER;
  // Super-packets beyond 64 KiB say 0.
  __u32 available = skb->len - link;
  __u32 total = bpf_ntohs(ip.tot_len);
  if (total == 0) total = available;
  if (total > available || total < ip_header + sizeof(struct tcphdr)) return KIND_MALFORMED;

  struct {
    __u16 source, dest;
    __u32 seq, ack;
    __u8 offset, flags;
    __u16 window;
    __u32 check_urgent;
  } tcp;
  s->at = link + ip_header;
  if (bpf_skb_load_bytes(skb, s->at, &tcp, sizeof(tcp))) return KIND_MALFORMED;
  if ((egress ? tcp.source : tcp.dest) != service_port) return KIND_OTHER;
  __u32 tcp_header = (tcp.offset >> 4) * 4;
  if (tcp_header < sizeof(tcp) || tcp_header > total - ip_header) return KIND_MALFORMED;

  s->ip_id = ip.id;
  s->tuple.local_ip = egress ? ip.saddr : ip.daddr;
  s->tuple.remote_ip = egress ? ip.daddr : ip.saddr;
  s->tuple.local_port = egress ? tcp.source : tcp.dest;
  s->tuple.remote_port = egress ? tcp.dest : tcp.source;
  s->options = tcp_header - sizeof(tcp);
  s->payload = total - ip_header - tcp_header;
  s->seq = bpf_ntohl(tcp.seq);
  s->ack = bpf_ntohl(tcp.ack);
  s->window = bpf_ntohs(tcp.window);
  s->flags = tcp.flags;
  return KIND_TCP;
}

// Malformed options end the walk, as in the kernel's TCP. Not static, so that the verifier looks at it
// once and not at each caller; what it finds goes through the map for the same reason.
int walk_options(__u32 length) {
  __u32 zero = 0;
  struct scratch* scratch = bpf_map_lookup_elem(&scratches, &zero);
  if (!scratch) return 0;
  struct options* o = &scratch->found;
  const __u8* bytes = scratch->before;
  // Kept in the map: what is read from there the verifier takes for unknown, so each round is like the
  // one before, and it need not follow every way to get to a place (600,000 instructions otherwise).
  volatile __u32* place = &scratch->place;
  *place = 0;
#pragma clang loop unroll(disable)
  for (int i = 0; i < 40; ++i) {
    __u32 at = *place;
    if (at >= length || at >= 40) break;
    __u8 kind = bytes[at];
    if (kind == 0) break;
    if (kind == 1) {
      *place = at + 1;
      continue;
    }
    __u32 size = bytes[at + 1];
    if (size < 2 || at + size > length) break;
    const __u8* v = &bytes[at + 2];
    if (kind == 2 && size == 4) {
      o->mss = v[0] << 8 | v[1];
    } else if (kind == 3 && size == 3) {
      o->has_wscale = 1;
      o->wscale = v[0];
    } else if (kind == 4 && size == 2) {
      o->sack_permitted = 1;
    } else if (kind == 5) {
      o->sack_at = at;
      o->sack_length = size;
    } else if (kind == 8 && size == 10) {
      o->timestamps = 1;
      o->tsval = (__u32)v[0] << 24 | (__u32)v[1] << 16 | (__u32)v[2] << 8 | v[3];
      o->tsecr = (__u32)v[4] << 24 | (__u32)v[5] << 16 | (__u32)v[6] << 8 | v[7];
    }
    *place = at + size;
  }
  return 0;
}

// `after` = `before` with NOPs in place of the bytes [from, from + length). Without branches: the
// verifier would follow each.
int blank_options(__u32 from, __u32 length) {
  __u32 zero = 0;
  struct scratch* scratch = bpf_map_lookup_elem(&scratches, &zero);
  if (!scratch) return 0;
  for (__u32 i = 0; i < 40; ++i) {
    __u64 inside = ((__u64)(__u32)(i - from) - length) >> 63;  // 1 or 0
    asm volatile("" : "+r"(inside));                           // or clang makes a branch of it
    __u8 keep = inside - 1;                                    // 0 or 0xff
    scratch->after[i] = (scratch->before[i] & keep) | (1 & ~keep);
  }
  return 0;
}

// Whether there are options, in words the verifier understands: 4 <= *length <= 40. Before 6.8 it learns no
// lower bound from "not equal", which is what clang makes of "at least one" and, where it knows that the
// length is a multiple of four, of "at least four" as well. Nor from one comparison of the sum with -41, to
// which clang folds the two. The barriers keep it from knowing, and from folding.
INLINE int options_length(__u32* length) {
  asm volatile("" : "+r"(*length));
  if (*length < 4) return 0;
  asm volatile("" : "+r"(*length));
  return *length <= 40;
}

// Reads the options of `s`; they are left in the scratch's `before`, what they say in `found`.
INLINE struct scratch* read_options(struct __sk_buff* skb, const struct segment* s) {
  __u32 zero = 0;
  struct scratch* scratch = bpf_map_lookup_elem(&scratches, &zero);
  if (!scratch) return 0;
  __builtin_memset(scratch, 0, sizeof(*scratch));
  __u32 length = s->options;
  if (!options_length(&length)) return scratch;
  if (bpf_skb_load_bytes(skb, s->at + sizeof(struct tcphdr), scratch->before, length)) return 0;
  walk_options(length);
  return scratch;
}

INLINE void read_timestamps(struct __sk_buff* skb, struct segment* s) {
  s->timestamps = 0;
  s->tsval = s->tsecr = 0;
  if (s->options < 12) return;
  // Where all but every TCP puts them: NOP, NOP, kind 8, length 10.
  struct {
    __u32 head, val, ecr;
  } fast;
  if (bpf_skb_load_bytes(skb, s->at + sizeof(struct tcphdr), &fast, sizeof(fast))) return;
  if (fast.head == bpf_htonl(0x0101080a)) {
    s->timestamps = 1;
    s->tsval = bpf_ntohl(fast.val);
    s->tsecr = bpf_ntohl(fast.ecr);
    return;
  }
  const struct scratch* scratch = read_options(skb, s);
  if (!scratch || !scratch->found.timestamps) return;
  s->timestamps = 1;
  s->tsval = scratch->found.tsval;
  s->tsecr = scratch->found.tsecr;
}

// --- Egress --------------------------------------------------------------------------------------

// `s` leaves, with the acknowledgement `ack` and the window `window`.
INLINE void note_departure(struct south_connection* c, const struct segment* s, __u32 ack, __u32 window,
                           int by_hand) {
  if (s->flags & RST || !(s->flags & ACK)) return;
  // The window of a SYN-ACK is never scaled (RFC 7323).
  __u32 shift = s->flags & SYN ? 0 : c->rcv_wscale & 15;
  __u32 edge = ack + (window << shift);
  __u32 end = s->seq + s->payload + !!(s->flags & SYN) + !!(s->flags & FIN);
  if (!READ(c->egress_seen)) {
    c->last_ack = ack;
    c->snd_max = end;
    c->rcv_edge = edge;
    c->last_tsval = s->tsval;
    __sync_lock_test_and_set(&c->egress_seen, 1);
  } else {
    raise(&c->last_ack, ack);
    raise(&c->snd_max, end);
    raise(&c->rcv_edge, edge);
    if (s->timestamps) raise(&c->last_tsval, s->tsval);
  }
  // What is held has just been said. Not so when this was sent by hand: user space runs beside the
  // kernel's TCP, which may hold a newer one between our look and our exchange. (TakeHeldAck compares
  // with last_ack itself.) The window counts too: an older one must not bury an update.
  if (!by_hand && READ(c->held) && !seq_after(c->held_ack, ack) &&
      !seq_after(c->held_ack + ((__u32)c->held_window << (c->rcv_wscale & 15)), edge)) {
    __sync_lock_test_and_set(&c->held, 0);
  }
}

// hold: keeps an acknowledgement past the stable point until user space re-sends it.
//
// What must not happen: the stable point moves past the acknowledgement, and neither side sends it. So
// each side first publishes what it did and only then looks at what the other did (Dekker):
//
//     egress                               user space
//     held_* = this acknowledgement        stable = S         (SetStable, sequentially consistent)
//     held <-> 1                           held <-> 0         (TakeHeldAck)
//     read stable                          was 1: held_* are ours to send, as far as stable allows
//
// Exchanges and SetStable are full barriers, so at least one side sees the other's step:
//  - Egress still sees the old stable point: then its exchange came before the store of `stable` in the
//    order of all, and TakeHeldAck, which comes later still, finds held = 1.
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
INLINE int hold(struct south_connection* c, const struct segment* s, __u32* stable) {
#pragma clang loop unroll(disable)
  for (int i = 0; i < 64; ++i) {
    __u32 version = READ(c->held_version);
    if (version & 1) continue;
    if (__sync_val_compare_and_swap(&c->held_version, version, version + 1) != version) continue;
    if (!seq_after(c->held_ack, s->ack)) {
      c->held_ack = s->ack;
      c->held_seq = s->seq + s->payload + !!(s->flags & FIN);
      c->held_tsval = s->tsval;
      c->held_tsecr = s->tsecr;
      c->held_window = s->window;
    }
    __sync_lock_test_and_set(&c->held_version, version + 2);
    break;
  }
  __sync_lock_test_and_set(&c->held, 1);
  *stable = READ(c->stable);
  if (seq_after(s->ack, *stable)) return 0;
  return __sync_lock_test_and_set(&c->held, 0) == 1;
}

// SACK -> NOPs, in place. Returns 0, or not when the packet could not be changed.
INLINE int blank_sack(struct __sk_buff* skb, const struct segment* s) {
  struct scratch* scratch = read_options(skb, s);
  if (!scratch) return -1;
  if (!scratch->found.sack_length) return 0;
  blank_options(scratch->found.sack_at, scratch->found.sack_length);
  __u32 length = s->options;
  if (!options_length(&length)) return 0;
  // Over the whole 40 bytes (zeros behind the options), so that an odd place needs no care.
  __s64 difference = bpf_csum_diff((__be32*)scratch->before, 40, (__be32*)scratch->after, 40, 0);
  if (difference < 0) return -1;
  if (bpf_l4_csum_replace(skb, s->at + __builtin_offsetof(struct tcphdr, check), 0, difference, 0)) {
    return -1;
  }
  return bpf_skb_store_bytes(skb, s->at + sizeof(struct tcphdr), scratch->after, length, 0);
}

// The window to offer with the acknowledgement `ack`, which is TCP's own or before it. Its right edge is
//  - TCP's own, rounded down to the scale;
//  - not further from `ack` than window_limit, so that an heir that knows the limit, and has stored what
//    is acknowledged, can offer as much (I6 across a takeover);
//  - never left of what was offered before (I6), for which it is rounded up: TCP alone takes back up to
//    one unit of the scale now and then (RFC 7323 section 2.4), and a clamped acknowledgement does not lie
//    on the raster of TCP's own.
INLINE __u32 fit_window(const struct south_connection* c, const struct segment* s, __u32 ack) {
  __u32 shift = c->rcv_wscale & 15;
  __u32 room = s->ack - ack + ((__u32)s->window << shift);
  __u32 limit = READ(c->window_limit);
  if (limit && room > limit) room = limit;
  __u32 window = room >> shift;
  if (READ(c->egress_seen)) {
    __u32 edge = READ(c->rcv_edge);
    if (seq_after(edge, ack + (window << shift))) window = (edge - ack + (1u << shift) - 1) >> shift;
  }
  return window > 65535 ? 65535 : window;
}

INLINE int store_window(struct __sk_buff* skb, const struct segment* s, __u32 window) {
  if (window == s->window) return 0;
  __u32 check = s->at + __builtin_offsetof(struct tcphdr, check);
  __be16 new_window = bpf_htons(window);
  if (bpf_l4_csum_replace(skb, check, bpf_htons(s->window), new_window, 2)) return -1;
  return bpf_skb_store_bytes(skb, s->at + __builtin_offsetof(struct tcphdr, window), &new_window, 2, 0);
}

// `s` may leave with the acknowledgement it has.
INLINE int let_pass(struct __sk_buff* skb, struct south_connection* c, const struct segment* s) {
  __u32 window = s->window;
  if (s->flags & ACK && !(s->flags & (SYN | RST))) {
    window = fit_window(c, s, s->ack);
    if (store_window(skb, s, window)) return count(SOUTH_EGRESS_MALFORMED, SWALLOW);
  }
  note_departure(c, s, s->ack, window, 0);
  return count(SOUTH_EGRESS_PASSED, PASS);
}

// The acknowledgement goes down to `stable`; the window goes up by as much, so that its right edge stays.
//
// SACK blocks are blanked here and only here. With them left in, a block would adjoin or contain what
// the clamped number denies, and the client would take it for a loss (measured: cwnd 30 -> 1). On
// segments that are not clamped they stay, although they tell of bytes that no log has: they promise
// nothing (RFC 2018 section 8: a client keeps SACKed data until it is acknowledged, for the receiver may
// drop it), and without them loss recovery towards the server would be that of 1995.
//
// bpf_l4_csum_replace without BPF_F_PSEUDO_HDR is right for complete and for partial checksums (those
// leave the bytes of the header to the hardware). The length never changes: super-packets pass here.
INLINE int clamp(struct __sk_buff* skb, const struct south_connection* c, const struct segment* s,
                 __u32 stable, __u32* window) {
  *window = fit_window(c, s, stable);
  __u32 check = s->at + __builtin_offsetof(struct tcphdr, check);
  __be32 new_ack = bpf_htonl(stable);
  if (bpf_l4_csum_replace(skb, check, bpf_htonl(s->ack), new_ack, 4)) return -1;
  if (bpf_skb_store_bytes(skb, s->at + __builtin_offsetof(struct tcphdr, ack_seq), &new_ack, 4, 0)) {
    return -1;
  }
  if (store_window(skb, s, *window)) return -1;
  return s->options ? blank_sack(skb, s) : 0;
}

INLINE struct south_event* new_event(void* ring, __u32 kind, const struct segment* s) {
  struct south_event* event = bpf_ringbuf_reserve(ring, sizeof(*event), 0);
  if (!event) {
    count(SOUTH_EVENTS_LOST, 0);
    return 0;
  }
  __builtin_memset(event, 0, sizeof(*event));
  event->kind = kind;
  event->tuple = s->tuple;
  event->seq = s->seq;
  event->ack = s->ack;
  event->window = s->window;
  event->tsval = s->tsval;
  event->tsecr = s->tsecr;
  event->at_ns = bpf_ktime_get_ns();
  return event;
}

// Its options, with those of the SYN it answers, are what user space needs to log `Opened` and to send
// this SYN-ACK by hand afterwards.
INLINE int new_syn_ack(struct __sk_buff* skb, const struct segment* s) {
  const struct scratch* scratch = read_options(skb, s);
  if (!scratch) return count(SOUTH_EGRESS_MALFORMED, SWALLOW);
  const struct options* o = &scratch->found;
  struct syn_options syn = {};
  const struct syn_options* known = bpf_map_lookup_elem(&syns, &s->tuple);
  if (known && known->isn + 1 == s->ack) syn = *known;
  // The client's shift is nowhere else. Its SYN was pushed out, or did not come through this interface;
  // in the first case it comes again.
  if (o->has_wscale && !syn.has_wscale) return count(SOUTH_EGRESS_SYN_UNKNOWN, SWALLOW);
  struct south_event* event = new_event(&events, SOUTH_EVENT_SYN_ACK, s);
  // No room: TCP repeats the SYN-ACK.
  if (!event) return count(SOUTH_EGRESS_SYN_ACK_HELD, SWALLOW);
  // The TSval is that of when TCP made the segment, which may have waited for the neighbour's hardware
  // address since. TCP notes that time in tstamp, on the same clock.
  __u64 made = skb->tstamp;
  if (made && made < event->at_ns && event->at_ns - made < 64000000000ull) event->at_ns = made;
  event->own_mss = o->mss ? o->mss : 536;
  event->peer_mss = syn.mss ? syn.mss : 536;
  if (o->has_wscale) {
    event->window_scaling = 1;
    event->snd_wscale = syn.wscale > 14 ? 14 : syn.wscale;
    event->rcv_wscale = o->wscale;
  }
  event->sack = o->sack_permitted;
  event->timestamps = o->timestamps;
  event->ecn = !!(s->flags & ECE);
  event->tsval = o->tsval;
  event->tsecr = o->tsecr;
  event->cookie = bpf_get_socket_cookie(skb);
  bpf_ringbuf_submit(event, 0);
  return count(SOUTH_EGRESS_SYN_ACK_HELD, SWALLOW);
}

// A token bucket as one number: the time at which it is full again, which each token moves by `interval`.
// Returns whether there was one. Of CPUs that meet here one gets none: they meet in floods.
INLINE int take_token(__u64* due, __u64 now, __u64 interval, __u64 burst) {
  __u64 old = READ(*due);
  __u64 from = old > now ? old : now;
  if (from - now >= burst * interval) return 0;
  return __sync_val_compare_and_swap(due, old, from + interval) == old;
}

// Whether one more segment for a connection that nobody knows may be answered: so many a second for one
// client, so many altogether (as the kernel does with ICMP errors: icmp_ratelimit, icmp_msgs_per_sec).
INLINE int may_answer_stray(const struct segment* s) {
  __u64 now = bpf_ktime_get_ns();
  __u64* due = bpf_map_lookup_elem(&stray_dues, &s->tuple.remote_ip);
  if (!due) {
    __u64 first = now;
    bpf_map_update_elem(&stray_dues, &s->tuple.remote_ip, &first, BPF_NOEXIST);
    due = bpf_map_lookup_elem(&stray_dues, &s->tuple.remote_ip);
    if (!due) return 0;
  }
  return take_token(due, now, 1000000000 / SOUTH_STRAYS_PER_CLIENT, SOUTH_STRAYS_PER_CLIENT) &&
         take_token(&stray_due, now, 1000000000 / SOUTH_STRAYS, SOUTH_STRAYS_BURST);
}

INLINE int unknown_rst(const struct segment* s) {
  // Made by hand, though its socket is not to be seen: to report it would answer it with another like it, on
  // and on. (The kernel says 0 here where there is no connection.)
  if (hand_ip_id && s->ip_id == hand_ip_id) return count(SOUTH_EGRESS_RST_UNKNOWN, SWALLOW);
  if (!may_answer_stray(s)) return count(SOUTH_EGRESS_RST_LIMITED, SWALLOW);
  struct south_event* event = new_event(&strays, SOUTH_EVENT_RST_UNKNOWN, s);
  if (event) bpf_ringbuf_submit(event, 0);
  return count(SOUTH_EGRESS_RST_UNKNOWN, SWALLOW);
}

// Nothing tells what the log has of it: a handshake that had to make room and was completed all the same.
INLINE int from_live_socket(struct __sk_buff* skb) {
  const struct bpf_sock* sk = skb->sk;
  if (sk) sk = bpf_sk_fullsock((struct bpf_sock*)sk);
  return sk && (sk->state == BPF_TCP_ESTABLISHED || sk->state == BPF_TCP_CLOSE_WAIT);
}

INLINE int unknown_egress(struct __sk_buff* skb, const struct segment* s) {
  if (s->flags & RST) return unknown_rst(s);
  if ((s->flags & (SYN | ACK)) == (SYN | ACK)) return new_syn_ack(skb, s);
  if (s->payload || s->flags & FIN) return count(SOUTH_EGRESS_STRAY, SWALLOW);
  if (from_live_socket(skb)) return count(SOUTH_EGRESS_STRAY, SWALLOW);
  return count(SOUTH_EGRESS_PASSED, PASS);  // TIME_WAIT's acknowledgements
}

// A lone ACK of what the client of this connection, of whom nothing has been heard, was not even offered: TCP
// has another handshake with it, and tells it so. The client's answer, a RST, ends that one.
INLINE int of_other_handshake(const struct south_connection* c, const struct segment* s) {
  if ((s->flags & (SYN | FIN | RST | ACK)) != ACK || s->payload || READ(c->ingress_seen)) return 0;
  return s->ack - READ(c->stable) > 0xffff;
}

INLINE int known_egress(struct __sk_buff* skb, struct south_connection* c, struct segment* s) {
  __u32 flags = READ(c->flags);
  if (s->flags & RST && !(flags & SOUTH_RST_OK)) return count(SOUTH_EGRESS_RST_DISCARDED, SWALLOW);
  // User space sends the SYN-ACK by hand when its time comes; nothing else can be due before it.
  if (!(s->flags & RST) && !(flags & SOUTH_OPEN)) return count(SOUTH_EGRESS_SYN_ACK_HELD, SWALLOW);
  // With its payload, if a retransmission has merged the two: TCP repeats it when the FIN may leave.
  if (s->flags & FIN && !(flags & SOUTH_FIN_OK)) return count(SOUTH_EGRESS_FIN_DISCARDED, SWALLOW);

  __u32 stable = READ(c->stable);
  if (!(s->flags & ACK) || s->flags & SYN || !seq_after(s->ack, stable)) return let_pass(skb, c, s);
  // A RST ends the connection: nothing is left to be acknowledged later.
  if (!(s->flags & RST) && hold(c, s, &stable)) return let_pass(skb, c, s);
  if (!s->payload && !(s->flags & (FIN | RST))) return count(SOUTH_EGRESS_ACK_HELD, SWALLOW);
  // Stable meanwhile, but user space has taken the acknowledgement: it may be said twice.
  if (!seq_after(s->ack, stable)) return let_pass(skb, c, s);
  __u32 window;
  if (clamp(skb, c, s, stable, &window)) return count(SOUTH_EGRESS_MALFORMED, SWALLOW);
  note_departure(c, s, stable, window, 0);
  return count(SOUTH_EGRESS_ACK_CLAMPED, PASS);
}

// A segment made by hand carries the TSval of when it was made. When the kernel has sent a later one since,
// it must not go back (I6). Only where BuildPacket puts timestamps on all but SYNs.
INLINE void renew_timestamp(struct __sk_buff* skb, const struct south_connection* c, struct segment* s) {
  __u32 newest = READ(c->last_tsval);
  if (!s->timestamps || !READ(c->egress_seen) || !seq_after(newest, s->tsval)) return;
  __u32 at = s->at + sizeof(struct tcphdr), head;
  if (bpf_skb_load_bytes(skb, at, &head, sizeof(head)) || head != bpf_htonl(0x0101080a)) return;
  __be32 val = bpf_htonl(newest);
  if (bpf_l4_csum_replace(skb, s->at + __builtin_offsetof(struct tcphdr, check), bpf_htonl(s->tsval), val,
                          4) ||
      bpf_skb_store_bytes(skb, at + sizeof(head), &val, sizeof(val), 0)) {
    return;
  }
  s->tsval = newest;
}

// And the window of when it was made: when more has been offered since, it must not be taken back (I6).
INLINE void renew_window(struct __sk_buff* skb, const struct south_connection* c, struct segment* s) {
  if (!(s->flags & ACK) || s->flags & (SYN | RST) || !READ(c->egress_seen)) return;
  __u32 shift = c->rcv_wscale & 15;
  __u32 edge = READ(c->rcv_edge);
  if (!seq_after(edge, s->ack + ((__u32)s->window << shift))) return;
  __u32 window = (edge - s->ack + (1u << shift) - 1) >> shift;
  if (window > 65535) window = 65535;
  if (!store_window(skb, s, window)) s->window = window;
}

SEC("tc")
int south_egress_verdict(struct __sk_buff* skb) {
  __u32 zero = 0;
  struct south_control* now = bpf_map_lookup_elem(&control, &zero);
  if (!now || !READ(now->gate)) return count(SOUTH_EGRESS_SILENT_GATE, SWALLOW);
  if (bpf_ktime_get_ns() >= READ(now->deadline_ns)) {
    return count(SOUTH_EGRESS_SILENT_DEADLINE, SWALLOW);
  }
  struct segment s;
  enum kind kind = read_segment(skb, 1, ETH_HLEN, &s);
  int by_hand = skb->cb[SOUTH_CB_BY_HAND];
  if (kind != KIND_TCP) {
    if (by_hand) return count(SOUTH_EGRESS_BY_HAND, PASS);
    if (kind == KIND_OTHER) return count(SOUTH_EGRESS_PASSED, PASS);
    return count(SOUTH_EGRESS_MALFORMED, SWALLOW);
  }
  read_timestamps(skb, &s);
  struct south_connection* c = find(&s.tuple);
  if (by_hand) {
    if (c) {
      renew_timestamp(skb, c, &s);
      renew_window(skb, c, &s);
      note_departure(c, &s, s.ack, s.window, 1);
    }
    return count(SOUTH_EGRESS_BY_HAND, PASS);
  }
  // TCP makes a SYN-ACK only where it has no connection any more: one with another ISS than the log has is
  // the next incarnation.
  if (c && (s.flags & (SYN | ACK)) == (SYN | ACK) && s.seq != c->iss) c = 0;
  if (c && of_other_handshake(c, &s)) c = 0;
  return c ? known_egress(skb, c, &s) : unknown_egress(skb, &s);
}

// --- Egress of the other interfaces --------------------------------------------------------------
//
// The service address is not there, and what leaves there would reach clients by a way that does not move
// with the address. But a segment may leave through several interfaces of this host, one after the other (a
// bridge and its port, a VLAN and what carries it). So what is swallowed here is what cannot have passed
// south_egress_verdict before.

INLINE int refuse_elsewhere(struct __sk_buff* skb, const struct segment* s) {
  if (may_answer_stray(s)) {
    struct south_event* event = new_event(&strays, SOUTH_EVENT_ELSEWHERE, s);
    if (event) {
      event->interface = skb->ifindex;
      bpf_ringbuf_submit(event, 0);
    }
  }
  return count(SOUTH_EGRESS_ELSEWHERE, SWALLOW);
}

INLINE int known_elsewhere(const struct south_connection* c, const struct segment* s) {
  __u32 flags = READ(c->flags);
  if (!(flags & SOUTH_OPEN) || (s->flags & RST && !(flags & SOUTH_RST_OK)) ||
      (s->flags & FIN && !(flags & SOUTH_FIN_OK)) ||
      (s->flags & ACK && !(s->flags & SYN) && seq_after(s->ack, READ(c->stable)))) {
    return count(SOUTH_EGRESS_ELSEWHERE, SWALLOW);
  }
  return count(SOUTH_EGRESS_PASSED, PASS);
}

// Whose sender is the service address. It leaves when the interface that has that address sends it, through
// this one. A question of the kernel's, on behalf of a segment that is to leave here, is put so that nobody
// learns the service address from it (as RFC 5227 probes are).
INLINE int arp_elsewhere(struct __sk_buff* skb, const struct south_control* now) {
  struct {
    __u16 operation;
    __u8 mac[ETH_ALEN];
  } arp;
  if (bpf_skb_load_bytes(skb, ETH_HLEN + 6, &arp, sizeof(arp))) return count(SOUTH_EGRESS_MALFORMED, SWALLOW);
  int same = 1;
  for (int i = 0; i < ETH_ALEN; ++i) same &= arp.mac[i] == now->mac[i];
  if (same) return count(SOUTH_EGRESS_PASSED, PASS);
  __u32 nobody = 0;
  if (arp.operation != bpf_htons(1) || bpf_skb_store_bytes(skb, ETH_HLEN + 14, &nobody, sizeof(nobody), 0)) {
    return count(SOUTH_EGRESS_ELSEWHERE, SWALLOW);
  }
  return count(SOUTH_EGRESS_PASSED, PASS);
}

INLINE int elsewhere(struct __sk_buff* skb, __u32 link) {
  __u32 zero = 0;
  struct south_control* now = bpf_map_lookup_elem(&control, &zero);
  if (!now || !READ(now->gate)) return count(SOUTH_EGRESS_SILENT_GATE, SWALLOW);
  if (bpf_ktime_get_ns() >= READ(now->deadline_ns)) return count(SOUTH_EGRESS_SILENT_DEADLINE, SWALLOW);
  if (skb->protocol == bpf_htons(ETH_P_ARP)) return link ? arp_elsewhere(skb, now) : PASS;
  struct segment s;
  enum kind kind = read_segment(skb, 1, link, &s);
  if (kind == KIND_MALFORMED) return count(SOUTH_EGRESS_MALFORMED, SWALLOW);
  if (kind == KIND_OTHER) return count(SOUTH_EGRESS_PASSED, PASS);
  if (skb->cb[SOUTH_CB_BY_HAND]) return count(SOUTH_EGRESS_BY_HAND, PASS);
  const struct south_connection* c = find(&s.tuple);
  const int syn_ack = (s.flags & (SYN | ACK | RST)) == (SYN | ACK);
  if (c && !(syn_ack && s.seq != c->iss)) return known_elsewhere(c, &s);
  if (syn_ack) return refuse_elsewhere(skb, &s);
  if (s.flags & (RST | SYN | FIN) || s.payload || from_live_socket(skb)) {
    return count(SOUTH_EGRESS_ELSEWHERE, SWALLOW);
  }
  return count(SOUTH_EGRESS_PASSED, PASS);
}

SEC("tc")
int south_elsewhere_verdict(struct __sk_buff* skb) { return elsewhere(skb, ETH_HLEN); }

SEC("tc")
int south_elsewhere_raw_verdict(struct __sk_buff* skb) { return elsewhere(skb, 0); }

// --- Ingress -------------------------------------------------------------------------------------

INLINE void remember_syn(struct __sk_buff* skb, const struct segment* s) {
  const struct scratch* scratch = read_options(skb, s);
  if (!scratch) return;
  const struct options* o = &scratch->found;
  struct syn_options syn = {.isn = s->seq, .mss = o->mss, .wscale = o->wscale, .has_wscale = o->has_wscale};
  bpf_map_update_elem(&syns, &s->tuple, &syn, BPF_ANY);
}

// What the client has acknowledged decides what is kept for it, so a forged or stale segment must not raise
// it: the number must have been sent, and the segment must lie where the client may send. (One before
// last_ack is a probe.) A true segment that does not qualify costs nothing: una stays lower than it could be.
// TCP itself has the last word on the segment, whose checksum nobody has looked at here: it is passed in any
// case, and user space believes no more than TCP does (Serving::ViewOf).
INLINE void note_arrival(struct south_connection* c, const struct segment* s) {
  if (!(s->flags & ACK) || s->flags & (RST | SYN)) return;
  if (!READ(c->egress_seen)) return;
  __u32 snd_max = READ(c->snd_max);
  if (seq_after(s->ack, snd_max)) return;
  __u32 left = READ(c->last_ack) - 1;
  if (s->seq - left > READ(c->rcv_edge) - left) return;
  int first = !READ(c->ingress_seen);
  // Nothing but our SYN-ACK has left: whoever has it acknowledges that.
  if (first && snd_max == c->iss + 1 && s->ack != snd_max) return;
  if (first || !seq_after(c->una, s->ack)) {
    const struct south_connection both = {.una = s->ack, .window = s->window};
    *(volatile __u64*)&c->una_and_window = both.una_and_window;
  }
  if (s->timestamps) {
    if (first) {
      c->client_tsval = s->tsval;
    } else {
      raise(&c->client_tsval, s->tsval);
    }
  }
  if (first) __sync_lock_test_and_set(&c->ingress_seen, 1);
  // Published before looking, as user space does it the other way round (WakeWhenAcked).
  if (READ(c->wake_armed) && !seq_after(READ(c->wake_at), s->ack) &&
      __sync_lock_test_and_set(&c->wake_armed, 0)) {
    struct south_event* event = new_event(&events, SOUTH_EVENT_ACKED, s);
    if (event) bpf_ringbuf_submit(event, 0);
  }
}

// After a takeover: TCP would take the time since the dead host said something, an idle client's for hours,
// for a round-trip time, and its retransmission timer for three times that. From an echo of 0 it takes none.
// (Where the options are not where all but every TCP puts them, it does.)
INLINE void blank_old_echo(struct __sk_buff* skb, struct south_connection* c, const struct segment* s) {
  if (!s->timestamps || !s->tsecr) return;
  __u32 at = s->at + sizeof(struct tcphdr), head, nothing = 0;
  if (!seq_after(c->echo_from, s->tsecr)) {
    c->old_echoes = 0;
    return;
  }
  if (bpf_skb_load_bytes(skb, at, &head, sizeof(head)) || head != bpf_htonl(0x0101080a)) return;
  if (bpf_l4_csum_replace(skb, s->at + __builtin_offsetof(struct tcphdr, check), bpf_htonl(s->tsecr), nothing,
                          4)) {
    return;
  }
  bpf_skb_store_bytes(skb, at + 8, &nothing, sizeof(nothing), 0);
}

// Only what TCP would take for whole may end a handshake. `s` is a RST: without payload, else it is not
// looked at.
INLINE int is_whole(struct __sk_buff* skb, const struct segment* s) {
  if (s->payload) return 0;
  struct scratch* scratch = read_options(skb, s);
  struct tcphdr tcp;
  if (!scratch || bpf_skb_load_bytes(skb, s->at, &tcp, sizeof(tcp))) return 0;
  struct {
    __be32 source, destination;
    __u8 zero, protocol;
    __be16 length;
  } pseudo = {s->tuple.remote_ip, s->tuple.local_ip, 0, IPPROTO_TCP, bpf_htons(sizeof(tcp) + s->options)};
  __s64 half = bpf_csum_diff(0, 0, (__be32*)&pseudo, sizeof(pseudo), 0);
  __u64 sum = half;
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  if (half >= 0 && tcp.check == (__u16)sum)
    return 1;  // of this machine, or its host's: left to hardware (partial)
  sum = bpf_csum_diff(0, 0, (__be32*)&tcp, sizeof(tcp), half);
  sum = bpf_csum_diff(0, 0, (__be32*)scratch->before, 40, sum);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return (__u16)sum == 0xffff;
}

SEC("tc")
int south_ingress_verdict(struct __sk_buff* skb) {
  __u32 zero = 0;
  struct south_control* now = bpf_map_lookup_elem(&control, &zero);
  if (!now || !READ(now->gate)) return count(SOUTH_INGRESS_SILENT, SWALLOW);

  struct segment s;
  enum kind kind = read_segment(skb, 0, ETH_HLEN, &s);
  if (kind == KIND_MALFORMED) return count(SOUTH_INGRESS_MALFORMED, PASS);  // IP and TCP drop it
  if (kind == KIND_OTHER) return count(SOUTH_INGRESS_PASSED, PASS);

  struct south_connection* c = find(&s.tuple);
  if ((s.flags & (SYN | ACK | RST)) == SYN) {
    remember_syn(skb, &s);
    if (c) {
      struct south_event* event = new_event(&events, SOUTH_EVENT_SYN_KNOWN, &s);
      if (event) bpf_ringbuf_submit(event, 0);
    }
  } else if (c && s.flags & RST) {
    // As RFC 5961 has it: the exact number. After the handshake TCP tells of resets itself.
    if (!READ(c->ingress_seen) && s.seq == READ(c->stable) && is_whole(skb, &s)) {
      struct south_event* event = new_event(&events, SOUTH_EVENT_RST_HANDSHAKE, &s);
      if (event) bpf_ringbuf_submit(event, 0);
    }
  } else if (c) {
    read_timestamps(skb, &s);
    note_arrival(c, &s);
    if (READ(c->old_echoes)) blank_old_echo(skb, c, &s);
  }
  if (c && READ(c->flags) & SOUTH_NO_SOCKET) return count(SOUTH_INGRESS_NO_SOCKET, SWALLOW);
  return count(SOUTH_INGRESS_PASSED, PASS);
}

// A client that comes in without a link header is one whose segments leave there as well: it is refused at
// its SYN (refuse_elsewhere).
SEC("tc")
int south_ingress_raw_verdict(struct __sk_buff* skb) {
  (void)skb;
  __u32 zero = 0;
  struct south_control* now = bpf_map_lookup_elem(&control, &zero);
  if (!now || !READ(now->gate)) return count(SOUTH_INGRESS_SILENT, SWALLOW);
  return count(SOUTH_INGRESS_PASSED, PASS);
}

// --- The clock -----------------------------------------------------------------------------------

// Run by hand, attached nowhere. A process in a time namespace has another CLOCK_MONOTONIC than this, and its
// deadlines mean another time.
SEC("tc")
int south_clock(struct __sk_buff* skb) {
  __u32 zero = 0;
  struct south_control* now = bpf_map_lookup_elem(&control, &zero);
  if (now) now->clock_ns = bpf_ktime_get_ns();
  return skb->len == 0;
}

// --- Entries: does it concern the service address? -----------------------------------------------

// The part of a frame that tells: Ethernet's protocol and what follows, as IPv4 or as ARP.
union peek {
  struct {
    __u16 protocol;
    __u8 rest[12];
    __u32 source, destination;
  } __attribute__((packed)) ip;
  struct {
    __u16 protocol;
    __u8 rest[14];
    __u32 sender;
  } __attribute__((packed)) arp;
};

// Whether the packet comes from the service address.
INLINE int is_ours(struct __sk_buff* skb, union peek* p) {
  // Too short for either: not of this address.
  if (bpf_skb_load_bytes(skb, __builtin_offsetof(struct ethhdr, h_proto), p, sizeof(*p))) return 0;
  return (p->ip.protocol == bpf_htons(ETH_P_IP) && p->ip.source == service_ip) ||
         (p->arp.protocol == bpf_htons(ETH_P_ARP) && p->arp.sender == service_ip);
}

// SouthProbe's frame is counted, gate open or not. A segment goes on to the interface's ingress.
INLINE int egress_probe(struct __sk_buff* skb, const union peek* p) {
  __u32 zero = 0;
  struct south_control* now = bpf_map_lookup_elem(&control, &zero);
  if (!now) return SWALLOW;
  count(SOUTH_EGRESS_PROBE, 0);
  if (p->ip.protocol != bpf_htons(ETH_P_IP)) {
    __sync_fetch_and_add(&now->probes_arp, 1);
    return SWALLOW;
  }
  __sync_fetch_and_add(&now->probes_tcp, 1);
  return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
}

INLINE void note_hand(struct __sk_buff* skb, __u64 cookie) {
  skb->cb[SOUTH_CB_BY_HAND] = hand_cookie && cookie == hand_cookie;
}

// Of another service on this address: its own programs count it.
INLINE int is_foreign_probe(struct __sk_buff* skb, const union peek* p) {
  if (p->ip.protocol == bpf_htons(ETH_P_IP)) return p->ip.destination == service_ip;
  struct {
    __u16 to[3], from[3];
  } mac;
  return !bpf_skb_load_bytes(skb, 0, &mac, sizeof(mac)) && mac.to[0] == mac.from[0] &&
         mac.to[1] == mac.from[1] && mac.to[2] == mac.from[2];
}

INLINE int egress(struct __sk_buff* skb) {
  union peek p;
  if (!is_ours(skb, &p)) return count(SOUTH_EGRESS_OTHER, PASS);
  __u64 cookie = bpf_get_socket_cookie(skb);
  if (probe_cookie && cookie == probe_cookie) return egress_probe(skb, &p);
  if (is_foreign_probe(skb, &p)) return count(SOUTH_EGRESS_OTHER, PASS);
  note_hand(skb, cookie);
  bpf_tail_call(skb, &verdicts, SOUTH_VERDICT_EGRESS);
  return count(SOUTH_EGRESS_OWNER_DEAD, SWALLOW);
}

// Only a probe goes from the service address to itself. 1: it was one of this process's.
INLINE int ingress_probe(struct __sk_buff* skb) {
  __u64 nonce;
  __u32 zero = 0;
  struct south_control* now = bpf_map_lookup_elem(&control, &zero);
  if (!now || bpf_skb_load_bytes(skb, ETH_HLEN + sizeof(struct iphdr) + 4, &nonce, sizeof(nonce)) ||
      nonce != probe_nonce) {
    return 0;
  }
  __sync_fetch_and_add(&now->probes_in, 1);
  return 1;
}

INLINE int ingress(struct __sk_buff* skb) {
  union peek p;
  // ARP requests are let in: the reply is not let out.
  if (bpf_skb_load_bytes(skb, __builtin_offsetof(struct ethhdr, h_proto), &p, sizeof(p)) ||
      p.ip.protocol != bpf_htons(ETH_P_IP) || p.ip.destination != service_ip) {
    return count(SOUTH_INGRESS_OTHER, PASS);
  }
  if (p.ip.source == service_ip) {
    return ingress_probe(skb) ? count(SOUTH_INGRESS_PROBE, SWALLOW) : count(SOUTH_INGRESS_OTHER, PASS);
  }
  bpf_tail_call(skb, &verdicts, SOUTH_VERDICT_INGRESS);
  return count(SOUTH_INGRESS_OWNER_DEAD, SWALLOW);
}

INLINE int egress_elsewhere(struct __sk_buff* skb) {
  union peek p;
  if (!is_ours(skb, &p)) return count(SOUTH_EGRESS_OTHER, PASS);
  note_hand(skb, bpf_get_socket_cookie(skb));
  bpf_tail_call(skb, &verdicts, SOUTH_VERDICT_ELSEWHERE);
  return count(SOUTH_EGRESS_OWNER_DEAD, SWALLOW);
}

INLINE int egress_raw(struct __sk_buff* skb) {
  __u32 source;
  if (skb->protocol != bpf_htons(ETH_P_IP) ||
      bpf_skb_load_bytes(skb, __builtin_offsetof(struct iphdr, saddr), &source, sizeof(source)) ||
      source != service_ip) {
    return count(SOUTH_EGRESS_OTHER, PASS);
  }
  note_hand(skb, bpf_get_socket_cookie(skb));
  bpf_tail_call(skb, &verdicts, SOUTH_VERDICT_ELSEWHERE_RAW);
  return count(SOUTH_EGRESS_OWNER_DEAD, SWALLOW);
}

INLINE int ingress_raw(struct __sk_buff* skb) {
  __u32 destination;
  if (skb->protocol != bpf_htons(ETH_P_IP) ||
      bpf_skb_load_bytes(skb, __builtin_offsetof(struct iphdr, daddr), &destination, sizeof(destination)) ||
      destination != service_ip) {
    return count(SOUTH_INGRESS_OTHER, PASS);
  }
  bpf_tail_call(skb, &verdicts, SOUTH_VERDICT_INGRESS_RAW);
  return count(SOUTH_INGRESS_OWNER_DEAD, SWALLOW);
}

// Two of each: SouthAttachment puts one in the place of the other.
#define ENTRY(name, body)                                         \
  SEC("tc") int name(struct __sk_buff* skb) { return body(skb); } \
  SEC("tc") int name##_2(struct __sk_buff* skb) { return body(skb); }

ENTRY(south_egress, egress)
ENTRY(south_ingress, ingress)
ENTRY(south_egress_elsewhere, egress_elsewhere)
ENTRY(south_egress_raw, egress_raw)
ENTRY(south_ingress_raw, ingress_raw)

char LICENSE[] SEC("license") = "Dual BSD/GPL";
