#include "replication/file_arbiter.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <optional>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace understudy::replication {
namespace {

constexpr std::chrono::milliseconds kRetryLock(1);
constexpr size_t kMaxFile = 4096;

absl::Status SystemError(const std::string& what) {
  const int error = errno;
  return absl::UnavailableError(absl::ErrnoToStatus(error, what).message());
}

// No file: nothing has been written yet.
absl::StatusOr<Register> Load(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) {
    if (errno == ENOENT) return Register{};
    return SystemError(absl::StrCat("arbiter: opening ", path));
  }
  absl::Cleanup close_fd = [fd] { close(fd); };
  std::string text(kMaxFile, '\0');
  const ssize_t size = read(fd, text.data(), text.size());
  if (size < 0) return SystemError(absl::StrCat("arbiter: reading ", path));
  text.resize(size);
  absl::StatusOr<Register> reg = Register::Decode(text);
  if (!reg.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat("arbiter: ", path, ": ", reg.status().message()));
  }
  return reg;
}

// The rename makes the change whole: a writer that dies leaves the old register.
absl::Status Store(const std::string& path, const Register& reg) {
  const std::string temp = path + ".new";
  const std::string text = reg.Encode() + "\n";
  const int fd = open(temp.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) return SystemError(absl::StrCat("arbiter: creating ", temp));
  const ssize_t written = write(fd, text.data(), text.size());
  const bool whole = written == static_cast<ssize_t>(text.size());
  const absl::Status failed =
      whole ? absl::OkStatus() : SystemError(absl::StrCat("arbiter: writing ", temp));
  close(fd);
  if (!whole) return failed;
  if (rename(temp.c_str(), path.c_str()) != 0) {
    return SystemError(absl::StrCat("arbiter: renaming ", temp));
  }
  return absl::OkStatus();
}

struct Swap {
  Register expected, desired;
};

absl::StatusOr<Arbiter::Outcome> Carry(const std::string& path, const std::optional<Swap>& swap) {
  absl::StatusOr<Register> current = Load(path);
  if (!current.ok()) return current.status();
  if (!swap.has_value() || *current != swap->expected) {
    return Arbiter::Outcome{.swapped = false, .current = *std::move(current)};
  }
  if (absl::Status status = Store(path, swap->desired); !status.ok()) return status;
  return Arbiter::Outcome{.swapped = true, .current = swap->desired};
}

}  // namespace

struct FileArbiter::Impl : std::enable_shared_from_this<Impl> {
  using Clock = std::chrono::steady_clock;

  Impl(boost::asio::io_context& loop, std::string path, std::chrono::milliseconds lock_timeout)
      : loop(loop), path(std::move(path)), lock_timeout(lock_timeout) {}

  void Begin(std::optional<Swap> swap, Callback done) {
    boost::asio::post(loop, [self = shared_from_this(), swap = std::move(swap),
                             done = std::move(done), end = Clock::now() + lock_timeout]() mutable {
      self->Try(std::move(swap), std::move(done), end);
    });
  }

  // One attempt. Each opens the lock file anew: locks belong to the open file, so two operations of
  // one process exclude each other as well.
  void Try(std::optional<Swap> swap, Callback done, Clock::time_point end) {
    if (stopped) return;
    const std::string lock = path + ".lock";
    const int fd = open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) {
      done(SystemError(absl::StrCat("arbiter: opening ", lock)));
      return;
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
      const absl::Status failed = SystemError(absl::StrCat("arbiter: locking ", lock));
      close(fd);
      if (Clock::now() >= end) {
        done(failed);
      } else {
        TryLater(std::move(swap), std::move(done), end);
      }
      return;
    }
    absl::StatusOr<Outcome> outcome = Carry(path, swap);
    close(fd);  // unlocks: the answer must not hold up others
    done(std::move(outcome));
  }

  void TryLater(std::optional<Swap> swap, Callback done, Clock::time_point end) {
    auto timer = std::make_shared<boost::asio::steady_timer>(loop, kRetryLock);
    timer->async_wait([self = shared_from_this(), timer, swap = std::move(swap),
                       done = std::move(done), end](const boost::system::error_code&) mutable {
      self->Try(std::move(swap), std::move(done), end);
    });
  }

  boost::asio::io_context& loop;
  const std::string path;
  const std::chrono::milliseconds lock_timeout;
  bool stopped = false;
};

FileArbiter::FileArbiter(boost::asio::io_context& loop, std::string path,
                         std::chrono::milliseconds lock_timeout)
    : impl_(std::make_shared<Impl>(loop, std::move(path), lock_timeout)) {}

FileArbiter::~FileArbiter() { impl_->stopped = true; }

void FileArbiter::Read(Callback done) { impl_->Begin(std::nullopt, std::move(done)); }

void FileArbiter::CompareAndSwap(const Register& expected, const Register& desired, Callback done) {
  impl_->Begin(Swap{expected, desired}, std::move(done));
}

}  // namespace understudy::replication
