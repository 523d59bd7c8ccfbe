#include "replication/destination.h"

#include <glog/logging.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"

namespace understudy::replication {
namespace {

// Several batches go into one call while a node catches up, but not so many that a heartbeat has to wait for
// long behind them.
constexpr size_t kChunk = 256u << 10;

}  // namespace

void Destination::Connect(std::string node, Lsn stored, Lsn applied, MonotonicTime now) {
  Disconnect();
  connected_ = true;
  has_answered_ = false;
  node_ = std::move(node);
  stored_ = stored;
  next_ = stored + 1;
  pin_ = log_->PinFrom(next_);
  applied_ = applied;
  replay_moved_at_ = now;
  cannot_take_over_ = "it has not said whether it could";
  if (applied < stored) unreplayed_.Add(stored, log_->BytesBetween(applied + 1, stored));
}

void Destination::Disconnect() {
  connected_ = false;
  pin_ = Log::Pin();
  in_flight_.clear();
  in_flight_bytes_ = 0;
  unreplayed_.Clear();
}

void Destination::Forget() {
  Disconnect();
  node_.clear();
}

wire::AppendRequest Destination::Next(uint64_t epoch, bool with_records, MonotonicTime now) {
  CHECK(connected_);
  wire::AppendRequest request;
  request.epoch = static_cast<int64_t>(epoch);
  request.first_lsn = static_cast<int64_t>(next_);
  const Lsn before = next_ - 1;
  if (with_records && !HasBeenSentAll()) {
    next_ = log_->Read(next_, kChunk, &request.records) + 1;
    pin_.MoveTo(next_);
    unreplayed_.Add(next_ - 1, request.records.size());
  }
  request.sent_at_ns = ToNs(now);
  const OutputHash newest = log_->HashUpTo(next_ - 1);
  for (const OutputHash& hash : log_->HashesBetween(before, std::max<Lsn>(newest.lsn, 1) - 1)) {
    wire::OutputHash earlier;
    earlier.lsn = static_cast<int64_t>(hash.lsn);
    earlier.hash = static_cast<int64_t>(hash.hash);
    request.earlier_hashes.push_back(earlier);
    request.__isset.earlier_hashes = true;
  }
  request.executed_lsn = static_cast<int64_t>(newest.lsn);
  request.output_hash = static_cast<int64_t>(newest.hash);
  in_flight_.push_back({request.sent_at_ns, epoch, next_, request.records.size()});
  in_flight_bytes_ += request.records.size();
  last_sent_at_ = now;
  return request;
}

std::optional<MonotonicTime> Destination::waits_since() const {
  return in_flight_.empty() ? std::nullopt : std::optional(FromNs(in_flight_.front().sent_at_ns));
}

std::string Destination::FaultOf(const wire::AppendReply& reply) const {
  if (in_flight_.empty()) return "an answer to no append";
  const Sent& sent = in_flight_.front();
  if (reply.sent_at_ns != sent.sent_at_ns) {
    return absl::StrCat("an answer to an append of time ", reply.sent_at_ns, " instead of ", sent.sent_at_ns);
  }
  if (reply.epoch != static_cast<int64_t>(sent.epoch)) {
    return absl::StrCat("an answer of epoch ", reply.epoch, " instead of ", sent.epoch);
  }
  const Lsn stored = static_cast<Lsn>(reply.stored_lsn);
  if (reply.stored_lsn < 0 || stored < stored_ || stored + 1 < sent.next_lsn || stored >= next_) {
    return absl::StrCat("claims to have stored ", reply.stored_lsn, " after ", stored_,
                        ", when it was sent up to ", next_ - 1);
  }
  if (reply.applied_lsn < 0 || reply.applied_lsn > reply.stored_lsn) {
    return absl::StrCat("claims to have replayed ", reply.applied_lsn, " of ", reply.stored_lsn);
  }
  return "";
}

std::string Destination::OnReply(const wire::AppendReply& reply, MonotonicTime now) {
  if (std::string fault = FaultOf(reply); !fault.empty()) return fault;
  has_answered_ = true;
  in_flight_bytes_ -= in_flight_.front().bytes;
  in_flight_.pop_front();
  stored_ = static_cast<Lsn>(reply.stored_lsn);
  const Lsn applied = static_cast<Lsn>(reply.applied_lsn);
  if (applied > applied_ || applied == stored_) replay_moved_at_ = now;
  applied_ = applied;
  unreplayed_.DropUpTo(applied);
  cannot_take_over_ = reply.cannot_take_over;
  return "";
}

void Destination::CheckInvariants() const {
  CHECK_EQ(pin_.holds(), connected_);
  if (!connected_) {
    CHECK(in_flight_.empty());
    return;
  }
  CHECK(!node_.empty());
  CHECK_LE(next_, log_->last_lsn() + 1);
  CHECK_LT(stored_, next_);
  CHECK_EQ(pin_.lsn(), next_);
  size_t bytes = 0;
  for (const Sent& sent : in_flight_) bytes += sent.bytes;
  CHECK_EQ(bytes, in_flight_bytes_);
}

}  // namespace understudy::replication
