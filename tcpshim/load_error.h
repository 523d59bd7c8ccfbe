// Why the kernel refused a BPF program, in a line for the operator.
#ifndef UNDERSTUDY_TCPSHIM_LOAD_ERROR_H_
#define UNDERSTUDY_TCPSHIM_LOAD_ERROR_H_

#include <string>

#include "absl/strings/string_view.h"

namespace understudy::tcpshim {

// Keeps what libbpf complains of in this thread while it exists; nests. All of libbpf's output goes to glog's
// verbose levels from the first one on.
class LibbpfComplaints {
 public:
  LibbpfComplaints();
  ~LibbpfComplaints();
  LibbpfComplaints(const LibbpfComplaints&) = delete;
  LibbpfComplaints& operator=(const LibbpfComplaints&) = delete;

  const std::string& text() const { return text_; }

 private:
  LibbpfComplaints* outer_;
  std::string text_;

  friend struct LibbpfPrinter;
};

// The last words of the verifier out of libbpf's complaints about a load: "south_egress: R3 min value is
// outside of the allowed memory range", with the name of the program that was refused. Without a verifier's
// log in them, the first complaint; "" when there is none.
std::string WhyNotLoaded(absl::string_view complaints);

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_LOAD_ERROR_H_
