#include "framework/replayer.h"

#include "absl/strings/str_cat.h"

namespace understudy {

absl::Status Replay::Apply(const ReplayWork& work, const std::function<void(replication::Lsn)>& applied) {
  absl::Status fault;
  for (const replication::RecordView record : work.batch) {
    if (absl::Status one = executor_->Apply(record); !one.ok()) {
      fault = absl::DataLossError(one.message());
      break;
    }
    applied(record.lsn);
  }
  executor_->TakeTouched();  // nothing leaves here
  if (fault.ok() && work.executed_lsn != 0 && work.executed_lsn == executor_->applied_lsn() &&
      work.output_hash != executor_->output_hash()) {
    return absl::DataLossError(absl::StrCat("output differs from the primary's at LSN ", work.executed_lsn,
                                            ": the Server is not deterministic"));
  }
  return fault;
}

absl::Status Replay::Commit(bool always) {
  const absl::Status committed = executor_->Commit(executor_->applied_lsn(), /*alone=*/false, always);
  cannot_write_ = absl::IsResourceExhausted(committed);
  if (committed.ok() || cannot_write_) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("the Server cannot commit: ", committed.ToString()));
}

}  // namespace understudy
