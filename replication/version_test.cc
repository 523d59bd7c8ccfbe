#include "replication/version.h"

#include <gtest/gtest.h>

#include <cstdint>

namespace understudy::replication {
namespace {

TEST(VersionTest, TheNewestThatBothSpeak) {
  EXPECT_EQ(NewestOfBoth({4, 6}, {5, 9}), 6);
  EXPECT_EQ(NewestOfBoth({5, 9}, {4, 6}), 6);
  EXPECT_EQ(NewestOfBoth({5, 5}, {5, 5}), 5);
  EXPECT_EQ(NewestOfBoth({5, 5}, {1, 7}), 5);
  EXPECT_EQ(NewestOfBoth({4, 5}, {5, 6}), 5);
}

TEST(VersionTest, NoneThatBothSpeak) {
  EXPECT_EQ(NewestOfBoth({5, 6}, {1, 4}), std::nullopt);
  EXPECT_EQ(NewestOfBoth({1, 4}, {5, 6}), std::nullopt);
  EXPECT_EQ(NewestOfBoth({5, 5}, {9, 3}), std::nullopt) << "a range of nothing";
  EXPECT_EQ(NewestOfBoth({5, 5}, {9, 5}), std::nullopt);
  EXPECT_EQ(NewestOfBoth({5, 5}, {INT32_MIN, INT32_MIN}), std::nullopt);
}

TEST(VersionTest, WhoTellsOneVersionSpeaksOnlyThat) {
  EXPECT_EQ(NewestOfBoth({4, 6}, ToldVersions(5, false, 0)), 5);
  EXPECT_EQ(NewestOfBoth({4, 6}, ToldVersions(7, false, 0)), std::nullopt);
  EXPECT_EQ(NewestOfBoth({4, 6}, ToldVersions(7, true, 5)), 6);
}

TEST(VersionTest, Text) {
  EXPECT_EQ(ToString(VersionRange{5, 5}), "version 5");
  EXPECT_EQ(ToString(VersionRange{4, 6}), "versions 4 to 6");
}

}  // namespace
}  // namespace understudy::replication
