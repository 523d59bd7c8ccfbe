#include "apps/kvstore/store/table.h"

#include <chrono>
#include <future>
#include <iterator>
#include <limits>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "apps/kvstore/store/background.h"
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
// Write-behind: records that one Commit takes, well below a millisecond.
constexpr size_t kTakenAtOnce = 4096;
constexpr size_t kTakenWhenIdle = 16 * kTakenAtOnce;
// Writing through begins as soon as no more changed bytes than this are behind: some milliseconds.
constexpr size_t kWrittenAtOnce = size_t{256} << 10;
// Changed bytes at which a flush begins early, and at which changes wait for one to end.
constexpr size_t kFlushAt = size_t{32} << 20;
constexpr size_t kMostBehind = 4 * kFlushAt;

std::optional<std::string_view> ValueOf(const CachedRecord* record) {
  return record != nullptr && record->present() ? std::optional(record->value()) : std::nullopt;
}

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
      : directory_(options.directory), write_behind_(options.write_behind), records_(options.cache_bytes) {}
  ~LevelTable() override;

  absl::Status OpenDatabase(leveldb::Env* env);

  void Expect(std::string_view key) override { records_.Expect(key); }
  std::optional<std::string_view> Get(std::string_view key) override;
  std::optional<std::string_view> GetCached(std::string_view key) override;
  void Put(std::string_view key, std::string_view head, std::string_view tail) override;
  void Delete(std::string_view key) override;
  size_t uncommitted() const override { return records_.dirty().size() - settled_; }
  absl::Status Commit() override;
  void WriteThrough(bool on) override;
  absl::Status status() const override { return status_; }
  void Fail(absl::Status why) override;
  std::unique_ptr<Iterator> NewIterator() override;

 private:
  class MergedIterator;

  void Fail(std::string_view doing, const leveldb::Status& why);

  void BeforeChange(CachedRecord* record, size_t new_size);
  void AddToBatch(const CachedRecord& record);
  void ClearBatch();
  void WriteNow();
  // Write-behind.
  bool CatchUp();
  void CommitBehind(size_t most_taken);
  void BeginFlush();
  void TakeSome(size_t most);
  bool OrderKnown(bool wait);
  void FinishFlush();

  const std::string directory_;
  const std::chrono::milliseconds write_behind_;
  RecordCache records_;
  std::optional<leveldb::WriteBatch> batch_{std::in_place};
  absl::Status status_;
  int live_iterators_ = 0;
  // In the order in which LevelDB wants them to be there.
  std::unique_ptr<const leveldb::FilterPolicy> filter_;
  std::unique_ptr<leveldb::Cache> blocks_;
  std::unique_ptr<leveldb::DB> database_;
  // Of what was written last: they see all of it.
  std::vector<std::unique_ptr<leveldb::Iterator>> idle_iterators_;

  // Write-behind. `batch_` belongs to the flush while there is one.
  std::vector<CachedRecord*> to_take_;  // of the flush, by their keys
  size_t taken_ = 0;                    // of to_take_
  size_t settled_ = 0;                  // of the dirty records, those that the last Commit has seen
  size_t changed_bytes_ = 0;            // of keys and values, since the last flush began
  size_t flushed_bytes_ = 0;            // the same of the flush
  bool changed_since_commit_ = false;
  bool write_through_ = false;
  bool caught_up_ = false;  // writing through, and nothing is behind
  std::chrono::steady_clock::time_point flush_began_ = std::chrono::steady_clock::now();
  // Last: they use the above.
  std::future<std::vector<CachedRecord*>> ordering_;
  std::future<leveldb::Status> writing_;
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

  void SeekBefore(std::string_view key) override {
    base_->Seek(ToSlice(key));
    if (base_->Valid()) {
      base_->Prev();
    } else if (base_->status().ok()) {
      base_->SeekToLast();
    }
    Refresh();
    changed_ = sorted_->lower_bound(key);
    SettleBackwards();
  }

  void Previous() override {
    if (version_ != table_->records_.version()) {
      const std::string_view here = key();
      Refresh();
      changed_ = sorted_->lower_bound(here);
    } else if (current_ != nullptr) {
      --changed_;
    }
    if (current_ == nullptr) base_->Prev();
    SettleBackwards();
  }

  std::string_view key() const override {
    return current_ != nullptr ? current_->key() : FromSlice(base_->key());
  }
  std::string_view value() const override {
    return current_ != nullptr ? current_->value() : FromSlice(base_->value());
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
      const int order = base_->Valid() ? record->key().compare(FromSlice(base_->key())) : -1;
      if (order > 0) break;
      if (order == 0) base_->Next();  // overwritten, or deleted
      if (record->present()) {
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

  // As Settle, towards smaller keys: changed_ is the one behind the uncommitted record at or before
  // here.
  void SettleBackwards() {
    for (; changed_ != sorted_->begin(); --changed_) {
      const CachedRecord* record = *std::prev(changed_);
      const int order = base_->Valid() ? record->key().compare(FromSlice(base_->key())) : 1;
      if (order < 0) break;
      if (order == 0) base_->Prev();  // overwritten, or deleted
      if (record->present()) {
        current_ = record;
        valid_ = true;
        return;
      }
    }
    current_ = nullptr;
    valid_ = base_->Valid();
    if (!valid_ && !base_->status().ok()) table_->Fail("read", base_->status());
  }

  LevelTable* const table_;
  std::unique_ptr<leveldb::Iterator> base_;
  const RecordCache::Sorted* sorted_ = nullptr;
  size_t version_ = 0;  // of *sorted_, when changed_ was found
  RecordCache::Sorted::const_iterator
      changed_;  // the uncommitted record at or behind here (or see SettleBackwards)
  const CachedRecord* current_ = nullptr;  // nullptr: here is base_
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
    if (opened.ToString().find(absl::StrCat("lock ", directory_, "/LOCK")) != std::string::npos) {
      return absl::UnavailableError(
          absl::StrCat(directory_, ": another process uses it (its file LOCK is locked)"));
    }
    return absl::UnavailableError(absl::StrCat(directory_, ": cannot open the data: ", opened.ToString()));
  }
  database_.reset(database);
  // Of LevelDB's own thread, which compacts.
  options.env->Schedule([](void*) { YieldToOthers(); }, nullptr);
  return absl::OkStatus();
}

