// What arrives at an interface, for tests.
#ifndef UNDERSTUDY_TCPSHIM_TAP_FOR_TEST_H_
#define UNDERSTUDY_TCPSHIM_TAP_FOR_TEST_H_

#include <linux/if_ether.h>

#include <cstdint>
#include <string>
#include <vector>

#include "tcpshim/unique_fd.h"

namespace understudy::tcpshim {

class Tap {
 public:
  // In the calling thread's namespace. `protocol`: ETH_P_*. Of a bridge's port: ETH_P_ALL only.
  explicit Tap(const char* interface, uint16_t protocol = ETH_P_ALL);

  struct Frame {
    std::string bytes;      // with the link header
    uint16_t protocol;      // ETH_P_*
    bool checksum_pending;  // TCP's is left to hardware

    std::string packet() const { return bytes.substr(ETH_HLEN); }
  };
  // What has come since the last call; not what has left there.
  std::vector<Frame> Take();

 private:
  UniqueFd fd_;
};

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_TAP_FOR_TEST_H_
