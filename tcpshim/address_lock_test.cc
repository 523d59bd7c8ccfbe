#include "tcpshim/address_lock.h"

#include <gmock/gmock.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <optional>
#include <string>

namespace understudy::tcpshim {
namespace {

using testing::HasSubstr;

constexpr uint32_t kIp = 0xC6120001;   // 198.18.0.1

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

  const std::string folder_ = std::string(std::getenv("TEST_TMPDIR")) + "/locks";
};

TEST_F(AddressLockTest, OneProcessForEachAddress) {
  Holder holder = Start(kIp, "198.18.0.1:7000 on eth0");
  ASSERT_TRUE(holder.has);
  const auto second = AddressLock::Take(kIp, "198.18.0.1:7001 on eth0", folder_);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists) << second.status();
  const std::string says(second.status().message());
  EXPECT_THAT(says, HasSubstr("198.18.0.1:7000 on eth0"));
  EXPECT_THAT(says, HasSubstr("process " + std::to_string(holder.pid)));
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
