#include "framework/replayer.h"

#include "absl/strings/str_cat.h"

namespace understudy {

absl::Status Replay::Apply(const ReplayWork& work, const std::function<void(replication::Lsn)>& applied) {
  size_t next = 0;
  absl::Status whole = Compare(work.hashes, next);
  for (const replication::RecordView record : work.batch) {
    if (!whole.ok()) break;
    whole = executor_->Apply(record);
    if (!whole.ok()) break;
    applied(record.lsn);
    whole = Compare(work.hashes, next);
  }
  executor_->TakeTouched();  // nothing leaves here
  return whole.ok() ? absl::OkStatus() : absl::DataLossError(whole.message());
}

absl::Status Replay::Compare(const std::vector<replication::OutputHash>& hashes, size_t& next) const {
  for (; next < hashes.size() && hashes[next].lsn <= executor_->applied_lsn(); ++next) {
    if (hashes[next].lsn != executor_->applied_lsn() || hashes[next].hash == executor_->output_hash())
      continue;
    return absl::AbortedError(absl::StrCat("output differs from the primary's at LSN ", hashes[next].lsn,
                                           ": the Server is not deterministic"));
  }
  return absl::OkStatus();
}

absl::Status Replay::Commit(bool always) {
  const absl::Status committed = executor_->Commit(executor_->applied_lsn(), /*alone=*/false, always);
  cannot_write_ = absl::IsResourceExhausted(committed);
  if (committed.ok() || cannot_write_) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("the Server cannot commit: ", committed.ToString()));
}

}  // namespace understudy
