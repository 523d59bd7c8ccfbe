// Asks a node how it is: HTTP GET of its --status address, from inside its own namespace, so that no cut
// of the lab's links is in the way.
#ifndef UNDERSTUDY_TESTS_LAB_STATUS_CLIENT_H_
#define UNDERSTUDY_TESTS_LAB_STATUS_CLIENT_H_

#include <chrono>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/lab/namespace.h"

namespace understudy::lab {

struct NodeStatus {
  std::string role, state, node;
  int64_t epoch = 0, stable_lsn = 0, applied_lsn = 0, connections = 0;
  std::string json;  // all of it
};

struct HttpReply {
  int code = 0;
  std::string content_type;
  std::string body;
};

class StatusClient {
 public:
  // `where` may be null: the namespace of the test.
  StatusClient(const Namespace* where, std::string ip, uint16_t port);

  absl::StatusOr<HttpReply> Get(const std::string& target,
                                std::chrono::milliseconds timeout = std::chrono::milliseconds(1000)) const;
  // GET /status, parsed. An answer that lacks a field or has one of the wrong type is an error.
  absl::StatusOr<NodeStatus> Status() const;
  // "" when there is no answer.
  std::string State() const;
  // Value of a metric without labels, or with exactly the labels in `name`, from /metrics.
  absl::StatusOr<double> Metric(const std::string& name) const;

  // Asks until the node is in that state.
  absl::Status WaitForState(const std::string& state, std::chrono::milliseconds timeout) const;

 private:
  const Namespace* where_;
  std::string ip_;
  uint16_t port_;
};

}  // namespace understudy::lab

#endif  // UNDERSTUDY_TESTS_LAB_STATUS_CLIENT_H_
