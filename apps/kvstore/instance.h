// The store as the commands see it: the keys, who is connected, what is set.
#ifndef UNDERSTUDY_APPS_KVSTORE_INSTANCE_H_
#define UNDERSTUDY_APPS_KVSTORE_INSTANCE_H_

#include <cstdint>
#include <map>

#include "apps/kvstore/resp/request_parser.h"
#include "apps/kvstore/session.h"
#include "apps/kvstore/store/keyspace.h"
#include "apps/kvstore/store/watches.h"

namespace kvstore {

struct Instance {
  Keyspace* keys = nullptr;
  Watches watches;
  RequestParser::Limits limits;                  // CONFIG SET proto-max-bulk-len changes max_bulk
  // Bytes of one request that may wait for its end, and of a transaction that waits for EXEC.
  size_t max_query_buffer = size_t{1} << 30;     // client-query-buffer-limit
  std::map<uint64_t, Session*> sessions;         // by id
  // For INFO: since the log began, the same on both nodes.
  int64_t started_ms = 0;
  uint64_t connections_received = 0;
  uint64_t commands_processed = 0;
};

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_INSTANCE_H_
