// Random operations on a keyspace and on a model of it in plain containers, compared all the time.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <map>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "apps/kvstore/store/digest.h"
#include "apps/kvstore/store/elements.h"
#include "apps/kvstore/store/list.h"
#include "apps/kvstore/store/sorted_set.h"
#include "apps/kvstore/store/store_for_test.h"
#include "apps/kvstore/store/string_value.h"

namespace kvstore {
namespace {

struct ModelKey {
  Type type = Type::kNone;
  int64_t expire_ms = 0;
  std::string string;
  std::map<std::string, std::string> elements;  // of a hash; of a set: to nothing
  std::deque<std::string> list;
  std::map<std::string, double> scores;  // of a sorted set
};

using Model = std::map<std::string, ModelKey>;

class ModelTest {
 public:
  // `names`: as many different elements; with many, there are many changes at once.
  ModelTest(uint32_t seed, size_t cache_bytes, uint64_t names, std::chrono::milliseconds write_behind)
      : random_(seed), store_(cache_bytes, nullptr, write_behind), names_(names) {
    keys().SetNow(now_);
  }

  void Run(int steps) {
    for (int i = 0; i < steps; ++i) {
      const std::string key = SomeKey();
      Step(key);
      CheckKey(key);
      if (Chance(20)) CheckAll();
      if (testing::Test::HasFatalFailure() || testing::Test::HasNonfatalFailure()) return;
    }
    CheckAll();
    CheckNothingIsLeft();
  }

 private:
  Keyspace& keys() { return store_.keys(); }
  uint64_t Below(uint64_t limit) { return std::uniform_int_distribution<uint64_t>(0, limit - 1)(random_); }
  bool Chance(uint64_t one_in) { return Below(one_in) == 0; }

  std::string SomeKey() { return absl::StrCat("key", Below(16)); }
  std::string SomeName() {
    return Chance(10) ? std::string("\0\xff", 2) : absl::StrCat("name", Below(names_));
  }
  // Often short, sometimes of several chunks, and around the limits.
  std::string SomeBytes() {
    static constexpr size_t kSizes[] = {
        0, 1, 20, kInlineString, kInlineString + 1, kStringChunk, 3 * kStringChunk};
    const size_t size = Chance(4) ? kSizes[Below(std::size(kSizes))] : Below(40);
    return std::string(size, static_cast<char>('a' + Below(26)));
  }
  std::string SomeElement() { return absl::StrCat("value", Below(6)); }
  int64_t SomeExpiry() { return Chance(3) ? now_ + static_cast<int64_t>(Below(60)) : 0; }

  bool IsExpired(const ModelKey& key) const { return key.expire_ms != 0 && now_ > key.expire_ms; }
  ModelKey* Find(const std::string& key) {
    const auto found = model_.find(key);
    return found == model_.end() ? nullptr : &found->second;
  }

  void Step(const std::string& key) {
    switch (Below(16)) {
      case 0: return WriteWhole(key);
      case 1: return Overwrite(key);
      case 2: return ReadRange(key);
      case 3:
      case 4: return ChangeElement(key);
      case 5:
      case 6: return ChangeList(key);
      case 7: return ChangeListInside(key);
      case 8: return Remove(key);
      case 9: return RenameOrCopy(key, SomeKey());
      case 10: return Expire(key);
      case 11: return PassTime();
      case 12: return Commit();
      case 13: return Chance(20) ? Clear() : PickRandom();
      case 14:
      case 15: return ChangeSortedSet(key);
    }
  }

  void WriteWhole(const std::string& key) {
    const std::string value = SomeBytes();
    const int64_t expire_ms = SomeExpiry();
    WriteString(keys(), key, value, expire_ms);
    ModelKey& model = model_[key] = {};
    model.type = Type::kString;
    model.expire_ms = expire_ms;
    model.string = value;
  }

  void Overwrite(const std::string& key) {
    const Entry entry = keys().Find(key);
    if (entry && entry.type != Type::kString) return;
    std::string bytes = SomeBytes();
    if (bytes.empty()) bytes = "x";
    const uint64_t offset = Chance(3) ? entry.count : Below(Chance(3) ? 5 * kStringChunk : 100);
    const uint64_t length = OverwriteString(keys(), key, entry, offset, bytes);
    ModelKey& model = model_[key];
    model.type = Type::kString;
    if (model.string.size() < offset + bytes.size()) model.string.resize(offset + bytes.size());
    model.string.replace(offset, bytes.size(), bytes);
    EXPECT_EQ(length, model.string.size());
  }

