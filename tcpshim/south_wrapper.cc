#include "tcpshim/south_wrapper.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <glog/logging.h>
#include <libmnl/libmnl.h>
#include <linux/capability.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
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
#include "tcpshim/unique_fd.h"

namespace understudy::tcpshim {
namespace {

// Ours come before filters with a larger number, and say "go on" where they have nothing against a
// packet. The number is fixed, and seldom used by others: one priority holds filters of one kind only.
constexpr uint32_t kPriority = 7;

constexpr char kOptionsNeeded[] =
    "CONFIG_BPF_SYSCALL, CONFIG_NET_CLS_ACT, CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF";

constexpr std::array<const char*, SOUTH_COUNTERS> kCounterNames = {
    "egress_passed",
    "egress_silent_gate",
    "egress_silent_deadline",
    "egress_syn_ack_held",
    "egress_ack_held",
    "egress_ack_clamped",
    "egress_fin_discarded",
    "egress_rst_discarded",
    "egress_rst_unknown",
    "egress_by_hand",
    "egress_malformed",
    "ingress_passed",
    "ingress_silent",
    "ingress_malformed",
    "events_lost",
    "egress_other",
    "egress_owner_dead",
    "egress_syn_unknown",
    "egress_stray",
    "ingress_other",
    "ingress_owner_dead",
    "ingress_no_socket",
    "egress_rst_limited",
};
static_assert(kCounterNames.back() != nullptr, "each counter has a name");

// Loads, stores and exchanges of what the programs in the kernel read and write at the same time. All
// sequentially consistent: the reasoning about `held` (south.bpf.c, "hold") leans on it.
template <typename T>
T Load(const T& at) {
  return std::atomic_ref<T>(const_cast<T&>(at)).load();
}
template <typename T>
void Store(T& at, T value) {
  std::atomic_ref<T>(at).store(value);
}

south_tuple ToKey(const FourTuple& tuple) {
  return {htonl(tuple.local.ip), htonl(tuple.remote.ip), htons(tuple.local.port),
          htons(tuple.remote.port)};
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
    return absl::PermissionDeniedError(absl::StrCat(
        text, ". ",
        missing.empty() ? "No capability is missing here, so a container, a user namespace or a "
                          "security module forbids it"
                        : absl::StrCat("Missing here: ", missing),
        "; run as root on the host, or grant them: setcap "
        "cap_net_admin,cap_net_raw,cap_bpf,cap_perfmon+ep BINARY, or AmbientCapabilities="
        "CAP_NET_ADMIN CAP_NET_RAW CAP_BPF CAP_PERFMON in the systemd unit"));
  }
  switch (error) {
    case ENODEV:
    case ENXIO:
      return absl::NotFoundError(text);
    case ENOMEM:
      return absl::ResourceExhaustedError(text);
    case EOPNOTSUPP:
    case ENOENT:
    case ENOSYS:
      return absl::FailedPreconditionError(absl::StrCat(
          text, ". The kernel may lack one of ", kOptionsNeeded, "; here is Linux ", KernelRelease()));
    default:
      return absl::FailedPreconditionError(absl::StrCat(text, ". Here is Linux ", KernelRelease()));
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
    return absl::FailedPreconditionError(absl::StrCat(
        "south wrapper: this needs Linux 5.12 or later (BPF atomics; memory-mapped arrays and ring buffers are "
        "older) with ", kOptionsNeeded, "; here is Linux ", release));
  }
  return absl::OkStatus();
}

// Two processes on one interface must not make and remove its clsact qdisc at the same time: removing it
// removes the other's filters. Held for a few system calls.
UniqueFd LockQdisc(int interface_index) {
  const std::string name = absl::StrCat("south-", interface_index, "-qdisc");
  for (int i = 0; i < 1000; ++i) {
    UniqueFd fd = TakeName(name);
    if (fd || errno != EADDRINUSE) return fd;
    usleep(1000);
  }
  return UniqueFd();
}

int SawMessage(const nlmsghdr*, void* seen) {
  *static_cast<bool*>(seen) = true;
  return MNL_CB_OK;
}

// Whether clsact has no filter left in one direction; false also when that cannot be found out.
bool NoFilters(int interface_index, uint32_t minor) {
  std::array<char, 32768> buffer;
  nlmsghdr* request = mnl_nlmsg_put_header(buffer.data());
  request->nlmsg_type = RTM_GETTFILTER;
  request->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  request->nlmsg_seq = 1;
  auto* message = static_cast<tcmsg*>(mnl_nlmsg_put_extra_header(request, sizeof(tcmsg)));
  message->tcm_family = AF_UNSPEC;
  message->tcm_ifindex = interface_index;
  message->tcm_parent = TC_H_MAKE(TC_H_CLSACT, minor);

  mnl_socket* netlink = mnl_socket_open2(NETLINK_ROUTE, SOCK_CLOEXEC);
  if (netlink == nullptr) return false;
  bool seen = false;
  bool complete = false;
  if (mnl_socket_bind(netlink, 0, MNL_SOCKET_AUTOPID) == 0 &&
      mnl_socket_sendto(netlink, request, request->nlmsg_len) >= 0) {
    const unsigned port = mnl_socket_get_portid(netlink);
    int more = MNL_CB_OK;
    while (more > MNL_CB_STOP) {
      const ssize_t size = mnl_socket_recvfrom(netlink, buffer.data(), buffer.size());
      if (size <= 0) break;
      more = mnl_cb_run(buffer.data(), static_cast<size_t>(size), 1, port, SawMessage, &seen);
    }
    complete = more == MNL_CB_STOP;
  }
  mnl_socket_close(netlink);
  return complete && !seen;
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
  uint32_t handle = 0;
  bool made_qdisc = false;
  bool egress_attached = false;
  bool ingress_attached = false;

  UniqueFd name;  // taken while this process lives
  south* skeleton = nullptr;
  ring_buffer* ring = nullptr;
  MappedMap control_memory;
  MappedMap connection_memory;
  south_control* control = nullptr;
  south_connection* connections = nullptr;

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
  bpf_tc_hook Hook(bpf_tc_attach_point point) const {
    bpf_tc_hook hook = {};
    hook.sz = sizeof(hook);
    hook.ifindex = interface_index;
    hook.attach_point = point;
    return hook;
  }
  absl::Status AttachOne(bpf_tc_attach_point point, bpf_program* program, bool* attached);
  void DetachOne(bpf_tc_attach_point point);
  south_connection& At(Slot slot) const {
    CHECK_LT(slot, used.size());
    CHECK(used[slot]) << "slot " << slot << " holds no connection";
    return connections[slot];
  }
  static int OnEvent(void* context, void* data, size_t size);
};

absl::Status SouthWrapper::Impl::AttachOne(bpf_tc_attach_point point, bpf_program* program,
                                           bool* attached) {
  const bpf_tc_hook hook = Hook(point);
  bpf_tc_opts wanted = {};
  wanted.sz = sizeof(wanted);
  wanted.handle = handle;
  wanted.priority = kPriority;
  bpf_tc_opts query = wanted;
  const bool left_over = bpf_tc_query(&hook, &query) == 0;
  if (left_over) LOG(INFO) << "south wrapper: replacing the filter of a dead process";
  wanted.prog_fd = bpf_program__fd(program);
  // One netlink message: the kernel exchanges the filters under RCU, so each packet meets the old one,
  // whose process is dead, or the new one, whose gate is closed.
  wanted.flags = BPF_TC_F_REPLACE;
  const int error = bpf_tc_attach(&hook, &wanted);
  if (error != 0) {
    return Failed(absl::StrCat("attaching to ", options.interface,
                               point == BPF_TC_EGRESS ? " (egress)" : " (ingress)"),
                  -error);
  }
  // If the rest fails, what was silent before stays silent: only a filter that is new is taken off.
  *attached = !left_over;
  return absl::OkStatus();
}

void SouthWrapper::Impl::DetachOne(bpf_tc_attach_point point) {
  const bpf_tc_hook hook = Hook(point);
  bpf_tc_opts filter = {};
  filter.sz = sizeof(filter);
  filter.handle = handle;
  filter.priority = kPriority;
  const int error = bpf_tc_detach(&hook, &filter);
  // The interface may be gone, and the filter with it.
  if (error != 0 && error != -ENODEV && error != -ENOENT) {
    LOG(ERROR) << "south wrapper: detaching from " << options.interface << ": "
               << strerror(-error);
  }
}

SouthWrapper::Impl::~Impl() {
  // In a forked child the filters are not ours to take off, nor the descriptors ours to close.
  if (owner != getpid()) {
    name.release();
    return;
  }
  if (egress_attached || ingress_attached || made_qdisc) {
    UniqueFd lock = LockQdisc(interface_index);
    if (ingress_attached) DetachOne(BPF_TC_INGRESS);
    if (egress_attached) DetachOne(BPF_TC_EGRESS);
    if (made_qdisc && lock && NoFilters(interface_index, TC_H_MIN_INGRESS) &&
        NoFilters(interface_index, TC_H_MIN_EGRESS)) {
      bpf_tc_hook hook =
          Hook(static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS));
      const int error = bpf_tc_hook_destroy(&hook);
      LOG_IF(WARNING, error != 0 && error != -ENODEV && error != -ENOENT && error != -EINVAL)
          << "south wrapper: removing clsact from " << options.interface << ": "
          << strerror(-error);
    }
  }
  if (ring != nullptr) ring_buffer__free(ring);
  {
    std::lock_guard<std::mutex> lock(fork_mutex);
    std::erase_if(ForkRegistry(),
                  [this](const ForkGuarded& guarded) { return guarded.name_fd == name.get(); });
    if (skeleton != nullptr) south__destroy(skeleton);
    name.reset();
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

  // --- Where ---
  impl->interface_index = static_cast<int>(if_nametoindex(options.interface.c_str()));
  if (impl->interface_index == 0) {
    return absl::NotFoundError(
        absl::StrCat("south wrapper: no interface named \"", options.interface, "\" here"));
  }
  {
    UniqueFd probe(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq request = {};
    options.interface.copy(request.ifr_name, IFNAMSIZ - 1);
    if (!probe || ioctl(probe.get(), SIOCGIFHWADDR, &request) != 0) {
      return Failed(absl::StrCat("looking at ", options.interface), errno);
    }
    const int type = request.ifr_hwaddr.sa_family;
    if (type != ARPHRD_ETHER && type != ARPHRD_LOOPBACK) {
      return absl::FailedPreconditionError(absl::StrCat(
          "south wrapper: ", options.interface, " is no Ethernet interface (its type is ", type, ")"));
    }
  }
  // The same for the same service address, always: that is how the filter of a dead process is found
  // again. Whoever holds the name has the handle, so that even two that hash alike do not clash.
  impl->handle = (options.service.ip ^ (options.service.port * 0x9e3779b1u)) | 0x80000000u;
  impl->name = TakeName(absl::StrFormat("south-%d-%08x", impl->interface_index, impl->handle));
  if (!impl->name) {
    if (errno == EADDRINUSE) {
      return absl::AlreadyExistsError(absl::StrCat("south wrapper: a live process holds ",
                                                   options.service.ToString(), " on ",
                                                   options.interface));
    }
    const int error = errno;
    return Failed(absl::StrCat("cannot lock a name in ", kNameLockFolder), error);
  }

  // --- Load ---
  // Kernels before 5.11 count maps as locked memory. Where it is refused, loading tells.
  const rlimit unlimited = {RLIM_INFINITY, RLIM_INFINITY};
  if (setrlimit(RLIMIT_MEMLOCK, &unlimited) != 0) VLOG(1) << "RLIMIT_MEMLOCK: " << strerror(errno);

  LibbpfComplaints complaints;
  impl->skeleton = south__open();
  if (impl->skeleton == nullptr) return Failed("opening the programs", errno);
  impl->skeleton->rodata->service_ip = htonl(options.service.ip);
  impl->skeleton->rodata->service_port = htons(options.service.port);
  impl->skeleton->rodata->hand_cookie = options.hand_cookie;
  impl->skeleton->rodata->hand_ip_id = htons(options.hand_ip_id);
  bpf_map__set_max_entries(impl->skeleton->maps.connections, options.max_connections);
  bpf_map__set_max_entries(impl->skeleton->maps.slots, options.max_connections);
  int error = south__load(impl->skeleton);
  if (error != 0) return NotLoaded(complaints.text(), -error);

  const int verdicts = bpf_map__fd(impl->skeleton->maps.verdicts);
  GuardForks();
  {
    std::lock_guard<std::mutex> lock(fork_mutex);
    ForkRegistry().push_back({impl->owner, verdicts, impl->name.get()});
  }
  const std::array<std::pair<uint32_t, bpf_program*>, SOUTH_VERDICTS> programs = {{
      {SOUTH_VERDICT_EGRESS, impl->skeleton->progs.south_egress_verdict},
      {SOUTH_VERDICT_INGRESS, impl->skeleton->progs.south_ingress_verdict},
  }};
  for (const auto& [place, program] : programs) {
    const uint32_t fd = static_cast<uint32_t>(bpf_program__fd(program));
    if (bpf_map_update_elem(verdicts, &place, &fd, BPF_ANY) != 0) {
      return Failed("filling the program array", errno);
    }
  }
  error = impl->control_memory.Map(bpf_map__fd(impl->skeleton->maps.control), sizeof(south_control));
  if (error != 0) return Failed("mapping the switch", error);
  impl->control = static_cast<south_control*>(impl->control_memory.get());
  error = impl->connection_memory.Map(bpf_map__fd(impl->skeleton->maps.connections),
                                      sizeof(south_connection) * options.max_connections);
  if (error != 0) return Failed("mapping the connections", error);
  impl->connections = static_cast<south_connection*>(impl->connection_memory.get());
  impl->ring = ring_buffer__new(bpf_map__fd(impl->skeleton->maps.events), &Impl::OnEvent, impl.get(),
                                nullptr);
  if (impl->ring == nullptr) return Failed("opening the ring buffer", errno);
  // Behind the other: it is emptied first.
  error = ring_buffer__add(impl->ring, bpf_map__fd(impl->skeleton->maps.strays), &Impl::OnEvent, impl.get());
  if (error != 0) return Failed("opening the second ring buffer", -error);

  // --- Attach: egress first, for it is what must not speak ---
  UniqueFd lock = LockQdisc(impl->interface_index);
  if (!lock) return Failed(absl::StrCat("waiting for the qdisc of ", options.interface), errno);
  bpf_tc_hook hook = impl->Hook(static_cast<bpf_tc_attach_point>(BPF_TC_INGRESS | BPF_TC_EGRESS));
  error = bpf_tc_hook_create(&hook);
  if (error != 0 && error != -EEXIST) {
    return Failed(absl::StrCat("adding clsact to ", options.interface), -error);
  }
  impl->made_qdisc = error == 0;
  absl::Status status = impl->AttachOne(BPF_TC_EGRESS, impl->skeleton->progs.south_egress,
                                        &impl->egress_attached);
  if (status.ok()) {
    status = impl->AttachOne(BPF_TC_INGRESS, impl->skeleton->progs.south_ingress,
                             &impl->ingress_attached);
  }
  lock.reset();
  if (!status.ok()) return status;
  impl->egress_attached = impl->ingress_attached = true;
  VLOG(1) << "south wrapper: on " << options.interface << " for " << options.service.ToString();
  return std::unique_ptr<SouthWrapper>(new SouthWrapper(std::move(impl)));
}

SouthWrapper::SouthWrapper(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
SouthWrapper::~SouthWrapper() = default;

void SouthWrapper::OpenGate() { Store(impl_->control->gate, 1u); }
void SouthWrapper::CloseGate() { Store(impl_->control->gate, 0u); }

void SouthWrapper::RenewUntil(std::chrono::steady_clock::time_point deadline) {
  // steady_clock is CLOCK_MONOTONIC, and so is bpf_ktime_get_ns.
  const auto since = std::chrono::duration_cast<std::chrono::nanoseconds>(deadline.time_since_epoch());
  const __u64 wanted = static_cast<__u64>(std::max<int64_t>(since.count(), 0));
  std::atomic_ref<__u64> shared(impl_->control->deadline_ns);
  __u64 now = shared.load();
  while (now < wanted && !shared.compare_exchange_weak(now, wanted)) {
  }
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
  south_connection fresh = {};
  fresh.iss = iss;
  fresh.stable = stable;
  fresh.flags = flags;
  fresh.rcv_wscale = rcv_wscale;
  // Only what is after `stable` is held, and held_ack never moves back.
  fresh.held_ack = stable;
  if (said != nullptr) {
    fresh.snd_max = said->snd_max;
    fresh.last_ack = said->last_ack;
    fresh.rcv_edge = said->rcv_edge;
    fresh.last_tsval = said->tsval;
    fresh.egress_seen = 1;
  }
  impl.connections[slot] = fresh;
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
    LOG(ERROR) << "south wrapper: removing " << impl_->tuples[slot].ToString() << ": "
               << strerror(errno);
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

void SouthWrapper::SetStable(Slot slot, Seq stable) {
  south_connection& c = impl_->At(slot);
  if (SeqAfter(stable, c.stable)) std::atomic_ref<__u32>(c.stable).exchange(stable);
}

void SouthWrapper::SetWindowLimit(Slot slot, uint32_t bytes) {
  std::atomic_ref<__u32>(impl_->At(slot).window_limit).store(bytes, std::memory_order_relaxed);
}

bool SouthWrapper::WakeWhenAcked(Slot slot, Seq una) {
  south_connection& c = impl_->At(slot);
  std::atomic_ref<__u32> armed(c.wake_armed);
  armed.exchange(0);
  std::atomic_ref<__u32>(c.wake_at).store(una);
  armed.exchange(1);
  // Armed first, then looked: ingress does it the other way round, so one of the two sees it.
  const std::optional<ClientView> client = Client(slot);
  if (!client || SeqBefore(client->una, una)) return false;
  return armed.exchange(0) == 1;   // else the event is on its way
}

std::optional<SouthWrapper::HeldAck> SouthWrapper::TakeHeldAck(Slot slot) {
  south_connection& c = impl_->At(slot);
  std::atomic_ref<__u32> held(c.held);
  if (held.load() == 0 || held.exchange(0) == 0) return std::nullopt;

  HeldAck out = {};
  for (int tries = 1;; ++tries) {
    const uint32_t before = Load(c.held_version);
    out.ack = Load(c.held_ack);
    out.seq = Load(c.held_seq);
    out.tsval = Load(c.held_tsval);
    out.tsecr = Load(c.held_tsecr);
    out.window = Load(c.held_window);
    if ((before & 1) == 0 && Load(c.held_version) == before) break;
    if (tries % 64 == 0) sched_yield();  // the writer cannot be preempted, but be interrupted
  }
  Seq edge = out.ack + (static_cast<uint32_t>(out.window) << c.rcv_wscale);
  const Seq stable = c.stable;
  const bool whole = !SeqBefore(stable, out.ack);
  if (!whole) {
    out.ack = stable;
    uint32_t none = 0;
    held.compare_exchange_strong(none, 1);
  }
  const std::optional<ServerView> sent = Sent(slot);
  if (sent) {
    // TCP may have sent more since then. An older sequence number, time stamp or window would be
    // dropped by the client, or take room back.
    edge = SeqMax(edge, sent->rcv_edge);
    out.seq = SeqMax(out.seq, sent->snd_max);
    if (out.tsval != 0) out.tsval = SeqMax(out.tsval, sent->tsval);
  }
  // As fit_window in south.bpf.c.
  uint32_t room = edge - out.ack;
  if (c.window_limit != 0) room = std::min(room, c.window_limit);
  uint32_t window = room >> c.rcv_wscale;
  if (sent && SeqAfter(sent->rcv_edge, out.ack + (window << c.rcv_wscale))) {
    window = (sent->rcv_edge - out.ack + (1u << c.rcv_wscale) - 1) >> c.rcv_wscale;
  }
  out.window = static_cast<uint16_t>(std::min<uint32_t>(window, 65535));
  if (!sent || SeqAfter(out.ack, sent->last_ack)) return out;
  // The number has been said. Worth a segment of its own is only a window that has not.
  if (whole &&
      SeqAfter(out.ack + (static_cast<uint32_t>(out.window) << c.rcv_wscale), sent->rcv_edge)) {
    return out;
  }
  return std::nullopt;
}

std::optional<SouthWrapper::ClientView> SouthWrapper::Client(Slot slot) const {
  const south_connection& c = impl_->At(slot);
  if (Load(c.ingress_seen) == 0) return std::nullopt;
  south_connection copy;
  copy.una_and_window = Load(c.una_and_window);
  return ClientView{copy.una, static_cast<uint16_t>(copy.window), Load(c.client_tsval)};
}

std::optional<SouthWrapper::ServerView> SouthWrapper::Sent(Slot slot) const {
  const south_connection& c = impl_->At(slot);
  if (Load(c.egress_seen) == 0) return std::nullopt;
  return ServerView{Load(c.snd_max), Load(c.last_ack), Load(c.rcv_edge), Load(c.last_tsval)};
}

int SouthWrapper::event_fd() const { return ring_buffer__epoll_fd(impl_->ring); }

int SouthWrapper::PollEvents(const std::function<void(const south_event&)>& handle, int limit) {
  if (limit <= 0) return 0;
  CHECK(impl_->handler == nullptr) << "PollEvents inside PollEvents";
  impl_->handler = &handle;
  impl_->events_left = limit;
  impl_->events_handled = 0;
  const int result = ring_buffer__consume(impl_->ring);
  impl_->handler = nullptr;
  LOG_IF(ERROR, result < 0 && result != -ECANCELED)
      << "south wrapper: ring buffer: " << strerror(-result);
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
