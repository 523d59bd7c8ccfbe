#include "replication/record.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace understudy::replication {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

std::string Message(const absl::Status& status) { return std::string(status.message()); }

TEST(Crc32cTest, CheckValueOfTheStandard) {
  EXPECT_EQ(Crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(Crc32c(""), 0u);
}

TEST(Crc32cTest, ContinuesFromASeed) { EXPECT_EQ(Crc32c("6789", Crc32c("12345")), Crc32c("123456789")); }

TEST(Crc64Test, CheckValueOfTheStandard) {
  EXPECT_EQ(Crc64("123456789"), 0x995dc9bbdf1939fau);  // CRC-64/XZ
  EXPECT_EQ(Crc64(""), 0u);
}

TEST(Crc64Test, ContinuesFromASeed) { EXPECT_EQ(Crc64("6789", Crc64("12345")), Crc64("123456789")); }

RecordBatch ThreeRecords() {
  BatchBuilder builder(7);
  builder.Append(1, 1000, "head", "payload");
  builder.Append(2, 1001, "");
  builder.Append(3, 1002, "xyz");
  return builder.Seal();
}

TEST(RecordBatchTest, EncodingIsTheOneInTheHeader) {
  BatchBuilder builder(0x0102030405060708);
  builder.Append(0xa2a3a4, 0x1112131415161718, "hi");
  const RecordBatch batch = builder.Seal();
  const std::string& bytes = batch.bytes();
  ASSERT_EQ(bytes.size(), kRecordHeaderSize + 2);
  EXPECT_EQ(bytes.substr(4), std::string("\x02\0\0\0\x08\x07\x06\x05\x04\x03\x02\x01"
                                         "\x18\x17\x16\x15\x14\x13\x12\x11\xa4\xa3\xa2\x01hi",
                                         26));
  uint32_t crc;
  std::memcpy(&crc, bytes.data(), 4);
  EXPECT_EQ(crc, Crc32c(std::string_view(bytes).substr(4)));
}

TEST(RecordBatchTest, ParsesWhatWasBuilt) {
  const RecordBatch built = ThreeRecords();
  EXPECT_EQ(built.first_lsn(), 7u);
  EXPECT_EQ(built.last_lsn(), 9u);
  auto batch = RecordBatch::Parse(built.bytes(), 7);
  ASSERT_TRUE(batch.ok()) << batch.status();
  EXPECT_EQ(batch->count(), 3u);
  std::vector<RecordView> records(batch->begin(), batch->end());
  ASSERT_EQ(records.size(), 3u);
  EXPECT_EQ(records[0].lsn, 7u);
  EXPECT_EQ(records[0].kind, 1u);
  EXPECT_EQ(records[0].time_us, 1000);
  EXPECT_EQ(records[0].body, "headpayload");
  EXPECT_EQ(records[1].lsn, 8u);
  EXPECT_EQ(records[1].body, "");
  EXPECT_EQ(records[2].lsn, 9u);
  EXPECT_EQ(records[2].body, "xyz");
}

TEST(RecordBatchTest, NothingIsABatchOfNoRecords) {
  auto batch = RecordBatch::Parse("", 5);
  ASSERT_TRUE(batch.ok());
  EXPECT_TRUE(batch->empty());
  EXPECT_TRUE(batch->begin() == batch->end());
  EXPECT_TRUE(BatchBuilder(1).Seal().empty());
}

// Each bit of each byte of the middle record: what is reported depends on the field alone.
TEST(RecordBatchTest, DamageIsFoundAndNamed) {
  BatchBuilder builder(7);
  builder.Append(1, 1000, "first");
  const size_t start = builder.size_bytes();
  builder.Append(2, 1001, "0123456789");
  const size_t end = builder.size_bytes();
  builder.Append(3, 1002, "third");
  const std::string good = builder.Seal().bytes();
  for (size_t at = start; at < end; ++at) {
    for (int bit = 0; bit < 8; ++bit) {
      SCOPED_TRACE(testing::Message() << "byte " << at - start << " bit " << bit);
      std::string bad = good;
      bad[at] = static_cast<char>(bad[at] ^ (1 << bit));
      const absl::Status status = RecordBatch::Parse(bad, 7).status();
      ASSERT_FALSE(status.ok());
      EXPECT_THAT(Message(status), StartsWith("record 8: "));
      uint32_t length;
      std::memcpy(&length, bad.data() + start + 4, 4);
      if (length > kMaxRecordBody) {
        EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
        EXPECT_THAT(Message(status), HasSubstr("at most 16777216"));
      } else if (length > good.size() - start - kRecordHeaderSize) {
        EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
        EXPECT_THAT(Message(status), HasSubstr("cut off in its body"));
      } else {
        EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
        EXPECT_THAT(Message(status), HasSubstr("CRC does not match"));
      }
    }
  }
}

TEST(RecordBatchTest, CutOffAnywhere) {
  const std::string good = ThreeRecords().bytes();
  const size_t second = kRecordHeaderSize + 11;
  for (size_t size = second + 1; size < second + kRecordHeaderSize; ++size) {
    const absl::Status status = RecordBatch::Parse(good.substr(0, size), 7).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(Message(status), StartsWith("record 8: cut off in its header"));
  }
  for (size_t size = kRecordHeaderSize; size < second; ++size) {
    const absl::Status status = RecordBatch::Parse(good.substr(0, size), 7).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(Message(status), StartsWith("record 7: cut off in its body"));
  }
}

TEST(RecordBatchTest, WrongNumbers) {
  const RecordBatch batch = ThreeRecords();
  absl::Status status = RecordBatch::Parse(batch.bytes(), 8).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Message(status), "record 8: numbered 7, out of order");
  status = RecordBatch::Parse(batch.bytes() + batch.bytes(), 7).status();
  EXPECT_EQ(Message(status), "record 10: numbered 7, out of order");
  EXPECT_EQ(Message(RecordBatch::Parse(batch.bytes(), 0).status()), "a record cannot have LSN 0");
  BatchBuilder last(UINT64_MAX);
  last.Append(1, 1, "");
  last.Append(1, 1, "");
  EXPECT_FALSE(RecordBatch::Parse(last.Seal().bytes(), UINT64_MAX).ok());
}

