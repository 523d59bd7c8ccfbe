// The gate of another process's south wrapper, for who outlives that process.
//
// A dead process is silent a few milliseconds after its death (south_wrapper.h). Who must know that it is,
// before it tells anybody, closes the gate itself.
#ifndef UNDERSTUDY_TCPSHIM_SOUTH_GATE_H_
#define UNDERSTUDY_TCPSHIM_SOUTH_GATE_H_

namespace understudy::tcpshim {

class SouthGate {
 public:
  SouthGate() = default;
  // Maps the switch behind SouthWrapper::gate_fd(), which may be closed then. It stays mapped as long as this
  // process lives. Not mapped() when it cannot be.
  explicit SouthGate(int gate_fd);
  bool mapped() const { return control_ != nullptr; }
  // No packet for the service address that meets the filter from here on passes, in either direction.
  // REQUIRES: mapped().
  void Close();

 private:
  void* control_ = nullptr;
};

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_SOUTH_GATE_H_
