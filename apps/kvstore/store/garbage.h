// Garbage: records that nobody can reach any more, deleted a few at a time.
#ifndef UNDERSTUDY_APPS_KVSTORE_STORE_GARBAGE_H_
#define UNDERSTUDY_APPS_KVSTORE_STORE_GARBAGE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "apps/kvstore/store/table.h"

namespace kvstore {

class Garbage {
 public:
  // `table` may hold garbage already, and outlives this object.
  explicit Garbage(Table* table) : table_(table) {}

  // From now on the parts of `id`, which are so many, are garbage: the table remembers.
  void AddParts(uint32_t generation, uint64_t id, uint64_t parts);
  // The same of all records of a generation that is over.
  void AddGeneration(uint32_t generation);

  // Deletes up to `limit` records. `generation`: the current one. Next to nothing when there is no garbage.
  void Collect(uint32_t generation, size_t limit);
  // False: there is none.
  bool any() const { return any_; }

 private:
  // What is being thrown away: the records that begin with `prefix`, from `next` on; then `record`, which
  // says so.
  struct Target {
    std::string record;
    std::string prefix;
    std::string next;
    uint64_t left = 0;  // of them, if not fewer: spares a walk over what is behind them
  };
  bool IsOfTarget(const Table::Iterator& record) const;
  std::optional<Target> FindTarget(Table::Iterator& records, uint32_t generation);

  Table* const table_;
  bool any_ = true;  // until it was looked for in vain
  std::optional<Target> target_;
  uint64_t first_id_ = 0;  // no id before it is garbage: spares a walk over what was deleted
};

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_STORE_GARBAGE_H_
