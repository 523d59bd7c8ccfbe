// One process's south wrapper on one simulated host: the verdicts are the kernel's own (tcpshim/verdict.h),
// on simulated packets. A mutation goes round a verdict, or lies to it; verdict.h knows of none.
#ifndef UNDERSTUDY_TESTS_SIM_SOUTH_H_
#define UNDERSTUDY_TESTS_SIM_SOUTH_H_

#include <cstdint>
#include <deque>
#include <map>
#include <vector>

#include "tcpshim/south_shared.h"
#include "tcpshim/verdict.h"
#include "tests/sim/tcp.h"

namespace understudy::sim {

// Protections that a test takes out to see that their absence is found.
struct Mutations {
  bool acknowledge_unstored = false;  // output commit: the primary is told "stored" when it has sent
  bool no_clamp = false;              // acknowledgements pass as TCP makes them
  bool no_syn_ack_hold = false;       // the kernel's SYN-ACK leaves before Opened is stable
  bool no_deadline = false;           // the lease
  bool no_lease_guard = false;        // the lease runs as long as the suspicion
  bool drifting_clocks = false;       // no protection: the hosts' clocks run apart, as far as they may
  bool no_fin_rst_filter = false;     // what a dying process's kernel says
  bool no_window_fit = false;         // windows are offered as TCP has them
  bool skip_replay = false;           // what is stored but not replayed yet is forgotten at takeover
  bool garble_restored = false;       // an heir sends another byte
  bool no_announcement = false;       // nobody learns where the service address is now
  bool unanswered_pulses = false;     // the lease is extended by pulses that nobody has answered
  bool any_syn_ack = false;           // a SYN-ACK of a known tuple passes whatever its ISS
  bool refusal_is_death = false;      // a refused connection is taken for proof that the peer is dead
  bool blind_fence = false;           // packets that get past the programs are not noticed
  bool answers_every_pulse = false;   // whoever hears a pulse, in whatever state, answers it
};

class South {
 public:
  uint64_t closings = 0;  // of the gate

  explicit South(const Mutations& mutations) : mutations_(mutations) {}

  // The socket that the kernel sends for: its cookie (0: none), and whether it is open still.
  struct Sender {
    uint64_t cookie = 0;
    bool open = false;
  };
  // May this leave? Changes it where that is the verdict. `now_ns`: CLOCK_MONOTONIC of the host.
  bool Egress(Packet& packet, bool by_hand, const Sender& sender, int64_t now_ns);
  bool Ingress(const Packet& packet, int64_t now_ns);
  // Anything that is not TCP, ARP say.
  bool MayTalk(int64_t now_ns) const;

  bool is_open() const { return south_is_open(&control) != 0; }

  south_control control = {};
  std::vector<south_connection> connections;  // by slot; none is used twice
  std::vector<tcpshim::FourTuple> tuples;     // of those
  std::map<tcpshim::FourTuple, uint32_t> slots;
  std::deque<south_event> events;
  uint64_t events_made = 0;

 private:
  south_connection* Find(const tcpshim::FourTuple& tuple);
  bool BelongsTo(const south_connection& c, const south_segment& segment) const;
  south_counter Judge(south_connection& c, const south_segment& segment, south_edits& edits) const;
  bool KnownEgress(south_connection& c, Packet& packet);
  bool HandEgress(south_connection& c, Packet& packet);
  bool UnknownEgress(const Packet& packet, const Sender& sender, int64_t now_ns);
  bool ReportSynAck(const Packet& packet, const Sender& sender, int64_t now_ns);
  south_event NewEvent(uint32_t kind, const Packet& packet, const tcpshim::FourTuple& tuple, int64_t now_ns);

  const Mutations mutations_;
  std::map<tcpshim::FourTuple, south_syn> syns_;
};

}  // namespace understudy::sim

#endif  // UNDERSTUDY_TESTS_SIM_SOUTH_H_
