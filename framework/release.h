// What a node that was killed has left on its host.
#ifndef UNDERSTUDY_FRAMEWORK_RELEASE_H_
#define UNDERSTUDY_FRAMEWORK_RELEASE_H_

#include "absl/status/status.h"
#include "framework/node_config.h"

namespace understudy {

// Takes the service address off the interface, and then the filters that keep the host from speaking for it:
// until then the host's own programs see nothing of a service that another node has taken over. (A node that
// starts does the same.) OK when nothing was there. AlreadyExists: a live process serves that address, or
// may; nothing was changed.
absl::Status Release(const NodeConfig& config);

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_RELEASE_H_
