// What a node says of itself.
#include "absl/strings/str_cat.h"
#include "framework/pair_node.h"

namespace understudy {

const char* PairNode::State() const { return role_ == nullptr ? "starting" : role_->state(); }

NodeStatus PairNode::Status() const {
  NodeStatus status;
  status.reason = fence_reason_;
  role_->Describe(status);
  status.state = State();
  status.node = config_.node;
  if (witness_died_) status.warnings.push_back(kWitnessDied);
  status.clock_off_ms = ClockOffUs() / 1000;
  auto& out = status.counters;
  out.emplace_back("links_accepted_total", counters_.links_accepted);
  out.emplace_back("links_closed_for_cause_total", counters_.links_closed_for_cause);
  out.emplace_back("links_turned_away_total", links_.transport().turned_away());
  out.emplace_back("joins_refused_total", counters_.joins_refused);
  out.emplace_back("dials_total", counters_.dials);
  out.emplace_back("takeovers_total", counters_.takeovers);
  out.emplace_back("service_address_conflicts_total", frontend_.watch().conflicts());
  out.emplace_back("service_address_put_back_total", frontend_.address().times_put_back());
  out.emplace_back("batches_total", counters_.batches);
  out.emplace_back("arbiter_calls_total", counters_.arbiter_calls);
  out.emplace_back("arbiter_failures_total", counters_.arbiter_failures);
  const auto pulses = pulse_.counters();
  out.emplace_back("pulses_sent_total", pulses.sent);
  out.emplace_back("pulses_answered_total", pulses.answered);
  out.emplace_back("pulses_heard_total", counters_.pulses_heard);
  out.emplace_back("pulse_datagrams_dropped_total", counters_.pulses_dropped + pulses.dropped);
  out.emplace_back("last_words_heard_total", counters_.last_words_heard);
  out.emplace_back("stalls_total", counters_.stalls);
  out.emplace_back("south_programs_put_back_total", frontend_.south().mended());
  out.emplace_back("absences_total", counters_.absences);
  const auto south = frontend_.south().Counters();
  for (int i = 0; i < SOUTH_COUNTERS; ++i) {
    out.emplace_back(absl::StrCat("south_", tcpshim::SouthWrapper::CounterName(i), "_total"), south[i]);
  }
  return status;
}

}  // namespace understudy
