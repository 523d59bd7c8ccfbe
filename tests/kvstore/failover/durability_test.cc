// What a node has answered when there was no other left that could know is on its disk: it may die the next
// moment, and is started again from there.
#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "apps/kvstore/store/digest.h"
#include "apps/kvstore/store/keyspace.h"
#include "apps/kvstore/store/table.h"
#include "apps/kvstore/store/watches.h"
#include "tests/kvstore/failover/kv_pair_fixture.h"
#include "tests/lab/process.h"

namespace kvstore {
namespace {

using understudy::lab::FaultKind;
using understudy::lab::Host;
using understudy::lab::Other;

// As DEBUG DIGEST answers it.
std::string DigestOfDirectory(const std::string& directory) {
  auto table = Table::Open({.directory = directory});
  if (!table.ok()) return table.status().ToString();
  Watches watches;
  auto keys = Keyspace::Open(table->get(), &watches);
  if (!keys.ok()) return keys.status().ToString();
  return absl::StrCat("+", DigestOf(**keys), "\r\n");
}

class DurabilityTest : public KvPairTest {
 protected:
  // Writes in a pair are written a second behind; the secondary has a directory that stays.
  void SetUp() override {
    with_secondary_ = false;
    ASSERT_NO_FATAL_FAILURE(StartPair());
    const absl::Status started =
        pair_->StartNode(Other(primary()), "secondary", {absl::StrCat("--data_dir=", directory())});
    ASSERT_TRUE(started.ok()) << started;
    ExpectState(primary(), "protected");
  }
  std::string directory() const { return folder_.path() + "/data"; }

  understudy::lab::TempDir folder_;
};

TEST_P(DurabilityTest, WhatTheHeirHasAnsweredIsThereAfterAKill) {
  KvClient one(client());
  std::string requests;
  // Little enough to be written before the heir's first answer. With more it catches up while it answers:
  // table_test.
  constexpr int kBefore = 1000;
  for (int i = 0; i < kBefore; ++i) {
    requests += RequestBytes({"SET", absl::StrCat("before", i), std::string(100, 'v')});
  }
  one.WriteWhileReceiving(requests);
  for (int i = 0; i < kBefore; ++i) ASSERT_EQ(one.ReadReply(), "+OK\r\n") << one.error();
  Fault();
  ASSERT_EQ(one.Ask({"SET", "after", "v"}), "+OK\r\n") << one.error();
  ExpectTakenOver();
  if (testing::Test::HasFailure()) return;
  for (int i = 1; i <= 100; ++i) {
    ASSERT_EQ(one.Ask({"INCR", "counter"}), absl::StrCat(":", i, "\r\n")) << one.error();
  }
  const std::string digest = one.Ask({"DEBUG", "DIGEST"});
  EXPECT_EQ(one.error(), "");
  pair_->process(Other(primary())).Kill();
  EXPECT_EQ(DigestOfDirectory(directory()), digest);
}

INSTANTIATE_TEST_SUITE_P(, DurabilityTest, testing::Values(FaultKind::kKilled, FaultKind::kPowerCut),
                         NameOfFault);

}  // namespace
}  // namespace kvstore
