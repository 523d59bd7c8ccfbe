// That each packet of the service address meets the south wrapper's programs: where they hang, and the watch
// over that.
//
//  - On the interface that has the service address they hold, clamp and release. Whether packets meet them is
//    tried with frames (SouthProbe), not read off a list: what somebody has put in front is found out by what
//    it does.
//  - On the host's other interfaces, those that come later too, they let nothing pass that has not passed
//    there. Not on loopback: the host's own clients are no neighbours.
#ifndef UNDERSTUDY_TCPSHIM_SOUTH_FENCE_H_
#define UNDERSTUDY_TCPSHIM_SOUTH_FENCE_H_

#include <chrono>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tcpshim/south_attachment.h"
#include "tcpshim/south_probe.h"
#include "tcpshim/south_shared.h"
#include "tcpshim/tcp_types.h"
#include "tcpshim/unique_fd.h"

namespace understudy::tcpshim {

class SouthFence {
 public:
  struct Programs {
    SouthAttachment::Programs home, ethernet, raw;  // of other interfaces: with and without a link header
  };

  // `control` and the programs' descriptors must outlive this. Errors as SouthWrapper::Attach.
  static absl::StatusOr<std::unique_ptr<SouthFence>> Raise(int interface_index, const SocketAddress& service,
                                                           const Programs& programs, bool tcx,
                                                           std::unique_ptr<SouthProbe> probe,
                                                           south_control* control);
  ~SouthFence();

  // See SouthWrapper.
  absl::Status Check();
  int change_fd() const { return changes_.get(); }
  uint64_t mended() const { return mended_; }

  // The interface that has the service address is another one now; what hung on the old one went with it.
  // Errors as Raise: then packets of the new one meet nothing.
  absl::Status MoveTo(int interface_index);

  // In a forked child the programs are not ours to take off.
  void Abandon();

 private:
  SouthFence(int interface_index, const SocketAddress& service, const Programs& programs, bool tcx,
             std::unique_ptr<SouthProbe> probe, south_control* control)
      : interface_index_(interface_index),
        service_(service),
        programs_(programs),
        tcx_(tcx),
        probe_(std::move(probe)),
        control_(control) {}
  void WatchChanges();
  void TakeChanges();
  void FenceOthers();
  absl::Status Mend();

  int interface_index_;
  const SocketAddress service_;
  const Programs programs_;
  const bool tcx_;
  const std::unique_ptr<SouthProbe> probe_;
  south_control* const control_;
  std::unique_ptr<SouthAttachment> home_;
  std::map<int, std::unique_ptr<SouthAttachment>>
      others_;  // nullptr: it cannot be done there, which was said
  UniqueFd changes_;
  bool links_changed_ = true;
  uint64_t mended_ = 0;
  std::deque<std::chrono::steady_clock::time_point> lately_;  // mended
};

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_SOUTH_FENCE_H_
