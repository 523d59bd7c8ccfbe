// Two stores that are told the same show the same, whatever else is different about them: what a pair relies
// on.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <iostream>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "apps/kvstore/store/digest.h"
#include "apps/kvstore/store/store_for_test.h"
#include "apps/kvstore/store/string_value.h"
#include "apps/kvstore/store/turns_for_test.h"

namespace kvstore {
namespace {

// Everything that can be seen in passing, orders and cursors too.
std::string Shown(Keyspace& keys, uint64_t random) {
  const std::string picked = keys.Random(random).value_or("none");
  std::string text = absl::StrCat(keys.size(), " ", keys.expiring(), " ", picked);
  uint64_t cursor = random % 3 == 0 ? random : 0;
  do {
    cursor = keys.Scan(cursor, 1 + random % 7, [&](std::string_view key, const Entry& entry) {
      absl::StrAppend(&text, " ", std::string(key), "=", entry.count);
    });
    absl::StrAppend(&text, " | ", cursor);
  } while (cursor != 0);
  return text;
}

TEST(DeterminismTest, SameCallsSameSights) {
  const uint32_t seed = std::random_device()();
  std::cout << "seed " << seed << std::endl;
  std::mt19937_64 random(seed);
  TestStore one(size_t{16} << 20, nullptr, std::chrono::milliseconds(1));
  TestStore two(5000);
  for (uint64_t turn = 1; turn <= 1000; ++turn) {
    ApplyTurn(one.keys(), seed, turn);
    ApplyTurn(two.keys(), seed, turn);
    // More come to their end than the next call removes.
    for (uint64_t i = 0; i < 30; ++i) {
      const int64_t end = TimeOfTurn(turn) + static_cast<int64_t>(random() % 20);
      for (TestStore* store : {&one, &two}) {
        WriteString(store->keys(), absl::StrCat("brief", turn % 10 * 30 + i), "x", end);
      }
    }
    // The one commits always, and writes behind; the other seldom, and it starts again, asks more often,
    // removes what is due sooner.
    ASSERT_TRUE(one.keys().Commit().ok());
    if (random() % 20 == 0) {
      ASSERT_TRUE(two.keys().Commit().ok());
    }
    if (random() % 100 == 0) {
      ASSERT_TRUE(two.keys().Commit().ok());
      two.Reopen();
    }
    if (random() % 3 == 0) two.keys().size();
    for (uint64_t i = random() % 5; i > 0; --i) two.keys().SetNow(two.keys().now_ms());
    const uint64_t number = random();
    if (turn % 3 == 0) {
      ASSERT_EQ(Shown(one.keys(), number), Shown(two.keys(), number)) << "turn " << turn;
    }
    if (turn % 50 == 0) {
      ASSERT_EQ(DigestOf(one.keys()), DigestOf(two.keys())) << "turn " << turn;
    }
  }
  EXPECT_EQ(DigestOf(one.keys()), DigestOf(two.keys()));
}

}  // namespace
}  // namespace kvstore
