#include "tcpshim/south_error.h"

#include <linux/capability.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tcpshim/load_error.h"

namespace understudy::tcpshim {
namespace {

constexpr char kOptionsNeeded[] =
    "CONFIG_BPF_SYSCALL, CONFIG_NET_CLS_ACT, CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF";

// Which of the capabilities that Attach needs this thread lacks; empty: none.
std::string MissingCapabilities() {
  __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
  std::array<__user_cap_data_struct, 2> data = {};
  if (syscall(SYS_capget, &header, data.data()) != 0) return "";
  auto has = [&data](unsigned capability) {
    return (data[capability / 32].effective & (1u << capability % 32)) != 0;
  };
  std::vector<const char*> missing;
  if (!has(CAP_NET_ADMIN)) missing.push_back("CAP_NET_ADMIN");
  if (!has(CAP_NET_RAW)) missing.push_back("CAP_NET_RAW");
  if (!has(CAP_BPF) && !has(CAP_SYS_ADMIN)) missing.push_back("CAP_BPF");
  // Without it the verifier follows what a CPU might speculate, too, and gives up.
  if (!has(CAP_PERFMON) && !has(CAP_SYS_ADMIN)) missing.push_back("CAP_PERFMON");
  std::string text;
  for (const char* name : missing) absl::StrAppend(&text, text.empty() ? "" : ", ", name);
  return text;
}

std::string KernelRelease() {
  utsname name = {};
  uname(&name);
  return name.release;
}

}  // namespace

absl::Status SouthError(const std::string& what, int error) {
  const std::string text = absl::StrCat("south wrapper: ", what, ": ", strerror(error));
  const std::string missing = MissingCapabilities();
  if (!missing.empty() || error == EPERM) {
    return absl::PermissionDeniedError(
        absl::StrCat(text, ". ",
                     missing.empty() ? "No capability is missing here, so a container, a user namespace or a "
                                       "security module forbids it"
                                     : absl::StrCat("Missing here: ", missing),
                     "; run as root on the host, or grant them: setcap "
                     "cap_net_admin,cap_net_raw,cap_bpf,cap_perfmon+ep BINARY, or AmbientCapabilities="
                     "CAP_NET_ADMIN CAP_NET_RAW CAP_BPF CAP_PERFMON in the systemd unit"));
  }
  switch (error) {
    case ENODEV:
    case ENXIO: return absl::NotFoundError(text);
    case ENOMEM: return absl::ResourceExhaustedError(text);
    case EOPNOTSUPP:
    case ENOENT:
    case ENOSYS:
      return absl::FailedPreconditionError(absl::StrCat(text, ". The kernel may lack one of ", kOptionsNeeded,
                                                        "; here is Linux ", KernelRelease()));
    default: return absl::FailedPreconditionError(absl::StrCat(text, ". Here is Linux ", KernelRelease()));
  }
}

absl::Status SouthLoadError(const std::string& complaints, int error) {
  const std::string why = WhyNotLoaded(complaints);
  const absl::Status status = SouthError("loading the programs", error);
  if (why.empty()) return status;
  // First, since the rest is advice: a capability that is missing, or the kernel's release.
  return absl::Status(status.code(), absl::StrCat("south wrapper: the kernel refused a program: ", why, " (",
                                                  status.message(), ")"));
}

absl::Status CheckSouthKernel() {
  const std::string release = KernelRelease();
  int major = 0, minor = 0;
  if (sscanf(release.c_str(), "%d.%d", &major, &minor) == 2 && (major < 5 || (major == 5 && minor < 12))) {
    return absl::FailedPreconditionError(
        absl::StrCat("south wrapper: this needs Linux 5.12 or later (BPF atomics; memory-mapped arrays and "
                     "ring buffers are "
                     "older) with ",
                     kOptionsNeeded, "; here is Linux ", release));
  }
  return absl::OkStatus();
}

}  // namespace understudy::tcpshim
