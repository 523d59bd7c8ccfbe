// Network namespaces for tests: made by the test, without a name, so they are gone with the process
// whatever happens to it.
#ifndef UNDERSTUDY_TCPSHIM_NAMESPACES_FOR_TEST_H_
#define UNDERSTUDY_TCPSHIM_NAMESPACES_FOR_TEST_H_

#include <string>

#include "gtest/gtest.h"
#include "tcpshim/unique_fd.h"

namespace understudy::tcpshim {

// A network namespace with its loopback up. The sockets that a thread makes while it is in a namespace
// stay in it.
class Namespace {
 public:
  Namespace();
  int fd() const { return fd_.get(); }
  // As a name for iproute2.
  std::string path() const;
  // Runs commands of ip(8), one a line, in this namespace; ends the test
  // when one is refused.
  void Ip(const std::string& commands) const;
  void Bridge(const std::string& commands) const;  // the same for bridge(8)
  // Writes a sysctl of this namespace, such as "net.ipv4.tcp_sack".
  void Sysctl(const std::string& name, const std::string& value) const;

 private:
  void Batch(const char* tool, const std::string& commands) const;

  UniqueFd fd_;
};

// The calling thread is in `there` as long as this lives.
class InNamespace {
 public:
  explicit InNamespace(const Namespace& there);
  ~InNamespace();
  InNamespace(const InNamespace&) = delete;
  InNamespace& operator=(const InNamespace&) = delete;

 private:
  UniqueFd before_;
};

// Fails all tests of a binary with one line when they cannot make namespaces.
class NamespacesNeeded : public ::testing::Environment {
 public:
  void SetUp() override;
};

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_NAMESPACES_FOR_TEST_H_