std::optional<std::string_view> LevelTable::Get(std::string_view key) {
  CachedRecord* record = records_.Find(key);
  if (record == nullptr) {
    std::string value;
    const leveldb::Status read = database_->Get(Checked(), ToSlice(key), &value);
    if (!read.ok() && !read.IsNotFound()) {
      Fail("read", read);
      return std::nullopt;
    }
    record = records_.Add(key, value.size());
    if (read.ok()) records_.SetValue(record, std::move(value));
  }
  return ValueOf(record);
}

std::optional<std::string_view> LevelTable::GetCached(std::string_view key) {
  return ValueOf(records_.Find(key));
}

void LevelTable::Put(std::string_view key, std::string_view head, std::string_view tail) {
  bool added = false;
  const size_t size = head.size() + tail.size();
  CachedRecord* record = records_.FindOrAdd(key, size, &added);
  BeforeChange(record, size);
  records_.SetValue(record, head, tail);
  records_.MarkDirty(record);
}

void LevelTable::Delete(std::string_view key) {
  bool added = false;
  CachedRecord* record = records_.FindOrAdd(key, 0, &added);
  if (!added && !record->present()) return;  // and LevelDB knows, or will with the next commit
  BeforeChange(record, 0);
  records_.SetAbsent(record);
  records_.MarkDirty(record);
}

void LevelTable::BeforeChange(CachedRecord* record, size_t new_size) {
  changed_since_commit_ = true;
  if (write_behind_.count() == 0) return;
  changed_bytes_ += record->key().size() + new_size;
  if (!records_.MustTake(record)) return;
  AddToBatch(*record);
  records_.MarkTaken(record);
}

void LevelTable::AddToBatch(const CachedRecord& record) {
  if (record.present()) {
    batch_->Put(ToSlice(record.key()), ToSlice(record.value()));
  } else {
    batch_->Delete(ToSlice(record.key()));
  }
}

void LevelTable::ClearBatch() {
  if (batch_->ApproximateSize() > kKeepBatch) {
    batch_.emplace();
  } else {
    batch_->Clear();
  }
}

