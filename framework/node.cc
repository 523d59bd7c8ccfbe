#include "framework/node.h"

#include "framework/pair_node.h"
#include "framework/standalone_node.h"

namespace understudy {

absl::StatusOr<std::unique_ptr<Node>> Node::Make(Host* host, const NodeConfig& config,
                                                 const ServerFactory& make_server, Witness* witness,
                                                 Failed failed) {
  auto server = make_server();
  if (!server.ok()) return server.status();
  if (config.role == Role::kStandalone) {
    return std::make_unique<StandaloneNode>(host, config, *std::move(server), std::move(failed));
  }
  return std::make_unique<PairNode>(host, config, *std::move(server), witness, std::move(failed));
}

}  // namespace understudy
