#include "replication/retained_log.h"

#include <gtest/gtest.h>

#include <deque>
#include <string>

namespace understudy::replication {
namespace {

RecordBatch Batch(Lsn first, int records, size_t body = 10) {
  BatchBuilder builder(first);
  for (int i = 0; i < records; ++i) builder.Append(1, 1, std::string(body, 'r'));
  return builder.Seal();
}

TEST(RetainedLogTest, CountsWhatIsNotStable) {
  RetainedLog log(1000, 0, {});
  const size_t size = Batch(1, 2).bytes().size();
  log.Append(Batch(1, 2));
  log.Append(Batch(3, 2));
  EXPECT_EQ(log.unstable_bytes(), 2 * size);
  log.SetStable(3);  // in the middle of a batch
  EXPECT_EQ(log.unstable_bytes(), size);
  log.SetStable(4);
  EXPECT_EQ(log.unstable_bytes(), 0u);
  log.CheckInvariants();
}

TEST(RetainedLogTest, LetsGoOfTheOldestStableBatches) {
  const size_t size = Batch(1, 1).bytes().size();
  RetainedLog log(3 * size, 0, {});
  for (Lsn lsn = 1; lsn <= 10; ++lsn) log.Append(Batch(lsn, 1));
  EXPECT_TRUE(log.Reaches(1));  // nothing is stable yet
  log.SetStable(8);
  EXPECT_FALSE(log.Reaches(5));
  EXPECT_TRUE(log.Reaches(6));
  EXPECT_TRUE(log.Reaches(11));
  EXPECT_FALSE(log.Reaches(12));
  log.CheckInvariants();
}

TEST(RetainedLogTest, HistoryCounts) {
  std::deque<RecordBatch> history;
  history.push_back(Batch(5, 2));
  history.push_back(Batch(7, 2));
  const size_t size = history.back().bytes().size();
  EXPECT_TRUE(RetainedLog(10000, 8, history).Reaches(5));
  EXPECT_FALSE(RetainedLog(10000, 8, history).Reaches(4));
  EXPECT_FALSE(RetainedLog(size, 8, history).Reaches(5));
}

TEST(RetainedLogTest, CopiesWholeBatchesAndTheRestOfACutOne) {
  RetainedLog log(100000, 0, {});
  for (Lsn lsn = 1; lsn <= 9; lsn += 3) log.Append(Batch(lsn, 3));
  const size_t size = Batch(1, 3).bytes().size();
  std::string out;
  EXPECT_EQ(log.CopyFrom(1, 1, &out), 3u);
  EXPECT_EQ(out.size(), size);
  out.clear();
  EXPECT_EQ(log.CopyFrom(1, 2 * size, &out), 6u);
  out.clear();
  EXPECT_EQ(log.CopyFrom(5, 100000, &out), 9u);
  auto parsed = RecordBatch::Parse(out, 5);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->last_lsn(), 9u);
}

TEST(RetainedLogTest, CutsWhatNoFrameWouldHold) {
  RetainedLog log(100 << 20, 0, {});
  log.Append(Batch(1, 20, 1 << 20));
  log.Append(Batch(21, 2, kMaxRecordBody));
  Lsn last = 0;
  int parts = 0;
  for (; last < log.last_lsn(); ++parts) {
    std::string out;
    const Lsn first = last + 1;
    last = log.CopyFrom(first, 256 << 10, &out);
    EXPECT_LE(out.size(), 24u << 20);
    auto parsed = RecordBatch::Parse(std::move(out), first);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    ASSERT_EQ(parsed->last_lsn(), last);
  }
  EXPECT_EQ(parts, 5);
}

}  // namespace
}  // namespace understudy::replication
