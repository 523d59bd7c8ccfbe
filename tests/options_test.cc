// Kernel clients without the options that most have, and a wire that hides no wrong checksum.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/tcp.h>

#include <ostream>
#include <set>
#include <tuple>

#include "tests/pair_fixture.h"

namespace understudy::lab {
namespace {

struct Without {
  std::string name;
  std::vector<std::pair<std::string, std::string>> sysctls;
  bool offload = true;
};

void PrintTo(const Without& without, std::ostream* out) { *out << without.name; }

class OptionsTest : public PairTest, public testing::WithParamInterface<std::tuple<Without, FaultKind>> {};

TEST_P(OptionsTest, ClientsGoOn) {
  auto& [without, way] = GetParam();
  lab_options_.offload = without.offload;
  ASSERT_NO_FATAL_FAILURE(StartPair());
  for (auto& [name, value] : without.sysctls) {
    ASSERT_TRUE(client().SetSysctl(name, value).ok()) << name;
  }
  Fleet fleet(client());
  uint64_t seed = TestSeed();
  constexpr uint64_t kBytes = 12 << 20;
  StreamClient* up = fleet.Add(UploadPlan(kBytes, seed));
  StreamClient* down = fleet.Add(DownloadPlan(kBytes, seed + 1));
  StreamClient* echo = fleet.Add(EchoPlan({.bytes = kBytes, .seed = seed + 2, .max_ahead = 100000}));
  StreamClient* talk = fleet.Add(EchoPlan(
      {.bytes = 1u << 30, .seed = seed + 3, .max_ahead = 100, .pace = std::chrono::microseconds(200)}));
  ASSERT_EQ(fleet.RunUntil(
                [&] {
                  return up->sent() > kBytes / 4 && down->received() > kBytes / 4 &&
                         echo->received() > kBytes / 4 && talk->received() > 1000;
                },
                kPatience),
            "");
  Inject(primary(), way);
  ExpectTakenOverBy(Host::kB, &fleet);
  talk->FinishEcho(1000);
  EXPECT_EQ(fleet.RunUntilDone(kPatience), "");
  ExpectServes();
  // The clients were what this test says they are.
  for (const SeenPacket& packet : watch_->Packets()) {
    if (packet.from_service || (packet.flags & TH_SYN) == 0) continue;
    std::set<std::string> without_them;
    for (auto& [name, value] : without.sysctls) without_them.insert(name);
    EXPECT_EQ(packet.sack_permitted, without_them.count("net.ipv4.tcp_sack") == 0);
    EXPECT_EQ(packet.tsval.has_value(), without_them.count("net.ipv4.tcp_timestamps") == 0);
    EXPECT_EQ(packet.wscale.has_value(), without_them.count("net.ipv4.tcp_window_scaling") == 0);
  }
}

const std::pair<std::string, std::string> kNoSack("net.ipv4.tcp_sack", "0");
const std::pair<std::string, std::string> kNoTimestamps("net.ipv4.tcp_timestamps", "0");
const std::pair<std::string, std::string> kNoScaling("net.ipv4.tcp_window_scaling", "0");

INSTANTIATE_TEST_SUITE_P(
    Without, OptionsTest,
    testing::Combine(testing::Values(Without{"Sack", {kNoSack}}, Without{"Timestamps", {kNoTimestamps}},
                                     Without{"WindowScaling", {kNoScaling}},
                                     Without{"AnyOption", {kNoSack, kNoTimestamps, kNoScaling}},
                                     Without{"Offload", {}, false}),
                     testing::Values(FaultKind::kKilled, FaultKind::kPowerCut)),
    [](const auto& info) { return std::get<0>(info.param).name + NameOf(std::get<1>(info.param)); });

}  // namespace
}  // namespace understudy::lab
