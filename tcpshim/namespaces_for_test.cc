#include "tcpshim/namespaces_for_test.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "glog/logging.h"

namespace understudy::tcpshim {
namespace {

UniqueFd Current() {
  // Of the thread, which is not that of the process while it is elsewhere.
  UniqueFd fd(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  PCHECK(fd) << "/proc/thread-self/ns/net";
  return fd;
}

}  // namespace

Namespace::Namespace() {
  const UniqueFd before = Current();
  PCHECK(::unshare(CLONE_NEWNET) == 0) << "cannot make a network namespace (needs root)";
  fd_ = Current();
  PCHECK(::setns(before.get(), CLONE_NEWNET) == 0);
  Ip("link set lo up");
}

std::string Namespace::path() const { return absl::StrCat("/proc/", ::getpid(), "/fd/", fd()); }

void Namespace::Ip(const std::string& commands) const { Batch("ip -batch -", commands); }

void Namespace::Bridge(const std::string& commands) const { Batch("bridge -batch -", commands); }

void Namespace::Batch(const char* tool, const std::string& commands) const {
  InNamespace here(*this);
  FILE* pipe = ::popen(tool, "w");
  PCHECK(pipe != nullptr);
  std::fwrite(commands.data(), 1, commands.size(), pipe);
  CHECK_EQ(0, ::pclose(pipe)) << tool << ": " << commands;
}

void Namespace::Sysctl(const std::string& name, const std::string& value) const {
  InNamespace here(*this);
  const std::string path = absl::StrCat("/proc/sys/", absl::StrReplaceAll(name, {{".", "/"}}));
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
  ASSERT_TRUE(file) << path << ": " << strerror(errno);
  ASSERT_EQ(static_cast<ssize_t>(value.size()), ::write(file.get(), value.data(), value.size()))
      << path << ": " << strerror(errno);
}

InNamespace::InNamespace(const Namespace& there) : before_(Current()) {
  PCHECK(::setns(there.fd(), CLONE_NEWNET) == 0);
}

InNamespace::~InNamespace() { PCHECK(::setns(before_.get(), CLONE_NEWNET) == 0); }

void NamespacesNeeded::SetUp() {
  const UniqueFd before = Current();
  ASSERT_EQ(0, ::unshare(CLONE_NEWNET))
      << "these tests need root: they make network namespaces (" << strerror(errno) << ")";
  PCHECK(::setns(before.get(), CLONE_NEWNET) == 0);
}

}  // namespace understudy::tcpshim
