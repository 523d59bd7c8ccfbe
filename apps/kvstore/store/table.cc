#include "apps/kvstore/store/table.h"

#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "apps/kvstore/store/record_cache.h"
#include "glog/logging.h"
#include "leveldb/cache.h"
#include "leveldb/db.h"
#include "leveldb/env.h"
#include "leveldb/filter_policy.h"
#include "leveldb/iterator.h"
#include "leveldb/write_batch.h"

namespace kvstore {
namespace {

// Small enough for the skip list to stay in the processor's cache; with less, more is compacted.
constexpr size_t kWriteBuffer = size_t{8} << 20;
// Of LevelDB's blocks: for walks; what is asked for by its key is in the record cache.
constexpr size_t kBlockCache = size_t{8} << 20;
constexpr int kBloomBits = 10;
// A batch that has grown beyond this is not kept for the next commit.
constexpr size_t kKeepBatch = size_t{4} << 20;
constexpr size_t kIdleIterators = 2;

leveldb::Slice ToSlice(std::string_view bytes) { return leveldb::Slice(bytes.data(), bytes.size()); }
std::string_view FromSlice(leveldb::Slice slice) { return std::string_view(slice.data(), slice.size()); }

// A bit that the disk has turned must not become an answer.
leveldb::ReadOptions Checked() {
  leveldb::ReadOptions options;
  options.verify_checksums = true;
  return options;
}

class LevelTable final : public Table {
 public:
  explicit LevelTable(const Options& options)
      : directory_(options.directory), records_(options.cache_bytes) {}
  ~LevelTable() override { CHECK_EQ(live_iterators_, 0) << "an iterator outlives its table"; }

  absl::Status OpenDatabase(leveldb::Env* env);

  const std::string* Get(std::string_view key) override;
  const std::string* GetCached(std::string_view key) override;
  void Put(std::string_view key, std::string_view head, std::string_view tail) override;
  void Delete(std::string_view key) override;
  size_t uncommitted() const override { return records_.dirty().size(); }
  absl::Status Commit() override;
  absl::Status status() const override { return status_; }
  void Fail(absl::Status why) override;
  std::unique_ptr<Iterator> NewIterator() override;

 private:
  class MergedIterator;

  void Fail(std::string_view doing, const leveldb::Status& why);

  const std::string directory_;
  RecordCache records_;
  std::optional<leveldb::WriteBatch> batch_{std::in_place};
  absl::Status status_;
  int live_iterators_ = 0;
  // In the order in which LevelDB wants them to be there.
  std::unique_ptr<const leveldb::FilterPolicy> filter_;
  std::unique_ptr<leveldb::Cache> blocks_;
  std::unique_ptr<leveldb::DB> database_;
  // Of what was committed last: they see all of it.
  std::vector<std::unique_ptr<leveldb::Iterator>> idle_iterators_;
};

// LevelDB's records, and over them the uncommitted ones.
class LevelTable::MergedIterator final : public Table::Iterator {
 public:
  MergedIterator(LevelTable* table, std::unique_ptr<leveldb::Iterator> base)
      : table_(table), base_(std::move(base)) {
    ++table_->live_iterators_;
  }
  ~MergedIterator() override {
    --table_->live_iterators_;
    if (table_->idle_iterators_.size() < kIdleIterators) table_->idle_iterators_.push_back(std::move(base_));
  }

  void Seek(std::string_view at_or_behind) override {
    base_->Seek(ToSlice(at_or_behind));
    Refresh();
    changed_ = sorted_->lower_bound(at_or_behind);
    Settle();
  }

  bool Valid() const override { return valid_; }

  void Next() override {
    if (version_ != table_->records_.version()) {
      // The set has changed, which may have moved what changed_ points to.
      const std::string_view here = key();
      Refresh();
      changed_ = sorted_->upper_bound(here);
    } else if (current_ != nullptr) {
      ++changed_;
    }
    if (current_ == nullptr) base_->Next();
    Settle();
  }

  std::string_view key() const override {
    return current_ != nullptr ? std::string_view(current_->key) : FromSlice(base_->key());
  }
  std::string_view value() const override {
    return current_ != nullptr ? std::string_view(current_->value) : FromSlice(base_->value());
  }

 private:
  void Refresh() {
    sorted_ = &table_->records_.SortedDirty();
    version_ = table_->records_.version();
  }

