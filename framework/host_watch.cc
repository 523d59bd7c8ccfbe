#include "framework/host_watch.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "glog/logging.h"
#include "tcpshim/segment.h"

namespace understudy {
namespace {
using tcpshim::MacAddress;

constexpr std::chrono::milliseconds kPortPause{1'000};
constexpr std::chrono::milliseconds kConflictPause{10'000}, kConflictAgain{1'000}, kConflictWait{500};
// Each route is a question to the kernel of some microseconds, on a loop that has 80 ms.
constexpr std::chrono::milliseconds kRoutePause{200}, kRoundPause{1'000};
constexpr size_t kRoutesPerLook = 64;
// An answer of ARP counts for 15 s at least, and may be used until it has been asked for again.
constexpr std::chrono::milliseconds kNeighbourPause{200}, kNeighbourPass{5'000};
constexpr size_t kNeighboursPerLook = 16;
// The kernel begins to throw neighbours out at 128 (gc_thresh1). Routers come first: behind one are many
// clients.
constexpr size_t kMaxNextHops = 100;
}  // namespace

HostWatch::HostWatch(tcpshim::ServiceAddress* address, const tcpshim::SocketAddress& service,
                     std::function<absl::StatusOr<tcpshim::UniqueFd>()> open_listener)
    : address_(address), service_(service), open_listener_(std::move(open_listener)) {}

// --- The port ------------------------------------------------------------------------------------

absl::Status HostWatch::OpenListener() {
  auto listener = open_listener_();
  port_taken_ = listener.ok() ? "" : std::string(listener.status().message());
  if (!listener.ok()) return listener.status();
  listener_ = *std::move(listener);
  return absl::OkStatus();
}

void HostWatch::LookAtPort(Time now) {
  if (port_taken_.empty() || now < next_port_look_) return;
  next_port_look_ = now + kPortPause;
  if (OpenListener().ok()) LOG(WARNING) << service_.ToString() << " is free now";
}

// --- The address ---------------------------------------------------------------------------------

void HostWatch::LookAsPrimary(Time now) { LookAtAddress(now, /*rightful=*/0); }

// Of those who answer, so many may.
void HostWatch::LookAtAddress(Time now, size_t rightful) {
  if (now < next_address_look_) return;
  next_address_look_ = now + (conflict_.empty() ? kConflictPause : kConflictAgain);
  address_->ProbeAll(kConflictWait, [this, now, rightful, alive = std::weak_ptr<char>(alive_)](
                                        const absl::StatusOr<std::vector<MacAddress>>& who) {
    if (alive.expired() || !who.ok()) return;  // who cannot ask knows no more than before
    if (who->size() <= rightful) return NoteConflict("");
    // Once may be an address that moves, or a stale answer: it is asked again soon, and believed then.
    next_address_look_ = std::min(next_address_look_, replication::MonotonicTime(now + kConflictAgain));
    if (rightful > 0 && !std::exchange(doubted_, true)) return;
    const std::string macs = absl::StrJoin(*who, " and ", [](std::string* out, const MacAddress& mac) {
      absl::StrAppend(out, tcpshim::ToString(mac));
    });
    NoteConflict(rightful > 0 ? absl::StrCat("more than one host has the service address: ", macs)
                              : absl::StrCat("another host (", macs,
                                             ") has the service address, too: clients may be led to either"));
  });
}

void HostWatch::NoteConflict(std::string conflict) {
  conflict_ = std::move(conflict);
  doubted_ = !conflict_.empty();
  if (conflict_.empty()) return;
  ++conflicts_;
  LOG_EVERY_T(ERROR, 60) << conflict_;
}

// --- Routes --------------------------------------------------------------------------------------

bool HostWatch::LookAsSecondary(Time now, bool primary_lives, std::optional<std::vector<uint32_t>> clients) {
  LookAtPort(now);
  // Where nothing is known to be in the way, nobody asks when the primary is dead: then there is no time.
  // Where something is, each second without an answer is one without the service.
  if (!primary_lives && !conflict_.empty())
    next_address_look_ = std::min(next_address_look_, now + kConflictWait);
  LookAtAddress(now, /*rightful=*/primary_lives || conflict_.empty() ? 1 : 0);
  if (clients.has_value()) {
    clients_ = *std::move(clients);
    next_client_ = 0;
    without_route_.clear();
    routers_.clear();
    direct_.clear();
    in_round_ = true;
    next_route_look_ = now;
  }
  LookAtNeighbours(now);
  if (now < next_route_look_) return false;
  if (in_round_) {
    LookAtRoutes(now);
    return false;
  }
  next_route_look_ = now + kRoundPause;
  return true;
}

void HostWatch::LookAtRoutes(Time now) {
  for (size_t i = 0; i < kRoutesPerLook && next_client_ < clients_.size(); ++i) {
    const uint32_t ip = clients_[next_client_++];
    const auto route = address_->RouteTo(ip);
    if (!route.ok() || (!route->here && !route->local)) {
      without_route_.push_back(ip);
    } else if (!route->local && route->next_hop != 0) {
      std::set<uint32_t>& hops = route->next_hop == ip ? direct_ : routers_;
      if (hops.size() < kMaxNextHops) hops.insert(route->next_hop);
    }
  }
  in_round_ = next_client_ < clients_.size();
  if (!in_round_) {
    TellRoutes();
    NoteNextHops();
  }
  next_route_look_ = now + (in_round_ ? kRoutePause : kRoundPause);
}

void HostWatch::TellRoutes() {
  if (without_route_.empty()) {
    LOG_IF(WARNING, !unreachable_.empty())
        << "each client can be reached through the service interface again";
    unreachable_.clear();
    return;
  }
  unreachable_ = absl::StrCat(
      "client addresses that could not be reached through the service interface of this "
      "node after a takeover: ",
      without_route_.size(), ", ", tcpshim::IpText(without_route_.front()),
      " among them; there is no route, or it leads elsewhere");
  LOG_EVERY_T(WARNING, 60) << unreachable_;
}

// --- Neighbours ----------------------------------------------------------------------------------
// The kernel keeps some hundred packets for a neighbour whose hardware address it does not know. What an heir
// sends first, to all clients at once, is more than that where they share a router: the rest would be lost.

void HostWatch::NoteNextHops() {
  std::vector<uint32_t> hops(routers_.begin(), routers_.end());
  hops.insert(hops.end(), direct_.begin(), direct_.end());
  hops.resize(std::min(hops.size(), kMaxNextHops));
  std::vector<uint32_t> fresh;
  std::copy_if(hops.begin(), hops.end(), std::back_inserter(fresh), [&](uint32_t hop) {
    return std::find(next_hops_.begin(), next_hops_.end(), hop) == next_hops_.end();
  });
  to_resolve_.insert(to_resolve_.begin(), fresh.begin(), fresh.end());
  next_hops_ = std::move(hops);
}

void HostWatch::LookAtNeighbours(Time now) {
  if (now < next_neighbour_look_) return;
  if (now >= next_pass_) {
    to_resolve_.assign(next_hops_.begin(), next_hops_.end());
    next_pass_ = now + kNeighbourPass;
  }
  if (to_resolve_.empty()) return;
  next_neighbour_look_ = now + kNeighbourPause;
  for (size_t i = 0; i < kNeighboursPerLook && !to_resolve_.empty(); ++i) {
    Resolve(to_resolve_.front());
    to_resolve_.pop_front();
  }
}

void HostWatch::OnAskingToTakeOver() {
  to_resolve_.clear();
  for (uint32_t hop : next_hops_) Resolve(hop);
}

void HostWatch::Resolve(uint32_t next_hop) {
  const absl::Status resolved = address_->Resolve(next_hop);
  if (resolved.ok()) return;
  LOG_EVERY_T(WARNING, 60) << resolved;  // its clients are served somewhat later then
}

}  // namespace understudy
