#include "apps/kvstore/commands/transactions.h"

#include <memory>
#include <string>
#include <vector>

#include "apps/kvstore/commands/command_fixture_for_test.h"
#include "gtest/gtest.h"

namespace kvstore {
namespace {

constexpr char kOk[] = "+OK\r\n";
constexpr char kQueued[] = "+QUEUED\r\n";
constexpr char kNullArray[] = "*-1\r\n";
constexpr char kAborted[] = "-EXECABORT Transaction discarded because of previous errors.\r\n";

class Transactions : public CommandTest {
 protected:
  Transactions() : other_(Connect()) {}

  TestClient& other() { return *other_; }

  // What EXEC answers after WATCH `key`, then `change` by another client.
  template <typename... Words>
  std::string ExecAfter(std::string_view key, const Words&... change) {
    EXPECT_EQ(Run("WATCH", key), kOk);
    other().Run(change...);
    EXPECT_EQ(Run("MULTI"), kOk);
    return Run("EXEC");
  }

 private:
  std::unique_ptr<TestClient> other_;
};

TEST_F(Transactions, Exec) {
  EXPECT_EQ(Run("MULTI"), kOk);
  EXPECT_EQ(Run("SET", "a", "1"), kQueued);
  EXPECT_EQ(Run("LPUSH", "a", "x"), kQueued);
  EXPECT_EQ(Run("incr", "a"), kQueued);
  EXPECT_EQ(other().Run("GET", "a"), "$-1\r\n");
  // An error is an element, and what follows is executed.
  EXPECT_EQ(Run("EXEC"), "*3\r\n+OK\r\n" + std::string(kWrongTypeReply) + ":2\r\n");
  EXPECT_EQ(Run("GET", "a"), Bulk("2"));
  EXPECT_EQ(Run("MULTI"), kOk);
  EXPECT_EQ(Run("EXEC"), "*0\r\n");
}

TEST_F(Transactions, Discard) {
  Run("MULTI");
  EXPECT_EQ(Run("SET", "a", "1"), kQueued);
  EXPECT_EQ(Run("DISCARD"), kOk);
  EXPECT_EQ(Run("GET", "a"), "$-1\r\n");
  EXPECT_EQ(client().session().queued_bytes, 0u);
}

TEST_F(Transactions, WithoutMulti) {
  EXPECT_EQ(Run("EXEC"), "-ERR EXEC without MULTI\r\n");
  EXPECT_EQ(Run("DISCARD"), "-ERR DISCARD without MULTI\r\n");
  EXPECT_EQ(Run("UNWATCH"), kOk);
}

TEST_F(Transactions, NotInsideMulti) {
  Run("MULTI");
  EXPECT_EQ(Run("MULTI"), "-ERR MULTI calls can not be nested\r\n");
  EXPECT_EQ(Run("WATCH", "a"), "-ERR WATCH inside MULTI is not allowed\r\n");
  EXPECT_EQ(Run("UNWATCH"), kQueued);
  EXPECT_EQ(Run("EXEC"), "*1\r\n+OK\r\n");  // these errors do not spoil it
}

TEST_F(Transactions, ErrorsWhileQueueing) {
  const std::vector<std::vector<std::string_view>> wrong = {
      {"NOPE"}, {"GET"}, {"WATCH"}, {"MULTI", "x"}, {"DISCARD", "x"}};
  for (const auto& request : wrong) {
    SCOPED_TRACE(std::string(request[0]));
    Run("MULTI");
    EXPECT_EQ(client().RunArgs(request).substr(0, 4), "-ERR");
    EXPECT_EQ(Run("SET", "a", "1"), kQueued);
    EXPECT_EQ(Run("EXEC"), kAborted);
    EXPECT_EQ(Run("GET", "a"), "$-1\r\n");
    EXPECT_EQ(Run("EXEC"), "-ERR EXEC without MULTI\r\n");
  }
  Run("MULTI");
  EXPECT_EQ(Run("NOPE").substr(0, 4), "-ERR");
  EXPECT_EQ(Run("DISCARD"), kOk);
  Run("MULTI");
  EXPECT_EQ(Run("EXEC"), "*0\r\n");
}

TEST_F(Transactions, ExecWithArguments) {
  const std::string refused =
      "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\r\n";
  EXPECT_EQ(Run("EXEC", "x"), refused);
  Run("MULTI");
  EXPECT_EQ(Run("EXEC", "x"), refused);
  EXPECT_EQ(Run("EXEC"), "-ERR EXEC without MULTI\r\n");
}

TEST_F(Transactions, Watch) {
  Run("SET", "a", "1");
  EXPECT_EQ(ExecAfter("a", "SET", "a", "2"), kNullArray);
  EXPECT_EQ(Run("MULTI"), kOk);
  EXPECT_EQ(Run("EXEC"), "*0\r\n");  // EXEC has unwatched
  EXPECT_EQ(ExecAfter("a", "SET", "b", "2"), "*0\r\n");
  EXPECT_EQ(ExecAfter("a", "GET", "a"), "*0\r\n");
  EXPECT_EQ(ExecAfter("no", "DEL", "no"), "*0\r\n");
  EXPECT_EQ(ExecAfter("no", "SET", "no", "1"), kNullArray);
  EXPECT_EQ(ExecAfter("a", "RENAME", "a", "c"), kNullArray);
  EXPECT_EQ(ExecAfter("c", "EXPIRE", "c", "100"), kNullArray);
  EXPECT_EQ(ExecAfter("c", "PERSIST", "c"), kNullArray);
  EXPECT_EQ(ExecAfter("a", "FLUSHALL"), "*0\r\n");  // was not there
  Run("SET", "a", "1");
  EXPECT_EQ(ExecAfter("a", "FLUSHALL"), kNullArray);
}

// For Redis these are changes, also where the value is what it was.
TEST_F(Transactions, ChangesOfElements) {
  Run("HSET", "h", "f", "1");
  Run("RPUSH", "l", "a", "b", "c");
  Run("SADD", "s", "a", "b", "c");
  EXPECT_EQ(ExecAfter("h", "HSET", "h", "f", "1"), kNullArray);
  EXPECT_EQ(ExecAfter("h", "HSET", "h", "f", "2"), kNullArray);
  EXPECT_EQ(ExecAfter("h", "HSET", "h", "g", "2"), kNullArray);
  EXPECT_EQ(ExecAfter("h", "HINCRBY", "h", "f", "0"), kNullArray);
  EXPECT_EQ(ExecAfter("h", "HINCRBYFLOAT", "h", "f", "1"), kNullArray);
  EXPECT_EQ(ExecAfter("h", "HDEL", "h", "g"), kNullArray);
  EXPECT_EQ(ExecAfter("l", "LSET", "l", "0", "a"), kNullArray);
  EXPECT_EQ(ExecAfter("l", "LTRIM", "l", "0", "-1"), kNullArray);
  EXPECT_EQ(ExecAfter("l", "LPUSH", "l", "x"), kNullArray);
  EXPECT_EQ(ExecAfter("l", "LPOP", "l"), kNullArray);
  EXPECT_EQ(ExecAfter("l", "LPOP", "l", "1"), kNullArray);
  EXPECT_EQ(ExecAfter("l", "LINSERT", "l", "AFTER", "b", "x"), kNullArray);
  EXPECT_EQ(ExecAfter("l", "LREM", "l", "0", "x"), kNullArray);
  EXPECT_EQ(ExecAfter("l", "LTRIM", "l", "5", "2"), kNullArray);
  EXPECT_EQ(ExecAfter("s", "SADD", "s", "d"), kNullArray);
  EXPECT_EQ(ExecAfter("s", "SPOP", "s"), kNullArray);
  EXPECT_EQ(ExecAfter("s", "SPOP", "s", "1"), kNullArray);
  EXPECT_EQ(ExecAfter("s", "SPOP", "s", "10"), kNullArray);
}

TEST_F(Transactions, NoChange) {
  Run("HSET", "h", "f", "1");
  Run("RPUSH", "l", "a", "b", "c");
  Run("SADD", "s", "a");
  EXPECT_EQ(ExecAfter("h", "HSETNX", "h", "f", "2"), "*0\r\n");
  EXPECT_EQ(ExecAfter("h", "HDEL", "h", "g"), "*0\r\n");
  EXPECT_EQ(ExecAfter("h", "HINCRBY", "h", "f", "x"), "*0\r\n");
  EXPECT_EQ(ExecAfter("l", "LREM", "l", "0", "x"), "*0\r\n");
  EXPECT_EQ(ExecAfter("l", "LINSERT", "l", "AFTER", "x", "y"), "*0\r\n");
  EXPECT_EQ(ExecAfter("l", "LPOP", "l", "0"), "*0\r\n");
  EXPECT_EQ(ExecAfter("l", "LSET", "l", "9", "x"), "*0\r\n");
  EXPECT_EQ(ExecAfter("no", "LPUSHX", "no", "x"), "*0\r\n");
  EXPECT_EQ(ExecAfter("s", "SADD", "s", "a"), "*0\r\n");
  EXPECT_EQ(ExecAfter("s", "SREM", "s", "x"), "*0\r\n");
  EXPECT_EQ(ExecAfter("s", "SPOP", "s", "0"), "*0\r\n");
  EXPECT_EQ(ExecAfter("s", "SRANDMEMBER", "s", "-5"), "*0\r\n");
}

TEST_F(Transactions, OwnChangesCountToo) {
  Run("WATCH", "a", "a", "b");
  Run("SET", "b", "1");
  Run("MULTI");
  EXPECT_EQ(Run("EXEC"), kNullArray);
  Run("WATCH", "a");
  Run("MULTI");
  Run("SET", "a", "1");  // inside is no change
  EXPECT_EQ(Run("EXEC"), "*1\r\n+OK\r\n");
}

TEST_F(Transactions, Unwatch) {
  Run("WATCH", "a");
  Run("SET", "a", "1");
  EXPECT_EQ(Run("UNWATCH"), kOk);
  Run("MULTI");
  EXPECT_EQ(Run("EXEC"), "*0\r\n");
  Run("WATCH", "a");
  Run("SET", "a", "2");
  Run("DISCARD");  // without MULTI: an error, and nothing else
  Run("MULTI");
  EXPECT_EQ(Run("EXEC"), kNullArray);
  Run("WATCH", "a");
  Run("SET", "a", "3");
  Run("MULTI");
  Run("DISCARD");
  Run("MULTI");
  EXPECT_EQ(Run("EXEC"), "*0\r\n");
  Run("WATCH", "a");
  Run("MULTI");
  Run("NOPE");
  EXPECT_EQ(Run("EXEC"), kAborted);
  EXPECT_TRUE(instance().watches.empty());
}

TEST_F(Transactions, QueueingErrorsComeBeforeChanges) {
  Run("WATCH", "a");
  Run("SET", "a", "1");
  Run("MULTI");
  Run("NOPE");
  EXPECT_EQ(Run("EXEC"), kAborted);
}

TEST_F(Transactions, WatchedKeyExpires) {
  using std::chrono::milliseconds;
  Run("SET", "a", "1", "PX", "10");
  Run("WATCH", "a");
  Pass(milliseconds(11));
  Run("MULTI");
  EXPECT_EQ(Run("EXEC"), kNullArray);

  // Also when somebody has noticed meanwhile.
  Run("SET", "a", "1", "PX", "10");
  Run("WATCH", "a");
  Pass(milliseconds(11));
  EXPECT_EQ(other().Run("GET", "a"), "$-1\r\n");
  EXPECT_EQ(other().Run("DBSIZE"), ":0\r\n");
  Run("MULTI");
  EXPECT_EQ(Run("EXEC"), kNullArray);

  // It was gone already when it was watched.
  Run("SET", "a", "1", "PX", "10");
  Pass(milliseconds(11));
  Run("WATCH", "a");
  Pass(milliseconds(11));
  EXPECT_EQ(other().Run("DEL", "a"), ":0\r\n");
  Run("MULTI");
  EXPECT_EQ(Run("EXEC"), "*0\r\n");
}

TEST_F(Transactions, Resp3) {
  client().session().protocol = 3;
  Run("SADD", "s", "a");
  Run("WATCH", "a");
  Run("SET", "a", "1");
  Run("MULTI");
  EXPECT_EQ(Run("EXEC"), "_\r\n");
  Run("MULTI");
  Run("SMEMBERS", "s");
  Run("GET", "no");
  EXPECT_EQ(Run("EXEC"), "*2\r\n~1\r\n$1\r\na\r\n_\r\n");
}

// HELLO inside a transaction: what follows is answered in the new protocol.
TEST_F(Transactions, ProtocolChangesInside) {
  Run("SADD", "s", "a");
  Run("MULTI");
  Run("HELLO", "3");
  Run("SMEMBERS", "s");
  Run("HELLO", "2");
  Run("SMEMBERS", "s");
  const std::string reply = Run("EXEC");
  EXPECT_TRUE(reply.starts_with("*4\r\n%7\r\n")) << reply;
  EXPECT_NE(reply.find("~1\r\n$1\r\na\r\n*14\r\n"), reply.npos) << reply;
  EXPECT_TRUE(reply.ends_with("*1\r\n$1\r\na\r\n")) << reply;
}

// Subcommands are found again when they are executed.
TEST_F(Transactions, Subcommands) {
  Run("MULTI");
  EXPECT_EQ(Run("CLIENT", "GETNAME"), kQueued);
  EXPECT_EQ(Run("client", "setname", "me"), kQueued);
  EXPECT_EQ(Run("CLIENT", "GETNAME"), kQueued);
  EXPECT_EQ(Run("EXEC"), "*3\r\n$-1\r\n+OK\r\n$2\r\nme\r\n");
}

// While it runs the transaction is still one, as CLIENT INFO shows; afterwards nothing is left of it.
TEST_F(Transactions, IsOneUntilItsEnd) {
  Run("MULTI");
  Run("CLIENT", "INFO");
  Run("UNWATCH");
  const std::string reply = Run("EXEC");
  EXPECT_NE(reply.find(" flags=x "), reply.npos) << reply;
  EXPECT_NE(reply.find(" multi=2 "), reply.npos) << reply;
  EXPECT_NE(Run("CLIENT", "INFO").find(" multi=-1 "), reply.npos);
  EXPECT_EQ(client().session().queued.capacity(), 0u);
}

TEST_F(Transactions, TimeStandsStill) {
  Run("SET", "a", "1", "PX", "10");
  Run("MULTI");
  Run("PTTL", "a");
  Run("SET", "b", "1", "PX", "5");
  Run("PTTL", "b");
  Pass(std::chrono::milliseconds(4));
  EXPECT_EQ(Run("EXEC"), "*3\r\n:6\r\n+OK\r\n:5\r\n");
}

TEST_F(Transactions, ADisconnectedClientWatchesNothing) {
  {
    auto gone = Connect();
    gone->Run("WATCH", "a");
    EXPECT_FALSE(instance().watches.empty());
    DiscardTransaction(instance(), gone->session());
  }
  EXPECT_TRUE(instance().watches.empty());
  EXPECT_EQ(Run("SET", "a", "1"), kOk);
}

TEST_F(Transactions, Discarding) {
  Run("WATCH", "a");
  Run("MULTI");
  Run("SET", "a", "1");
  Run("NOPE");
  DiscardTransaction(instance(), client().session());
  EXPECT_TRUE(instance().watches.empty());
  EXPECT_EQ(Run("EXEC"), "-ERR EXEC without MULTI\r\n");
  Run("MULTI");
  EXPECT_EQ(Run("EXEC"), "*0\r\n");
}

}  // namespace
}  // namespace kvstore
