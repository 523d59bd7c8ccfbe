// The maps that the south wrapper's programs and its user space share.
#ifndef UNDERSTUDY_TCPSHIM_SOUTH_MAPS_H_
#define UNDERSTUDY_TCPSHIM_SOUTH_MAPS_H_

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <utility>

namespace understudy::tcpshim {

// Descriptors of the maps of south.bpf.c, by their names there. SouthTable, SouthGate and SouthEvents know
// the kernel by these alone; whose they are, and how long they stay, is their owner's affair (SouthProgram).
struct SouthMaps {
  int control = -1;
  int connections = -1;
  int slots = -1;
  int events = -1;
  int strays = -1;
  int counters = -1;
  uint32_t max_connections = 0;
};

// A map of the kernel's as memory, as long as this lives; the descriptor may be closed meanwhile.
class MappedMap {
 public:
  MappedMap() = default;
  // Empty when it cannot be mapped: errno says why.
  MappedMap(int fd, size_t size) {
    const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
    size_ = (size + page - 1) / page * page;
    void* const address = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (address != MAP_FAILED) address_ = address;
  }
  MappedMap(MappedMap&& other) noexcept
      : address_(std::exchange(other.address_, nullptr)), size_(other.size_) {}
  MappedMap& operator=(MappedMap&& other) noexcept {
    std::swap(address_, other.address_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~MappedMap() {
    if (address_ != nullptr) munmap(address_, size_);
  }
  explicit operator bool() const { return address_ != nullptr; }
  void* get() const { return address_; }

 private:
  void* address_ = nullptr;
  size_t size_ = 0;
};

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_SOUTH_MAPS_H_