// Not damaged: made by another program.
TEST(RecordBatchTest, AnUnknownVersionIsRefusedAndNamed) {
  for (const int version : {0, 2, 255}) {
    std::string bytes = ThreeRecords().bytes();
    const size_t second = kRecordHeaderSize + 11;
    bytes[second + 27] = static_cast<char>(version);
    const size_t size = bytes.size() - second;
    uint32_t length;
    std::memcpy(&length, bytes.data() + second + 4, sizeof length);
    ASSERT_LE(kRecordHeaderSize + length, size);
    const uint32_t crc = Crc32c({bytes.data() + second + 4, kRecordHeaderSize - 4 + length});
    std::memcpy(bytes.data() + second, &crc, sizeof crc);
    const absl::Status status = RecordBatch::Parse(bytes, 7).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kUnimplemented);
    EXPECT_EQ(Message(status),
              absl::StrCat("record 8: of version ", version, ", and this program reads version 1"));
  }
}

TEST(RecordBatchTest, After) {
  const RecordBatch batch = ThreeRecords();
  EXPECT_EQ(batch.After(0).bytes(), batch.bytes());
  EXPECT_EQ(batch.After(6).first_lsn(), 7u);
  const RecordBatch rest = batch.After(7);
  EXPECT_EQ(rest.first_lsn(), 8u);
  EXPECT_EQ(rest.count(), 2u);
  EXPECT_TRUE(RecordBatch::Parse(rest.bytes(), 8).ok());
  EXPECT_EQ((*batch.After(8).begin()).body, "xyz");
  EXPECT_TRUE(batch.After(9).empty());
  EXPECT_TRUE(batch.After(100).empty());
  EXPECT_TRUE(RecordBatch().After(0).empty());
}

