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
#include <vector>

#include "absl/status/statusor.h"

namespace understudy::replication {

// What the arbiter holds. epoch 0: nothing has been written yet.
struct Register {
  uint64_t epoch = 0;
  std::string holder;     // the node that may serve; empty: none may, see left_to
  std::string secondary;  // the node that may take over; empty: none
  // Of an epoch that was given back: the nodes that have the newest data, of which one may serve again.
  std::vector<std::string> left_to = {};

  bool operator==(const Register&) const = default;
  // The nodes that have everything that was ever acknowledged to a client. Another one that begins would
  // serve old data.
  std::vector<std::string> Keepers() const;
  bool KeptBy(const std::string& node) const;
  std::string ToString() const;                                     // "epoch 7: a serves, b is secondary"
  std::string Encode() const;                                       // one line of text, what backends store
  static absl::StatusOr<Register> Decode(const std::string& text);  // InvalidArgument on damage
};

// The changes there are (docs/design.md, "Who may serve"). Each raises the epoch by one.
Register TakenOverBy(const Register& from, const std::string& node);  // (e,A,B) -> (e+1,B,-)
Register GoneSolo(const Register& from);                              // (e,A,B) -> (e+1,A,-)
Register JoinedBy(const Register& from, const std::string& node);     // (e,A,-) -> (e+1,A,C)
Register FirstServedBy(const Register& from,
                       const std::string& node);  // (0) or (e,A,-) -> (e+1,A,-): a fresh start
// (e,B,-) -> (e+1,-,-), left to A and B: B was granted the epoch, and could not serve.
Register GivenBack(const Register& from, const std::string& other);
Register TakenUpBy(const Register& from, const std::string& node);  // (e,-,-) left to A and B -> (e+1,A,-)

class Arbiter {
 public:
  virtual ~Arbiter() = default;

  struct Outcome {
    bool swapped = false;  // false: the register was not `expected` (never set by Read)
    Register current;      // what it holds after the call
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
