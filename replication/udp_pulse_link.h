// PulseLink on a UDP socket.
#ifndef UNDERSTUDY_REPLICATION_UDP_PULSE_LINK_H_
#define UNDERSTUDY_REPLICATION_UDP_PULSE_LINK_H_

#include <memory>
#include <string>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "absl/status/statusor.h"
#include "replication/pulse_link.h"

namespace understudy::replication {

class UdpPulseLink final : public PulseLink {
 public:
  // Binds `own`, on the interface that has the address; takes datagrams from `peer` only. `key`: see pulse.h.
  // Unavailable names the address and the system's reason.
  static absl::StatusOr<std::unique_ptr<UdpPulseLink>> Open(boost::asio::io_context& loop,
                                                            const boost::asio::ip::tcp::endpoint& own,
                                                            const boost::asio::ip::tcp::endpoint& peer,
                                                            const std::string& key, Heard heard);
  ~UdpPulseLink() override;

  void Beat(Pulse* pulse) override;
  int fd() const override;

 private:
  struct Impl;
  explicit UdpPulseLink(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_UDP_PULSE_LINK_H_
