#include "tcpshim/firewall.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>

namespace understudy::tcpshim {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr SocketAddress kService = {0xc6120064, 6379};

std::vector<std::string> Warnings(const std::string& rules, bool loose = true, bool tracking = true) {
  return FirewallWarnings({rules, tracking, loose}, kService);
}

TEST(FirewallTest, RulesThatLetRestoredConnectionsThroughAreFine) {
  EXPECT_THAT(Warnings(""), IsEmpty());
  EXPECT_THAT(Warnings("\t\tct state established,related accept\n\t\ttcp dport 6379 ct state new accept\n"),
              IsEmpty());
  EXPECT_THAT(Warnings("\t\ttcp dport 23 drop\n\t\tct state new accept\n"), IsEmpty());
  EXPECT_THAT(Warnings("\t\tct state invalid drop\n"), IsEmpty())
      << "with loose tracking they are not INVALID";
}

TEST(FirewallTest, NewWithoutSynIsWhatTheyAre) {
  for (const char* rule :
       {"tcp flags != syn / fin,syn,rst,ack ct state new counter packets 0 bytes 0 drop",
        "tcp flags & (fin | syn | rst | ack) != syn ct state new reject with tcp reset",
        "ct state { new, untracked } tcp flags != syn drop",
        "-A INPUT -p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m conntrack --ctstate NEW -j DROP",
        "-A INPUT -p tcp ! --syn -m state --state NEW,INVALID -j DROP"}) {
    EXPECT_THAT(Warnings(std::string("\t\t") + rule + "\n"), ElementsAre(HasSubstr(rule))) << rule;
  }
}

TEST(FirewallTest, WithoutLooseTrackingTheyAreInvalid) {
  EXPECT_THAT(Warnings("", /*loose=*/false), ElementsAre(HasSubstr("nf_conntrack_tcp_loose is 0")));
  EXPECT_THAT(Warnings("\t\tct state vmap { invalid : drop }\n", false).size(), 2u);
  EXPECT_THAT(Warnings("-A INPUT -m conntrack --ctstate INVALID -j DROP\n", false).size(), 2u);
  EXPECT_THAT(Warnings("", false, /*tracking=*/false), IsEmpty()) << "nobody tracks";
}

TEST(FirewallTest, ANotrackRuleForTheServiceSettlesIt) {
  const std::string drop = "\t\ttcp flags != syn ct state new drop\n";
  EXPECT_THAT(Warnings(drop + "\t\ttcp dport 6379 notrack\n", false), IsEmpty());
  EXPECT_THAT(Warnings(drop + "-A PREROUTING -p tcp -m tcp --dport 6379 -j CT --notrack\n", false),
              IsEmpty());
  EXPECT_THAT(Warnings(drop + "-A PREROUTING -p tcp -m tcp --dport 6379 -j NOTRACK\n", false), IsEmpty());
  EXPECT_THAT(Warnings(drop + "\t\ttcp dport 16379 notrack\n").size(), 1u) << "another service's";
}

TEST(FirewallTest, WarningsAreFew) {
  std::string rules;
  for (int i = 0; i < 1000; ++i) rules += "\t\ttcp flags != syn ct state new drop\n";
  EXPECT_LE(Warnings(rules).size(), 4u);
}

TEST(FirewallTest, ReadingItTakesNoTime) {
  const auto begun = std::chrono::steady_clock::now();
  ReadFirewall();  // of wherever this runs: with or without rights, with or without nft
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(60));
}

}  // namespace
}  // namespace understudy::tcpshim
