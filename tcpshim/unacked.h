// How much of what was written to a TCP socket its peer has not acknowledged.
#ifndef UNDERSTUDY_TCPSHIM_UNACKED_H_
#define UNDERSTUDY_TCPSHIM_UNACKED_H_

#include <linux/sockios.h>
#include <sys/ioctl.h>

namespace understudy::tcpshim {

// Bytes, a FIN counted as one; 0 also for a socket that is no more.
inline int UnackedBytes(int fd) {
  int bytes = 0;
  return ::ioctl(fd, SIOCOUTQ, &bytes) == 0 ? bytes : 0;
}

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_UNACKED_H_