  void ReadRange(const std::string& key) {
    const ModelKey* model = Find(key);
    if (model == nullptr || model->type != Type::kString) return;
    const Entry entry = keys().Find(key);
    ASSERT_EQ(entry.count, model->string.size());
    const uint64_t offset = Below(entry.count + 1);
    const uint64_t length = Below(entry.count - offset + 1);
    std::string out = "before";
    ReadString(keys(), entry, offset, length, &out);
    EXPECT_TRUE(out == "before" + model->string.substr(offset, length)) << offset << ", " << length;
  }

  void ChangeElement(const std::string& key) {
    const Entry entry = keys().Find(key);
    if (entry && entry.type != Type::kSet && entry.type != Type::kHash) return;
    const Type type = entry ? entry.type : Chance(2) ? Type::kSet : Type::kHash;
    Elements elements(keys(), key, entry, type);
    const bool shrinks = Chance(3);
    for (uint64_t n = 1 + Below(names_ / 5); n > 0; --n) {
      ModelKey& model = model_[key];
      model.type = type;
      const std::string name = SomeName();
      EXPECT_EQ(elements.Contains(name), model.elements.contains(name));
      if (Chance(6) != shrinks) {
        EXPECT_EQ(elements.Erase(name), model.elements.erase(name) > 0);
      } else {
        const std::string value = type == Type::kSet ? "" : names_ > 100 ? SomeElement() : SomeBytes();
        EXPECT_EQ(elements.Insert(name, value), !model.elements.contains(name));
        model.elements[name] = value;
      }
      EXPECT_EQ(elements.size(), model.elements.size());
      if (model.elements.empty()) model_.erase(key);
    }
  }

  void ChangeSortedSet(const std::string& key) {
    const Entry entry = keys().Find(key);
    if (entry && entry.type != Type::kZSet) return;
    SortedSet set(keys(), key, entry);
    const bool shrinks = Chance(3);
    for (uint64_t n = 1 + Below(names_ / 5); n > 0; --n) {
      ModelKey& model = model_[key];
      model.type = Type::kZSet;
      const std::string name = SomeName();
      const auto known = model.scores.find(name);
      EXPECT_EQ(set.Score(name), known == model.scores.end() ? std::nullopt : std::optional(known->second));
      if (Chance(6) != shrinks) {
        EXPECT_EQ(set.Erase(name), model.scores.erase(name) > 0);
      } else {
        const double score = static_cast<double>(Below(20)) / 4 - 2;
        EXPECT_EQ(set.Insert(name, score), known == model.scores.end());
        model.scores[name] = score;
      }
      EXPECT_EQ(set.size(), model.scores.size());
      if (model.scores.empty()) model_.erase(key);
    }
  }

  void ChangeList(const std::string& key) {
    const Entry entry = keys().Find(key);
    if (entry && entry.type != Type::kList) return;
    List list(keys(), key, entry);
    for (uint64_t n = 1 + Below(8); n > 0; --n) {
      ModelKey& model = model_[key];
      model.type = Type::kList;
      const std::string value = SomeElement();
      const bool front = Chance(2);
      if (Chance(3)) {
        const std::optional<std::string> popped = front ? list.PopFront() : list.PopBack();
        if (model.list.empty()) {
          EXPECT_FALSE(popped.has_value());
        } else {
          EXPECT_EQ(popped, front ? model.list.front() : model.list.back());
          front ? model.list.pop_front() : model.list.pop_back();
        }
      } else if (front) {
        list.PushFront(value);
        model.list.push_front(value);
      } else {
        list.PushBack(value);
        model.list.push_back(value);
      }
      EXPECT_EQ(list.size(), model.list.size());
      if (model.list.empty()) model_.erase(key);
    }
  }

  void ChangeListInside(const std::string& key) {
    ModelKey* model = Find(key);
    if (model == nullptr || model->type != Type::kList) return;
    List list(keys(), key, keys().Find(key));
    const uint64_t size = model->list.size();
    ASSERT_EQ(list.size(), size);
    const uint64_t index = Below(size);
    const auto here = model->list.begin() + static_cast<int64_t>(index);
    const std::string value = SomeElement();
    switch (Below(5)) {
      case 0:
        list.Set(index, value);
        *here = value;
        break;
      case 1:
        list.Insert(index, value);
        model->list.insert(here, value);
        break;
      case 2:
        for (int i = 0; i < 100; ++i) {
          list.Insert(list.size(), absl::StrCat(i));
          model->list.push_back(absl::StrCat(i));
        }
        break;
      case 3: {
        const uint64_t last = index + Below(std::min<uint64_t>(size - index, 8));
        list.Trim(index, last);
        model->list = std::deque<std::string>(here, model->list.begin() + static_cast<int64_t>(last) + 1);
        break;
      }
      case 4: {
        const uint64_t count = Below(3);
        const bool from_back = Chance(2);
        const uint64_t removed = RemoveFromModel(&model->list, value, count, from_back);
        EXPECT_EQ(list.Remove(value, count, from_back), removed);
        break;
      }
    }
    EXPECT_EQ(list.size(), model->list.size());
    if (model->list.empty()) model_.erase(key);
  }

