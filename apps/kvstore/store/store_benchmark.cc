// What the store's operations cost, commits included:
//   bazel run --config=opt //apps/kvstore/store:store_benchmark
#include <cstdint>
#include <random>
#include <string>

#include "apps/kvstore/store/elements.h"
#include "apps/kvstore/store/list.h"
#include "apps/kvstore/store/store_for_test.h"
#include "apps/kvstore/store/string_value.h"
#include "benchmark/benchmark.h"
#include "glog/logging.h"

namespace kvstore {
namespace {

constexpr uint64_t kKeys = 100'000;
constexpr size_t kCache = size_t{64} << 20;
// So many commands are in one turn of a loop with 50 clients, about.
constexpr uint64_t kPerCommit = 30;
constexpr int64_t kNow = 1'700'000'000'000;

class Bench {
 public:
  explicit Bench(size_t cache_bytes = kCache) : store_(cache_bytes) { keys().SetNow(kNow); }

  Keyspace& keys() { return store_.keys(); }
  const std::string& SomeKey() {
    key_.resize(4);
    key_ += std::to_string(random_() % kKeys);
    return key_;
  }
  void CountCommand() {
    if (++commands_ % kPerCommit == 0) Commit();
  }
  void Commit() {
    const bool committed = keys().Commit().ok();
    CHECK(committed);
  }
  void FillStrings(size_t size) {
    const std::string value(size, 'v');
    for (uint64_t i = 0; i < kKeys; ++i) {
      WriteString(keys(), "key:" + std::to_string(i), value, 0);
      CountCommand();
    }
  }

