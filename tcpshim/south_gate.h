// The switch of a south wrapper: the gate, and the deadline at which it is silent by itself (I3). Also
// another process's, for who outlives that: a dead process is silent a few milliseconds after its death
// (south_wrapper.h). Who must know that it is, before it tells anybody, closes the gate itself.
//
// Any thread may call.
#ifndef UNDERSTUDY_TCPSHIM_SOUTH_GATE_H_
#define UNDERSTUDY_TCPSHIM_SOUTH_GATE_H_

#include <chrono>

#include "tcpshim/south_maps.h"
#include "tcpshim/south_shared.h"

namespace understudy::tcpshim {

class SouthGate {
 public:
  SouthGate() = default;
  // Maps the switch: SouthMaps::control, SouthWrapper::gate_fd(). The descriptor may be closed then. Not
  // mapped() when it cannot be: errno says why.
  explicit SouthGate(int gate_fd) : memory_(gate_fd, sizeof(south_control)) {}
  bool mapped() const { return static_cast<bool>(memory_); }

  // REQUIRES: mapped().
  void Open() const;
  // No packet for the service address that meets the filter from here on passes, in either direction.
  void Close() const;
  // Egress is silent from `deadline` on, gate open or not. Never shortens.
  void RenewUntil(std::chrono::steady_clock::time_point deadline) const;
  south_control* control() const { return static_cast<south_control*>(memory_.get()); }

 private:
  MappedMap memory_;
};

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_SOUTH_GATE_H_
