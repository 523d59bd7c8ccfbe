// The replication links of a node: those that the peer has made and not joined on yet, and the one that is in
// use.
#ifndef UNDERSTUDY_FRAMEWORK_PEER_LINKS_H_
#define UNDERSTUDY_FRAMEWORK_PEER_LINKS_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "framework/host.h"
#include "framework/log_filter.h"
#include "framework/node_config.h"
#include "framework/node_counters.h"
#include "replication/link.h"
#include "replication/protocol.h"
#include "replication/transport.h"

namespace understudy {

// What comes over a link, told to whatever role the node has now (role.h).
class PeerEvents {
 public:
  using Verdict = replication::Link::Handler::Verdict;
  virtual ~PeerEvents() = default;
  // On a link that is not joined; `from`: "IP:PORT". Not refused, it is the link in use from the end of this
  // turn on, before which nothing is sent on it but `reply`.
  virtual Verdict OnJoin(const std::string& from, const replication::wire::JoinRequest& request,
                         replication::wire::JoinReply& reply) = 0;
  // On the link in use.
  virtual Verdict OnAppend(replication::wire::AppendRequest request,
                           replication::wire::AppendReply& reply) = 0;
  virtual Verdict OnHandover(const replication::wire::HandoverRequest& request,
                             replication::wire::HandoverReply& reply) = 0;
  virtual void OnJoinReply(const replication::wire::JoinReply& reply) = 0;
  virtual void OnAppendReply(const replication::wire::AppendReply& reply) = 0;
  virtual void OnHandoverReply(const replication::wire::HandoverReply& reply) = 0;
  virtual void OnRefused(const replication::wire::Refused& refused) = 0;
  // The link in use, or the one that was to be it, was closed by the other end or broke.
  virtual void OnLinkDown(const std::string& reason) = 0;
  // A call of Dial has ended. A connection is the link in use where KeepsDialed; else it is closed.
  virtual bool KeepsDialed() const = 0;
  virtual void OnDialed(replication::DialResult result) = 0;
  // All that one turn of the loop brought has been told.
  virtual void OnTurnDone() = 0;
};

class PeerLinks final : private replication::Link::Handler {
 public:
  // All outlive this object.
  PeerLinks(Host* host, const NodeConfig* config, const replication::ProtocolConfig* protocol,
            PeerEvents* events, NodeCounters* counters);
  ~PeerLinks() override;

  // Begins to listen. Unavailable names the address.
  absl::Status Open();
  replication::Transport& transport() { return *transport_; }
  const replication::Transport& transport() const { return *transport_; }

  void Dial();  // once
  // The link in use; nullptr: there is none.
  replication::Link* link() { return link_.get(); }
  void Drop();
  void CloseBecause(const std::string& reason);
  // Says what comes again and again while two nodes cannot agree once, and now and then.
  void LogAgain(const std::string& text);
  bool ShallLog(const std::string& text) { return log_filter_.Take(text, host_->clock().Monotonic()); }

 private:
  using Link = replication::Link;

  void Accepted(std::unique_ptr<replication::Transport::Connection> connection);
  void Use(std::shared_ptr<Link> link);

  Verdict OnJoin(Link& link, const replication::wire::JoinRequest& request,
                 replication::wire::JoinReply& reply) override;
  Verdict OnAppend(Link& link, replication::wire::AppendRequest request,
                   replication::wire::AppendReply& reply) override;
  Verdict OnHandover(Link& link, const replication::wire::HandoverRequest& request,
                     replication::wire::HandoverReply& reply) override;
  void OnJoinReply(Link& link, const replication::wire::JoinReply& reply) override;
  void OnAppendReply(Link& link, const replication::wire::AppendReply& reply) override;
  void OnHandoverReply(Link& link, const replication::wire::HandoverReply& reply) override;
  void OnRefused(Link& link, const replication::wire::Refused& refused) override;
  void OnClosed(Link& link, const std::string& reason) override;
  void OnTurnDone(Link& link) override;

  Host* const host_;
  const NodeConfig* const config_;
  PeerEvents* const events_;
  NodeCounters* const counters_;
  const std::unique_ptr<replication::Transport> transport_;
  LogFilter log_filter_;
  std::vector<std::shared_ptr<Link>> unjoined_;  // accepted
  std::shared_ptr<Link> joined_;                 // becomes link_ when its turn is done
  std::shared_ptr<Link> link_;
  const std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);  // for dials that end late
};

// Answers of a node that has no part in what the other end wants.
replication::Link::Handler::Verdict RefuseAsNotPrimary(const std::string& detail);
replication::Link::Handler::Verdict RefuseAsNotJoined();

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_PEER_LINKS_H_
