// Tells a segment who has an IPv4 address now, again and again: a switch port that is still learning, a
// switch that has been rebooted, a host that was off the network hear only what is said later.
#ifndef UNDERSTUDY_TCPSHIM_ARP_ANNOUNCER_H_
#define UNDERSTUDY_TCPSHIM_ARP_ANNOUNCER_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include "absl/status/status.h"
#include "tcpshim/rtnetlink.h"
#include "tcpshim/unique_fd.h"

namespace understudy::tcpshim {

// On the loop's thread only.
class ArpAnnouncer {
 public:
  static constexpr std::chrono::milliseconds kFirstPause{50};
  static constexpr std::chrono::seconds kDense{60};

  // The pauses of one series: doubling from kFirstPause on until kDense has passed, then `every`; nullopt: it
  // ends, where that is zero.
  class Pauses {
   public:
    explicit Pauses(std::chrono::milliseconds every) : every_(every) {}
    std::optional<std::chrono::milliseconds> Next();

   private:
    std::chrono::milliseconds every_, pause_ = kFirstPause, passed_{0};
  };

  ArpAnnouncer(boost::asio::io_context& loop, uint32_t ip, std::chrono::milliseconds every);
  // PermissionDenied without CAP_NET_RAW.
  absl::Status Open();

  // Gratuitous ARP, request and reply form (stacks differ), at once and after each of the Pauses. Begins anew
  // when called again. Where there is no Ethernet nobody keeps addresses, and nothing is sent.
  void Start(const NetLink& link);
  // The interface as it is now. Of one that can speak again, or has another hardware address, everybody must
  // hear at once: when a series is under way it begins anew.
  void Update(const NetLink& link);
  void Stop();
  bool started() const { return started_; }

 private:
  void Send();
  void SendLater(Pauses pauses);

  const uint32_t ip_;
  const std::chrono::milliseconds every_;
  UniqueFd packets_;
  NetLink link_;
  bool started_ = false;
  uint64_t series_ = 0;  // an older one ends when a new one begins
  boost::asio::steady_timer timer_;
  // Gone with this object: handlers still queued in the loop then do nothing.
  const std::shared_ptr<char> alive_ = std::make_shared<char>();
};

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_ARP_ANNOUNCER_H_
