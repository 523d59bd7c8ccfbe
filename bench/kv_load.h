// A load of Redis commands: many connections in one thread, each with a fixed number of requests under way.
#ifndef UNDERSTUDY_BENCH_KV_LOAD_H_
#define UNDERSTUDY_BENCH_KV_LOAD_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "bench/measure.h"
#include "tests/lab/namespace.h"

namespace understudy::bench {

enum class KvRequest {
  kSet,
  kGet,      // of a key that is there
  kSetWait,  // SET and WAIT 1 0 behind it: answered when a replica has it
};

// Keys are 16 bytes, values 64 (they begin with their key, so that an answer to GET can be checked); keys are
// drawn from the first `kKeys` at random, each as often as another.
struct KvLoadOptions {
  int connections = 50;
  int pipeline = 1;
  uint64_t seed = 1;
};

class KvLoad {
 public:
  static constexpr uint32_t kKeys = 100'000;

  KvLoad(lab::Namespace& where, const std::string& ip, uint16_t port, const KvLoadOptions& options);
  ~KvLoad();
  KvLoad(const KvLoad&) = delete;
  KvLoad& operator=(const KvLoad&) = delete;

  // SETs every key once.
  void Fill();
  // Asks for `warm_up`, calls `begin`, and goes on for `span`. Returns how many requests were answered within
  // `span` (SET and WAIT together are one); those still open then are waited for, uncounted. `latencies`: of
  // each pipeline, from its sending to its last answer, in µs. Every answer is checked.
  uint64_t RunFor(KvRequest what, std::chrono::milliseconds warm_up, const std::function<void()>& begin,
                  std::chrono::milliseconds span, Samples* latencies);

 private:
  struct Connection {
    int fd;
    Clock::time_point asked;
    std::vector<uint32_t> keys;  // of the requests under way
    std::string received;
  };
  void Ask(Connection& connection, KvRequest what);
  bool Answered(Connection& connection, KvRequest what);
  void CheckAnswer(const Connection& connection, KvRequest what) const;
  void AppendRequest(KvRequest what, uint32_t key);

  const KvLoadOptions options_;
  std::mt19937 random_;
  int epoll_;
  std::vector<Connection> connections_;
  std::string request_;
};

// "key:000000012345", and its value.
std::string KvKey(uint32_t key);
std::string KvValue(uint32_t key);
// One request and its answer, as they are on the wire.
std::string KvRequestBytes(KvRequest what, uint32_t key);
std::string KvReplyBytes(KvRequest what, uint32_t key);

}  // namespace understudy::bench

#endif  // UNDERSTUDY_BENCH_KV_LOAD_H_
