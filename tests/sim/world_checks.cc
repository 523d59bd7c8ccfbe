// What is checked in a world, and its arbiter.
#include "tests/sim/world.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/world_internal.h"

namespace understudy::sim {

using replication::Register;
using tcpshim::SeqAfter;
using tcpshim::SeqBefore;
using tcpshim::SeqMax;

// --- The checks ----------------------------------------------------------------------------------

// The never-failing server: that of the log that would survive if the holder died now, or, while
// nobody else may have the epoch, the holder's own. `shadow`: not null in the first case.
const ModelServer* World::Reference(const Shadow** shadow) {
  *shadow = nullptr;
  if (lives_.secondary != nullptr) {
    *shadow = &lives_.secondary->shadow;
    return &lives_.secondary->shadow.server;
  }
  if (lives_.holder == nullptr) return nullptr;
  return lives_.holder->served ? lives_.holder->server : &lives_.holder->shadow.server;
}

void World::CheckLeaving(Host& host, const Packet& packet) {
  // I3. The register's holder alone may speak; who has lost it has fallen silent before.
  if (register_.holder != host.name) {
    return Violate("I3",
                   absl::StrCat(host.name, " speaks, and ", register_.ToString(), ": ", packet.ToString()));
  }
  if (packet.flags.rst) return;  // resets are judged where they arrive
  Client* client = ClientOf(packet);
  if (client == nullptr && packet.destination.ip >= kGhosts && packet.flags.syn) return;
  if (client == nullptr) {
    return Violate("I1", absl::StrCat("acknowledges what nobody has sent: ", packet.ToString()));
  }
  if (IsExcused(*client)) return NoteSynAck(*client, packet);
  const Shadow* shadow = nullptr;
  const ModelServer* reference = Reference(&shadow);
  if (reference == nullptr) return;
  const Shadow::Known* known = nullptr;
  if (shadow != nullptr) {
    auto found = shadow->known.find({client->address, client->isn});
    // What TCP says of a handshake (to segments of the one before) without a SYN-ACK promises nothing.
    const bool bare = packet.payload.empty() && !packet.flags.syn && !packet.flags.fin;
    if (found == shadow->known.end() && !client->syn_ack_seen && bare && packet.ack == client->isn + 1)
      return;
    if (found == shadow->known.end()) {
      return Violate("I1",
                     absl::StrCat("a connection leaves that the log does not have: ", packet.ToString()));
    }
    known = &found->second;
    if (client->syn_ack_seen && !client->over && known->iss != client->iss) {
      return Violate("I1",
                     absl::StrCat("the log has another connection than the client: ", packet.ToString()));
    }
  }
  if (packet.flags.syn) {
    if (client->syn_ack_seen && !client->over && packet.seq != client->iss) {
      return Violate("I4", absl::StrCat("a second, different SYN-ACK: ", packet.ToString()));
    }
    if (known != nullptr && known->iss != packet.seq) {
      return Violate("I1", absl::StrCat("a SYN-ACK that the log does not have: ", packet.ToString()));
    }
    return NoteSynAck(*client, packet);
  }
  // I1: acknowledgements and output against what is stored.
  if (known != nullptr && SeqAfter(packet.ack, known->rcv_nxt)) {
    return Violate("I1", absl::StrCat("acknowledges ", packet.ack - known->rcv_nxt,
                                      " that are not stable: ", packet.ToString()));
  }
  const int64_t offset = static_cast<int32_t>(packet.seq - (client->iss + 1));
  const ModelServer::Transcript* said = reference->Find(client->name);
  const size_t size = said == nullptr ? 0 : said->out.size();
  const char* unstable = shadow != nullptr ? "I1" : "I4";
  if (!packet.payload.empty()) {
    if (offset < 0 || offset + packet.payload.size() > size) {
      return Violate(unstable, absl::StrCat("sends up to ", offset + packet.payload.size(), " of ", size,
                                            " bytes that there are: ", packet.ToString()));
    }
    if (said->out.compare(offset, packet.payload.size(), packet.payload) != 0) {
      return Violate("I4", absl::StrCat("sends other bytes than the log says: ", packet.ToString()));
    }
  }
  if (packet.flags.fin && (said == nullptr || !said->fin || offset + packet.payload.size() != size)) {
    return Violate(unstable, absl::StrCat("a FIN that the log does not explain: ", packet.ToString()));
  }
  if (client->over) return;
  // I6: the window's right edge, but for what scaling rounds away, and the timestamps of data.
  const Seq edge = packet.ack + (uint32_t{packet.window} << client->shift);
  if (client->edge_seen && SeqBefore(edge + (1u << client->shift), client->edge + 1) &&
      !client->tcp->fin_received()) {
    return Violate("I6",
                   absl::StrCat("takes back ", client->edge - edge, " of the window: ", packet.ToString()));
  }
  client->edge = client->edge_seen ? SeqMax(client->edge, edge) : edge;
  client->edge_seen = true;
  if (packet.timestamp_option && !packet.payload.empty()) {
    if (client->ts_seen && SeqBefore(packet.tsval, client->tsval)) {
      return Violate(
          "I6", absl::StrCat("TSval goes back by ", client->tsval - packet.tsval, ": ", packet.ToString()));
    }
    client->tsval = packet.tsval;
    client->ts_seen = true;
  }
}

void World::CheckReceived(Client& client) {
  const Shadow* shadow = nullptr;
  const ModelServer* reference = Reference(&shadow);
  if (client.received.empty() || reference == nullptr || IsExcused(client)) return;
  const ModelServer::Transcript* said = reference->Find(client.name);
  if (said == nullptr || !IsPrefix(client.received, said->out)) {
    Violate("I4", absl::StrCat(client.name, " has received ", client.received.size(),
                               " bytes that are no prefix of the server's"));
  }
}

void World::CheckStreams() {
  const Shadow* shadow = nullptr;
  const ModelServer* reference = Reference(&shadow);
  if (reference == nullptr) return;
  for (auto& client : clients_) {
    CheckReceived(*client);
    const ModelServer::Transcript* said = reference->Find(client->name);
    if (said != nullptr && !IsPrefix(said->in, client->plan)) {
      Violate("I4", absl::StrCat("the Server was given bytes that ", client->name, " did not send"));
    }
  }
}

bool World::Done(Client& client) {
  if (client.over || IsExcused(client)) return true;
  for (Host& host : hosts_) {
    if (register_.holder != host.name || host.process == nullptr) continue;
    const ModelServer::Transcript* said = host.process->server->Find(client.name);
    if (said == nullptr || said->in.size() != client.plan.size()) return false;
    if (client.received.size() != said->out.size()) return false;
    return !client.ends || (client.tcp->fin_received() && client.tcp->all_acked());
  }
  return false;
}

// I3, whether there is anything to say or not: who does not hold the register could not speak.
void World::CheckSilence() {
  for (const Host& host : hosts_) {
    if (host.process == nullptr || !host.alive() || register_.holder == host.name) continue;
    if (!host.process->south.MayTalk(host.Monotonic(now_).count())) continue;
    Violate("I3", absl::StrCat(host.name, " may speak, and ", register_.ToString()));
  }
}

// Whoever asks names itself, but where it gives the epoch back. A node becomes the secondary when it holds
// everything, so that is the life of it that holds most.
void World::NoteLives(const Process& asked) {
  const Lives before = std::exchange(lives_, {});
  lives_.before = before.holder != nullptr && before.holder != &asked ? before.holder : before.before;
  if (register_.holder == asked.host->name) lives_.holder = &asked;
  const auto consider = [this](const Process* process) {
    if (process == nullptr || process->host->name != register_.secondary) return;
    const auto stored = [](const Process* life) { return life->shadow.executor.applied_lsn(); };
    const bool most = lives_.secondary == nullptr || stored(process) >= stored(lives_.secondary);
    if (most) lives_.secondary = process;
  };
  for (const auto& process : buried_) consider(process.get());
  for (const Host& host : hosts_) consider(host.process.get());
  outcome_.rejoined += lives_.secondary != nullptr && lives_.secondary->anew;
}

// --- The arbiter ---------------------------------------------------------------------------------

void World::AskArbiter(Process& process, std::optional<std::pair<Register, Register>> swap,
                       replication::Arbiter::Callback done) {
  if (process.dead) return;  // killed in a long call, which has ended nevertheless
  const auto carry_out = [this, swap, &process] {
    replication::Arbiter::Outcome outcome;
    if (swap.has_value() && register_ == swap->first) {
      // Who takes up what the dead have given back begins with nothing: there is no history to judge it by.
      const bool lost = lives_.before != nullptr && ServiceLost();
      register_ = swap->second;
      outcome_.service_lost |= lost && !register_.holder.empty();
      outcome.swapped = true;
      Note(absl::StrCat("arbiter: ", register_.ToString()));
      NoteLives(process);
      CheckSilence();
    }
    outcome.current = register_;
    return outcome;
  };
  const bool lost = Chance(arbiter_lost_percent_);
  const Nanos way = microseconds(100) + RandomNanos(arbiter_slow_ ? milliseconds(150) : milliseconds(2));
  ++process.asking;
  // A request whose answer is lost is carried out all the same, later, or never.
  if (lost) {
    At(way,
       [this, &process, done] { ToProcess(process, [done] { done(absl::UnavailableError("no answer")); }); });
    const bool ever = Chance(50);
    At(RandomNanos(milliseconds(200)), [&process, carry_out, ever] {
      if (ever) carry_out();
      --process.asking;
    });
    return;
  }
  At(way, [this, &process, carry_out, done, way] {
    const replication::Arbiter::Outcome outcome = carry_out();
    --process.asking;
    At(RandomNanos(way),
       [this, &process, done, outcome] { ToProcess(process, [done, outcome] { done(outcome); }); });
  });
}

}  // namespace understudy::sim
