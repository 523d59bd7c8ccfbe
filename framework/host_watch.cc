#include "framework/host_watch.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "glog/logging.h"
#include "tcpshim/listener.h"
#include "tcpshim/segment.h"

namespace understudy {
namespace {
using tcpshim::MacAddress;

constexpr std::chrono::milliseconds kPortPause{1'000};
constexpr std::chrono::milliseconds kConflictPause{10'000}, kConflictAgain{1'000}, kConflictWait{500};
// Each route is a question to the kernel of some microseconds, on a loop that has 80 ms.
constexpr std::chrono::milliseconds kRoutePause{200}, kRoundPause{1'000};
constexpr size_t kRoutesPerLook = 64;
}  // namespace

HostWatch::HostWatch(tcpshim::ServiceAddress* address, const tcpshim::SocketAddress& service)
    : address_(address), service_(service) {}

// --- The port --------------------------------------------------------------------------------------

absl::Status HostWatch::OpenListener() {
  auto listener = tcpshim::OpenListener(service_, /*movable=*/true);
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

// --- The address -----------------------------------------------------------------------------------

void HostWatch::LookAsPrimary(Time now) { LookAtAddress(now, /*rightful=*/0); }

// Of those who answer, so many may.
void HostWatch::LookAtAddress(Time now, size_t rightful) {
  if (now < next_address_look_) return;
  next_address_look_ = now + (conflict_.empty() ? kConflictPause : kConflictAgain);
  address_->ProbeAll(kConflictWait, [this, now, rightful, alive = std::weak_ptr<char>(alive_)](
                                        const absl::StatusOr<std::vector<MacAddress>>& who) {
    if (alive.expired() || !who.ok()) return;   // who cannot ask knows no more than before
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

// --- Routes ----------------------------------------------------------------------------------------

bool HostWatch::LookAsSecondary(Time now, bool primary_lives, std::optional<std::vector<uint32_t>> clients) {
  LookAtPort(now);
  // Where nothing is known to be in the way, nobody asks when the primary is dead: then there is no time. Where
  // something is, each second without an answer is one without the service.
  if (!primary_lives && !conflict_.empty()) next_address_look_ = std::min(next_address_look_, now + kConflictWait);
  LookAtAddress(now, /*rightful=*/primary_lives || conflict_.empty() ? 1 : 0);
  if (clients.has_value()) {
    clients_ = *std::move(clients);
    next_client_ = 0;
    without_route_.clear();
    in_round_ = true;
    next_route_look_ = now;
  }
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
    if (!route.ok() || (!route->here && !route->local)) without_route_.push_back(ip);
  }
  in_round_ = next_client_ < clients_.size();
  if (!in_round_) TellRoutes();
  next_route_look_ = now + (in_round_ ? kRoutePause : kRoundPause);
}

void HostWatch::TellRoutes() {
  if (without_route_.empty()) {
    LOG_IF(WARNING, !unreachable_.empty()) << "each client can be reached through the service interface again";
    unreachable_.clear();
    return;
  }
  unreachable_ = absl::StrCat("client addresses that could not be reached through the service interface of this "
                              "node after a takeover: ", without_route_.size(), ", ",
                              tcpshim::IpText(without_route_.front()),
                              " among them; there is no route, or it leads elsewhere");
  LOG_EVERY_T(WARNING, 60) << unreachable_;
}

}  // namespace understudy
