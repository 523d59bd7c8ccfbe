// Sends segments made by hand. The south wrapper knows them by the socket they come from, so its
// per-connection verdicts let them pass; its gate does not (I3): a silent node is silent by hand too.
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
  // PermissionDenied without CAP_NET_RAW.
  static absl::StatusOr<std::unique_ptr<RawSender>> Open();
  // For SouthWrapper::Options: the socket's, no other socket of the system has it while this lives; and the
  // IP identification of all that is sent here, random and never 0.
  uint64_t cookie() const { return cookie_; }
  uint16_t ip_id() const { return ip_id_; }
  // Does not block. InvalidArgument: larger than the route takes. Unavailable when the system takes no packet
  // now: as good as a lost segment.
  absl::Status Send(const Segment& segment);

 private:
  RawSender(UniqueFd fd, uint64_t cookie, uint16_t ip_id)
      : fd_(std::move(fd)), cookie_(cookie), ip_id_(ip_id) {}
  UniqueFd fd_;
  uint64_t cookie_;
  uint16_t ip_id_;
};

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_RAW_SENDER_H_
