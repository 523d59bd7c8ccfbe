#include "tcpshim/segment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace understudy::tcpshim {
namespace {

using ::testing::HasSubstr;

constexpr SocketAddress kService = {0xc6120001, 7000};
constexpr SocketAddress kClient = {0xc6120002, 59466};

// Spaces between bytes are skipped.
std::string FromHex(std::string_view hex) {
  std::string out;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    while (hex[i] == ' ') ++i;
    out.push_back(static_cast<char>(std::stoi(std::string(hex.substr(i, 2)), nullptr, 16)));
  }
  return out;
}

// As a Linux kernel sent them, checksums computed by it: a client's SYN, the SYN-ACK, and data of an odd
// length. Its identification is not 0, so the first compares all but the IP header.
constexpr char kSyn[] =
    "4500003c9e6940004006102bc6120002c6120001"
    "e84a1b58e624b26c00000000a002faf062c80000020405b40402080aa4b01d37000000000103030a";
constexpr char kSynAck[] =
    "4500003c000040004006ae94c6120001c6120002"
    "1b58e84a3a996cf2e624b26da012fe880c7a0000020405b40402080a7d0e2e0ba4b01d370103030a";
constexpr char kOddData[] =
    "450000377589400040063910c6120001c6120002"
    "1b58e84a3a996cf3e624b27280180040661d00000101080a7d0e2e0ba4b01d376f6464";

Segment SynAck() {
  Segment segment;
  segment.source = kService;
  segment.destination = kClient;
  segment.seq = 0x3a996cf2;
  segment.ack = 0xe624b26d;
  segment.flags.syn = segment.flags.ack = true;
  segment.window = 0xfe88;
  segment.mss = 1460;
  segment.wscale = 10;
  segment.sack_permitted = true;
  segment.timestamps = Segment::Timestamps{0x7d0e2e0b, 0xa4b01d37};
  return segment;
}

void ExpectEqual(const Segment& a, const Segment& b) {
  EXPECT_EQ(a.source, b.source);
  EXPECT_EQ(a.destination, b.destination);
  EXPECT_EQ(a.seq, b.seq);
  EXPECT_EQ(a.ack, b.ack);
  EXPECT_EQ(a.flags, b.flags);
  EXPECT_EQ(a.window, b.window);
  EXPECT_EQ(a.mss, b.mss);
  EXPECT_EQ(a.wscale, b.wscale);
  EXPECT_EQ(a.sack_permitted, b.sack_permitted);
  EXPECT_EQ(a.timestamps, b.timestamps);
  EXPECT_EQ(a.payload, b.payload);
}

TEST(SegmentTest, BuildsTheSynAckTheKernelBuilt) { EXPECT_EQ(*BuildPacket(SynAck()), FromHex(kSynAck)); }

TEST(SegmentTest, BuildsTheDataTheKernelBuilt) {
  Segment segment;
  segment.source = kService;
  segment.destination = kClient;
  segment.seq = 0x3a996cf3;
  segment.ack = 0xe624b272;
  segment.flags.ack = segment.flags.psh = true;
  segment.window = 64;
  segment.timestamps = Segment::Timestamps{0x7d0e2e0b, 0xa4b01d37};
  segment.payload = "odd";
  EXPECT_EQ(BuildPacket(segment)->substr(20), FromHex(kOddData).substr(20));
}

TEST(SegmentTest, ParsesWhatTheKernelSent) {
  const std::string syn = FromHex(kSyn);
  absl::StatusOr<Segment> parsed = ParsePacket(syn, Checksum::kVerified);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->source, kClient);
  EXPECT_EQ(parsed->destination, kService);
  EXPECT_EQ(parsed->seq, 0xe624b26cu);
  EXPECT_EQ(parsed->ack, 0u);
  EXPECT_EQ(parsed->flags, SegmentFlags{.syn = true});
  EXPECT_EQ(parsed->window, 64240);
  EXPECT_EQ(parsed->mss, 1460);
  EXPECT_EQ(parsed->wscale, 10);
  EXPECT_TRUE(parsed->sack_permitted);
  EXPECT_EQ(parsed->timestamps, (Segment::Timestamps{0xa4b01d37, 0}));
  EXPECT_EQ(parsed->payload, "");

  const std::string syn_ack = FromHex(kSynAck);
  parsed = ParsePacket(syn_ack, Checksum::kVerified);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  ExpectEqual(*parsed, SynAck());

  const std::string data = FromHex(kOddData);
  parsed = ParsePacket(data, Checksum::kVerified);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->payload, "odd");
  EXPECT_EQ(parsed->payload.data(), data.data() + 52) << "the payload is not a copy";
}

