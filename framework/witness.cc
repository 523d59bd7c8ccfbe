#include "framework/witness.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "replication/last_word.h"
#include "tcpshim/south_gate.h"
#include "tcpshim/unique_fd.h"

namespace understudy {
namespace {

using tcpshim::UniqueFd;

// Between the words, doubling: any of them may be lost, and the first must not meet a full queue.
constexpr int kWords = 7;
constexpr long kFirstPauseNs = 1'000'000;

// Two descriptors in one message; what they are for is known by their order.
union Descriptors {
  cmsghdr head;
  char space[CMSG_SPACE(2 * sizeof(int))];
};

bool SendTwo(int socket, int first, int second) {
  Descriptors descriptors = {};
  char byte = 0;
  iovec bytes = {&byte, 1};
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
  return sendmsg(socket, &message, MSG_NOSIGNAL) == 1;
}

// False: nothing came, or the other end is gone.
bool ReceiveTwo(int socket, UniqueFd& first, UniqueFd& second) {
  Descriptors descriptors = {};
  char byte = 0;
  iovec bytes = {&byte, 1};
  msghdr message = {};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = &descriptors;
  message.msg_controllen = sizeof descriptors;
  if (recvmsg(socket, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != 1) return false;
  const cmsghdr* const head = CMSG_FIRSTHDR(&message);
  if (head == nullptr || head->cmsg_len != CMSG_LEN(2 * sizeof(int))) return false;
  std::array<int, 2> fds;
  memcpy(fds.data(), CMSG_DATA(head), sizeof fds);
  first.reset(fds[0]);
  second.reset(fds[1]);
  return true;
}

// --- The child ------------------------------------------------------------------------------------

void KeepOnly(std::array<int*, 2> kept) {
  const int null = open("/dev/null", O_RDWR);
  for (int fd = 0; fd < 3; ++fd) (void)dup2(null, fd);
  for (int i = 0; i < 2; ++i) {
    // Out of the way first: one may lie where the other goes.
    *kept[i] = fcntl(*kept[i], F_DUPFD_CLOEXEC, 10);
    if (*kept[i] < 0) _exit(1);
  }
  for (int i = 0; i < 2; ++i) *kept[i] = dup2(*kept[i], 3 + i);
  (void)syscall(SYS_close_range, 5u, ~0u, 0u);
}

[[noreturn]] void Watch(int server, int socket, const std::string& word) {
  // What is meant for the server is no order to the witness, not even that of a service manager who ends all.
  for (const int signal : {SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGUSR1, SIGUSR2}) {
    ::signal(signal, SIG_IGN);
  }
  (void)setsid();
  (void)prctl(PR_SET_NAME, "witness");
  (void)!chdir("/");
  KeepOnly({&server, &socket});

  UniqueFd pulse, gate_fd;
  tcpshim::SouthGate gate;
  std::array<pollfd, 2> wait = {pollfd{server, POLLIN, 0}, pollfd{socket, POLLIN, 0}};
  for (bool gone = false; !gone;) {
    if (poll(wait.data(), wait.size(), -1) < 0) {
      if (errno == EINTR) continue;
      _exit(1);
    }
    gone = wait[0].revents != 0;
    while (ReceiveTwo(socket, pulse, gate_fd)) gate = tcpshim::SouthGate(gate_fd.get());
    // The server has closed its end: there is nothing to hear any more but its death.
    if ((wait[1].revents & (POLLHUP | POLLERR)) != 0) wait[1].fd = -1;
  }
  // Whom nobody knew, and who could not speak, needs no word.
  if (!pulse || !gate.mapped()) _exit(0);
  gate.Close();
  const std::string datagram = replication::EncodeLastWord(word);
  timespec pause = {0, kFirstPauseNs};
  for (int i = 0; i < kWords; ++i) {
    (void)send(pulse.get(), datagram.data(), datagram.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (i + 1 < kWords) (void)nanosleep(&pause, nullptr);
    pause.tv_nsec *= 2;
  }
  _exit(0);
}

// --- The server's end -----------------------------------------------------------------------------

class ForkedWitness final : public Witness {
 public:
  ForkedWitness(std::string hash, UniqueFd socket) : hash_(std::move(hash)), socket_(std::move(socket)) {}
  const std::string& last_word_hash() const override { return hash_; }
  absl::Status Entrust(int pulse_fd, int gate_fd) override {
    if (SendTwo(socket_.get(), pulse_fd, gate_fd)) return absl::OkStatus();
    return absl::UnavailableError(absl::StrCat("the witness is gone: ", strerror(errno)));
  }

 private:
  const std::string hash_;
  const UniqueFd socket_;
};

absl::Status Failed(const char* what) {
  return absl::UnavailableError(absl::StrCat("no witness: ", what, ": ", strerror(errno)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Witness>> StartWitness() {
  std::string word = replication::NewLastWord();
  if (word.empty()) return Failed("random bytes");
  const UniqueFd self(static_cast<int>(syscall(SYS_pidfd_open, getpid(), 0)));
  if (!self) return Failed("pidfd_open");
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) return Failed("socketpair");
  UniqueFd own(ends[0]), its(ends[1]);
  const pid_t child = fork();
  if (child < 0) return Failed("fork");
  if (child == 0) {
    own.reset();
    Watch(self.get(), its.get(), word);
  }
  auto witness = std::make_unique<ForkedWitness>(replication::HashOfLastWord(word), std::move(own));
  explicit_bzero(word.data(), word.size());
  return witness;
}

}  // namespace understudy
