// The replayer: the secondary's second thread. It applies stored records through the executor while the
// loop goes on storing and acknowledging, so that a slow Server slows nobody's acknowledgement down.
#ifndef UNDERSTUDY_FRAMEWORK_REPLAYER_H_
#define UNDERSTUDY_FRAMEWORK_REPLAYER_H_

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "framework/executor.h"
#include "replication/record.h"

namespace understudy {

class Replayer {
 public:
  // `executor` belongs to the replay thread until Finish returns. `unusable(why)` is called once, on the
  // replay thread, when a record does not apply, the output differs from the primary's, or the Server
  // cannot commit: the replay has stopped then, and this copy must never serve.
  Replayer(Executor* executor, std::function<void(std::string why)> unusable);
  ~Replayer();  // stops where it is; see Finish

  // Any thread; cheap. What is pushed is applied within about a millisecond, together with what else was
  // pushed meanwhile. When the executor has applied `executed_lsn`, the hash of its output must be
  // `output_hash`; executed_lsn 0: nothing to compare.
  void Push(replication::RecordBatch batch, replication::Lsn executed_lsn, uint64_t output_hash);

  replication::Lsn applied_lsn() const { return applied_lsn_.load(std::memory_order_acquire); }
  size_t connections() const { return connections_.load(std::memory_order_relaxed); }
  // The Server's last Commit was ResourceExhausted: it is asked again, and the replay goes on.
  bool cannot_write() const { return cannot_write_.load(std::memory_order_relaxed); }
  // The addresses of the clients whose connections are open, each once: asked for, and answered within a
  // tenth of a second or when a call of the Server returns. nullopt: nothing new.
  void AskForClients();
  std::optional<std::vector<uint32_t>> TakeClients();
  // Bytes of records that wait to be applied.
  size_t backlog_bytes() const { return backlog_bytes_.load(std::memory_order_relaxed); }

  // Applies and commits all that was pushed, ends the thread and gives the executor back to the caller's
  // thread. DataLoss: this copy is unusable, and why. DeadlineExceeded: nothing was applied for `patience`;
  // the thread hangs in a call of the Server, and the executor is still its own. There is no way to end it:
  // unless a later Finish is OK, the destructor ends the process, with status 1.
  absl::Status Finish(std::chrono::milliseconds patience);

 private:
  struct Work {
    replication::RecordBatch batch;
    replication::Lsn executed_lsn;
    uint64_t output_hash;
  };
  // What the thread does while it does not apply.
  enum class Rest {
    kNone,
    kGathering,  // for a moment, so that more comes together
    kIdle,       // until something is pushed
  };
  void Run();
  void RunUntilEnd();
  void Sleep(std::unique_lock<std::mutex>& lock, Rest rest, std::chrono::microseconds time);
  std::string Apply(const std::deque<Work>& run);  // what is wrong; empty: nothing
  std::string Commit(bool always);                 // likewise
  void TellClients();
  class Lookahead;
  std::string Apply(const Work& work, Lookahead& ahead);
  void Stop(bool drain);

  Executor* const executor_;
  const std::function<void(std::string)> unusable_;
  std::atomic<replication::Lsn> applied_lsn_;
  std::atomic<size_t> connections_;
  std::atomic<bool> cannot_write_{false};
  std::atomic<size_t> backlog_bytes_{0};
  std::atomic<bool> clients_wanted_{false};

  std::mutex mutex_;
  std::condition_variable wake_, end_;
  // Guarded by mutex_.
  std::deque<Work> queue_;
  Rest rest_ = Rest::kNone;
  bool finish_ = false;
  bool abandon_ = false;
  bool ended_ = false;  // the thread has
  bool hangs_ = false;  // Finish has given up
  std::optional<std::vector<uint32_t>> clients_;
  std::string fault_;  // not empty: this copy is unusable

  std::thread thread_;  // last: it uses all of the above
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_REPLAYER_H_
