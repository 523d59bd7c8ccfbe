#include "tcpshim/tcp_types.h"

#include "absl/strings/str_cat.h"

namespace understudy::tcpshim {

std::string IpText(uint32_t ip) {
  return absl::StrCat(ip >> 24, ".", (ip >> 16) & 0xff, ".", (ip >> 8) & 0xff, ".", ip & 0xff);
}

std::string SocketAddress::ToString() const { return absl::StrCat(IpText(ip), ":", port); }

std::string FourTuple::ToString() const { return absl::StrCat(local.ToString(), " <- ", remote.ToString()); }

}  // namespace understudy::tcpshim
