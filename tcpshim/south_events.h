// What the south wrapper's programs report and count.
#ifndef UNDERSTUDY_TCPSHIM_SOUTH_EVENTS_H_
#define UNDERSTUDY_TCPSHIM_SOUTH_EVENTS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "tcpshim/south_maps.h"
#include "tcpshim/south_shared.h"

struct ring_buffer;

namespace understudy::tcpshim {

class SouthEvents {
 public:
  using Handler = std::function<void(const south_event&)>;

  // The descriptors in `maps` must outlive the result. Errors as SouthWrapper::Attach.
  static absl::StatusOr<std::unique_ptr<SouthEvents>> Open(const SouthMaps& maps);
  ~SouthEvents();

  // See SouthWrapper.
  int fd() const;
  int Poll(const Handler& handle, int limit);
  std::array<uint64_t, SOUTH_COUNTERS> Counters() const;

 private:
  explicit SouthEvents(int counters_fd) : counters_fd_(counters_fd) {}
  static int OnEvent(void* context, void* data, size_t size);

  const int counters_fd_;
  ring_buffer* ring_ = nullptr;
  const Handler* handler_ = nullptr;  // during Poll
  int left_ = 0;
  int handled_ = 0;
};

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_SOUTH_EVENTS_H_
