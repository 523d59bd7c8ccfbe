// The role of a primary: it serves the clients (Serving), and ships what it logs to the secondary
// (PrimaryCore).
#ifndef UNDERSTUDY_FRAMEWORK_PRIMARY_ROLE_H_
#define UNDERSTUDY_FRAMEWORK_PRIMARY_ROLE_H_

#include <memory>
#include <optional>
#include <string>

#include "framework/role.h"
#include "framework/serving.h"
#include "replication/primary.h"

namespace understudy {

class PrimaryRole final : public NodeRole, private Journal {
 public:
  // `held`: the epoch that the arbiter has granted.
  PrimaryRole(const NodeParts& parts, const replication::Register& held);

  // As the first, with a history that is empty. Or as the heir: primary_takeover.cc.
  void BeginFirst();
  void TakeOver(const Inheritance& inheritance);

  void Begin() override {}
  void Leave() override;
  const char* state() const override;
  void Describe(NodeStatus& status) const override;
  std::string Protection() const override;

  bool RunActions() override;
  void OnSettled() override;
  void LookAtHost() override;
  void OnTick() override;
  replication::MonotonicTime NextTick() const override { return core_.NextTick(); }
  void OnAbsence() override;
  std::optional<int64_t> LoggedTimeUs() const override { return serving_->LoggedTimeUs(); }
  std::optional<uint64_t> pulse_epoch() const override { return core_.pulse_epoch(); }
  int32_t protocol_version() const override { return core_.version(); }
  void OnPulseAnswered(const replication::Pulse::Answered& answered) override;
  void OnReachChanged() override;
  bool OnFenceBroken(const absl::Status& fence) override;
  void OnFenceMended() override { serving_->OnFenceMended(); }
  Stop OnStop(replication::MonotonicTime limit, std::function<void()>& stopped) override;

  Verdict OnJoin(const std::string& from, const replication::wire::JoinRequest& request,
                 replication::wire::JoinReply& reply) override;
  void OnAppendReply(const replication::wire::AppendReply& reply) override;
  void OnHandoverReply(const replication::wire::HandoverReply& reply) override;
  void OnRefused(const replication::wire::Refused& refused) override { core_.OnRefused(refused, Now()); }
  void OnLinkDown(const std::string& reason) override;
  void OnDialed(replication::DialResult result) override { core_.OnDialed(result, Now()); }

 private:
  struct Visitor;
  using State = replication::PrimaryCore::State;

  void OnArbiter(const absl::StatusOr<replication::Arbiter::Outcome>& outcome) override {
    core_.OnArbiter(outcome, Now());
  }
  void OpenGate();
  void Leased(replication::MonotonicTime until);
  void FallSilentForNow(const std::string& reason);
  void FitToSecondary(const replication::wire::JoinRequest& request);
  void TellTheRest(const absl::Status& why);
  void DieIfTold();
  std::optional<Fault> FatalConnection(const Inheritance& inheritance) const;

  // --- Journal: what Serving appends ---
  replication::Lsn Append(replication::RecordBatch batch, replication::Lsn executed_lsn,
                          uint64_t output_hash) override;
  bool CanAppend() const override { return core_.CanAppend(); }
  bool StableAtOnce() const override { return core_.state() == State::kSolo; }
  replication::Lsn StableLsn() const override { return core_.stable_lsn(); }
  bool PeerCannotWrite() const override { return peer_cannot_write_ && core_.state() == State::kProtected; }
  void OnCommitFailed(absl::Status why) override;
  void OnServerThrew(absl::Status why, replication::RecordBatch last, replication::Lsn executed_lsn,
                     uint64_t output_hash) override;

  replication::PrimaryCore core_;
  const std::unique_ptr<Serving> serving_;
  bool taking_over_ = false;
  bool ready_ = false;  // listener and service address are there
  bool gate_open_ = false;
  bool appending_ = false;          // Append says what is stable
  bool told_alone_ = true;          // of the secondary's loss
  bool peer_cannot_write_ = false;  // as the secondary says
  std::string secondary_lacks_;     // that this node has; for the status
  std::string secondary_warns_;     // likewise, in its own words
  bool segments_limited_ = false;   // for the sake of the secondary's interface
  // The Server threw, or packets get past the south wrapper: this node ends when the other has the log up to
  // `last`, or in any case at `at_most`.
  struct Dying {
    absl::Status why;
    std::optional<replication::Lsn> last;  // none: what clients have sent is still being taken
    replication::MonotonicTime at_most;
  };
  std::optional<Dying> dying_;
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_PRIMARY_ROLE_H_
