#include "tcpshim/south_wrapper.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <glog/logging.h>
#include <linux/capability.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <pthread.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <deque>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tcpshim/load_error.h"
#include "tcpshim/name_lock.h"
#include "tcpshim/south.skel.h"
#include "tcpshim/south_attachment.h"
#include "tcpshim/south_fence.h"
#include "tcpshim/south_probe.h"
#include "tcpshim/unique_fd.h"
#include "tcpshim/verdict.h"

namespace understudy::tcpshim {
namespace {

constexpr char kOptionsNeeded[] =
    "CONFIG_BPF_SYSCALL, CONFIG_NET_CLS_ACT, CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF";

constexpr std::array<const char*, SOUTH_COUNTERS> kCounterNames = {
    "egress_passed",        "egress_silent_gate",   "egress_silent_deadline",
    "egress_syn_ack_held",  "egress_ack_held",      "egress_ack_clamped",
    "egress_fin_discarded", "egress_rst_discarded", "egress_rst_unknown",
    "egress_by_hand",       "egress_malformed",     "ingress_passed",
    "ingress_silent",       "ingress_malformed",    "events_lost",
    "egress_other",         "egress_owner_dead",    "egress_syn_unknown",
    "egress_stray",         "ingress_other",        "ingress_owner_dead",
    "ingress_no_socket",    "egress_rst_limited",   "egress_elsewhere",
    "egress_probe",         "ingress_probe",
};
static_assert(kCounterNames.back() != nullptr, "each counter has a name");

// Loads and stores of what the programs in the kernel read and write at the same time.
template <typename T>
T Load(const T& at) {
  return std::atomic_ref<T>(const_cast<T&>(at)).load();
}
template <typename T>
void Store(T& at, T value) {
  std::atomic_ref<T>(at).store(value);
}

south_tuple ToKey(const FourTuple& tuple) {
  return {htonl(tuple.local.ip), htonl(tuple.remote.ip), htons(tuple.local.port), htons(tuple.remote.port)};
}

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

absl::Status Failed(const std::string& what, int error) {
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

// `complaints` are libbpf's; in them is what the kernel's verifier said.
absl::Status NotLoaded(const std::string& complaints, int error) {
  const std::string why = WhyNotLoaded(complaints);
  const absl::Status status = Failed("loading the programs", error);
  if (why.empty()) return status;
  // First, since the rest is advice: a capability that is missing, or the kernel's release.
  return absl::Status(status.code(), absl::StrCat("south wrapper: the kernel refused a program: ", why, " (",
                                                  status.message(), ")"));
}

absl::Status CheckKernel() {
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

// Whether CLOCK_MONOTONIC here is the kernel's own, which the programs compare deadlines with: in a time
// namespace a lease would end days late, or before it began.
absl::Status CheckClock(const bpf_program* program, const __u64& clock_ns) {
  std::array<char, 64> packet = {};  // it is looked at by nobody, but there must be one
  bpf_test_run_opts run = {};
  run.sz = sizeof(run);
  run.data_in = packet.data();
  run.data_size_in = packet.size();
  const auto before = std::chrono::steady_clock::now().time_since_epoch();
  if (const int error = bpf_prog_test_run_opts(bpf_program__fd(program), &run); error != 0) {
    return Failed("asking the kernel for its clock", -error);
  }
  const auto after = std::chrono::steady_clock::now().time_since_epoch();
  const std::chrono::nanoseconds kernel(Load(clock_ns));
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

// A map of the kernel's, as memory.
class MappedMap {
 public:
  MappedMap() = default;
  MappedMap(const MappedMap&) = delete;
  MappedMap& operator=(const MappedMap&) = delete;
  ~MappedMap() {
    if (address_ != MAP_FAILED) munmap(address_, size_);
  }
  // Returns 0 or an errno.
  int Map(int fd, size_t size) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    size_ = (size + page - 1) / page * page;
    address_ = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return address_ == MAP_FAILED ? errno : 0;
  }
  void* get() const { return address_; }

 private:
  void* address_ = MAP_FAILED;
  size_t size_ = 0;
};

}  // namespace

struct SouthWrapper::Impl {
  Options options;
  pid_t owner = 0;
  int interface_index = 0;

  UniqueFd name;  // taken while this process lives
  int named_index = 0;
  south* skeleton = nullptr;
  ring_buffer* ring = nullptr;
  MappedMap control_memory;
  MappedMap connection_memory;
  south_control* control = nullptr;
  south_connection* connections = nullptr;
  std::unique_ptr<SouthFence> fence;

  // Slots that were never used come first, then those freed longest ago: a program that still holds a
  // pointer to a freed slot must be through with it before the slot is another connection's.
  Slot next_unused = 0;
  std::deque<Slot> freed;
  std::vector<FourTuple> tuples;  // by slot
  std::vector<bool> used;

  const std::function<void(const south_event&)>* handler = nullptr;  // during PollEvents
  int events_left = 0;
  int events_handled = 0;

  ~Impl();
  // The steps of Attach.
  absl::Status FindInterface();
  absl::Status TakeService();
  absl::Status Load(const SouthProbe& probe, bool tcx);
  absl::Status FillVerdicts();
  absl::Status MapMemory();
  absl::Status Raise(std::unique_ptr<SouthProbe> probe, bool tcx);
  absl::Status Rename();
  absl::Status FollowInterface();

  south_service service() const { return {htonl(options.service.ip), htons(options.service.port), 0}; }
  south_connection& At(Slot slot) const {
    CHECK_LT(slot, used.size());
    CHECK(used[slot]) << "slot " << slot << " holds no connection";
    return connections[slot];
  }
  static int OnEvent(void* context, void* data, size_t size);
};

SouthWrapper::Impl::~Impl() {
  // In a forked child the programs are not ours to take off, nor the descriptors ours to close.
  if (owner != getpid()) {
    if (fence != nullptr) fence->Abandon();
    name.release();
    return;
  }
  fence.reset();
  if (ring != nullptr) ring_buffer__free(ring);
  {
    std::lock_guard<std::mutex> lock(fork_mutex);
    std::erase_if(ForkRegistry(),
                  [this](const ForkGuarded& guarded) { return guarded.name_fd == name.get(); });
    if (skeleton != nullptr) south__destroy(skeleton);
    GiveBackName(std::move(name));
  }
}

int SouthWrapper::Impl::OnEvent(void* context, void* data, size_t size) {
  auto* impl = static_cast<Impl*>(context);
  if (size >= sizeof(south_event)) {
    south_event event;
    memcpy(&event, data, sizeof(event));
    ++impl->events_handled;
    (*impl->handler)(event);
  }
  // A negative number ends the round behind this event.
  return --impl->events_left > 0 ? 0 : -ECANCELED;
}

absl::StatusOr<std::unique_ptr<SouthWrapper>> SouthWrapper::Attach(const Options& options) {
  if (options.max_connections == 0 || options.max_connections > (1u << 24)) {
    return absl::InvalidArgumentError("south wrapper: max_connections is out of range");
  }
  if (options.service.ip == 0 || options.service.port == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("south wrapper: not a service address: ", options.service.ToString()));
  }
  if (absl::Status status = CheckKernel(); !status.ok()) return status;

  auto impl = std::make_unique<Impl>();
  impl->options = options;
  impl->owner = getpid();
  if (absl::Status status = impl->FindInterface(); !status.ok()) return status;
  if (absl::Status status = impl->TakeService(); !status.ok()) return status;
  auto probe = SouthProbe::Open();
  if (!probe.ok()) return Failed("packet socket", absl::IsPermissionDenied(probe.status()) ? EPERM : EINVAL);
  const bool tcx = options.tcx && SouthAttachment::HaveTcx();
  if (absl::Status status = impl->Load(**probe, tcx); !status.ok()) return status;
  if (absl::Status status = impl->FillVerdicts(); !status.ok()) return status;
  if (absl::Status status = impl->MapMemory(); !status.ok()) return status;
  if (absl::Status status = impl->Raise(*std::move(probe), tcx); !status.ok()) return status;
  VLOG(1) << "south wrapper: on " << options.interface << " for " << options.service.ToString()
          << (tcx ? ", by tcx" : ", by clsact");
  return std::unique_ptr<SouthWrapper>(new SouthWrapper(std::move(impl)));
}

absl::Status SouthWrapper::Impl::FindInterface() {
  interface_index = static_cast<int>(if_nametoindex(options.interface.c_str()));
  if (interface_index == 0) {
    return absl::NotFoundError(
        absl::StrCat("south wrapper: no interface named \"", options.interface, "\" here"));
  }
  UniqueFd probe(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request = {};
  options.interface.copy(request.ifr_name, IFNAMSIZ - 1);
  if (!probe || ioctl(probe.get(), SIOCGIFHWADDR, &request) != 0) {
    return Failed(absl::StrCat("looking at ", options.interface), errno);
  }
  const int type = request.ifr_hwaddr.sa_family;
  if (type != ARPHRD_ETHER && type != ARPHRD_LOOPBACK) {
    return absl::FailedPreconditionError(absl::StrCat("south wrapper: ", options.interface,
                                                      " is no Ethernet interface (its type is ", type, ")"));
  }
  return absl::OkStatus();
}

// A live process of the same service on the interface has the name.
absl::Status SouthWrapper::Impl::TakeService() {
  const uint32_t hash = (options.service.ip ^ (options.service.port * 0x9e3779b1u)) | 0x80000001u;
  name = TakeName(absl::StrFormat("south-%d-%08x", interface_index, hash));
  if (name) {
    named_index = interface_index;
    return absl::OkStatus();
  }
  if (errno == EADDRINUSE) {
    return absl::AlreadyExistsError(absl::StrCat("south wrapper: a live process holds ",
                                                 options.service.ToString(), " on ", options.interface));
  }
  const int error = errno;
  return Failed(absl::StrCat("cannot lock a name in ", kNameLockFolder), error);
}

absl::Status SouthWrapper::Impl::Load(const SouthProbe& probe, bool tcx) {
  // Kernels before 5.11 count maps as locked memory. Where it is refused, loading tells.
  const rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
  if (setrlimit(RLIMIT_MEMLOCK, &unlimited) != 0) VLOG(1) << "RLIMIT_MEMLOCK: " << strerror(errno);

  LibbpfComplaints complaints;
  skeleton = south__open();
  if (skeleton == nullptr) return Failed("opening the programs", errno);
  skeleton->rodata->service_ip = htonl(options.service.ip);
  skeleton->rodata->service_port = htons(options.service.port);
  skeleton->rodata->by_tcx = tcx;
  skeleton->rodata->hand_cookie = options.hand_cookie;
  skeleton->rodata->hand_ip_id = htons(options.hand_ip_id);
  skeleton->rodata->probe_cookie = probe.cookie();
  skeleton->rodata->probe_nonce = probe.nonce();
  bpf_map__set_max_entries(skeleton->maps.connections, options.max_connections);
  bpf_map__set_max_entries(skeleton->maps.slots, options.max_connections);
  const int error = south__load(skeleton);
  return error == 0 ? absl::OkStatus() : NotLoaded(complaints.text(), -error);
}

absl::Status SouthWrapper::Impl::FillVerdicts() {
  const int verdicts = bpf_map__fd(skeleton->maps.verdicts);
  GuardForks();
  {
    std::lock_guard<std::mutex> lock(fork_mutex);
    ForkRegistry().push_back({owner, verdicts, name.get()});
  }
  const std::array<std::pair<uint32_t, bpf_program*>, SOUTH_VERDICTS> programs = {{
      {SOUTH_VERDICT_EGRESS, skeleton->progs.south_egress_verdict},
      {SOUTH_VERDICT_INGRESS, skeleton->progs.south_ingress_verdict},
      {SOUTH_VERDICT_ELSEWHERE, skeleton->progs.south_elsewhere_verdict},
      {SOUTH_VERDICT_ELSEWHERE_RAW, skeleton->progs.south_elsewhere_raw_verdict},
      {SOUTH_VERDICT_INGRESS_RAW, skeleton->progs.south_ingress_raw_verdict},
  }};
  for (const auto& [place, program] : programs) {
    const uint32_t fd = static_cast<uint32_t>(bpf_program__fd(program));
    if (bpf_map_update_elem(verdicts, &place, &fd, BPF_ANY) != 0) {
      return Failed("filling the program array", errno);
    }
  }
  return absl::OkStatus();
}

absl::Status SouthWrapper::Impl::MapMemory() {
  int error = control_memory.Map(bpf_map__fd(skeleton->maps.control), sizeof(south_control));
  if (error != 0) return Failed("mapping the switch", error);
  control = static_cast<south_control*>(control_memory.get());
  if (absl::Status status = CheckClock(skeleton->progs.south_clock, control->clock_ns); !status.ok())
    return status;
  error = connection_memory.Map(bpf_map__fd(skeleton->maps.connections),
                                sizeof(south_connection) * options.max_connections);
  if (error != 0) return Failed("mapping the connections", error);
  connections = static_cast<south_connection*>(connection_memory.get());
  ring = ring_buffer__new(bpf_map__fd(skeleton->maps.events), &Impl::OnEvent, this, nullptr);
  if (ring == nullptr) return Failed("opening the ring buffer", errno);
  // Behind the other: it is emptied first.
  error = ring_buffer__add(ring, bpf_map__fd(skeleton->maps.strays), &Impl::OnEvent, this);
  return error == 0 ? absl::OkStatus() : Failed("opening the second ring buffer", -error);
}

absl::Status SouthWrapper::Impl::Raise(std::unique_ptr<SouthProbe> probe, bool tcx) {
  const int service_map = bpf_map__fd(skeleton->maps.south_service);
  const south_service who = service();
  const uint32_t zero = 0;
  if (bpf_map_update_elem(service_map, &zero, &who, BPF_ANY) != 0)
    return Failed("naming the programs", errno);
  auto programs = [&](bpf_program* egress, bpf_program* egress_2, bpf_program* ingress,
                      bpf_program* ingress_2) {
    SouthAttachment::Programs out;
    out.fds[SouthAttachment::kEgress] = {bpf_program__fd(egress), bpf_program__fd(egress_2)};
    out.fds[SouthAttachment::kIngress] = {bpf_program__fd(ingress), bpf_program__fd(ingress_2)};
    out.service = who;
    for (const auto& direction : out.fds) {
      // Those that are used twice are bound already.
      for (int fd : direction) bpf_prog_bind_map(fd, service_map, nullptr);
    }
    return out;
  };
  const auto& p = skeleton->progs;
  const SouthFence::Programs all = {
      .home = programs(p.south_egress, p.south_egress_2, p.south_ingress, p.south_ingress_2),
      .ethernet =
          programs(p.south_egress_elsewhere, p.south_egress_elsewhere_2, p.south_ingress, p.south_ingress_2),
      .raw = programs(p.south_egress_raw, p.south_egress_raw_2, p.south_ingress_raw, p.south_ingress_raw_2)};
  auto raised = SouthFence::Raise(interface_index, options.service, all, tcx, std::move(probe), control);
  if (!raised.ok()) {
    if (absl::IsPermissionDenied(raised.status()))
      return Failed(std::string(raised.status().message()), EPERM);
    return absl::Status(raised.status().code(), absl::StrCat("south wrapper: ", raised.status().message()));
  }
  fence = *std::move(raised);
  return absl::OkStatus();
}

SouthWrapper::SouthWrapper(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SouthWrapper::~SouthWrapper() = default;

// The name says which interface it is about.
absl::Status SouthWrapper::Impl::Rename() {
  if (named_index == interface_index) return absl::OkStatus();  // by an attempt that failed later
  UniqueFd before = std::move(name);
  if (absl::Status taken = TakeService(); !taken.ok()) {
    name = std::move(before);
    return taken;
  }
  std::lock_guard<std::mutex> lock(fork_mutex);
  for (ForkGuarded& guarded : ForkRegistry()) {
    if (guarded.name_fd == before.get()) guarded.name_fd = name.get();
  }
  GiveBackName(std::move(before));
  return absl::OkStatus();
}

absl::Status SouthWrapper::Impl::FollowInterface() {
  if (absl::Status found = FindInterface(); !found.ok()) return found;
  if (absl::Status renamed = Rename(); !renamed.ok()) return renamed;
  const absl::Status moved = fence->MoveTo(interface_index);
  if (moved.ok()) return moved;
  return absl::Status(moved.code(), absl::StrCat("south wrapper: ", moved.message()));
}

absl::Status SouthWrapper::FollowInterface() { return impl_->FollowInterface(); }
absl::Status SouthWrapper::Check() { return impl_->fence->Check(); }
int SouthWrapper::change_fd() const { return impl_->fence->change_fd(); }
uint64_t SouthWrapper::mended() const { return impl_->fence->mended(); }

void SouthWrapper::RemoveLeftovers(const SocketAddress& service) {
  LibbpfComplaints quiet;
  struct if_nameindex* all = if_nameindex();
  if (all == nullptr) return;
  for (const struct if_nameindex* one = all; one->if_index != 0; ++one) {
    SouthAttachment::RemoveLeftovers(static_cast<int>(one->if_index),
                                     {htonl(service.ip), htons(service.port), 0});
  }
  if_freenameindex(all);
}

void SouthWrapper::OpenGate() { Store(impl_->control->gate, 1u); }
void SouthWrapper::CloseGate() { Store(impl_->control->gate, 0u); }

void SouthWrapper::RenewUntil(std::chrono::steady_clock::time_point deadline) {
  // steady_clock is CLOCK_MONOTONIC, and so is bpf_ktime_get_ns.
  const auto since = std::chrono::duration_cast<std::chrono::nanoseconds>(deadline.time_since_epoch());
  south_renew(impl_->control, static_cast<__u64>(std::max<int64_t>(since.count(), 0)));
}

absl::StatusOr<SouthWrapper::Slot> SouthWrapper::Add(const FourTuple& tuple, Seq iss, Seq stable,
                                                     uint32_t flags, uint8_t rcv_wscale,
                                                     const ServerView* said) {
  Impl& impl = *impl_;
  if (tuple.local != impl.options.service) {
    return absl::InvalidArgumentError(
        absl::StrCat(tuple.ToString(), ": the service address is ", impl.options.service.ToString()));
  }
  if (rcv_wscale > 14) {
    return absl::InvalidArgumentError(absl::StrCat(tuple.ToString(), ": window scale ", rcv_wscale));
  }
  const bool reuse = impl.next_unused == impl.options.max_connections;
  if (reuse && impl.freed.empty()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("south wrapper: all ", impl.options.max_connections, " slots are in use"));
  }
  const Slot slot = reuse ? impl.freed.front() : impl.next_unused;
  south_begin(&impl.connections[slot], iss, stable, flags, rcv_wscale);
  if (said != nullptr) south_begin_restored(&impl.connections[slot], said);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const south_tuple key = ToKey(tuple);
  if (bpf_map_update_elem(bpf_map__fd(impl.skeleton->maps.slots), &key, &slot, BPF_NOEXIST) != 0) {
    const int error = errno;
    if (error == EEXIST) return absl::AlreadyExistsError(tuple.ToString());
    return absl::ResourceExhaustedError(
        absl::StrCat("south wrapper: adding ", tuple.ToString(), ": ", strerror(error)));
  }
  if (reuse) {
    impl.freed.pop_front();
  } else {
    ++impl.next_unused;
    impl.tuples.resize(impl.next_unused);
    impl.used.resize(impl.next_unused);
  }
  impl.tuples[slot] = tuple;
  impl.used[slot] = true;
  return slot;
}

void SouthWrapper::Remove(Slot slot) {
  impl_->At(slot);
  const south_tuple key = ToKey(impl_->tuples[slot]);
  if (bpf_map_delete_elem(bpf_map__fd(impl_->skeleton->maps.slots), &key) != 0) {
    LOG(ERROR) << "south wrapper: removing " << impl_->tuples[slot].ToString() << ": " << strerror(errno);
  }
  impl_->used[slot] = false;
  impl_->freed.push_back(slot);
}

void SouthWrapper::Allow(Slot slot, uint32_t flags) {
  std::atomic_ref<__u32>(impl_->At(slot).flags).fetch_or(flags);
}

void SouthWrapper::Disallow(Slot slot, uint32_t flags) {
  std::atomic_ref<__u32>(impl_->At(slot).flags).fetch_and(~flags);
}

void SouthWrapper::SetStable(Slot slot, Seq stable) { south_set_stable(&impl_->At(slot), stable); }

void SouthWrapper::SetWindowLimit(Slot slot, uint32_t bytes) {
  std::atomic_ref<__u32>(impl_->At(slot).window_limit).store(bytes, std::memory_order_relaxed);
}

bool SouthWrapper::WakeWhenAcked(Slot slot, Seq una) {
  return south_wake_when_acked(&impl_->At(slot), una) != 0;
}

std::optional<SouthWrapper::HeldAck> SouthWrapper::TakeHeldAck(Slot slot) {
  HeldAck held;
  if (!south_take_held(&impl_->At(slot), &held)) return std::nullopt;
  return held;
}

std::optional<SouthWrapper::ClientView> SouthWrapper::Client(Slot slot) const {
  ClientView client;
  if (!south_read_client(&impl_->At(slot), &client)) return std::nullopt;
  return client;
}

void SouthWrapper::NotePast(Slot slot, Seq snd_max, Seq una) {
  south_note_past(&impl_->At(slot), snd_max, una);
}

std::optional<SouthWrapper::ServerView> SouthWrapper::Sent(Slot slot) const {
  ServerView sent;
  if (!south_read_sent(&impl_->At(slot), &sent)) return std::nullopt;
  return sent;
}

int SouthWrapper::gate_fd() const { return bpf_map__fd(impl_->skeleton->maps.control); }

int SouthWrapper::event_fd() const { return ring_buffer__epoll_fd(impl_->ring); }

int SouthWrapper::PollEvents(const std::function<void(const south_event&)>& handle, int limit) {
  if (limit <= 0) return 0;
  CHECK(impl_->handler == nullptr) << "PollEvents inside PollEvents";
  impl_->handler = &handle;
  impl_->events_left = limit;
  impl_->events_handled = 0;
  const int result = ring_buffer__consume(impl_->ring);
  impl_->handler = nullptr;
  LOG_IF(ERROR, result < 0 && result != -ECANCELED) << "south wrapper: ring buffer: " << strerror(-result);
  return impl_->events_handled;
}

std::array<uint64_t, SOUTH_COUNTERS> SouthWrapper::Counters() const {
  std::array<uint64_t, SOUTH_COUNTERS> sums = {};
  const int cpus = libbpf_num_possible_cpus();
  if (cpus <= 0) return sums;
  std::vector<std::array<uint64_t, SOUTH_COUNTERS>> values(static_cast<size_t>(cpus));
  const uint32_t zero = 0;
  if (bpf_map_lookup_elem(bpf_map__fd(impl_->skeleton->maps.counters), &zero, values.data()) != 0) {
    LOG(ERROR) << "south wrapper: reading the counters: " << strerror(errno);
    return sums;
  }
  for (const auto& one : values) {
    for (size_t i = 0; i < sums.size(); ++i) sums[i] += one[i];
  }
  return sums;
}

const char* SouthWrapper::CounterName(int counter) {
  CHECK_GE(counter, 0);
  CHECK_LT(counter, static_cast<int>(SOUTH_COUNTERS));
  return kCounterNames[static_cast<size_t>(counter)];
}

}  // namespace understudy::tcpshim
