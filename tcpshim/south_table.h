// The connections that the south wrapper's programs know: a shared array, and which slot of it is whose.
#ifndef UNDERSTUDY_TCPSHIM_SOUTH_TABLE_H_
#define UNDERSTUDY_TCPSHIM_SOUTH_TABLE_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "tcpshim/south_maps.h"
#include "tcpshim/south_shared.h"
#include "tcpshim/tcp_types.h"

namespace understudy::tcpshim {

// Belongs to one thread.
class SouthTable {
 public:
  using Slot = uint32_t;

  // Empty; nobody else writes the maps. Their descriptors must outlive the result. Errors as
  // SouthWrapper::Attach.
  static absl::StatusOr<std::unique_ptr<SouthTable>> Map(const SouthMaps& maps, const SocketAddress& service);

  // Segments of `tuple` meet a copy of `connection` from here on. Errors as SouthWrapper::Add.
  absl::StatusOr<Slot> Add(const FourTuple& tuple, const south_connection& connection);
  void Remove(Slot slot);
  // Shared with the kernel: by the functions of verdict.h, or atomically. REQUIRES: added, and not removed.
  south_connection& At(Slot slot) const;

 private:
  SouthTable(const SouthMaps& maps, const SocketAddress& service, MappedMap memory)
      : maps_(maps),
        service_(service),
        memory_(std::move(memory)),
        connections_(static_cast<south_connection*>(memory_.get())) {}

  const SouthMaps maps_;
  const SocketAddress service_;
  const MappedMap memory_;
  south_connection* const connections_;

  // Slots that were never used come first, then those freed longest ago: a program that still holds a
  // pointer to a freed slot must be through with it before the slot is another connection's.
  Slot next_unused_ = 0;
  std::deque<Slot> freed_;
  std::vector<FourTuple> tuples_;  // by slot
  std::vector<bool> used_;
};

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_SOUTH_TABLE_H_
