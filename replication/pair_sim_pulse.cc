// Stalls, and the pulse that goes on meanwhile.
#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "replication/pair_sim.h"

namespace understudy::replication {

void PairSim::NewPulse(int i) {
  Node& node = nodes_[i];
  node.pulse = std::make_unique<Pulse>(ConfigOf(i), milliseconds(400), [this, i](MonotonicTime until) {
    Node& node = nodes_[i];
    if (nodes_[1 - i].serves_until_now(now_))
      Fail(absl::StrCat(node.name, "'s pulse prolongs a second lease"));
    node.lease_until = std::max(node.lease_until, until);
  });
}

void PairSim::UpdatePulse(int i) {
  Node& node = nodes_[i];
  if (node.pulse == nullptr) return;
  if (const auto epoch = node.primary->pulse_epoch()) {
    node.pulse->Allow(*epoch, node.primary->version(), now_);
  } else {
    node.pulse->Forbid();
  }
}

void PairSim::Stall(int i, nanoseconds span) {
  Node& node = nodes_[i];
  if (!node.alive || node.paused || node.pulse == nullptr) return;
  Note(absl::StrCat(node.name, " stalls for ", span.count() / 1'000'000, " ms"));
  node.paused = node.stalled = true;
  node.pulse->Beat(now_);
  const int life = node.life;
  PulseThread(i, life);
  At(span, [this, i, life] {
    if (nodes_[i].life == life && nodes_[i].stalled) EndStall(i);
  });
}

void PairSim::EndStall(int i) {
  Node& node = nodes_[i];
  node.stalled = false;
  if (const auto answered = node.pulse->TakeAnswered()) {
    node.primary->OnPulseAnswered(answered->epoch, answered->sent_at, now_);
    Carry(i);
  }
  Pause(i, false);
}

void PairSim::PulseThread(int i, int life) {
  Node& node = nodes_[i];
  if (node.life != life || !node.stalled) return;
  const Pulse::Next next = node.pulse->OnWake(now_);
  if (next.send.has_value()) SendPulse(1 - i, Encode(*next.send, ""));
  if (next.wake_at == MonotonicTime::max()) return;
  At(next.wake_at - now_ + Delay(milliseconds(1)), [this, i, life] { PulseThread(i, life); });
}

// Lost, late, twice, in any order.
void PairSim::SendPulse(int to, const std::string& datagram) {
  for (int copies = random_() % 20 == 0 ? 2 : 1; copies > 0; --copies) {
    if (cut_ || random_() % 20 == 0) continue;
    const nanoseconds late = random_() % 20 == 0 ? Delay(milliseconds(300)) : nanoseconds(0);
    At(microseconds(20) + Delay(max_delay) + late, [this, to, datagram] { DeliverPulse(to, datagram); });
  }
}

void PairSim::DeliverPulse(int to, const std::string& datagram) {
  Node& node = nodes_[to];
  if (!node.alive) return;
  if (node.stalled) return node.pulse->OnDatagram(datagram, now_);
  ToNode(to, [this, to, datagram] {
    Node& node = nodes_[to];
    if (node.pulse != nullptr) return node.pulse->OnDatagram(datagram, now_);
    auto message = DecodePulse(datagram, "");
    if (!node.alive || message->answer) return;
    if (!node.secondary->OnPulse(message->epoch, message->version, now_)) return;
    message->answer = true;
    SendPulse(1 - to, Encode(*message, ""));
  });
}

}  // namespace understudy::replication
