#include "apps/kvstore/commands/dispatcher.h"

#include <algorithm>
#include <string>

#include "apps/kvstore/commands/auth.h"
#include "apps/kvstore/commands/command_fixture_for_test.h"
#include "gtest/gtest.h"

namespace kvstore {
namespace {

using DispatcherTest = CommandTest;

TEST_F(DispatcherTest, EveryRowIsFoundInAnyCase) {
  ASSERT_GT(AllCommands().size(), 100u);
  std::string_view before;
  for (const Command* command : AllCommands()) {
    EXPECT_LT(before, command->name) << "twice, or out of order";
    before = command->name;
    EXPECT_EQ(FindCommand(command->name), command);
    std::string upper(command->name);
    for (char& c : upper) c = static_cast<char>(std::toupper(c));
    EXPECT_EQ(FindCommand(upper), command);
    EXPECT_EQ(FullName(*command), command->name);
    EXPECT_EQ(FindCommand(upper + "!"), nullptr);
    for (const Command& sub : command->subcommands) {
      EXPECT_EQ(FullName(sub), upper.assign(command->name) + "|" + std::string(sub.name));
      EXPECT_EQ(FindCommand(FullName(sub)), nullptr);
    }
  }
  EXPECT_EQ(FindCommand(""), nullptr);
  EXPECT_EQ(FindCommand(std::string_view("get\0", 4)), nullptr);
  EXPECT_EQ(FindCommand("\xe7\xe5\xf4"), nullptr);  // "get" but for the highest bits
}

TEST_F(DispatcherTest, EveryRowCanRun) {
  for (const Command* command : AllCommands()) {
    EXPECT_TRUE(command->run != nullptr || (!command->subcommands.empty() && command->arity == -2))
        << command->name;
    EXPECT_NE(command->arity, 0) << command->name;
    for (const Command& sub : command->subcommands) EXPECT_NE(sub.run, nullptr) << FullName(sub);
  }
}

// The texts are Redis 7.0.15's, to the byte.
TEST_F(DispatcherTest, UnknownCommands) {
  EXPECT_EQ(Run("foo"), "-ERR unknown command 'foo', with args beginning with: \r\n");
  EXPECT_EQ(Run("Foo", "a", "b"), "-ERR unknown command 'Foo', with args beginning with: 'a' 'b' \r\n");
  EXPECT_EQ(Run(std::string_view("fo\0o", 4), "a\r\nb"),
            "-ERR unknown command 'fo', with args beginning with: 'a  b' \r\n");
  EXPECT_EQ(Run("", "x"), "-ERR unknown command '', with args beginning with: 'x' \r\n");
  EXPECT_EQ(Run("client|list"), "-ERR unknown command 'client|list', with args beginning with: \r\n");
  // 128 bytes of the name, about as many of the arguments.
  EXPECT_EQ(Run(std::string(200, 'x')),
            "-ERR unknown command '" + std::string(128, 'x') + "', with args beginning with: \r\n");
  EXPECT_EQ(Run("foo", std::string(124, 'a'), "bcd", "e"),
            "-ERR unknown command 'foo', with args beginning with: '" + std::string(124, 'a') + "' 'b' \r\n");
  EXPECT_EQ(Run("foo", std::string(125, 'a'), "bcd"),
            "-ERR unknown command 'foo', with args beginning with: '" + std::string(125, 'a') + "' \r\n");
  EXPECT_EQ(Run("foo", std::string(129, 'a')),
            "-ERR unknown command 'foo', with args beginning with: '" + std::string(128, 'a') + "' \r\n");
}

TEST_F(DispatcherTest, BrowsersAreNotAnswered) {
  EXPECT_EQ(Run("Host", "x").substr(0, 4), "-ERR");
  EXPECT_FALSE(client().session().closing);
  EXPECT_EQ(Run("Host:", "example.org"), "");
  EXPECT_TRUE(client().session().closing);
  const auto other = Connect();
  EXPECT_EQ(other->Run("POST", "/", "HTTP/1.1"), "");
  EXPECT_TRUE(other->session().closing);
}

TEST_F(DispatcherTest, ArityAndSubcommands) {
  EXPECT_EQ(Run("GeT"), "-ERR wrong number of arguments for 'get' command\r\n");
  EXPECT_EQ(Run("get", "a", "b"), "-ERR wrong number of arguments for 'get' command\r\n");
  EXPECT_EQ(Run("client"), "-ERR wrong number of arguments for 'client' command\r\n");
  EXPECT_EQ(Run("client", "Foo", "x"), "-ERR unknown subcommand 'Foo'. Try CLIENT HELP.\r\n");
  EXPECT_EQ(Run("config", std::string(200, 'x')),
            "-ERR unknown subcommand '" + std::string(128, 'x') + "'. Try CONFIG HELP.\r\n");
  EXPECT_EQ(Run("Client", "GetName", "x"), "-ERR wrong number of arguments for 'client|getname' command\r\n");
  EXPECT_EQ(Run("CLIENT", "ID"), ":1\r\n");
}

TEST_F(DispatcherTest, WhatASessionRemembers) {
  Run("get", "a");
  EXPECT_EQ(client().session().last_command, "get");
  EXPECT_EQ(instance().commands_processed, 1u);
  Pass(std::chrono::milliseconds(1500));
  Run("Client", "ID");
  EXPECT_EQ(client().session().last_command, "client|id");
  EXPECT_EQ(client().session().last_command_ms, client().session().connected_ms + 1500);
  EXPECT_EQ(keys().now_ms(), client().session().last_command_ms);
  Run("get");
  EXPECT_EQ(client().session().last_command, "get");  // as Redis has it, though it has not run
  Run("foo");
  EXPECT_EQ(client().session().last_command, "");
  EXPECT_EQ(instance().commands_processed, 2u);
}

TEST_F(DispatcherTest, MultiQueues) {
  EXPECT_EQ(Run("multi"), "+OK\r\n");
  EXPECT_EQ(Run("set", "a", "1"), "+QUEUED\r\n");
  EXPECT_EQ(Run("client", "id"), "+QUEUED\r\n");
  EXPECT_EQ(Run("incr", "a"), "+QUEUED\r\n");
  EXPECT_EQ(Run("multi"), "-ERR MULTI calls can not be nested\r\n");
  EXPECT_EQ(Run("watch", "a"), "-ERR WATCH inside MULTI is not allowed\r\n");
  EXPECT_FALSE(keys().Find("a"));
  EXPECT_EQ(instance().commands_processed, 3u) << "queued commands have not been executed yet";
  EXPECT_EQ(Run("exec"), "*3\r\n+OK\r\n:1\r\n:2\r\n");
  EXPECT_EQ(instance().commands_processed, 7u);
  EXPECT_EQ(Run("get", "a"), Bulk("2"));
}

TEST_F(DispatcherTest, WhatIsRefusedInMultiAbortsIt) {
  for (const std::string_view wrong : {"foo", "get", "client"}) {
    Run("multi");
    EXPECT_EQ(Run("set", "a", "1"), "+QUEUED\r\n");
    EXPECT_EQ(Run(wrong).front(), '-');
    EXPECT_EQ(Run("set", "a", "2"), "+QUEUED\r\n");
    EXPECT_EQ(client().session().queued.size(), 1u) << "kept though it will never be executed";
    EXPECT_EQ(Run("exec"), "-EXECABORT Transaction discarded because of previous errors.\r\n");
    EXPECT_FALSE(keys().Find("a"));
  }
  Run("multi");
  EXPECT_EQ(Run("exec", "a"),
            "-EXECABORT Transaction discarded because of: wrong number of arguments for 'exec' command\r\n");
  EXPECT_EQ(Run("exec"), "-ERR EXEC without MULTI\r\n");
}

TEST_F(DispatcherTest, ATransactionIsBounded) {
  instance().limits.max_bulk = 1'000'000;
  instance().settings.max_query_buffer = 3'000'000;
  Run("multi");
  const std::string value(300'000, 'x');
  int queued = 0;
  while (!client().session().closing && queued < 100) {
    const std::string reply = Run("set", "a", value);
    EXPECT_EQ(reply, client().session().closing ? "" : "+QUEUED\r\n");
    ++queued;
  }
  EXPECT_GT(queued, 5);
  EXPECT_LE(queued, 10);
}

// The disk is full: nothing is changed, everything can be read, and it goes on when there is room.
TEST_F(DispatcherTest, NoRoomForChanges) {
  const std::string no_room = "-" + std::string(kNoRoom) + "\r\n";
  Run("SET", "a", "1");
  Run("MULTI");
  Run("SET", "a", "2");
  instance().storage_writable = false;
  EXPECT_EQ(Run("EXEC"), "-EXECABORT Transaction discarded because of: " + std::string(kNoRoom) + "\r\n");
  EXPECT_EQ(Run("GET", "a"), "$1\r\n1\r\n");
  for (const auto& write : std::vector<std::vector<std::string_view>>{
           {"SET", "a", "2"}, {"DEL", "a"}, {"HSET", "h", "f", "v"}, {"FLUSHALL"}, {"EXPIRE", "a", "1"}}) {
    EXPECT_EQ(client().RunArgs(write), no_room) << write[0];
  }
  Run("MULTI");
  EXPECT_EQ(Run("SET", "a", "2"), no_room);
  EXPECT_TRUE(Run("EXEC").starts_with("-EXECABORT"));
  Run("MULTI");
  Run("GET", "a");
  EXPECT_EQ(Run("EXEC"), "*1\r\n$1\r\n1\r\n");
  EXPECT_EQ(Run("PING"), "+PONG\r\n");
  instance().storage_writable = true;
  EXPECT_EQ(Run("SET", "a", "2"), "+OK\r\n");
}

}  // namespace
}  // namespace kvstore
