// Writes lines to a file or descriptor on a thread of its own, so that whoever has a line never waits: a
// reader of our stderr that stalls, or a disk, must not hold up a node that has 80 ms to prove that it lives.
#ifndef UNDERSTUDY_FRAMEWORK_BACKGROUND_WRITER_H_
#define UNDERSTUDY_FRAMEWORK_BACKGROUND_WRITER_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace understudy {

// All methods: any thread.
class BackgroundWriter {
 public:
  // Bytes that may wait. Lines beyond are dropped and counted, and the gap is said in a line of its own.
  static constexpr size_t kMaxWaiting = 1 << 20;

  // `fd` is not owned, and stays as it is (blocking, mostly): others may share it.
  static std::unique_ptr<BackgroundWriter> ToDescriptor(int fd);
  // Appends to the file, made if it is not there (mode 0640). Unavailable names the path and the reason.
  static absl::StatusOr<std::unique_ptr<BackgroundWriter>> ToFile(const std::string& path);
  // Waits at most kLastWords for what is still to be written.
  ~BackgroundWriter();
  static constexpr std::chrono::milliseconds kLastWords{200};

  // `line` ends in a newline.
  void Write(std::string line);
  // The next line goes to a file opened anew under the same name (rotated logs). While that cannot be
  // opened, it goes where it went. Nothing for a descriptor.
  void Reopen();
  // Until everything before is written or `limit` has passed; false: it has passed.
  bool Flush(std::chrono::milliseconds limit);
  uint64_t dropped() const;  // lines

 private:
  struct Shared;
  explicit BackgroundWriter(std::shared_ptr<Shared> shared);
  const std::shared_ptr<Shared> shared_;  // also the thread's, which may outlive this when a write hangs
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_BACKGROUND_WRITER_H_
