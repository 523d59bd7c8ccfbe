// Sends segments made by hand. The south wrapper knows them by the socket they come from, so its
// per-connection verdicts let them pass; its gate does not (I3): a silent node is silent by hand too.
#ifndef UNDERSTUDY_TCPSHIM_RAW_SENDER_H_
#define UNDERSTUDY_TCPSHIM_RAW_SENDER_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tcpshim/segment.h"

namespace understudy::tcpshim {

class RawSender {
 public:
  virtual ~RawSender() = default;
  // A raw socket. PermissionDenied without CAP_NET_RAW.
  static absl::StatusOr<std::unique_ptr<RawSender>> Open();
  // For SouthWrapper::Options: the socket's, no other socket of the system has it while this lives; and the
  // IP identification of all that is sent here, random and never 0.
  virtual uint64_t cookie() const = 0;
  virtual uint16_t ip_id() const = 0;
  // Does not block. InvalidArgument: larger than the route takes. Unavailable when the system takes no packet
  // now: as good as a lost segment.
  virtual absl::Status Send(const Segment& segment) = 0;

 protected:
  RawSender() = default;
};

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_RAW_SENDER_H_
