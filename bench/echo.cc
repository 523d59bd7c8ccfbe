// Echo of 64 bytes: latency over one connection, throughput and CPU over fifty.
#include <gflags/gflags.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "absl/strings/str_format.h"
#include "bench/bare_echo.h"
#include "bench/measure.h"
#include "bench/suites.h"
#include "glog/logging.h"

DEFINE_int32(echo1_rounds, 25, "echo1: rounds of standalone, pair and bare TCP");
DEFINE_int32(echo1_slice_ms, 150, "echo1: length of each of the three in a round");
DEFINE_int32(echo50_rounds, 10, "echo50: rounds of standalone and pair");
DEFINE_int32(echo50_slice_ms, 1000, "echo50: length of either in a round");
DEFINE_int32(connections, 50, "echo50: connections");

namespace understudy::bench {

namespace {

constexpr size_t kRequest = 64;

using Message = std::array<char, kRequest>;

// Many connections, each with one request under way, in one thread.
class EchoLoad {
 public:
  EchoLoad(lab::Namespace& where, const std::string& ip, int connections)
      : epoll_(epoll_create1(EPOLL_CLOEXEC)) {
    PCHECK(epoll_ >= 0);
    for (int i = 0; i < connections; ++i) {
      connections_.push_back({Connect(where, ip, lab::Lab::kServicePort, "ECHO\n"), {}, 0, 0});
      epoll_event event = {};
      event.events = EPOLLIN;
      event.data.u32 = static_cast<uint32_t>(i);
      PCHECK(epoll_ctl(epoll_, EPOLL_CTL_ADD, connections_.back().fd, &event) == 0);
    }
  }
  ~EchoLoad() {
    for (const Connection& connection : connections_) close(connection.fd);
    close(epoll_);
  }

  // Returns the requests answered within `span`; those still open then are waited for, uncounted.
  uint64_t RunFor(std::chrono::milliseconds span, Samples* latencies) {
    uint64_t answered = 0;
    OnClientThread([&] {
      const auto end = Clock::now() + span;
      for (Connection& connection : connections_) Ask(connection);
      size_t open = connections_.size();
      std::array<epoll_event, 64> events;
      while (open > 0) {
        const int count = epoll_wait(epoll_, events.data(), events.size(), 5000);
        CHECK_GT(count, 0) << "no answer within 5 s";
        for (int i = 0; i < count; ++i) {
          Connection& connection = connections_[events[static_cast<size_t>(i)].data.u32];
          if (!Answered(connection)) continue;
          const auto now = Clock::now();
          const bool over = now >= end;
          if (!over) {
            ++answered;
            latencies->Add(Microseconds(now - connection.asked));
            Ask(connection);
          } else {
            --open;
          }
        }
      }
    });
    return answered;
  }

 private:
  struct Connection {
    int fd;
    Clock::time_point asked;
    uint64_t number;
    size_t received;
    Message reply{};
  };

  void Ask(Connection& connection) {
    Message request;
    request.fill('r');
    ++connection.number;
    memcpy(request.data(), &connection.number, sizeof connection.number);
    connection.asked = Clock::now();
    connection.received = 0;
    SendAll(connection.fd, request.data(), kRequest);
  }

  bool Answered(Connection& connection) {
    const ssize_t size = recv(connection.fd, connection.reply.data() + connection.received,
                              kRequest - connection.received, MSG_DONTWAIT);
    if (size < 0 && errno == EAGAIN) return false;
    PCHECK(size > 0) << "recv";
    connection.received += static_cast<size_t>(size);
    if (connection.received < kRequest) return false;
    uint64_t number;
    memcpy(&number, connection.reply.data(), sizeof number);
    CHECK_EQ(number, connection.number) << "an echo that is none";
    return true;
  }

