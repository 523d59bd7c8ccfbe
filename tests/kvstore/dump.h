// All that a server holds, read over a connection.
#ifndef UNDERSTUDY_TESTS_KVSTORE_DUMP_H_
#define UNDERSTUDY_TESTS_KVSTORE_DUMP_H_

#include <chrono>
#include <cstdint>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "tests/kvstore/wire.h"

namespace kvstore::test {

struct KeyDump {
  std::string type;
  std::string value;      // what the command that reads it all answered; unordered types sorted
  int64_t expire_ms = 0;  // -1: never
};
using Dump = std::map<std::string, KeyDump>;

// Over a connection in RESP2 outside of transactions.
absl::StatusOr<Dump> ReadDump(Wire& wire);
// "" or the first difference.
std::string CompareDumps(const Dump& ours, const Dump& redis, std::chrono::milliseconds tolerance);

}  // namespace kvstore::test

#endif  // UNDERSTUDY_TESTS_KVSTORE_DUMP_H_
