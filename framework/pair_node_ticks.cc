// What a node does time and again, and for as long as it may speak: ticks, the pulse, the carrying out of
// what the cores ask for.
#include <algorithm>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "framework/logged_clock.h"
#include "framework/pair_node.h"
#include "glog/logging.h"
#include "replication/last_word.h"

namespace understudy {

namespace {
constexpr std::chrono::milliseconds kWitnessPause{1'000};
}  // namespace

// What comes up inside is left to the outermost call, so that actions keep their order.
void PairNode::Pump() {
  if (pumping_) return;
  pumping_ = true;
  // The role may change while its actions are carried out.
  while (role_->RunActions()) {
  }
  pumping_ = false;
  role_->OnSettled();
  NoteProtection();
  SetPulse(role_->pulse_epoch());
  ScheduleTick();
}

void PairNode::NoteProtection() {
  const bool is = std::string_view(State()) == "protected";
  if (std::exchange(told_protected_, is) == is || !is) return;
  LOG(INFO) << "protected: " << role_->Protection() << ", and could take over";
}

// --- Time --------------------------------------------------------------------------------------------

void PairNode::ScheduleTick() {
  const auto due = std::min(Now() + config_.heartbeat, role_->NextTick());
  if (tick_->due().has_value() && *tick_->due() <= due) return;
  tick_due_ = due;
  tick_->Set(due, [this] {
    Tick();
    ScheduleTick();
  });
}

void PairNode::Tick() {
  NoteAbsence();
  // A process that was kept from running finds its timers due before it has read what the peer sent
  // meanwhile. That silence is its own: it reads first, and asks again.
  const auto now = Now();
  const bool late = tick_due_ + config_.heartbeat < now;
  tick_due_ = now;
  if (late) {
    host_->Post([this, alive = alive_] {
      if (*alive)
        host_->Post([this, alive] {
          if (*alive) TickNow();
        });
    });
    return;
  }
  TickNow();
}

void PairNode::TickNow() {
  NoteStall();
  role_->LookAtHost();
  NoteClockOff();
  NoteWitness();
  pulse_.Beat(Now());
  // The answers to appends are from before the stall: what was proven meanwhile comes first.
  if (const auto answered = pulse_.TakeAnswered(); answered.has_value()) role_->OnPulseAnswered(*answered);
  role_->OnTick();
  Pump();
  StopWhenPossible();
}

int64_t PairNode::ClockOffUs() const {
  const auto logged = role_->LoggedTimeUs();
  return logged.has_value() ? *logged - clock_->WallMicroseconds() : 0;
}

// Says so when this host's wall clock and the pair's logged time are far apart.
void PairNode::NoteClockOff() const {
  const int64_t off_us = ClockOffUs();
  if (std::abs(off_us) <= LoggedClock::kFarOffUs) return;
  LOG_EVERY_T(WARNING, 60) << "the clocks of the pair are apart: this host's is " << std::abs(off_us / 1000)
                           << " ms " << (off_us > 0 ? "behind" : "ahead of")
                           << " the logged time, which follows the primary's; is NTP running on both?";
}

void PairNode::NoteStall() {
  const auto now = Now();
  const auto before = std::exchange(last_tick_, now);
  if (!before.has_value() || now - *before < config_.suspect_after) return;
  ++counters_.stalls;
  LOG_EVERY_T(WARNING, 1) << "the loop stood still for "
                          << std::chrono::duration_cast<std::chrono::milliseconds>(now - *before).count()
                          << " ms: a call of the Server took long, or the machine had no time for it";
}

// What the lease's clock has not counted, the lease has not either: the other node may serve by now. Silent
// first (a delay within half of the guard is harmless, the rest of it is for the clocks' rates); to go on
// takes an answer to something that is sent from here on.
void PairNode::NoteAbsence() {
  const auto hidden = absence_.SinceLast(*clock_);
  if (hidden <= protocol_.lease_guard / 2) return;
  frontend_.CloseGate();
  SetPulse(std::nullopt);
  ++counters_.absences;
  LOG(WARNING) << "this machine was suspended or paused, or its wall clock set: "
               << std::chrono::duration_cast<std::chrono::milliseconds>(hidden).count()
               << " ms that CLOCK_MONOTONIC does not know of; a lease from before counts no more";
  role_->OnAbsence();
}

void PairNode::NoteWitness() {
  const auto now = Now();
  if (witness_ == nullptr || witness_died_ || role_->IsSilent() || now < next_witness_look_) return;
  next_witness_look_ = now + kWitnessPause;
  witness_died_ = !witness_->Lives();
  LOG_IF(WARNING, witness_died_) << kWitnessDied;
}

// --- The pulse ---------------------------------------------------------------------------------------

// The epoch in which answered pulses may extend the lease; nullopt: in none.
void PairNode::SetPulse(std::optional<uint64_t> epoch) {
  if (epoch == pulse_epoch_) return;
  pulse_epoch_ = epoch;
  if (!epoch.has_value()) return pulse_.Forbid();
  pulse_.Allow(*epoch, role_->protocol_version(), Now());
  if (witness_ != nullptr) {
    witness_->fatal_call()->version = static_cast<uint64_t>(role_->protocol_version());
  }
  pulse_link_->Beat(&pulse_);
}

void PairNode::OnLastWord(const replication::LastWord& last) {
  if (!role_->OnLastWord(last)) {
    ++counters_.pulses_dropped;
    return;
  }
  ++counters_.last_words_heard;
  Pump();
}

std::optional<replication::PulseMessage> PairNode::OnPulse(std::string_view datagram) {
  if (const auto last = replication::DecodeLastWord(datagram, config_.key)) {
    OnLastWord(*last);
    return std::nullopt;
  }
  auto message = replication::DecodePulse(datagram, config_.key);
  const bool heard = message.has_value() && !message->answer && message->service == protocol_.service &&
                     role_->OnPulse(*message);
  if (!heard) {
    ++counters_.pulses_dropped;
    return std::nullopt;
  }
  ++counters_.pulses_heard;
  message->answer = true;
  return message;
}

}  // namespace understudy
