#include "apps/kvstore/store/keyspace.h"

#include <algorithm>
#include <functional>
#include <limits>

#include "absl/strings/str_cat.h"
#include "apps/kvstore/store/walk.h"
#include "glog/logging.h"

namespace kvstore {
namespace {

// Keys that SetNow removes at once when they are due. More than a request usually makes.
constexpr size_t kRemovedAtOnce = 16;
// Garbage that each Commit deletes at least.
constexpr size_t kCollectedAtOnce = 128;
// So many parts are read one by one, through the cache; more by a walk.
constexpr uint64_t kFewParts = 4;
// Values of which EndsOf knows something.
constexpr size_t kMostEnds = 1024;
constexpr int64_t kNever = std::numeric_limits<int64_t>::max();

bool IsInside(std::string_view inner, std::string_view outer) {
  const std::less_equal<const char*> le;
  return !inner.empty() && !outer.empty() && le(outer.data(), inner.data()) &&
         le(inner.data() + inner.size(), outer.data() + outer.size());
}

}  // namespace

const char* TypeName(Type type) {
  switch (type) {
    case Type::kNone: return "none";
    case Type::kString: return "string";
    case Type::kList: return "list";
    case Type::kSet: return "set";
    case Type::kHash: return "hash";
    case Type::kZSet: return "zset";
  }
  return "none";
}

Keyspace::Keyspace(Table* table, Watches* watches) : table_(table), watches_(watches), garbage_(table) {}

absl::StatusOr<std::unique_ptr<Keyspace>> Keyspace::Open(Table* table, Watches* watches) {
  std::unique_ptr<Keyspace> keys(new Keyspace(table, watches));
  const auto record = table->Get(KindPrefix(kStoreGeneration, Kind::kMeta));
  if (record.has_value()) {
    absl::StatusOr<Meta> meta = DecodeMeta(*record);
    if (!meta.ok()) return meta.status();
    keys->meta_ = keys->committed_meta_ = *meta;
  } else if (table->status().ok()) {
    const std::unique_ptr<Table::Iterator> records = table->NewIterator();
    records->Seek("");
    if (records->Valid()) {
      return absl::FailedPreconditionError("the data are not those of a key-value store");
    }
    table->Put(KindPrefix(kStoreGeneration, Kind::kMeta), EncodeMeta(keys->meta_));
    table->Put(KindPrefix(kStoreGeneration, Kind::kOldGenerationFence), "");
    keys->PutFences();
  }
  if (!table->status().ok()) return table->status();
  return keys;
}

// --- Keys ----------------------------------------------------------------------------------------

std::string_view Keyspace::KeyRecord(std::string_view key) {
  key_record_.clear();
  AppendBig32(&key_record_, meta_.generation);
  key_record_.push_back(static_cast<char>(Kind::kKey));
  AppendBig64(&key_record_, WalkPosition(key));
  key_record_.append(key);
  return key_record_;
}

Entry Keyspace::Decode(std::string_view record) {
  const std::optional<Entry> entry = DecodeEntry(record);
  if (entry) return *entry;
  table_->Fail(absl::DataLossError("the record of a key makes no sense"));
  return {};
}

Entry Keyspace::Load(std::string_view key) {
  const auto record = table_->Get(KeyRecord(key));
  return record.has_value() ? Decode(*record) : Entry{};
}

Entry Keyspace::Find(std::string_view key) {
  const Entry entry = Load(key);
  return Expired(entry) ? Entry{} : entry;
}

void Keyspace::Store(std::string_view key, const Entry& entry) {
  DCHECK(entry && (entry.id != 0 || entry.type == Type::kString));
  const Entry old = Load(key);
  char header[kMaxEntryHeader];
  const size_t size = EncodeEntryHeader(entry, header);
  const std::string_view bytes = entry.id == 0 ? entry.bytes : std::string_view();
  if (IsInside(bytes, old.bytes)) {
    table_->Put(key_record_, std::string_view(header, size), std::string(bytes));
  } else {
    table_->Put(key_record_, std::string_view(header, size), bytes);
  }
  if (!old) ++meta_.keys;
  if (old.expire_ms != entry.expire_ms) {
    Unschedule(key, old.expire_ms);
    Schedule(key, entry.expire_ms);
  }
  if (old.id != 0 && old.id != entry.id) Discard(old);
  watches_->Touch(key);
}

void Keyspace::Erase(std::string_view key, const Entry& old, bool has_parts) {
  table_->Delete(KeyRecord(key));
  --meta_.keys;
  Unschedule(key, old.expire_ms);
  if (has_parts && old.id != 0) Discard(old);
}

bool Keyspace::Remove(std::string_view key) {
  const Entry old = Load(key);
  if (!old) return false;
  const bool expired = Expired(old);
  Erase(key, old, true);
  if (!expired) watches_->Touch(key);
  return !expired;
}

void Keyspace::RemoveEmptied(std::string_view key) {
  const Entry old = Load(key);
  if (!old) return;
  Erase(key, old, false);
  watches_->Touch(key);
}

void Keyspace::Rename(std::string_view from, std::string_view to) {
  if (from == to) return;
  Entry entry = Find(from);
  if (!entry) return;
  const std::string bytes(entry.bytes);
  entry.bytes = bytes;
  Erase(from, entry, false);  // its parts go with it
  Store(to, entry);
  watches_->Touch(from);
}

void Keyspace::Copy(std::string_view from, std::string_view to) {
  if (from == to) return;
  Entry entry = Find(from);
  if (!entry) return;
  const std::string bytes(entry.bytes);
  entry.bytes = bytes;
  if (entry.id != 0) CopyParts(&entry);
  Store(to, entry);
}

void Keyspace::Clear() {
  if (!watches_->empty()) {
    for (const std::string& key : watches_->Keys()) {
      if (Find(key)) watches_->Touch(key);
    }
  }
  if (meta_.keys == 0) return;  // what garbage there is goes anyway
  garbage_.AddGeneration(meta_.generation);
  ++meta_.generation;
  PutFences();
  meta_.keys = meta_.expiring = due_ = 0;
  next_due_ms_ = kNever;
}

void Keyspace::PutFences() {
  table_->Put(KindPrefix(meta_.generation, Kind::kGarbageFence), "");
  table_->Put(KindPrefix(meta_.generation, Kind::kKeyFence), "");
}

// --- Walks ---------------------------------------------------------------------------------------

// What it returns must not depend on whether an expired key's record is still there, so it is always the
// cursor of a key that lives.
uint64_t Keyspace::Scan(uint64_t cursor, uint64_t count, const Visit& visit) {
  const auto from = PositionOf(cursor);
  if (!from) return 0;
  Walk walk(*table_, KindPrefix(meta_.generation, Kind::kKey));
  uint64_t visited = 0;
  uint64_t last = 0;
  for (walk.Seek(*from); walk.Valid(); walk.Next()) {
    const Entry entry = Decode(walk.value());
    if (!entry || Expired(entry)) continue;
    const uint64_t here = CursorOf(walk.number());
    if (visited >= std::max<uint64_t>(count, 1) && here != last) return here;
    visit(walk.name(), entry);
    ++visited;
    last = here;
  }
  return 0;
}

std::optional<std::string> Keyspace::Random(uint64_t random) {
  Walk walk(*table_, KindPrefix(meta_.generation, Kind::kKey));
  return PickAtRandom(walk, size(), random, [this](std::string_view record) {
    const Entry entry = Decode(record);
    return entry && !Expired(entry);
  });
}

// --- Parts ---------------------------------------------------------------------------------------

uint64_t Keyspace::NewId(Type type) {
  const uint64_t id = meta_.next_id;
  meta_.next_id += type == Type::kZSet ? 2 * kIdStep : kIdStep;
  return id;
}

std::string_view Keyspace::PartKey(uint64_t id, uint64_t number, std::string_view name) {
  part_record_.clear();
  AppendBig32(&part_record_, meta_.generation);
  part_record_.push_back(static_cast<char>(Kind::kPart));
  AppendBig64(&part_record_, id);
  AppendBig64(&part_record_, number);
  part_record_.append(name);
  return part_record_;
}

std::string Keyspace::PartPrefix(uint64_t id) const {
  std::string prefix = KindPrefix(meta_.generation, Kind::kPart);
  AppendBig64(&prefix, id);
  return prefix;
}

Keyspace::Ends& Keyspace::EndsOf(uint64_t id) {
  if (ends_.size() >= kMostEnds && !ends_.contains(id)) ends_.clear();
  return ends_[id];
}

void Keyspace::PutFence(Entry* entry) {
  for (const uint64_t id : IdsOf(*entry)) table_->Put(PartPrefix(id + 1), "");
  entry->fenced = true;
}

void Keyspace::DeleteFence(Entry* entry) {
  if (!entry->fenced) return;
  for (const uint64_t id : IdsOf(*entry)) table_->Delete(PartPrefix(id + 1));
  entry->fenced = false;
}

void Keyspace::CopyParts(Entry* entry) {
  const uint64_t new_id = NewId(entry->type);
  for (const uint64_t old_id : IdsOf(*entry)) {
    const uint64_t id = new_id + (old_id - entry->id);
    Walk parts(*table_, PartPrefix(old_id));
    parts.Seek(0);
    for (uint64_t left = PartsOf(*entry); left > 0 && parts.Valid(); --left) {
      table_->Put(PartKey(id, parts.number(), parts.name()), parts.value());
      if (left > 1) parts.Next();
    }
  }
  entry->id = new_id;
  if (entry->fenced) PutFence(entry);
}

void Keyspace::Discard(Entry entry) {
  DeleteFence(&entry);
  const uint64_t parts = PartsOf(entry);
  for (const uint64_t id : IdsOf(entry)) {
    if (parts > 0) garbage_.AddParts(meta_.generation, id, parts);
  }
}

void Keyspace::ForParts(uint64_t id, uint64_t first, uint64_t last, const VisitPart& visit) {
  const bool few = last - first < kFewParts;
  uint64_t number = first;
  for (;; ++number) {
    const std::string_view key = PartKey(id, number);
    const auto value = few ? table_->Get(key) : table_->GetCached(key);
    if (!value && !few) break;
    if (value) visit(number, *value);
    if (number == last) return;
  }
  Walk walk(*table_, PartPrefix(id));
  for (walk.Seek(number); walk.Valid() && walk.number() <= last; walk.Next()) {
    visit(walk.number(), walk.value());
    if (walk.number() == last) return;  // nobody knows what is behind it: see layout.h on fences
  }
}

// --- Expiry --------------------------------------------------------------------------------------

std::string_view Keyspace::ExpiryRecord(std::string_view key, int64_t expire_ms) {
  expiry_record_.clear();
  AppendBig32(&expiry_record_, meta_.generation);
  expiry_record_.push_back(static_cast<char>(Kind::kExpiry));
  AppendBig64(&expiry_record_, static_cast<uint64_t>(expire_ms));
  expiry_record_.append(key);
  return expiry_record_;
}

void Keyspace::Schedule(std::string_view key, int64_t expire_ms) {
  if (expire_ms == 0) return;
  table_->Put(ExpiryRecord(key, expire_ms), "");
  ++meta_.expiring;
  next_due_ms_ = std::min(next_due_ms_, expire_ms);
  if (expire_ms < due_before_ms_) ++due_;
}

void Keyspace::Unschedule(std::string_view key, int64_t expire_ms) {
  if (expire_ms == 0) return;
  table_->Delete(ExpiryRecord(key, expire_ms));
  --meta_.expiring;
  if (expire_ms < due_before_ms_) --due_;
}

void Keyspace::RemoveDue() {
  Walk walk(*table_, KindPrefix(meta_.generation, Kind::kExpiry));
  walk.Seek(next_due_ms_);
  for (size_t removed = 0; walk.Valid(); walk.Next()) {
    const auto due = static_cast<int64_t>(walk.number());
    if (due >= now_ms_ || removed == kRemovedAtOnce) {
      next_due_ms_ = due;
      return;
    }
    const std::string key(walk.name());
    const Entry old = Load(key);
    if (!old || old.expire_ms != due) {
      table_->Fail(absl::DataLossError("an expiry without its key"));
      return;
    }
    Erase(key, old, true);
    ++removed;
  }
  next_due_ms_ = kNever;
}

uint64_t Keyspace::DueKeys() {
  if (now_ms_ <= due_before_ms_) return due_;
  if (now_ms_ > next_due_ms_) {
    Walk walk(*table_, KindPrefix(meta_.generation, Kind::kExpiry));
    walk.Seek(std::max(due_before_ms_, next_due_ms_));
    for (; walk.Valid() && static_cast<int64_t>(walk.number()) < now_ms_; walk.Next()) ++due_;
  }
  due_before_ms_ = now_ms_;
  return due_;
}

// --- Commit --------------------------------------------------------------------------------------

absl::Status Keyspace::Commit() {
  // As much as was written at least: garbage was written once, so it cannot grow faster than it goes.
  if (garbage_.any()) garbage_.Collect(meta_.generation, std::max(kCollectedAtOnce, table_->uncommitted()));
  if (meta_ != committed_meta_) {
    table_->Put(KindPrefix(kStoreGeneration, Kind::kMeta), EncodeMeta(meta_));
    committed_meta_ = meta_;
  }
  return table_->Commit();
}

}  // namespace kvstore
