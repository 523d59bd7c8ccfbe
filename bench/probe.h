// A client that watches itself through a failure: requests of 64 bytes over one connection, each
// with the time it was sent and the time its answer came; every byte of the answers is checked.
#ifndef UNDERSTUDY_BENCH_PROBE_H_
#define UNDERSTUDY_BENCH_PROBE_H_

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "bench/measure.h"
#include "tests/lab/namespace.h"

namespace understudy::bench {

class Probe {
 public:
  enum class Pace {
    kOpenLoop,    // about every millisecond, whether or not answers come
    kClosedLoop,  // the next as soon as the last is answered
  };
  struct Outcome {
    double pause_us = 0;        // longest wait for an answer that came after `since`
    bool segment_lost = false;  // the client's kernel has retransmitted since then
  };

  // Connected and running when it returns.
  Probe(lab::Namespace& where, const std::string& ip, Pace pace, uint64_t seed);
  ~Probe();
  Probe(const Probe&) = delete;
  Probe& operator=(const Probe&) = delete;

  // The fault comes now: what is retransmitted from here on counts.
  void Mark();
  // Waits until a request sent after `dead` is answered. False: not within the time.
  bool AwaitAnswerAfter(Clock::time_point dead, std::chrono::milliseconds timeout) const;
  // Ends it. `since`: the moment of the fault.
  Outcome Stop(Clock::time_point since);

 private:
  struct Exchange {
    Clock::time_point sent, answered;
  };
  void Loop();
  void Ask();
  void Read();
  uint32_t Retransmissions() const;

  const Pace pace_;
  std::mt19937_64 random_;
  int fd_;
  int wake_;
  uint32_t retransmissions_before_ = 0;
  std::atomic<bool> stop_{false};
  std::atomic<int64_t> last_answered_sent_ns_{0};

  // Of the thread.
  std::deque<Clock::time_point> open_;
  std::vector<Exchange> exchanges_;
  uint64_t asked_ = 0, received_ = 0;
  Clock::time_point next_{};
  std::thread thread_;
};

// How many segments a socket has sent again.
uint32_t RetransmissionsOf(int fd);

}  // namespace understudy::bench

#endif  // UNDERSTUDY_BENCH_PROBE_H_
