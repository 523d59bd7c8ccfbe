// The world's kernels and networks.
#include "tests/sim/world.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/sim_north.h"
#include "tests/sim/world_internal.h"

namespace understudy::sim {

using tcpshim::SeqMax;

// --- Kernels -------------------------------------------------------------------------------------

Socket& World::AddSocket(Host& host, const FourTuple& tuple, Tcp::Config config,
                         std::optional<uint32_t> timestamp) {
  const auto clock_ms = [this, &host] {
    return static_cast<uint32_t>(host.Monotonic(now_).count() / 1'000'000);
  };
  const uint32_t offset =
      timestamp.has_value() ? *timestamp - clock_ms() : static_cast<uint32_t>(Random(uint64_t{1} << 32));
  Socket& socket = host.sockets[tuple];
  socket = Socket{};
  socket.number = ++sockets_made_;
  socket.timestamp = [clock_ms, offset] { return clock_ms() + offset; };
  const auto emit = [this, &host, tuple, number = socket.number](Packet&& packet) {
    const auto found = host.sockets.find(tuple);
    if (found == host.sockets.end() || found->second.number != number) return;  // let go of
    const Tcp& tcp = *found->second.tcp;
    Egress(host, std::move(packet), false, {number, tcp.established() && !tcp.fin_sent()});
  };
  socket.tcp = std::make_unique<Tcp>(config, Tcp::Host{[this] { return now_; }, socket.timestamp, emit});
  return socket;
}

// They grow from one connection of a four-tuple to the next (RFC 6528), so that nothing of the one before
// fits into it. From host to host, too: real ones know nothing of each other, and old segments fit once in
// some 30,000 times.
Seq World::NewIss(const FourTuple& tuple) {
  // The first wraps soon, as often as not.
  const Seq first = Chance(50) ? 0u - static_cast<Seq>(Random(20'000)) : static_cast<Seq>(Random(1ull << 32));
  const auto [newest, is_first] = newest_seq_.try_emplace(tuple, first);
  if (!is_first) newest->second += 65'537 + static_cast<Seq>(Random(1 << 20));
  return newest->second;
}

void World::LetGo(Host& host, const FourTuple& tuple) {
  auto found = host.sockets.find(tuple);
  if (!found->second.time_wait) host.past[found->second.number] = std::move(found->second);
  host.sockets.erase(found);
}

void World::ArmSocket(Host& host, const FourTuple& tuple) {
  auto found = host.sockets.find(tuple);
  if (found == host.sockets.end()) return;
  const auto next = found->second.tcp->next_timer();
  if (!next.has_value() || (found->second.timer_at.has_value() && *found->second.timer_at <= *next)) return;
  found->second.timer_at = next;
  At(*next - now_, [this, &host, tuple, number = found->second.number, at = *next] {
    auto socket = host.sockets.find(tuple);
    if (socket == host.sockets.end() || socket->second.number != number || socket->second.timer_at != at)
      return;
    socket->second.timer_at.reset();
    if (!host.powered) return;
    socket->second.tcp->OnTimer();
    ArmSocket(host, tuple);
  });
}

bool World::Egress(Host& host, Packet packet, bool by_hand, const South::Sender& sender) {
  if (!host.powered) return false;
  Process& process = *host.process;
  if (host.bypassed) {
    Packet filtered = packet;
    South programs = process.south;  // they are not asked
    const bool passes =
        !process.dead && programs.Egress(filtered, by_hand, sender, host.Monotonic(now_).count());
    const bool as_it_is = passes && filtered.ack == packet.ack && filtered.window == packet.window;
    as_it_is ? ToClients(host, packet) : LeaveUnfiltered(host, packet);
    // What it was offered they do not know.
    if (Client* client = ClientOf(packet); client != nullptr) client->edge_seen = false;
    return true;
  }
  if (process.dead) {
    if (!mutations_.no_fin_rst_filter || !(packet.flags.fin || packet.flags.rst)) return false;
  } else {
    const bool may_leave = process.south.Egress(packet, by_hand, sender, host.Monotonic(now_).count());
    if (!process.south.events.empty()) Wake(process, Nanos(0));
    if (!may_leave) {
      Note(absl::StrCat(host.name, " keeps: ", packet.ToString()));
      return false;
    }
  }
  ToClients(host, packet);
  return true;
}

void World::Ingress(Host& host, const Packet& packet) {
  if (!host.powered || !host.carrier || !host.service_in || host.process == nullptr) return;
  Process& process = *host.process;
  const uint64_t events_before = process.south.events_made;
  if (process.dead || !process.south.Ingress(packet, host.Monotonic(now_).count())) return;
  // The ring buffer may be full.
  if (process.south.events_made != events_before && Chance(2)) process.south.events.pop_back();
  Wake(process, Nanos(0));
  if (!host.address) return;
  const FourTuple tuple{packet.destination, packet.source};
  auto found = host.sockets.find(tuple);
  if (found != host.sockets.end() && packet.flags.syn && !packet.flags.ack && found->second.tcp->finished() &&
      found->second.tcp->MayFollow(packet)) {
    LetGo(host, tuple);  // TIME_WAIT
    found = host.sockets.end();
  }
  if (found != host.sockets.end()) {
    const bool half_open = found->second.tcp->half_open();
    found->second.tcp->OnPacket(packet);
    if (found->second.tcp->reset()) {
      half_open ? void(host.sockets.erase(found)) : LetGo(host, tuple);
    } else {
      ArmSocket(host, tuple);
    }
    return;
  }
  if (packet.flags.rst) return;
  if (packet.flags.syn && !packet.flags.ack && process.north != nullptr && process.north->is_listening()) {
    Tcp::Config config;
    config.local = packet.destination;
    config.remote = packet.source;
    config.scaling = packet.wscale.has_value();
    config.shift = config.scaling ? 2 : 0;
    config.timestamps = packet.timestamp_option;
    if (Chance(50)) config.delayed_ack = milliseconds(40);
    Socket& socket = AddSocket(host, tuple, config);
    socket.tcp->Accept(packet, NewIss(tuple));
    ArmSocket(host, tuple);
    return;
  }
  Packet reset;
  reset.source = packet.destination;
  reset.destination = packet.source;
  reset.flags.rst = true;
  if (packet.flags.ack) {
    reset.seq = packet.ack;
  } else {
    reset.flags.ack = true;
    reset.ack = packet.end();
  }
  Egress(host, std::move(reset), false);
}

// --- The service address -------------------------------------------------------------------------

// Pauses that double: as far as a run lasts, that is all that there is.
void World::Announce(Process& process) {
  process.announcing = true;
  AnnounceOnce(process, ++process.announcements, milliseconds(50));
}

void World::AnnounceOnce(Process& process, uint64_t series, milliseconds pause) {
  if (process.dead || !process.announcing || series != process.announcements) return;
  if (mutations_.no_announcement && owner_ >= 0) return;
  Host& host = *process.host;
  const bool may = process.south.MayTalk(host.Monotonic(now_).count());
  if (host.powered && host.address && may && host.carrier && host.service_out) owner_ = host.index;
  At(pause, [this, &process, series, pause] { AnnounceOnce(process, series, pause * 2); });
}

// Somebody on the host removes what it did not put there; the node puts it back in its next turn.
void World::TakeAddressAway(Host& host) {
  if (!host.address || host.process == nullptr || !host.alive()) return;
  Note(absl::StrCat(host.name, ": the service address is taken off"));
  host.address = false;
  ToProcess(*host.process, [this, &host] {
    Process& process = *host.process;
    if (!process.wants_address || host.address) return;
    host.address = true;
    ++process.times_put_back;
    Announce(process);
  });
}

void World::Probe(Process& process, milliseconds wait, tcpshim::ServiceAddress::Probed done, int asked) {
  const auto answer = [this, &process, done](absl::StatusOr<std::optional<tcpshim::MacAddress>> who) {
    ToProcess(process, [done, who = std::move(who)] { done(who); });
  };
  if (!process.host->carrier) return answer(absl::UnavailableError("no carrier"));
  if (asked == 3) return answer(std::nullopt);
  Host& other = hosts_[1 - process.host->index];
  if (process.host->service_out && process.host->service_in && HasAddress(other)) {
    return At(RandomNanos(milliseconds(1)), [answer, &other] {
      answer(tcpshim::MacAddress{2, 0, 0, 0, 0, static_cast<uint8_t>(other.index)});
    });
  }
  At(wait / 3, [this, &process, wait, done = std::move(done), asked]() mutable {
    Probe(process, wait, std::move(done), asked + 1);
  });
}

// Answers who asks for the service address.
bool World::HasAddress(const Host& host) const {
  return host.process != nullptr && host.alive() && host.address && host.carrier && host.service_in &&
         host.service_out && host.process->south.MayTalk(host.Monotonic(now_).count());
}

// Clients ask who has the address, now and then.
void World::RefreshArp() {
  if (mutations_.no_announcement) return;
  const int first = static_cast<int>(Random(2));
  for (const int i : {first, 1 - first}) {
    if (HasAddress(hosts_[i])) owner_ = i;
  }
  At(milliseconds(200), [this] { RefreshArp(); });
}

// Logged time passes as time does, give or take a tenth and what the hosts' clocks are wrong by; also over a
// takeover by a host with another wall clock.
void World::CheckLoggedTime() {
  for (const Host& host : hosts_) {
    const Process* process = host.process.get();
    if (process == nullptr || process->dead || process->failed || !process->served) continue;
    if (register_.holder != host.name) continue;
    const int64_t wall_ahead_us =
        HostClock(this, &host).WallMicroseconds() - kWallEpochUs - now_.count() / 1000;
    const Logged logged{process, now_, wall_ahead_us + process->node->Status().clock_off_ms * 1000};
    const int64_t moved_us = logged_.has_value() ? std::abs(logged.ahead_us - logged_->ahead_us) : 0;
    if (logged_.has_value() && moved_us > MayMoveUs(*logged_, *process)) {
      const int64_t passed_us = (now_ - logged_->at).count() / 1000;
      return Violate("logged time",
                     absl::StrCat("moved by ", moved_us, " us in ", passed_us, " us, on ", host.name));
    }
    logged_ = logged;
  }
  At(milliseconds(50), [this] { CheckLoggedTime(); });
}

int64_t World::MayMoveUs(const Logged& from, const Process& by) const {
  constexpr int64_t kRounding = 2'000, kWay = 50'000, kMillion = 1'000'000;
  const int64_t fastest = std::max(std::abs(hosts_[0].drift_ppm), std::abs(hosts_[1].drift_ppm));
  const int64_t passed_us = (now_ - from.at).count() / 1000;
  const int64_t moves =
      passed_us * (fastest + (kMillion + fastest) / LoggedClock::kSlew) / kMillion + kRounding;
  if (from.by == &by) return moves;
  // What the heir cannot know: how long the way took of what it was told last; how fast the other's logged
  // time went from there on, as long as one call; and how far the clocks have run apart since it saw the
  // quickest way (PairNode::lately_ahead_).
  const int64_t told_us = (max_stall_ + milliseconds(100)).count() * 1000;
  const int64_t seen_us = std::min((now_ - by.began).count() / 1000, 10 * kMillion);
  const int64_t apart = std::abs(hosts_[0].drift_ppm - hosts_[1].drift_ppm);
  return moves + kWay + told_us / LoggedClock::kSlew + seen_us * apart / kMillion;
}

void World::GateOpened(Process& process) {
  Note(absl::StrCat(process.host->name, " serves; ", register_.ToString()));
  if (process.served) return;
  process.served = true;
  ++outcome_.takeovers;
  // I2: what was stored has been replayed, all of it.
  for (const auto& [peer, stored] : process.shadow.server.transcripts()) {
    const ModelServer::Transcript* replayed = process.server->Find(peer);
    if (replayed == nullptr || !IsPrefix(stored.in, replayed->in) || !IsPrefix(stored.out, replayed->out)) {
      return Violate("I2", absl::StrCat(process.host->name, " serves without what it had stored of ", peer));
    }
  }
  if (!process.shadow.fault.empty()) return Violate("I2", process.shadow.fault);
  CheckStreams();
}

// --- The networks --------------------------------------------------------------------------------

void World::ToClients(Host& host, const Packet& packet) {
  ++outcome_.packets;
  const std::string text = packet.ToString();
  outcome_.digest = replication::Crc32c(text, static_cast<uint32_t>(outcome_.digest));
  outcome_.digest = replication::Crc32c(packet.payload, static_cast<uint32_t>(outcome_.digest));
  Note(absl::StrCat(host.name, ": ", text));
  CheckLeaving(host, packet);
  Leave(host, packet);
}

// Past the programs: nobody has promised anything to such a client until the log has all that it was told.
void World::LeaveUnfiltered(Host& host, const Packet& packet) {
  ++outcome_.unfiltered;
  Note(absl::StrCat(host.name, ", past the programs: ", packet.ToString()));
  Client* client = packet.flags.rst ? ClientOf(packet.destination) : ClientOf(packet);
  if (client != nullptr) {
    const Seq ack = packet.flags.rst ? client->isn : packet.ack;
    client->promised = SeqMax(client->promised.value_or(ack), ack);
    client->misled = client->misled || packet.flags.rst || packet.flags.fin;
    NoteSynAck(*client, packet);
  }
  Leave(host, packet);
}

// Of two that differ nobody knows which it believes.
void World::NoteSynAck(Client& client, const Packet& packet) {
  if (!packet.flags.syn) return;
  client.misled = client.misled || (client.syn_ack_seen && !client.over && client.iss != packet.seq);
  client.syn_ack_seen = true;
  client.iss = packet.seq;
  client.shift = packet.wscale.value_or(0);
}

// True: it believes what the log does not say (yet).
bool World::IsExcused(Client& client) {
  if (client.misled || !client.promised.has_value()) return client.misled;
  const Shadow* shadow = nullptr;
  const ModelServer* reference = Reference(&shadow);
  const ModelServer::Transcript* said = reference == nullptr ? nullptr : reference->Find(client.name);
  if (said == nullptr) return true;
  if (shadow != nullptr && shadow->known.at({client.address, client.isn}).iss != client.iss) {
    return client.misled = true;
  }
  if (*client.promised - (client.isn + 1) > said->in.size() + said->peer_closed) return true;
  client.promised.reset();
  return false;
}

// True: it was told of bytes that no log has. (A FIN may be beyond: a connection that has ended takes none.)
bool World::IsUnkept(Client& client) {
  if (!IsExcused(client) || client.misled) return false;
  const Shadow* shadow = nullptr;
  const ModelServer* reference = Reference(&shadow);
  const ModelServer::Transcript* said = reference == nullptr ? nullptr : reference->Find(client.name);
  return *client.promised - (client.isn + 1) > (said == nullptr ? 0 : said->in.size()) + 1;
}

void World::Leave(Host& host, const Packet& packet) {
  if (const auto newest = newest_seq_.find({packet.source, packet.destination});
      newest != newest_seq_.end()) {
    newest->second = SeqMax(newest->second, packet.end());
  }
  if (!host.carrier || !host.service_out) return;
  for (int copies = Chance(duplicate_percent_) ? 2 : 1; copies > 0; --copies) {
    if (Chance(loss_percent_)) continue;
    At(microseconds(20) + RandomNanos(client_delay_), [this, packet] {
      Client* client = ClientOf(packet.destination);
      if (client == nullptr) return;
      if (client->tcp->fresh()) {  // between two connections
        if (packet.flags.rst || !packet.flags.ack) return;
        Packet reset;
        reset.source = packet.destination;
        reset.destination = packet.source;
        reset.seq = packet.ack;
        reset.flags.rst = true;
        return ToHosts(reset);
      }
      const bool done = client->tcp->fin_received() && client->tcp->all_acked();
      if (client->tcp->Resets(packet) && !done && !IsExcused(*client)) {
        Violate("I5", absl::StrCat(client->name, " is reset"));
      }
      client->tcp->OnPacket(packet);
      ArmClient(*client);
      ClientTurn(*client);
    });
  }
}

void World::ToHosts(const Packet& packet) {
  Note(packet.ToString());
  for (int copies = Chance(duplicate_percent_) ? 2 : 1; copies > 0; --copies) {
    if (Chance(loss_percent_)) continue;
    At(microseconds(20) + RandomNanos(client_delay_), [this, packet] {
      if (owner_ >= 0) Ingress(hosts_[owner_], packet);
    });
  }
}

void World::ArmClient(Client& client) {
  const auto next = client.tcp->next_timer();
  if (!next.has_value() || (client.timer_at.has_value() && *client.timer_at <= *next)) return;
  client.timer_at = next;
  At(*next - now_, [this, &client, at = *next] {
    if (client.timer_at != at) return;
    client.timer_at.reset();
    if (client.over) return;
    client.tcp->OnTimer();
    ArmClient(client);
  });
}

void World::ClientSoon(Client& client) {
  const Nanos pause =
      client.greedy ? Nanos(0) : RandomNanos(Chance(95) ? client.pace : Nanos(milliseconds(300)));
  At(microseconds(200) + pause, [this, &client] {
    if (client.over) return;
    if (client.lives_left > 0 && client.ends && client.tcp->finished() && Chance(30)) {
      return BeginAnew(client, /*reset=*/false);
    }
    if (client.tcp->established() && client.sent < client.plan.size()) {
      const size_t chunk = client.greedy ? 1 << 20 : 1 + Random(Chance(80) ? 600 : 6000);
      client.sent += client.tcp->Write(std::string_view(client.plan).substr(client.sent, chunk));
      if (client.sent == client.plan.size() && client.ends) client.tcp->Shutdown();
      ArmClient(client);
    } else if (client.tcp->established() && client.plan.empty() && client.ends) {
      client.tcp->Shutdown();
      ArmClient(client);
    }
    // A slow reader takes its time; others read as bytes come.
    if (client.appetite < (1 << 20)) {
      client.received += client.tcp->Read(client.appetite);
      CheckReceived(client);
      ArmClient(client);
    }
    ClientSoon(client);  // also when all is done: a timer of the Server may have more to say
  });
}

void World::Hurry(Client& client) {
  client.appetite = 1 << 20;
  client.pace = std::min<Nanos>(client.pace, milliseconds(5));
  ClientTurn(client);
}

void World::ClientTurn(Client& client) {
  if (client.over || client.appetite < (1 << 20) || client.tcp->readable() == 0) return;
  client.received += client.tcp->Read(client.appetite);
  CheckReceived(client);
  ArmClient(client);
}

}  // namespace understudy::sim
