// What the key-value benchmarks measure: each on hosts of its own, all with the same kind of wires.
#ifndef UNDERSTUDY_BENCH_KV_SYSTEMS_H_
#define UNDERSTUDY_BENCH_KV_SYSTEMS_H_

#include <memory>
#include <string>
#include <vector>

#include "bench/kv_load.h"
#include "bench/measure.h"

namespace understudy::bench {

class KvSystem {
 public:
  virtual ~KvSystem() = default;
  virtual std::string name() const = 0;  // "pair", "redis"; also in the names of values
  virtual lab::Lab& lab() = 0;
  virtual std::string ip() const = 0;
  // Whose processor time counts: the one that serves first.
  virtual std::vector<pid_t> processes() const = 0;
  // Whether it is what it was; if not, it has begun anew, empty, and connections must be made anew.
  virtual bool Check() { return true; }
  virtual int lost() const { return 0; }
};

std::unique_ptr<KvSystem> KvStandalone();
std::unique_ptr<KvSystem> KvPair();
// Debian's redis-server without persistence, which is when it is quickest.
std::unique_ptr<KvSystem> RedisAlone();
// The same with a replica on the other host.
std::unique_ptr<KvSystem> RedisReplicated();

}  // namespace understudy::bench

#endif  // UNDERSTUDY_BENCH_KV_SYSTEMS_H_
