#include "framework/frontend.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace understudy {

Frontend::Frontend(Host* host, const NodeConfig* config, Watchers watchers)
    : host_(host), config_(config), watchers_(std::move(watchers)) {}

Frontend::~Frontend() {
  fence_.reset();
  if (south_ != nullptr) south_->CloseGate();
  if (address_ != nullptr) (void)address_->Remove();
}

absl::Status Frontend::LockAddress() {
  auto lock = host_->LockAddress(config_->service.ip,
                                 absl::StrCat(config_->service.ToString(), " on ", config_->interface));
  if (absl::IsPermissionDenied(lock.status())) {
    // A user with the capabilities alone may have no folder; the south wrapper still refuses the same service
    // twice.
    LOG(WARNING) << lock.status().message() << "; goes on without";
    return absl::OkStatus();
  }
  if (!lock.ok()) return lock.status();
  address_lock_ = *std::move(lock);
  return absl::OkStatus();
}

absl::Status Frontend::AttachSouth() {
  auto south = host_->AttachSouth({.interface = config_->interface,
                                   .service = config_->service,
                                   .hand_cookie = sender_->cookie(),
                                   .hand_ip_id = sender_->ip_id()});
  if (!south.ok()) return south.status();
  south_ = *std::move(south);
  fence_ = std::make_unique<FenceGuard>(host_, south_.get(), watchers_.fence_changed, watchers_.fence_mended);
  return absl::OkStatus();
}

absl::Status Frontend::Open(bool port_must_be_free) {
  if (absl::Status locked = LockAddress(); !locked.ok()) return locked;
  auto address = host_->NewServiceAddress({.interface = config_->interface,
                                           .ip = config_->service.ip,
                                           .announce_every = config_->announce_every});
  if (!address.ok()) return address.status();
  address_ = *std::move(address);
  auto sender = host_->OpenRawSender();
  if (!sender.ok()) return sender.status();
  sender_ = *std::move(sender);
  if (absl::Status attached = AttachSouth(); !attached.ok()) return attached;
  // Left behind by a process that died; the filter it also left keeps this host silent until here.
  if (absl::Status removed = address_->Remove(); !removed.ok()) return removed;
  watch_ = std::make_unique<HostWatch>(address_.get(), config_->service, [this] {
    return host_->OpenListener(config_->service, tcpshim::Connections::kMayMove);
  });
  if (absl::Status opened = watch_->OpenListener(); !opened.ok()) {
    if (port_must_be_free || !absl::IsAlreadyExists(opened)) return opened;
    LOG(ERROR) << opened.message() << "; cannot take over before that is free";
  }
  address_->WatchCarrier([this](bool up) {
    LOG(WARNING)
        << config_->interface << (up ? " can be used again" : " cannot be used: no carrier, or no address");
    watchers_.carrier_changed();
  });
  // An interface of the same name is there, without what hung on the old one.
  address_->WatchReplacement([this](int) { return south_->FollowInterface(); });
  return absl::OkStatus();
}

SouthSide Frontend::south_side() {
  return {south_.get(), sender_.get(), [this](uint32_t ip) {
            return address_->RouteTo(ip).value_or(tcpshim::ServiceAddress::Route{}).local;
          }};
}

absl::Status Frontend::Serve(tcpshim::NorthWrapper& north) {
  // Before the address is there: a segment that finds no socket would be answered with a RST.
  if (absl::Status listens = north.Listen(watch_->TakeListener()); !listens.ok()) return listens;
  return address_->Add();
}

void Frontend::OpenGate() {
  south_->OpenGate();
  address_->Announce();
  LOG(INFO) << "serving " << config_->service.ToString() << " on " << config_->interface;
}

void Frontend::RemoveAddress() {
  if (absl::Status removed = address_->Remove(); !removed.ok()) LOG(ERROR) << removed;
}

void Frontend::Withdraw() {
  south_->CloseGate();
  (void)watch_->TakeListener();  // closed
  RemoveAddress();
}

}  // namespace understudy
