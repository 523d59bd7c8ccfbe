#include "apps/kvstore/store/elements.h"

#include <algorithm>

#include "apps/kvstore/store/walk.h"
#include "glog/logging.h"

namespace kvstore {
namespace {

// So many may have been erased, and so many more for each element that is there, before the others
// move.
constexpr uint64_t kErased = 512;
constexpr uint64_t kErasedPerElement = 8;

}  // namespace

bool TooManyErased(const Entry& entry) { return entry.head > kErased + kErasedPerElement * entry.count; }

Elements::Elements(Keyspace& keys, std::string_view key, const Entry& entry, Type type)
    : keys_(keys), key_(key), type_(type), entry_(entry) {
  DCHECK(!entry || entry.type == type);
}

std::string_view Elements::PartKeyOf(std::string_view name) const {
  return keys_.PartKey(entry_.id, WalkPosition(name), name);
}

std::optional<std::string_view> Elements::Find(std::string_view name) {
  return entry_ ? keys_.table().Get(PartKeyOf(name)) : std::nullopt;
}

bool Elements::Insert(std::string_view name, std::string_view value) {
  if (!entry_) {
    entry_.type = type_;
    entry_.id = keys_.NewId(type_);
  }
  const std::string_view part = PartKeyOf(name);
  const auto old = entry_.count > 0 ? keys_.table().Get(part) : std::nullopt;
  if (!old) {
    keys_.table().Put(part, value);
    if (++entry_.count > kSmall && !entry_.fenced) keys_.PutFence(&entry_);
    keys_.Store(key_, entry_);
    return true;
  }
  if (type_ == Type::kSet) return false;  // nothing has changed
  if (*old != value) keys_.table().Put(part, value);
  keys_.Touched(key_);
  return false;
}

bool Elements::Erase(std::string_view name) {
  if (!Contains(name)) return false;
  keys_.table().Delete(PartKeyOf(name));
  ++entry_.head;
  if (--entry_.count == 0) {
    keys_.DeleteFence(&entry_);
    keys_.RemoveEmptied(key_);
    entry_ = {};
    return true;
  }
  keys_.Store(key_, entry_);
  if (TooManyErased(entry_)) Renew();
  return true;
}

// To where nothing was erased.
void Elements::Renew() {
  keys_.CopyParts(&entry_);
  entry_.head = 0;
  keys_.Store(key_, entry_);
}

void Elements::ForEach(const Visit& visit) {
  if (!entry_) return;
  Walk walk(keys_.table(), keys_.PartPrefix(entry_.id));
  walk.Seek(0);
  for (uint64_t left = entry_.count; walk.Valid(); walk.Next()) {
    visit(walk.name(), walk.value());
    if (--left == 0) return;
  }
}

uint64_t Elements::Scan(uint64_t cursor, uint64_t count, const Visit& visit) {
  if (cursor == 0 && entry_.count <= std::max(count, kSmall)) {
    ForEach(visit);
    return 0;
  }
  const auto from = PositionOf(cursor);
  if (!entry_ || !from) return 0;
  Walk walk(keys_.table(), keys_.PartPrefix(entry_.id));
  uint64_t visited = 0;
  uint64_t last = 0;
  for (walk.Seek(*from); walk.Valid(); walk.Next()) {
    const uint64_t here = CursorOf(walk.number());
    if (visited >= std::max<uint64_t>(count, 1) && here != last) return here;
    visit(walk.name(), walk.value());
    ++visited;
    last = here;
  }
  return 0;
}

std::string Elements::Random(uint64_t random) {
  if (!entry_) return "";
  Walk walk(keys_.table(), keys_.PartPrefix(entry_.id));
  return PickAtRandom(walk, entry_.count, random, [](std::string_view) { return true; }).value_or("");
}

}  // namespace kvstore
