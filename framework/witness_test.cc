#include "framework/witness.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_ether.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <fstream>
#include <string>

#include "replication/last_word.h"
#include "tcpshim/south_shared.h"
#include "tcpshim/unique_fd.h"

namespace understudy {
namespace {

using tcpshim::UniqueFd;

const std::string kKey(32, 'k');
// Far more than anything here takes.
constexpr int kPatienceMs = 60'000;

UniqueFd LoopbackUdp() {
  UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  return fd;
}

class WitnessTest : public testing::Test {
 protected:
  WitnessTest() : peer_(LoopbackUdp()), gate_fd_(memfd_create("gate", MFD_CLOEXEC)) {
    EXPECT_EQ(ftruncate(gate_fd_.get(), sizeof(south_control)), 0);
    control_ = static_cast<south_control*>(
        mmap(nullptr, sizeof(south_control), PROT_READ | PROT_WRITE, MAP_SHARED, gate_fd_.get(), 0));
    control_->gate = 1;
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, talk_), 0);
  }
  ~WitnessTest() override {
    munmap(control_, sizeof *control_);
    close(talk_[0]);
    close(talk_[1]);
  }

  // A process with a witness; tells the hash, then does what it is told: one letter each.
  void StartServer(bool entrusts) {
    server_ = fork();
    ASSERT_GE(server_, 0);
    if (server_ == 0) Serve(entrusts);
    hash_.resize(replication::kLastWordHashSize);
    ASSERT_EQ(recv(talk_[0], hash_.data(), hash_.size(), MSG_WAITALL), static_cast<ssize_t>(hash_.size()));
  }
  [[noreturn]] void Serve(bool entrusts) {
    auto witness = StartWitness();
    if (!witness.ok()) _exit(10);
    const UniqueFd own = LoopbackUdp();
    sockaddr_in to = {};
    socklen_t size = sizeof to;
    if (getsockname(peer_.get(), reinterpret_cast<sockaddr*>(&to), &size) != 0) _exit(11);
    if (connect(own.get(), reinterpret_cast<sockaddr*>(&to), size) != 0) _exit(12);
    // What is open since the witness was started, and by no other process: one file that tells the test when
    // it is closed, and those that the kernel closes before it.
    if (!marker_.empty() && open(marker_.c_str(), O_WRONLY | O_CLOEXEC) < 0) _exit(18);
    for (int i = 0; i < slow_files_; ++i) {
      if (socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(ETH_P_ARP)) < 0) _exit(17);
    }
    if (entrusts && !(*witness)->Entrust(own.get(), gate_fd_.get(), kKey).ok()) _exit(13);
    *(*witness)->fatal_call() = fatal_;
    const std::string& hash = (*witness)->last_word_hash();
    if (write(talk_[1], hash.data(), hash.size()) != static_cast<ssize_t>(hash.size())) _exit(14);
    for (char told = 0;;) {
      if (read(talk_[1], &told, 1) != 1) _exit(15);
      if (told == 'x') _exit(0);
      if (told == 't') (*witness)->TellNow();
      if (told == 'l') told = (*witness)->Lives() ? 'y' : 'n';
      if (write(talk_[1], &told, 1) != 1) _exit(16);
    }
  }
  bool ServerAnswers() {
    char said = '?';
    return write(talk_[0], &said, 1) == 1 && read(talk_[0], &said, 1) == 1 && said == '?';
  }
  bool WitnessLives() {
    char said = 'l';
    return write(talk_[0], &said, 1) == 1 && read(talk_[0], &said, 1) == 1 && said == 'y';
  }
  // The child that is not this test's: the witness.
  pid_t WitnessOf(pid_t server) {
    std::ifstream children("/proc/" + std::to_string(server) + "/task/" + std::to_string(server) +
                           "/children");
    pid_t pid = -1;
    children >> pid;
    return pid;
  }
  // What was said; "" if nobody says anything until all who could have are gone.
  std::string Hear(int timeout_ms) {
    pollfd wait = {peer_.get(), POLLIN, 0};
    if (poll(&wait, 1, timeout_ms) != 1) return "";
    char bytes[200];
    const ssize_t size = recv(peer_.get(), bytes, sizeof bytes, 0);
    const auto last = replication::DecodeLastWord({bytes, static_cast<size_t>(size)}, kKey);
    if (!last.has_value()) return "no word";
    EXPECT_EQ(last->fatal.lsn, fatal_.lsn);
    EXPECT_EQ(last->fatal.connection, fatal_.connection);
    return last->word;
  }
  uint32_t gate() { return std::atomic_ref(control_->gate).load(); }

  replication::FatalCall fatal_;
  int slow_files_ = 0;  // of each the kernel takes some milliseconds to close
  std::string marker_;  // a pipe that hangs up when the server's files are closed; "": none
  UniqueFd peer_, gate_fd_;
  south_control* control_;
  int talk_[2];
  pid_t server_ = -1;
  std::string hash_;
};

