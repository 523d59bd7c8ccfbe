#include "framework/node.h"

#include "framework/pair_node.h"
#include "framework/standalone_node.h"

namespace understudy {

std::unique_ptr<Node> Node::Make(boost::asio::io_context& loop, const NodeConfig& config,
                                 const ServerFactory& make_server, const Clock* clock, Failed failed) {
  if (config.role == Role::kStandalone) {
    return std::make_unique<StandaloneNode>(loop, config, make_server(), clock);
  }
  return std::make_unique<PairNode>(loop, config, make_server(), clock, std::move(failed));
}

}  // namespace understudy
