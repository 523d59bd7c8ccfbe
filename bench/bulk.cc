// One large upload to a server that reads and counts, one large download from one that generates.
#include <gflags/gflags.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "bench/measure.h"
#include "bench/suites.h"
#include "glog/logging.h"
#include "tests/apps/pattern.h"

DEFINE_int32(bulk_mib, 512, "bulk: size of one transfer");
DEFINE_int32(bulk_rounds, 4, "bulk: rounds of standalone and pair");
DEFINE_string(bulk_kinds, "upload,download", "bulk: which");

namespace understudy::bench {

namespace {

constexpr size_t kPiece = 1 << 20;

// One transfer, from the first byte to the last.
struct Transfer {
  double wall_us = 0;
  double client_us = 0;  // CPU time of the client
  double idle_us = 0;    // of all processors
};

Transfer OnClient(const std::function<void()>& transfer) {
  Transfer result;
  std::thread([&] {
    PinClient();
    const int64_t idle = IdleNs();
    const auto begun = Clock::now();
    transfer();
    result.wall_us = Microseconds(Clock::now() - begun);
    result.idle_us = static_cast<double>(IdleNs() - idle) / 1000;
    timespec used;
    PCHECK(clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used) == 0);
    result.client_us = static_cast<double>(used.tv_sec) * 1e6 + static_cast<double>(used.tv_nsec) / 1e3;
  }).join();
  return result;
}

Transfer Upload(lab::Namespace& where, const std::string& ip, uint64_t mib) {
  std::vector<char> piece(kPiece);
  workbench::FillPattern(1, 0, piece.data(), piece.size());
  uint32_t crc = 0;
  for (uint64_t i = 0; i < mib; ++i) crc = workbench::ExtendCrc(crc, {piece.data(), piece.size()});
  const int fd = Connect(where, ip, lab::Lab::kServicePort, "SINK\n");
  std::string answer;
  const Transfer result = OnClient([&] {
    for (uint64_t i = 0; i < mib; ++i) SendAll(fd, piece.data(), piece.size());
    PCHECK(shutdown(fd, SHUT_WR) == 0);
    char buffer[256];
    for (ssize_t size; (size = recv(fd, buffer, sizeof buffer, 0)) > 0;) {
      answer.append(buffer, static_cast<size_t>(size));
    }
  });
  close(fd);
  CHECK_EQ(answer, absl::StrCat(mib * kPiece, " ", crc, "\n")) << "the upload arrived differently";
  return result;
}

Transfer Download(lab::Namespace& where, const std::string& ip, uint64_t mib) {
  std::vector<char> buffer(256 << 10);
  uint64_t received = 0;
  const int fd = Connect(where, ip, lab::Lab::kServicePort, "");
  const std::string request = absl::StrCat("SOURCE ", mib * kPiece, " 7\n");
  const Transfer result = OnClient([&] {
    SendAll(fd, request.data(), request.size());
    for (ssize_t size; (size = recv(fd, buffer.data(), buffer.size(), 0)) != 0;) {
      PCHECK(size > 0) << "recv";
      received += static_cast<size_t>(size);
    }
  });
  close(fd);
  CHECK_EQ(received, mib * kPiece) << "the download arrived differently";
  return result;
}

// Medians over the rounds, of one kind of server.
struct Series {
  Samples mb_per_s, client, server, secondary, idle, rest;  // but the first: µs per MiB

  void Add(const Transfer& transfer, double mib, int64_t server_ns, int64_t secondary_ns) {
    const double server_us = static_cast<double>(server_ns) / 1000;
    const double secondary_us = static_cast<double>(secondary_ns) / 1000;
    const auto processors = static_cast<double>(sysconf(_SC_NPROCESSORS_ONLN));
    mb_per_s.Add(mib * kPiece / transfer.wall_us);
    client.Add(transfer.client_us / mib);
    server.Add(server_us / mib);
    secondary.Add(secondary_us / mib);
    idle.Add(transfer.idle_us / mib);
    rest.Add(
        (processors * transfer.wall_us - transfer.idle_us - transfer.client_us - server_us - secondary_us) /
        mib);
  }

  std::string Text() const {
    return absl::StrFormat("client %.0f, server %.0f, secondary %.0f, idle %.0f, others %.0f µs",
                           client.Median(), server.Median(), secondary.Median(), idle.Median(),
                           rest.Median());
  }
  void Put(Report& report, const std::string& name) const {
    report.Value(name + ".mb_per_s", mb_per_s.Median());
    report.Value(name + ".client_us_per_mib", client.Median());
    report.Value(name + ".server_us_per_mib", server.Median());
    report.Value(name + ".secondary_us_per_mib", secondary.Median());
    report.Value(name + ".idle_us_per_mib", idle.Median());
    report.Value(name + ".others_us_per_mib", rest.Median());
  }
};

}  // namespace

void Bulk(Report& report) {
  auto standalone = Standalone::Start();
  LastingPair pair;
  const uint64_t mib = static_cast<uint64_t>(FLAGS_bulk_mib);
  struct Kind {
    const char* name;
    const char* what;
    double reach;
    Transfer (*transfer)(lab::Namespace&, const std::string&, uint64_t);
  };
  for (const Kind& kind : {Kind{"upload", "bulk upload to a discarding server", 0.7, Upload},
                           Kind{"download", "bulk download from a generating server", 0.9, Download}}) {
    if (FLAGS_bulk_kinds.find(kind.name) == std::string::npos) continue;
    Series alone, paired;
    Samples ratio;
    for (int i = 0; i < FLAGS_bulk_rounds;) {
      const pid_t primary = pair.primary(), secondary = pair.secondary();
      const int64_t a0 = CpuNs(standalone->pid());
      const Transfer a = kind.transfer(standalone->client(), standalone->ip(), mib);
      const int64_t a1 = CpuNs(standalone->pid()), p0 = CpuNs(primary), s0 = CpuNs(secondary);
      const Transfer b = kind.transfer(pair.lab().client(), lab::Lab::kServiceIp, mib);
      const int64_t p1 = CpuNs(primary), s1 = CpuNs(secondary);
      if (!pair.Check()) continue;
      ++i;
      alone.Add(a, static_cast<double>(mib), a1 - a0, 0);
      paired.Add(b, static_cast<double>(mib), p1 - p0, s1 - s0);
      ratio.Add(a.wall_us / b.wall_us);
    }
    report.Row(kind.what, absl::StrFormat("≥ %.1f × standalone", kind.reach),
               absl::StrFormat("%.2f × (%.0f MB/s against %.0f MB/s)", ratio.Median(),
                               paired.mb_per_s.Median(), alone.mb_per_s.Median()),
               ratio.Median() >= kind.reach);
    report.Row("– CPU per MiB, standalone", "", alone.Text());
    report.Row("– CPU per MiB, pair", "", paired.Text());
    const std::string name = absl::StrCat("bulk.", kind.name);
    ReportLost(report, name, pair);
    report.Value(name + ".ratio", ratio.Median());
    alone.Put(report, name + ".standalone");
    paired.Put(report, name + ".pair");
  }
}

}  // namespace understudy::bench