TEST(SegmentTest, EthernetPaddingIsNoPayload) {
  Segment segment;
  segment.source = kService;
  segment.destination = kClient;
  segment.flags.ack = true;
  const std::string packet = *BuildPacket(segment) + std::string(6, '\0');
  absl::StatusOr<Segment> parsed = ParsePacket(packet, Checksum::kVerified);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->payload, "");
}

TEST(SegmentTest, SynOptionsOnlyOnSyns) {
  Segment segment = SynAck();
  segment.flags.syn = false;
  const std::string packet = *BuildPacket(segment);
  EXPECT_EQ(packet.size(), 20u + 20u + 12u);
  absl::StatusOr<Segment> parsed = ParsePacket(packet, Checksum::kVerified);
  ASSERT_TRUE(parsed.ok());
  EXPECT_FALSE(parsed->mss || parsed->wscale || parsed->sack_permitted);
  EXPECT_EQ(parsed->timestamps, segment.timestamps);

  // Such options on a segment that is none, from a peer that puts them there, mean nothing.
  std::string forged = FromHex(kSynAck);
  forged[33] = 0x10;
  parsed = ParsePacket(forged);
  ASSERT_TRUE(parsed.ok());
  EXPECT_FALSE(parsed->mss || parsed->wscale || parsed->sack_permitted);
}

