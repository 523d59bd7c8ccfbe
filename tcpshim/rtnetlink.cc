#include "tcpshim/rtnetlink.h"

#include <arpa/inet.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace understudy::tcpshim {
namespace {

int ReadAttribute(const nlattr* attribute, void* data) {
  auto* link = static_cast<NetLink*>(data);
  switch (mnl_attr_get_type(attribute)) {
    case IFLA_ADDRESS:
      if (mnl_attr_get_payload_len(attribute) == sizeof(MacAddress)) {
        std::memcpy(link->mac.emplace().data(), mnl_attr_get_payload(attribute), sizeof(MacAddress));
      }
      break;
    case IFLA_IFNAME:
      if (mnl_attr_validate(attribute, MNL_TYPE_NUL_STRING) == 0) link->name = mnl_attr_get_str(attribute);
      break;
    case IFLA_MTU:
      if (mnl_attr_validate(attribute, MNL_TYPE_U32) == 0) link->mtu = mnl_attr_get_u32(attribute);
      break;
    default: break;
  }
  return MNL_CB_OK;
}

}  // namespace

absl::Status NetlinkStatus(int error, const std::string& what) {
  const std::string text = absl::StrCat(what, ": ", std::strerror(error));
  if (error == EPERM || error == EACCES) {
    return absl::PermissionDeniedError(
        absl::StrCat(text, " (run as root, or grant CAP_NET_ADMIN and CAP_NET_RAW)"));
  }
  if (error == ENODEV) return absl::NotFoundError(text);
  return absl::InternalError(text);
}

NetLink ReadLink(const nlmsghdr* header) {
  const auto* info = static_cast<const ifinfomsg*>(mnl_nlmsg_get_payload(header));
  NetLink link;
  link.index = info->ifi_index;
  constexpr unsigned kLowerUp = 1u << 16;  // IFF_LOWER_UP, whose header clashes with net/if.h
  link.carrier = header->nlmsg_type == RTM_NEWLINK && (info->ifi_flags & IFF_UP) != 0 &&
                 (info->ifi_flags & kLowerUp) != 0;
  mnl_attr_parse(header, sizeof(ifinfomsg), ReadAttribute, &link);
  if (info->ifi_type != ARPHRD_ETHER) link.mac.reset();
  return link;
}

absl::Status Rtnetlink::Open() {
  socket_.reset(mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC));
  if (socket_ == nullptr || mnl_socket_bind(socket_.get(), 0, MNL_SOCKET_AUTOPID) < 0) {
    return NetlinkStatus(errno, "cannot open rtnetlink");
  }
  return absl::OkStatus();
}

// `on_answer` sees what comes besides the acknowledgement.
int Rtnetlink::Request(nlmsghdr* header, mnl_cb_t on_answer, void* data) {
  header->nlmsg_flags |= NLM_F_REQUEST | NLM_F_ACK;
  header->nlmsg_seq = ++sequence_;
  if (mnl_socket_sendto(socket_.get(), header, header->nlmsg_len) < 0) return errno;
  std::array<char, kNetlinkMessageSize> answer;
  const unsigned port = mnl_socket_get_portid(socket_.get());
  while (true) {
    const ssize_t size = mnl_socket_recvfrom(socket_.get(), answer.data(), answer.size());
    if (size < 0 && errno == EINTR) continue;
    if (size < 0) return errno;
    const int result = mnl_cb_run(answer.data(), static_cast<size_t>(size), sequence_, port, on_answer, data);
    if (result < 0) return errno;
    if (result == MNL_CB_STOP) return 0;
  }
}

int Rtnetlink::GetLink(const std::string& name, int index, NetLink& link) {
  // Longer names are none; the kernel would call them out of range.
  if (name.size() >= IFNAMSIZ || (name.empty() && index == 0)) return ENODEV;
  std::array<char, 256> buffer{};
  nlmsghdr* header = mnl_nlmsg_put_header(buffer.data());
  header->nlmsg_type = RTM_GETLINK;
  auto* info = static_cast<ifinfomsg*>(mnl_nlmsg_put_extra_header(header, sizeof(ifinfomsg)));
  info->ifi_family = AF_UNSPEC;
  if (name.empty()) {
    info->ifi_index = index;
  } else {
    mnl_attr_put_strz(header, IFLA_IFNAME, name.c_str());
  }
  return Request(
      header,
      [](const nlmsghdr* answer, void* data) {
        if (answer->nlmsg_type == RTM_NEWLINK) *static_cast<NetLink*>(data) = ReadLink(answer);
        return MNL_CB_OK;
      },
      &link);
}

