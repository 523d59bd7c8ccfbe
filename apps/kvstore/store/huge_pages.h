// Memory for what is looked up at random: in huge pages, where the system has them, and never given back.
//
// A look-up in a large cache misses the processor's caches a few times, and with small pages the translation
// of each address misses as well, which costs more than the bytes themselves, above all in a virtual machine.
#ifndef UNDERSTUDY_APPS_KVSTORE_STORE_HUGE_PAGES_H_
#define UNDERSTUDY_APPS_KVSTORE_STORE_HUGE_PAGES_H_

#include <cstddef>
#include <memory_resource>

namespace kvstore {

// Whole huge pages. For large pieces only; a pool above it makes small ones of them. Not thread-safe.
class HugePages final : public std::pmr::memory_resource {
 public:
  static constexpr size_t kPage = size_t{2} << 20;
  size_t bytes() const { return bytes_; }  // allocated

 private:
  void* do_allocate(size_t bytes, size_t alignment) override;  // throws std::bad_alloc, as operator new
  void do_deallocate(void* address, size_t bytes, size_t alignment) override;
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override { return this == &other; }

  size_t bytes_ = 0;
};

}  // namespace kvstore

#endif  // UNDERSTUDY_APPS_KVSTORE_STORE_HUGE_PAGES_H_
