// Sends segments made by hand. They carry the south wrapper's mark, so its per-connection verdicts let
// them pass; its gate does not (I3): a silent node is silent by hand too.
#ifndef UNDERSTUDY_TCPSHIM_RAW_SENDER_H_
#define UNDERSTUDY_TCPSHIM_RAW_SENDER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tcpshim/segment.h"
#include "tcpshim/unique_fd.h"

namespace understudy::tcpshim {

class RawSender {
 public:
  // PermissionDenied without CAP_NET_RAW and CAP_NET_ADMIN (the mark).
  static absl::StatusOr<std::unique_ptr<RawSender>> Open(uint32_t mark);
  // Does not block. InvalidArgument: larger than the route takes. Unavailable when the system takes no packet
  // now: as good as a lost segment.
  absl::Status Send(const Segment& segment);

 private:
  explicit RawSender(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_RAW_SENDER_H_
