#include <algorithm>
#include <functional>
#include <utility>

#include "tests/kvstore/runner.h"

namespace kvstore::test {
namespace {

// Leaves out runs of elements of `all`, long ones first, as long as `differs` says that nothing is lost.
template <typename T>
void Reduce(std::vector<T>* all, const std::function<bool()>& differs, int* tries) {
  for (size_t length = std::max<size_t>(all->size() / 2, 1);; length = std::max<size_t>(length / 2, 1)) {
    bool reduced = false;
    for (size_t at = 0; at < all->size() && *tries > 0;) {
      std::vector<T> before = *all;
      const auto begin = all->begin() + static_cast<std::ptrdiff_t>(at);
      all->erase(begin, begin + static_cast<std::ptrdiff_t>(std::min(length, all->size() - at)));
      --*tries;
      if (!all->empty() && differs()) {
        reduced = true;
      } else {
        *all = std::move(before);
        at += length;
      }
    }
    if (*tries <= 0 || (length == 1 && !reduced)) return;
  }
}

}  // namespace

Stream Shrink(Stream stream, const std::function<bool(const Stream&)>& differs, int tries) {
  const auto still = [&] { return differs(stream); };
  Reduce(&stream, still, &tries);
  for (size_t i = 0; i < stream.size(); ++i) {
    if (stream[i].kind == Batch::Kind::kRequests) Reduce(&stream[i].requests, still, &tries);
  }
  for (Batch& batch : stream) {
    const uint64_t split = std::exchange(batch.split, 0);
    if (split != 0 && !still()) batch.split = split;
  }
  return stream;
}

}  // namespace kvstore::test
