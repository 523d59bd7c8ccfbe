// --status: HTTP on the node's loop. /status is JSON, /metrics Prometheus text, / a page for people.
#ifndef UNDERSTUDY_FRAMEWORK_STATUS_SERVER_H_
#define UNDERSTUDY_FRAMEWORK_STATUS_SERVER_H_

#include <functional>
#include <memory>
#include <string>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "absl/status/statusor.h"
#include "framework/node.h"

namespace understudy {

class StatusServer {
 public:
  // `snapshot` is called on the loop for each request. Unavailable names the address and the reason.
  static absl::StatusOr<std::unique_ptr<StatusServer>> Open(boost::asio::io_context& loop,
                                                            const boost::asio::ip::tcp::endpoint& local,
                                                            std::function<NodeStatus()> snapshot);
  ~StatusServer();
  boost::asio::ip::tcp::endpoint local() const;

 private:
  struct Impl;
  explicit StatusServer(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

std::string StatusAsJson(const NodeStatus& status);
std::string StatusAsMetrics(const NodeStatus& status);
std::string StatusAsPage(const NodeStatus& status);

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_STATUS_SERVER_H_
