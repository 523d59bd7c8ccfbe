// Which live process has taken charge of an address on this host.
#ifndef UNDERSTUDY_TCPSHIM_ADDRESS_LOCK_H_
#define UNDERSTUDY_TCPSHIM_ADDRESS_LOCK_H_

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "tcpshim/unique_fd.h"

namespace understudy::tcpshim {

// One process for each address of a network namespace: the south wrapper silences the whole address, whatever
// the port, so two services on one would end each other. A lock on a file in `folder`, which is made when it
// is missing. The kernel takes the lock back when the process ends, however that happens; children do not
// inherit it. The file goes with the object, and what the dead have left with the next Take. One at a time in
// a process.
class AddressLock {
 public:
  static constexpr char kFolder[] = "/run/understudy";

  static constexpr char kPerhaps[] =
      ": is this node running already? If it is not this node: each service needs an address of its own";

  // `who` is what another process is told: "198.18.0.1:7000 on eth0".
  //   AlreadyExists: a live process has it; says which, and then `perhaps`.
  //   Others: the file cannot be made; says why.
  static absl::StatusOr<AddressLock> Take(uint32_t ip, const std::string& who,
                                          const std::string& folder = kFolder,
                                          const std::string& perhaps = kPerhaps);

  AddressLock(AddressLock&& other) = default;
  AddressLock& operator=(AddressLock&& other) noexcept {
    std::swap(file_, other.file_);
    std::swap(path_, other.path_);
    std::swap(owner_, other.owner_);
    return *this;
  }
  ~AddressLock();

 private:
  AddressLock(UniqueFd file, std::string path);
  UniqueFd file_;
  std::string path_;
  pid_t owner_;  // a forked child has the object, not the lock
};

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_ADDRESS_LOCK_H_
