// A directory for data that end with the process.
#ifndef UNDERSTUDY_APPS_KVSTORE_TEMPORARY_DIRECTORY_H_
#define UNDERSTUDY_APPS_KVSTORE_TEMPORARY_DIRECTORY_H_

#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"

namespace kvstore {

class TemporaryDirectory {
 public:
  // A new, empty one where temporary files belong (TMPDIR, otherwise /tmp). Removes those that this user's
  // processes have left behind when they were killed.
  static absl::StatusOr<std::unique_ptr<TemporaryDirectory>> Make();
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory();  // removes it with all that is in it

  const std::string& path() const { return path_; }

 private:
  TemporaryDirectory(std::string path, int lock) : path_(std::move(path)), lock_(lock) {}

  const std::string path_;
  const int lock_;  // descriptor of the directory; its lock ends with the process, however that ends
};

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_TEMPORARY_DIRECTORY_H_
