/* What the south wrapper's eBPF program and its user space share. Plain C, included by both sides. */
#ifndef UNDERSTUDY_TCPSHIM_SOUTH_SHARED_H_
#define UNDERSTUDY_TCPSHIM_SOUTH_SHARED_H_

#include <linux/types.h>

#ifdef __cplusplus
#include <cstddef>
#endif

/* Key of a connection, network byte order: local is the service address, remote the client. */
struct south_tuple {
  __u32 local_ip;
  __u32 remote_ip;
  __u16 local_port;
  __u16 remote_port;
};

/* One connection: an element of a memory-mapped array. All sequence numbers in host byte order. Each field
 * has one writer. User space is the writer of the first block, egress of the second, ingress of the third. */
enum {
  SOUTH_OPEN = 1,      /* `Opened` is stable: its SYN-ACK may leave */
  SOUTH_FIN_OK = 2,    /* a logged close explains a FIN */
  SOUTH_RST_OK = 4,    /* a logged abort explains a RST */
  SOUTH_NO_SOCKET = 8, /* TCP must not see its segments: it knows of no such connection (yet) */
};
struct south_connection {
  __u32 stable;    /* no acknowledgement after this may leave */
  __u32 flags;     /* SOUTH_* */
  __u8 rcv_wscale; /* shift of the windows we announce */
  __u8 pad0[3];

  __u32 held;         /* 1: an ACK was taken off and not re-sent: a lone one swallowed, or one clamped that
                      * came with data. Set by egress, taken by user space (both by atomic exchange; the
                      * reasoning is in verdict.h, south_hold) */
  __u32 held_version; /* odd while egress writes the next five: a seqlock, egress's own lock as well */
  __u32 held_ack;     /* newest of them; never moves back: */
  __u32 held_seq;
  __u32 held_tsval;
  __u32 held_tsecr;
  __u16 held_window; /* as in the header */
  __u16 pad1;
  __u32 last_ack;     /* newest acknowledgement that has left, after clamping */
  __u32 snd_max;      /* end of the newest sequence number that has left: SND.NXT as the client can know it */
  __u32 rcv_edge;     /* right edge of the window offered; never moves left, on the wire neither (I6) */
  __u32 last_tsval;   /* newest TSval that has left */
  __u32 egress_seen;  /* 1: the four fields before are valid */
  __u32 window_limit; /* user space: no window beyond this many bytes may be offered; 0: no limit */

  union {
    struct {
      __u32 una;    /* newest ACK number the client has sent */
      __u32 window; /* and the window that came with it, as in the header */
    };
    __u64 una_and_window; /* one store, one load: they belong together */
  };
  __u32 client_tsval; /* newest TSval of the client */
  __u32 ingress_seen; /* 1: the fields before are valid: the handshake is complete */
  __u32 wake_armed;   /* 1: report when una reaches wake_at. Set by user space, taken by ingress */
  __u32 wake_at;      /* user space */
  __u32 iss;          /* our initial sequence number, as logged: with another one it is another connection.
                       * User space */
  __u32 old_echoes;   /* 1: the client may still echo TSvals of another host, those before echo_from. Set by
                       * user space with the connection, taken back by ingress when it echoes a later one */
  __u32 echo_from;
  __u32 reserved[7];
};
#ifdef __cplusplus
static_assert(sizeof(struct south_connection) == 128, "two cache lines: egress's and ingress's");
static_assert(offsetof(struct south_connection, una_and_window) == 64, "ingress has its own");
#endif

/* One element, memory-mapped: the switch. User space writes. */
struct south_control {
  __u64 deadline_ns; /* CLOCK_MONOTONIC; at or past it egress emits nothing for the service address */
  __u32 gate;        /* 0: closed, both directions. 1: open */
  __u8 mac[6];       /* of the interface that has the service address */
  __u16 pad;
  /* The programs: frames of SouthProbe that they have met. */
  __u32 probes_tcp, probes_arp; /* leaving */
  __u32 probes_in;
  __u32 pad2;
  __u64 clock_ns; /* the kernel's, which deadlines are compared with; south_clock writes it, at the start */
};

/* Bound to the entry programs, in a map of this name: whose they are. Network byte order. */
#define SOUTH_SERVICE_MAP "south_service"
struct south_service {
  __u32 ip;
  __u16 port;
  __u16 pad;
};

/* Places of the verdict programs in the program array. */
enum {
  SOUTH_VERDICT_EGRESS,
  SOUTH_VERDICT_INGRESS,
  SOUTH_VERDICT_ELSEWHERE,     /* egress of the other interfaces: Ethernet, */
  SOUTH_VERDICT_ELSEWHERE_RAW, /* and those without a link header */
  SOUTH_VERDICT_INGRESS_RAW,
  SOUTH_VERDICTS
};

