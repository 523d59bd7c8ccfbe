// Replayer on a thread of its own: the loop goes on storing and acknowledging, so that a slow Server slows
// nobody's acknowledgement down.
#ifndef UNDERSTUDY_FRAMEWORK_REPLAY_THREAD_H_
#define UNDERSTUDY_FRAMEWORK_REPLAY_THREAD_H_

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
#include "framework/replayer.h"
#include "replication/record.h"

namespace understudy {

class ReplayThread final : public Replayer {
 public:
  // `unusable` is called on the replay thread.
  ReplayThread(Executor* executor, std::function<void(std::string why)> unusable);
  ~ReplayThread() override;

  // Any thread; cheap. What is pushed is applied within about a millisecond, together with what else was
  // pushed meanwhile.
  void Push(ReplayWork work) override;
  replication::Lsn applied_lsn() const override { return applied_lsn_.load(std::memory_order_acquire); }
  size_t connections() const override { return connections_.load(std::memory_order_relaxed); }
  bool cannot_write() const override { return cannot_write_.load(std::memory_order_relaxed); }
  void AskForClients() override;
  std::optional<std::vector<uint32_t>> TakeClients() override;
  // There is no way to end a thread that hangs: unless a later Finish is OK, the destructor ends the process,
  // with status 1.
  absl::Status Finish(std::chrono::milliseconds patience) override;

  // Bytes of records that wait to be applied.
  size_t backlog_bytes() const { return backlog_bytes_.load(std::memory_order_relaxed); }

 private:
  // What the thread does while it does not apply.
  enum class Rest {
    kNone,
    kGathering,  // for a moment, so that more comes together
    kIdle,       // until something is pushed
  };
  void Run();
  void RunUntilEnd();
  void Sleep(std::unique_lock<std::mutex>& lock, Rest rest, std::chrono::microseconds time);
  std::string Apply(const std::deque<ReplayWork>& run);  // what is wrong; empty: nothing
  void TellClients();
  class Lookahead;
  void Stop(bool drain);

  Executor* const executor_;
  Replay replay_;
  const std::function<void(std::string)> unusable_;
  std::atomic<replication::Lsn> applied_lsn_;
  std::atomic<size_t> connections_;
  std::atomic<bool> cannot_write_{false};
  std::atomic<size_t> backlog_bytes_{0};
  std::atomic<bool> clients_wanted_{false};

  std::mutex mutex_;
  std::condition_variable wake_, end_;
  // Guarded by mutex_.
  std::deque<ReplayWork> queue_;
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

#endif  // UNDERSTUDY_FRAMEWORK_REPLAY_THREAD_H_
