// The replay: a secondary applies what it has stored through its executor, behind the storing of it.
#ifndef UNDERSTUDY_FRAMEWORK_REPLAYER_H_
#define UNDERSTUDY_FRAMEWORK_REPLAYER_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "framework/executor.h"
#include "replication/log.h"
#include "replication/record.h"

namespace understudy {

// Stored records, and hashes that the executor's output must have when it has applied this record or that: in
// order, of records in the batch or of the one before it. Either may be empty.
struct ReplayWork {
  replication::RecordBatch batch;
  std::vector<replication::OutputHash> hashes = {};
};

// What is done with each batch, on whatever thread. Not thread-safe.
class Replay {
 public:
  explicit Replay(Executor* executor) : executor_(executor) {}
  // `applied` is called behind each record. DataLoss: this copy is unusable, and why: a record does not
  // apply, or the output differs from the primary's.
  absl::Status Apply(const ReplayWork& work, const std::function<void(replication::Lsn)>& applied);
  // The Server's Commit, of which all that was applied is stable. `always`: Executor::Commit. DataLoss as
  // above.
  absl::Status Commit(bool always);
  // The last Commit was ResourceExhausted: the Server is asked again, and the replay goes on.
  bool cannot_write() const { return cannot_write_; }

 private:
  // The hashes from `next` on that are of the record that was applied last, or older; Aborted: one differs.
  absl::Status Compare(const std::vector<replication::OutputHash>& hashes, size_t& next) const;

  Executor* const executor_;
  bool cannot_write_ = false;
};

// Made by Host::NewReplayer with an `executor`, which it has for itself until Finish returns, and with
// `unusable(why)`, which is called once when a record does not apply, the output differs from the primary's,
// or the Server cannot commit: the replay has stopped then, and this copy must never serve.
class Replayer {
 public:
  virtual ~Replayer() = default;  // stops where it is; see Finish

  virtual void Push(ReplayWork work) = 0;

  virtual replication::Lsn applied_lsn() const = 0;
  virtual size_t connections() const = 0;
  virtual bool cannot_write() const = 0;  // see Replay
  // The addresses of the clients whose connections are open, each once: asked for, and answered within a
  // tenth of a second or when a call of the Server returns. nullopt: nothing new.
  virtual void AskForClients() = 0;
  virtual std::optional<std::vector<uint32_t>> TakeClients() = 0;

  // Applies and commits all that was pushed, and gives the executor back. DataLoss: this copy is unusable,
  // and why. DeadlineExceeded: nothing was applied for `patience`, the replay hangs in a call of the Server,
  // and the executor is still its own.
  virtual absl::Status Finish(std::chrono::milliseconds patience) = 0;
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_REPLAYER_H_
