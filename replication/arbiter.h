// The arbiter: the one place where an epoch is granted, by compare-and-swap.
//
// Two nodes cannot tell a dead peer from a cut cable. So neither decides: both ask, and who swaps first
// has won. The register is small and changes seldom (once per failure or rejoin).
#ifndef UNDERSTUDY_REPLICATION_ARBITER_H_
#define UNDERSTUDY_REPLICATION_ARBITER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"

namespace understudy::replication {

// What the arbiter holds. epoch 0: nothing has been written yet.
struct Register {
  uint64_t epoch = 0;
  std::string holder;      // the node that may serve
  std::string secondary;   // the node that may take over; empty: none

  bool operator==(const Register&) const = default;
  std::string ToString() const;                                   // "epoch 7: a serves, b is secondary"
  std::string Encode() const;                                     // one line of text, what backends store
  static absl::StatusOr<Register> Decode(const std::string& text);  // InvalidArgument on damage
};

// The four changes there are (the names of DESIGN's section on the arbiter). Each raises the epoch by one.
Register TakenOverBy(const Register& from, const std::string& node);   // (e,A,B) -> (e+1,B,-)
Register GoneSolo(const Register& from);                               // (e,A,B) -> (e+1,A,-)
Register JoinedBy(const Register& from, const std::string& node);      // (e,A,-) -> (e+1,A,C)
Register FirstServedBy(const Register& from, const std::string& node); // (0) or (e,A,-) -> (e+1,A,-): a fresh start

class Arbiter {
 public:
  virtual ~Arbiter() = default;

  struct Outcome {
    bool swapped = false;    // false: the register was not `expected` (never set by Read)
    Register current;        // what it holds after the call
  };
  // Called once, on the thread that called Read or CompareAndSwap's event loop, never inside the call.
  // Unavailable when the arbiter cannot be reached or its answer was lost: then the swap may or may not
  // have happened, and the caller must Read before it believes either.
  using Callback = std::function<void(absl::StatusOr<Outcome>)>;

  virtual void Read(Callback done) = 0;
  // Reads, and finds out, without changing anything, whether a swap could be carried out.
  virtual void Probe(Callback done) = 0;
  // False: what one node is told says nothing about the other.
  virtual bool shared() const { return true; }
  virtual void CompareAndSwap(const Register& expected, const Register& desired, Callback done) = 0;
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_ARBITER_H_
