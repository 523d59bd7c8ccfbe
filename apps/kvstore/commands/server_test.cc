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

// What both nodes know alike: what is kept for clients.
TEST_F(ServerCommands, InfoMemory) {
  const auto used = [&] {
    const std::string info = Run("INFO", "memory");
    const size_t at = info.find("\r\nused_memory:");
    return at == info.npos ? 0 : std::atoll(info.c_str() + at + 14);
  };
  const int64_t alone = used();
  EXPECT_GT(alone, 0);
  EXPECT_NE(Run("INFO", "memory").find("\r\nused_memory_human:1.00K\r\n"), std::string::npos);
  Run("SET", "a", std::string(100'000, 'x'));
  EXPECT_EQ(used(), alone);
  {
    const auto other = Connect();
    EXPECT_EQ(used(), 2 * alone);
    other->Run("MULTI");
    other->Run("SET", "a", std::string(100'000, 'x'));
    EXPECT_GT(used(), 2 * alone + 100'000);
    EXPECT_LT(used(), 2 * alone + 101'000);
    other->Run("DISCARD");
    other->Run("WATCH", "a");
    EXPECT_GT(used(), 2 * alone);
  }
  EXPECT_EQ(used(), alone);
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

// What is to be had is the flags', not any client's.
TEST_F(ServerCommands, LimitsCannotBeSet) {
  for (const char* same : {"64mb", "67108864", "65536kb"}) {
    EXPECT_EQ(Run("CONFIG", "SET", "proto-max-bulk-len", same), kOk) << same;
  }
  for (const char* other : {"1mb", "0", "512mb", "x", ""}) {
    for (const char* setting : {"proto-max-bulk-len", "client-query-buffer-limit", "maxclients"}) {
      EXPECT_EQ(Run("CONFIG", "SET", setting, other), Failed(setting, "can't set immutable config")) << other;
    }
  }
  EXPECT_EQ(instance().limits.max_bulk, size_t{64} << 20);
  EXPECT_EQ(instance().settings.max_query_buffer, size_t{256} << 20);
}

// Nobody can subscribe, so nobody is to be told: any classes will do.
TEST_F(ServerCommands, KeyspaceEvents) {
  const auto now = [&] { return Run("CONFIG", "GET", "notify-keyspace-events"); };
  const auto is = [](const std::string& flags) { return Bulks({"notify-keyspace-events", flags}); };
  EXPECT_EQ(now(), is(""));
  for (const auto& [given, said] : std::vector<std::pair<std::string, std::string>>{
           {"Ex", "xE"}, {"KEA", "AKE"}, {"g$lshzxetdK", "AK"}, {"", ""}, {"xgx", "gx"}, {"mn", "mn"}}) {
    EXPECT_EQ(Run("CONFIG", "SET", "notify-keyspace-events", given), kOk) << given;
    EXPECT_EQ(now(), is(said)) << given;
  }
  EXPECT_EQ(Run("CONFIG", "SET", "notify-keyspace-events", "Q"),
            Failed("notify-keyspace-events", "Invalid event class character. Use 'Ag$lshzxeKEtmdn'."));
  EXPECT_EQ(now(), is("mn"));
}

TEST_F(ServerCommands, MemoryUsage) {
  EXPECT_EQ(Run("MEMORY", "USAGE", "none"), "$-1\r\n");
  Run("SET", "s", std::string(1000, 'x'));
  EXPECT_EQ(Run("MEMORY", "USAGE", "s"), ":1033\r\n");
  for (int i = 0; i < 100; ++i) {
    const std::string element(i < 50 ? 10 : 30, static_cast<char>('0' + i % 10));
    Run("RPUSH", "l", element);
    Run("SADD", "set", std::to_string(i) + "x");
  }
  // Of the first five; of all.
  EXPECT_EQ(Run("MEMORY", "USAGE", "l"), ":" + std::to_string(33 + 100 * 42) + "\r\n");
  EXPECT_EQ(Run("MEMORY", "USAGE", "l", "SAMPLES", "0"),
            ":" + std::to_string(33 + 50 * 42 + 50 * 62) + "\r\n");
  EXPECT_EQ(Run("MEMORY", "USAGE", "set", "samples", "0"),
            ":" + std::to_string(35 + 10 * 34 + 90 * 35) + "\r\n");
  EXPECT_EQ(Run("MEMORY", "USAGE", "l", "SAMPLES"), "-ERR syntax error\r\n");
  EXPECT_EQ(Run("MEMORY", "USAGE", "l", "SAMPLES", "-1"), "-ERR syntax error\r\n");
  EXPECT_EQ(Run("MEMORY", "USAGE", "l", "SAMPLES", "x"), "-ERR value is not an integer or out of range\r\n");
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
  EXPECT_EQ(Run("CONFIG", "SET", "notify-keyspace-events", "KEA", "maxclients", "1"),
            Failed("maxclients", "can't set immutable config"));
  EXPECT_EQ(instance().keyspace_events, "");
  EXPECT_EQ(Run("CONFIG", "SET", "notify-keyspace-events", "KEA", "maxclients", "10000"), kOk);
  EXPECT_EQ(instance().keyspace_events, "AKE");
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

TEST_F(ServerCommands, DebugIsForWhoeverMayUseIt) {
  const std::string refused =
      "-ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run "
      "it from "
      "a local connection, otherwise you need to set this option in the configuration file, and then restart "
      "the "
      "server.\r\n";
  instance().settings.debug = DebugCommand::kNo;
  EXPECT_EQ(Run("DEBUG", "SLEEP", "0"), refused);
  Run("MULTI");
  EXPECT_EQ(Run("DEBUG", "SLEEP", "0"), refused);
  EXPECT_TRUE(Run("EXEC").starts_with("-EXECABORT"));
  instance().settings.debug = DebugCommand::kLocal;
  EXPECT_EQ(Run("DEBUG", "SLEEP", "0"), refused);
  client().session().peer = "127.0.0.1:40001";
  EXPECT_EQ(Run("DEBUG", "SLEEP", "0"), kOk);
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
