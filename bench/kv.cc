// The key-value store, alone and as a pair, beside Redis, alone and with a replica.
#include <gflags/gflags.h>

#include <algorithm>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/bare_echo.h"
#include "bench/kv_load.h"
#include "bench/kv_systems.h"
#include "bench/measure.h"
#include "bench/suites.h"
#include "glog/logging.h"

DEFINE_int32(kv_rounds, 8, "kv: rounds of all systems, every other one in the opposite order");
DEFINE_int32(kv_slice_ms, 1000, "kv: length of one system's turn, behind 0.3 s of warming up");
DEFINE_int32(kv1_rounds, 25, "kv1: rounds of standalone, pair and bare TCP");
DEFINE_int32(kv1_slice_ms, 150, "kv1: length of each of them in a round");
DEFINE_int32(kvmany_connections, 10'000, "kvmany: connections");
DECLARE_uint64(seed);

namespace understudy::bench {

namespace {

// When a system's turn comes its memory has left the processors' caches, and the scheduler may have all its
// processes on one of them: until that has settled, nothing is counted.
constexpr std::chrono::milliseconds kWarmUp{300};

// A system under one load.
struct Runner {
  std::string name;  // in the names of values; that of the system, or with the connections
  KvSystem* system;
  KvRequest what;
  KvLoadOptions options;
  std::unique_ptr<KvLoad> load;
  Samples rate, latency, cpu_serving, cpu_other;  // 1/s, µs, µs per request

  void ConnectAnew() {
    load.reset();
    load = std::make_unique<KvLoad>(system->lab().client(), system->ip(), lab::Lab::kServicePort, options);
    load->Fill();
    Samples unused;
    load->RunFor(
        what, {}, [] {}, kWarmUp, &unused);
  }
};

struct Turn {
  double rate = 0, cpu_serving = 0, cpu_other = 0;
  Samples latency;
};

Turn RunOnce(Runner& runner) {
  const std::vector<pid_t> pids = runner.system->processes();
  std::vector<int64_t> before;
  const auto begin = [&] {
    for (pid_t pid : pids) before.push_back(CpuNs(pid));
  };
  Turn turn;
  const auto answered = static_cast<double>(runner.load->RunFor(
      runner.what, kWarmUp, begin, std::chrono::milliseconds(FLAGS_kv_slice_ms), &turn.latency));
  turn.rate = answered / FLAGS_kv_slice_ms * 1000;
  for (size_t i = 0; i < pids.size(); ++i) {
    const double us = static_cast<double>(CpuNs(pids[i]) - before[i]) / 1000 / std::max(answered, 1.0);
    (i == 0 ? turn.cpu_serving : turn.cpu_other) += us;
  }
  return turn;
}

// All runners in turns, there and back: what else the machine does falls on all of them. A round in which a
// pair was none any more is thrown away.
void RunInTurns(std::vector<Runner*> runners) {
  for (Runner* runner : runners) runner->ConnectAnew();
  for (int round = 0; round < FLAGS_kv_rounds;) {
    std::map<Runner*, Turn> turns;
    for (Runner* runner : runners) turns[runner] = RunOnce(*runner);
    bool good = true;
    for (Runner* runner : runners) {
      if (runner->system->Check()) continue;
      good = false;
      for (Runner* other : runners) {
        if (other->system == runner->system) other->ConnectAnew();
      }
    }
    std::reverse(runners.begin(), runners.end());
    if (!good) continue;
    ++round;
    for (Runner* runner : runners) {
      const Turn& turn = turns[runner];
      runner->rate.Add(turn.rate);
      runner->cpu_serving.Add(turn.cpu_serving);
      runner->cpu_other.Add(turn.cpu_other);
      runner->latency.Add(turn.latency);
    }
  }
}

// Median over the rounds of one's rate over the other's.
double RatioOf(const Samples& rates, const Samples& to) {
  Samples ratios;
  for (size_t i = 0; i < rates.size(); ++i) ratios.Add(rates.values()[i] / to.values()[i]);
  return ratios.Median();
}

void AddRatio(Report& report, const std::string& suite, const std::string& figure, const Runner& runner,
              const Runner& to, double reach) {
  const double ratio = RatioOf(runner.rate, to.rate);
  report.Row(figure, absl::StrFormat("≥ %.1f", reach),
             absl::StrFormat("%.2f (%.1f k/s against %.1f k/s)", ratio, runner.rate.Median() / 1000,
                             to.rate.Median() / 1000),
             ratio >= reach);
  report.Value(absl::StrCat(suite, ".", runner.name, "_over_", to.name), ratio);
}

void AddDetails(Report& report, const std::string& suite, const Runner& runner) {
  std::string cpu = absl::StrFormat("CPU %.2f µs", runner.cpu_serving.Median());
  if (runner.system->processes().size() > 1) {
    absl::StrAppend(&cpu, absl::StrFormat(" + %.2f µs", runner.cpu_other.Median()));
  }
  report.Row(
      absl::StrCat("– ", runner.name), "",
      absl::StrFormat("%.1f k/s; p50 / p99 %.0f / %.0f µs; %s per request", runner.rate.Median() / 1000,
                      runner.latency.Median(), runner.latency.Percentile(99), cpu));
  const std::string name = absl::StrCat(suite, ".", runner.name, ".");
  report.Value(name + "requests_per_s", runner.rate.Median());
  report.Value(name + "p50_us", runner.latency.Median());
  report.Value(name + "p99_us", runner.latency.Percentile(99));
  report.Value(name + "cpu_us", runner.cpu_serving.Median());
  report.Value(name + "cpu_other_us", runner.cpu_other.Median());
}

Runner MakeRunner(KvSystem& system, KvRequest what, int connections, int pipeline, std::string name = "") {
  return {name.empty() ? system.name() : std::move(name),
          &system,
          what,
          {connections, pipeline, FLAGS_seed},
          nullptr,
          {},
          {},
          {},
          {}};
}

void ReportLostOf(Report& report, const std::string& suite, const KvSystem& system) {
  report.Value(suite + ".pairs_lost", system.lost());
  if (system.lost() > 0) {
    report.Row("– rounds not counted: a takeover without a fault", "", absl::StrCat(system.lost()));
  }
}

}  // namespace

void KvSet(Report& report) {
  const auto standalone = KvStandalone(), pair = KvPair(), redis = RedisAlone(), waiting = RedisReplicated();
  Runner a = MakeRunner(*standalone, KvRequest::kSet, 50, 1), p = MakeRunner(*pair, KvRequest::kSet, 50, 1),
         r = MakeRunner(*redis, KvRequest::kSet, 50, 1), w = MakeRunner(*waiting, KvRequest::kSetWait, 50, 1);
  RunInTurns({&a, &p, &r, &w});
  AddRatio(report, "kvset", "SET, 50 connections: pair / redis with WAIT", p, w, 1.5);
  AddRatio(report, "kvset", "SET, 50 connections: pair / bare redis", p, r, 0.8);
  for (const Runner* runner : {&a, &p, &r, &w}) AddDetails(report, "kvset", *runner);
  ReportLostOf(report, "kvset", *pair);
}

void KvGet(Report& report) {
  const auto standalone = KvStandalone(), pair = KvPair(), redis = RedisAlone();
  Runner a = MakeRunner(*standalone, KvRequest::kGet, 50, 1), p = MakeRunner(*pair, KvRequest::kGet, 50, 1),
         r = MakeRunner(*redis, KvRequest::kGet, 50, 1);
  RunInTurns({&a, &p, &r});
  AddRatio(report, "kvget", "GET, 50 connections: pair / bare redis", p, r, 0.8);
  for (const Runner* runner : {&a, &p, &r}) AddDetails(report, "kvget", *runner);
  ReportLostOf(report, "kvget", *pair);
}

void KvPipeline(Report& report) {
  const auto standalone = KvStandalone(), pair = KvPair(), redis = RedisAlone(), waiting = RedisReplicated();
  Runner a = MakeRunner(*standalone, KvRequest::kSet, 50, 16), p = MakeRunner(*pair, KvRequest::kSet, 50, 16),
         r = MakeRunner(*redis, KvRequest::kSet, 50, 16),
         w = MakeRunner(*waiting, KvRequest::kSetWait, 50, 16);
  RunInTurns({&a, &p, &r, &w});
  AddRatio(report, "kvpipe", "SET, 50 connections, pipeline of 16: pair / bare redis", p, r, 0.5);
  for (const Runner* runner : {&a, &p, &r, &w}) AddDetails(report, "kvpipe", *runner);
  ReportLostOf(report, "kvpipe", *pair);
}

void KvMany(Report& report) {
  const auto pair = KvPair(), redis = RedisAlone();
  const int many = FLAGS_kvmany_connections;
  Runner few_p = MakeRunner(*pair, KvRequest::kSet, 50, 1, "pair_50"),
         many_p = MakeRunner(*pair, KvRequest::kSet, many, 1, absl::StrCat("pair_", many)),
         few_r = MakeRunner(*redis, KvRequest::kSet, 50, 1, "redis_50"),
         many_r = MakeRunner(*redis, KvRequest::kSet, many, 1, absl::StrCat("redis_", many));
  // One after the other: a process may not have all these descriptors at once everywhere.
  RunInTurns({&few_p, &many_p});
  few_p.load.reset();
  many_p.load.reset();
  RunInTurns({&few_r, &many_r});
  AddRatio(report, "kvmany", absl::StrCat("SET, pair: ", many, " connections / 50"), many_p, few_p, 0.8);
  for (const Runner* runner : {&few_p, &many_p, &few_r, &many_r}) AddDetails(report, "kvmany", *runner);
  ReportLostOf(report, "kvmany", *pair);
}

void KvOne(Report& report) {
  const auto standalone = KvStandalone(), pair = KvPair(), redis = RedisAlone();
  BareEcho bare(pair->lab());
  const auto connect = [](KvSystem& system) {
    return Connect(system.lab().client(), system.ip(), lab::Lab::kServicePort, "");
  };
  const int alone_fd = connect(*standalone), redis_fd = connect(*redis);
  int pair_fd = connect(*pair);
  std::string request, reply;
  const auto ask = [&](int fd) {
    return AskFor(
        fd, std::chrono::milliseconds(FLAGS_kv1_slice_ms),
        [&](uint64_t i) -> std::string_view {
          return request = KvRequestBytes(KvRequest::kSet, static_cast<uint32_t>(i % 1000));
        },
        [&](uint64_t) -> std::string_view { return reply = KvReplyBytes(KvRequest::kSet, 0); });
  };
  Samples alone, paired, other, rtt, added, ratio;
  for (int i = 0; i < FLAGS_kv1_rounds;) {
    const Samples a = ask(alone_fd), p = ask(pair_fd), r = ask(redis_fd);
    const Samples t = PingFor(bare.client(), std::chrono::milliseconds(FLAGS_kv1_slice_ms));
    if (!pair->Check()) {
      pair_fd = connect(*pair);  // the old one goes with its lab's pair
      continue;
    }
    ++i;
    alone.Add(a), paired.Add(p), other.Add(r), rtt.Add(t);
    added.Add(p.Median() - a.Median());
    ratio.Add((p.Median() - a.Median()) / t.Median());
  }
  report.Row("SET, 1 connection: latency added to standalone", "≤ 1.5 × TCP round trip of the nodes",
             absl::StrFormat("%.2f × (%.0f µs added, round trip %.0f µs)", ratio.Median(), added.Median(),
                             rtt.Median()),
             ratio.Median() <= 1.5);
  for (const auto& [name, samples] : {std::pair<std::string, const Samples*>{"standalone", &alone},
                                      {"pair", &paired},
                                      {"redis", &other},
                                      {"bare_tcp", &rtt}}) {
    report.Row(absl::StrCat("– ", name), "",
               absl::StrFormat("p50 / p99 %.0f / %.0f µs", samples->Median(), samples->Percentile(99)));
    report.Value(absl::StrCat("kv1.", name, ".p50_us"), samples->Median());
    report.Value(absl::StrCat("kv1.", name, ".p99_us"), samples->Percentile(99));
  }
  report.Value("kv1.added_over_rtt", ratio.Median());
  ReportLostOf(report, "kv1", *pair);
}

}  // namespace understudy::bench
