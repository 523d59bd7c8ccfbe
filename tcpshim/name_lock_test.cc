#include "tcpshim/name_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <string>

namespace understudy::tcpshim {
namespace {

class NameLockTest : public testing::Test {
 protected:
  NameLockTest() {
    std::string parent = testing::TempDir() + "/locksXXXXXX";
    EXPECT_NE(mkdtemp(parent.data()), nullptr);
    folder_ = parent + "/locks";
  }
  size_t Files() const {
    return std::distance(std::filesystem::directory_iterator(folder_), std::filesystem::directory_iterator());
  }
  std::string folder_;
};

TEST_F(NameLockTest, OneHolderAtATime) {
  UniqueFd first = TakeName("a", folder_);
  ASSERT_TRUE(first) << errno;
  EXPECT_FALSE(TakeName("a", folder_));
  EXPECT_EQ(errno, EADDRINUSE);
  EXPECT_TRUE(TakeName("b", folder_));
  first.reset();
  EXPECT_TRUE(TakeName("a", folder_));
}

TEST_F(NameLockTest, ItGoesWithItsProcess) {
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const UniqueFd held = TakeName("a", folder_);
    if (write(ready[1], "x", 1) != 1) _exit(1);
    for (;;) pause();
  }
  char byte;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  EXPECT_FALSE(TakeName("a", folder_));
  kill(child, SIGKILL);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  EXPECT_TRUE(TakeName("a", folder_));
}

TEST_F(NameLockTest, NobodyElseCanOpenIt) {
  const UniqueFd held = TakeName("a", folder_);
  ASSERT_TRUE(held);
  struct stat info;
  ASSERT_EQ(stat(folder_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0700u);
  ASSERT_EQ(fstat(held.get(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777, 0600u);
  // A folder in which others can make files, or a link to one, is not used.
  ASSERT_EQ(chmod(folder_.c_str(), 0777), 0);
  EXPECT_FALSE(TakeName("b", folder_));
  EXPECT_EQ(errno, EACCES);
  ASSERT_EQ(chmod(folder_.c_str(), 0700), 0);
  ASSERT_EQ(symlink(folder_.c_str(), (folder_ + "-link").c_str()), 0);
  EXPECT_FALSE(TakeName("b", folder_ + "-link"));
}

TEST_F(NameLockTest, GivenBackItLeavesNothing) {
  UniqueFd first = TakeName("a", folder_);
  ASSERT_TRUE(first) << errno;
  GiveBackName(std::move(first));
  EXPECT_EQ(Files(), 0u);
  // Not the file of who has come after it.
  UniqueFd removed = TakeName("a", folder_);
  ASSERT_TRUE(removed) << errno;
  for (const auto& file : std::filesystem::directory_iterator(folder_)) std::filesystem::remove(file);
  const UniqueFd next = TakeName("a", folder_);
  ASSERT_TRUE(next) << errno;
  GiveBackName(std::move(removed));
  EXPECT_EQ(Files(), 1u);
  EXPECT_FALSE(TakeName("a", folder_));
}

TEST_F(NameLockTest, WhatTheDeadLeaveIsSwept) {
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(TakeName(std::to_string(i), folder_));
  const UniqueFd held = TakeName("held", folder_);
  EXPECT_LE(Files(), 2u);
  const UniqueFd last = TakeName("last", folder_);
  EXPECT_EQ(Files(), 2u) << "what is held stays";
  EXPECT_FALSE(TakeName("held", folder_));
}

}  // namespace
}  // namespace understudy::tcpshim
