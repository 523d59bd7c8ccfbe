#include "framework/witness.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "replication/last_word.h"
#include "tcpshim/south_gate.h"
#include "tcpshim/unique_fd.h"

namespace understudy {
namespace {

using replication::FatalCall;
using tcpshim::UniqueFd;

// Between the words, doubling: any of them may be lost, and the first must not meet a full queue.
constexpr int kWords = 7;
constexpr long kFirstPauseNs = 1'000'000;

// Two descriptors in one message; what they are for is known by their order.
union Descriptors {
  cmsghdr head;
  char space[CMSG_SPACE(2 * sizeof(int))];
};

// With them go the bytes of `text`, 1 to kMaxText.
constexpr size_t kMaxText = 1 + 4096;  // a key is no longer

bool SendTwo(int socket, int first, int second, const std::string& text) {
  Descriptors descriptors = {};
  iovec bytes = {const_cast<char*>(text.data()), text.size()};
  msghdr message = {};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = &descriptors;
  message.msg_controllen = sizeof descriptors;
  cmsghdr* const head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(2 * sizeof(int));
  const std::array<int, 2> fds = {first, second};
  memcpy(CMSG_DATA(head), fds.data(), sizeof fds);
  return sendmsg(socket, &message, MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
}

// A message without descriptors: the server is through.
constexpr char kThrough = 't';

enum class Heard { kNothing, kTwo, kThrough };

// Nothing also when the other end is gone.
Heard Receive(int socket, UniqueFd& first, UniqueFd& second, std::string& text) {
  Descriptors descriptors = {};
  std::string room(kMaxText, '\0');
  iovec bytes = {room.data(), room.size()};
  msghdr message = {};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = &descriptors;
  message.msg_controllen = sizeof descriptors;
  const ssize_t size = recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (size < 1) return Heard::kNothing;
  const cmsghdr* const head = CMSG_FIRSTHDR(&message);
  if (head == nullptr || head->cmsg_len != CMSG_LEN(2 * sizeof(int))) {
    return room[0] == kThrough ? Heard::kThrough : Heard::kNothing;
  }
  std::array<int, 2> fds;
  memcpy(fds.data(), CMSG_DATA(head), sizeof fds);
  first.reset(fds[0]);
  second.reset(fds[1]);
  text.assign(room, 0, static_cast<size_t>(size));
  return Heard::kTwo;
}

// What is meant for the server is no order to the witness, not even that of a service manager who ends all.
constexpr std::array kNotForIt = {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGUSR1, SIGUSR2};

// --- The child -----------------------------------------------------------------------------------

void KeepOnly(std::array<int*, 3> kept) {
  const int null = open("/dev/null", O_RDWR);
  for (int fd = 0; fd < 3; ++fd) (void)dup2(null, fd);
  for (int* fd : kept) {
    // Out of the way first: one may lie where the other goes.
    *fd = fcntl(*fd, F_DUPFD_CLOEXEC, 10);
    if (*fd < 0) _exit(1);
  }
  int next = 3;
  for (int* fd : kept) *fd = dup2(*fd, next++);
  (void)syscall(SYS_close_range, static_cast<unsigned>(next), ~0u, 0u);
}

// By the flags in /proc/PID/stat, opened while the process lived: no later process of that number can answer.
bool IsExiting(int stat) {
  char text[512];
  const ssize_t size = pread(stat, text, sizeof text - 1, 0);
  if (size <= 0) return true;  // ESRCH: it is gone
  text[size] = '\0';
  const char* rest = strrchr(text, ')');  // the name may hold anything
  constexpr unsigned kExiting = 0x4;      // PF_EXITING of the kernel's linux/sched.h
  unsigned flags = 0;
  return rest != nullptr && sscanf(rest, ") %*c %*d %*d %*d %*d %*d %u", &flags) == 1 &&
         (flags & kExiting) != 0;
}

[[noreturn]] void Watch(int server, int stat, int socket, const std::string& word, const FatalCall& fatal,
                        const sigset_t& before) {
  for (const int signal : kNotForIt) ::signal(signal, SIG_IGN);
  (void)sigprocmask(SIG_SETMASK, &before, nullptr);
  (void)setsid();
  (void)prctl(PR_SET_NAME, "witness");
  (void)!chdir("/");
  KeepOnly({&server, &stat, &socket});

  UniqueFd pulse, gate_fd;
  std::string key;
  tcpshim::SouthGate gate;
  std::array<pollfd, 2> wait = {pollfd{server, POLLIN, 0}, pollfd{socket, POLLIN, 0}};
  for (bool gone = false; !gone;) {
    if (poll(wait.data(), wait.size(), -1) < 0) {
      if (errno == EINTR) continue;
      _exit(1);
    }
    gone = wait[0].revents != 0;
    for (Heard heard; (heard = Receive(socket, pulse, gate_fd, key)) != Heard::kNothing;) {
      if (heard == Heard::kTwo) gate = tcpshim::SouthGate(gate_fd.get());
      if (heard == Heard::kThrough) gone = true;
    }
    if ((wait[1].revents & (POLLHUP | POLLERR)) != 0) {
      // The kernel closes the files of a process when its last thread will run no more, and that is death
      // enough. It may take 50 ms more until the process as a whole is gone: each packet socket waits for
      // RCU.
      gone = gone || IsExiting(stat);
      wait[1].fd = -1;  // Closed by the living: nothing is to be heard any more but the end.
    }
  }
  // Whom nobody knew, and who could not speak, needs no word.
  if (!pulse || !gate.mapped()) _exit(0);
  gate.Close();
  const std::string datagram = replication::EncodeLastWord({word, fatal}, std::string_view(key).substr(1));
  timespec pause = {0, kFirstPauseNs};
  for (int i = 0; i < kWords; ++i) {
    (void)send(pulse.get(), datagram.data(), datagram.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (i + 1 < kWords) (void)nanosleep(&pause, nullptr);
    pause.tv_nsec *= 2;
  }
  _exit(0);
}

// --- The server's end ----------------------------------------------------------------------------

class ForkedWitness final : public Witness {
 public:
  ForkedWitness(std::string hash, UniqueFd socket, FatalCall* fatal, pid_t pid)
      : hash_(std::move(hash)), socket_(std::move(socket)), fatal_(fatal), pid_(pid) {}
  const std::string& last_word_hash() const override { return hash_; }
  FatalCall* fatal_call() override { return fatal_; }
  absl::Status Entrust(int pulse_fd, int gate_fd, const std::string& key) override {
    // Without the letter a message with no key would be none.
    if (SendTwo(socket_.get(), pulse_fd, gate_fd, "k" + key)) return absl::OkStatus();
    return absl::UnavailableError(absl::StrCat("the witness is gone: ", strerror(errno)));
  }
  bool Lives() override {
    // Also when it has been waited for already, or nobody has to (SIGCHLD ignored): then there is no such
    // child.
    if (pid_ > 0 && waitpid(pid_, nullptr, WNOHANG) != 0) pid_ = -1;
    return pid_ > 0;
  }
  void TellNow() override { (void)send(socket_.get(), &kThrough, 1, MSG_NOSIGNAL | MSG_DONTWAIT); }

 private:
  const std::string hash_;
  const UniqueFd socket_;
  FatalCall* const fatal_;  // for as long as the process lives: a crash handler may use it at any time
  pid_t pid_;               // -1: it is dead
};

// The same under a high number: of a process that ends the kernel closes the highest first, and its end of
// the socket shall not have to wait for all the others.
UniqueFd MovedUp(UniqueFd fd) {
  // Above those of so many clients; the kernel's table has 8 bytes for each number below.
  constexpr rlim_t kHigh = 200'000;
  rlimit files = {};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur == 0) return fd;
  UniqueFd high(fcntl(fd.get(), F_DUPFD_CLOEXEC, static_cast<int>(std::min(kHigh, files.rlim_cur - 1))));
  return high ? std::move(high) : std::move(fd);
}

absl::Status Failed(const char* what) {
  return absl::UnavailableError(absl::StrCat("no witness: ", what, ": ", strerror(errno)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Witness>> StartWitness() {
  std::string word = replication::NewLastWord();
  if (word.empty()) return Failed("random bytes");
  const UniqueFd self(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));
  if (!self) return Failed("pidfd_open");
  const UniqueFd stat(open("/proc/self/stat", O_RDONLY | O_CLOEXEC));
  if (!stat) return Failed("/proc/self/stat");
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return Failed("socketpair");
  void* const page =
      mmap(nullptr, sizeof(FatalCall), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return Failed("shared memory");
  auto* const fatal = new (page) FatalCall();
  UniqueFd own = MovedUp(UniqueFd(ends[0])), its(ends[1]);
  // Until it ignores them.
  sigset_t blocked, before;
  sigemptyset(&blocked);
  for (const int signal : kNotForIt) sigaddset(&blocked, signal);
  (void)sigprocmask(SIG_BLOCK, &blocked, &before);
  const pid_t child = fork();
  if (child != 0) (void)sigprocmask(SIG_SETMASK, &before, nullptr);
  if (child < 0) return Failed("fork");
  if (child == 0) {
    own.reset();
    Watch(self.get(), stat.get(), its.get(), word, *fatal, before);
  }
  auto witness =
      std::make_unique<ForkedWitness>(replication::HashOfLastWord(word), std::move(own), fatal, child);
  explicit_bzero(word.data(), word.size());
  return witness;
}

}  // namespace understudy