TEST_F(WitnessTest, TellsOfEachKindOfEnd) {
  for (const bool killed : {true, false}) {
    control_->gate = 1;
    fatal_ = killed ? replication::FatalCall{17, 3, 0} : replication::FatalCall{};
    ASSERT_NO_FATAL_FAILURE(StartServer(true));
    EXPECT_TRUE(ServerAnswers());
    EXPECT_EQ(gate(), 1u);
    EXPECT_EQ(Hear(0), "") << "while it lives";
    if (killed) {
      kill(server_, SIGKILL);
    } else {
      EXPECT_EQ(write(talk_[0], "x", 1), 1);
    }
    const std::string word = Hear(kPatienceMs);
    EXPECT_EQ(gate(), 0u) << "silent before it is told";
    EXPECT_EQ(replication::HashOfLastWord(word), hash_);
    for (int again = 1; again < 7; ++again) EXPECT_EQ(Hear(kPatienceMs), word) << again;
    EXPECT_EQ(waitpid(server_, nullptr, 0), server_);
  }
}

TEST_F(WitnessTest, TellsWhenTheServerIsThroughAndLives) {
  ASSERT_NO_FATAL_FAILURE(StartServer(true));
  EXPECT_EQ(write(talk_[0], "t", 1), 1);
  EXPECT_EQ(replication::HashOfLastWord(Hear(kPatienceMs)), hash_);
  EXPECT_EQ(gate(), 0u);
  char said = 0;
  EXPECT_EQ(read(talk_[0], &said, 1), 1);
  EXPECT_TRUE(ServerAnswers());
  EXPECT_EQ(write(talk_[0], "x", 1), 1);
  EXPECT_EQ(waitpid(server_, nullptr, 0), server_);
}

TEST_F(WitnessTest, TellsBeforeTheKernelHasClearedAway) {
  slow_files_ = 200;
  marker_ = testing::TempDir() + "/marker." + std::to_string(getpid());
  ASSERT_EQ(mkfifo(marker_.c_str(), 0600), 0);
  const UniqueFd end_of_files(open(marker_.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  ASSERT_NO_FATAL_FAILURE(StartServer(true));
  EXPECT_EQ(unlink(marker_.c_str()), 0);
  kill(server_, SIGKILL);
  EXPECT_EQ(replication::HashOfLastWord(Hear(kPatienceMs)), hash_);
  pollfd closed = {end_of_files.get(), 0, 0};
  EXPECT_EQ(poll(&closed, 1, 0), 0) << "heard behind all files of the dead";
  siginfo_t end = {};
  EXPECT_EQ(waitid(P_PID, static_cast<id_t>(server_), &end, WEXITED | WNOHANG | WNOWAIT), 0);
  EXPECT_EQ(end.si_pid, 0) << "its files are still being closed";
  EXPECT_EQ(waitpid(server_, nullptr, 0), server_);
}

TEST_F(WitnessTest, ASignalThatEndsAllOthersDoesNotEndIt) {
  ASSERT_NO_FATAL_FAILURE(StartServer(true));
  const pid_t witness = WitnessOf(server_);
  ASSERT_GT(witness, 0);
  for (const int signal : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGPIPE, SIGUSR1, SIGUSR2})
    kill(witness, signal);
  kill(server_, SIGTERM);
  EXPECT_EQ(replication::HashOfLastWord(Hear(kPatienceMs)), hash_);
  EXPECT_EQ(waitpid(server_, nullptr, 0), server_);
}

TEST_F(WitnessTest, ItsOwnDeathHarmsNobody) {
  ASSERT_NO_FATAL_FAILURE(StartServer(true));
  const pid_t witness = WitnessOf(server_);
  ASSERT_GT(witness, 0);
  EXPECT_TRUE(WitnessLives());
  kill(witness, SIGKILL);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kPatienceMs);
  while (WitnessLives()) ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "nobody has noticed";
  EXPECT_FALSE(WitnessLives());
  EXPECT_TRUE(ServerAnswers());
  EXPECT_EQ(gate(), 1u);
  EXPECT_EQ(write(talk_[0], "x", 1), 1);
  int status = -1;
  EXPECT_EQ(waitpid(server_, &status, 0), server_);
  EXPECT_EQ(status, 0);
}

// It has nothing of the server's open: whoever waits for the end of the server's output is not kept waiting,
// and a port is free again.
TEST_F(WitnessTest, HoldsNothingButWhatItWasGiven) {
  int out[2];
  ASSERT_EQ(pipe(out), 0);
  ASSERT_NO_FATAL_FAILURE(StartServer(false));
  close(out[1]);
  const pid_t witness = WitnessOf(server_);
  ASSERT_GT(witness, 0);
  kill(server_, SIGKILL);
  EXPECT_EQ(waitpid(server_, nullptr, 0), server_);
  char byte;
  EXPECT_EQ(read(out[0], &byte, 1), 0) << "end of file";
  close(out[0]);
  EXPECT_EQ(gate(), 1u) << "nothing was entrusted to it";
}

}  // namespace
}  // namespace understudy
