// A program under test, running on one host of the lab.
#ifndef UNDERSTUDY_TESTS_LAB_PROCESS_H_
#define UNDERSTUDY_TESTS_LAB_PROCESS_H_

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "tests/lab/namespace.h"

namespace understudy::lab {

// A file among the data of the test, by its path in the repository: "apps/echo/echo".
std::string Runfile(const std::string& path);
// Where logs go: kept by Bazel with the outputs of the test, or a temporary folder.
std::string OutputDir();
// By how much waiting is to be more patient than on an ordinary machine: UNDERSTUDY_TEST_SLOWNESS, or 1.
int Slowness();
// A new empty folder, removed when the object goes. Any user may read and write in it, so that a program
// that is run as another user can as well.
class TempDir {
 public:
  // In the folder for temporary files, or in `parent`.
  explicit TempDir(const std::string& parent = "");
  ~TempDir();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

class Process {
 public:
  struct Options {
    std::string name;                    // of the log file
    std::vector<std::string> argv;       // argv[0] is the path of the program
    const Namespace* where = nullptr;    // none: that of the test
    bool as_nobody = false;              // without any privilege
    std::optional<int> max_files;        // RLIMIT_NOFILE
    std::vector<int> drop_capabilities;  // out of the bounding set: a root without them
  };
  // Both outputs go to a log file. The program is killed when the calling thread ends, so call it from
  // a thread that stays: the main one.
  static absl::StatusOr<std::unique_ptr<Process>> Start(const Options& options);
  // Kills it if it still runs.
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }
  const std::string& name() const { return name_; }
  void Signal(int signal);  // nothing if it has ended
  void Kill();              // SIGKILL, and waits until it is gone with all its sockets
  bool running();
  // Status as waitpid has it, if it ends within `timeout`.
  std::optional<int> Wait(std::chrono::milliseconds timeout);

  std::string Log() const;
  std::string LogTail(size_t lines) const;
  const std::string& log_path() const { return log_path_; }

 private:
  Process() = default;

  std::string name_;
  std::string log_path_;
  pid_t pid_ = -1;
  int pidfd_ = -1;
  std::optional<int> status_;
};

}  // namespace understudy::lab

#endif  // UNDERSTUDY_TESTS_LAB_PROCESS_H_
