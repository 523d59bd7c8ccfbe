// The south wrapper and its sender, filled in for the simulator at link time.
#include <algorithm>
#include <chrono>
#include <utility>

#include "absl/status/status.h"
#include "tcpshim/raw_sender.h"
#include "tcpshim/south_wrapper.h"
#include "tests/sim/world.h"

namespace understudy::sim {
namespace {
Process& Here() { return *World::current; }
}  // namespace
}  // namespace understudy::sim

// --- The south wrapper, segments by hand, endpoints, the service address -------------------------

namespace understudy::tcpshim {

using sim::Here;
using sim::World;

struct SouthWrapper::Impl {
  sim::Process* process;
  sim::South& south() { return process->south; }
  sim::South::Connection& At(Slot slot) { return *process->south.slots.at(slot); }
};

SouthWrapper::SouthWrapper(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SouthWrapper::~SouthWrapper() { impl_->south().gate = false; }

absl::StatusOr<std::unique_ptr<SouthWrapper>> SouthWrapper::Attach(const Options&) {
  return std::unique_ptr<SouthWrapper>(new SouthWrapper(std::make_unique<Impl>(Impl{World::current})));
}

void SouthWrapper::OpenGate() {
  if (impl_->process->dead) return;
  impl_->south().gate = true;
  impl_->process->world->GateOpened(*impl_->process);
}
void SouthWrapper::CloseGate() {
  impl_->south().closings += impl_->south().gate;
  impl_->south().gate = false;
}
int SouthWrapper::gate_fd() const { return -1; }
void SouthWrapper::RenewUntil(std::chrono::steady_clock::time_point deadline) {
  // The guard is a quarter of 80 ms (PairNode).
  if (World::now_in->mutations().no_lease_guard) deadline += std::chrono::milliseconds(20);
  impl_->south().deadline_ns =
      std::max<int64_t>(impl_->south().deadline_ns, deadline.time_since_epoch().count());
}

absl::StatusOr<SouthWrapper::Slot> SouthWrapper::Add(const FourTuple& tuple, Seq iss, Seq stable,
                                                     uint32_t flags, uint8_t rcv_wscale,
                                                     const ServerView* said) {
  sim::South& south = impl_->south();
  if (south.by_tuple.contains(tuple)) return absl::AlreadyExistsError(tuple.ToString());
  sim::South::Connection connection;
  connection.tuple = tuple;
  connection.iss = iss;
  connection.stable = connection.held_ack = stable;
  connection.flags = flags;
  connection.shift = rcv_wscale;
  if (said != nullptr) {
    connection.snd_max = said->snd_max;
    connection.last_ack = said->last_ack;
    connection.rcv_edge = said->rcv_edge;
    connection.last_tsval = said->tsval;
    connection.egress_seen = true;
  }
  south.slots.push_back(connection);
  return south.by_tuple[tuple] = static_cast<Slot>(south.slots.size() - 1);
}
void SouthWrapper::SetWindowLimit(Slot slot, uint32_t bytes) { impl_->At(slot).window_limit = bytes; }
void SouthWrapper::Remove(Slot slot) { impl_->south().by_tuple.erase(impl_->At(slot).tuple); }
void SouthWrapper::Allow(Slot slot, uint32_t flags) { impl_->At(slot).flags |= flags; }
void SouthWrapper::Disallow(Slot slot, uint32_t flags) { impl_->At(slot).flags &= ~flags; }
void SouthWrapper::SetStable(Slot slot, Seq stable) {
  impl_->At(slot).stable = SeqMax(impl_->At(slot).stable, stable);
}

bool SouthWrapper::WakeWhenAcked(Slot slot, Seq una) {
  sim::South::Connection& c = impl_->At(slot);
  c.wake_at = una;
  c.wake_armed = !c.ingress_seen || SeqBefore(c.una, una);
  return !c.wake_armed;
}

std::optional<SouthWrapper::HeldAck> SouthWrapper::TakeHeldAck(Slot slot) {
  sim::South::Connection& c = impl_->At(slot);
  if (!std::exchange(c.held, false)) return std::nullopt;
  HeldAck out{c.held_seq, c.held_ack, c.held_window, c.held_tsval, 0};
  Seq edge = out.ack + (uint32_t{out.window} << c.shift);
  const bool whole = !SeqBefore(c.stable, out.ack);
  if (!whole) {
    out.ack = c.stable;
    c.held = true;
  }
  if (c.egress_seen) {
    edge = SeqMax(edge, c.rcv_edge);
    out.seq = SeqMax(out.seq, c.snd_max);
    if (out.tsval != 0) out.tsval = SeqMax(out.tsval, c.last_tsval);
  }
  uint32_t room = edge - out.ack;
  if (c.window_limit != 0) room = std::min(room, c.window_limit);
  uint32_t window = room >> c.shift;
  if (c.egress_seen && SeqAfter(c.rcv_edge, out.ack + (window << c.shift))) {
    window = (c.rcv_edge - out.ack + (1u << c.shift) - 1) >> c.shift;
  }
  out.window = static_cast<uint16_t>(std::min<uint32_t>(window, 65535));
  if (!c.egress_seen || SeqAfter(out.ack, c.last_ack)) return out;
  if (whole && SeqAfter(out.ack + (uint32_t{out.window} << c.shift), c.rcv_edge)) return out;
  return std::nullopt;
}

std::optional<SouthWrapper::ClientView> SouthWrapper::Client(Slot slot) const {
  const sim::South::Connection& c = impl_->At(slot);
  if (!c.ingress_seen) return std::nullopt;
  return ClientView{c.una, c.window, c.client_tsval};
}
std::optional<SouthWrapper::ServerView> SouthWrapper::Sent(Slot slot) const {
  const sim::South::Connection& c = impl_->At(slot);
  if (!c.egress_seen) return std::nullopt;
  return ServerView{c.snd_max, c.last_ack, c.rcv_edge, c.last_tsval};
}

int SouthWrapper::event_fd() const { return -1; }
int SouthWrapper::PollEvents(const std::function<void(const south_event&)>& handle, int limit) {
  int handled = 0;
  auto& events = impl_->south().events;
  while (!events.empty() && handled < limit) {
    const south_event event = events.front();
    events.pop_front();
    handle(event);
    ++handled;
  }
  return handled;
}
absl::Status SouthWrapper::Check() {
  sim::Host& host = *impl_->process->host;
  if (!host.bypassed || World::now_in->mutations().blind_fence) return absl::OkStatus();
  if (host.bypass_stays && std::exchange(host.bypass_found_later, false)) {
    // The next look falls into a moment in which what clients are told is not stable at once.
    World::now_in->SlowReplication(std::chrono::milliseconds(490), std::chrono::milliseconds(20));
    return absl::OkStatus();
  }
  if (host.bypass_stays) return absl::UnavailableError("packets get past the programs");
  host.bypassed = false;
  ++host.times_mended;
  return absl::OkStatus();
}
int SouthWrapper::change_fd() const { return -1; }
uint64_t SouthWrapper::mended() const { return impl_->process->host->times_mended; }
void SouthWrapper::NotePast(Slot slot, Seq snd_max, Seq una) {
  sim::South::Connection& c = impl_->At(slot);
  if (c.egress_seen) c.snd_max = SeqMax(c.snd_max, snd_max);
  if (c.ingress_seen) c.una = SeqMax(c.una, una);
}
absl::Status SouthWrapper::FollowInterface() { return absl::OkStatus(); }  // interfaces stay
std::array<uint64_t, SOUTH_COUNTERS> SouthWrapper::Counters() const { return {}; }
const char* SouthWrapper::CounterName(int) { return "none"; }

absl::StatusOr<std::unique_ptr<RawSender>> RawSender::Open() {
  return std::unique_ptr<RawSender>(new RawSender(UniqueFd(), 1, 1));
}
absl::Status RawSender::Send(const Segment& segment) {
  sim::Packet packet;
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
  Here().world->Egress(*Here().host, std::move(packet), /*by_hand=*/true);
  return absl::OkStatus();
}

}  // namespace understudy::tcpshim
