#include "apps/kvstore/temporary_directory.h"

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include "apps/kvstore/store/store_for_test.h"
#include "gtest/gtest.h"

namespace kvstore {
namespace {

namespace fs = std::filesystem;

class TemporaryDirectoryTest : public testing::Test {
 protected:
  TemporaryDirectoryTest() { EXPECT_EQ(setenv("TMPDIR", where_.path().c_str(), /*overwrite=*/1), 0); }

  static std::unique_ptr<TemporaryDirectory> Make() {
    auto made = TemporaryDirectory::Make();
    EXPECT_TRUE(made.ok()) << made.status();
    return *std::move(made);
  }

  // Something with a file in it, last changed two minutes ago.
  static void MakeOld(const fs::path& path) {
    fs::create_directories(path);
    std::ofstream(path / "CURRENT") << "x";
    fs::last_write_time(path, fs::file_time_type::clock::now() - std::chrono::minutes(2));
  }

  TestDirectory where_;
};

TEST_F(TemporaryDirectoryTest, GoesWithItsOwner) {
  std::string path;
  {
    const auto directory = Make();
    path = directory->path();
    EXPECT_TRUE(fs::is_directory(path));
    MakeOld(fs::path(path) / "below");
    EXPECT_NE(Make()->path(), path);
  }
  EXPECT_FALSE(fs::exists(path));
  EXPECT_TRUE(fs::is_empty(where_.path()));
}

TEST_F(TemporaryDirectoryTest, WhatTheKilledLeftBehindGoesToo) {
  const fs::path where = where_.path();
  const auto living = Make();
  fs::last_write_time(living->path(), fs::file_time_type::clock::now() - std::chrono::minutes(2));
  MakeOld(where / "understudy-kvstore.dead01");
  MakeOld(where / "somebody-else");
  MakeOld(where / "target");
  fs::create_directory_symlink(where / "target", where / "understudy-kvstore.link01");
  fs::create_directory(where / "understudy-kvstore.young1");
  std::ofstream(where / "understudy-kvstore.file01") << "x";

  const auto directory = Make();
  EXPECT_FALSE(fs::exists(where / "understudy-kvstore.dead01"));
  EXPECT_TRUE(fs::exists(living->path()));
  for (const auto kept : {"somebody-else/CURRENT", "target/CURRENT", "understudy-kvstore.link01",
                          "understudy-kvstore.young1", "understudy-kvstore.file01"}) {
    EXPECT_TRUE(fs::exists(where / kept)) << kept;
  }
}

TEST_F(TemporaryDirectoryTest, SaysWhyThereIsNone) {
  ASSERT_EQ(setenv("TMPDIR", "/nonexistent", /*overwrite=*/1), 0);
  const auto made = TemporaryDirectory::Make();
  EXPECT_FALSE(made.ok());
}

}  // namespace
}  // namespace kvstore
