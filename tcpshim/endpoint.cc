#include "tcpshim/endpoint.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <utility>

#include "glog/logging.h"

namespace understudy::tcpshim {

void CloseSilently(UniqueFd fd) {
  if (!fd) return;
  const int on = TCP_REPAIR_ON;
  if (::setsockopt(fd.get(), IPPROTO_TCP, TCP_REPAIR, &on, sizeof(on)) != 0) {
    PLOG(ERROR) << "cannot close a connection silently (TCP_REPAIR, which needs CAP_NET_ADMIN); "
                   "its client will see a FIN or a RST";
  }
}

}  // namespace understudy::tcpshim
