#include "tests/sim/sim_north.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace understudy::sim {

SimNorth::SimNorth(Process* process, Log* log) : process_(process), log_(log) { process_->north = this; }
SimNorth::~SimNorth() {
  if (process_->north == this) process_->north = nullptr;
}

absl::Status SimNorth::Listen(tcpshim::UniqueFd) {
  if (process_->host->port_taken) return absl::UnavailableError("the port is taken");
  is_listening_ = true;
  return absl::OkStatus();
}

Socket* SimNorth::SocketOf(ConnectionId id) const {
  if (process_->dead) return nullptr;
  auto known = known_.find(id);
  if (known == known_.end()) return nullptr;
  Host& host = *process_->host;
  auto socket = host.sockets.find(known->second.tuple);
  if (socket != host.sockets.end() && socket->second.number == known->second.number) return &socket->second;
  auto past = host.past.find(known->second.number);
  return past == host.past.end() ? nullptr : &past->second;
}

void SimNorth::Erase(ConnectionId id) {
  Host& host = *process_->host;
  const Known& known = known_[id];
  auto socket = host.sockets.find(known.tuple);
  if (socket != host.sockets.end() && socket->second.number == known.number) host.sockets.erase(socket);
  host.past.erase(known.number);
}

void SimNorth::Accept(Socket& socket, const FourTuple& tuple) {
  socket.accepted = true;
  const uint64_t number = socket.number;
  const auto accepted = log_->OnAccepted(static_cast<int>(number), tuple);
  if (accepted.id.has_value()) {
    known_[*accepted.id] = Known{tuple, number};
    return;
  }
  if (accepted.reset && !socket.tcp->reset()) socket.tcp->Reset();
  known_[0] = Known{tuple, number};
  Erase(0);
  known_.erase(0);
}

void SimNorth::Turn() {
  if (is_listening_) {
    // Those that broke in the queue come out of it, too.
    std::vector<uint64_t> broken;
    for (auto& [number, socket] : process_->host->past) {
      if (!socket.accepted) broken.push_back(number);
    }
    for (const uint64_t number : broken) {
      Socket& socket = process_->host->past[number];
      Accept(socket, {socket.tcp->config().local, socket.tcp->config().remote});
    }
    std::vector<FourTuple> complete;
    for (auto& [tuple, socket] : process_->host->sockets) {
      if (!socket.accepted && !socket.time_wait && socket.tcp->established()) complete.push_back(tuple);
    }
    for (const FourTuple& tuple : complete) {
      auto found = process_->host->sockets.find(tuple);
      if (found != process_->host->sockets.end()) Accept(found->second, tuple);
    }
  }
  std::vector<ConnectionId> ids;
  for (const auto& [id, known] : known_) ids.push_back(id);
  for (const ConnectionId id : ids) Serve(id);
  log_->OnTurnDone();
}

// As the real one, which asks for room before it knows what a read will bring.
bool SimNorth::MayRead(ConnectionId id) {
  if (!log_->BeginReceive(id).empty()) {
    log_->EndReceive(id, 0);
    return known_.contains(id) && SocketOf(id) != nullptr;
  }
  if (auto known = known_.find(id); known != known_.end()) known->second.paused = true;
  return false;
}

void SimNorth::Serve(ConnectionId id) {
  auto known = known_.find(id);
  Socket* socket = SocketOf(id);
  if (known == known_.end() || socket == nullptr) return;
  if (known->second.blocked && socket->tcp->room() > 0 && !socket->tcp->reset()) {
    known->second.blocked = false;
    log_->OnWritable(id);
    socket = SocketOf(id);
    known = known_.find(id);
    if (known == known_.end() || socket == nullptr) return;
  }
  if (known->second.paused) return;
  if (socket->tcp->readable() > 0 && known->second.expect_input) {
    const absl::Span<char> room = log_->BeginReceive(id);
    if (room.empty()) {
      known = known_.find(id);
      if (known != known_.end()) known->second.paused = true;
      return;
    }
    const std::string bytes = socket->tcp->Read(room.size());
    std::copy(bytes.begin(), bytes.end(), room.begin());
    log_->EndReceive(id, bytes.size());
    socket = SocketOf(id);
    known = known_.find(id);
    if (known == known_.end() || socket == nullptr) return;
    process_->world->ArmSocket(*process_->host, known->second.tuple);
    if (socket->tcp->readable() > 0) process_->world->Wake(*process_, Nanos(0));
  }
  if (socket->tcp->at_end() && known->second.expect_input) {
    if (!MayRead(id)) return;
    known = known_.find(id);
    known->second.expect_input = false;
    log_->OnEndOfStream(id);
    socket = SocketOf(id);
    known = known_.find(id);
    if (known == known_.end() || socket == nullptr) return;
  }
  if (socket->tcp->reset() && !known->second.broken_reported && socket->tcp->readable() == 0) {
    if (known->second.expect_input && !MayRead(id)) return;
    known = known_.find(id);
    known->second.broken_reported = true;
    log_->OnBroken(id, ECONNRESET);
  }
}

