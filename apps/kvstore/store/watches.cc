#include "apps/kvstore/store/watches.h"

#include <algorithm>

#include "absl/strings/string_view.h"

namespace kvstore {
namespace {

absl::string_view ToAbsl(std::string_view text) { return absl::string_view(text.data(), text.size()); }

}  // namespace

void Watches::Watch(std::string_view key, bool exists, Watcher* watcher) {
  std::vector<Watcher*>& watchers = by_key_[ToAbsl(key)];
  if (std::find(watchers.begin(), watchers.end(), watcher) != watchers.end()) return;
  watchers.push_back(watcher);
  watcher->keys.push_back({std::string(key), exists});
  watcher->bytes += kBytesPerKey + 2 * key.size();
}

void Watches::Unwatch(Watcher* watcher) {
  for (const Watcher::Key& key : watcher->keys) {
    const auto found = by_key_.find(key.name);
    if (found == by_key_.end()) continue;
    std::erase(found->second, watcher);
    if (found->second.empty()) by_key_.erase(found);
  }
  std::vector<Watcher::Key>().swap(watcher->keys);  // gives its memory back
  watcher->bytes = 0;
  watcher->touched = false;
}

std::vector<std::string> Watches::Keys() const {
  std::vector<std::string> keys;
  keys.reserve(by_key_.size());
  for (const auto& [key, watchers] : by_key_) keys.push_back(key);
  // The map's order is another in each process.
  std::sort(keys.begin(), keys.end());
  return keys;
}

void Watches::TouchWatched(std::string_view key) {
  const auto found = by_key_.find(ToAbsl(key));
  if (found == by_key_.end()) return;
  for (Watcher* watcher : found->second) watcher->touched = true;
}

}  // namespace kvstore
