#include "tests/lab/mini_tcp.h"

#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"
#include "tests/lab/process.h"

namespace understudy::lab {

namespace {

using std::chrono::milliseconds;

constexpr size_t kEthernet = 14, kIp = 20, kTcp = 20;
constexpr size_t kMaxSegments = 1 << 20;
constexpr size_t kTimestampsOption = 12;  // part of what the MSS counts
constexpr milliseconds kMaxRto(1000);

uint16_t Be16(const uint8_t* p) { return static_cast<uint16_t>(p[0] << 8 | p[1]); }
uint32_t Be32(const uint8_t* p) { return static_cast<uint32_t>(Be16(p)) << 16 | Be16(p + 2); }

void Put16(std::string* to, uint16_t value) {
  to->push_back(static_cast<char>(value >> 8));
  to->push_back(static_cast<char>(value));
}
void Put32(std::string* to, uint32_t value) {
  Put16(to, static_cast<uint16_t>(value >> 16));
  Put16(to, static_cast<uint16_t>(value));
}
void Set16(std::string* in, size_t at, uint16_t value) {
  (*in)[at] = static_cast<char>(value >> 8);
  (*in)[at + 1] = static_cast<char>(value);
}

uint32_t Ip(const char* text) {
  in_addr address;
  CHECK_EQ(inet_pton(AF_INET, text, &address), 1);
  return ntohl(address.s_addr);
}

bool Before(uint32_t a, uint32_t b) { return static_cast<int32_t>(a - b) < 0; }

// Ones' complement sum, not yet complemented.
uint32_t Sum(const uint8_t* p, size_t size, uint32_t sum = 0) {
  for (size_t i = 0; i + 1 < size; i += 2) sum += Be16(p + i);
  if (size % 2 == 1) sum += static_cast<uint32_t>(p[size - 1]) << 8;
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
  return sum;
}

uint32_t TcpSum(const uint8_t* ip, const uint8_t* tcp, size_t size) {
  return Sum(tcp, size, Sum(ip + 12, 8, static_cast<uint32_t>(IPPROTO_TCP + size)));
}

const uint8_t* Bytes(const std::string& text) { return reinterpret_cast<const uint8_t*>(text.data()); }

}  // namespace

MiniTcp::MiniTcp(Lab& lab, const Options& options)
    : options_(options),
      mac_(lab.raw_mac()),
      ip_(Ip(Lab::kRawIp)),
      service_ip_(Ip(Lab::kServiceIp)),
      start_(Clock::now()),
      isn_(options.isn) {
  fd_ = lab.raw().Socket(AF_PACKET, SOCK_RAW, 0);
  lab.raw().Run([&] { index_ = static_cast<int>(if_nametoindex(Lab::kRawInterface)); });
  int size = 64 << 20;
  PCHECK(setsockopt(fd_, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size)) == 0);
  sockaddr_ll address = {};
  address.sll_family = AF_PACKET;
  address.sll_protocol = htons(ETH_P_ALL);
  address.sll_ifindex = index_;
  PCHECK(bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
}

MiniTcp::~MiniTcp() { close(fd_); }

void MiniTcp::Fail(const std::string& what) {
  if (!error_.empty()) return;
  error_ = absl::StrCat("mini TCP: ", what, "; ", acknowledged_, " bytes acknowledged, ", received_.size(),
                        " received");
}

uint32_t MiniTcp::TsNow() const {
  auto elapsed = std::chrono::duration_cast<milliseconds>(Clock::now() - start_);
  return *options_.tsval + static_cast<uint32_t>(elapsed.count());
}

void MiniTcp::SendArp(uint16_t operation, const MacAddress& to, uint32_t to_ip) {
  std::string frame;
  frame.append(reinterpret_cast<const char*>(to.data()), 6);
  frame.append(reinterpret_cast<const char*>(mac_.data()), 6);
  for (uint16_t field : {ETH_P_ARP, 1, ETH_P_IP, 0x0604, static_cast<int>(operation)}) {
    Put16(&frame, field);
  }
  frame.append(reinterpret_cast<const char*>(mac_.data()), 6);
  Put32(&frame, ip_);
  frame.append(reinterpret_cast<const char*>(to.data()), 6);
  Put32(&frame, to_ip);
  (void)!send(fd_, frame.data(), frame.size(), 0);
}

void MiniTcp::SendRaw(uint8_t flags, uint32_t seq, uint32_t ack, const std::string& payload) {
  if (!server_mac_) return;
  std::string options;
  if ((flags & TH_SYN) != 0) {
    options.append("\x02\x04", 2);
    Put16(&options, options_.mss);
    if (options_.sack) options.append("\x01\x01\x04\x02", 4);
    if (options_.wscale) {
      options.append("\x01\x03\x03", 3);
      options.push_back(static_cast<char>(*options_.wscale));
    }
  }
  if ((flags & TH_SYN) != 0 ? options_.tsval.has_value() : use_timestamps_) {
    options.append("\x01\x01\x08\x0a", 4);
    Put32(&options, TsNow());
    Put32(&options, (flags & TH_ACK) != 0 ? ts_recent_ : 0);
  }
  std::string frame;
  frame.append(reinterpret_cast<const char*>(server_mac_->data()), 6);
  frame.append(reinterpret_cast<const char*>(mac_.data()), 6);
  Put16(&frame, ETH_P_IP);
  size_t tcp_size = kTcp + options.size() + payload.size();
  frame.append("\x45\x00", 2);
  Put16(&frame, static_cast<uint16_t>(kIp + tcp_size));
  Put16(&frame, ip_id_++);
  Put16(&frame, 0x4000);  // don't fragment
  frame.append("\x40\x06\x00\x00", 4);
  Put32(&frame, ip_);
  Put32(&frame, service_ip_);
  Set16(&frame, kEthernet + 10, static_cast<uint16_t>(~Sum(Bytes(frame) + kEthernet, kIp)));
  Put16(&frame, options_.port);
  Put16(&frame, Lab::kServicePort);
  Put32(&frame, seq);
  Put32(&frame, (flags & TH_ACK) != 0 ? ack : 0);
  frame.push_back(static_cast<char>(((kTcp + options.size()) / 4) << 4));
  frame.push_back(static_cast<char>(flags));
  Put16(&frame, options_.window);
  Put32(&frame, 0);
  frame += options;
  frame += payload;
  const uint8_t* ip = Bytes(frame) + kEthernet;
  Set16(&frame, kEthernet + kIp + 16,
        static_cast<uint16_t>(~TcpSum(ip, ip + kIp, tcp_size) ^ (damaged_ ? 1 : 0)));
  PCHECK(send(fd_, frame.data(), frame.size(), 0) == static_cast<ssize_t>(frame.size()));
}

void MiniTcp::SendSyn() { SendRaw(TH_SYN, isn_, 0); }

void MiniTcp::SendAck() {
  if (!mute_) SendRaw(TH_ACK, isn_ + 1 + static_cast<uint32_t>(sent_), rcv_next_);
}

void MiniTcp::StartConnect() {
  connecting_ = true;
  resend_at_ = Clock::now();
}

std::string MiniTcp::Connect(milliseconds timeout) {
  StartConnect();
  return RunUntil([this] { return established_; }, timeout);
}

void MiniTcp::Send(const std::string& bytes) {
  CHECK(!closing_);
  to_send_ += bytes;
  Output();
}

void MiniTcp::Close() {
  closing_ = true;
  Output();
}

void MiniTcp::SetWindow(uint16_t window) {
  options_.window = window;
  SendAck();
}

void MiniTcp::Output() {
  if (!established_ || mute_) return;
  uint64_t end = to_send_.size() + (closing_ ? 1 : 0);
  while (sent_ < end) {
    uint32_t seq = isn_ + 1 + static_cast<uint32_t>(sent_);
    int32_t room = static_cast<int32_t>(server_edge_ - seq);
    uint64_t in_flight = sent_ - acknowledged_;
    if (in_flight >= options_.max_in_flight) return;
    size_t size = std::min<uint64_t>({to_send_.size() - std::min<uint64_t>(sent_, to_send_.size()),
                                      options_.mss - kTimestampsOption, options_.max_in_flight - in_flight});
    size = std::min<size_t>(size, static_cast<size_t>(std::max(room, 0)));
    bool fin = closing_ && sent_ + size == to_send_.size();
    if (size == 0 && !fin) return;
    SendRaw(TH_ACK | TH_PUSH | (fin ? TH_FIN : 0), seq, rcv_next_, to_send_.substr(sent_, size));
    if (sent_ == acknowledged_) resend_at_ = Clock::now() + rto_;
    sent_ += size + (fin ? 1 : 0);
    sent_max_ = std::max(sent_max_, sent_);
  }
}

void MiniTcp::Turn(milliseconds wait) {
  Clock::time_point now = Clock::now();
  bool pending = connecting_ || (established_ && acknowledged_ < to_send_.size() + closing_);
  if (pending && !server_mac_ && now >= next_arp_) {
    MacAddress all;
    all.fill(0xff);
    SendArp(1, all, service_ip_);
    next_arp_ = now + milliseconds(100);
  }
  if (pending && server_mac_ && now >= resend_at_ && !mute_) {
    if (connecting_) {
      SendSyn();
    } else {
      // Back to what is not acknowledged; a closed window is probed by the same means, one byte.
      sent_ = acknowledged_;
      uint32_t seq = isn_ + 1 + static_cast<uint32_t>(sent_);
      if (!Before(seq, server_edge_) && sent_ < to_send_.size()) {
        SendRaw(TH_ACK, seq, rcv_next_, to_send_.substr(sent_, 1));
      }
      Output();
    }
    resend_at_ = now + rto_;
    rto_ = std::min(rto_ * 2, kMaxRto);
  }
  pollfd readable = {.fd = fd_, .events = POLLIN, .revents = 0};
  poll(&readable, 1, static_cast<int>(wait.count()));
  std::array<uint8_t, 70000> frame;
  for (;;) {
    sockaddr_ll from = {};
    socklen_t from_size = sizeof(from);
    ssize_t n = recvfrom(fd_, frame.data(), frame.size(), MSG_DONTWAIT, reinterpret_cast<sockaddr*>(&from),
                         &from_size);
    if (n < 0) {
      PCHECK(errno == EAGAIN || errno == EINTR || errno == ENETDOWN);
      return;
    }
    if (from.sll_pkttype != PACKET_OUTGOING) TakeFrame(frame.data(), static_cast<size_t>(n));
  }
}

std::string MiniTcp::RunUntil(const std::function<bool()>& condition, milliseconds timeout) {
  Clock::time_point deadline = Clock::now() + timeout;
  while (error_.empty() && !condition()) {
    if (Clock::now() > deadline) {
      return absl::StrCat("mini TCP: not within ", timeout.count(), " ms; ",
                          established_ ? "" : "not connected; ", acknowledged_, " of ", to_send_.size(),
                          " bytes acknowledged, ", received_.size(), " received, ", segments_.size(),
                          " segments came");
    }
    Turn(milliseconds(2));
  }
  return error_;
}

std::string MiniTcp::RunFor(milliseconds time) {
  Clock::time_point until = Clock::now() + time;
  return RunUntil([until] { return Clock::now() >= until; }, time + milliseconds(1000));
}

void MiniTcp::TakeArp(const uint8_t* arp) {
  uint32_t sender = Be32(arp + 14), target = Be32(arp + 24);
  if (sender == service_ip_) {
    MacAddress mac;
    memcpy(mac.data(), arp + 8, 6);
    server_mac_ = mac;
  }
  if (Be16(arp + 6) == 1 && target == ip_) {
    MacAddress to;
    memcpy(to.data(), arp + 8, 6);
    SendArp(2, to, sender);
  }
}

void MiniTcp::TakeFrame(const uint8_t* frame, size_t size) {
  if (size < kEthernet + 28) return;
  uint16_t protocol = Be16(frame + 12);
  if (protocol == ETH_P_ARP) return TakeArp(frame + kEthernet);
  if (protocol != ETH_P_IP || size < kEthernet + kIp + kTcp) return;
  const uint8_t* ip = frame + kEthernet;
  size_t ip_size = (ip[0] & 15u) * 4, total = Be16(ip + 2);
  if (ip[9] != IPPROTO_TCP || Be32(ip + 16) != ip_ || Be32(ip + 12) != service_ip_) return;
  if (total + kEthernet > size || total < ip_size + kTcp) return Fail("a packet with wrong lengths");
  const uint8_t* tcp = ip + ip_size;
  size_t tcp_size = total - ip_size;
  if (Be16(tcp + 2) != options_.port || Be16(tcp) != Lab::kServicePort) return;
  if (Sum(ip, ip_size) != 0xffff) return Fail("wrong IP checksum");
  if (TcpSum(ip, tcp, tcp_size) != 0xffff) return Fail("wrong TCP checksum");

  Segment segment;
  segment.time = Clock::now();
  memcpy(segment.source_mac.data(), frame + 6, 6);
  segment.seq = Be32(tcp + 4);
  segment.ack = Be32(tcp + 8);
  segment.flags = tcp[13];
  segment.window = Be16(tcp + 14);
  size_t header = (tcp[12] >> 4) * 4u;
  if (header < kTcp || header > tcp_size) return Fail("a segment with a wrong header length");
  for (size_t at = kTcp; at < header && tcp[at] != 0;) {
    if (tcp[at] == 1) {
      ++at;
      continue;
    }
    size_t length = at + 1 < header ? tcp[at + 1] : 0;
    if (length < 2 || at + length > header) return Fail("a segment with broken options");
    const uint8_t* value = tcp + at + 2;
    if (tcp[at] == 2 && length == 4) segment.mss = Be16(value);
    if (tcp[at] == 3 && length == 3) segment.wscale = value[0];
    if (tcp[at] == 4) segment.sack_permitted = true;
    if (tcp[at] == 5) {
      for (size_t i = 0; i + 10 <= length; i += 8) {
        segment.sack_blocks.emplace_back(Be32(value + i), Be32(value + i + 4));
      }
    }
    if (tcp[at] == 8 && length == 10) {
      segment.tsval = Be32(value);
      segment.tsecr = Be32(value + 4);
    }
    at += length;
  }
  segment.payload.assign(reinterpret_cast<const char*>(tcp + header), tcp_size - header);
  if (segments_.size() < kMaxSegments) segments_.push_back(segment);
  if (!deaf_) TakeSegment(segment);
}

// By one that two processors of the same host have sent the other way round: the wire may do that as well.
bool MiniTcp::WasOvertaken(const Segment& s) const {
  for (size_t i = segments_.size() - 1; i-- > 0;) {
    const Segment& earlier = segments_[i];
    if (s.time - earlier.time > milliseconds(5) * Slowness()) return false;
    if (earlier.source_mac == s.source_mac && !Before(earlier.seq, s.seq) && !Before(earlier.ack, s.ack))
      return true;
  }
  return false;
}

void MiniTcp::TakeSegment(const Segment& s) {
  if ((s.flags & TH_RST) != 0) return Fail("reset by the server");
  if ((s.flags & TH_SYN) != 0) {
    if ((s.flags & TH_ACK) == 0 || s.ack != isn_ + 1) return Fail("a SYN that answers nothing");
    if (established_) {
      if (s.seq + 1 != rcv_next_ - static_cast<uint32_t>(received_.size()) - end_seen_) {
        return Fail("a second SYN-ACK, with another sequence number");
      }
      return SendAck();
    }
    if (!connecting_) return;
    if (!options_.sack && s.sack_permitted) return Fail("SACK, not offered");
    if (!options_.wscale && s.wscale) return Fail("window scaling, not offered");
    if (!options_.tsval && s.tsval) return Fail("time stamps, not offered");
    use_timestamps_ = options_.tsval && s.tsval;
    if (use_timestamps_) {
      ts_recent_ = *s.tsval;
      have_ts_ = true;
    }
    server_wscale_ = s.wscale.value_or(0);
    server_edge_ = s.ack + s.window;
    rcv_next_ = s.seq + 1;
    connecting_ = false;
    established_ = true;
    rto_ = milliseconds(200);
    SendAck();
    return Output();
  }
  if (!established_) return;
  if (use_timestamps_ != s.tsval.has_value()) {
    return Fail(use_timestamps_ ? "a segment without time stamp" : "a time stamp, not agreed on");
  }
  if (have_ts_ && s.tsval && Before(*s.tsval, ts_recent_)) {
    // Dropped, as any client does (RFC 7323, PAWS).
    if (WasOvertaken(s)) return;
    return Fail(absl::StrCat("TSval goes back from ", ts_recent_, " to ", *s.tsval));
  }
  // 0 is what a server echoes that does not know the client's time yet.
  if (s.tsecr && *s.tsecr != 0 && (s.flags & TH_ACK) != 0 && Before(TsNow(), *s.tsecr)) {
    return Fail(absl::StrCat("TSecr ", *s.tsecr, " is of the future, it is ", TsNow()));
  }
  if ((s.flags & TH_ACK) != 0) {
    uint64_t ahead = static_cast<uint32_t>(s.ack - (isn_ + 1 + static_cast<uint32_t>(acknowledged_)));
    if (ahead < 0x80000000u) {
      if (acknowledged_ + ahead > sent_max_) return Fail("acknowledges what was never sent");
      acknowledged_ += ahead;
      sent_ = std::max(sent_, acknowledged_);
      uint32_t edge = s.ack + (static_cast<uint32_t>(s.window) << server_wscale_);
      if (Before(edge, server_edge_)) {
        return Fail(absl::StrCat("right edge moves left by ", server_edge_ - edge));
      }
      server_edge_ = edge;
      if (ahead > 0) {
        rto_ = milliseconds(200);
        resend_at_ = Clock::now() + rto_;
      }
    }
  }
  bool fin = (s.flags & TH_FIN) != 0;
  uint32_t covers = static_cast<uint32_t>(s.payload.size()) + (fin ? 1 : 0);
  if (covers > 0) {
    if (s.tsval && !Before(rcv_next_, s.seq)) ts_recent_ = *s.tsval;
    // Where bytes come again they must be the same bytes.
    uint32_t start = rcv_next_ - static_cast<uint32_t>(received_.size()) - (end_seen_ ? 1 : 0);
    int32_t at = static_cast<int32_t>(s.seq - start);
    if (at >= 0 && static_cast<size_t>(at) < received_.size()) {
      size_t common = std::min(s.payload.size(), received_.size() - static_cast<size_t>(at));
      if (received_.compare(static_cast<size_t>(at), common, s.payload, 0, common) != 0) {
        return Fail("other bytes where some were received before");
      }
    }
    early_[s.seq] = {s.payload, fin};
    // Few enough segments to look through all of them.
    for (bool moved = true; moved;) {
      moved = false;
      for (auto it = early_.begin(); it != early_.end();) {
        auto& [bytes, has_fin] = it->second;
        uint32_t end = it->first + static_cast<uint32_t>(bytes.size()) + (has_fin ? 1 : 0);
        if (Before(rcv_next_, it->first)) {
          ++it;
          continue;
        }
        if (Before(rcv_next_, end)) {
          size_t known = rcv_next_ - it->first;
          if (known < bytes.size()) received_.append(bytes, known);
          if (end_seen_) return Fail("bytes behind the end");
          end_seen_ = has_fin;
          rcv_next_ = end;
          moved = true;
        }
        it = early_.erase(it);
      }
    }
    SendAck();
  } else if (Before(s.seq, rcv_next_)) {
    // A keepalive or window probe wants an answer.
    SendAck();
  }
  Output();
}

}  // namespace understudy::lab
