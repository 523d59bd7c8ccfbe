// The verdicts of tcpshim/south.bpf.c, in C++, for one process's filter on one simulated host. Keep
// the two alike: what is proven here of the pair holds for the real one as far as they are.
#ifndef UNDERSTUDY_TESTS_SIM_SOUTH_H_
#define UNDERSTUDY_TESTS_SIM_SOUTH_H_

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <vector>

#include "tcpshim/south_shared.h"
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
  struct Connection {
    tcpshim::FourTuple tuple;
    Seq iss = 0;
    Seq stable = 0;
    uint32_t flags = 0;
    uint8_t shift = 0;
    uint32_t window_limit = 0;
    bool held = false;
    Seq held_ack = 0, held_seq = 0;
    uint32_t held_tsval = 0;
    uint16_t held_window = 0;
    Seq last_ack = 0, snd_max = 0, rcv_edge = 0;
    uint32_t last_tsval = 0;
    bool egress_seen = false;
    Seq una = 0;
    uint16_t window = 0;
    uint32_t client_tsval = 0;
    bool ingress_seen = false;
    bool wake_armed = false;
    Seq wake_at = 0;
  };

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
  bool MayTalk(int64_t now_ns) const { return gate && (now_ns < deadline_ns || mutations_.no_deadline); }

  bool gate = false;
  int64_t deadline_ns = 0;
  std::vector<std::optional<Connection>> slots;
  std::map<tcpshim::FourTuple, uint32_t> by_tuple;
  std::deque<south_event> events;
  uint64_t events_made = 0;

 private:
  Connection* Find(const tcpshim::FourTuple& tuple);
  static bool OfOtherHandshake(const Connection& c, const Packet& packet);
  void NoteArrival(Connection& c, const Packet& packet, int64_t now_ns);
  void NoteDeparture(Connection& c, const Packet& packet, bool by_hand);
  static uint16_t FitWindow(const Connection& c, const Packet& packet, Seq ack);
  bool LetPass(Connection& c, Packet& packet);
  bool KnownEgress(Connection& c, Packet& packet);
  bool UnknownEgress(const Packet& packet, const Sender& sender, int64_t now_ns);
  south_event NewEvent(uint32_t kind, const Packet& packet, const tcpshim::FourTuple& tuple, int64_t now_ns);

  const Mutations mutations_;
  // What a client offered in its newest SYN.
  struct Syn {
    Seq isn = 0;
    bool has_shift = false;
    uint8_t shift = 0;
  };
  std::map<tcpshim::FourTuple, Syn> syns_;
};

}  // namespace understudy::sim

#endif  // UNDERSTUDY_TESTS_SIM_SOUTH_H_
