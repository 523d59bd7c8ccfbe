// Where connections are aborted because they need too much memory, or make the Server throw. Part of the
// replicated state machine: the same on both nodes.
#ifndef UNDERSTUDY_FRAMEWORK_LIMITS_H_
#define UNDERSTUDY_FRAMEWORK_LIMITS_H_

#include <cstddef>

namespace understudy {

// What comes of a call of the Server that throws: see Server::Transactional.
enum class OnPoison { kAsServerSays, kStop, kDropConnection };

struct Limits {
  size_t pending_output = size_t{64} << 20;  // of one connection, bytes; with more it may send no more
  size_t buffered = size_t{512} << 20;       // pending output and unread input of all, bytes
  OnPoison on_poison = OnPoison::kAsServerSays;
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_LIMITS_H_
