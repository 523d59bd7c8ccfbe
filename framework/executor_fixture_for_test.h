// A Server that says what it was called with, and an Executor that is fed by hand. For tests of the executor.
#ifndef UNDERSTUDY_FRAMEWORK_EXECUTOR_FIXTURE_FOR_TEST_H_
#define UNDERSTUDY_FRAMEWORK_EXECUTOR_FIXTURE_FOR_TEST_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "framework/executor.h"
#include "framework/log_for_test.h"

namespace understudy {

// Says what it was called with, and does what the test wants.
class Scripted : public Server {
 public:
  std::vector<std::string> calls;
  std::function<void(Connection&)> on_connect = [](Connection&) {};
  std::function<size_t(Connection&, std::string_view)> on_data = [](Connection&, std::string_view unread) {
    return unread.size();
  };
  std::function<void(Connection&)> on_peer_closed = [](Connection& c) { c.Close(); };
  std::function<void(Connection&)> on_writable = [](Connection&) {};
  std::function<void(Connection&, uint32_t)> on_timer = [](Connection&, uint32_t) {};
  std::function<void(Connection&)> on_closed = [](Connection&) {};
  std::function<absl::Status()> commit = [] { return absl::OkStatus(); };

  void OnConnect(Connection& c) override {
    Note(c, "connect");
    on_connect(c);
  }
  size_t OnData(Connection& c, std::string_view unread) override {
    Note(c, absl::StrCat("data ", std::string(unread)));
    return on_data(c, unread);
  }
  void Expect(std::string_view bytes) override {
    calls.push_back(absl::StrCat("expect ", std::string(bytes)));
  }
  void OnPeerClosed(Connection& c) override {
    Note(c, "peer_closed");
    on_peer_closed(c);
  }
  void OnWritable(Connection& c) override {
    Note(c, "writable");
    on_writable(c);
  }
  void OnTimer(Connection& c, uint32_t timer) override {
    Note(c, absl::StrCat("timer ", timer));
    on_timer(c, timer);
  }
  void OnClosed(Connection& c, CloseReason reason) override {
    const char* names[] = {"done", "reset", "aborted", "over limit", "fault"};
    Note(c, absl::StrCat("closed ", names[static_cast<int>(reason)]));
    on_closed(c);
  }
  absl::Status Commit(const CommitPoint& point) override {
    calls.push_back(
        absl::StrCat(point.alone ? "commit alone " : "commit ", point.executed, " ", point.stable));
    return commit();
  }
  void OnStorage(bool writable) override { calls.push_back(writable ? "writable" : "full"); }
  std::vector<std::string> TakeCalls() { return std::exchange(calls, {}); }

 private:
  void Note(Connection& c, const std::string& what) { calls.push_back(absl::StrCat(c.id(), " ", what)); }
};

class ExecutorTest : public testing::Test {
 protected:
  // Begun, and connection 1 is connected.
  void Connected() {
    ASSERT_TRUE(Apply(log.Begin(1)).ok());
    ASSERT_TRUE(Apply(log.Open(1)).ok());
    ASSERT_TRUE(Apply(log.Connect(1)).ok());
    server.TakeCalls();
    executor.TakeTouched();
  }
  absl::Status Apply(const replication::RecordView& record) { return executor.Apply(record); }
  void Ok(const replication::RecordView& record) {
    const absl::Status applied = executor.Apply(record);
    ASSERT_TRUE(applied.ok()) << applied;
  }
  void Refused(const replication::RecordView& record, const std::string& why) {
    const auto lsn = executor.applied_lsn();
    const auto time = executor.time_us();
    const auto count = executor.connection_count();
    const absl::Status applied = executor.Apply(record);
    EXPECT_EQ(applied.code(), absl::StatusCode::kInvalidArgument) << applied;
    EXPECT_THAT(std::string(applied.message()), testing::HasSubstr(why));
    EXPECT_THAT(std::string(applied.message()), testing::HasSubstr(absl::StrCat("record ", record.lsn)));
    EXPECT_EQ(executor.applied_lsn(), lsn);
    EXPECT_EQ(executor.time_us(), time);
    EXPECT_EQ(executor.connection_count(), count);
    EXPECT_THAT(server.TakeCalls(), testing::IsEmpty());
  }
  std::string OutputOf(ConnectionId id) const {
    const ConnectionState* state = executor.Find(id);
    return state == nullptr ? "?" : std::string(state->output().View(0, ~uint64_t{0}));
  }

  LogForTest log;
  Scripted server;
  Executor executor{&server};
};

}  // namespace understudy

#endif  // UNDERSTUDY_FRAMEWORK_EXECUTOR_FIXTURE_FOR_TEST_H_
