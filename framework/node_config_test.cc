#include "framework/node_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gflags/gflags.h"

namespace understudy {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

class NodeConfigTest : public testing::Test {
 protected:
  using Flags = std::vector<std::pair<const char*, const char*>>;

  void Set(const Flags& flags) {
    for (const auto& [flag, value] : flags) {
      ASSERT_FALSE(gflags::SetCommandLineOption(flag, value).empty()) << flag;
    }
  }
  void SetPair() {
    Set({{"role", "primary"},
         {"service", "198.18.0.1:7000"},
         {"interface", "eth0"},
         {"node", "alpha"},
         {"replication", "198.18.1.1:7001"},
         {"peer", "198.18.1.2:7001"},
         {"replication_insecure", "true"},
         {"arbiter", "file:/run/arbiter"}});
  }
  // A pair's flags with these changes are refused with one line that names the flag and the reason.
  void Refused(const Flags& changes, const std::string& flag, const std::string& why) {
    SetPair();
    Set(changes);
    RefusedAsSet(flag, why);
  }
  void RefusedAsSet(const std::string& flag, const std::string& why) {
    const auto config = ConfigFromFlags();
    ASSERT_FALSE(config.ok()) << flag << ", " << why;
    const std::string message(config.status().message());
    EXPECT_EQ(config.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(message, AllOf(HasSubstr("--" + flag), HasSubstr(why), Not(HasSubstr("\n"))));
  }

 private:
  gflags::FlagSaver saver_;
};

TEST_F(NodeConfigTest, StandaloneNeedsOnlyItsAddress) {
  Set({{"service", "127.0.0.1:7000"}});
  const auto config = ConfigFromFlags();
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->role, Role::kStandalone);
  EXPECT_EQ(config->service.ToString(), "127.0.0.1:7000");
  EXPECT_FALSE(config->status.has_value());
}

TEST_F(NodeConfigTest, StandaloneMayTakeAnyPortAndListenEverywhere) {
  Set({{"service", "0.0.0.0:0"}});
  ASSERT_TRUE(ConfigFromFlags().ok());
}

TEST_F(NodeConfigTest, APairsFlagsAreTaken) {
  SetPair();
  Set({{"heartbeat_ms", "20"}, {"suspect_after_ms", "200"}, {"status", "127.0.0.1:0"}});
  const auto config = ConfigFromFlags();
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->role, Role::kPrimary);
  EXPECT_EQ(config->interface, "eth0");
  EXPECT_EQ(config->node, "alpha");
  EXPECT_EQ(config->replication.address().to_string(), "198.18.1.1");
  EXPECT_EQ(config->replication.port(), 7001);
  EXPECT_EQ(config->peer.address().to_string(), "198.18.1.2");
  EXPECT_EQ(config->arbiter, "file:/run/arbiter");
  EXPECT_EQ(config->heartbeat.count(), 20);
  EXPECT_EQ(config->suspect_after.count(), 200);
  ASSERT_TRUE(config->status.has_value());
  EXPECT_EQ(config->status->port(), 0);
  Set({{"role", "secondary"}});
  EXPECT_EQ(ConfigFromFlags()->role, Role::kSecondary);
}

TEST_F(NodeConfigTest, TheDefaultsAreThoseOfTheDesign) {
  SetPair();
  const auto config = ConfigFromFlags();
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->heartbeat.count(), 10);
  EXPECT_EQ(config->max_stall.count(), 10000);
  EXPECT_EQ(config->suspect_after.count(), 80);
}

TEST_F(NodeConfigTest, HowLongACallMayTakeIsBounded) {
  Refused({{"max_stall_ms", "-1"}}, "max_stall_ms=-1", "0 to 600000");
  Refused({{"max_stall_ms", "600001"}}, "max_stall_ms", "0 to 600000");
}

