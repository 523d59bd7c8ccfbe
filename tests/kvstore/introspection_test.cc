// What the kvstore says about itself, for the clients that ask: the same where Redis's answer is no figure of
// its own.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/kvstore/grammar.h"
#include "tests/kvstore/two_servers.h"
#include "tests/lab/process.h"

namespace kvstore::test {
namespace {

using testing::Contains;
using testing::IsEmpty;

using Args = std::vector<std::string>;
using Fields = std::map<std::string, std::string>;

class IntrospectionTest : public TwoServersTest, public testing::WithParamInterface<int> {
 protected:
  void SetUp() override {
    TwoServersTest::SetUp();
    ours_wire_ = Connect(ours_);
    redis_wire_ = Connect(redis_);
    ASSERT_TRUE(ours_wire_ != nullptr && redis_wire_ != nullptr);
    for (Wire* wire : {ours_wire_.get(), redis_wire_.get()}) {
      ASSERT_FALSE(wire->Ask({"HELLO", std::to_string(GetParam())}).is_error());
    }
  }
  void ExpectSameReply(const Args& args) {
    EXPECT_EQ(Readable(ours_wire_->Ask(args)), Readable(redis_wire_->Ask(args))) << Readable(Request{args});
  }
  // Of the kvstore, line by line.
  static absl::StatusOr<std::unique_ptr<understudy::lab::Process>> StartRedisCli(const Args& args) {
    understudy::lab::Process::Options options;
    options.name = "redis-cli";
    options.argv = {"/usr/bin/stdbuf", "-oL", "redis-cli", "-p", absl::StrCat(ours_->address().port)};
    options.argv.insert(options.argv.end(), args.begin(), args.end());
    return understudy::lab::Process::Start(options);
  }
  std::set<std::string> OurCommands() {
    std::set<std::string> names;
    for (const RespValue& name : ours_wire_->Ask({"COMMAND", "LIST"}).elements) names.insert(name.text);
    return names;
  }

