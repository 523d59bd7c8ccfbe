// What the store keeps of one connection: nothing that is not a consequence of what it has sent.
#ifndef UNDERSTUDY_APPS_KVSTORE_SESSION_H_
#define UNDERSTUDY_APPS_KVSTORE_SESSION_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "apps/kvstore/resp/request_parser.h"
#include "apps/kvstore/store/watches.h"
#include "framework/server.h"

namespace kvstore {

struct Session : understudy::Connection::Context {
  // On the server's own host, as Redis sees it.
  bool IsLocal() const { return peer.starts_with("127."); }

  uint64_t id = 0;                               // CLIENT ID: the connection's number
  understudy::Connection* connection = nullptr;  // whose context this is
  std::string peer, local;                       // "198.18.0.9:40000"
  std::string name;                              // CLIENT SETNAME
  int protocol = 2;
  bool authenticated = true;  // there is no password, or it has been given
  bool no_evict = false, no_touch = false;
  std::string library_name, library_version;  // CLIENT SETINFO
  int64_t connected_ms = 0;                   // logged time
  int64_t last_command_ms = 0;
  std::string_view last_command;  // "client|list"; of the command table, which lives for ever

  RequestParser parser;

  // MULTI: what was queued, and whether something among it was wrong (EXECABORT).
  bool in_multi = false;
  bool multi_failed = false;
  std::vector<std::vector<std::string>> queued;
  size_t queued_bytes = 0;
  Watcher watcher;

  size_t memory = 0;     // what Instance::clients_memory has of it (commands/client_memory.h)
  bool closing = false;  // QUIT, or a protocol error: what follows is not read
};

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_SESSION_H_
