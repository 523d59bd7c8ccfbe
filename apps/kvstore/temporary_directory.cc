#include "apps/kvstore/temporary_directory.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <string_view>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace kvstore {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "understudy-kvstore.";
// A directory that is younger may be about to be locked.
constexpr std::time_t kYoungSeconds = 60;

void RemoveAll(const fs::path& path) {
  std::error_code error;
  fs::remove_all(path, error);
  if (error) LOG(WARNING) << "cannot remove " << path << ": " << error.message();
}

// Its descriptor, or -1. Never one that is elsewhere: a link in /tmp may be anybody's.
int OpenDirectory(const fs::path& path) {
  return open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
}

bool LeftBehind(int directory) {
  struct stat facts;
  return fstat(directory, &facts) == 0 && facts.st_uid == geteuid() &&
         facts.st_mtime < std::time(nullptr) - kYoungSeconds && flock(directory, LOCK_EX | LOCK_NB) == 0;
}

void RemoveLeftBehind(const fs::path& where) {
  std::error_code error;
  for (fs::directory_iterator at(where, error), end; !error && at != end; at.increment(error)) {
    if (!at->path().filename().string().starts_with(kPrefix)) continue;
    const int directory = OpenDirectory(at->path());
    if (directory < 0) continue;
    if (LeftBehind(directory)) RemoveAll(at->path());
    close(directory);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<TemporaryDirectory>> TemporaryDirectory::Make() {
  std::error_code error;
  const fs::path where = fs::temp_directory_path(error);
  if (error) return absl::UnavailableError(absl::StrCat("no place for temporary data: ", error.message()));
  RemoveLeftBehind(where);

  std::string path = (where / (std::string(kPrefix) + "XXXXXX")).string();
  const auto failed = [&] {
    return absl::UnavailableError(
        absl::StrCat("cannot make a directory in ", where.string(), ": ", std::strerror(errno)));
  };
  if (mkdtemp(path.data()) == nullptr) return failed();
  const int lock = OpenDirectory(path);
  if (lock < 0) return failed();
  std::unique_ptr<TemporaryDirectory> made(new TemporaryDirectory(std::move(path), lock));
  if (flock(lock, LOCK_EX | LOCK_NB) != 0) return failed();
  return made;
}

TemporaryDirectory::~TemporaryDirectory() {
  RemoveAll(path_);
  close(lock_);
}

}  // namespace kvstore
