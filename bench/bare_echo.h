// The bare TCP round trip between the two nodes, and the way it is measured: one request after the other.
#ifndef UNDERSTUDY_BENCH_BARE_ECHO_H_
#define UNDERSTUDY_BENCH_BARE_ECHO_H_

#include <chrono>
#include <functional>
#include <string>
#include <string_view>
#include <thread>

#include "bench/measure.h"

namespace understudy::bench {

inline constexpr size_t kPingSize = 64;

// Two threads and their kernels, nothing else, over the replication addresses of the nodes: what is sent
// on client() comes back.
class BareEcho {
 public:
  explicit BareEcho(lab::Lab& lab);
  ~BareEcho();
  int client() const { return client_; }

 private:
  int client_;
  std::thread echo_;
};

// One request after the other over one connection, for a while; in µs from sending to the whole answer.
// `request(i)` is the i-th, `reply(i)` the only right answer to it; both are good until the next call.
Samples AskFor(int fd, std::chrono::milliseconds span,
               const std::function<std::string_view(uint64_t)>& request,
               const std::function<std::string_view(uint64_t)>& reply);
// The same with messages of kPingSize that come back as they are.
Samples PingFor(int fd, std::chrono::milliseconds span);

}  // namespace understudy::bench

#endif  // UNDERSTUDY_BENCH_BARE_ECHO_H_
