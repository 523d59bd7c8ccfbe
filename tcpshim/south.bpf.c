// SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
//
// The south wrapper's half in the kernel: a verdict on each packet between TCP and the interface.
//
// Claims 15-26 (the second wrapper). The verdicts themselves are in verdict.h; here packets are read,
// changed, counted and reported. Two layers:
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
#include "tcpshim/verdict.h"

#define PASS TC_ACT_UNSPEC
#define SWALLOW swallow()
#define INLINE static __always_inline

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

// A flood of SYNs pushes older ones out; those clients repeat theirs.
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 16384);
  __type(key, struct south_tuple);
  __type(value, struct south_syn);
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
  struct south_offer offer;
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

INLINE struct south_connection* find(const struct south_tuple* tuple) {
  __u32* slot = bpf_map_lookup_elem(&slots, tuple);
  if (!slot) return 0;
  __u32 index = *slot;
  return bpf_map_lookup_elem(&connections, &index);
}

// --- Reading a packet ----------------------------------------------------------------------------

struct packet {
  struct south_tuple tuple;
  __u32 at;       // of the TCP header, from the start of the frame
  __u32 options;  // bytes
  __u16 ip_id;    // as it is
  struct south_segment tcp;
};

enum kind {
  KIND_TCP,        // to or from the service port
  KIND_OTHER,      // another protocol, another port, or a fragment without a TCP header
  KIND_MALFORMED,  // claims to be TCP, but is not
};

