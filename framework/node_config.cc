#include "framework/node_config.h"

#include <tuple>

#include <boost/asio/ip/address_v4.hpp>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "gflags/gflags.h"
#include "replication/auth.h"
#include "replication/names.h"

DEFINE_string(role, "standalone",
              "What this node is: standalone (a plain server; no root needed, nothing replicated), "
              "primary, or secondary.");
DEFINE_string(service, "",
              "IP:PORT that clients connect to. In a pair whoever serves puts the IP on --interface; it "
              "must not be anybody's own address. Required.");
DEFINE_string(interface, "", "Network interface that carries the service address. Pairs only.");
DEFINE_string(
    node, "",
    "Name of this node, unique in the pair; what the arbiter knows it by. At most 64 letters, digits, "
    "'.', '_' and '-'.");
DEFINE_string(replication, "", "IP:PORT of this node that its peer connects to. Pairs only.");
DEFINE_string(peer, "", "The other node's --replication. Only this address may connect. Pairs only.");
DEFINE_string(
    replication_key_file, "",
    "File with the secret that the two nodes share, the same on both: 32 to 4096 bytes that nobody but "
    "its owner may read (head -c 32 /dev/urandom > key; chmod 600 key). With it each node proves to the "
    "other who it is, and what travels between them cannot be forged; it can still be read. Pairs only.");
DEFINE_bool(
    replication_insecure, false,
    "Run a pair without --replication_key_file. Whoever can send from the peer's address on the "
    "replication network can then read all that clients say, join in the peer's place, stop the service "
    "or take it over: for networks on which every host is trusted. Not needed on loopback.");
DEFINE_string(arbiter, "",
              "Who decides which node may serve: file:/path (both nodes on one host: demos and tests). "
              "unsafe-none grants everything, and lets a cut cable make two primaries. Pairs only.");
DEFINE_string(log_to, "secondary",
              "Where the log is made stable before anything that depends on it leaves: secondary.");
DEFINE_int32(heartbeat_ms, 10,
             "The primary is heard from at least this often, milliseconds, 1 to 1000. Same on both nodes.");
DEFINE_int32(suspect_after_ms, 80,
             "Silence after which a node suspects the other, milliseconds; at least 4 heartbeats. Shorter "
             "finds a dead host sooner, longer forgives a busy one. Same on both nodes.");
DEFINE_int32(
    max_stall_ms, 10'000,
    "Longest time that one call of the Server may take, milliseconds, 0 to 600000: so long a primary "
    "whose loop stands still goes on proving that it lives, by UDP between the replication addresses. "
    "Beyond, it is taken for hung, and the other node takes over. 0: --suspect_after_ms is all it has.");
DEFINE_int32(
    stop_within_ms, 5000,
    "After SIGTERM, a node without another to hand its clients to waits at most so long for them to take "
    "what was answered, milliseconds, 0 to 600000. A second SIGTERM ends it at once.");
DEFINE_int32(
    client_keepalive_s, 300,
    "A client that cannot be reached for so long, seconds, is given up, as if it had reset the "
    "connection: idle ones are asked now and then (SO_KEEPALIVE). One that answers is not, however long "
    "it reads nothing. 0 to 86400; 0: the kernel's own limits, a quarter of an hour or for ever.");
DEFINE_int32(
    announce_every_s, 60,
    "Whoever serves says by gratuitous ARP that it has the service address: at once, ever more seldom "
    "for a minute, and then every so many seconds, 0 to 86400. 0: not after the first minute. Pairs only.");
DEFINE_bool(
    release, false,
    "Runs no node, but takes off this host what one that was killed has left on it: the service address and "
    "the filters that keep the host from speaking for it. Refused while a node runs. Otherwise with the "
    "node's own flags.");
DEFINE_bool(
    witness, true,
    "Start a small process beside this one that tells the other node when this one has died, which saves "
    "clients the wait for --suspect_after_ms. Pairs only.");
