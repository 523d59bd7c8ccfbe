// Who is to be told when a key changes: WATCH.
#ifndef UNDERSTUDY_APPS_KVSTORE_STORE_WATCHES_H_
#define UNDERSTUDY_APPS_KVSTORE_STORE_WATCHES_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace kvstore {

// One connection's watched keys. `touched` once one of them has been changed since. Unwatched before it dies.
struct Watcher {
  struct Key {
    std::string name;
    bool existed;  // when it was watched: a key that expires afterwards has changed, too
  };
  std::vector<Key> keys;
  size_t bytes = 0;  // that watching them takes, about
  bool touched = false;
};

class Watches {
 public:
  void Watch(std::string_view key, bool exists, Watcher* watcher);  // no-op when watched already
  void Unwatch(Watcher* watcher);                                   // all its keys; touched = false
  void Touch(std::string_view key) {
    if (!by_key_.empty()) TouchWatched(key);
  }
  bool empty() const { return by_key_.empty(); }
  // What a key takes besides its name, twice: places in a vector and in a map, both of which grow by
  // doubling.
  static constexpr size_t kBytesPerKey = 256;
  // Each watched key once; for FLUSHALL.
  std::vector<std::string> Keys() const;

 private:
  void TouchWatched(std::string_view key);
  absl::flat_hash_map<std::string, std::vector<Watcher*>> by_key_;
};

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_STORE_WATCHES_H_
