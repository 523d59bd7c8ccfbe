// The south wrapper's programs and maps in the kernel, and which process they belong to.
//
// The verdict programs hang on a program array that only this process holds. When the last descriptor of it
// goes, the kernel empties it, and the entry programs, which stay on the interface, let nothing pass any
// more. So a forked child must not hold it: its copy is closed (pthread_atfork), and the name with it, by
// which a live process is known to hold the service.
#ifndef UNDERSTUDY_TCPSHIM_SOUTH_PROGRAM_H_
#define UNDERSTUDY_TCPSHIM_SOUTH_PROGRAM_H_

#include <sys/types.h>

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tcpshim/south_fence.h"
#include "tcpshim/south_maps.h"
#include "tcpshim/south_probe.h"
#include "tcpshim/south_shared.h"
#include "tcpshim/south_wrapper.h"
#include "tcpshim/unique_fd.h"

struct south;  // the skeleton of south.bpf.c

namespace understudy::tcpshim {

class SouthProgram {
 public:
  // Makes this process the owner of the service on the interface. Nothing is loaded yet. NotFound,
  // AlreadyExists, and PermissionDenied or FailedPrecondition where it can never be.
  static absl::StatusOr<std::unique_ptr<SouthProgram>> Own(const SouthWrapper::Options& options);
  // Unloads, and gives the service back. In a forked child it does nothing: the descriptors are the parent's.
  ~SouthProgram();

  // Loads the programs and makes their maps; the entry programs find the verdicts from here on. `probe`:
  // whose frames they count. Errors as SouthWrapper::Attach. Once only.
  absl::Status Load(const SouthProbe& probe, bool tcx);

  // After Load. They belong to this object.
  const SouthMaps& maps() const { return maps_; }
  const SouthFence::Programs& entries() const { return entries_; }

  int interface_index() const { return interface_index_; }
  // An interface has come in the place of the one of that name: the service is owned there. Errors as Own.
  absl::Status FollowInterface();
  // Not a forked child's copy.
  bool is_own() const;

 private:
  explicit SouthProgram(const SouthWrapper::Options& options);
  absl::Status FindInterface();
  absl::Status TakeName();
  absl::Status LoadSkeleton(const SouthProbe& probe, bool tcx);
  absl::Status FillVerdicts();
  absl::Status CheckClock() const;
  absl::Status NameEntries();
  void FindMaps();

  const SouthWrapper::Options options_;
  const south_service service_;
  const pid_t owner_;
  int interface_index_ = 0;
  UniqueFd name_;  // taken while this process lives
  int named_index_ = 0;
  south* skeleton_ = nullptr;
  SouthMaps maps_;
  SouthFence::Programs entries_;
};

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_SOUTH_PROGRAM_H_
