// The role of a secondary: it joins the primary, stores its log, replays it, and takes over when it is
// granted that.
//
//   records from the link -> SecondaryCore (stored, acknowledged) -> Replayer -> Executor
#ifndef UNDERSTUDY_FRAMEWORK_STANDBY_ROLE_H_
#define UNDERSTUDY_FRAMEWORK_STANDBY_ROLE_H_

#include <memory>
#include <optional>
#include <string>

#include "framework/recent_maximum.h"
#include "framework/replayer.h"
#include "framework/role.h"
#include "replication/secondary.h"

namespace understudy {

class StandbyRole final : public NodeRole {
 public:
  explicit StandbyRole(const NodeParts& parts);

  void Begin() override;
  // A replay that hangs cannot be ended but with the process (ReplayThread).
  bool CanBeDestroyed() const override { return !replay_hangs_; }
  const char* state() const override;
  void Describe(NodeStatus& status) const override;
  std::string Protection() const override;

  bool RunActions() override;
  void OnSettled() override;
  void LookAtHost() override;
  void OnTick() override { core_.OnTick(Now()); }
  replication::MonotonicTime NextTick() const override { return core_.NextTick(); }
  std::optional<int64_t> LoggedTimeUs() const override;
  bool OnPulse(const replication::PulseMessage& message) override;
  bool OnLastWord(const replication::LastWord& last) override;
  void OnReachChanged() override;
  bool OnFenceBroken(const absl::Status& fence) override;

  Verdict OnAppend(replication::wire::AppendRequest request, replication::wire::AppendReply& reply) override;
  Verdict OnHandover(const replication::wire::HandoverRequest& request,
                     replication::wire::HandoverReply& reply) override;
  void OnJoinReply(const replication::wire::JoinReply& reply) override;
  void OnRefused(const replication::wire::Refused& refused) override { core_.OnRefused(refused, Now()); }
  void OnLinkDown(const std::string& reason) override { core_.OnLinkDown(reason, Now()); }
  bool KeepsDialed() const override { return true; }
  void OnDialed(replication::DialResult result) override { core_.OnDialed(result, Now()); }

 private:
  struct Visitor;
  void OnArbiter(const absl::StatusOr<replication::Arbiter::Outcome>& outcome) override {
    core_.OnArbiter(outcome, Now());
  }
  void CheckArbiter();
  void TellObstacle();
  void NoteSentAt(int64_t sent_at_ns, int64_t logged_us, replication::MonotonicTime now);
  void TakeOver(const replication::TakeOver& granted);

  replication::SecondaryCore core_;
  std::unique_ptr<Replayer> replayer_;
  std::optional<replication::TakeOver> granted_;  // carried out when all other actions have been
  bool taking_over_ = false;
  bool replay_hangs_ = false;
  std::string told_obstacle_;  // to core_

  // Old primary's CLOCK_MONOTONIC less ours: the largest seen, which is the nearest, since a message
  // only ever arrives late.
  std::optional<std::chrono::nanoseconds> clock_ahead_;
  RecentMaximum<std::chrono::nanoseconds> lately_ahead_{std::chrono::seconds(5)};  // the same, of late
  // When the newest that was heard from this primary was sent, by its clock. A datagram that is
  // no newer has been heard, or has been overtaken; somebody may have kept it.
  int64_t newest_sent_at_ns_ = 0;
  ToldTime told_time_;  // the primary's logged time

  replication::FatalCall fatal_;  // of the dead primary, if its witness has told
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_STANDBY_ROLE_H_
