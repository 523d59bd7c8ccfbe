// Walks over records whose keys are a prefix, a number (8 bytes, big endian), and a name.
#ifndef UNDERSTUDY_APPS_KVSTORE_STORE_WALK_H_
#define UNDERSTUDY_APPS_KVSTORE_STORE_WALK_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "apps/kvstore/store/table.h"

namespace kvstore {

// In order of (number, name). As a Table::Iterator otherwise.
class Walk {
 public:
  Walk(Table& table, std::string prefix);

  // To the first whose number is `number` or greater.
  void Seek(uint64_t number);
  bool Valid() const { return valid_; }
  void Next();
  // REQUIRES: Valid(). Until the next Seek or Next.
  uint64_t number() const;
  std::string_view name() const;
  std::string_view value() const { return records_->value(); }

 private:
  void Check();

  Table& table_;
  const std::string prefix_;
  std::unique_ptr<Table::Iterator> records_;
  bool valid_ = false;
};

// So many are walked through where a few would do: with these, Redis too answers at once.
inline constexpr uint64_t kSmall = 128;

// The name of one of the `size` whose value is accepted, by the caller's random number. Up to kSmall each is
// exactly as likely; beyond, about: one of the 16 that follow a random place. nullopt: there is none.
std::optional<std::string> PickAtRandom(Walk& walk, uint64_t size, uint64_t random,
                                        const std::function<bool(std::string_view value)>& accept);

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_STORE_WALK_H_
