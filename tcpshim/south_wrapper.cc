#include "tcpshim/south_wrapper.h"

#include <glog/logging.h>

namespace understudy::tcpshim {
namespace {

constexpr std::array<const char*, SOUTH_COUNTERS> kCounterNames = {
    "egress_passed",        "egress_silent_gate",   "egress_silent_deadline",
    "egress_syn_ack_held",  "egress_ack_held",      "egress_ack_clamped",
    "egress_fin_discarded", "egress_rst_discarded", "egress_rst_unknown",
    "egress_by_hand",       "egress_malformed",     "ingress_passed",
    "ingress_silent",       "ingress_malformed",    "events_lost",
    "egress_other",         "egress_owner_dead",    "egress_syn_unknown",
    "egress_stray",         "ingress_other",        "ingress_owner_dead",
    "ingress_no_socket",    "egress_rst_limited",   "egress_elsewhere",
    "egress_probe",         "ingress_probe",
};
static_assert(kCounterNames.back() != nullptr, "each counter has a name");

}  // namespace

const char* SouthWrapper::CounterName(int counter) {
  CHECK_GE(counter, 0);
  CHECK_LT(counter, static_cast<int>(SOUTH_COUNTERS));
  return kCounterNames[static_cast<size_t>(counter)];
}

absl::StatusOr<SouthWrapper::Slot> SouthWrapper::Add(const FourTuple& tuple, Seq iss, Seq stable,
                                                     uint32_t flags, uint8_t rcv_wscale,
                                                     const ServerView* said) {
  south_connection connection;
  south_begin(&connection, iss, stable, flags, rcv_wscale);
  if (said != nullptr) south_begin_restored(&connection, said);
  return Insert(tuple, connection);
}

void SouthWrapper::SetWindowLimit(Slot slot, uint32_t bytes) { SOUTH_STORE(At(slot).window_limit, bytes); }
void SouthWrapper::Allow(Slot slot, uint32_t flags) { south_allow(&At(slot), flags); }
void SouthWrapper::Disallow(Slot slot, uint32_t flags) { south_disallow(&At(slot), flags); }
void SouthWrapper::SetStable(Slot slot, Seq stable) { south_set_stable(&At(slot), stable); }

std::optional<SouthWrapper::HeldAck> SouthWrapper::TakeHeldAck(Slot slot) {
  HeldAck held;
  if (!south_take_held(&At(slot), &held)) return std::nullopt;
  return held;
}

std::optional<SouthWrapper::ClientView> SouthWrapper::Client(Slot slot) const {
  ClientView client;
  if (!south_read_client(&At(slot), &client)) return std::nullopt;
  return client;
}

std::optional<SouthWrapper::ServerView> SouthWrapper::Sent(Slot slot) const {
  ServerView sent;
  if (!south_read_sent(&At(slot), &sent)) return std::nullopt;
  return sent;
}

bool SouthWrapper::WakeWhenAcked(Slot slot, Seq una) { return south_wake_when_acked(&At(slot), una) != 0; }
void SouthWrapper::NotePast(Slot slot, Seq snd_max, Seq una) { south_note_past(&At(slot), snd_max, una); }

}  // namespace understudy::tcpshim
