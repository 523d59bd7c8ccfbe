#include "replication/file_arbiter.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <fstream>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "replication/make_arbiter.h"
#include "replication/network_file_system.h"

namespace understudy::replication {
namespace {

using testing::HasSubstr;

std::string FreshPath() {
  static int count = 0;
  std::string folder = testing::TempDir() + "/arbiterXXXXXX";
  EXPECT_NE(mkdtemp(folder.data()), nullptr);
  return folder + "/register" + std::to_string(count++);
}

absl::StatusOr<Arbiter::Outcome> Swap(boost::asio::io_context& loop, Arbiter& arbiter,
                                      const Register& expected, const Register& desired) {
  std::optional<absl::StatusOr<Arbiter::Outcome>> out;
  arbiter.CompareAndSwap(expected, desired, [&out](auto outcome) { out = std::move(outcome); });
  EXPECT_FALSE(out.has_value()) << "called back inside the call";
  loop.restart();
  loop.run();
  return out.value();
}

absl::StatusOr<Arbiter::Outcome> Read(boost::asio::io_context& loop, Arbiter& arbiter) {
  std::optional<absl::StatusOr<Arbiter::Outcome>> out;
  arbiter.Read([&out](auto outcome) { out = std::move(outcome); });
  EXPECT_FALSE(out.has_value()) << "called back inside the call";
  loop.restart();
  loop.run();
  return out.value();
}

class FileArbiterTest : public testing::Test {
 protected:
  const std::string path_ = FreshPath();
  boost::asio::io_context loop_;
  FileArbiter arbiter_{loop_, path_, std::chrono::milliseconds(5)};
};

TEST_F(FileArbiterTest, NothingWrittenIsEpochZero) {
  auto outcome = Read(loop_, arbiter_);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_FALSE(outcome->swapped);
  EXPECT_EQ(outcome->current, Register{});
}

TEST_F(FileArbiterTest, SwapsWhatWasExpectedOnly) {
  const Register first = FirstServedBy(Register{}, "a");
  auto outcome = Swap(loop_, arbiter_, Register{}, first);
  ASSERT_TRUE(outcome.ok()) << outcome.status();
  EXPECT_TRUE(outcome->swapped);
  EXPECT_EQ(outcome->current, first);
  outcome = Swap(loop_, arbiter_, Register{}, FirstServedBy(Register{}, "b"));
  ASSERT_TRUE(outcome.ok());
  EXPECT_FALSE(outcome->swapped);
  EXPECT_EQ(outcome->current, first);
  EXPECT_EQ(Read(loop_, arbiter_)->current, first);
  // Another arbiter over the same file sees it as well.
  FileArbiter other(loop_, path_);
  EXPECT_EQ(Read(loop_, other)->current, first);
  EXPECT_TRUE(Swap(loop_, other, first, JoinedBy(first, "b"))->swapped);
}

TEST_F(FileArbiterTest, AProbeTriesEverythingAndChangesNothing) {
  const Register first = FirstServedBy(Register{}, "a");
  const auto probe = [this] {
    std::optional<absl::StatusOr<Arbiter::Outcome>> out;
    arbiter_.Probe([&out](auto outcome) { out = std::move(outcome); });
    loop_.restart();
    loop_.run();
    return out.value();
  };
  EXPECT_EQ(probe()->current, Register{});
  EXPECT_NE(access(path_.c_str(), F_OK), 0) << "a probe made a register";
  ASSERT_TRUE(Swap(loop_, arbiter_, Register{}, first)->swapped);
  EXPECT_EQ(probe()->current, first);
  EXPECT_EQ(Read(loop_, arbiter_)->current, first);
  // A folder in the way of the new file: it could be read, and not be changed.
  ASSERT_EQ(mkdir((path_ + ".new").c_str(), 0700), 0);
  EXPECT_TRUE(Read(loop_, arbiter_).ok());
  EXPECT_EQ(probe().status().code(), absl::StatusCode::kUnavailable);
  ASSERT_EQ(rmdir((path_ + ".new").c_str()), 0);
  EXPECT_TRUE(probe().ok());
}

// Any user who may open the lock may hold it, and nobody could take over.
TEST_F(FileArbiterTest, TheLockIsNobodyElses) {
  const std::string lock = path_ + ".lock";
  const auto mode = [&] {
    struct stat info;
    EXPECT_EQ(stat(lock.c_str(), &info), 0);
    return info.st_mode & 0777;
  };
  ASSERT_TRUE(Read(loop_, arbiter_).ok());
  EXPECT_EQ(mode(), 0600u);
  ASSERT_EQ(chmod(lock.c_str(), 0644), 0);
  ASSERT_TRUE(Read(loop_, arbiter_).ok());
  EXPECT_EQ(mode(), 0600u) << "left by an older version";
}

TEST_F(FileArbiterTest, LinksAreNotFollowed) {
  const std::string prey = FreshPath();
  std::ofstream(prey) << "precious";
  const Register first = FirstServedBy(Register{}, "a");
  const auto precious = [&] {
    std::string text;
    std::getline(std::ifstream(prey), text);
    return text;
  };
  ASSERT_EQ(symlink(prey.c_str(), (path_ + ".new").c_str()), 0);
  EXPECT_TRUE(Swap(loop_, arbiter_, Register{}, first)->swapped);
  EXPECT_EQ(precious(), "precious");
  EXPECT_EQ(Read(loop_, arbiter_)->current, first);
  ASSERT_EQ(unlink((path_ + ".lock").c_str()), 0);
  ASSERT_EQ(symlink(prey.c_str(), (path_ + ".lock").c_str()), 0);
  EXPECT_EQ(Read(loop_, arbiter_).status().code(), absl::StatusCode::kUnavailable);
  ASSERT_EQ(unlink((path_ + ".lock").c_str()), 0);
  ASSERT_EQ(unlink(path_.c_str()), 0);
  ASSERT_EQ(symlink(prey.c_str(), path_.c_str()), 0);
  EXPECT_EQ(Read(loop_, arbiter_).status().code(), absl::StatusCode::kUnavailable);
}

TEST(NetworkFileSystemTest, OtherHostsFilesAreTold) {
  EXPECT_STREQ(NetworkFileSystem(0x6969), "NFS");
  EXPECT_STREQ(NetworkFileSystem(0xff534d42), "CIFS");
  EXPECT_STREQ(NetworkFileSystem(0xffffffffff534d42), "CIFS") << "sign extended";
  EXPECT_STREQ(NetworkFileSystem(0x65735546), "FUSE");
  for (const uint64_t local : {0xef53ull, 0x01021994ull, 0x9123683eull, 0x58465342ull, 0x794c7630ull}) {
    EXPECT_EQ(NetworkFileSystem(local), nullptr) << local;  // ext4, tmpfs, btrfs, XFS, overlay
  }
}

TEST_F(FileArbiterTest, DamageIsSaidAndNotOverwritten) {
  std::ofstream(path_) << "understudy epoch=7 hol";
  auto outcome = Read(loop_, arbiter_);
  EXPECT_EQ(outcome.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(outcome.status().message()), HasSubstr(path_));
  EXPECT_FALSE(Swap(loop_, arbiter_, Register{}, FirstServedBy(Register{}, "a")).ok());
  std::string text;
  std::getline(std::ifstream(path_), text);
  EXPECT_EQ(text, "understudy epoch=7 hol");
}

TEST_F(FileArbiterTest, NoFolderIsUnavailable) {
  FileArbiter lost(loop_, path_ + "/no/such");
  auto outcome = Read(loop_, lost);
  EXPECT_EQ(outcome.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(outcome.status().message()), HasSubstr("no/such"));
}

TEST_F(FileArbiterTest, LockHeldTooLongIsUnavailable) {
  const int fd = open((path_ + ".lock").c_str(), O_RDWR | O_CREAT, 0644);
  ASSERT_EQ(flock(fd, LOCK_EX), 0);
  auto outcome = Swap(loop_, arbiter_, Register{}, FirstServedBy(Register{}, "a"));
  EXPECT_EQ(outcome.status().code(), absl::StatusCode::kUnavailable);
  close(fd);
  EXPECT_EQ(Read(loop_, arbiter_)->current, Register{});
}

TEST_F(FileArbiterTest, NoCallbackAfterDestruction) {
  bool called = false;
  {
    FileArbiter gone(loop_, path_);
    gone.Read([&called](auto) { called = true; });
  }
  loop_.run();
  EXPECT_FALSE(called);
}

// Wins of `node` until `epochs` have been granted: each is asked for by all at once.
std::vector<uint64_t> Race(const std::string& path, const std::string& node, uint64_t epochs) {
  boost::asio::io_context loop;
  FileArbiter arbiter(loop, path, std::chrono::seconds(60));
  std::vector<uint64_t> won;
  Register known;
  while (known.epoch < epochs) {
    const Register desired = TakenOverBy(known, node);
    auto outcome = Swap(loop, arbiter, known, desired);
    if (!outcome.ok()) return {};
    if (outcome->swapped) won.push_back(desired.epoch);
    known = outcome->current;
  }
  return won;
}

TEST(FileArbiterRaceTest, ThreadsWinEachEpochOnce) {
  const std::string path = FreshPath();
  constexpr int kThreads = 4;
  constexpr uint64_t kEpochs = 100;
  std::vector<std::vector<uint64_t>> won(kThreads);
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] { won[i] = Race(path, "node" + std::to_string(i), kEpochs); });
  }
  for (std::thread& thread : threads) thread.join();
  std::multiset<uint64_t> all;
  for (const auto& some : won) all.insert(some.begin(), some.end());
  ASSERT_EQ(all.size(), kEpochs);
  for (uint64_t epoch = 1; epoch <= kEpochs; ++epoch) EXPECT_EQ(all.count(epoch), 1u) << epoch;
}

