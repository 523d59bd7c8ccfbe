// What tests of the verdicts make connections and segments of.
#ifndef UNDERSTUDY_TCPSHIM_VERDICT_FOR_TEST_H_
#define UNDERSTUDY_TCPSHIM_VERDICT_FOR_TEST_H_

#include <cstdint>

#include "tcpshim/verdict.h"

namespace understudy::tcpshim {

// Where sequence numbers begin: where they are about to wrap, too.
inline constexpr uint32_t kBases[] = {0, 1, 1000, 0x7fffffff, 0x80000000, 0xfffffff0, 0xffffffff};
inline constexpr uint32_t kIss = 5000;

inline south_connection Begun(uint32_t stable, uint32_t flags = SOUTH_OPEN, uint8_t shift = 0) {
  south_connection c;
  south_begin(&c, kIss, stable, flags, shift);
  return c;
}

inline south_segment Lone(uint32_t ack, uint16_t window = 500) {
  south_segment s = {};
  s.seq = kIss + 1;
  s.ack = ack;
  s.window = window;
  s.flags = SOUTH_ACK;
  return s;
}

inline south_segment Data(uint32_t ack, uint32_t payload = 100, uint16_t window = 500) {
  south_segment s = Lone(ack, window);
  s.payload = payload;
  return s;
}

// As it leaves.
inline void Send(south_connection& c, const south_segment& s, south_maker maker = SOUTH_BY_TCP) {
  const south_edits edits = {s.ack, s.window};
  south_note_departure(&c, &s, &edits, maker);
}

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_VERDICT_FOR_TEST_H_
