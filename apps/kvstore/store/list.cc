#include "apps/kvstore/store/list.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "glog/logging.h"

namespace kvstore {
namespace {

constexpr uint64_t kFirstHead = uint64_t{1} << 63;
// Trimming away more than so many elements, and more than stay, makes a new list of those that stay.
constexpr uint64_t kManyTrimmed = 64;
constexpr uint64_t kSearchWindow = 256;

}  // namespace

List::List(Keyspace& keys, std::string_view key, const Entry& entry) : keys_(keys), key_(key), entry_(entry) {
  DCHECK(!entry || entry.type == Type::kList);
}

std::string_view List::PartKeyOf(uint64_t index) const {
  return keys_.PartKey(entry_.id, entry_.head + index);
}

void List::Put(uint64_t index, std::string_view value) { keys_.table().Put(PartKeyOf(index), value); }
void List::Delete(uint64_t index) { keys_.table().Delete(PartKeyOf(index)); }

void List::Create() {
  if (!entry_) entry_ = Entry{.type = Type::kList, .id = keys_.NewId(Type::kList), .head = kFirstHead};
}

void List::Save() {
  if (entry_.count > 0) {
    keys_.Store(key_, entry_);
  } else {
    keys_.RemoveEmptied(key_);
    entry_ = {};
  }
}

void List::PushFront(std::string_view value) {
  Create();
  --entry_.head;
  ++entry_.count;
  Put(0, value);
  Save();
}

void List::PushBack(std::string_view value) {
  Create();
  Put(entry_.count++, value);
  Save();
}

std::optional<std::string> List::PopFront() {
  if (!entry_) return std::nullopt;
  std::string value(At(0));
  Delete(0);
  ++entry_.head;
  --entry_.count;
  Save();
  return value;
}

std::optional<std::string> List::PopBack() {
  if (!entry_) return std::nullopt;
  std::string value(At(entry_.count - 1));
  Delete(--entry_.count);
  Save();
  return value;
}

// It is there, unless the disk has failed: then the table says so, and nothing of this turn will be seen.
std::string_view List::At(uint64_t index) {
  DCHECK_LT(index, size());
  return keys_.table().Get(PartKeyOf(index)).value_or(std::string_view());
}

void List::Set(uint64_t index, std::string_view value) {
  DCHECK_LT(index, size());
  Put(index, value);
  keys_.Touched(key_);
}

void List::ForRange(uint64_t first, uint64_t last, const std::function<void(std::string_view)>& visit) {
  DCHECK(first <= last && last < size());
  keys_.ForParts(entry_.id, entry_.head + first, entry_.head + last,
                 [&](uint64_t, std::string_view value) { visit(value); });
}

std::vector<std::string> List::Read(uint64_t first, uint64_t count) {
  std::vector<std::string> values;
  if (count == 0) return values;
  ForRange(first, first + count - 1, [&](std::string_view value) { values.emplace_back(value); });
  return values;
}

void List::Insert(uint64_t index, std::string_view value) {
  DCHECK_LE(index, size());
  Create();
  const bool front = index < entry_.count - index;
  const std::vector<std::string> moved = front ? Read(0, index) : Read(index, entry_.count - index);
  if (front) --entry_.head;
  ++entry_.count;
  uint64_t at = front ? 0 : index + 1;
  for (const std::string& each : moved) Put(at++, each);
  Put(index, value);
  Save();
}

void List::Trim(uint64_t first, uint64_t last) {
  DCHECK(first <= last && last < size());
  const uint64_t kept = last - first + 1;
  const uint64_t trimmed = entry_.count - kept;
  if (trimmed == 0) return;
  if (trimmed > kManyTrimmed && trimmed > kept) {
    const std::vector<std::string> values = Read(first, kept);
    entry_.id = keys_.NewId(Type::kList);
    entry_.head = kFirstHead;
    entry_.count = kept;
    for (uint64_t i = 0; i < values.size(); ++i) Put(i, values[i]);
    return Save();  // which throws the old parts away
  }
  for (uint64_t i = 0; i < first; ++i) Delete(i);
  for (uint64_t i = last + 1; i < entry_.count; ++i) Delete(i);
  entry_.head += first;
  entry_.count = kept;
  Save();
}

std::vector<uint64_t> List::Search(std::string_view value, uint64_t count, bool from_back) {
  std::vector<uint64_t> found;
  // Window after window, so as not to read on when enough are found.
  for (uint64_t done = 0; done < entry_.count && found.size() < count;) {
    const uint64_t size = std::min(entry_.count - done, kSearchWindow);
    const uint64_t begin = from_back ? entry_.count - done - size : done;
    std::vector<uint64_t> here;
    uint64_t index = begin;
    ForRange(begin, begin + size - 1, [&](std::string_view each) {
      if (each == value) here.push_back(index);
      ++index;
    });
    if (from_back) std::reverse(here.begin(), here.end());
    found.insert(found.end(), here.begin(), here.end());
    done += size;
  }
  if (found.size() > count) found.resize(count);
  if (from_back) std::reverse(found.begin(), found.end());
  return found;
}

uint64_t List::Remove(std::string_view value, uint64_t count, bool from_back) {
  if (!entry_) return 0;
  const std::vector<uint64_t> found = Search(value, count == 0 ? entry_.count : count, from_back);
  if (found.empty()) return 0;
  // Either what is before the last of them moves back, or what is behind the first moves forward.
  const uint64_t removed = found.size();
  const bool front = found.back() < entry_.count - found.front();
  const uint64_t begin = front ? 0 : found.front();
  const uint64_t end = front ? found.back() + 1 : entry_.count;
  const std::vector<std::string> values = Read(begin, end - begin);
  uint64_t at = front ? removed : begin;
  auto next = found.begin();
  for (uint64_t i = 0; i < values.size(); ++i) {
    if (next != found.end() && begin + i == *next) {
      ++next;
    } else {
      Put(at++, values[i]);
    }
  }
  for (uint64_t i = 0; i < removed; ++i) Delete(front ? i : entry_.count - 1 - i);
  if (front) entry_.head += removed;
  entry_.count -= removed;
  Save();
  return removed;
}

}  // namespace kvstore
