// The seams of tcpshim/ and of the replication link, filled in for the simulator at link time: the
// node's own sources are compiled against the shipping headers and find these definitions instead
// of those that talk to a kernel. Also time and the random device of the standard library.
#include "tests/sim/seams.h"

#include <time.h>

#include <algorithm>
#include <chrono>
#include <random>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "framework/replayer.h"
#include "replication/last_word.h"
#include "replication/make_arbiter.h"
#include "tcpshim/address_lock.h"
#include "tcpshim/endpoint.h"
#include "tcpshim/listener.h"
#include "tcpshim/raw_sender.h"
#include "tcpshim/service_address.h"
#include "tcpshim/south_wrapper.h"

// --- Time and randomness -------------------------------------------------------------------------

// Boost.Asio's timers read this clock; the node reads its own (framework/clock.h).
std::chrono::steady_clock::time_point std::chrono::steady_clock::now() noexcept {
  using understudy::sim::World;
  if (World::current != nullptr) return World::current->clock->Monotonic();
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return time_point(std::chrono::seconds(t.tv_sec) + std::chrono::nanoseconds(t.tv_nsec));
}

// The node draws the seed of its Server's random numbers from it.
std::random_device::result_type std::random_device::_M_getval() {
  using understudy::sim::World;
  return World::now_in == nullptr ? 4 : static_cast<result_type>(World::now_in->Random(uint64_t{1} << 32));
}

