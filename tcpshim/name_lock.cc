#include "tcpshim/name_lock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"

namespace understudy::tcpshim {
namespace {

// A sweeper may have the lock for a moment, or remove the file that has just been opened.
constexpr int kTries = 10;
constexpr useconds_t kPauseUs = 1000;

UniqueFd Failed(int error) {
  errno = error;
  return UniqueFd();
}

// The folder, which is nobody else's.
UniqueFd OpenFolder(const std::string& folder) {
  if (mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return UniqueFd();
  UniqueFd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  struct stat info;
  if (!fd) return fd;
  if (fstat(fd.get(), &info) != 0) return Failed(errno);
  if ((info.st_uid != 0 && info.st_uid != geteuid()) || (info.st_mode & 077) != 0) return Failed(EACCES);
  return fd;
}

UniqueFd Lock(int folder, const std::string& file) {
  for (int i = 0; i < kTries; ++i) {
    if (i > 0) usleep(kPauseUs);
    UniqueFd fd(openat(folder, file.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (!fd) return fd;
    if (flock(fd.get(), LOCK_EX | LOCK_NB) == 0) {
      if (IsThere(folder, file, fd.get())) return fd;
    } else if (errno != EWOULDBLOCK) {
      return Failed(errno);
    }
  }
  return Failed(EADDRINUSE);
}

// Removes what dead processes and namespaces have left.
void Sweep(int folder, const std::string& own) {
  const int copy = openat(folder, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (copy < 0) return;
  DIR* const files = fdopendir(copy);
  if (files == nullptr) {
    close(copy);
    return;
  }
  const absl::Cleanup close_files = [files] { closedir(files); };
  while (const dirent* file = readdir(files)) {
    if (file->d_type != DT_REG || file->d_name == own) continue;
    const UniqueFd fd(openat(folder, file->d_name, O_RDWR | O_NOFOLLOW | O_CLOEXEC));
    if (fd && flock(fd.get(), LOCK_EX | LOCK_NB) == 0 && IsThere(folder, file->d_name, fd.get())) {
      (void)unlinkat(folder, file->d_name, 0);
    }
  }
}

}  // namespace

UniqueFd TakeName(const std::string& name, const std::string& folder) {
  struct stat network;
  if (stat("/proc/thread-self/ns/net", &network) != 0) return Failed(errno);
  const UniqueFd open_folder = OpenFolder(folder);
  if (!open_folder) return UniqueFd();
  const std::string file = absl::StrCat(network.st_ino, "-", name);
  UniqueFd lock = Lock(open_folder.get(), file);
  if (lock) Sweep(open_folder.get(), file);
  return lock;
}

bool IsThere(int folder, const std::string& file, int fd) {
  struct stat opened, named;
  return fstat(fd, &opened) == 0 && fstatat(folder, file.c_str(), &named, AT_SYMLINK_NOFOLLOW) == 0 &&
         opened.st_ino == named.st_ino && opened.st_dev == named.st_dev;
}

void GiveBackName(UniqueFd lock) {
  if (!lock) return;
  char path[PATH_MAX] = {};
  // Of a removed file it is none that exists. While the lock is held, for whoever opens the file looks again.
  if (readlink(absl::StrCat("/proc/self/fd/", lock.get()).c_str(), path, sizeof(path) - 1) > 0 &&
      IsThere(AT_FDCWD, path, lock.get())) {
    (void)unlink(path);
  }
}

}  // namespace understudy::tcpshim