TEST_F(NodeConfigTest, TheLimitsOfMemoryAreBytesAndMustAgree) {
  SetPair();
  auto config = ConfigFromFlags();
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->limits.pending_output, 64u << 20);
  EXPECT_EQ(config->limits.buffered, 512u << 20);
  EXPECT_EQ(config->must_agree.at("max_pending_output_mb"), "64");
  Set({{"max_pending_output_mb", "1"}, {"max_buffered_mb", "1048576"}});
  config = ConfigFromFlags();
  ASSERT_TRUE(config.ok());
  EXPECT_EQ(config->limits.pending_output, 1u << 20);
  EXPECT_EQ(config->limits.buffered, size_t{1} << 40);
  EXPECT_EQ(config->must_agree.at("max_buffered_mb"), "1048576");
  Refused({{"max_pending_output_mb", "0"}}, "max_pending_output_mb=0", "1 to 65536");
  Refused({{"max_pending_output_mb", "64"}, {"max_buffered_mb", "1048577"}}, "max_buffered_mb",
          "1 to 1048576");
}

TEST_F(NodeConfigTest, UnknownRole) {
  Refused({{"role", "boss"}}, "role=boss", "standalone, primary or secondary");
}

TEST_F(NodeConfigTest, ServiceIsRequiredAndMustBeAnAddress) {
  Refused({{"service", ""}}, "service", "required");
  Refused({{"service", "198.18.0.1"}}, "service=198.18.0.1", "wants IP:PORT");
  Refused({{"service", "198.18.0.999:80"}}, "service", "not an IPv4 address");
  Refused({{"service", "localhost:80"}}, "service", "\"localhost\" is not an IPv4 address");
  Refused({{"service", "[::1]:80"}}, "service", "not an IPv4 address");
  Refused({{"service", ":80"}}, "service", "not an IPv4 address");
  Refused({{"service", "198.18.0.1:"}}, "service", "not a port");
  Refused({{"service", "198.18.0.1:http"}}, "service", "not a port");
  Refused({{"service", "198.18.0.1:65536"}}, "service", "not a port");
  Refused({{"service", "198.18.0.1:-1"}}, "service", "not a port");
  Refused({{"service", "198.18.0.1:0"}}, "service", "1 to 65535");
}

TEST_F(NodeConfigTest, TheServiceAddressMustBeOneThatCanMove) {
  Refused({{"service", "0.0.0.0:7000"}}, "service", "cannot move");
  Refused({{"service", "198.18.1.1:7000"}}, "service", "must not be a node's own address");
  Refused({{"service", "198.18.1.2:7000"}}, "service", "must not be a node's own address");
}

TEST_F(NodeConfigTest, WhatAPairCannotDoWithout) {
  Refused({{"interface", ""}}, "interface", "required");
  Refused({{"node", ""}}, "node", "required");
  Refused({{"arbiter", ""}}, "arbiter", "required");
  Refused({{"replication", ""}}, "replication", "required");
  Refused({{"peer", ""}}, "peer", "required");
}

TEST_F(NodeConfigTest, NamesThatCannotBe) {
  Refused({{"interface", "sixteen-letters!"}}, "interface", "longer than 15");
  for (const char* name : {"a b", "a,b", "a\"b", "a:1", "new\nline", "n\xc3\xa4me"}) {
    Refused({{"node", name}}, "node=", "wants 1 to 64 letters");
  }
  const std::string longest(64, 'n'), longer(65, 'n');
  Refused({{"node", longer.c_str()}}, "node", "wants 1 to 64 letters");
  Set({{"node", longest.c_str()}});
  EXPECT_TRUE(ConfigFromFlags().ok());
}

TEST_F(NodeConfigTest, ReplicationAndPeer) {
  Refused({{"replication", "198.18.1.1:0"}}, "replication", "not a port");
  Refused({{"replication", "nowhere"}}, "replication=nowhere", "wants IP:PORT");
  Refused({{"replication", "198.18.1.1:7001"}, {"peer", "198.18.1.2:x"}}, "peer", "not a port");
  Refused({{"peer", "198.18.1.1:7001"}}, "peer", "own --replication");
}