namespace understudy::sim {
namespace {

Process& Here() { return *World::current; }

}  // namespace

// --- The north wrapper ---------------------------------------------------------------------------

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
  const auto accepted = log_->OnAccepted(kFirstFd + static_cast<int>(number), tuple);
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

void SimNorth::Adopt(ConnectionId id, tcpshim::UniqueFd fd, bool expect_input) {
  const int number = fd.release() - kFirstFd;
  for (auto& [tuple, socket] : process_->host->sockets) {
    if (static_cast<int>(socket.number) != number) continue;
    known_[id] = Known{tuple, socket.number, expect_input};
    return;
  }
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

int SimNorth::fd(ConnectionId id) const {
  Socket* socket = SocketOf(id);
  return socket == nullptr ? -1 : kFirstFd + static_cast<int>(socket->number);
}

void SimNorth::Resume(ConnectionId id) {
  auto known = known_.find(id);
  if (known == known_.end()) return;
  known->second.paused = false;
  process_->world->Wake(*process_, Nanos(0));
}

// --- Connections between the nodes ---------------------------------------------------------------

class SimLink;

// Ordered both ways. What is sent while the cable is cut comes when it is whole again, as TCP does
// it.
struct SimConnection : std::enable_shared_from_this<SimConnection> {
  World* world = nullptr;
  std::array<Process*, 2> process{};
  std::array<std::weak_ptr<SimLink>, 2> link;
  struct Message {
    Nanos ready;
    std::function<void(SimLink&)> deliver;
  };
  std::array<std::deque<Message>, 2> towards;
  std::array<Nanos, 2> last{};
  std::array<bool, 2> closed{};  // this end has closed
  std::array<bool, 2> waits{};   // for the cable

  void Send(int from, std::function<void(SimLink&)> deliver);
  void Pump(int to);
  void Close(int end);
};

namespace {
std::vector<std::weak_ptr<SimConnection>> connections;
}  // namespace

// One end of it.
class SimLink final : public replication::Link {
 public:
  SimLink(std::shared_ptr<SimConnection> connection, int end, Handler* handler)
      : connection_(std::move(connection)), end_(end), handler_(handler) {}
  ~SimLink() override { SimLink::Close(); }

  void Join(const replication::wire::JoinRequest& request) override;
  void Append(const replication::wire::AppendRequest& request) override;
  void Handover(const replication::wire::HandoverRequest& request) override;
  void Close() override { connection_->Close(end_); }
  std::string remote() const override { return "0.0.0.0:0"; }
  Handler& handler() { return *handler_; }

 private:
  template <typename Reply>
  void Answer(const Handler::Verdict& verdict, Reply reply, void (Handler::*on_reply)(Link&, const Reply&));
  bool closed() const { return connection_->closed[end_]; }

  const std::shared_ptr<SimConnection> connection_;
  const int end_;
  Handler* const handler_;
  size_t last_sent_ = 0;  // of the log, for the mutation
};

void SimConnection::Send(int from, std::function<void(SimLink&)> deliver) {
  const int to = 1 - from;
  last[to] =
      std::max(last[to], world->now() + microseconds(20) + world->RandomNanos(world->replication_delay()));
  towards[to].push_back({last[to], std::move(deliver)});
  world->At(last[to] - world->now(), [self = shared_from_this(), to] { self->Pump(to); });
}

void SimConnection::Pump(int to) {
  auto& queue = towards[to];
  while (!queue.empty() && queue.front().ready <= world->now()) {
    if (!world->ReplicationPasses(process[1 - to]->host->index)) {
      if (std::exchange(waits[to], true)) return;
      world->WhenReplicationPasses([self = shared_from_this(), to] {
        self->waits[to] = false;
        const Nanos late = self->world->RandomNanos(milliseconds(100));  // TCP's own timeout
        self->world->At(late, [self, to] { self->Pump(to); });
      });
      return;
    }
    world->ToProcess(*process[to],
                     [self = shared_from_this(), to, deliver = std::move(queue.front().deliver)] {
                       const auto target = self->link[to].lock();
                       if (target == nullptr || self->closed[to]) return;
                       self->process[to]->turn_done.push_back([self, to] {
                         const auto link = self->link[to].lock();
                         if (link != nullptr && !self->closed[to]) link->handler().OnTurnDone(*link);
                       });
                       deliver(*target);
                     });
    queue.pop_front();
  }
}

void SimConnection::Close(int end) {
  if (std::exchange(closed[end], true)) return;
  if (process[end]->host->powered) {
    Send(end, [self = shared_from_this(), other = 1 - end](SimLink& link) {
      self->closed[other] = true;
      link.handler().OnClosed(link, "closed by the other end");
    });
  }
}

template <typename Reply>
void SimLink::Answer(const Handler::Verdict& verdict, Reply reply,
                     void (Handler::*on_reply)(Link&, const Reply&)) {
  if (closed()) return;
  if (!verdict.refuse) {
    connection_->Send(end_, [reply = std::move(reply), on_reply](SimLink& caller) {
      Reply answer = reply;
      if constexpr (std::is_same_v<Reply, replication::wire::AppendReply>) {
        if (World::now_in->mutations().acknowledge_unstored) {
          answer.stored_lsn = std::max<int64_t>(answer.stored_lsn, static_cast<int64_t>(caller.last_sent_));
        }
      }
      (caller.handler_->*on_reply)(caller, answer);
    });
    return;
  }
  connection_->Send(
      end_, [refused = verdict.refused](SimLink& caller) { caller.handler_->OnRefused(caller, refused); });
  // Closed once that is written; the handler hears of it later, as of everything.
  connection_->world->ToProcess(*connection_->process[end_], [connection = connection_, end = end_] {
    const auto own = connection->link[end].lock();
    if (own == nullptr || connection->closed[end]) return;
    connection->Close(end);
    own->handler().OnClosed(*own, "refused");
  });
}

void SimLink::Join(const replication::wire::JoinRequest& request) {
  if (closed()) return;
  connection_->Send(end_, [request](SimLink& link) {
    replication::wire::JoinReply reply;
    const Handler::Verdict verdict = link.handler_->OnJoin(link, request, reply);
    link.Answer(verdict, reply, &Handler::OnJoinReply);
  });
}

void SimLink::Append(const replication::wire::AppendRequest& request) {
  if (closed()) return;
  if (!request.records.empty()) {
    auto batch =
        replication::RecordBatch::Parse(request.records, static_cast<replication::Lsn>(request.first_lsn));
    if (batch.ok() && !batch->empty()) last_sent_ = batch->last_lsn();
  }
  connection_->Send(end_, [request](SimLink& link) {
    replication::wire::AppendReply reply;
    const Handler::Verdict verdict = link.handler_->OnAppend(link, request, reply);
    link.Answer(verdict, reply, &Handler::OnAppendReply);
  });
}

void SimLink::Handover(const replication::wire::HandoverRequest& request) {
  if (closed()) return;
  connection_->Send(end_, [request](SimLink& link) {
    replication::wire::HandoverReply reply;
    const Handler::Verdict verdict = link.handler_->OnHandover(link, request, reply);
    link.Answer(verdict, reply, &Handler::OnHandoverReply);
  });
}

void CloseLinksOf(Process& process) {
  for (const auto& weak : connections) {
    const auto connection = weak.lock();
    if (connection == nullptr) continue;
    for (int end = 0; end < 2; ++end) {
      if (connection->process[end] == &process) connection->Close(end);
    }
  }
}

void ResetLinks(World& world) {
  for (const auto& weak : connections) {
    const auto connection = weak.lock();
    if (connection == nullptr) continue;
    for (int end = 0; end < 2; ++end) {
      Process* const process = connection->process[end];
      world.ToProcess(*process, [connection, end] {
        const auto link = connection->link[end].lock();
        if (link == nullptr || std::exchange(connection->closed[end], true)) return;
        link->handler().OnClosed(*link, "reset");
      });
    }
  }
}

void ForgetLinks() {
  // What was never delivered may hold its own connection.
  for (const auto& weak : connections) {
    if (const auto connection = weak.lock()) connection->towards = {};
  }
  connections.clear();
}

// --- The replication network -----------------------------------------------------------------------

namespace {

class SimPulseLink final : public replication::PulseLink {
 public:
  explicit SimPulseLink(Process* process) : process_(process) {}
  ~SimPulseLink() override {
    process_->pulse = nullptr;
    process_->heard = nullptr;
  }
  int fd() const override { return -1; }
  void Beat(replication::Pulse* pulse) override {
    process_->heard = nullptr;
    process_->pulse = pulse;
    process_->world->PulseThread(*process_);
  }

 private:
  Process* const process_;
};

// An end that no Link has yet.
class FreeEnd final : public replication::Transport::Connection {
 public:
  FreeEnd(std::shared_ptr<SimConnection> connection, int end)
      : connection_(std::move(connection)), end_(end) {}
  ~FreeEnd() override {
    if (connection_ != nullptr) connection_->Close(end_);
  }
  std::shared_ptr<replication::Link> Take(replication::Link::Handler* handler) {
    const auto connection = std::exchange(connection_, nullptr);
    auto link = std::make_shared<SimLink>(connection, end_, handler);
    connection->link[end_] = link;
    return link;
  }

 private:
  std::shared_ptr<SimConnection> connection_;
  const int end_;
};

}  // namespace

SimTransport::~SimTransport() { process_->accept_link = nullptr; }

absl::Status SimTransport::Listen(Accepted accepted) {
  process_->accept_link = std::move(accepted);
  return absl::OkStatus();
}

std::shared_ptr<replication::Link> SimTransport::StartLink(std::unique_ptr<Connection> connection,
                                                           replication::Link::Handler* handler, bool) {
  return static_cast<FreeEnd&>(*connection).Take(handler);
}

absl::StatusOr<std::unique_ptr<replication::PulseLink>> SimTransport::OpenPulse(
    replication::PulseLink::Heard heard) {
  process_->heard = std::move(heard);
  return std::make_unique<SimPulseLink>(process_);
}

void SimTransport::Dial(std::chrono::milliseconds timeout, Dialed done) {
  using replication::DialResult;
  Process* const dialer = process_;
  World* const world = dialer->world;
  Host* const peer_host = &world->host(1 - dialer->host->index);
  const auto answer = [world, dialer, done](DialResult result, std::shared_ptr<SimConnection> connection) {
    world->ToProcess(*dialer, [done, result, connection] {
      done(result, connection == nullptr ? nullptr : std::make_unique<FreeEnd>(connection, 0));
    });
  };
  const auto half = [world] { return microseconds(20) + world->RandomNanos(world->replication_delay()); };
  // The SYN arrives, or not; a process that is stopped has a kernel that accepts.
  world->At(half(), [=] {
    const int own = dialer->host->index;
    if (world->rejects()) {
      if (world->mutations().refusal_is_death && dialer->heard && peer_host->process != nullptr) {
        world->ToProcess(*dialer, [dialer, word = peer_host->process->witness->word()] {
          if (dialer->heard) (void)dialer->heard(replication::EncodeLastWord({word, {}}, ""));
        });
      }
      world->At(half(), [answer] { answer(DialResult::kRefused, nullptr); });
      return;
    }
    if (!world->ReplicationPasses(own) || !world->ReplicationPasses(1 - own)) {
      world->At(timeout, [answer] { answer(DialResult::kUnreachable, nullptr); });
      return;
    }
    Process* peer = peer_host->process.get();
    if (peer == nullptr || peer->dead || !peer->accept_link) {
      world->At(half(), [answer] { answer(DialResult::kRefused, nullptr); });
      return;
    }
    auto connection = std::make_shared<SimConnection>();
    connection->world = world;
    connection->process = {dialer, peer};
    connections.push_back(connection);
    world->ToProcess(*peer, [peer, connection] {
      if (!peer->accept_link) return connection->Close(1);
      peer->accept_link(std::make_unique<FreeEnd>(connection, 1));
    });
    world->At(half(), [answer, connection] { answer(DialResult::kConnected, connection); });
  });
}

}  // namespace understudy::sim

namespace understudy::replication {

using sim::World;

namespace {
class SimArbiter final : public Arbiter {
 public:
  explicit SimArbiter(sim::Process* process) : process_(process) {}
  void Read(Callback done) override { process_->world->AskArbiter(*process_, std::nullopt, std::move(done)); }
  void Probe(Callback done) override { Read(std::move(done)); }
  void CompareAndSwap(const Register& expected, const Register& desired, Callback done) override {
    process_->world->AskArbiter(*process_, {{expected, desired}}, std::move(done));
  }

