#include "tcpshim/address_lock.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tcpshim/name_lock.h"
#include "tcpshim/rtnetlink.h"

namespace understudy::tcpshim {
namespace {

absl::Status Failed(const std::string& path, const char* step) {
  const std::string text =
      absl::StrCat("cannot take charge of the service address: ", path, ": ", step, ": ", strerror(errno));
  return errno == EACCES || errno == EPERM || errno == EROFS
             ? absl::PermissionDeniedError(
                   absl::StrCat(text, " (run as root, or make the folder for this user)"))
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

// A sweeper may have the lock for a moment, or remove the file that has just been opened.
constexpr int kTries = 10;
constexpr useconds_t kPauseUs = 1000;

// Of the process, not of the open file: a child that outlives this process does not keep it.
bool TryLock(int fd) {
  struct flock all = {};
  all.l_type = F_WRLCK;
  all.l_whence = SEEK_SET;
  return ::fcntl(fd, F_SETLK, &all) == 0;
}

std::string HolderOf(int fd) {
  struct flock all = {};
  all.l_type = F_WRLCK;
  all.l_whence = SEEK_SET;
  const bool known = ::fcntl(fd, F_GETLK, &all) == 0 && all.l_type != F_UNLCK && all.l_pid > 0;
  return known ? absl::StrCat("process ", all.l_pid) : "another process";
}

constexpr char kSuffix[] = ".lock";

// ADDRESS-NAMESPACE.lock, and nothing else that lies in the folder: an arbiter's file, say, has a lock as
// well.
bool IsLockName(const std::string& name) {
  const size_t dash = name.find('-');
  const size_t end = name.size() - std::min(name.size(), sizeof(kSuffix) - 1);
  if (dash == std::string::npos || dash >= end || name.substr(end) != kSuffix) return false;
  in_addr ip;
  return ::inet_pton(AF_INET, name.substr(0, dash).c_str(), &ip) == 1 && end > dash + 1 &&
         name.find_first_not_of("0123456789", dash + 1) == end;
}

// Removes what dead processes have left.
void Sweep(const std::string& folder, const std::string& own) {
  std::error_code error;
  for (std::filesystem::directory_iterator file(folder, error), end; !error && file != end;
       file.increment(error)) {
    const std::string path = file->path();
    if (path == own || !IsLockName(file->path().filename())) continue;
    const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    if (fd && TryLock(fd.get()) && IsThere(AT_FDCWD, path, fd.get())) (void)::unlink(path.c_str());
  }
}

// The file with its lock. AlreadyExists: `file` is the one that somebody else has locked.
absl::Status OpenLocked(const std::string& path, UniqueFd& file) {
  for (int i = 0; i < kTries; ++i) {
    if (i > 0) ::usleep(kPauseUs);
    file.reset(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
    if (!file) return Failed(path, "open");
    if (TryLock(file.get())) {
      if (IsThere(AT_FDCWD, path, file.get())) return absl::OkStatus();
    } else if (errno != EACCES && errno != EAGAIN) {
      return Failed(path, "lock");
    }
  }
  return absl::AlreadyExistsError(HolderOf(file.get()));
}

}  // namespace

AddressLock::AddressLock(UniqueFd file, std::string path)
    : file_(std::move(file)), path_(std::move(path)), owner_(::getpid()) {}

AddressLock::~AddressLock() {
  // While the lock is held: whoever has opened the file finds, once it has the lock, that it is gone.
  if (file_ && owner_ == ::getpid() && IsThere(AT_FDCWD, path_, file_.get())) (void)::unlink(path_.c_str());
}

absl::StatusOr<AddressLock> AddressLock::Take(uint32_t ip, const std::string& who, const std::string& folder,
                                              const std::string& perhaps) {
  // Other users may look, and take nothing.
  if (::mkdir(folder.c_str(), 0755) != 0 && errno != EEXIST) return Failed(folder, "mkdir");
  struct stat network;
  if (::stat("/proc/thread-self/ns/net", &network) != 0) return Failed("/proc/thread-self/ns/net", "stat");
  // The folder is shared by all network namespaces of the host, the address is not.
  const std::string path = absl::StrCat(folder, "/", IpText(ip), "-", network.st_ino, kSuffix);
  UniqueFd file;
  if (absl::Status opened = OpenLocked(path, file); absl::IsAlreadyExists(opened)) {
    const std::string says = ReadWho(file.get());
    return absl::AlreadyExistsError(absl::StrCat(opened.message(), " has the address ", IpText(ip),
                                                 " on this host already",
                                                 says.empty() ? "" : absl::StrCat(" (", says, ")"), perhaps));
  } else if (!opened.ok()) {
    return opened;
  }
  Sweep(folder, path);
  const std::string text = absl::StrCat(who, "\n");
  if (::ftruncate(file.get(), 0) != 0 ||
      ::pwrite(file.get(), text.data(), text.size(), 0) != static_cast<ssize_t>(text.size())) {
    return Failed(path, "write");
  }
  return AddressLock(std::move(file), path);
}

}  // namespace understudy::tcpshim
