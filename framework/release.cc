#include "framework/release.h"

#include <boost/asio/io_context.hpp>

#include "absl/strings/str_cat.h"
#include "tcpshim/address_lock.h"
#include "tcpshim/service_address.h"
#include "tcpshim/south_wrapper.h"

namespace understudy {

absl::Status Release(const NodeConfig& config) {
  auto lock =
      tcpshim::AddressLock::Take(config.service.ip, absl::StrCat("--release of ", config.service.ToString()),
                                 tcpshim::AddressLock::kFolder, /*perhaps=*/"");
  if (absl::IsAlreadyExists(lock.status())) {
    return absl::AlreadyExistsError(
        absl::StrCat("--release: refused while it runs: ", lock.status().message()));
  }
  // Without a folder for the lock, the south wrapper's own name has the last word.
  if (!lock.ok() && !absl::IsPermissionDenied(lock.status())) return lock.status();
  boost::asio::io_context loop(1);
  auto address =
      tcpshim::ServiceAddress::Create(loop, {.interface = config.interface, .ip = config.service.ip});
  if (!address.ok()) return address.status();
  // Refused while a process holds it. Takes the place of what a dead one left, with its gate closed.
  auto south = tcpshim::SouthWrapper::Attach({.interface = config.interface, .service = config.service});
  if (!south.ok()) return south.status();
  // Before the filters: with them gone, the host would answer for it.
  if (absl::Status removed = (*address)->Remove(); !removed.ok()) return removed;
  south->reset();
  tcpshim::SouthWrapper::RemoveLeftovers(config.service);  // on other interfaces
  return absl::OkStatus();
}

}  // namespace understudy
