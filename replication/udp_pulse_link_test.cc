#include "replication/udp_pulse_link.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <semaphore>
#include <string>
#include <utility>

#include <boost/asio/buffer.hpp>
#include <boost/asio/ip/udp.hpp>

namespace understudy::replication {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using asio::ip::udp;
using testing::HasSubstr;

constexpr std::chrono::seconds kPatience(20);

ProtocolConfig Config() {
  ProtocolConfig config;
  config.self.name = "a";
  config.service = "10.0.0.1:80";
  return config;
}

// A port of loopback that nobody has right now.
uint16_t FreePort(asio::io_context& loop) {
  return udp::socket(loop, udp::endpoint(asio::ip::address_v4::loopback(), 0)).local_endpoint().port();
}

class PulseLinkTest : public testing::Test {
 protected:
  static tcp::endpoint At(uint16_t port) { return {asio::ip::address_v4::loopback(), port}; }
  std::unique_ptr<UdpPulseLink> Open(uint16_t own, uint16_t peer, PulseLink::Heard heard) {
    auto link = UdpPulseLink::Open(loop_, At(own), At(peer), "", std::move(heard));
    EXPECT_TRUE(link.ok()) << link.status();
    return link.ok() ? *std::move(link) : nullptr;
  }
  static std::optional<PulseMessage> Deaf(std::string_view) { return std::nullopt; }

  asio::io_context loop_{1};
  const uint16_t a_ = FreePort(loop_), b_ = FreePort(loop_);
};

TEST_F(PulseLinkTest, PulsesAreAnsweredWhileTheLoopStandsStill) {
  std::counting_semaphore<1000> renewed{0};
  std::atomic<int64_t> until_ns{0};
  Pulse pulse(Config(), std::chrono::seconds(100), [&](MonotonicTime until) {
    until_ns = until.time_since_epoch().count();
    renewed.release();
  });
  std::unique_ptr<UdpPulseLink> primary = Open(a_, b_, Deaf);
  int heard = 0;
  std::unique_ptr<UdpPulseLink> secondary =
      Open(b_, a_, [&](std::string_view datagram) -> std::optional<PulseMessage> {
        auto message = DecodePulse(datagram, "");
        EXPECT_TRUE(message.has_value());
        if (!message.has_value()) return std::nullopt;
        ++heard;
        message->answer = true;
        return message;
      });
  primary->Beat(&pulse);  // asleep: nothing is allowed
  pulse.Allow(6, SpokenVersions().newest, std::chrono::steady_clock::now());
  primary->Beat(&pulse);
  // The loop runs for the secondary's sake only; the primary's part is the thread's.
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (pulse.counters().answered < 5 && std::chrono::steady_clock::now() < deadline) {
    loop_.run_one_for(std::chrono::milliseconds(10));
  }
  EXPECT_GE(heard, 5);
  ASSERT_TRUE(renewed.try_acquire_for(kPatience));
  const auto answered = pulse.TakeAnswered();
  ASSERT_TRUE(answered.has_value());
  EXPECT_GE(until_ns, answered->sent_at.time_since_epoch().count());
  pulse.Forbid();
  primary.reset();  // ends the thread, though nothing would wake it
}

TEST_F(PulseLinkTest, GarbageIsHandedOnAndNothingComesOfIt) {
  int heard = 0;
  std::unique_ptr<UdpPulseLink> link =
      Open(a_, b_, [&](std::string_view datagram) -> std::optional<PulseMessage> {
        EXPECT_FALSE(DecodePulse(datagram, "").has_value());
        EXPECT_LE(datagram.size(), kMaxPulseSize + 1) << "what is longer is cut";
        ++heard;
        return std::nullopt;
      });
  udp::socket peer(loop_, udp::endpoint(asio::ip::address_v4::loopback(), b_));
  const udp::endpoint to(asio::ip::address_v4::loopback(), a_);
  for (const size_t size : {0u, 1u, 40u, 5000u}) peer.send_to(asio::buffer(std::string(size, 'x')), to);
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (heard < 4 && std::chrono::steady_clock::now() < deadline) {
    loop_.run_one_for(std::chrono::milliseconds(10));
  }
  EXPECT_EQ(heard, 4);
}

TEST_F(PulseLinkTest, TheThreadDropsGarbageToo) {
  Pulse pulse(Config(), std::chrono::seconds(100), [](MonotonicTime) { ADD_FAILURE(); });
  std::unique_ptr<UdpPulseLink> link = Open(a_, b_, Deaf);
  link->Beat(&pulse);
  udp::socket peer(loop_, udp::endpoint(asio::ip::address_v4::loopback(), b_));
  const udp::endpoint to(asio::ip::address_v4::loopback(), a_);
  for (const size_t size : {0u, 1u, 40u, 5000u}) peer.send_to(asio::buffer(std::string(size, 'x')), to);
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (pulse.counters().dropped < 4 && std::chrono::steady_clock::now() < deadline)
    std::this_thread::yield();
  EXPECT_EQ(pulse.counters().dropped, 4u);
}

TEST_F(PulseLinkTest, APeerThatIsNotThereHurtsNobody) {
  Pulse pulse(Config(), std::chrono::seconds(100), [](MonotonicTime) { ADD_FAILURE(); });
  std::unique_ptr<UdpPulseLink> link = Open(a_, b_, Deaf);
  pulse.Allow(6, SpokenVersions().newest, std::chrono::steady_clock::now());
  link->Beat(&pulse);
  const auto deadline = std::chrono::steady_clock::now() + kPatience;
  while (pulse.counters().sent < 5 && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  EXPECT_GE(pulse.counters().sent, 5u);
}

TEST_F(PulseLinkTest, AnAddressThatIsTakenIsSaid) {
  std::unique_ptr<UdpPulseLink> first = Open(a_, b_, Deaf);
  const auto second = UdpPulseLink::Open(loop_, At(a_), At(b_), "", Deaf);
  EXPECT_EQ(second.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(second.status().message()), HasSubstr("127.0.0.1:" + std::to_string(a_)));
}

}  // namespace
}  // namespace understudy::replication
