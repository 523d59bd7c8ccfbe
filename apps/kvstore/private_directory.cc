#include "apps/kvstore/private_directory.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "glog/logging.h"

namespace kvstore {

absl::Status MakePrivateDirectory(const std::string& path) {
  const auto failed = [&] {
    return absl::UnavailableError(absl::StrCat(path, ": cannot use this directory: ", std::strerror(errno)));
  };
  if (mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return failed();
  const int directory = open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (directory < 0) return failed();
  const absl::Cleanup close_directory = [directory] { close(directory); };
  struct stat facts;
  if (fstat(directory, &facts) != 0) return failed();
  if ((facts.st_mode & 077) == 0) return absl::OkStatus();
  const std::string mode = absl::StrFormat("%04o", static_cast<unsigned>(facts.st_mode & 07777));
  if (facts.st_uid != geteuid()) {
    LOG(WARNING) << path << " belongs to user " << facts.st_uid << " and is open to others (mode " << mode
                 << "): they may read the data";
    return absl::OkStatus();
  }
  if (fchmod(directory, 0700) != 0) return failed();
  LOG(WARNING) << path << " was open to others (mode " << mode << "): it is its owner's alone now";
  return absl::OkStatus();
}

}  // namespace kvstore
