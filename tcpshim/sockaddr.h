// SocketAddress and what the system calls take.
#ifndef UNDERSTUDY_TCPSHIM_SOCKADDR_H_
#define UNDERSTUDY_TCPSHIM_SOCKADDR_H_

#include <arpa/inet.h>
#include <netinet/in.h>

#include "tcpshim/tcp_types.h"

namespace understudy::tcpshim {

inline sockaddr_in ToSockaddr(const SocketAddress& address) {
  sockaddr_in result = {};
  result.sin_family = AF_INET;
  result.sin_addr.s_addr = htonl(address.ip);
  result.sin_port = htons(address.port);
  return result;
}

inline SocketAddress FromSockaddr(const sockaddr_in& address) {
  SocketAddress result;
  result.ip = ntohl(address.sin_addr.s_addr);
  result.port = ntohs(address.sin_port);
  return result;
}

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_SOCKADDR_H_