  std::unique_ptr<Wire> ours_wire_, redis_wire_;
};

INSTANTIATE_TEST_SUITE_P(Resp, IntrospectionTest, testing::Values(2, 3), testing::PrintToStringParamName());

std::string Sorted(const RespValue& value) {
  std::vector<std::string> parts;
  for (const RespValue& element : value.elements) parts.push_back(Readable(element));
  std::sort(parts.begin(), parts.end());
  std::string all = std::string(1, value.type);
  for (const std::string& part : parts) absl::StrAppend(&all, " ", part);
  return all;
}

// Of one command's entry: the parts that clients route and check by. Tips, key specifications and the
// subcommands' list come behind.
std::string RoutingOf(const RespValue& info) {
  if (info.elements.size() < 7) return Readable(info);
  const auto& part = info.elements;
  return absl::StrCat(part[0].text, " ", part[1].text, " flags ", Sorted(part[2]), " keys ", part[3].text,
                      " ", part[4].text, " ", part[5].text, " categories ", Sorted(part[6]));
}

// Of Redis 7.2: clients of today ask for them.
bool IsNewer(const std::string& name) { return name == "client|setinfo" || name == "client|no-touch"; }

TEST_P(IntrospectionTest, CommandInfo) {
  const std::set<std::string> names = OurCommands();
  for (const Form& form : Grammar()) {
    std::string name(form.name);
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
    EXPECT_THAT(names, Contains(name));
  }
  for (const std::string& name : names) {
    if (IsNewer(name)) continue;
    const RespValue ours = ours_wire_->Ask({"COMMAND", "INFO", name}),
                    redis = redis_wire_->Ask({"COMMAND", "INFO", name});
    ASSERT_EQ(ours.elements.size(), 1u) << name;
    ASSERT_EQ(redis.elements.size(), 1u) << name;
    EXPECT_EQ(RoutingOf(ours.elements[0]), RoutingOf(redis.elements[0]));
    EXPECT_EQ(ours.elements[0].elements.size(), redis.elements[0].elements.size()) << name;
  }
  ExpectSameReply({"COMMAND", "INFO", "nosuch", "client|nosuch", "client|", ""});
  ExpectSameReply({"COMMAND", "DOCS", "nosuch"});
}

TEST_P(IntrospectionTest, CommandDocs) {
  for (const std::string& name : OurCommands()) {
    if (IsNewer(name)) continue;
    Fields fields[2];
    const RespValue docs[] = {ours_wire_->Ask({"COMMAND", "DOCS", name}),
                              redis_wire_->Ask({"COMMAND", "DOCS", name})};
    for (int i = 0; i < 2; ++i) {
      ASSERT_EQ(docs[i].elements.size(), 2u) << name;
      EXPECT_EQ(docs[i].elements[0].text, name);
      const auto& about = docs[i].elements[1].elements;
      for (size_t k = 0; k + 1 < about.size(); k += 2) fields[i][about[k].text] = about[k + 1].text;
    }
    EXPECT_EQ(docs[0].elements[1].type, docs[1].elements[1].type);
    for (const char* field : {"since", "group"}) EXPECT_EQ(fields[0][field], fields[1][field]) << name;
    EXPECT_NE(fields[0]["summary"], "") << name;
  }
}

TEST_P(IntrospectionTest, CommandListAndCount) {
  const std::set<std::string> ours = OurCommands();
  std::set<std::string> redis;
  for (const RespValue& name : redis_wire_->Ask({"COMMAND", "LIST"}).elements) redis.insert(name.text);
  for (const std::string& name : ours) EXPECT_TRUE(redis.contains(name) || IsNewer(name)) << name;
  const auto top = std::count_if(ours.begin(), ours.end(),
                                 [](const std::string& name) { return name.find('|') == name.npos; });
  EXPECT_EQ(ours_wire_->Ask({"COMMAND", "COUNT"}).text, std::to_string(top));
  EXPECT_EQ(ours_wire_->Ask({"COMMAND"}).elements.size(), static_cast<size_t>(top));
  for (const char* pattern : {"*", "g*", "G*", "client*", "*|list", "nosuch", "[sg]et", ""}) {
    std::set<std::string> found, right;
    for (const RespValue& name :
         ours_wire_->Ask({"COMMAND", "LIST", "FILTERBY", "PATTERN", pattern}).elements) {
      if (!IsNewer(name.text)) found.insert(name.text);
    }
    for (const RespValue& name :
         redis_wire_->Ask({"COMMAND", "LIST", "filterby", "pattern", pattern}).elements) {
      if (ours.contains(name.text)) right.insert(name.text);
    }
    EXPECT_EQ(found, right) << pattern;
  }
  ExpectSameReply({"COMMAND", "LIST", "FILTERBY"});
  ExpectSameReply({"COMMAND", "LIST", "nosuch", "a", "b"});
  ExpectSameReply({"COMMAND", "LIST", "FILTERBY", "nosuch", "b"});
}

TEST_P(IntrospectionTest, CommandGetKeys) {
  for (const Args& args : std::vector<Args>{{"GET", "a"},
                                            {"MSET", "a", "1", "b", "2"},
                                            {"MSET", "a", "1", "b"},
                                            {"DEL", "a", "b", "c"},
                                            {"RENAME", "a", "b"},
                                            {"COPY", "a", "b", "DB", "0"},
                                            {"PING"},
                                            {"nosuch", "a"},
                                            {"GET"},
                                            {"GET", "a", "b"},
                                            {"SINTER", "a", "b"},
                                            {"CLIENT", "LIST"},
                                            {"client|list"},
                                            {"CLIENT"},
                                            {"CLIENT", "nosuch"},
                                            {"MULTI"},
                                            {"SCAN", "0"},
                                            {"get", ""},
                                            {"COMMAND", "GETKEYS", "GET", "a"}}) {
    Args asked = {"COMMAND", "GETKEYS"};
    asked.insert(asked.end(), args.begin(), args.end());
    ExpectSameReply(asked);
  }
}

TEST_P(IntrospectionTest, ConfigGet) {
  const auto pairs = [](const RespValue& reply) {
    Fields fields;
    for (size_t i = 0; i + 1 < reply.elements.size(); i += 2)
      fields[reply.elements[i].text] = reply.elements[i + 1].text;
    return fields;
  };
  const RespValue all = ours_wire_->Ask({"CONFIG", "GET", "*"}),
                  all_redis = redis_wire_->Ask({"CONFIG", "GET", "*"});
  EXPECT_EQ(all.type, all_redis.type);
  const Fields ours = pairs(all), redis = pairs(all_redis);
  // What clients and benchmarks ask for.
  for (const char* name :
       {"save", "appendonly", "maxmemory", "databases", "proto-max-bulk-len", "client-query-buffer-limit"}) {
    EXPECT_TRUE(ours.contains(name)) << name;
  }
  std::vector<std::string> different;
  for (const auto& [name, value] : ours) {
    const auto found = redis.find(name);
    ASSERT_NE(found, redis.end()) << name;
    // The test sets these for redis-server, or they cannot be the same.
    const bool own =
        name == "bind" || name == "port" || name == "dir" || name == "unixsocket" || name == "logfile";
    if (!own && value != found->second)
      different.push_back(absl::StrCat(name, " = ", value, ", redis ", found->second));
  }
  EXPECT_THAT(different, IsEmpty());
  for (const Args& args : std::vector<Args>{{"save"},
                                            {"SAVE"},
                                            {"maxmemory-p*y"},
                                            {"nosuch"},
                                            {"databases", "databases"},
                                            {"databases", "save"},
                                            {"nosuch", "save"},
                                            {"sav[ef]"},
                                            {""},
                                            {"app*only"}}) {
    Args asked = {"CONFIG", "GET"};
    asked.insert(asked.end(), args.begin(), args.end());
    const RespValue mine = ours_wire_->Ask(asked), right = redis_wire_->Ask(asked);
    EXPECT_EQ(pairs(mine), pairs(right)) << Readable(Request{asked});
    EXPECT_EQ(mine.elements.size(), right.elements.size()) << Readable(Request{asked});
  }
}

TEST_P(IntrospectionTest, ConfigSet) {
  for (const Args& args : std::vector<Args>{{"nosuch", "1"},
                                            {"nosuch", "1", "save", ""},
                                            {"save", "", "nosuch", "1"},
                                            {"proto-max-bulk-len"},
                                            {"proto-max-bulk-len", "64mb"},
                                            {"PROTO-MAX-BULK-LEN", "64MB"},
                                            {"proto-max-bulk-len", "67108864b"},
                                            {"proto-max-bulk-len", "64mb", "proto-max-bulk-len", "64mb"},
                                            {"client-query-buffer-limit", "256mb"},
                                            {"notify-keyspace-events", "KEA"},
                                            {"notify-keyspace-events", "g$lshzxetd"},
                                            {"notify-keyspace-events", "xE"},
                                            {"notify-keyspace-events", "Q"},
                                            {"notify-keyspace-events", ""},
                                            {"databases", "2"},
                                            {"maxmemory", "0"},
                                            {"appendonly", "no"},
                                            {"save", ""},
                                            {"proto-max-bulk-len", "64mb", "client-query-buffer-limit"},
                                            {"proto-max-bulk-len", "64mb", "nosuch", "x"}}) {
    Args asked = {"CONFIG", "SET"};
    asked.insert(asked.end(), args.begin(), args.end());
    ExpectSameReply(asked);
    ExpectSameReply({"CONFIG", "GET", "proto-max-bulk-len"});
    ExpectSameReply({"CONFIG", "GET", "notify-keyspace-events"});
  }
  // Where the kvstore means to differ: limits are not any client's to set.
  for (const char* size : {"1", "1048576", "536870912", "text", ""}) {
    EXPECT_EQ(
        ours_wire_->Ask({"CONFIG", "SET", "proto-max-bulk-len", size}).text,
        "ERR CONFIG SET failed (possibly related to argument 'proto-max-bulk-len') - can't set immutable "
        "config");
  }
  EXPECT_EQ(ours_wire_->Ask({"CONFIG", "SET", "port", "1"}).text,
            "ERR CONFIG SET failed (possibly related to argument 'port') - can't set immutable config");
}

// "[section] name" -> value
Fields InfoFields(const std::string& text) {
  Fields fields;
  std::stringstream lines(text);
  std::string section;
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.rfind("# ", 0) == 0) section = line.substr(2);
    const size_t colon = line.find(':');
    if (line[0] != '#' && colon != line.npos)
      fields[absl::StrCat(section, " ", line.substr(0, colon))] = line.substr(colon + 1);
  }
  return fields;
}

