// The witness: a small process that outlives the node's and says so when that has died.
//
// A process that dies cannot say so itself, and a broken connection or a refused one proves nothing:
// networks and firewalls make them for the living. But the kernel of the host knows at once. So the process
// that was started forks, before it has threads, memory or descriptors worth speaking of; it goes on as the
// server (service managers see the process they have started), the child as its witness. The child waits
// on a pidfd, and for the kernel to close the server's end of their socket, which it does up to 50 ms before.
// When the server is gone, or says that it is through, it
//   1. closes the server's gate, so that from here on not one packet of the dead passes (the filter needs up
//      to 7 ms to notice by itself, south_wrapper.h);
//   2. says the last word (replication/last_word.h) on the dead process's own pulse socket, a few times,
//      with the call that the process died of, if its crash handler has left one, and ends.
// Whoever kills the witness harms nobody: the service goes on, and a death is found when the lease has run
// out. `kill -9` of the whole control group is such a case. Where the witness alone is killed the node says
// so; it starts no other, which would be a fork of a process with threads and clients.
#ifndef UNDERSTUDY_FRAMEWORK_WITNESS_H_
#define UNDERSTUDY_FRAMEWORK_WITNESS_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "replication/last_word.h"

namespace understudy {

class Witness {
 public:
  virtual ~Witness() = default;
  // What the pair may be told of the word: its SHA-256.
  virtual const std::string& last_word_hash() const = 0;
  // Shared with the witness: what is written there before this process ends goes with the word. Always there.
  virtual replication::FatalCall* fatal_call() = 0;
  // From here on the death of this process will be told. The witness gets copies of both descriptors, and the
  // pair's key; a later call replaces those of an earlier one. Unavailable: the witness is gone.
  virtual absl::Status Entrust(int pulse_fd, int gate_fd, const std::string& key) = 0;
  // Whether it would tell. Asked now and then.
  virtual bool Lives() = 0;
  // This process has fallen silent and serves no more: the word need not wait until it has cleared away what
  // it has.
  virtual void TellNow() = 0;
};

// Forks. Call it from main, before any other thread and before anything is opened that must not outlive this
// process. Unavailable says why there is none.
absl::StatusOr<std::unique_ptr<Witness>> StartWitness();

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_WITNESS_H_
