// --status: HTTP on the node's loop. /status is JSON, /metrics Prometheus text, / an HTML page; /healthz says
// "ok" while the loop turns.
//
// Whoever asks cannot disturb the service, nor each other for long: sessions are bounded, and when the bound
// is reached the oldest one of the source that has most of them ends, so a new one is always served.
#ifndef UNDERSTUDY_FRAMEWORK_STATUS_SERVER_H_
#define UNDERSTUDY_FRAMEWORK_STATUS_SERVER_H_

#include <functional>
#include <memory>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>

#include "absl/status/statusor.h"
#include "framework/node.h"
#include "framework/status_response.h"

namespace understudy {

class StatusServer {
 public:
  static constexpr size_t kMaxSessions = 32;

  // `snapshot` is called on the loop for each request. Unavailable names the address and the reason.
  static absl::StatusOr<std::unique_ptr<StatusServer>> Open(boost::asio::io_context& loop,
                                                            const boost::asio::ip::tcp::endpoint& local,
                                                            HostPolicy hosts,
                                                            std::function<NodeStatus()> snapshot);
  ~StatusServer();
  boost::asio::ip::tcp::endpoint local() const;

 private:
  struct Impl;
  explicit StatusServer(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_STATUS_SERVER_H_
