// The same program alone: an ordinary server that needs no privilege at all.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "tests/lab/fixed_port.h"
#include "tests/pair_fixture.h"

namespace understudy::lab {
namespace {

using testing::AnyOf;
using testing::HasSubstr;

class StandaloneTest : public testing::Test {
 protected:
  void StartWith(const std::vector<std::string>& flags, const std::string& binary = "tests/apps/workbench") {
    auto where = Namespace::Create("standalone");
    ASSERT_TRUE(where.ok()) << where.status().message();
    where_ = *std::move(where);
    ASSERT_TRUE(where_->Ip("link set lo up\n").ok());
    Process::Options options;
    options.name = "standalone";
    options.argv = {Runfile(binary), "--role=standalone", "--service=127.0.0.1:7000",
                    "--status=127.0.0.1:7200", "--logtostderr"};
    options.argv.insert(options.argv.end(), flags.begin(), flags.end());
    options.where = where_.get();
    options.as_nobody = true;
    auto process = Process::Start(options);
    ASSERT_TRUE(process.ok()) << process.status();
    process_ = *std::move(process);
    StatusClient asked(where_.get(), "127.0.0.1", 7200);
    absl::StatusOr<NodeStatus> status;
    auto deadline = std::chrono::steady_clock::now() + seconds(10);
    do {
      status = asked.Status();
    } while (!status.ok() && std::chrono::steady_clock::now() < deadline);
    ASSERT_TRUE(status.ok()) << status.status() << process_->Log();
    EXPECT_EQ(status->role, "standalone");
  }
  void TearDown() override {
    if (process_ == nullptr) return;
    EXPECT_TRUE(process_->running());
    process_->Signal(SIGTERM);
    auto ended = process_->Wait(seconds(10));
    EXPECT_TRUE(ended && WIFEXITED(*ended) && WEXITSTATUS(*ended) == 0);
    if (HasFailure()) std::cout << process_->LogTail(30) << std::endl;
  }
  Fleet NewFleet() { return Fleet(*where_, "127.0.0.1", 7000); }

