#include "tests/sim/sim_south.h"

#include <string>
#include <utility>

namespace understudy::sim {

SimSouth::~SimSouth() { process_->south.control.gate = 0; }

absl::Status SimSouth::Check() {
  Host& host = *process_->host;
  World& world = *process_->world;
  if (!host.bypassed || world.mutations().blind_fence) return absl::OkStatus();
  if (host.bypass_stays && std::exchange(host.bypass_found_later, false)) {
    // The next look falls into a moment in which what clients are told is not stable at once.
    world.SlowReplication(std::chrono::milliseconds(490), std::chrono::milliseconds(20));
    return absl::OkStatus();
  }
  if (host.bypass_stays) return absl::UnavailableError("packets get past the programs");
  host.bypassed = false;
  ++host.times_mended;
  return absl::OkStatus();
}

void SimSouth::OpenGate() {
  if (process_->dead) return;
  process_->south.control.gate = 1;
  process_->world->GateOpened(*process_);
}

void SimSouth::CloseGate() {
  process_->south.closings += process_->south.is_open();
  process_->south.control.gate = 0;
}

void SimSouth::RenewUntil(std::chrono::steady_clock::time_point deadline) {
  // The guard is a quarter of 80 ms (PairNode).
  if (process_->world->mutations().no_lease_guard) deadline += std::chrono::milliseconds(20);
  south_renew(&process_->south.control, static_cast<__u64>(deadline.time_since_epoch().count()));
}

absl::StatusOr<SimSouth::Slot> SimSouth::Insert(const FourTuple& tuple, const south_connection& connection) {
  South& south = process_->south;
  if (south.slots.contains(tuple)) return absl::AlreadyExistsError(tuple.ToString());
  south.connections.push_back(connection);
  south.tuples.push_back(tuple);
  return south.slots[tuple] = static_cast<Slot>(south.connections.size() - 1);
}

void SimSouth::Remove(Slot slot) { process_->south.slots.erase(process_->south.tuples.at(slot)); }

int SimSouth::PollEvents(const std::function<void(const south_event&)>& handle, int limit) {
  int handled = 0;
  auto& events = process_->south.events;
  while (!events.empty() && handled < limit) {
    const south_event event = events.front();
    events.pop_front();
    handle(event);
    ++handled;
  }
  return handled;
}

absl::Status SimRawSender::Send(const tcpshim::Segment& segment) {
  Packet packet;
  packet.source = segment.source;
  packet.destination = segment.destination;
  packet.seq = segment.seq;
  packet.ack = segment.ack;
  packet.flags = segment.flags;
  packet.window = segment.window;
  packet.wscale = segment.wscale;
  if (segment.timestamps.has_value()) {
    packet.timestamp_option = true;
    packet.tsval = segment.timestamps->val;
  }
  packet.payload = std::string(segment.payload);
  process_->world->Egress(*process_->host, std::move(packet), /*by_hand=*/true);
  return absl::OkStatus();
}

}  // namespace understudy::sim
