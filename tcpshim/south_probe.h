// Frames that tell whether what leaves and enters an interface meets the south wrapper's programs: they pass
// the way of all others, and the programs count and swallow them. Those that are not swallowed do no harm:
// they are addressed to the interface that they leave from.
//
// Nothing else would tell that the wrapper below TCP does not see each packet any more.
#ifndef UNDERSTUDY_TCPSHIM_SOUTH_PROBE_H_
#define UNDERSTUDY_TCPSHIM_SOUTH_PROBE_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "tcpshim/segment.h"
#include "tcpshim/south_shared.h"
#include "tcpshim/tcp_types.h"
#include "tcpshim/unique_fd.h"

namespace understudy::tcpshim {

class SouthProbe {
 public:
  // PermissionDenied without CAP_NET_RAW.
  static absl::StatusOr<std::unique_ptr<SouthProbe>> Open();

  // How the programs know the frames: by the socket on their way out, by this number on their way in.
  uint64_t cookie() const { return cookie_; }
  uint64_t nonce() const { return nonce_; }

  // Of an Ethernet interface, as it is now.
  static std::optional<MacAddress> MacOf(int interface_index);

  struct Result {
    bool sent = false;            // false: the interface takes none now, nor anything else
    bool egress_missed = false;   // a segment or an ARP frame was not seen on its way out
    bool ingress_missed = false;  // none of those of the last calls has been seen coming in
  };
  // Sends a segment and an ARP frame of `service` from the interface to itself. `control`: where the programs
  // count them. Egress is looked at inside the call; what comes in may take its time, so that is judged at a
  // later one.
  Result Send(int interface_index, const SocketAddress& service, const south_control& control);

 private:
  SouthProbe(UniqueFd fd, uint64_t cookie, uint64_t nonce)
      : fd_(std::move(fd)), cookie_(cookie), nonce_(nonce) {}
  bool SendFrame(int interface_index, const std::string& frame) const;

  UniqueFd fd_;
  uint64_t cookie_, nonce_;
  uint32_t seen_in_ = 0;  // at the last call
  int unseen_in_ = 0;     // calls since the last that came in
  std::chrono::steady_clock::time_point unseen_since_;
};

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_SOUTH_PROBE_H_
