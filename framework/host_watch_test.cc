#include "framework/host_watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <utility>

namespace understudy {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using tcpshim::MacAddress;
using tcpshim::ServiceAddress;
using testing::_;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;
using testing::UnorderedElementsAre;

constexpr MacAddress kOne = {2, 0, 0, 0, 0, 1}, kOther = {2, 0, 0, 0, 0, 2};

// A segment on which `answer` is said to each probe, and a host that has no route to `without_route` and goes
// to `behind_router` by way of kRouter.
class FakeAddress final : public ServiceAddress {
 public:
  absl::StatusOr<std::vector<MacAddress>> answer = std::vector<MacAddress>{};
  static constexpr uint32_t kRouter = 1000;
  std::set<uint32_t> without_route, elsewhere, behind_router;
  std::vector<uint32_t> resolved;  // in that order
  int probes = 0, routes = 0;

  // What was asked is answered.
  void Answer() {
    if (auto asked = std::exchange(asked_, nullptr)) asked(answer);
  }

  void ProbeAll(milliseconds, ProbedAll done) override {
    ++probes;
    asked_ = std::move(done);
  }
  absl::StatusOr<Route> RouteTo(uint32_t ip) override {
    ++routes;
    if (without_route.contains(ip)) return absl::NotFoundError("no route");
    return Route{.local = false,
                 .here = !elsewhere.contains(ip),
                 .next_hop = behind_router.contains(ip) ? kRouter : ip};
  }
  absl::Status Resolve(uint32_t next_hop) override {
    resolved.push_back(next_hop);
    return absl::OkStatus();
  }
  absl::Status Add() override { return absl::OkStatus(); }
  absl::Status Remove() override { return absl::OkStatus(); }
  uint64_t times_put_back() const override { return 0; }
  void Announce() override {}
  void Probe(milliseconds, Probed) override {}
  bool carrier() const override { return true; }
  void WatchCarrier(std::function<void(bool)>) override {}
  void WatchReplacement(std::function<absl::Status(int)>) override {}
  uint32_t mtu() const override { return 1500; }
  int interface_index() const override { return 1; }

 private:
  ProbedAll asked_;
};

class HostWatchTest : public testing::Test {
 protected:
  // A secondary looks, a moment later; what it asks is answered.
  bool Look(milliseconds later, bool primary_lives = true,
            std::optional<std::vector<uint32_t>> clients = std::nullopt) {
    now_ += later;
    const bool wants = watch_.LookAsSecondary(now_, primary_lives, std::move(clients));
    address_.Answer();
    return wants;
  }

