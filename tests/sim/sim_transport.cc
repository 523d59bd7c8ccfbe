#include "tests/sim/sim_transport.h"

#include <algorithm>
#include <array>
#include <deque>
#include <string>
#include <utility>
#include <vector>

#include "replication/last_word.h"

namespace understudy::sim {

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