TEST_F(NodeConfigTest, LogToOnlyKnowsTheSecondary) {
  Refused({{"log_to", "local:/var/log"}}, "log_to", "only `secondary`");
}

TEST_F(NodeConfigTest, HeartbeatsAndSuspicion) {
  Refused({{"heartbeat_ms", "0"}}, "heartbeat_ms=0", "1 to 1000");
  Refused({{"heartbeat_ms", "1001"}, {"suspect_after_ms", "5000"}}, "heartbeat_ms", "1 to 1000");
  Refused({{"heartbeat_ms", "-10"}}, "heartbeat_ms", "1 to 1000");
  Refused({{"heartbeat_ms", "20"}, {"suspect_after_ms", "79"}}, "suspect_after_ms=79",
          "four heartbeats (80)");
  Refused({{"heartbeat_ms", "20"}, {"suspect_after_ms", "60001"}}, "suspect_after_ms", "at most 60000");
  Set({{"suspect_after_ms", "80"}});
  EXPECT_TRUE(ConfigFromFlags().ok());
}

TEST_F(NodeConfigTest, StatusMustBeAnAddress) {
  Refused({{"status", "8080"}}, "status=8080", "wants IP:PORT");
  Refused({{"status", "127.0.0.1:70000"}}, "status", "not a port");
}

TEST_F(NodeConfigTest, APairsFlagsMeanNothingAlone) {
  for (const auto& [flag, value] : Flags{{"interface", "eth0"},
                                         {"replication", "198.18.1.1:7001"},
                                         {"peer", "198.18.1.2:7001"},
                                         {"arbiter", "file:/x"}}) {
    gflags::FlagSaver one;
    Set({{"service", "127.0.0.1:7000"}, {flag, value}});
    RefusedAsSet(flag, "no meaning with --role=standalone");
  }
}

TEST_F(NodeConfigTest, EveryFlagExplainsItself) {
  for (const char* flag :
       {"role", "service", "interface", "node", "replication", "peer", "arbiter", "log_to", "heartbeat_ms",
        "suspect_after_ms", "max_stall_ms", "max_pending_output_mb", "max_buffered_mb", "status"}) {
    gflags::CommandLineFlagInfo info;
    ASSERT_TRUE(gflags::GetCommandLineFlagInfo(flag, &info)) << flag;
    EXPECT_GE(info.description.size(), 30u) << flag;
  }
}

TEST(RoleNameTest, IsWhatTheFlagTakes) {
  EXPECT_STREQ(RoleName(Role::kStandalone), "standalone");
  EXPECT_STREQ(RoleName(Role::kPrimary), "primary");
  EXPECT_STREQ(RoleName(Role::kSecondary), "secondary");
}

TEST_F(NodeConfigTest, APairNeedsAKeyOrSaysThatItNeedsNone) {
  Refused({{"replication_insecure", "false"}}, "replication_key_file", "is required in a pair");
  Set({{"replication", "127.0.0.1:7001"}});
  RefusedAsSet("replication_key_file", "is required in a pair");
  Set({{"peer", "127.0.0.2:7001"}});
  ASSERT_TRUE(ConfigFromFlags().ok()) << "loopback";
  EXPECT_EQ(ConfigFromFlags()->key, "");
}

TEST_F(NodeConfigTest, TheKeyIsRead) {
  const std::string path = testing::TempDir() + "/key";
  const std::string key(40, 'k');
  std::ofstream(path) << key;
  ASSERT_EQ(chmod(path.c_str(), 0600), 0);
  SetPair();
  Set({{"replication_key_file", path.c_str()}});
  RefusedAsSet("replication_insecure", "contradicts");
  Set({{"replication_insecure", "false"}});
  const auto config = ConfigFromFlags();
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->key, key);
  ASSERT_EQ(chmod(path.c_str(), 0640), 0);
  RefusedAsSet("replication_key_file", "others than its owner can use it");
}

}  // namespace
}  // namespace understudy
