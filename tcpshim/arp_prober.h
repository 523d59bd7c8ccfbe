// Finds out who has an IPv4 address on a segment, without claiming it (RFC 5227).
#ifndef UNDERSTUDY_TCPSHIM_ARP_PROBER_H_
#define UNDERSTUDY_TCPSHIM_ARP_PROBER_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tcpshim/segment.h"

namespace understudy::tcpshim {

// One Ethernet interface and one address. On the loop's thread only.
class ArpProber {
 public:
  // Who has the address; nullopt: nobody said so.
  using Probed = std::function<void(absl::StatusOr<std::optional<MacAddress>>)>;

  // Needs CAP_NET_RAW. The interface may be down still.
  static absl::StatusOr<std::unique_ptr<ArpProber>> Open(boost::asio::io_context& loop, int interface_index,
                                                         uint32_t ip);
  ~ArpProber();  // probes that are under way are never answered

  // Asks three times within `wait`, at equal distances. `done` is called once, from the loop: as soon as
  // anybody with another hardware address than `own` says that the address is his, in an answer or otherwise;
  // after `wait` when nobody does; Unavailable when the interface cannot send. Several at once are fine.
  void Probe(const MacAddress& own, std::chrono::milliseconds wait, Probed done);
  // The same, and all who say so within `wait`, each once.
  using ProbedAll = std::function<void(absl::StatusOr<std::vector<MacAddress>>)>;
  void ProbeAll(const MacAddress& own, std::chrono::milliseconds wait, ProbedAll done);

 private:
  struct Asking {
    MacAddress own;
    std::chrono::milliseconds pause;
    size_t enough;  // answers
    ProbedAll done;
    std::vector<MacAddress> heard;
    int sent = 0;
    std::unique_ptr<boost::asio::steady_timer> timer;
  };

  ArpProber(boost::asio::io_context& loop, int interface_index, uint32_t ip);
  void Ask(const MacAddress& own, std::chrono::milliseconds wait, size_t enough, ProbedAll done);
  void AskNext(uint64_t id);
  void Finish(uint64_t id, const absl::Status& status);
  void Await();
  void Hear();

  boost::asio::io_context& loop_;
  const int interface_index_;
  const uint32_t ip_;
  boost::asio::posix::stream_descriptor packets_;
  std::map<uint64_t, Asking> askings_;
  uint64_t last_id_ = 0;
  // Gone with this object: handlers still queued in the loop then do nothing.
  const std::shared_ptr<char> alive_ = std::make_shared<char>();
};

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_ARP_PROBER_H_
