#include "framework/log_filter.h"

#include <algorithm>
#include <utility>

namespace understudy {
namespace {

std::string WithoutNumbers(const std::string& line) {
  std::string out;
  for (const char c : line) {
    if (c < '0' || c > '9') {
      out += c;
    } else if (out.empty() || out.back() != '#') {
      out += '#';
    }
  }
  return out;
}

}  // namespace

bool LogFilter::Take(const std::string& line, Time now) {
  std::string kind = WithoutNumbers(line);
  const auto known =
      std::find_if(kinds_.begin(), kinds_.end(), [&](const Kind& k) { return k.line == kind; });
  if (known == kinds_.end()) {
    if (kinds_.size() >= kMaxKinds) kinds_.pop_back();
    kinds_.push_front({std::move(kind), 1, now});
    return true;
  }
  const bool forgotten = now >= known->last + interval_;
  if (!forgotten && known->said >= burst_) return false;
  ++known->said;
  known->last = now;
  std::rotate(kinds_.begin(), known, known + 1);
  return true;
}

}  // namespace understudy