// --- Commit --------------------------------------------------------------------------------------

absl::Status LevelTable::Commit() {
  CHECK_EQ(live_iterators_, 0) << "a commit under an iterator";
  const bool idle = !std::exchange(changed_since_commit_, false);
  if (write_behind_.count() == 0 || (write_through_ && CatchUp())) {
    WriteNow();
  } else {
    CommitBehind(idle ? kTakenWhenIdle : kTakenAtOnce);
  }
  return status_;
}

void LevelTable::WriteThrough(bool on) {
  write_through_ = on;
  if (!on) caught_up_ = false;
}

void LevelTable::WriteNow() {
  if (records_.dirty().empty()) return;
  idle_iterators_.clear();
  for (const CachedRecord* record : records_.dirty()) AddToBatch(*record);
  if (status_.ok()) {
    const leveldb::Status written = database_->Write(leveldb::WriteOptions(), &*batch_);
    if (!written.ok()) Fail("write", written);
  }
  records_.MarkAllClean();
  ClearBatch();
  settled_ = changed_bytes_ = 0;
}

// Whether everything is written but what a Commit may wait for. Each flush is shorter than the one before, as
// long as the disk takes more than comes.
bool LevelTable::CatchUp() {
  if (caught_up_) return true;
  if (records_.flushing() && (IsReady(writing_) || flushed_bytes_ < kWrittenAtOnce)) FinishFlush();
  caught_up_ = !records_.flushing() && changed_bytes_ < kWrittenAtOnce;
  return caught_up_;
}

// One flush at a time, in three steps: another thread puts its records in the order of their keys, which
// LevelDB takes in a third of the time; they are taken into the batch, some with each Commit, so that none
// takes long; and another thread writes the batch.
void LevelTable::CommitBehind(size_t most_taken) {
  settled_ = records_.dirty().size();
  if (records_.flushing()) {
    if (OrderKnown(/*wait=*/false)) TakeSome(most_taken);
    // Who changes more than the disk takes has to wait for it.
    if (IsReady(writing_) || changed_bytes_ > kMostBehind) FinishFlush();
  }
  const bool late = write_through_ || std::chrono::steady_clock::now() - flush_began_ >= write_behind_;
  if (records_.flushing() || records_.dirty().empty() || (!late && changed_bytes_ < kFlushAt)) return;
  BeginFlush();
}

void LevelTable::BeginFlush() {
  records_.BeginFlush();
  flushed_bytes_ = std::exchange(changed_bytes_, 0);
  settled_ = taken_ = 0;
  flush_began_ = std::chrono::steady_clock::now();
  ordering_ = InBackground([records = records_.flushed()]() mutable {
    SortByKey(&records);
    return std::move(records);
  });
}

// Whether to_take_ is there.
bool LevelTable::OrderKnown(bool wait) {
  if (ordering_.valid() && (wait || IsReady(ordering_))) to_take_ = ordering_.get();
  return !ordering_.valid();
}

void LevelTable::TakeSome(size_t most) {
  if (writing_.valid()) return;
  for (; taken_ < to_take_.size() && most > 0; ++taken_, --most) {
    CachedRecord* record = to_take_[taken_];
    if (!records_.MustTake(record)) continue;  // it has been changed since, and was taken before
    AddToBatch(*record);
    records_.MarkTaken(record);
  }
  if (taken_ < to_take_.size()) return;
  writing_ = InBackground([this, good = status_.ok()] {
    return good ? database_->Write(leveldb::WriteOptions(), &*batch_) : leveldb::Status::OK();
  });
}

// Waits for the flush that is under way.
void LevelTable::FinishFlush() {
  OrderKnown(/*wait=*/true);
  TakeSome(std::numeric_limits<size_t>::max());
  const leveldb::Status written = writing_.get();
  if (!written.ok()) Fail("write", written);
  idle_iterators_.clear();
  records_.EndFlush();
  to_take_.clear();
  ClearBatch();
}

LevelTable::~LevelTable() {
  CHECK_EQ(live_iterators_, 0) << "an iterator outlives its table";
  if (records_.flushing()) FinishFlush();
  if (write_behind_.count() != 0 && !changed_since_commit_) WriteNow();
  if (!status_.ok()) LOG(ERROR) << status_;
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
