// A node: one process in one role, on one event loop.
#ifndef UNDERSTUDY_FRAMEWORK_NODE_H_
#define UNDERSTUDY_FRAMEWORK_NODE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "framework/host.h"
#include "framework/node_config.h"
#include "framework/run.h"
#include "framework/witness.h"

namespace understudy {

// What /status and /metrics show.
struct NodeStatus {
  Role role = Role::kStandalone;
  // starting, joining, protected, solo, taking_over, silent; a standalone node is "solo".
  std::string state;
  std::string node;
  std::string peer;                   // the other node of the pair, when known
  std::string reason;                 // why the state is what it is; empty when there is nothing to say
  std::vector<std::string> warnings;  // what an operator should see to, though the node runs
  uint64_t epoch = 0;
  uint64_t last_lsn = 0;
  uint64_t stable_lsn = 0;
  uint64_t applied_lsn = 0;
  uint64_t connections = 0;
  int64_t clock_off_ms = 0;  // logged time less this host's wall clock
  // Counters for /metrics: name without the prefix "understudy_", ending in "_total".
  std::vector<std::pair<std::string, uint64_t>> counters;
};

class Node {
 public:
  virtual ~Node() = default;

  // Begins on the loop. An error: cannot run at all; says in one line what to do about it.
  virtual absl::Status Start() = 0;
  virtual NodeStatus Status() const = 0;

  // Begins to end, as SIGTERM asks for; once. `stopped` is called on the loop, or inside, when the node may
  // be destroyed: at once where another node goes on with the clients; where there is none, when they have
  // what was answered and a FIN behind it, or after --stop_within_ms.
  virtual void Stop(std::function<void()> stopped) = 0;

  // `failed` is called on the loop when a node that has started must give up. Aborted: this process can never
  // serve again, but a new one may join as a secondary.
  using Failed = std::function<void(absl::Status)>;
  // The error is that of `make_server`. `host` outlives the node, `witness` too, which may be nullptr.
  static absl::StatusOr<std::unique_ptr<Node>> Make(Host* host, const NodeConfig& config,
                                                    const ServerFactory& make_server, Witness* witness,
                                                    Failed failed);
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_NODE_H_