TEST(SegmentTest, UnknownAndOddOptionsAreSkipped) {
  Segment segment = SynAck();
  segment.mss.reset();
  segment.sack_permitted = false;
  segment.wscale.reset();
  segment.payload = "x";
  const std::string packet = *BuildPacket(segment);  // NOP NOP TS: 12 bytes from 40 on
  auto with_options = [&packet](std::string_view hex) {
    std::string changed = packet;
    const std::string options = FromHex(hex);
    EXPECT_EQ(options.size(), 12u);
    changed.replace(40, 12, options);
    return changed;
  };
  // Kind 253 of 6 bytes, MSS of a wrong length, MSS.
  std::string changed = with_options("fd06aaaaaaaa 0202 02040123");
  absl::StatusOr<Segment> parsed = ParsePacket(changed);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->mss, 0x123);
  EXPECT_EQ(parsed->payload, "x");
  // What follows the end of the options is not looked at.
  changed = with_options("00020402 ffffffff ffffffff");
  parsed = ParsePacket(changed);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_FALSE(parsed->mss);
  for (std::string_view bad : {"010101010101010101010102",  // no room for a length
                               "010101010101010101020401",  // longer than the rest
                               "080001010101010101010101",  // length 0: the walk would stand still
                               "080101010101010101010101",  // length 1
                               "08ff01010101010101010101"}) {
    changed = with_options(bad);
    EXPECT_EQ(ParsePacket(changed).status().code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

TEST(SegmentTest, MalformedPacketsAreRefusedWithAReason) {
  const std::string good = FromHex(kOddData);
  ASSERT_TRUE(ParsePacket(good, Checksum::kVerified).ok());
  auto reason = [](const std::string& packet, Checksum checksum = Checksum::kIgnored) {
    absl::StatusOr<Segment> parsed = ParsePacket(packet, checksum);
    EXPECT_EQ(parsed.status().code(), absl::StatusCode::kInvalidArgument);
    return std::string(parsed.status().message());
  };
  auto with = [&good](size_t at, int byte) {
    std::string bad = good;
    bad[at] = static_cast<char>(byte);
    return bad;
  };
  EXPECT_THAT(reason(""), HasSubstr("shorter than an IPv4 header"));
  EXPECT_THAT(reason(good.substr(0, 19)), HasSubstr("shorter than an IPv4 header"));
  EXPECT_THAT(reason(with(0, 0x65)), HasSubstr("not IPv4"));
  EXPECT_THAT(reason(with(0, 0x44)), HasSubstr("IPv4 header length"));
  EXPECT_THAT(reason(with(0, 0x4f)), HasSubstr("no room for a TCP header"));
  EXPECT_THAT(reason(good.substr(0, good.size() - 1)), HasSubstr("cut short"));
  EXPECT_THAT(reason(with(3, 39)), HasSubstr("no room for a TCP header"));
  EXPECT_THAT(reason(with(9, 17)), HasSubstr("not TCP"));
  EXPECT_THAT(reason(with(6, 0x20)), HasSubstr("fragment"));  // more follow
  EXPECT_THAT(reason(with(7, 1)), HasSubstr("fragment"));     // not the first
  EXPECT_THAT(reason(with(32, 0x40)), HasSubstr("TCP header length too small"));
  EXPECT_THAT(reason(with(32, 0xf0)), HasSubstr("longer than the packet"));
  EXPECT_THAT(reason(with(8, 63), Checksum::kVerified), HasSubstr("wrong IPv4 checksum"));
  EXPECT_THAT(reason(with(54, 'e'), Checksum::kVerified), HasSubstr("wrong TCP checksum"));
  EXPECT_TRUE(ParsePacket(with(54, 'e')).ok());
  for (size_t size = 0; size < good.size(); ++size) {
    EXPECT_FALSE(ParsePacket(good.substr(0, size)).ok()) << size;
  }
}

TEST(SegmentTest, IpOptionsAreSkipped) {
  std::string packet = FromHex(kOddData);
  packet.insert(20, 4, '\1');
  packet[0] = 0x46;
  packet[3] = static_cast<char>(packet[3] + 4);
  absl::StatusOr<Segment> parsed = ParsePacket(packet);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->source, kService);
  EXPECT_EQ(parsed->payload, "odd");
}

TEST(SegmentTest, LargestPacket) {
  Segment segment;
  segment.source = kService;
  segment.destination = kClient;
  segment.flags.ack = true;
  const std::string payload(65535 - 40, '\xff');
  segment.payload = payload;
  const std::string packet = *BuildPacket(segment);
  ASSERT_EQ(packet.size(), 65535u);
  absl::StatusOr<Segment> parsed = ParsePacket(packet, Checksum::kVerified);
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(parsed->payload, payload);
}

TEST(SegmentTest, PayloadThatFitsInNoPacketIsRefused) {
  const std::string payload(65536 - 40, 'x');
  Segment segment;
  segment.payload = payload;
  EXPECT_EQ(BuildPacket(segment).status().code(), absl::StatusCode::kInvalidArgument);
  segment.payload.remove_suffix(1);
  EXPECT_TRUE(BuildPacket(segment).ok());
}

class SegmentRandomTest : public ::testing::Test {
 protected:
  SegmentRandomTest() : seed_(std::random_device()()), random_(seed_) {
    RecordProperty("seed", static_cast<int>(seed_));
  }
  uint32_t Below(uint32_t limit) { return static_cast<uint32_t>(random_() % limit); }
  uint32_t Any() { return static_cast<uint32_t>(random_()); }
  std::string Bytes(size_t size) {
    std::string out(size, '\0');
    for (char& c : out) c = static_cast<char>(random_());
    return out;
  }

  uint32_t seed_;
  std::mt19937 random_;
};

TEST_F(SegmentRandomTest, RoundTrips) {
  SCOPED_TRACE(testing::Message() << "seed " << seed_);
  for (int i = 0; i < 20000; ++i) {
    const std::string payload = Bytes(Below(4) == 0 ? Below(3000) : Below(8));
    Segment segment;
    segment.source = {Any(), static_cast<uint16_t>(Any())};
    segment.destination = {Any(), static_cast<uint16_t>(Any())};
    segment.seq = Any();
    segment.ack = Any();
    segment.flags = {.fin = Below(2) == 0,
                     .syn = Below(2) == 0,
                     .rst = Below(2) == 0,
                     .psh = Below(2) == 0,
                     .ack = Below(2) == 0};
    segment.window = static_cast<uint16_t>(Any());
    if (segment.flags.syn) {
      if (Below(2) == 0) segment.mss = static_cast<uint16_t>(Any());
      if (Below(2) == 0) segment.wscale = static_cast<uint8_t>(Any());
      segment.sack_permitted = Below(2) == 0;
    }
    if (Below(2) == 0) segment.timestamps = Segment::Timestamps{Any(), Any()};
    segment.payload = payload;
    const std::string packet = *BuildPacket(segment);
    absl::StatusOr<Segment> parsed = ParsePacket(packet, Checksum::kVerified);
    ASSERT_TRUE(parsed.ok()) << parsed.status();
    ExpectEqual(segment, *parsed);
    if (HasFailure()) return;
    // Any one bit that changes is noticed.
    std::string bad = packet;
    const uint32_t bit = Below(static_cast<uint32_t>(bad.size()) * 8);
    bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ (1 << bit % 8));
    ASSERT_FALSE(ParsePacket(bad, Checksum::kVerified).ok()) << "bit " << bit;
  }
}

