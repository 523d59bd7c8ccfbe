// A node's configuration: the flags, parsed and checked.
#ifndef UNDERSTUDY_FRAMEWORK_NODE_CONFIG_H_
#define UNDERSTUDY_FRAMEWORK_NODE_CONFIG_H_

#include <chrono>
#include <map>
#include <optional>
#include <string>

#include <boost/asio/ip/tcp.hpp>

#include "absl/status/statusor.h"
#include "framework/limits.h"
#include "tcpshim/tcp_types.h"

namespace understudy {

enum class Role { kStandalone, kPrimary, kSecondary };
const char* RoleName(Role role);

struct NodeConfig {
  Role role = Role::kStandalone;
  tcpshim::SocketAddress service;
  std::optional<boost::asio::ip::tcp::endpoint> status;
  std::chrono::seconds client_keepalive{300};  // 0: off
  Limits limits;
  std::map<std::string, std::string> must_agree = {};  // flags of the framework, by name
  bool status_allow_any_host = false;
  std::chrono::milliseconds stop_within{5000};
  // Pairs only:
  std::string interface;
  std::string node;
  boost::asio::ip::tcp::endpoint replication;
  boost::asio::ip::tcp::endpoint peer;
  std::string key;  // shared by the pair; empty: none
  std::string arbiter;
  std::chrono::milliseconds heartbeat{10};
  std::chrono::milliseconds suspect_after{80};
  std::chrono::milliseconds max_stall{10'000};
  std::chrono::milliseconds announce_every{60'000};
  bool release = false;  // no node: what a dead one left on this host is cleaned up
  // Connections that this process may hold at once, by its limit of open files; 0: unknown.
  uint64_t max_connections = 0;
  bool witness = true;
  bool exit_when_useless = true;
  bool force_data_loss = false;
};

// "198.18.0.1:7000"; port 0 only where `any_port`. InvalidArgument says what is wrong with it.
absl::StatusOr<tcpshim::SocketAddress> ParseAddress(const std::string& text, bool any_port);

// From the flags of this process (framework/node_config.cc defines them). InvalidArgument names the flag,
// what was given, and what it wants.
absl::StatusOr<NodeConfig> ConfigFromFlags();

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_NODE_CONFIG_H_
