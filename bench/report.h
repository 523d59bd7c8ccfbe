// What the benchmarks found: rows for people, numbers for programs.
#ifndef UNDERSTUDY_BENCH_REPORT_H_
#define UNDERSTUDY_BENCH_REPORT_H_

#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace understudy::bench {

class Report {
 public:
  // One line of the table. `reached`: nothing when the row is context and not a figure to reach.
  void Row(std::string figure, std::string reach, std::string measured,
           std::optional<bool> reached = std::nullopt);
  // A fact about the run: "kernel", "6.12".
  void Fact(std::string name, std::string value);
  // One number of the JSON and CSV files: "echo1.pair.p50_us".
  void Value(std::string name, double value);

  std::string Text() const;
  std::string Markdown() const;
  std::string Json() const;
  std::string Csv() const;

 private:
  struct Line {
    std::string figure, reach, measured;
    std::optional<bool> reached;
    std::string Verdict() const;
  };
  std::vector<Line> lines_;
  std::vector<std::pair<std::string, std::string>> facts_;
  std::vector<std::pair<std::string, double>> values_;
};

}  // namespace understudy::bench

#endif  // UNDERSTUDY_BENCH_REPORT_H_
