#include "replication/receiver.h"

#include <glog/logging.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "replication/last_word.h"
#include "replication/names.h"

namespace understudy::replication {
namespace {

using wire::RefuseReason;

constexpr milliseconds kMaxBackOff(100);
// Short at first: most often the peer is back at once.
constexpr milliseconds kMinBackOff(1);
// What time alone does not mend: configuration, or a log that is gone. And what has been refused so often
// that it will be.
constexpr milliseconds kSlowRetry(1000);

}  // namespace

Receiver::Receiver(ProtocolConfig config, Log* log, MonotonicTime now, Actions& out)
    : config_(std::move(config)), log_(log), link_since_(now) {
  following_.last_heard = now;
  StartDial(out);
}

// --- The link ------------------------------------------------------------------------------------

void Receiver::SetLink(LinkState link) {
  link_ = link;
  following_.joined = link == LinkState::kJoined;
}

void Receiver::StartDial(Actions& out) {
  SetLink(LinkState::kDialing);
  dial_at_.reset();
  out.push_back(Dial{});
}

void Receiver::DialLater(nanoseconds pause, MonotonicTime now) {
  SetLink(LinkState::kNone);
  if (!stopped_) dial_at_ = now + pause;
}

Receiver::Change Receiver::OnDialed(DialResult result, MonotonicTime now, Actions& out) {
  if (link_ != LinkState::kDialing || stopped_) {
    if (result == DialResult::kConnected) out.push_back(CloseLink{"dialed for nothing"});
    if (link_ == LinkState::kDialing) SetLink(LinkState::kNone);
    return Change::kNone;
  }
  if (result != DialResult::kConnected) {
    const bool refused = result == DialResult::kRefused;
    why_ = refused ? "nothing listens at the peer" : "the peer cannot be reached";
    DialLater(SlowDown(kMaxBackOff), now);
    return Change::kDialFailed;
  }
  SetLink(LinkState::kJoinSent);
  link_since_ = now;
  SendJoin send;
  send.request.protocol_version = config_.versions.newest;
  send.request.__set_oldest_protocol_version(config_.versions.oldest);
  send.request.service_address = config_.service;
  SetId(config_.self, send.request);
  send.request.epoch = static_cast<int64_t>(log_->last_epoch());
  send.request.last_lsn = static_cast<int64_t>(stored_lsn());
  send.request.__set_settings(config_.settings);
  out.push_back(std::move(send));
  return Change::kNone;
}

std::string Receiver::FaultOf(const wire::JoinReply& reply) const {
  if (link_ != LinkState::kJoinSent) return "an answer to no join";
  if (!config_.versions.Has(reply.protocol_version)) {
    return absl::StrCat("speaks version ", reply.protocol_version, " of the protocol, and this node ",
                        ToString(config_.versions));
  }
  if (reply.next_lsn != static_cast<int64_t>(stored_lsn() + 1)) {
    return absl::StrCat("would go on at record ", reply.next_lsn, " instead of ", stored_lsn() + 1);
  }
  if (reply.suspect_after_ms != config_.suspect_after.count()) {
    return absl::StrCat("--suspect_after_ms is ", reply.suspect_after_ms, " there and ",
                        config_.suspect_after.count(), " here");
  }
  if (!reply.last_word_hash.empty() && reply.last_word_hash.size() != kLastWordHashSize) {
    return "tells a hash that is none";
  }
  if (!IsNodeName(reply.node) || reply.node == config_.self.name) {
    return absl::StrCat("calls itself \"", Printable(reply.node, kMaxNodeName), "\"");
  }
  if (reply.epoch <= 0 || static_cast<uint64_t>(reply.epoch) < following_.epoch) {
    return absl::StrCat("is in epoch ", reply.epoch, ", and this node has seen epoch ", following_.epoch);
  }
  if (following_.member && static_cast<uint64_t>(reply.epoch) == following_.epoch &&
      reply.node != following_.primary) {
    return absl::StrCat("is ", reply.node, " in the epoch of ", following_.primary);
  }
  return "";
}

Receiver::Change Receiver::OnJoinReply(const wire::JoinReply& reply, MonotonicTime now, Actions& out) {
  if (stopped_ || link_ == LinkState::kNone || link_ == LinkState::kDialing) return Change::kNone;
  if (const std::string fault = FaultOf(reply); !fault.empty()) {
    return CloseAndRetry(absl::StrCat("cannot join: the primary ", fault), now, out);
  }
  SetLink(LinkState::kJoined);
  back_off_ = nanoseconds(0);
  following_.last_heard = now;
  following_.primary = reply.node;
  following_.version = reply.protocol_version;
  primary_id_ = IdOf(reply);
  if (static_cast<uint64_t>(reply.epoch) > following_.epoch) {
    following_.epoch = static_cast<uint64_t>(reply.epoch);
    following_.member = false;
  }
  why_.clear();
  return Change::kJoined;
}

nanoseconds Receiver::SlowDown(nanoseconds most) {
  const nanoseconds longer = std::max<nanoseconds>(2 * back_off_, kMinBackOff);
  back_off_ = std::min<nanoseconds>(longer, most);
  return back_off_;
}

nanoseconds Receiver::BackOff(const wire::Refused& refused) {
  switch (refused.reason) {
    case RefuseReason::WRONG_VERSION:
    case RefuseReason::WRONG_SERVICE:
    case RefuseReason::SAME_NODE:
    case RefuseReason::NOT_AUTHENTIC:
    case RefuseReason::NEEDS_STATE_TRANSFER:
    case RefuseReason::NOT_REPLAYING:
    case RefuseReason::OTHER_SETTINGS: return kSlowRetry;
    default: return SlowDown(kSlowRetry);
  }
}

Receiver::Change Receiver::OnRefused(const wire::Refused& refused, MonotonicTime now, Actions& out) {
  if (stopped_ || link_ == LinkState::kNone || link_ == LinkState::kDialing) return Change::kNone;
  const bool joined = link_ == LinkState::kJoined;
  why_ = absl::StrCat("refused: ", refused.detail);
  out.push_back(CloseLink{why_});
  DialLater(BackOff(refused), now);
  return joined ? Change::kLost : Change::kNone;
}

Receiver::Change Receiver::CloseAndRetry(const std::string& reason, MonotonicTime now, Actions& out) {
  why_ = reason;
  const bool joined = link_ == LinkState::kJoined;
  out.push_back(CloseLink{reason});
  DialLater(SlowDown(kMaxBackOff), now);
  return joined ? Change::kLost : Change::kNone;
}

Receiver::Change Receiver::OnLinkDown(const std::string& reason, MonotonicTime now, Actions& out) {
  if (link_ != LinkState::kJoinSent && link_ != LinkState::kJoined) return Change::kNone;
  const bool joined = link_ == LinkState::kJoined;
  SetLink(LinkState::kNone);
  if (stopped_) return Change::kNone;
  why_ = reason;
  if (!joined) {
    DialLater(SlowDown(kMaxBackOff), now);
    return Change::kNone;
  }
  StartDial(out);
  return Change::kLost;
}

// --- The log -------------------------------------------------------------------------------------

wire::Refused Receiver::Refuse(RefuseReason::type reason, std::string detail) const {
  wire::Refused refused;
  refused.reason = reason;
  refused.detail = std::move(detail);
  refused.epoch = static_cast<int64_t>(following_.epoch);
  return refused;
}

std::optional<wire::Refused> Receiver::CheckAppend(const wire::AppendRequest& request) const {
  const uint64_t epoch = following_.epoch;
  if (!following_.joined) return Refuse(RefuseReason::NOT_JOINED, "append before join");
  if (request.epoch <= 0 || static_cast<uint64_t>(request.epoch) < epoch) {
    return Refuse(RefuseReason::WRONG_EPOCH,
                  absl::StrCat("append of epoch ", request.epoch, ", and this is epoch ", epoch));
  }
  if (following_.member && !request.member && static_cast<uint64_t>(request.epoch) == epoch) {
    return Refuse(RefuseReason::WRONG_EPOCH, "a secondary cannot be left out within an epoch");
  }
  // Times are subtracted from this host's, and what is left is added to others.
  const bool time_fits =
      request.sent_at_ns >= 0 && request.sent_at_ns <= std::numeric_limits<int64_t>::max() / 2;
  if (request.first_lsn <= 0 || request.executed_lsn < 0 || !time_fits) {
    return Refuse(RefuseReason::OUT_OF_ORDER, "an LSN or a time that cannot be");
  }
  if (static_cast<Lsn>(request.first_lsn) > stored_lsn() + 1) {
    return Refuse(RefuseReason::OUT_OF_ORDER,
                  absl::StrCat("append from ", request.first_lsn, " on, after ", stored_lsn()));
  }
  return std::nullopt;
}

// What is stored already came before the link broke: a resend.
std::optional<wire::Refused> Receiver::Store(wire::AppendRequest* request, Actions& out) {
  absl::StatusOr<RecordBatch> batch =
      RecordBatch::Parse(std::move(request->records), static_cast<Lsn>(request->first_lsn));
  if (!batch.ok()) {
    return Refuse(RefuseReason::BAD_RECORDS, std::string(batch.status().message()));
  }
  const bool news = !batch->empty() && batch->last_lsn() > stored_lsn();
  RecordBatch rest = news ? batch->After(stored_lsn()) : RecordBatch();
  std::vector<OutputHash> hashes = NewHashes(*request, news ? rest.last_lsn() : stored_lsn());
  if (news) {
    log_->Append(rest, static_cast<uint64_t>(request->epoch), hashes);
    log_->TruncateBefore(log_->StartOfNewest(config_.retain_bytes, stored_lsn()));
  }
  if (news || !hashes.empty()) out.push_back(Replay{std::move(rest), std::move(hashes)});
  return std::nullopt;
}

// What the request tells of the output up to records that are stored, `end` being the last, and has not told
// before. A heartbeat tells the same again and again; one that suddenly tells something else is passed on.
std::vector<OutputHash> Receiver::NewHashes(const wire::AppendRequest& request, Lsn end) {
  std::vector<OutputHash> hashes;
  const auto add = [&](int64_t lsn, int64_t hash) {
    const OutputHash one{static_cast<Lsn>(lsn), static_cast<uint64_t>(hash)};
    if (lsn <= 0 || one.lsn > end || one.lsn < told_.lsn || one == told_) return;
    hashes.push_back(told_ = one);
  };
  for (const wire::OutputHash& earlier : request.earlier_hashes) add(earlier.lsn, earlier.hash);
  add(request.executed_lsn, request.output_hash);
  return hashes;
}

Receiver::AppendOutcome Receiver::OnAppend(wire::AppendRequest request, Lsn applied, MonotonicTime now,
                                           Actions& out) {
  AppendOutcome outcome;
  outcome.refused = CheckAppend(request);
  if (!outcome.refused.has_value()) outcome.refused = Store(&request, out);
  if (outcome.refused.has_value()) return outcome;
  const uint64_t epoch = static_cast<uint64_t>(request.epoch);
  outcome.news = epoch != following_.epoch || request.member != following_.member;
  following_.epoch = epoch;
  following_.member = request.member;
  following_.last_heard = now;
  outcome.reply.epoch = request.epoch;
  outcome.reply.stored_lsn = static_cast<int64_t>(stored_lsn());
  outcome.reply.sent_at_ns = request.sent_at_ns;
  outcome.reply.applied_lsn = static_cast<int64_t>(std::min(applied, stored_lsn()));
  return outcome;
}

bool Receiver::OnPulse(uint64_t epoch, int32_t version, MonotonicTime now) {
  if (stopped_ || !following_.joined || following_.epoch == 0 || version != following_.version) return false;
  const bool known = epoch == following_.epoch || (!following_.member && epoch == following_.epoch + 1);
  if (known) following_.last_heard = now;
  return known;
}

std::optional<wire::Refused> Receiver::CheckHandover(const wire::HandoverRequest& request) const {
  if (stopped_ || !following_.member || !following_.joined) {
    return Refuse(RefuseReason::NOT_JOINED, "not the secondary of this epoch");
  }
  if (request.epoch != static_cast<int64_t>(following_.epoch)) {
    return Refuse(RefuseReason::WRONG_EPOCH, absl::StrCat("handover of epoch ", request.epoch,
                                                          ", and this is epoch ", following_.epoch));
  }
  if (request.last_lsn != static_cast<int64_t>(stored_lsn())) {
    return Refuse(RefuseReason::OUT_OF_ORDER, absl::StrCat("the log ends at ", request.last_lsn,
                                                           " there and at ", stored_lsn(), " here"));
  }
  return std::nullopt;
}

// --- The owner -----------------------------------------------------------------------------------

void Receiver::BecomeMember(uint64_t epoch, MonotonicTime now) {
  following_.epoch = epoch;
  following_.member = true;
  following_.last_heard = now;
}

void Receiver::CloseLinkFor(const std::string& reason, Actions& out) {
  if (link_ != LinkState::kJoined && link_ != LinkState::kJoinSent) return;
  out.push_back(CloseLink{reason});
  SetLink(LinkState::kNone);
}

void Receiver::Stop() {
  stopped_ = true;
  dial_at_.reset();
}

void Receiver::StartAnew(const std::string& why, Actions& out) {
  stopped_ = false;
  following_.member = false;
  why_ = why;
  back_off_ = nanoseconds(0);
  CloseLinkFor(why, out);
  if (link_ == LinkState::kNone) StartDial(out);
}

// --- Time ----------------------------------------------------------------------------------------

Receiver::Change Receiver::OnTick(MonotonicTime now, Actions& out) {
  if (stopped_) return Change::kNone;
  Change change = Change::kNone;
  if (link_ == LinkState::kJoinSent && now >= link_since_ + config_.suspect_after) {
    change = CloseAndRetry(absl::StrCat("no answer to join within ", config_.suspect_after.count(), " ms; ",
                                        SlowLinkAdvice(config_.suspect_after)),
                           now, out);
  } else if (following_.joined && !following_.member &&
             now >= following_.last_heard + config_.suspect_after) {
    change = CloseAndRetry(absl::StrCat(following_.primary, " is silent"), now, out);
  }
  if (dial_at_.has_value() && now >= *dial_at_) StartDial(out);
  return change;
}

MonotonicTime Receiver::NextTick() const {
  MonotonicTime next = MonotonicTime::max();
  if (stopped_) return next;
  if (dial_at_.has_value()) next = std::min(next, *dial_at_);
  if (link_ == LinkState::kJoinSent) next = std::min(next, link_since_ + config_.suspect_after);
  if (following_.joined && !following_.member) {
    next = std::min(next, following_.last_heard + config_.suspect_after);
  }
  return next;
}

void Receiver::CheckInvariants() const {
  CHECK_LE(log_->last_epoch(), following_.epoch);
  if (following_.member || following_.joined) {
    CHECK_GT(following_.epoch, 0u);
    CHECK(!following_.primary.empty());
    CHECK_NE(following_.primary, config_.self.name);
  }
  // On the way to the primary at any time.
  if (!stopped_) CHECK(link_ != LinkState::kNone || dial_at_.has_value());
  if (stopped_) CHECK(!dial_at_.has_value());
}

}  // namespace understudy::replication
