// The output of one connection, kept from the client's last acknowledged byte on. Offsets count from the
// first byte the application ever sent. Pure.
#ifndef UNDERSTUDY_FRAMEWORK_OUTPUT_QUEUE_H_
#define UNDERSTUDY_FRAMEWORK_OUTPUT_QUEUE_H_

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

namespace understudy {

class OutputQueue {
 public:
  uint64_t begin() const { return begin_; }                        // first byte kept
  uint64_t end() const { return begin_ + bytes_.size() - head_; }  // behind the last byte produced
  size_t size() const { return bytes_.size() - head_; }

  void Append(std::string_view bytes) { bytes_.append(bytes); }

  // Drops what is before `offset`; beyond end() is as good as end().
  void TrimTo(uint64_t offset) {
    if (offset <= begin_) return;
    const size_t drop = std::min<uint64_t>(offset - begin_, size());
    begin_ += drop;
    head_ += drop;
    if (head_ == bytes_.size()) {
      bytes_.clear();
      head_ = 0;
      if (bytes_.capacity() > kKeepCapacity) bytes_.shrink_to_fit();
    } else if (head_ > kKeepCapacity && head_ > bytes_.size() / 2) {
      bytes_.erase(0, head_);  // moves at most as many bytes as were dropped: amortized constant
      head_ = 0;
    }
  }

  // Drops all, and gives the memory back.
  void Drop() {
    begin_ = end();
    head_ = 0;
    bytes_ = std::string();
  }

  // The bytes of [from, to), cut to what is kept. Good until the next change.
  std::string_view View(uint64_t from, uint64_t to) const {
    from = std::clamp(from, begin(), end());
    to = std::clamp(to, from, end());
    return std::string_view(bytes_).substr(head_ + (from - begin_), to - from);
  }

 private:
  static constexpr size_t kKeepCapacity = 64 << 10;

  uint64_t begin_ = 0;
  size_t head_ = 0;  // index of begin_ in bytes_
  std::string bytes_;
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_OUTPUT_QUEUE_H_
