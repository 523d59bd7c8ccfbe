#include "tcpshim/south_gate.h"

#include <sys/mman.h>

#include <atomic>

#include "tcpshim/south_shared.h"

namespace understudy::tcpshim {

SouthGate::SouthGate(int gate_fd) {
  void* const memory = mmap(nullptr, sizeof(south_control), PROT_READ | PROT_WRITE, MAP_SHARED, gate_fd, 0);
  if (memory != MAP_FAILED) control_ = memory;
}

void SouthGate::Close() { std::atomic_ref(static_cast<south_control*>(control_)->gate).store(0u); }

}  // namespace understudy::tcpshim
