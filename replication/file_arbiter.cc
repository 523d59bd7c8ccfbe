#include "replication/file_arbiter.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <utility>
#include <variant>

#include "absl/cleanup/cleanup.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "replication/network_file_system.h"

namespace understudy::replication {
namespace {

constexpr std::chrono::milliseconds kRetryLock(1);
constexpr size_t kMaxFile = 4096;

absl::Status SystemError(const std::string& what) {
  const int error = errno;
  return absl::UnavailableError(absl::ErrnoToStatus(error, what).message());
}

// Opens `path`.lock, and finds out whether a lock there means anything: on a network file system it may be
// this host's alone, and a file that others can open they can lock, for ever.
absl::StatusOr<int> OpenLock(const std::string& path) {
  const std::string lock = path + ".lock";
  const int fd = open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return SystemError(absl::StrCat("arbiter: opening ", lock));
  absl::Cleanup close_fd = [fd] { close(fd); };
  struct statfs system;
  if (fstatfs(fd, &system) != 0)
    return SystemError(absl::StrCat("arbiter: asking for the file system of ", lock));
  if (const char* name = NetworkFileSystem(static_cast<uint64_t>(system.f_type)); name != nullptr) {
    return absl::FailedPreconditionError(
        absl::StrCat("arbiter: ", path, " is on ", name,
                     ", where locks of other hosts may not count, and a cut "
                     "network stops both nodes: file: is for two nodes of one host"));
  }
  struct stat info;
  if (fstat(fd, &info) != 0) return SystemError(absl::StrCat("arbiter: looking at ", lock));
  if (info.st_uid != geteuid() && info.st_uid != 0) {
    return absl::FailedPreconditionError(absl::StrCat("arbiter: ", lock, " belongs to user ", info.st_uid,
                                                      ", who could hold it for ever: remove it"));
  }
  // Left by a version that made it for everybody.
  if ((info.st_mode & 077) != 0 && fchmod(fd, 0600) != 0) {
    return SystemError(absl::StrCat("arbiter: making ", lock, " private"));
  }
  std::move(close_fd).Cancel();
  return fd;
}

// No file: nothing has been written yet.
absl::StatusOr<Register> Load(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
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
        absl::StrCat("arbiter: ", path, ": ", reg.status().message(),
                     ". Nobody can be given the service while this is so. If a node serves, stop the other "
                     "one, then both; "
                     "remove the file, and start the node that served last first, as the primary"));
  }
  return reg;
}

std::string TempOf(const std::string& path) { return path + ".new"; }

// `text` in a new file beside `path`, with `sync` on the disk.
absl::Status WriteTemp(const std::string& path, const std::string& text, bool sync) {
  const std::string temp = TempOf(path);
  // What a writer left that died, or somebody who would like it written elsewhere.
  if (unlink(temp.c_str()) != 0 && errno != ENOENT)
    return SystemError(absl::StrCat("arbiter: removing ", temp));
  const int fd = open(temp.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
  if (fd < 0) return SystemError(absl::StrCat("arbiter: creating ", temp));
  const absl::Cleanup close_fd = [fd] { close(fd); };
  const ssize_t written = write(fd, text.data(), text.size());
  if (written < 0) return SystemError(absl::StrCat("arbiter: writing ", temp));
  if (static_cast<size_t>(written) != text.size()) {
    return absl::UnavailableError(absl::StrCat("arbiter: writing ", temp, ": no room"));
  }
  if (sync && fsync(fd) != 0) return SystemError(absl::StrCat("arbiter: writing ", temp, " to the disk"));
  return absl::OkStatus();
}

absl::Status SyncFolder(const std::string& path) {
  const std::string folder = path.substr(0, path.rfind('/') + 1);
  const int fd = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return SystemError(absl::StrCat("arbiter: opening ", folder));
  const absl::Cleanup close_fd = [fd] { close(fd); };
  if (fsync(fd) != 0) return SystemError(absl::StrCat("arbiter: writing ", folder, " to the disk"));
  return absl::OkStatus();
}

// The rename makes the change whole: a writer that dies leaves the old register. An error after it leaves
// open which one the disk has, which is what Unavailable says.
absl::Status Store(const std::string& path, const Register& reg) {
  if (absl::Status written = WriteTemp(path, reg.Encode() + "\n", /*sync=*/true); !written.ok())
    return written;
  if (rename(TempOf(path).c_str(), path.c_str()) != 0) {
    return SystemError(absl::StrCat("arbiter: renaming ", TempOf(path)));
  }
  return SyncFolder(path);
}

// All of a swap but the rename and the wait for the disk, which would be too long for what is done every few
// seconds.
absl::Status TryStore(const std::string& path) {
  absl::Status written = WriteTemp(path, "a node tries whether it could write\n", /*sync=*/false);
  if (written.ok() && unlink(TempOf(path).c_str()) != 0) {
    return SystemError(absl::StrCat("arbiter: removing ", TempOf(path)));
  }
  return written;
}

struct Swap {
  Register expected, desired;
};
struct Probe {};
// Nothing: a read.
using Request = std::variant<std::monostate, Probe, Swap>;

absl::StatusOr<Arbiter::Outcome> Carry(const std::string& path, const Request& request) {
  absl::StatusOr<Register> current = Load(path);
  if (!current.ok()) return current.status();
  if (std::holds_alternative<Probe>(request)) {
    if (absl::Status status = TryStore(path); !status.ok()) return status;
  }
  const Swap* swap = std::get_if<Swap>(&request);
  if (swap == nullptr || *current != swap->expected) {
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

  void Begin(Request request, Callback done) {
    boost::asio::post(loop, [self = shared_from_this(), request = std::move(request), done = std::move(done),
                             end = Clock::now() + lock_timeout]() mutable {
      self->Try(std::move(request), std::move(done), end);
    });
  }

  // One attempt. Each opens the lock file anew: locks belong to the open file, so two operations of
  // one process exclude each other as well.
  void Try(Request request, Callback done, Clock::time_point end) {
    if (stopped) return;
    const absl::StatusOr<int> opened = OpenLock(path);
    if (!opened.ok()) {
      done(opened.status());
      return;
    }
    const int fd = *opened;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
      const absl::Status failed = SystemError(absl::StrCat("arbiter: locking ", path, ".lock"));
      close(fd);
      if (Clock::now() >= end) {
        done(failed);
      } else {
        TryLater(std::move(request), std::move(done), end);
      }
      return;
    }
    absl::StatusOr<Outcome> outcome = Carry(path, request);
    close(fd);  // unlocks: the answer must not hold up others
    done(std::move(outcome));
  }

  void TryLater(Request request, Callback done, Clock::time_point end) {
    auto timer = std::make_shared<boost::asio::steady_timer>(loop, kRetryLock);
    timer->async_wait([self = shared_from_this(), timer, request = std::move(request), done = std::move(done),
                       end](const boost::system::error_code&) mutable {
      self->Try(std::move(request), std::move(done), end);
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

void FileArbiter::Read(Callback done) { impl_->Begin({}, std::move(done)); }

void FileArbiter::Probe(Callback done) { impl_->Begin(replication::Probe{}, std::move(done)); }

void FileArbiter::CompareAndSwap(const Register& expected, const Register& desired, Callback done) {
  impl_->Begin(Swap{expected, desired}, std::move(done));
}

}  // namespace understudy::replication
