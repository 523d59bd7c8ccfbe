#include "tcpshim/south_attachment.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <glog/logging.h>
#include <libmnl/libmnl.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "tcpshim/name_lock.h"

namespace understudy::tcpshim {
namespace {

// Filters with a smaller number come first, so there is none before ours. One priority holds filters of one
// kind only.
constexpr uint32_t kPriority = 1;

// --- tcx, which is younger than the headers here -------------------------------------------------

constexpr std::array<uint32_t, SouthAttachment::kDirections> kTcxType = {46, 47};  // BPF_TCX_INGRESS, _EGRESS
constexpr uint32_t kBefore = 1u << 3;                                              // BPF_F_BEFORE

struct AttachCall {
  uint32_t interface_index;
  uint32_t program;
  uint32_t type;
  uint32_t flags;
  uint32_t replaced;
  uint32_t relative;
  uint64_t revision;
};

struct QueryCall {
  uint32_t interface_index;
  uint32_t type;
  uint32_t query_flags;
  uint32_t attach_flags;
  uint64_t program_ids;
  uint32_t count;
  uint32_t pad;
  uint64_t program_flags;
  uint64_t link_ids;
  uint64_t link_flags;
  uint64_t revision;
};

template <typename Call>
int Bpf(int command, Call& call) {
  return static_cast<int>(syscall(SYS_bpf, command, &call, sizeof(call)));
}

// The IDs of the programs there, first to last; empty with errno when it cannot be found out.
std::vector<uint32_t> TcxPrograms(int interface_index, SouthAttachment::Direction direction) {
  std::vector<uint32_t> ids(64);  // the most that there can be
  QueryCall call = {};
  call.interface_index = static_cast<uint32_t>(interface_index);
  call.type = kTcxType[direction];
  call.program_ids = reinterpret_cast<uintptr_t>(ids.data());
  call.count = static_cast<uint32_t>(ids.size());
  errno = 0;
  if (Bpf(BPF_PROG_QUERY, call) != 0) return {};
  errno = 0;
  ids.resize(std::min<size_t>(call.count, ids.size()));
  return ids;
}

int TcxAttach(int interface_index, SouthAttachment::Direction direction, int program) {
  AttachCall call = {};
  call.interface_index = static_cast<uint32_t>(interface_index);
  call.program = static_cast<uint32_t>(program);
  call.type = kTcxType[direction];
  call.flags = kBefore;
  return Bpf(BPF_PROG_ATTACH, call) == 0 ? 0 : errno;
}

int TcxDetach(int interface_index, SouthAttachment::Direction direction, int program) {
  AttachCall call = {};
  call.interface_index = static_cast<uint32_t>(interface_index);
  call.program = static_cast<uint32_t>(program);
  call.type = kTcxType[direction];
  return Bpf(BPF_PROG_DETACH, call) == 0 ? 0 : errno;
}

// --- Programs by ID ------------------------------------------------------------------------------

struct About {
  UniqueFd fd;
  bpf_prog_info info = {};
};

About ProgramById(uint32_t id) {
  About about;
  about.fd = UniqueFd(bpf_prog_get_fd_by_id(id));
  uint32_t size = sizeof(about.info);
  if (about.fd && bpf_obj_get_info_by_fd(about.fd.get(), &about.info, &size) != 0) about.fd.reset();
  return about;
}

// Whether it is a south wrapper's, for this service: it is bound to a map that says so.
bool IsFor(const About& program, const south_service& service) {
  std::array<uint32_t, 64> ids = {};
  bpf_prog_info info = {};
  info.nr_map_ids = ids.size();
  info.map_ids = reinterpret_cast<uintptr_t>(ids.data());
  uint32_t size = sizeof(info);
  if (!program.fd || bpf_obj_get_info_by_fd(program.fd.get(), &info, &size) != 0) return false;
  for (uint32_t i = 0; i < std::min<uint32_t>(info.nr_map_ids, ids.size()); ++i) {
    const UniqueFd map(bpf_map_get_fd_by_id(ids[i]));
    bpf_map_info about = {};
    size = sizeof(about);
    if (!map || bpf_obj_get_info_by_fd(map.get(), &about, &size) != 0) continue;
    if (about.type != BPF_MAP_TYPE_ARRAY || about.value_size != sizeof(south_service) ||
        strcmp(about.name, SOUTH_SERVICE_MAP) != 0) {
      continue;
    }
    const uint32_t zero = 0;
    south_service found = {};
    if (bpf_map_lookup_elem(map.get(), &zero, &found) != 0) continue;
    return found.ip == service.ip && found.port == service.port;
  }
  return false;
}

// --- clsact --------------------------------------------------------------------------------------

bpf_tc_hook HookOf(int interface_index, int attach_point) {
  bpf_tc_hook hook = {};
  hook.sz = sizeof(hook);
  hook.ifindex = interface_index;
  hook.attach_point = static_cast<bpf_tc_attach_point>(attach_point);
  return hook;
}

int PointOf(SouthAttachment::Direction direction) {
  return direction == SouthAttachment::kIngress ? BPF_TC_INGRESS : BPF_TC_EGRESS;
}

// The same for the same service, always: that is how the filter of a dead process is found again. Whoever
// holds the service's name has the handle, so that even two that hash alike do not clash. `place`: 0 or 1.
uint32_t HandleOf(const south_service& service, int place) {
  const uint32_t ip = __builtin_bswap32(service.ip);
  const uint32_t port = __builtin_bswap16(service.port);
  return (((ip ^ (port * 0x9e3779b1u)) | 0x80000000u) & ~1u) | static_cast<uint32_t>(place);
}

int FilterDetach(int interface_index, SouthAttachment::Direction direction, uint32_t handle) {
  const bpf_tc_hook hook = HookOf(interface_index, PointOf(direction));
  bpf_tc_opts filter = {};
  filter.sz = sizeof(filter);
  filter.handle = handle;
  filter.priority = kPriority;
  return -bpf_tc_detach(&hook, &filter);
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

// The filters in one direction, as kinds; nothing when that cannot be found out.
int CollectKind(const nlmsghdr* message, void* kinds) {
  auto collect = [](const nlattr* attribute, void* to) {
    if (mnl_attr_get_type(attribute) == TCA_KIND) {
      static_cast<std::vector<std::string>*>(to)->emplace_back(mnl_attr_get_str(attribute));
    }
    return MNL_CB_OK;
  };
  mnl_attr_parse(message, sizeof(tcmsg), collect, kinds);
  return MNL_CB_OK;
}

bool FilterKinds(int interface_index, uint32_t minor, std::vector<std::string>* kinds) {
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
  bool complete = false;
  if (mnl_socket_bind(netlink, 0, MNL_SOCKET_AUTOPID) == 0 &&
      mnl_socket_sendto(netlink, request, request->nlmsg_len) >= 0) {
    const unsigned port = mnl_socket_get_portid(netlink);
    int more = MNL_CB_OK;
    while (more > MNL_CB_STOP) {
      const ssize_t size = mnl_socket_recvfrom(netlink, buffer.data(), buffer.size());
      if (size <= 0) break;
      more = mnl_cb_run(buffer.data(), static_cast<size_t>(size), 1, port, CollectKind, kinds);
    }
    complete = more == MNL_CB_STOP;
  }
  mnl_socket_close(netlink);
  return complete;
}

bool NoFilters(int interface_index, uint32_t minor) {
  std::vector<std::string> kinds;
  return FilterKinds(interface_index, minor, &kinds) && kinds.empty();
}

absl::Status Refused(int interface_index, SouthAttachment::Direction direction, int error) {
  std::array<char, IF_NAMESIZE> name = {};
  if (if_indextoname(static_cast<unsigned>(interface_index), name.data()) == nullptr) error = ENODEV;
  const std::string text = absl::StrCat(
      "attaching to ", error == ENODEV ? absl::StrCat("interface ", interface_index) : name.data(),
      direction == SouthAttachment::kEgress ? " (egress): " : " (ingress): ", strerror(error));
  if (error == ENODEV) return absl::NotFoundError(text);
  if (error == EPERM) return absl::PermissionDeniedError(text);
  return absl::FailedPreconditionError(text);
}

constexpr std::array<SouthAttachment::Direction, SouthAttachment::kDirections> kEgressFirst = {
    SouthAttachment::kEgress, SouthAttachment::kIngress};

}  // namespace

bool SouthAttachment::HaveTcx() {
  // Of the loopback interface, which each namespace has.
  TcxPrograms(1, kEgress);
  return errno == 0;
}

absl::StatusOr<std::unique_ptr<SouthAttachment>> SouthAttachment::Attach(int interface_index,
                                                                         const Programs& programs, bool tcx) {
  std::unique_ptr<SouthAttachment> out(new SouthAttachment(interface_index, programs, tcx));
  if (absl::Status status = out->MoveToFront(); !status.ok()) {
    // What was silent before stays silent: only programs that are new are taken off.
    if (out->replaced_) out->Abandon();
    return status;
  }
  return out;
}

absl::Status SouthAttachment::MoveToFront() {
  // Egress first, for it is what must not speak.
  for (Direction direction : kEgressFirst) {
    absl::Status status = tcx_ ? AttachTcx(direction) : AttachFilter(direction);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

absl::Status SouthAttachment::AttachTcx(Direction direction) {
  // What is there for this service is this process's, or a dead one's.
  std::vector<About> old;
  for (uint32_t id : TcxPrograms(interface_index_, direction)) {
    About about = ProgramById(id);
    if (IsFor(about, programs_.service)) old.push_back(std::move(about));
  }
  const int place = place_[direction] == 0 ? 1 : 0;
  const int error =
      TcxAttach(interface_index_, direction, programs_.fds[direction][static_cast<size_t>(place)]);
  if (error != 0) return Refused(interface_index_, direction, error);
  if (place_[direction] < 0 && !old.empty()) NoteReplaced();
  place_[direction] = place;
  for (const About& about : old) TcxDetach(interface_index_, direction, about.fd.get());
  return absl::OkStatus();
}

void SouthAttachment::NoteReplaced() {
  if (!std::exchange(replaced_, true)) LOG(INFO) << "south wrapper: replacing the filter of a dead process";
}

absl::Status SouthAttachment::EnsureQdisc() {
  bpf_tc_hook hook = HookOf(interface_index_, BPF_TC_INGRESS | BPF_TC_EGRESS);
  const int error = bpf_tc_hook_create(&hook);
  if (error == 0) made_qdisc_ = true;
  if (error != 0 && error != -EEXIST) return Refused(interface_index_, kEgress, -error);
  return absl::OkStatus();
}

absl::Status SouthAttachment::AttachFilter(Direction direction) {
  UniqueFd lock = LockQdisc(interface_index_);
  const absl::Cleanup give_back = [&lock] { GiveBackName(std::move(lock)); };
  if (!lock) return Refused(interface_index_, direction, errno);
  if (absl::Status status = EnsureQdisc(); !status.ok()) return status;
  const bpf_tc_hook hook = HookOf(interface_index_, PointOf(direction));
  bpf_tc_opts filter = {};
  filter.sz = sizeof(filter);
  filter.priority = kPriority;
  filter.handle = HandleOf(programs_.service, 0);
  bpf_tc_opts query = filter;
  const bool first_taken = bpf_tc_query(&hook, &query) == 0;
  if (place_[direction] < 0 && first_taken) NoteReplaced();
  // The newest of a priority comes first, and so is new: each packet meets the old one, whose process is dead
  // or which has been displaced, or this one.
  const int place = first_taken ? 1 : 0;
  filter.handle = HandleOf(programs_.service, place);
  FilterDetach(interface_index_, direction, filter.handle);
  filter.prog_fd = programs_.fds[direction][static_cast<size_t>(place)];
  const int error = bpf_tc_attach(&hook, &filter);
  if (error != 0) return Refused(interface_index_, direction, -error);
  place_[direction] = place;
  FilterDetach(interface_index_, direction, HandleOf(programs_.service, 1 - place));
  return absl::OkStatus();
}

std::string SouthAttachment::Describe() const {
  std::string text;
  for (Direction direction : kEgressFirst) {
    absl::StrAppend(&text, direction == kEgress ? "egress:" : "; ingress:");
    for (uint32_t id : TcxPrograms(interface_index_, direction)) {
      const About about = ProgramById(id);
      absl::StrAppend(&text, " tcx ", id, " (", about.fd ? about.info.name : "?", ")");
    }
    std::vector<std::string> kinds;
    FilterKinds(interface_index_, direction == kEgress ? TC_H_MIN_EGRESS : TC_H_MIN_INGRESS, &kinds);
    for (const std::string& kind : kinds) absl::StrAppend(&text, " filter ", kind);
  }
  return text;
}

SouthAttachment::~SouthAttachment() {
  if (abandoned_) return;
  // The interface may be gone, and what was there with it.
  if (tcx_) {
    for (Direction direction : {kIngress, kEgress}) {
      if (place_[direction] < 0) continue;
      TcxDetach(interface_index_, direction,
                programs_.fds[direction][static_cast<size_t>(place_[direction])]);
    }
    return;
  }
  UniqueFd lock = LockQdisc(interface_index_);
  const absl::Cleanup give_back = [&lock] { GiveBackName(std::move(lock)); };
  for (Direction direction : {kIngress, kEgress}) {
    if (place_[direction] >= 0) {
      FilterDetach(interface_index_, direction, HandleOf(programs_.service, place_[direction]));
    }
  }
  if (made_qdisc_ && lock && NoFilters(interface_index_, TC_H_MIN_INGRESS) &&
      NoFilters(interface_index_, TC_H_MIN_EGRESS)) {
    bpf_tc_hook hook = HookOf(interface_index_, BPF_TC_INGRESS | BPF_TC_EGRESS);
    const int error = bpf_tc_hook_destroy(&hook);
    LOG_IF(WARNING, error != 0 && error != -ENODEV && error != -ENOENT && error != -EINVAL)
        << "south wrapper: removing clsact from interface " << interface_index_ << ": " << strerror(-error);
  }
}

std::vector<uint32_t> SouthAttachment::ProgramIds(int interface_index, Direction direction,
                                                  const south_service& service) {
  std::vector<uint32_t> out;
  for (uint32_t id : TcxPrograms(interface_index, direction)) {
    if (IsFor(ProgramById(id), service)) out.push_back(id);
  }
  const bpf_tc_hook hook = HookOf(interface_index, PointOf(direction));
  for (int place : {0, 1}) {
    bpf_tc_opts query = {};
    query.sz = sizeof(query);
    query.priority = kPriority;
    query.handle = HandleOf(service, place);
    if (bpf_tc_query(&hook, &query) == 0) out.push_back(query.prog_id);
  }
  return out;
}

void SouthAttachment::RemoveLeftovers(int interface_index, const south_service& service) {
  for (Direction direction : {kIngress, kEgress}) {
    for (uint32_t id : TcxPrograms(interface_index, direction)) {
      const About about = ProgramById(id);
      if (IsFor(about, service)) TcxDetach(interface_index, direction, about.fd.get());
    }
    for (int place : {0, 1}) FilterDetach(interface_index, direction, HandleOf(service, place));
  }
}

}  // namespace understudy::tcpshim