std::vector<std::string> Sections(const std::string& text) {
  std::vector<std::string> sections;
  std::stringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.rfind("# ", 0) == 0) sections.push_back(line);
  }
  return sections;
}

std::string TextOf(const RespValue& reply) { return reply.type == '=' ? reply.text.substr(4) : reply.text; }

TEST_P(IntrospectionTest, InfoSections) {
  for (const Args& args : std::vector<Args>{{},
                                            {"default"},
                                            {"all"},
                                            {"everything"},
                                            {"server"},
                                            {"SERVER"},
                                            {"Keyspace"},
                                            {"server", "clients"},
                                            {"clients", "server"},
                                            {"clients", "clients"},
                                            {"nosuch"},
                                            {"nosuch", "server"},
                                            {"all", "server"},
                                            {"modules"},
                                            {"commandstats"},
                                            {"errorstats"},
                                            {""}}) {
    Args asked = {"INFO"};
    asked.insert(asked.end(), args.begin(), args.end());
    const RespValue ours = ours_wire_->Ask(asked), redis = redis_wire_->Ask(asked);
    EXPECT_EQ(ours.type, redis.type);
    EXPECT_EQ(Sections(TextOf(ours)), Sections(TextOf(redis))) << Readable(Request{asked});
  }
}

TEST_P(IntrospectionTest, InfoFields) {
  for (Wire* wire : {ours_wire_.get(), redis_wire_.get()}) {
    ASSERT_EQ(wire->Ask({"FLUSHALL"}).text, "OK");
    ASSERT_EQ(wire->Ask({"SET", "a", "1"}).text, "OK");
    ASSERT_EQ(wire->Ask({"SET", "b", "1", "EX", "10000"}).text, "OK");
  }
  const Fields ours = InfoFields(TextOf(ours_wire_->Ask({"INFO", "everything"})));
  Fields redis = InfoFields(TextOf(redis_wire_->Ask({"INFO", "everything"})));
  for (const auto& [name, value] : ours) {
    const bool own = name == "Persistence storage_engine" || name == "Server server_name";
    EXPECT_TRUE(own || redis.contains(name)) << name;
  }
  for (const char* name : {"Server redis_version", "Server redis_mode", "Server arch_bits",
                           "Clients blocked_clients", "Memory maxmemory", "Persistence loading",
                           "Replication role", "Replication connected_slaves", "Cluster cluster_enabled"}) {
    ASSERT_TRUE(ours.contains(name)) << name;
    EXPECT_EQ(ours.at(name), redis[name]) << name;
  }
  const std::string keyspace = ours.contains("Keyspace db0") ? ours.at("Keyspace db0") : "";
  EXPECT_EQ(keyspace.substr(0, keyspace.find(",avg_ttl")), "keys=2,expires=1");
}

