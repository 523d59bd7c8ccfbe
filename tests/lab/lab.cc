#include "tests/lab/lab.h"

#include <linux/ethtool.h>
#include <linux/if_bridge.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <initializer_list>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "glog/logging.h"

namespace understudy::lab {

namespace {

std::string ServicePort(Host host) { return absl::StrCat("sw-service-", Name(host)); }
std::string ReplicationPort(Host host) { return absl::StrCat("sw-replic-", Name(host)); }

constexpr char kClientPort[] = "sw-client";
constexpr char kRawPort[] = "sw-raw";

ifreq RequestFor(const std::string& interface) {
  ifreq request = {};
  CHECK_LT(interface.size(), sizeof(request.ifr_name));
  memcpy(request.ifr_name, interface.data(), interface.size());
  return request;
}

void SetUp(int ioctl_socket, const std::string& interface, bool up) {
  ifreq request = RequestFor(interface);
  PCHECK(ioctl(ioctl_socket, SIOCGIFFLAGS, &request) == 0) << interface;
  if (up) {
    request.ifr_flags |= IFF_UP;
  } else {
    request.ifr_flags &= ~IFF_UP;
  }
  PCHECK(ioctl(ioctl_socket, SIOCSIFFLAGS, &request) == 0) << interface;
}

bool HasFlag(int ioctl_socket, const std::string& interface, int flag) {
  ifreq request = RequestFor(interface);
  PCHECK(ioctl(ioctl_socket, SIOCGIFFLAGS, &request) == 0) << interface;
  return (request.ifr_flags & flag) != 0;
}

// The kernel brings a link into operation some time after it was set up, up to a second.
void WaitUntilRunning(int ioctl_socket, const std::string& interface) {
  for (int i = 0; i < 5000; ++i) {
    if (HasFlag(ioctl_socket, interface, IFF_RUNNING)) return;
    usleep(1000);
  }
  LOG(FATAL) << interface << " does not come up";
}

// What a managed switch does to a port: unlike taking the port out of the bridge, it takes effect at once
// (no RCU grace period), and unlike taking it down, the host does not notice.
void SetPortState(int netlink, int index, uint8_t state) {
  struct {
    nlmsghdr header;
    ifinfomsg info;
    rtattr protinfo;
    rtattr port_state;
    uint8_t value;
    uint8_t pad[3];
  } request = {};
  request.header.nlmsg_len = sizeof(request);
  request.header.nlmsg_type = RTM_SETLINK;
  request.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
  request.info.ifi_family = AF_BRIDGE;
  request.info.ifi_index = index;
  request.protinfo.rta_type = IFLA_PROTINFO | NLA_F_NESTED;
  request.protinfo.rta_len = sizeof(rtattr) * 2 + 4;
  request.port_state.rta_type = IFLA_BRPORT_STATE;
  request.port_state.rta_len = sizeof(rtattr) + 1;
  request.value = state;
  PCHECK(send(netlink, &request, sizeof(request), 0) == sizeof(request));
  struct {
    nlmsghdr header;
    nlmsgerr error;
    char rest[512];
  } reply;
  PCHECK(recv(netlink, &reply, sizeof(reply), 0) > 0);
  CHECK_EQ(reply.header.nlmsg_type, NLMSG_ERROR);
  CHECK_EQ(reply.error.error, 0) << "bridge port state: " << strerror(-reply.error.error);
}

MacAddress MacOf(const Namespace& where, const std::string& interface) {
  int fd = where.Socket(AF_INET, SOCK_DGRAM);
  ifreq request = RequestFor(interface);
  PCHECK(ioctl(fd, SIOCGIFHWADDR, &request) == 0) << interface;
  close(fd);
  MacAddress mac;
  memcpy(mac.data(), request.ifr_hwaddr.sa_data, mac.size());
  return mac;
}

void DisableOffload(const Namespace& where, const std::string& interface) {
  int fd = where.Socket(AF_INET, SOCK_DGRAM);
  for (uint32_t command :
       {ETHTOOL_STSO, ETHTOOL_SGSO, ETHTOOL_SGRO, ETHTOOL_SSG, ETHTOOL_STXCSUM, ETHTOOL_SRXCSUM}) {
    ethtool_value value = {.cmd = command, .data = 0};
    ifreq request = RequestFor(interface);
    request.ifr_data = reinterpret_cast<char*>(&value);
    PCHECK(ioctl(fd, SIOCETHTOOL, &request) == 0) << interface << " ethtool command " << command;
  }
  close(fd);
}

// Pinned, so that a test does not depend on the settings of the machine it runs on. A new namespace takes
// some of these from the machine.
constexpr std::pair<const char*, const char*> kSysctls[] = {
    {"net.ipv6.conf.all.disable_ipv6", "1"},
    {"net.ipv6.conf.default.disable_ipv6", "1"},
    {"net.ipv4.conf.all.rp_filter", "0"},
    {"net.ipv4.conf.default.rp_filter", "0"},
    {"net.ipv4.conf.all.arp_ignore", "0"},
    {"net.ipv4.conf.default.arp_ignore", "0"},
    {"net.ipv4.conf.all.arp_announce", "0"},
    {"net.ipv4.conf.all.arp_accept", "0"},
    {"net.ipv4.ip_forward", "0"},
    {"net.ipv4.ip_local_port_range", "20000 60999"},
    {"net.ipv4.tcp_sack", "1"},
    {"net.ipv4.tcp_timestamps", "1"},
    {"net.ipv4.tcp_window_scaling", "1"},
    {"net.ipv4.tcp_ecn", "2"},
    {"net.ipv4.tcp_fastopen", "0"},
    {"net.ipv4.tcp_syncookies", "1"},
    {"net.ipv4.tcp_retries1", "3"},
    {"net.ipv4.tcp_retries2", "15"},
    {"net.ipv4.tcp_syn_retries", "6"},
    {"net.ipv4.tcp_rmem", "4096 131072 6291456"},
    {"net.ipv4.tcp_wmem", "4096 16384 4194304"},
};

}  // namespace

const char* Name(Host host) { return host == Host::kA ? "a" : "b"; }

std::string ToString(const MacAddress& mac) {
  return absl::StrFormat("%02x:%02x:%02x:%02x:%02x:%02x", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

std::string Lab::service() { return absl::StrCat(kServiceIp, ":", kServicePort); }
std::string Lab::replication_ip(Host host) { return host == Host::kA ? "198.18.1.1" : "198.18.1.2"; }
std::string Lab::host_ip(Host host) { return host == Host::kA ? "198.18.0.11" : "198.18.0.12"; }

absl::StatusOr<std::unique_ptr<Lab>> Lab::Create(const Options& options) {
  std::unique_ptr<Lab> lab(new Lab());
  absl::Status built = lab->Build(options);
  if (!built.ok()) return built;
  return lab;
}

Lab::~Lab() {
  if (switch_ioctl_ >= 0) close(switch_ioctl_);
  if (switch_netlink_ >= 0) close(switch_netlink_);
}

absl::Status Lab::Build(const Options& options) {
  std::pair<std::unique_ptr<Namespace>*, const char*> all[] = {
      {&switch_, "switch"}, {&client_, "client"}, {&raw_, "raw"}, {&hosts_[0], "a"}, {&hosts_[1], "b"},
  };
  for (auto& [where, name] : all) {
    auto made = Namespace::Create(name);
    if (!made.ok()) return made.status();
    *where = *std::move(made);
    for (auto& [key, value] : kSysctls) {
      absl::Status set = (*where)->SetSysctl(key, value);
      if (!set.ok()) return set;
    }
    // A namespace may choose only from what the machine allows everybody (tcp_allowed_congestion_control);
    // reno always is. BBR, some machines' default, would make results depend on the machine.
    constexpr char kControl[] = "net.ipv4.tcp_congestion_control";
    if (!(*where)->SetSysctl(kControl, "cubic").ok()) {
      absl::Status set = (*where)->SetSysctl(kControl, "reno");
      if (!set.ok()) return set;
    }
  }

  std::string wires;
  for (const char* bridge : {"br-service", "br-replic"}) {
    absl::StrAppend(&wires, "link add ", bridge,
                    " type bridge stp_state 0 forward_delay 0 mcast_snooping 0\n");
    absl::StrAppend(&wires, "link set ", bridge, " up\n");
  }
  auto wire = [&wires](const std::string& port, const char* bridge, const Namespace& where,
                       const char* interface) {
    absl::StrAppend(&wires, "link add ", port, " type veth peer name ", interface, " netns ", where.path(),
                    "\n");
    absl::StrAppend(&wires, "link set ", port, " master ", bridge, " up\n");
  };
  wire(kClientPort, "br-service", *client_, kClientInterface);
  wire(kRawPort, "br-service", *raw_, kRawInterface);
  for (Host host : {Host::kA, Host::kB}) {
    wire(ServicePort(host), "br-service", this->host(host), kServiceInterface);
    wire(ReplicationPort(host), "br-replic", this->host(host), kReplicationInterface);
  }
  absl::Status done = switch_->Ip(wires);
  if (!done.ok()) return done;

  done = client_->Ip(absl::StrCat("link set lo up\naddr add ", kClientIp, "/24 dev ", kClientInterface,
                                  "\nlink set ", kClientInterface, " up\n"));
  if (!done.ok()) return done;
  done = raw_->Ip(absl::StrCat("link set ", kRawInterface, " up\n"));
  if (!done.ok()) return done;
  for (Host host : {Host::kA, Host::kB}) {
    done = this->host(host).Ip(
        absl::StrCat("link set lo up\n", "addr add ", host_ip(host), "/24 dev ", kServiceInterface, "\n",
                     "link set ", kServiceInterface, " up\n", "addr add ", replication_ip(host), "/24 dev ",
                     kReplicationInterface, "\n", "link set ", kReplicationInterface, " up\n"));
    if (!done.ok()) return done;
    macs_[static_cast<int>(host)] = MacOf(this->host(host), kServiceInterface);
  }
  client_mac_ = MacOf(*client_, kClientInterface);
  raw_mac_ = MacOf(*raw_, kRawInterface);

  DisableOffload(*switch_, kRawPort);
  DisableOffload(*raw_, kRawInterface);
  if (!options.offload) {
    DisableOffload(*switch_, kClientPort);
    DisableOffload(*client_, kClientInterface);
    for (Host host : {Host::kA, Host::kB}) {
      DisableOffload(*switch_, ServicePort(host));
      DisableOffload(this->host(host), kServiceInterface);
    }
  }

  switch_ioctl_ = switch_->Socket(AF_INET, SOCK_DGRAM);
  switch_netlink_ = switch_->Socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
  WaitUntilRunning(switch_ioctl_, kClientPort);
  WaitUntilRunning(switch_ioctl_, kRawPort);
  for (Host host : {Host::kA, Host::kB}) {
    WaitUntilRunning(switch_ioctl_, ServicePort(host));
    WaitUntilRunning(switch_ioctl_, ReplicationPort(host));
  }
  return absl::OkStatus();
}

void Lab::CutPort(const std::string& port, Cut how) {
  if (how == Cut::kCarrier) {
    SetUp(switch_ioctl_, port, false);
    return;
  }
  if (!HasFlag(switch_ioctl_, port, IFF_UP)) return;  // cut already, and the bridge would refuse
  ifreq request = RequestFor(port);
  PCHECK(ioctl(switch_ioctl_, SIOCGIFINDEX, &request) == 0) << port;
  SetPortState(switch_netlink_, request.ifr_ifindex, BR_STATE_DISABLED);
}

void Lab::RestorePort(const std::string& port) {
  SetUp(switch_ioctl_, port, true);
  WaitUntilRunning(switch_ioctl_, port);
  ifreq request = RequestFor(port);
  PCHECK(ioctl(switch_ioctl_, SIOCGIFINDEX, &request) == 0) << port;
  SetPortState(switch_netlink_, request.ifr_ifindex, BR_STATE_FORWARDING);
}

void Lab::CutService(Host host, Cut how) { CutPort(ServicePort(host), how); }
void Lab::CutReplication(Host host, Cut how) { CutPort(ReplicationPort(host), how); }
void Lab::CutLinks(Host host, Cut how) {
  CutService(host, how);
  CutReplication(host, how);
}
void Lab::RestoreService(Host host) { RestorePort(ServicePort(host)); }
void Lab::RestoreReplication(Host host) { RestorePort(ReplicationPort(host)); }
void Lab::RestoreLinks(Host host) {
  RestoreService(host);
  RestoreReplication(host);
}
void Lab::CutClient(Cut how) { CutPort(kClientPort, how); }
void Lab::RestoreClient() { RestorePort(kClientPort); }

}  // namespace understudy::lab