  // From the records that both point to, to the first that is there.
  void Settle() {
    while (changed_ != sorted_->end()) {
      const CachedRecord* record = *changed_;
      const int order = base_->Valid() ? record->key.compare(FromSlice(base_->key())) : -1;
      if (order > 0) break;
      if (order == 0) base_->Next();   // overwritten, or deleted
      if (record->present) {
        current_ = record;
        valid_ = true;
        return;
      }
      ++changed_;
    }
    current_ = nullptr;
    valid_ = base_->Valid();
    if (!valid_ && !base_->status().ok()) table_->Fail("read", base_->status());
  }

  LevelTable* const table_;
  std::unique_ptr<leveldb::Iterator> base_;
  const RecordCache::Sorted* sorted_ = nullptr;
  size_t version_ = 0;                              // of *sorted_, when changed_ was found
  RecordCache::Sorted::const_iterator changed_;     // the uncommitted record at or behind here
  const CachedRecord* current_ = nullptr;           // nullptr: here is base_
  bool valid_ = false;
};

absl::Status LevelTable::OpenDatabase(leveldb::Env* env) {
  filter_.reset(leveldb::NewBloomFilterPolicy(kBloomBits));
  blocks_.reset(leveldb::NewLRUCache(kBlockCache));
  leveldb::Options options;
  options.create_if_missing = true;
  options.write_buffer_size = kWriteBuffer;
  options.filter_policy = filter_.get();
  options.block_cache = blocks_.get();
  if (env != nullptr) options.env = env;
  leveldb::DB* database = nullptr;
  const leveldb::Status opened = leveldb::DB::Open(options, directory_, &database);
  if (!opened.ok()) {
    return absl::UnavailableError(absl::StrCat(directory_, ": cannot open the data: ", opened.ToString()));
  }
  database_.reset(database);
  return absl::OkStatus();
}

const std::string* LevelTable::Get(std::string_view key) {
  CachedRecord* record = records_.Find(key);
  if (record == nullptr) {
    std::string value;
    const leveldb::Status read = database_->Get(Checked(), ToSlice(key), &value);
    if (!read.ok() && !read.IsNotFound()) {
      Fail("read", read);
      return nullptr;
    }
    record = records_.Add(key);
    if (read.ok()) records_.SetValue(record, std::move(value));
  }
  return record->present ? &record->value : nullptr;
}

const std::string* LevelTable::GetCached(std::string_view key) {
  const CachedRecord* record = records_.Find(key);
  return record != nullptr && record->present ? &record->value : nullptr;
}

void LevelTable::Put(std::string_view key, std::string_view head, std::string_view tail) {
  bool added = false;
  CachedRecord* record = records_.FindOrAdd(key, &added);
  records_.SetValue(record, head, tail);
  records_.MarkDirty(record);
}

void LevelTable::Delete(std::string_view key) {
  bool added = false;
  CachedRecord* record = records_.FindOrAdd(key, &added);
  if (!added && !record->present) return;   // and LevelDB knows, or will with the next commit
  records_.SetAbsent(record);
  records_.MarkDirty(record);
}

absl::Status LevelTable::Commit() {
  CHECK_EQ(live_iterators_, 0) << "a commit under an iterator";
  if (records_.dirty().empty()) return status_;
  idle_iterators_.clear();
  for (const CachedRecord* record : records_.dirty()) {
    if (record->present) {
      batch_->Put(ToSlice(record->key), ToSlice(record->value));
    } else {
      batch_->Delete(ToSlice(record->key));
    }
  }
  if (status_.ok()) {
    const leveldb::Status written = database_->Write(leveldb::WriteOptions(), &*batch_);
    if (!written.ok()) Fail("write", written);
  }
  records_.MarkAllClean();
  if (batch_->ApproximateSize() > kKeepBatch) {
    batch_.emplace();
  } else {
    batch_->Clear();
  }
  return status_;
}

void LevelTable::Fail(absl::Status why) {
  if (status_.ok()) status_ = std::move(why);
}

void LevelTable::Fail(std::string_view doing, const leveldb::Status& why) {
  Fail(absl::UnavailableError(
      absl::StrCat(directory_, ": cannot ", std::string(doing), ": ", why.ToString())));
}

std::unique_ptr<Table::Iterator> LevelTable::NewIterator() {
  std::unique_ptr<leveldb::Iterator> base;
  if (idle_iterators_.empty()) {
    base.reset(database_->NewIterator(Checked()));
  } else {
    base = std::move(idle_iterators_.back());
    idle_iterators_.pop_back();
  }
  return std::make_unique<MergedIterator>(this, std::move(base));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Table>> Table::Open(const Options& options) {
  auto table = std::make_unique<LevelTable>(options);
  if (absl::Status opened = table->OpenDatabase(options.env); !opened.ok()) return opened;
  return table;
}

}  // namespace kvstore
