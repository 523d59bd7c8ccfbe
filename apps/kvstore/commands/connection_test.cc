// The texts are Redis 7.0.15's, to the byte.
#include <sys/stat.h>

#include <fstream>
#include <string>
#include <string_view>

#include "apps/kvstore/commands/auth.h"
#include "apps/kvstore/commands/command_fixture_for_test.h"
#include "gtest/gtest.h"

namespace kvstore {
namespace {

constexpr char kOk[] = "+OK\r\n";
constexpr char kBadName[] = "-ERR Client names cannot contain spaces, newlines or special characters.\r\n";
constexpr char kWrongPass[] = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";

class ConnectionCommands : public CommandTest {
 protected:
  // Without the head of the bulk string, or of the verbatim one.
  std::string Text(const std::string& reply) {
    const size_t begin = reply.find("\r\n") + 2;
    return reply.substr(begin, reply.size() - begin - 2);
  }
};

TEST_F(ConnectionCommands, PingAndEcho) {
  EXPECT_EQ(Run("PING"), "+PONG\r\n");
  EXPECT_EQ(Run("ping", std::string_view("a\0\r\n", 4)), Bulk(std::string_view("a\0\r\n", 4)));
  EXPECT_EQ(Run("PING", "a", "b"), "-ERR wrong number of arguments for 'ping' command\r\n");
  EXPECT_EQ(Run("ECHO", ""), Bulk(""));
  EXPECT_EQ(Run("ECHO"), "-ERR wrong number of arguments for 'echo' command\r\n");
}

TEST_F(ConnectionCommands, Hello) {
  const std::string fields = Bulk("server") + Bulk("redis") + Bulk("version") + Bulk("7.0.15") +
                             Bulk("proto") + ":X\r\n" + Bulk("id") + ":1\r\n" + Bulk("mode") +
                             Bulk("standalone") + Bulk("role") + Bulk("master") + Bulk("modules") + "*0\r\n";
  std::string fields2 = fields, fields3 = fields;
  fields2[fields.find('X')] = '2';
  fields3[fields.find('X')] = '3';
  EXPECT_EQ(Run("HELLO"), "*14\r\n" + fields2);
  EXPECT_EQ(Run("HELLO", "3"), "%7\r\n" + fields3);
  EXPECT_EQ(Run("HELLO"), "%7\r\n" + fields3) << "what is not named stays";
  EXPECT_EQ(Run("GET", "none"), "_\r\n");
  EXPECT_EQ(Run("HELLO", "2"), "*14\r\n" + fields2);
}

TEST_F(ConnectionCommands, HelloRefuses) {
  EXPECT_EQ(Run("HELLO", "4", "FOO"), "-NOPROTO unsupported protocol version\r\n");
  EXPECT_EQ(Run("HELLO", "03"), "-ERR Protocol version is not an integer or out of range\r\n");
  EXPECT_EQ(Run("HELLO", "3", "FOO"), "-ERR Syntax error in HELLO option 'FOO'\r\n");
  EXPECT_EQ(Run("HELLO", "3", "AUTH", "default"), "-ERR Syntax error in HELLO option 'AUTH'\r\n");
  EXPECT_EQ(Run("HELLO", "3", "SETNAME"), "-ERR Syntax error in HELLO option 'SETNAME'\r\n");
  EXPECT_EQ(Run("HELLO", "3", std::string_view("A\r\0B", 4)), "-ERR Syntax error in HELLO option 'A '\r\n");
  EXPECT_EQ(Run("HELLO", "3", "AUTH", "somebody", "x"), kWrongPass);
  EXPECT_EQ(Run("HELLO", "3", "SETNAME", "a b"), kBadName);
  EXPECT_EQ(client().session().protocol, 2);
}

// Options take effect one after the other, also those before an error.
TEST_F(ConnectionCommands, HelloOptions) {
  Run("HELLO", "3", "setname", "one", "FOO");
  EXPECT_EQ(client().session().name, "one");
  EXPECT_EQ(client().session().protocol, 2);
  EXPECT_EQ(Run("HELLO", "3", "AUTH", "default", "any", "SETNAME", "two").substr(0, 4), "%7\r\n");
  EXPECT_EQ(client().session().name, "two");
}

TEST_F(ConnectionCommands, Auth) {
  EXPECT_EQ(Run("AUTH", "secret"),
            "-ERR AUTH <password> called without any password configured for the default user. Are you sure "
            "your configuration is correct?\r\n");
  EXPECT_EQ(Run("AUTH", "default", "any"), kOk);
  EXPECT_EQ(Run("AUTH", "Default", "any"), kWrongPass);
  EXPECT_EQ(Run("AUTH", "a", "b", "c"), "-ERR syntax error\r\n");
}

TEST_F(ConnectionCommands, Select) {
  EXPECT_EQ(Run("SELECT", "0"), kOk);
  EXPECT_EQ(Run("SELECT", "1"), "-ERR DB index is out of range\r\n");
  EXPECT_EQ(Run("SELECT", "-1"), "-ERR DB index is out of range\r\n");
  EXPECT_EQ(Run("SELECT", "x"), "-ERR value is not an integer or out of range\r\n");
  EXPECT_EQ(Run("SELECT", "2147483648"),
            "-ERR value is out of range, value must between -2147483648 and 2147483647\r\n");
}

TEST_F(ConnectionCommands, Quit) {
  EXPECT_EQ(Run("QUIT", "now"), kOk);
  EXPECT_TRUE(client().session().closing);
}

TEST_F(ConnectionCommands, Reset) {
  Run("HELLO", "3", "SETNAME", "me");
  Run("CLIENT", "NO-EVICT", "on");
  Run("WATCH", "a");
  Run("MULTI");
  Run("SET", "a", "1");
  EXPECT_EQ(Run("RESET"), "+RESET\r\n");
  EXPECT_EQ(client().session().protocol, 2);
  EXPECT_EQ(client().session().name, "");
  EXPECT_TRUE(client().session().no_evict) << "as in Redis";
  EXPECT_TRUE(instance().watches.empty());
  EXPECT_EQ(Run("EXEC"), "-ERR EXEC without MULTI\r\n");
  EXPECT_EQ(Run("GET", "a"), "$-1\r\n");
}

TEST_F(ConnectionCommands, Names) {
  EXPECT_EQ(Run("CLIENT", "GETNAME"), "$-1\r\n");
  EXPECT_EQ(Run("client", "setname", "!a~"), kOk);
  EXPECT_EQ(Run("CLIENT", "GETNAME"), Bulk("!a~"));
  for (const char* bad : {" ", "a b", "a\n", "\x7f", "\x80"}) {
    EXPECT_EQ(Run("CLIENT", "SETNAME", bad), kBadName);
  }
  EXPECT_EQ(Run("CLIENT", "GETNAME"), Bulk("!a~"));
  EXPECT_EQ(Run("CLIENT", "SETNAME", ""), kOk);
  EXPECT_EQ(Run("CLIENT", "GETNAME"), "$-1\r\n");
}

TEST_F(ConnectionCommands, ClientIdAndErrors) {
  EXPECT_EQ(Run("CLIENT", "ID"), ":1\r\n");
  EXPECT_EQ(Connect()->Run("CLIENT", "ID"), ":2\r\n");
  EXPECT_EQ(Run("CLIENT"), "-ERR wrong number of arguments for 'client' command\r\n");
  EXPECT_EQ(Run("CLIENT", "ID", "x"), "-ERR wrong number of arguments for 'client|id' command\r\n");
  EXPECT_EQ(Run("CLIENT", "FOO"), "-ERR unknown subcommand 'FOO'. Try CLIENT HELP.\r\n");
  EXPECT_EQ(Run("CLIENT", "NO-EVICT", "maybe"), "-ERR syntax error\r\n");
  EXPECT_TRUE(Run("CLIENT", "HELP")
                  .starts_with("*19\r\n+CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands "
                               "are:\r\n+GETNAME\r\n+    "));
}

TEST_F(ConnectionCommands, ClientList) {
  Run("CLIENT", "SETNAME", "first");
  auto second = Connect();
  second->Run("MULTI");
  second->Run("GET", "a");
  Pass(std::chrono::milliseconds(2500));
  const std::string first_line =
      "id=1 addr=198.18.0.9:40001 laddr=198.18.0.100:6379 fd=-1 name=first age=2 idle=0 flags=N db=0 sub=0 "
      "psub=0 ssub=0 multi=-1 qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 "
      "tot-mem=0 events=r cmd=client|list user=default redir=-1 resp=2\n";
  const std::string all = Text(Run("CLIENT", "LIST"));
  ASSERT_TRUE(all.starts_with(first_line)) << all;
  const std::string second_line = all.substr(first_line.size());
  EXPECT_NE(second_line.find("id=2 addr=198.18.0.9:40002 "), second_line.npos) << second_line;
  EXPECT_NE(second_line.find(" age=2 idle=2 flags=x "), second_line.npos) << second_line;
  EXPECT_NE(second_line.find(" multi=1 "), second_line.npos) << second_line;
  EXPECT_NE(second_line.find(" cmd=get "), second_line.npos) << second_line;
  EXPECT_EQ(Text(Run("CLIENT", "LIST", "ID", "2", "1", "99", "2", "0", "-1")),
            second_line + first_line + second_line);
  EXPECT_EQ(Text(Run("CLIENT", "LIST", "TYPE", "NORMAL")), all);
}

TEST_F(ConnectionCommands, ClientListRefuses) {
  for (const char* none : {"master", "Replica", "slave", "pubsub"}) {
    EXPECT_EQ(Run("CLIENT", "LIST", "TYPE", none), Bulk(""));
  }
  EXPECT_EQ(Run("CLIENT", "LIST", "TYPE", std::string_view("a\n\0b", 4)),
            "-ERR Unknown client type 'a '\r\n");
  EXPECT_EQ(Run("CLIENT", "LIST", "TYPE"), "-ERR syntax error\r\n");
  EXPECT_EQ(Run("CLIENT", "LIST", "TYPE", "normal", "ID", "1"), "-ERR syntax error\r\n");
  EXPECT_EQ(Run("CLIENT", "LIST", "ID"), "-ERR syntax error\r\n");
  EXPECT_EQ(Run("CLIENT", "LIST", "ID", "1", "x"), "-ERR Invalid client ID\r\n");
}

TEST_F(ConnectionCommands, ClientInfo) {
  auto other = Connect();
  Run("CLIENT", "NO-EVICT", "ON");
  Run("WATCH", "k");
  Run("HELLO", "3");
  other->Run("SET", "k", "1");
  const std::string info = Run("CLIENT", "INFO");
  EXPECT_TRUE(info.starts_with("=")) << info;
  EXPECT_TRUE(Text(info).starts_with("txt:id=1 ")) << info;
  EXPECT_NE(info.find(" flags=de "), info.npos) << info;
  EXPECT_TRUE(info.ends_with(" cmd=client|info user=default redir=-1 resp=3\n\r\n")) << info;
  Run("NOSUCH");
  const std::string seen = other->Run("CLIENT", "LIST");
  EXPECT_NE(seen.find(" cmd=NULL "), seen.npos) << seen;
}

// --- Passwords -----------------------------------------------------------------------------------

constexpr char kDenied[] = "-NOAUTH Authentication required.\r\n";
constexpr char kWrong[] = "-WRONGPASS invalid username-password pair or user is disabled.\r\n";

class PasswordTest : public CommandTest {
 protected:
  PasswordTest() {
    instance().settings.password = "secret";
    ResetAuthentication(instance(), client().session());
  }
};

TEST_F(PasswordTest, NothingWithoutIt) {
  for (const char* command : {"PING", "DBSIZE", "MULTI", "INFO", "COMMAND"}) {
    EXPECT_EQ(Run(command), kDenied) << command;
  }
  EXPECT_EQ(Run("GET", "a"), kDenied);
  EXPECT_EQ(Run("CLIENT", "ID"), kDenied);
  EXPECT_EQ(Run("CONFIG", "GET", "requirepass"), kDenied);
  // What is not a command is that first, as in Redis.
  EXPECT_TRUE(Run("FOO").starts_with("-ERR unknown command"));
  EXPECT_TRUE(Run("GET").starts_with("-ERR wrong number of arguments"));
}

TEST_F(PasswordTest, Auth) {
  for (const char* wrong : {"", "secre", "secrets", "SECRET", "xecret"}) {
    EXPECT_EQ(Run("AUTH", wrong), kWrong) << wrong;
    EXPECT_EQ(Run("AUTH", "default", wrong), kWrong) << wrong;
  }
  EXPECT_EQ(Run("AUTH", "somebody", "secret"), kWrong);
  EXPECT_EQ(Run("PING"), kDenied);
  EXPECT_EQ(Run("AUTH", "secret"), "+OK\r\n");
  EXPECT_EQ(Run("PING"), "+PONG\r\n");
  // Who is in stays in.
  EXPECT_EQ(Run("AUTH", "wrong"), kWrong);
  EXPECT_EQ(Run("PING"), "+PONG\r\n");
  EXPECT_EQ(Run("RESET"), "+RESET\r\n");
  EXPECT_EQ(Run("PING"), kDenied);
  EXPECT_EQ(Run("AUTH", "default", "secret"), "+OK\r\n");
  EXPECT_EQ(Run("PING"), "+PONG\r\n");
  EXPECT_EQ(Connect()->Run("AUTH", "secret"), "+OK\r\n");
}

TEST_F(PasswordTest, Hello) {
  for (const std::string& reply : {Run("HELLO"), Run("HELLO", "3"), Run("HELLO", "3", "SETNAME", "a")}) {
    EXPECT_TRUE(reply.starts_with("-NOAUTH HELLO must be called with the client already authenticated"))
        << reply;
  }
  EXPECT_EQ(Run("HELLO", "3", "AUTH", "default", "wrong"), kWrong);
  EXPECT_EQ(client().session().protocol, 2);
  EXPECT_TRUE(Run("HELLO", "3", "AUTH", "default", "secret").starts_with("%7\r\n"));
  EXPECT_EQ(Run("PING"), "+PONG\r\n");
}

TEST_F(PasswordTest, ReadFromAFile) {
  const std::string path = testing::TempDir() + "/password";
  const auto write = [&](const std::string& text, mode_t mode) {
    std::ofstream(path, std::ios::trunc) << text;
    ASSERT_EQ(chmod(path.c_str(), mode), 0);
  };
  write("a long one, with blanks \nand more\n", 0600);
  EXPECT_EQ(ReadPassword(path).value_or(""), "a long one, with blanks ");
  write("no newline", 0640);
  EXPECT_EQ(ReadPassword(path).value_or(""), "no newline");
  for (const auto& [text, mode] : std::vector<std::pair<std::string, mode_t>>{
           {"secret", 0644}, {"", 0600}, {"\nsecret", 0600}, {std::string(513, 'x'), 0600}}) {
    write(text, mode);
    EXPECT_TRUE(absl::IsFailedPrecondition(ReadPassword(path).status())) << text;
  }
  EXPECT_TRUE(absl::IsFailedPrecondition(ReadPassword(path + ".none").status()));
}

// --- What newer clients ask for ------------------------------------------------------------------

TEST_F(CommandTest, ClientSetInfoAndNoTouch) {
  EXPECT_EQ(Run("CLIENT", "SETINFO", "LIB-NAME", "redis-py"), "+OK\r\n");
  EXPECT_EQ(Run("CLIENT", "SETINFO", "lib-ver", "5.0"), "+OK\r\n");
  EXPECT_EQ(client().session().library_name, "redis-py");
  EXPECT_EQ(client().session().library_version, "5.0");
  EXPECT_EQ(Run("CLIENT", "SETINFO", "lib-name", "a b"),
            "-ERR lib-name cannot contain spaces, newlines or special characters.\r\n");
  EXPECT_EQ(Run("CLIENT", "SETINFO", "what", "x"), "-ERR Unrecognized option 'what'\r\n");
  EXPECT_EQ(Run("CLIENT", "NO-TOUCH", "ON"), "+OK\r\n");
  EXPECT_EQ(Run("CLIENT", "NO-TOUCH", "maybe"), "-ERR syntax error\r\n");
}

}  // namespace
}  // namespace kvstore
