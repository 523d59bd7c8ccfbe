#include "replication/stability.h"

#include <glog/logging.h>

#include <algorithm>

namespace understudy::replication {

void Stability::OnAppended(Lsn last, size_t bytes) {
  CHECK_GT(last, last_);
  last_ = last;
  unstable_.Add(last, bytes);
}

bool Stability::Update(absl::Span<const Lsn> stored) {
  Lsn least = last_;
  for (const Lsn lsn : stored) least = std::min(least, lsn);
  if (least <= stable_) return false;
  stable_ = least;
  unstable_.DropUpTo(stable_);
  return true;
}

}  // namespace understudy::replication