TEST_F(SegmentRandomTest, RandomBytesNeverReadOutOfBounds) {
  SCOPED_TRACE(testing::Message() << "seed " << seed_);
  int parsed = 0;
  for (int i = 0; i < 100000; ++i) {
    const std::string bytes = Bytes(Below(120));
    // In memory of its own, for the address sanitizer.
    std::vector<char> exact(bytes.begin(), bytes.end());
    if (exact.size() > 40 && Below(8) != 0) {
      // So that more than the first check is reached.
      exact[0] = static_cast<char>(0x45 + Below(3));
      exact[2] = 0;
      exact[3] = static_cast<char>(exact.size() - Below(3));
      exact[6] = 0x40;
      exact[7] = 0;
      exact[9] = 6;
    }
    const std::string_view packet(exact.data(), exact.size());
    absl::StatusOr<Segment> segment =
        ParsePacket(packet, Below(2) == 0 ? Checksum::kVerified : Checksum::kIgnored);
    if (!segment.ok()) {
      ASSERT_EQ(segment.status().code(), absl::StatusCode::kInvalidArgument);
      continue;
    }
    ++parsed;
    ASSERT_GE(segment->payload.data(), packet.data() + 40);
    ASSERT_LE(segment->payload.data() + segment->payload.size(), packet.data() + packet.size());
  }
  EXPECT_GT(parsed, 100) << "the test looks at nothing";
}

TEST(SegmentTest, GratuitousArp) {
  const MacAddress mac = {0x02, 0x11, 0x22, 0x33, 0x44, 0x55};
  EXPECT_EQ(
      BuildGratuitousArp(0xc6120001, mac, ArpForm::kRequest),
      FromHex(
          "ffffffffffff 021122334455 0806 0001 0800 06 04 0001 021122334455 c6120001 000000000000 c6120001"));
  EXPECT_EQ(
      BuildGratuitousArp(0xc6120001, mac, ArpForm::kReply),
      FromHex(
          "ffffffffffff 021122334455 0806 0001 0800 06 04 0002 021122334455 c6120001 021122334455 c6120001"));
  EXPECT_EQ(BuildGratuitousArp(1, mac, ArpForm::kReply).size(), 42u);
}

TEST(SegmentTest, ArpProbeClaimsNothing) {
  const MacAddress mac = {0x02, 0x11, 0x22, 0x33, 0x44, 0x55};
  EXPECT_EQ(
      BuildArpProbe(0xc6120001, mac),
      FromHex(
          "ffffffffffff 021122334455 0806 0001 0800 06 04 0001 021122334455 00000000 000000000000 c6120001"));
  EXPECT_EQ(ToString(mac), "02:11:22:33:44:55");
}

}  // namespace
}  // namespace understudy::tcpshim
