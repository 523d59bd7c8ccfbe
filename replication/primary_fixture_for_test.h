// What the tests of PrimaryCore have in common.
#ifndef UNDERSTUDY_REPLICATION_PRIMARY_FIXTURE_FOR_TEST_H_
#define UNDERSTUDY_REPLICATION_PRIMARY_FIXTURE_FOR_TEST_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <functional>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "replication/memory_log.h"
#include "replication/primary.h"
#include "replication/reason_for_test.h"
#include "replication/version.h"

namespace understudy::replication {

using State = PrimaryCore::State;
using wire::RefuseReason;

inline ProtocolConfig Config() {
  ProtocolConfig config;
  config.self.name = "a";
  config.service = "10.0.0.1:80";
  config.max_catch_up_bytes = 1000;
  config.max_unstable_bytes = 2000;
  config.retain_bytes = 100000;
  return config;
}

inline constexpr milliseconds kSpan(70);  // suspect_after - lease_guard

class PrimaryTest : public testing::Test {
 protected:
  PrimaryTest() {
    Do([] {});
  }

  // Another primary, with an empty log.
  void BeginAnew(const ProtocolConfig& config) {
    core_.reset();
    log_.emplace();
    core_.emplace(config, kHeld, &*log_, now_);
  }
  // One event and its actions.
  template <typename Event>
  void Do(Event event) {
    event();
    core_->CheckInvariants();
    actions_ = core_->Take();
  }
  void Pass(milliseconds span) {
    now_ += span;
    Do([&] { core_->OnTick(now_); });
  }
  void AppendRecords(int count = 1, size_t body = 10) {
    Do([&] {
      BatchBuilder builder(core_->last_lsn() + 1);
      for (int i = 0; i < count; ++i) builder.Append(1, 1, std::string(body, 'r'));
      core_->OnAppended(builder.Seal(), core_->last_lsn(), 77, now_);
    });
  }

  template <typename T>
  std::vector<T> All() const {
    std::vector<T> out;
    for (const Action& action : actions_) {
      if (const T* match = std::get_if<T>(&action)) out.push_back(*match);
    }
    return out;
  }
  template <typename T>
  bool Has() const {
    return !All<T>().empty();
  }
  template <typename T>
  T Only() const {
    const std::vector<T> all = All<T>();
    EXPECT_EQ(all.size(), 1u);
    return all.empty() ? T{} : all.front();
  }

  static wire::JoinRequest JoinRequest(int64_t last_lsn = 0, const std::string& node = "b") {
    wire::JoinRequest request;
    request.protocol_version = SpokenVersions().newest;
    request.service_address = "10.0.0.1:80";
    request.node = node;
    request.epoch = last_lsn == 0 ? 0 : 5;
    request.last_lsn = last_lsn;
    return request;
  }
  PrimaryCore::JoinOutcome Join(const wire::JoinRequest& request) {
    PrimaryCore::JoinOutcome outcome;
    Do([&] { outcome = core_->OnJoin(request, now_); });
    for (const SendAppend& send : All<SendAppend>()) open_.push_back(send.request);
    return outcome;
  }
  RefuseReason::type Refusal(const wire::JoinRequest& request) {
    const auto outcome = Join(request);
    EXPECT_TRUE(outcome.refused.has_value());
    return outcome.refused.has_value() ? ReasonOf(*outcome.refused) : RefuseReason::type();
  }

  static wire::AppendReply ReplyTo(const wire::AppendRequest& request) {
    wire::AppendReply reply;
    reply.epoch = request.epoch;
    reply.sent_at_ns = request.sent_at_ns;
    reply.stored_lsn = request.first_lsn - 1;
    if (!request.records.empty()) {
      auto batch = RecordBatch::Parse(request.records, request.first_lsn);
      EXPECT_TRUE(batch.ok()) << batch.status();
      reply.stored_lsn = static_cast<int64_t>(batch->last_lsn());
    }
    reply.applied_lsn = 0;
    return reply;
  }
  void Answer(const wire::AppendReply& reply) {
    Do([&] { core_->OnAppendReply(reply, now_); });
  }
  void Answer(const wire::AppendRequest& request) { Answer(ReplyTo(request)); }

  void Granted(bool swapped, const Register& current) {
    Do([&] { core_->OnArbiter(Arbiter::Outcome{swapped, current}, now_); });
  }
  void ArbiterUnavailable() {
    Do([&] { core_->OnArbiter(absl::UnavailableError("lost"), now_); });
  }

  // What was sent just now, by a node that has replayed so far, or all it holds.
  void AnswerAll(int64_t applied) {
    for (const SendAppend& send : All<SendAppend>()) {
      wire::AppendReply reply = ReplyTo(send.request);
      reply.applied_lsn = std::min(reply.stored_lsn, applied);
      Answer(reply);
    }
  }

  // And the arbiter still has what was granted.
  void Live(int64_t applied) {
    const Actions sent = actions_;
    if (Has<ReadRegister>()) Granted(false, core_->held());
    actions_ = sent;
    AnswerAll(applied);
  }

  // b has joined, and holds everything up to last_lsn().
  void Protect() {
    ASSERT_FALSE(Join(JoinRequest(core_->last_lsn())).refused.has_value());
    Answer(open_.back());
    ASSERT_EQ(Only<SwapRegister>().desired, kPair);
    Granted(true, kPair);
    ASSERT_EQ(core_->state(), State::kProtected);
    member_ = Only<SendAppend>().request;
    Answer(member_);
  }

  const Register kHeld{5, "a", ""};
  const Register kPair{6, "a", "b"};
  MonotonicTime now_{std::chrono::seconds(1000)};
  std::optional<MemoryLog> log_{std::in_place};
  std::optional<PrimaryCore> core_{std::in_place, Config(), kHeld, &*log_, now_};
  Actions actions_;
  std::vector<wire::AppendRequest> open_;
  wire::AppendRequest member_;
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_PRIMARY_FIXTURE_FOR_TEST_H_
