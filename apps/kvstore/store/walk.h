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

  // To the first at (number, name) or behind.
  void Seek(uint64_t number, std::string_view name = {});
  bool Valid() const { return valid_; }
  void Next();
  // The other way round, to the last before (number, name) and on from there.
  void SeekBefore(uint64_t number, std::string_view name = {});
  void Previous();
  // REQUIRES: Valid(). Until the next move.
  uint64_t number() const;
  std::string_view name() const;
  std::string_view value() const { return records_->value(); }

 private:
  std::string KeyOf(uint64_t number, std::string_view name) const;
  void Check();

  Table& table_;
  const std::string prefix_;
  std::unique_ptr<Table::Iterator> records_;
  bool valid_ = false;
};

// --- Cursors -------------------------------------------------------------------------------------
//
// What SCAN and its kin hand out between calls: the upper 53 bits of a position. Clients keep a cursor in
// what their language has: a signed 64-bit number (Java, Go, PHP) or a double (JavaScript), which is exact up
// to 2^53. Positions that share these bits are shown together, so that none falls between two calls.
inline constexpr int kCursorBits = 53;
// 0 only for the first positions of all, which no call ends before.
inline uint64_t CursorOf(uint64_t position) { return position >> (64 - kCursorBits); }
// Where a walk from `cursor` begins; nullopt: behind the last position there can be.
inline std::optional<uint64_t> PositionOf(uint64_t cursor) {
  if (cursor >> kCursorBits != 0) return std::nullopt;
  return cursor << (64 - kCursorBits);
}

// So many are walked through where a few would do: with these, Redis too answers at once.
inline constexpr uint64_t kSmall = 128;

// The name of one of the `size` whose value is accepted, by the caller's random number. Each is as likely, of
// more than kSmall if their numbers are spread evenly, as a hash does it. nullopt: there is none.
std::optional<std::string> PickAtRandom(Walk& walk, uint64_t size, uint64_t random,
                                        const std::function<bool(std::string_view value)>& accept);

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_STORE_WALK_H_
