// What goes wrong in a world.
#include "tests/sim/world.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "replication/last_word.h"
#include "tests/sim/sim_transport.h"

namespace understudy::sim {

// --- Faults --------------------------------------------------------------------------------------

void World::ScheduleFaults(Nanos until) {
  for (int count = static_cast<int>(Random(9)); count > 0; --count) {
    At(milliseconds(80) + RandomNanos(until - now_ - milliseconds(80)), [this] { OneFault(); });
  }
}

// No more dies than the pair survives.
bool World::MayDie(const Host& host) const {
  const Host& other = hosts_[1 - host.index];
  if (host.process == nullptr || other.process == nullptr) return false;
  if (!host.alive() || !other.alive() || other.process->failed) return false;
  // A question under way may make a node the only holder in the moment after its death.
  if (host.process->asking > 0) return false;
  if (lives_.holder == host.process.get()) return lives_.secondary == other.process.get();
  return lives_.holder == other.process.get();
}

void World::OneFault() {
  Host& host = hosts_[Random(2)];
  if (host.process == nullptr || !host.alive()) return;
  const Nanos span = milliseconds(1) + RandomNanos(Chance(60) ? milliseconds(150) : milliseconds(600));
  switch (Random(19)) {
    case 0:
    case 1:
      if (MayDie(host)) Kill(host, /*power=*/false);
      break;
    case 2:
    case 3:
      if (MayDie(host)) Kill(host, /*power=*/true);
      break;
    case 4: {
      const int which = static_cast<int>(Random(3));  // one way, the other, both
      if (which == 2 && Chance(50)) {
        SetRejects(true);
        At(span, [this] { SetRejects(false); });
      }
      for (int from = 0; from < 2; ++from) {
        if (which != 2 && which != from) continue;
        SetReplication(from, false);
        At(span, [this, from] { SetReplication(from, true); });
      }
      break;
    }
    case 5:
      SetCarrier(host, false);
      At(span, [this, &host] { SetCarrier(host, true); });
      break;
    case 6:  // one way of the service interface; no carrier tells
      Note(absl::StrCat(host.name, ": service interface is cut one way"));
      (Chance(50) ? host.service_in : host.service_out) = false;
      At(span, [&host] { host.service_in = host.service_out = true; });
      break;
    case 7:  // isolated
      SetCarrier(host, false);
      SetReplication(0, false);
      SetReplication(1, false);
      At(span, [this, &host] {
        SetCarrier(host, true);
        SetReplication(0, true);
        SetReplication(1, true);
      });
      break;
    case 8:
    case 9:
      Stop(host, true);
      At(span, [this, &host] { Stop(host, false); });
      break;
    case 10:
      Note(absl::StrCat(host.name, " is slow"));
      host.slow = true;
      At(span, [&host] { host.slow = false; });
      break;
    case 12:
    case 13:
      stall_percent_ = static_cast<int>(1 + Random(50));
      At(span, [this] { stall_percent_ = 0; });
      break;
    case 14: TakeAddressAway(host); break;
    case 15:
      Note(absl::StrCat(host.name, ": the port is taken"));
      host.port_taken = true;
      At(3 * span, [&host] { host.port_taken = false; });
      break;
    case 16:
      Note(absl::StrCat(host.name, "'s replay hangs"));
      host.replay_hangs = true;
      At(4 * span, [&host] { host.replay_hangs = false; });
      break;
    case 18:
      Bypass(host, Chance(30));
      At(4 * span, [&host] { host.bypassed = false; });
      break;
    case 17: {
      const int64_t us = static_cast<int64_t>(Random(Chance(50) ? 200'000 : 200'000'000));
      host.wall_ahead_us += Chance(50) ? us : -us;
      Note(absl::StrCat(host.name, "'s wall clock is set: ", host.wall_ahead_us / 1000, " ms ahead now"));
      break;
    }
    case 11:
      Note("the arbiter is slow and forgets");
      arbiter_slow_ = Chance(60);
      arbiter_lost_percent_ = Chance(60) ? 50 : 0;
      At(span, [this] {
        arbiter_slow_ = false;
        arbiter_lost_percent_ = 0;
      });
      break;
  }
}

void World::Kill(Host& host, bool power) {
  Note(absl::StrCat(host.name, power ? ": power is cut" : " is killed"));
  Process& process = *host.process;
  process.dead = true;
  if (restarts_) {
    At(milliseconds(1) + RandomNanos(milliseconds(Chance(50) ? 60 : 500)), [this, &host] { Restart(host); });
  }
  if (power) {
    host.powered = false;
    return;
  }
  CloseLinksOf(process);
  SayLastWord(process);
  // The kernel closes the sockets of the dead: a RST where something is unread, else a FIN.
  for (auto& [tuple, socket] : host.sockets) {
    if (socket.tcp->readable() > 0 || Chance(30)) {
      socket.tcp->Reset();
    } else {
      socket.tcp->Shutdown();
    }
  }
  host.sockets.clear();
  host.past.clear();
}

void World::Bypass(Host& host, bool stays) {
  Note(absl::StrCat(host.name, ": packets get past the programs", stays ? ", and it cannot be helped" : ""));
  host.bypassed = true;
  host.bypass_stays = stays;
}

void World::SetReplication(int from, bool passes) {
  if (replication_passes_[from] == passes) return;
  Note(absl::StrCat("replication from ", hosts_[from].name, passes ? " passes" : " is cut"));
  replication_passes_[from] = passes;
  if (!passes) return;
  for (const auto& run : std::exchange(waiting_, {})) run();
}

// Nothing passes a firewall that rejects, and what was connected is torn down.
void World::SetRejects(bool rejects) {
  if (rejects_ == rejects) return;
  Note(rejects ? "a firewall rejects replication" : "the firewall is gone");
  rejects_ = rejects;
  if (rejects) ResetLinks(*this);
}

void World::SayLastWord(Process& process) {
  if (!process.witness->entrusted()) return;
  for (const int after_ms : {0, 1, 3, 7}) {
    At(milliseconds(after_ms) + RandomNanos(milliseconds(1)), [this, &process] {
      SendPulse(process, replication::EncodeLastWord({process.witness->word(), {}}, ""));
    });
  }
}

void World::SetCarrier(Host& host, bool up) {
  if (host.carrier == up) return;
  Note(absl::StrCat(host.name, up ? " has carrier" : " has lost carrier"));
  host.carrier = up;
  Process* process = host.process.get();
  if (process == nullptr) return;
  ToProcess(*process, [this, process, up] {
    if (up && process->announcing) Announce(*process);
    if (process->carrier_changed) process->carrier_changed(up);
  });
}

void World::Stop(Host& host, bool stopped) {
  if (host.process->dead || host.process->stopped == stopped) return;
  Note(absl::StrCat(host.name, stopped ? " is stopped" : " goes on"));
  host.process->stopped = stopped;
  if (!stopped) Wake(*host.process, Nanos(0));
}

void World::Heal() {
  Note("everything is mended");
  for (Host& host : hosts_) {
    SetReplication(host.index, true);
    SetRejects(false);
    SetCarrier(host, true);
    host.service_in = host.service_out = true;
    host.slow = host.port_taken = host.replay_hangs = false;
    host.bypassed = false;
    Stop(host, false);
  }
  // Also the clients: from here on nobody but the pair is slow.
  healed_ = true;
  for (auto& client : clients_) Hurry(*client);
  arbiter_slow_ = false;
  arbiter_lost_percent_ = 0;
  stall_percent_ = 0;
  loss_percent_ = std::min(loss_percent_, 2);
}

bool World::ServiceLost() {
  const auto gone = [](const Process* life) { return life == nullptr || life->dead || life->failed; };
  // Given back: who has held it before takes it up.
  if (register_.holder.empty()) return gone(lives_.before);
  return gone(lives_.holder) && gone(lives_.secondary);
}

}  // namespace understudy::sim
