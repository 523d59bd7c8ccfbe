// Whether a file system is another host's, or looks like it.
#ifndef UNDERSTUDY_REPLICATION_NETWORK_FILE_SYSTEM_H_
#define UNDERSTUDY_REPLICATION_NETWORK_FILE_SYSTEM_H_

#include <cstdint>

namespace understudy::replication {

// From statfs::f_type. The name of a network file system, or of one that may be (FUSE); nullptr: it is local.
const char* NetworkFileSystem(uint64_t type);

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_NETWORK_FILE_SYSTEM_H_
