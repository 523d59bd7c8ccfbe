// A host whose firewall tracks connections: the heir says so, and with the rules of docs/firewall.md it takes
// over.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/pair_fixture.h"

namespace understudy::lab {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class FirewallTest : public PairTest {
 protected:
  // As servers are told to have them; only tracked connections that began with a SYN pass.
  static constexpr char kStrict[] = R"(
      table inet strict {
        chain in {
          type filter hook input priority filter; policy accept;
          ct state untracked accept
          ct state invalid drop
          tcp flags & (fin|syn|rst|ack) != syn ct state new drop
        }
        chain out {
          type filter hook output priority filter; policy accept;
          ct state untracked accept
          ct state invalid drop
          tcp flags & (fin|syn|rst|ack) != syn ct state new drop
        }
      })";

  // Both nodes, b with these rules from before it started.
  void StartWithRulesAtB(const std::string& rules) {
    with_secondary_ = false;
    ASSERT_NO_FATAL_FAILURE(StartPair());
    int status = -1;
    lab_->host(Host::kB).Run([&] {
      FILE* nft = popen("nft -f -", "w");
      if (nft == nullptr) return;
      fputs(rules.c_str(), nft);
      status = pclose(nft);
    });
    ASSERT_EQ(status, 0) << "nft refused " << rules;
    ASSERT_TRUE(pair_->StartNode(Host::kB, "secondary").ok());
    for (Host host : {Host::kA, Host::kB}) ExpectState(host, "protected");
  }
  std::string StatusText(Host host) {
    auto reply = status(host).Get("/status");
    return reply.ok() ? reply->body : reply.status().ToString();
  }
};

TEST_F(FirewallTest, IsFoundAndSaid) {
  ASSERT_NO_FATAL_FAILURE(StartWithRulesAtB(kStrict));
  EXPECT_THAT(StatusText(Host::kB), AllOf(HasSubstr("\"warnings\":[\""), HasSubstr("ct state new drop"),
                                          HasSubstr("docs/firewall.md")));
  EXPECT_THAT(pair_->process(Host::kB).LogTail(100), HasSubstr("ct state new drop"));
  EXPECT_THAT(StatusText(Host::kA), HasSubstr("\"warnings\":[]"));
}

TEST_F(FirewallTest, WithTheServiceExemptedClientsGoOn) {
  const std::string service = Lab::service();
  const size_t colon = service.find(':');
  const std::string ip = service.substr(0, colon), port = service.substr(colon + 1);
  ASSERT_NO_FATAL_FAILURE(StartWithRulesAtB(absl::StrCat(
      kStrict, "\ntable inet understudy { chain in { type filter hook prerouting priority raw; ip daddr ", ip,
      " tcp dport ", port, " notrack; }\n chain out { type filter hook output priority raw; ip saddr ", ip,
      " tcp sport ", port, " notrack; }\n}\n")));
  EXPECT_THAT(StatusText(Host::kB), HasSubstr("\"warnings\":[]"));
  Fleet fleet(client());
  const uint64_t seed = TestSeed();
  StreamClient* talk =
      fleet.Add(EchoPlan({.bytes = 100000, .seed = seed, .max_ahead = 1000, .pace = milliseconds(1)}));
  ASSERT_EQ(fleet.RunUntil([&] { return talk->received() > 1000; }, kPatience), "");
  Inject(primary(), FaultKind::kPowerCut);
  ExpectTakenOverBy(Host::kB, &fleet);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  ExpectServes();
}

}  // namespace
}  // namespace understudy::lab
