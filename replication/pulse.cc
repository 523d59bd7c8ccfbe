#include "replication/pulse.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "replication/auth.h"

namespace understudy::replication {
namespace {

static_assert(std::endian::native == std::endian::little, "a big endian host needs byte swaps here");

constexpr uint32_t kMagic = 0x736c7550;  // "Puls"

struct Head {
  uint32_t magic;
  uint16_t version;
  uint16_t answer;
  uint64_t epoch;
  int64_t sent_at_ns;
};
static_assert(sizeof(Head) == 24, "no padding: it goes over the wire as it lies here");

// What proves a datagram; longer than a CRC, so that a node without a key takes none of one that has it.
std::string CodeOf(std::string_view body, std::string_view key) {
  if (!key.empty()) return Hmac(Hmac(key, "understudy: pulses"), body);
  const uint32_t crc = Crc32c(body);
  return std::string(reinterpret_cast<const char*>(&crc), sizeof crc);
}

}  // namespace

std::string Encode(const PulseMessage& message, std::string_view key) {
  const Head head{kMagic, static_cast<uint16_t>(message.version), message.answer, message.epoch,
                  message.sent_at_ns};
  std::string out(reinterpret_cast<const char*>(&head), sizeof head);
  out.append(message.service);
  out.append(CodeOf(out, key));
  return out;
}

std::optional<PulseMessage> DecodePulse(std::string_view datagram, std::string_view key) {
  Head head;
  const size_t code = key.empty() ? sizeof(uint32_t) : kHmacSize;
  if (datagram.size() < sizeof head + code || datagram.size() > kMaxPulseSize) return std::nullopt;
  const std::string_view body = datagram.substr(0, datagram.size() - code);
  std::memcpy(&head, body.data(), sizeof head);
  if (head.magic != kMagic || !SpokenVersions().Has(head.version) || head.answer > 1) return std::nullopt;
  if (!SameMac(datagram.substr(body.size()), CodeOf(body, key))) return std::nullopt;
  return PulseMessage{head.answer == 1, head.epoch, head.sent_at_ns, std::string(body.substr(sizeof head)),
                      head.version};
}

Pulse::Pulse(ProtocolConfig config, nanoseconds max_stall, std::function<void(MonotonicTime)> renew)
    : config_(std::move(config)), max_stall_(max_stall), renew_(std::move(renew)) {}

void Pulse::Allow(uint64_t epoch, int32_t version, MonotonicTime now) {
  std::lock_guard lock(mutex_);
  if (epoch_ == epoch && version_ == version) return;
  Beat(now);
  epoch_ = epoch;
  version_ = version;
  unanswered_.clear();
  answered_.reset();
}

void Pulse::Forbid() {
  std::lock_guard lock(mutex_);
  epoch_.reset();
}

std::optional<Pulse::Answered> Pulse::TakeAnswered() {
  std::lock_guard lock(mutex_);
  const auto sent_at = std::exchange(answered_, std::nullopt);
  if (!epoch_.has_value() || !sent_at.has_value()) return std::nullopt;
  return Answered{*epoch_, *sent_at};
}

Pulse::Next Pulse::OnWake(MonotonicTime now) {
  std::lock_guard lock(mutex_);
  if (!epoch_.has_value()) return {std::nullopt, MonotonicTime::max()};
  const MonotonicTime beat(nanoseconds(beat_ns_.load(std::memory_order_relaxed)));
  const nanoseconds silence = now - beat;
  if (silence < 2 * config_.heartbeat) return {std::nullopt, beat + 2 * config_.heartbeat};
  if (silence >= max_stall_) return {std::nullopt, now + config_.heartbeat};
  if (now < next_send_) return {std::nullopt, next_send_};
  next_send_ = now + config_.heartbeat;
  while (!unanswered_.empty() && unanswered_.front() < ToNs(now - config_.suspect_after)) {
    unanswered_.pop_front();
  }
  unanswered_.push_back(ToNs(now));
  ++sent_count_;
  return {PulseMessage{false, *epoch_, ToNs(now), config_.service, version_}, next_send_};
}

void Pulse::OnDatagram(std::string_view datagram, MonotonicTime now) {
  const std::optional<PulseMessage> message = DecodePulse(datagram, config_.key);
  ++(message.has_value() && Accept(*message, now) ? answered_count_ : dropped_count_);
}

bool Pulse::Accept(const PulseMessage& answer, MonotonicTime now) {
  if (!answer.answer || answer.service != config_.service) return false;
  std::lock_guard lock(mutex_);
  if (!epoch_.has_value() || answer.epoch != *epoch_ || answer.version != version_) return false;
  const auto sent = std::find(unanswered_.begin(), unanswered_.end(), answer.sent_at_ns);
  if (sent == unanswered_.end()) return false;
  // Those before it have been overtaken: theirs would be worth less.
  unanswered_.erase(unanswered_.begin(), sent + 1);
  answered_ = MonotonicTime(nanoseconds(answer.sent_at_ns));
  const MonotonicTime until = *answered_ + config_.suspect_after - config_.lease_guard;
  if (until > now) renew_(until);
  return true;
}

}  // namespace understudy::replication
