#include "apps/kvstore/store/garbage.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <string_view>

#include "absl/status/status.h"
#include "apps/kvstore/store/layout.h"

namespace kvstore {
namespace {

constexpr uint64_t kAll = std::numeric_limits<uint64_t>::max();

}  // namespace

void Garbage::AddParts(uint32_t generation, uint64_t id, uint64_t parts) {
  std::string record = KindPrefix(generation, Kind::kGarbage);
  AppendBig64(&record, id);
  table_->Put(record, EncodeParts(parts));
  first_id_ = std::min(first_id_, id);
  any_ = true;
}

void Garbage::AddGeneration(uint32_t generation) {
  std::string record = KindPrefix(kStoreGeneration, Kind::kOldGeneration);
  AppendBig32(&record, generation);
  table_->Put(record, "");
  any_ = true;
}

void Garbage::Collect(uint32_t generation, size_t limit) {
  if (!any_) return;
  const std::unique_ptr<Table::Iterator> records = table_->NewIterator();
  while (limit > 0) {
    if (!target_) target_ = FindTarget(*records, generation);
    if (!target_) {
      any_ = false;
      return;
    }
    for (records->Seek(target_->next); IsOfTarget(*records); records->Next()) {
      if (limit == 0) return;
      target_->next = records->key();
      table_->Delete(target_->next);
      --limit;
      if (--target_->left == 0) break;
    }
    table_->Delete(target_->record);
    target_.reset();
    if (limit > 0) --limit;
  }
}

bool Garbage::IsOfTarget(const Table::Iterator& record) const {
  return record.Valid() && record.key().starts_with(target_->prefix);
}

// Whole generations first: what is garbage in them goes with them.
std::optional<Garbage::Target> Garbage::FindTarget(Table::Iterator& records, uint32_t generation) {
  const std::string old_generation = KindPrefix(kStoreGeneration, Kind::kOldGeneration);
  records.Seek(old_generation);
  if (records.Valid() && records.key().starts_with(old_generation)) {
    const std::string record(records.key());
    const std::string prefix = record.substr(old_generation.size());
    return Target{record, prefix, prefix, kAll};
  }
  const std::string garbage = KindPrefix(generation, Kind::kGarbage);
  std::string from = garbage;
  AppendBig64(&from, first_id_);
  records.Seek(from);
  if (!records.Valid() || !records.key().starts_with(garbage)) return std::nullopt;
  const std::string record(records.key());
  const std::optional<uint64_t> parts = DecodeParts(records.value());
  if (record.size() != garbage.size() + kNumberSize || !parts || *parts == 0) {
    table_->Fail(absl::DataLossError("a record of garbage makes no sense"));
    return std::nullopt;
  }
  const std::string id = record.substr(garbage.size());
  first_id_ = ReadBig64(id);
  const std::string prefix = KindPrefix(generation, Kind::kPart) + id;
  return Target{record, prefix, prefix, *parts};
}

}  // namespace kvstore