/* Word of a packet's control buffer in which the entry program tells the verdict program that the packet was
 * sent by hand: 1 or 0. */
enum { SOUTH_CB_BY_HAND = 0 };

/* Segments of connections that are not in the table which are answered in a second: to one client (and as
 * many in a burst), and to all. */
enum { SOUTH_STRAYS_PER_CLIENT = 200, SOUTH_STRAYS = 1000, SOUTH_STRAYS_BURST = 500 };

/* Reports to user space, through ring buffers: RST_UNKNOWN has one of its own. */
enum {
  SOUTH_EVENT_SYN_ACK = 1,       /* the kernel's SYN-ACK of an unknown connection was swallowed; it is unknown
                                 * also when the table has its tuple with another ISS */
  SOUTH_EVENT_RST_UNKNOWN = 2,   /* a RST for a connection that is not in the table was swallowed: user space
                                 * alone, while alive and serving, can vouch for it and send it by hand. Never
                                 * of one that was sent by hand. Limited (SOUTH_STRAYS...) */
  SOUTH_EVENT_SYN_KNOWN = 3,     /* a client repeats the SYN of a known connection: it never got our SYN-ACK.
                                 * The segment is passed on to TCP all the same */
  SOUTH_EVENT_ACKED = 4,         /* the client has acknowledged up to wake_at */
  SOUTH_EVENT_RST_HANDSHAKE = 5, /* a RST, with the right sequence number, of a client that has acknowledged
                                 * nothing yet. Passed on to TCP all the same */
  SOUTH_EVENT_ELSEWHERE = 6,     /* the kernel's SYN-ACK of an unknown connection was swallowed on
                                  * `interface`, which does not have the service address. In the ring of
                                  * RST_UNKNOWN, limited like it */
};
struct south_event {
  __u32 kind;
  struct south_tuple tuple;
  __u32 seq, ack;      /* of the segment */
  __u16 window;        /* SYN_ACK: as in its header */
  __u16 own_mss;       /* SYN_ACK: its options */
  __u16 peer_mss;      /* SYN_ACK: the client's SYN's; 536 when it had none */
  __u8 snd_wscale;     /* SYN_ACK: the client's shift */
  __u8 rcv_wscale;     /* SYN_ACK: ours */
  __u8 window_scaling; /* SYN_ACK: both offered it */
  __u8 sack;
  __u8 timestamps;
  __u8 ecn; /* SYN_ACK: it agrees to ECN */
  __u32 tsval, tsecr;
  __u32 interface; /* index */
  __u64 at_ns;     /* CLOCK_MONOTONIC; SYN_ACK: when TCP made it, which tsval belongs to */
  __u64 cookie;    /* SYN_ACK: SO_COOKIE of the socket that it will become; 0: TCP has none, it is a SYN
                          * cookie */
};

/* Counters (per-CPU). Every packet counts in exactly one of them; EVENTS_LOST counts on top. Names for the
 * metrics are in south_wrapper.cc, same order. */
enum south_counter {
  SOUTH_EGRESS_PASSED,
  SOUTH_EGRESS_SILENT_GATE,     /* gate closed */
  SOUTH_EGRESS_SILENT_DEADLINE, /* deadline past */
  SOUTH_EGRESS_SYN_ACK_HELD,
  SOUTH_EGRESS_ACK_HELD,
  SOUTH_EGRESS_ACK_CLAMPED,
  SOUTH_EGRESS_FIN_DISCARDED,
  SOUTH_EGRESS_RST_DISCARDED,
  SOUTH_EGRESS_RST_UNKNOWN,
  SOUTH_EGRESS_BY_HAND,
  SOUTH_EGRESS_MALFORMED,
  SOUTH_INGRESS_PASSED,
  SOUTH_INGRESS_SILENT,
  SOUTH_INGRESS_MALFORMED,
  SOUTH_EVENTS_LOST,        /* ring buffer full */
  SOUTH_EGRESS_OTHER,       /* not from the service address: passed unseen */
  SOUTH_EGRESS_OWNER_DEAD,  /* the process is gone, its program array empty */
  SOUTH_EGRESS_SYN_UNKNOWN, /* a SYN-ACK with window scaling, but its SYN was not seen */
  SOUTH_EGRESS_STRAY,       /* data or FIN of a connection that is not in the table */
  SOUTH_INGRESS_OTHER,
  SOUTH_INGRESS_OWNER_DEAD,
  SOUTH_INGRESS_NO_SOCKET,  /* noted, and kept from TCP */
  SOUTH_EGRESS_RST_LIMITED, /* as RST_UNKNOWN, but not reported: there were too many */
  SOUTH_EGRESS_ELSEWHERE,   /* swallowed on an interface that does not have the service address */
  SOUTH_EGRESS_PROBE,       /* of this process, to see whether the programs are there */
  SOUTH_INGRESS_PROBE,
  SOUTH_COUNTERS
};

#endif
