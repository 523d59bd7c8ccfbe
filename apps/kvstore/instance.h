// The store as the commands see it: the keys, who is connected, what is set.
#ifndef UNDERSTUDY_APPS_KVSTORE_INSTANCE_H_
#define UNDERSTUDY_APPS_KVSTORE_INSTANCE_H_

#include <cstdint>
#include <map>
#include <string>

#include "apps/kvstore/resp/request_parser.h"
#include "apps/kvstore/session.h"
#include "apps/kvstore/store/keyspace.h"
#include "apps/kvstore/store/watches.h"

namespace kvstore {

// Who may use DEBUG, which can hold everybody up.
enum class DebugCommand { kNo, kLocal, kYes };

// What was set at the start, for good; the same on both nodes of a pair.
struct Configuration {
  std::string password = {};  // empty: none
  // Without a password only clients on this host (127.0.0.0/8) are served.
  bool protected_mode = true;
  DebugCommand debug = DebugCommand::kNo;
  size_t max_clients = 10'000;
  // Bytes that one client may make the server keep for its request, its transaction, and the keys it watches.
  size_t max_query_buffer = size_t{256} << 20;
  // Bytes of one reply, but one value always fits: with more, the client is ended.
  size_t max_reply = size_t{64} << 20;
  // All together: with more, who has most is ended.
  size_t max_clients_memory = size_t{256} << 20;
};

struct Instance {
  Keyspace* keys = nullptr;
  Watches watches;
  RequestParser::Limits limits;
  Configuration settings;
  bool storage_writable = true;           // false: changes are refused (Server::OnStorage)
  std::string keyspace_events;            // notify-keyspace-events, as CONFIG GET says it
  std::map<uint64_t, Session*> sessions;  // by id
  size_t clients_memory = 0;              // commands/client_memory.h
  // For INFO: since the log began, the same on both nodes.
  int64_t started_ms = 0;
  uint64_t connections_received = 0;
  uint64_t commands_processed = 0;
};

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_INSTANCE_H_
