// What rtnetlink is asked here: interfaces, addresses, routes, neighbours. Requests are answered at once.
#ifndef UNDERSTUDY_TCPSHIM_RTNETLINK_H_
#define UNDERSTUDY_TCPSHIM_RTNETLINK_H_

#include <libmnl/libmnl.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "tcpshim/segment.h"
#include "tcpshim/tcp_types.h"

namespace understudy::tcpshim {

// A description of an interface is larger than a page when it has much to tell.
inline constexpr size_t kNetlinkMessageSize = 32 << 10;

struct MnlCloser {
  void operator()(mnl_socket* socket) const { mnl_socket_close(socket); }
};
using MnlSocket = std::unique_ptr<mnl_socket, MnlCloser>;

// "WHAT: strerror". PermissionDenied says how to get the permission; NotFound for ENODEV; else Internal.
absl::Status NetlinkStatus(int error, const std::string& what);

// An interface.
struct NetLink {
  int index = 0;  // 0: there is none
  std::string name;
  uint32_t mtu = 0;
  bool carrier = false;           // up, and its cable is in
  std::optional<MacAddress> mac;  // of Ethernet only
};
// From RTM_NEWLINK or RTM_DELLINK; the latter has no carrier.
NetLink ReadLink(const nlmsghdr* header);

// How packets reach an address from here.
struct NetRoute {
  bool local = false;  // the address is this host's own
  int interface = 0;   // index of that through which they leave
  uint32_t next_hop =
      0;  // whose hardware address they get: a router, or the address itself. 0: no IPv4 address
};

class Rtnetlink {
 public:
  absl::Status Open();

  // All return 0 or an errno.

  // `name` or, when it is empty, `index`. ENODEV: no such interface.
  int GetLink(const std::string& name, int index, NetLink& link);
  // ENETUNREACH and the like: there is none.
  int GetRoute(uint32_t ip, NetRoute& route);
  // What the kernel knows of a neighbour, NUD_*. ENOENT: nothing.
  int GetNeighbour(int index, uint32_t ip, uint16_t& state);
  // Makes the kernel look for it, or confirm what it knows of it, as a packet to it would.
  int UseNeighbour(int index, uint32_t ip);
  // ip/32 on an interface. `type`: RTM_NEWADDR, RTM_DELADDR; `flags`: NLM_F_CREATE and the like.
  int ChangeAddress(uint16_t type, uint16_t flags, int index, uint32_t ip);

 private:
  int RequestNeighbour(uint16_t type, uint16_t flags, uint8_t neighbour_flags, int index, uint32_t ip,
                       mnl_cb_t on_answer, void* data);
  int Request(nlmsghdr* header, mnl_cb_t on_answer = nullptr, void* data = nullptr);

  MnlSocket socket_;
  uint32_t sequence_ = 0;
};

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_RTNETLINK_H_