TEST(FileArbiterRaceTest, ProcessesWinEachEpochOnce) {
  const std::string path = FreshPath();
  constexpr uint64_t kEpochs = 100;
  int pipes[2];
  ASSERT_EQ(pipe(pipes), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    for (uint64_t epoch : Race(path, "child", kEpochs)) {
      if (write(pipes[1], &epoch, sizeof(epoch)) != sizeof(epoch)) _exit(1);
    }
    _exit(0);
  }
  close(pipes[1]);
  std::multiset<uint64_t> all;
  for (uint64_t epoch : Race(path, "parent", kEpochs)) all.insert(epoch);
  uint64_t epoch;
  while (read(pipes[0], &epoch, sizeof(epoch)) == sizeof(epoch)) all.insert(epoch);
  close(pipes[0]);
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  ASSERT_EQ(all.size(), kEpochs);
  for (uint64_t e = 1; e <= kEpochs; ++e) EXPECT_EQ(all.count(e), 1u) << e;
}

TEST(MakeArbiterTest, SaysWhatItDoesNotKnow) {
  boost::asio::io_context loop;
  for (const char* uri :
       {"", "zookeeper://x", "file", "file:", "file:relative", "file:/dir/", "unsafe-none:", "FILE:/x"}) {
    auto made = MakeArbiter(uri, loop);
    EXPECT_EQ(made.status().code(), absl::StatusCode::kInvalidArgument) << uri;
    EXPECT_THAT(std::string(made.status().message()), HasSubstr(std::string("--arbiter=") + uri));
  }
  EXPECT_EQ(MakeArbiter("etcd://h:1/k", loop).status().code(), absl::StatusCode::kUnimplemented);
}

TEST(MakeArbiterTest, File) {
  boost::asio::io_context loop;
  const std::string path = FreshPath();
  auto made = MakeArbiter("file:" + path, loop);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_TRUE(Swap(loop, **made, Register{}, FirstServedBy(Register{}, "a"))->swapped);
  FileArbiter same(loop, path);
  EXPECT_EQ(Read(loop, same)->current.holder, "a");
}

TEST(MakeArbiterTest, UnsafeNoneGrantsEverything) {
  boost::asio::io_context loop;
  auto made = MakeArbiter("unsafe-none", loop);
  ASSERT_TRUE(made.ok());
  const Register pair{5, "a", "b"};
  EXPECT_EQ(Read(loop, **made)->current, Register{});
  EXPECT_TRUE(Swap(loop, **made, pair, TakenOverBy(pair, "b"))->swapped);
  EXPECT_EQ(Read(loop, **made)->current, (Register{6, "b", ""}));
}

}  // namespace
}  // namespace understudy::replication
