#include "replication/own_address.h"

#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "absl/cleanup/cleanup.h"

namespace understudy::replication {
namespace {

// Empty: no interface has it.
std::string InterfaceOf(const boost::asio::ip::address& address, const ifaddrs* list) {
  if (!address.is_v4()) return "";
  const uint32_t wanted = htonl(address.to_v4().to_uint());
  for (const ifaddrs* entry = list; entry != nullptr; entry = entry->ifa_next) {
    if (entry->ifa_addr == nullptr || entry->ifa_addr->sa_family != AF_INET) continue;
    if (reinterpret_cast<const sockaddr_in*>(entry->ifa_addr)->sin_addr.s_addr != wanted) continue;
    std::string name = entry->ifa_name;  // an address with a label of its own is named by that: "eth0:1"
    return name.substr(0, name.find(':'));
  }
  return "";
}

}  // namespace

void BindToInterfaceOf(int fd, const boost::asio::ip::address& own, const boost::asio::ip::address& peer,
                       boost::system::error_code& error) {
  error.clear();
  if (own.is_loopback() || own.is_unspecified()) return;
  ifaddrs* list = nullptr;
  if (getifaddrs(&list) != 0) {
    error.assign(errno, boost::system::system_category());
    return;
  }
  const absl::Cleanup free_list = [list] { freeifaddrs(list); };
  const std::string interface = InterfaceOf(own, list);
  if (interface.empty() || !InterfaceOf(peer, list).empty()) return;
  if (setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, interface.c_str(), interface.size() + 1) != 0) {
    error.assign(errno, boost::system::system_category());
  }
}

}  // namespace understudy::replication
