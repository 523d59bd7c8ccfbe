// Time as the protocol counts it.
#ifndef UNDERSTUDY_REPLICATION_MONOTONIC_TIME_H_
#define UNDERSTUDY_REPLICATION_MONOTONIC_TIME_H_

#include <chrono>
#include <cstdint>

namespace understudy::replication {

// CLOCK_MONOTONIC; the caller passes the current time with each event, never smaller than before.
using MonotonicTime = std::chrono::time_point<std::chrono::steady_clock, std::chrono::nanoseconds>;
using std::chrono::milliseconds;
using std::chrono::nanoseconds;

// As it goes over the wire.
inline int64_t ToNs(MonotonicTime time) { return time.time_since_epoch().count(); }
inline MonotonicTime FromNs(int64_t ns) { return MonotonicTime(nanoseconds(ns)); }

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_MONOTONIC_TIME_H_
