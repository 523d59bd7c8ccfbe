// A small TCP of the test's own, in the lab's namespace `raw`: for what no kernel lets a client choose,
// initial sequence number, time stamps and options, and for a client that loses or withholds particular
// segments. It checks what it gets more strictly than a kernel would (every checksum; PAWS; nothing
// acknowledged that was not sent).
//
// It sits on AF_PACKET, with a MAC of its own and its own ARP, on an interface without an address, so
// that no kernel answers in its place. One connection each.
#ifndef UNDERSTUDY_TESTS_LAB_MINI_TCP_H_
#define UNDERSTUDY_TESTS_LAB_MINI_TCP_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/lab/lab.h"

namespace understudy::lab {

class MiniTcp {
 public:
  struct Options {
    uint16_t port = 40000;
    uint32_t isn = 1000;
    std::optional<uint32_t> tsval;  // at the start; none: without time stamps
    bool sack = true;
    std::optional<uint8_t> wscale = 7;  // none: without window scaling
    uint16_t mss = 1460;
    uint16_t window = 65535;  // as in the header of each segment
    size_t max_in_flight = 32 << 10;
  };
  struct Segment {
    std::chrono::steady_clock::time_point time;
    MacAddress source_mac;
    uint32_t seq = 0, ack = 0;
    uint8_t flags = 0;
    uint16_t window = 0;
    std::optional<uint32_t> tsval, tsecr;
    std::optional<uint8_t> wscale;
    std::optional<uint16_t> mss;
    bool sack_permitted = false;
    std::vector<std::pair<uint32_t, uint32_t>> sack_blocks;
    std::string payload;
  };

  MiniTcp(Lab& lab, const Options& options);
  ~MiniTcp();
  MiniTcp(const MiniTcp&) = delete;
  MiniTcp& operator=(const MiniTcp&) = delete;

  // Sends SYNs, again and again, until there is an answer or `timeout`. "" or what went wrong.
  std::string Connect(std::chrono::milliseconds timeout);
  void StartConnect();
  void Send(const std::string& bytes);
  void Close();  // FIN behind all that was given to Send
  // Ignores what arrives from now on, except that it is still taken down.
  void SetDeaf(bool deaf) { deaf_ = deaf; }
  // Sends nothing by itself any more: neither acknowledgements nor data.
  void SetMute(bool mute) { mute_ = mute; }
  void SetWindow(uint16_t window);  // and says so
  // What is sent from now on is damaged on the way: its checksum is wrong.
  void SetDamaged(bool damaged) { damaged_ = damaged; }
  // A segment of any kind, from the state the connection is in.
  void SendRaw(uint8_t flags, uint32_t seq, uint32_t ack, const std::string& payload = "");

  // Drives the connection until `condition`; "" or what went wrong.
  std::string RunUntil(const std::function<bool()>& condition, std::chrono::milliseconds timeout);
  std::string RunFor(std::chrono::milliseconds time);

  // The MAC that owns the service address, as far as this client knows.
  bool knows_server() const { return server_mac_.has_value(); }
  bool established() const { return established_; }
  bool end_seen() const { return end_seen_; }  // the server's FIN, in order
  const std::string& received() const { return received_; }
  // Bytes of the stream (FIN included, SYN not) that the server has acknowledged.
  uint64_t acknowledged() const { return acknowledged_; }
  uint32_t next_seq() const { return isn_ + 1 + static_cast<uint32_t>(sent_); }
  uint32_t next_expected() const { return rcv_next_; }
  // All that arrived for this connection, deaf or not.
  const std::vector<Segment>& segments() const { return segments_; }
  const std::string& error() const { return error_; }

 private:
  using Clock = std::chrono::steady_clock;
  void Turn(std::chrono::milliseconds wait);
  void TakeFrame(const uint8_t* frame, size_t size);
  void TakeArp(const uint8_t* arp);
  void TakeSegment(const Segment& segment);
  bool WasOvertaken(const Segment& segment) const;  // segments_ ends with it
  void SendArp(uint16_t operation, const MacAddress& to, uint32_t to_ip);
  void SendSyn();
  void SendAck();
  void Output();
  void Fail(const std::string& what);
  uint32_t TsNow() const;

  Options options_;
  MacAddress mac_;
  int fd_ = -1;
  int index_ = 0;
  uint32_t ip_, service_ip_;
  std::optional<MacAddress> server_mac_;
  Clock::time_point start_, next_arp_{};

  uint32_t isn_;
  bool connecting_ = false, established_ = false, deaf_ = false, mute_ = false, damaged_ = false,
       end_seen_ = false;
  bool closing_ = false;
  std::string to_send_;
  uint64_t acknowledged_ = 0, sent_ = 0, sent_max_ = 0;  // offsets in to_send_ (+ FIN)
  uint32_t server_edge_ = 0;                             // right edge of the server's window
  uint8_t server_wscale_ = 0;
  bool use_timestamps_ = false;
  Clock::time_point resend_at_{};
  std::chrono::milliseconds rto_{200};

  uint32_t rcv_next_ = 0;
  uint32_t ts_recent_ = 0;
  bool have_ts_ = false;
  std::map<uint32_t, std::pair<std::string, bool>> early_;  // distance-ordered enough for a test
  std::string received_;
  std::vector<Segment> segments_;
  std::string error_;
  uint16_t ip_id_ = 1;
};

}  // namespace understudy::lab

#endif  // UNDERSTUDY_TESTS_LAB_MINI_TCP_H_
