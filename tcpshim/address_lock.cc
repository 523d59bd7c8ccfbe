#include "tcpshim/address_lock.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tcpshim/rtnetlink.h"

namespace understudy::tcpshim {
namespace {

absl::Status Failed(const std::string& path, const char* step) {
  const std::string text = absl::StrCat("cannot take charge of the service address: ", path, ": ", step, ": ",
                                        strerror(errno));
  return errno == EACCES || errno == EPERM || errno == EROFS
             ? absl::PermissionDeniedError(absl::StrCat(text, " (run as root, or make the folder for this user)"))
             : absl::InternalError(text);
}

// What a live process wrote; not trusted further than being printed.
std::string ReadWho(int fd) {
  std::array<char, 128> text;
  const ssize_t size = ::pread(fd, text.data(), text.size(), 0);
  std::string who(text.data(), size > 0 ? static_cast<size_t>(size) : 0);
  for (char& c : who) {
    if (c < 0x20 || c > 0x7e) c = ' ';
  }
  while (!who.empty() && who.back() == ' ') who.pop_back();
  return who;
}

}  // namespace

absl::StatusOr<AddressLock> AddressLock::Take(uint32_t ip, const std::string& who, const std::string& folder) {
  // Other users may look, and take nothing.
  if (::mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST) return Failed(folder, "mkdir");
  struct stat network;
  if (::stat("/proc/thread-self/ns/net", &network) != 0) return Failed("/proc/thread-self/ns/net", "stat");
  // The folder is shared by all network namespaces of the host, the address is not.
  const std::string path = absl::StrCat(folder, "/", IpText(ip), "-", network.st_ino, ".lock");
  UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file) return Failed(path, "open");
  struct flock all = {};
  all.l_type = F_WRLCK;
  all.l_whence = SEEK_SET;
  // Of the process, not of the open file: a child that outlives this process does not keep it.
  if (::fcntl(file.get(), F_SETLK, &all) != 0) {
    if (errno != EACCES && errno != EAGAIN) return Failed(path, "lock");
    std::string holder = "another process";
    if (::fcntl(file.get(), F_GETLK, &all) == 0 && all.l_type != F_UNLCK && all.l_pid > 0) {
      holder = absl::StrCat("process ", all.l_pid);
    }
    const std::string says = ReadWho(file.get());
    return absl::AlreadyExistsError(
        absl::StrCat(holder, " has the address ", IpText(ip), " on this host already",
                     says.empty() ? "" : absl::StrCat(" (", says, ")"),
                     "; each service needs an address of its own"));
  }
  const std::string text = absl::StrCat(who, "\n");
  if (::ftruncate(file.get(), 0) != 0 ||
      ::pwrite(file.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    return Failed(path, "write");
  }
  return AddressLock(std::move(file));
}

}  // namespace understudy::tcpshim
