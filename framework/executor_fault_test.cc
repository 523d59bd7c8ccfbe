// Calls of the Server that end with an exception.
#include <stdexcept>

#include "framework/executor_fixture_for_test.h"

namespace understudy {
namespace {

using std::chrono::microseconds;
using testing::ElementsAre;
using testing::HasSubstr;

// Throws when it is given "throw", after it has sent something.
class Throwing : public Scripted {
 public:
  Throwing() {
    on_data = [](Connection& c, std::string_view unread) {
      if (unread.find("throw") != std::string_view::npos) {
        c.Send("half");
        throw std::runtime_error("cannot");
      }
      c.Send(unread);
      return unread.size();
    };
  }
  bool Transactional() const override { return transactional; }
  bool transactional = true;
};

class FaultTest : public testing::Test {
 protected:
  void Begin(OnPoison on_poison = OnPoison::kAsServerSays) {
    executor = std::make_unique<Executor>(&server, Limits{.on_poison = on_poison});
    for (const auto& record : {log.Begin(1)}) Ok(record);
    for (ConnectionId id : {1, 2}) {
      Ok(log.Open(id));
      Ok(log.Connect(id));
    }
    server.TakeCalls();
  }
  void Ok(const replication::RecordView& record) {
    const absl::Status applied = executor->Apply(record);
    ASSERT_TRUE(applied.ok()) << applied;
  }
  // Names the record, the connection and what it was given.
  void Aborted(const replication::RecordView& record) {
    const auto lsn = executor->applied_lsn();
    const uint64_t hash = executor->output_hash();
    const absl::Status applied = executor->Apply(record);
    EXPECT_EQ(applied.code(), absl::StatusCode::kAborted) << applied;
    EXPECT_EQ(executor->applied_lsn(), lsn);
    EXPECT_EQ(executor->output_hash(), hash) << "what the other node will have";
    why = std::string(applied.message());
  }

