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
  south_connection& At(Slot slot) { return process->south.connections.at(slot); }
};

SouthWrapper::SouthWrapper(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SouthWrapper::~SouthWrapper() { impl_->south().control.gate = 0; }

absl::StatusOr<std::unique_ptr<SouthWrapper>> SouthWrapper::Attach(const Options&) {
  return std::unique_ptr<SouthWrapper>(new SouthWrapper(std::make_unique<Impl>(Impl{World::current})));
}

void SouthWrapper::OpenGate() {
  if (impl_->process->dead) return;
  impl_->south().control.gate = 1;
  impl_->process->world->GateOpened(*impl_->process);
}
void SouthWrapper::CloseGate() {
  impl_->south().closings += impl_->south().is_open();
  impl_->south().control.gate = 0;
}
int SouthWrapper::gate_fd() const { return -1; }
void SouthWrapper::RenewUntil(std::chrono::steady_clock::time_point deadline) {
  // The guard is a quarter of 80 ms (PairNode).
  if (World::now_in->mutations().no_lease_guard) deadline += std::chrono::milliseconds(20);
  south_renew(&impl_->south().control, static_cast<__u64>(deadline.time_since_epoch().count()));
}

absl::StatusOr<SouthWrapper::Slot> SouthWrapper::Add(const FourTuple& tuple, Seq iss, Seq stable,
                                                     uint32_t flags, uint8_t rcv_wscale,
                                                     const ServerView* said) {
  sim::South& south = impl_->south();
  if (south.slots.contains(tuple)) return absl::AlreadyExistsError(tuple.ToString());
  south_connection& c = south.connections.emplace_back();
  south_begin(&c, iss, stable, flags, rcv_wscale);
  if (said != nullptr) south_begin_restored(&c, said);
  south.tuples.push_back(tuple);
  return south.slots[tuple] = static_cast<Slot>(south.connections.size() - 1);
}
void SouthWrapper::SetWindowLimit(Slot slot, uint32_t bytes) { impl_->At(slot).window_limit = bytes; }
void SouthWrapper::Remove(Slot slot) { impl_->south().slots.erase(impl_->south().tuples.at(slot)); }
void SouthWrapper::Allow(Slot slot, uint32_t flags) { impl_->At(slot).flags |= flags; }
void SouthWrapper::Disallow(Slot slot, uint32_t flags) { impl_->At(slot).flags &= ~flags; }
void SouthWrapper::SetStable(Slot slot, Seq stable) { south_set_stable(&impl_->At(slot), stable); }

bool SouthWrapper::WakeWhenAcked(Slot slot, Seq una) {
  return south_wake_when_acked(&impl_->At(slot), una) != 0;
}

std::optional<SouthWrapper::HeldAck> SouthWrapper::TakeHeldAck(Slot slot) {
  HeldAck held;
  if (!south_take_held(&impl_->At(slot), &held)) return std::nullopt;
  return held;
}

std::optional<SouthWrapper::ClientView> SouthWrapper::Client(Slot slot) const {
  ClientView client;
  if (!south_read_client(&impl_->At(slot), &client)) return std::nullopt;
  return client;
}
std::optional<SouthWrapper::ServerView> SouthWrapper::Sent(Slot slot) const {
  ServerView sent;
  if (!south_read_sent(&impl_->At(slot), &sent)) return std::nullopt;
  return sent;
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
  south_note_past(&impl_->At(slot), snd_max, una);
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
