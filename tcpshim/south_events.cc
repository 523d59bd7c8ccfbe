#include "tcpshim/south_events.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <glog/logging.h>

#include <cerrno>
#include <cstring>
#include <vector>

#include "tcpshim/south_error.h"

namespace understudy::tcpshim {

absl::StatusOr<std::unique_ptr<SouthEvents>> SouthEvents::Open(const SouthMaps& maps) {
  std::unique_ptr<SouthEvents> events(new SouthEvents(maps.counters));
  events->ring_ = ring_buffer__new(maps.events, &OnEvent, events.get(), nullptr);
  if (events->ring_ == nullptr) return SouthError("opening the ring buffer", errno);
  // Behind the other: it is emptied first.
  const int error = ring_buffer__add(events->ring_, maps.strays, &OnEvent, events.get());
  if (error != 0) return SouthError("opening the second ring buffer", -error);
  return events;
}

SouthEvents::~SouthEvents() {
  if (ring_ != nullptr) ring_buffer__free(ring_);
}

int SouthEvents::fd() const { return ring_buffer__epoll_fd(ring_); }

int SouthEvents::OnEvent(void* context, void* data, size_t size) {
  auto* self = static_cast<SouthEvents*>(context);
  if (size >= sizeof(south_event)) {
    south_event event;
    memcpy(&event, data, sizeof(event));
    ++self->handled_;
    (*self->handler_)(event);
  }
  // A negative number ends the round behind this event.
  return --self->left_ > 0 ? 0 : -ECANCELED;
}

int SouthEvents::Poll(const Handler& handle, int limit) {
  if (limit <= 0) return 0;
  CHECK(handler_ == nullptr) << "PollEvents inside PollEvents";
  handler_ = &handle;
  left_ = limit;
  handled_ = 0;
  const int result = ring_buffer__consume(ring_);
  handler_ = nullptr;
  LOG_IF(ERROR, result < 0 && result != -ECANCELED) << "south wrapper: ring buffer: " << strerror(-result);
  return handled_;
}

std::array<uint64_t, SOUTH_COUNTERS> SouthEvents::Counters() const {
  std::array<uint64_t, SOUTH_COUNTERS> sums = {};
  const int cpus = libbpf_num_possible_cpus();
  if (cpus <= 0) return sums;
  std::vector<std::array<uint64_t, SOUTH_COUNTERS>> values(static_cast<size_t>(cpus));
  const uint32_t zero = 0;
  if (bpf_map_lookup_elem(counters_fd_, &zero, values.data()) != 0) {
    LOG(ERROR) << "south wrapper: reading the counters: " << strerror(errno);
    return sums;
  }
  for (const auto& one : values) {
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += one[i];
  }
  return sums;
}

}  // namespace understudy::tcpshim
