// The network and the arbiter between the two nodes of a PairSim.
#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "replication/pair_sim.h"

namespace understudy::replication {

// --- The network ---------------------------------------------------------------------------------

void PairSim::Send(int conn, int to, std::function<void()> deliver) {
  if (conn >= 0 && conns_[conn].open) SendNumbered(conn, to, order_++, std::move(deliver));
}

// What is under way when the cable is cut is sent again by TCP, in the order of its numbers.
void PairSim::SendNumbered(int conn, int to, uint64_t order, std::function<void()> deliver) {
  Conn& c = conns_[conn];
  if (cut_) {
    c.held[to].emplace(order, std::move(deliver));
    return;
  }
  c.last[to] = std::max(c.last[to], now_ + microseconds(20) + Delay(max_delay));
  At(c.last[to] - now_, [this, conn, to, order, deliver = std::move(deliver)]() mutable {
    if (!conns_[conn].held[to].empty() || cut_) {
      conns_[conn].held[to].emplace(order, std::move(deliver));
    } else {
      ToNode(to, std::move(deliver));
    }
  });
}

void PairSim::CloseConn(int conn, int by, const std::string& reason) {
  if (!conns_[conn].open) return;
  const int to = 1 - by;
  Send(conn, to, [this, to, conn, reason] {
    conns_[conn].open = false;
    Down(to, conn, reason);
  });
}

void PairSim::Down(int i, int conn, const std::string& reason) {
  Node& node = nodes_[i];
  if (!node.alive || node.conn != conn) return;
  node.conn = -1;
  if (node.primary) node.primary->OnLinkDown(reason, now_);
  if (node.secondary) node.secondary->OnLinkDown(reason, now_);
  Carry(i);
}

void PairSim::DialFrom(int i) {
  const int life = nodes_[i].life;
  const bool cut = cut_;
  At(cut ? milliseconds(20) : microseconds(50) + Delay(max_delay), [this, i, life, cut] {
    // Decided when the SYN arrives: a paused process has a kernel that accepts.
    const DialResult result = reject_               ? DialResult::kRefused
                              : cut || cut_         ? DialResult::kUnreachable
                              : nodes_[1 - i].alive ? DialResult::kConnected
                                                    : DialResult::kRefused;
    ToNode(i, [this, i, life, result] {
      Node& node = nodes_[i];
      if (node.life != life) return;
      if (node.secondary && result == DialResult::kConnected) {
        conns_.push_back(Conn{});
        node.conn = static_cast<int>(conns_.size()) - 1;
      }
      if (node.primary) node.primary->OnDialed(result, now_);
      if (node.secondary) node.secondary->OnDialed(result, now_);
      Carry(i);
    });
  });
}

void PairSim::DeliverJoin(int to, int conn, const wire::JoinRequest& request) {
  Node& node = nodes_[to];
  const int from = 1 - to;
  if (!node.alive || !conns_[conn].open) return;
  PrimaryCore::JoinOutcome outcome;
  if (node.primary) {
    outcome = node.primary->OnJoin(request, now_);
  } else {
    outcome.refused.emplace();
    outcome.refused->reason = wire::RefuseReason::NOT_PRIMARY;
    outcome.refused->detail = "not primary";
  }
  if (outcome.refused.has_value()) {
    Send(conn, from, [this, from, conn, refused = *outcome.refused] {
      Node& dialer = nodes_[from];
      if (dialer.conn != conn || !dialer.secondary) return;
      dialer.secondary->OnRefused(refused, now_);
      Carry(from);
    });
    CloseConn(conn, to, "refused");
  } else {
    node.conn = conn;
    Send(conn, from, [this, from, conn, reply = outcome.reply] {
      Node& dialer = nodes_[from];
      if (dialer.conn != conn || !dialer.secondary) return;
      dialer.secondary->OnJoinReply(reply, now_);
      Carry(from);
    });
  }
  Carry(to);
}

void PairSim::DeliverAppend(int to, int conn, const wire::AppendRequest& request) {
  Node& node = nodes_[to];
  const int from = 1 - to;
  if (node.conn != conn || !node.secondary) return;
  auto outcome = node.secondary->OnAppend(request, AppliedBy(node), now_);
  if (outcome.refused.has_value()) {
    Send(conn, from, [this, from, conn, refused = *outcome.refused] {
      Node& caller = nodes_[from];
      if (caller.conn != conn || !caller.primary) return;
      caller.primary->OnRefused(refused, now_);
      Carry(from);
    });
    Note(absl::StrCat(node.name, " refuses: ", outcome.refused->detail));
    CloseConn(conn, to, "refused");
    node.conn = -1;
    node.secondary->OnLinkDown("refused", now_);
  } else {
    Send(conn, from, [this, from, conn, reply = outcome.reply] {
      Node& caller = nodes_[from];
      if (caller.conn != conn || !caller.primary) return;
      caller.primary->OnAppendReply(reply, now_);
      Carry(from);
    });
  }
  Carry(to);
}

void PairSim::DeliverHandover(int to, int conn, const wire::HandoverRequest& request) {
  Node& node = nodes_[to];
  const int from = 1 - to;
  if (node.conn != conn || !node.secondary) return;
  auto outcome = node.secondary->OnHandover(request, now_);
  Send(conn, from, [this, from, conn, outcome] {
    Node& caller = nodes_[from];
    if (caller.conn != conn || !caller.primary) return;
    if (outcome.refused.has_value()) {
      caller.primary->OnRefused(*outcome.refused, now_);
    } else {
      caller.primary->OnHandoverReply(outcome.reply, now_);
    }
    Carry(from);
  });
  if (outcome.refused.has_value()) {
    CloseConn(conn, to, "refused");
    node.conn = -1;
    node.secondary->OnLinkDown("refused", now_);
  }
  Carry(to);
}

// --- The arbiter ---------------------------------------------------------------------------------

Arbiter::Outcome PairSim::RunArbiter(const std::optional<SwapRegister>& swap) {
  Arbiter::Outcome outcome;
  if (swap.has_value() && register_ == swap->expected) {
    register_ = swap->desired;
    outcome.swapped = true;
    Note(absl::StrCat("arbiter: ", register_.ToString()));
  }
  outcome.current = register_;
  return outcome;
}

void PairSim::AskArbiter(int i, std::optional<SwapRegister> swap) {
  const int life = nodes_[i].life;
  const bool lost = (random_() % 1000) < arbiter_unavailable_ * 1000;
  if (lost) {
    At(Delay(milliseconds(30)),
       [this, i, life] { ArbiterAnswer(i, life, absl::UnavailableError("no answer")); });
    // Never carried out; or carried out, perhaps long after the asker has given up.
    if (random_() % 2 == 0) {
      At(Delay(milliseconds(random_() % 2 == 0 ? 20 : 300)), [this, swap] { RunArbiter(swap); });
    }
    return;
  }
  At(Delay(milliseconds(3)), [this, i, life, swap] {
    const Arbiter::Outcome outcome = RunArbiter(swap);
    const milliseconds slowest(arbiter_slow && random_() % 10 == 0 ? 150 : 3);
    At(Delay(slowest), [this, i, life, outcome] { ArbiterAnswer(i, life, outcome); });
  });
}

void PairSim::ProbeArbiter(int i) {
  const int life = nodes_[i].life;
  const bool lost = (random_() % 1000) < arbiter_unavailable_ * 1000;
  At(Delay(milliseconds(3)), [this, i, life, lost] {
    absl::StatusOr<std::optional<Register>> seen = RunArbiter(std::nullopt).current;
    if (lost) seen = absl::UnavailableError("no answer");
    At(Delay(milliseconds(3)), [this, i, life, seen] {
      ToNode(i, [this, i, life, seen] {
        Node& node = nodes_[i];
        if (node.life != life || node.secondary == nullptr) return;
        node.secondary->OnArbiterChecked(seen, now_);
        Carry(i);
      });
    });
  });
}

void PairSim::ArbiterAnswer(int i, int life, absl::StatusOr<Arbiter::Outcome> outcome) {
  ToNode(i, [this, i, life, outcome = std::move(outcome)] {
    Node& node = nodes_[i];
    if (node.life != life) return;
    if (node.primary) node.primary->OnArbiter(outcome, now_);
    if (node.secondary) {
      node.secondary->OnArbiter(outcome, now_);
      if (node.secondary->state() == SecondaryCore::State::kSilent) {
        Note(absl::StrCat(node.name, " of no use: ", node.secondary->why()));
        Carry(i);
        BecomeSecondary(i);
        return;
      }
    }
    Carry(i);
  });
}

}  // namespace understudy::replication
