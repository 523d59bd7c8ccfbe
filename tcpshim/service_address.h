// Ownership of the service address: put on and taken off an interface (rtnetlink), announced to the
// neighbours, and the carrier of that interface watched.
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

#include <boost/asio/io_context.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tcpshim/segment.h"

namespace understudy::tcpshim {

class ServiceAddress {
 public:
  // Looks the interface up. NotFound names it. PermissionDenied without CAP_NET_ADMIN/CAP_NET_RAW.
  static absl::StatusOr<std::unique_ptr<ServiceAddress>> Create(boost::asio::io_context& loop,
                                                                const std::string& interface,
                                                                uint32_t ip);
  virtual ~ServiceAddress() = default;

  // Adds ip/32 to the interface; present already is OK. The prefix is /32 so that no route comes and goes
  // with the address.
  virtual absl::Status Add() = 0;
  // Absent already is OK.
  virtual absl::Status Remove() = 0;
  // Gratuitous ARP, request and reply form (stacks differ), now and `repeats` more times on the loop,
  // growing intervals from 50 ms on; a new call or Remove() ends an older series.
  virtual void Announce(int repeats = 4) = 0;

  // Asks three times within `wait` who has the address (RFC 5227; claims nothing). `done` is called once, from
  // the loop and never inside Probe: with the hardware address of another host as soon as one says that the
  // address is its own, nullopt when none has after `wait`, Unavailable when the interface cannot ask. Where
  // there is no Ethernet there is nobody to ask: nullopt.
  using Probed = std::function<void(absl::StatusOr<std::optional<MacAddress>>)>;
  virtual void Probe(std::chrono::milliseconds wait, Probed done) = 0;

  // Carrier (IFF_LOWER_UP and IFF_UP) now, and whenever it changes, on the loop. An interface that
  // disappears has no carrier.
  virtual bool carrier() const = 0;
  virtual void WatchCarrier(std::function<void(bool up)> changed) = 0;

  virtual int interface_index() const = 0;
};

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_SERVICE_ADDRESS_H_
