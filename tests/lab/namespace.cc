#include "tests/lab/namespace.h"

#include <fcntl.h>
#include <sched.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <thread>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

extern char** environ;

namespace understudy::lab {

absl::StatusOr<std::unique_ptr<Namespace>> Namespace::Create(std::string name) {
  if (geteuid() != 0) {
    return absl::PermissionDeniedError(
        "not root: this test makes network namespaces; run it as root (sudo scripts/test)");
  }
  int fd = -1;
  int error = 0;
  // unshare() moves the calling thread for good, so a thread is spent on it.
  std::thread([&fd, &error] {
    if (unshare(CLONE_NEWNET) != 0) {
      error = errno;
      return;
    }
    fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    error = errno;
  }).join();
  if (fd < 0) {
    return absl::InternalError(absl::StrCat("cannot make namespace ", name, ": ", strerror(error)));
  }
  return std::unique_ptr<Namespace>(new Namespace(std::move(name), fd));
}

Namespace::~Namespace() { close(fd_); }

std::string Namespace::path() const { return absl::StrCat("/proc/", getpid(), "/fd/", fd_); }

void Namespace::Run(const std::function<void()>& fn) const {
  std::thread([this, &fn] {
    PCHECK(setns(fd_, CLONE_NEWNET) == 0) << "cannot enter namespace " << name_;
    fn();
  }).join();
}

int Namespace::Socket(int domain, int type, int protocol) const {
  return Sockets(1, domain, type, protocol)[0];
}

std::vector<int> Namespace::Sockets(int count, int domain, int type, int protocol) const {
  std::vector<int> sockets;
  Run([&] {
    for (int i = 0; i < count; ++i) {
      int fd = socket(domain, type | SOCK_CLOEXEC, protocol);
      PCHECK(fd >= 0) << "socket() in namespace " << name_;
      sockets.push_back(fd);
    }
  });
  return sockets;
}

absl::Status Namespace::SetSysctl(const std::string& name, const std::string& value) const {
  std::string path = absl::StrCat("/proc/sys/", name);
  std::replace(path.begin() + 10, path.end(), '.', '/');
  int error = 0;
  // Which namespace's value a file in /proc/sys/net stands for depends on who opens it.
  Run([&] {
    int fd = open(path.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, value.data(), value.size()) != static_cast<ssize_t>(value.size())) {
      error = errno;
    }
    if (fd >= 0) close(fd);
  });
  if (error == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("sysctl ", name, "=", value, " in ", name_, ": ", strerror(error)));
}

absl::Status Namespace::Ip(const std::string& commands) const {
  std::array<int, 2> in, out;
  PCHECK(pipe2(in.data(), O_CLOEXEC) == 0);
  PCHECK(pipe2(out.data(), O_CLOEXEC) == 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in[0], 0);
  posix_spawn_file_actions_adddup2(&actions, out[1], 1);
  posix_spawn_file_actions_adddup2(&actions, out[1], 2);
  std::array<const char*, 4> argv = {"ip", "-batch", "-", nullptr};
  pid_t pid = -1;
  int error = 0;
  // The child is born in the namespace of the thread that spawns it.
  Run([&] { error = posix_spawnp(&pid, "ip", &actions, nullptr, const_cast<char**>(argv.data()), environ); });
  posix_spawn_file_actions_destroy(&actions);
  close(in[0]);
  close(out[1]);
  if (error != 0) {
    close(in[1]);
    close(out[0]);
    return absl::InternalError(absl::StrCat("cannot run ip: ", strerror(error)));
  }
  // A batch fits into a pipe, so ip cannot block us while it is blocked on us.
  CHECK_LT(commands.size(), 60000u);
  PCHECK(write(in[1], commands.data(), commands.size()) == static_cast<ssize_t>(commands.size()));
  close(in[1]);
  std::string output;
  std::array<char, 4096> buffer;
  ssize_t n;
  while ((n = read(out[0], buffer.data(), buffer.size())) > 0) output.append(buffer.data(), n);
  close(out[0]);
  int status = 0;
  PCHECK(waitpid(pid, &status, 0) == pid);
  if (status == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("ip in ", name_, " said: ", output, "\nin the batch:\n", commands));
}

}  // namespace understudy::lab
