// Whether there is room on the disk for what is to be written: asked before, because a write that the disk
// refuses half-way leaves LevelDB unable to go on.
#ifndef UNDERSTUDY_APPS_KVSTORE_STORE_DISK_ROOM_H_
#define UNDERSTUDY_APPS_KVSTORE_STORE_DISK_ROOM_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"

namespace kvstore {

class DiskRoom {
 public:
  // Bytes that this process may still write there; a negative number: it cannot be told.
  using Free = std::function<int64_t()>;
  // Of the file system that has `directory`.
  static Free Of(const std::string& directory);

  // `least`: with less free than this there is no room; 0: there always is. There is again when a quarter
  // more is free, so that it does not change with each file that comes and goes.
  DiskRoom(Free free, uint64_t least);

  // OK, or ResourceExhausted, which says how much is free and how much should be. The disk is asked every
  // kAgain at most.
  absl::Status Check(std::chrono::steady_clock::time_point now);
  static constexpr std::chrono::milliseconds kAgain{50};

 private:
  const Free free_;
  const int64_t least_;
  std::chrono::steady_clock::time_point asked_{};
  absl::Status said_;
};

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_STORE_DISK_ROOM_H_
