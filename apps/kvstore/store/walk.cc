#include "apps/kvstore/store/walk.h"

#include <utility>

#include "absl/status/status.h"
#include "apps/kvstore/store/layout.h"

namespace kvstore {
namespace {

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

void Walk::Seek(uint64_t number) {
  std::string at = prefix_;
  AppendBig64(&at, number);
  records_->Seek(at);
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

std::optional<std::string> PickAtRandom(Walk& walk, uint64_t size, uint64_t random,
                                        const std::function<bool(std::string_view value)>& accept) {
  if (size == 0) return std::nullopt;
  const bool small = size <= kSmall;
  const uint64_t start = small ? 0 : random;
  uint64_t left = 1 + Mix(random) % (small ? size : kCandidates);
  // Twice, for behind the last comes the first.
  for (const uint64_t from : {start, uint64_t{0}}) {
    for (walk.Seek(from); walk.Valid(); walk.Next()) {
      if (accept(walk.value()) && --left == 0) return std::string(walk.name());
    }
  }
  return std::nullopt;   // fewer than `size`: the disk has failed
}

}  // namespace kvstore
