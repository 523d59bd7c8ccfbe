// Which interface of this host an address lives on.
#ifndef UNDERSTUDY_REPLICATION_OWN_ADDRESS_H_
#define UNDERSTUDY_REPLICATION_OWN_ADDRESS_H_

#include <string>

#include <boost/asio/ip/address.hpp>
#include <boost/system/error_code.hpp>

namespace understudy::replication {

// Binds a socket of `own` to the interface that has this address, so that a packet for it that comes in
// elsewhere (Linux takes an address for the host's, not the interface's) is not served. Does nothing when the
// address is of loopback, is nobody's, or `peer` is this host's too: then all goes by loopback.
void BindToInterfaceOf(int fd, const boost::asio::ip::address& own, const boost::asio::ip::address& peer,
                       boost::system::error_code& error);

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_OWN_ADDRESS_H_