// All but the timestamps. `egress`: the local end is the source. `link`: bytes of the link header, a
// constant (0 or Ethernet's).
INLINE enum kind read_packet(struct __sk_buff* skb, int egress, __u32 link, struct packet* p) {
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
  p->at = link + ip_header;
  if (bpf_skb_load_bytes(skb, p->at, &tcp, sizeof(tcp))) return KIND_MALFORMED;
  if ((egress ? tcp.source : tcp.dest) != service_port) return KIND_OTHER;
  __u32 tcp_header = (tcp.offset >> 4) * 4;
  if (tcp_header < sizeof(tcp) || tcp_header > total - ip_header) return KIND_MALFORMED;

  p->ip_id = ip.id;
  p->tuple.local_ip = egress ? ip.saddr : ip.daddr;
  p->tuple.remote_ip = egress ? ip.daddr : ip.saddr;
  p->tuple.local_port = egress ? tcp.source : tcp.dest;
  p->tuple.remote_port = egress ? tcp.dest : tcp.source;
  p->options = tcp_header - sizeof(tcp);
  p->tcp.payload = total - ip_header - tcp_header;
  p->tcp.seq = bpf_ntohl(tcp.seq);
  p->tcp.ack = bpf_ntohl(tcp.ack);
  p->tcp.window = bpf_ntohs(tcp.window);
  p->tcp.flags = tcp.flags;
  p->tcp.timestamps = 0;
  p->tcp.tsval = p->tcp.tsecr = 0;
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
      o->offer.mss = v[0] << 8 | v[1];
    } else if (kind == 3 && size == 3) {
      o->offer.has_wscale = 1;
      o->offer.wscale = v[0];
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

// Reads the options of `p`; they are left in the scratch's `before`, what they say in `found`.
INLINE struct scratch* read_options(struct __sk_buff* skb, const struct packet* p) {
  __u32 zero = 0;
  struct scratch* scratch = bpf_map_lookup_elem(&scratches, &zero);
  if (!scratch) return 0;
  __builtin_memset(scratch, 0, sizeof(*scratch));
  __u32 length = p->options;
  if (!options_length(&length)) return scratch;
  if (bpf_skb_load_bytes(skb, p->at + sizeof(struct tcphdr), scratch->before, length)) return 0;
  walk_options(length);
  return scratch;
}

INLINE void read_timestamps(struct __sk_buff* skb, struct packet* p) {
  if (p->options < 12) return;
  // Where all but every TCP puts them: NOP, NOP, kind 8, length 10.
  struct {
    __u32 head, val, ecr;
  } fast;
  if (bpf_skb_load_bytes(skb, p->at + sizeof(struct tcphdr), &fast, sizeof(fast))) return;
  if (fast.head == bpf_htonl(0x0101080a)) {
    p->tcp.timestamps = 1;
    p->tcp.tsval = bpf_ntohl(fast.val);
    p->tcp.tsecr = bpf_ntohl(fast.ecr);
    return;
  }
  const struct scratch* scratch = read_options(skb, p);
  if (!scratch || !scratch->found.timestamps) return;
  p->tcp.timestamps = 1;
  p->tcp.tsval = scratch->found.tsval;
  p->tcp.tsecr = scratch->found.tsecr;
}

// --- Changing a packet ---------------------------------------------------------------------------
//
// bpf_l4_csum_replace without BPF_F_PSEUDO_HDR is right for complete and for partial checksums (those
// leave the bytes of the header to the hardware). The length never changes: super-packets pass here.
// Returned is 0, or not when the packet could not be changed.

INLINE __u32 check_of(const struct packet* p) { return p->at + __builtin_offsetof(struct tcphdr, check); }

// SACK -> NOPs, in place.
INLINE int blank_sack(struct __sk_buff* skb, const struct packet* p) {
  if (!p->options) return 0;
  struct scratch* scratch = read_options(skb, p);
  if (!scratch) return -1;
  if (!scratch->found.sack_length) return 0;
  blank_options(scratch->found.sack_at, scratch->found.sack_length);
  __u32 length = p->options;
  if (!options_length(&length)) return 0;
  // Over the whole 40 bytes (zeros behind the options), so that an odd place needs no care.
  __s64 difference = bpf_csum_diff((__be32*)scratch->before, 40, (__be32*)scratch->after, 40, 0);
  if (difference < 0) return -1;
  if (bpf_l4_csum_replace(skb, check_of(p), 0, difference, 0)) return -1;
  return bpf_skb_store_bytes(skb, p->at + sizeof(struct tcphdr), scratch->after, length, 0);
}

INLINE int store_window(struct __sk_buff* skb, const struct packet* p, __u32 window) {
  if (window == p->tcp.window) return 0;
  __be16 new_window = bpf_htons(window);
  if (bpf_l4_csum_replace(skb, check_of(p), bpf_htons(p->tcp.window), new_window, 2)) return -1;
  return bpf_skb_store_bytes(skb, p->at + __builtin_offsetof(struct tcphdr, window), &new_window, 2, 0);
}

INLINE int store_ack(struct __sk_buff* skb, const struct packet* p, __u32 ack) {
  __be32 new_ack = bpf_htonl(ack);
  if (bpf_l4_csum_replace(skb, check_of(p), bpf_htonl(p->tcp.ack), new_ack, 4)) return -1;
  return bpf_skb_store_bytes(skb, p->at + __builtin_offsetof(struct tcphdr, ack_seq), &new_ack, 4, 0);
}

// Which of the two timestamps, from the start of the option's head.
enum { TSVAL_AT = 4, TSECR_AT = 8 };

// Only where the options are where all but every TCP, and BuildPacket, puts them.
INLINE int store_timestamp(struct __sk_buff* skb, const struct packet* p, __u32 which, __u32 before,
                           __u32 after) {
  __u32 at = p->at + sizeof(struct tcphdr), head;
  if (bpf_skb_load_bytes(skb, at, &head, sizeof(head)) || head != bpf_htonl(0x0101080a)) return -1;
  __be32 value = bpf_htonl(after);
  if (bpf_l4_csum_replace(skb, check_of(p), bpf_htonl(before), value, 4)) return -1;
  return bpf_skb_store_bytes(skb, at + which, &value, sizeof(value), 0);
}

// --- Egress --------------------------------------------------------------------------------------

INLINE struct south_event* new_event(void* ring, __u32 kind, const struct packet* p) {
  struct south_event* event = bpf_ringbuf_reserve(ring, sizeof(*event), 0);
  if (!event) {
    count(SOUTH_EVENTS_LOST, 0);
    return 0;
  }
  __builtin_memset(event, 0, sizeof(*event));
  event->kind = kind;
  event->tuple = p->tuple;
  event->seq = p->tcp.seq;
  event->ack = p->tcp.ack;
  event->window = p->tcp.window;
  event->tsval = p->tcp.tsval;
  event->tsecr = p->tcp.tsecr;
  event->at_ns = bpf_ktime_get_ns();
  return event;
}

// Its options, with those of the SYN it answers, are what user space needs to log `Opened` and to send
// this SYN-ACK by hand afterwards.
INLINE int new_syn_ack(struct __sk_buff* skb, const struct packet* p) {
  const struct scratch* scratch = read_options(skb, p);
  if (!scratch) return count(SOUTH_EGRESS_MALFORMED, SWALLOW);
  const struct options* o = &scratch->found;
  struct south_offer client;
  enum south_counter verdict =
      south_match_syn(&p->tcp, &o->offer, bpf_map_lookup_elem(&syns, &p->tuple), &client);
  if (verdict != SOUTH_EGRESS_SYN_ACK_HELD) return count(verdict, SWALLOW);
  struct south_event* event = new_event(&events, SOUTH_EVENT_SYN_ACK, p);
  // No room: TCP repeats the SYN-ACK.
  if (!event) return count(verdict, SWALLOW);
  // The TSval is that of when TCP made the segment, which may have waited for the neighbour's hardware
  // address since. TCP notes that time in tstamp, on the same clock.
  __u64 made = skb->tstamp;
  if (made && made < event->at_ns && event->at_ns - made < 64000000000ull) event->at_ns = made;
  south_tell_offers(event, &o->offer, &client);
  event->sack = o->sack_permitted;
  event->timestamps = o->timestamps;
  event->ecn = !!(p->tcp.flags & SOUTH_ECE);
  event->tsval = o->tsval;
  event->tsecr = o->tsecr;
  event->cookie = bpf_get_socket_cookie(skb);
  bpf_ringbuf_submit(event, 0);
  return count(verdict, SWALLOW);
}

// Whether one more segment for a connection that nobody knows may be answered: so many a second for one
// client, so many altogether (as the kernel does with ICMP errors: icmp_ratelimit, icmp_msgs_per_sec).
INLINE int may_answer_stray(const struct packet* p) {
  __u64 now = bpf_ktime_get_ns();
  __u64* due = bpf_map_lookup_elem(&stray_dues, &p->tuple.remote_ip);
  if (!due) {
    __u64 first = now;
    bpf_map_update_elem(&stray_dues, &p->tuple.remote_ip, &first, BPF_NOEXIST);
    due = bpf_map_lookup_elem(&stray_dues, &p->tuple.remote_ip);
    if (!due) return 0;
  }
  return south_take_token(due, now, 1000000000 / SOUTH_STRAYS_PER_CLIENT, SOUTH_STRAYS_PER_CLIENT) &&
         south_take_token(&stray_due, now, 1000000000 / SOUTH_STRAYS, SOUTH_STRAYS_BURST);
}

INLINE int unknown_rst(const struct packet* p) {
  // Made by hand, though its socket is not to be seen: to report it would answer it with another like it, on
  // and on. (The kernel says 0 here where there is no connection.)
  if (hand_ip_id && p->ip_id == hand_ip_id) return count(SOUTH_EGRESS_RST_UNKNOWN, SWALLOW);
  if (!may_answer_stray(p)) return count(SOUTH_EGRESS_RST_LIMITED, SWALLOW);
  struct south_event* event = new_event(&strays, SOUTH_EVENT_RST_UNKNOWN, p);
  if (event) bpf_ringbuf_submit(event, 0);
  return count(SOUTH_EGRESS_RST_UNKNOWN, SWALLOW);
}

INLINE int from_live_socket(struct __sk_buff* skb) {
  const struct bpf_sock* sk = skb->sk;
  if (sk) sk = bpf_sk_fullsock((struct bpf_sock*)sk);
  return sk && (sk->state == BPF_TCP_ESTABLISHED || sk->state == BPF_TCP_CLOSE_WAIT);
}

INLINE int unknown_egress(struct __sk_buff* skb, const struct packet* p) {
  const enum south_counter verdict = south_judge_unknown(&p->tcp, from_live_socket(skb));
  if (verdict == SOUTH_EGRESS_RST_UNKNOWN) return unknown_rst(p);
  if (verdict == SOUTH_EGRESS_SYN_ACK_HELD) return new_syn_ack(skb, p);
  return south_leaves(verdict) ? count(SOUTH_EGRESS_PASSED, PASS) : count(SOUTH_EGRESS_STRAY, SWALLOW);
}

INLINE int known_egress(struct __sk_buff* skb, struct south_connection* c, const struct packet* p) {
  struct south_edits edits;
  const enum south_counter verdict = south_judge(c, &p->tcp, &edits);
  if (!south_leaves(verdict)) return count(verdict, SWALLOW);
  if (verdict == SOUTH_EGRESS_ACK_CLAMPED && (store_ack(skb, p, edits.ack) || blank_sack(skb, p))) {
    return count(SOUTH_EGRESS_MALFORMED, SWALLOW);
  }
  if (store_window(skb, p, edits.window)) return count(SOUTH_EGRESS_MALFORMED, SWALLOW);
  south_note_departure(c, &p->tcp, &edits, SOUTH_BY_TCP);
  return count(verdict, PASS);
}

INLINE int by_hand_egress(struct __sk_buff* skb, struct south_connection* c, struct packet* p) {
  const __u32 tsval = south_newest_tsval(c, &p->tcp);
  if (tsval != p->tcp.tsval && !store_timestamp(skb, p, TSVAL_AT, p->tcp.tsval, tsval)) p->tcp.tsval = tsval;
  struct south_edits edits = {.ack = p->tcp.ack, .window = south_newest_window(c, &p->tcp)};
  if (store_window(skb, p, edits.window)) edits.window = p->tcp.window;
  south_note_departure(c, &p->tcp, &edits, SOUTH_BY_HAND);
  return count(SOUTH_EGRESS_BY_HAND, PASS);
}

SEC("tc")
int south_egress_verdict(struct __sk_buff* skb) {
  __u32 zero = 0;
  struct south_control* now = bpf_map_lookup_elem(&control, &zero);
  if (!now || !south_is_open(now)) return count(SOUTH_EGRESS_SILENT_GATE, SWALLOW);
  if (south_is_late(now, bpf_ktime_get_ns())) return count(SOUTH_EGRESS_SILENT_DEADLINE, SWALLOW);
  struct packet p;
  enum kind kind = read_packet(skb, 1, ETH_HLEN, &p);
  int by_hand = skb->cb[SOUTH_CB_BY_HAND];
  if (kind != KIND_TCP) {
    if (by_hand) return count(SOUTH_EGRESS_BY_HAND, PASS);
    if (kind == KIND_OTHER) return count(SOUTH_EGRESS_PASSED, PASS);
    return count(SOUTH_EGRESS_MALFORMED, SWALLOW);
  }
  read_timestamps(skb, &p);
  struct south_connection* c = find(&p.tuple);
  if (by_hand) return c ? by_hand_egress(skb, c, &p) : count(SOUTH_EGRESS_BY_HAND, PASS);
  if (c && (!south_is_incarnation(c, &p.tcp) || south_is_other_handshake(c, &p.tcp))) c = 0;
  return c ? known_egress(skb, c, &p) : unknown_egress(skb, &p);
}

// --- Egress of the other interfaces (see south_judge_elsewhere) -----------------------------------

INLINE int refuse_elsewhere(struct __sk_buff* skb, const struct packet* p) {
  if (may_answer_stray(p)) {
    struct south_event* event = new_event(&strays, SOUTH_EVENT_ELSEWHERE, p);
    if (event) {
      event->interface = skb->ifindex;
      bpf_ringbuf_submit(event, 0);
    }
  }
  return count(SOUTH_EGRESS_ELSEWHERE, SWALLOW);
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
  if (!now || !south_is_open(now)) return count(SOUTH_EGRESS_SILENT_GATE, SWALLOW);
  if (south_is_late(now, bpf_ktime_get_ns())) return count(SOUTH_EGRESS_SILENT_DEADLINE, SWALLOW);
  if (skb->protocol == bpf_htons(ETH_P_ARP)) return link ? arp_elsewhere(skb, now) : PASS;
  struct packet p;
  enum kind kind = read_packet(skb, 1, link, &p);
  if (kind == KIND_MALFORMED) return count(SOUTH_EGRESS_MALFORMED, SWALLOW);
  if (kind == KIND_OTHER) return count(SOUTH_EGRESS_PASSED, PASS);
  if (skb->cb[SOUTH_CB_BY_HAND]) return count(SOUTH_EGRESS_BY_HAND, PASS);
  const struct south_connection* c = find(&p.tuple);
  if (south_is_refused(c, &p.tcp)) return refuse_elsewhere(skb, &p);
  if (!south_leaves(south_judge_elsewhere(c, &p.tcp, !c && from_live_socket(skb)))) {
    return count(SOUTH_EGRESS_ELSEWHERE, SWALLOW);
  }
  return count(SOUTH_EGRESS_PASSED, PASS);
}

SEC("tc")
int south_elsewhere_verdict(struct __sk_buff* skb) { return elsewhere(skb, ETH_HLEN); }

SEC("tc")
int south_elsewhere_raw_verdict(struct __sk_buff* skb) { return elsewhere(skb, 0); }

// --- Ingress -------------------------------------------------------------------------------------

INLINE void remember_syn(struct __sk_buff* skb, const struct packet* p) {
  const struct scratch* scratch = read_options(skb, p);
  if (!scratch) return;
  struct south_syn syn = {.isn = p->tcp.seq, .offer = scratch->found.offer};
  bpf_map_update_elem(&syns, &p->tuple, &syn, BPF_ANY);
}

// Only what TCP would take for whole may end a handshake. `p` is a RST: without payload, else it is not
// looked at.
INLINE int is_whole(struct __sk_buff* skb, const struct packet* p) {
  if (p->tcp.payload) return 0;
  struct scratch* scratch = read_options(skb, p);
  struct tcphdr tcp;
  if (!scratch || bpf_skb_load_bytes(skb, p->at, &tcp, sizeof(tcp))) return 0;
  struct {
    __be32 source, destination;
    __u8 zero, protocol;
    __be16 length;
  } pseudo = {p->tuple.remote_ip, p->tuple.local_ip, 0, IPPROTO_TCP, bpf_htons(sizeof(tcp) + p->options)};
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
  if (!now || !south_is_open(now)) return count(SOUTH_INGRESS_SILENT, SWALLOW);

  struct packet p;
  enum kind kind = read_packet(skb, 0, ETH_HLEN, &p);
  if (kind == KIND_MALFORMED) return count(SOUTH_INGRESS_MALFORMED, PASS);  // IP and TCP drop it
  if (kind == KIND_OTHER) return count(SOUTH_INGRESS_PASSED, PASS);

  struct south_connection* c = find(&p.tuple);
  if (c) read_timestamps(skb, &p);
  struct south_arrival arrival;
  south_arrive(c, &p.tcp, &arrival);
  if (arrival.remember_syn) remember_syn(skb, &p);
  if (arrival.report && (arrival.report != SOUTH_EVENT_RST_HANDSHAKE || is_whole(skb, &p))) {
    struct south_event* event = new_event(&events, arrival.report, &p);
    if (event) bpf_ringbuf_submit(event, 0);
  }
  if (arrival.blank_echo) store_timestamp(skb, &p, TSECR_AT, p.tcp.tsecr, 0);
  if (arrival.verdict == SOUTH_INGRESS_NO_SOCKET) return count(SOUTH_INGRESS_NO_SOCKET, SWALLOW);
  return count(SOUTH_INGRESS_PASSED, PASS);
}

// A client that comes in without a link header is one whose segments leave there as well: it is refused at
// its SYN (refuse_elsewhere).
SEC("tc")
int south_ingress_raw_verdict(struct __sk_buff* skb) {
  (void)skb;
  __u32 zero = 0;
  struct south_control* now = bpf_map_lookup_elem(&control, &zero);
  if (!now || !south_is_open(now)) return count(SOUTH_INGRESS_SILENT, SWALLOW);
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
