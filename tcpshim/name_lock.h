// Names that one process of a network namespace can hold at a time, as interfaces belong to a namespace too.
#ifndef UNDERSTUDY_TCPSHIM_NAME_LOCK_H_
#define UNDERSTUDY_TCPSHIM_NAME_LOCK_H_

#include <string>

#include "tcpshim/unique_fd.h"

namespace understudy::tcpshim {

inline constexpr char kNameLockFolder[] = "/run/understudy-locks";

// Takes `name` (one component of a path) for as long as the descriptor is open: it goes with its process,
// however that dies. Without a descriptor errno says why: EADDRINUSE, a live process holds it; EACCES,
// `folder` is not its user's alone. The lock is a file in `folder`, which is made for this user alone:
// whoever may open a file may lock it, and an abstract socket may be bound by anybody.
UniqueFd TakeName(const std::string& name, const std::string& folder = kNameLockFolder);
// Closes what TakeName gave, and removes its file; what is only closed is swept by whoever takes the next
// name.
void GiveBackName(UniqueFd lock);

// Whether the file that is open is still the one of that name in `folder` (AT_FDCWD: by its path): whoever
// sweeps may just have removed it. For whoever has locked it, and before it is removed.
bool IsThere(int folder, const std::string& file, int fd);

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_NAME_LOCK_H_
