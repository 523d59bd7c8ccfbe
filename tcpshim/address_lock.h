// Which live process has taken charge of an address on this host.
#ifndef UNDERSTUDY_TCPSHIM_ADDRESS_LOCK_H_
#define UNDERSTUDY_TCPSHIM_ADDRESS_LOCK_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "tcpshim/unique_fd.h"

namespace understudy::tcpshim {

// One process for each address of a network namespace: the south wrapper silences the whole address, whatever
// the port, so two services on one would end each other. A lock on a file in `folder`, which is made when it is
// missing. The kernel takes the lock back when the process ends, however that happens; children do not inherit it.
class AddressLock {
 public:
  static constexpr char kFolder[] = "/run/understudy";

  // `who` is what another process is told: "198.18.0.1:7000 on eth0".
  //   AlreadyExists: a live process has it; says which.  Others: the file cannot be made; says why.
  static absl::StatusOr<AddressLock> Take(uint32_t ip, const std::string& who, const std::string& folder = kFolder);

  AddressLock(AddressLock&&) = default;
  AddressLock& operator=(AddressLock&&) = default;

 private:
  explicit AddressLock(UniqueFd file) : file_(std::move(file)) {}
  UniqueFd file_;
};

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_ADDRESS_LOCK_H_
