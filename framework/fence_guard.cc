#include "framework/fence_guard.h"

#include <chrono>
#include <utility>

namespace understudy {

namespace {
// Programs on tcx come and go without a report.
constexpr std::chrono::milliseconds kInterval{500};
}  // namespace

FenceGuard::FenceGuard(Host* host, tcpshim::SouthWrapper* south,
                       std::function<void(const absl::Status&)> changed, std::function<void()> mended)
    : clock_(&host->clock()),
      south_(south),
      changed_(std::move(changed)),
      mended_(std::move(mended)),
      times_mended_(south->mended()),
      timer_(host->NewTimer()) {
  if (south_->change_fd() >= 0) {
    changes_ = host->WatchReadable(south_->change_fd(), [this] { LookAndTell(); });
  }
  WaitForTime();
}

void FenceGuard::LookAndTell() {
  const bool was_whole = state_.ok();
  if (Look().ok() != was_whole) return changed_(state_);
  if (std::exchange(times_mended_, south_->mended()) != times_mended_) mended_();
}

void FenceGuard::WaitForTime() {
  timer_->Set(clock_->Monotonic() + kInterval, [this, alive = alive_] {
    LookAndTell();
    if (*alive) WaitForTime();
  });
}

}  // namespace understudy