DEFINE_bool(
    exit_when_useless, true,
    "End, with exit status 3, when this node can never serve again (the other has taken over, or this copy "
    "of the data has gone another way), so that a service manager can start it anew as a secondary.");
DEFINE_bool(
    force_data_loss, false,
    "With --role=primary: begin though the other node has served since this one has, and lose what it was "
    "told meanwhile. The last resort, when that node is gone for good.");
DEFINE_uint32(
    max_pending_output_mb, 64,
    "MiB of output, sent but not acknowledged, that a connection may have, 1 to 65536: one that has more "
    "and is to be sent still more, because its client does not read, is aborted. Same on both nodes.");
DEFINE_uint32(
    max_buffered_mb, 512,
    "MiB of such output and of input that the Server has left unread, of all connections together, 1 to "
    "1048576: beyond, the connection that has most is aborted. Memory can be twice that. Same on both "
    "nodes.");
DEFINE_string(
    on_poison, "auto",
    "When a call of the Server throws: drop_connection (the connection that the call was for is aborted, "
    "on both nodes), stop (this node ends, and the other takes over without that connection), or auto: "
    "drop_connection if the Server says that a call that throws has changed nothing. Same on both nodes.");
DEFINE_string(status, "",
              "IP:PORT for HTTP: /status (JSON), /metrics (Prometheus text), /healthz, an HTML page. Port 0 "
              "takes a free one, "
              "which is logged. Empty: none.");
DEFINE_bool(
    status_allow_any_host, false,
    "Answer at --status whatever the request's Host header says. Otherwise only addresses, localhost, "
    "this host's name and --node: a foreign site's page cannot then read the status through a "
    "visitor's browser (DNS rebinding).");