  static uint64_t RemoveFromModel(std::deque<std::string>* list, const std::string& value, uint64_t count,
                                  bool from_back) {
    uint64_t removed = 0;
    if (from_back) std::reverse(list->begin(), list->end());
    for (auto at = list->begin(); at != list->end() && (count == 0 || removed < count);) {
      if (*at != value) {
        ++at;
      } else {
        at = list->erase(at);
        ++removed;
      }
    }
    if (from_back) std::reverse(list->begin(), list->end());
    return removed;
  }

  void Remove(const std::string& key) { EXPECT_EQ(keys().Remove(key), model_.erase(key) > 0); }

  void RenameOrCopy(const std::string& from, const std::string& to) {
    if (Find(from) == nullptr) return;
    if (Chance(2)) {
      keys().Rename(from, to);
      if (from == to) return;
      model_[to] = model_[from];
      model_.erase(from);
    } else {
      keys().Copy(from, to);
      model_[to] = ModelKey(model_[from]);
    }
  }

  void Expire(const std::string& key) {
    Entry entry = keys().Find(key);
    if (!entry) return;
    entry.expire_ms = SomeExpiry();
    keys().Store(key, entry);
    model_[key].expire_ms = entry.expire_ms;
  }

  void PassTime() {
    now_ += static_cast<int64_t>(Chance(10) ? Below(1000) : Below(10));
    keys().SetNow(now_);
    DropExpired();
  }
  void DropExpired() {
    std::erase_if(model_, [this](const auto& each) { return IsExpired(each.second); });
  }

  void Commit() {
    ASSERT_TRUE(keys().Commit().ok());
    if (Chance(10)) store_.Reopen();
  }

  void Clear() {
    keys().Clear();
    model_.clear();
  }

  void PickRandom() {
    const std::optional<std::string> picked = keys().Random(random_());
    EXPECT_EQ(picked.has_value(), !model_.empty());
    if (picked) {
      EXPECT_NE(Find(*picked), nullptr) << *picked;
    }
  }

  void CheckKey(const std::string& key) {
    const Entry entry = keys().Find(key);
    const ModelKey* model = Find(key);
    ASSERT_EQ(static_cast<bool>(entry), model != nullptr) << key;
    if (model == nullptr) return;
    ASSERT_EQ(entry.type, model->type) << key;
    EXPECT_EQ(entry.expire_ms, model->expire_ms) << key;
    switch (entry.type) {
      case Type::kString: EXPECT_TRUE(ReadString(keys(), entry) == model->string) << key; return;
      case Type::kList: return CheckList(key, entry, *model);
      case Type::kZSet: return CheckSortedSet(key, entry, *model);
      default: return CheckElements(key, entry, *model);
    }
  }

  void CheckList(const std::string& key, const Entry& entry, const ModelKey& model) {
    List list(keys(), key, entry);
    ASSERT_EQ(list.size(), model.list.size());
    std::deque<std::string> values;
    const uint64_t first = Below(list.size());
    const uint64_t last = first + Below(list.size() - first);
    list.ForRange(first, last, [&](std::string_view value) { values.emplace_back(value); });
    EXPECT_TRUE(std::equal(values.begin(), values.end(), model.list.begin() + static_cast<int64_t>(first),
                           model.list.begin() + static_cast<int64_t>(last) + 1));
    const uint64_t index = Below(list.size());
    EXPECT_EQ(list.At(index), model.list[index]);
  }

  void CheckSortedSet(const std::string& key, const Entry& entry, const ModelKey& model) {
    SortedSet set(keys(), key, entry);
    ASSERT_EQ(set.size(), model.scores.size());
    std::vector<ScoredMember> all;
    for (const auto& [member, score] : model.scores) all.push_back({member, score});
    std::sort(all.begin(), all.end());
    const uint64_t first = Below(all.size());
    const uint64_t last = first + Below(all.size() - first);
    const auto begin = all.begin() + static_cast<int64_t>(first);
    const std::vector<ScoredMember> range(begin, all.begin() + static_cast<int64_t>(last) + 1);
    EXPECT_EQ(set.ByRank(first, last), range);
    const auto place = [](const ScoredMember& each) { return SortedSet::Place::At(each.score, each.member); };
    EXPECT_EQ(set.CountBefore(place(all[first])), first);
    std::vector<ScoredMember> backwards;
    set.ForRange(place(all[first]), SortedSet::Place::End(), true,
                 [&](std::string_view member, double score) {
                   backwards.push_back({std::string(member), score});
                   return true;
                 });
    EXPECT_EQ(backwards, std::vector<ScoredMember>(all.rbegin(), all.rend() - static_cast<int64_t>(first)));
    EXPECT_TRUE(model.scores.contains(set.Random(random_())));
  }

