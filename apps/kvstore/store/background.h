// Work that nobody waits for: it is to run when the threads that serve clients leave a processor idle.
#ifndef UNDERSTUDY_APPS_KVSTORE_STORE_BACKGROUND_H_
#define UNDERSTUDY_APPS_KVSTORE_STORE_BACKGROUND_H_

#include <chrono>
#include <future>
#include <utility>

namespace kvstore {

// The calling thread does not push another off its processor any more when it wakes up; it still gets its
// share in the long run (Linux: SCHED_BATCH).
void YieldToOthers();

// Runs `work` on a thread of its own.
template <typename Work>
auto InBackground(Work work) {
  return std::async(std::launch::async, [work = std::move(work)]() mutable {
    YieldToOthers();
    return work();
  });
}

template <typename T>
bool IsReady(const std::future<T>& future) {
  return future.valid() && future.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_STORE_BACKGROUND_H_
