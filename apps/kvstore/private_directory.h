// A directory that nobody else can look into.
#ifndef UNDERSTUDY_APPS_KVSTORE_PRIVATE_DIRECTORY_H_
#define UNDERSTUDY_APPS_KVSTORE_PRIVATE_DIRECTORY_H_

#include <string>

#include "absl/status/status.h"

namespace kvstore {

// Makes `path`, for its owner alone. One that is there and open to others is closed to them, which the log
// says; when it belongs to somebody else, the log says only that it is open. Unavailable names the system's
// reason.
absl::Status MakePrivateDirectory(const std::string& path);

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_PRIVATE_DIRECTORY_H_
