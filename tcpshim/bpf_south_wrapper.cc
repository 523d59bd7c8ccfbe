// The south wrapper in the kernel: joins the parts.
#include <arpa/inet.h>
#include <glog/logging.h>
#include <net/if.h>

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tcpshim/load_error.h"
#include "tcpshim/south_attachment.h"
#include "tcpshim/south_error.h"
#include "tcpshim/south_events.h"
#include "tcpshim/south_fence.h"
#include "tcpshim/south_gate.h"
#include "tcpshim/south_probe.h"
#include "tcpshim/south_program.h"
#include "tcpshim/south_table.h"
#include "tcpshim/south_wrapper.h"

namespace understudy::tcpshim {
namespace {

absl::Status Prefixed(const absl::Status& status) {
  return absl::Status(status.code(), absl::StrCat("south wrapper: ", status.message()));
}

class BpfSouthWrapper final : public SouthWrapper {
 public:
  explicit BpfSouthWrapper(std::unique_ptr<SouthProgram> program) : program_(std::move(program)) {}
  ~BpfSouthWrapper() override {
    // In a forked child the programs are not ours to take off.
    if (fence_ != nullptr && !program_->is_own()) fence_->Abandon();
  }
  absl::Status Raise(const Options& options);

  absl::Status Check() override { return fence_->Check(); }
  int change_fd() const override { return fence_->change_fd(); }
  uint64_t mended() const override { return fence_->mended(); }
  absl::Status FollowInterface() override;

  void OpenGate() override { gate_.Open(); }
  void CloseGate() override { gate_.Close(); }
  void RenewUntil(std::chrono::steady_clock::time_point deadline) override { gate_.RenewUntil(deadline); }
  int gate_fd() const override { return program_->maps().control; }

  void Remove(Slot slot) override { table_->Remove(slot); }

  int event_fd() const override { return events_->fd(); }
  int PollEvents(const std::function<void(const south_event&)>& handle, int limit) override {
    return events_->Poll(handle, limit);
  }
  std::array<uint64_t, SOUTH_COUNTERS> Counters() const override { return events_->Counters(); }

 private:
  absl::StatusOr<Slot> Insert(const FourTuple& tuple, const south_connection& connection) override {
    return table_->Add(tuple, connection);
  }
  south_connection& At(Slot slot) const override { return table_->At(slot); }

  // What is further down uses what is above it.
  const std::unique_ptr<SouthProgram> program_;
  SouthGate gate_;
  std::unique_ptr<SouthTable> table_;
  std::unique_ptr<SouthEvents> events_;
  std::unique_ptr<SouthFence> fence_;
};

absl::Status BpfSouthWrapper::Raise(const Options& options) {
  auto probe = SouthProbe::Open();
  if (!probe.ok()) {
    return SouthError("packet socket", absl::IsPermissionDenied(probe.status()) ? EPERM : EINVAL);
  }
  const bool tcx = options.tcx && SouthAttachment::HaveTcx();
  if (absl::Status status = program_->Load(**probe, tcx); !status.ok()) return status;

  gate_ = SouthGate(program_->maps().control);
  if (!gate_.mapped()) return SouthError("mapping the switch", errno);
  auto table = SouthTable::Map(program_->maps(), options.service);
  if (!table.ok()) return table.status();
  table_ = *std::move(table);
  auto events = SouthEvents::Open(program_->maps());
  if (!events.ok()) return events.status();
  events_ = *std::move(events);

  auto fence = SouthFence::Raise(program_->interface_index(), options.service, program_->entries(), tcx,
                                 *std::move(probe), gate_.control());
  if (absl::IsPermissionDenied(fence.status()))
    return SouthError(std::string(fence.status().message()), EPERM);
  if (!fence.ok()) return Prefixed(fence.status());
  fence_ = *std::move(fence);
  VLOG(1) << "south wrapper: on " << options.interface << " for " << options.service.ToString()
          << (tcx ? ", by tcx" : ", by clsact");
  return absl::OkStatus();
}

absl::Status BpfSouthWrapper::FollowInterface() {
  if (absl::Status owned = program_->FollowInterface(); !owned.ok()) return owned;
  const absl::Status moved = fence_->MoveTo(program_->interface_index());
  return moved.ok() ? moved : Prefixed(moved);
}

}  // namespace

absl::StatusOr<std::unique_ptr<SouthWrapper>> SouthWrapper::Attach(const Options& options) {
  if (options.max_connections == 0 || options.max_connections > (1u << 24)) {
    return absl::InvalidArgumentError("south wrapper: max_connections is out of range");
  }
  if (options.service.ip == 0 || options.service.port == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("south wrapper: not a service address: ", options.service.ToString()));
  }
  auto program = SouthProgram::Own(options);
  if (!program.ok()) return program.status();
  auto wrapper = std::make_unique<BpfSouthWrapper>(*std::move(program));
  if (absl::Status raised = wrapper->Raise(options); !raised.ok()) return raised;
  return wrapper;
}

void SouthWrapper::RemoveLeftovers(const SocketAddress& service) {
  LibbpfComplaints quiet;
  struct if_nameindex* all = if_nameindex();
  if (all == nullptr) return;
  for (const struct if_nameindex* one = all; one->if_index != 0; ++one) {
    SouthAttachment::RemoveLeftovers(static_cast<int>(one->if_index),
                                     {htonl(service.ip), htons(service.port), 0});
  }
  if_freenameindex(all);
}

}  // namespace understudy::tcpshim
