// Watches everything that reaches the client's interface, or leaves it, and judges it afterwards: what a
// capture of the wire would show a suspicious person.
#ifndef UNDERSTUDY_TESTS_LAB_SEGMENT_WATCH_H_
#define UNDERSTUDY_TESTS_LAB_SEGMENT_WATCH_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "tests/lab/lab.h"

namespace understudy::lab {

// A TCP segment or an ARP packet, as far as it matters here. Addresses and numbers in host order.
struct SeenPacket {
  int64_t time_ns = 0;        // CLOCK_REALTIME of the kernel's receipt
  bool from_service = false;  // else towards it
  bool arp = false;           // then only time, MAC, from_service (it claims the service address) count
  MacAddress source_mac{};
  uint32_t client_ip = 0;
  uint16_t client_port = 0;
  uint8_t flags = 0;  // TH_FIN, TH_SYN, TH_RST, TH_ACK, ...
  uint32_t seq = 0, ack = 0;
  uint16_t window = 0;  // as in the header
  uint32_t length = 0;  // payload
  std::optional<uint32_t> tsval;
  std::optional<uint8_t> wscale;  // of a SYN
  bool sack_permitted = false;    // of a SYN
  bool has_sack_blocks = false;
};

class SegmentWatch {
 public:
  // Watches `interface` of `where` until Stop or the end of the object.
  static absl::StatusOr<std::unique_ptr<SegmentWatch>> Start(const Namespace& where,
                                                             const std::string& interface);
  ~SegmentWatch();
  SegmentWatch(const SegmentWatch&) = delete;
  SegmentWatch& operator=(const SegmentWatch&) = delete;

  // After this, everything that had arrived before the call has been taken down.
  void Stop();

  // A copy of what was seen so far.
  std::vector<SeenPacket> Packets() const;
  // Packets of the kernel that the watch was too slow for: if not 0, it proves nothing.
  uint64_t missed() const { return missed_; }

 private:
  SegmentWatch() = default;
  void Loop();
  void Take(const uint8_t* frame, size_t size, const MacAddress& source, uint16_t protocol, int64_t time_ns);

  int fd_ = -1;
  int wake_ = -1;
  std::thread thread_;
  mutable std::mutex mutex_;
  std::vector<SeenPacket> packets_;
  std::atomic<uint64_t> missed_{0};
};

// --- Judgements: each returns one line per offence, empty when there is none. --------------------

// RSTs from the service address (I5).
std::vector<std::string> FindResets(const std::vector<SeenPacket>& packets);
// RSTs of the client: its kernel was given something it could not make sense of.
std::vector<std::string> FindClientResets(const std::vector<SeenPacket>& packets);
// I3: each time another MAC begins to speak for the service address, the one before is silent for good.
std::vector<std::string> FindTwoSpeakers(const std::vector<SeenPacket>& packets);
// I6: right edge of the window never moves left, TSval never goes back, per connection.
std::vector<std::string> FindMovesBack(const std::vector<SeenPacket>& packets);
// All of the above but client resets.
std::vector<std::string> FindOffences(const std::vector<SeenPacket>& packets);

struct WatchTotals {
  int64_t from_service = 0, to_service = 0;
  int64_t resets = 0;
  int64_t server_retransmits = 0, client_retransmits = 0;  // segments that bring nothing new
  int64_t zero_windows = 0;                                // from the service address
  std::map<MacAddress, int64_t> by_speaker;                // of those from the service address
};
WatchTotals Count(const std::vector<SeenPacket>& packets);

std::string Describe(const SeenPacket& packet);

}  // namespace understudy::lab

#endif  // UNDERSTUDY_TESTS_LAB_SEGMENT_WATCH_H_
