// Looks after the fence: that each packet of the service address meets the south wrapper's programs
// (SouthWrapper::Check), whenever something changes on the host's interfaces, and now and then.
#ifndef UNDERSTUDY_FRAMEWORK_FENCE_GUARD_H_
#define UNDERSTUDY_FRAMEWORK_FENCE_GUARD_H_

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "framework/host.h"
#include "tcpshim/south_wrapper.h"

namespace understudy {

class FenceGuard {
 public:
  // `changed` is told, on the loop, when the fence has a hole that cannot be mended, and when it has none any
  // more. It may destroy this. `mended`: packets may have got past the programs, and do not any more. `south`
  // must outlive this.
  FenceGuard(Host* host, tcpshim::SouthWrapper* south, std::function<void(const absl::Status& fence)> changed,
             std::function<void()> mended);
  ~FenceGuard() { *alive_ = false; }

  // Looks now; does not tell.
  absl::Status Look() { return state_ = south_->Check(); }
  const absl::Status& state() const { return state_; }  // at the last look

 private:
  void LookAndTell();
  void WaitForTime();

  const Clock* const clock_;
  tcpshim::SouthWrapper* const south_;
  const std::function<void(const absl::Status&)> changed_;
  const std::function<void()> mended_;
  uint64_t times_mended_ = 0;
  const std::unique_ptr<Timer> timer_;
  std::unique_ptr<DescriptorWatch> changes_;
  absl::Status state_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_FENCE_GUARD_H_
