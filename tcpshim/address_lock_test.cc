#include "tcpshim/address_lock.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace understudy::tcpshim {
namespace {

using testing::HasSubstr;

constexpr uint32_t kIp = 0xC6120001;  // 198.18.0.1

class AddressLockTest : public testing::Test {
 protected:
  // A process that takes the lock, says whether it has it, and lives until the test lets it go or kills it.
  struct Holder {
    pid_t pid = 0;
    int go = -1;
    bool has = false;
  };
  Holder Start(uint32_t ip, const std::string& who) {
    int ready[2], go[2];
    EXPECT_EQ(0, ::pipe(ready));
    EXPECT_EQ(0, ::pipe(go));
    Holder holder;
    holder.pid = ::fork();
    if (holder.pid == 0) {
      ::close(go[1]);
      const auto lock = AddressLock::Take(ip, who, folder_);
      const char has = lock.ok() ? 1 : 0;
      if (::write(ready[1], &has, 1) != 1) ::_exit(1);
      char end;
      (void)!::read(go[0], &end, 1);
      ::_exit(0);
    }
    char has = 0;
    EXPECT_EQ(1, ::read(ready[0], &has, 1));
    holder.has = has == 1;
    holder.go = go[1];
    ::close(ready[0]);
    ::close(ready[1]);
    ::close(go[0]);
    return holder;
  }
  void End(Holder& holder, int signal) {
    if (signal != 0) ::kill(holder.pid, signal);
    ::close(holder.go);
    ::waitpid(holder.pid, nullptr, 0);
  }

  std::vector<std::string> Files() const {
    std::vector<std::string> files;
    for (const auto& file : std::filesystem::directory_iterator(folder_)) files.push_back(file.path());
    return files;
  }

  const std::string folder_ = std::string(std::getenv("TEST_TMPDIR")) + "/locks-" +
                              testing::UnitTest::GetInstance()->current_test_info()->name();
};

TEST_F(AddressLockTest, OneProcessForEachAddress) {
  Holder holder = Start(kIp, "198.18.0.1:7000 on eth0");
  ASSERT_TRUE(holder.has);
  const auto second = AddressLock::Take(kIp, "198.18.0.1:7001 on eth0", folder_);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists) << second.status();
  const std::string says(second.status().message());
  EXPECT_THAT(says, HasSubstr("198.18.0.1:7000 on eth0"));
  EXPECT_THAT(says, HasSubstr("process " + std::to_string(holder.pid)));
  EXPECT_THAT(says, HasSubstr("is this node running already?"));
  EXPECT_TRUE(AddressLock::Take(kIp + 1, "198.18.0.2:7000 on eth0", folder_).ok());
  End(holder, SIGKILL);
  EXPECT_TRUE(AddressLock::Take(kIp, "198.18.0.1:7001 on eth0", folder_).ok()) << "the dead hold nothing";
}

TEST_F(AddressLockTest, GivenBackWithTheObject) {
  std::optional<AddressLock> lock;
  {
    auto taken = AddressLock::Take(kIp, "first", folder_);
    ASSERT_TRUE(taken.ok()) << taken.status();
    lock = *std::move(taken);
  }
  Holder refused = Start(kIp, "second");
  EXPECT_FALSE(refused.has);
  End(refused, 0);
  lock.reset();
  Holder holder = Start(kIp, "third");
  EXPECT_TRUE(holder.has);
  End(holder, 0);
}

TEST_F(AddressLockTest, ItsFileGoesWithIt) {
  {
    auto lock = AddressLock::Take(kIp, "me", folder_);
    ASSERT_TRUE(lock.ok()) << lock.status();
    EXPECT_EQ(Files().size(), 1u);
    // Not with a child's copy of the object.
    const pid_t child = ::fork();
    if (child == 0) {
      lock = absl::UnknownError("gone");
      ::_exit(0);
    }
    ::waitpid(child, nullptr, 0);
    EXPECT_EQ(Files().size(), 1u);
  }
  EXPECT_THAT(Files(), testing::IsEmpty());
}

// Whoever comes while another one ends may have opened the file that the other removes.
TEST_F(AddressLockTest, OneHolderWhileOthersComeAndGo) {
  std::vector<pid_t> children;
  for (int i = 0; i < 4; ++i) {
    children.push_back(::fork());
    if (children.back() != 0) continue;
    const std::string claim = folder_ + "-claim";
    for (int taken = 0; taken < 200;) {
      auto lock = AddressLock::Take(kIp, "me", folder_);
      if (!lock.ok()) continue;
      ++taken;
      const int fd = ::open(claim.c_str(), O_CREAT | O_EXCL, 0600);
      if (fd < 0) ::_exit(1);
      ::close(fd);
      ::unlink(claim.c_str());
    }
    ::_exit(0);
  }
  for (pid_t child : children) {
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0) << "two had it at once";
  }
}

TEST_F(AddressLockTest, WhatTheDeadLeaveIsSwept) {
  Holder dead = Start(kIp, "dead"), living = Start(kIp + 1, "living");
  End(dead, SIGKILL);
  EXPECT_EQ(Files().size(), 2u);
  const std::string others[] = {folder_ + "/echo.arbiter.lock", folder_ + "/198.18.0.9-x.lock"};
  for (const std::string& other : others) ::close(::open(other.c_str(), O_CREAT | O_WRONLY, 0600));
  const auto lock = AddressLock::Take(kIp + 2, "me", folder_);
  ASSERT_TRUE(lock.ok()) << lock.status();
  EXPECT_EQ(Files().size(), 4u) << "the living's, ours, and what is no lock of this kind";
  Holder next = Start(kIp + 1, "next");
  EXPECT_FALSE(next.has);
  End(next, 0);
  End(living, 0);
}

// A child that outlives its parent must not speak for it.
TEST_F(AddressLockTest, ChildrenDoNotInheritIt) {
  pid_t child = 0;
  int pipe[2];
  ASSERT_EQ(0, ::pipe(pipe));
  {
    auto lock = AddressLock::Take(kIp, "parent", folder_);
    ASSERT_TRUE(lock.ok()) << lock.status();
    child = ::fork();
    if (child == 0) {
      ::close(pipe[1]);
      char end;
      (void)!::read(pipe[0], &end, 1);
      ::_exit(0);
    }
  }
  Holder holder = Start(kIp, "next");
  EXPECT_TRUE(holder.has);
  End(holder, 0);
  ::close(pipe[1]);
  ::close(pipe[0]);
  ::waitpid(child, nullptr, 0);
}

TEST_F(AddressLockTest, OthersMayNotTakeIt) {
  auto lock = AddressLock::Take(kIp, "me", folder_);
  ASSERT_TRUE(lock.ok()) << lock.status();
  struct stat folder;
  ASSERT_EQ(0, ::stat(folder_.c_str(), &folder));
  EXPECT_EQ(folder.st_mode & 022, 0u);
}

TEST_F(AddressLockTest, FolderThatCannotBeMade) {
  const auto lock = AddressLock::Take(kIp, "me", "/proc/nowhere");
  EXPECT_FALSE(lock.ok());
  EXPECT_THAT(std::string(lock.status().message()), HasSubstr("/proc/nowhere"));
}

}  // namespace
}  // namespace understudy::tcpshim
