// COMMAND. The texts and figures are Redis 7.0.15's.
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "apps/kvstore/commands/command_fixture_for_test.h"
#include "apps/kvstore/commands/dispatcher.h"
#include "gtest/gtest.h"

namespace kvstore {
namespace {

using IntrospectionCommands = CommandTest;

std::string Words(const std::vector<std::string>& words, char type = '*') {
  std::string reply = type + std::to_string(words.size()) + "\r\n";
  for (const std::string& word : words) reply += "+" + word + "\r\n";
  return reply;
}

// What a command looks like in RESP2 that has no subcommands.
std::string Entry(std::string_view name, int arity, const std::vector<std::string>& flags,
                  const std::string& keys, const std::vector<std::string>& categories) {
  return "*10\r\n" + Bulk(name) + ":" + std::to_string(arity) + "\r\n" + Words(flags) + keys +
         Words(categories) + "*0\r\n*0\r\n*0\r\n";
}

constexpr char kNoKeys[] = ":0\r\n:0\r\n:0\r\n";

TEST_F(IntrospectionCommands, Info) {
  EXPECT_EQ(
      Run("COMMAND", "INFO", "GET"),
      "*1\r\n" + Entry("get", 2, {"readonly", "fast"}, ":1\r\n:1\r\n:1\r\n", {"@read", "@string", "@fast"}));
  EXPECT_EQ(
      Run("COMMAND", "INFO", "mset", "exec"),
      "*2\r\n" +
          Entry("mset", -3, {"write", "denyoom"}, ":1\r\n:-1\r\n:2\r\n", {"@write", "@string", "@slow"}) +
          Entry("exec", 1, {"noscript", "loading", "stale", "skip_slowlog"}, kNoKeys,
                {"@slow", "@transaction"}));
  EXPECT_EQ(Run("COMMAND", "INFO", "Client|List", "info", "command|info", "flushall"),
            "*4\r\n" +
                Entry("client|list", -2, {"admin", "noscript", "loading", "stale"}, kNoKeys,
                      {"@admin", "@slow", "@dangerous", "@connection"}) +
                Entry("info", -1, {"loading", "stale"}, kNoKeys, {"@slow", "@dangerous"}) +
                Entry("command|info", -2, {"loading", "stale"}, kNoKeys, {"@slow", "@connection"}) +
                Entry("flushall", -1, {"write"}, kNoKeys, {"@keyspace", "@write", "@slow", "@dangerous"}));
  EXPECT_EQ(Run("COMMAND", "INFO", "nosuch", "client|nosuch", "get|x", "client|list|x"),
            "*4\r\n$-1\r\n$-1\r\n$-1\r\n$-1\r\n");
}

TEST_F(IntrospectionCommands, InfoInResp3) {
  Run("HELLO", "3");
  EXPECT_EQ(Run("COMMAND", "INFO", "dbsize", "nosuch"),
            "*2\r\n*10\r\n$6\r\ndbsize\r\n:1\r\n" + Words({"readonly", "fast"}, '~') + kNoKeys +
                Words({"@keyspace", "@read", "@fast"}, '~') + "~0\r\n~0\r\n~0\r\n_\r\n");
}

TEST_F(IntrospectionCommands, AllOfThem) {
  const std::string count = std::to_string(AllCommands().size());
  EXPECT_EQ(Run("COMMAND", "COUNT"), ":" + count + "\r\n");
  const std::string all = Run("COMMAND");
  EXPECT_TRUE(all.starts_with("*" + count + "\r\n*10\r\n$6\r\nappend\r\n"));
  EXPECT_EQ(Run("COMMAND", "INFO"), all);
  EXPECT_NE(all.find("*10\r\n$14\r\nclient|getname\r\n"), all.npos) << "within its container";
  EXPECT_TRUE(Run("COMMAND", "DOCS").starts_with("*" + std::to_string(2 * AllCommands().size()) + "\r\n"));
}

TEST_F(IntrospectionCommands, Docs) {
  EXPECT_EQ(Run("COMMAND", "DOCS", "nosuch"), "*0\r\n");
  const std::string docs = Run("COMMAND", "DOCS", "nosuch", "Client|Id");
  EXPECT_TRUE(docs.starts_with("*2\r\n$9\r\nclient|id\r\n*8\r\n$7\r\nsummary\r\n$")) << docs;
  EXPECT_NE(docs.find("$5\r\nsince\r\n$5\r\n5.0.0\r\n$5\r\ngroup\r\n$10\r\nconnection\r\n"), docs.npos)
      << docs;
  Run("HELLO", "3");
  const std::string container = Run("COMMAND", "DOCS", "config");
  EXPECT_TRUE(container.starts_with("%1\r\n$6\r\nconfig\r\n%5\r\n")) << container;
  EXPECT_NE(container.find("$11\r\nsubcommands\r\n%3\r\n$10\r\nconfig|get\r\n%4\r\n"), container.npos)
      << container;
}

TEST_F(IntrospectionCommands, List) {
  EXPECT_EQ(Run("COMMAND", "LIST", "FILTERBY", "PATTERN", "h*l"), Bulks({"hdel", "hgetall"}));
  EXPECT_EQ(Run("COMMAND", "LIST", "filterby", "pattern", "CONFIG|*"),
            Bulks({"config|get", "config|help", "config|set"}));
  EXPECT_EQ(Run("COMMAND", "LIST", "FILTERBY", "ACLCAT", "Transaction"),
            Bulks({"discard", "exec", "multi", "unwatch", "watch"}));
  EXPECT_EQ(Run("COMMAND", "LIST", "FILTERBY", "ACLCAT", "@transaction"), "*0\r\n");
  EXPECT_EQ(Run("COMMAND", "LIST", "FILTERBY", "MODULE", "x"), "*0\r\n");
  size_t names = AllCommands().size();
  for (const Command* command : AllCommands()) names += command->subcommands.size();
  EXPECT_TRUE(Run("COMMAND", "LIST").starts_with("*" + std::to_string(names) + "\r\n"));
  for (const char* by : {"", "foo"}) {
    EXPECT_EQ(Run("COMMAND", "LIST", "FILTERBY", by, "a"), "-ERR syntax error\r\n");
  }
  EXPECT_EQ(Run("COMMAND", "LIST", "x"), "-ERR syntax error\r\n");
  EXPECT_EQ(Run("COMMAND", "LIST", "FILTERBY", "PATTERN"), "-ERR syntax error\r\n");
  EXPECT_EQ(Run("COMMAND", "LIST", "FILTERBY", "PATTERN", "a", "b"), "-ERR syntax error\r\n");
}

TEST_F(IntrospectionCommands, GetKeys) {
  EXPECT_EQ(Run("COMMAND", "GETKEYS", "SET", "k", "v", "EX", "1"), Bulks({"k"}));
  EXPECT_EQ(Run("COMMAND", "GETKEYS", "mset", "a", "b", "c", "d"), Bulks({"a", "c"}));
  EXPECT_EQ(Run("COMMAND", "GETKEYS", "MSET", "a", "b", "c"), Bulks({"a", "c"}));
  EXPECT_EQ(Run("COMMAND", "GETKEYS", "DEL", "a", "a"), Bulks({"a", "a"}));
  EXPECT_EQ(Run("COMMAND", "GETKEYS", "RENAME", "a", "b"), Bulks({"a", "b"}));
  EXPECT_EQ(Run("COMMAND", "GETKEYS", "GET", "a", "b"),
            "-ERR Invalid number of arguments specified for command\r\n");
  EXPECT_EQ(Run("COMMAND", "GETKEYS", "NOSUCH", "a"), "-ERR Invalid command specified\r\n");
  EXPECT_EQ(Run("COMMAND", "GETKEYS", "CLIENT", "FOO"), "-ERR Invalid command specified\r\n");
  EXPECT_EQ(Run("COMMAND", "GETKEYS", "CLIENT", "ID"), "-ERR The command has no key arguments\r\n");
  EXPECT_EQ(Run("COMMAND", "GETKEYS", "TIME", "a"), "-ERR The command has no key arguments\r\n");
  EXPECT_EQ(Run("COMMAND", "GETKEYS", "GET"),
            "-ERR wrong number of arguments for 'command|getkeys' command\r\n");
}

// A request with nothing but keys, as short as it may be, for each command that has keys.
TEST_F(IntrospectionCommands, GetKeysOfEachCommand) {
  for (const Command* command : AllCommands()) {
    if (command->first_key == 0 && command->count_of_keys_at == 0) continue;
    const std::string name(command->name);
    std::vector<std::string_view> request = {"COMMAND", "GETKEYS", name};
    while (request.size() - 2 < static_cast<size_t>(std::abs(command->arity))) request.push_back("k");
    if (command->count_of_keys_at != 0) request[2 + command->count_of_keys_at] = "1";
    EXPECT_TRUE(client().RunArgs(request).starts_with("*")) << name;
    EXPECT_FALSE(client().RunArgs(request).starts_with("*0")) << name;
  }
}

}  // namespace
}  // namespace kvstore
