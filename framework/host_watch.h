// What a node's host and its segment have in store for the service, found out while there is time to mend it:
// a taken port, another host with the service address, clients that there is no route to, neighbours whose
// hardware address is not known.
#ifndef UNDERSTUDY_FRAMEWORK_HOST_WATCH_H_
#define UNDERSTUDY_FRAMEWORK_HOST_WATCH_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "replication/protocol.h"
#include "tcpshim/service_address.h"
#include "tcpshim/tcp_types.h"
#include "tcpshim/unique_fd.h"

namespace understudy {

// On the loop's thread only. Looks when it is told to, and no more often than makes sense.
class HostWatch {
 public:
  using Time = replication::MonotonicTime;

  // `address` outlives this. `open_listener`: Host::OpenListener for the service, which may move to another
  // host.
  HostWatch(tcpshim::ServiceAddress* address, const tcpshim::SocketAddress& service,
            std::function<absl::StatusOr<tcpshim::UniqueFd>()> open_listener);

  // The service port, long before anybody may be served: a node that finds it taken when it has the epoch
  // already is an outage. Nothing reaches it while the gate is closed. Errors as tcpshim::OpenListener.
  absl::Status OpenListener();
  // Nothing when OpenListener has not succeeded, or it was taken before.
  tcpshim::UniqueFd TakeListener() { return std::move(listener_); }

  // A node that serves: has anybody else the address?
  void LookAsPrimary(Time now);
  // A node that may have to take over. `clients`: the addresses of those that it would have to restore, each
  // once; nullopt: nothing new is known of them. `primary_lives`: it has been heard lately. True: the clients
  // are wanted for the next time.
  bool LookAsSecondary(Time now, bool primary_lives, std::optional<std::vector<uint32_t>> clients);

  // The takeover is being asked for: the next that leaves here is for the clients.
  void OnAskingToTakeOver();

  // Why this node must not take over now; empty: nothing that is known.
  const std::string& obstacle() const { return port_taken_.empty() ? conflict_ : port_taken_; }
  // Who else has the service address; empty: nobody. Of a primary, a warning.
  const std::string& conflict() const { return conflict_; }
  // Which clients would not be reached after a takeover; empty: none.
  const std::string& unreachable() const { return unreachable_; }
  uint64_t conflicts() const { return conflicts_; }  // times that one was found

 private:
  void LookAtPort(Time now);
  void LookAtAddress(Time now, size_t rightful);
  void LookAtRoutes(Time now);
  void TellRoutes();
  void NoteNextHops();
  void LookAtNeighbours(Time now);
  void Resolve(uint32_t next_hop);
  void NoteConflict(std::string conflict);

  tcpshim::ServiceAddress* const address_;
  const tcpshim::SocketAddress service_;
  const std::function<absl::StatusOr<tcpshim::UniqueFd>()> open_listener_;
  tcpshim::UniqueFd listener_;
  std::string port_taken_, conflict_, unreachable_;
  Time next_port_look_{}, next_address_look_{}, next_route_look_{};
  bool doubted_ = false;  // the last look has found a conflict
  uint64_t conflicts_ = 0;

  std::vector<uint32_t> clients_;
  bool in_round_ = false;  // through clients_
  size_t next_client_ = 0;
  std::vector<uint32_t> without_route_;  // of this round through clients_
  std::set<uint32_t> routers_, direct_;  // likewise: the next hops

  std::vector<uint32_t> next_hops_;  // those that are kept resolved
  std::deque<uint32_t> to_resolve_;
  Time next_neighbour_look_{}, next_pass_{};

  const std::shared_ptr<char> alive_ = std::make_shared<char>();  // for answers that come late
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_HOST_WATCH_H_