namespace understudy {
namespace {

absl::Status Wrong(const char* flag, const std::string& value, absl::string_view wants) {
  return absl::InvalidArgumentError(absl::StrCat("--", flag, "=", value, ": ", wants));
}

absl::StatusOr<tcpshim::SocketAddress> AddressFlag(const char* flag, const std::string& value,
                                                   bool any_port) {
  if (value.empty()) return absl::InvalidArgumentError(absl::StrCat("--", flag, " is required (IP:PORT)"));
  auto address = ParseAddress(value, any_port);
  if (!address.ok()) return Wrong(flag, value, address.status().message());
  return address;
}

boost::asio::ip::tcp::endpoint ToEndpoint(const tcpshim::SocketAddress& address) {
  return {boost::asio::ip::address_v4(address.ip), address.port};
}

absl::Status RefusePairFlags() {
  const std::pair<const char*, const std::string*> pair_flags[] = {
      {"interface", &FLAGS_interface},
      {"replication", &FLAGS_replication},
      {"peer", &FLAGS_peer},
      {"arbiter", &FLAGS_arbiter},
      {"replication_key_file", &FLAGS_replication_key_file}};
  for (const auto& [flag, value] : pair_flags) {
    if (!value->empty()) return Wrong(flag, *value, "has no meaning with --role=standalone");
  }
  return absl::OkStatus();
}

absl::Status FillKey(NodeConfig& config) {
  if (!FLAGS_replication_key_file.empty()) {
    if (FLAGS_replication_insecure) {
      return Wrong("replication_insecure", "true", "contradicts --replication_key_file");
    }
    auto key = replication::LoadReplicationKey(FLAGS_replication_key_file);
    if (!key.ok()) return key.status();
    config.key = *std::move(key);
    return absl::OkStatus();
  }
  const bool loopback = config.replication.address().is_loopback() && config.peer.address().is_loopback();
  if (loopback || FLAGS_replication_insecure) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "--replication_key_file is required in a pair (head -c 32 /dev/urandom > key; chmod 600 key; the same "
      "on "
      "both nodes); --replication_insecure does without, where every host of the network is trusted");
}

absl::Status FillLimits(NodeConfig& config) {
  const std::tuple<const char*, uint32_t, uint32_t, size_t*> limits[] = {
      {"max_pending_output_mb", FLAGS_max_pending_output_mb, 1u << 16, &config.limits.pending_output},
      {"max_buffered_mb", FLAGS_max_buffered_mb, 1u << 20, &config.limits.buffered}};
  for (const auto& [flag, megabytes, most, bytes] : limits) {
    if (megabytes < 1 || megabytes > most) {
      return Wrong(flag, absl::StrCat(megabytes), absl::StrCat("wants 1 to ", most));
    }
    *bytes = size_t{megabytes} << 20;
    config.must_agree[flag] = absl::StrCat(megabytes);
  }
  if (FLAGS_on_poison == "stop") {
    config.limits.on_poison = OnPoison::kStop;
  } else if (FLAGS_on_poison == "drop_connection") {
    config.limits.on_poison = OnPoison::kDropConnection;
  } else if (FLAGS_on_poison != "auto") {
    return Wrong("on_poison", FLAGS_on_poison, "wants auto, stop or drop_connection");
  }
  config.must_agree["on_poison"] = FLAGS_on_poison;
  return absl::OkStatus();
}

absl::Status FillPair(NodeConfig& config) {
  if (FLAGS_interface.empty()) return absl::InvalidArgumentError("--interface is required in a pair");
  if (FLAGS_interface.size() > 15) return Wrong("interface", FLAGS_interface, "longer than 15 letters");
  if (FLAGS_interface == "lo") return Wrong("interface", "lo", "no other host can be reached by it");
  if (FLAGS_node.empty()) return absl::InvalidArgumentError("--node is required in a pair");
  if (!replication::IsNodeName(FLAGS_node)) {
    return Wrong("node", replication::Printable(FLAGS_node, replication::kMaxNodeName),
                 absl::StrCat("wants ", replication::kNodeNameWants));
  }
  if (FLAGS_arbiter.empty()) {
    return absl::InvalidArgumentError(
        "--arbiter is required in a pair (file:/path when both nodes run on one host)");
  }
  if (FLAGS_arbiter.rfind("etcd:", 0) == 0)
    return Wrong("arbiter", FLAGS_arbiter, "etcd is not built in yet");
  if (FLAGS_log_to != "secondary") return Wrong("log_to", FLAGS_log_to, "only `secondary` is built so far");
  auto replication = AddressFlag("replication", FLAGS_replication, false);
  if (!replication.ok()) return replication.status();
  auto peer = AddressFlag("peer", FLAGS_peer, false);
  if (!peer.ok()) return peer.status();
  if (*peer == *replication) return Wrong("peer", FLAGS_peer, "is this node's own --replication");
  if (config.service.ip == 0) return Wrong("service", FLAGS_service, "0.0.0.0 cannot move between hosts");
  if (config.service.ip == replication->ip || config.service.ip == peer->ip) {
    return Wrong("service", FLAGS_service, "must not be a node's own address: it moves from host to host");
  }
  if (FLAGS_heartbeat_ms < 1 || FLAGS_heartbeat_ms > 1000) {
    return Wrong("heartbeat_ms", absl::StrCat(FLAGS_heartbeat_ms), "wants 1 to 1000");
  }
  if (FLAGS_suspect_after_ms < 4 * FLAGS_heartbeat_ms || FLAGS_suspect_after_ms > 60'000) {
    return Wrong(
        "suspect_after_ms", absl::StrCat(FLAGS_suspect_after_ms),
        absl::StrCat("wants at least four heartbeats (", 4 * FLAGS_heartbeat_ms, ") and at most 60000"));
  }
  if (FLAGS_max_stall_ms < 0 || FLAGS_max_stall_ms > 600'000) {
    return Wrong("max_stall_ms", absl::StrCat(FLAGS_max_stall_ms), "wants 0 to 600000");
  }
  if (FLAGS_announce_every_s < 0 || FLAGS_announce_every_s > 86'400) {
    return Wrong("announce_every_s", absl::StrCat(FLAGS_announce_every_s), "wants 0 to 86400");
  }
  config.interface = FLAGS_interface;
  config.node = FLAGS_node;
  config.replication = ToEndpoint(*replication);
  config.peer = ToEndpoint(*peer);
  if (absl::Status filled = FillKey(config); !filled.ok()) return filled;
  config.arbiter = FLAGS_arbiter;
  config.heartbeat = std::chrono::milliseconds(FLAGS_heartbeat_ms);
  config.suspect_after = std::chrono::milliseconds(FLAGS_suspect_after_ms);
  config.max_stall = std::chrono::milliseconds(FLAGS_max_stall_ms);
  config.announce_every = std::chrono::seconds(FLAGS_announce_every_s);
  config.witness = FLAGS_witness;
  config.exit_when_useless = FLAGS_exit_when_useless;
  if (FLAGS_force_data_loss && config.role != Role::kPrimary) {
    return Wrong("force_data_loss", "true", "goes with --role=primary only");
  }
  config.force_data_loss = FLAGS_force_data_loss;
  return absl::OkStatus();
}

}  // namespace

