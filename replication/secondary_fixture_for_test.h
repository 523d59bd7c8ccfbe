// What the tests of SecondaryCore have in common.
#ifndef UNDERSTUDY_REPLICATION_SECONDARY_FIXTURE_FOR_TEST_H_
#define UNDERSTUDY_REPLICATION_SECONDARY_FIXTURE_FOR_TEST_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "replication/last_word.h"
#include "replication/memory_log.h"
#include "replication/reason_for_test.h"
#include "replication/secondary.h"
#include "replication/version.h"

namespace understudy::replication {

using State = SecondaryCore::State;
using wire::RefuseReason;

inline ProtocolConfig Config() {
  ProtocolConfig config;
  config.self.name = "b";
  config.service = "10.0.0.1:80";
  return config;
}

inline std::string Records(Lsn first, int count) {
  BatchBuilder builder(first);
  for (int i = 0; i < count; ++i) builder.Append(1, 1, "record");
  return builder.Seal().bytes();
}

class SecondaryTest : public testing::Test {
 protected:
  SecondaryTest() {
    Do([] {});
  }

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

  void Dialed(DialResult result) {
    Do([&] { core_->OnDialed(result, now_); });
  }
  wire::JoinReply JoinReply() const {
    wire::JoinReply reply;
    reply.node = "a";
    reply.epoch = 5;
    reply.next_lsn = static_cast<int64_t>(core_->stored_lsn()) + 1;
    reply.suspect_after_ms = 80;
    reply.protocol_version = SpokenVersions().newest;
    reply.last_word_hash = HashOfLastWord(word_);
    return reply;
  }
  void Joined(const wire::JoinReply& reply) {
    Do([&] { core_->OnJoinReply(reply, now_); });
  }
  void Join() {
    Dialed(DialResult::kConnected);
    Joined(JoinReply());
  }

  wire::AppendRequest Append(int count, int64_t epoch = 5, bool member = false) const {
    wire::AppendRequest request;
    request.epoch = epoch;
    request.first_lsn = static_cast<int64_t>(core_->stored_lsn()) + 1;
    if (count > 0) request.records = Records(request.first_lsn, count);
    request.sent_at_ns = 12345;
    request.member = member;
    request.executed_lsn = 1;
    request.output_hash = 2;
    return request;
  }
  SecondaryCore::AppendOutcome Appended(const wire::AppendRequest& request) {
    SecondaryCore::AppendOutcome outcome;
    Do([&] { outcome = core_->OnAppend(request, 1, now_); });
    return outcome;
  }
  RefuseReason::type Refusal(const wire::AppendRequest& request) {
    const auto outcome = Appended(request);
    EXPECT_TRUE(outcome.refused.has_value());
    return outcome.refused.has_value() ? ReasonOf(*outcome.refused) : RefuseReason::type();
  }
  void Checked(const Register& seen) {
    Do([&] { core_->OnArbiterChecked(std::optional(seen), now_); });
  }
  void LinkDown() {
    Do([&] { core_->OnLinkDown("reset", now_); });
  }
  void Granted(bool swapped, const Register& current) {
    Do([&] { core_->OnArbiter(Arbiter::Outcome{swapped, current}, now_); });
  }
  void ArbiterUnavailable() {
    Do([&] { core_->OnArbiter(absl::UnavailableError("lost"), now_); });
  }
  void Protect() {
    Join();
    ASSERT_FALSE(Appended(Append(3, 6, true)).refused.has_value());
    ASSERT_EQ(core_->state(), State::kProtected);
  }
  void Suspect() {
    Protect();
    Pass(milliseconds(80));
    ASSERT_EQ(core_->state(), State::kAsking);
  }

  bool HeardLastWord(const std::string& word) {
    bool fits = false;
    Do([&] { fits = core_->OnLastWord(word, now_); });
    return fits;
  }

  const std::string word_ = std::string(32, 'w');
  const Register kPair{6, "a", "b"};
  const Register kTaken{7, "b", ""};
  const Register kSolo{5, "a", ""};
  MonotonicTime now_{std::chrono::seconds(1000)};
  std::optional<MemoryLog> log_{std::in_place};
  std::optional<SecondaryCore> core_{std::in_place, Config(), &*log_, now_};
  Actions actions_;
};

}  // namespace understudy::replication

#endif  // UNDERSTUDY_REPLICATION_SECONDARY_FIXTURE_FOR_TEST_H_