TEST(BatchBuilderTest, ReserveCommitCancel) {
  BatchBuilder builder(1);
  std::memcpy(builder.Reserve(4, "h:", 1000), "data", 4);
  RecordView view = builder.Commit(55, 4);
  EXPECT_EQ(view.body, "h:data");
  EXPECT_EQ(view.lsn, 1u);
  EXPECT_EQ(view.time_us, 55);
  EXPECT_EQ(view.kind, 4u);
  const size_t size = builder.size_bytes();
  std::memset(builder.Reserve(5, "gone", 100), 'x', 100);
  builder.Cancel();
  EXPECT_EQ(builder.size_bytes(), size);
  EXPECT_EQ(builder.next_lsn(), 2u);
  builder.Reserve(6, "", 10);
  EXPECT_EQ(builder.Commit(56, 0).body, "");
  const RecordBatch batch = builder.Seal();
  EXPECT_EQ(batch.count(), 2u);
  EXPECT_TRUE(RecordBatch::Parse(batch.bytes(), 1).ok());
  EXPECT_TRUE(builder.empty());
  EXPECT_EQ(builder.size_bytes(), 0u);
  EXPECT_EQ(builder.next_lsn(), 3u);
}

TEST(BatchBuilderTest, SealedBatchesDoNotHoldTheWorkSpace) {
  BatchBuilder builder(1);
  for (int i = 0; i < 3; ++i) {
    builder.Reserve(1, "", 1 << 20);
    builder.Commit(1, 10);
    EXPECT_LT(builder.Seal().bytes().capacity(), 200u);
  }
}

TEST(BatchBuilderTest, LongestBody) {
  BatchBuilder builder(1);
  const std::string body(kMaxRecordBody, 'b');
  EXPECT_EQ(builder.Append(1, 1, body).body.size(), kMaxRecordBody);
  EXPECT_TRUE(RecordBatch::Parse(builder.Seal().bytes(), 1).ok());
  EXPECT_DEATH(builder.Append(1, 1, body, "x"), "");
}

TEST(BatchBuilderTest, RandomBatches) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  BatchBuilder builder(1);
  for (int round = 0; round < 200; ++round) {
    const Lsn first = builder.next_lsn();
    std::vector<std::pair<uint32_t, std::string>> wanted;
    for (uint32_t n = random() % 20; n > 0; --n) {
      std::string body(random() % 5 == 0 ? random() % 70000 : random() % 50, '\0');
      for (char& c : body) c = static_cast<char>(random());
      const uint32_t kind = random() & kMaxRecordKind;
      const size_t head = body.empty() ? 0 : random() % body.size();
      if (random() % 2 == 0) {
        builder.Append(kind, round, std::string_view(body).substr(0, head),
                       std::string_view(body).substr(head));
      } else {
        const size_t rest = body.size() - head;
        char* at = builder.Reserve(kind, std::string_view(body).substr(0, head), rest + random() % 99);
        if (rest > 0) std::memcpy(at, body.data() + head, rest);
        builder.Commit(round, rest);
      }
      wanted.emplace_back(kind, std::move(body));
    }
    auto batch = RecordBatch::Parse(builder.Seal().bytes(), first);
    ASSERT_TRUE(batch.ok()) << batch.status();
    ASSERT_EQ(batch->count(), wanted.size());
    const Lsn cut = first + random() % (wanted.size() + 1);
    size_t i = 0;
    for (const RecordView& record : *batch) {
      EXPECT_EQ(record.lsn, first + i);
      EXPECT_EQ(record.kind, wanted[i].first);
      EXPECT_EQ(record.body, wanted[i].second);
      ++i;
    }
    const RecordBatch rest = batch->After(cut);
    EXPECT_TRUE(RecordBatch::Parse(rest.bytes(), cut + 1).ok());
  }
}

// Whatever bytes come, Parse reads only these and says no.
TEST(RecordBatchTest, RandomBytes) {
  const uint32_t seed = std::random_device{}();
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  std::mt19937 random(seed);
  for (int round = 0; round < 20000; ++round) {
    std::string bytes(1 + random() % 100, '\0');
    for (char& c : bytes) c = static_cast<char>(random());
    if (bytes.size() > 8 && random() % 2 == 0) std::memset(bytes.data() + 5, 0, 3);
    EXPECT_FALSE(RecordBatch::Parse(bytes, 1).ok());
  }
}

}  // namespace
}  // namespace understudy::replication