const char* RoleName(Role role) {
  switch (role) {
    case Role::kStandalone: return "standalone";
    case Role::kPrimary: return "primary";
    case Role::kSecondary: return "secondary";
  }
  return "unknown";
}

absl::StatusOr<tcpshim::SocketAddress> ParseAddress(const std::string& text, bool any_port) {
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos) return absl::InvalidArgumentError("wants IP:PORT");
  boost::system::error_code error;
  const auto ip = boost::asio::ip::make_address_v4(text.substr(0, colon), error);
  if (error) {
    return absl::InvalidArgumentError(absl::StrCat("\"", text.substr(0, colon), "\" is not an IPv4 address"));
  }
  int port = -1;
  if (!absl::SimpleAtoi(text.substr(colon + 1), &port) || port < (any_port ? 0 : 1) || port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", text.substr(colon + 1), "\" is not a port (", any_port ? 0 : 1, " to 65535)"));
  }
  return tcpshim::SocketAddress{ip.to_uint(), static_cast<uint16_t>(port)};
}

absl::StatusOr<NodeConfig> ConfigFromFlags() {
  NodeConfig config;
  if (FLAGS_role == "standalone") {
    config.role = Role::kStandalone;
  } else if (FLAGS_role == "primary") {
    config.role = Role::kPrimary;
  } else if (FLAGS_role == "secondary") {
    config.role = Role::kSecondary;
  } else {
    return Wrong("role", FLAGS_role, "wants standalone, primary or secondary");
  }
  const bool standalone = config.role == Role::kStandalone;
  auto service = AddressFlag("service", FLAGS_service, /*any_port=*/standalone);
  if (!service.ok()) return service.status();
  config.service = *service;
  if (!FLAGS_status.empty()) {
    auto status = AddressFlag("status", FLAGS_status, /*any_port=*/true);
    if (!status.ok()) return status.status();
    config.status = ToEndpoint(*status);
    config.status_allow_any_host = FLAGS_status_allow_any_host;
  }
  if (FLAGS_stop_within_ms < 0 || FLAGS_stop_within_ms > 600'000) {
    return Wrong("stop_within_ms", absl::StrCat(FLAGS_stop_within_ms), "wants 0 to 600000");
  }
  config.stop_within = std::chrono::milliseconds(FLAGS_stop_within_ms);
  if (FLAGS_client_keepalive_s < 0 || FLAGS_client_keepalive_s > 86'400) {
    return Wrong("client_keepalive_s", absl::StrCat(FLAGS_client_keepalive_s), "wants 0 to 86400");
  }
  config.client_keepalive = std::chrono::seconds(FLAGS_client_keepalive_s);
  config.node = FLAGS_node;
  config.release = FLAGS_release;
  if (standalone && FLAGS_release) {
    return Wrong("release", "true",
                 "a standalone node leaves nothing behind; wants the flags of a node of a pair");
  }
  if (absl::Status filled = FillLimits(config); !filled.ok()) return filled;
  if (absl::Status filled = standalone ? RefusePairFlags() : FillPair(config); !filled.ok()) return filled;
  return config;
}

}  // namespace understudy