  int epoll_;
  std::vector<Connection> connections_;
};

}  // namespace

void EchoOne(Report& report) {
  auto standalone = Standalone::Start();
  LastingPair pair;
  BareEcho bare(pair.lab());
  const int plain = Connect(standalone->client(), standalone->ip(), lab::Lab::kServicePort, "ECHO\n");
  const auto connect = [&] {
    return Connect(pair.lab().client(), lab::Lab::kServiceIp, lab::Lab::kServicePort, "ECHO\n");
  };
  int replicated = connect();
  const std::chrono::milliseconds slice(FLAGS_echo1_slice_ms);
  Samples alone, paired, rtt, added, ratio;
  for (int i = 0; i < FLAGS_echo1_rounds;) {
    const Samples a = PingFor(plain, slice);
    const Samples b = PingFor(replicated, slice);
    const Samples c = PingFor(bare.client(), slice);
    if (!pair.Check()) {
      close(replicated);
      replicated = connect();
      continue;
    }
    ++i;
    alone.Add(a);
    paired.Add(b);
    rtt.Add(c);
    // Within a round, so that a change in the machine's other work falls on all three.
    added.Add(b.Median() - a.Median());
    ratio.Add((b.Median() - a.Median()) / c.Median());
  }
  close(plain);
  close(replicated);
  report.Row("echo 64 B, 1 connection: latency added", "≤ 1.5 × TCP round trip of the nodes",
             absl::StrFormat("%.2f × (%.0f µs added, round trip %.0f µs)", ratio.Median(), added.Median(),
                             rtt.Median()),
             ratio.Median() <= 1.5);
  report.Row("– latency, p50 / p99", "",
             absl::StrFormat("standalone %.0f / %.0f µs, pair %.0f / %.0f µs, bare TCP %.0f / %.0f µs",
                             alone.Median(), alone.Percentile(99), paired.Median(), paired.Percentile(99),
                             rtt.Median(), rtt.Percentile(99)));
  ReportLost(report, "echo1", pair);
  report.Value("echo1.added_over_rtt", ratio.Median());
  report.Value("echo1.added_us", added.Median());
  for (const auto& [name, samples] : {std::pair<std::string, const Samples*>{"standalone", &alone},
                                      {"pair", &paired},
                                      {"bare_tcp", &rtt}}) {
    report.Value("echo1." + name + ".p50_us", samples->Median());
    report.Value("echo1." + name + ".p99_us", samples->Percentile(99));
    report.Value("echo1." + name + ".samples", static_cast<double>(samples->size()));
  }
}

void EchoMany(Report& report) {
  auto standalone = Standalone::Start();
  LastingPair pair;
  EchoLoad plain(standalone->client(), standalone->ip(), FLAGS_connections);
  Samples warm_up, alone_latency, paired_latency;
  const auto connect = [&] {
    auto load = std::make_unique<EchoLoad>(pair.lab().client(), lab::Lab::kServiceIp, FLAGS_connections);
    load->RunFor(std::chrono::milliseconds(200), &warm_up);
    return load;
  };
  auto replicated = connect();
  const std::chrono::milliseconds slice(FLAGS_echo50_slice_ms);
  const double seconds = std::chrono::duration<double>(slice).count();
  plain.RunFor(std::chrono::milliseconds(200), &warm_up);
  Samples alone_rate, paired_rate, rate_ratio, alone_cpu, primary_cpu, secondary_cpu, cpu_ratio, idle;
  for (int i = 0; i < FLAGS_echo50_rounds;) {
    const pid_t primary = pair.primary(), secondary = pair.secondary();
    Samples a_latency, b_latency;
    const int64_t p0 = CpuNs(primary), s0 = CpuNs(secondary), a0 = CpuNs(standalone->pid());
    const auto a = static_cast<double>(plain.RunFor(slice, &a_latency));
    const int64_t p1 = CpuNs(primary), s1 = CpuNs(secondary), a1 = CpuNs(standalone->pid());
    const auto b = static_cast<double>(replicated->RunFor(slice, &b_latency));
    const int64_t p2 = CpuNs(primary), s2 = CpuNs(secondary);
    if (!pair.Check()) {
      replicated = connect();
      continue;
    }
    ++i;
    alone_latency.Add(a_latency);
    paired_latency.Add(b_latency);
    const auto us = [](int64_t ns, double requests) { return static_cast<double>(ns) / 1000 / requests; };
    alone_rate.Add(a / seconds);
    paired_rate.Add(b / seconds);
    rate_ratio.Add(b / a);
    alone_cpu.Add(us(a1 - a0, a));
    primary_cpu.Add(us(p2 - p1, b));
    secondary_cpu.Add(us(s2 - s1, b));
    cpu_ratio.Add(us(p2 - p1, b) / us(a1 - a0, a));
    // What the idle pair takes from the standalone server beside it.
    idle.Add(static_cast<double>(p1 - p0 + s1 - s0) / 1e7 / seconds);
  }
  const std::string what = absl::StrFormat("echo 64 B, %d connections", FLAGS_connections);
  report.Row(what + ": throughput", "≥ 0.6 × standalone",
             absl::StrFormat("%.2f × (%.1f k/s against %.1f k/s)", rate_ratio.Median(),
                             paired_rate.Median() / 1000, alone_rate.Median() / 1000),
             rate_ratio.Median() >= 0.6);
  report.Row(what + ": CPU of the primary per request", "≤ 1.5 × standalone",
             absl::StrFormat("%.2f × (%.1f µs against %.1f µs; the secondary %.1f µs)", cpu_ratio.Median(),
                             primary_cpu.Median(), alone_cpu.Median(), secondary_cpu.Median()),
             cpu_ratio.Median() <= 1.5);
  report.Row(
      "– latency, p50 / p99", "",
      absl::StrFormat("standalone %.0f / %.0f µs, pair %.0f / %.0f µs", alone_latency.Median(),
                      alone_latency.Percentile(99), paired_latency.Median(), paired_latency.Percentile(99)));
  ReportLost(report, "echo50", pair);
  report.Row("– CPU of an idle pair, both nodes", "",
             absl::StrFormat("%.1f %% of one processor", idle.Median()));
  report.Value("echo50.throughput_ratio", rate_ratio.Median());
  report.Value("echo50.standalone.requests_per_s", alone_rate.Median());
  report.Value("echo50.pair.requests_per_s", paired_rate.Median());
  report.Value("echo50.cpu_ratio", cpu_ratio.Median());
  report.Value("echo50.standalone.cpu_us", alone_cpu.Median());
  report.Value("echo50.primary.cpu_us", primary_cpu.Median());
  report.Value("echo50.secondary.cpu_us", secondary_cpu.Median());
  report.Value("echo50.standalone.p50_us", alone_latency.Median());
  report.Value("echo50.standalone.p99_us", alone_latency.Percentile(99));
  report.Value("echo50.pair.p50_us", paired_latency.Median());
  report.Value("echo50.pair.p99_us", paired_latency.Percentile(99));
  report.Value("idle.cpu_percent", idle.Median());
}

}  // namespace understudy::bench