  FakeAddress address_;
  HostWatch watch_{&address_, {0x7f000001, 1}, [] { return absl::UnimplementedError("no listener here"); }};
  HostWatch::Time now_{seconds(100)};
};

TEST_F(HostWatchTest, ThePrimaryMayAnswer) {
  address_.answer = std::vector{kOne};
  Look(milliseconds(0));
  Look(seconds(10));
  EXPECT_EQ(address_.probes, 2);
  EXPECT_THAT(watch_.obstacle(), IsEmpty());
}

TEST_F(HostWatchTest, TwoWhoAnswerAreBelievedTheSecondTime) {
  address_.answer = std::vector{kOne, kOther};
  Look(milliseconds(0));
  EXPECT_THAT(watch_.obstacle(), IsEmpty());
  Look(milliseconds(900));
  EXPECT_EQ(address_.probes, 1);
  Look(milliseconds(100));
  EXPECT_EQ(address_.probes, 2) << "asked again after a second, not after ten";
  EXPECT_THAT(watch_.obstacle(), HasSubstr("02:00:00:00:00:01 and 02:00:00:00:00:02"));
  address_.answer = std::vector{kOne};
  Look(seconds(1));
  EXPECT_THAT(watch_.obstacle(), IsEmpty());
  EXPECT_EQ(watch_.conflicts(), 1u);
}

TEST_F(HostWatchTest, OnceMayBeAnAddressThatMoves) {
  address_.answer = std::vector{kOne, kOther};
  Look(milliseconds(0));
  address_.answer = std::vector{kOther};
  Look(seconds(1));
  address_.answer = std::vector{kOne, kOther};
  Look(seconds(10));
  EXPECT_THAT(watch_.obstacle(), IsEmpty());
}

TEST_F(HostWatchTest, WhenThePrimaryIsDeadWhoeverAnswersIsAnother) {
  address_.answer = std::vector{kOne, kOther};
  Look(milliseconds(0));
  Look(seconds(1));
  address_.answer = std::vector{kOther};
  Look(milliseconds(10), /*primary_lives=*/false);
  Look(milliseconds(500), false);
  EXPECT_EQ(address_.probes, 3) << "at once, as nobody serves";
  EXPECT_THAT(watch_.obstacle(), HasSubstr("another host (02:00:00:00:00:02)"));
  address_.answer = std::vector<MacAddress>{};
  Look(milliseconds(500), false);
  Look(milliseconds(500), false);
  EXPECT_THAT(watch_.obstacle(), IsEmpty());
}

TEST_F(HostWatchTest, WithNothingInTheWayADeathIsNoTimeToAsk) {
  address_.answer = std::vector{kOne};
  Look(milliseconds(0));
  Look(seconds(1), /*primary_lives=*/false);
  EXPECT_EQ(address_.probes, 1);
}

TEST_F(HostWatchTest, WhoCannotAskKnowsNoMoreThanBefore) {
  address_.answer = std::vector{kOne, kOther};
  Look(milliseconds(0));
  Look(seconds(1));
  address_.answer = absl::UnavailableError("no interface");
  Look(seconds(1));
  EXPECT_FALSE(watch_.obstacle().empty());
}

TEST_F(HostWatchTest, APrimaryAloneMayHaveTheAddress) {
  address_.answer = std::vector{kOther};
  watch_.LookAsPrimary(now_);
  address_.Answer();
  EXPECT_THAT(watch_.conflict(), HasSubstr("another host (02:00:00:00:00:02)"));
}

TEST_F(HostWatchTest, EachClientIsLookedForSomeAtATime) {
  std::vector<uint32_t> clients;
  for (uint32_t ip = 1; ip <= 150; ++ip) clients.push_back(ip);
  address_.without_route = {3};
  address_.elsewhere = {149};
  Look(milliseconds(0), true, clients);
  EXPECT_EQ(address_.routes, 64);
  Look(milliseconds(200));
  EXPECT_THAT(watch_.unreachable(), IsEmpty());
  EXPECT_FALSE(Look(milliseconds(200)));
  EXPECT_EQ(address_.routes, 150);
  EXPECT_THAT(watch_.unreachable(), HasSubstr("after a takeover: 2, 0.0.0.3 among them"));
  EXPECT_FALSE(Look(milliseconds(900))) << "the next round is a second later";
  EXPECT_TRUE(Look(milliseconds(100))) << "which clients are there now?";
  address_.without_route.clear();
  address_.elsewhere.clear();
  Look(milliseconds(10), true, std::vector<uint32_t>{3});
  EXPECT_THAT(watch_.unreachable(), IsEmpty());
}

// --- Neighbours ----------------------------------------------------------------------------------

TEST_F(HostWatchTest, EachNextHopIsKeptResolved) {
  address_.behind_router = {3, 4, 5};
  address_.without_route = {7};
  address_.elsewhere = {8};
  Look(milliseconds(0), true, std::vector<uint32_t>{2, 3, 4, 5, 7, 8});
  Look(milliseconds(10));
  EXPECT_THAT(address_.resolved, UnorderedElementsAre(2, FakeAddress::kRouter)) << "each once";
  Look(milliseconds(4'900));
  EXPECT_THAT(address_.resolved, SizeIs(2));
  Look(milliseconds(100));
  EXPECT_THAT(address_.resolved, ElementsAre(_, _, FakeAddress::kRouter, 2))
      << "again, long before it is forgotten";
}

TEST_F(HostWatchTest, ANewNextHopNeedNotWait) {
  Look(milliseconds(0), true, std::vector<uint32_t>{2});
  Look(milliseconds(200));
  Look(milliseconds(1'000), true, std::vector<uint32_t>{2, 3});
  Look(milliseconds(10));
  EXPECT_THAT(address_.resolved, ElementsAre(2, 3));
}

TEST_F(HostWatchTest, ASegmentIsNotFloodedWithQuestions) {
  std::vector<uint32_t> clients;
  for (uint32_t ip = 1; ip <= 500; ++ip) clients.push_back(ip);
  address_.behind_router = {400};
  Look(milliseconds(0), true, clients);
  for (int i = 0; i < 8; ++i) Look(milliseconds(200));  // each is asked for its route
  const size_t asked = address_.resolved.size();
  EXPECT_LE(asked, 32u);
  for (int i = 0; i < 30; ++i) Look(milliseconds(100));
  ASSERT_THAT(address_.resolved, SizeIs(100)) << "and no more than the kernel keeps";
  EXPECT_THAT(address_.resolved, Contains(FakeAddress::kRouter));
}

TEST_F(HostWatchTest, WhenTheTakeoverIsAskedForAllAreResolved) {
  std::vector<uint32_t> clients;
  for (uint32_t ip = 1; ip <= 50; ++ip) clients.push_back(ip);
  address_.behind_router = {50};
  Look(milliseconds(0), true, clients);
  Look(milliseconds(10));
  address_.resolved.clear();
  watch_.OnAskingToTakeOver();
  EXPECT_THAT(address_.resolved, SizeIs(50));
  EXPECT_EQ(address_.resolved.front(), FakeAddress::kRouter);
  Look(milliseconds(500));
  EXPECT_THAT(address_.resolved, SizeIs(50)) << "that was all";
}

}  // namespace
}  // namespace understudy
