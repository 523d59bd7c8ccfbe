#include "apps/kvstore/store/turns_for_test.h"

#include <random>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "apps/kvstore/store/elements.h"
#include "apps/kvstore/store/list.h"
#include "apps/kvstore/store/sorted_set.h"
#include "apps/kvstore/store/string_value.h"

namespace kvstore {
namespace {

class Turn {
 public:
  Turn(Keyspace& keys, uint64_t seed) : keys_(keys), random_(seed) {}

  void Step() {
    const std::string key = absl::StrCat("key", Below(30));
    switch (Below(14)) {
      case 0:
      case 1: return WriteString(keys_, key, SomeBytes(), SomeExpiry());
      case 2: return Append(key);
      case 3:
      case 4: return ChangeElements(key);
      case 5:
      case 6: return ChangeList(key);
      case 7: keys_.Remove(key); return;
      case 8:
        if (keys_.Find(key)) keys_.Rename(key, absl::StrCat("key", Below(30)));
        return;
      case 9:
        if (keys_.Find(key)) keys_.Copy(key, absl::StrCat("key", Below(30)));
        return;
      case 10:
        if (Below(300) == 0) keys_.Clear();
        return;
      case 11: return Expire(key);
      case 12:
      case 13: return ChangeSortedSet(key);
    }
  }

 private:
  uint64_t Below(uint64_t limit) { return random_() % limit; }
  std::string SomeBytes() {
    const size_t size = Below(6) == 0 ? Below(4 * kStringChunk) : Below(50);
    return std::string(size, static_cast<char>('a' + Below(26)));
  }
  int64_t SomeExpiry() { return Below(3) == 0 ? keys_.now_ms() + static_cast<int64_t>(Below(200)) : 0; }

  void Append(const std::string& key) {
    const Entry entry = keys_.Find(key);
    if (entry && entry.type != Type::kString) return;
    OverwriteString(keys_, key, entry, entry.count, SomeBytes() + "x");
  }

  void ChangeElements(const std::string& key) {
    const Entry entry = keys_.Find(key);
    if (entry && entry.type != Type::kSet && entry.type != Type::kHash) return;
    const Type type = entry ? entry.type : Below(2) == 0 ? Type::kSet : Type::kHash;
    Elements elements(keys_, key, entry, type);
    for (uint64_t n = Below(100); n > 0; --n) {
      const std::string name = absl::StrCat("name", Below(300));
      if (Below(5) < 2) {
        elements.Erase(name);
      } else if (Below(20) == 0 && elements.size() > 0) {
        elements.Erase(elements.Random(random_()));
      } else {
        elements.Insert(name, type == Type::kHash ? absl::StrCat(Below(1000)) : "");
      }
    }
  }

  void ChangeSortedSet(const std::string& key) {
    const Entry entry = keys_.Find(key);
    if (entry && entry.type != Type::kZSet) return;
    SortedSet set(keys_, key, entry);
    for (uint64_t n = Below(100); n > 0; --n) {
      const std::string member = absl::StrCat("name", Below(300));
      if (Below(5) < 2) {
        set.Erase(member);
      } else if (Below(20) == 0 && set.size() > 0) {
        set.Erase(set.ByRank(Below(set.size()), set.size() - 1).front().member);
      } else {
        set.Insert(member, static_cast<double>(Below(50)) / 4 - 5);
      }
    }
  }

  void ChangeList(const std::string& key) {
    const Entry entry = keys_.Find(key);
    if (entry && entry.type != Type::kList) return;
    List list(keys_, key, entry);
    for (uint64_t n = Below(20); n > 0; --n) list.PushFront(absl::StrCat(Below(10)));
    for (uint64_t n = Below(10); n > 0; --n) list.PopBack();
    if (list.size() > 0) list.Remove(absl::StrCat(Below(10)), Below(3), Below(2) == 0);
    if (list.size() > 100) list.Trim(Below(50), list.size() - 1);
    list.Insert(Below(list.size() + 1), "inserted");
  }

  void Expire(const std::string& key) {
    Entry entry = keys_.Find(key);
    if (!entry) return;
    entry.expire_ms = SomeExpiry();
    keys_.Store(key, entry);
  }

  Keyspace& keys_;
  std::mt19937_64 random_;
};

}  // namespace

int64_t TimeOfTurn(uint64_t turn) { return 1'700'000'000'000 + static_cast<int64_t>(turn * 5 + turn % 4); }

void ApplyTurn(Keyspace& keys, uint32_t seed, uint64_t turn) {
  Turn steps(keys, (uint64_t{seed} << 32) + turn);
  for (uint64_t i = 0; i < 1 + turn % 9; ++i) {
    keys.SetNow(TimeOfTurn(turn));  // as before each command
    steps.Step();
  }
  WriteString(keys, "turn", absl::StrCat(turn), 0);
}

uint64_t LastTurn(Keyspace& keys) {
  uint64_t turn = 0;
  const std::string text = ReadString(keys, keys.Find("turn"));
  return absl::SimpleAtoi(text, &turn) ? turn : 0;
}

}  // namespace kvstore
