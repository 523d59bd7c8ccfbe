// A network namespace of the test's own: one host of the lab.
//
// It has no name in /run/netns. Only a descriptor of this process keeps it, so when the process ends,
// however it ends, the kernel takes the namespace and all links in it away; nothing of a crashed run is
// left to clean up. To look into one by hand while a test runs:
//   nsenter --net=$(the path() that the test prints) ip addr
#ifndef UNDERSTUDY_TESTS_LAB_NAMESPACE_H_
#define UNDERSTUDY_TESTS_LAB_NAMESPACE_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace understudy::lab {

class Namespace {
 public:
  // PermissionDenied when not root.
  static absl::StatusOr<std::unique_ptr<Namespace>> Create(std::string name);
  ~Namespace();
  Namespace(const Namespace&) = delete;
  Namespace& operator=(const Namespace&) = delete;

  const std::string& name() const { return name_; }
  int fd() const { return fd_; }
  // As `ip ... netns PATH` and nsenter take it, from any process.
  std::string path() const;

  // Calls `fn` on a thread that is in the namespace and waits for it. Sockets made there belong to the
  // namespace for good, whoever uses them afterwards.
  void Run(const std::function<void()>& fn) const;
  // socket(2) in the namespace, close-on-exec. Never fails: the lab ends the test with the reason.
  int Socket(int domain, int type, int protocol = 0) const;
  std::vector<int> Sockets(int count, int domain, int type, int protocol = 0) const;

  // "net.ipv4.tcp_sack" and what goes into it.
  absl::Status SetSysctl(const std::string& name, const std::string& value) const;

  // `ip -batch -` in the namespace: one command a line, as after "ip". The error has ip's own words.
  absl::Status Ip(const std::string& commands) const;

 private:
  Namespace(std::string name, int fd) : name_(std::move(name)), fd_(fd) {}

  std::string name_;
  int fd_;
};

}  // namespace understudy::lab

#endif  // UNDERSTUDY_TESTS_LAB_NAMESPACE_H_