 private:
  TestStore store_;
  std::string key_ = "key:";
  std::mt19937_64 random_{1};
  uint64_t commands_ = 0;
};

void BM_Set(benchmark::State& state) {
  Bench bench;
  const std::string value(static_cast<size_t>(state.range(0)), 'v');
  for (auto _ : state) {
    WriteString(bench.keys(), bench.SomeKey(), value, 0);
    bench.CountCommand();
  }
}
BENCHMARK(BM_Set)->Arg(3)->Arg(64)->Arg(1024);

void BM_Get(benchmark::State& state) {
  Bench bench(static_cast<size_t>(state.range(1)));
  bench.FillStrings(static_cast<size_t>(state.range(0)));
  for (auto _ : state) benchmark::DoNotOptimize(bench.keys().Find(bench.SomeKey()));
}
BENCHMARK(BM_Get)->Args({3, kCache})->Args({1024, 16 << 20});

void BM_SetWithExpiry(benchmark::State& state) {
  Bench bench;
  int64_t now = kNow;
  for (auto _ : state) {
    bench.keys().SetNow(++now / 8);
    WriteString(bench.keys(), bench.SomeKey(), "value", now / 8 + 1000);
    bench.CountCommand();
  }
}
BENCHMARK(BM_SetWithExpiry);

void BM_ListPush(benchmark::State& state) {
  Bench bench;
  for (auto _ : state) {
    List(bench.keys(), "list", bench.keys().Find("list")).PushFront("value");
    bench.CountCommand();
  }
}
BENCHMARK(BM_ListPush);

void BM_ListPushPop(benchmark::State& state) {
  Bench bench;
  for (auto _ : state) {
    List(bench.keys(), "list", bench.keys().Find("list")).PushFront("value");
    bench.CountCommand();
    benchmark::DoNotOptimize(List(bench.keys(), "list", bench.keys().Find("list")).PopBack());
    bench.CountCommand();
  }
}
BENCHMARK(BM_ListPushPop);

void BM_ListRange100(benchmark::State& state) {
  Bench bench(static_cast<size_t>(state.range(0)));
  for (int i = 0; i < 100; ++i) List(bench.keys(), "list", bench.keys().Find("list")).PushFront("value");
  bench.Commit();
  size_t bytes = 0;
  for (auto _ : state) {
    List(bench.keys(), "list", bench.keys().Find("list")).ForRange(0, 99, [&](std::string_view value) {
      bytes += value.size();
    });
  }
  benchmark::DoNotOptimize(bytes);
}
BENCHMARK(BM_ListRange100)->Arg(kCache)->Arg(0);

void BM_SetAdd(benchmark::State& state) {
  Bench bench;
  for (auto _ : state) {
    Elements(bench.keys(), "set", bench.keys().Find("set"), Type::kSet).Insert(bench.SomeKey());
    bench.CountCommand();
  }
}
BENCHMARK(BM_SetAdd);

void BM_SetPop(benchmark::State& state) {
  Bench bench;
  const auto set = [&] { return Elements(bench.keys(), "set", bench.keys().Find("set"), Type::kSet); };
  std::mt19937_64 random{2};
  for (auto _ : state) {
    if (set().size() == 0) {
      state.PauseTiming();
      for (uint64_t i = 0; i < kKeys; ++i) set().Insert(std::to_string(i));
      bench.Commit();
      state.ResumeTiming();
    }
    Elements elements = set();
    elements.Erase(elements.Random(random()));
    bench.CountCommand();
  }
}
BENCHMARK(BM_SetPop);

void BM_HashSet(benchmark::State& state) {
  Bench bench;
  for (auto _ : state) {
    Elements(bench.keys(), "hash", bench.keys().Find("hash"), Type::kHash).Insert(bench.SomeKey(), "value");
    bench.CountCommand();
  }
}
BENCHMARK(BM_HashSet);

// HGETALL of many small hashes, between changes.
void BM_HashGetAll10(benchmark::State& state) {
  Bench bench;
  for (uint64_t i = 0; i < 10 * 1000; ++i) {
    const std::string key = "hash" + std::to_string(i % 1000);
    Elements(bench.keys(), key, bench.keys().Find(key), Type::kHash).Insert(bench.SomeKey(), "value");
  }
  bench.Commit();
  size_t bytes = 0;
  uint64_t turn = 0;
  for (auto _ : state) {
    const std::string key = "hash" + std::to_string(++turn % 1000);
    if (turn % 10 == 0) WriteString(bench.keys(), "counter", std::to_string(turn), 0);
    Elements(bench.keys(), key, bench.keys().Find(key), Type::kHash)
        .ForEach([&](std::string_view name, std::string_view) { bytes += name.size(); });
    bench.CountCommand();
  }
  benchmark::DoNotOptimize(bytes);
}
BENCHMARK(BM_HashGetAll10);

void BM_SetLarge(benchmark::State& state) {
  Bench bench;
  const std::string value(static_cast<size_t>(state.range(0)), 'v');
  for (auto _ : state) {
    WriteString(bench.keys(), "large", value, 0);
    bench.Commit();
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_SetLarge)->Arg(100 << 10)->Arg(20 << 20);

void BM_GetLarge(benchmark::State& state) {
  Bench bench;
  WriteString(bench.keys(), "large", std::string(static_cast<size_t>(state.range(0)), 'v'), 0);
  bench.Commit();
  for (auto _ : state) {
    std::string out;
    ReadString(bench.keys(), bench.keys().Find("large"), 0, static_cast<uint64_t>(state.range(0)), &out);
    benchmark::DoNotOptimize(out);
  }
  state.SetBytesProcessed(state.iterations() * state.range(0));
}
BENCHMARK(BM_GetLarge)->Arg(100 << 10)->Arg(20 << 20);

void BM_AppendToLarge(benchmark::State& state) {
  Bench bench;
  WriteString(bench.keys(), "large", std::string(1 << 20, 'v'), 0);
  for (auto _ : state) {
    const Entry entry = bench.keys().Find("large");
    OverwriteString(bench.keys(), "large", entry, entry.count, "0123456789");
    bench.Commit();
  }
}
BENCHMARK(BM_AppendToLarge);

// Deleting a large set, and what its parts cost in the commits after.
void BM_DeleteSet100k(benchmark::State& state) {
  Bench bench;
  for (auto _ : state) {
    state.PauseTiming();
    for (uint64_t i = 0; i < kKeys; ++i) {
      Elements(bench.keys(), "set", bench.keys().Find("set"), Type::kSet).Insert(std::to_string(i));
    }
    bench.Commit();
    state.ResumeTiming();
    bench.keys().Remove("set");
    for (uint64_t i = 0; i < kKeys / 128 + 2; ++i) bench.Commit();
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kKeys));
}
BENCHMARK(BM_DeleteSet100k)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace kvstore

BENCHMARK_MAIN();