  void CheckElements(const std::string& key, const Entry& entry, const ModelKey& model) {
    Elements elements(keys(), key, entry, model.type);
    ASSERT_EQ(elements.size(), model.elements.size());
    std::map<std::string, std::string> found;
    const auto collect = [&](std::string_view name, std::string_view value) {
      EXPECT_TRUE(found.emplace(name, value).second) << "twice";
    };
    elements.ForEach(collect);
    EXPECT_EQ(found, model.elements);
    found.clear();
    uint64_t cursor = 0;
    do cursor = elements.Scan(cursor, 1 + Below(30), collect);
    while (cursor != 0);
    EXPECT_EQ(found, model.elements);
    EXPECT_TRUE(model.elements.contains(elements.Random(random_())));
  }

  void CheckAll() {
    EXPECT_EQ(keys().size(), model_.size());
    EXPECT_EQ(keys().expiring(), std::count_if(model_.begin(), model_.end(),
                                               [](const auto& each) { return each.second.expire_ms != 0; }));
    std::set<std::string> scanned;
    uint64_t cursor = 0;
    do {
      cursor = keys().Scan(cursor, 1 + Below(5), [&](std::string_view key, const Entry& entry) {
        EXPECT_TRUE(scanned.emplace(key).second) << key << " twice";
        const ModelKey* model = Find(std::string(key));
        ASSERT_NE(model, nullptr) << key;
        EXPECT_EQ(entry.type, model->type);
      });
    } while (cursor != 0);
    EXPECT_EQ(scanned.size(), model_.size());
    EXPECT_TRUE(keys().table().status().ok()) << keys().table().status();
  }

  // The records are those of the keys, and no others.
  void CheckNothingIsLeft() {
    now_ += 5000;
    keys().SetNow(now_);
    for (int i = 0; i < 100; ++i) keys().SetNow(now_);
    DropExpired();
    const auto records = store_.RecordsWithoutGarbage();
    size_t parts = 0;
    for (const auto& [key, model] : model_) {
      const Entry entry = keys().Find(key);
      parts += model.list.size() + model.elements.size() + 2 * model.scores.size();
      if (entry.fenced) parts += entry.type == Type::kZSet ? 2 : 1;
      if (entry.type != Type::kString || entry.id == 0) continue;
      for (uint64_t i = 0; i * kStringChunk < entry.count; ++i) {
        EXPECT_TRUE(keys().table().Get(keys().PartKey(entry.id, i)).has_value());
        ++parts;
      }
    }
    EXPECT_EQ(CountKind(records, 'K'), model_.size());
    EXPECT_EQ(CountKind(records, 'P'), parts);
    EXPECT_EQ(CountKind(records, 'X'), 0u);
    EXPECT_EQ(CountKind(records, 'G'), 0u);
    EXPECT_EQ(CountKind(records, 'O'), 0u);
    EXPECT_EQ(records.size(), model_.size() + parts + 4);  // the counters, three fences
  }

  std::mt19937_64 random_;
  TestStore store_;
  const uint64_t names_;
  Model model_;
  int64_t now_ = 1'700'000'000'000;
};

TEST(StoreModelTest, DoesWhatAModelDoes) {
  const char* fixed = std::getenv("UNDERSTUDY_TEST_SEED");
  const uint32_t base =
      fixed != nullptr ? static_cast<uint32_t>(std::strtoul(fixed, nullptr, 10)) : std::random_device()();
  const uint32_t runs = fixed != nullptr ? 1 : 24;
  std::cout << "UNDERSTUDY_TEST_SEED=" << base << " and the " << runs - 1 << " after it" << std::endl;
  for (uint32_t seed = base; seed != base + runs; ++seed) {
    SCOPED_TRACE(absl::StrCat("repeat with UNDERSTUDY_TEST_SEED=", seed));
    // A small cache, so that records come and go; with a large one everything stays.
    const size_t cache = seed % 3 == 0 ? size_t{16} << 20 : 20'000;
    const uint64_t names = seed % 4 == 0 ? 400 : 30;
    const std::chrono::milliseconds write_behind(seed % 2);
    ModelTest(seed, cache, names, write_behind).Run(1500);
    if (testing::Test::HasFailure()) return;
  }
}

}  // namespace
}  // namespace kvstore
