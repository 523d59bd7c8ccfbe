#include "replication/pair_sim.h"

#include <algorithm>
#include <type_traits>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "replication/last_word.h"

namespace understudy::replication {
namespace {

constexpr char kNames[2][2] = {"a", "b"};

template <typename T>
constexpr bool Is(const Action& action) {
  return std::holds_alternative<T>(action);
}

}  // namespace

PairSim::PairSim(uint32_t seed) : random_(seed), now_(std::chrono::seconds(1000)) {
  register_ = FirstServedBy(Register{}, kNames[0]);
  for (int i = 0; i < 2; ++i) {
    nodes_[i].name = kNames[i];
    nodes_[i].last_word = absl::StrCat(kNames[i], 0);
  }
  nodes_[0].primary = std::make_unique<PrimaryCore>(ConfigOf(0), register_, nodes_[0].log.get(), now_);
  nodes_[1].secondary = std::make_unique<SecondaryCore>(ConfigOf(1), nodes_[1].log.get(), now_);
  NewPulse(0);
  for (int i = 0; i < 2; ++i) {
    Carry(i);
    Tick(i, nodes_[i].life);
  }
}

ProtocolConfig PairSim::ConfigOf(int i) const {
  ProtocolConfig config;
  config.self.name = kNames[i];
  config.service = "10.0.0.1:80";
  config.last_word_hash = HashOfLastWord(nodes_[i].last_word);
  config.give_back_wait = milliseconds(500);
  config.max_stall = milliseconds(400);
  config.max_catch_up_bytes = 2000;
  config.max_unstable_bytes = 20000;
  return config;
}

void PairSim::At(nanoseconds delay, std::function<void()> run) {
  events_.push(Event{now_ + delay, order_++, std::move(run)});
}

nanoseconds PairSim::Delay(nanoseconds max) { return nanoseconds(random_() % (max.count() + 1)); }

void PairSim::ToNode(int i, std::function<void()> run) {
  if (nodes_[i].paused) {
    nodes_[i].inbox.push_back(std::move(run));
  } else {
    run();
  }
}

void PairSim::Note(const std::string& what) {
  trace_.push_back(
      absl::StrCat((now_ - MonotonicTime(std::chrono::seconds(1000))).count() / 1000, " us: ", what));
}

void PairSim::Fail(const std::string& what) {
  Note(absl::StrCat("FAILED: ", what));
  failed_ = true;
}

void PairSim::Run(nanoseconds span) {
  RunUntil([] { return false; }, span);
}

bool PairSim::RunUntil(const std::function<bool()>& done, nanoseconds at_most) {
  const MonotonicTime end = now_ + at_most;
  while (!failed_ && !done()) {
    if (events_.empty() || events_.top().at > end) {
      now_ = end;
      return done();
    }
    Event event = events_.top();
    events_.pop();
    now_ = event.at;
    event.run();
  }
  return !failed_;
}

int PairSim::serving() const {
  for (int i = 0; i < 2; ++i) {
    if (nodes_[i].primary != nullptr && nodes_[i].serves_until_now(now_)) return i;
  }
  return -1;
}

bool PairSim::Protected() {
  const int i = serving();
  if (i < 0) return false;
  const Node& other = nodes_[1 - i];
  return nodes_[i].primary->state() == PrimaryCore::State::kProtected && other.alive &&
         other.secondary != nullptr && other.secondary->state() == SecondaryCore::State::kProtected &&
         other.secondary->epoch() == register_.epoch;
}

// --- What can happen -----------------------------------------------------------------------------

void PairSim::AppendSome(int i) {
  Node& node = nodes_[i];
  if (!node.alive || node.paused || node.primary == nullptr || !node.primary->CanAppend()) return;
  BatchBuilder builder(node.primary->last_lsn() + 1);
  for (int n = 1 + random_() % 3; n > 0; --n) {
    builder.Append(1, 1, absl::StrCat(node.name, "-", ++made_, "-"), std::string(random_() % 200, 'x'));
  }
  RecordBatch batch = builder.Seal();
  Note(node, batch);
  node.primary->OnAppended(std::move(batch), node.bodies.size(), node.hashes.back(), now_);
  Carry(i);
}

void PairSim::Cut(bool cut) {
  if (cut_ == cut) return;
  Note(cut ? "cut" : "healed");
  cut_ = cut;
  if (cut) return;
  for (size_t c = 0; c < conns_.size(); ++c) {
    for (int to = 0; to < 2; ++to) {
      auto held = std::exchange(conns_[c].held[to], {});
      for (auto& [order, deliver] : held) {
        SendNumbered(static_cast<int>(c), to, order, std::move(deliver));
      }
    }
  }
}

void PairSim::ResetLinks() {
  Note("links reset");
  for (size_t c = 0; c < conns_.size(); ++c) {
    if (!conns_[c].open) continue;
    conns_[c].open = false;
    for (int i = 0; i < 2; ++i) {
      At(Delay(max_delay),
         [this, i, c] { ToNode(i, [this, i, c] { Down(i, static_cast<int>(c), "reset"); }); });
    }
  }
}

void PairSim::Pause(int i, bool paused) {
  Node& node = nodes_[i];
  if (paused) node.stalled = false;  // stopped in its call: so is its thread
  if (node.paused == paused || !node.alive || node.stalled) return;
  Note(absl::StrCat(node.name, paused ? " stopped" : " continued"));
  node.paused = paused;
  if (paused) return;
  const auto inbox = std::exchange(node.inbox, {});
  for (const auto& run : inbox) run();
}

void PairSim::Kill(int i) {
  Node& node = nodes_[i];
  if (!node.alive) return;
  Note(absl::StrCat(node.name, " killed"));
  SayLastWord(i);
  node.alive = node.hung = false;
  node.paused = node.stalled = false;
  node.pulse.reset();
  ++node.life;
  node.inbox.clear();
  Forget(node);
  node.silent = true;
  node.conn = -1;
  for (size_t c = 0; c < conns_.size(); ++c) {
    if (conns_[c].open) CloseConn(static_cast<int>(c), i, "process ended");
  }
}

void PairSim::Restart(int i) {
  if (nodes_[i].alive) return;
  Note(absl::StrCat(nodes_[i].name, " restarted"));
  nodes_[i].alive = true;
  nodes_[i].last_word = absl::StrCat(nodes_[i].name, nodes_[i].life);
  BecomeSecondary(i);
}

// By its witness, some times, as soon as the kernel has told it. Any of them may be lost.
void PairSim::SayLastWord(int of) {
  for (const int after_ms : {0, 1, 3, 10}) {
    At(milliseconds(after_ms) + Delay(max_delay), [this, to = 1 - of, word = nodes_[of].last_word] {
      if (cut_ || random_() % 10 == 0) return;
      ToNode(to, [this, to, word] {
        Node& node = nodes_[to];
        if (!node.alive || node.secondary == nullptr) return;
        node.secondary->OnLastWord(word, now_);
        Carry(to);
      });
    });
  }
}

void PairSim::Hang(int i, bool hung) {
  Node& node = nodes_[i];
  if (!node.alive || node.hung == hung || node.secondary == nullptr) return;
  Note(absl::StrCat(node.name, hung ? "'s replay hangs" : "'s replay goes on"));
  node.hung_at = node.bodies.size();
  node.hung = hung;
}

void PairSim::Overwrite(const Register& reg) {
  Note(absl::StrCat("somebody writes: ", reg.ToString()));
  register_ = reg;
}

void PairSim::GiveBack(int i, const Register& granted) {
  Note(absl::StrCat(nodes_[i].name, " cannot serve"));
  At(Delay(milliseconds(3)), [this, i, granted] {
    RunArbiter(SwapRegister{granted, GivenBack(granted, nodes_[1 - i].name)});
  });
  Kill(i);
}

void PairSim::Carrier(int i, bool up) {
  Node& node = nodes_[i];
  if (node.carrier == up) return;
  Note(absl::StrCat(node.name, up ? " has carrier" : " lost carrier"));
  node.carrier = up;
  const int life = node.life;
  ToNode(i, [this, i, life, up] {
    Node& node = nodes_[i];
    if (node.life != life) return;
    if (node.primary) node.primary->OnServiceCarrier(up, now_);
    if (node.secondary) node.secondary->OnServiceCarrier(up, now_);
    Carry(i);
  });
}

bool PairSim::Handover(int i) {
  Node& node = nodes_[i];
  if (!node.alive || node.paused || node.primary == nullptr) return false;
  const bool begun = node.primary->OnHandoverWanted("maintenance", now_).ok();
  if (begun) Note(absl::StrCat(node.name, " hands over"));
  Carry(i);
  return begun;
}

bool PairSim::CanBeSpared(int i) const {
  const Node& node = nodes_[i];
  const Node& other = nodes_[1 - i];
  if (!node.alive) return true;
  if (register_.holder == node.name && register_.secondary.empty()) return false;
  // What it has asked for may be granted to the dead.
  if (node.secondary && node.secondary->state() == SecondaryCore::State::kAsking) return false;
  if (node.primary && node.primary->state() == PrimaryCore::State::kAlone) return false;
  if (!other.alive || other.hung || other.bodies.size() < stable_.size()) return false;
  return other.primary != nullptr || other.secondary->state() != SecondaryCore::State::kJoining;
}

// --- The nodes -----------------------------------------------------------------------------------

void PairSim::Tick(int i, int life) {
  Node& node = nodes_[i];
  if (node.life != life || !node.alive) return;
  ToNode(i, [this, i, life] {
    Node& node = nodes_[i];
    if (node.life != life) return;
    if (node.primary) node.primary->OnTick(now_);
    if (node.secondary) node.secondary->OnTick(now_);
    Carry(i);
  });
  MonotonicTime next = now_ + milliseconds(10);
  if (node.primary) next = std::min(next, node.primary->NextTick());
  if (node.secondary) next = std::min(next, node.secondary->NextTick());
  // Timers are late.
  const nanoseconds wait = std::max<nanoseconds>(next - now_, microseconds(50)) + Delay(milliseconds(1));
  At(wait, [this, i, life] { Tick(i, life); });
}

void PairSim::Carry(int i) {
  Node& node = nodes_[i];
  const int life = node.life;
  while (node.alive && node.life == life) {
    Actions actions = node.primary ? node.primary->Take() : node.secondary->Take();
    if (node.primary) node.primary->CheckInvariants();
    if (node.secondary) node.secondary->CheckInvariants();
    if (actions.empty()) return UpdatePulse(i);
    for (const Action& action : actions) {
      if (node.life != life) return;
      if (intercept && intercept(i, action)) continue;
      CarryOne(i, action);
    }
  }
}

void PairSim::CarryOne(int i, const Action& action) {
  Node& node = nodes_[i];
  const int conn = node.conn;
  const int peer = 1 - i;
  if (auto* join = std::get_if<SendJoin>(&action)) {
    wire::JoinRequest request = join->request;
    request.applied_lsn = static_cast<int64_t>(AppliedBy(node));
    Send(conn, peer, [this, peer, conn, request] { DeliverJoin(peer, conn, request); });
  } else if (auto* append = std::get_if<SendAppend>(&action)) {
    Send(conn, peer, [this, peer, conn, r = append->request] { DeliverAppend(peer, conn, r); });
  } else if (auto* handover = std::get_if<SendHandover>(&action)) {
    Send(conn, peer, [this, peer, conn, r = handover->request] { DeliverHandover(peer, conn, r); });
  } else if (auto* close = std::get_if<CloseLink>(&action)) {
    Note(absl::StrCat(node.name, " closes the link: ", close->reason));
    node.conn = -1;
    if (conn >= 0) CloseConn(conn, i, close->reason);
  } else if (Is<Dial>(action)) {
    DialFrom(i);
  } else if (Is<ReadRegister>(action)) {
    AskArbiter(i, std::nullopt);
  } else if (Is<CheckArbiter>(action)) {
    ProbeArbiter(i);
  } else if (auto* swap = std::get_if<SwapRegister>(&action)) {
    AskArbiter(i, *swap);
  } else if (auto* stable = std::get_if<StableUpTo>(&action)) {
    CheckStable(i, stable->lsn);
  } else if (auto* lease = std::get_if<Lease>(&action)) {
    if (nodes_[peer].serves_until_now(now_)) Fail(absl::StrCat(node.name, " gets a second lease"));
    node.lease_until = std::max(node.lease_until, lease->until);
    node.silent = false;
  } else if (auto* silent = std::get_if<FallSilent>(&action)) {
    Note(absl::StrCat(node.name, " silent: ", silent->reason));
    node.silent = true;
    node.lease_until = std::min(node.lease_until, now_);
  } else if (auto* deposed = std::get_if<Deposed>(&action)) {
    Note(absl::StrCat(node.name, " deposed: ", deposed->reason));
    BecomeSecondary(i);
  } else if (auto* replay = std::get_if<Replay>(&action)) {
    Note(node, replay->batch);
    Compare(node, *replay);
  } else if (auto* takeover = std::get_if<TakeOver>(&action)) {
    BecomePrimary(i, *takeover);
  }
}

void PairSim::BecomeSecondary(int i) {
  Node& node = nodes_[i];
  ++node.life;
  node.pulse.reset();
  Forget(node);
  node.conn = -1;
  node.silent = true;
  node.hung = false;
  node.secondary = std::make_unique<SecondaryCore>(ConfigOf(i), node.log.get(), now_);
  node.secondary->OnServiceCarrier(node.carrier, now_);
  Carry(i);
  Tick(i, node.life);
}

void PairSim::BecomePrimary(int i, const TakeOver& takeover) {
  Node& node = nodes_[i];
  Note(absl::StrCat(node.name, " takes over: ", takeover.why, "; ", takeover.granted.ToString()));
  ++takeovers_;
  if (nodes_[1 - i].serves_until_now(now_)) Fail("takeover while the other serves");
  if (takeover.last_lsn != node.bodies.size()) Fail("takeover with a wrong end of the log");
  if (takeover.last_lsn < stable_.size()) Fail("takeover without stable records");
  for (size_t k = 0; k < std::min(stable_.size(), node.bodies.size()); ++k) {
    if (stable_[k] != node.bodies[k]) Fail(absl::StrCat("takeover with another record ", k + 1));
  }
  if (node.cannot_serve || node.hung) return GiveBack(i, takeover.granted);
  ++node.life;
  node.secondary.reset();
  if (node.conn >= 0) CloseConn(node.conn, i, "took over");
  node.conn = -1;
  node.primary = std::make_unique<PrimaryCore>(ConfigOf(i), takeover.granted, node.log.get(), now_);
  node.primary->OnServiceCarrier(node.carrier, now_);
  NewPulse(i);
  Carry(i);
  Tick(i, node.life);
}

// As a process that begins, or the core of another role that has no use for it.
void PairSim::Forget(Node& node) {
  node.primary.reset();
  node.secondary.reset();
  node.log = std::make_unique<MemoryLog>();
  node.bodies.clear();
  node.hashes.clear();
  node.stable_checked = 0;
}

void PairSim::Note(Node& node, const RecordBatch& batch) {
  for (const RecordView& record : batch) {
    if (record.lsn != node.bodies.size() + 1) Fail(absl::StrCat("gap at ", record.lsn));
    node.bodies.emplace_back(record.body);
    node.hashes.push_back(Crc64(record.body, node.hashes.empty() ? 0 : node.hashes.back()));
  }
}

// The end of each batch of the primary's has a hash, and so has what several of them were sent as.
void PairSim::Compare(const Node& node, const Replay& replay) {
  for (const OutputHash& hash : replay.hashes) {
    if (hash.lsn > node.hashes.size() || node.hashes[hash.lsn - 1] != hash.hash) {
      Fail(absl::StrCat(node.name, " gets another hash for record ", hash.lsn));
    }
  }
  if (replay.batch.empty()) return;
  if (replay.hashes.empty() || replay.hashes.back().lsn != replay.batch.last_lsn()) {
    Fail(absl::StrCat(node.name, " gets no hash for record ", replay.batch.last_lsn()));
  }
}

void PairSim::CheckStable(int i, Lsn lsn) {
  Node& node = nodes_[i];
  if (lsn > node.bodies.size()) return Fail("stable beyond the end");
  for (Lsn& at = node.stable_checked; at < lsn; ++at) {
    if (at >= stable_.size()) {
      stable_.push_back(node.bodies[at]);
    } else if (stable_[at] != node.bodies[at]) {
      return Fail(absl::StrCat("record ", at + 1, " is stable twice, differently"));
    }
  }
}

}  // namespace understudy::replication
