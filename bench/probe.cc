#include "bench/probe.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "glog/logging.h"

namespace understudy::bench {

namespace {

constexpr size_t kRequest = 64;

// Byte `offset` of what this client says, and of what it is to hear.
char ByteAt(uint64_t offset) {
  const uint64_t request = offset / kRequest, within = offset % kRequest;
  return within < 8 ? static_cast<char>(request >> (8 * within)) : static_cast<char>('a' + within % 26);
}

}  // namespace

uint32_t RetransmissionsOf(int fd) {
  tcp_info info = {};
  socklen_t size = sizeof info;
  PCHECK(getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) == 0);
  return info.tcpi_total_retrans;
}

Probe::Probe(lab::Namespace& where, const std::string& ip, Pace pace, uint64_t seed)
    : pace_(pace),
      random_(seed),
      fd_(Connect(where, ip, lab::Lab::kServicePort, "ECHO\n")),
      wake_(eventfd(0, EFD_CLOEXEC)) {
  PCHECK(wake_ >= 0);
  thread_ = std::thread([this] { Loop(); });
}

Probe::~Probe() {
  if (thread_.joinable()) Stop({});
  close(wake_);
  close(fd_);
}

void Probe::Mark() { retransmissions_before_ = RetransmissionsOf(fd_); }

bool Probe::AwaitAnswerAfter(Clock::time_point dead, std::chrono::milliseconds timeout) const {
  const auto end = Clock::now() + timeout;
  while (last_answered_sent_ns_.load() < dead.time_since_epoch().count()) {
    if (Clock::now() > end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

Probe::Outcome Probe::Stop(Clock::time_point since) {
  stop_ = true;
  const uint64_t one = 1;
  PCHECK(write(wake_, &one, sizeof one) == sizeof one);
  thread_.join();
  Outcome outcome;
  outcome.segment_lost = RetransmissionsOf(fd_) > retransmissions_before_;
  for (const Exchange& exchange : exchanges_) {
    if (exchange.answered < since) continue;
    outcome.pause_us = std::max(outcome.pause_us, Microseconds(exchange.answered - exchange.sent));
  }
  return outcome;
}

void Probe::Loop() {
  PinClient();
  // Sleeps to the microsecond; the default is 50.
  prctl(PR_SET_TIMERSLACK, 1, 0, 0, 0);
  std::uniform_int_distribution<int> interval_us(500, 1500);
  std::array<pollfd, 2> wanted = {{{fd_, POLLIN, 0}, {wake_, POLLIN, 0}}};
  next_ = Clock::now();
  while (!stop_) {
    const auto now = Clock::now();
    bool timed = false;
    if (pace_ == Pace::kClosedLoop) {
      if (open_.empty()) Ask();
    } else {
      timed = true;
      if (now >= next_) {
        Ask();
        next_ = std::max(next_ + std::chrono::microseconds(interval_us(random_)), now);
      }
    }
    const auto wait = std::max<Clock::duration>(next_ - Clock::now(), Clock::duration(0));
    const timespec span = {static_cast<time_t>(wait.count() / 1'000'000'000),
                           static_cast<long>(wait.count() % 1'000'000'000)};
    const int ready = ppoll(wanted.data(), wanted.size(), timed ? &span : nullptr, nullptr);
    PCHECK(ready >= 0 || errno == EINTR);
    if (wanted[0].revents != 0) Read();
  }
}

void Probe::Ask() {
  std::array<char, kRequest> request;
  for (size_t i = 0; i < kRequest; ++i) request[i] = ByteAt(asked_ * kRequest + i);
  // A client of this rate does not fill its send buffer within any pause measured here.
  open_.push_back(Clock::now());
  SendAll(fd_, request.data(), kRequest);
  ++asked_;
}

void Probe::Read() {
  std::array<char, 4096> buffer;
  const ssize_t size = recv(fd_, buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (size < 0 && errno == EAGAIN) return;
  PCHECK(size >= 0) << "the client's connection broke";
  CHECK_GT(size, 0) << "the client's connection was closed";
  const auto now = Clock::now();
  for (ssize_t i = 0; i < size; ++i) {
    CHECK_EQ(buffer[static_cast<size_t>(i)], ByteAt(received_)) << "wrong byte at " << received_;
    if (++received_ % kRequest != 0) continue;
    CHECK(!open_.empty());
    exchanges_.push_back({open_.front(), now});
    last_answered_sent_ns_ = open_.front().time_since_epoch().count();
    open_.pop_front();
  }
}

}  // namespace understudy::bench
