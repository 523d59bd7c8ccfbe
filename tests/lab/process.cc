#include "tests/lab/process.h"

#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace understudy::lab {

namespace {

constexpr uid_t kNobody = 65534;

std::string Environment(const char* name) {
  const char* value = getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

std::string Runfile(const std::string& path) {
  std::string root = Environment("TEST_SRCDIR");
  if (!root.empty()) return absl::StrCat(root, "/", Environment("TEST_WORKSPACE"), "/", path);
  std::error_code error;
  std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  return absl::StrCat(self.string(), ".runfiles/understudy/", path);
}

std::string OutputDir() {
  std::string dir = Environment("TEST_UNDECLARED_OUTPUTS_DIR");
  return dir.empty() ? std::filesystem::temp_directory_path().string() : dir;
}

int Slowness() {
  const char* given = getenv("UNDERSTUDY_TEST_SLOWNESS");
  const int factor = given == nullptr ? 1 : atoi(given);
  CHECK_GT(factor, 0) << "UNDERSTUDY_TEST_SLOWNESS is a factor, not " << given;
  return factor;
}

TempDir::TempDir(const std::string& parent) {
  std::filesystem::path folder = parent;
  if (parent.empty()) folder = std::filesystem::temp_directory_path();
  path_ = (folder / "understudy-lab-XXXXXX").string();
  PCHECK(mkdtemp(path_.data()) != nullptr) << path_;
  PCHECK(chmod(path_.c_str(), 0777) == 0) << path_;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

absl::StatusOr<std::unique_ptr<Process>> Process::Start(const Options& options) {
  std::unique_ptr<Process> process(new Process());
  process->name_ = options.name;
  // Not the pid alone: one test starts several of the same name, one after the other.
  static int serial = 0;
  process->log_path_ = absl::StrCat(OutputDir(), "/", getpid(), "-", ++serial, "-", options.name, ".log");
  int log = open(process->log_path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
  if (log < 0) {
    return absl::InternalError(absl::StrCat(process->log_path_, ": ", strerror(errno)));
  }
  if (access(options.argv[0].c_str(), X_OK) != 0) {
    close(log);
    return absl::NotFoundError(absl::StrCat(options.argv[0], ": ", strerror(errno)));
  }
  std::vector<char*> argv;
  for (const std::string& argument : options.argv) {
    argv.push_back(const_cast<char*>(argument.c_str()));
  }
  argv.push_back(nullptr);
  int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
  // Opened here, because the way to it may lead through folders that only root may enter.
  int binary = open(argv[0], O_PATH | O_CLOEXEC);
  pid_t parent = getpid();
  pid_t pid = fork();
  if (pid == 0) {
    // Between fork and exec in a process with threads: system calls only.
    bool ok = true;
    for (int capability : options.drop_capabilities) {
      ok = ok && prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0;
    }
    if (options.where != nullptr) ok = ok && setns(options.where->fd(), CLONE_NEWNET) == 0;
    if (options.max_files) {
      rlimit limit = {static_cast<rlim_t>(*options.max_files), static_cast<rlim_t>(*options.max_files)};
      ok = ok && setrlimit(RLIMIT_NOFILE, &limit) == 0;
    }
    if (options.as_nobody) {
      // The bare calls: the library's would want to tell the other threads, which the child lacks.
      ok = ok && syscall(SYS_setgroups, 0, nullptr) == 0 && syscall(SYS_setgid, kNobody) == 0 &&
           syscall(SYS_setuid, kNobody) == 0;
    }
    // A change of user clears it, so it comes after. It holds for a stopped process too.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(126);
    dup2(null, 0);
    dup2(log, 1);
    dup2(log, 2);
    if (ok) syscall(SYS_execveat, binary, "", argv.data(), environ, AT_EMPTY_PATH);
    const char* reason = strerror(errno);
    (void)!write(2, "cannot start: ", 14);
    (void)!write(2, reason, strlen(reason));
    (void)!write(2, "\n", 1);
    _exit(127);
  }
  int error = errno;
  close(log);
  close(null);
  close(binary);
  if (pid < 0) return absl::InternalError(absl::StrCat("fork: ", strerror(error)));
  process->pid_ = pid;
  process->pidfd_ = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  PCHECK(process->pidfd_ >= 0);
  return process;
}

Process::~Process() {
  if (pid_ > 0) Kill();
  if (pidfd_ >= 0) close(pidfd_);
}

void Process::Signal(int signal) {
  if (status_) return;  // the number may be somebody else's by now
  PCHECK(kill(pid_, signal) == 0) << name_;
}

void Process::Kill() {
  if (status_) return;
  Signal(SIGKILL);
  CHECK(Wait(std::chrono::seconds(20))) << name_ << " does not die";
}

bool Process::running() { return !Wait(std::chrono::milliseconds(0)); }

std::optional<int> Process::Wait(std::chrono::milliseconds timeout) {
  if (status_) return status_;
  pollfd ended = {.fd = pidfd_, .events = POLLIN, .revents = 0};
  auto deadline = std::chrono::steady_clock::now() + timeout * Slowness();
  for (;;) {
    auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    int ready = poll(&ended, 1, static_cast<int>(std::max<int64_t>(left.count(), 0)));
    if (ready == 0) return std::nullopt;
    if (ready > 0) break;
    PCHECK(errno == EINTR);
  }
  int status = 0;
  PCHECK(waitpid(pid_, &status, 0) == pid_);
  status_ = status;
  return status_;
}

std::string Process::Log() const {
  std::ifstream file(log_path_);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

std::string Process::LogTail(size_t lines) const {
  std::string text = Log();
  if (text.empty()) return text;
  size_t at = text.size() - 1;  // the last newline ends a line, it does not begin one
  for (size_t i = 0; i < lines; ++i) {
    if (at == 0 || (at = text.rfind('\n', at - 1)) == std::string::npos) return text;
  }
  return text.substr(at + 1);
}

}  // namespace understudy::lab
