#include "apps/kvstore/store/store_for_test.h"

#include <cstdlib>
#include <filesystem>

#include "glog/logging.h"
#include "gtest/gtest.h"

namespace kvstore {

TestDirectory::TestDirectory() {
  path_ = testing::TempDir() + "/store-XXXXXX";
  CHECK(mkdtemp(path_.data()) != nullptr);
}

TestDirectory::~TestDirectory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

TestStore::TestStore(size_t cache_bytes, leveldb::Env* env, std::chrono::milliseconds write_behind)
    : own_(std::make_unique<TestDirectory>()) {
  options_ = {
      .directory = own_->path(), .cache_bytes = cache_bytes, .write_behind = write_behind, .env = env};
  Open();
}

TestStore::TestStore(const std::string& directory, size_t cache_bytes, leveldb::Env* env,
                     std::chrono::milliseconds write_behind) {
  options_ = {.directory = directory, .cache_bytes = cache_bytes, .write_behind = write_behind, .env = env};
  Open();
}

TestStore::~TestStore() { Close(); }

void TestStore::Open() {
  auto table = Table::Open(options_);
  CHECK(table.ok()) << table.status();
  table_ = *std::move(table);
  auto keys = Keyspace::Open(table_.get(), &watches_);
  CHECK(keys.ok()) << keys.status();
  keys_ = *std::move(keys);
}

void TestStore::Close() {
  keys_.reset();
  table_.reset();
}

void TestStore::Reopen() {
  const int64_t now_ms = keys_->now_ms();
  Close();
  Open();
  keys_->SetNow(now_ms);
}

std::map<std::string, std::string> TestStore::RecordsWithoutGarbage() {
  std::map<std::string, std::string> before;
  for (;;) {
    CHECK(keys_->Commit().ok());
    std::map<std::string, std::string> records = AllRecords(*table_);
    if (records == before) return records;
    before = std::move(records);
  }
}

std::map<std::string, std::string> AllRecords(Table& table) {
  std::map<std::string, std::string> records;
  const std::unique_ptr<Table::Iterator> at = table.NewIterator();
  for (at->Seek(""); at->Valid(); at->Next()) {
    const bool in_order = records.empty() || records.rbegin()->first < at->key();
    CHECK(in_order);
    records.emplace_hint(records.end(), at->key(), at->value());
  }
  return records;
}

size_t CountKind(const std::map<std::string, std::string>& records, char kind) {
  size_t count = 0;
  for (const auto& [key, value] : records) count += key.size() > 5 && key[4] == kind;
  return count;
}

}  // namespace kvstore
