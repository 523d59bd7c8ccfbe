#include "tcpshim/south_program.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <glog/logging.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tcpshim/load_error.h"
#include "tcpshim/name_lock.h"
#include "tcpshim/south.skel.h"
#include "tcpshim/south_error.h"

namespace understudy::tcpshim {
namespace {

// What a fork() must not hand on: a child that outlives its parent would keep the program array filled
// and the name taken, and so speak for the dead.
struct ForkGuarded {
  pid_t owner;
  int verdicts_fd;
  int name_fd;
};
std::mutex fork_mutex;
std::vector<ForkGuarded>& ForkRegistry() {
  static auto* registry = new std::vector<ForkGuarded>;
  return *registry;
}

void GuardForks() {
  static const int once = [] {
    return pthread_atfork([] { fork_mutex.lock(); }, [] { fork_mutex.unlock(); },
                          [] {
                            for (const ForkGuarded& guarded : ForkRegistry()) {
                              close(guarded.verdicts_fd);
                              close(guarded.name_fd);
                            }
                            ForkRegistry().clear();
                            fork_mutex.unlock();
                          });
  }();
  LOG_IF(ERROR, once != 0) << "pthread_atfork: " << strerror(once);
}

}  // namespace

// --- Whose it is ---------------------------------------------------------------------------------

SouthProgram::SouthProgram(const SouthWrapper::Options& options)
    : options_(options),
      service_{htonl(options.service.ip), htons(options.service.port), 0},
      owner_(getpid()) {}

bool SouthProgram::is_own() const { return owner_ == getpid(); }

absl::StatusOr<std::unique_ptr<SouthProgram>> SouthProgram::Own(const SouthWrapper::Options& options) {
  if (absl::Status status = CheckSouthKernel(); !status.ok()) return status;
  std::unique_ptr<SouthProgram> program(new SouthProgram(options));
  if (absl::Status status = program->FindInterface(); !status.ok()) return status;
  if (absl::Status status = program->TakeName(); !status.ok()) return status;
  return program;
}

SouthProgram::~SouthProgram() {
  // The registry's lock, so that no child is forked between: it would hold what is not guarded any more.
  std::lock_guard<std::mutex> lock(fork_mutex);
  if (!is_own()) {
    name_.release();
    return;
  }
  std::erase_if(ForkRegistry(),
                [this](const ForkGuarded& guarded) { return guarded.name_fd == name_.get(); });
  if (skeleton_ != nullptr) south__destroy(skeleton_);
  GiveBackName(std::move(name_));
}

absl::Status SouthProgram::FindInterface() {
  interface_index_ = static_cast<int>(if_nametoindex(options_.interface.c_str()));
  if (interface_index_ == 0) {
    return absl::NotFoundError(
        absl::StrCat("south wrapper: no interface named \"", options_.interface, "\" here"));
  }
  UniqueFd probe(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request = {};
  options_.interface.copy(request.ifr_name, IFNAMSIZ - 1);
  if (!probe || ioctl(probe.get(), SIOCGIFHWADDR, &request) != 0) {
    return SouthError(absl::StrCat("looking at ", options_.interface), errno);
  }
  const int type = request.ifr_hwaddr.sa_family;
  if (type != ARPHRD_ETHER && type != ARPHRD_LOOPBACK) {
    return absl::FailedPreconditionError(absl::StrCat("south wrapper: ", options_.interface,
                                                      " is no Ethernet interface (its type is ", type, ")"));
  }
  return absl::OkStatus();
}

// A live process of the same service on the interface has the name.
absl::Status SouthProgram::TakeName() {
  const uint32_t hash = (options_.service.ip ^ (options_.service.port * 0x9e3779b1u)) | 0x80000001u;
  name_ = tcpshim::TakeName(absl::StrFormat("south-%d-%08x", interface_index_, hash));
  if (name_) {
    named_index_ = interface_index_;
    return absl::OkStatus();
  }
  if (errno == EADDRINUSE) {
    return absl::AlreadyExistsError(absl::StrCat("south wrapper: a live process holds ",
                                                 options_.service.ToString(), " on ", options_.interface));
  }
  const int error = errno;
  return SouthError(absl::StrCat("cannot lock a name in ", kNameLockFolder), error);
}

absl::Status SouthProgram::FollowInterface() {
  if (absl::Status found = FindInterface(); !found.ok()) return found;
  if (named_index_ == interface_index_) return absl::OkStatus();  // by an attempt that failed later
  UniqueFd before = std::move(name_);
  if (absl::Status taken = TakeName(); !taken.ok()) {
    name_ = std::move(before);
    return taken;
  }
  std::lock_guard<std::mutex> lock(fork_mutex);
  for (ForkGuarded& guarded : ForkRegistry()) {
    if (guarded.name_fd == before.get()) guarded.name_fd = name_.get();
  }
  GiveBackName(std::move(before));
  return absl::OkStatus();
}

// --- Loading -------------------------------------------------------------------------------------

absl::Status SouthProgram::Load(const SouthProbe& probe, bool tcx) {
  if (absl::Status status = LoadSkeleton(probe, tcx); !status.ok()) return status;
  FindMaps();
  if (absl::Status status = FillVerdicts(); !status.ok()) return status;
  if (absl::Status status = CheckClock(); !status.ok()) return status;
  return NameEntries();
}

absl::Status SouthProgram::LoadSkeleton(const SouthProbe& probe, bool tcx) {
  // Kernels before 5.11 count maps as locked memory. Where it is refused, loading tells.
  const rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
  if (setrlimit(RLIMIT_MEMLOCK, &unlimited) != 0) VLOG(1) << "RLIMIT_MEMLOCK: " << strerror(errno);

  LibbpfComplaints complaints;
  skeleton_ = south__open();
  if (skeleton_ == nullptr) return SouthError("opening the programs", errno);
  skeleton_->rodata->service_ip = service_.ip;
  skeleton_->rodata->service_port = service_.port;
  skeleton_->rodata->by_tcx = tcx;
  skeleton_->rodata->hand_cookie = options_.hand_cookie;
  skeleton_->rodata->hand_ip_id = htons(options_.hand_ip_id);
  skeleton_->rodata->probe_cookie = probe.cookie();
  skeleton_->rodata->probe_nonce = probe.nonce();
  bpf_map__set_max_entries(skeleton_->maps.connections, options_.max_connections);
  bpf_map__set_max_entries(skeleton_->maps.slots, options_.max_connections);
  const int error = south__load(skeleton_);
  return error == 0 ? absl::OkStatus() : SouthLoadError(complaints.text(), -error);
}

void SouthProgram::FindMaps() {
  const auto& maps = skeleton_->maps;
  maps_ = {.control = bpf_map__fd(maps.control),
           .connections = bpf_map__fd(maps.connections),
           .slots = bpf_map__fd(maps.slots),
           .events = bpf_map__fd(maps.events),
           .strays = bpf_map__fd(maps.strays),
           .counters = bpf_map__fd(maps.counters),
           .max_connections = options_.max_connections};
}

absl::Status SouthProgram::FillVerdicts() {
  const int verdicts = bpf_map__fd(skeleton_->maps.verdicts);
  GuardForks();
  {
    std::lock_guard<std::mutex> lock(fork_mutex);
    ForkRegistry().push_back({owner_, verdicts, name_.get()});
  }
  const auto& p = skeleton_->progs;
  const std::array<std::pair<uint32_t, bpf_program*>, SOUTH_VERDICTS> programs = {{
      {SOUTH_VERDICT_EGRESS, p.south_egress_verdict},
      {SOUTH_VERDICT_INGRESS, p.south_ingress_verdict},
      {SOUTH_VERDICT_ELSEWHERE, p.south_elsewhere_verdict},
      {SOUTH_VERDICT_ELSEWHERE_RAW, p.south_elsewhere_raw_verdict},
      {SOUTH_VERDICT_INGRESS_RAW, p.south_ingress_raw_verdict},
  }};
  for (const auto& [place, program] : programs) {
    const uint32_t fd = static_cast<uint32_t>(bpf_program__fd(program));
    if (bpf_map_update_elem(verdicts, &place, &fd, BPF_ANY) != 0) {
      return SouthError("filling the program array", errno);
    }
  }
  return absl::OkStatus();
}

// Whether CLOCK_MONOTONIC here is the kernel's own, which the programs compare deadlines with: in a time
// namespace a lease would end days late, or before it began.
absl::Status SouthProgram::CheckClock() const {
  std::array<char, 64> packet = {};  // it is looked at by nobody, but there must be one
  bpf_test_run_opts run = {};
  run.sz = sizeof(run);
  run.data_in = packet.data();
  run.data_size_in = packet.size();
  const auto before = std::chrono::steady_clock::now().time_since_epoch();
  if (const int error = bpf_prog_test_run_opts(bpf_program__fd(skeleton_->progs.south_clock), &run);
      error != 0) {
    return SouthError("asking the kernel for its clock", -error);
  }
  const auto after = std::chrono::steady_clock::now().time_since_epoch();
  south_control control;
  const uint32_t zero = 0;
  if (bpf_map_lookup_elem(maps_.control, &zero, &control) != 0) {
    return SouthError("asking the kernel for its clock", errno);
  }
  const std::chrono::nanoseconds kernel(control.clock_ns);
  // The two are read from one counter, but not with the same care about its rate.
  constexpr std::chrono::milliseconds kSlack(1);
  if (before <= kernel + kSlack && kernel <= after + kSlack) return absl::OkStatus();
  const double ahead = std::chrono::duration<double>(before - kernel).count();
  return absl::FailedPreconditionError(absl::StrFormat(
      "south wrapper: CLOCK_MONOTONIC of this process is %.3f s %s that of the kernel, with which the right "
      "to serve "
      "is measured: it runs in a time namespace. Start it outside (no unshare --time, no time offset in the "
      "container's configuration)",
      std::abs(ahead), ahead > 0 ? "ahead of" : "behind"));
}

// What they are named by on an interface, once they are attached there: whose they are.
absl::Status SouthProgram::NameEntries() {
  const int service_map = bpf_map__fd(skeleton_->maps.south_service);
  const uint32_t zero = 0;
  if (bpf_map_update_elem(service_map, &zero, &service_, BPF_ANY) != 0) {
    return SouthError("naming the programs", errno);
  }
  const auto programs = [&](bpf_program* egress, bpf_program* egress_2, bpf_program* ingress,
                            bpf_program* ingress_2) {
    SouthAttachment::Programs out;
    out.fds[SouthAttachment::kEgress] = {bpf_program__fd(egress), bpf_program__fd(egress_2)};
    out.fds[SouthAttachment::kIngress] = {bpf_program__fd(ingress), bpf_program__fd(ingress_2)};
    out.service = service_;
    for (const auto& direction : out.fds) {
      // Those that are used twice are bound already.
      for (int fd : direction) bpf_prog_bind_map(fd, service_map, nullptr);
    }
    return out;
  };
  const auto& p = skeleton_->progs;
  entries_ = {
      .home = programs(p.south_egress, p.south_egress_2, p.south_ingress, p.south_ingress_2),
      .ethernet =
          programs(p.south_egress_elsewhere, p.south_egress_elsewhere_2, p.south_ingress, p.south_ingress_2),
      .raw = programs(p.south_egress_raw, p.south_egress_raw_2, p.south_ingress_raw, p.south_ingress_raw_2)};
  return absl::OkStatus();
}

}  // namespace understudy::tcpshim
