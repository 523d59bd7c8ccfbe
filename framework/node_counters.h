// What a node of a pair counts, whatever its role.
#ifndef UNDERSTUDY_FRAMEWORK_NODE_COUNTERS_H_
#define UNDERSTUDY_FRAMEWORK_NODE_COUNTERS_H_

#include <cstdint>

namespace understudy {

struct NodeCounters {
  uint64_t links_accepted = 0, links_closed_for_cause = 0, joins_refused = 0, takeovers = 0;
  uint64_t batches = 0, dials = 0, arbiter_calls = 0, arbiter_failures = 0;
  uint64_t pulses_heard = 0, pulses_dropped = 0, last_words_heard = 0, stalls = 0, absences = 0;
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_NODE_COUNTERS_H_
