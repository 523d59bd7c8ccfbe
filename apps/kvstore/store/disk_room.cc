#include "apps/kvstore/store/disk_room.h"

#include <sys/statvfs.h>

#include <utility>

#include "absl/strings/str_cat.h"

namespace kvstore {

DiskRoom::Free DiskRoom::Of(const std::string& directory) {
  return [directory]() -> int64_t {
    struct statvfs about {};
    if (statvfs(directory.c_str(), &about) != 0) return -1;
    return static_cast<int64_t>(about.f_bavail * about.f_frsize);
  };
}

DiskRoom::DiskRoom(Free free, uint64_t least) : free_(std::move(free)), least_(static_cast<int64_t>(least)) {}

absl::Status DiskRoom::Check(std::chrono::steady_clock::time_point now) {
  if (least_ == 0 || (asked_ != std::chrono::steady_clock::time_point() && now - asked_ < kAgain))
    return said_;
  asked_ = now;
  const int64_t free = free_();
  // What cannot be told is found out by writing.
  const int64_t wanted = said_.ok() ? least_ : least_ + least_ / 4;
  said_ = free < 0 || free >= wanted
              ? absl::OkStatus()
              : absl::ResourceExhaustedError(absl::StrCat("the disk has ", free >> 20, " MiB left, and ",
                                                          wanted >> 20, " MiB should be free"));
  return said_;
}

}  // namespace kvstore