// redis-cli's own programs, which read INFO.
TEST_P(IntrospectionTest, RedisCliStat) {
  ASSERT_EQ(ours_wire_->Ask({"FLUSHALL"}).text, "OK");
  ASSERT_EQ(ours_wire_->Ask({"SET", "a", "1"}).text, "OK");
  const auto cli = StartRedisCli({"--stat", "-i", "0.01"});
  ASSERT_TRUE(cli.ok()) << cli.status();
  // A headline of two lines, then figures: keys, memory, clients, blocked, requests, connections.
  const auto lines = [&] {
    const std::string log = (*cli)->Log();
    return std::count(log.begin(), log.end(), '\n');
  };
  while (lines() < 4 && (*cli)->running()) (*cli)->Wait(std::chrono::milliseconds(5));
  std::stringstream log((*cli)->Log());
  std::string line;
  std::getline(log, line);
  std::getline(log, line);
  for (int i = 0; i < 2; ++i) {
    std::getline(log, line);
    EXPECT_THAT(line, testing::MatchesRegex("1 +[0-9.]+K +[0-9]+ +0 +[0-9]+ \\(\\+[0-9]+\\) +[0-9]+ *"));
  }
}

TEST_P(IntrospectionTest, RedisCliMemkeys) {
  ASSERT_EQ(ours_wire_->Ask({"FLUSHALL"}).text, "OK");
  ASSERT_EQ(ours_wire_->Ask({"SET", "abc", std::string(10'000, 'x')}).text, "OK");
  const auto cli = StartRedisCli({"--memkeys"});
  ASSERT_TRUE(cli.ok()) << cli.status();
  ASSERT_EQ((*cli)->Wait(std::chrono::seconds(30)), 0) << (*cli)->Log();
  EXPECT_THAT((*cli)->Log(),
              testing::ContainsRegex("Biggest string found '\"abc\"' has 100[0-9][0-9] bytes"));
}

Fields ClientFields(const std::string& line, std::string* order) {
  Fields fields;
  std::stringstream words(line);
  for (std::string word; words >> word;) {
    const size_t equals = word.find('=');
    absl::StrAppend(order, word.substr(0, equals), " ");
    fields[word.substr(0, equals)] = equals == word.npos ? "" : word.substr(equals + 1);
  }
  return fields;
}

TEST_P(IntrospectionTest, ClientInfo) {
  for (const Args& before : std::vector<Args>{
           {"PING"}, {"CLIENT", "SETNAME", "me"}, {"CLIENT", "NO-EVICT", "ON"}, {"WATCH", "a"}, {"MULTI"}}) {
    for (Wire* wire : {ours_wire_.get(), redis_wire_.get()}) wire->Ask(before);
    Args ask = {"CLIENT", "INFO"};
    std::string text[2], order[2];
    Fields fields[2];
    Wire* wires[] = {ours_wire_.get(), redis_wire_.get()};
    for (int i = 0; i < 2; ++i) {
      RespValue reply = wires[i]->Ask(ask);
      if (reply.text == "QUEUED") reply = wires[i]->Ask({"EXEC"}).elements.at(0);
      text[i] = TextOf(reply);
      fields[i] = ClientFields(text[i], &order[i]);
    }
    EXPECT_EQ(order[0], order[1]);
    EXPECT_EQ(text[0].back(), text[1].back());
    for (const char* name :
         {"name", "db", "sub", "psub", "ssub", "multi", "cmd", "user", "redir", "resp", "events"}) {
      EXPECT_EQ(fields[0][name], fields[1][name]) << name << " after " << Readable(Request{before});
    }
    // One is connected by a Unix socket.
    std::string flags = fields[1]["flags"];
    flags.erase(std::remove(flags.begin(), flags.end(), 'U'), flags.end());
    EXPECT_EQ(fields[0]["flags"], flags.empty() ? "N" : flags) << "after " << Readable(Request{before});
  }
}

TEST_P(IntrospectionTest, ClientList) {
  auto second = Connect(ours_);
  ASSERT_EQ(second->Ask({"CLIENT", "SETNAME", "second"}).text, "OK");
  const std::string id = second->Ask({"CLIENT", "ID"}).text;
  const auto count = [&](const Args& args) {
    const std::string text = TextOf(ours_wire_->Ask(args));
    return std::count(text.begin(), text.end(), '\n');
  };
  EXPECT_EQ(count({"CLIENT", "LIST"}), count({"CLIENT", "LIST", "TYPE", "NORMAL"}));
  EXPECT_GE(count({"CLIENT", "LIST"}), 2);
  EXPECT_EQ(count({"CLIENT", "LIST", "TYPE", "replica"}), 0);
  EXPECT_EQ(count({"CLIENT", "LIST", "ID", id}), 1);
  EXPECT_EQ(count({"CLIENT", "LIST", "ID", id, "999999"}), 1);
  EXPECT_THAT(TextOf(ours_wire_->Ask({"CLIENT", "LIST", "ID", id})), testing::HasSubstr(" name=second "));
  for (const Args& args : std::vector<Args>{{"CLIENT", "LIST", "TYPE"},
                                            {"CLIENT", "LIST", "TYPE", "nosuch"},
                                            {"CLIENT", "LIST", "TYPE", "normal", "x"},
                                            {"CLIENT", "LIST", "ID"},
                                            {"CLIENT", "LIST", "ID", "x"},
                                            {"CLIENT", "LIST", "ID", "0"},
                                            {"CLIENT", "LIST", "ID", "-1"},
                                            {"CLIENT", "LIST", "ID", "999999"},
                                            {"CLIENT", "LIST", "nosuch"},
                                            {"CLIENT", "SETNAME", "a b"},
                                            {"CLIENT", "SETNAME", "a\n"},
                                            {"CLIENT", "SETNAME", ""},
                                            {"CLIENT", "GETNAME"},
                                            {"CLIENT", "NO-EVICT"},
                                            {"CLIENT", "NO-EVICT", "maybe"}}) {
    ExpectSameReply(args);
  }
}

TEST_P(IntrospectionTest, Hello) {
  for (const Args& args : std::vector<Args>{{"4"},
                                            {"1"},
                                            {"0"},
                                            {"x"},
                                            {"3", "AUTH"},
                                            {"3", "AUTH", "default"},
                                            {"3", "AUTH", "nobody", "x"},
                                            {"3", "SETNAME"},
                                            {"3", "SETNAME", "a b"},
                                            {"3", "nosuch"},
                                            {"AUTH", "default", "x"},
                                            {""}}) {
    Args asked = {"HELLO"};
    asked.insert(asked.end(), args.begin(), args.end());
    ExpectSameReply(asked);
    ExpectSameReply({"HGETALL", "no such key"});
  }
  Stream stream;
  for (const Args& args : std::vector<Args>{{"HELLO"},
                                            {"HELLO", "3"},
                                            {"HELLO", "3", "AUTH", "default", "x"},
                                            {"HELLO"},
                                            {"HELLO", "2", "SETNAME", "n"},
                                            {"CLIENT", "GETNAME"},
                                            {"HELLO", "3", "SETNAME", "m", "AUTH", "default", "y"},
                                            {"CLIENT", "GETNAME"},
                                            {"HELLO", "3", "SETNAME", "bad name", "AUTH", "default", "y"},
                                            {"CLIENT", "GETNAME"},
                                            {"RESET"},
                                            {"CLIENT", "GETNAME"},
                                            {"HELLO"}}) {
    stream.push_back(MakeBatch({args}));
  }
  ExpectSame(stream);
}

}  // namespace
}  // namespace kvstore::test
