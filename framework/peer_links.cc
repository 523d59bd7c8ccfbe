#include "framework/peer_links.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "glog/logging.h"

namespace understudy {

namespace wire = replication::wire;
using replication::DialResult;
using replication::Transport;

namespace {
constexpr std::chrono::milliseconds kDialTimeout{200};
}  // namespace

replication::Link::Handler::Verdict RefuseAsNotPrimary(const std::string& detail) {
  wire::Refused refused;
  refused.reason = wire::RefuseReason::NOT_PRIMARY;
  refused.detail = detail;
  refused.epoch = 0;
  return {true, refused};
}

replication::Link::Handler::Verdict RefuseAsNotJoined() {
  return RefuseAsNotPrimary("not joined with this node");
}

PeerLinks::PeerLinks(Host* host, const NodeConfig* config, const replication::ProtocolConfig* protocol,
                     PeerEvents* events, NodeCounters* counters)
    : host_(host),
      config_(config),
      events_(events),
      counters_(counters),
      transport_(host->NewTransport({.own = config->replication,
                                     .peer = config->peer,
                                     .key = config->key,
                                     .service = protocol->service,
                                     .node = config->node})) {}

PeerLinks::~PeerLinks() {
  *alive_ = false;
  for (auto& link : unjoined_) link->Close();
  if (joined_ != nullptr) joined_->Close();
  if (link_ != nullptr) link_->Close();
}

absl::Status PeerLinks::Open() {
  const absl::Status listens =
      transport_->Listen([this](auto connection) { Accepted(std::move(connection)); });
  // A well-formed address that this host does not have is no wrong flag.
  return listens.ok() ? absl::OkStatus() : absl::UnavailableError(listens.message());
}

void PeerLinks::Accepted(std::unique_ptr<Transport::Connection> connection) {
  ++counters_->links_accepted;
  // From the peer's address, but perhaps not of the peer's node. That one says at once what it wants; so the
  // one that has had the longest time for it goes.
  if (unjoined_.size() >= Transport::kMaxStrangers) {
    ++counters_->links_closed_for_cause;
    LOG_EVERY_T(WARNING, 10) << "closing the oldest of " << unjoined_.size()
                             << " replication links that have not joined";
    unjoined_.front()->Close();
    unjoined_.erase(unjoined_.begin());
  }
  unjoined_.push_back(transport_->StartLink(std::move(connection), this, /*dialed=*/false));
}

void PeerLinks::LogAgain(const std::string& text) {
  if (ShallLog(text)) LOG(WARNING) << text;
}

void PeerLinks::Use(std::shared_ptr<Link> link) {
  if (link_ != nullptr && link_ != link) link_->Close();
  link_ = std::move(link);
}

void PeerLinks::Drop() {
  if (link_ != nullptr) link_->Close();
  link_.reset();
}

void PeerLinks::CloseBecause(const std::string& reason) {
  LogAgain(absl::StrCat("closing the replication link: ", reason));
  ++counters_->links_closed_for_cause;
  Drop();
}

void PeerLinks::Dial() {
  ++counters_->dials;
  transport_->Dial(kDialTimeout, [this, alive = alive_](DialResult result, auto connection) {
    if (!*alive) return;
    if (result != DialResult::kConnected) {
      LOG_EVERY_T(WARNING, 5) << "cannot reach the peer at " << config_->peer << ": "
                              << (result == DialResult::kRefused ? "nothing listens there" : "no answer");
    } else if (events_->KeepsDialed()) {
      Use(transport_->StartLink(std::move(connection), this, /*dialed=*/true));
    }
    events_->OnDialed(result);
  });
}

// --- What comes --------------------------------------------------------------------------------------

replication::Link::Handler::Verdict PeerLinks::OnJoin(Link& link, const wire::JoinRequest& request,
                                                      wire::JoinReply& reply) {
  const auto unjoined = std::find_if(unjoined_.begin(), unjoined_.end(),
                                     [&](const auto& candidate) { return candidate.get() == &link; });
  const Verdict verdict = unjoined == unjoined_.end() ? RefuseAsNotPrimary("joined already")
                                                      : events_->OnJoin(link.remote(), request, reply);
  if (verdict.refuse) {
    ++counters_->joins_refused;
    LogAgain(absl::StrCat("refusing ", request.node, ": ", verdict.refused.detail));
  } else {
    joined_ = *unjoined;  // what is to be sent must follow the answer: OnTurnDone
    unjoined_.erase(unjoined);
  }
  return verdict;
}

replication::Link::Handler::Verdict PeerLinks::OnAppend(Link& link, wire::AppendRequest request,
                                                        wire::AppendReply& reply) {
  if (&link != link_.get()) return RefuseAsNotJoined();
  return events_->OnAppend(std::move(request), reply);
}

replication::Link::Handler::Verdict PeerLinks::OnHandover(Link& link, const wire::HandoverRequest& request,
                                                          wire::HandoverReply& reply) {
  if (&link != link_.get()) return RefuseAsNotJoined();
  return events_->OnHandover(request, reply);
}

void PeerLinks::OnJoinReply(Link& link, const wire::JoinReply& reply) {
  if (&link == link_.get()) events_->OnJoinReply(reply);
}

void PeerLinks::OnAppendReply(Link& link, const wire::AppendReply& reply) {
  if (&link == link_.get()) events_->OnAppendReply(reply);
}

void PeerLinks::OnHandoverReply(Link& link, const wire::HandoverReply& reply) {
  if (&link == link_.get()) events_->OnHandoverReply(reply);
}

void PeerLinks::OnRefused(Link& link, const wire::Refused& refused) {
  if (&link != link_.get()) return;
  LogAgain(absl::StrCat("refused by ", config_->peer.address().to_string(), ": ", refused.detail));
  events_->OnRefused(refused);
}

void PeerLinks::OnClosed(Link& link, const std::string& reason) {
  std::erase_if(unjoined_, [&](const auto& unjoined) { return unjoined.get() == &link; });
  const bool ours = &link == link_.get() || &link == joined_.get();
  if (!ours) {
    ++counters_->links_closed_for_cause;
    LogAgain(absl::StrCat("a replication link that has not joined was closed: ", reason));
    return;
  }
  LogAgain(absl::StrCat("the replication link was closed: ", reason));
  if (&link == joined_.get()) joined_.reset();
  if (&link == link_.get()) link_.reset();
  events_->OnLinkDown(reason);
}

void PeerLinks::OnTurnDone(Link& link) {
  if (joined_ != nullptr && &link == joined_.get()) Use(std::exchange(joined_, nullptr));
  events_->OnTurnDone();
}

}  // namespace understudy
