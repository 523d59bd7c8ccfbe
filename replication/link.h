// One connection between the two nodes of a pair, as a node uses it: the calls of replication.thrift, both
// ways. Several may be in flight; both ends may call.
//
// I8: whatever comes from the network, at worst closes the link it came on, with a reason that names the
// fault. Texts of the other end that reach the owner (Refused::detail, HandoverRequest::why) are printable
// and short; names are names (names.h).
#ifndef UNDERSTUDY_REPLICATION_LINK_H_
#define UNDERSTUDY_REPLICATION_LINK_H_

#include <cstddef>
#include <memory>
#include <string>

#include "replication/replication_types.h"  // generated from replication.thrift

namespace understudy::replication {

// Everything happens on the loop's thread. Alive until closed; destroy it at any time, also inside a
// callback.
class Link {
 public:
  // What the owner is told. All calls come from the loop, none from inside a method of Link, none after
  // Close() or OnClosed().
  class Handler {
   public:
    virtual ~Handler() = default;
    // Calls of the other end. Setting `refuse` makes the answer a Refused; once it has been written the
    // link is closed, and OnClosed says so.
    struct Verdict {
      bool refuse = false;
      wire::Refused refused;
    };
    virtual Verdict OnJoin(Link& link, const wire::JoinRequest& request, wire::JoinReply& reply) = 0;
    virtual Verdict OnAppend(Link& link, wire::AppendRequest request, wire::AppendReply& reply) = 0;
    virtual Verdict OnHandover(Link& link, const wire::HandoverRequest& request,
                               wire::HandoverReply& reply) = 0;
    // Answers to own calls.
    virtual void OnJoinReply(Link& link, const wire::JoinReply& reply) = 0;
    virtual void OnAppendReply(Link& link, const wire::AppendReply& reply) = 0;
    virtual void OnHandoverReply(Link& link, const wire::HandoverReply& reply) = 0;
    virtual void OnRefused(Link& link, const wire::Refused& refused) = 0;
    // The other end closed, the connection broke, or it broke the rules (malformed or oversized frame,
    // an answer to no call, a silent stranger): `reason` says which. Last call for this link.
    virtual void OnClosed(Link& link, const std::string& reason) = 0;
    // All frames that one turn of the loop brought have been handled.
    virtual void OnTurnDone(Link&) {}
  };

  virtual ~Link() = default;

  // Queue a call; written at once if the network takes it. Never blocks. No-op after Close.
  virtual void Join(const wire::JoinRequest& request) = 0;
  virtual void Append(const wire::AppendRequest& request) = 0;
  virtual void Handover(const wire::HandoverRequest& request) = 0;

  // Closes without a further callback.
  virtual void Close() = 0;

  // Of the other end: "IP:PORT".
  virtual std::string remote() const = 0;
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_LINK_H_
