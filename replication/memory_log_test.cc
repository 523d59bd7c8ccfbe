#include "replication/memory_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <optional>
#include <random>
#include <string>
#include <utility>

namespace understudy::replication {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

RecordBatch Batch(Lsn first, int records, size_t body = 10) {
  BatchBuilder builder(first);
  for (int i = 0; i < records; ++i) builder.Append(1, 1, std::string(body, 'r'));
  return builder.Seal();
}

// Keeps max_bytes of what ends at `end` or before.
void Keep(MemoryLog& log, size_t max_bytes, Lsn end) {
  log.TruncateBefore(log.StartOfNewest(max_bytes, end));
  log.CheckInvariants();
}

TEST(MemoryLogTest, LetsGoOfTheOldestBatches) {
  const size_t size = Batch(1, 1).bytes().size();
  MemoryLog log;
  for (Lsn lsn = 1; lsn <= 10; ++lsn) log.Append(Batch(lsn, 1), 1, {});
  EXPECT_TRUE(log.Reaches(1));
  Keep(log, 3 * size, 8);
  EXPECT_FALSE(log.Reaches(5));
  EXPECT_TRUE(log.Reaches(6));
  EXPECT_TRUE(log.Reaches(11));
  EXPECT_FALSE(log.Reaches(12));
  Keep(log, 0, 10);
  EXPECT_EQ(log.first_lsn(), 11u);
  EXPECT_EQ(log.last_lsn(), 10u);
  EXPECT_TRUE(log.Reaches(11));
}

TEST(MemoryLogTest, ABatchThatEndsBehindTheEndIsNotCounted) {
  const size_t size = Batch(1, 2).bytes().size();
  MemoryLog log(4);
  for (Lsn lsn = 5; lsn <= 15; lsn += 2) log.Append(Batch(lsn, 2), 1, {});
  EXPECT_EQ(log.StartOfNewest(2 * size, 10), 7u);
  EXPECT_EQ(log.StartOfNewest(2 * size, 11), 7u) << "11 is in the middle of one";
  EXPECT_EQ(log.StartOfNewest(2 * size, 12), 9u);
  EXPECT_EQ(log.StartOfNewest(2 * size - 1, 12), 11u);
  EXPECT_EQ(log.StartOfNewest(size - 1, 12), 13u) << "not even one";
  EXPECT_EQ(log.StartOfNewest(100 * size, 16), 5u);
  EXPECT_EQ(log.StartOfNewest(0, 4), 5u);
}

TEST(MemoryLogTest, BeginsBehindALogThatIsNotHere) {
  MemoryLog log(50);
  EXPECT_EQ(log.first_lsn(), 51u);
  EXPECT_EQ(log.last_lsn(), 50u);
  EXPECT_FALSE(log.Reaches(50));
  EXPECT_TRUE(log.Reaches(51));
  log.Append(Batch(51, 2), 3, {});
  EXPECT_EQ(log.last_epoch(), 3u);
  EXPECT_EQ(log.first_lsn(), 51u);
}

TEST(MemoryLogTest, APinHoldsWhatIsReadFromThere) {
  MemoryLog log;
  for (Lsn lsn = 1; lsn <= 9; ++lsn) log.Append(Batch(lsn, 1), 1, {});
  std::optional<Log::Pin> slow = log.PinFrom(3), fast = log.PinFrom(5);
  log.TruncateBefore(8);
  EXPECT_EQ(log.first_lsn(), 3u);
  slow->MoveTo(7);
  log.TruncateBefore(8);
  EXPECT_EQ(log.first_lsn(), 5u);
  Log::Pin moved = *std::move(fast);
  EXPECT_FALSE(fast->holds());
  fast.reset();
  log.TruncateBefore(8);
  EXPECT_EQ(log.first_lsn(), 5u) << "it has only been moved";
  moved = Log::Pin();
  log.TruncateBefore(8);
  EXPECT_EQ(log.first_lsn(), 7u);
  slow.reset();
  log.TruncateBefore(8);
  EXPECT_EQ(log.first_lsn(), 8u);
  const Log::Pin end = log.PinFrom(10);
  log.TruncateBefore(100);
  EXPECT_EQ(log.first_lsn(), 10u);
}

TEST(MemoryLogTest, ReadsWholeBatchesAndTheRestOfACutOne) {
  MemoryLog log;
  for (Lsn lsn = 1; lsn <= 9; lsn += 3) log.Append(Batch(lsn, 3), 1, {});
  const size_t size = Batch(1, 3).bytes().size();
  std::string out;
  EXPECT_EQ(log.Read(1, 1, &out), 3u);
  EXPECT_EQ(out.size(), size);
  out.clear();
  EXPECT_EQ(log.Read(1, 2 * size, &out), 6u);
  out.clear();
  EXPECT_EQ(log.Read(5, 100000, &out), 9u);
  auto parsed = RecordBatch::Parse(out, 5);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->last_lsn(), 9u);
}

