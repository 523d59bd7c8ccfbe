// The side of a node that faces the clients: the service address, the south wrapper in front of it, the
// listener, and what is watched of them.
#ifndef UNDERSTUDY_FRAMEWORK_FRONTEND_H_
#define UNDERSTUDY_FRAMEWORK_FRONTEND_H_

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "framework/fence_guard.h"
#include "framework/host.h"
#include "framework/host_watch.h"
#include "framework/node_config.h"
#include "framework/serving.h"

namespace understudy {

// On the loop's thread, but for RenewUntil.
class Frontend {
 public:
  struct Watchers {
    std::function<void()> carrier_changed;  // of the interface
    // The fence has a hole that cannot be mended, or has none any more; see FenceGuard.
    std::function<void(const absl::Status& fence)> fence_changed;
    std::function<void()> fence_mended;
  };
  // `host` and `config` outlive this object.
  Frontend(Host* host, const NodeConfig* config, Watchers watchers);
  // A stop must look like a death to clients: not a FIN, not a RST. What serves here is silent already.
  ~Frontend();

  // Takes charge of the service address on this host, with the gate closed. `port_must_be_free`: else a port
  // that is taken is waited for. Errors as those of the parts.
  absl::Status Open(bool port_must_be_free);

  SouthSide south_side();
  tcpshim::SouthWrapper& south() { return *south_; }
  const tcpshim::SouthWrapper& south() const { return *south_; }
  tcpshim::ServiceAddress& address() { return *address_; }
  const tcpshim::ServiceAddress& address() const { return *address_; }
  HostWatch& watch() { return *watch_; }
  const HostWatch& watch() const { return *watch_; }
  // Any thread, once Open has been called.
  void RenewUntil(Timer::Time deadline) { south_->RenewUntil(deadline); }

  // The interface has carrier, and no packet gets past the south wrapper.
  bool CanReachClients() const { return address_->carrier() && fence_->state().ok(); }
  absl::Status LookAtFence() { return fence_->Look(); }

  // Listener and service address; the gate stays closed.
  absl::Status Serve(tcpshim::NorthWrapper& north);
  void OpenGate();
  void CloseGate() { south_->CloseGate(); }
  // Nothing of the service reaches this host any more, its programs' help or not.
  void RemoveAddress();
  // All of the above taken back.
  void Withdraw();

 private:
  absl::Status LockAddress();
  absl::Status AttachSouth();

  Host* const host_;
  const NodeConfig* const config_;
  const Watchers watchers_;

  // The order matters for a dead process: the south wrapper's descriptors are opened before the
  // listener's, so the kernel closes them first, and when a peer is refused this node is silent already.
  std::shared_ptr<void> address_lock_;
  std::unique_ptr<tcpshim::SouthWrapper> south_;
  std::unique_ptr<FenceGuard> fence_;
  std::unique_ptr<tcpshim::RawSender> sender_;
  std::unique_ptr<tcpshim::ServiceAddress> address_;
  std::unique_ptr<HostWatch> watch_;  // has the listener until the north wrapper gets it
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_FRONTEND_H_
