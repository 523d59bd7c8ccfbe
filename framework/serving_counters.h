// Names of Serving's counters in /metrics.
#ifndef UNDERSTUDY_FRAMEWORK_SERVING_COUNTERS_H_
#define UNDERSTUDY_FRAMEWORK_SERVING_COUNTERS_H_

#include <string>
#include <utility>
#include <vector>

#include "framework/serving.h"

namespace understudy {

inline void AppendServingCounters(const Serving::Counters& c,
                                  std::vector<std::pair<std::string, uint64_t>>& out) {
  out.emplace_back("connections_accepted_total", c.accepted);
  out.emplace_back("connections_ended_total", c.ended);
  out.emplace_back("connections_broken_total", c.broken);
  out.emplace_back("accepts_refused_total", c.accepts_refused);
  out.emplace_back("connections_superseded_total", c.superseded);
  out.emplace_back("handshakes_refused_total", c.half_open_refused);
  out.emplace_back("handshakes_evicted_total", c.half_open_evicted);
  out.emplace_back("handshakes_reset_total", c.half_open_reset);
  out.emplace_back("handshakes_expired_total", c.half_open_expired);
  out.emplace_back("handshakes_refused_elsewhere_total", c.refused_elsewhere);
  out.emplace_back("local_clients_total", c.local_clients);
  out.emplace_back("acks_past_programs_total", c.acks_past_programs);
  out.emplace_back("acks_sent_by_hand_total", c.acks_by_hand);
  out.emplace_back("syn_acks_sent_by_hand_total", c.syn_acks_by_hand);
  out.emplace_back("rsts_vouched_for_total", c.rsts_vouched);
  out.emplace_back("time_wait_acks_total", c.time_wait_acks);
  out.emplace_back("segments_resent_total", c.segments_resent);
  out.emplace_back("segments_refused_total", c.segments_refused);
  out.emplace_back("connections_regripped_total", c.regripped);
  out.emplace_back("fin_waits_restored_total", c.fin_waits_restored);
  out.emplace_back("received_bytes_total", c.bytes_received);
  out.emplace_back("sent_bytes_total", c.bytes_sent);
}

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_SERVING_COUNTERS_H_
