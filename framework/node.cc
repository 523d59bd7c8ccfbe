#include "framework/node.h"

#include "framework/pair_node.h"
#include "framework/standalone_node.h"
#include "replication/socket_transport.h"

namespace understudy {

absl::StatusOr<std::unique_ptr<Node>> Node::Make(boost::asio::io_context& loop, const NodeConfig& config,
                                                 const ServerFactory& make_server, const Clock* clock,
                                                 Witness* witness, Failed failed) {
  auto server = make_server();
  if (!server.ok()) return server.status();
  if (config.role == Role::kStandalone) {
    return std::make_unique<StandaloneNode>(loop, config, *std::move(server), clock, std::move(failed));
  }
  auto transport = std::make_unique<replication::SocketTransport>(
      loop, replication::SocketTransport::Options{.own = config.replication,
                                                  .peer = config.peer,
                                                  .key = config.key,
                                                  .service = config.service.ToString(),
                                                  .node = config.node});
  return std::make_unique<PairNode>(loop, config, *std::move(server), clock, std::move(transport), witness,
                                    std::move(failed));
}

}  // namespace understudy
