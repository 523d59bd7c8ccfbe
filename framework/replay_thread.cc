#include "framework/replay_thread.h"

#include <pthread.h>
#include <sched.h>

#include <chrono>
#include <cstdlib>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace understudy {

using replication::RecordBatch;

namespace {
// While there is work, the replay thread looks for it this often, and nobody has to wake it: one wake-up
// serves the appends of many turns. Short against a takeover, which does not wait for it.
constexpr std::chrono::milliseconds kGather{1};
// A replay that is busy for a quarter of such a time does not gather: its work is large against a wake-up,
// and is better done while the next comes than in lumps with others.
constexpr std::chrono::milliseconds kLoadWindow{10};
constexpr int kLoadParts = 4;
// Bytes that are not left to wait.
constexpr size_t kMuch = 64 << 10;
// The longest time without a Commit.
constexpr std::chrono::milliseconds kIdleCommit{100};

// Whether a thread is busy for a larger part of the time.
class Load {
 public:
  void Worked(std::chrono::steady_clock::time_point begin, std::chrono::steady_clock::time_point end) {
    busy_ += end - begin;
    if (end - since_ < kLoadWindow) return;
    high_ = busy_ * kLoadParts >= end - since_;
    since_ = end;
    busy_ = {};
  }
  bool high() const { return high_; }

 private:
  std::chrono::steady_clock::time_point since_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::duration busy_{};
  bool high_ = false;
};
}  // namespace

ReplayThread::ReplayThread(Executor* executor, std::function<void(std::string)> unusable)
    : executor_(executor),
      replay_(executor),
      unusable_(std::move(unusable)),
      applied_lsn_(executor->applied_lsn()),
      connections_(executor->connection_count()),
      thread_([this] { Run(); }) {
  pthread_setname_np(thread_.native_handle(), "replay");
}

ReplayThread::~ReplayThread() {
  if (std::lock_guard lock(mutex_); hangs_ && !ended_) {
    google::FlushLogFiles(google::GLOG_INFO);
    std::_Exit(EXIT_FAILURE);
  }
  Stop(/*drain=*/false);
}

void ReplayThread::Push(ReplayWork work) {
  const size_t backlog = backlog_bytes_ += work.batch.bytes().size();
  {
    std::lock_guard lock(mutex_);
    queue_.push_back(std::move(work));
    const bool wanted = rest_ == Rest::kIdle || (rest_ == Rest::kGathering && backlog > kMuch);
    if (!wanted) return;
    rest_ = Rest::kNone;
  }
  wake_.notify_one();
}

// Sleeps until `time` has passed or somebody sets rest_ to kNone.
void ReplayThread::Sleep(std::unique_lock<std::mutex>& lock, Rest rest, std::chrono::microseconds time) {
  if (finish_ || abandon_) return;
  rest_ = rest;
  wake_.wait_for(lock, time, [this] { return rest_ == Rest::kNone; });
  rest_ = Rest::kNone;
}

void ReplayThread::Run() {
  RunUntilEnd();
  std::lock_guard lock(mutex_);
  ended_ = true;
  end_.notify_all();
}

void ReplayThread::RunUntilEnd() {
  // When it wakes up, it does not push the loop, or another's, off the processor: nobody waits for it. It
  // still gets its share. Where that is refused it works as well, only less smoothly.
  const sched_param none = {};
  (void)pthread_setschedparam(pthread_self(), SCHED_BATCH, &none);
  std::deque<ReplayWork> taken;
  Load load;
  for (bool idle = true;; idle = taken.empty()) {
    taken.clear();
    {
      std::unique_lock lock(mutex_);
      if (idle && queue_.empty()) Sleep(lock, Rest::kIdle, kIdleCommit);
      if (!load.high() && backlog_bytes_ <= kMuch) Sleep(lock, Rest::kGathering, kGather);
      if (abandon_ || (queue_.empty() && finish_)) return;
      taken.swap(queue_);
    }
    const auto begun = std::chrono::steady_clock::now();
    std::string fault = Apply(taken);
    if (clients_wanted_.exchange(false, std::memory_order_relaxed)) TellClients();
    load.Worked(begun, std::chrono::steady_clock::now());
    if (!fault.empty()) {
      {
        std::lock_guard lock(mutex_);
        fault_ = fault;
      }
      return unusable_(std::move(fault));
    }
  }
}