  LogForTest log;
  Throwing server;
  std::unique_ptr<Executor> executor;
  std::string why;
};

TEST_F(FaultTest, ATransactionalServerLosesOnlyTheConnection) {
  Begin();
  Ok(log.Receive(1, "throw"));
  EXPECT_TRUE(executor->Find(1)->abort_wanted());
  EXPECT_FALSE(executor->faulty().has_value());
  Ok(log.Receive(1, "unheard"));
  Ok(log.Receive(2, "fine"));
  Ok(log.End(1));
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 data throw", "2 data fine", "1 closed fault"));
}

TEST_F(FaultTest, BothNodesDoTheSameAfterIt) {
  Begin();
  Throwing other;
  Executor twin(&other, Limits{});
  LogForTest again;
  for (const auto& record : {again.Begin(1)}) ASSERT_TRUE(twin.Apply(record).ok());
  for (ConnectionId id : {1, 2}) {
    ASSERT_TRUE(twin.Apply(again.Open(id)).ok());
    ASSERT_TRUE(twin.Apply(again.Connect(id)).ok());
  }
  Ok(log.Receive(1, "throw"));
  ASSERT_TRUE(twin.Apply(again.Receive(1, "throw")).ok());
  EXPECT_EQ(executor->output_hash(), twin.output_hash());
  EXPECT_EQ(executor->buffered(), twin.buffered());
}

TEST_F(FaultTest, AnotherServerIsNotCalledAnyMore) {
  server.transactional = false;
  Begin();
  Aborted(log.Receive(1, "throw"));
  EXPECT_THAT(
      why, HasSubstr("record 6 (Received), connection 1 of 198.18.0.9:40001, 5 bytes, which begin 74 68 72"));
  EXPECT_THAT(why, HasSubstr("cannot"));
  ASSERT_TRUE(executor->faulty().has_value());
  EXPECT_EQ(executor->faulty()->connection, 1u);
  EXPECT_EQ(executor->faulty()->ending, 0);
}

TEST_F(FaultTest, TheFlagOverridesTheServer) {
  Begin(OnPoison::kStop);
  Aborted(log.Receive(1, "throw"));
}

TEST_F(FaultTest, TheFlagOverridesTheServerTheOtherWayToo) {
  server.transactional = false;
  Begin(OnPoison::kDropConnection);
  Ok(log.Receive(1, "throw"));
  EXPECT_TRUE(executor->Find(1)->abort_wanted());
}

TEST_F(FaultTest, AnythingMayBeThrownFromAnyCall) {
  Begin();
  server.on_connect = [](Connection&) { throw 7; };
  Ok(log.Open(3));
  Ok(log.Connect(3));
  EXPECT_TRUE(executor->Find(3)->abort_wanted());
  server.on_timer = [](Connection&, uint32_t) { throw std::runtime_error("timer"); };
  server.on_data = [](Connection& c, std::string_view unread) {
    c.SetTimer(1, microseconds(0));
    return unread.size();
  };
  Ok(log.Receive(1, "x"));
  Ok(log.Fire(1, 1));
  EXPECT_TRUE(executor->Find(1)->abort_wanted());
  server.on_peer_closed = [](Connection&) { throw std::runtime_error("end"); };
  Ok(log.PeerClose(2));
  EXPECT_TRUE(executor->Find(2)->abort_wanted());
}

TEST_F(FaultTest, AConnectionWhoseEndThrowsIsGoneAllTheSame) {
  Begin();
  server.on_closed = [](Connection&) { throw std::runtime_error("closed"); };
  Ok(log.End(1));
  Ok(log.Break(2));
  EXPECT_EQ(executor->connection_count(), 0u);
}

TEST_F(FaultTest, AThrowThatIsNobodysStopsTheNode) {
  class BadStorage : public Throwing {
    void OnStorage(bool) override { throw std::runtime_error("storage"); }
  } bad;
  Executor victim(&bad);
  LogForTest fresh;
  ASSERT_TRUE(victim.Apply(fresh.Begin(1)).ok());
  EXPECT_TRUE(absl::IsAborted(victim.Apply(fresh.Add(RecordKind::kStorage, Encode(Storage{0})))));
  EXPECT_FALSE(victim.faulty().has_value());
}

// --- What the heir does --------------------------------------------------------------------------

TEST_F(FaultTest, TheOtherNodeEndsTheConnectionWithoutTheCall) {
  server.transactional = false;
  Begin();
  Ok(log.Add(RecordKind::kFault, Encode(Fault{1, 0})));
  EXPECT_TRUE(executor->Find(1)->abort_wanted());
  Ok(log.End(1));
  EXPECT_THAT(server.TakeCalls(), ElementsAre("1 closed fault"));
}

// The call that ended the other node may have been OnConnect.
TEST_F(FaultTest, NorIsOnConnectCalledWhereItWasTheLast) {
  server.transactional = false;
  Begin();
  Ok(log.Open(3));
  Ok(log.Add(RecordKind::kFault, Encode(Fault{3, 0})));
  Ok(log.Connect(3));
  EXPECT_TRUE(executor->Find(3)->abort_wanted());
  Ok(log.End(3));
  EXPECT_THAT(server.TakeCalls(), testing::IsEmpty());
}

TEST_F(FaultTest, NorIsAnOnClosedThatThrewCalledAgain) {
  server.transactional = false;
  Begin();
  server.on_closed = [](Connection&) { throw std::runtime_error("closed"); };
  Aborted(log.Break(1));
  EXPECT_EQ(executor->faulty()->ending, 1);
  Throwing heirs;
  Executor heir(&heirs);
  LogForTest same;
  ASSERT_TRUE(heir.Apply(same.Begin(1)).ok());
  ASSERT_TRUE(heir.Apply(same.Open(1)).ok());
  ASSERT_TRUE(heir.Apply(same.Connect(1)).ok());
  ASSERT_TRUE(heir.Apply(same.Add(RecordKind::kFault, Encode(*executor->faulty()))).ok());
  ASSERT_TRUE(heir.Apply(same.End(1)).ok());
  EXPECT_THAT(heirs.TakeCalls(), ElementsAre("1 connect"));
}

}  // namespace
}  // namespace understudy
