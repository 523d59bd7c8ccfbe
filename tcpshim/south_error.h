// Errors of the south wrapper, in words that tell an operator what to do.
#ifndef UNDERSTUDY_TCPSHIM_SOUTH_ERROR_H_
#define UNDERSTUDY_TCPSHIM_SOUTH_ERROR_H_

#include <string>

#include "absl/status/status.h"

namespace understudy::tcpshim {

// `what` failed with `error`, an errno. Names the capability that is missing, or what the kernel may lack.
absl::Status SouthError(const std::string& what, int error);
// Of loading the programs. `complaints` are libbpf's: in them is what the kernel's verifier said.
absl::Status SouthLoadError(const std::string& complaints, int error);
// FailedPrecondition: the kernel is too old.
absl::Status CheckSouthKernel();

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_SOUTH_ERROR_H_
