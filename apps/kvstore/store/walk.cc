#include "apps/kvstore/store/walk.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "apps/kvstore/store/layout.h"

namespace kvstore {
namespace {

// Beyond kSmall: in a window of the numbers, anywhere, wide enough for so many on average, one is drawn out
// of twice as many places; an empty place is another try. So each is as likely whatever the gaps before it
// are. More than kPlaces are found in one of 1500 windows; then each of those is as likely.
constexpr uint64_t kExpected = 12;
constexpr uint64_t kPlaces = 24;
// Half of the tries find one. So many fail where the numbers are not spread evenly (somebody chose names for
// their hash), the disk has failed, or `size` is far from true.
constexpr int kTries = 16;
// Then: one of so many that follow a random number.
constexpr uint64_t kCandidates = 16;

// All 64 bits depend on all 64 bits (splitmix64's last steps): a second number, for another purpose.
uint64_t Mix(uint64_t value) {
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9;
  value = (value ^ (value >> 27)) * 0x94d049bb133111eb;
  return value ^ (value >> 31);
}

}  // namespace

Walk::Walk(Table& table, std::string prefix)
    : table_(table), prefix_(std::move(prefix)), records_(table.NewIterator()) {}

std::string Walk::KeyOf(uint64_t number, std::string_view name) const {
  std::string key = prefix_;
  AppendBig64(&key, number);
  key.append(name);
  return key;
}

void Walk::Seek(uint64_t number, std::string_view name) {
  records_->Seek(KeyOf(number, name));
  Check();
}

void Walk::SeekBefore(uint64_t number, std::string_view name) {
  records_->SeekBefore(KeyOf(number, name));
  Check();
}

void Walk::Previous() {
  records_->Previous();
  Check();
}

void Walk::Next() {
  records_->Next();
  Check();
}

void Walk::Check() {
  valid_ = records_->Valid() && records_->key().starts_with(prefix_);
  if (!valid_ || records_->key().size() >= prefix_.size() + kNumberSize) return;
  valid_ = false;
  table_.Fail(absl::DataLossError("a record's key is cut off"));
}

uint64_t Walk::number() const { return ReadBig64(records_->key().substr(prefix_.size())); }
std::string_view Walk::name() const { return records_->key().substr(prefix_.size() + kNumberSize); }

namespace {

// The names in [from, from + width), around the end of the numbers, whose values are accepted.
std::vector<std::string> InWindow(Walk& walk, uint64_t from, uint64_t width,
                                  const std::function<bool(std::string_view value)>& accept) {
  std::vector<std::string> names;
  const auto take = [&](uint64_t at) {
    for (walk.Seek(at); walk.Valid() && walk.number() - from < width; walk.Next()) {
      if (accept(walk.value())) names.emplace_back(walk.name());
    }
  };
  take(from);
  if (from + width < from) take(0);
  return names;
}

std::optional<std::string> PickOfMany(Walk& walk, uint64_t size, uint64_t random,
                                      const std::function<bool(std::string_view value)>& accept) {
  const uint64_t width = ~uint64_t{0} / size * kExpected;
  for (int i = 0; i < kTries; ++i) {
    const std::vector<std::string> names = InWindow(walk, random, width, accept);
    const uint64_t place = Mix(random) % std::max<uint64_t>(kPlaces, names.size());
    if (place < names.size()) return names[place];
    random = Mix(random + 0x9e3779b97f4a7c15);
  }
  uint64_t left = 1 + Mix(random) % kCandidates;
  // Twice, for behind the last comes the first.
  for (const uint64_t from : {random, uint64_t{0}}) {
    for (walk.Seek(from); walk.Valid(); walk.Next()) {
      if (accept(walk.value()) && --left == 0) return std::string(walk.name());
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<std::string> PickAtRandom(Walk& walk, uint64_t size, uint64_t random,
                                        const std::function<bool(std::string_view value)>& accept) {
  if (size == 0) return std::nullopt;
  if (size > kSmall) return PickOfMany(walk, size, random, accept);
  uint64_t left = 1 + Mix(random) % size;
  for (walk.Seek(0); walk.Valid(); walk.Next()) {
    if (accept(walk.value()) && --left == 0) return std::string(walk.name());
  }
  return std::nullopt;  // fewer than `size`: the disk has failed
}

}  // namespace kvstore
