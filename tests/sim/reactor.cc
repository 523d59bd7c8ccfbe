// The system calls of Boost.Asio's reactor, without a system. Its epoll set never blocks: it always
// says that its timer has fired, so that the reactor compares its timers with the simulated clock,
// and it says that the south wrapper's descriptor is readable when there are events. Besides, this
// makes a turn of a node's loop cost microseconds.
#include <sys/epoll.h>
#include <sys/timerfd.h>

#include <cstdint>
#include <map>
#include <utility>

#include "tests/sim/world.h"

namespace {

// Edge-triggered, as the reactor wants it: said once for each change, and once when watched anew.
struct Watched {
  epoll_event event;
  uint64_t said = ~uint64_t{0};  // South::events_made when it was last said
};
struct EpollSet {
  std::map<int, Watched> watched;
};
std::map<int, EpollSet>& Sets() {
  static auto* sets = new std::map<int, EpollSet>;
  return *sets;
}
constexpr int kFirstEpoll = 1 << 26;
constexpr int kTimer = 1 << 27;
int made = 0;

}  // namespace

extern "C" {

int epoll_create1(int) {
  Sets()[kFirstEpoll + ++made];
  return kFirstEpoll + made;
}

int epoll_ctl(int set, int operation, int fd, epoll_event* event) {
  auto& watched = Sets()[set].watched;
  if (operation == EPOLL_CTL_DEL) {
    watched.erase(fd);
  } else {
    watched[fd] = Watched{*event};
  }
  return 0;
}

int epoll_wait(int set, epoll_event* events, int, int) {
  int count = 0;
  const auto* process = understudy::sim::World::current;
  for (auto& [fd, watched] : Sets()[set].watched) {
    if (fd != kTimer) {
      if (process == nullptr || fd != process->event_fd || process->south.events.empty()) continue;
      if (std::exchange(watched.said, process->south.events_made) == process->south.events_made) continue;
    }
    events[count] = watched.event;
    events[count++].events = EPOLLIN;
  }
  return count;
}

int timerfd_create(int, int) { return kTimer; }
int timerfd_settime(int, int, const itimerspec*, itimerspec*) { return 0; }

}  // extern "C"

namespace understudy::sim {
void ForgetReactors() {
  Sets().clear();
  made = 0;
}
}  // namespace understudy::sim
