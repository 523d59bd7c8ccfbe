// The ways to run a world.
#include "tests/sim/world.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/world_internal.h"

namespace understudy::sim {

using std::chrono::seconds;

size_t World::RunHoarder(size_t bytes, Nanos span) {
  clients_.resize(1);
  server_kind_ = ServerKind::kEcho;
  loss_percent_ = duplicate_percent_ = 0;
  Client& client = *clients_[0];
  client.plan = Bytes(*this, bytes);
  client.appetite = 0;
  client.greedy = true;
  client.lives_left = 0;
  StartProcess(hosts_[0], Role::kPrimary);
  StartProcess(hosts_[1], Role::kSecondary);
  RunUntil(now_ + span);
  const ModelServer::Transcript* said = hosts_[0].process->server->Find(client.name);
  return said == nullptr ? 0 : said->in.size();
}

Outcome World::RunStalls(Nanos longest) {
  longest_stall_ = longest;
  max_stall_ = seconds(60);  // many calls in one turn
  loss_percent_ = duplicate_percent_ = 0;
  Begin();
  StartProcess(hosts_[1], Role::kSecondary);
  RefreshArp();
  CheckLoggedTime();
  RunUntil(now_ + milliseconds(100));
  stall_percent_ = 100;
  RunUntil(now_ + seconds(5));
  return std::move(outcome_);
}

Outcome World::RunStopped(int apart_ppm) {
  loss_percent_ = duplicate_percent_ = 0;
  for (Host& host : hosts_) host.drift_ppm = host.index == 0 ? -apart_ppm : apart_ppm;
  Begin();
  StartProcess(hosts_[1], Role::kSecondary);
  RefreshArp();
  RunUntil(now_ + milliseconds(300) + RandomNanos(milliseconds(300)));
  Stop(hosts_[0], true);
  RunUntil(now_ + milliseconds(300));
  return std::move(outcome_);
}

Outcome World::RunBypass(bool stays) {
  loss_percent_ = duplicate_percent_ = 0;
  Begin();
  StartProcess(hosts_[1], Role::kSecondary);
  RefreshArp();
  RunUntil(now_ + milliseconds(300) + RandomNanos(milliseconds(500)));
  Bypass(hosts_[0], stays);
  hosts_[0].bypass_found_later = stays;
  RunUntil(now_ + milliseconds(1300));
  if (hosts_[0].bypassed && !hosts_[0].process->failed) Violate("fence", "nobody has noticed");
  if (outcome_.violation.has_value()) return std::move(outcome_);
  Heal();
  const Nanos bound = now_ + kLivenessBound;
  const auto done = [this](auto& client) { return Done(*client); };
  while (now_ < bound && !outcome_.violation.has_value()) {
    if (std::all_of(clients_.begin(), clients_.end(), done)) break;
    RunUntil(now_ + milliseconds(50));
  }
  for (auto& client : clients_) {
    if (!Done(*client)) Violate("liveness", absl::StrCat(client->name, ": ", client->tcp->ToString()));
    outcome_.unkept += IsUnkept(*client);
  }
  return std::move(outcome_);
}

Outcome World::RunBypassedHeir() {
  loss_percent_ = duplicate_percent_ = 0;
  Begin();
  StartProcess(hosts_[1], Role::kSecondary);
  RefreshArp();
  RunUntil(now_ + milliseconds(300) + RandomNanos(milliseconds(300)));
  Bypass(hosts_[1], true);
  Stop(hosts_[0], true);
  RunUntil(now_ + milliseconds(150));
  Stop(hosts_[0], false);
  RunUntil(now_ + seconds(1));
  return std::move(outcome_);
}

Outcome World::RunFlood(int ghosts) {
  loss_percent_ = duplicate_percent_ = 0;
  for (auto& client : clients_) {
    client->lives_left = 0;
    client->ends = true;
  }
  Begin();
  StartProcess(hosts_[1], Role::kSecondary);
  RefreshArp();
  RunUntil(now_ + milliseconds(100));
  for (int i = 0; i < ghosts; ++i) {
    Packet syn;
    syn.source = {kGhosts + static_cast<uint32_t>(i), static_cast<uint16_t>(1024 + i)};
    syn.destination = service();
    syn.seq = static_cast<Seq>(Random(1ull << 32));
    syn.flags.syn = true;
    syn.window = 64000;
    At(RandomNanos(milliseconds(300)), [this, syn] { ToHosts(syn); });
  }
  RunUntil(now_ + milliseconds(300));
  Kill(hosts_[0], Chance(50));
  RunUntil(now_ + seconds(15));
  if (outcome_.violation.has_value()) return std::move(outcome_);
  CheckStreams();
  for (const auto& client : clients_) {
    if (!Done(*client)) Violate("liveness", absl::StrCat(client->name, ": ", client->tcp->ToString()));
  }
  Process& heir = *hosts_[1].process;
  if (heir.server->transcripts().size() != clients_.size()) {
    Violate("ghosts", absl::StrCat("the Server was told of ", heir.server->transcripts().size(), " clients"));
  }
  if (heir.node->Status().connections > clients_.size()) {
    Violate("ghosts", absl::StrCat(heir.node->Status().connections, " connections stay"));
  }
  return std::move(outcome_);
}

Outcome World::RunAbsences(int count, const std::function<void(bool closed, bool open_again)>& look) {
  loss_percent_ = duplicate_percent_ = 0;
  Begin();
  StartProcess(hosts_[1], Role::kSecondary);
  RefreshArp();
  RunUntil(now_ + milliseconds(200));
  for (int i = 0; i < count; ++i) {
    const South& south = hosts_[0].process->south;
    const uint64_t closings = south.closings;
    hosts_[0].hidden += milliseconds(50 + Random(5000));
    RunUntil(now_ + milliseconds(15));
    const bool closed = south.closings > closings;
    RunUntil(now_ + milliseconds(185));
    look(closed, south.is_open());
  }
  return std::move(outcome_);
}

// The first primary makes sure that nobody has the service address before it begins.
void World::Begin() {
  StartProcess(hosts_[0], Role::kPrimary);
  const Nanos patience = now_ + seconds(2);
  while (!hosts_[0].process->served && now_ < patience) RunUntil(now_ + milliseconds(1));
}

Outcome World::Run() {
  Begin();
  At(RandomNanos(milliseconds(60)), [this] { StartProcess(hosts_[1], Role::kSecondary); });
  RefreshArp();
  CheckLoggedTime();
  if (Chance(20)) stall_percent_ = static_cast<int>(1 + Random(10));
  restarts_ = Chance(40);
  const Nanos safety_end = now_ + milliseconds(300 + Random(1500));
  ScheduleFaults(safety_end);
  RunUntil(safety_end);
  if (!IsOver()) {
    Heal();
    const Nanos healed = now_;
    const Nanos bound = now_ + kLivenessBound;
    const auto all_done = [this] {
      return std::all_of(clients_.begin(), clients_.end(), [this](auto& c) { return Done(*c); });
    };
    while (!all_done() && now_ < bound && !IsOver()) {
      if (ServiceLost()) {
        outcome_.service_lost = true;
        break;
      }
      RunUntil(now_ + milliseconds(50));
    }
    outcome_.until_done = now_ - healed;
    if (!IsOver()) {
      CheckStreams();
      for (const auto& client : clients_) {
        if (Done(*client)) continue;
        Violate("liveness", absl::StrCat(client->name, " was not served to the end: sent ", client->sent,
                                         " of ", client->plan.size(), ", received ", client->received.size(),
                                         "; ", client->tcp->ToString(), "; ", register_.ToString()));
      }
    }
  }
  if (trace_on_) {
    for (const Host& host : hosts_) {
      for (const auto& [tuple, socket] : host.sockets) {
        Note(absl::StrCat("end: ", host.name, " ", tuple.ToString(), " ", socket.tcp->ToString()));
      }
    }
  }
  return std::move(outcome_);
}

}  // namespace understudy::sim
