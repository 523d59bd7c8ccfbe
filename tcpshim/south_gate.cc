#include "tcpshim/south_gate.h"

#include <algorithm>
#include <cstdint>

#include "tcpshim/verdict.h"

namespace understudy::tcpshim {

void SouthGate::Open() const { SOUTH_STORE(control()->gate, 1u); }
void SouthGate::Close() const { SOUTH_STORE(control()->gate, 0u); }

void SouthGate::RenewUntil(std::chrono::steady_clock::time_point deadline) const {
  // steady_clock is CLOCK_MONOTONIC, and so is bpf_ktime_get_ns.
  const auto since = std::chrono::duration_cast<std::chrono::nanoseconds>(deadline.time_since_epoch());
  south_renew(control(), static_cast<__u64>(std::max<int64_t>(since.count(), 0)));
}

}  // namespace understudy::tcpshim
