// INFO, CONFIG, DEBUG, ... The texts are Redis 7.0.15's, to the byte.
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "apps/kvstore/commands/command_fixture_for_test.h"
#include "gtest/gtest.h"

namespace kvstore {
namespace {

constexpr char kOk[] = "+OK\r\n";
constexpr char kSyntax[] = "-ERR syntax error\r\n";

std::string Failed(const std::string& name, const std::string& why) {
  return "-ERR CONFIG SET failed (possibly related to argument '" + name + "') - " + why + "\r\n";
}

using ServerCommands = CommandTest;

TEST_F(ServerCommands, TimeIsTheLogs) {
  EXPECT_EQ(Run("TIME"), Bulks({"1700000000", "0"}));
  Pass(std::chrono::milliseconds(61'001));
  EXPECT_EQ(Run("TIME"), Bulks({"1700000061", "1000"}));
}

TEST_F(ServerCommands, Flush) {
  for (const char* flush : {"FLUSHALL", "FLUSHDB"}) {
    Run("SET", "a", "1");
    Run("RPUSH", "b", "1");
    EXPECT_EQ(Run("DBSIZE"), ":2\r\n");
    EXPECT_EQ(Run(flush, "now"), kSyntax);
    EXPECT_EQ(Run(flush, "ASYNC", "SYNC"), kSyntax);
    EXPECT_EQ(Run("DBSIZE"), ":2\r\n");
    EXPECT_EQ(Run(flush), kOk);
    EXPECT_EQ(Run("DBSIZE"), ":0\r\n");
    EXPECT_EQ(Run(flush, "Async"), kOk);
    EXPECT_EQ(Run(flush, "SYNC"), kOk);
  }
}

// A key that is gone has changed; one that was never there has not.
TEST_F(ServerCommands, FlushTouchesWhatThereWas) {
  auto other = Connect();
  Run("WATCH", "none");
  other->Run("FLUSHALL");
  Run("MULTI");
  EXPECT_EQ(Run("EXEC"), "*0\r\n");
  Run("SET", "a", "1");
  Run("WATCH", "a");
  other->Run("FLUSHALL");
  Run("MULTI");
  EXPECT_EQ(Run("EXEC"), "*-1\r\n");
}

TEST_F(ServerCommands, InfoSections) {
  EXPECT_EQ(Run("INFO", "keyspace"), Bulk("# Keyspace\r\n"));
  Run("SET", "a", "1");
  Run("SET", "b", "1", "EX", "10");
  const std::string keyspace = "# Keyspace\r\ndb0:keys=2,expires=1,avg_ttl=0\r\n";
  EXPECT_EQ(Run("INFO", "KEYSPACE", "keyspace"), Bulk(keyspace));
  EXPECT_EQ(Run("INFO", "keyspace", "nosuch", "cluster"),
            Bulk("# Cluster\r\ncluster_enabled:0\r\n\r\n" + keyspace));
  EXPECT_EQ(Run("INFO", "nosuch"), Bulk(""));
  EXPECT_EQ(Run("INFO", "commandstats"), Bulk("# Commandstats\r\n"));
  const std::string usual = Run("INFO");
  EXPECT_EQ(Run("INFO", "default", "server").size(), usual.size());
  EXPECT_EQ(usual.find("# Commandstats"), usual.npos);
  EXPECT_NE(Run("INFO", "all").find("# Commandstats"), usual.npos);
  EXPECT_NE(Run("INFO", "everything").find("# Latencystats"), usual.npos);
  Run("HELLO", "3");
  EXPECT_EQ(Run("INFO", "modules"), "=15\r\ntxt:# Modules\r\n\r\n");
}

TEST_F(ServerCommands, InfoFigures) {
  auto other = Connect();
  instance().started_ms = 1'700'000'000'000 - 90'000'000;
  instance().connections_received = 7;
  const std::string info = Run("INFO");
  for (const char* line :
       {"redis_version:7.0.15", "redis_mode:standalone", "tcp_port:6379", "uptime_in_seconds:90000",
        "uptime_in_days:1", "server_time_usec:1700000000000000", "connected_clients:2", "role:master",
        "total_connections_received:7", "total_commands_processed:1"}) {
    EXPECT_NE(info.find("\r\n" + std::string(line) + "\r\n"), info.npos) << line << " is not in\n" << info;
  }
}

TEST_F(ServerCommands, ConfigGet) {
  EXPECT_EQ(Run("CONFIG", "GET", "nosuch"), "*0\r\n");
  EXPECT_EQ(Run("CONFIG", "GET", "save"), Bulks({"save", ""}));
  EXPECT_EQ(Run("CONFIG", "GET", "appendonly"), Bulks({"appendonly", "no"}));
  EXPECT_EQ(Run("CONFIG", "GET", "MAXMEMORY", "max*ory"), Bulks({"MAXMEMORY", "0"}))
      << "each once, as it was called first";
  EXPECT_EQ(Run("CONFIG", "GET", "?AXMEMORY", "MAXMEMORY"), Bulks({"maxmemory", "0"}));
  EXPECT_EQ(Run("CONFIG", "GET", "max\\memory"), "*0\r\n");
  EXPECT_EQ(Run("CONFIG", "GET", std::string_view("save\0", 5)), "*0\r\n");
  EXPECT_EQ(Run("CONFIG", "GET", "proto-*", "data*", "port"),
            Bulks({"databases", "1", "port", "6379", "proto-max-bulk-len", "67108864"}));
  Run("HELLO", "3");
  EXPECT_EQ(Run("CONFIG", "GET", "save"), "%1\r\n$4\r\nsave\r\n$0\r\n\r\n");
}

TEST_F(ServerCommands, ConfigSetBytes) {
  const std::vector<std::pair<const char*, uint64_t>> good = {
      {"1mb", 1 << 20},  {"2MB", 2 << 20},        {"64m", 64'000'000},      {"1048576", 1 << 20},
      {"01mb", 1 << 20}, {"2000K", 2'000'000},    {"1024kb", 1 << 20},      {"2097152b", 2 << 20},
      {"512mb", 512 << 20}};
  for (const auto& [text, bytes] : good) {
    EXPECT_EQ(Run("CONFIG", "SET", "proto-max-bulk-len", text), kOk) << text;
    EXPECT_EQ(instance().limits.max_bulk, bytes) << text;
    EXPECT_EQ(Run("CONFIG", "SET", "Client-Query-Buffer-Limit", text), kOk) << text;
    EXPECT_EQ(instance().max_query_buffer, bytes) << text;
  }
  EXPECT_EQ(Run("CONFIG", "SET", "client-query-buffer-limit", "9223372036854775807"), kOk);
  for (const char* text : {"-1", "5x", "+5mb", "1 mb", "1.5mb", "1tb", "64mib", "0x100000", " 64mb"}) {
    EXPECT_EQ(Run("CONFIG", "SET", "proto-max-bulk-len", text),
              Failed("proto-max-bulk-len", "argument must be a memory value"));
  }
  for (const char* text : {"0", "", "mb", "1kb", "1048575", "99999999999999999999", "8589934592gb"}) {
    EXPECT_EQ(Run("CONFIG", "SET", "client-query-buffer-limit", text),
              Failed("client-query-buffer-limit",
                     "argument must be between 1048576 and 9223372036854775807 inclusive"));
  }
  EXPECT_EQ(Run("CONFIG", "SET", "proto-max-bulk-len", "513mb"),
            Failed("proto-max-bulk-len", "argument must be between 1048576 and 536870912 inclusive"));
  EXPECT_EQ(instance().limits.max_bulk, size_t{512} << 20);
}

TEST_F(ServerCommands, ConfigSetRefuses) {
  EXPECT_EQ(Run("CONFIG", "SET", "save"), "-ERR wrong number of arguments for 'config|set' command\r\n");
  EXPECT_EQ(Run("CONFIG", "SET", "save", "", "timeout"), kSyntax);
  EXPECT_EQ(Run("CONFIG", "SET", std::string_view("a\n\0b", 4), "1"),
            "-ERR Unknown option or number of arguments for CONFIG SET - 'a '\r\n");
  EXPECT_EQ(Run("CONFIG", "SET", "databases", "1"), Failed("databases", "can't set immutable config"));
  EXPECT_EQ(Run("CONFIG", "SET", "maxmemory", "0", "MAXMEMORY", "0"),
            Failed("MAXMEMORY", "duplicate parameter"));
  // Names come before values.
  EXPECT_EQ(Run("CONFIG", "SET", "proto-max-bulk-len", "x", "databases", "1"),
            Failed("databases", "can't set immutable config"));
  EXPECT_EQ(Run("CONFIG", "SET", "foo", "x", "databases", "1"),
            "-ERR Unknown option or number of arguments for CONFIG SET - 'foo'\r\n");
}

// What cannot be changed can be set to what it is, as test suites do.
TEST_F(ServerCommands, ConfigSetToWhatItIs) {
  EXPECT_EQ(Run("CONFIG", "SET", "save", "", "appendonly", "no"), kOk);
  EXPECT_EQ(Run("CONFIG", "SET", "appendonly", "yes"), Failed("appendonly", "can't set immutable config"));
}

TEST_F(ServerCommands, ConfigSetsAllOrNothing) {
  const size_t before = instance().limits.max_bulk;
  EXPECT_EQ(Run("CONFIG", "SET", "proto-max-bulk-len", "2mb", "client-query-buffer-limit", "x"),
            Failed("client-query-buffer-limit", "argument must be a memory value"));
  EXPECT_EQ(instance().limits.max_bulk, before);
  EXPECT_EQ(Run("CONFIG", "SET", "proto-max-bulk-len", "2mb", "client-query-buffer-limit", "3mb"), kOk);
  EXPECT_EQ(instance().limits.max_bulk, size_t{2} << 20);
  EXPECT_EQ(instance().max_query_buffer, size_t{3} << 20);
}

TEST_F(ServerCommands, Digests) {
  const std::string empty = Run("DEBUG", "DIGEST");
  EXPECT_EQ(empty, "+" + std::string(32, '0') + "\r\n");
  Run("SET", "a", "1");
  const std::string one = Run("DEBUG", "digest");
  EXPECT_NE(one, empty);
  EXPECT_EQ(Run("DEBUG", "DIGEST-VALUE"), "*0\r\n");
  EXPECT_TRUE(Run("DEBUG", "DIGEST-VALUE", "none", "a").starts_with("*2\r\n" + empty));
  Run("SET", "b", "1");
  EXPECT_NE(Run("DEBUG", "DIGEST"), one);
  Run("DEL", "b");
  EXPECT_EQ(Run("DEBUG", "DIGEST"), one);
}

TEST_F(ServerCommands, DebugSleeps) {
  EXPECT_EQ(Run("DEBUG", "SLEEP", "0.001"), kOk);
  for (const char* none : {"0", "-5", "x", "nan"}) EXPECT_EQ(Run("DEBUG", "SLEEP", none), kOk);
}

TEST_F(ServerCommands, DebugRefuses) {
  for (const char* what : {"SLEEP", "foo"}) {
    EXPECT_EQ(Run("DEBUG", what), "-ERR unknown subcommand or wrong number of arguments for '" +
                                      std::string(what) + "'. Try DEBUG HELP.\r\n");
  }
  EXPECT_EQ(Run("DEBUG", "DIGEST", "x"),
            "-ERR unknown subcommand or wrong number of arguments for 'DIGEST'. Try DEBUG HELP.\r\n");
  EXPECT_EQ(Run("DEBUG", std::string_view("a\0b", 3)),
            "-ERR unknown subcommand or wrong number of arguments for 'a'. Try DEBUG HELP.\r\n");
}

}  // namespace
}  // namespace kvstore
