// The lab: two server hosts, a client host and the wires between them, as network namespaces.
//
//   client  198.18.0.9 -- sw-client.                       .sw-service-a -- service0 198.18.0.11  a
//                                   |== br-service =======|
//   raw     (no address) -- sw-raw -'                       '-sw-service-b -- service0 198.18.0.12  b
//
//   a  198.18.1.1 replication0 -- sw-replic-a == br-replic == sw-replic-b -- replication0 198.18.1.2  b
//
// Service address: 198.18.0.10:7000, on the client's subnet. The namespace `raw` has a link but no
// address: its kernel answers nothing, so a TCP of the test's own can live there (mini_tcp.h); towards it
// segmentation and checksum offload are off, so what arrives is what a real wire would carry.
//
// Two ways to cut a link: kBlackhole, the switch port drops everything and nobody is told; kCarrier, the
// switch port goes down and the host sees that its cable is out.
#ifndef UNDERSTUDY_TESTS_LAB_LAB_H_
#define UNDERSTUDY_TESTS_LAB_LAB_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/lab/namespace.h"

namespace understudy::lab {

enum class Host { kA = 0, kB = 1 };
inline Host Other(Host host) { return host == Host::kA ? Host::kB : Host::kA; }
const char* Name(Host host);  // "a", "b"

enum class Cut { kBlackhole, kCarrier };

using MacAddress = std::array<uint8_t, 6>;
std::string ToString(const MacAddress& mac);

class Lab {
 public:
  static constexpr char kServiceIp[] = "198.18.0.10";
  static constexpr uint16_t kServicePort = 7000;
  static constexpr char kClientIp[] = "198.18.0.9";
  static constexpr char kRawIp[] = "198.18.0.20";  // for mini_tcp.h; nobody's otherwise
  static constexpr char kServiceInterface[] = "service0";
  static constexpr char kReplicationInterface[] = "replication0";
  static constexpr char kClientInterface[] = "eth0";
  static constexpr char kRawInterface[] = "raw0";

  struct Options {
    // Checksums and segmentation offload between the hosts. veth never computes a checksum while they are
    // on, which hides wrong ones.
    bool offload = true;
  };

  static absl::StatusOr<std::unique_ptr<Lab>> Create(const Options& options);
  static absl::StatusOr<std::unique_ptr<Lab>> Create() { return Create(Options()); }
  ~Lab();
  Lab(const Lab&) = delete;
  Lab& operator=(const Lab&) = delete;

  Namespace& client() { return *client_; }
  Namespace& raw() { return *raw_; }
  Namespace& host(Host host) { return *hosts_[static_cast<int>(host)]; }
  Namespace& wires() { return *switch_; }

  static std::string service();                  // "198.18.0.10:7000"
  static std::string replication_ip(Host host);  // "198.18.1.1"
  static std::string host_ip(Host host);         // own address on the service network
  const MacAddress& mac(Host host) const { return macs_[static_cast<int>(host)]; }
  const MacAddress& client_mac() const { return client_mac_; }
  const MacAddress& raw_mac() const { return raw_mac_; }

  // Faults. Done when they return. A cut that is there already may be cut again; Restore undoes either.
  void CutService(Host host, Cut how);
  void CutReplication(Host host, Cut how);
  void CutLinks(Host host, Cut how);
  void RestoreService(Host host);
  void RestoreReplication(Host host);
  void RestoreLinks(Host host);
  // The client's own cable, for the state in which a server cannot reach anybody.
  void CutClient(Cut how);
  void RestoreClient();

 private:
  Lab() = default;
  absl::Status Build(const Options& options);
  void CutPort(const std::string& port, Cut how);
  void RestorePort(const std::string& port);

  std::unique_ptr<Namespace> client_, raw_, switch_;
  std::array<std::unique_ptr<Namespace>, 2> hosts_;
  std::array<MacAddress, 2> macs_;
  MacAddress client_mac_, raw_mac_;
  int switch_ioctl_ = -1;    // a socket in the switch, for interface flags
  int switch_netlink_ = -1;  // likewise, for the state of bridge ports
};

}  // namespace understudy::lab

#endif  // UNDERSTUDY_TESTS_LAB_LAB_H_