 private:
  sim::Process* const process_;
};
}  // namespace

absl::StatusOr<std::unique_ptr<Arbiter>> MakeArbiter(const std::string&, boost::asio::io_context&) {
  return std::make_unique<SimArbiter>(World::current);
}

}  // namespace understudy::replication

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

int SouthWrapper::event_fd() const { return impl_->process->event_fd; }
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

absl::StatusOr<UniqueFd> Restore(const Endpoint& endpoint) {
  sim::Host& host = *Here().host;
  if (host.sockets.contains(endpoint.tuple)) return absl::AlreadyExistsError(endpoint.tuple.ToString());
  sim::Tcp::Config config;
  config.local = endpoint.tuple.local;
  config.remote = endpoint.tuple.remote;
  config.scaling = endpoint.options.window_scaling;
  config.shift = endpoint.options.rcv_wscale;
  config.timestamps = endpoint.options.timestamps;
  sim::Socket& socket = Here().world->AddSocket(host, endpoint.tuple, config, endpoint.timestamp);
  socket.accepted = true;
  sim::Tcp::Restored restored;
  restored.snd_una = endpoint.snd_una;
  restored.sent = std::string(endpoint.sent);
  if (World::now_in->mutations().garble_restored && !restored.sent.empty()) restored.sent[0] ^= 1;
  restored.fin_sent = endpoint.fin_sent;
  restored.rcv_nxt = endpoint.rcv_nxt;
  restored.unread = std::string(endpoint.unread);
  restored.snd_wnd = endpoint.snd_wnd;
  restored.rcv_edge = endpoint.rcv_edge;
  restored.peer_shift = endpoint.options.snd_wscale;
  socket.tcp->Restore(restored);
  Here().world->ArmSocket(host, endpoint.tuple);
  return UniqueFd(sim::kFirstFd + static_cast<int>(socket.number));
}

namespace {
sim::Socket* SocketOf(int fd) {
  for (auto& [tuple, socket] : Here().host->sockets) {
    if (sim::kFirstFd + static_cast<int>(socket.number) == fd) return &socket;
  }
  return nullptr;
}
}  // namespace

absl::StatusOr<Endpoint> Capture(int fd, CapturedBytes& storage) {
  sim::Socket* socket = SocketOf(fd);
  if (socket == nullptr || !socket->tcp->established()) {
    return absl::FailedPreconditionError("no established connection");
  }
  const sim::Tcp::Restored now = socket->tcp->Captured();
  Endpoint endpoint;
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

void CloseSilently(UniqueFd fd) { fd.release(); }

uint64_t SocketCookie(int fd) { return static_cast<uint64_t>(fd - sim::kFirstFd); }

size_t SegmentSize(int) { return 0; }
uint32_t UnackedBytes(int fd) {
  const sim::Socket* socket = SocketOf(fd);
  return socket == nullptr ? 0 : static_cast<uint32_t>(socket->tcp->unacked());
}
uint32_t UnsentBytes(int fd) {
  const sim::Socket* socket = SocketOf(fd);
  return socket == nullptr ? 0 : static_cast<uint32_t>(socket->tcp->unsent());
}

uint32_t UnreadBytes(int fd) {
  const sim::Socket* socket = SocketOf(fd);
  return socket == nullptr ? 0 : static_cast<uint32_t>(socket->tcp->readable());
}

bool HasRoundTripTime(int fd) {
  const sim::Socket* socket = SocketOf(fd);
  return socket != nullptr && socket->tcp->timed();
}

uint32_t CurrentTimestamp(int fd) {
  const sim::Socket* socket = SocketOf(fd);
  return socket == nullptr ? 0 : socket->timestamp();
}

absl::StatusOr<std::unique_ptr<NorthWrapper>> NorthWrapper::Create(boost::asio::io_context&, Log* log,
                                                                   const Options&) {
  return std::make_unique<sim::SimNorth>(World::current, log);
}

// No descriptor is a listener here: SimNorth knows whether it listens.
absl::StatusOr<UniqueFd> OpenListener(const SocketAddress&, bool) { return UniqueFd(); }

absl::StatusOr<AddressLock> AddressLock::Take(uint32_t, const std::string&, const std::string&,
                                              const std::string&) {
  return AddressLock(UniqueFd(), "");
}
AddressLock::AddressLock(UniqueFd, std::string) : owner_(0) {}
AddressLock::~AddressLock() = default;

namespace {
class SimAddress final : public ServiceAddress {
 public:
  explicit SimAddress(sim::Process* process) : process_(process) {}
  absl::Status Add() override { return Set(true); }
  absl::Status Remove() override { return Set(false); }
  uint64_t times_put_back() const override { return process_->times_put_back; }
  void Announce() override { process_->world->Announce(*process_); }
  void Probe(std::chrono::milliseconds wait, Probed done) override {
    process_->world->Probe(*process_, wait, std::move(done));
  }
  void ProbeAll(std::chrono::milliseconds wait, ProbedAll done) override {
    Probe(wait, [done = std::move(done)](const absl::StatusOr<std::optional<tcpshim::MacAddress>>& who) {
      if (!who.ok()) return done(who.status());
      done(who->has_value() ? std::vector{**who} : std::vector<tcpshim::MacAddress>{});
    });
  }
  bool carrier() const override { return process_->host->carrier; }
  void WatchCarrier(std::function<void(bool up)> changed) override {
    process_->carrier_changed = std::move(changed);
  }
  void WatchReplacement(std::function<absl::Status(int)>) override {}  // interfaces stay
  absl::StatusOr<Route> RouteTo(uint32_t ip) override {
    return Route{.local = false, .here = true, .next_hop = ip};
  }
  absl::Status Resolve(uint32_t) override { return absl::OkStatus(); }  // this world has no ARP
  uint32_t mtu() const override { return 1500; }
  int interface_index() const override { return 1; }

 private:
  absl::Status Set(bool has) {
    if (process_->dead) return absl::OkStatus();
    process_->host->address = process_->wants_address = has;
    if (!has) process_->announcing = false;
    return absl::OkStatus();
  }
  sim::Process* const process_;
};
}  // namespace

absl::StatusOr<std::unique_ptr<ServiceAddress>> ServiceAddress::Create(boost::asio::io_context&,
                                                                       const Options&) {
  return std::make_unique<SimAddress>(World::current);
}

}  // namespace understudy::tcpshim

// --- The replay ----------------------------------------------------------------------------------

namespace understudy {

class Replayer::Lookahead {};  // a hint, which a world has no use for

// Without a thread: the world decides how far the replay is. The checker's shadow gets everything
// at once.
Replayer::Replayer(Executor* executor, std::function<void(std::string)> unusable)
    : executor_(executor),
      unusable_(std::move(unusable)),
      applied_lsn_(executor->applied_lsn()),
      connections_(executor->connection_count()) {
  sim::World::current->replay = [this] {
    if (queue_.empty() || !fault_.empty()) return;
    Lookahead none;
    fault_ = Apply(queue_.front(), none);
    if (!fault_.empty()) return unusable_(fault_);
    queue_.pop_front();
  };
}

Replayer::~Replayer() { Stop(false); }

void Replayer::Push(replication::RecordBatch batch, replication::Lsn executed_lsn, uint64_t output_hash) {
  sim::World::current->shadow.Apply(batch);
  queue_.push_back({std::move(batch), executed_lsn, output_hash});
}

std::string Replayer::Apply(const Work& work, Lookahead&) {
  const bool forget = finish_ && sim::World::now_in->mutations().skip_replay;
  for (replication::RecordView record : work.batch) {
    std::string emptied;
    if (forget && record.kind == static_cast<uint32_t>(RecordKind::kReceived)) {
      record.body = record.body.substr(0, kReceivedHeadSize);
    }
    const absl::Status applied = executor_->Apply(record);
    if (!applied.ok()) return applied.ToString();
    applied_lsn_.store(record.lsn);
  }
  executor_->TakeTouched();
  connections_.store(executor_->connection_count());
  if (!forget && work.executed_lsn != 0 && work.executed_lsn == executor_->applied_lsn() &&
      work.output_hash != executor_->output_hash()) {
    sim::World::now_in->Violate("I4", "the replay's output differs from the primary's");
    return "the output differs";
  }
  return Commit(/*always=*/false);
}

std::string Replayer::Commit(bool always) {
  const absl::Status committed = executor_->Commit(executor_->applied_lsn(), /*alone=*/false, always);
  cannot_write_ = absl::IsResourceExhausted(committed);
  return committed.ok() || cannot_write_ ? "" : committed.ToString();
}

// The hosts of a world have routes to all.
void Replayer::AskForClients() {}
std::optional<std::vector<uint32_t>> Replayer::TakeClients() { return std::nullopt; }

void Replayer::Stop(bool drain) {
  sim::World::current != nullptr ? void(sim::World::current->replay = nullptr) : void();
  finish_ = drain;
  Lookahead none;
  while (drain && !queue_.empty() && fault_.empty()) {
    if ((fault_ = Apply(queue_.front(), none)).empty()) queue_.pop_front();
  }
  queue_.clear();
}

absl::Status Replayer::Finish(std::chrono::milliseconds) {
  if (sim::World::current->host->replay_hangs) return absl::DeadlineExceededError("the replay hangs");
  Stop(true);
  return fault_.empty() ? absl::OkStatus() : absl::DataLossError(fault_);
}

}  // namespace understudy
