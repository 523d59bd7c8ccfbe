#include "framework/background_writer.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace understudy {
namespace {

int OpenToAppend(const std::string& path) {
  return ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
}

// A line that cannot be written (reader gone, disk full) is lost: there is nobody to tell.
void WriteAll(int fd, const char* bytes, size_t size) {
  while (size > 0) {
    const ssize_t written = ::write(fd, bytes, size);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return;
    bytes += written;
    size -= static_cast<size_t>(written);
  }
}

}  // namespace

struct BackgroundWriter::Shared {
  const std::string path;  // empty: a descriptor
  int fd;                  // the thread's

  mutable absl::Mutex mutex;
  std::string waiting ABSL_GUARDED_BY(mutex);
  uint64_t dropped ABSL_GUARDED_BY(mutex) = 0;
  uint64_t gap ABSL_GUARDED_BY(mutex) = 0;  // lines dropped behind `waiting`
  bool writing ABSL_GUARDED_BY(mutex) = false;
  bool reopen ABSL_GUARDED_BY(mutex) = false;
  bool stop ABSL_GUARDED_BY(mutex) = false;

  Shared(std::string name, int descriptor) : path(std::move(name)), fd(descriptor) {}

  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) { return !waiting.empty() || gap > 0 || stop; }
  bool Idle() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) { return waiting.empty() && gap == 0 && !writing; }

  void Run() {
    for (;;) {
      mutex.LockWhen(absl::Condition(this, &Shared::HasWork));
      std::string lines = std::exchange(waiting, {});
      if (gap > 0) absl::StrAppend(&lines, std::exchange(gap, 0), " lines of the log were dropped here\n");
      const bool anew = std::exchange(reopen, false);
      writing = !lines.empty();
      const bool done = stop && lines.empty();
      mutex.Unlock();
      if (anew) OpenAnew();
      WriteAll(fd, lines.data(), lines.size());
      mutex.Lock();
      writing = false;
      mutex.Unlock();
      if (done) break;
    }
    if (!path.empty()) ::close(fd);
  }

  void OpenAnew() {
    if (path.empty()) return;
    const int fresh = OpenToAppend(path);
    if (fresh < 0) return;
    ::close(fd);
    fd = fresh;
  }
};

BackgroundWriter::BackgroundWriter(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {
  // Signals are the main thread's.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  std::thread([shared = shared_] { shared->Run(); }).detach();
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

std::unique_ptr<BackgroundWriter> BackgroundWriter::ToDescriptor(int fd) {
  return std::unique_ptr<BackgroundWriter>(new BackgroundWriter(std::make_shared<Shared>("", fd)));
}

absl::StatusOr<std::unique_ptr<BackgroundWriter>> BackgroundWriter::ToFile(const std::string& path) {
  const int fd = OpenToAppend(path);
  if (fd < 0) return absl::UnavailableError(absl::StrCat("cannot open ", path, ": ", std::strerror(errno)));
  return std::unique_ptr<BackgroundWriter>(new BackgroundWriter(std::make_shared<Shared>(path, fd)));
}

BackgroundWriter::~BackgroundWriter() {
  (void)Flush(kLastWords);
  absl::MutexLock lock(&shared_->mutex);
  shared_->stop = true;
}

void BackgroundWriter::Write(std::string line) {
  absl::MutexLock lock(&shared_->mutex);
  if (shared_->gap > 0 || shared_->waiting.size() + line.size() > kMaxWaiting) {
    ++shared_->dropped;
    ++shared_->gap;
    return;
  }
  shared_->waiting += line;
}

void BackgroundWriter::Reopen() {
  absl::MutexLock lock(&shared_->mutex);
  shared_->reopen = true;
}

bool BackgroundWriter::Flush(std::chrono::milliseconds limit) {
  Shared* const shared = shared_.get();
  const bool idle =
      shared->mutex.LockWhenWithTimeout(absl::Condition(shared, &Shared::Idle), absl::FromChrono(limit));
  shared->mutex.Unlock();
  return idle;
}

uint64_t BackgroundWriter::dropped() const {
  absl::MutexLock lock(&shared_->mutex);
  return shared_->dropped;
}

}  // namespace understudy