int Rtnetlink::GetRoute(uint32_t ip, NetRoute& route) {
  std::array<char, 256> buffer{};
  nlmsghdr* header = mnl_nlmsg_put_header(buffer.data());
  header->nlmsg_type = RTM_GETROUTE;
  auto* asked = static_cast<rtmsg*>(mnl_nlmsg_put_extra_header(header, sizeof(rtmsg)));
  asked->rtm_family = AF_INET;
  asked->rtm_dst_len = 32;
  mnl_attr_put_u32(header, RTA_DST, htonl(ip));
  route = {};
  route.next_hop = ip;
  return Request(
      header,
      [](const nlmsghdr* answer, void* data) {
        auto* found = static_cast<NetRoute*>(data);
        if (answer->nlmsg_type != RTM_NEWROUTE) return MNL_CB_OK;
        found->local = static_cast<const rtmsg*>(mnl_nlmsg_get_payload(answer))->rtm_type == RTN_LOCAL;
        return mnl_attr_parse(
            answer, sizeof(rtmsg),
            [](const nlattr* attribute, void* data) {
              auto* route = static_cast<NetRoute*>(data);
              switch (mnl_attr_get_type(attribute)) {
                case RTA_OIF: route->interface = static_cast<int>(mnl_attr_get_u32(attribute)); break;
                case RTA_GATEWAY: route->next_hop = ntohl(mnl_attr_get_u32(attribute)); break;
                case RTA_VIA:  // a router of another family
                  route->next_hop = 0;
                  break;
                default: break;
              }
              return MNL_CB_OK;
            },
            data);
      },
      &route);
}

int Rtnetlink::RequestNeighbour(uint16_t type, uint16_t flags, uint8_t neighbour_flags, int index,
                                uint32_t ip, mnl_cb_t on_answer, void* data) {
  std::array<char, 256> buffer{};
  nlmsghdr* header = mnl_nlmsg_put_header(buffer.data());
  header->nlmsg_type = type;
  header->nlmsg_flags = flags;
  auto* neighbour = static_cast<ndmsg*>(mnl_nlmsg_put_extra_header(header, sizeof(ndmsg)));
  neighbour->ndm_family = AF_INET;
  neighbour->ndm_ifindex = index;
  neighbour->ndm_flags = neighbour_flags;
  mnl_attr_put_u32(header, NDA_DST, htonl(ip));
  return Request(header, on_answer, data);
}

int Rtnetlink::GetNeighbour(int index, uint32_t ip, uint16_t& state) {
  return RequestNeighbour(
      RTM_GETNEIGH, 0, 0, index, ip,
      [](const nlmsghdr* answer, void* data) {
        if (answer->nlmsg_type == RTM_NEWNEIGH) {
          *static_cast<uint16_t*>(data) = static_cast<const ndmsg*>(mnl_nlmsg_get_payload(answer))->ndm_state;
        }
        return MNL_CB_OK;
      },
      &state);
}

int Rtnetlink::UseNeighbour(int index, uint32_t ip) {
  uint16_t state = NUD_NONE;
  const int known = GetNeighbour(index, ip, state);
  if (known != 0 && known != ENOENT) return known;
  // What somebody has entered for good would be good no longer: the kernel takes that mark off what is used
  // like this.
  if ((state & (NUD_PERMANENT | NUD_NOARP)) != 0) return 0;
  return RequestNeighbour(RTM_NEWNEIGH, NLM_F_CREATE, NTF_USE, index, ip, nullptr, nullptr);
}

int Rtnetlink::ChangeAddress(uint16_t type, uint16_t flags, int index, uint32_t ip) {
  // For the kernel index 0 is any interface.
  if (index == 0) return ENODEV;
  std::array<char, 256> buffer{};
  nlmsghdr* header = mnl_nlmsg_put_header(buffer.data());
  header->nlmsg_type = type;
  header->nlmsg_flags = flags;
  auto* address = static_cast<ifaddrmsg*>(mnl_nlmsg_put_extra_header(header, sizeof(ifaddrmsg)));
  address->ifa_family = AF_INET;
  address->ifa_prefixlen = 32;
  address->ifa_scope = RT_SCOPE_UNIVERSE;
  address->ifa_index = static_cast<uint32_t>(index);
  mnl_attr_put_u32(header, IFA_LOCAL, htonl(ip));
  mnl_attr_put_u32(header, IFA_ADDRESS, htonl(ip));
  return Request(header);
}

}  // namespace understudy::tcpshim