TEST(MemoryLogTest, CutsWhatNoFrameWouldHold) {
  MemoryLog log;
  log.Append(Batch(1, 20, 1 << 20), 1, {});
  log.Append(Batch(21, 2, kMaxRecordBody), 1, {});
  Lsn last = 0;
  int parts = 0;
  for (; last < log.last_lsn(); ++parts) {
    std::string out;
    const Lsn first = last + 1;
    last = log.Read(first, 256 << 10, &out);
    EXPECT_LE(out.size(), 24u << 20);
    auto parsed = RecordBatch::Parse(std::move(out), first);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    ASSERT_EQ(parsed->last_lsn(), last);
  }
  EXPECT_EQ(parts, 5);
}

TEST(MemoryLogTest, BytesBetweenCountsWholeBatches) {
  const size_t size = Batch(1, 3).bytes().size();
  MemoryLog log;
  EXPECT_EQ(log.BytesBetween(1, 5), 0u);
  for (Lsn lsn = 1; lsn <= 9; lsn += 3) log.Append(Batch(lsn, 3), 1, {});
  EXPECT_EQ(log.BytesBetween(1, 9), 3 * size);
  EXPECT_EQ(log.BytesBetween(3, 4), 2 * size);
  EXPECT_EQ(log.BytesBetween(5, 5), size);
  EXPECT_EQ(log.BytesBetween(6, 5), 0u);
  EXPECT_EQ(log.BytesBetween(10, 20), 0u);
  EXPECT_EQ(log.BytesBetween(8, 20), size);
  log.TruncateBefore(4);
  EXPECT_EQ(log.BytesBetween(1, 9), 2 * size) << "what is here";
  EXPECT_EQ(log.BytesBetween(1, 2), 0u);
}

TEST(MemoryLogTest, HashesOfTheOutputStayWithTheirRecords) {
  MemoryLog log;
  EXPECT_EQ(log.HashUpTo(9), OutputHash());
  const OutputHash second{2, 22}, third{3, 33}, sixth{6, 66};
  log.Append(Batch(1, 3), 1, {OutputHash{0, 99}, second, third});
  log.Append(Batch(4, 3), 1, {OutputHash{3, 34}, sixth});
  log.Append(Batch(7, 3), 1, {});
  log.CheckInvariants();
  EXPECT_THAT(log.HashesBetween(0, 9), ElementsAre(second, third, sixth))
      << "what is known is not told again";
  EXPECT_THAT(log.HashesBetween(2, 5), ElementsAre(third));
  EXPECT_THAT(log.HashesBetween(6, 9), IsEmpty());
  EXPECT_EQ(log.HashUpTo(1), OutputHash());
  EXPECT_EQ(log.HashUpTo(5), third);
  EXPECT_EQ(log.HashUpTo(9), sixth);
  log.TruncateBefore(4);
  EXPECT_EQ(log.HashUpTo(4), third) << "the newest of what is gone is kept";
  EXPECT_EQ(log.HashUpTo(2), OutputHash());
}

// Beside a log that does everything by counting.
TEST(MemoryLogTest, RandomTruncation) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  for (int run = 0; run < 100; ++run) {
    MemoryLog log;
    std::deque<std::pair<Lsn, size_t>> model;  // last LSN, bytes
    for (int step = 0; step < 60; ++step) {
      RecordBatch batch = Batch(log.last_lsn() + 1, 1 + random() % 3, random() % 100);
      model.emplace_back(batch.last_lsn(), batch.bytes().size());
      log.Append(std::move(batch), 1, {});
      const Lsn end = random() % (log.last_lsn() + 2);
      size_t budget = random() % 600;
      Lsn start = log.first_lsn();
      size_t bytes = 0;
      for (auto at = model.rbegin(); at != model.rend(); ++at) {
        if (at->first > end) continue;
        bytes += at->second;
        if (bytes <= budget) continue;
        start = at->first + 1;
        break;
      }
      ASSERT_EQ(log.StartOfNewest(budget, end), start);
      if (random() % 4 != 0) continue;
      Keep(log, budget, end);
      while (!model.empty() && model.front().first < start) model.pop_front();
    }
  }
}

}  // namespace
}  // namespace understudy::replication
