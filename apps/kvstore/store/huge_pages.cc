#include "apps/kvstore/store/huge_pages.h"

#include <sys/mman.h>

#include <cstdlib>
#include <new>

namespace kvstore {
namespace {

size_t RoundedUp(size_t bytes) {
  return (bytes + HugePages::kPage - 1) / HugePages::kPage * HugePages::kPage;
}

}  // namespace

void* HugePages::do_allocate(size_t bytes, size_t) {
  const size_t size = RoundedUp(bytes);
  void* address = std::aligned_alloc(kPage, size);
  if (address == nullptr) throw std::bad_alloc();
  // Advice: where it is not taken, small pages serve as well.
  (void)madvise(address, size, MADV_HUGEPAGE);
  bytes_ += size;
  return address;
}

void HugePages::do_deallocate(void* address, size_t bytes, size_t) {
  bytes_ -= RoundedUp(bytes);
  std::free(address);
}

}  // namespace kvstore
