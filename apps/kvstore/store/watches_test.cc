#include "apps/kvstore/store/watches.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace kvstore {
namespace {

using testing::ElementsAre;

TEST(WatchesTest, TellsThoseWhoWatchTheKey) {
  Watches watches;
  Watcher one, two;
  watches.Touch("a");
  watches.Watch("a", true, &one);
  watches.Watch("b", false, &one);
  watches.Watch("b", true, &two);
  watches.Touch("c");
  EXPECT_FALSE(one.touched || two.touched);
  watches.Touch("a");
  EXPECT_TRUE(one.touched);
  EXPECT_FALSE(two.touched);
  watches.Touch("b");
  EXPECT_TRUE(two.touched);
  ASSERT_EQ(one.keys.size(), 2u);
  EXPECT_TRUE(one.keys[0].existed);
  EXPECT_FALSE(one.keys[1].existed);
}

TEST(WatchesTest, WatchingTwiceIsWatchingOnce) {
  Watches watches;
  Watcher watcher;
  watches.Watch("a", true, &watcher);
  watches.Watch("a", false, &watcher);
  ASSERT_EQ(watcher.keys.size(), 1u);
  EXPECT_TRUE(watcher.keys[0].existed) << "as it was the first time";
  watches.Unwatch(&watcher);
  EXPECT_TRUE(watches.empty());
}

TEST(WatchesTest, UnwatchForgetsAll) {
  Watches watches;
  Watcher one, two;
  watches.Watch("a", true, &one);
  watches.Watch("a", true, &two);
  watches.Touch("a");
  watches.Unwatch(&one);
  EXPECT_FALSE(one.touched);
  EXPECT_TRUE(one.keys.empty());
  EXPECT_TRUE(two.touched);
  watches.Touch("a");
  EXPECT_FALSE(one.touched);
  EXPECT_FALSE(watches.empty());
  watches.Unwatch(&two);
  EXPECT_TRUE(watches.empty());
  watches.Unwatch(&two);
}

TEST(WatchesTest, KeysAreInOrder) {
  Watches watches;
  Watcher one, two;
  for (const char* key : {"c", "a", "b"}) watches.Watch(key, true, &one);
  watches.Watch("b", true, &two);
  EXPECT_THAT(watches.Keys(), ElementsAre("a", "b", "c"));
}

}  // namespace
}  // namespace kvstore