// Walks through the records of a run some records ahead, and tells the executor to expect them.
class ReplayThread::Lookahead {
 public:
  Lookahead(Executor* executor, const std::deque<ReplayWork>& run)
      : executor_(executor), run_(run), at_(run.empty() ? kNowhere : run.front().batch.begin()) {
    for (size_t i = 0; i <= Executor::kExpectAhead; ++i) Step();
  }
  void Step() {
    while (work_ < run_.size() && at_ == run_[work_].batch.end()) {
      at_ = ++work_ < run_.size() ? run_[work_].batch.begin() : kNowhere;
    }
    if (work_ == run_.size()) return;
    executor_->Expect(*at_);
    ++at_;
  }

 private:
  static constexpr RecordBatch::Iterator kNowhere{nullptr};
  Executor* const executor_;
  const std::deque<ReplayWork>& run_;
  size_t work_ = 0;
  RecordBatch::Iterator at_;
};

// One Commit for all of it, or for nothing when there was nothing for a while: a Server that keeps things
// writes much at once as cheaply as little.
std::string ReplayThread::Apply(const std::deque<ReplayWork>& run) {
  Lookahead ahead(executor_, run);
  const auto applied = [&](replication::Lsn lsn) {
    ahead.Step();
    applied_lsn_.store(lsn, std::memory_order_release);
  };
  for (const ReplayWork& work : run) {
    const absl::Status whole = replay_.Apply(work, applied);
    connections_.store(executor_->connection_count(), std::memory_order_relaxed);
    if (!whole.ok()) return std::string(whole.message());
    backlog_bytes_ -= work.batch.bytes().size();
  }
  const absl::Status committed = replay_.Commit(/*always=*/run.empty());
  cannot_write_ = replay_.cannot_write();
  return std::string(committed.message());
}

void ReplayThread::AskForClients() { clients_wanted_.store(true, std::memory_order_relaxed); }

std::optional<std::vector<uint32_t>> ReplayThread::TakeClients() {
  std::lock_guard lock(mutex_);
  return std::exchange(clients_, std::nullopt);
}

void ReplayThread::TellClients() {
  absl::flat_hash_set<uint32_t> seen;
  std::vector<uint32_t> clients;
  executor_->ForEach([&](const ConnectionState& state) {
    const uint32_t ip = state.opened().tuple.remote.ip;
    if (!state.opened().local && seen.insert(ip).second) clients.push_back(ip);
  });
  std::lock_guard lock(mutex_);
  clients_ = std::move(clients);
}

void ReplayThread::Stop(bool drain) {
  {
    std::lock_guard lock(mutex_);
    (drain ? finish_ : abandon_) = true;
    rest_ = Rest::kNone;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

absl::Status ReplayThread::Finish(std::chrono::milliseconds patience) {
  {
    std::unique_lock lock(mutex_);
    finish_ = true;
    rest_ = Rest::kNone;
    wake_.notify_one();
    for (replication::Lsn before = applied_lsn();
         !end_.wait_for(lock, patience, [this] { return ended_; });) {
      if (applied_lsn() == before) {
        hangs_ = true;
        return absl::DeadlineExceededError(absl::StrCat("the replay hangs behind record ", before));
      }
      before = applied_lsn();
    }
  }
  Stop(/*drain=*/true);
  std::lock_guard lock(mutex_);
  return fault_.empty() ? absl::OkStatus() : absl::DataLossError(fault_);
}

}  // namespace understudy
