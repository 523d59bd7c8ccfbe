#include "apps/kvstore/private_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <fstream>
#include <string>

namespace kvstore {
namespace {

std::string Fresh() {
  std::string folder = testing::TempDir() + "/privateXXXXXX";
  EXPECT_NE(mkdtemp(folder.data()), nullptr);
  return folder + "/data";
}

unsigned ModeOf(const std::string& path) {
  struct stat facts;
  EXPECT_EQ(stat(path.c_str(), &facts), 0);
  return facts.st_mode & 07777;
}

TEST(PrivateDirectoryTest, IsMadeForItsOwnerAlone) {
  const std::string path = Fresh();
  ASSERT_TRUE(MakePrivateDirectory(path).ok());
  EXPECT_EQ(ModeOf(path), 0700u);
  EXPECT_TRUE(MakePrivateDirectory(path).ok()) << "again";
}

TEST(PrivateDirectoryTest, OneThatIsOpenIsClosed) {
  const std::string path = Fresh();
  ASSERT_EQ(mkdir(path.c_str(), 0755), 0);
  ASSERT_EQ(chmod(path.c_str(), 0755), 0);
  ASSERT_TRUE(MakePrivateDirectory(path).ok());
  EXPECT_EQ(ModeOf(path), 0700u);
}

TEST(PrivateDirectoryTest, WhatIsInTheWayIsSaid) {
  const std::string path = Fresh();
  std::ofstream(path) << "a file";
  EXPECT_THAT(std::string(MakePrivateDirectory(path).message()), testing::HasSubstr(path + ": cannot use"));
  EXPECT_FALSE(MakePrivateDirectory(path + "/below").ok());
}

}  // namespace
}  // namespace kvstore
