#include "apps/kvstore/store/walk.h"

#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "apps/kvstore/store/layout.h"

namespace kvstore {
namespace {

constexpr size_t kCandidates = 16;

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

std::optional<std::string> PickAtRandom(Walk& walk, uint64_t random,
                                        const std::function<bool(std::string_view value)>& accept) {
  std::vector<std::string> candidates;
  const auto collect = [&] {
    if (accept(walk.value())) candidates.emplace_back(walk.name());
  };
  for (walk.Seek(random); walk.Valid() && candidates.size() < kCandidates; walk.Next()) collect();
  // Behind the last comes the first.
  if (candidates.size() < kCandidates) {
    const auto goes_on = [&] { return walk.number() < random && candidates.size() < kCandidates; };
    for (walk.Seek(0); walk.Valid() && goes_on(); walk.Next()) collect();
  }
  if (candidates.empty()) return std::nullopt;
  return std::move(candidates[Mix(random) % candidates.size()]);
}

}  // namespace kvstore
