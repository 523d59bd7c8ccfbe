// One large upload to a server that reads and counts, one large download from one that generates.
#include <gflags/gflags.h>
#include <sys/socket.h>
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

// Both return MB/s, from the connection's first byte to the server's last word.
double Upload(lab::Namespace& where, const std::string& ip, uint64_t mib) {
  static const std::vector<char> piece = [] {
    std::vector<char> made(kPiece);
    workbench::FillPattern(1, 0, made.data(), made.size());
    return made;
  }();
  uint32_t crc = 0;
  for (uint64_t i = 0; i < mib; ++i) crc = workbench::ExtendCrc(crc, {piece.data(), piece.size()});
  const int fd = Connect(where, ip, lab::Lab::kServicePort, "SINK\n");
  std::string answer;
  const auto begun = Clock::now();
  std::thread([&] {
    PinClient();
    for (uint64_t i = 0; i < mib; ++i) SendAll(fd, piece.data(), piece.size());
    PCHECK(shutdown(fd, SHUT_WR) == 0);
    char buffer[256];
    for (ssize_t size; (size = recv(fd, buffer, sizeof buffer, 0)) > 0;) {
      answer.append(buffer, static_cast<size_t>(size));
    }
  }).join();
  const double us = Microseconds(Clock::now() - begun);
  close(fd);
  CHECK_EQ(answer, absl::StrCat(mib * kPiece, " ", crc, "\n")) << "the upload arrived differently";
  return static_cast<double>(mib * kPiece) / us;
}

double Download(lab::Namespace& where, const std::string& ip, uint64_t mib) {
  std::vector<char> buffer(256 << 10);
  uint64_t received = 0;
  const auto begun = Clock::now();
  const int fd = Connect(where, ip, lab::Lab::kServicePort, absl::StrCat("SOURCE ", mib * kPiece, " 7\n"));
  std::thread([&] {
    PinClient();
    for (ssize_t size; (size = recv(fd, buffer.data(), buffer.size(), 0)) != 0;) {
      PCHECK(size > 0) << "recv";
      received += static_cast<size_t>(size);
    }
  }).join();
  const double us = Microseconds(Clock::now() - begun);
  close(fd);
  CHECK_EQ(received, mib * kPiece) << "the download arrived differently";
  return static_cast<double>(received) / us;
}

}  // namespace

void Bulk(Report& report) {
  auto standalone = Standalone::Start();
  LastingPair pair;
  const uint64_t mib = static_cast<uint64_t>(FLAGS_bulk_mib);
  struct Kind {
    const char* name;
    const char* what;
    double reach;
    double (*transfer)(lab::Namespace&, const std::string&, uint64_t);
  };
  for (const Kind& kind : {Kind{"upload", "bulk upload to a discarding server", 0.7, Upload},
                           Kind{"download", "bulk download from a generating server", 0.9, Download}}) {
    if (FLAGS_bulk_kinds.find(kind.name) == std::string::npos) continue;
    Samples alone, paired, ratio, alone_cpu, primary_cpu, secondary_cpu;
    for (int i = 0; i < FLAGS_bulk_rounds;) {
      const pid_t primary = pair.primary(), secondary = pair.secondary();
      const int64_t a0 = CpuNs(standalone->pid());
      const double a = kind.transfer(standalone->client(), standalone->ip(), mib);
      const int64_t a1 = CpuNs(standalone->pid()), p0 = CpuNs(primary), s0 = CpuNs(secondary);
      const double b = kind.transfer(pair.lab().client(), lab::Lab::kServiceIp, mib);
      const int64_t p1 = CpuNs(primary), s1 = CpuNs(secondary);
      if (!pair.Check()) continue;
      ++i;
      const auto us_per_mib = [&](int64_t ns) { return static_cast<double>(ns) / 1000 / static_cast<double>(mib); };
      alone.Add(a);
      paired.Add(b);
      ratio.Add(b / a);
      alone_cpu.Add(us_per_mib(a1 - a0));
      primary_cpu.Add(us_per_mib(p1 - p0));
      secondary_cpu.Add(us_per_mib(s1 - s0));
    }
    report.Row(kind.what, absl::StrFormat("≥ %.1f × standalone", kind.reach),
               absl::StrFormat("%.2f × (%.0f MB/s against %.0f MB/s)", ratio.Median(), paired.Median(),
                               alone.Median()),
               ratio.Median() >= kind.reach);
    report.Row("– CPU per MiB", "",
               absl::StrFormat("standalone %.0f µs, primary %.0f µs, secondary %.0f µs",
                               alone_cpu.Median(), primary_cpu.Median(), secondary_cpu.Median()));
    const std::string name = absl::StrCat("bulk.", kind.name);
    ReportLost(report, name, pair);
    report.Value(name + ".ratio", ratio.Median());
    report.Value(name + ".standalone.mb_per_s", alone.Median());
    report.Value(name + ".pair.mb_per_s", paired.Median());
    report.Value(name + ".standalone.cpu_us_per_mib", alone_cpu.Median());
    report.Value(name + ".primary.cpu_us_per_mib", primary_cpu.Median());
    report.Value(name + ".secondary.cpu_us_per_mib", secondary_cpu.Median());
  }
}

}  // namespace understudy::bench