absl::Status SimNorth::Restore(ConnectionId id, const tcpshim::Endpoint& endpoint, Input input) {
  Host& host = *process_->host;
  if (host.sockets.contains(endpoint.tuple)) return absl::AlreadyExistsError(endpoint.tuple.ToString());
  Tcp::Config config;
  config.local = endpoint.tuple.local;
  config.remote = endpoint.tuple.remote;
  config.scaling = endpoint.options.window_scaling;
  config.shift = endpoint.options.rcv_wscale;
  config.timestamps = endpoint.options.timestamps;
  World& world = *process_->world;
  Socket& socket = world.AddSocket(host, endpoint.tuple, config, endpoint.timestamp);
  socket.accepted = true;
  Tcp::Restored restored;
  restored.snd_una = endpoint.snd_una;
  restored.sent = std::string(endpoint.sent);
  if (world.mutations().garble_restored && !restored.sent.empty()) restored.sent[0] ^= 1;
  restored.fin_sent = endpoint.fin_sent;
  restored.rcv_nxt = endpoint.rcv_nxt;
  restored.unread = std::string(endpoint.unread);
  restored.snd_wnd = endpoint.snd_wnd;
  restored.rcv_edge = endpoint.rcv_edge;
  restored.peer_shift = endpoint.options.snd_wscale;
  socket.tcp->Restore(restored);
  world.ArmSocket(host, endpoint.tuple);
  known_[id] = Known{endpoint.tuple, socket.number, input == Input::kExpected};
  return absl::OkStatus();
}

absl::Status SimNorth::RestoreClosed(const tcpshim::Endpoint& endpoint) {
  if (absl::Status made = Restore(0, endpoint, Input::kEnded); !made.ok()) return made;
  Forget(0);
  return absl::OkStatus();
}

absl::StatusOr<tcpshim::Endpoint> SimNorth::Capture(ConnectionId id, tcpshim::CapturedBytes& storage) {
  Socket* socket = SocketOf(id);
  if (socket == nullptr || !socket->tcp->established()) {
    return absl::FailedPreconditionError("no established connection");
  }
  const Tcp::Restored now = socket->tcp->Captured();
  tcpshim::Endpoint endpoint;
  endpoint.tuple = {socket->tcp->config().local, socket->tcp->config().remote};
  endpoint.snd_una = now.snd_una;
  endpoint.fin_sent = now.fin_sent;
  endpoint.rcv_nxt = now.rcv_nxt;
  endpoint.snd_wnd = now.snd_wnd;
  endpoint.rcv_edge = now.rcv_edge;
  endpoint.timestamp = socket->timestamp();
  storage.sent = now.sent;
  storage.unread = now.unread;
  endpoint.sent = storage.sent;
  endpoint.unread = storage.unread;
  return endpoint;
}

uint32_t SimNorth::UnackedBytes(ConnectionId id) const {
  const Socket* socket = SocketOf(id);
  return socket == nullptr ? 0 : static_cast<uint32_t>(socket->tcp->unacked());
}

uint32_t SimNorth::UnsentBytes(ConnectionId id) const {
  const Socket* socket = SocketOf(id);
  return socket == nullptr ? 0 : static_cast<uint32_t>(socket->tcp->unsent());
}

uint32_t SimNorth::UnreadBytes(ConnectionId id) const {
  const Socket* socket = SocketOf(id);
  return socket == nullptr ? 0 : static_cast<uint32_t>(socket->tcp->readable());
}

bool SimNorth::HasRoundTripTime(ConnectionId id) const {
  const Socket* socket = SocketOf(id);
  return socket != nullptr && socket->tcp->timed();
}

uint32_t SimNorth::CurrentTimestamp(ConnectionId id) const {
  const Socket* socket = SocketOf(id);
  return socket == nullptr ? 0 : socket->timestamp();
}

size_t SimNorth::Write(ConnectionId id, absl::Span<const iovec> bytes) {
  Socket* socket = SocketOf(id);
  if (socket == nullptr || socket->tcp->reset() || known_[id].shut) return 0;
  size_t taken = 0;
  for (const iovec& piece : bytes) {
    const size_t now = socket->tcp->Write({static_cast<const char*>(piece.iov_base), piece.iov_len});
    taken += now;
    if (now < piece.iov_len) {
      known_[id].blocked = true;
      break;
    }
  }
  process_->world->ArmSocket(*process_->host, known_[id].tuple);
  return taken;
}

void SimNorth::ShutdownWrite(ConnectionId id) {
  Socket* socket = SocketOf(id);
  if (socket == nullptr || socket->tcp->reset()) return;
  known_[id].shut = true;
  socket->tcp->Shutdown();
  process_->world->ArmSocket(*process_->host, known_[id].tuple);
}

void SimNorth::Abort(ConnectionId id) {
  if (Socket* socket = SocketOf(id); socket != nullptr) {
    if (!socket->tcp->reset()) socket->tcp->Reset();
    Erase(id);
  }
  known_.erase(id);
}

// close(): a RST where something is unread, else a FIN unless one was sent; TIME_WAIT for who was
// first.
void SimNorth::Forget(ConnectionId id) {
  if (Socket* socket = SocketOf(id); socket != nullptr) {
    Tcp& tcp = *socket->tcp;
    if (tcp.reset()) {
      Erase(id);
    } else if (tcp.readable() > 0) {
      tcp.Reset();
      Erase(id);
    } else {
      if (!tcp.fin_sent()) tcp.Shutdown();
      if (process_->host->past.contains(socket->number)) {
        Erase(id);
      } else if (tcp.fin_acked() && tcp.fin_received() && process_->world->Chance(50)) {
        Erase(id);  // was in LAST_ACK
      } else {
        socket->time_wait = true;
        process_->world->ArmSocket(*process_->host, known_[id].tuple);
      }
    }
  }
  known_.erase(id);
}

void SimNorth::ForgetSilently(ConnectionId id) {
  if (SocketOf(id) != nullptr) Erase(id);
  known_.erase(id);
}

void SimNorth::Resume(ConnectionId id) {
  auto known = known_.find(id);
  if (known == known_.end()) return;
  known->second.paused = false;
  process_->world->Wake(*process_, Nanos(0));
}

}  // namespace understudy::sim
