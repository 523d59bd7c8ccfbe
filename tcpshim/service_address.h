// Ownership of the service address: put on and taken off an interface, kept there, announced to the
// neighbours; and the interface watched.
//
// Claim 13/29 as the card has it: the secondary assumes the IP.
#ifndef UNDERSTUDY_TCPSHIM_SERVICE_ADDRESS_H_
#define UNDERSTUDY_TCPSHIM_SERVICE_ADDRESS_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tcpshim/segment.h"

namespace understudy::tcpshim {

class ServiceAddress {
 public:
  struct Options {
    std::string interface;
    uint32_t ip = 0;
    // See Announce. Zero: silent after the first minute.
    std::chrono::milliseconds announce_every = std::chrono::seconds(60);
  };
  // Looks the interface up. NotFound names it. InvalidArgument: the address is this host's own, with a prefix
  // other than /32. PermissionDenied without CAP_NET_ADMIN/CAP_NET_RAW.
  static absl::StatusOr<std::unique_ptr<ServiceAddress>> Create(boost::asio::io_context& loop,
                                                                const Options& options);
  virtual ~ServiceAddress() = default;

  // Adds ip/32 to the interface; present already is OK. The prefix is /32 so that no route comes and goes
  // with the address. From here to Remove() it is put back at once when somebody else takes it away, and
  // announced again; while that does not succeed this node counts as one without carrier.
  virtual absl::Status Add() = 0;
  // Absent already is OK. Ends the announcements.
  virtual absl::Status Remove() = 0;
  // How often the address was put back.
  virtual uint64_t times_put_back() const = 0;

  // Gratuitous ARP, request and reply form (stacks differ): now, then in pauses that double from 50 ms on
  // until a minute has passed, then once each `announce_every`, until Remove(). Begins anew when called
  // again, when carrier returns, and when the interface has got another hardware address.
  virtual void Announce() = 0;

  // Asks three times within `wait` who has the address (RFC 5227; claims nothing). `done` is called once,
  // from the loop and never inside Probe: with the hardware address of another host as soon as one says that
  // the address is its own, nullopt when none has after `wait`, Unavailable when the interface cannot ask.
  // Where there is no Ethernet there is nobody to ask: nullopt.
  using Probed = std::function<void(absl::StatusOr<std::optional<MacAddress>>)>;
  virtual void Probe(std::chrono::milliseconds wait, Probed done) = 0;
  // The same, and all who say so within `wait`.
  using ProbedAll = std::function<void(absl::StatusOr<std::vector<MacAddress>>)>;
  virtual void ProbeAll(std::chrono::milliseconds wait, ProbedAll done) = 0;

  // Whether clients can be reached by this interface now (IFF_LOWER_UP and IFF_UP, and see Add), and whenever
  // that changes, on the loop. An interface that disappears has no carrier.
  virtual bool carrier() const = 0;
  virtual void WatchCarrier(std::function<void(bool up)> changed) = 0;
  // Called on the loop when an interface of that name has come in the place of one that was deleted, before
  // anything is put on it: what hangs on the old one must be hung on it. It has no carrier until this says
  // OK; asked again each second. Without it: as OK.
  virtual void WatchReplacement(std::function<absl::Status(int interface_index)> replaced) = 0;

  // How packets reach an address now. NotFound: there is no route to it.
  struct Route {
    bool local = false;  // it is this host's own
    bool here = false;   // through this interface
    uint32_t next_hop =
        0;  // whose hardware address they get: a router's, or its own; 0: that of no IPv4 address
  };
  virtual absl::StatusOr<Route> RouteTo(uint32_t ip) = 0;
  // Sees to it that the hardware address of a neighbour on this interface is known, or is confirmed, as a
  // packet to it would. Nothing waits for that, and nothing is said of the service address.
  virtual absl::Status Resolve(uint32_t next_hop) = 0;

  virtual uint32_t mtu() const = 0;         // of the interface; 0: there is none now
  virtual int interface_index() const = 0;  // 0: there is none now
};

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_SERVICE_ADDRESS_H_