  std::unique_ptr<Namespace> where_;
  std::unique_ptr<Process> process_;
};

TEST_F(StandaloneTest, EverythingTheWorkbenchDoes) {
  ASSERT_NO_FATAL_FAILURE(StartWith({}));
  uint64_t seed = TestSeed();
  Fleet fleet = NewFleet();
  fleet.Add(EchoPlan({.bytes = 20 << 20, .seed = seed}));
  fleet.Add(UploadPlan(20 << 20, seed + 1));
  fleet.Add(DownloadPlan(20 << 20, seed + 2));
  fleet.Add(HalfClosedDownloadPlan(5 << 20, seed + 3));
  fleet.Add(ServerHalfClosedPlan("x", 5 << 20, seed + 4));
  fleet.Add(GatherPlan(1000, 7, seed + 5));
  fleet.Add(AskPlan("CLOSE\n", ""));
  fleet.Add(AskPlan("DANCE\n", "what?\n"));
  fleet.Add(AskPlan("REPORT nobody\n", "none\n"));
  fleet.Add(UploadPlan(0, seed));
  fleet.Add(DownloadPlan(0, seed));
  fleet.Add(DownloadPlan(1, seed));
  fleet.AddTimer("timer", 5, 30);
  fleet.AddMany(
      200, [&](int i) { return EchoPlan({.bytes = 10000, .seed = seed + 100 + static_cast<uint64_t>(i)}); });
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  Fleet reports = NewFleet();
  reports.Add(ReportPlan("x", 5 << 20, seed + 4));
  EXPECT_EQ(reports.RunUntilDone(kPatience), "");
}

TEST_F(StandaloneTest, TheServerSpeaksFirst) {
  ASSERT_NO_FATAL_FAILURE(StartWith({"--greeting=220 at your service"}));
  Fleet fleet = NewFleet();
  fleet.AddMany(20, [&](int i) {
    Plan plan = EchoPlan({.bytes = 1000, .seed = static_cast<uint64_t>(i)});
    plan.expect.prefix = "220 at your service\n";
    return plan;
  });
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
}

// What the server has not read of one connection must not be in the way of the next one from the same port.
TEST_F(StandaloneTest, ThousandsFromOnePort) {
  ASSERT_NO_FATAL_FAILURE(StartWith({}));
  FixedPort port(*where_, "127.0.0.1", 7000, 40001);
  using Until = FixedPort::Until;
  using End = FixedPort::End;
  for (int i = 0; i < 3000; ++i) {
    const bool orderly = i % 2 == 0;
    const std::string wrong =
        orderly ? port.Ask("DANCE\n", "what?\n", Until::kEndOfStream, End::kClose, seconds(5))
                : port.Ask("ECHO\nlost", "", i % 4 == 1 ? Until::kNothing : Until::kAnswer, End::kReset,
                           seconds(5));
    ASSERT_EQ(wrong, "") << "connection " << i;
  }
  StatusClient asked(where_.get(), "127.0.0.1", 7200);
  const auto deadline = std::chrono::steady_clock::now() + seconds(5);
  absl::StatusOr<NodeStatus> status;
  do {
    status = asked.Status();
  } while ((!status.ok() || status->connections != 0) && std::chrono::steady_clock::now() < deadline);
  ASSERT_TRUE(status.ok()) << status.status();
  EXPECT_EQ(status->connections, 0);
}

TEST_F(StandaloneTest, AbortResets) {
  ASSERT_NO_FATAL_FAILURE(StartWith({}));
  Fleet fleet = NewFleet();
  fleet.Add(AskPlan("ABORT\n", ""));
  EXPECT_THAT(fleet.RunUntilDone(kPatience), HasSubstr("Connection reset by peer"));
  Fleet after = NewFleet();
  after.Add(EchoPlan({.bytes = 1000, .seed = 1}));
  EXPECT_EQ(after.RunUntilDone(kPatience), "");
}

// A client that does not read costs a bounded amount, and the others nothing.
TEST_F(StandaloneTest, ASlowReaderHoldsNobodyUp) {
  ASSERT_NO_FATAL_FAILURE(StartWith({}));
  Fleet fleet = NewFleet();
  auto slow = fleet.AddMany(5, [&](int i) {
    Plan plan = DownloadPlan(30 << 20, TestSeed() + static_cast<uint64_t>(i));
    plan.reading = false;
    return plan;
  });
  StreamClient* other = fleet.Add(EchoPlan({.bytes = 5 << 20, .seed = 2}));
  ASSERT_EQ(fleet.RunUntil([&] { return other->done(); }, kPatience), "");
  for (auto* one : slow) one->SetReading(true);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
}

// Requests that are sent all at once, FIN behind them, by a client that reads later: each is answered, and
// what waits for room is bounded.
TEST_F(StandaloneTest, APipelinerThatReadsLateGetsAllAnswers) {
  ASSERT_NO_FATAL_FAILURE(StartWith({}));
  Fleet fleet = NewFleet();
  std::vector<StreamClient*> late;
  for (uint64_t bytes : {100, 100000, 3000000}) {
    Plan plan = AnswerPlan(bytes, 20, TestSeed() + bytes);
    plan.reading = false;
    late.push_back(fleet.Add(plan));
  }
  Plan plan = AnswerPlan(1000, 40000, TestSeed(), 1000);
  plan.reading = false;
  StreamClient* greedy = late.emplace_back(fleet.Add(plan));
  ASSERT_EQ(fleet.RunFor(milliseconds(500)), "");
  EXPECT_LT(greedy->sent(), 25u << 20) << "of 40 MB; sockets hold some";
  for (StreamClient* one : late) one->SetReading(true);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
}

// What cannot be made durable has not happened: nobody is told of it, and the program says why it ends.
TEST_F(StandaloneTest, AServerThatCannotCommitGivesUp) {
  TempDir dir;
  const std::string full = dir.path() + "/full";
  ASSERT_NO_FATAL_FAILURE(StartWith({"--commit_fails_if=" + full}));
  Fleet fleet = NewFleet();
  StreamClient* echo = fleet.Add(EchoPlan({.bytes = 1u << 30, .seed = 1}));
  ASSERT_EQ(fleet.RunUntilAllReceive(100000, kPatience), "");
  std::ofstream(full) << "yes";
  EXPECT_THAT(fleet.RunUntilDone(kPatience), AnyOf(HasSubstr("reset"), HasSubstr("too early")));
  EXPECT_GT(echo->received(), 0u);
  const auto ended = process_->Wait(seconds(10));
  ASSERT_TRUE(ended.has_value());
  EXPECT_TRUE(WIFEXITED(*ended) && WEXITSTATUS(*ended) == 1);
  EXPECT_THAT(process_->Log(), HasSubstr("workbench: the Server cannot commit: the workbench is broken"));
  process_.reset();
}

TEST_F(StandaloneTest, EchoApp) {
  ASSERT_NO_FATAL_FAILURE(StartWith({}, "apps/echo/echo"));
  Fleet fleet = NewFleet();
  fleet.AddMany(50,
                [&](int i) { return EchoPlan({.bytes = 100000, .seed = static_cast<uint64_t>(i)}, true); });
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
}

// Who goes on sending after the server has closed is told so, and not after a minute only.
TEST_F(StandaloneTest, WhoSendsOnAfterTheEndIsReset) {
  ASSERT_NO_FATAL_FAILURE(StartWith({}));
  const int fd = where_->Socket(AF_INET, SOCK_STREAM);
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(7000);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  const std::string close_line = "CLOSE\n", more(1000, '.');
  ASSERT_EQ(send(fd, close_line.data(), close_line.size(), MSG_NOSIGNAL),
            static_cast<ssize_t>(close_line.size()));
  char byte;
  ASSERT_EQ(recv(fd, &byte, 1, 0), 0);  // the FIN
  size_t sent = 0;
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (send(fd, more.data(), more.size(), MSG_NOSIGNAL) > 0) {
    sent += more.size();
    ASSERT_LT(std::chrono::steady_clock::now(), deadline) << "after " << sent << " bytes";
    pollfd ready = {.fd = fd, .events = 0, .revents = 0};
    poll(&ready, 1, 1);  // until it is reset, or a moment
  }
  EXPECT_THAT(errno, AnyOf(EPIPE, ECONNRESET));
  close(fd);
}

std::string Contents(const std::string& path) {
  std::ostringstream out;
  out << std::ifstream(path).rdbuf();
  return out.str();
}

// What log rotation sends is no order to end.
TEST_F(StandaloneTest, SighupAndSigusr1OpenTheLogAnew) {
  TempDir dir;
  const std::string path = dir.path() + "/log";
  ASSERT_NO_FATAL_FAILURE(StartWith({"--log_file=" + path}));
  EXPECT_THAT(Contents(path), HasSubstr("serving 127.0.0.1:7000"));
  for (const int signal : {SIGHUP, SIGUSR1}) {
    ASSERT_EQ(rename(path.c_str(), (path + ".1").c_str()), 0);
    process_->Signal(signal);
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    // The line that says so goes where the log was, or to the new file already; so ask until one is there.
    while (access(path.c_str(), F_OK) != 0 && std::chrono::steady_clock::now() < deadline) {
      process_->Signal(signal);
      usleep(5000);
    }
    EXPECT_EQ(access(path.c_str(), F_OK), 0) << signal;
    EXPECT_TRUE(process_->running());
  }
  Fleet fleet = NewFleet();
  fleet.Add(EchoPlan({.bytes = 10000, .seed = TestSeed()}));
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
}

TEST_F(StandaloneTest, SighupWithoutALogFileSaysSo) {
  ASSERT_NO_FATAL_FAILURE(StartWith({}));
  process_->Signal(SIGHUP);
  const auto said = [&] { return process_->Log().find("the log goes to stderr\n") != std::string::npos; };
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (!said() && std::chrono::steady_clock::now() < deadline) usleep(5000);
  EXPECT_TRUE(said()) << process_->Log();
}

// A pipe that is full and has a reader that does not read.
TEST_F(StandaloneTest, AStalledReaderOfTheLogHoldsNobodyUp) {
  TempDir dir;
  const std::string path = dir.path() + "/pipe";
  ASSERT_EQ(mkfifo(path.c_str(), 0666), 0);
  ASSERT_EQ(chmod(path.c_str(), 0666), 0);
  const int pipe = open(path.c_str(), O_RDWR | O_NONBLOCK | O_CLOEXEC);
  ASSERT_GE(pipe, 0);
  const std::string filler(4096, '.');
  while (write(pipe, filler.data(), filler.size()) > 0) {
  }
  ASSERT_NO_FATAL_FAILURE(StartWith({"--log_file=" + path}));
  Fleet fleet = NewFleet();
  fleet.Add(EchoPlan({.bytes = 10000, .seed = TestSeed()}));
  process_->Signal(SIGHUP);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  close(pipe);
}  // and it ends, status 0

}  // namespace
}  // namespace understudy::lab
