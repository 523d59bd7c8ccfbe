#include "framework/fence_guard.h"

#include <chrono>
#include <utility>

namespace understudy {

namespace {
// Programs on tcx come and go without a report.
constexpr std::chrono::milliseconds kInterval{500};
}  // namespace

FenceGuard::FenceGuard(boost::asio::io_context& loop, tcpshim::SouthWrapper* south,
                       std::function<void(const absl::Status&)> changed, std::function<void()> mended)
    : south_(south),
      changed_(std::move(changed)),
      mended_(std::move(mended)),
      times_mended_(south->mended()),
      changes_(loop),
      timer_(loop) {
  if (south_->change_fd() >= 0) {
    changes_.assign(south_->change_fd());
    WaitForChange();
  }
  WaitForTime();
}

FenceGuard::~FenceGuard() {
  *alive_ = false;
  if (changes_.is_open()) changes_.release();  // the south wrapper's
}

void FenceGuard::LookAndTell() {
  const bool was_whole = state_.ok();
  if (Look().ok() != was_whole) return changed_(state_);
  if (std::exchange(times_mended_, south_->mended()) != times_mended_) mended_();
}

void FenceGuard::WaitForChange() {
  changes_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                      [this, alive = alive_](boost::system::error_code error) {
                        if (error || !*alive) return;
                        LookAndTell();
                        if (*alive) WaitForChange();
                      });
}

void FenceGuard::WaitForTime() {
  timer_.expires_after(kInterval);
  timer_.async_wait([this, alive = alive_](boost::system::error_code error) {
    if (error || !*alive) return;
    LookAndTell();
    if (*alive) WaitForTime();
  });
}

}  // namespace understudy
