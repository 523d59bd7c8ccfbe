// Where the south wrapper's programs hang on one interface: ahead of all other programs and filters there.
//
//  - Where the kernel has them (6.6), as tcx programs at the head of the list. They come before every
//    filter of tc, and `tc qdisc del ... clsact` does not concern them. Not as tcx links: a link ends with
//    the process that holds it, and these programs must outlive theirs.
//  - Else as filters on clsact, with the lowest priority number, and there as the newest.
//
// Either can be displaced later by somebody who has the right to. SouthWrapper::Check finds that out, and
// MoveToFront mends it.
#ifndef UNDERSTUDY_TCPSHIM_SOUTH_ATTACHMENT_H_
#define UNDERSTUDY_TCPSHIM_SOUTH_ATTACHMENT_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tcpshim/south_shared.h"
#include "tcpshim/unique_fd.h"

namespace understudy::tcpshim {

class SouthAttachment {
 public:
  enum Direction { kIngress, kEgress, kDirections };
  struct Programs {
    // By direction, two of each that do the same: one takes the other's place at the front before that goes.
    std::array<std::array<int, 2>, kDirections> fds;
    // Whose they are: leftovers of a dead process for the same service are replaced.
    south_service service;
  };

  static bool HaveTcx();

  // `programs`' descriptors must outlive this. NotFound: no such interface. FailedPrecondition says what is
  // in the way.
  static absl::StatusOr<std::unique_ptr<SouthAttachment>> Attach(int interface_index,
                                                                 const Programs& programs, bool tcx);
  // Takes the programs off again, and clsact if it was made here and nobody else has filters there.
  ~SouthAttachment();

  // The programs are ahead of all others again. Those that were there go when the new ones are in place.
  absl::Status MoveToFront();
  // Names of the programs and filters there, for messages.
  std::string Describe() const;
  // The programs stay where they are when this goes.
  void Abandon() { abandoned_ = true; }

  // IDs of the programs that hang there for this service.
  static std::vector<uint32_t> ProgramIds(int interface_index, Direction direction,
                                          const south_service& service);
  // Takes off what a dead process has left on the interface for this service.
  static void RemoveLeftovers(int interface_index, const south_service& service);

 private:
  SouthAttachment(int interface_index, const Programs& programs, bool tcx)
      : interface_index_(interface_index), programs_(programs), tcx_(tcx) {}
  absl::Status AttachTcx(Direction direction);
  absl::Status AttachFilter(Direction direction);
  absl::Status EnsureQdisc();
  void NoteReplaced();

  const int interface_index_;
  const Programs programs_;
  const bool tcx_;
  std::array<int, kDirections> place_ = {-1, -1};  // which of the two hangs there; -1: none yet
  bool made_qdisc_ = false;
  bool replaced_ = false;  // something of a dead process
  bool abandoned_ = false;
};

}  // namespace understudy::tcpshim

#endif  // UNDERSTUDY_TCPSHIM_SOUTH_ATTACHMENT_H_
