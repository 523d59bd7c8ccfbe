// kvstore: a key-value store for Redis's clients that outlives its machine. It speaks Redis's protocol, keeps
// its data in LevelDB, and as a pair it loses neither data nor connections when one of its machines dies: an
// Understudy server like apps/echo, with more to say.
//
//   kvstore --role=standalone --service=127.0.0.1:6379 --data_dir=/var/lib/kvstore
//
// deploy/kvstore/ has the flags of a pair, docs/kvstore.md the commands and what differs from Redis.
#include <gflags/gflags.h>

#include <chrono>

#include "apps/kvstore/kvstore.h"
#include "framework/run.h"

DECLARE_string(role);   // the framework's

DEFINE_string(data_dir, "",
              "Directory of the data, made when it is not there, and closed to other users. Empty: a temporary one, "
              "removed at the end");
DEFINE_uint32(cache_mb, 64, "MiB of the data that are kept in memory");
DEFINE_int32(write_behind_ms, -1,
             "Changes are written to the data directory this much later, so that what changes often is written "
             "once, as long as the other node of a pair has them, too; 0: before they are answered; -1: 0 when "
             "standalone, 1000 in a pair");
DEFINE_uint32(proto_max_bulk_mb, 64,
              "MiB that one value may have, 1 to 512; both nodes of a pair must be given the same");

namespace {

bool InRange(const char*, google::uint32 megabytes) { return megabytes >= 1 && megabytes <= 512; }
const bool registered = gflags::RegisterFlagValidator(&FLAGS_proto_max_bulk_mb, &InRange);

std::chrono::milliseconds WriteBehind() {
  if (FLAGS_write_behind_ms >= 0) return std::chrono::milliseconds(FLAGS_write_behind_ms);
  return std::chrono::milliseconds(FLAGS_role == "standalone" ? 0 : 1000);
}

absl::StatusOr<std::unique_ptr<understudy::Server>> Open() {
  return kvstore::KvStore::Open({.data_dir = FLAGS_data_dir,
                                 .cache_bytes = size_t{FLAGS_cache_mb} << 20,
                                 .write_behind = WriteBehind(),
                                 .max_bulk = size_t{FLAGS_proto_max_bulk_mb} << 20});
}

}  // namespace

int main(int argc, char** argv) { return understudy::RunMain(argc, argv, Open); }
