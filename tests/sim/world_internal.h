// What the parts of World (world*.cc) have in common, and nobody else.
#ifndef UNDERSTUDY_TESTS_SIM_WORLD_INTERNAL_H_
#define UNDERSTUDY_TESTS_SIM_WORLD_INTERNAL_H_

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>

#include "framework/clock.h"
#include "tests/sim/world.h"

namespace understudy::sim {

inline constexpr Nanos kTurnInterval = milliseconds(1);  // timers of a node are late by up to this
inline constexpr int kHandlersPerTurn = 10'000;          // more than any turn has to do: it spins
inline constexpr Nanos kLivenessBound = std::chrono::seconds(30);
inline constexpr uint32_t kGhosts = 0xc6130000;         // addresses from here on are nobody's
inline constexpr Nanos kBeginning = milliseconds(210);  // about when the first primary begins to serve

inline constexpr int64_t kWallEpochUs = 1'700'000'000'000'000;

class HostClock final : public Clock {
 public:
  HostClock(const World* world, const Host* host) : world_(world), host_(host) {}
  std::chrono::steady_clock::time_point Monotonic() const override {
    return std::chrono::steady_clock::time_point(host_->Monotonic(world_->now()));
  }
  Nanos Boot() const override { return host_->Monotonic(world_->now()) + host_->hidden; }
  int64_t WallMicroseconds() const override {
    // It is slewed as CLOCK_MONOTONIC is.
    const Nanos passed = host_->Monotonic(world_->now()) - host_->clock_offset;
    return kWallEpochUs + passed.count() / 1000 + host_->wall_ahead_us;
  }

 private:
  const World* const world_;
  const Host* const host_;
};

// Sets whose code it is that runs, for as long as it does.
class Running {
 public:
  explicit Running(Process* process) : before_(std::exchange(World::current, process)) {}
  ~Running() { World::current = before_; }

 private:
  Process* const before_;
};

inline std::string Bytes(World& world, size_t size) {
  std::string bytes(size, 0);
  for (char& byte : bytes) byte = static_cast<char>('a' + world.Random(26));
  return bytes;
}

inline bool IsPrefix(const std::string& shorter, const std::string& longer) {
  return shorter.size() <= longer.size() && longer.compare(0, shorter.size(), shorter) == 0;
}

}  // namespace understudy::sim

#endif  // UNDERSTUDY_TESTS_SIM_WORLD_INTERNAL_H_
