#include "tcpshim/south_table.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <glog/logging.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "tcpshim/south_error.h"

namespace understudy::tcpshim {
namespace {

south_tuple ToKey(const FourTuple& tuple) {
  return {htonl(tuple.local.ip), htonl(tuple.remote.ip), htons(tuple.local.port), htons(tuple.remote.port)};
}

}  // namespace

absl::StatusOr<std::unique_ptr<SouthTable>> SouthTable::Map(const SouthMaps& maps,
                                                            const SocketAddress& service) {
  MappedMap memory(maps.connections, sizeof(south_connection) * maps.max_connections);
  if (!memory) return SouthError("mapping the connections", errno);
  return std::unique_ptr<SouthTable>(new SouthTable(maps, service, std::move(memory)));
}

absl::StatusOr<SouthTable::Slot> SouthTable::Add(const FourTuple& tuple, const south_connection& connection) {
  if (tuple.local != service_) {
    return absl::InvalidArgumentError(
        absl::StrCat(tuple.ToString(), ": the service address is ", service_.ToString()));
  }
  if (connection.rcv_wscale > 14) {
    return absl::InvalidArgumentError(
        absl::StrCat(tuple.ToString(), ": window scale ", connection.rcv_wscale));
  }
  const bool reuse = next_unused_ == maps_.max_connections;
  if (reuse && freed_.empty()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("south wrapper: all ", maps_.max_connections, " slots are in use"));
  }
  const Slot slot = reuse ? freed_.front() : next_unused_;
  connections_[slot] = connection;
  std::atomic_thread_fence(std::memory_order_seq_cst);
  const south_tuple key = ToKey(tuple);
  if (bpf_map_update_elem(maps_.slots, &key, &slot, BPF_NOEXIST) != 0) {
    const int error = errno;
    if (error == EEXIST) return absl::AlreadyExistsError(tuple.ToString());
    return absl::ResourceExhaustedError(
        absl::StrCat("south wrapper: adding ", tuple.ToString(), ": ", strerror(error)));
  }
  if (reuse) {
    freed_.pop_front();
  } else {
    ++next_unused_;
    tuples_.resize(next_unused_);
    used_.resize(next_unused_);
  }
  tuples_[slot] = tuple;
  used_[slot] = true;
  return slot;
}

void SouthTable::Remove(Slot slot) {
  (void)At(slot);
  const south_tuple key = ToKey(tuples_[slot]);
  if (bpf_map_delete_elem(maps_.slots, &key) != 0) {
    LOG(ERROR) << "south wrapper: removing " << tuples_[slot].ToString() << ": " << strerror(errno);
  }
  used_[slot] = false;
  freed_.push_back(slot);
}

south_connection& SouthTable::At(Slot slot) const {
  CHECK_LT(slot, used_.size());
  CHECK(used_[slot]) << "slot " << slot << " holds no connection";
  return connections_[slot];
}

}  // namespace understudy::tcpshim
